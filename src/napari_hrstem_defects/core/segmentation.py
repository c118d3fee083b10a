"""The step from severity and masks to one label image, by a stated priority."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_hrstem_defects.core.analysis import Classified, Compared, Inputs, Preprocessed, Segmented, Varied
from napari_hrstem_defects.core.autocorrelation import REACH_PERIODS
from napari_hrstem_defects.core.calibration import severity_of
from napari_hrstem_defects.core.domains import WALL_PERIODS
from napari_hrstem_defects.core.patches import shares
from napari_hrstem_defects.core.preprocessing import ENOUGH
from napari_hrstem_defects.core.published import PublishedMaps
from napari_hrstem_defects.core.regions import around, remove_small

#: What a label means.
CRYSTAL, SYMMETRY, AMORPHOUS = 0, 1, 2


def segment(
    inputs: Inputs,
    seen: Preprocessed,
    classified: Classified,
    varied: Varied,
    compared: Compared,
    *,
    maps: PublishedMaps | None,
) -> Segmented:
    """Labels by priority: not assessed, amorphous, domains that count as defects, severity."""
    params, typical, table = inputs.recipe.segment, seen.typical, classified.screened
    prepared, found = seen.prepared, compared.domains
    if maps is not None:
        return Segmented(maps.labels, table)
    if typical is None or prepared is None or found is None or compared.excess is None:
        return Segmented(np.zeros(inputs.shape, np.uint8), table)
    period = typical.period_px
    threshold = severity_of(params.false_marks, compared.area_periods)
    edge = dilate(varied.amorphous, REACH_PERIODS * period)
    away = np.where(edge | ~compared.valid_mask, np.float32(0), compared.severity)
    mask = hysteresis(away, params.extent * threshold, threshold)
    reach = inputs.recipe.symmetry.kernel_periods * period
    mask = localise(mask, compared.excess, params.overlap, reach)
    valid_mask = compared.valid_mask
    if found.defective.any():
        # The field tells domains apart up to the rim.
        grains = prepared.to_frame(found.defective.astype(np.float32)) > 0.5
        grains &= inputs.frame.valid
        valid_mask = valid_mask | grains
        mask |= dilate(grains, WALL_PERIODS * period)
    labels = join(mask, varied.amorphous, valid_mask | varied.amorphous)
    labels = remove_small(labels, params.min_area_periods * period**2)
    if table.classifier == "hand":
        return Segmented(labels, table)
    final = shares(labels > 0, table.grid) > inputs.recipe.classify.max_defect_area
    return Segmented(labels, replace(table, defective=final))


def hysteresis(severity: NDArray[np.float32], low: float, threshold: float) -> NDArray[np.bool_]:
    """Everything above `low` that is connected, corners included, to something above `threshold`.

    Parameters
    ----------
    severity : float array (y, x)
    low, threshold : float
        In the unit of `severity`.

    Returns
    -------
    bool array (y, x)

    References
    ----------
    Canny, IEEE Trans. Pattern Anal. 8 (1986) 679.

    Examples
    --------
    >>> import numpy as np, napari_hrstem_defects as hd
    >>> hd.hysteresis(np.array([[1.0, 2.0, 1.0, 0.0, 1.0]]), 0.5, 1.5)
    array([[ True,  True,  True, False, False]])
    """
    labels, count = ndimage.label(severity > low, structure=np.ones((3, 3)))
    marked = np.zeros(count + 1, bool)
    marked[np.unique(labels[severity > threshold])] = True
    marked[0] = False
    out: NDArray[np.bool_] = marked[labels]
    return out


def localise(
    mask: NDArray[np.bool_], excess: NDArray[np.float32], share: float, reach_px: float
) -> NDArray[np.bool_]:
    """Draw in a mask to where the defect itself is.

    A neighbourhood notices a defect as soon as its edge touches it: the worse the defect, the wider the mask. The
    excess falls off with the overlap; what is below a share of the worst nearby only overlaps it.

    Parameters
    ----------
    mask : bool array (y, x)
    excess : float32 array (y, x)
        Squared distance beyond the undisturbed one.
    share : float
        Of the worst within `reach_px`.
    reach_px : float
        Edge of a neighbourhood.
    """
    if share <= 0 or not mask.any():
        return mask
    reach = round(reach_px)
    box = around(mask, reach)
    worst = ndimage.maximum_filter(excess[box], 2 * reach + 1, mode="nearest")
    out = np.zeros(mask.shape, bool)
    out[box] = mask[box] & (excess[box] >= np.float32(share) * worst)
    return out


def join(
    symmetry: NDArray[np.bool_], amorphous: NDArray[np.bool_], valid_mask: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """One label image of the masks.

    What is not assessed is not marked; amorphous comes before symmetry defects.
    """
    labels = np.where(symmetry, np.uint8(SYMMETRY), np.uint8(CRYSTAL))
    labels[amorphous] = AMORPHOUS
    labels[~valid_mask] = CRYSTAL
    return labels


def dilate(mask: NDArray[np.bool_], reach_px: float) -> NDArray[np.bool_]:
    """Grow a bool array (y, x) by all pixels whose centres are within `reach_px` of its own; below 0.5 by none.

    Each run of a row covers a longer or shorter one of every row within reach: much faster than distances.
    """
    if reach_px < 0.5 or not mask.any():
        return mask
    reach = int(reach_px)
    box = around(mask, reach + 1)
    rows, columns = mask[box].shape
    ends = np.diff(np.pad(mask[box], ((0, 0), (1, 1))).view(np.int8), axis=1)
    y, first = np.nonzero(ends == 1)
    last = np.nonzero(ends == -1)[1]
    offsets = np.arange(-reach, reach + 1)[:, None]
    halves = np.count_nonzero(np.hypot(offsets, np.arange(reach + 1)) <= reach_px, axis=1)[:, None] - 1
    # Runs that begin less runs that end in each column of each row.
    covered = np.zeros((rows + 2 * reach) * (columns + 1), np.int32)
    for part in np.array_split(np.arange(len(offsets)), 1 + len(offsets) * len(y) // ENOUGH):
        row = (y + offsets[part] + reach) * (columns + 1)
        begin, end = row + np.maximum(first - halves[part], 0), row + np.minimum(last + halves[part], columns)
        covered += np.bincount(begin.ravel(), minlength=covered.size)
        covered -= np.bincount(end.ravel(), minlength=covered.size)
    out = mask.copy()
    within = covered.reshape(-1, columns + 1)[reach : reach + rows, :columns]
    out[box] = np.cumsum(within, axis=1, dtype=np.int32) > 0
    return out
