"""Crystals seen along a zone axis: the projected cell, its atomic columns, its edge-on lattice planes.

Coordinates of the projection are ``(y, x)`` in nanometres. A column is every atom of the crystal that projects to the
same point; its signal is the sum over its atoms per nanometre of thickness.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_hrstem_defects.errors import HrstemDefectsError

Array = NDArray[np.float64]


class SimulationError(HrstemDefectsError):
    """A simulation was asked for that cannot be made."""


#: Chemical symbol → atomic number, for the elements used here.
ATOMIC_NUMBERS = {
    "B": 5, "C": 6, "N": 7, "O": 8, "Na": 11, "Mg": 12, "Al": 13, "Si": 14, "P": 15, "S": 16, "Cl": 17, "Ca": 20,
    "Ti": 22, "Fe": 26, "Ni": 28, "Cu": 29, "Zn": 30, "Ga": 31, "Ge": 32, "As": 33, "Se": 34, "Sr": 38, "Nb": 41,
    "Mo": 42, "Ru": 44, "Pd": 46, "Ag": 47, "Cd": 48, "In": 49, "Sn": 50, "Sb": 51, "Te": 52, "Ba": 56, "La": 57,
    "Dy": 66, "Sc": 21, "Ta": 73, "W": 74, "Pt": 78, "Au": 79, "Pb": 82,
}  # fmt: skip

_FCC = ((0.0, 0.0, 0.0), (0.0, 0.5, 0.5), (0.5, 0.0, 0.5), (0.5, 0.5, 0.0))
_BCC = ((0.0, 0.0, 0.0), (0.5, 0.5, 0.5))
_PRIMITIVE = ((0.0, 0.0, 0.0),)


@dataclass(frozen=True)
class Structure:
    """Structure type: centring translations and basis, in fractions of the conventional cell.

    Attributes
    ----------
    centring : tuple of (3,) tuples
        Lattice translations within the conventional cell.
    basis : tuple of (int, (3,) tuple)
        Index into the material's elements and position; the centring is applied to each.
    hexagonal : bool
        Cell a, a, c with 120° between the first two axes, instead of cubic.
    zone_axes : tuple of str
        Zone axes offered.
    """

    centring: tuple[tuple[float, float, float], ...]
    basis: tuple[tuple[int, tuple[float, float, float]], ...]
    zone_axes: tuple[str, ...]
    hexagonal: bool = False


#: Structure types by name.
STRUCTURES = {
    "diamond": Structure(_FCC, ((0, (0, 0, 0)), (0, (0.25, 0.25, 0.25))), ("110", "100", "112")),
    "zincblende": Structure(_FCC, ((0, (0, 0, 0)), (1, (0.25, 0.25, 0.25))), ("110", "100", "112")),
    "perovskite": Structure(
        _PRIMITIVE,
        ((0, (0, 0, 0)), (1, (0.5, 0.5, 0.5)), (2, (0.5, 0.5, 0)), (2, (0.5, 0, 0.5)), (2, (0, 0.5, 0.5))),
        ("100", "110"),
    ),
    "fcc": Structure(_FCC, ((0, (0, 0, 0)),), ("110", "100", "111")),
    "bcc": Structure(_BCC, ((0, (0, 0, 0)),), ("110", "100", "111")),
    "rocksalt": Structure(_FCC, ((0, (0, 0, 0)), (1, (0.5, 0.5, 0.5))), ("100", "110")),
    "cscl": Structure(_PRIMITIVE, ((0, (0, 0, 0)), (1, (0.5, 0.5, 0.5))), ("100", "110")),
    "honeycomb": Structure(
        _PRIMITIVE, ((0, (1 / 3, 2 / 3, 0.5)), (1, (2 / 3, 1 / 3, 0.5))), ("001",), hexagonal=True
    ),
}


@dataclass(frozen=True)
class Material:
    """A material: structure type, elements, lattice constant.

    Attributes
    ----------
    structure : str
        Key of `STRUCTURES`.
    elements : tuple of str
        Element(s) of each basis index; a digit repeats it (``"S2"``: two atoms above each other).
    a_nm : float
        Lattice constant at room temperature in nm (CRC Handbook of Chemistry and Physics; perovskites pseudo-cubic).
    """

    structure: str
    elements: tuple[str, ...]
    a_nm: float


#: Materials by name.
MATERIALS = {
    "c": Material("diamond", ("C",), 0.35668),
    "si": Material("diamond", ("Si",), 0.54310),
    "ge": Material("diamond", ("Ge",), 0.56579),
    "gaas": Material("zincblende", ("Ga", "As"), 0.56533),
    "gap": Material("zincblende", ("Ga", "P"), 0.54505),
    "inp": Material("zincblende", ("In", "P"), 0.58687),
    "inas": Material("zincblende", ("In", "As"), 0.60583),
    "insb": Material("zincblende", ("In", "Sb"), 0.64794),
    "alas": Material("zincblende", ("Al", "As"), 0.56611),
    "cdte": Material("zincblende", ("Cd", "Te"), 0.64810),
    "cdse": Material("zincblende", ("Cd", "Se"), 0.60520),
    "znse": Material("zincblende", ("Zn", "Se"), 0.56680),
    "zns": Material("zincblende", ("Zn", "S"), 0.54093),
    "srtio3": Material("perovskite", ("Sr", "Ti", "O"), 0.39050),
    "batio3": Material("perovskite", ("Ba", "Ti", "O"), 0.40060),
    "pbtio3": Material("perovskite", ("Pb", "Ti", "O"), 0.39700),
    "laalo3": Material("perovskite", ("La", "Al", "O"), 0.37900),
    "srruo3": Material("perovskite", ("Sr", "Ru", "O"), 0.39300),
    "dysco3": Material("perovskite", ("Dy", "Sc", "O"), 0.39450),
    "al": Material("fcc", ("Al",), 0.40496),
    "cu": Material("fcc", ("Cu",), 0.36149),
    "ni": Material("fcc", ("Ni",), 0.35240),
    "pd": Material("fcc", ("Pd",), 0.38903),
    "ag": Material("fcc", ("Ag",), 0.40857),
    "pt": Material("fcc", ("Pt",), 0.39236),
    "au": Material("fcc", ("Au",), 0.40782),
    "fe": Material("bcc", ("Fe",), 0.28665),
    "mo": Material("bcc", ("Mo",), 0.31470),
    "nb": Material("bcc", ("Nb",), 0.33004),
    "ta": Material("bcc", ("Ta",), 0.33013),
    "w": Material("bcc", ("W",), 0.31652),
    "mgo": Material("rocksalt", ("Mg", "O"), 0.42112),
    "nacl": Material("rocksalt", ("Na", "Cl"), 0.56402),
    "pbte": Material("rocksalt", ("Pb", "Te"), 0.64620),
    "nial": Material("cscl", ("Ni", "Al"), 0.28870),
    "graphene": Material("honeycomb", ("C", "C"), 0.24610),
    "hbn": Material("honeycomb", ("B", "N"), 0.25040),
    "mos2": Material("honeycomb", ("Mo", "S2"), 0.31600),
}


def material_of(name: str) -> Material:
    """Material of a name; a SimulationError if there is none."""
    if name not in MATERIALS:
        raise SimulationError(f"There is no material {name!r}; there are {', '.join(MATERIALS)}.")
    return MATERIALS[name]


#: Zone axis → (zone, direction drawn to the right, direction drawn downwards), direct-lattice indices.
_VIEWS: dict[str, tuple[tuple[int, int, int], tuple[int, int, int], tuple[int, int, int]]] = {
    "100": ((0, 0, 1), (1, 0, 0), (0, 1, 0)),
    "001": ((0, 0, 1), (1, 0, 0), (1, 2, 0)),  # hexagonal axes: [120] is normal to [100]
    "110": ((1, -1, 0), (1, 1, 0), (0, 0, 1)),
    "111": ((1, 1, 1), (1, -1, 0), (1, 1, -2)),
    "112": ((1, 1, -2), (1, -1, 0), (1, 1, 1)),
}
_SAME_COLUMN_NM = 1e-3


@dataclass(frozen=True, eq=False)
class Projection:
    """A crystal projected along a zone axis.

    Attributes
    ----------
    material, zone_axis : str
        What is seen along what.
    cell : float array (2, 2)
        Rows: the two shortest lattice vectors of the projection, ``(y, x)`` in nm.
    sites : float array (m, 2)
        Columns of the cell, ``(y, x)`` in nm.
    atoms : tuple of tuple of (int, float)
        For each column, (atomic number, atoms per nm of thickness) of what it holds.
    view : float array (3, 3)
        Unit vectors, as rows: down (y), right (x), zone axis; in Cartesian crystal axes.
    lattice : float array (3, 3)
        Rows: conventional lattice vectors in nm.
    """

    material: str
    zone_axis: str
    cell: Array
    sites: Array
    atoms: tuple[tuple[tuple[int, float], ...], ...]
    view: Array
    lattice: Array

    @property
    def structure(self) -> str:
        """Key of `STRUCTURES`."""
        return MATERIALS[self.material].structure

    @property
    def area_nm2(self) -> float:
        """Area of the projected cell in nm²."""
        return float(abs(np.linalg.det(self.cell)))

    @property
    def period_nm(self) -> float:
        """Lattice period: square root of the cell's area, in nm."""
        return float(np.sqrt(self.area_nm2))

    @property
    def nearest_nm(self) -> float:
        """Smallest distance between two columns, in nm."""
        gaps = self.sites[:, None, None] - self.sites[None, :, None] + lattice_vectors(self.cell, 2)
        distances = np.hypot(gaps[..., 0], gaps[..., 1])
        return float(distances[distances > _SAME_COLUMN_NM].min())

    def hole(self) -> tuple[Array, float]:
        """Middle ``(y, x)`` of the widest channel between the columns and its distance to the nearest, in nm."""
        fractions = np.stack(np.meshgrid(*(np.arange(24) / 24,) * 2, indexing="ij"), axis=-1).reshape(-1, 2)
        grid = fractions @ self.cell
        columns = (self.sites[:, None] + lattice_vectors(self.cell, 2)).reshape(-1, 2)
        gaps = grid[:, None] - columns[None]
        distance = np.hypot(gaps[..., 0], gaps[..., 1]).min(axis=1)
        best = int(np.argmax(distance.round(6)))
        return grid[best], float(distance[best])

    def weights(self, exponent: float) -> Array:
        """Signal of each column: sum of Z**exponent over its atoms per nm of thickness, shape (m,)."""
        return np.array([sum(density * z**exponent for z, density in column) for column in self.atoms])

    def direction(self, indices: ArrayLike) -> Array:
        """Unit vector ``(y, x)`` of a direct-lattice direction; its part along the zone axis is dropped."""
        vector = self.vector(indices)
        length = np.hypot(*vector)
        if length < 1e-9:
            raise SimulationError(f"The direction {indices!r} is along the zone axis and cannot be seen.")
        return vector / length

    def vector(self, indices: ArrayLike) -> Array:
        """Direct-lattice vector projected to ``(y, x)``, in nm."""
        return self.view[:2] @ (np.asarray(indices, float) @ self.lattice)


def rotation(angle_deg: float) -> Array:
    """Matrix (2, 2) that turns points ``(y, x)``."""
    turn = np.deg2rad(angle_deg)
    return np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])


def lattice_vectors(cell: ArrayLike, order: int) -> Array:
    """All sums of up to ±`order` of each of the vectors that are the rows of `cell`, shape (n, d)."""
    multiples = np.arange(-order, order + 1)
    rows = np.asarray(cell, float)
    counts = np.stack(np.meshgrid(*[multiples] * len(rows), indexing="ij"), axis=-1)
    return np.asarray(counts.reshape(-1, len(rows)) @ rows)


def _elements(text: str) -> tuple[int, int]:
    count = int(text[-1]) if text[-1].isdigit() else 1
    return ATOMIC_NUMBERS[text.rstrip("0123456789")], count


def _reduced_basis(vectors: Array) -> Array:
    """Two shortest independent vectors of the lattice that `vectors` (n, 2) span; a basis in two dimensions."""
    lengths = np.hypot(vectors[:, 0], vectors[:, 1])
    vectors = vectors[lengths > _SAME_COLUMN_NM]
    order = np.lexsort((-vectors[:, 0].round(6), -vectors[:, 1].round(6), np.hypot(*vectors.T).round(6)))
    vectors = vectors[order]
    first = vectors[0]
    cross = np.abs(first[0] * vectors[:, 1] - first[1] * vectors[:, 0])
    return np.array([first, vectors[cross > _SAME_COLUMN_NM**2][0]])


@lru_cache(maxsize=256)
def project(material: str, zone_axis: str) -> Projection:
    """Projection of a material along a zone axis.

    Parameters
    ----------
    material : str
        Key of `MATERIALS`.
    zone_axis : str
        One of the zone axes of the material's structure type, e.g. ``"110"``.

    Raises
    ------
    SimulationError
        If either is unknown.

    Examples
    --------
    >>> si = project("si", "110")
    >>> round(si.period_nm / (0.54310 / 8**0.25), 6)
    1.0
    """
    kind = material_of(material)
    structure = STRUCTURES[kind.structure]
    if zone_axis == "001" and not structure.hexagonal:
        zone_axis = "100"
    if zone_axis not in structure.zone_axes:
        raise SimulationError(
            f"{material} cannot be simulated along {zone_axis!r}; choose one of {', '.join(structure.zone_axes)}."
        )
    lattice = kind.a_nm * np.eye(3)
    if structure.hexagonal:
        lattice[1] = kind.a_nm * np.array([-0.5, np.sqrt(0.75), 0.0])
    zone, right, down = (np.asarray(v, float) @ lattice for v in _VIEWS[zone_axis])
    view = np.array([v / np.linalg.norm(v) for v in (down, right, zone)])

    grid = lattice_vectors(np.eye(3), 3)
    translations = (grid[:, None] + np.array(structure.centring)[None]).reshape(-1, 3) @ lattice
    cell = _reduced_basis(translations @ view[:2].T)

    positions, contents = [], []
    for index, place in structure.basis:
        number, count = _elements(kind.elements[index])
        for shift in structure.centring:
            point = (np.add(place, shift) @ lattice) @ view[:2].T
            positions.append(_folded(point, cell))
            contents.append((number, count))
    sites, columns = _columns(cell, positions, contents)
    finer = [site - sites[0] for site in sites[1:] if _is_translation(site - sites[0], cell, sites, columns)]
    if finer:  # e.g. diamond [100]: equal columns at different heights repeat on a finer lattice
        steps = lattice_vectors(cell, 2)
        cell = _reduced_basis(np.concatenate([steps, *(steps + shift for shift in finer)]))
        positions = [_folded(point, cell) for point in positions]
        sites, columns = _columns(cell, positions, contents)
    volume = float(abs(np.linalg.det(lattice)))
    area = float(abs(np.linalg.det(cell)))
    # A cell of the projection holds `atoms in the conventional cell / volume × area` atoms per nm of thickness.
    share = area / volume
    atoms = tuple(tuple((z, n * share) for z, n in sorted(column.items())) for column in columns)
    return Projection(material, zone_axis, cell, np.array(sites), atoms, view, lattice)


def _folded(point: Array, cell: Array) -> Array:
    fraction = np.linalg.solve(cell.T, point)
    return np.asarray((fraction - np.floor(fraction + 1e-6)) @ cell)


def _columns(
    cell: Array, positions: list[Array], contents: list[tuple[int, int]]
) -> tuple[list[Array], list[dict[int, float]]]:
    """Merge atoms that project to one point: columns of the cell and their atoms per conventional cell."""
    sites: list[Array] = []
    columns: list[dict[int, float]] = []
    for point, (number, count) in zip(positions, contents, strict=True):
        for site, column in zip(sites, columns, strict=True):
            if _same(point - site, cell):
                column[number] = column.get(number, 0) + count
                break
        else:
            sites.append(point)
            columns.append({number: float(count)})
    return sites, columns


def _same(difference: Array, cell: Array) -> bool:
    fraction = np.linalg.solve(cell.T, difference)
    return bool(np.abs((fraction - np.round(fraction)) @ cell).max() < _SAME_COLUMN_NM)


def _is_translation(shift: Array, cell: Array, sites: list[Array], columns: list[dict[int, float]]) -> bool:
    return all(
        any(
            _same(site + shift - other, cell) and column == target
            for other, target in zip(sites, columns, strict=True)
        )
        for site, column in zip(sites, columns, strict=True)
    )
