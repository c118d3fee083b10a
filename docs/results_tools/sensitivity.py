"""Section "sensitivity": what becomes of the results when a parameter moves by 30 %."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

import napari_hrstem_defects as hd
from napari_hrstem_defects.core.errors import RecipeError
from napari_hrstem_defects.simulation.sets import sample
from results_tools import page, scoring, workers
from results_tools import real as real_images
from results_tools.simulated import DEFECT_FRACTION, TUNING_SEEDS, summarise

PARAMETERS = (
    "symmetry.kernel_periods",
    "symmetry.smoothing",
    "segment.threshold",
    "segment.low",
    "segment.overlap",
    "symmetry.line_significance",
    "classify.cutoff",
    "preprocess.px_per_period",
    "domains.grain_gain",
)
FACTORS = (0.7, 1.3)
#: Micrographs of the tuning part that are looked at.
COUNT = 30

_INTRODUCTION = """\
## Sensitivity to the parameters

Each of the main parameters moved by ±30 %, all others at their defaults: the first {count} micrographs of the tuning
part (seed {seed}) and the {real} real ones. *Least real Dice*: of the worst real micrograph. *Marked*: largest share
marked on a real micrograph without symmetry defects. As numbers: [sensitivity.csv](results/sensitivity.csv).

"""


def recipes() -> dict[tuple[str, float], hd.Recipe]:
    """(parameter, factor) → recipe; ``("", 1)`` is the default. What does not fit together is left out."""
    default = hd.Recipe()
    values = {name: value for name, value, _ in default.parameters()}
    out = {("", 1.0): default}
    for name in PARAMETERS:
        for factor in FACTORS:
            try:
                out[name, factor] = default.replace({name: values[name] * factor})
            except RecipeError:
                continue
    return out


def simulated(index: int) -> list[dict[str, Any]]:
    """Score one micrograph of the tuning part with every recipe."""
    sim = sample(index, TUNING_SEEDS[0], DEFECT_FRACTION)
    about = {"content": scoring.content(sim), "extent": scoring.extent(sim)}
    return [
        {"key": key, **about, **scoring.score(sim, hd.analyze(sim.micrograph, recipe))}
        for key, recipe in recipes().items()
    ]


def experimental(folder: Path, name: str) -> list[dict[str, Any]]:
    """Score one real micrograph with every recipe."""
    micrograph = hd.read(folder / f"{name}.tif")
    truth = real_images.read_truth(folder, name)
    return [
        {"key": key, "name": name, **real_images.better(hd.analyze(micrograph, recipe), truth)}
        for key, recipe in recipes().items()
    ]


def section(folder: Path, real: Path, *, processes: int, quick: bool = False) -> str:
    """Measure, write the table and return the text."""
    count = 3 if quick else COUNT
    names = real_images.names(real) if (real / "images.csv").is_file() else []
    first = workers.run(simulated, [(i,) for i in range(count)], processes)
    second = workers.run(experimental, [(real, name) for name in names], processes)
    lines = [
        _line(
            key,
            recipe,
            [row for rows in first for row in rows if row["key"] == key],
            [row for rows in second for row in rows if row["key"] == key],
        )
        for key, recipe in recipes().items()
    ]
    page.write_csv(folder / "sensitivity.csv", lines)
    text = _INTRODUCTION.format(count=count, seed=TUNING_SEEDS[0], real=len(names))
    head = (
        "parameter",
        "value",
        "Dice symmetry",
        "AUROC",
        "image recall",
        "image specificity",
        "real Dice",
        "real AUROC",
        "least real Dice",
        "marked",
    )
    return text + page.table(head, (_shown(line) for line in lines))


def _line(
    key: tuple[str, float], recipe: hd.Recipe, ours: list[dict[str, Any]], real: list[dict[str, Any]]
) -> dict[str, Any]:
    name, factor = key
    values = {each: value for each, value, _ in recipe.parameters()}
    summary = summarise(ours)
    worst = min(
        (row for row in real if not math.isnan(row["dice"])), key=lambda row: row["dice"], default=None
    )
    clean = [row["marked"] for row in real if math.isnan(row["dice"])]
    return {
        "parameter": name or "defaults",
        "factor": factor,
        "value": float(values[name]) if name else math.nan,
        **{k: summary[k] for k in ("dice_symmetry", "auroc", "image_recall", "image_specificity")},
        "real_dice": page.mean(row["dice"] for row in real),
        "real_auroc": page.mean(row["auroc"] for row in real if not math.isnan(row["dice"])),
        "least_dice": worst["dice"] if worst else math.nan,
        "least_dice_of": worst["name"] if worst else "",
        "marked": float(np.max(clean)) if clean else math.nan,
    }


def _shown(line: dict[str, Any]) -> tuple[Any, ...]:
    value = "" if math.isnan(line["value"]) else f"{line['value']:.3g} ({line['factor'] - 1:+.0%})"
    name = line["parameter"]
    scores = ("dice_symmetry", "auroc", "image_recall", "image_specificity", "real_dice", "real_auroc")
    marked = line["marked"]
    return (
        name if name == "defaults" else f"`{name}`",
        value,
        *(line[key] for key in scores),
        f"{page.cell(line['least_dice'])} {line['least_dice_of']}".strip(),
        "–" if math.isnan(marked) else f"{marked:.2%}",
    )
