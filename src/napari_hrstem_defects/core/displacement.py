"""Phases of a lattice over an image: what is displaced against what, and by how much.

Each strong harmonic of the lattice is demodulated and smoothed; where the lattice is displaced by u the phase of the
harmonic g falls by 2π g·u (Hÿtch, Snoeck & Kilaas, Ultramicroscopy 74 (1998) 131). Around a dislocation the phases
wind by whole turns: minus g times the Burgers vector.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from napari_hrstem_defects.core.lattice import Lattice
from napari_hrstem_defects.core.preprocessing import Prepared

#: Samples of the phase maps per lattice period: half a period is finer than what the smoothing leaves.
SAMPLES_PER_PERIOD = 2
#: Standard deviation of the smoothing, in periods: keeps neighbouring harmonics out and follows walls closely.
SMOOTHING_PERIODS = 0.8
#: Harmonics looked at: whole numbers up to this, spatial frequency up to this many per period.
HIGHEST_ORDER = 2
HIGHEST_FREQUENCY = 2.2
#: Harmonics kept, and the share of the strongest's amplitude below which none is.
MOST_HARMONICS = 4
LEAST_SHARE = 0.15
#: A circuit runs at least this far outside of what it encloses, in periods.
CIRCUIT_PERIODS = 1.0
#: The two sides of a wall are compared this far outside of it, in periods.
ASIDE_PERIODS = 2.0
#: Places along a wall where its sides are compared, at most.
MOST_PLACES = 96
#: Displacements that are told apart, per lattice vector.
_SHIFTS = 24


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
    step_px : float
        Distance of samples in pixels of the prepared image.
    """

    orders: NDArray[np.intp]
    basis: NDArray[np.float64]
    values: NDArray[np.complex64]
    step_px: float

    @property
    def period(self) -> float:
        """Lattice period in samples."""
        return float(np.sqrt(abs(np.linalg.det(self.basis)))) / self.step_px

    def samples(self, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """Points ``(..., 2)`` of the prepared image in samples."""
        return (np.asarray(points, np.float64) + 0.5) / self.step_px - 0.5

    def at(self, points: NDArray[np.floating]) -> NDArray[np.complex128]:
        """Amplitudes at points ``(m, 2)`` given in samples, shape ``(n, m)``."""
        places = np.asarray(points, np.float64).T
        return np.array(
            [
                ndimage.map_coordinates(v.real, places, order=1, mode="nearest")
                + 1j * ndimage.map_coordinates(v.imag, places, order=1, mode="nearest")
                for v in self.values
            ]
        )

    def triplet(self) -> tuple[int, int, int] | None:
        """Positions of three harmonics of which the third is the sum of the others, up to a sign; None if none are."""
        known = [tuple(int(i) for i in order) for order in self.orders]
        for i in range(len(known)):
            for j in range(i + 1, len(known)):
                for sign in (1, -1):
                    total = (known[i][0] + sign * known[j][0], known[i][1] + sign * known[j][1])
                    for k, other in enumerate(known):
                        if k not in (i, j) and other in (total, (-total[0], -total[1])):
                            return i, j, k
        return None

    def invariant(self, amplitudes: NDArray[np.complex128]) -> NDArray[np.complex128] | None:
        """Product of three amplitudes ``(n, m)`` whose phase no translation changes and an inversion turns round."""
        found = self.triplet()
        if found is None:
            return None
        i, j, k = found
        # Signs with which the three orders add up to nothing.
        for b in (1, -1):
            for c in (1, -1):
                if not (self.orders[i] + b * self.orders[j] + c * self.orders[k]).any():
                    second = amplitudes[j] if b > 0 else np.conj(amplitudes[j])
                    third = amplitudes[k] if c > 0 else np.conj(amplitudes[k])
                    return np.asarray(amplitudes[i] * second * third)
        return None


@dataclass(frozen=True)
class Circuit:
    """What a closed path through good crystal says about what it encloses.

    Attributes
    ----------
    burgers : (int, int)
        Closure failure in units of the lattice vectors; (0, 0): none.
    clear : float
        How safe that is, 0 to 1: smallest amplitude on the path relative to the model patch's, less where the
        harmonics contradict each other.
    """

    burgers: tuple[int, int]
    clear: float


@dataclass(frozen=True)
class Across:
    """The two sides of a wall compared.

    Attributes
    ----------
    shift : (float, float)
        Displacement of the side that `normal` points to in units of the lattice vectors, in (-0.5, 0.5].
    shift_px : float
        Its length in pixels of the prepared image, the shortest of all equivalent ones.
    coherence : float
        How well one displacement explains all harmonics at all places, 0 to 1.
    steadiness : float
        How well one jump for each harmonic by itself does, 0 to 1. Much larger than the coherence: not displaced
        only, but another structure.
    order : (float, float)
        Strength of the lattice on the two sides relative to the model patch, the smaller first.
    invariant : float
        Agreement of the translation-invariant phase on both sides, 1: same content; -1: opposite; NaN: unknown.
    inverted : float
        Agreement of one side with the other's inverse, as above.
    step : float
        Median difference of `contrast` between the sides.
    normal : (float, float)
        Mean direction ``(y, x)`` from the side that stands still to the displaced one.
    places : int
        How many places were compared.
    """

    shift: tuple[float, float]
    shift_px: float
    coherence: float
    steadiness: float
    order: tuple[float, float]
    invariant: float
    inverted: float
    step: float
    normal: tuple[float, float]
    places: int


def lattice_phases(prepared: Prepared, lattice: Lattice, patch: tuple[slice, slice]) -> LatticePhases | None:
    """Demodulate the strongest harmonics of a lattice.

    Parameters
    ----------
    prepared : Prepared
    lattice : Lattice
        In pixels of the frame.
    patch : tuple of slice
        Model patch in the prepared image: its harmonics are chosen and its phase ramp is taken for the lattice's.

    Returns
    -------
    LatticePhases or None
        None if the lattice is too coarse for the image or too weak.
    """
    basis = np.array([lattice.v1, lattice.v2]) * prepared.scale
    # g·v is the order of g along v.
    reciprocal = np.linalg.inv(basis).T
    orders = _strong_orders(prepared.values[patch], reciprocal, prepared.period_px)
    if len(orders) < 2:
        return None
    block = max(1, round(prepared.period_px / SAMPLES_PER_PERIOD))
    rows, columns = (n // block for n in prepared.values.shape)
    if min(rows, columns) < 4:
        return None
    image = prepared.values[: rows * block, : columns * block].reshape(rows * block, columns, block)
    inner = tuple(
        slice(min(s.start // block, n - 3), max(s.stop // block, s.start // block + 3))
        for s, n in zip(patch, (rows, columns), strict=True)
    )
    smoothing = SMOOTHING_PERIODS * prepared.period_px / block
    y, x = np.arange(rows * block), np.arange(columns * block).reshape(columns, block)
    values = np.empty((len(orders), rows, columns), np.complex64)
    for number, order in enumerate(orders):
        gy, gx = order @ reciprocal
        phase = -2 * np.pi * gx * x
        lines = np.einsum("ywb,wb->yw", image, np.cos(phase).astype(np.float32)) + 1j * np.einsum(
            "ywb,wb->yw", image, np.sin(phase).astype(np.float32)
        )
        lines *= np.exp(-2j * np.pi * gy * y).astype(np.complex64)[:, None]
        coarse = lines.reshape(rows, block, columns).sum(axis=1) / block**2
        smooth = ndimage.gaussian_filter(coarse.real, smoothing) + 1j * ndimage.gaussian_filter(
            coarse.imag, smoothing
        )
        own = smooth[inner]
        # What is left of the ramp, from neighbours in the model patch.
        ramp_y = np.angle(np.vdot(own[:-1], own[1:]))
        ramp_x = np.angle(np.vdot(own[:, :-1], own[:, 1:]))
        smooth *= np.exp(-1j * ramp_y * np.arange(rows))[:, None] * np.exp(-1j * ramp_x * np.arange(columns))
        level = float(np.abs(own).mean())
        if level <= 0:
            return None
        values[number] = smooth / level
    return LatticePhases(orders, basis, values, float(block))


def _strong_orders(
    patch: NDArray[np.float32], reciprocal: NDArray[np.floating], period: float
) -> NDArray[np.intp]:
    """Orders of the strongest harmonics of a patch, at least two of them not collinear; empty if there are none."""
    numbers = range(-HIGHEST_ORDER, HIGHEST_ORDER + 1)
    candidates = np.array([(h, k) for h in numbers for k in numbers if (h, k) > (0, 0)])
    waves = candidates @ reciprocal
    near = np.hypot(*waves.T) * period < HIGHEST_FREQUENCY
    candidates, waves = candidates[near], waves[near]
    windowed = patch * np.outer(*(np.hanning(n + 2)[1:-1] for n in patch.shape))
    y, x = (np.arange(n) for n in patch.shape)
    strength = np.abs(
        np.einsum(
            "ny,yx,nx->n",
            np.exp(-2j * np.pi * np.outer(waves[:, 0], y)),
            windowed,
            np.exp(-2j * np.pi * np.outer(waves[:, 1], x)),
            optimize=True,
        )
    )
    ranked = [i for i in np.argsort(-strength, kind="stable") if strength[i] > LEAST_SHARE * strength.max()]
    chosen = ranked[:MOST_HARMONICS]
    if all(_collinear(candidates[chosen[0]], candidates[i]) for i in chosen[1:]):
        aside = [i for i in ranked if not _collinear(candidates[chosen[0]], candidates[i])]
        chosen = [*chosen[:-1], *aside[:1]] if aside else []
    out: NDArray[np.intp] = candidates[chosen].astype(np.intp)
    return out


def _collinear(a: NDArray[np.intp], b: NDArray[np.intp]) -> bool:
    return int(a[0] * b[1] - a[1] * b[0]) == 0


def circuit(phases: LatticePhases, centre: NDArray[np.float64], radius: float) -> Circuit | None:
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
    Circuit or None
        None if the circle does not lie in the image.
    """
    shape = np.array(phases.values.shape[1:])
    if (centre - radius < 0).any() or (centre + radius > shape - 1).any():
        return None
    count = max(24, int(4 * np.pi * radius))
    angle = 2 * np.pi * np.arange(count) / count
    values = phases.at(centre + radius * np.stack([np.sin(angle), np.cos(angle)], axis=1))
    steps = np.angle(values * np.conj(np.roll(values, 1, axis=1)))
    turns = np.rint(steps.sum(axis=1) / (2 * np.pi)).astype(np.intp)
    clear = np.minimum(np.abs(values).min(axis=1), 1.0)
    # Turns are minus g·b and g·b is linear in the orders: two harmonics give b, the others must agree.
    weights = clear[:, None] + 1e-6
    burgers = -np.linalg.lstsq(phases.orders * weights, turns * weights[:, 0], rcond=None)[0]
    b = np.rint(burgers).astype(np.intp)
    agree = turns == -(phases.orders @ b)
    safe = float(np.median(clear)) * float(np.sum(clear * agree) / np.sum(clear + 1e-12))
    return Circuit((int(b[0]), int(b[1])), safe)


def across(
    phases: LatticePhases,
    mask: NDArray[np.bool_],
    blocked: NDArray[np.bool_],
    contrast: NDArray[np.floating],
) -> Across | None:
    """Compare the lattice on the two sides of a wall.

    Parameters
    ----------
    phases : LatticePhases
    mask : bool array (y', x')
        The wall, on the samples of `phases`.
    blocked : bool array (y', x')
        What is no good crystal, the wall included.
    contrast : float array (y', x')
        Some property of the crystal that is compared as well.

    Returns
    -------
    Across or None
        None if nowhere both sides are free.
    """
    pairs = _sides(mask, blocked, phases.period)
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
    mean = jump.sum(axis=1) / np.maximum(np.abs(jump).sum(axis=1), 1e-12)
    trial = np.arange(_SHIFTS) / _SHIFTS
    shifts = np.stack(np.meshgrid(trial, trial, indexing="ij"), axis=-1).reshape(-1, 2)
    fits = (mean * np.exp(2j * np.pi * shifts @ phases.orders.T)).real @ weights / weights.sum()
    best = shifts[int(np.argmax(fits))]
    best = best - np.round(best - 1e-9)
    lattice = np.array([(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)])
    length = float(np.hypot(*((best + lattice) @ phases.basis).T).min())
    order = sorted(float(np.median(np.abs(v))) for v in (a, b))
    same, opposite = np.nan, np.nan
    t_a, t_b = phases.invariant(a), phases.invariant(b)
    if t_a is not None and t_b is not None:
        size = float(np.abs(t_a * t_b).sum()) + 1e-12
        same = float(np.sum(t_b * np.conj(t_a)).real) / size
        opposite = float(np.sum(t_b * t_a).real) / size
    return Across(
        (float(best[0]), float(best[1])),
        length,
        float(fits.max()),
        float(np.abs(mean) @ weights / weights.sum()),
        (order[0], order[1]),
        same,
        opposite,
        float(np.median(_nearest(contrast, other) - _nearest(contrast, one))),
        (float(normals[:, 0].mean()), float(normals[:, 1].mean())),
        len(one),
    )


def _nearest(image: NDArray[np.floating], points: NDArray[np.float64]) -> NDArray[np.floating]:
    y, x = np.rint(points).astype(np.intp).T
    return np.asarray(image[y, x])


def _sides(
    mask: NDArray[np.bool_], blocked: NDArray[np.bool_], period: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]] | None:
    """Points in samples on both sides of a wall, ``(m, 2)`` each, and the unit normals from one to the other."""
    rows, columns = np.nonzero(mask)
    if len(rows) < 3:
        return None
    margin = 2
    window = (
        slice(max(rows.min() - margin, 0), rows.max() + margin + 1),
        slice(max(columns.min() - margin, 0), columns.max() + margin + 1),
    )
    part = np.pad(mask[window], 1)
    depth = ndimage.distance_transform_edt(part)
    ridge = part & (depth >= ndimage.maximum_filter(depth, size=3))
    centres = np.argwhere(ridge)
    centres = centres[np.linspace(0, len(centres) - 1, min(MOST_PLACES, len(centres))).astype(np.intp)]
    depths = depth[tuple(centres.T)]
    corner = np.array([window[0].start, window[1].start]) - 1
    inside = np.argwhere(part)
    tree = cKDTree(inside)
    normals = np.zeros((len(centres), 2))
    for i, (centre, deep) in enumerate(zip(centres, depths, strict=True)):
        near = inside[tree.query_ball_point(centre, 2.5 * period + deep)] - centre
        spread = near.T @ near
        # Smallest principal axis: across the wall.
        _, vectors = np.linalg.eigh(spread.astype(np.float64))
        normals[i] = vectors[:, 0]
    # One sense for all of them: out of the smaller piece of crystal, where the wall parts two, else along each other.
    reference = normals[len(normals) // 2]
    normals *= np.where(normals @ reference < 0, -1.0, 1.0)[:, None]
    offset = (depths + ASIDE_PERIODS * period)[:, None] * normals
    one, other = centres + corner - offset, centres + corner + offset
    pieces, _ = ndimage.label(~blocked)
    sizes = np.bincount(pieces.ravel())
    # Nothing is free in piece 0, nor beyond the rim.
    first, second = _piece(pieces, one), _piece(pieces, other)
    free = (first > 0) & (second > 0)
    if not free.any():
        return None
    turn = sizes[first] > sizes[second]
    one[turn], other[turn] = other[turn], one[turn]
    normals[turn] *= -1
    return one[free], other[free], normals[free]


def _piece(pieces: NDArray[np.integer], points: NDArray[np.float64]) -> NDArray[np.intp]:
    """Numbers at points, 0 beyond the rim."""
    place = np.rint(points).astype(np.intp)
    shape = np.array(pieces.shape)
    within = ((place >= 0) & (place < shape)).all(axis=1)
    place = np.clip(place, 0, shape - 1)
    return np.where(within, pieces[tuple(place.T)], 0)
