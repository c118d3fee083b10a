"""From severity and masks to one label image, by a stated priority."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

#: What a label means.
CRYSTAL, SYMMETRY, AMORPHOUS = 0, 1, 2
#: How far around a pixel the worst severity is looked for that it may only overlap, in periods.
OVERLAP_REACH = 1.5


def hysteresis(severity: NDArray[np.float32], low: float, threshold: float) -> NDArray[np.bool_]:
    """Everything above `low` that is connected, corners included, to something above `threshold`."""
    labels, count = ndimage.label(severity > low, structure=np.ones((3, 3)))
    marked = np.zeros(count + 1, bool)
    marked[np.unique(labels[severity > threshold])] = True
    marked[0] = False
    out: NDArray[np.bool_] = marked[labels]
    return out


def localise(
    mask: NDArray[np.bool_], excess: NDArray[np.float32], share: float, period: float
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
        Of the worst within `OVERLAP_REACH` periods.
    period : float
        Lattice period in pixels of the map.
    """
    if share <= 0 or not mask.any():
        return mask
    worst = ndimage.maximum_filter(excess, 2 * round(OVERLAP_REACH * period) + 1, mode="nearest")
    return mask & (excess >= np.float32(share) * worst)


def join(
    symmetry: NDArray[np.bool_], amorphous: NDArray[np.bool_], judged: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """One label image of the masks.

    What is not judged is not marked; amorphous comes before symmetry defects.
    """
    labels = np.where(symmetry, np.uint8(SYMMETRY), np.uint8(CRYSTAL))
    labels[amorphous] = AMORPHOUS
    labels[~judged] = CRYSTAL
    return labels


def dilate(mask: NDArray[np.bool_], reach_px: float) -> NDArray[np.bool_]:
    """Grow a mask by `reach_px` in all directions."""
    if reach_px < 0.5 or not mask.any():
        return mask
    rows, columns = (
        slice(max(int(found[0]) - int(reach_px) - 1, 0), int(found[-1]) + int(reach_px) + 2)
        for found in (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    )
    out = mask.copy()
    out[rows, columns] = ndimage.distance_transform_edt(~mask[rows, columns]) <= reach_px
    return out
