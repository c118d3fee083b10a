"""The field of local autocorrelations: which lattice there is around each point, and how much of it.

For a prepared image h of p pixels per lattice period and every shift s of a half disc,

    A(x, s) = Σ w(x − y) h(y − s/2) h(y + s/2) / N(x, s)  /  Σ w(x − y) h(y)² / N(x, 0)

with w a Gaussian and N the weight of the pairs of pixels that both exist. The *direction* A / |A| says what the
lattice is, whatever its contrast; the *strength* |A| how much of it there is. Neither depends on where the columns lie.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.core.errors import Cancelled
from napari_hrstem_defects.core.preprocessing import CLIP_SHARE, Prepared, sample_linear
from napari_hrstem_defects.core.sampling import even_sample
from napari_hrstem_defects.core.threads import own_threads

#: Standard deviation of the window, in periods: the narrowest that averages noise over a few columns.
WINDOW_PERIODS = 1.1
#: Shortest and longest shift, in periods: beyond the columns' own width, and two shells of neighbours.
SHORTEST_PERIODS, LONGEST_PERIODS = 0.4, 2.2
#: Principal components of the direction that are kept: 99 % of its variance in images of several grains.
COMPONENTS = 16
#: Least share of the pairs of a full window that a value may rest on.
LEAST_PAIRS = 0.02
#: Edge of the tiles, in samples of the field; the basis of the components is taken from so many of them.
TILE, BASIS_TILES = 128, 9


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

    strength: NDArray[np.float32]
    power: NDArray[np.float32]
    components: NDArray[np.float32]
    basis: NDArray[np.float32]
    mean: NDArray[np.float32]
    pairs: NDArray[np.float32]
    shifts: NDArray[np.intp]
    step_px: int
    period: float

    @property
    def shape(self) -> tuple[int, int]:
        """Shape ``(y'', x'')`` of the grid."""
        return self.strength.shape[0], self.strength.shape[1]

    @property
    def places(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Rows and columns of the samples in pixels of the prepared image."""
        rows, columns = ((np.arange(n) + 0.5) * self.step_px - 0.5 for n in self.shape)
        return rows, columns

    def distance(self, direction: NDArray[np.floating]) -> NDArray[np.float32]:
        """Cosine distance of every direction to one of unit length, given as ``(n,)``."""
        coefficients = (self.basis @ direction).astype(np.float32)
        similar = np.tensordot(coefficients, self.components, 1) + np.float32(self.mean @ direction)
        return np.maximum(1 - similar, 0)

    def to_frame(self, values: NDArray[np.floating], prepared: Prepared) -> NDArray[np.float32]:
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
    """Even shifts ``(y, x)`` of a half disc, in pixels: both ends of a pair then lie on pixels.

    Parameters
    ----------
    period_px : float
        Lattice period in pixels.
    """
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

    Raises
    ------
    Cancelled
        If `cancelled` returned True.
    """
    tiles = _Tiles(prepared, valid)
    whole = [
        (slice(y, min(y + TILE, tiles.shape[0])), slice(x, min(x + TILE, tiles.shape[1])))
        for y in range(0, tiles.shape[0], TILE)
        for x in range(0, tiles.shape[1], TILE)
    ]
    # An odd step through the tiles visits all parts of the image.
    first = {int(i) for i in np.linspace(0, len(whole) - 1, min(BASIS_TILES, len(whole)))}
    order = sorted(range(len(whole)), key=lambda i: i not in first)
    strength = np.empty(tiles.shape, np.float32)
    pairs, power = np.empty(tiles.shape, np.float32), np.empty(tiles.shape, np.float32)
    kept: list[tuple[tuple[slice, slice], NDArray[np.float32]]] = []
    components = mean = basis = None
    with own_threads():
        for number, i in enumerate(order):
            if cancelled is not None and cancelled():
                raise Cancelled
            values, pairs[whole[i]], power[whole[i]] = tiles.compute(whole[i])
            norm = np.sqrt(np.einsum("nyx,nyx->yx", values, values))
            strength[whole[i]] = norm / np.float32(np.sqrt(len(values)))
            values /= np.maximum(norm, np.float32(1e-6))
            if number < len(first):
                kept.append((whole[i], values))
            if number == len(first) - 1:
                mean, basis = _principal([v for _, v in kept])
                components = np.empty((len(basis), *tiles.shape), np.float32)
                for window, directions in kept:
                    components[:, *window] = _project(directions, mean, basis)
                kept.clear()
            elif components is not None and mean is not None and basis is not None:
                components[:, *whole[i]] = _project(values, mean, basis)
    assert components is not None
    assert mean is not None
    assert basis is not None
    return Field(
        strength,
        power,
        components,
        basis,
        mean,
        pairs,
        tiles.shifts,
        tiles.step,
        prepared.period_px / tiles.step,
    )


def _principal(directions: list[NDArray[np.float32]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
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


def _project(
    directions: NDArray[np.float32], mean: NDArray[np.float32], basis: NDArray[np.float32]
) -> NDArray[np.float32]:
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
        # Three standard deviations of the window hold 99 % of its weight.
        self.margin = int(3 * self.sigma) + 1
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

    def compute(
        self, window: tuple[slice, slice]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """A for all shifts, ``(n, y, x)``, the share of pairs and the local power, of one tile."""
        low = [max(s.start - self.margin, 0) for s in window]
        high = [min(s.stop + self.margin, n) for s, n in zip(window, self.shape, strict=True)]
        smooth = [
            self._weights(np.arange(s.start, s.stop), np.arange(a, b))
            for s, a, b in zip(window, low, high, strict=True)
        ]

        def average(blocks: NDArray[np.float32]) -> NDArray[np.float32]:
            return np.asarray(smooth[0] @ blocks @ smooth[1].T, np.float32)

        area = tuple(
            slice(self.border + a * self.step, self.border + b * self.step)
            for a, b in zip(low, high, strict=True)
        )

        def weight(y: int, x: int) -> NDArray[np.float32]:
            """Of the pairs of pixels that both hold an image."""
            if not self.whole:
                return average(self._blocks(self.valid, area, y, x))
            # A pair lies in the image if it does along both axes.
            sides = []
            for axis, (matrix, shift) in enumerate(zip(smooth, (y, x), strict=True)):
                line = self.lines[axis]
                part = area[axis]
                both = (
                    line[part.start - shift : part.stop - shift]
                    * line[part.start + shift : part.stop + shift]
                )
                sides.append(matrix @ both.reshape(-1, self.step).sum(axis=1))
            return np.outer(*sides).astype(np.float32)

        weights = weight(0, 0)
        powers = average(self._blocks(self.values, area, 0, 0))
        power = np.asarray(powers / np.maximum(weights, LEAST_PAIRS * self.full), np.float32)
        least = 1e-6 * max(float(power.max()), float(np.finfo(np.float32).tiny))
        np.maximum(power, np.float32(least), out=power)
        values = np.empty((len(self.shifts), *power.shape), np.float32)
        pairs = np.zeros(power.shape, np.float64)
        for i, (y, x) in enumerate((self.shifts // 2).tolist()):
            count = weight(y, x)
            np.divide(
                average(self._blocks(self.values, area, y, x)),
                np.maximum(count, LEAST_PAIRS * self.full) * power,
                out=values[i],
            )
            pairs += count
        return values, (pairs / (len(self.shifts) * self.full)).astype(np.float32), power

    def _weights(self, to: NDArray[np.intp], source: NDArray[np.intp]) -> NDArray[np.float32]:
        distance = (to[:, None] - source[None]) / self.sigma
        return np.where(np.abs(distance) <= 3, np.exp(-0.5 * distance**2), 0).astype(np.float32)

    def _blocks(
        self, image: NDArray[np.float32], area: tuple[slice, ...], y: int, x: int
    ) -> NDArray[np.float32]:
        """Sums of ``image(−s/2) · image(+s/2)`` over blocks of one sample of the grid."""
        product = image[_moved(area, -y, -x)] * image[_moved(area, y, x)]
        rows = product[:: self.step].copy()
        for i in range(1, self.step):
            rows += product[i :: self.step]
        out = rows[:, :: self.step].copy()
        for i in range(1, self.step):
            out += rows[:, i :: self.step]
        return out


def _moved(area: tuple[slice, ...], y: int, x: int) -> tuple[slice, slice]:
    rows, columns = area
    return slice(rows.start + y, rows.stop + y), slice(columns.start + x, columns.stop + x)
