"""Antiphase boundaries of weak superlattices: the phase of the reflections between those of the average lattice.

Where two kinds of columns look nearly alike, the average lattice is the finer one of both together, and a shift that
swaps them changes next to nothing locally. Their order makes faint reflections halfway between the strong ones; on the
two sides of an antiphase boundary these have opposite phases.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from napari_hrstem_defects.core.lattice import Lattice
from napari_hrstem_defects.core.preprocessing import Prepared, resize_linear
from napari_hrstem_defects.core.segmentation import dilate
from napari_hrstem_defects.core.threads import side_by_side

#: Orders of the reflections of a cell of twice the area or four times, in reciprocal vectors of the average lattice.
HALF_ORDERS = ((0.5, 0.5), (0.5, 0.0), (0.0, 0.5), (0.5, -0.5))
#: Distance in orders at which there is only noise around such a reflection, streaks and tails of others included.
BESIDE = 0.25
#: Standard deviation of the window in which a phase is measured, and how far from a boundary it is, in periods.
WINDOW_PERIODS = 1.8
REACH_PERIODS = 3.0
#: Factors by which both are widened, one after the other until something certain is found: noise averages out.
WIDENINGS = (1.0, 2.0)
CERTAIN = 4.0
#: Rim that is faded out, in periods.
TAPER_PERIODS = 4.0
#: Range over which the lattice is straight enough to average the slope of the phase, in periods.
SLOPE_PERIODS = 8.0
#: Directions in which the two sides of a boundary are looked for.
DIRECTIONS = 8
#: Amplitude over noise that counts as order, and the share of the crystal in which it must be seen.
ORDERED = 2.0
LEAST_SHARE = 0.5
#: Share of the squared amplitude that keeps a common phase, to a sign, within the range of the slope: a superlattice
#: has one, noise and tails of other reflections have not.
COHERENCE = 0.6
#: Largest power near such a reflection over the median there: chance reaches about 10.
PEAKED = 30.0
#: Cosine of the phase difference of two sides that are in antiphase.
OPPOSITE = -0.7


def antiphase_significance(
    prepared: Prepared, lattice: Lattice, crystal: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Significance of an antiphase boundary through each pixel.

    The superlattice reflection is demodulated, C = G ∗ (h·exp(−2πi q·x)), and compared across a boundary: with A the
    smaller of the amplitudes on both sides over that of noise and Δ the difference of the phases, less the slope that
    strain and drift explain, the significance is −A·cos Δ, the largest over `DIRECTIONS` and reflections. After
    geometric phase analysis: Hÿtch, Snoeck, Kilaas, Ultramicroscopy 74 (1998) 131.

    Parameters
    ----------
    prepared : Prepared
    lattice : Lattice
        Average lattice of the reference crystal, in pixels of the prepared image.
    crystal : bool array (y', x')
        Where there is intact crystal of the reference's lattice; both sides of a boundary must lie in it.

    Returns
    -------
    float32 array (y', x')
        0 where the image shows no superlattice.
    """
    values = prepared.values
    shape = (values.shape[0], values.shape[1])
    found = np.zeros(shape, np.float32)
    if not crystal.any():
        return found
    spectrum = fft.rfft2(values * _taper(shape, TAPER_PERIODS * prepared.period_px))
    reciprocal = _refined(spectrum, shape, np.linalg.inv(np.array([lattice.v1, lattice.v2]).T))
    reach = BESIDE * float(np.hypot(*reciprocal[0]))
    orders = [
        np.array(order)
        for order in HALF_ORDERS
        if _peaked(spectrum, shape, np.array(order) @ reciprocal, reach)
    ]
    streaks = [reach * s * np.eye(2) for s in (1, -1)]
    for widening in WIDENINGS:
        if not orders or found.max() > CERTAIN:
            break
        demodulate = _Demodulator(spectrum, shape, widening * WINDOW_PERIODS * prepared.period_px)
        clear = ~dilate(~crystal, (widening - 1) * WINDOW_PERIODS * prepared.period_px)
        # The transform is periodic: at the rim the window sees the opposite one.
        clear &= _beyond_rim(shape, widening * WINDOW_PERIODS * prepared.period_px)
        inside = resize_linear(clear.astype(np.float32), demodulate.shape) > 0.5
        period = widening * prepared.period_px * demodulate.per_px
        best = np.zeros(demodulate.shape, np.float32)
        for order in orders if inside.any() else ():
            # Scan lines that jitter draw streaks along the axes of the image.
            beside = order @ reciprocal + np.concatenate([BESIDE * s * reciprocal for s in (1, -1)] + streaks)
            noise = max(float(np.median(np.abs(demodulate(q)[inside]))) for q in beside)
            # The amplitude of noise has a Rayleigh distribution: mean square = median² / ln 2.
            floor = max(noise / np.sqrt(np.log(2.0)), float(np.finfo(np.float32).tiny))
            wave = demodulate(order @ reciprocal) / np.float32(floor)
            if np.mean(np.abs(wave[inside]) > ORDERED) >= LEAST_SHARE:
                np.maximum(best, _opposition(wave, inside, period), out=best)
        np.maximum(found, resize_linear(best, shape), out=found)
    return found


def _taper(shape: tuple[int, int], width: float) -> NDArray[np.float32]:
    """Weights that fall off towards the rim: else the strong reflections leave streaks all over the spectrum."""
    sides = []
    for n in shape:
        inward = np.minimum(np.arange(n) + 0.5, n - np.arange(n) - 0.5)
        sides.append(np.sin(0.5 * np.pi * np.clip(inward / width, 0, 1)) ** 2)
    return np.outer(*sides).astype(np.float32)


def _beyond_rim(shape: tuple[int, ...], width: float) -> NDArray[np.bool_]:
    """Where the rim of an image is further away than `width` px, or a quarter of the image."""
    out = np.zeros(shape, bool)
    rows, columns = (slice(reach, n - reach) for n in shape for reach in [min(round(width), n // 4)])
    out[rows, columns] = True
    return out


class _Demodulator:
    """Complex amplitude of a wave around each point, on a grid as coarse as its window allows."""

    def __init__(self, spectrum: NDArray[np.complex64], shape: tuple[int, ...], sigma: float) -> None:
        self.full = shape
        self.spectrum = spectrum
        self.sigma = sigma
        # Four samples to a standard deviation of the window.
        self.shape = tuple(min(n, fft.next_fast_len(max(16, int(np.ceil(4 * n / sigma))))) for n in shape)
        self.per_px = np.array(self.shape) / shape
        self.offsets = [fft.ifftshift(np.arange(m) - m // 2) for m in self.shape]

    def __call__(self, q: NDArray[np.float64]) -> NDArray[np.complex64]:
        """Amplitude of the wave of frequency `q` (cycles per px, ``(y, x)``)."""
        n_y, n_x = self.full
        centre = np.rint(q * self.full).astype(int)
        rows, columns = (c + o for c, o in zip(centre, self.offsets, strict=True))
        fy, fx = rows / n_y - q[0], columns / n_x - q[1]
        window = np.exp(-2 * np.pi**2 * self.sigma**2 * (fy[:, None] ** 2 + fx[None] ** 2))
        # The other half of the spectrum of a real image is the conjugate of this one, turned by 180°.
        turned = columns % n_x > n_x // 2
        row = np.where(turned[None], -rows[:, None], rows[:, None]) % n_y
        column = np.where(turned, -columns, columns) % n_x
        part = self.spectrum[row, np.broadcast_to(column[None], row.shape)]
        part = np.where(turned[None], np.conj(part), part) * window
        wave = fft.ifft2(part) * (part.size / (n_y * n_x))
        # From the nearest frequency of the grid to q itself.
        y, x = (np.arange(m) / m for m in self.shape)
        rest = centre - q * self.full
        turn = np.exp(2j * np.pi * (rest[0] * y[:, None] + rest[1] * x[None]))
        out: NDArray[np.complex64] = (wave * turn).astype(np.complex64)
        return out


def _window(
    shape: tuple[int, ...], q: NDArray[np.float64], reach: float
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of a half spectrum within `reach` of a frequency with ``q[1] >= 0``, cycles per px."""
    (row, column), (n_y, n_x) = (
        np.rint(q * shape).astype(int),
        np.maximum(2, np.rint(reach * np.array(shape))),
    )
    rows = (row + np.arange(-int(n_y), int(n_y) + 1)) % shape[0]
    columns = np.clip(column + np.arange(-int(n_x), int(n_x) + 1), 0, shape[1] // 2)
    return rows, columns


def _peaked(
    spectrum: NDArray[np.complex64], shape: tuple[int, ...], q: NDArray[np.float64], reach: float
) -> bool:
    """Whether anything stands out of the spectrum around a frequency."""
    near = np.abs(spectrum[np.ix_(*_window(shape, q if q[1] >= 0 else -q, reach / 2))]) ** 2
    return bool(near.max() > PEAKED * np.median(near))


def _refined(
    spectrum: NDArray[np.complex64], shape: tuple[int, ...], reciprocal: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Reciprocal vectors (rows, cycles per px) moved to the peaks of the spectrum nearby."""
    out = reciprocal.copy()
    for i, q in enumerate(reciprocal):
        sign = 1 if q[1] >= 0 else -1
        rows, columns = _window(shape, sign * q, 0.03 * float(np.hypot(*q)))
        near = np.abs(spectrum[np.ix_(rows, columns)]).astype(np.float64) ** 2
        y, x = np.unravel_index(int(near.argmax()), near.shape)
        top = near[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
        weights = top / top.sum()
        place = np.rint(sign * q * shape) - np.array(near.shape) // 2 + [max(y - 1, 0), max(x - 1, 0)]
        place += [weights.sum(axis=1) @ np.arange(len(top)), weights.sum(axis=0) @ np.arange(len(top[0]))]
        out[i] = sign * place / shape
    return out


def _smooth(wave: NDArray[np.complexfloating], sigma: tuple[float, ...]) -> NDArray[np.complex128]:
    return ndimage.gaussian_filter(wave.real, sigma) + 1j * ndimage.gaussian_filter(wave.imag, sigma)


def _mean(slope: NDArray[np.floating], where: NDArray[np.bool_]) -> float:
    return float(np.angle(np.mean(np.exp(2j * slope[where]))) / 2)


def _opposition(
    wave: NDArray[np.complex64], inside: NDArray[np.bool_], period: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Significance of opposite phases on two sides of each point; `period` in samples of the wave, per axis."""
    # Squared, opposite phases are the same: the slope that is left is strain, drift and an inexact frequency.
    square = np.where(inside, wave * wave, 0)
    sigma = tuple(SLOPE_PERIODS * period)
    slopes = []
    for axis in (0, 1):
        ahead = np.roll(square, -1, axis=axis) * np.conj(square)
        slopes.append(np.angle(_smooth(ahead, sigma)) / 2)
    steps = np.indices(wave.shape) - np.array(wave.shape)[:, None, None] / 2
    level = square * np.exp(-2j * (_mean(slopes[0], inside) * steps[0] + _mean(slopes[1], inside) * steps[1]))
    kept = np.abs(_smooth(level, sigma)) / np.maximum(ndimage.gaussian_filter(np.abs(square), sigma), 1e-12)
    if np.median(kept[inside]) < COHERENCE:
        return np.zeros(wave.shape, np.float32)
    amplitude = np.where(inside, np.abs(wave), 0).astype(np.float32)
    grid = np.indices(wave.shape).astype(np.float32)

    def one(angle: float) -> NDArray[np.float32]:
        dy, dx = REACH_PERIODS / 2 * period * (np.sin(angle), np.cos(angle))
        sides, amplitudes = [], []
        for sign in (1, -1):
            place = grid + np.array([sign * dy, sign * dx], np.float32)[:, None, None]
            sides.append(
                ndimage.map_coordinates(wave.real, place, order=1, mode="constant")
                + 1j * ndimage.map_coordinates(wave.imag, place, order=1, mode="constant")
            )
            amplitudes.append(ndimage.map_coordinates(amplitude, place, order=1, mode="constant"))
        product = sides[0] * np.conj(sides[1]) * np.exp(-2j * (slopes[0] * dy + slopes[1] * dx))
        cosine = product.real / np.maximum(np.abs(product), 1e-12)
        least = np.minimum(*amplitudes)
        out: NDArray[np.float32] = np.where(cosine < OPPOSITE, -cosine * least, 0).astype(np.float32)
        return out

    best = np.zeros(wave.shape, np.float32)
    for found in side_by_side(one, np.arange(DIRECTIONS) * np.pi / DIRECTIONS, pixels=wave.size):
        np.maximum(best, found, out=best)
    return best
