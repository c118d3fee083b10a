"""The cell that a mean autocorrelation shows: two shortest translations, no false one and no multiple.

The autocorrelation of a crystal is nearly as high at every translation of its lattice as in the centre, and lower where
only some columns coincide. In the mean over tiles even a small difference is significant.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_hrstem_defects.core.tile_correlation import MIN_SIGNIFICANCE, Autocorrelation, Floats

Doubles = NDArray[np.float64]

#: Shortest period that can be told from noise, in px.
MIN_PERIOD_PX = 3.0
#: Ratio of the two translations above which the shorter is a correlation of neighbouring pixels.
MOST_OBLONG = 6.0
#: Height of the best peak below which there is no lattice. Noise and glass averaged over tiles stay below 0.3.
MIN_STRENGTH = 0.45
#: Peaks of this share of the best are tried as translations; lower, dumbbells pass for them, higher, noise drops some.
PEAK_SHARE = 0.8
#: A translation is false if its peaks are lower by this share of the height and by this many standard errors:
#: distortion within a tile makes true ones differ by 2 %.
FALSE_DROP = 0.04
FALSE_SIGMA = 4.0


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


def cell_of(acf: Autocorrelation, single: Floats | None, *, both: bool = False) -> Lattice | None:
    """Lattice of a mean autocorrelation; `single` (n, y, x) are those of the tiles, for their scatter."""
    centre = np.array(acf.values.shape) // 2
    smooth = ndimage.gaussian_filter(acf.denoised, 1.0)
    peaks = np.argwhere((smooth == ndimage.maximum_filter(smooth, 3)) & (smooth > 0))
    peaks = peaks[((peaks > 0) & (peaks < np.array(smooth.shape) - 1)).all(axis=1)]
    shifts = peaks - centre
    half = (shifts[:, 0] > 0) | ((shifts[:, 0] == 0) & (shifts[:, 1] > 0))
    half &= np.hypot(*shifts.T) >= MIN_PERIOD_PX
    peaks = peaks[half]
    if len(peaks) == 0:
        return None
    heights = smooth[tuple(peaks.T)]
    basis = _first_basis(peaks - centre, heights)
    if basis is None or not all(_stands_apart(smooth, centre, v) for v in basis):
        return None
    basis = fitted(smooth, centre, basis)
    basis = _true_cell(acf, single, smooth, centre, basis)
    if np.hypot(*basis[1]) > MOST_OBLONG * np.hypot(*basis[0]):
        return None
    heights = np.array([_height(acf.values, centre + v) for v in basis])
    noise = np.array([_height(acf.noise, centre + v) for v in basis])
    too_low = heights.sum() < MIN_SIGNIFICANCE * noise.sum() if both else heights < MIN_SIGNIFICANCE * noise
    if np.all(too_low):
        return None
    return lattice_of(basis, float(min(heights.max(), 1.0)))


def lattice_of(basis: Doubles, strength: float) -> Lattice:
    """Lattice of two basis vectors (rows; y, x; px)."""
    (a, b), (c, d) = basis.tolist()
    return Lattice((a, b), (c, d), float(np.sqrt(abs(a * d - b * c))), strength)


#: Changes of basis to lattices with 1/2 and 1/3 of the points (Hermite normal forms); inverted: finer ones.
_COARSER = tuple(
    np.array(m, float)
    for m in (
        ((2, 0), (0, 1)), ((1, 0), (0, 2)), ((1, 1), (0, 2)),
        ((3, 0), (0, 1)), ((1, 0), (0, 3)), ((1, 1), (0, 3)), ((1, 2), (0, 3)),
    )
)  # fmt: skip


def _true_cell(
    acf: Autocorrelation, single: Floats | None, smooth: Floats, centre: NDArray[np.intp], basis: Doubles
) -> Doubles:
    """The cell or a finer one, if all its points are equally high, or a coarser one, if some are lower."""
    heights = ndimage.spline_filter(acf.values, 3, output=np.float32)
    for _ in range(4):
        for change in _COARSER:
            # Rows of inv(change)ᵀ are fractions of the basis: all lattices that hold this one as 1/2 or 1/3.
            finer = _shortest(np.linalg.inv(change).T @ basis)
            if np.hypot(*finer[0]) < MIN_PERIOD_PX:
                continue
            drop, error, level = _rise(
                acf, heights, single, centre, finer, basis, round(np.linalg.det(change))
            )
            if drop < FALSE_DROP and error < FALSE_DROP and level > PEAK_SHARE:
                basis = fitted(smooth, centre, finer)
                break
        else:
            break
    for _ in range(3):
        found = []
        for change in _COARSER:
            coarser = _shortest(change @ basis)
            if (np.abs(coarser) > centre - 1).any():
                continue
            drop, error, _ = _rise(acf, heights, single, centre, basis, coarser, round(np.linalg.det(change)))
            if drop > max(FALSE_DROP, FALSE_SIGMA * error):
                found.append((drop, coarser))
        if not found:
            return basis
        basis = fitted(smooth, centre, max(found, key=lambda item: item[0])[1])
    return basis


def _rise(
    acf: Autocorrelation,
    spline: Floats,
    single: Floats | None,
    centre: NDArray[np.intp],
    fine: Doubles,
    coarse: Doubles,
    index: int,
) -> tuple[float, float, float]:
    """How much higher the autocorrelation is at a multiple of false translations than at these, and its error.

    Of a true translation the multiple is never higher: distortion, drift and jitter only add up. Points of the fine
    lattice that are not in the coarse one are false translations if their `index`-fold, which is in it, is higher.

    Returns
    -------
    rise, error, level : float
        In shares of the height at the multiples; `level` is the height at the points themselves.
    """
    numbers = np.array([(i, j) for i in range(-3, 4) for j in range(4) if j > 0 or i > 0])
    points = numbers @ fine
    off = points @ np.linalg.inv(coarse)
    apart = np.abs(off - np.rint(off)).max(axis=1) > 0.1
    seen = apart & (np.abs(points) * index < centre - 1.5).all(axis=1)
    if not seen.any():
        near = points[apart & (np.abs(points) < centre - 1.5).all(axis=1)]
        if len(near) == 0:
            return 0.0, np.inf, 0.0
        return 0.0, np.inf, float(_sample(spline, centre, near, order=3).mean())
    points = points[seen]
    points = points[np.argsort(np.hypot(*points.T), kind="stable")][:6]
    near, far = _sample(spline, centre, points, order=3), _sample(spline, centre, index * points, order=3)
    base = max(float(far.mean()), 1e-3)
    noise = np.concatenate([_sample(acf.noise, centre, points), _sample(acf.noise, centre, index * points)])
    error = float(np.sqrt((noise**2).sum())) / len(points) / base
    if single is not None and len(single) >= 4:
        both = np.concatenate([points, index * points])
        sign = np.repeat([-1.0, 1.0], len(points)) / len(points)
        each = np.array([sign @ _sample(tile, centre, both) for tile in single])
        error = max(error, float(each.std(ddof=1) / np.sqrt(len(single))) / base)
    else:
        # A few tiles do not tell how much distortion scatters the heights: 2 % (see FALSE_DROP).
        error = max(error, FALSE_DROP / 2)
    return float((far - near).mean()) / base, error, float(near.mean()) / base


def repetition(acf: Autocorrelation, lattice: Lattice, radius: float = 3.0) -> float:
    """Share of the autocorrelation around the centre, out to three periods, that one cell explains.

    Crystals repeat the cell with nearly equal height; quasicrystals, two lattices on top of each other and curved
    fringes do not.
    """
    if not np.isfinite(acf.noise).all():
        return 0.0
    centre = np.array(acf.values.shape) // 2
    basis = np.array([lattice.v1, lattice.v2])
    fractions = np.stack(np.meshgrid(*(np.arange(12) / 12,) * 2, indexing="ij"), -1).reshape(-1, 2)
    numbers = np.stack(np.meshgrid(*(np.arange(-9, 9),) * 2, indexing="ij"), -1).reshape(-1, 1, 2)
    points = (numbers + fractions) @ basis
    length = np.hypot(points[..., 0], points[..., 1]) / lattice.period_px
    used = (length > 0.6) & (length < radius) & (np.abs(points) < centre - 1).all(axis=-1)
    values = _sample(acf.values, centre, points.reshape(-1, 2)).reshape(used.shape) * used
    noise = _sample(acf.noise, centre, points.reshape(-1, 2)).reshape(used.shape) ** 2 * used
    count = used.sum(axis=0)
    enough = count > 1
    mean = values.sum(axis=0) / np.maximum(count, 1)
    residual = (((values - mean) * used)[:, enough] ** 2).sum() - (
        noise[:, enough].sum(axis=0) * (1 - 1 / count[enough])
    ).sum()
    total = (values[:, enough] ** 2).sum() - noise[:, enough].sum()
    return float(np.clip(1 - residual / max(total, 1e-9), 0, 1)) if total > 0 else 0.0


def _sample(values: Floats, centre: NDArray[np.intp], points: Doubles, order: int = 1) -> Doubles:
    """Values at shifts (n, 2) in px, between pixels: linear, or cubic of spline coefficients."""
    places = (points + centre).T
    out: Doubles = ndimage.map_coordinates(
        values, places, order=order, mode="nearest", output=np.float64, prefilter=False
    )
    return out


def fitted(smooth: Floats, centre: NDArray[np.intp], basis: Doubles) -> Doubles:
    """Least-squares basis from all peaks of the autocorrelation near lattice points, out to three cells."""
    for reach in (1, 2, 3):
        numbers = np.array(
            [(i, j) for i in range(-reach, reach + 1) for j in range(reach + 1) if j > 0 or i > 0]
        )
        places, kept, weight = [], [], []
        for number in numbers:
            start = np.rint(centre + number @ basis).astype(int)
            if (start < 2).any() or (start > np.array(smooth.shape) - 3).any():
                continue
            window = smooth[start[0] - 1 : start[0] + 2, start[1] - 1 : start[1] + 2]
            start = start + np.array(np.unravel_index(int(window.argmax()), (3, 3))) - 1
            window = smooth[start[0] - 1 : start[0] + 2, start[1] - 1 : start[1] + 2]
            if window.argmax() != 4 or window[1, 1] <= 0:
                continue
            places.append(_refine(smooth, start) - centre)
            kept.append(number)
            weight.append(float(smooth[tuple(start)]))
        if len(kept) < 2:
            continue
        w = np.array(weight)[:, None]
        solution, _, rank, _ = np.linalg.lstsq(w * np.array(kept), w * np.array(places), rcond=None)
        if rank == 2 and np.abs(solution - basis).max() < 0.2 * np.hypot(*basis.T).min():
            basis = solution
    return _shortest(basis)


def _shortest(basis: Doubles) -> Doubles:
    """Shortest basis of a lattice (Lagrange and Gauss), pointing down or right."""
    a, b = basis
    if a @ a > b @ b:
        a, b = b, a
    while True:
        b = b - np.round(a @ b / (a @ a)) * a
        if b @ b >= a @ a * (1 - 1e-9):
            break
        a, b = b, a
    return np.array([v if (v[0], v[1]) > (0, 0) else -v for v in (a, b)])


def _first_basis(peaks: NDArray[np.intp], heights: NDArray[np.floating]) -> Doubles | None:
    """The shortest strong peak and the shortest of those aside that are strong among these."""
    order = np.argsort(np.hypot(*peaks.T), kind="stable")
    peaks, heights = peaks[order].astype(float), heights[order]
    first = peaks[np.argmax(heights >= PEAK_SHARE * heights.max())]
    lengths = np.hypot(*first) * np.hypot(*peaks.T)
    aside = np.abs(first[0] * peaks[:, 1] - first[1] * peaks[:, 0]) > 0.3 * lengths
    if not aside.any():
        return None
    # Where lines jitter all peaks that are not on the line are lower.
    most = heights[aside].max()
    if most < MIN_STRENGTH * heights.max():
        return None
    second = peaks[np.argmax(aside & (heights >= PEAK_SHARE * most))]
    return _shortest(np.array([first, second]))


def _stands_apart(smooth: Floats, centre: NDArray[np.intp], vector: Doubles) -> bool:
    """Whether there is a dip between the centre and a peak: along a stripe there is none."""
    steps = np.linspace(0.0, 1.0, 2 * int(np.ceil(np.hypot(*vector))) + 1)
    profile = ndimage.map_coordinates(smooth, (centre + steps[:, None] * vector).T, order=1, mode="nearest")
    return bool(profile.min() < 0.92 * profile[-1])


def _height(values: Floats, position: Doubles) -> float:
    y, x = (int(np.clip(np.rint(p), 1, n - 2)) for p, n in zip(position, values.shape, strict=True))
    return float(values[y - 1 : y + 2, x - 1 : x + 2].max())


def _refine(image: Floats, peak: NDArray[np.intp]) -> Doubles:
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
