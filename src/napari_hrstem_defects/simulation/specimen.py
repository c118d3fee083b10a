"""The specimen: grains, displacement fields, faded areas and column edits, gathered by the defect builders.

A :class:`Specimen` is filled by the functions of `planar`, `points` and `areas`; :meth:`Specimen.columns` turns it
into atomic columns. Points are ``(y, x)`` in nm, the origin in the middle of the image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from napari_hrstem_defects.simulation.crystals import Array, Projection, lattice_vectors
from napari_hrstem_defects.simulation.regions import Blob, Region, tangent

#: Columns of two grains that come closer than this share of the nearest-neighbour distance cannot both exist.
CLOSEST_COLUMNS = 0.6
#: ... nor closer than this share of the period, for crystals with dumbbells whose neighbours nearly touch.
CLOSEST_PERIODS = 0.3
#: A gap at a disordered wall takes another column if that is this share of the nearest-neighbour distance from all ...
ROOM_COLUMNS = 0.65
#: ... and this share of the half width of the crystal's own channels.
ROOM_HOLES = 1.05
#: Columns at a disordered wall settle at this share of the nearest-neighbour distance or more.
RELAXED_COLUMNS = 0.9
_RELAX_STEPS = 8
#: The shortest step from layer to layer has at most this many of each lattice vector, of all planes that are used.
_STEPS = 6
#: A second grain is continued this share of the nearest-neighbour distance over its border, to leave no gap.
BORDER_OVERLAP = 0.4


@dataclass(frozen=True, eq=False)
class Grain:
    """A projected crystal placed in the specimen: ``r = matrix @ r_crystal + origin``.

    Attributes
    ----------
    crystal : Projection
        What it is made of.
    matrix : float array (2, 2)
        Rotation, reflection or strain.
    origin : float array (2,)
        Where the crystal's origin lies, in nm.
    """

    crystal: Projection
    matrix: Array
    origin: Array

    def direction(self, indices: ArrayLike) -> Array:
        """Unit vector in the specimen of a direct-lattice direction (of a plane normal, in cubic crystals)."""
        vector = self.matrix @ self.crystal.direction(indices)
        return np.asarray(vector / np.hypot(*vector))

    def vector(self, indices: ArrayLike) -> Array:
        """Direct-lattice vector in the specimen, in nm."""
        return np.asarray(self.matrix @ self.crystal.vector(indices))

    @property
    def cell(self) -> Array:
        """Rows: lattice vectors in the specimen, in nm."""
        return np.asarray(self.crystal.cell @ self.matrix.T)

    def places(self) -> Array:
        """Columns of the cell at the origin, shape (m, 2), in nm."""
        return np.asarray(self.crystal.sites @ self.matrix.T + self.origin)

    def moved(self, operation: Array, about: Array, shift: ArrayLike = (0.0, 0.0)) -> Grain:
        """The grain under ``r → operation @ (r − about) + about + shift``."""
        return Grain(
            self.crystal,
            operation @ self.matrix,
            operation @ (self.origin - about) + about + np.asarray(shift),
        )

    def stacking(self, normal: Array) -> tuple[float, float, float]:
        """How layers of normal `normal` are stacked.

        Returns
        -------
        spacing, repeat, step : float
            Distance of equivalent layers, period within the layer, and lateral offset of the next layer, folded
            into ±repeat/2; in nm. The lateral direction is ``(normal_x, −normal_y)``.
        """
        steps = lattice_vectors(self.cell, _STEPS)
        heights, laterals = steps @ normal, steps @ tangent(normal)
        spacing = float(np.abs(heights[np.abs(heights) > 1e-6]).min())
        flat = np.abs(laterals[np.abs(heights) < 1e-6])
        repeat = float(flat[flat > 1e-6].min())
        step = float(laterals[np.argmin(np.abs(heights - spacing) + 1e-3 * np.abs(laterals))])
        return spacing, repeat, step - repeat * round(step / repeat)

    def cut(self, normal: Array, near: float, gap: str = "wide") -> tuple[float, Array]:
        """Height between two layers where the crystal can be cut.

        Parameters
        ----------
        normal : float array (2,)
            Unit normal of the layers, along which heights are counted.
        near : float
            Wanted height in nm.
        gap : {"wide", "narrow"}
            Which gap between layers, where a period has several.

        Returns
        -------
        height : float
            Middle of the gap nearest to `near`, in nm.
        column : float array (2,)
            A column of the layer just below it.
        """
        spacing = self.stacking(normal)[0]
        places = self.places()
        heights = np.sort((places @ normal + 1e-6) % spacing - 1e-6)
        heights = heights[np.concatenate(([True], np.diff(heights) > 1e-3))]
        gaps = np.diff(np.append(heights, heights[0] + spacing))
        index = int(np.argmax(gaps.round(6)) if gap == "wide" else np.argmin(gaps.round(6)))
        middle = heights[index] + gaps[index] / 2
        height = middle + spacing * round((near - middle) / spacing)
        layer = height - gaps[index] / 2
        below = places[np.argmin(np.abs((places @ normal - layer + spacing / 2) % spacing - spacing / 2))]
        lift = round(float(layer - below @ normal) / spacing)
        steps = lattice_vectors(self.cell, _STEPS)
        up = steps[np.argmin(np.abs(steps @ normal - spacing) + 1e-3 * np.hypot(*steps.T))]
        return float(height), np.asarray(below + lift * up)

    def fill(self, reach: tuple[float, float]) -> tuple[Array, NDArray[np.intp]]:
        """Columns within ``|y| ≤ reach[0], |x| ≤ reach[1]``: points (n, 2) and index of the site (n,)."""
        corners = np.array([(sy * reach[0], sx * reach[1]) for sy in (-1, 1) for sx in (-1, 1)]) - self.origin
        fractions = np.linalg.solve(self.cell.T, corners.T).T
        low, high = np.floor(fractions.min(axis=0)) - 1, np.ceil(fractions.max(axis=0)) + 1
        i, j = np.meshgrid(np.arange(low[0], high[0] + 1), np.arange(low[1], high[1] + 1), indexing="ij")
        nodes = np.stack([i.ravel(), j.ravel()], axis=1) @ self.cell
        span = max(np.hypot(*self.cell.T).max(), 1e-9) * 2
        nodes = nodes[np.all(np.abs(nodes + self.origin) <= np.add(reach, span), axis=1)]
        points = (nodes[:, None] + self.places()[None]).reshape(-1, 2)
        sites = np.tile(np.arange(len(self.crystal.sites)), len(nodes))
        keep = np.all(np.abs(points) <= reach, axis=1)
        return points[keep], sites[keep]


@dataclass
class Columns:
    """Atomic columns: points (n, 2) in nm, weight (n,) and grain (n,)."""

    points: Array
    weights: Array
    grain: NDArray[np.intp]

    def keep(self, mask: Any) -> None:
        """Drop the columns where `mask` is False."""
        self.points, self.weights, self.grain = self.points[mask], self.weights[mask], self.grain[mask]

    def add(self, points: ArrayLike, weights: ArrayLike, grain: int = 0) -> None:
        """Append columns."""
        points = np.atleast_2d(np.asarray(points, float))
        self.points = np.concatenate([self.points, points])
        self.weights = np.concatenate([self.weights, np.atleast_1d(np.asarray(weights, float))])
        self.grain = np.concatenate([self.grain, np.full(len(points), grain)])


@dataclass(frozen=True)
class Area:
    """Where the lattice fades: `region`, with a border `softness` nm wide.

    Attributes
    ----------
    lattice : float
        Share of the lattice contrast that is left inside, 0 to 1.
    thickness : float
        Thickness inside relative to outside.
    speckle : float
        Random contrast of the atoms that are not on the lattice, relative to their mean signal.
    """

    region: Region
    softness: float
    lattice: float
    thickness: float
    speckle: float

    def outside(self, y: Any, x: Any) -> Any:
        """1 outside the region, 0 inside, with the soft border between."""
        return 0.5 * (1 + np.tanh(self.region.distance(y, x) * (2 / self.softness)))


@dataclass(frozen=True)
class Finding:
    """A defect as built: what the truth will say about it."""

    kind: str
    label: int
    region: Region
    displacement: tuple[float, float] | None = None
    details: dict[str, Any] = field(default_factory=dict)


class Specimen:
    """What is imaged, before it is imaged.

    Parameters
    ----------
    base : Grain
        The reference crystal, everywhere where nothing else is.
    half_size : (float, float)
        Half the field of view ``(y, x)`` in nm.
    exponent : float
        Signal of an atom is Z**exponent.
    """

    def __init__(self, base: Grain, half_size: tuple[float, float], exponent: float) -> None:
        self.base = base
        self.half_size = half_size
        self.exponent = exponent
        self.grains: list[tuple[Grain, Region | None]] = [(base, None)]
        self.fields: list[Callable[[Array], Array]] = []
        self.crowded: list[Region] = []
        self.edits: list[Callable[[Columns], None]] = []
        self.areas: list[Area] = []
        self.findings: list[Finding] = []
        self.interfaces: list[Region] = []

    @property
    def period(self) -> float:
        """Lattice period of the base crystal in nm."""
        return self.base.crystal.period_nm

    @property
    def size(self) -> float:
        """Half the shorter side of the field of view in nm."""
        return min(self.half_size)

    def reach(self, normal: ArrayLike) -> float:
        """Half the extent of the image along `normal` through its middle, in nm."""
        with np.errstate(divide="ignore"):
            return float(np.min(np.asarray(self.half_size) / np.abs(normal)))

    @property
    def mean_weight(self) -> float:
        """Mean column weight of the base crystal."""
        return float(self.base.crystal.weights(self.exponent).mean())

    @property
    def density(self) -> float:
        """Column weight per nm² of the base crystal."""
        return float(self.base.crystal.weights(self.exponent).sum() / self.base.crystal.area_nm2)

    def grow(self, factor: float) -> None:
        """Enlarge closed faded areas, and what is said about them, by `factor` in radius."""
        grown: dict[Region, Region] = {}
        for area in self.areas:
            if isinstance(area.region, Blob):
                grown[area.region] = replace(area.region, radius_nm=area.region.radius_nm * factor)
        self.areas = [replace(area, region=grown.get(area.region, area.region)) for area in self.areas]
        self.findings = [replace(f, region=grown.get(f.region, f.region)) for f in self.findings]

    def columns(self, margin: float) -> Columns:
        """All atomic columns of the image and `margin` nm around it."""
        reach = (self.half_size[0] + margin, self.half_size[1] + margin)
        kept = []
        for index, (grain, region) in enumerate(self.grains):
            points, sites = grain.fill(reach)
            weights = grain.crystal.weights(self.exponent)[sites]
            keep = np.ones(len(points), bool)
            if region is not None:
                overlap = BORDER_OVERLAP * grain.crystal.nearest_nm if region in self.crowded else 0.0
                keep = np.asarray(region.distance(points[:, 0], points[:, 1]) < overlap)
            for _, later in self.grains[index + 1 :]:
                if later is not None:
                    keep &= ~later.holds(points)
            number = np.full(len(points), index)
            kept.append((points[keep], weights[keep], number[keep]))
        columns = Columns(*(np.concatenate(arrays) for arrays in zip(*kept, strict=True)))
        self._fill_gaps(columns)
        for field_ in self.fields:
            # Fields are functions of the undisturbed place; several defects keep far apart, so that they add up.
            columns.points = columns.points + field_(columns.points)
        self._uncrowd(columns)
        for edit in self.edits:
            edit(columns)
        return columns

    def _fill_gaps(self, columns: Columns) -> None:
        """Put columns where a disordered wall between two grains has left more room than the crystal has anywhere."""
        walls = [region for _, region in self.grains if region is not None and region in self.crowded]
        if not walls:
            return
        self._thin(columns)
        crystal = self.base.crystal
        room = max(ROOM_COLUMNS * crystal.nearest_nm, ROOM_HOLES * crystal.hole()[1])
        step = crystal.nearest_nm / 4
        axes = (np.arange(-half, half + step, step) for half in self.half_size)
        grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
        distance = np.min([np.abs(wall.distance(grid[:, 0], grid[:, 1])) for wall in walls], axis=0)
        grid = grid[distance < self.period]
        if len(grid) == 0:
            return
        gap = cKDTree(columns.points).query(grid)[0]
        order = np.argsort(-gap, kind="stable")
        chosen: list[Array] = []
        for point in grid[order[gap[order] > room]]:
            if all(np.hypot(*(point - other)) > room for other in chosen):
                chosen.append(point)
        if chosen:
            columns.add(np.array(chosen), np.full(len(chosen), self.mean_weight))

    def _uncrowd(self, columns: Columns) -> None:
        """Make the columns at disordered walls and cores keep their distance."""
        if self.crowded:
            self._thin(columns)
            self._relax(columns, self._disordered(columns))

    def _disordered(self, columns: Columns) -> NDArray[np.bool_]:
        near = np.zeros(len(columns.points), bool)
        for region in self.crowded:
            near |= np.abs(region.distance(columns.points[:, 0], columns.points[:, 1])) < 2 * self.period
        return near

    def _thin(self, columns: Columns) -> None:
        """Of two columns that are too close near a disordered wall or core, remove the lighter one."""
        chosen = np.flatnonzero(self._disordered(columns))
        if len(chosen) == 0:
            return
        nearest = self.base.crystal.nearest_nm
        closest = min(max(CLOSEST_COLUMNS * nearest, CLOSEST_PERIODS * self.period), 0.95 * nearest)
        pairs = chosen[cKDTree(columns.points[chosen]).query_pairs(closest, output_type="ndarray")]
        alive = np.ones(len(columns.points), bool)
        for i, j in pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]:
            if alive[i] and alive[j]:
                alive[i if columns.weights[i] < columns.weights[j] else j] = False
        columns.keep(alive)

    def _relax(self, columns: Columns, near: NDArray[np.bool_]) -> None:
        """Push columns near a disordered wall apart until they are about as far from each other as in the crystal."""
        wanted = RELAXED_COLUMNS * self.base.crystal.nearest_nm
        chosen = np.flatnonzero(near)
        points = columns.points[chosen]
        for _ in range(_RELAX_STEPS):
            pairs = cKDTree(points).query_pairs(wanted, output_type="ndarray")
            if len(pairs) == 0:
                break
            apart = points[pairs[:, 1]] - points[pairs[:, 0]]
            distance = np.hypot(apart[:, 0], apart[:, 1])[:, None]
            push = 0.25 * (wanted - distance) * apart / np.maximum(distance, 1e-9)
            np.subtract.at(points, pairs[:, 0], push)
            np.add.at(points, pairs[:, 1], push)
        columns.points[chosen] = points
