"""Domains: the lattices of one image, what they are to each other (twins, coincidence lattices) and where they meet.

The relation to the reference is described after the lattices were found and decides nothing about that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_hrstem_defects.core.autocorrelation import TINY, Field
from napari_hrstem_defects.core.best_patch import BestPatch, frame_slices
from napari_hrstem_defects.core.lattice import (
    SAME_SHAPE,
    Doubles,
    Lattice,
    agreement,
    best_map,
    find_lattice,
    lattice_rotation,
)
from napari_hrstem_defects.core.plateaus import Plateaus
from napari_hrstem_defects.core.preprocessing import Prepared, sample_linear
from napari_hrstem_defects.core.recipe import DomainParams, points_of

#: Half width of a wall, in periods.
WALL_PERIODS = 0.75


@dataclass(frozen=True, eq=False)
class Domain:
    """One lattice of the image: the reference crystal, a grain or a phase.

    Attributes
    ----------
    patch : BestPatch
        Its model patch, in pixels of the frame.
    lattice : Lattice or None
        In pixels of the frame.
    relation : str
        To the first domain: ``"reference"``, ``"rotated"``, ``"inverted"`` (the same lattice, opposite polarity),
        ``"second phase"`` (coherent: the same lattice or a cell of half or twice the area) or ``"other lattice"``.
    crystal : bool
        Whether it counts as intact crystal; otherwise all of it is a defect.
    direction : float64 array (n,)
        Mean direction of the field in it.
    distance : float
        Cosine distance of that to the reference's.
    misorientation_deg : float or None
        Smallest rotation that brings a lattice vector of the reference onto one of this domain; None if unknown.
    """

    patch: BestPatch
    lattice: Lattice | None
    relation: str
    crystal: bool
    direction: NDArray[np.float64]
    distance: float
    misorientation_deg: float | None = None

    @property
    def defective(self) -> bool:
        """Whether all of it is a defect."""
        return not self.crystal


@dataclass(frozen=True, eq=False)
class DomainMap:
    """Which domain each pixel belongs to.

    Attributes
    ----------
    domains : tuple of Domain
        The reference first.
    index : uint8 array (y', x')
        Position in `domains`, in pixels of the prepared image.
    """

    domains: tuple[Domain, ...]
    index: NDArray[np.uint8]

    @property
    def defective(self) -> NDArray[np.bool_]:
        """Where the domains lie that count as defects."""
        out: NDArray[np.bool_] = np.array([domain.defective for domain in self.domains])[self.index]
        return out


def lattices_of(
    plateaus: Plateaus,
    reference: int,
    patches: Sequence[BestPatch],
    pixels: NDArray[np.floating],
    typical: Lattice | None,
    field: Field,
    prepared: Prepared,
) -> tuple[Lattice | None, ...]:
    """Lattice of each plateau, in pixels of the frame, from its own area in its model patch.

    `pixels`, a float array (y, x), are the frame's, `typical` is the lattice of the image as a whole; all else as for
    :func:`describe`.
    """
    # Phases of one lattice have one direction; a patch of a thin layer shows its neighbours, too.
    every, count = plateaus.directions, len(patches)
    sources = [
        next(i for i in (reference, *range(count)) if np.array_equal(every[i], each)) for each in every
    ]
    shown = {}
    for i in set(sources):
        place = frame_slices(patches[i], prepared.shape)
        # A patch may be larger than its domain, and show more of another.
        area = np.isin(plateaus.index, np.flatnonzero(np.equal(sources, i))).astype(np.float32)
        own = None if area.all() else field.to_frame(area, prepared)[place] > 0.5
        shown[i] = find_lattice(pixels[place], own) if own is None or own.any() else None
    lattice, cells = shown[reference], agreement(shown[reference], typical) or 1
    if lattice is None or (
        len(shown) == 1 and typical and cells > 1 and typical.period_px > lattice.period_px
    ):
        # Too few electrons or cells in one patch: what the image has shown to be no translation is none. Of several
        # lattices it shows what they have in common, a larger cell.
        shown[reference] = typical
    return tuple(shown[i] for i in sources)


def describe(
    plateaus: Plateaus,
    reference: int,
    patches: tuple[BestPatch, ...],
    lattices: tuple[Lattice | None, ...],
    field: Field,
    prepared: Prepared,
    params: DomainParams,
) -> DomainMap:
    """Domains with the reference first, their relation to it, and what counts as crystal.

    Parameters
    ----------
    plateaus : Plateaus
    reference : int
        Number of the plateau that holds the best patch.
    patches, lattices : tuple
        Model patch and lattice of each plateau.
    field : Field
    prepared : Prepared
    params : DomainParams
        ``crystal``, ``intact_at`` and ``defective_at`` are used.
    """
    order = [reference, *(i for i in range(len(patches)) if i != reference)]
    own, home = plateaus.directions[reference], lattices[reference]
    domains = []
    for i in order:
        distance = max(0.0, 1 - float(plateaus.directions[i] @ own))
        relation, turn = "reference", None
        if i != reference:
            relation, turn = _relation(home, lattices[i])
        domains.append(
            Domain(patches[i], lattices[i], relation, True, plateaus.directions[i], distance, turn)
        )
    index = upsampled(plateaus.index, order, field, prepared)
    return with_verdicts(DomainMap(tuple(domains), index), prepared, params)


def with_inverted(
    found: DomainMap, inverted: NDArray[np.bool_], prepared: Prepared, params: DomainParams
) -> DomainMap:
    """Add the part of the reference that has the opposite polarity as a domain.

    Parameters
    ----------
    found : DomainMap
    inverted : bool array (y', x')
        In pixels of the prepared image.
    prepared : Prepared
    params : DomainParams
    """
    inside = inverted & (found.index == 0)
    if not inside.any():
        return found
    home = found.domains[0]
    index = found.index.copy()
    index[inside] = len(found.domains)
    added = DomainMap((*found.domains, replace(home, relation="inverted", crystal=False)), index)
    centre = point_in(added, prepared, len(found.domains))
    if centre is not None:
        patch = replace(home.patch, y=centre[0], x=centre[1], placed="automatic")
        added = replace(added, domains=(*added.domains[:-1], replace(added.domains[-1], patch=patch)))
    return with_verdicts(added, prepared, params)


def upsampled(
    index: NDArray[np.uint8], order: list[int], field: Field, prepared: Prepared
) -> NDArray[np.uint8]:
    """Position in `order` of each pixel's number, on the pixels of the prepared image with smooth edges."""
    best, out = None, np.zeros(prepared.values.shape, np.uint8)
    if len(order) == 1:
        return out
    places = [(np.arange(int(n)) + 0.5) / field.step_px - 0.5 for n in prepared.values.shape]
    for position, number in enumerate(order):
        share = sample_linear((index == number).astype(np.float32), *places)
        if best is None:
            best = share
        else:
            out[share > best] = position
            np.maximum(best, share, out=best)
    return out


def _relation(home: Lattice | None, other: Lattice | None) -> tuple[str, float | None]:
    turn = misorientation(home, other)
    if agreement(home, other) is not None:
        return "second phase", turn
    return ("other lattice" if turn is None else "rotated"), turn


def with_verdicts(found: DomainMap, prepared: Prepared, params: DomainParams) -> DomainMap:
    """The same domains, intact crystal or defect as the recipe specifies.

    A point in ``params.intact_at`` or ``params.defective_at`` classifies the domain it lies in; the later point
    wins, and the reference, with which all is compared, is always intact.
    """
    verdicts = [
        i == 0
        or params.crystal == "all"
        or (params.crystal == "phases" and domain.relation == "second phase")
        for i, domain in enumerate(found.domains)
    ]
    for text, crystal in ((params.intact_at, True), (params.defective_at, False)):
        for point in points_of(text):
            number = domain_at(found, prepared, point)
            if number > 0:
                verdicts[number] = crystal
    domains = (replace(d, crystal=v) for d, v in zip(found.domains, verdicts, strict=True))
    return DomainMap(tuple(domains), found.index)


def domain_at(found: DomainMap, prepared: Prepared, point: tuple[float, float]) -> int:
    """Number of the domain at a point ``(y, x)`` of the frame; beyond the rim that of the nearest pixel."""
    place = np.rint(prepared.from_frame(np.array(point))).astype(np.intp)
    y, x = np.clip(place, 0, np.array(found.index.shape) - 1)
    return int(found.index[y, x])


def point_in(found: DomainMap, prepared: Prepared, number: int) -> tuple[float, float] | None:
    """The point ``(y, x)`` of the frame inside a domain that is furthest from its edges; None if it is empty."""
    depth = ndimage.distance_transform_edt(np.pad(found.index == number, 1))[1:-1, 1:-1]
    if not depth.any():
        return None
    y, x = prepared.to_frame_points(np.array(np.unravel_index(depth.argmax(), depth.shape)))
    return float(y), float(x)


def walls(found: DomainMap, period_px: float) -> NDArray[np.uint8]:
    """Where domains meet: bands of `WALL_PERIODS` to either side.

    Parameters
    ----------
    found : DomainMap
    period_px : float
        Lattice period in pixels of the prepared image.

    Returns
    -------
    uint8 array (y', x')
        0 inside a domain, 1 wall of a domain that counts as a defect, 2 interface of two intact ones.
    """
    out = np.zeros(found.index.shape, np.uint8)
    if len(found.domains) == 1:
        return out
    reach = WALL_PERIODS * period_px
    near = [
        ndimage.distance_transform_edt(found.index != i) <= reach
        if (found.index == i).any()
        else np.zeros(out.shape, bool)
        for i in range(len(found.domains))
    ]
    for i, first in enumerate(found.domains):
        for j, second in enumerate(found.domains[:i]):
            both = near[i] & near[j]
            # Where three meet the wall is the more important.
            out[both & (out != 1)] = 2 if first.crystal and second.crystal else 1
    return out


def misorientation(a: Lattice | None, b: Lattice | None) -> float | None:
    """Smallest turn of one lattice onto the other in degrees; where they differ by more, of a short vector of one."""
    if a is None or b is None:
        return None
    turn = lattice_rotation(a, b)
    if turn is not None:
        return turn
    first = np.array([a.v1, a.v2, np.add(a.v1, a.v2), np.subtract(a.v1, a.v2)])
    second = np.array([b.v1, b.v2, np.add(b.v1, b.v2), np.subtract(b.v1, b.v2)])
    lengths = np.hypot(*first.T)[:, None] / np.hypot(*second.T)[None]
    alike = np.abs(np.log(lengths)) < 2 * SAME_SHAPE
    if not alike.any():
        return None
    angles = np.degrees(
        np.arctan2(first[:, 0], first[:, 1])[:, None] - np.arctan2(second[:, 0], second[:, 1])[None]
    )
    angles = np.abs((angles + 90) % 180 - 90)
    return float(angles[alike].min())


#: Zone axes of cubic crystals, and the turn after which the lattice seen along them repeats. That along [111] cannot be
#: distinguished from a hexagonal crystal or sheet.
SYMMETRY_DEG = {(0, 0, 1): 90, (1, 1, 0): 180, (1, 1, 1): 60, (1, 1, 2): 180}
#: Largest Σ that is assigned; beyond, the windows of Brandon's criterion fill most angles. Brandon, Acta Metall. 14
#: (1966) 1479: a deviation of at most this angle over the root of Σ.
MOST_COINCIDENCE, BRANDON_DEG = 29, 15.0
#: Primitive vectors of primitive, face and body centred cubic crystals.
_CUBIC = (
    ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    ((0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)),
    ((0.5, 0.5, 0.5), (1, 0, 0), (0, 1, 0)),
)


@dataclass(frozen=True)
class Coincidence:
    """How two lattices seen along one cubic zone axis, or two hexagonal ones, are turned against each other.

    Attributes
    ----------
    zone_axis : (int, int, int) or None
        None for a hexagonal lattice: graphene looks like a cubic crystal along [111]; Σ is then that of the plane.
    misorientation_deg : float
        Smallest turn about the zone axis that brings one lattice onto the other, as the image shows it.
    sigma : int or None
        Share 1/Σ of coinciding points of the nearest relation within Brandon's criterion, the smaller Σ of two that
        look the same; 1: a low-angle boundary; None: no special relation.
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

    The turns that bring a share 1/Σ of the points to coincidence are known (Ranganathan, Acta Cryst. 21 (1966) 197).

    Parameters
    ----------
    a, b : Lattice or None

    Returns
    -------
    Coincidence or None
        ``name``, ``sigma``, ``misorientation_deg``, ``ideal_deg`` and ``zone_axis``.

    References
    ----------
    Ranganathan, Acta Cryst. 21 (1966) 197.

    Examples
    --------
    Two square lattices turned by 2·atan(1/3) share a fifth of their points:

    >>> import numpy as np, napari_hrstem_defects as hd
    >>> c, s = 0.8, 0.6  # cosine and sine of 36.87°
    >>> upright = hd.Lattice((10.0, 0.0), (0.0, 10.0), 10.0, 1.0)
    >>> hd.coincidence(upright, hd.Lattice((10 * c, 10 * s), (-10 * s, 10 * c), 10.0, 1.0)).name
    'Σ5'
    """
    if a is None or b is None:
        return None
    axis, turn = zone_axis(a), lattice_rotation(a, b)
    if axis is None or axis != zone_axis(b) or turn is None:
        return None
    turn, shown = _folded(turn, axis), None if axis == (1, 1, 1) else axis
    ratio, *near = min((abs(turn - t) * math.sqrt(s), s, t) for s, t in coincidence_angles(axis))
    return Coincidence(shown, turn, *(near if ratio < BRANDON_DEG else (None, None)))


def zone_axis(lattice: Lattice) -> tuple[int, int, int] | None:
    """Zone axis along which a primitive, face or body centred cubic lattice shows this cell; None if there is none."""
    fits = ((best_map(basis, lattice.basis, any_scale=True)[1], axis) for axis, basis in _cubic_cells())
    stretch, axis = min(fits)
    return axis if stretch < SAME_SHAPE else None


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
    for n, m in product(range(2 * math.isqrt(MOST_COINCIDENCE) + 2), repeat=2):
        sigma = n * n + norm * m * m
        while sigma and sigma % 2 == 0:
            sigma //= 2
        if math.gcd(n, m) == 1 and sigma <= MOST_COINCIDENCE:
            angle = round(_folded(math.degrees(2 * math.atan2(m * math.sqrt(norm), n)), axis), 6)
            found[angle] = min(sigma, found.get(angle, sigma))
    return tuple(sorted((sigma, angle) for angle, sigma in found.items()))


def _folded(angle_deg: float, axis: tuple[int, int, int]) -> float:
    """The angle between 0 and half the angle after which the lattice repeats; its sense does not matter."""
    return abs(math.remainder(angle_deg, SYMMETRY_DEG[axis]))


@lru_cache(maxsize=1)
def _cubic_cells() -> tuple[tuple[tuple[int, int, int], Doubles], ...]:
    """Bases of the lattices that cubic ones of edge 1 project to along the zone axes."""
    found = []
    for axis, primitive in product(SYMMETRY_DEG, _CUBIC):
        across = np.cross(axis, (1.0, -1.0, 0.0))
        view = np.array([(1.0, -1.0, 0.0) / np.sqrt(2), across / np.linalg.norm(across)])
        points = np.mgrid[-2:3, -2:3, -2:3].reshape(3, -1).T @ np.array(primitive) @ view.T
        points = points[np.argsort(np.hypot(*points.T).round(6), kind="stable")]
        first = points[np.hypot(*points.T) > TINY][0]
        aside = np.abs(first[0] * points[:, 1] - first[1] * points[:, 0]) > TINY
        found.append((axis, np.array([first, points[aside][0]])))
    return tuple(found)
