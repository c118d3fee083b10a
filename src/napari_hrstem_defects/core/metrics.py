"""How good a result is: patch classification, masks and severity maps against a truth.

What cannot be computed (a recall without positives, say) is NaN, never a warning and never a lucky number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_hrstem_defects.core.patches import PatchGrid

#: Names of the two classes of patches; the second is the positive one.
PATCH_CLASSES = ("non-defective", "defective")
#: Truth of a patch that is neither clearly clean nor clearly defective.
AMBIVALENT = -1
#: Relative defect area below which a patch is non-defective and above which it is defective ([D]).
CLEAN_BELOW, DEFECTIVE_ABOVE = 0.01, 0.10
#: Truth value of pixels that are not scored.
IGNORE = 255


def patch_truth(
    mask: ArrayLike, grid: PatchGrid, *, ignore: ArrayLike | int | None = IGNORE
) -> NDArray[np.int8]:
    """Truth of each patch from the relative defect area inside it.

    Parameters
    ----------
    mask : int array (y, x)
        Defect where positive.
    grid : PatchGrid
    ignore : int or bool array (y, x), optional
        Pixels that count neither as defect nor as area: a value of `mask`, or where True.

    Returns
    -------
    int8 array (n_y, n_x)
        0 below 1 % defect area, 1 above 10 %, -1 (ambivalent) between and where nothing can be scored.

    References
    ----------
    .. [D] Dennler et al., Micron 146 (2021) 103069 (labels of the training patches).

    Examples
    --------
    >>> import numpy as np, napari_hrstem_defects as hd
    >>> mask = np.zeros((100, 300), np.uint8)
    >>> mask[:5, 100:200], mask[:20, 200:] = 1, 1  # 0, 5 and 20 % of three patches
    >>> hd.patch_truth(mask, hd.PatchGrid(mask.shape, 100))
    array([[ 0, -1,  1]], dtype=int8)
    """
    truth = np.asarray(mask)
    if truth.shape != grid.shape:
        raise ValueError(f"mask has shape {truth.shape}, expected the grid's {grid.shape}")
    scored = _scored(truth, ignore)
    defect = ((truth > 0) & scored).astype(np.float32)
    hits = grid.extract(defect).sum(axis=(2, 3), dtype=np.float64)
    areas = grid.extract(scored.astype(np.float32)).sum(axis=(2, 3), dtype=np.float64)
    out = np.full(grid.counts, AMBIVALENT, np.int8)
    out[hits < CLEAN_BELOW * areas] = 0
    out[hits > DEFECTIVE_ABOVE * areas] = 1
    return out


def classification(
    truth: ArrayLike,
    predicted: ArrayLike,
    *,
    classes: Sequence[str] = PATCH_CLASSES,
    ambivalent: Literal["leave out", "defective", "non-defective"] = "leave out",
) -> dict[str, Any]:
    """Accuracy, precision, specificity, recall and confusion of a classification.

    Parameters
    ----------
    truth, predicted : int or bool arrays of equal shape
        Class numbers, ``0...len(classes) - 1``; `truth` may hold -1 for ambivalent items.
    classes : sequence of str
        Names of the classes. Of two, the second is the positive one.
    ambivalent : {"leave out", "defective", "non-defective"}
        What ambivalent items count as; the last two are for two classes only.

    Returns
    -------
    dict
        ``accuracy``; ``precision``, ``specificity``, ``recall`` of the positive class, or with more than two
        classes the means over those that occur in the truth, each against the rest; ``balanced_accuracy``,
        mean recall of the classes that occur, NaN if fewer than two do; ``count``; ``ambivalent``, how many
        there were; ``confusion`` with ``classes`` and ``counts``, rows the truth, columns the prediction.
        Ratios whose denominator is zero are NaN.

    Examples
    --------
    >>> import napari_hrstem_defects as hd
    >>> scores = hd.classification([0, 0, 0, 1, 1], [0, 0, 1, 1, 0])
    >>> scores["accuracy"], scores["precision"], scores["recall"], scores["confusion"]["counts"]
    (0.6, 0.5, 0.5, [[2, 1], [1, 1]])
    """
    names = list(classes)
    true, found = np.asarray(truth).ravel().astype(np.intp), np.asarray(predicted).ravel().astype(np.intp)
    if np.shape(truth) != np.shape(predicted):
        raise ValueError(
            f"predicted has shape {np.shape(predicted)}, expected that of truth, {np.shape(truth)}"
        )
    if len(names) < 2:
        raise ValueError(f"classes is {names}, expected at least two names")
    if ambivalent not in ("leave out", "defective", "non-defective"):
        raise ValueError(
            f"ambivalent is {ambivalent!r}, expected 'leave out', 'defective' or 'non-defective'"
        )
    doubtful = true == AMBIVALENT
    if ambivalent == "leave out":
        true, found = true[~doubtful], found[~doubtful]
    elif len(names) == 2:
        true = np.where(doubtful, int(ambivalent == "defective"), true)
    else:
        raise ValueError(
            f"ambivalent is {ambivalent!r}, but with {len(names)} classes they can only be left out"
        )
    for name, values in (("truth", true), ("predicted", found)):
        if values.size and not 0 <= values.min() <= values.max() < len(names):
            raise ValueError(
                f"{name} has values {values.min()}...{values.max()}, expected 0...{len(names) - 1}"
            )
    n = len(names)
    counts = np.bincount(true * n + found, minlength=n * n).reshape(n, n)
    each = [_one_against_rest(counts, k) for k in range(n)]
    occurring = [k for k in range(n) if counts[k].any()]
    chosen = [1] if n == 2 else occurring
    return {
        "accuracy": _ratio(np.trace(counts), counts.sum()),
        "precision": _mean([each[k][0] for k in chosen]),
        "specificity": _mean([each[k][1] for k in chosen]),
        "recall": _mean([each[k][2] for k in chosen]),
        "balanced_accuracy": _mean([each[k][2] for k in occurring]) if len(occurring) > 1 else float("nan"),
        "count": int(counts.sum()),
        "ambivalent": int(np.count_nonzero(doubtful)),
        "confusion": {"classes": names, "counts": counts.tolist()},
    }


def image_level(found: ArrayLike, defective: ArrayLike) -> dict[str, float]:
    """Share of the defective images in which something was found, and of the clean ones in which nothing was.

    Parameters
    ----------
    found, defective : bool sequences
        One entry an image.

    Returns
    -------
    dict
        ``image_recall`` and ``image_specificity``; NaN without images of the kind.
    """
    scores = classification(np.asarray(defective, bool), np.asarray(found, bool))
    return {"image_recall": scores["recall"], "image_specificity": scores["specificity"]}


def dice(predicted: ArrayLike, truth: ArrayLike, label: int, ignore: ArrayLike | int | None = None) -> float:
    """Dice coefficient ``2 |P ∩ T| / (|P| + |T|)`` of one label.

    Parameters
    ----------
    predicted, truth : int arrays of equal shape
    label : int
        The value compared.
    ignore : int or bool array, optional
        Pixels that do not count: a value of `truth`, or where True.

    Returns
    -------
    float
        0...1; NaN if the label occurs in neither.

    Examples
    --------
    >>> import napari_hrstem_defects as hd
    >>> hd.dice([1, 1, 0, 2], [1, 0, 0, 2], label=1)  # 2 · 1 / (2 + 1)
    0.6667
    """
    found, true = _pair(predicted, truth)
    return _dice(found == label, true == label, _scored(true, ignore))


def auroc(scores: ArrayLike, positive: ArrayLike, ignore: ArrayLike | None = None) -> float:
    """Area under the receiver operating characteristic, exact, ties counted half.

    The probability that a positive scores above a negative (Mann and Whitney's U over the number of pairs).

    Parameters
    ----------
    scores : float array
        Without NaN.
    positive : bool array
        Truth, of the same shape.
    ignore : bool array, optional
        Entries that do not count.

    Returns
    -------
    float
        NaN unless there are both positives and negatives.

    References
    ----------
    Fawcett, Pattern Recognition Letters 27 (2006) 861.

    Examples
    --------
    Of the four pairs of a positive and a negative three are in the right order:

    >>> import numpy as np, napari_hrstem_defects as hd
    >>> hd.auroc([0.1, 0.4, 0.35, 0.8], np.array([False, False, True, True]))
    0.75
    """
    values, true = _ranked(scores, positive, ignore)
    if true.all() or not true.any():
        return float("nan")
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(true, values))


def _one_against_rest(counts: NDArray[np.intp], k: int) -> tuple[float, float, float]:
    """Precision, specificity and recall of one class."""
    hit = counts[k, k]
    found, true, total = counts[:, k].sum(), counts[k].sum(), counts.sum()
    return _ratio(hit, found), _ratio(total - true - found + hit, total - true), _ratio(hit, true)


def _ratio(part: Any, whole: Any) -> float:
    return float(part) / float(whole) if whole else float("nan")


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else float("nan")


def _dice(found: NDArray[np.bool_], true: NDArray[np.bool_], scored: NDArray[np.bool_]) -> float:
    found, true = found & scored, true & scored
    return _ratio(2 * np.count_nonzero(found & true), np.count_nonzero(found) + np.count_nonzero(true))


def _pair(predicted: ArrayLike, truth: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    found, true = np.asarray(predicted), np.asarray(truth)
    if found.shape != true.shape:
        raise ValueError(f"the prediction has shape {found.shape}, expected that of truth, {true.shape}")
    return found, true


def _scored(truth: NDArray[Any], ignore: ArrayLike | int | None) -> NDArray[np.bool_]:
    if ignore is None:
        return np.ones(truth.shape, bool)
    left_out = np.asarray(ignore)
    if left_out.ndim == 0:
        return np.asarray(truth != left_out)
    if left_out.dtype != np.bool_ or left_out.shape != truth.shape:
        raise ValueError(
            f"ignore is a {left_out.dtype} array of shape {left_out.shape}, expected booleans {truth.shape}"
        )
    return ~left_out


def _ranked(
    scores: ArrayLike, positive: ArrayLike, ignore: ArrayLike | None
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    values, true = np.asarray(scores), np.asarray(positive)
    if values.shape != true.shape or true.dtype != np.bool_:
        raise ValueError(
            f"positive is a {true.dtype} array of shape {true.shape}, expected booleans {values.shape}"
        )
    if ignore is None:
        values, true = values.ravel(), true.ravel()
    else:
        scored = _scored(true, ignore)
        values, true = values[scored], true[scored]
    if np.isnan(values).any():
        raise ValueError("scores holds NaN, which cannot be ranked; leave such entries out with `ignore`")
    return values, true
