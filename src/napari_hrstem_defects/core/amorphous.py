"""Amorphous, blurred and beam-damaged areas of the lattice-aware mode: little variance and no lattice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from napari_hrstem_defects.core.preprocessing import Prepared, resize_linear
from napari_hrstem_defects.core.recipe import VarianceParams
from napari_hrstem_defects.core.variance import local_variance

#: Edge of the windows whose autocorrelation is searched for a lattice, and their distance, in periods.
WINDOW_PERIODS = 4.0
STEP_PERIODS = 1.0
#: Smallest width of an area without lattice that is believed, in periods.
SEED_PERIODS = 1.5
#: Lags at which nearest neighbours are expected, in periods.
LAG_RANGE = (0.85, 1.6)
#: An area has lost the lattice where its best peak is below this share of the model patch's.
PEAK_SHARE = 0.5


@dataclass(frozen=True, eq=False)
class VarianceMap:
    """Local variance and where it points to lost crystal order.

    Attributes
    ----------
    variance : float32 array (y, x)
        Local variance of the band-passed image, in squared grey values of the frame.
    amorphous : bool array (y, x)
        Little variance, connected to a place without lattice.
    """

    variance: NDArray[np.float32]
    amorphous: NDArray[np.bool_]


def variance_map(
    prepared: Prepared, patch: tuple[slice, slice], params: VarianceParams
) -> VarianceMap:
    """Local variance of the band-passed image and the amorphous areas.

    Parameters
    ----------
    prepared : Prepared
    patch : tuple of slice
        Rows and columns of the model patch in pixels of the prepared image.
    params : VarianceParams
        ``window_px``, ``window_periods`` and ``fraction`` are used.
    """
    scale = float(prepared.scale.mean())
    window = max(3, round(max(params.window_px * scale, params.window_periods * prepared.period_px)))
    variance = local_variance(prepared.band, window)
    typical = float(np.median(variance[patch]))
    candidates = variance < params.fraction * typical
    seeds = candidates & ~_periodic(prepared, candidates, patch)
    amorphous = np.zeros_like(candidates)
    # A single window without peaks is chance.
    seeds = ndimage.binary_opening(seeds, iterations=max(1, round(SEED_PERIODS * prepared.period_px / 2)))
    if seeds.any():
        # The edge of an area lies halfway between the variance inside and that of the crystal.
        inside = float(np.median(variance[seeds]))
        extended = variance < max(params.fraction * typical, 0.5 * (inside + typical))
        # Windows that straddle the edge still see lattice: the area reaches half a window further than its seeds.
        reach = 0.5 * WINDOW_PERIODS * prepared.period_px
        amorphous = extended & (ndimage.distance_transform_edt(~seeds) <= reach)
    shape = prepared.shape
    return VarianceMap(
        np.maximum(resize_linear(variance, shape), 0), resize_linear(amorphous.astype(np.float32), shape) > 0.5
    )


def _periodic(
    prepared: Prepared, where: NDArray[np.bool_], patch: tuple[slice, slice]
) -> NDArray[np.bool_]:
    """Whether a lattice is seen around each pixel; True where nothing was asked."""
    out = np.ones(where.shape, bool)
    if not where.any():
        return out
    period = prepared.period_px
    edge = max(8, min(round(WINDOW_PERIODS * period), *where.shape))
    step = max(1, round(STEP_PERIODS * period))
    reference = float(np.median(_peaks(prepared.band[patch], edge, step, period)[0]))
    rows, columns = np.nonzero(where.any(axis=1))[0], np.nonzero(where.any(axis=0))[0]
    y0, x0 = max(rows[0] - edge // 2, 0), max(columns[0] - edge // 2, 0)
    y1, x1 = min(rows[-1] + edge // 2 + 1, where.shape[0]), min(columns[-1] + edge // 2 + 1, where.shape[1])
    y0, x0 = min(y0, where.shape[0] - edge), min(x0, where.shape[1] - edge)
    y1, x1 = max(y1, y0 + edge), max(x1, x0 + edge)
    peaks, ys, xs = _peaks(prepared.band[y0:y1, x0:x1], edge, step, period)
    near_y = np.abs(np.arange(y0, y1)[:, None] - y0 - (ys + edge / 2)[None]).argmin(axis=1)
    near_x = np.abs(np.arange(x0, x1)[:, None] - x0 - (xs + edge / 2)[None]).argmin(axis=1)
    out[y0:y1, x0:x1] = peaks[np.ix_(near_y, near_x)] > PEAK_SHARE * reference
    return out


def _peaks(
    image: NDArray[np.float32], edge: int, step: int, period: float
) -> tuple[NDArray[np.float32], NDArray[np.intp], NDArray[np.intp]]:
    """Highest normalised autocorrelation at the lags of nearest neighbours, on a grid of windows."""
    edge = min(edge, *image.shape)
    ys, xs = (
        np.rint(np.linspace(0, n - edge, max(1, (n - edge) // step + 1))).astype(np.intp) for n in image.shape
    )
    windows = np.lib.stride_tricks.sliding_window_view(image, (edge, edge))
    weight = np.outer(*(np.hanning(edge + 2)[1:-1],) * 2).astype(np.float32)
    size = fft.next_fast_len(2 * edge, real=True)
    lag = np.minimum(np.arange(size), size - np.arange(size))
    radius = np.hypot(lag[:, None], lag[None, :]) / period
    ring = (radius >= LAG_RANGE[0]) & (radius <= LAG_RANGE[1])
    pairs = _acf(weight[None], size)[0]
    ring &= pairs > 0.05 * pairs[0, 0]
    if not ring.any():
        return np.ones((len(ys), len(xs)), np.float32), ys, xs
    share = pairs[ring] / pairs[0, 0]
    out = np.empty((len(ys), len(xs)), dtype=np.float32)
    for i, y in enumerate(ys):
        tiles = windows[y, xs]
        tiles = (tiles - tiles.mean(axis=(1, 2), keepdims=True)) * weight
        acf = _acf(tiles, size)
        centre = np.maximum(acf[:, 0, 0], np.finfo(np.float32).tiny)
        out[i] = (acf[:, ring] / share).max(axis=1) / centre
    return out, ys, xs


def _acf(tiles: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    spectrum = fft.rfft2(tiles, s=(size, size))
    out: NDArray[np.float32] = fft.irfft2(spectrum.real**2 + spectrum.imag**2, s=(size, size))
    return out
