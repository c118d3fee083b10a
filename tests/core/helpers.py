"""Hand-made lattices with known vectors, independent of the package's own simulator."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.core.preprocessing import Prepared

Vector = tuple[float, float]
Columns = Sequence[tuple[Vector, float]]

#: Basis vectors ``(y, x)`` of cells of area 1.
CELLS: dict[str, tuple[Vector, Vector]] = {
    "square": ((0.0, 1.0), (1.0, 0.0)),
    # |a| = |b|, 60° between: the area is |a|² √3/2.
    "hexagonal": ((0.0, (4 / 3) ** 0.25), ((3 / 4) ** 0.25, (1 / 12) ** 0.25)),
    # 77° between, lengths 0.94 and 1.09.
    "oblique": ((0.0, 0.94), (1 / 0.94, 0.245)),
    # Centred cell of a cubic crystal seen along [110]: sides 1 : √2.
    "centred rectangular": ((2**-0.25, 2**-0.75), (2**-0.25, -(2**-0.75))),
}


def vectors(kind: str, period: float, angle_deg: float = 0.0) -> tuple[Vector, Vector]:
    """Basis vectors of a cell of area ``period²``, turned by an angle."""
    c, s = np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))
    (a, b), (d, e) = CELLS[kind]
    return (
        (period * (a * c - b * s), period * (a * s + b * c)),
        (period * (d * c - e * s), period * (d * s + e * c)),
    )


def crystal(
    shape: tuple[int, int],
    basis: tuple[Vector, Vector],
    columns: Columns = (((0.0, 0.0), 1.0),),
    *,
    width: float = 0.16,
    shift: Vector = (0.0, 0.0),
) -> NDArray[np.float64]:
    """Gaussian columns on a lattice, as the Fourier series that Poisson's formula gives for them.

    Parameters
    ----------
    shape : tuple of int
    basis : two vectors (y, x) in px
    columns : ((a, b), weight), ...
        Places in the cell, in fractions of the basis vectors.
    width : float
        Standard deviation of a column in periods (square root of the cell's area).
    shift : (y, x)
        Of the whole crystal, in px.

    Returns
    -------
    float64 array
        A single column of weight 1 has the height 1.
    """
    matrix = np.array(basis)
    area = abs(np.linalg.det(matrix))
    sigma = width * np.sqrt(area)
    reciprocal = np.linalg.inv(matrix).T
    y, x = (np.arange(n) - s for n, s in zip(shape, shift, strict=True))
    out = np.zeros(shape)
    for h in range(-5, 6):
        for k in range(-5, 6):
            gy, gx = h * reciprocal[0] + k * reciprocal[1]
            size = np.exp(-2 * (np.pi * sigma) ** 2 * (gy**2 + gx**2)) * 2 * np.pi * sigma**2 / area
            if size < 1e-5:
                continue
            factor = sum(weight * np.exp(-2j * np.pi * (h * a + k * b)) for (a, b), weight in columns)
            wave = np.outer(np.exp(2j * np.pi * gy * y), np.exp(2j * np.pi * gx * x))
            out += size * (factor * wave).real
    return out


def noisy(image: NDArray[np.float64], sigma: float, seed: int = 0) -> NDArray[np.float32]:
    """The image under white normal noise."""
    return (image + sigma * np.random.default_rng(seed).standard_normal(image.shape)).astype(np.float32)


def counted(image: NDArray[np.float64], dose: float, seed: int = 0) -> NDArray[np.float32]:
    """The image (0...1 or so) as counts with `dose` electrons per pixel on average."""
    rate = np.maximum(image, 0) * dose / image.mean()
    return np.random.default_rng(seed).poisson(rate).astype(np.float32)


def glass(shape: tuple[int, int], sigma: float, seed: int = 0) -> NDArray[np.float64]:
    """Amorphous material: white noise blurred to speckles of `sigma` px, mean 0, variance 1."""
    spectrum = np.fft.rfft2(np.random.default_rng(seed).standard_normal(shape))
    fy, fx = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None]
    out = np.fft.irfft2(spectrum * np.exp(-2 * (np.pi * sigma) ** 2 * (fy**2 + fx**2)), s=shape)
    return (out - out.mean()) / out.std()


def fault(
    shape: tuple[int, int],
    basis: tuple[Vector, Vector],
    at: float,
    slip: Vector,
    columns: Columns = (((0.0, 0.0), 1.0),),
    **kwargs: float,
) -> NDArray[np.float64]:
    """A crystal whose part right of column `at` is displaced by `slip` px: a planar fault."""
    left = crystal(shape, basis, columns, **kwargs)
    right = crystal(shape, basis, columns, shift=slip, **kwargs)
    return np.where(np.arange(shape[1])[None] < at, left, right)


def dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Dice overlap of two masks; 1 where both are empty."""
    total = np.count_nonzero(a) + np.count_nonzero(b)
    return 2 * np.count_nonzero(a & b) / total if total else 1.0


def prepared_of(values: NDArray[np.floating], period: float = 8.0) -> Prepared:
    """A prepared image of these very values, valid everywhere, of the frame's resolution."""
    values = values.astype(np.float32)
    return Prepared(values, values, np.ones(values.shape, bool), values.shape, period)
