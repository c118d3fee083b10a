"""Misorientation of two lattices seen along one cubic zone axis, and whether it is a twin or a coincidence relation.

The lattice of a cubic crystal seen along a zone axis has a cell of fixed shape. If two lattices of an image both have
it, they differ by a turn about that axis, and the turns that bring a share 1/Σ of all lattice points to coincidence
are known (Ranganathan, Acta Cryst. 21 (1966) 197).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.core.lattice import Lattice

#: Zone axes that are recognised, and the angle after which the lattice seen along them repeats, in degrees.
SYMMETRY_DEG = {(0, 0, 1): 90.0, (1, 1, 0): 180.0, (1, 1, 1): 60.0, (1, 1, 2): 180.0}
#: Axis along which a cubic lattice is hexagonal, and cannot be told from a hexagonal crystal or sheet.
HEXAGONAL = (1, 1, 1)
#: A cell has the shape of a zone axis's if it must be stretched or sheared by no more than this share: the drift of a
#: scan distorts by a few per cent.
CELL_TOLERANCE = 0.05
#: Two lattices are the same but for a turn if one must be stretched by no more than this share to be the other.
SAME_STRETCH = 0.08
#: Largest Σ that is told: beyond, the windows of Brandon's criterion fill most of the angles.
MOST_SIGMA = 29
#: Brandon's criterion (Acta Metall. 14 (1966) 1479): deviation of at most this angle over the root of Σ.
BRANDON_DEG = 15.0
#: Change of basis of a lattice by whole numbers up to this.
_REACH = 3
_CENTRINGS = {
    "P": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "F": ((0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)),
    "I": ((0.5, 0.5, 0.5), (1, 0, 0), (0, 1, 0)),
}


@dataclass(frozen=True)
class Coincidence:
    """How two lattices seen along one cubic zone axis, or two hexagonal ones, are turned against each other.

    Attributes
    ----------
    zone_axis : (int, int, int) or None
        None for a hexagonal lattice: graphene looks like a cubic crystal along [111]; Σ is then that of the
        two-dimensional hexagonal lattice, whose turns and shares are the same.
    misorientation_deg : float
        Smallest turn about the zone axis that brings one lattice onto the other, as the image shows it.
    sigma : int or None
        Share 1/Σ of coinciding lattice points of the nearest relation within Brandon's criterion; 1: a low-angle
        boundary; None: no special relation. Where the image cannot tell two relations apart, the smaller Σ.
    ideal_deg : float or None
        Turn of the exact relation.
    """

    zone_axis: tuple[int, int, int] | None
    misorientation_deg: float
    sigma: int | None
    ideal_deg: float | None

    @property
    def name(self) -> str:
        """``"twin (Σ3)"``, ``"Σ9"``, ``"low angle"`` or ``"general"``."""
        special = {None: "general", 1: "low angle", 3: "twin (Σ3)"}
        return special.get(self.sigma, f"Σ{self.sigma}")


def coincidence(a: Lattice | None, b: Lattice | None) -> Coincidence | None:
    """Relation of two lattices, None unless both are those of a cubic crystal along one zone axis, or hexagonal.

    Parameters
    ----------
    a, b : Lattice or None
        In the same pixels.
    """
    if a is None or b is None:
        return None
    axis, turn = zone_axis(a), lattice_rotation(a, b)
    if axis is None or axis != zone_axis(b) or turn is None:
        return None
    turn = _folded(turn, axis)
    sigma, ideal = None, None
    best = 1.0
    for candidate, angle in coincidence_angles(axis):
        ratio = abs(turn - angle) * math.sqrt(candidate) / BRANDON_DEG
        if ratio < best:
            best, sigma, ideal = ratio, candidate, angle
    return Coincidence(None if axis == HEXAGONAL else axis, turn, sigma, ideal)


def zone_axis(lattice: Lattice) -> tuple[int, int, int] | None:
    """Zone axis along which a cubic lattice (primitive, face or body centred) shows this cell; None if there is none.

    A hexagonal crystal along [0001] cannot be told from a cubic one along [111]; its coincidence angles are the same.
    """
    found = None
    least = math.log1p(CELL_TOLERANCE)
    for axis in SYMMETRY_DEG:
        for centring in _CENTRINGS:
            fit = _fit(_projected(axis, centring), _basis(lattice), any_scale=True)
            if fit is not None and fit[1] < least:
                found, least = axis, fit[1]
    return found


def lattice_rotation(a: Lattice, b: Lattice) -> float | None:
    """Smallest turn that brings all of one lattice onto the other.

    Parameters
    ----------
    a, b : Lattice
        In the same pixels.

    Returns
    -------
    float or None
        In degrees, 0 to 90; None if the lattices differ by more than a turn and `SAME_STRETCH`.
    """
    fit = _fit(_basis(a), _basis(b), any_scale=False)
    return fit[0] if fit is not None and fit[1] < math.log1p(SAME_STRETCH) else None


@lru_cache(maxsize=8)
def coincidence_angles(axis: tuple[int, int, int]) -> tuple[tuple[int, float], ...]:
    """Coincidence relations about a zone axis: (Σ, turn in degrees as the image shows it), by Σ.

    A turn by θ about [u v w] with ``tan(θ/2) = (m/n)·√(u²+v²+w²)`` has Σ equal to the odd part of
    ``n² + m²·(u²+v²+w²)`` (n, m coprime). Of turns that look the same the one with the smaller Σ is kept.

    Examples
    --------
    >>> [(s, round(t, 2)) for s, t in coincidence_angles((1, 1, 0)) if s <= 11]
    [(1, 0.0), (3, 70.53), (9, 38.94), (11, 50.48)]
    """
    norm = sum(i * i for i in axis)
    found: dict[float, int] = {}
    # Σ is the norm without its factors of 2, of which a primitive quaternion of whole numbers has at most two.
    reach = math.isqrt(4 * MOST_SIGMA) + 1
    for n, m in product(range(reach + 1), repeat=2):
        if math.gcd(n, m) != 1:
            continue
        sigma = n * n + norm * m * m
        while sigma % 2 == 0:
            sigma //= 2
        if sigma <= MOST_SIGMA:
            angle = round(_folded(math.degrees(2 * math.atan2(m * math.sqrt(norm), n)), axis), 6)
            found[angle] = min(sigma, found.get(angle, sigma))
    return tuple(sorted((sigma, angle) for angle, sigma in found.items()))


def _folded(angle_deg: float, axis: tuple[int, int, int]) -> float:
    """The angle between 0 and half the angle after which the lattice repeats; its sense does not matter."""
    repeat = SYMMETRY_DEG[axis]
    return abs((angle_deg + repeat / 2) % repeat - repeat / 2)


def _basis(lattice: Lattice) -> NDArray[np.float64]:
    """Basis vectors as columns."""
    return np.array([lattice.v1, lattice.v2]).T


def _fit(a: NDArray[np.float64], b: NDArray[np.float64], *, any_scale: bool) -> tuple[float, float] | None:
    """Smallest turn (0 to 90°) and least stretch (natural logarithm) that make lattice `a` lattice `b`.

    Of all choices of basis that need little more than the least stretch the one with the smallest turn counts.
    """
    multiples = _unimodular()
    maps = b[None] @ np.linalg.inv(a[None] @ multiples)
    # The singular values of a 2 × 2 matrix follow from its norm and determinant, its turn from its entries.
    half = np.sum(maps**2, axis=(1, 2)) / 2
    determinant = np.linalg.det(maps)
    spread = np.sqrt(np.maximum(half**2 - determinant**2, 0))
    large, small = np.sqrt(half + spread), np.sqrt(np.maximum(half - spread, 1e-30))
    stretch = np.log(large / small) if any_scale else np.maximum(np.log(large), -np.log(small))
    stretch[determinant <= 0] = np.inf
    least = float(stretch.min())
    if not math.isfinite(least):
        return None
    good = stretch <= least + 0.5 * math.log1p(CELL_TOLERANCE)
    turn = np.degrees(np.arctan2(maps[:, 1, 0] - maps[:, 0, 1], maps[:, 0, 0] + maps[:, 1, 1]))[good]
    return float(np.abs((turn + 90) % 180 - 90).min()), least


@lru_cache(maxsize=1)
def _unimodular() -> NDArray[np.float64]:
    """Changes of basis: whole numbers, determinant ±1."""
    numbers = range(-_REACH, _REACH + 1)
    found = [((i, j), (k, m)) for i, j, k, m in product(numbers, repeat=4) if abs(i * m - j * k) == 1]
    return np.array(found, np.float64)


@lru_cache(maxsize=16)
def _projected(axis: tuple[int, int, int], centring: str) -> NDArray[np.float64]:
    """Shortest basis (as columns) of the lattice that a cubic one of edge 1 projects to along `axis`."""
    zone = np.array(axis) / math.sqrt(sum(i * i for i in axis))
    across = np.cross(zone, (1.0, -1.0, 0.0))
    across /= np.linalg.norm(across)
    view = np.array([across, np.cross(zone, across)])
    numbers = np.array(list(product(range(-3, 4), repeat=3)), np.float64)
    points = numbers @ np.array(_CENTRINGS[centring]) @ view.T
    lengths = np.hypot(*points.T)
    points = points[lengths > 1e-6]
    points = points[np.argsort(np.hypot(*points.T).round(9), kind="stable")]
    first = points[0]
    aside = np.abs(first[0] * points[:, 1] - first[1] * points[:, 0]) > 1e-6
    return np.array([first, points[aside][0]]).T
