"""Scores of one analysis against an exact truth: pixels, patches, objects, the whole image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_hrstem_defects import Analysis
from napari_hrstem_defects.core import metrics
from napari_hrstem_defects.simulation import SimulatedMicrograph
from napari_hrstem_defects.simulation.truth import BORDER_PERIODS

#: Defects whose mask is a disk about a column or a core: nearly all of it is border, which is not scored.
POINTS = ("vacancy", "interstitial", "substitution")
CORES = ("dislocation",)
#: A second grain may be called the reference where it and the rest both have at least this share of the image.
LARGE_SHARE = 0.25
_LAMELLAE = ("stacking fault lamella", "twin lamella")
_GRAINS = ("second grain", "inversion domain", *_LAMELLAE)
_TOUCHING = np.ones((3, 3), int)


@dataclass(frozen=True, eq=False)
class Truth:
    """One way to look at a simulated micrograph: which grain is the reference.

    Attributes
    ----------
    reference : int
        Number of that domain.
    labels : uint8 array (y, x)
    ignore : bool array (y, x)
    """

    reference: int
    labels: NDArray[np.uint8]
    ignore: NDArray[np.bool_]


def truths(sim: SimulatedMicrograph) -> list[Truth]:
    """The truth as simulated and, of two large grains, the same seen from the other one."""
    out = [Truth(0, sim.labels, sim.ignore)]
    grains = [d for d in sim.defects if d.kind in _GRAINS]
    if len(grains) != 1:
        return out
    # A lamella has no domain of its own in the truth; its mask says where it is.
    inside = grains[0].mask if grains[0].kind in _LAMELLAE else sim.domains > 0
    if not LARGE_SHARE <= inside.mean() <= 1 - LARGE_SHARE:
        return out
    walls = np.zeros(sim.labels.shape, bool)
    for defect in sim.defects:
        if defect.label == 1 and defect not in grains:
            walls |= defect.mask
    labels = (~inside | walls).astype(np.uint8)
    labels[sim.labels == 2] = 2
    border = 2 * round(BORDER_PERIODS * sim.period_px) + 1
    squares = labels.astype(np.float32) ** 2
    rim = np.abs(ndimage.uniform_filter(squares, border, mode="nearest") - squares) > 1e-3
    return [*out, Truth(1, labels, sim.ignore | rim)]


def content(sim: SimulatedMicrograph) -> str:
    """What a micrograph was made to hold, ``"perfect"`` if nothing."""
    return " + ".join(sim.description["parameters"]["defects"]) or "perfect"


def extent(sim: SimulatedMicrograph) -> str:
    """What its symmetry defects are: ``"extended"``, ``"core"``, ``"point"``, or ``""`` if it has none."""
    kinds = {d.kind for d in sim.defects if d.label == 1}
    if not kinds:
        return ""
    if kinds <= set(POINTS):
        return "point"
    return "core" if kinds <= {*POINTS, *CORES} else "extended"


def score(sim: SimulatedMicrograph, analysis: Analysis) -> dict[str, Any]:
    """Every score of one analysis; of two possible references the one with the better Dice counts.

    AUROC is the better of the two by itself: a map may rank well from a grain whose mask is poor.
    """
    views = truths(sim)
    ways = [_pixels(truth, analysis) for truth in views]
    best = max(
        range(len(ways)), key=lambda i: (_or_zero(ways[i]["dice_symmetry"]), _or_zero(ways[i]["auroc"]))
    )
    truth = views[best]
    marked = analysis.labels > 0
    return {
        **ways[best],
        "auroc": max(way["auroc"] for way in ways),
        "called": bool(marked.any()),
        "marked": float(marked.mean()),
        **_patches(truth, analysis),
        **_objects(sim, truth, analysis.labels),
    }


def _pixels(truth: Truth, analysis: Analysis) -> dict[str, Any]:
    """Dice of both labels and AUROC of the severity."""
    return {
        "reference": truth.reference,
        "dice_symmetry": metrics.dice(analysis.labels, truth.labels, 1, truth.ignore),
        "dice_amorphous": metrics.dice(analysis.labels, truth.labels, 2, truth.ignore),
        "auroc": metrics.auroc(analysis.severity, truth.labels == 1, truth.ignore | (truth.labels == 2)),
    }


def _patches(truth: Truth, analysis: Analysis) -> dict[str, Any]:
    """Verdicts on the patches, counted by what the patch is; 1 % / 10 % rule of Dennler et al."""
    table = analysis.patches
    true = metrics.patch_truth(truth.labels, table.grid, ignore=None)
    counts = {}
    for name, value in (("clean", 0), ("defective", 1), ("ambivalent", metrics.AMBIVALENT)):
        found = table.defective[true == value]
        counts[f"patches_{name}"] = int(found.size)
        counts[f"patches_{name}_called"] = int(np.count_nonzero(found))
    # Ambivalent patches are nearer to one class or the other: below and above the middle of the two limits.
    middle = (metrics.CLEAN_BELOW + metrics.DEFECTIVE_ABOVE) / 2
    share = table.grid.extract((truth.labels > 0).astype(np.float32)).mean(axis=(2, 3))
    upper = (true == metrics.AMBIVALENT) & (share > middle)
    counts["patches_upper"] = int(np.count_nonzero(upper))
    counts["patches_upper_called"] = int(np.count_nonzero(upper & table.defective))
    return counts


def _objects(sim: SimulatedMicrograph, truth: Truth, labels: NDArray[np.uint8]) -> dict[str, Any]:
    """Defects found and regions that are at no defect, both with a period's tolerance."""
    marked = labels > 0
    found: dict[str, list[int]] = {}
    for defect in sim.defects:
        if defect.label == 0:
            continue
        mask = defect.mask
        if defect.kind in _GRAINS and truth.reference:
            mask = ~defect.mask if defect.kind in _LAMELLAE else sim.domains == 0
        hit, total = found.get(defect.kind, [0, 0])
        found[defect.kind] = [hit + bool((marked & _grown(mask, sim.period_px)).any()), total + 1]
    regions, count = ndimage.label(marked, structure=_TOUCHING)
    near = _grown(truth.labels > 0, sim.period_px)
    touching = np.unique(regions[near & marked]).size
    return {"objects": found, "regions": int(count), "false_regions": int(count - touching)}


def _grown(mask: NDArray[np.bool_], reach_px: float) -> NDArray[np.bool_]:
    if not mask.any():
        return mask
    return np.asarray(ndimage.distance_transform_edt(~mask) <= reach_px)


def _or_zero(value: float) -> float:
    return 0.0 if np.isnan(value) else value


def patch_scores(rows: list[dict[str, Any]], *, ambivalent: bool) -> dict[str, float]:
    """Accuracy, precision, specificity and recall over all patches of all images.

    Parameters
    ----------
    rows : list of dict
        From :func:`score`.
    ambivalent : bool
        Count patches between the limits, too: as the class whose limit is nearer.
    """
    total = {key: sum(row[key] for row in rows) for key in rows[0] if key.startswith("patches_")}
    positive, hit = total["patches_defective"], total["patches_defective_called"]
    negative, false = total["patches_clean"], total["patches_clean_called"]
    if ambivalent:
        upper, upper_called = total["patches_upper"], total["patches_upper_called"]
        positive, hit = positive + upper, hit + upper_called
        negative += total["patches_ambivalent"] - upper
        false += total["patches_ambivalent_called"] - upper_called
    true = np.repeat([1, 0], [positive, negative])
    called = np.repeat([1, 0, 1, 0], [hit, positive - hit, false, negative - false])
    scores = metrics.classification(true, called)
    return {key: float(scores[key]) for key in ("accuracy", "precision", "specificity", "recall", "count")}
