"""Several lattices in one image: the records, what counts as crystal, where domains meet."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_hrstem_defects.core.best_patch import BestPatch
from napari_hrstem_defects.core.coincidence import lattice_rotation
from napari_hrstem_defects.core.lattice import Lattice
from napari_hrstem_defects.core.model import Model
from napari_hrstem_defects.core.preprocessing import Prepared
from napari_hrstem_defects.core.recipe import DomainParams, points_of

#: Relation of a domain from which nothing is concluded.
UNSURE = "unsure"
#: Misorientations in degrees at which a lattice is the reference's, turned a little: less may be a bent crystal.
SLIGHT_TURN = (0.75, 5.0)
#: Half width of a wall, in periods.
WALL_PERIODS = 0.75


@dataclass(frozen=True, eq=False)
class Domain:
    """One lattice of the image: a grain, a phase, or the reference crystal.

    Attributes
    ----------
    patch : BestPatch
        Its model patch, in pixels of the frame.
    model : Model
        What that patch says about the image.
    lattice : Lattice or None
        In pixels of the frame.
    relation : str
        To the first domain: ``"reference"``, ``"rotated"``, ``"inverted"``, ``"shifted"`` (same lattice, other
        content), ``"second phase"``, or ``"unsure"`` where another lattice explains it better, but hardly enough.
    crystal : bool
        Whether it counts as intact crystal; otherwise all of it is a defect.
    gain : float
        How much better its model fits it than the next best, and the other way round: the smaller of the two
        median differences of log residual energies. Infinite for the reference.
    misorientation_deg : float or None
        Smallest rotation that brings a lattice vector of the reference onto one of this domain; None if unknown.
    decided : bool
        False for an unsure domain as long as nobody has said whether it is crystal.
    """

    patch: BestPatch
    model: Model
    lattice: Lattice | None
    relation: str
    crystal: bool
    gain: float
    misorientation_deg: float | None = None
    decided: bool = True

    @property
    def defective(self) -> bool:
        """Whether all of it is a defect; an undecided domain is judged place by place."""
        return self.decided and not self.crystal

    @property
    def by_reference(self) -> bool:
        """Whether it is undecided and judged by the reference alone."""
        return not self.decided and not self.slightly_turned

    @property
    def slightly_turned(self) -> bool:
        """Whether it is undecided and the reference's lattice turned a little: its boundary is what is to be seen."""
        turn = self.misorientation_deg
        return not self.decided and turn is not None and SLIGHT_TURN[0] < turn < SLIGHT_TURN[1]


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


def with_verdicts(found: DomainMap, prepared: Prepared, params: DomainParams) -> DomainMap:
    """The same domains with what the recipe says now about which of them count as intact crystal.

    A point in ``params.intact_at`` or ``params.defective_at`` speaks for the domain it lies in; the later point
    wins, and the reference, with which all is compared, is always intact.
    """
    verdicts = [
        domain.crystal
        if i == 0
        else params.crystal == "all" or (params.crystal == "phases" and domain.relation == "second phase")
        for i, domain in enumerate(found.domains)
    ]
    decided = [domain.relation != UNSURE or params.crystal == "all" for domain in found.domains]
    for text, crystal in ((params.intact_at, True), (params.defective_at, False)):
        for point in points_of(text):
            number = domain_at(found, prepared, point)
            if number > 0:
                verdicts[number], decided[number] = crystal, True
    domains = (
        replace(domain, crystal=verdict, decided=known)
        for domain, verdict, known in zip(found.domains, verdicts, decided, strict=True)
    )
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


def walls(found: DomainMap, period_px: float, *, of: int | None = None) -> NDArray[np.uint8]:
    """Where domains meet: bands of `WALL_PERIODS` to either side.

    Parameters
    ----------
    found : DomainMap
    period_px : float
        Lattice period in pixels of the prepared image.
    of : int, optional
        Only the walls of this domain.

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
    intact = np.array([domain.crystal for domain in found.domains])
    decided = [i for i, domain in enumerate(found.domains) if domain.decided]
    for i in decided:
        for j in (j for j in decided if j < i and of in (None, i, j)):
            both = near[i] & near[j]
            # Where three meet the wall is the more important.
            out[both & (out != 1)] = 2 if intact[i] and intact[j] else 1
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
    alike = np.abs(np.log(lengths)) < np.log(1.1)
    if not alike.any():
        return None
    angles = np.degrees(
        np.arctan2(first[:, 0], first[:, 1])[:, None] - np.arctan2(second[:, 0], second[:, 1])[None]
    )
    angles = np.abs((angles + 90) % 180 - 90)
    return float(angles[alike].min())
