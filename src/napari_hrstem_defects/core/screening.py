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
#: Distances of identical patches differ by rounding only; the scatter is taken to be at least this.
MIN_SCATTER = 0.01


def signatures(prepared: Prepared, grid: PatchGrid) -> NDArray[np.float32]:
    """Normalised autocorrelation of each patch out to `SIGNATURE_RADIUS` periods.

    Parameters
    ----------
    prepared : Prepared
    grid : PatchGrid
        In pixels of the frame.

    Returns
    -------
    float32 array (n_y, n_x, d)
        The lags of one half plane; the centre, which holds the noise, is left out of the list but is what the
        values are divided by.
    """
    edge = patch_edge(prepared, grid.size)
    radius = min(int(np.ceil(SIGNATURE_RADIUS * prepared.period_px)), edge // 2)
    window = np.outer(*(np.hanning(edge + 2)[1:-1],) * 2).astype(np.float32)
    lag_y, lag_x = np.mgrid[0 : radius + 1, -radius : radius + 1]
    chosen = (np.hypot(lag_y, lag_x) <= radius) & ((lag_y > 0) | (lag_x > 0))
    padded = fft.next_fast_len(edge + radius + 1, real=True)
    pairs = _autocorrelate(window[None], padded)[0][lag_y[chosen], lag_x[chosen] % padded]
    corners = patch_corners(prepared, grid)
    windows = np.lib.stride_tricks.sliding_window_view(prepared.values, (edge, edge))
    out = np.empty((*grid.counts, np.count_nonzero(chosen)), dtype=np.float32)
    for row in range(grid.counts[0]):
        tiles = windows[corners[row, :, 0], corners[row, :, 1]]
        tiles = (tiles - tiles.mean(axis=(1, 2), keepdims=True)) * window
        acf = _autocorrelate(tiles, padded)
        centre = np.maximum(acf[:, 0, 0], np.finfo(np.float32).tiny)[:, None]
        out[row] = acf[:, lag_y[chosen], lag_x[chosen] % padded] / centre * (window**2).sum() / pairs
    return out


def _autocorrelate(tiles: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    spectrum = fft.rfft2(tiles, s=(size, size))
    out: NDArray[np.float32] = fft.irfft2(spectrum.real**2 + spectrum.imag**2, s=(size, size))
    return out


def screen(prepared: Prepared, grid: PatchGrid, params: ClassifyParams) -> PatchTable:
    """Judge patches by their autocorrelation and contrast relative to the image.

    The typical patch is the one with the closest company among its peers, a density peak: a median over all
    patches would lie between two grains of equal area and call both defective.

    Parameters
    ----------
    prepared : Prepared
    grid : PatchGrid
    params : ClassifyParams
        ``cutoff`` and ``min_variance`` are used.

    Returns
    -------
    PatchTable
        Scores are distances from the typical patch in robust standard deviations above the median.
    """
    marks = signatures(prepared, grid)
    flat = marks.reshape(-1, marks.shape[-1])
    count = len(flat)
    squares = (flat**2).sum(axis=1)
    between = np.sqrt(np.maximum(squares[:, None] + squares[None] - 2 * flat @ flat.T, 0) / flat.shape[1])
    contrast = patch_means(
        np.square(prepared.band), patch_corners(prepared, grid), patch_edge(prepared, grid.size)
    ).ravel()
    faint = contrast < params.min_variance * np.median(contrast)
    peers = max(1, round(PEER_SHARE * count))
    company = np.sort(between, axis=1)[:, min(peers, count - 1)]
    company = np.where(faint & ~faint.all(), np.inf, company)
    distance = between[int(np.argmin(company))]
    median = float(np.median(distance))
    scatter = max(MAD_TO_SIGMA * float(np.median(np.abs(distance - median))), MIN_SCATTER)
    scores = ((distance - median) / scatter).astype(np.float32)
    defective = (scores > params.cutoff) | faint
    shape = grid.counts
    return PatchTable(grid, scores.reshape(shape), params.cutoff, defective.reshape(shape))
