"""What a measured map is like in the undisturbed crystal, and how often chance alone exceeds a severity.

The null of a map is taken from the image itself, conditional on the local contrast: where thickness, tilt or
composition change the contrast gradually or from a film to its substrate, every level has a null of its own, and
nothing needs to be decided about phases.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, special

from napari_hrstem_defects.core.autocorrelation import TINY
from napari_hrstem_defects.core.lattice import MIN_CELLS
from napari_hrstem_defects.core.preprocessing import CLIP_SHARE, Prepared, even_sample, sample_linear

#: Median window of the contrast level in periods: a point defect or a fault must not set its own level.
LEVEL_WINDOW = 5.0
#: Standard deviation of the kernel over levels (logarithms of power) and over distances from an interface (periods).
NULL_WIDTH = 0.2
#: Share of the area whose lowest and highest levels share the null of those next to them.
LEVEL_TAIL = 0.05
#: Quantiles of the map that its null is extrapolated from: as long as less than half is disturbed they are not.
QUANTILES = (0.2, 0.4)
#: How far from an interface windows hold both sides, in periods.
INTERFACE_REACH = LEVEL_WINDOW
#: Most peaks above a severity z in a clean image: area (periods²) · 10^(RATE − SLOPE·z). Clean simulated micrographs
#: have a third of them (benchmarks/accuracy/calibration.py); experimental ones are less even.
RATE, SLOPE = 1.3, 1.15


def contrast_level(prepared: Prepared, step_px: int) -> NDArray[np.float32]:
    """Logarithm of the local power, median over `LEVEL_WINDOW` periods, of every `step_px`-th pixel, ``(y, x)``."""
    rows, columns = (-(-n // step_px) for n in prepared.band.shape)
    # A foreign column must not set the level of what surrounds it.
    most = np.float32(np.quantile(even_sample(np.abs(prepared.band)), CLIP_SHARE))
    padded = np.pad(
        np.square(np.minimum(np.abs(prepared.band), most)),
        [(0, m * step_px - n) for m, n in zip((rows, columns), prepared.band.shape, strict=True)],
        mode="edge",
    )
    power = padded.reshape(rows, step_px, columns, step_px).mean(axis=(1, 3))
    period = prepared.period_px / step_px
    power = ndimage.gaussian_filter(power, 0.8 * period)
    floor = 1e-6 * float(np.median(power)) + float(np.finfo(np.float32).tiny)
    return local_median(np.log(np.maximum(power, floor)), period)


def local_median(values: NDArray[np.float32], period: float) -> NDArray[np.float32]:
    """Median over `LEVEL_WINDOW` periods around every sample."""
    # One sample a period is enough for a median over several.
    thin = max(1, round(period))
    size = round(LEVEL_WINDOW * period / thin) | 1
    coarse = ndimage.median_filter(values[thin // 2 :: thin, thin // 2 :: thin], size, mode="nearest")
    return sample_linear(coarse, *((np.arange(n) - thin // 2) / thin for n in values.shape))


def standardise(
    values: NDArray[np.floating],
    level: NDArray[np.floating],
    clean: NDArray[np.bool_],
    floor: float,
    period: float,
    *,
    ceiling: float = math.inf,
    weight: NDArray[np.floating] | None = None,
    interface: NDArray[np.floating] | None = None,
) -> NDArray[np.float32]:
    """Deviations from the null in robust standard deviations.

    Parameters
    ----------
    values : float array (y, x)
        Logarithms of a strength or a distance.
    level : float array (y, x)
        Contrast level that the null depends on.
    clean : bool array (y, x)
        Where the null is taken from: the inside of the domain; defects in it hardly matter.
    floor : float
        Standard deviation that is always there (pixel grid, scan), added in quadrature.
    period : float
        Lattice period in samples.
    ceiling : float
        Standard deviation that the undisturbed part does not exceed: where the lower quantiles are further apart, much
        of the crystal is disturbed.
    weight : float array (y, x), optional
        Share of a full window's information: the variance is divided by it.
    interface : float array (y, x), optional
        Distance to the nearest interface of intact lattices, in periods. Near it the null depends on that distance
        instead: only what stands out along an interface is a defect.

    Returns
    -------
    float32 array (y, x)
        About normal with mean 0 and standard deviation 1 in the undisturbed part.

    Examples
    --------
    Values of mean 3 and standard deviation 2, a tenth of them disturbed, which hardly matters:

    >>> import numpy as np, napari_hrstem_defects as hd
    >>> values = np.random.default_rng(0).normal(3, 2, (200, 200))
    >>> values[:20] += 50
    >>> z = hd.standardise(values, np.zeros(values.shape), np.ones(values.shape, bool), 0.0, 1.0)
    >>> abs(z[20:].mean()) < 0.15 and abs(z[20:].std() - 1) < 0.15 and abs(z[:20].mean() - 25) < 3
    np.True_
    """
    if not clean.any():
        return np.zeros(values.shape, np.float32)
    inside, band = clean, np.zeros(clean.shape, bool)
    if interface is not None:
        band = interface <= INTERFACE_REACH
        least = MIN_CELLS * period**2
        if min(np.count_nonzero(clean & band), np.count_nonzero(clean & ~band)) < least:
            band[:] = False
        inside = clean & ~band
    middle, spread = _null(values[inside], level[inside], level, NULL_WIDTH, ceiling)
    if band.any() and interface is not None:
        own = clean & band
        null = _null(values[own], interface[own], interface[band], NULL_WIDTH, ceiling)
        middle[band], spread[band] = null
    variance = spread**2 if weight is None else spread**2 / np.maximum(weight, TINY)
    return ((values - middle) / np.sqrt(variance + floor**2)).astype(np.float32)


def _null(
    values: NDArray[np.floating],
    levels: NDArray[np.floating],
    at: NDArray[np.floating],
    width: float,
    ceiling: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Median and standard deviation of the undisturbed values at each level, by a kernel over levels."""
    some, known = even_sample(values), even_sample(levels)
    low, high = np.quantile(known, (LEVEL_TAIL, 1 - LEVEL_TAIL))
    nodes = np.linspace(low, high, 1 + math.ceil(float(high - low) / width))
    order = np.argsort(some)
    some, known = some[order].astype(np.float64), known[order].astype(np.float32)
    middles, spreads = np.empty(len(nodes)), np.empty(len(nodes))
    deviates = special.ndtri(QUANTILES)
    for i, node in enumerate(nodes):
        total = np.cumsum(
            np.exp(-0.5 * ((known - np.float32(node)) / np.float32(width)) ** 2), dtype=np.float64
        )
        a, b = (some[min(int(np.searchsorted(total, q * total[-1])), len(some) - 1)] for q in QUANTILES)
        spreads[i] = min((b - a) / (deviates[1] - deviates[0]), ceiling)
        middles[i] = a - deviates[0] * spreads[i]
    return np.interp(at, nodes, middles), np.interp(at, nodes, spreads)


def severity_of(false_marks: float, area_periods: float) -> float:
    """Severity that is exceeded by chance so often in a clean image.

    Parameters
    ----------
    false_marks : float
        Expected number of false marks.
    area_periods : float
        Area that is assessed, in squared lattice periods: the number of trials.

    Returns
    -------
    float
        In robust standard deviations.

    Examples
    --------
    Accepting ten times as many false marks is the same as looking at a tenth of the area:

    >>> import napari_hrstem_defects as hd
    >>> hd.severity_of(1.0, 1e4) == hd.severity_of(0.1, 1e3)
    True
    >>> hd.severity_of(1.0, 1e3)  # (log10(1000 / 1) + 1.3) / 1.15
    3.7391
    """
    return (math.log10(max(area_periods, 1.0) / false_marks) + RATE) / SLOPE


def false_marks_of(severity: float, area_periods: float) -> float:
    """Inverse of :func:`severity_of`."""
    return max(area_periods, 1.0) * 10 ** (RATE - SLOPE * severity)
