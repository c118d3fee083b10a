"""Lattice period and basis of a patch, from its autocorrelation."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from napari_hrstem_defects.core.sampling import even_sample
from napari_hrstem_defects.core.threads import side_by_side

#: A peak of the autocorrelation counts as a lattice vector from this share of the best off-centre one: lower, and
#: similar columns within the cell pass for translations; higher, and noise drops true ones.
PEAK_SHARE = 0.8
#: Two vectors are taken for collinear below this sine of the angle between them.
MIN_SINE = 0.3
#: Between the centre and a lattice vector the autocorrelation falls below this share of the peak's height.
DIP_SHARE = 0.92
#: Vectors longer than this share of the patch rest on too few pairs of pixels.
MAX_LAG_SHARE = 0.45
#: Shortest period that can be told from noise, in pixels.
MIN_PERIOD_PX = 3.0
#: Spatial frequencies above this (cycles/px) are taken to hold white noise only.
NOISE_BAND = 0.4
#: Pixels of an image that was enlarged or turned are not independent, its noise is white only below some frequency:
#: where no lattice is seen, all above these (cycles/px) is left out, one after the other. So many more trials ask
#: for more certainty.
NARROWER_BANDS = (0.3, 0.18)
#: In fewer pixels than this to a side too little is left then.
NARROWER_FROM_PX = 64
#: Multiple of the noise floor above which a sample of the spectrum is taken for signal (e⁻⁴: 2 % of noise passes).
DENOISE_LEVEL = 4.0
#: A lattice peak must exceed the noise of the autocorrelation this many times; some 10⁴ lags are searched.
MIN_SIGNIFICANCE = 6.0
#: Below this height of the best peak a tile is not used to learn the period of an image.
MIN_STRENGTH = 0.45
#: Periods to the side of a tile that are needed to trust its lattice.
MIN_PERIODS = 3.5
#: Share of the tiles that must agree on being periodic, and the most tiles looked at.
MIN_TILE_SHARE = 0.2
MAX_TILES = 30
#: Lattices agree up to this turn in degrees, this stretch, and this ratio of the areas of their cells.
SAME_ANGLE_DEG = 3.0
SAME_STRETCH = 1.1
MOST_CELLS = 2.3


@dataclass(frozen=True)
class Lattice:
    """Translation lattice of a crystalline patch.

    Attributes
    ----------
    v1, v2 : tuple of float
        The two shortest non-collinear translation vectors ``(y, x)`` in pixels, ``|v1| <= |v2|``.
    period_px : float
        ``sqrt(|v1 × v2|)``: edge of a square of the area of the unit cell.
    strength : float
        Height of the best off-centre peak of the normalised autocorrelation (`ac`), 0...1; below 0.6 the
        patch is hardly crystalline.
    """

    v1: tuple[float, float]
    v2: tuple[float, float]
    period_px: float
    strength: float

    def scaled(self, factor: float) -> Lattice:
        """The same lattice in pixels that are `factor` times smaller."""
        (a, b), (c, d) = self.v1, self.v2
        return Lattice(
            (a * factor, b * factor), (c * factor, d * factor), self.period_px * factor, self.strength
        )


def power_spectrum(pixels: NDArray[np.floating]) -> NDArray[np.float32]:
    """Power spectrum of a Hann-windowed patch, zero-padded to twice its size.

    Parameters
    ----------
    pixels : array (y, x)

    Returns
    -------
    float32 array (2·y, x + 1)
        Half spectrum as of ``rfft2``; its transform is the plain, not the circular, autocorrelation.
    """
    window = _window(pixels.shape)
    tile = pixels.astype(np.float32)
    tile = (tile - np.vdot(tile, window) / window.sum()) * window
    spectrum = fft.rfft2(tile, s=[2 * n for n in pixels.shape])
    power: NDArray[np.float32] = spectrum.real**2 + spectrum.imag**2
    return power


@dataclass(frozen=True, eq=False)
class Autocorrelation:
    """Normalised autocorrelation of a patch without its background and its white noise.

    White noise sits in the centre of the autocorrelation only, so the noise floor of the spectrum is taken off
    first: without this the peaks of a low-dose crystal would look weak beside the centre.

    Attributes
    ----------
    values : float32 array (2·r_y + 1, 2·r_x + 1)
        1 in the centre; the noise floor is taken off on average, so the rest of it scatters around 0.
    denoised : float32 array (2·r_y + 1, 2·r_x + 1)
        The same with everything near the noise floor removed: peaks stand clear, heights are biased.
    noise : float32 array (2·r_y + 1, 2·r_x + 1)
        Standard deviation of `values` that white noise of the observed floor would give.
    """

    values: NDArray[np.float32]
    denoised: NDArray[np.float32]
    noise: NDArray[np.float32]


def autocorrelation(pixels: NDArray[np.floating], limit: float | None = None) -> Autocorrelation:
    """Normalised autocorrelation of an image or patch, lags up to `MAX_LAG_SHARE` of it.

    Parameters
    ----------
    pixels : array (y, x)
    limit : float, optional
        Spatial frequencies above are left out, in cycles/px; just below it there is white noise only. Without it the
        whole spectrum counts, and above `NOISE_BAND` there is white noise only.
    """
    return _of_spectrum(power_spectrum(pixels), pixels.shape, limit)


def _of_spectrum(power: NDArray[np.float32], edges: tuple[int, ...], limit: float | None) -> Autocorrelation:
    keep, noisy = _spectral_weights(edges, limit)
    # The periodogram of white noise is exponentially distributed: mean = median / ln 2.
    floor = np.float32(np.median(even_sample(power[noisy])) / np.log(2.0))
    pairs, spread = _window_lags(edges)
    values = _lags((power - floor) * keep, edges, pairs)
    denoised = _lags(np.where(power > DENOISE_LEVEL * floor, power, 0) * keep, edges, pairs)
    middle = (pairs.shape[0] // 2, pairs.shape[1] // 2)
    # A lag sums noise products, each of variance σ⁴ times the squared weights; floor = σ² Σ window².
    noise = floor * spread * np.float32(1.0 if limit is None else np.sqrt(np.pi) * limit)
    if values[middle] <= MIN_SIGNIFICANCE * noise[middle]:
        return Autocorrelation(np.zeros_like(values), np.zeros_like(values), np.full_like(values, np.inf))
    top = max(float(denoised[middle]), float(np.finfo(np.float32).tiny))
    return Autocorrelation(values / values[middle], denoised / top, noise / values[middle])


@lru_cache(maxsize=16)
def _spectral_weights(
    edges: tuple[int, ...], limit: float | None
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """How much of each sample of a zero-padded half spectrum is no background, and which are noise only."""
    fy = fft.fftfreq(2 * edges[0])[:, None]
    fx = fft.rfftfreq(2 * edges[1])[None, :]
    radius = np.hypot(fy, fx)
    # Fewer than two periods in the patch is background; the taper avoids ringing.
    keep = (1.0 - np.exp(-0.5 * (radius * min(edges) / 2.0) ** 4)).astype(np.float32)
    if limit is None:
        return keep, radius > NOISE_BAND
    keep[radius > limit] = 0
    return keep, (radius > 2 * NOISE_BAND * limit) & (radius <= limit)


@lru_cache(maxsize=8)
def _window(shape: tuple[int, ...]) -> NDArray[np.float32]:
    return np.outer(*(np.hanning(n + 2)[1:-1] for n in shape)).astype(np.float32)


def _lags(
    power: NDArray[np.float32], edges: tuple[int, ...], pairs: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Autocorrelation of a zero-padded half spectrum, divided by the number of pairs at each lag."""
    acf = fft.fftshift(fft.irfft2(power, s=[2 * n for n in edges]))
    rows, columns = (slice(n - r // 2, n + r // 2 + 1) for n, r in zip(edges, pairs.shape, strict=True))
    out: NDArray[np.float32] = (acf[rows, columns] / pairs).astype(np.float32)
    return out


@lru_cache(maxsize=32)
def _window_lags(edges: tuple[int, ...]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What the window does at each lag: weight of the pairs, and noise per unit of the noise floor."""
    pairs, spread = [], []
    for n in edges:
        window = np.hanning(n + 2)[1:-1]
        reach = max(1, int(MAX_LAG_SHARE * n))
        lags = slice(n - 1 - reach, n + reach)
        overlap = np.correlate(window, window, "full")
        squares = np.correlate(window**2, window**2, "full")
        pairs.append(overlap[lags] / overlap[n - 1])
        spread.append(np.sqrt(squares[lags]) / overlap[n - 1] / pairs[-1])
    return np.outer(*pairs).astype(np.float32), np.outer(*spread).astype(np.float32)


def lattice_of_autocorrelation(acf: Autocorrelation, *, both: bool = False) -> Lattice | None:
    """Lattice whose vectors are the two shortest strong peaks of a normalised autocorrelation.

    Parameters
    ----------
    acf : Autocorrelation
    both : bool
        Whether both must stand out of the noise, on average, and not just one of them.

    Returns
    -------
    Lattice or None
        None where fewer than two independent peaks stand out of the noise.
    """
    centre = np.array(acf.denoised.shape) // 2
    smooth = ndimage.gaussian_filter(acf.denoised, 1.0)
    peaks = np.argwhere((smooth == ndimage.maximum_filter(smooth, 3)) & (smooth > 0))
    peaks = peaks[((peaks > 0) & (peaks < np.array(smooth.shape) - 1)).all(axis=1)]
    lags = peaks - centre
    half = (lags[:, 0] > 0) | ((lags[:, 0] == 0) & (lags[:, 1] > 0))
    half &= np.hypot(*lags.T) >= MIN_PERIOD_PX
    peaks = peaks[half]
    if len(peaks) == 0:
        return None
    heights = smooth[tuple(peaks.T)]
    strong = heights >= PEAK_SHARE * heights.max()
    vectors = np.array([_refine(smooth, peak) for peak in peaks[strong]]) - centre
    vectors = vectors[np.argsort(np.hypot(*vectors.T), kind="stable")]
    basis = _reduced_basis(vectors)
    if basis is None or not all(_stands_apart(smooth, centre, v) for v in basis):
        return None
    heights = np.array([_height(acf.values, centre + v) for v in basis])
    noise = np.array([_height(acf.noise, centre + v) for v in basis])
    too_low = heights.sum() < MIN_SIGNIFICANCE * noise.sum() if both else heights < MIN_SIGNIFICANCE * noise
    if np.all(too_low):
        return None
    strength = float(heights.max())
    (a, b), (c, d) = basis.tolist()
    return Lattice((a, b), (c, d), float(np.sqrt(abs(a * d - b * c))), min(strength, 1.0))


def _reduced_basis(vectors: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """First two non-collinear vectors of a list sorted by length, the second made as short as it can be."""
    v1 = vectors[0]
    for v2 in vectors[1:]:
        cross = abs(v1[0] * v2[1] - v1[1] * v2[0])
        if cross > MIN_SINE * np.hypot(*v1) * np.hypot(*v2):
            return np.array([v1, v2 - np.round(v1 @ v2 / (v1 @ v1)) * v1])
    return None


def _stands_apart(smooth: NDArray[np.float32], centre: NDArray[np.intp], vector: NDArray[np.float64]) -> bool:
    """Whether there is a dip between the centre and a peak: along a stripe there is none."""
    steps = np.linspace(0.0, 1.0, 2 * int(np.ceil(np.hypot(*vector))) + 1)
    profile = ndimage.map_coordinates(smooth, (centre + steps[:, None] * vector).T, order=1, mode="nearest")
    return bool(profile.min() < DIP_SHARE * profile[-1])


def _height(values: NDArray[np.float32], position: NDArray[np.float64]) -> float:
    y, x = (int(np.clip(np.rint(p), 1, n - 2)) for p, n in zip(position, values.shape, strict=True))
    return float(values[y - 1 : y + 2, x - 1 : x + 2].max())


def find_lattice(pixels: NDArray[np.floating]) -> Lattice | None:
    """Lattice of a patch, None if it is not periodic in two directions.

    Parameters
    ----------
    pixels : array (y, x)
        Raw or prepared pixels.
    """
    power = power_spectrum(pixels)
    weak = None
    narrower = NARROWER_BANDS if min(pixels.shape) >= NARROWER_FROM_PX else ()
    for limit in (None, *narrower):
        lattice = lattice_of_autocorrelation(_of_spectrum(power, pixels.shape, limit), both=limit is not None)
        if lattice is not None and lattice.strength >= MIN_STRENGTH:
            return lattice
        weak = lattice if limit is None else weak
    return weak


def agreement(a: Lattice | None, b: Lattice | None) -> tuple[int, float] | None:
    """How two lattices differ that agree but for a small turn and stretch, a cell twice or half as large included.

    Returns
    -------
    cells : int
        Ratio of the areas of their cells, 1 or 2.
    stretch : float
        Largest stretch, as a natural logarithm.
    None
        If they do not agree, or one is None.
    """
    if a is None or b is None:
        return None
    small, large = (a, b) if a.period_px <= b.period_px else (b, a)
    if (large.period_px / small.period_px) ** 2 > MOST_CELLS:
        return None
    basis, target = np.array([small.v1, small.v2]).T, np.array([large.v1, large.v2]).T
    multiple = np.rint(np.linalg.solve(basis, target))
    cells = abs(round(float(np.linalg.det(multiple))))
    if cells == 0:
        return None
    # target = rotation · stretch · (basis · multiple)
    u, stretches, vt = np.linalg.svd(target @ np.linalg.inv(basis @ multiple))
    rotation = u @ vt
    angle = np.degrees(np.arctan2(rotation[1, 0] - rotation[0, 1], rotation[0, 0] + rotation[1, 1]))
    stretch = float(np.abs(np.log(stretches)).max())
    if abs(angle) >= SAME_ANGLE_DEG or stretch >= np.log(SAME_STRETCH):
        return None
    return cells, stretch


def typical_lattice(pixels: NDArray[np.floating]) -> tuple[Lattice | None, int]:
    """Lattice that most of an image shows, and the tile size it was seen with.

    Tiles of growing size are tried until enough of them are periodic with at least `MIN_PERIODS` periods to a
    side: small tiles keep grains apart, large ones see large cells and lattices under heavy noise.

    Parameters
    ----------
    pixels : array (y, x)

    Returns
    -------
    lattice : Lattice or None
        That of the tile with the median period; None if no tile size shows one.
    size : int
        Edge of the tiles in pixels.
    """
    longest = min(pixels.shape)
    size = min(128, longest)
    while True:
        tiles = _tiles(pixels.shape, size)
        seen = side_by_side(
            find_lattice, [pixels[y : y + size, x : x + size] for y, x in tiles], pixels=4 * size**2
        )
        found = [
            lattice
            for lattice in seen
            if lattice is not None
            and lattice.strength >= MIN_STRENGTH
            and np.hypot(*lattice.v2) * MIN_PERIODS <= size
        ]
        if len(found) >= max(1, MIN_TILE_SHARE * len(tiles)):
            found.sort(key=lambda lattice: lattice.period_px)
            return found[len(found) // 2], size
        if size == longest:
            return None, size
        size = min(longest, int(size * 1.5))


def _tiles(shape: tuple[int, ...], size: int) -> list[tuple[int, int]]:
    """Corners of at most `MAX_TILES` tiles spread evenly over the image."""
    counts = [-(-n // size) for n in shape]
    while np.prod(counts) > MAX_TILES:
        counts[int(np.argmax(counts))] -= 1
    ys, xs = (np.rint(np.linspace(0, n - size, c)).astype(int) for n, c in zip(shape, counts, strict=True))
    return [(int(y), int(x)) for y in ys for x in xs]


def _refine(image: NDArray[np.float32], peak: NDArray[np.intp]) -> NDArray[np.float64]:
    """Sub-pixel position of a maximum: a parabola through its neighbours along each axis."""
    y, x = peak
    here = float(image[y, x])
    position = np.array([y, x], dtype=np.float64)
    for axis, (low, high) in enumerate(
        (
            (float(image[y - 1, x]), float(image[y + 1, x])),
            (float(image[y, x - 1]), float(image[y, x + 1])),
        )
    ):
        curvature = low - 2 * here + high
        if curvature < 0:
            position[axis] += 0.5 * (low - high) / curvature
    return position
