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
#: Deeper inside than this, in periods, there are fewer such traces, and so many windows together tell a lattice of a
#: smaller share: the best peak of their mean stands out of the other directions by this share of what it does in the
#: patch.
DEEP_PERIODS = 6.0
DEEP_FAINTEST = 0.002
DEEP_WINDOWS = 30
DEEP_SHARE = 0.35
#: Of more windows than this some, evenly chosen, are enough.
DEEP_MOST = 1000
#: Peaks at lags that differ by less than this in length, in periods, differ in direction.
SAME_LENGTH = 0.12
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
    own = prepared.band[patch]
    edge = min(round(WINDOW_PERIODS * period), *own.shape)
    step = max(1, round(STEP_PERIODS * period))
    neighbours = _Neighbours.of(edge, period)
    rows, columns = (n.ravel() for n in np.meshgrid(*_grid(own.shape, edge, step), indexing="ij"))
    floor = FAINTEST * float(np.mean(own**2))
    known = neighbours.correlations(own, rows, columns, floor)
    reference = float(np.median(known.max(axis=1)))
    ys, xs = _grid(where.shape, edge, step)
    # Only windows whose cell of the grid holds a candidate are looked at.
    cell_y = np.abs(np.arange(where.shape[0])[:, None] - (ys + edge / 2)[None]).argmin(axis=1)
    cell_x = np.abs(np.arange(where.shape[1])[:, None] - (xs + edge / 2)[None]).argmin(axis=1)
    asked = np.zeros((len(ys), len(xs)), bool)
    here = np.nonzero(where)
    asked[cell_y[here[0]], cell_x[here[1]]] = True
    row, column = np.nonzero(asked)
    correlations = neighbours.correlations(prepared.band, ys[row], xs[column], floor)
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
        depth = ndimage.distance_transform_edt(np.pad(cells == number, 1, mode="edge"))[1:-1, 1:-1]
        row, column = np.nonzero(depth * step > DEEP_PERIODS * period)
        if len(row) >= DEEP_WINDOWS:
            some = slice(None, None, -(-len(row) // DEEP_MOST))
            traces = DEEP_FAINTEST * float(np.mean(own**2))
            inside = neighbours.correlations(prepared.band, ys[row[some]], xs[column[some]], traces)
            in_patch = neighbours.correlations(own, rows, columns, traces)
            if neighbours.clearness(inside) > DEEP_SHARE * neighbours.clearness(in_patch):
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


@dataclass(frozen=True, eq=False)
class _Neighbours:
    """Lags in a square window at which nearest neighbours are expected.

    Attributes
    ----------
    weight : float32 array (edge, edge)
        Window.
    lags : bool array (size, size // 2 + 1)
        Those lags of an autocorrelation; as it is even, half of the ring says it all.
    pairs, share : float, float32 array (lags,)
        Weight of the pairs of pixels at lag 0, and of those at each lag as a share of it.
    lengths : float64 array (lags,)
        In periods.
    """

    weight: NDArray[np.float32]
    lags: NDArray[np.bool_]
    pairs: float
    share: NDArray[np.float32]
    lengths: NDArray[np.float64]

    @classmethod
    def of(cls, edge: int, period: float) -> _Neighbours:
        """For windows of `edge` px."""
        weight = np.outer(*(np.hanning(edge + 2)[1:-1],) * 2).astype(np.float32)
        size = fft.next_fast_len(2 * edge, real=True)
        lag = np.minimum(np.arange(size), size - np.arange(size))
        radius = np.hypot(lag[:, None], lag[None, :]) / period
        ring = (radius >= LAG_RANGE[0]) & (radius <= LAG_RANGE[1]) & (np.arange(size) < edge)[:, None]
        pairs = _acf(weight[None], size)[0]
        ring &= pairs > 0.05 * pairs[0, 0]
        return cls(weight, ring, float(pairs[0, 0]), pairs[ring] / pairs[0, 0], radius[ring])

    def correlations(
        self, image: NDArray[np.float32], ys: NDArray[np.intp], xs: NDArray[np.intp], floor: float
    ) -> NDArray[np.float32]:
        """Normalised autocorrelation of windows with these corners, ``(n, lags)``.

        `floor` is added to the mean square that it is divided by.
        """
        if not self.lags.any():
            return np.ones((len(ys), 1), np.float32)
        windows = np.lib.stride_tricks.sliding_window_view(image, self.weight.shape)
        out = np.empty((len(ys), len(self.share)), dtype=np.float32)
        for start in range(0, len(ys), BATCH):
            part = slice(start, start + BATCH)
            tiles = windows[ys[part], xs[part]]
            tiles = (tiles - tiles.mean(axis=(1, 2), keepdims=True)) * self.weight
            acf = _acf(tiles, len(self.lags))
            centre = np.maximum(acf[:, 0, 0] + np.float32(floor * self.pairs), np.finfo(np.float32).tiny)
            out[part] = acf[:, self.lags] / self.share / centre[:, None]
        return out

    def clearness(self, correlations: NDArray[np.float32]) -> float:
        """By how much the best peak of their mean exceeds its median over lags of the same length."""
        if not self.lags.any():
            return 0.0
        mean = correlations.mean(axis=0)
        best = int(np.argmax(mean))
        return float(mean[best] - np.median(mean[np.abs(self.lengths - self.lengths[best]) < SAME_LENGTH]))


def _acf(tiles: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    spectrum = fft.rfft2(tiles, s=(size, size))
    out: NDArray[np.float32] = fft.irfft2(spectrum.real**2 + spectrum.imag**2, s=(size, size))
    return out
