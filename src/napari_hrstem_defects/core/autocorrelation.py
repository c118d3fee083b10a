"""Local autocorrelations: their field over an image, and those of tiles that the lattice is read from.

For an image h, a window w and a shift s,

    A(x, s) = Σ w(x − y) h(y − s/2) h(y + s/2) / N(x, s)  /  Σ w(x − y) h(y)² / N(x, 0)

where N is the weight of the pairs of pixels that both exist. The field has A at every point of a prepared image, with
Gaussian windows and the shifts of a half disc: the *direction* A / |A| says what the lattice is, whatever its contrast;
the *strength* |A| how much of it there is. Neither depends on where the columns lie. The tiles have A at some points of
any image, with Hann windows and shifts up to half a tile.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from napari_hrstem_defects.core.preprocessing import CLIP_SHARE, Prepared, even_sample, sample_linear
from napari_hrstem_defects.errors import Cancelled
from napari_hrstem_defects.threads import own_threads, side_by_side

Floats = NDArray[np.float32]

#: Standard deviation of the window, in periods: the narrowest that averages noise over a few columns.
WINDOW_PERIODS = 1.1
#: How far a window sees what lies beside it, in periods: two standard deviations.
REACH_PERIODS = 2 * WINDOW_PERIODS
#: Shortest shift, in periods: beyond the columns' own width.
SHORTEST_PERIODS = 0.4
#: Longest shift, in periods: two shells of neighbours.
LONGEST_PERIODS = REACH_PERIODS
#: Principal components of the direction that are kept: 99 % of its variance in images of several grains.
COMPONENTS = 16
#: Least share of the pairs of a full window that a value may rest on.
LEAST_PAIRS = 0.02
#: Edge of the tiles, in samples of the field.
TILE = 128
#: Tiles that the basis of the components is taken from.
BASIS_TILES = 9
#: Gaussian windows are cut off at this many standard deviations.
CUT = 3
#: Standard deviations of the Gaussian for the background and contrast of a tile that make its edge.
WINDOWS_PER_TILE = 5
#: Width of a ring of spatial frequencies in cycles per tile; the innermost is background.
RING = 8
#: Standard errors of a significant peak or difference: chance exceeds it in none of some 10⁴ shifts that are searched.
SIGNIFICANT = 5.0
#: Likeness of autocorrelations of the same lattice, and share of the autocorrelation that repeating the cell explains.
ALIKE = 0.9
#: Share of a whole (tiles of an image, pairs of pixels of a full window) that is enough to assess it.
MIN_SHARE = 0.25
#: Share of a whole below which it is nothing.
TINY = 1e-6


@dataclass(frozen=True, eq=False)
class Field:
    """Local autocorrelations of a prepared image on a grid of half a period.

    Attributes
    ----------
    strength : float32 array (y'', x'')
        Root mean square of A over all shifts.
    power : float32 array (y'', x'')
        Mean square of the prepared image in the window.
    components : float32 array (k, y'', x'')
        Direction A / |A|, less its mean over the image, along `basis`.
    basis : float32 array (k, n)
        Orthonormal principal components of the direction.
    mean : float32 array (n,)
        Mean direction.
    pairs : float32 array (y'', x'')
        Share of the pairs of pixels of a full window that each value rests on, 0 to 1.
    shifts : int array (n, 2)
        Shifts ``(y, x)`` in pixels of the prepared image.
    step_px : int
        Distance of the samples in pixels of the prepared image.
    period : float
        Lattice period in samples.
    """

    strength: Floats
    power: Floats
    components: Floats
    basis: Floats
    mean: Floats
    pairs: Floats
    shifts: NDArray[np.intp]
    step_px: int
    period: float

    @property
    def shape(self) -> tuple[int, int]:
        """Shape ``(y'', x'')`` of the grid."""
        return self.strength.shape[0], self.strength.shape[1]

    @property
    def places(self) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """Rows and columns of the samples in pixels of the prepared image."""
        rows, columns = ((np.arange(n) + 0.5) * float(self.step_px) - 0.5 for n in self.shape)
        return rows, columns

    def distance(self, direction: NDArray[np.floating]) -> Floats:
        """Cosine distance of every direction to one of unit length, given as ``(n,)``."""
        return np.maximum(1 - self.along(direction), 0)

    def along(self, vector: NDArray[np.floating]) -> Floats:
        """Component of every direction along a vector ``(n,)``."""
        coefficients = (self.basis @ vector).astype(np.float32)
        return np.tensordot(coefficients, self.components, 1) + np.float32(self.mean @ vector)

    def to_frame(self, values: NDArray[np.floating], prepared: Prepared) -> Floats:
        """Resample a map of the grid to the frame that the image was prepared from, linear between samples."""
        rows, columns = (
            ((np.arange(n) + 0.5) * scale / self.step_px) - 0.5
            for n, scale in zip(prepared.shape, prepared.scale, strict=True)
        )
        return sample_linear(values, rows, columns)

    def mean_direction(self, where: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Mean of the direction, ``(n,)``, over a boolean mask of the grid; shorter than 1 where it varies."""
        inside = self.components[:, where].mean(axis=1, dtype=np.float64)
        return np.asarray(self.mean + inside @ self.basis, np.float64)


def shifts_of(period_px: float) -> NDArray[np.intp]:
    """Even shifts ``(y, x)`` of a half disc, in pixels, for a period: both ends of a pair then lie on pixels."""
    reach = int(LONGEST_PERIODS * period_px / 2)
    y, x = 2 * np.mgrid[0 : reach + 1, -reach : reach + 1]
    length = np.hypot(y, x)
    chosen = (length >= SHORTEST_PERIODS * period_px) & (length <= LONGEST_PERIODS * period_px)
    chosen &= (y > 0) | (x > 0)
    return np.stack([y[chosen], x[chosen]], axis=1)


def autocorrelation_field(
    prepared: Prepared,
    valid: NDArray[np.bool_] | None = None,
    *,
    cancelled: Callable[[], bool] | None = None,
) -> Field:
    """Field of local autocorrelations, computed in tiles: memory follows `COMPONENTS`, not the number of shifts.

    Parameters
    ----------
    prepared : Prepared
    valid : bool array (y', x'), optional
        Pixels of the prepared image that hold an image; products count where both pixels do.
    cancelled : callable, optional
        Asked for every tile; as soon as it returns True the work stops.

    Returns
    -------
    Field
        ``strength``, ``power`` and ``pairs``, float32 arrays ``(y'', x'')`` on a grid of half a period, and the
        direction as principal ``components`` ``(k, y'', x'')``.

    Raises
    ------
    Cancelled
        If `cancelled` returned True.

    Examples
    --------
    Of two crossed waves the autocorrelation is ``(cos 2πs_y/p + cos 2πs_x/p) / 2``:

    >>> import numpy as np, napari_hrstem_defects as hd
    >>> y, x = np.mgrid[:256, :256]
    >>> image = (np.cos(2 * np.pi * x / 8) + np.cos(2 * np.pi * y / 8)).astype(np.float32)
    >>> prepared = hd.Prepared(image, image, np.ones(image.shape, bool), image.shape, 8.0)
    >>> field = hd.autocorrelation_field(prepared)
    >>> expected = np.cos(2 * np.pi * field.shifts / 8).mean(axis=1)
    >>> abs(np.median(field.strength) - np.sqrt(np.mean(expected**2))) < 0.005
    np.True_
    """
    tiles = _Tiles(prepared, valid)
    whole = [
        (slice(y, min(y + TILE, tiles.shape[0])), slice(x, min(x + TILE, tiles.shape[1])))
        for y in range(0, tiles.shape[0], TILE)
        for x in range(0, tiles.shape[1], TILE)
    ]
    strength, pairs, power = (np.empty(tiles.shape, np.float32) for _ in range(3))

    def directions(window: tuple[slice, slice]) -> Floats:
        if cancelled is not None and cancelled():
            raise Cancelled
        values, pairs[window], power[window] = tiles.compute(window)
        norm = np.sqrt(np.einsum("nyx,nyx->yx", values, values))
        strength[window] = np.where(pairs[window] < LEAST_PAIRS, 0, norm / np.float32(np.sqrt(len(values))))
        values /= np.maximum(norm, np.float32(TINY))
        return values

    pixels = (TILE * tiles.step) ** 2
    with own_threads():
        # An odd step through the tiles visits all parts of the image.
        first = np.linspace(0, len(whole) - 1, min(BASIS_TILES, len(whole))).astype(int).tolist()
        some = side_by_side(directions, [whole[i] for i in first], pixels=pixels)
        kept = dict(zip(first, some, strict=True))
        mean, basis = _principal(list(kept.values()))
        components = np.empty((len(basis), *tiles.shape), np.float32)

        def project(i: int) -> None:
            values = kept.pop(i) if i in kept else directions(whole[i])
            components[:, *whole[i]] = _project(values, mean, basis)

        for _ in side_by_side(project, range(len(whole)), pixels=pixels):
            pass
    period = prepared.period_px / tiles.step
    return Field(strength, power, components, basis, mean, pairs, tiles.shifts, tiles.step, period)


def _principal(directions: list[Floats]) -> tuple[Floats, Floats]:
    """Mean and leading eigenvectors of the covariance of some directions, each ``(n, y, x)``."""
    count = sum(part[0].size for part in directions)
    sums = sum(part.sum(axis=(1, 2), dtype=np.float64) for part in directions)
    mean = np.asarray(sums / count)
    squares = np.zeros((len(mean), len(mean)))
    for part in directions:
        flat = part.reshape(len(part), -1)
        squares += flat @ flat.T
    vectors = np.linalg.eigh(squares / count - np.outer(mean, mean))[1]
    return mean.astype(np.float32), np.ascontiguousarray(vectors[:, ::-1].T[:COMPONENTS], np.float32)


def _project(directions: Floats, mean: Floats, basis: Floats) -> Floats:
    flat = directions.reshape(len(directions), -1)
    out = basis @ flat
    out -= (basis @ mean)[:, None]
    return np.asarray(out.reshape(len(basis), *directions.shape[1:]), np.float32)


class _Tiles:
    """Computes all shifts for one tile of the grid at a time, with the margin that its windows reach into."""

    def __init__(self, prepared: Prepared, valid: NDArray[np.bool_] | None) -> None:
        period = prepared.period_px
        values = prepared.values
        self.step = max(1, round(period / 2))
        self.shifts = shifts_of(period)
        self.shape = (-(-values.shape[0] // self.step), -(-values.shape[1] // self.step))
        self.sigma = WINDOW_PERIODS * period / self.step
        self.margin = int(CUT * self.sigma) + 1
        self.border = int(self.shifts.max()) // 2 + 1
        rows, columns = (n * self.step + 2 * self.border for n in self.shape)
        self.values = np.zeros((rows, columns), np.float32)
        self.valid = np.zeros((rows, columns), np.float32)
        inside = tuple(slice(self.border, self.border + n) for n in values.shape)
        most = np.float32(np.quantile(even_sample(np.abs(values)), CLIP_SHARE))
        self.values[inside] = np.clip(values, -most, most)
        self.valid[inside] = 1 if valid is None else valid
        self.values *= self.valid
        self.whole = valid is None or bool(valid.all())
        self.lines = [self.valid[:, self.border], self.valid[self.border]]
        weights = np.exp(-0.5 * (np.arange(-self.margin, self.margin + 1) / self.sigma) ** 2)
        self.full = np.float32((weights.sum() * self.step) ** 2)

    def compute(self, window: tuple[slice, slice]) -> tuple[Floats, Floats, Floats]:
        """A for all shifts, ``(n, y, x)``, the share of pairs and the local power, of one tile."""
        low = [max(s.start - self.margin, 0) for s in window]
        high = [min(s.stop + self.margin, n) for s, n in zip(window, self.shape, strict=True)]
        smooth = [
            _gaussian(np.arange(s.start, s.stop), np.arange(a, b), self.sigma)
            for s, a, b in zip(window, low, high, strict=True)
        ]

        def average(blocks: Floats) -> Floats:
            return np.asarray(smooth[0] @ blocks @ smooth[1].T, np.float32)

        area = tuple(
            slice(self.border + a * self.step, self.border + b * self.step)
            for a, b in zip(low, high, strict=True)
        )

        @cache
        def along(axis: int, shift: int) -> Floats:
            line, part = self.lines[axis], area[axis]
            both = line[part.start - shift : part.stop - shift] * line[part.start + shift : part.stop + shift]
            return np.asarray(smooth[axis] @ both.reshape(-1, self.step).sum(axis=1))

        def weight(y: int, x: int) -> Floats:
            """Of the pairs of pixels that both hold an image."""
            if not self.whole:
                return average(self._blocks(self.valid, area, y, x))
            # A pair lies in the image if it does along both axes.
            return np.outer(along(0, y), along(1, x)).astype(np.float32)

        weights = weight(0, 0)
        powers = average(self._blocks(self.values, area, 0, 0))
        power = np.asarray(powers / enough_pairs(weights, self.full), np.float32)
        least = TINY * max(float(power.max()), float(np.finfo(np.float32).tiny))
        np.maximum(power, np.float32(least), out=power)
        values = np.empty((len(self.shifts), *power.shape), np.float32)
        pairs = np.zeros(power.shape, np.float64)

        def one(i: int) -> Floats:
            y, x = (self.shifts[i] // 2).tolist()
            count = weight(y, x)
            products = average(self._blocks(self.values, area, y, x))
            np.divide(products, enough_pairs(count, self.full) * power, out=values[i])
            return count

        # A single tile has the processors for itself.
        alone = int(np.prod(self.shape) <= TILE**2)
        for count in side_by_side(one, range(len(values)), pixels=alone * power.size * self.step**2):
            pairs += count
        return values, (pairs / (len(self.shifts) * self.full)).astype(np.float32), power

    def _blocks(self, image: Floats, area: tuple[slice, ...], y: int, x: int) -> Floats:
        """Sums of ``image(−s/2) · image(+s/2)`` over blocks of one sample of the grid."""
        before, after = image[_moved(area, -y, -x)], image[_moved(area, y, x)]
        # A block's rows at a time, so that all stays in the cache.
        rows = before[:: self.step] * after[:: self.step]
        product = np.empty_like(rows)
        for i in range(1, self.step):
            rows += np.multiply(before[i :: self.step], after[i :: self.step], out=product)
        out = rows[:, :: self.step].copy()
        for i in range(1, self.step):
            out += rows[:, i :: self.step]
        return out


def _moved(area: tuple[slice, ...], y: int, x: int) -> tuple[slice, slice]:
    rows, columns = area
    return slice(rows.start + y, rows.stop + y), slice(columns.start + x, columns.stop + x)


@dataclass(frozen=True, eq=False)
class Products:
    """Sums of products of pixels of a tile that are a shift apart, for shifts up to half of it.

    Attributes
    ----------
    values, pairs, variance : float32 array (2·r_y + 1, 2·r_x + 1)
        Sum in shares of the power of the tile without background and noise, zero shift in the centre; weight of the
        pairs of pixels that both exist, 1 in the centre; variance that noise gives the sum.
    structure : float
        Share of the power that is not white noise.
    """

    values: Floats
    pairs: Floats
    variance: Floats
    structure: float


def tile_products(tiles: NDArray[np.floating], valid: NDArray[np.bool_] | None = None) -> list[Products]:
    """Products of some tiles (n, y, x), of whose pixels only those count that are valid.

    In each ring of spatial frequencies the median of the power over ln 2 is that of the noise and of what is
    disordered: its periodogram has an exponential distribution, and the reflections of a crystal fill a small share of
    a ring. It is taken off, since beside the noise in the centre the peaks of a low-dose crystal would look weak.
    """
    of = _shape_of(tiles.shape[1], tiles.shape[2])
    axes, tiny = (1, 2), np.finfo(np.float32).tiny
    seen = np.ones(tiles.shape, np.float32) if valid is None else valid.astype(np.float32)
    known = np.maximum(of.local(seen), np.float32(TINY))
    mean = np.mean(tiles, axis=axes, keepdims=True, where=seen > 0)
    images = np.where(seen > 0, tiles - mean, 0).astype(np.float32)
    images = np.asarray((images - of.local(images) / known) * seen, np.float32)
    contrast = np.sqrt(of.local(images * images) / known)
    most = np.maximum(contrast.max(axis=axes, keepdims=True), tiny)
    # Where half of a tile is empty, pairs count by the contrast that both places have.
    pairs = of.products(of.power(of.window * seen * (contrast / most)))
    pairs /= np.maximum(pairs.max(axis=axes, keepdims=True), tiny)
    # A hot pixel would be all that counts.
    images = np.clip(images, -SIGNIFICANT * most, SIGNIFICANT * most) * of.window
    images /= np.maximum(np.sqrt(np.sum(images * images, axis=axes, keepdims=True)), tiny)
    power = of.power(images)
    rings = np.median(power[:, of.places[0], of.places[1]], axis=2) / np.log(2)
    rings[:, 0] = rings[:, min(1, rings.shape[1] - 1)]
    rings[:, -1] = np.median(power[:, of.corners], axis=1) / np.log(2)
    floor = np.array([np.interp(of.ring, np.arange(len(row)), row) for row in rings], np.float32)
    values = of.products(np.where(of.background, 0, power - floor))
    variance = of.spread * np.mean(floor**2, axis=axes, keepdims=True)
    return [*map(Products, values, pairs, variance, (1 - rings[:, -1]).tolist())]


class _TileShape:
    """Windows of all tiles of a shape, and places in the half spectrum of tiles padded to twice the size."""

    def __init__(self, edges: tuple[int, int]) -> None:
        self.padded, edge = [2 * n for n in edges], min(edges)
        self.window = np.outer(*(np.hanning(n + 2)[1:-1] for n in edges)).astype(np.float32)
        self.sides = [_gaussian(np.arange(n), np.arange(n), n / WINDOWS_PER_TILE) for n in edges]
        self.near = [np.arange(-(n // 2) + 1, n // 2) for n in edges]
        # Variance that white noise of power 1 gives the products.
        self.spread = self.products(self.power(self.window**2)) / np.sum(self.window**2) ** 2
        # Rings of frequencies, counted from the middle of the innermost, and places in each.
        radius = np.hypot(fft.fftfreq(self.padded[0])[:, None], fft.rfftfreq(self.padded[1])) * edge
        self.background, self.ring = radius < 2, radius / RING - 0.5
        self.corners = radius > edge / 2
        rings = max(edge // 2 // RING, 1)
        cycles = (np.arange(rings * RING).reshape(rings, RING, 1) + 0.5) / edge
        angle = np.pi * (np.arange(edge) / edge - 0.5)
        waves = zip((np.sin(angle), np.cos(angle)), self.padded, strict=True)
        self.places = tuple(np.rint(cycles * w * n).astype(np.intp).reshape(rings, -1) for w, n in waves)

    def local(self, values: Floats) -> Floats:
        """Sums in Gaussian windows."""
        return np.asarray(self.sides[0] @ values @ self.sides[1].T, np.float32)

    def power(self, image: Floats) -> Floats:
        """Power in the half spectrum of the padded tile."""
        # Rows of zeros need no transform.
        spectrum = fft.fft(fft.rfft(image, self.padded[1]), self.padded[0], axis=-2, overwrite_x=True)
        return np.asarray(spectrum.real**2 + spectrum.imag**2)

    def products(self, power: Floats) -> Floats:
        """Products at the shifts within reach."""
        rows, columns = self.near
        return np.asarray(fft.irfft(fft.ifft(power, axis=-2)[..., rows, :], self.padded[1])[..., columns])


@lru_cache(maxsize=16)
def _shape_of(rows: int, columns: int) -> _TileShape:
    return _TileShape((rows, columns))


def enough_pairs(pairs: Floats, full: np.float32 | int) -> Floats:
    """Pairs that a sum of products is divided by: no less than `LEAST_PAIRS` of those of a full window."""
    return np.maximum(pairs, LEAST_PAIRS * full)


def _gaussian(to: NDArray[np.intp], source: NDArray[np.intp], sigma: float) -> Floats:
    """Weights (to, source) of a Gaussian window; three standard deviations hold 99 % of it."""
    distance = (to[:, None] - source[None]) / sigma
    return np.where(np.abs(distance) <= CUT, np.exp(-0.5 * distance**2), 0).astype(np.float32)
