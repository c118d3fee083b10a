"""Section "real": experimental micrographs with masks drawn by hand. Their pixels never enter the repository."""

from __future__ import annotations

import csv
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import napari_hrstem_defects as hd
from napari_hrstem_defects.core import metrics
from results_tools import page
from results_tools.overlays import save_overlay
from results_tools.simulated import MODES

#: Least AUROC and Dice of each micrograph with defects.
TARGETS: dict[str, tuple[float | None, float | None]] = {
    "cdte_twin_haadf26": (0.99, 0.9),
    "au_gb": (0.99, 0.9),
    "graphene_gb_4nm": (0.99, 0.9),
    "ni_m3b2_haadf91": (0.94, None),
    "fcc_esf_image2_2": (0.94, None),
}
#: Means over the micrographs with defects, and largest share marked on those without.
MEAN_AUROC, MEAN_DICE, MOST_MARKED = 0.97, 0.90, 0.0

#: Least AUROC of the boundary map, boundary against both grains.
BOUNDARY_TARGETS = {
    "cdte_twin_haadf26": 0.95,
    "au_gb": 0.95,
    "graphene_gb_4nm": 0.95,
    "ni_m3b2_haadf91": 0.93,
}

_ABSENT = """\
## Real micrographs

Skipped: the micrographs are not part of this repository and their folder was not there.
"""

_INTRODUCTION = """\
## Real micrographs

{count} experimental micrographs that are not part of this repository; masks were drawn by one person to about ±10 px,
pixels where that matters are not scored. On a bicrystal either grain may be the reference; the better Dice and the
better AUROC count. Whatever carries a label counts as found. *Seconds* is the whole analysis in memory, one after the
other on {cpus} processors at a load of {load:.1f} before it began. As numbers: [real.csv](results/real.csv).

"""


#: What a person said of the default overlays, in the words of Dennler et al.: very helpful, potentially helpful or
#: inadequate. To be looked at again when the numbers change.
_JUDGED = {
    "cdte_twin_haadf26": (
        "very helpful",
        "the wall runs along the twin plane; nothing else is marked; called a twin (Σ3) of [110]",
    ),
    "au_gb": ("very helpful", "the two grains part at the boundary, within about a period; turn 18.5°"),
    "graphene_gb_4nm": (
        "very helpful",
        "the grains part although single atoms drown in noise; turn 26.5°; the wall wavers by about a period, so the "
        "rings of the boundary are not resolved",
    ),
    "ni_m3b2_haadf91": (
        "very helpful",
        "the phases part along the interface, but the second one is called a grain; two faint straight lines in the "
        "upper one are marked too, which the image shows and the mask lacks",
    ),
    "fcc_esf_image2_2": (
        "very helpful",
        "the fault is one band across the change of thickness and called extrinsic; the band is wider than the fault "
        "by a period and frayed where the fault is strong",
    ),
    "pto_sro": (
        "very helpful",
        "nothing is marked: the brighter layer is found as a second phase, from one end of the image to the other",
    ),
    "dso_perfect": ("very helpful", "nothing is marked; jittering scan lines stay far below the threshold"),
    "dumbbell_perfect": ("very helpful", "nothing is marked"),
    "bssn_perfect": ("very helpful", "nothing is marked in spite of hot pixels and a large cell"),
}


def read_truth(folder: Path, name: str) -> NDArray[np.uint8]:
    """Mask of one micrograph: 0 reference, 1 defect, 2 other grain, 255 not scored."""
    with Image.open(folder / f"{name}_mask.png") as picture:
        return np.asarray(picture.convert("L"), np.uint8)


def names(folder: Path) -> list[str]:
    """Micrographs of the folder's table."""
    with (folder / "images.csv").open(encoding="utf-8", newline="") as file:
        return [row["id"] for row in csv.DictReader(file)]


def better(analysis: hd.Analysis, truth: NDArray[np.uint8]) -> dict[str, Any]:
    """Dice and AUROC, of two grains as reference the better of each by itself, and the share marked.

    NaN where there is no defect.
    """
    ignore = truth == metrics.IGNORE
    references = [grain for grain in (0, 2) if grain == 0 or (truth == grain).any()]
    ways = [truth != reference for reference in references]
    defects = bool((truth[~ignore] > 0).any())
    dices = [metrics.dice(analysis.labels > 0, way, True, ignore) for way in ways]
    aurocs = [metrics.auroc(analysis.severity, way, ignore) for way in ways]
    return {
        "auroc": max(aurocs),
        "dice": max(dices) if defects else math.nan,
        "reference": references[int(np.argmax(dices))] if defects else 0,
        "marked": float((analysis.labels > 0)[~ignore].mean()),
    }


def score(folder: Path, name: str, recipe: hd.Recipe) -> tuple[dict[str, Any], hd.Analysis]:
    """Scores of one micrograph, and the analysis."""
    micrograph = hd.read(folder / f"{name}.tif")
    truth = read_truth(folder, name)
    begin = time.perf_counter()
    analysis = hd.analyze(micrograph, recipe)
    seconds = time.perf_counter() - begin
    found = better(analysis, truth)
    return {**found, "seconds": seconds, "warnings": len(analysis.warnings)}, analysis


def score_boundary(folder: Path, name: str) -> float:
    """AUROC of the boundary map, boundary against both grains; NaN where there are no two."""
    truth = read_truth(folder, name)
    if not (truth == 2).any():
        return math.nan
    recipe = hd.Recipe().replace({"domains.boundary_map": True})
    found = hd.analyze(hd.read(folder / f"{name}.tif"), recipe).boundaries
    return math.nan if found is None else metrics.auroc(found, truth == 1, truth == metrics.IGNORE)


def section(folder: Path, real: Path, *, cpus: int, load: float, overlays: str | None = None) -> str:
    """Measure, write the table and return the text."""
    if not (real / "images.csv").is_file():
        return _ABSENT
    hd.analyze(hd.simulate("si_demo", shape=(256, 256)).micrograph)  # so that nobody pays for the imports
    rows = []
    for name in names(real):
        for mode, recipe in MODES.items():
            scores, analysis = score(real, name, recipe())
            rows.append({"name": name, "mode": mode, **scores})
            if overlays:
                truth = read_truth(real, name)
                title = f"{name} {mode}: Dice {scores['dice']:.3f}, AUROC {scores['auroc']:.3f}"
                save_overlay(
                    Path(overlays) / f"real_{name}_{mode}.png",
                    analysis,
                    truth % metrics.IGNORE,
                    truth == metrics.IGNORE,
                    title,
                )
    for row in rows:
        row["boundary"] = score_boundary(real, row["name"]) if row["mode"] == "default" else math.nan
    keys = ("name", "mode", "auroc", "dice", "reference", "marked", "boundary")
    page.write_csv(folder / "real.csv", [{key: row[key] for key in keys} for row in rows])
    return _text(rows, cpus, load)


def _text(rows: list[dict[str, Any]], cpus: int, load: float) -> str:
    by_name = {
        name: {r["mode"]: r for r in rows if r["name"] == name} for name in dict.fromkeys(_names(rows))
    }
    text = _INTRODUCTION.format(count=len(by_name), cpus=cpus, load=load)
    text += "With defects:\n\n" + page.table(
        (
            "micrograph",
            "AUROC default",
            "target",
            "AUROC published",
            "Dice default",
            "target",
            "Dice published",
            "seconds default",
            "seconds published",
        ),
        [
            _defect_line(name, pair)
            for name, pair in by_name.items()
            if not math.isnan(pair["default"]["dice"])
        ]
        + [_mean_line(by_name)],
    )
    judged = [(name, *_JUDGED[name]) for name in by_name if name in _JUDGED]
    closing = "\nThe default overlays looked at and judged:\n\n" + page.table(
        ("micrograph", "", "why"), judged
    )
    text += "\nWithout symmetry defects, where nothing should be marked (share of the scored pixels):\n\n"
    text += page.table(
        (
            "micrograph",
            "marked default",
            "target",
            "marked published",
            "seconds default",
            "seconds published",
        ),
        (
            (
                name,
                f"{pair['default']['marked']:.2%}",
                page.verdict(pair["default"]["marked"], MOST_MARKED, below=True),
                f"{pair['published']['marked']:.2%}",
                *_seconds(pair),
            )
            for name, pair in by_name.items()
            if math.isnan(pair["default"]["dice"])
        ),
    )
    text += (
        "\nThe map of boundaries without a reference (`domains.boundary_map`), with one setting for all;\n"
    )
    text += "AUROC of the drawn boundary against both grains:\n\n"
    text += page.table(
        ("micrograph", "AUROC", "target"),
        (
            (
                name,
                pair["default"]["boundary"],
                page.verdict(pair["default"]["boundary"], BOUNDARY_TARGETS.get(name)),
            )
            for name, pair in by_name.items()
            if not math.isnan(pair["default"]["boundary"])
        ),
    )
    return text + closing if judged else text


def _defect_line(name: str, pair: dict[str, dict[str, Any]]) -> tuple[Any, ...]:
    auroc, dice = TARGETS.get(name, (None, None))
    ours, theirs = pair["default"], pair["published"]
    return (
        name,
        ours["auroc"],
        page.verdict(ours["auroc"], auroc),
        theirs["auroc"],
        ours["dice"],
        page.verdict(ours["dice"], dice),
        theirs["dice"],
        *_seconds(pair),
    )


def _mean_line(by_name: dict[str, dict[str, dict[str, Any]]]) -> tuple[Any, ...]:
    pairs = [pair for pair in by_name.values() if not math.isnan(pair["default"]["dice"])]
    means = {
        (mode, key): page.mean(pair[mode][key] for pair in pairs)
        for mode in MODES
        for key in ("auroc", "dice", "seconds")
    }
    return (
        "mean",
        means["default", "auroc"],
        page.verdict(means["default", "auroc"], MEAN_AUROC),
        means["published", "auroc"],
        means["default", "dice"],
        page.verdict(means["default", "dice"], MEAN_DICE),
        means["published", "dice"],
        f"{means['default', 'seconds']:.2f}",
        f"{means['published', 'seconds']:.2f}",
    )


def _seconds(pair: dict[str, dict[str, Any]]) -> tuple[str, str]:
    return f"{pair['default']['seconds']:.2f}", f"{pair['published']['seconds']:.2f}"


def _names(rows: list[dict[str, Any]]) -> list[str]:
    return [row["name"] for row in rows]
