"""Phases of a lattice over an image (geometric phase analysis): what is displaced against what, and by how much.

Each strong harmonic of the lattice is demodulated and smoothed; where the lattice is displaced by u the phase of the
harmonic g falls by 2π g·u (Hÿtch, Snoeck & Kilaas, Ultramicroscopy 74 (1998) 131). Around a dislocation the phases
wind by whole turns: minus g times the Burgers vector. The product of three harmonics with g₁ + g₂ + g₃ = 0 has a phase
that no displacement changes and an inversion reverses (a structure invariant of crystallography).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, product

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from napari_hrstem_defects.core.lattice import Lattice
from napari_hrstem_defects.core.preprocessing import Prepared

#: Standard deviation of the smoothing, in periods: keeps neighbouring harmonics out and follows walls closely.
SMOOTHING_PERIODS = 0.8
#: Harmonics kept, their highest order, their highest frequency per period, and the least share of the strongest's
#: amplitude.
MOST_HARMONICS, HIGHEST_ORDER, HIGHEST_FREQUENCY, LEAST_SHARE = 4, 2, 2.2, 0.15
#: The two sides of a wall are compared this far outside of it, in periods: beyond the reach of the smoothing.
ASIDE_PERIODS = 2.0
#: Resolution: places along a wall at most, and trial displacements per lattice vector.
_PLACES, _SHIFTS = 96, 24


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

    def at(self, points: NDArray[np.floating]) -> NDArray[np.complex128]:
        """Amplitudes at points ``(m, 2)`` given in samples, shape ``(n, m)``."""
        places = np.asarray(points, np.float64).T
        parts = [
            [ndimage.map_coordinates(part, places, order=1, mode="nearest") for part in (v.real, v.imag)]
            for v in self.values
        ]
        return np.array([real + 1j * imaginary for real, imaginary in parts])

    @cached_property
    def _triplet(self) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
        """Three harmonics and the signs with which their orders add up to nothing; None if there are none."""
        for chosen in combinations(range(len(self.orders)), 3):
            for signs in product((1,), (1, -1), (1, -1)):
                if not (np.array(signs) @ self.orders[list(chosen)]).any():
                    return chosen, signs
        return None

    def invariant(self, amplitudes: NDArray[np.complexfloating]) -> NDArray[np.complex128] | None:
        """Product of three amplitudes ``(n, m)`` whose phase no translation changes and an inversion reverses."""
        if self._triplet is None:
            return None
        out = np.ones(amplitudes.shape[1:], np.complex128)
        for number, sign in zip(*self._triplet, strict=True):
            out *= amplitudes[number] if sign > 0 else np.conj(amplitudes[number])
        return out


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
    block = max(1, round(prepared.period_px / 2))
    rows, columns = (n // block for n in prepared.values.shape)
    if len(orders) < 2 or min(rows, columns) < 4:
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
        # Real sums over the blocks are several times faster than complex ones.
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
    return LatticePhases(orders, basis, values, block)


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
    rows, columns = (np.exp(-2j * np.pi * np.outer(w, n)) for w, n in zip(waves.T, (y, x), strict=True))
    strength = np.abs(np.einsum("ny,yx,nx->n", rows, windowed, columns, optimize=True))
    ranked = [i for i in np.argsort(-strength, kind="stable") if strength[i] > LEAST_SHARE * strength.max()]
    first = candidates[ranked[0]] if ranked else np.zeros(2, np.intp)
    aside = [i for i in ranked if first[0] * candidates[i][1] != first[1] * candidates[i][0]]
    chosen = ranked[:MOST_HARMONICS]
    if not set(aside) & set(chosen):
        chosen = [*chosen[:-1], aside[0]] if aside else []
    out: NDArray[np.intp] = candidates[chosen].astype(np.intp)
    return out


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
    count = max(24, int(4 * np.pi * radius))
    angle = 2 * np.pi * np.arange(count) / count
    values = phases.at(centre + radius * np.stack([np.sin(angle), np.cos(angle)], axis=1))
    steps = np.angle(values * np.conj(np.roll(values, 1, axis=1)))
    turns = np.rint(steps.sum(axis=1) / (2 * np.pi)).astype(np.intp)
    clear = np.minimum(np.abs(values).min(axis=1), 1.0)
    # Turns are minus g·b and g·b is linear in the orders: two harmonics give b, the others must agree.
    weights = clear[:, None] + 1e-6
    b = np.rint(-np.linalg.lstsq(phases.orders * weights, turns * weights[:, 0], rcond=None)[0]).astype(int)
    agree = turns == -(phases.orders @ b)
    safe = float(np.median(clear)) * float(np.sum(clear * agree) / np.sum(clear + 1e-12))
    return (int(b[0]), int(b[1])), safe


@dataclass(frozen=True, eq=False)
class Across:
    """The two sides of a wall compared.

    Attributes
    ----------
    shift : float array (2,)
        Displacement of the smaller side in units of the lattice vectors, in (-0.5, 0.5].
    coherence : float
        How well one displacement explains all harmonics at all places, 0 to 1.
    steadiness : float
        How well one jump for each harmonic by itself does. Much larger than the coherence: another structure.
    order : float
        Amplitude on the weaker side relative to the model patch.
    inverted : float
        Likeness of the invariant phase of one side to the inverse of the other's less that to the other's, −2 to 2;
        0 if it is not known or there is a centre of inversion.
    step : float
        Median difference of the contrast between the sides.
    """

    shift: NDArray[np.float64]
    coherence: float
    steadiness: float
    order: float
    inverted: float
    step: float


def across(
    phases: LatticePhases,
    mask: NDArray[np.bool_],
    corner: tuple[int, int],
    pieces: NDArray[np.integer],
    contrast: NDArray[np.floating],
) -> Across | None:
    """Compare the lattice on the two sides of a wall.

    Parameters
    ----------
    phases : LatticePhases
    mask : bool array
        The wall, on a part of the samples of `phases`.
    corner : (int, int)
        First row and column of that part.
    pieces : int array (y', x')
        Numbers of the connected pieces of good crystal, 0 outside of all.
    contrast : float array (y', x')
        Some property of the crystal that is compared as well.

    Returns
    -------
    Across or None
        None if nowhere both sides are free.
    """
    pairs = _sides(mask, corner, pieces, phases.period)
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
    inverted = 0.0
    t_a, t_b = phases.invariant(a), phases.invariant(b)
    if t_a is not None and t_b is not None:
        inverted = -2 * float(np.sum(t_a.imag * t_b.imag)) / (float(np.abs(t_a * t_b).sum()) + 1e-12)
    beside = [contrast[tuple(np.rint(points).astype(np.intp).T)] for points in (one, other)]
    return Across(
        shift=best - np.round(best - 1e-9),
        coherence=float(fits.max()),
        steadiness=float(np.abs(mean) @ weights / weights.sum()),
        order=min(float(np.median(np.abs(v))) for v in (a, b)),
        inverted=inverted,
        step=float(np.median(beside[1] - beside[0])),
    )


def _sides(
    mask: NDArray[np.bool_], corner: tuple[int, int], pieces: NDArray[np.integer], period: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]] | None:
    """Points in samples on both sides of a wall, ``(m, 2)`` each, and the unit normals from one to the other."""
    part = np.pad(mask, 1)
    inside = np.argwhere(part)
    if len(inside) < 3:
        return None
    depth = ndimage.distance_transform_edt(part)
    centres = np.argwhere(part & (depth >= ndimage.maximum_filter(depth, size=3)))
    centres = centres[np.linspace(0, len(centres) - 1, min(_PLACES, len(centres))).astype(np.intp)]
    depths = depth[tuple(centres.T)]
    tree = cKDTree(inside)
    normals = np.zeros((len(centres), 2))
    for i, (centre, deep) in enumerate(zip(centres, depths, strict=True)):
        near = inside[tree.query_ball_point(centre, 2.5 * period + deep)] - centre
        # Smallest principal axis: across the wall.
        normals[i] = np.linalg.eigh((near.T @ near).astype(np.float64))[1][:, 0]
    # One sense for all of them: out of the larger piece of crystal, where the wall parts two, else along each other.
    normals *= np.where(normals @ normals[len(normals) // 2] < 0, -1.0, 1.0)[:, None]
    offset = (depths + ASIDE_PERIODS * period)[:, None] * normals
    middle = centres + np.array(corner) - 1
    one, other = middle - offset, middle + offset
    first, second = _piece(pieces, one), _piece(pieces, other)
    free = (first > 0) & (second > 0)
    if not free.any():
        return None
    sizes = np.bincount(pieces.ravel())
    turn = sizes[second] > sizes[first]
    one[turn], other[turn] = other[turn], one[turn]
    normals[turn] *= -1
    return one[free], other[free], normals[free]


def _piece(pieces: NDArray[np.integer], points: NDArray[np.float64]) -> NDArray[np.intp]:
    """Numbers at points, 0 beyond the rim."""
    place = np.rint(points).astype(np.intp)
    last = np.array(pieces.shape) - 1
    within = ((place >= 0) & (place <= last)).all(axis=1)
    return np.where(within, pieces[tuple(np.clip(place, 0, last).T)], 0)
