"""From distances to labels: calibration on the image's own clean population, hysteresis, amorphous areas, fusion."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_hrstem_defects.core.sampling import even_sample

#: Severity that is given to what is a defect for another reason than its severity (grains, faint lines): the usual
#: threshold, and the usual level down to which a defect extends.
SEVERE = 7.0
NOTABLE = 4.0
#: Edge of the tiles that are worked on at once, in px: most of a large image holds no defect.
TILE_PX = 512
#: Bins of the histogram that is climbed, per standard deviation of the model patch.
BINS_PER_SIGMA = 8
#: Standard deviation of the smoothing of that histogram, in standard deviations of the model patch.
HISTOGRAM_SMOOTHING = 0.35
#: Smallest spread of log distances: an image without noise has none but that of the pixel grid and of scan lines, and
#: everything would be a defect.
MIN_SIGMA = 0.18
#: Half width at half maximum of a normal distribution, in standard deviations.
HALF_WIDTH_SIGMAS = 1.1774
#: The right side of the clean population is at most this much wider than the left: beyond, it holds something else.
MAX_SKEW = 1.2
#: Ratio of the standard deviation to the median absolute deviation of a normal distribution.
MAD_TO_SIGMA = 1.4826
#: Log distance above the clean population's beyond which nothing is left of the lattice: more says no more.
LOG_DISTANCE_CAP = 2.5
#: Share of a normal distribution within one standard deviation.
ONE_SIGMA_SHARE = 0.6827


@dataclass(frozen=True)
class Null:
    """Distribution of the log distance in the defect-free part of the image.

    Attributes
    ----------
    mode, sigma : float
        Position and one-sided width; severity is ``(L − mode) / sigma``.
    patch_median, patch_q99 : float
        Median and 99 % quantile of L inside the model patch.
    """

    mode: float
    sigma: float
    patch_median: float
    patch_q99: float

    @property
    def impurity(self) -> float:
        """How far the worst of the model patch lies above its median: large where it holds a defect itself."""
        return self.patch_q99 - self.patch_median


def calibrate(distances: NDArray[np.float32], patch: NDArray[np.float32]) -> Null:
    """Find the clean population: from the model patch's median climb the histogram of the image to a mode.

    The mode of the whole image would be a second grain's wherever that has more area; the model patch alone knows
    nothing of how noise and thickness vary over the image.

    Parameters
    ----------
    distances : float32 array
        Log distances of the judged pixels.
    patch : float32 array
        Those of the model patch.
    """
    sample = even_sample(distances)
    median, q99 = (float(v) for v in np.quantile(patch, (0.5, 0.99)))
    spread = max(float(np.subtract(*np.quantile(patch, (0.84, 0.16)))) / 2, MIN_SIGMA)
    width = spread / BINS_PER_SIGMA
    low, high = (float(v) for v in np.quantile(sample, (0.0005, 0.9995)))
    low, high = min(low, median - spread), max(high, median + spread)
    counts, edges = np.histogram(
        distances, bins=int(np.clip((high - low) / width, 16, 20000)), range=(low, high)
    )
    step = edges[1] - edges[0]
    smooth = ndimage.gaussian_filter1d(counts.astype(np.float64), HISTOGRAM_SMOOTHING * spread / step)
    here = int(np.clip((median - low) / step, 0, len(smooth) - 1))
    while True:
        left = smooth[here - 1] if here > 0 else -1.0
        right = smooth[here + 1] if here + 1 < len(smooth) else -1.0
        if max(left, right) <= smooth[here]:
            break
        here += 1 if right > left else -1
    mode = float(edges[here] + step / 2)
    below = sample[sample < mode]
    left = mode - float(np.quantile(below, 1 - ONE_SIGMA_SHARE)) if below.size else MIN_SIGMA
    # Log distances lean to the right; defects reach into the tail there, but hardly to half the height of the mode.
    fallen = np.flatnonzero(smooth[here:] < 0.5 * smooth[here])
    right = float(fallen[0]) * step / HALF_WIDTH_SIGMAS if fallen.size else left
    return Null(mode, float(max(left, min(right, MAX_SKEW * left), MIN_SIGMA)), median, q99)


def hysteresis(
    severity: NDArray[np.float32], low: float = NOTABLE, threshold: float = SEVERE
) -> NDArray[np.bool_]:
    """Everything above `low` that is connected, corners included, to something above `threshold`."""
    labels, count = ndimage.label(severity > low, structure=np.ones((3, 3)))
    if count == 0:
        return np.zeros(severity.shape, bool)
    marked = np.zeros(count + 1, bool)
    marked[np.unique(labels[severity > threshold])] = True
    marked[0] = False
    out: NDArray[np.bool_] = marked[labels]
    return out


def localise(
    mask: NDArray[np.bool_], severity: NDArray[np.float32], null: Null, window_px: float, share: float
) -> NDArray[np.bool_]:
    """Draw in a mask to where the defect itself is.

    A neighbourhood notices a defect as soon as its edge touches it, so severity spreads by half a kernel: the worse
    the defect, the wider the mask. Its squared distance however falls off with the overlap; what is below a fixed
    share of the worst nearby is overlap.

    Parameters
    ----------
    mask : bool array (y, x)
    severity : float32 array (y, x)
        In standard deviations of `null`.
    null : Null
        Turns severity back into squared distances in excess of the clean crystal's.
    window_px : float
        Edge of the window in which the worst is looked for: how far a defect can be noticed.
    share : float
        Of the worst excess.
    """
    if share <= 0 or not mask.any():
        return mask
    reach = int(window_px / 2)
    out = np.zeros_like(mask)
    for y in range(0, mask.shape[0], TILE_PX):
        for x in range(0, mask.shape[1], TILE_PX):
            inside = (slice(y, y + TILE_PX), slice(x, x + TILE_PX))
            if not mask[inside].any():
                continue
            top, left = max(y - reach, 0), max(x - reach, 0)
            around = severity[top : y + TILE_PX + reach, left : x + TILE_PX + reach]
            excess = np.expm1(np.minimum(np.float32(null.sigma) * around, np.float32(LOG_DISTANCE_CAP)))
            worst = ndimage.maximum_filter(excess, size=2 * reach + 1, mode="nearest")
            kept = (excess > np.float32(share) * worst)[y - top :, x - left :]
            out[inside] = mask[inside] & kept[:TILE_PX, :TILE_PX]
    return out


def without_splinters(
    amorphous: NDArray[np.bool_], severity: NDArray[np.float32], least_px: float, reach_px: float
) -> NDArray[np.bool_]:
    """Drop small amorphous areas at whose edge the lattice is undisturbed.

    Where thickness or tilt takes the contrast away, chance leaves specks with little variance and no visible lattice;
    at the edge of what has really lost it, neighbourhoods that hold both stand out.

    Parameters
    ----------
    amorphous : bool array (y, x)
    severity : float32 array (y, x)
    least_px : float
        Larger areas are kept in any case, in square pixels.
    reach_px : float
        How far from an area its edge is felt, in pixels.
    """
    labels, count = ndimage.label(amorphous)
    kept = np.ones(count + 1, bool)
    reach = max(1, round(reach_px))
    for number, window in enumerate(ndimage.find_objects(labels), start=1):
        around = tuple(slice(max(s.start - reach, 0), s.stop + reach) for s in window)
        own = labels[around] == number
        if np.count_nonzero(own) < least_px:
            kept[number] = bool((severity[around][dilate(own, reach)] > NOTABLE).any())
    out: NDArray[np.bool_] = amorphous & kept[labels]
    return out


def complete_amorphous(
    amorphous: NDArray[np.bool_], mask: NDArray[np.bool_], spread_px: float, reach_px: float
) -> NDArray[np.bool_]:
    """Add to an amorphous area the strips along its edge that are not crystal either.

    Variance does not see them: the step of brightness at the edge of a film or a hole has plenty of it. Severity
    does, and it spreads beyond them by a known amount.

    Parameters
    ----------
    amorphous : bool array (y, x)
    mask : bool array (y, x)
        Symmetry defects, drawn in.
    spread_px : float
        How far the mask spreads beyond what is no crystal, in pixels.
    reach_px : float
        Widest strip, in pixels.
    """
    if not amorphous.any() or not mask.any():
        return amorphous
    either = amorphous | mask
    # Nothing further away can be added.
    near = surroundings(amorphous, round(reach_px))
    wider = surroundings(amorphous, round(reach_px) + round(spread_px))
    core = np.zeros_like(amorphous)
    core[wider] = ~dilate(~either[wider], spread_px)
    out = amorphous.copy()
    out[near] |= core[near] & dilate(amorphous[near], reach_px)
    return out


def fuse(symmetry: NDArray[np.bool_], amorphous: NDArray[np.bool_], reach_px: float) -> NDArray[np.uint8]:
    """One label image of both masks: 0 crystal, 1 symmetry defect, 2 amorphous or blurred.

    The neighbourhoods that are compared reach into an amorphous area from outside, so a rim of high severity
    surrounds it. What is marked there and nowhere further away belongs to the area's edge, not to a defect.

    Parameters
    ----------
    symmetry, amorphous : bool array (y, x)
    reach_px : float
        Width of that rim in pixels.
    """
    marked = symmetry & ~amorphous
    if amorphous.any() and marked.any():
        rim = marked & dilate(amorphous, reach_px)
        beyond = marked & ~rim
        if beyond.any():
            # A fault that runs into the area is kept up to its edge.
            rim &= ~dilate(beyond, reach_px)
        marked &= ~rim
    labels = marked.astype(np.uint8)
    labels[amorphous] = 2
    return labels


def dilate(mask: NDArray[np.bool_], reach_px: float) -> NDArray[np.bool_]:
    """Grow a mask by `reach_px` in all directions (an octagon, which takes a fraction of the time of a disk)."""
    reach = max(0, round(reach_px))
    if reach == 0 or not mask.any():
        return mask
    window = surroundings(mask, reach)
    part = mask[window]
    distance = ndimage.distance_transform_cdt(~part, metric="taxicab")
    square = ndimage.maximum_filter(part, size=2 * reach + 1)
    out = np.zeros_like(mask)
    out[window] = square & (distance <= reach * np.sqrt(2))
    return out


def surroundings(mask: NDArray[np.bool_], margin: int) -> tuple[slice, slice]:
    """Rows and columns of the bounding box of a mask that is not empty, `margin` px wider to all sides."""
    rows, columns = (
        slice(max(int(found[0]) - margin, 0), int(found[-1]) + 1 + margin)
        for found in (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    )
    return rows, columns
