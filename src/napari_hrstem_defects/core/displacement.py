"""Lattice phases (geometric phase analysis): what is displaced against what, by how much; the stacking of layers.

Each strong harmonic of the lattice is demodulated and smoothed; where the lattice is displaced by u the phase of the
harmonic g falls by 2π g·u (Hÿtch, Snoeck & Kilaas, Ultramicroscopy 74 (1998) 131). Around a dislocation the phases
wind by whole turns: minus g times the Burgers vector. The product of three harmonics with g₁ + g₂ + g₃ = 0 has a phase
that no displacement changes and an inversion reverses (a structure invariant of crystallography).

Seen along [110] the close-packed layers of cubic crystals lie edge-on, each displaced along the layers by a third of
their period against the one below: ABC. A slip of the crystal by that third reverses one step. One reversed step is an
intrinsic stacking fault, two neighbouring ones are an extrinsic one, m neighbouring ones a twin lamella, every second
one hexagonal stacking, all beyond a plane a twin (Hirth & Lothe, *Theory of Dislocations*, 2nd ed., 1982, chapter 10).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import least_squares

from napari_hrstem_defects.core.lattice import Lattice, amplitudes, orders_within
from napari_hrstem_defects.core.preprocessing import Prepared

#: Stacking sequences that are distinguished.
SEQUENCES = ("perfect", "intrinsic", "extrinsic", "lamella", "several", "twin")
#: Angle between two directions that are certainly different; half of it is within the error of one direction.
TURN_DEG = 10.0
#: Heights per layer at which the phase is taken.
_SAMPLES = 8
#: Displacement of one close-packed layer against the next, in periods within the layer.
_THIRD = 1 / 3
_TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, eq=False)
class LatticePhases:
    """Complex local amplitudes of some harmonics of a lattice.

    Attributes
    ----------
    orders : int array (n, 2)
        Miller indices of the harmonics to `basis`, by decreasing strength in the model patch.
    basis : float array (2, 2)
        Rows: lattice vectors ``(y, x)`` in pixels of the prepared image.
    values : complex64 array (n, y', x')
        Amplitudes, 1 on average in the model patch, without the lattice's own phase ramp.
    step_px : int
        Distance of samples in pixels of the prepared image: half a period, as that of the field.
    """

    orders: NDArray[np.intp]
    basis: NDArray[np.float64]
    values: NDArray[np.complex64]
    step_px: int

    @property
    def period(self) -> float:
        """Lattice period in samples."""
        return float(np.sqrt(abs(np.linalg.det(self.basis)))) / self.step_px

    def at(self, points: NDArray[np.floating]) -> NDArray[np.complex64]:
        """Amplitudes at points ``(m, 2)`` given in samples, shape ``(n, m)``."""
        places = np.asarray(points, np.float64).T
        return np.array([ndimage.map_coordinates(v, places, order=1, mode="nearest") for v in self.values])

    def invariant(self, amplitudes: NDArray[np.complexfloating]) -> complex:
        """Structure invariant: mean product of three of the amplitudes ``(n, m)`` over its mean size, 0 without any."""
        signs = product((1,), (1, -1), (1, -1))
        for chosen, sign in product(combinations(range(len(self.orders)), 3), signs):
            if not (np.array(sign) @ self.orders[list(chosen)]).any():
                factors = [
                    amplitudes[i] if s > 0 else amplitudes[i].conj()
                    for i, s in zip(chosen, sign, strict=True)
                ]
                values = np.prod(factors, axis=0)
                return complex(values.sum() / max(float(np.abs(values).sum()), _TINY))
        return 0j


def lattice_phases(
    prepared: Prepared,
    lattice: Lattice,
    patch: tuple[slice, slice],
    *,
    harmonics: int = 4,
    least_share: float = 0.15,
    smoothing_periods: float = 0.8,
) -> LatticePhases | None:
    """Demodulate the strongest harmonics of a lattice, up to the second order.

    Parameters
    ----------
    prepared : Prepared
    lattice : Lattice
        In pixels of the frame.
    patch : tuple of slice
        Model patch in the prepared image: its harmonics are chosen and its phase ramp is taken for the lattice's.
    harmonics : int
        Largest number of harmonics.
    least_share : float
        Least amplitude of a harmonic as a share of the strongest one's; the first that is not collinear with that one
        is taken however weak it is.
    smoothing_periods : float
        Standard deviation of the smoothing: keeps neighbouring harmonics out and follows walls closely.

    Returns
    -------
    LatticePhases or None
        None if the lattice is too coarse for the image, or the model patch is empty.

    References
    ----------
    Hÿtch, Snoeck & Kilaas, Ultramicroscopy 74 (1998) 131.

    Examples
    --------
    Below row 64 the lattice of 8 px is displaced by 2 px along y: the phase of the harmonic g = 1/8 falls by 2π·2/8.

    >>> import numpy as np, napari_hrstem_defects as hd
    >>> y, x = np.mgrid[:128, :128]
    >>> image = np.cos(2 * np.pi * x / 8) + np.cos(2 * np.pi * (y - 2 * (y >= 64)) / 8)
    >>> prepared = hd.Prepared(image.astype(np.float32), image, np.ones(image.shape, bool), image.shape, 8.0)
    >>> patch = (slice(8, 56), slice(8, 56))
    >>> phases = hd.lattice_phases(prepared, hd.Lattice((8.0, 0.0), (0.0, 8.0), 8.0, 1.0), patch)
    >>> along_y = phases.values[phases.orders.tolist().index([1, 0])]
    >>> abs(np.angle(along_y[-4, 16] / along_y[4, 16]) / np.pi + 0.5) < 0.05
    np.True_
    """
    basis = np.array([lattice.v1, lattice.v2]) * prepared.scale
    # g·v is the order of g along v.
    reciprocal = np.linalg.inv(basis).T
    orders = _strong_orders(prepared.values[patch], reciprocal, harmonics, least_share)
    block = max(1, round(prepared.period_px / 2))
    rows, columns = (n // block for n in prepared.values.shape)
    if min(rows, columns) * block < 2 * prepared.period_px:
        return None
    blocks = prepared.values[: rows * block, : columns * block].reshape(rows, block, columns, block)
    inner = tuple(
        slice(min(s.start // block, n - 2), max(s.stop // block, s.start // block + 2))
        for s, n in zip(patch, (rows, columns), strict=True)
    )
    values = np.empty((len(orders), rows, columns), np.complex64)
    for value, order in zip(values, orders, strict=True):
        waves = (
            np.exp(-2j * np.pi * g * np.arange(n * block)).astype(np.complex64).reshape(n, block)
            for g, n in zip(order @ reciprocal, (rows, columns), strict=True)
        )
        coarse = np.einsum("ybxc,yb,xc->yx", blocks, *waves, optimize=True)
        value[:] = ndimage.gaussian_filter(coarse, smoothing_periods * prepared.period_px / block)
        own = value[inner]
        # What is left of the ramp, from neighbours in the model patch.
        for axis, n in enumerate((rows, columns)):
            own_y = np.moveaxis(own, axis, 0)
            ramp = np.exp(-1j * np.angle(np.vdot(own_y[:-1], own_y[1:])) * np.arange(n))
            value *= ramp[:, None] if axis == 0 else ramp
        level = float(np.abs(own).mean())
        if level <= 0:
            return None
        value /= level
    return LatticePhases(orders, basis, values, block)


def _strong_orders(
    patch: NDArray[np.float32], reciprocal: NDArray[np.floating], most: int, least_share: float
) -> NDArray[np.intp]:
    """Orders of the strongest harmonics of a patch, at least two of them not collinear."""
    candidates = orders_within(2)
    strength = np.abs(amplitudes(patch, candidates @ reciprocal))
    ranked = candidates[np.argsort(-strength, kind="stable")]
    strong = int(np.count_nonzero(strength > least_share * strength.max()))
    chosen = [*range(min(most, strong))]
    # Fringes show the other direction weakly.
    aside = int(np.flatnonzero(ranked[:, 0] * ranked[0, 1] != ranked[:, 1] * ranked[0, 0])[0])
    if aside not in chosen:
        chosen = [*chosen[: most - 1], aside]
    return np.asarray(ranked[chosen], np.intp)


def circuit(
    phases: LatticePhases, centre: NDArray[np.float64], radius: float
) -> tuple[tuple[int, int], float]:
    """Burgers circuit: how often the phases wind along a circle.

    Parameters
    ----------
    phases : LatticePhases
    centre : float array (2,)
        In samples.
    radius : float
        In samples.

    Returns
    -------
    burgers : (int, int)
        Closure failure in units of the lattice vectors.
    clear : float
        How safe that is, 0 to 1: smallest amplitude on the path relative to the model patch's, less where the
        harmonics contradict each other; 0 if the circle does not lie in the image.
    """
    if (centre - radius < 0).any() or (centre + radius > np.array(phases.values.shape[1:]) - 1).any():
        return (0, 0), 0.0
    angle = np.arange(0, 2 * np.pi, 0.5 / radius)
    values = phases.at(centre + radius * np.stack([np.sin(angle), np.cos(angle)], axis=1))
    steps = np.angle(values * np.conj(np.roll(values, 1, axis=1)))
    turns = np.rint(steps.sum(axis=1) / (2 * np.pi)).astype(np.intp)
    clear = np.clip(np.abs(values).min(axis=1), _TINY, 1.0)
    # Turns are minus g·b and g·b is linear in the orders: two harmonics give b, the others must agree.
    found = np.linalg.lstsq(phases.orders * clear[:, None], -turns * clear, rcond=None)[0]
    b = np.rint(found).astype(int)
    safe = float(np.median(clear)) * float(np.average(turns == -(phases.orders @ b), weights=clear))
    return (int(b[0]), int(b[1])), safe


def across(
    phases: LatticePhases,
    mask: NDArray[np.bool_],
    pieces: NDArray[np.integer],
    contrast: NDArray[np.floating],
    *,
    trials: int = 24,
) -> tuple[NDArray[np.float64], float, float] | None:
    """Compare the lattice on the two sides of a wall.

    Parameters
    ----------
    phases : LatticePhases
    mask : bool array (y', x')
        The wall, on the samples of `phases`.
    pieces : int array (y', x')
        Numbers of the connected pieces of good crystal, 0 outside of all.
    contrast : float array (y', x')
        Some property of the crystal that is compared as well.
    trials : int
        Trial displacements per lattice vector.

    Returns
    -------
    shift : float array (2,)
        Displacement of the smaller side in units of the lattice vectors, in (-0.5, 0.5].
    coherence : float
        How well one displacement explains all harmonics at all places, 0 to 1.
    step : float
        Median difference of the contrast between the sides. All is None if nowhere both sides are free.
    """
    pairs = _sides(mask, pieces, phases.period)
    if pairs is None:
        return None
    one, other, normals = pairs
    distance = np.hypot(*(other - one).T)
    a, b = phases.at(one), phases.at(other)
    # The phases' own slopes (strain, drift) are not the wall's.
    reach = phases.period * normals
    slope = 0.5 * (
        np.angle((a * np.conj(phases.at(one - reach))).sum(axis=1))
        + np.angle((phases.at(other + reach) * np.conj(b)).sum(axis=1))
    )
    jump = b * np.conj(a) * np.exp(-1j * slope[:, None] * distance / phases.period)
    weights = np.sqrt(np.abs(jump)).sum(axis=1)
    mean = jump.sum(axis=1) / np.maximum(np.abs(jump).sum(axis=1), _TINY)
    shifts = np.indices((trials, trials)).reshape(2, -1).T / trials
    fits = (mean * np.exp(2j * np.pi * shifts @ phases.orders.T)).real @ weights / max(weights.sum(), _TINY)
    best = shifts[int(np.argmax(fits))]
    beside = [contrast[tuple(np.rint(points).astype(np.intp).T)] for points in (one, other)]
    return np.where(best > 0.5, best - 1, best), float(fits.max()), float(np.median(beside[1] - beside[0]))


def _sides(
    mask: NDArray[np.bool_], pieces: NDArray[np.integer], period: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]] | None:
    """Points in samples on both sides of a wall, ``(m, 2)`` each, and the unit normals from one to the other."""
    if not mask.any():
        return None
    (box,), margin = ndimage.find_objects(mask.astype(np.uint8)), 2 * round(2 * period)
    window = tuple(slice(max(0, s.start - margin), s.stop + margin) for s in box)
    corner, mask = np.array([s.start for s in window]), mask[window]
    depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    middle = np.argwhere(mask & (depth >= ndimage.maximum_filter(depth, footprint=np.ones((3, 3)))))
    y, x = np.indices(mask.shape, np.float64)
    # Second moments of the part of the wall nearby; the smallest principal axis is across it.
    weight, *sums = (
        ndimage.gaussian_filter(mask * values, period + depth.max() / 2)[tuple(middle.T)]
        for values in (np.ones(mask.shape), y, x, y * y, x * x, y * x)
    )
    m_y, m_x, m_yy, m_xx, m_yx = np.array(sums) / weight
    along = 0.5 * np.arctan2(2 * (m_yx - m_y * m_x), (m_xx - m_x**2) - (m_yy - m_y**2))
    normals = np.stack([np.cos(along), -np.sin(along)], axis=1)
    # One sense for all of them: out of the larger piece of crystal, where the wall parts two, else along each other.
    normals *= np.where(normals @ normals[len(normals) // 2] < 0, -1.0, 1.0)[:, None]
    # Beyond the reach of the smoothing.
    offset = (depth[tuple(middle.T)] + 2 * period)[:, None] * normals
    one, other = middle + corner - offset, middle + corner + offset
    first, second = (ndimage.map_coordinates(pieces, p.T, order=0, mode="constant") for p in (one, other))
    sizes = np.bincount(pieces.ravel())
    turn = (sizes[second] > sizes[first])[:, None]
    free = (first > 0) & (second > 0)
    if not free.any():
        return None
    one, other = np.where(turn, other, one), np.where(turn, one, other)
    return one[free], other[free], np.where(turn, -normals, normals)[free]


class _Layers(NamedTuple):
    """Close-packed layers of a lattice seen edge-on: unit vectors, period within, distance, step along the next one."""

    along: NDArray[np.float64]
    normal: NDArray[np.float64]
    repeat: float
    spacing: float
    step: float


def read_stacking(
    prepared: Prepared,
    basis: NDArray[np.floating],
    points: NDArray[np.floating],
    blocked: NDArray[np.bool_],
    step_px: float,
    *,
    side_layers: int = 5,
    max_layers: int = 24,
    chunk_periods: float = 6.0,
) -> dict[str, float] | None:
    """Read the stacking sequence across a band.

    Parameters
    ----------
    prepared : Prepared
    basis : float array (2, 2)
        Rows: lattice vectors ``(y, x)`` in pixels of the prepared image.
    points : float array (n, 2)
        The band, evenly sampled, in pixels of the prepared image.
    blocked : bool array (y', x')
        Where the crystal is disturbed by something else, on a grid of `step_px`.
    step_px : float
        Distance of the points and of the samples of `blocked`, in pixels of the prepared image.
    side_layers, max_layers : int
        Layers read on either side of a band, and in the thickest band.
    chunk_periods : float
        Length along the band over which a phase is taken.

    Returns
    -------
    dict of str to float, or None
        Lead of each of `SEQUENCES` over the best other one, in layers whose step it explains, -1 to 1. ``"lamella"``:
        at least three neighbouring steps reversed; ``"several"``: every second one; ``"twin"``: all on one side. None
        if the band does not run along layers stacked in threes, or is too thick or too short.
    """
    if len(points) < 8:
        return None
    centre = points.mean(axis=0)
    vectors = np.linalg.eigh((points - centre).T @ (points - centre))[1]
    layers = _layers_along(basis, vectors[:, 1])
    if layers is None:
        return None
    s, h = (points - centre) @ layers.along, (points - centre) @ layers.normal
    # Nearly least absolute deviations: a branch or a blob on the band does not pull the line.
    slope, middle = least_squares(lambda line: line[0] * s + line[1] - h, (0.0, 0.0), loss="soft_l1").x
    # Of a band, half the width lies within the median distance from its middle.
    width = 2 * 2 * float(np.median(np.abs(h - middle - slope * s))) + step_px
    places = np.arange(float(s.min()), float(s.max()))
    if width > max_layers * layers.spacing or len(places) < chunk_periods * layers.repeat / 2:
        return None
    half = width / 2 + side_layers * layers.spacing
    h = np.arange(-half, half, layers.spacing / _SAMPLES)[:, None] + middle + slope * places
    where = centre[:, None, None] + layers.normal[:, None, None] * h + layers.along[:, None, None] * places
    phases = _steps(prepared, where, layers.repeat, chunk_periods, blocked, step_px)
    return _leads(phases, layers, width / layers.spacing, side_layers) if phases.any() else None


def _layers_along(basis: NDArray[np.floating], axis: NDArray[np.floating]) -> _Layers | None:
    """Layers of a lattice that run along an axis; None if none do or their step is nearer to 0 or 1/2 than to 1/3."""
    v1, v2 = basis
    vector = max((v1, v2, v1 + v2, v1 - v2), key=lambda v: abs(axis @ v) / np.hypot(*v))
    repeat = float(np.hypot(*vector))
    if abs(axis @ vector) < repeat * np.cos(np.radians(TURN_DEG)):
        return None
    along = vector / repeat * (1.0 if vector @ axis >= 0 else -1.0)
    normal = np.array([along[1], -along[0]])
    spacing = float(abs(np.linalg.det(basis))) / repeat
    nodes = np.array([(i, j) for i in range(-2, 3) for j in range(-2, 3)]) @ basis
    step = float(nodes[np.argmin(np.abs(nodes @ normal - spacing))] @ along)
    step -= repeat * round(step / repeat)
    if min((0, _THIRD, 1 / 2), key=lambda share: abs(abs(step) / repeat - share)) != _THIRD:
        return None
    return _Layers(along, normal, repeat, spacing, step)


def _steps(
    prepared: Prepared,
    points: NDArray[np.float64],
    repeat: float,
    chunk_periods: float,
    blocked: NDArray[np.bool_],
    step_px: float,
) -> NDArray[np.complex128]:
    """Lateral phase from each height to that one layer further, for `points` ``(2, heights, places)`` 1 px apart."""
    chunk = round(chunk_periods * repeat)
    samples = (points + 0.5) / step_px - 0.5
    inside = ndimage.map_coordinates((~blocked).astype(np.uint8), samples, order=0, mode="constant")
    image = ndimage.map_coordinates(prepared.values, points, order=1, mode="constant") * inside
    wave = image * np.exp(-2j * np.pi * np.arange(points.shape[2]) / repeat)
    total = np.zeros(points.shape[1] - _SAMPLES, np.complex128)
    for start in range(0, max(1, wave.shape[1] - chunk // 2), max(1, chunk // 2)):
        part = slice(start, start + chunk)
        mean = wave[:, part] @ np.hanning(wave[:, part].shape[1] + 2)[1:-1]
        mean[inside[:, part].mean(axis=1) < 0.5] = 0
        total += mean[_SAMPLES:] * np.conj(mean[:-_SAMPLES])
    return total


def _leads(phases: NDArray[np.complex128], layers: _Layers, width: float, side: int) -> dict[str, float]:
    """Leads of all sequences; `width` and `side` in layers."""
    step = -2 * np.pi * layers.step / layers.repeat
    # A slip by a third of the period in the sense of the step itself: what was +1/3 becomes 2/3, that is -1/3.
    slip = np.copysign(2 * np.pi * _THIRD, step)
    usual, turned = ((phases * np.exp(-1j * angle)).real for angle in (step, step + slip))
    count = len(phases)
    # Gain of reversing the steps from one height to another: differences of this.
    gain = np.concatenate([[0.0], np.cumsum(turned - usual)])

    def reverse(start: NDArray[np.intp], steps: int) -> NDArray[np.float64]:
        return np.asarray(gain[np.minimum(start + steps * _SAMPLES, count)] - gain[np.minimum(start, count)])

    thick = int(width)
    starts = np.arange((side - 2) * _SAMPLES, min((side + thick + 1) * _SAMPLES, count))
    every_second = [reverse(starts + 2 * i * _SAMPLES, 1) for i in range(thick // 2 + 2)]
    explained = {
        "perfect": 0.0,
        "intrinsic": reverse(starts, 1).max(),
        "extrinsic": reverse(starts, 2).max(),
        "lamella": max(reverse(starts, n).max() for n in range(3, thick + 4)),
        "several": np.cumsum(every_second, axis=0)[1:].max(),
        "twin": max((gain[count] - gain[starts]).max(), gain[starts].max()),
    }
    # What one reversed step explains.
    one_layer = (1 - np.cos(slip)) * np.abs(phases).sum() / count * _SAMPLES
    leads = {}
    for kind, value in explained.items():
        others = max(other for name, other in explained.items() if name != kind)
        leads[kind] = float(np.clip((value - others) / one_layer, -1, 1))
    return leads
