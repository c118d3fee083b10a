"""Planar defects and second grains: stacking faults, twins, grain boundaries, antiphase and inversion domains, films.

Every function takes the specimen and a random generator and adds the defect with its truth. Fault geometry follows
Hirth & Lothe, *Theory of Dislocations* (2nd ed., 1982), chapters 10 and 12: in the diamond structure the slip of an
intrinsic fault is through the narrow (glide) gap and a coherent twin joins in the wide (shuffle) one, so that every
tetrahedral bond is kept.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_hrstem_defects.simulation.crystals import MATERIALS, Array, SimulationError, project, rotation
from napari_hrstem_defects.simulation.fields import edge_field, slip_field
from napari_hrstem_defects.simulation.regions import (
    Band,
    Blob,
    HalfPlane,
    Rim,
    harmonics,
    pair,
    pick,
    ripples,
    tangent,
)
from napari_hrstem_defects.simulation.specimen import Finding, Grain, Specimen

#: Truth: a planar defect is marked this many periods to either side.
WALL_PERIODS = 0.75

#: (structure, zone axis) → normals of the close-packed planes that are seen edge-on and carry faults.
FAULT_PLANES = {(s, "110"): ((1, 1, 1), (1, 1, -1)) for s in ("diamond", "zincblende", "fcc")}
#: ... and of the twin planes.
TWIN_PLANES = {**FAULT_PLANES, ("bcc", "110"): ((1, 1, 2), (1, 1, -2))}
#: Interface normals of coherent films, by zone axis.
FILM_PLANES = {"100": ((0, 1, 0), (1, 0, 0)), "110": ((0, 0, 1),)}
#: Coherent pairs, substrate → films.
FILMS = {
    "si": ("ge", "gap"),
    "ge": ("gaas", "si"),
    "gaas": ("alas", "ge", "znse"),
    "inp": ("inas", "gaas"),
    "insb": ("cdte",),
    "cdte": ("insb",),
    "znse": ("gaas",),
    "gap": ("si",),
    "srtio3": ("pbtio3", "batio3", "laalo3", "srruo3"),
    "dysco3": ("pbtio3", "batio3", "srtio3"),
    "laalo3": ("srtio3",),
    "srruo3": ("pbtio3", "srtio3"),
    "pbtio3": ("srruo3", "srtio3"),
    "au": ("ag",),
    "ag": ("au",),
    "pt": ("pd",),
    "pd": ("pt",),
    "nb": ("ta", "w"),
    "w": ("mo",),
    "mo": ("w",),
}


def _plane(specimen: Specimen, rng: np.random.Generator, planes: Any, kind: str) -> Array:
    """Normal of one of the planes offered for the structure, of random sense."""
    crystal = specimen.base.crystal
    view = crystal.structure, crystal.zone_axis
    if view not in planes:
        raise SimulationError(
            f"A {kind} cannot be seen in {crystal.material} along [{crystal.zone_axis}]; choose [110] of a cubic "
            "crystal."
        )
    return specimen.base.direction(pick(rng, planes[view])) * pick(rng, (-1.0, 1.0))


def stacking_fault(specimen: Specimen, rng: np.random.Generator, kind: str, finite: bool = False) -> None:
    """Add a stacking fault made of slips on neighbouring close-packed planes.

    One slip makes an intrinsic fault, two on adjacent planes an extrinsic one, one on each of m planes a twin lamella,
    one on every second plane a lamella of hexagonal stacking. The slip is 1/6<112>, projected.

    Parameters
    ----------
    kind : str
        ``"intrinsic stacking fault"``, ``"extrinsic stacking fault"``, ``"twin lamella"`` or
        ``"stacking fault lamella"``.
    finite : bool
        End the fault within the image, at two partial dislocations.
    """
    normal = _plane(specimen, rng, FAULT_PLANES, "stacking fault")
    spacing, _, step = specimen.base.stacking(normal)
    near = float(rng.uniform(-0.55, 0.55)) * specimen.reach(normal)
    low = specimen.base.cut(normal, near, "narrow")[0]
    if kind == "intrinsic stacking fault":
        heights = [low]
    elif kind == "extrinsic stacking fault":
        heights = [low, low + spacing]
    elif kind == "twin lamella":
        heights = [low + i * spacing for i in range(int(rng.integers(3, 16)))]
    elif kind == "stacking fault lamella":
        heights = [low + 2 * i * spacing for i in range(int(rng.integers(2, 7)))]
    else:
        raise SimulationError(f"There is no stacking fault of kind {kind!r}.")
    along = tangent(normal)
    half = WALL_PERIODS * specimen.period
    details: dict[str, Any] = {"planes": len(heights), "finite": finite, "normal": pair(normal)}
    ends = None
    if finite and len(heights) <= 2:
        length = float(rng.uniform(0.35, 0.8)) * specimen.size
        middle = float(rng.uniform(-0.25, 0.25)) * specimen.size
        ends = (middle - length / 2, middle + length / 2)
        for height in heights:
            for sign, end in ((1.0, ends[0]), (-1.0, ends[1])):
                core = height * normal + end * along
                specimen.fields.append(edge_field(core, sign * step * along, normal))
                core_region = Blob(pair(core), 1.5 * specimen.period)
                specimen.crowded.append(core_region)
                if height == heights[0]:
                    specimen.findings.append(
                        Finding("dislocation", 1, core_region, pair(sign * step * along), {"partial": True})
                    )
    else:
        specimen.fields.append(slip_field(normal, heights, step))
    region = Band(pair(normal), heights[0] - half, heights[-1] + half, ends)
    specimen.findings.append(Finding(kind, 1, region, pair(step * along), details))
    if kind == "twin lamella":
        for height in (heights[0] - spacing / 2, heights[-1] + spacing / 2):
            wall = Band(pair(normal), height - half, height + half)
            specimen.findings.append(Finding("twin boundary", 1, wall, None, {"normal": pair(normal)}))


def _second_side(specimen: Specimen, rng: np.random.Generator, normal: Array) -> float:
    """Height of a border beyond which at most half of the image lies; one in four is in the middle."""
    share = 0.0 if rng.random() < 0.25 else float(rng.uniform(0.0, 0.6))
    return share * specimen.reach(normal)


def twin(specimen: Specimen, rng: np.random.Generator) -> None:
    """Add a coherent twin: beyond the boundary the crystal is turned by 180° about the plane normal.

    In projection the turn reflects the coordinate along the boundary. Across the wide gap of zinc blende it keeps
    every bond and the polarity (the usual ortho twin).
    """
    normal = _plane(specimen, rng, TWIN_PLANES, "coherent twin")
    height, column = specimen.base.cut(normal, _second_side(specimen, rng, normal), "wide")
    along = tangent(normal)
    reflection = np.eye(2) - 2 * np.outer(along, along)
    region = HalfPlane(pair(normal), height)
    # One layer per spacing (metals): that layer is the mirror plane; else the middle of the gap is.
    mirror = float(column @ normal) if len(specimen.base.crystal.sites) == 1 else height
    details = {"relation": "twin", "normal": pair(normal)}
    kinds = ("second grain", "twin boundary")
    grain = specimen.base.moved(reflection, column)
    _add_domain(specimen, grain, region, kinds, details, HalfPlane(pair(normal), mirror))


def _add_domain(
    specimen: Specimen,
    grain: Grain,
    region: Any,
    kinds: tuple[str, str],
    details: dict[str, Any],
    wall: Any = None,
) -> None:
    """Add a grain that is a defect all over, and its wall; `kinds` are what the two are called."""
    specimen.grains.append((grain, region))
    wall = Rim(wall or region, WALL_PERIODS * specimen.period)
    specimen.findings += [
        Finding(kind, 1, part, None, details) for kind, part in zip(kinds, (region, wall), strict=True)
    ]


def _outline(specimen: Specimen, rng: np.random.Generator, closed: float) -> HalfPlane | Blob:
    """A free border: a gently waving line, or with probability `closed` a closed one."""
    size = specimen.size
    if rng.random() < closed:
        waves = harmonics(rng, (0.02, 0.1), (2, 3))
        centre = pair(rng.uniform(-0.3, 0.3, 2) * size)
        return Blob(centre, float(rng.uniform(0.35, 0.6)) * size, waves)
    angle = float(rng.uniform(0, 2 * np.pi))
    normal = np.array([np.sin(angle), np.cos(angle)])
    waves = ripples(rng, 2, (0, 0.04), (0.8, 2.5), size)
    return HalfPlane(pair(normal), _second_side(specimen, rng, normal), waves)


def grain_boundary(specimen: Specimen, rng: np.random.Generator, angle_deg: float | None = None) -> None:
    """Add a second grain turned about the zone axis (tilt boundary), with any boundary plane."""
    angle = float(rng.uniform(5.0, 30.0)) * pick(rng, (-1.0, 1.0)) if angle_deg is None else angle_deg
    region = _outline(specimen, rng, 0.25)
    shift = rng.uniform(-0.5, 0.5, 2) @ specimen.base.cell
    specimen.crowded.append(region)
    grain = specimen.base.moved(rotation(angle), np.zeros(2), shift)
    details = {"relation": "rotation", "angle_deg": angle}
    _add_domain(specimen, grain, region, ("second grain", "grain boundary"), details)


def inversion_domain(specimen: Specimen, rng: np.random.Generator) -> None:
    """Add a domain of opposite polarity: the same column sites, the two sublattices exchanged."""
    crystal = specimen.base.crystal
    if len(crystal.sites) != 2 or crystal.atoms[0] == crystal.atoms[1]:
        raise SimulationError(f"{crystal.material} along [{crystal.zone_axis}] has no polarity to invert.")
    centre = specimen.base.places().mean(axis=0)
    region = _outline(specimen, rng, 0.5)
    kinds = ("inversion domain", "antiphase boundary")
    _add_domain(specimen, specimen.base.moved(-np.eye(2), centre), region, kinds, {"relation": "inversion"})


def antiphase_boundary(specimen: Specimen, rng: np.random.Generator) -> None:
    """Add a domain displaced by a fraction of a lattice vector; only its walls are defects.

    Perovskites [100]: a rock-salt (Ruddlesden-Popper) layer, R = a/2[110], the A-site layer doubled. CsCl structure:
    R = a/2[111], the sublattices exchanged.
    """
    base = specimen.base
    structure, zone = base.crystal.structure, base.crystal.zone_axis
    if structure == "perovskite" and zone == "100":
        normal = base.direction(pick(rng, ((1, 0, 0), (0, 1, 0)))) * pick(rng, (-1.0, 1.0))
        along = tangent(normal)
        a = MATERIALS[base.crystal.material].a_nm
        shift = a / 2 * (normal + along)
        # The A-site layer nearest to the wanted place; the wall runs half-way to its copy, a/4 above it.
        a_site = float(base.places()[0] @ normal)
        near = float(rng.uniform(-0.3, 0.5)) * specimen.reach(normal)
        height = a_site + a * round((near - a_site) / a) + a / 4
        moved = base.moved(np.eye(2), np.zeros(2), shift)
        region: HalfPlane | Band | Blob = HalfPlane(pair(normal), height)
        if rng.random() < 0.5:
            width = a * (int(rng.integers(4, 15)) + 0.5)
            region = Band(pair(normal), height, height + width)
        details = {"normal": pair(normal), "type": "rock-salt layer"}
    elif structure == "cscl":
        shift = base.vector((0.5, 0.5, 0.5))
        moved = base.moved(np.eye(2), np.zeros(2), shift)
        region = _outline(specimen, rng, 0.5)
        details = {"type": "exchanged sublattices"}
    else:
        raise SimulationError(
            f"{base.crystal.material} along [{zone}] has no antiphase boundary here; choose a perovskite along [100] "
            "or NiAl."
        )
    specimen.grains.append((moved, region))
    wall = Rim(region, WALL_PERIODS * specimen.period)
    specimen.findings.append(Finding("antiphase boundary", 1, wall, pair(shift), details))


def film(specimen: Specimen, rng: np.random.Generator, material: str | None = None) -> None:
    """Add a coherent film of another material: strained to the substrate along the interface; not a defect."""
    base = specimen.base
    crystal = base.crystal
    if crystal.zone_axis not in FILM_PLANES or crystal.material not in FILMS:
        raise SimulationError(
            f"There is no coherent film for {crystal.material} along [{crystal.zone_axis}]."
        )
    material = material or pick(rng, FILMS[crystal.material])
    other = project(material, crystal.zone_axis)
    normal = base.direction(pick(rng, FILM_PLANES[crystal.zone_axis])) * pick(rng, (-1.0, 1.0))
    height, column = base.cut(normal, _second_side(specimen, rng, normal), "wide")
    mismatch = MATERIALS[material].a_nm / MATERIALS[crystal.material].a_nm - 1.0
    # Strained to fit along the interface; across it the film keeps its volume to first order (Poisson 1/3).
    along = tangent(normal)
    strain = np.outer(along, along) / (1 + mismatch) + np.outer(normal, normal) * (1 + mismatch * 0.5)
    place = base.places()[0]
    anchor = place + np.round((column - place) @ np.linalg.inv(base.cell)) @ base.cell
    matrix = strain @ base.matrix
    grain = Grain(other, matrix, anchor - matrix @ other.sites[0])
    region = HalfPlane(pair(normal), height)
    specimen.grains.append((grain, region))
    details = {"material": material, "mismatch": mismatch, "normal": pair(normal)}
    specimen.findings.append(Finding("second phase", 0, region, None, details))
    interface = Rim(region, 2 * WALL_PERIODS * specimen.period)
    specimen.findings.append(Finding("interface", 0, interface, None, details))
    specimen.interfaces.append(interface)
