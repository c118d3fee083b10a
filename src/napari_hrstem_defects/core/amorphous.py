"""Amorphous, blurred and beam-damaged areas of the lattice-aware mode: little variance and no lattice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from napari_hrstem_defects.core.preprocessing import Prepared
from napari_hrstem_defects.core.recipe import VarianceParams
from napari_hrstem_defects.core.segmentation import dilate, surroundings
from napari_hrstem_defects.core.variance import local_variance

#: Edge of the windows whose autocorrelation is searched for a lattice, and their distance, in periods.
WINDOW_PERIODS = 4.0
STEP_PERIODS = 1.0
#: Smallest width of an area without lattice that is believed, in periods.
SEED_PERIODS = 1.5
#: Smallest amorphous area, in squared periods.
LEAST_AREA_PERIODS = 6.0
#: How far windows see a lattice beyond its edge, in periods: a window, for the part inside outweighs the rest.
EDGE_PERIODS = 4.5
#: Nothing with more than this share of the crystal's variance is taken for amorphous.
MOST_VARIANCE = 0.6
#: Lags at which nearest neighbours are expected, in periods.
LAG_RANGE = (0.85, 1.6)
#: The same for the mean over all windows of an area, in which noise averages out.
TOGETHER_SHARE = 0.25
#: A lattice with less than about this share of the model patch's power is none: the band-pass carries traces of the
#: crystal's edge far into empty areas.
FAINTEST = 0.04
#: Windows transformed at once.
BATCH = 64
#: An area has lost the lattice where its best peak is below this share of the model patch's.
PEAK_SHARE = 0.5


@dataclass(frozen=True, eq=False)
class VarianceMap:
    """Local variance and where it points to lost crystal order.

    Attributes
    ----------
    variance : float32 array (y', x')
        Local variance of the band-passed image, in squared grey values of the frame, in pixels of the prepared
        image.
    amorphous : bool array (y', x')
        Little variance, connected to a place without lattice.
    """

    variance: NDArray[np.float32]
    amorphous: NDArray[np.bool_]

    def in_frame(self, prepared: Prepared) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Both maps in pixels of the frame."""
        return (
            np.maximum(prepared.to_frame(self.variance), 0),
            prepared.to_frame(self.amorphous.astype(np.float32)) > 0.5,
        )


def variance_map(prepared: Prepared, patch: tuple[slice, slice], params: VarianceParams) -> VarianceMap:
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
    seeds = _aperiodic(prepared, candidates, patch)
    amorphous = np.zeros_like(candidates)
    if seeds.any():
        # Windows that straddle the edge still see lattice: the area reaches further than its seeds.
        near = dilate(seeds, EDGE_PERIODS * prepared.period_px)
        around = dilate(near, EDGE_PERIODS * prepared.period_px) & ~near
        # Its edge lies halfway between the variance inside and that of the crystal around it.
        crystal = min(float(np.median(variance[around])), typical) if around.any() else typical
        middle = 0.5 * (float(np.median(variance[seeds])) + crystal)
        low = near & (variance < min(middle, MOST_VARIANCE * crystal))
        # Only what is connected to a seed, and not the splinters that noise leaves.
        labels, count = ndimage.label(low)
        areas = np.bincount(labels.ravel(), minlength=count + 1)
        kept = np.zeros(count + 1, bool)
        kept[np.unique(labels[seeds])] = True
        kept &= areas >= LEAST_AREA_PERIODS * prepared.period_px**2
        kept[0] = False
        amorphous = kept[labels]
    return VarianceMap(variance, amorphous)


def _open(mask: NDArray[np.bool_], reach: int) -> NDArray[np.bool_]:
    """Drop what is narrower than a square of ``2 reach + 1`` px; the rim of the image is no edge."""
    out = np.zeros_like(mask)
    if mask.any():
        # One pixel beyond it, so that what is not the rim of the image does not look like it.
        window = surroundings(mask, 1)
        eroded = ndimage.minimum_filter(mask[window], size=2 * reach + 1, mode="nearest")
        out[window] = ndimage.maximum_filter(eroded, size=2 * reach + 1, mode="nearest")
    return out


def _aperiodic(prepared: Prepared, where: NDArray[np.bool_], patch: tuple[slice, slice]) -> NDArray[np.bool_]:
    """Connected parts of a mask in which no lattice is seen, neither locally nor on average."""
    out = np.zeros(where.shape, bool)
    if not where.any():
        return out
    period = prepared.period_px
    edge = max(8, min(round(WINDOW_PERIODS * period), *where.shape))
    step = max(1, round(STEP_PERIODS * period))
    own = prepared.band[patch]
    rows, columns = np.meshgrid(*_grid(own.shape, edge, step), indexing="ij")
    floor = FAINTEST * float(np.mean(own**2))
    known = _correlations(own, edge, rows.ravel(), columns.ravel(), period, floor)
    reference = float(np.median(known.max(axis=1)))
    ys, xs = _grid(where.shape, edge, step)
    # Only windows whose cell of the grid holds a candidate are looked at.
    cell_y = np.abs(np.arange(where.shape[0])[:, None] - (ys + edge / 2)[None]).argmin(axis=1)
    cell_x = np.abs(np.arange(where.shape[1])[:, None] - (xs + edge / 2)[None]).argmin(axis=1)
    asked = np.zeros((len(ys), len(xs)), bool)
    here = np.nonzero(where)
    asked[cell_y[here[0]], cell_x[here[1]]] = True
    row, column = np.nonzero(asked)
    correlations = _correlations(prepared.band, edge, ys[row], xs[column], period, floor)
    lost = np.zeros(asked.shape, bool)
    lost[asked] = correlations.max(axis=1) < PEAK_SHARE * reference
    # A single window without peaks is chance.
    seeds = _open(where & lost[np.ix_(cell_y, cell_x)], max(1, round(SEED_PERIODS * period / 2)))
    labels, count = ndimage.label(seeds)
    cells = labels[
        np.ix_(*(np.clip(c + edge // 2, 0, n - 1) for c, n in zip((ys, xs), where.shape, strict=True)))
    ]
    for number in range(1, count + 1):
        # Under heavy noise no window shows the lattice, but all of them together do.
        together = correlations[cells[asked] == number]
        if len(together) and together.mean(axis=0).max() > TOGETHER_SHARE * reference:
            continue
        out |= labels == number
    return out


def _grid(shape: tuple[int, ...], edge: int, step: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Corners of windows spread evenly, about `step` apart, as rows and columns."""
    ys, xs = (
        np.rint(np.linspace(0, n - min(edge, n), max(1, (n - min(edge, n)) // step + 1))).astype(np.intp)
        for n in shape
    )
    return ys, xs


def _correlations(
    image: NDArray[np.float32],
    edge: int,
    ys: NDArray[np.intp],
    xs: NDArray[np.intp],
    period: float,
    floor: float,
) -> NDArray[np.float32]:
    """Normalised autocorrelation of windows with these corners, at the lags of nearest neighbours, ``(n, lags)``.

    `floor` is added to the mean square that it is divided by.
    """
    edge = min(edge, *image.shape)
    windows = np.lib.stride_tricks.sliding_window_view(image, (edge, edge))
    weight = np.outer(*(np.hanning(edge + 2)[1:-1],) * 2).astype(np.float32)
    size = fft.next_fast_len(2 * edge, real=True)
    lag = np.minimum(np.arange(size), size - np.arange(size))
    radius = np.hypot(lag[:, None], lag[None, :]) / period
    # The autocorrelation is even: half of the ring says it all.
    ring = (radius >= LAG_RANGE[0]) & (radius <= LAG_RANGE[1]) & (np.arange(size) < edge)[:, None]
    pairs = _acf(weight[None], size)[0]
    ring &= pairs > 0.05 * pairs[0, 0]
    if not ring.any():
        return np.ones((len(ys), 1), np.float32)
    share = pairs[ring] / pairs[0, 0]
    out = np.empty((len(ys), len(share)), dtype=np.float32)
    for start in range(0, len(ys), BATCH):
        part = slice(start, start + BATCH)
        tiles = windows[ys[part], xs[part]]
        tiles = (tiles - tiles.mean(axis=(1, 2), keepdims=True)) * weight
        acf = _acf(tiles, size)
        centre = np.maximum(acf[:, 0, 0] + np.float32(floor) * pairs[0, 0], np.finfo(np.float32).tiny)
        out[part] = acf[:, ring] / share / centre[:, None]
    return out


def _acf(tiles: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    spectrum = fft.rfft2(tiles, s=(size, size))
    out: NDArray[np.float32] = fft.irfft2(spectrum.real**2 + spectrum.imag**2, s=(size, size))
    return out
