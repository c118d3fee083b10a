"""Training-free patch classifier: a patch whose autocorrelation is unlike that of its peers is defective."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from napari_hrstem_defects.core.geometry import patch_corners, patch_edge, patch_means
from napari_hrstem_defects.core.patches import PatchGrid, PatchTable
from napari_hrstem_defects.core.preprocessing import Prepared
from napari_hrstem_defects.core.recipe import ClassifyParams
from napari_hrstem_defects.core.segmentation import MAD_TO_SIGMA

#: Lags compared, in periods: the nearest neighbours and the ones behind them.
SIGNATURE_RADIUS = 2.2
#: Share of the patches among which the typical one must have close company.
PEER_SHARE = 0.2
#: A patch has lost all order where its autocorrelation, from `ORDER_FROM` periods on, nowhere reaches this share of
#: what it reaches in the best tenth of the patches.
ORDER_FROM = 0.8
LOST_SHARE = 1 / 3
BEST_TENTH = 0.9
#: Lags compared between the quarters of a patch, and the least size of a quarter, in periods.
QUARTER_RADIUS = 1.6
QUARTER_PERIODS = 2.0
#: Patches transformed at once.
BATCH = 64
#: Distances of identical patches differ by rounding only; the scatter is taken to be at least this.
MIN_SCATTER = 0.01


def signatures(
    prepared: Prepared, corners: NDArray[np.intp], edge: int, radius_px: float
) -> NDArray[np.float32]:
    """Normalised autocorrelation of square pieces of the prepared image.

    Parameters
    ----------
    prepared : Prepared
    corners : int array (n, 2)
        Top-left corners in pixels of the prepared image.
    edge : int
        Edge of a piece in pixels.
    radius_px : float
        Largest lag, at most half the edge.

    Returns
    -------
    float32 array (n, d)
        The lags of one half plane; the centre, which holds the noise, is left out of the list but is what the
        values are divided by.
    """
    lag_y, lag_x = _lags(radius_px, edge)
    radius = int(lag_y.max())
    window = np.outer(*(np.hanning(edge + 2)[1:-1],) * 2).astype(np.float32)
    padded = fft.next_fast_len(edge + radius + 1, real=True)
    pairs = _autocorrelate(window[None], padded)[0][lag_y, lag_x % padded]
    windows = np.lib.stride_tricks.sliding_window_view(prepared.values, (edge, edge))
    out = np.empty((len(corners), len(lag_y)), dtype=np.float32)
    for start in range(0, len(corners), BATCH):
        part = slice(start, start + BATCH)
        tiles = windows[corners[part, 0], corners[part, 1]]
        tiles = (tiles - tiles.mean(axis=(1, 2), keepdims=True)) * window
        acf = _autocorrelate(tiles, padded)
        centre = np.maximum(acf[:, 0, 0], np.finfo(np.float32).tiny)[:, None]
        out[part] = acf[:, lag_y, lag_x % padded] / centre * (window**2).sum() / pairs
    return out


def _lags(radius_px: float, edge: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of the lags of one half plane within a radius, the centre left out."""
    radius = min(int(np.ceil(radius_px)), edge // 2)
    lag_y, lag_x = np.mgrid[0 : radius + 1, -radius : radius + 1]
    chosen = (np.hypot(lag_y, lag_x) <= radius) & ((lag_y > 0) | (lag_x > 0))
    return lag_y[chosen], lag_x[chosen]


def _autocorrelate(tiles: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    spectrum = fft.rfft2(tiles, s=(size, size))
    out: NDArray[np.float32] = fft.irfft2(spectrum.real**2 + spectrum.imag**2, s=(size, size))
    return out


def _unevenness(prepared: Prepared, corners: NDArray[np.intp], edge: int) -> NDArray[np.float32]:
    """Largest distance between the autocorrelations of the four quarters of each patch.

    A patch across a boundary between two equal grains resembles neither, but lies no further from the typical
    patch than the other grain does.
    """
    half = edge // 2
    if half < QUARTER_PERIODS * prepared.period_px:
        return np.zeros(len(corners), np.float32)
    quarters = np.concatenate(
        [corners + np.array([y, x]) for y in (0, edge - half) for x in (0, edge - half)]
    )
    marks = signatures(prepared, quarters, half, QUARTER_RADIUS * prepared.period_px)
    marks = marks.reshape(4, len(corners), -1)
    worst = np.zeros(len(corners), np.float32)
    for a in range(4):
        for b in range(a):
            worst = np.maximum(worst, np.sqrt(((marks[a] - marks[b]) ** 2).mean(axis=1)))
    return worst


def _without_order(marks: NDArray[np.float32], prepared: Prepared, edge: int) -> NDArray[np.bool_]:
    """Which patches show no repeat where others do, as on an amorphous support."""
    far = np.hypot(*_lags(SIGNATURE_RADIUS * prepared.period_px, edge)) > ORDER_FROM * prepared.period_px
    if not far.any():
        return np.zeros(len(marks), bool)
    order = marks[:, far].max(axis=1)
    lost: NDArray[np.bool_] = order < LOST_SHARE * np.quantile(order, BEST_TENTH)
    return lost


def _standardised(values: NDArray[np.floating], among: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Robust standard deviations above the median of some of the values."""
    median = float(np.median(values[among]))
    scatter = max(MAD_TO_SIGMA * float(np.median(np.abs(values[among] - median))), MIN_SCATTER)
    out: NDArray[np.float32] = ((values - median) / scatter).astype(np.float32)
    return out


def screen(prepared: Prepared, grid: PatchGrid, params: ClassifyParams) -> PatchTable:
    """Judge patches by their autocorrelation and contrast relative to the image.

    The typical patch is the one with the closest company among its peers, a density peak: a median over all
    patches would lie between two grains of equal area and call both defective. Patches that show no repeat where others
    do are defective, and no measure for the others, be they the most.

    Parameters
    ----------
    prepared : Prepared
    grid : PatchGrid
    params : ClassifyParams
        ``cutoff`` and ``min_variance`` are used.

    Returns
    -------
    PatchTable
        Scores are robust standard deviations above the median, of the distance from the typical patch or of the
        largest distance between a patch's own quarters, whichever is more.
    """
    edge = patch_edge(prepared, grid.size)
    corners = patch_corners(prepared, grid).reshape(-1, 2)
    flat = signatures(prepared, corners, edge, SIGNATURE_RADIUS * prepared.period_px)
    count = len(flat)
    squares = (flat**2).sum(axis=1)
    between = np.sqrt(np.maximum(squares[:, None] + squares[None] - 2 * flat @ flat.T, 0) / flat.shape[1])
    contrast = patch_means(
        np.square(prepared.band), patch_corners(prepared, grid), patch_edge(prepared, grid.size)
    ).ravel()
    lost = _without_order(flat, prepared, edge)
    faint = contrast < params.min_variance * np.median(contrast[~lost])
    peers = max(1, round(PEER_SHARE * count))
    company = np.sort(between, axis=1)[:, min(peers, count - 1)]
    company = np.where((faint | lost) & ~(faint | lost).all(), np.inf, company)
    distance = between[int(np.argmin(company))]
    scores = np.maximum(
        _standardised(distance, ~lost), _standardised(_unevenness(prepared, corners, edge), ~lost)
    )
    defective = (scores > params.cutoff) | faint | lost
    shape = grid.counts
    return PatchTable(grid, scores.reshape(shape), params.cutoff, defective.reshape(shape))
