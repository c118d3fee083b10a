"""One way to score a result, for all groups.

Borders are not scored within a tolerance; where either of two grains may be the reference the better view counts. What
is undefined (Dice without a defect, say) is NaN and in no mean.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

import napari_hrstem_defects as hd
from benchmarks.accuracy.datasets import (
    AMORPHOUS,
    CRYSTAL,
    DEFECT,
    IGNORED,
    INTERFACE,
    Mask,
    Sample,
    Truth,
    distance_to,
)
from benchmarks.accuracy.tables import Row, column, mean
from napari_hrstem_defects.core import metrics
from napari_hrstem_defects.core.patches import PatchTable
from napari_hrstem_defects.io.domains import domain_image

#: An image passes with at most this share of clear crystal marked and at least that share of everything else found.
MOST_FALSE, LEAST_FOUND = 0.02, 0.8
_TOUCHING = np.ones((3, 3), int)
_PATCHES = ("clean", "defective")


@dataclass(frozen=True, eq=False)
class Result:
    """What is scored of an analysis.

    Attributes
    ----------
    labels : uint8 array (y, x)
        0 crystal, 1 symmetry defect, 2 amorphous.
    severity : float array (y, x)
    domains : int array (y, x)
        Number of the domain of each pixel; 0 everywhere where there is one.
    patches : PatchTable, optional
    """

    labels: NDArray[np.uint8]
    severity: NDArray[np.float32]
    domains: NDArray[np.uint8]
    patches: PatchTable | None = None

    @classmethod
    def of(cls, analysis: hd.Analysis) -> Result:
        """Take what is scored from an analysis."""
        shape = analysis.labels.shape
        domains = np.zeros(shape, np.uint8) if analysis.domains is None else domain_image(analysis)
        return cls(analysis.labels, analysis.severity, domains, analysis.patches)


def score(results: Sequence[Result], sample: Sample) -> Row:
    """Scores of an image; of a series the means over its frames.

    Parameters
    ----------
    results : sequence of Result
        One a frame.
    sample : Sample

    Returns
    -------
    dict
        See :func:`score_frame`.
    """
    rows = [score_frame(each, truths) for each, (_, truths) in zip(results, sample.frames, strict=True)]
    if len(rows) == 1:
        return rows[0]
    merged: Row = {key: mean(column(rows, key)) for key in rows[0]}
    for key in ("called", "defective"):
        merged[key] = any(column(rows, key))
    merged["passed"] = all(column(rows, "passed"))
    for key in rows[0]:
        if key.startswith(("patches_", "regions")):
            merged[key] = sum(column(rows, key))
    merged["targets"] = _written(_summed([read_targets(row["targets"]) for row in rows]))
    return merged


def score_frame(result: Result, truths: Sequence[Truth]) -> Row:
    """Scores of one frame.

    Parameters
    ----------
    result : Result
    truths : sequence of Truth
        One for each grain that may be the reference. Dice, AUROC, patches and targets are those of the view with the
        larger sum of Dice and AUROC, the verdict `passed` and its numbers those of the view that passes best.

    Returns
    -------
    dict
        ``dice``, ``auroc`` of label 1 (severity against crystal); ``dice_amorphous`` of label 2; ``false``, share of
        clear crystal that is marked; ``auroc_boundary``, defect against both grains; ``hit``, share of the targets
        found; ``other``, share of another grain told from the reference; ``amorphous``, share of amorphous area
        labelled 2, label 1 counting half; ``passed``; ``called``, whether anything is marked; ``defective``, whether
        anything should be; ``marked``, share of the image; ``targets``, found and all by kind; ``regions`` and
        ``regions_false``, those at no defect; ``patches_<clean|defective>`` and ``…_called``.
    """
    overlaps = [_overlap(result, truth) for truth in truths]
    best = max(range(len(truths)), key=lambda k: _sum(overlaps[k], "dice", "auroc"))
    verdicts = [_verdict(result, truth) for truth in truths]
    verdict = max(verdicts, key=lambda v: (v["passed"], _sum(v, "hit", "other", "amorphous") - v["false"]))
    truth = truths[best]
    return {
        **overlaps[best],
        **verdict,
        "called": bool((result.labels > 0).any()),
        "defective": bool(((truth.labels == DEFECT) | (truth.labels == AMORPHOUS)).any()),
        "marked": float((result.labels > 0)[truth.labels != IGNORED].mean()),
        **_targets(result.labels, truth),
        **_patches(result.patches, truth),
    }


def missed(sample: Sample, message: str) -> Row:
    """The row of an image that could not be analysed: nothing found, everything false."""
    labels = [truths[0].labels for _, truths in sample.frames]
    defect, amorphous = (any((each == value).any() for each in labels) for value in (DEFECT, AMORPHOUS))
    return {
        "dice": 0.0 if defect else math.nan,
        "auroc": 0.5 if defect else math.nan,
        "dice_amorphous": 0.0 if amorphous else math.nan,
        "false": 1.0,
        "passed": False,
        "called": True,
        "defective": defect or amorphous,
        "error": message,
    }


def _overlap(result: Result, truth: Truth) -> Row:
    defect = truth.labels == DEFECT
    positive = defect & truth.scored
    found = result.labels > 0 if truth.either_label else result.labels == DEFECT
    # Label 1 on an amorphous area is counted by the Dice of the amorphous area.
    crystal = truth.scored & (truth.labels != AMORPHOUS)
    severity = np.nan_to_num(result.severity)
    ranked = positive | (truth.scored & (truth.labels == CRYSTAL))
    boundary = positive & ~truth.other
    scores = {
        "dice": _dice(found & crystal, positive) if positive.any() else math.nan,
        "auroc": metrics.auroc(severity, positive, ~ranked),
        "dice_amorphous": math.nan,
        "auroc_boundary": math.nan,
    }
    if (truth.labels == AMORPHOUS).any():
        scored = truth.labels != IGNORED
        scores["dice_amorphous"] = _dice((result.labels == AMORPHOUS) & scored, truth.labels == AMORPHOUS)
    if truth.other.any() and boundary.any():
        scores["auroc_boundary"] = metrics.auroc(severity, boundary, ~(ranked | truth.other))
    return scores


def _dice(found: Mask, true: Mask) -> float:
    return float(2 * np.count_nonzero(found & true) / (np.count_nonzero(found) + np.count_nonzero(true)))


def _verdict(result: Result, truth: Truth) -> Row:
    """Whether the result is of use: little is marked that is crystal, and most of the rest is found."""
    clear = truth.clear
    verdict: Row = {"false": float((result.labels[clear] > 0).mean()) if clear.any() else 0.0}
    verdict |= {"hit": math.nan, "other": math.nan, "amorphous": math.nan}
    if truth.targets:
        verdict["hit"] = float(np.mean(_hits(result.labels, truth)))
    if truth.other.any():
        home = np.bincount(result.domains[clear].astype(int)).argmax() if clear.any() else 0
        told = (result.labels == DEFECT) | (result.domains != home)
        verdict["other"] = float(told[truth.other].mean())
    lost = result.labels[truth.labels == AMORPHOUS]
    if lost.size:
        verdict["amorphous"] = float((lost == AMORPHOUS).mean() + 0.5 * (lost == DEFECT).mean())
    shares = [verdict[key] for key in ("hit", "other", "amorphous") if not math.isnan(verdict[key])]
    verdict["passed"] = verdict["false"] <= MOST_FALSE and all(share >= LEAST_FOUND for share in shares)
    return verdict


def _sum(row: Row, *keys: str) -> float:
    return sum(0.0 if math.isnan(row[key]) else row[key] for key in keys)


def _hits(labels: NDArray[np.uint8], truth: Truth) -> list[bool]:
    near = distance_to(labels > 0) <= truth.reach_px
    return [bool((near[target.box] & target.mask).any()) for target in truth.targets]


def _targets(labels: NDArray[np.uint8], truth: Truth) -> Row:
    found: dict[str, tuple[int, int]] = {}
    for target, hit in zip(truth.targets, _hits(labels, truth), strict=True):
        hits, total = found.get(target.kind, (0, 0))
        found[target.kind] = (hits + hit, total + 1)
    regions, count = ndimage.label(labels > 0, structure=_TOUCHING)
    defects = distance_to((truth.labels == DEFECT) | (truth.labels == AMORPHOUS)) <= truth.margin_px
    # What is marked in a place that is not scored is neither right nor false.
    excused = defects | (truth.labels == IGNORED) | (truth.labels == INTERFACE)
    touching = np.count_nonzero(np.unique(regions[excused]))
    return {"targets": _written(found), "regions": int(count), "regions_false": int(count - touching)}


def _written(found: dict[str, tuple[int, int]]) -> str:
    return "; ".join(f"{kind} {hits}/{total}" for kind, (hits, total) in found.items())


def read_targets(text: str) -> dict[str, tuple[int, int]]:
    """Kind → (found, all) of the column ``targets``.

    >>> read_targets("twin boundary 1/2; vacancy 0/3")
    {'twin boundary': (1, 2), 'vacancy': (0, 3)}
    """
    pairs = (each.rpartition(" ") for each in text.split("; ") if each)
    return {kind: (int(count.split("/")[0]), int(count.split("/")[1])) for kind, _, count in pairs}


def _summed(tables: Sequence[dict[str, tuple[int, int]]]) -> dict[str, tuple[int, int]]:
    kinds = dict.fromkeys(kind for table in tables for kind in table)
    return {
        kind: tuple(sum(table.get(kind, (0, 0))[k] for table in tables) for k in (0, 1))  # type: ignore[misc]
        for kind in kinds
    }


def _patches(table: PatchTable | None, truth: Truth) -> Row:
    """Patches classified as defective, by what they are (1 % / 10 % rule of Dennler et al.); ambivalent ones left out."""
    counts: Row = {}
    if table is None or not table.defective.size:
        return counts
    mask = np.where(truth.labels == INTERFACE, np.uint8(IGNORED), truth.labels)
    true = metrics.patch_truth(mask, table.grid, ignore=IGNORED)
    for value, name in enumerate(_PATCHES):
        called = table.defective[true == value]
        counts[f"patches_{name}"] = int(called.size)
        counts[f"patches_{name}_called"] = int(np.count_nonzero(called))
    return counts


def summarise(rows: Sequence[Row]) -> dict[str, Any]:
    """Means of one group.

    Parameters
    ----------
    rows : sequence of dict
        From :func:`score`, with ``content`` and ``extent``.

    Returns
    -------
    dict
        ``images``, ``failed``; means ``dice`` (without those with point defects or dislocation cores only),
        ``dice_cores`` (with the latter), ``dice_amorphous``, ``auroc``, ``false``, ``auroc_boundary``; ``recall`` and
        ``specificity`` of the images called defective; ``films_clean``, share of coherent films with no mark;
        ``passed``, how many images; ``patch_accuracy``, ``patch_precision``, ``patch_specificity``, ``patch_recall``.
    """
    films = [row for row in rows if row.get("content") == "film"]
    rest = [row for row in rows if row.get("content") != "film"]
    image_level = metrics.image_level(
        np.array([bool(row["called"]) for row in rest], bool),
        np.array([bool(row["defective"]) for row in rest], bool),
    )
    return {
        "images": len(rows),
        "failed": sum(bool(row.get("error")) for row in rows),
        "dice": mean(row["dice"] for row in rows if not row.get("extent")),
        "dice_cores": mean(row["dice"] for row in rows if row.get("extent") in ("", "core", None)),
        **{key: mean(column(rows, key)) for key in ("dice_amorphous", "auroc", "false", "auroc_boundary")},
        "recall": image_level["image_recall"],
        "specificity": image_level["image_specificity"],
        "films_clean": mean(float(not row["called"]) for row in films),
        "passed": sum(bool(row["passed"]) for row in rows),
        **_patch_scores(rest),
    }


def _patch_scores(rows: Sequence[Row]) -> dict[str, float]:
    total = {
        key: int(sum(row.get(key) or 0 for row in rows))
        for name in _PATCHES
        for key in (f"patches_{name}", f"patches_{name}_called")
    }
    hit, false = total["patches_defective_called"], total["patches_clean_called"]
    positive, negative = total["patches_defective"], total["patches_clean"]
    scores = metrics.classification(
        np.repeat([1, 0], [positive, negative]),
        np.repeat([1, 0, 1, 0], [hit, positive - hit, false, negative - false]),
    )
    return {f"patch_{key}": scores[key] for key in ("accuracy", "precision", "specificity", "recall")}
