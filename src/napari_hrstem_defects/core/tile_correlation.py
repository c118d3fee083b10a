"""Autocorrelation of tiles of an image, without background, contrast and white noise; alone or averaged.

White noise sits in the centre of an autocorrelation only, so the noise floor of the spectrum is taken off first:
without this the peaks of a low-dose crystal would look weak beside the centre.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage, special

from napari_hrstem_defects.core.sampling import even_sample

Floats = NDArray[np.float32]

#: Shifts longer than this share of a tile rest on too few pairs of pixels.
REACH = 0.45
#: Spatial frequencies (cycles/px) above which there is white noise only. Enlarged images have none there: then all
#: above 0.3 and 0.18 is left out, one after the other.
NOISE_BANDS = (0.4, 0.3, 0.18)
#: The centre must exceed the noise this many times, as must a peak; some 10⁴ shifts are searched.
MIN_SIGNIFICANCE = 6.0
#: Contrasts beyond this many standard deviations are cut: a single bright atom or hot pixel would be all that counts.
MOST_SIGMA = 6.0
#: Nodes to the side of the grid on which the local contrast of a tile is known, and of the one for its pairs.
_NODES, _COARSE = 8, 32


@dataclass(frozen=True, eq=False)
class Tile:
    """A tile's power spectrum and how the pairs of its pixels are spread over shifts.

    Attributes
    ----------
    power : float32 array (2·y, x + 1)
        Half spectrum of the windowed, zero-padded tile without its background.
    pairs : float32 array (2·r_y + 1, 2·r_x + 1)
        Weight of the pairs of pixels at each shift, 1 in the centre.
    edges : (int, int)
        Pixels (y, x) of the tile.
    """

    power: Floats
    pairs: Floats
    edges: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Autocorrelation:
    """Normalised autocorrelation without background and white noise; 1 in the centre.

    Attributes
    ----------
    values : float32 array (2·r_y + 1, 2·r_x + 1)
        The noise floor is taken off on average, so that it scatters around 0 where nothing repeats.
    denoised : float32 array (2·r_y + 1, 2·r_x + 1)
        The same with everything near the noise floor removed: peaks stand clear, heights are biased.
    noise : float32 array (2·r_y + 1, 2·r_x + 1)
        Standard deviation of `values` that white noise of the observed floor gives.
    """

    values: Floats
    denoised: Floats
    noise: Floats


def tile_of(pixels: NDArray[np.floating], valid: NDArray[np.bool_] | None = None) -> Tile:
    """Spectrum of a tile (y, x), and how its contrast is spread.

    Parameters
    ----------
    pixels : array (y, x)
    valid : bool array (y, x), optional
        Only these pixels count.
    """
    edges = (int(pixels.shape[0]), int(pixels.shape[1]))
    window = _window(edges)
    up = [_interpolation(n, _NODES) for n in edges]
    down = [_blocks(n, _NODES) for n in edges]
    image = pixels.astype(np.float32)
    if valid is not None:
        window = window * valid
        known = np.maximum(down[0] @ valid.astype(np.float32) @ down[1].T, 1e-3)
        image = np.where(valid, image, 0)
        flat = image - valid * (up[0] @ ((down[0] @ image @ down[1].T) / known) @ up[1].T)
        contrast = down[0] @ (flat * flat) @ down[1].T / known
    else:
        flat = image - up[0] @ (down[0] @ image @ down[1].T) @ up[1].T
        contrast = down[0] @ (flat * flat) @ down[1].T
    most = MOST_SIGMA * np.sqrt(np.quantile(contrast, 0.75))
    image = image + (np.clip(flat, -most, most) - flat)
    # Where half of a tile is empty, pairs count by the contrast that both places have.
    contrast = ndimage.gaussian_filter(contrast, 1.5)
    contrast = np.sqrt(contrast / max(float(contrast.max()), float(np.finfo(np.float32).tiny)))
    weight = window * (up[0] @ contrast @ up[1].T)
    image = (image - np.float32(np.vdot(image, weight) / max(float(weight.sum()), 1e-12))) * window
    spectrum = fft.rfft2(image, s=[2 * n for n in edges])
    power: Floats = spectrum.real**2 + spectrum.imag**2
    return Tile(power, _pairs(weight, edges), edges)


def autocorrelation(tiles: list[Tile], band: float = NOISE_BANDS[0]) -> Autocorrelation:
    """Mean normalised autocorrelation of tiles of equal size, shifts up to `REACH` of it.

    Parameters
    ----------
    tiles : list of Tile
    band : float
        One of `NOISE_BANDS`: where the white noise is measured, in cycles/px.
    """
    edges = tiles[0].edges
    keep, noisy = _spectral_weights(edges, band)
    total = np.zeros_like(keep)
    pairs = np.zeros_like(tiles[0].pairs)
    floor = squares = 0.0
    used = 0
    for tile in tiles:
        low = _floor(tile.power, noisy)
        centre = _centre(tile.power - low, keep)
        if centre <= 0:
            continue
        total += tile.power / np.float32(centre)
        pairs += tile.pairs
        floor, squares, used = floor + low / centre, squares + (low / centre) ** 2, used + 1
    if used == 0:
        nothing = np.zeros_like(pairs)
        return Autocorrelation(nothing, nothing, np.full_like(pairs, np.inf))
    values = _shifts((total - np.float32(floor)) * keep, edges, pairs)
    # The periodogram of white noise has an exponential distribution, the mean of several a gamma distribution.
    high = np.float32(floor * special.gammaincinv(used, 0.98) / used)
    denoised = _shifts(np.where(total > high, total - np.float32(floor), 0) * keep, edges, pairs)
    noise = np.float32(np.sqrt(squares)) * _spread(edges) / np.maximum(pairs, 1e-6)
    if band < NOISE_BANDS[0]:
        noise *= np.float32(np.sqrt(np.pi) * band)
    middle = (pairs.shape[0] // 2, pairs.shape[1] // 2)
    if values[middle] <= MIN_SIGNIFICANCE * noise[middle] or denoised[middle] <= 0:
        nothing = np.zeros_like(pairs)
        return Autocorrelation(nothing, nothing, np.full_like(pairs, np.inf))
    return Autocorrelation(values / values[middle], denoised / denoised[middle], noise / values[middle])


def _floor(power: Floats, noisy: NDArray[np.bool_]) -> float:
    return float(np.median(even_sample(power[noisy])) / np.log(2.0))


def _centre(power: Floats, keep: Floats) -> float:
    """Central value of the autocorrelation of a half spectrum: its sum, the inner columns twice."""
    size = 2.0 * power.shape[0] * (power.shape[1] - 1)
    inner = np.vdot(power[:, 1:-1], keep[:, 1:-1])
    rim = np.vdot(power[:, 0], keep[:, 0]) + np.vdot(power[:, -1], keep[:, -1])
    return float(2 * inner + rim) / size


@lru_cache(maxsize=16)
def _spectral_weights(edges: tuple[int, int], band: float) -> tuple[Floats, NDArray[np.bool_]]:
    """How much of each sample of a zero-padded half spectrum is no background, and which are noise only."""
    fy = fft.fftfreq(2 * edges[0])[:, None]
    fx = fft.rfftfreq(2 * edges[1])[None, :]
    radius = np.hypot(fy, fx)
    # Fewer than two periods in the tile is background; the taper avoids ringing.
    keep = (1.0 - np.exp(-0.5 * (radius * min(edges) / 2.0) ** 4)).astype(np.float32)
    if band == NOISE_BANDS[0]:
        return keep, radius > band
    keep[radius > band] = 0
    return keep, (radius > 0.8 * band) & (radius <= band)


@lru_cache(maxsize=8)
def _window(edges: tuple[int, int]) -> Floats:
    return np.outer(*(np.hanning(n + 2)[1:-1] for n in edges)).astype(np.float32)


@lru_cache(maxsize=32)
def _blocks(n: int, count: int) -> Floats:
    """Means of `count` blocks of `n` samples, as a matrix (count, n)."""
    rims = np.rint(np.linspace(0, n, count + 1)).astype(int)
    out = np.zeros((count, n), np.float32)
    for row, (start, stop) in enumerate(pairwise(rims)):
        out[row, start : max(stop, start + 1)] = 1.0 / max(stop - start, 1)
    return out


@lru_cache(maxsize=32)
def _interpolation(n: int, count: int) -> Floats:
    """From values in the middle of `count` blocks to `n` samples, as a matrix (n, count)."""
    place = (np.arange(n) + 0.5) * count / n - 0.5
    return np.maximum(0, 1 - np.abs(np.clip(place, 0, count - 1)[:, None] - np.arange(count))).astype(
        np.float32
    )


def _reach(n: int) -> int:
    return max(1, int(REACH * n))


def _pairs(weight: Floats, edges: tuple[int, int]) -> Floats:
    """Autocorrelation of a tile's smooth weights, from block means; 1 in the centre."""
    count = [min(n, _COARSE) for n in edges]
    small = _blocks(edges[0], count[0]) @ weight @ _blocks(edges[1], count[1]).T
    spectrum = fft.rfft2(small, s=[2 * c for c in count])
    coarse = fft.irfft2(spectrum.real**2 + spectrum.imag**2, s=[2 * c for c in count])
    coarse = fft.fftshift(coarse / max(float(coarse[0, 0]), 1e-12)).astype(np.float32)
    rows, columns = (_lag_interpolation(n, c) for n, c in zip(edges, count, strict=True))
    out: Floats = rows @ coarse @ columns.T
    return out


@lru_cache(maxsize=32)
def _lag_interpolation(n: int, count: int) -> Floats:
    """From shifts in blocks, zero in the middle, to shifts in px up to the reach."""
    place = np.arange(-_reach(n), _reach(n) + 1) * count / n + count
    return np.maximum(0, 1 - np.abs(place[:, None] - np.arange(2 * count))).astype(np.float32)


@lru_cache(maxsize=16)
def _spread(edges: tuple[int, int]) -> Floats:
    """Standard deviation that a noise floor of 1 gives the sum over all pairs at each shift."""
    spread = []
    for n in edges:
        window = np.hanning(n + 2)[1:-1]
        lags = slice(n - 1 - _reach(n), n + _reach(n))
        squares = np.correlate(window**2, window**2, "full")
        spread.append(np.sqrt(squares[lags]) / (window @ window))
    return np.outer(*spread).astype(np.float32)


def _shifts(power: Floats, edges: tuple[int, int], pairs: Floats) -> Floats:
    """Autocorrelation of a zero-padded half spectrum per pair; 0 where there are hardly any."""
    acf = fft.fftshift(fft.irfft2(power, s=[2 * n for n in edges]))
    rows, columns = (slice(n - r // 2, n + r // 2 + 1) for n, r in zip(edges, pairs.shape, strict=True))
    enough = pairs > 0.05 * pairs.max()
    out: Floats = np.where(enough, acf[rows, columns] / np.where(enough, pairs, 1), 0).astype(np.float32)
    return out
