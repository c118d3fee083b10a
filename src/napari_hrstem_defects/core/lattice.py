"""Lattice of a patch or of a mean autocorrelation: period and cell; turn and stretch between two lattices.

The autocorrelation of a crystal has a peak of about its central height at every translation of the lattice, and lower
ones where only some columns coincide. In the mean over tiles of one lattice even a small difference is significant.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize
from skimage.feature import peak_local_max

from napari_hrstem_defects.core.autocorrelation import (
    RING,
    SIGNIFICANT,
    TILE,
    TINY,
    Floats,
    Products,
    enough_pairs,
    tile_products,
)

Doubles = NDArray[np.float64]
Mask = NDArray[np.bool_]

#: Cells that an image, or a part of it, must hold for statistics.
MIN_CELLS = 9.0
#: Shortest side of a tile in px: its spectrum has two rings, which distinguish noise from reflections.
LEAST_TILE = 2 * RING
#: Shortest period that is distinguished from noise, in px.
MIN_PERIOD_PX = 3.0
#: Height of the best peak below which there is no lattice: noise and glass averaged over tiles stay below 0.3.
MIN_STRENGTH = 0.32
#: Peaks of this share of the best are tried as translations: lower, dumbbells pass for them, higher, noise drops some.
PEAK_SHARE = 0.8
#: A translation is false if its height is lower than at its multiple by this share: distortion makes 2 %.
FALSE_DROP = 0.04
#: Gain of skewness that noise does not make.
CLEAR_SKEWNESS = 0.05
#: Steps to the side of a cell that are compared with other cells.
CELL_STEPS = 12
#: How far from the centre that is done, in periods.
CELL_PERIODS = 6
#: Changes of basis to the lattices with 1/2 and 1/3 of the points (Hermite normal forms).
_COARSER = [np.array([[i, k], [0, n // i]]) for n in (2, 3) for i in (1, n) for k in range(n // i)]
#: Half a pixel down, right, up, left of a point: differences across it are slopes.
_CROSS = np.array([(0.5, 0), (0, 0.5), (-0.5, 0), (0, -0.5)])


@dataclass(frozen=True, eq=False)
class Autocorrelation:
    """Mean autocorrelation of tiles.

    Attributes
    ----------
    values, noise : float32 array (2·r_y + 1, 2·r_x + 1)
        1 at the zero shift in the centre, 0 on average where nothing repeats; standard deviation that noise gives it.
    ordered : float
        Share of the power that is neither noise nor diffuse, 0...1; white noise does not count.
    """

    values: Floats
    noise: Floats
    ordered: float


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
        Height of the normalised autocorrelation at the better of them, 0...1; below 0.6 there is hardly a crystal.

    Examples
    --------
    A hexagonal lattice of 10 px; the area of its cell is a²·√3/2:

    >>> import napari_hrstem_defects as hd
    >>> area = 10**2 * 3**0.5 / 2
    >>> lattice = hd.Lattice((0.0, 10.0), (10 * 3**0.5 / 2, 5.0), area**0.5, 1.0)
    >>> lattice.scaled(2).period_px ** 2 / area
    4.0
    """

    v1: tuple[float, float]
    v2: tuple[float, float]
    period_px: float
    strength: float

    @property
    def basis(self) -> Doubles:
        """The vectors as rows of an array (2, 2)."""
        return np.array([self.v1, self.v2])

    def scaled(self, factor: float) -> Lattice:
        """The same lattice in pixels that are `factor` times smaller."""
        return _lattice(factor * self.basis, self.strength)


def _lattice(basis: Doubles, strength: float) -> Lattice:
    (a, b), (c, d) = basis.tolist()
    return Lattice((a, b), (c, d), math.sqrt(abs(a * d - b * c)), strength)


def find_lattice(pixels: NDArray[np.floating], valid: Mask | None = None) -> Lattice | None:
    """Lattice of a patch (y, x) of raw or prepared pixels, None if it is not periodic in two directions.

    In a patch narrower than `LEAST_TILE` a lattice cannot be distinguished from noise.

    Parameters
    ----------
    pixels : real array (y, x)
    valid : bool array (y, x), optional
        Pixels that count; all, if left out.

    Returns
    -------
    Lattice or None
        Vectors in pixels.

    Examples
    --------
    >>> import numpy as np, napari_hrstem_defects as hd
    >>> y, x = np.mgrid[:128, :128]
    >>> lattice = hd.find_lattice(np.cos(2 * np.pi * x / 12) + np.cos(2 * np.pi * y / 16))
    >>> np.abs(lattice.basis).round(1)
    array([[ 0., 12.],
           [16.,  0.]])
    >>> hd.find_lattice(np.random.default_rng(0).normal(size=(128, 128))) is None
    True
    """
    if min(pixels.shape) < LEAST_TILE:
        return None
    return cell_of(mean_autocorrelation(tile_products(pixels[None], None if valid is None else valid[None])))


def mean_autocorrelation(tiles: Sequence[Products]) -> Autocorrelation | None:
    """Mean normalised autocorrelation of tiles of one shape; None if there is only noise."""
    names = ("values", "pairs", "variance")
    products, pairs, variance = (np.sum([getattr(tile, name) for tile in tiles], axis=0) for name in names)
    values, noise = (each / enough_pairs(pairs, len(tiles)) for each in (products, np.sqrt(variance)))
    middle = values.shape[0] // 2, values.shape[1] // 2
    centre = float(values[middle])
    if centre <= SIGNIFICANT * noise[middle]:
        return None
    ordered = centre * len(tiles) / sum(tile.structure for tile in tiles)
    return Autocorrelation(values / centre, noise / centre, min(ordered, 1.0))


def cell_of(acf: Autocorrelation | None) -> Lattice | None:
    """Lattice of a mean autocorrelation: the two shortest translations, none of them false."""
    if acf is None:
        return None
    # A Gaussian of 1 px lowers white noise to this share.
    smooth, noise = ndimage.gaussian_filter(acf.values, 1), acf.noise / (2 * np.sqrt(np.pi))
    peaks = peak_local_max(smooth, min_distance=1, threshold_abs=0, exclude_border=1)
    shifts = (peaks - np.array(smooth.shape) // 2).astype(float)
    lengths = np.hypot(*shifts.T)
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] >= MIN_PERIOD_PX]
    heights, scatter = (each[tuple(peaks[order].T)] for each in (smooth, noise))
    shifts, lengths, sure = shifts[order], lengths[order], heights - SIGNIFICANT * scatter
    real = heights > SIGNIFICANT * scatter
    if not real.any():
        return None
    first = shifts[np.argmax(real & (heights >= PEAK_SHARE * sure[real].max()))]
    across = np.abs(first[0] * shifts[:, 1] - first[1] * shifts[:, 0]) / (np.hypot(*first) * lengths)
    aside = real & (across > 0.5)
    # Where lines jitter all peaks that are not on the line are lower.
    if not aside.any() or heights[aside].max() < MIN_STRENGTH * sure[real].max():
        return None
    second = shifts[np.argmax(aside & (heights >= PEAK_SHARE * sure[aside].max()))]
    spline, smooth = (ndimage.spline_filter(each, output=np.float32) for each in (acf.values, smooth))
    for v in (first, second):
        # Along a stripe there is no dip between the centre and a peak.
        profile = _sample(smooth, np.linspace(0, 1, TILE)[:, None] * v)
        if profile.min() > profile[-1] - SIGNIFICANT * _sample(noise, v[None])[0]:
            return None
    basis = _fitted(smooth, np.array([first, second]))
    while (coarser := _coarser(acf, spline, basis)) is not None:
        basis = _fitted(smooth, coarser)
    if np.hypot(*basis[0]) < MIN_PERIOD_PX:
        return None
    return _lattice(basis, acf.ordered * min(1.0, float(_sample(spline, basis).max())))


def _coarser(acf: Autocorrelation, spline: Floats, basis: Doubles) -> Doubles | None:
    """Lattice with 1/2 or 1/3 of the points if the others are false translations; None if all are true.

    Of a true translation the multiple is never higher: distortion, drift and jitter only add up. Points that are not
    in the coarser lattice are false if they are significantly lower than their multiples and than points in it.
    """
    numbers = _half_plane(2)
    heights, inside = _sample(spline, numbers @ basis), _inside(acf.values, numbers @ basis)
    best, found = FALSE_DROP, None
    for change in _COARSER:
        fractions = numbers @ np.linalg.inv(change)
        shared = np.abs(fractions - np.rint(fractions)).max(axis=1) < TINY
        multiples = round(np.linalg.det(change)) * numbers @ basis
        off, shared = ~shared & _inside(acf.values, multiples), shared & inside
        if not off.any() or not shared.any():
            continue
        low, high = heights[off], heights[shared]
        level = max(min(float(_sample(spline, multiples[off]).mean()), float(high.mean())), TINY)
        drop = 1 - float(low.mean()) / level
        noise = np.hypot(*(_sample(acf.noise, each[off]) for each in (numbers @ basis, multiples)))
        error = np.sqrt(((noise**2).mean() + low.var()) / low.size + high.var() / high.size) / level
        if drop > max(best, SIGNIFICANT * float(error)):
            best, found = drop, change @ basis
    return None if found is None else _shortest(found)


def _inside(values: Floats, shifts: Doubles) -> Mask:
    """Which shifts lie on an autocorrelation."""
    return np.asarray((np.abs(shifts) < np.array(values.shape) // 2 - 1).all(axis=-1))


@lru_cache(maxsize=8)
def _half_plane(reach: int) -> NDArray[np.intp]:
    """Pairs of whole numbers (n, 2) up to `reach`, one of each pair of opposite ones, without (0, 0)."""
    return np.array([(i, j) for i in range(-reach, reach + 1) for j in range(reach + 1) if j > 0 or i > 0])


def _fitted(spline: Floats, basis: Doubles) -> Doubles:
    """Shortest basis with the highest mean autocorrelation at its points, out to one, two, three cells.

    Points beyond the array do not count: they would stop the fit at its border. A fit that leaves its peak is not one.
    """

    def slopes(x: Doubles, numbers: NDArray[np.intp]) -> Doubles:
        points = (numbers @ x.reshape(2, 2))[:, None] + _CROSS
        heights = _sample(spline, points.reshape(-1, 2)).reshape(-1, 2, 2)
        return (numbers.T @ (heights[:, 0] - heights[:, 1])).ravel() / len(numbers)

    for reach in (1, 2, CELL_PERIODS // 2):
        numbers = _half_plane(reach)
        numbers = numbers[_inside(spline, numbers @ basis)]
        if len(numbers) == 0 or np.linalg.matrix_rank(numbers) < 2:
            break
        top = optimize.root(slopes, basis.ravel(), (numbers,), tol=1e-5, options={"factor": 0.1})
        if not np.abs(top.x - basis.ravel()).max() < MIN_PERIOD_PX / 2:
            break
        basis = top.x.reshape(2, 2)
    return _shortest(basis)


def _sample(spline: Floats, shifts: Doubles) -> Doubles:
    """Values at shifts (n, 2) in px between pixels, of spline coefficients; 0 beyond the array."""
    places = (shifts + np.array(spline.shape) // 2).T
    return np.asarray(ndimage.map_coordinates(spline, places, output=np.float64, prefilter=False))


def _shortest(basis: Doubles) -> Doubles:
    """Shortest basis of a lattice (Lagrange and Gauss), pointing down or right."""
    a, b = basis
    while True:
        if a @ a > b @ b:
            a, b = b, a
        steps = np.rint(a @ b / (a @ a))
        if steps == 0:
            return np.array([v if (v[0], v[1]) > (0, 0) else -v for v in (a, b)])
        b = b - steps * a


def repetition(acf: Autocorrelation, lattice: Lattice) -> float:
    """Share of the autocorrelation around the centre, out to `CELL_PERIODS`, that one cell explains.

    Crystals repeat the cell with nearly equal height; quasicrystals, two lattices on top of each other and curved
    fringes do not.
    """
    fractions = np.indices((CELL_STEPS, CELL_STEPS)).reshape(2, -1).T / CELL_STEPS
    corners = np.mgrid[-9:9, -9:9].reshape(2, -1).T
    # Cells whose corner is further away than their diagonal hold none.
    far = CELL_PERIODS * lattice.period_px + np.abs(lattice.basis).sum()
    corners = corners[np.linalg.norm(corners @ lattice.basis, axis=1) < far]
    points = (corners[:, None] + fractions) @ lattice.basis
    length = np.hypot(points[..., 0], points[..., 1]) / lattice.period_px
    used = (length > 0.5) & (length < CELL_PERIODS) & _inside(acf.values, points)
    values, noise = np.zeros(used.shape), np.zeros(used.shape)
    values[used], noise[used] = (_sample(each, points[used]) for each in (acf.values, acf.noise))
    count = np.maximum(used.sum(axis=0), 1)
    variance = (noise**2).sum(axis=0)
    residual = (values**2).sum(axis=0) - values.sum(axis=0) ** 2 / count - variance * (1 - 1 / count)
    total = ((values**2).sum(axis=0) - variance)[count > 1].sum()
    return float(np.clip(1 - residual.sum() / total, 0, 1)) if total > 0 else 0.0


#: Changes of basis of a lattice: whole numbers, determinant ±1.
_UNIMODULAR = np.mgrid[-3:4, -3:4, -3:4, -3:4].reshape(4, -1).T.reshape(-1, 2, 2).astype(float)
_UNIMODULAR = _UNIMODULAR[np.abs(np.rint(np.linalg.det(_UNIMODULAR))) == 1]
#: Stretch (natural logarithm) up to which a cell has the shape of another, as drift distorts it; twice that for two
#: phases. Turn below which lattices agree, in degrees: what drift and an inexact cell make of one crystal.
SAME_SHAPE, SAME_ANGLE_DEG = 0.05, 2.0


def lattice_rotation(a: Lattice, b: Lattice) -> float | None:
    """Smallest turn in degrees, 0 to 90, that brings all of one lattice onto the other; None if they differ by more."""
    turn, stretch = best_map(a.basis, b.basis)
    return turn if stretch < 2 * SAME_SHAPE else None


def agreement(a: Lattice | None, b: Lattice | None, angle_deg: float = SAME_ANGLE_DEG) -> int | None:
    """Ratio of the cells of two lattices, 1 to 3, that agree but for a small turn and stretch; None if they do not.

    They are turned by less than `angle_deg`.
    """
    if a is None or b is None:
        return None
    small, large = (a, b) if a.period_px <= b.period_px else (b, a)
    for change in (np.eye(2), *_COARSER):
        cells = round(np.linalg.det(change))
        turn, stretch = best_map(change @ small.basis, large.basis)
        if turn < angle_deg and stretch < 2 * SAME_SHAPE:
            return cells
    return None


def best_map(a: Doubles, b: Doubles, *, any_scale: bool = False) -> tuple[float, float]:
    """Smallest turn (0 to 90°) and least stretch (natural logarithm) that make lattice `a` lattice `b` (rows).

    Of all choices of basis that need little more than the least stretch the one with the smallest turn counts.
    """
    maps = np.linalg.inv(_UNIMODULAR @ a) @ b
    large, small = np.linalg.svd(maps, compute_uv=False).T
    stretch = np.log(large / small) if any_scale else np.maximum(np.log(large), -np.log(small))
    stretch[np.linalg.det(maps) <= 0] = np.inf
    good = stretch <= stretch.min() + SAME_SHAPE / 2
    turn = np.degrees(np.arctan2(maps[:, 0, 1] - maps[:, 1, 0], maps[:, 0, 0] + maps[:, 1, 1]))[good]
    return float(np.abs((turn + 90) % 180 - 90).min()), float(stretch.min())


def amplitudes(patch: NDArray[np.floating], waves: NDArray[np.floating]) -> NDArray[np.complex128]:
    """Fourier coefficients (n,) of a patch (y, x), weighted by a Hann window, at wave vectors (n, 2) in 1/px."""
    rows, columns = (
        np.exp(-2j * np.pi * np.outer(w, np.arange(n))) * np.hanning(n + 2)[1:-1]
        for w, n in zip(waves.T, patch.shape, strict=True)
    )
    return np.asarray(np.einsum("ny,yx,nx->n", rows, patch, columns, optimize=True))


def orders_within(most: int) -> NDArray[np.intp]:
    """Miller indices ``(n, 2)`` up to `most`, one of each pair of opposite ones."""
    span = range(-most, most + 1)
    return np.array([(h, k) for h in span for k in span if (h, k) > (0, 0)])


def column_sense(patch: NDArray[np.floating], basis: NDArray[np.floating]) -> float:
    """Whether the columns of a lattice are bright or dark.

    Columns are narrow: the finer the detail of the mean cell, the more its grey values are skewed towards theirs. The
    skewness of the coarsest harmonics alone tells nothing of the columns: a triangular lattice of bright columns and
    a honeycomb of dark ones have the same.

    Parameters
    ----------
    patch : float array (y, x)
        Of a crystal, with a background of about 0.
    basis : float array (2, 2)
        Rows: lattice vectors ``(y, x)`` in pixels.

    Returns
    -------
    float
        1 for bright, −1 for dark columns, about 0 where the image resolves no more than the coarsest harmonics.
    """
    period = math.sqrt(abs(float(np.linalg.det(basis))))
    orders = orders_within(max(1, round(period / 2)))
    waves: NDArray[np.float64] = orders @ np.linalg.inv(np.asarray(basis, np.float64)).T
    length = np.hypot(*waves.T)
    resolved = np.abs(waves).max(axis=1) < 0.5
    # Twice as fine as the image: enough for products of three harmonics.
    edge = max(2, round(2 * period))
    places = np.indices((edge, edge)).reshape(2, -1) / edge
    harmonics = amplitudes(patch, waves)[:, None] * np.exp(2j * np.pi * orders @ places)
    coarsest = length < (1 + 2 * SAME_SHAPE) * length.min()
    fine, coarse = (_skewness(harmonics[of].real.sum(axis=0)) for of in (resolved, coarsest))
    return math.tanh((fine - coarse) / CLEAR_SKEWNESS)


def _skewness(values: NDArray[np.float64]) -> float:
    """Of values with a mean of 0."""
    power = float(np.mean(values**2))
    return float(np.mean(values**3)) / power**1.5 if power > 0 else 0.0
