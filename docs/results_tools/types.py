"""Section "types": the probable type of marked regions against what was simulated there."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

import napari_hrstem_defects as hd
from napari_hrstem_defects.core.best_patch import BestPatch
from napari_hrstem_defects.core.defect_types import TYPES, type_judge
from napari_hrstem_defects.core.geometry import frame_slices
from napari_hrstem_defects.core.regions import Region, find_regions, label_regions
from napari_hrstem_defects.simulation import SimulatedMicrograph, simulate
from napari_hrstem_defects.simulation.sets import SET_DEFECTS, sample
from napari_hrstem_defects.simulation.truth import Defect
from results_tools import page, workers

#: The set that is reported, and those by whose regions the rules were made.
SEED = 2026005
BUILDING_SEEDS = (1, 2, 2026004)
#: Every content of the sets, and a coherent film, ten times.
CONTENTS = (*SET_DEFECTS, ("film",))
COUNT = 10 * len(CONTENTS)
TARGET = 0.85
#: Walls that are given as labels: the search marks the whole second grain.
WALLS = {"twin": "twin boundary", "grain_boundary": "grain boundary", "film": "interface"}
WALL_COUNT = 10
WALL_SEED = 2027000
#: A type is told with confidence from here on.
CONFIDENT = 0.8

#: What a simulated defect is called.
_NAMES = {
    "stacking fault lamella": "stacking fault",
    "dislocation": "dislocation core",
    "vacancy": "vacancy-like",
    "interstitial": "interstitial-like",
    "vacuum": "amorphous",
    "beam damage": "amorphous",
}
#: Parts of another defect: they are no second one in the same region.
_PARTS = ("twin boundary", "grain boundary", "interface")
_GRAINS = ("second grain", "inversion domain")
_LAMELLAE = ("twin lamella", "stacking fault lamella")
#: Share of a defect that lies in a region which holds it.
_HELD = 0.5


def true_name(defect: Defect) -> str:
    """Type of a simulated defect."""
    if defect.kind == "antiphase boundary":
        return "inversion domain" if defect.details.get("relation") == "inversion" else "antiphase domain"
    if defect.kind == "substitution":
        return "interstitial-like" if defect.details["relative_signal"] > 1 else "vacancy-like"
    return _NAMES.get(defect.kind, defect.kind)


def true_masks(
    defects: Sequence[Defect], patch: BestPatch | None, shape: tuple[int, int]
) -> list[tuple[str, str, NDArray[np.bool_]]]:
    """Type, kind and mask of every simulated defect, seen from the grain that the best patch lies in."""
    out = []
    lost = np.zeros(shape, bool)
    for defect in defects:
        if defect.label == 2:
            lost |= defect.mask
    for defect in defects:
        name, mask = true_name(defect), defect.mask
        if (
            patch is not None
            and defect.kind in (*_GRAINS, *_LAMELLAE)
            and mask[frame_slices(patch, shape)].mean() > 0.5
        ):
            mask = ~mask & ~lost
            name = "second grain" if defect.kind in _LAMELLAE else name
        if defect.kind == "dislocation" and defect.details.get("partial"):
            # The end of a fault, which is there as well.
            continue
        out.append((name, defect.kind, mask))
    return out


def region_truth(
    masks: list[tuple[str, str, NDArray[np.bool_]]],
    window: tuple[slice, slice],
    inside: NDArray[np.bool_],
    reach: int,
) -> tuple[str | None, bool]:
    """What a region is in truth and whether it holds several defects; None if there is none within a period.

    Parameters
    ----------
    masks : list
        From :func:`true_masks`.
    window, inside
        Bounding box and mask of the region.
    reach : int
        A period in pixels.
    """
    overlaps = [int(np.count_nonzero(mask[window] & inside)) for _, _, mask in masks]
    held = [
        (name, kind)
        for (name, kind, mask), overlap in zip(masks, overlaps, strict=True)
        if overlap > _HELD * np.count_nonzero(mask) and kind not in _PARTS
    ]
    walls_of = {"antiphase boundary"} if any(kind in _GRAINS for _, kind in held) else set()
    several = len([1 for _, kind in held if kind not in walls_of]) > 1
    if not any(overlaps):
        wide = tuple(slice(max(0, s.start - reach), s.stop + reach) for s in window)
        before = [(s.start - w.start) for s, w in zip(window, wide, strict=True)]
        shape = masks[0][2][wide].shape if masks else (0, 0)
        grown = np.zeros(shape, bool)
        if masks:
            grown[before[0] : before[0] + inside.shape[0], before[1] : before[1] + inside.shape[1]] = inside
            grown = ndimage.distance_transform_edt(~grown) <= reach
            overlaps = [int(np.count_nonzero(mask[wide] & grown)) for _, _, mask in masks]
        if not any(overlaps):
            return None, False
    return masks[int(np.argmax(overlaps))][0], several


def one(index: int, overrides: dict[str, Any]) -> list[dict[str, Any]]:
    """Regions of micrograph number `index` with their true and their probable types."""
    sim = sample(index, SEED, 1.0, defects=CONTENTS, **overrides)
    analysis = hd.analyze(sim.micrograph)
    numbers = label_regions(analysis.labels)
    masks = true_masks(sim.defects, analysis.best_patch, analysis.labels.shape)
    rows = []
    for region in analysis.regions:
        y0, x0, y1, x1 = region.bbox
        window = (slice(y0, y1), slice(x0, x1))
        truth, several = region_truth(masks, window, numbers[window] == region.id, round(sim.period_px))
        rows.append(_row(sim, region, truth, several=several, drawn=False))
    return rows


def one_wall(preset: str, index: int, overrides: dict[str, Any]) -> list[dict[str, Any]]:
    """The wall of a second lattice that counts as intact, as a person would paint it."""
    sim = simulate(preset, WALL_SEED + index, **overrides)
    recipe = hd.Recipe()
    recipe = dataclasses.replace(recipe, domains=dataclasses.replace(recipe.domains, crystal="all"))
    analysis = hd.analyze(sim.micrograph, recipe)
    rows = []
    for defect in sim.defects:
        if defect.kind == WALLS[preset]:
            labels = defect.mask.astype(np.uint8)
            judge = type_judge(
                labels, analysis.prepared, analysis.lattice, analysis.best_patch, analysis.domains
            )
            region = find_regions(labels, analysis.severity, judge=judge)[0]
            rows.append(_row(sim, region, defect.kind, several=False, drawn=True))
    return rows


def _row(
    sim: SimulatedMicrograph, region: Region, truth: str | None, *, several: bool, drawn: bool
) -> dict[str, Any]:
    parameters = sim.description["parameters"]
    return {
        "name": sim.micrograph.name,
        "contrast": parameters["mode"],
        "dose": float(parameters["dose"]),
        "period_px": float(sim.period_px),
        "region": region.id,
        "area_periods": float(region.area_px / sim.period_px**2),
        "drawn": drawn,
        "several": several,
        "truth": truth or "",
        "type": region.type,
        "confidence": float(region.confidence),
    }


_INTRODUCTION = """\
## Types of regions

Every region carries a probable type with a confidence. {images} micrographs, `sample(i, {seed}, 1.0)` with every
content of the sets and coherent films in turn; the rules were made by looking at the sets of seeds {building};
this one was only scored. Per-region numbers: [types.csv](results/types.csv).

* The truth of a region is the defect that has most pixels in it or, if none has any, most within a period of it; of two
  grains the one without the best patch is the second grain. Substitutions count as interstitial-like where they are
  stronger than the crystal's columns and vacancy-like where weaker; lamellae of several faults as stacking fault;
  damaged and empty areas as amorphous; the wall of a domain as the domain.
* Regions further than a period from all defects are *false* and left out of the accuracy; {false} of {regions} are,
  {false_told} of them got a type other than unknown.
* Regions that hold more than half of each of several defects are *merged*; {several} are. They count, and are right if
  the type is that of the defect with most pixels.
* "Unknown" counts as wrong wherever there is a defect.

"""


_WALLS = """
Walls between lattices that count as intact are not marked by default. Given as labels, from the truth, on micrographs
of their own (the rules were made by looking at others of the same presets):

"""


def section(folder: Path, *, processes: int, quick: bool = False, **overrides: Any) -> str:
    """Measure, write the table of all regions and return the text."""
    count, walls = (len(CONTENTS), 1) if quick else (COUNT, WALL_COUNT)
    found = workers.run(one, ((i, overrides) for i in range(count)), processes)
    drawn = workers.run(
        one_wall, ((preset, i, overrides) for preset in WALLS for i in range(walls)), processes
    )
    rows = [row for each in found for row in each]
    painted = [row for each in drawn for row in each]
    page.write_csv(folder / "types.csv", rows + painted)
    return _text(rows, painted, count)


def _text(rows: list[dict[str, Any]], painted: list[dict[str, Any]], images: int) -> str:
    true = [row for row in rows if row["truth"]]
    false = [row for row in rows if not row["truth"]]
    confident = [row for row in true if row["confidence"] >= CONFIDENT]
    large = [row for row in true if row["area_periods"] >= 3]
    kinds = [name for name in TYPES if any(row["truth"] == name for row in true)]
    recalls = [_accuracy([row for row in true if row["truth"] == name]) for name in kinds]
    text = _INTRODUCTION.format(
        images=images,
        seed=SEED,
        building=", ".join(map(str, BUILDING_SEEDS)),
        false=len(false),
        false_told=sum(row["type"] != "unknown" for row in false),
        regions=len(rows),
        several=sum(row["several"] for row in true),
    )
    lines = [
        ("accuracy", len(true), _accuracy(true), page.verdict(_accuracy(true), TARGET)),
        ("mean recall of the types", len(true), page.mean(recalls), ""),
        ("accuracy, regions of 3 periods² or more", len(large), _accuracy(large), ""),
        (f"accuracy where the confidence is {CONFIDENT:g} or more", len(confident), _accuracy(confident), ""),
    ]
    text += page.table(("", "regions", "", "target"), lines)
    text += "\nTrue types in rows, given types in columns:\n\n" + _confusion(true)
    text += _WALLS
    return text + _confusion(painted)


def _confusion(rows: list[dict[str, Any]]) -> str:
    counts = Counter((row["truth"], row["type"]) for row in rows)
    true = [name for name in TYPES if any(row["truth"] == name for row in rows)]
    given = [name for name in TYPES if any(row["type"] == name for row in rows)]
    return page.table(
        ("true type", "regions", *given, "recall"),
        (
            (
                name,
                sum(counts[name, other] for other in given),
                *(counts[name, other] or "" for other in given),
                _accuracy([row for row in rows if row["truth"] == name]),
            )
            for name in true
        ),
    )


def _accuracy(rows: list[dict[str, Any]]) -> float:
    return page.mean(float(row["truth"] == row["type"]) for row in rows)
