"""Point defects and dislocations."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from napari_hrstem_defects.simulation.crystals import Array
from napari_hrstem_defects.simulation.fields import edge_field
from napari_hrstem_defects.simulation.regions import Blob, pair, tangent
from napari_hrstem_defects.simulation.specimen import Columns, Finding, Specimen

#: Truth: radius of a dislocation core in periods.
CORE_PERIODS = 1.75
#: Truth: radius of a point defect in periods; a disk of one period, widened by the probe.
POINT_PERIODS = 0.6
#: Point defects keep this many periods apart and from the rim.
_APART_PERIODS = 4.0


def _places(specimen: Specimen, rng: np.random.Generator, count: int, apart_periods: float) -> list[Array]:
    """Up to `count` random places in nm that keep apart from each other and from the rim."""
    apart = apart_periods * specimen.period
    limits = np.maximum(np.asarray(specimen.half_size) - apart, 0.2 * np.asarray(specimen.half_size))
    chosen: list[Array] = []
    for _ in range(20 * count):
        place = rng.uniform(-limits, limits)
        if all(np.hypot(*(place - other)) > apart for other in chosen):
            chosen.append(place)
        if len(chosen) == count:
            break
    return chosen


def _snapped(specimen: Specimen, place: Array, site: Array) -> Array:
    """Equivalent of `site` nearest to `place`."""
    cell = specimen.base.cell
    return np.asarray(site + np.round(np.linalg.solve(cell.T, place - site)) @ cell)


def _strong_site(specimen: Specimen, rng: np.random.Generator) -> Array:
    """A column of the cell that carries a fair share of the signal."""
    weights = specimen.base.crystal.weights(specimen.exponent)
    visible = np.flatnonzero(weights > 0.3 * weights.max())
    return np.asarray(specimen.base.places()[int(rng.choice(visible))])


def _mark(specimen: Specimen, kind: str, place: Array, details: dict[str, float]) -> None:
    disk = Blob(pair(place), POINT_PERIODS * specimen.period)
    specimen.findings.append(Finding(kind, 1, disk, None, details))


def _scaled(place: Array, factor: float, reach: float) -> Callable[[Columns], None]:
    """Change the signal of the column at a place, if it is still within reach."""

    def edit(columns: Columns) -> None:
        distance = np.hypot(*(columns.points - place).T)
        nearest = int(np.argmin(distance))
        if distance[nearest] < reach:
            columns.weights[nearest] *= factor

    return edit


def vacancies(specimen: Specimen, rng: np.random.Generator) -> None:
    """Take all or most of the atoms out of a few columns."""
    for place in _places(specimen, rng, int(rng.integers(1, 7)), _APART_PERIODS):
        site = _snapped(specimen, place, _strong_site(specimen, rng))
        left = float(rng.uniform(0.0, 0.4))
        specimen.edits.append(_scaled(site, left, 0.3 * specimen.period))
        _mark(specimen, "vacancy", site, {"occupancy": left})


def substitutions(specimen: Specimen, rng: np.random.Generator) -> None:
    """Make a few columns clearly brighter or darker, as by foreign atoms."""
    for place in _places(specimen, rng, int(rng.integers(1, 7)), _APART_PERIODS):
        site = _snapped(specimen, place, _strong_site(specimen, rng))
        factor = float(rng.uniform(1.7, 2.6) if rng.random() < 0.7 else rng.uniform(0.3, 0.5))
        specimen.edits.append(_scaled(site, factor, 0.3 * specimen.period))
        _mark(specimen, "substitution", site, {"relative_signal": factor})


def interstitials(specimen: Specimen, rng: np.random.Generator) -> None:
    """Add a few columns in the largest hole of the projection."""
    hole = specimen.base.matrix @ specimen.base.crystal.hole()[0] + specimen.base.origin
    strongest = float(specimen.base.crystal.weights(specimen.exponent).max())
    for place in _places(specimen, rng, int(rng.integers(1, 7)), _APART_PERIODS):
        site = _snapped(specimen, place, hole)
        weight = float(rng.uniform(0.5, 1.0)) * strongest
        specimen.edits.append(partial(Columns.add, points=site, weights=weight))
        _mark(specimen, "interstitial", site, {"relative_signal": weight / strongest})


def dislocations(specimen: Specimen, rng: np.random.Generator) -> None:
    """Add one to three perfect edge dislocations, seen end-on, with their elastic field."""
    count = int(rng.integers(1, 4))
    for place in _places(specimen, rng, count, 10.0):
        cell = specimen.base.cell
        burgers = cell[int(rng.integers(2))] * (1.0 if rng.random() < 0.5 else -1.0)
        length = float(np.hypot(*burgers))
        normal = np.array([-burgers[1], burgers[0]]) / length
        along = tangent(normal)
        height = specimen.base.cut(normal, float(place @ normal), "wide")[0]
        core = height * normal + (place @ along) * along
        specimen.fields.append(edge_field(core, burgers, normal))
        region = Blob(pair(core), CORE_PERIODS * specimen.period)
        specimen.crowded.append(region)
        specimen.findings.append(Finding("dislocation", 1, region, pair(burgers), {"partial": False}))
