"""Areas without a lattice: amorphous, beam-damaged, vacuum."""

from __future__ import annotations

import numpy as np

from napari_hrstem_defects.simulation.regions import Between, Blob, HalfPlane, harmonics, pair, ripples
from napari_hrstem_defects.simulation.specimen import Area, Columns, Finding, Specimen


def _blob(specimen: Specimen, rng: np.random.Generator, low: float, high: float) -> Blob:
    radius = float(rng.uniform(low, high)) * specimen.size
    waves = harmonics(rng, (0.0, 0.12), (2, 3, 5))
    limits = np.asarray(specimen.half_size) - 0.5 * radius
    return Blob(pair(rng.uniform(-limits, limits)), radius, waves)


def _edge(specimen: Specimen, rng: np.random.Generator, low: float, high: float) -> HalfPlane:
    """The part of the image beyond a waving line, `low` to `high` of the way from the middle to the rim."""
    angle = float(rng.uniform(0, 2 * np.pi))
    normal = pair((np.sin(angle), np.cos(angle)))
    waves = ripples(rng, 3, (0.01, 0.05), (1.5, 6.0), specimen.size)
    return HalfPlane(normal, float(rng.uniform(low, high)) * specimen.reach(normal), waves)


def amorphous(specimen: Specimen, rng: np.random.Generator) -> None:
    """Add an amorphous patch, or an amorphous rim of the specimen."""
    region: Blob | HalfPlane = (
        _blob(specimen, rng, 0.25, 0.55) if rng.random() < 0.6 else _edge(specimen, rng, 0.3, 0.7)
    )
    softness = float(rng.uniform(0.15, 0.6)) * specimen.period
    specimen.areas.append(
        Area(region, softness, 0.0, float(rng.uniform(0.85, 1.1)), float(rng.uniform(0.03, 0.10)))
    )
    specimen.findings.append(Finding("amorphous", 2, region))


def vacuum(specimen: Specimen, rng: np.random.Generator) -> None:
    """Add the edge of the specimen: vacuum behind a thin amorphous rim."""
    region = _edge(specimen, rng, 0.35, 0.75)
    rim = float(rng.uniform(1.0, 3.0)) * specimen.period
    layer = HalfPlane(region.normal, region.offset_nm - rim, region.waves)
    softness = float(rng.uniform(0.2, 0.5)) * specimen.period
    specimen.areas.append(Area(layer, softness, 0.0, 0.9, float(rng.uniform(0.03, 0.10))))
    specimen.areas.append(Area(region, softness, 0.0, 0.0, 0.0))
    specimen.findings.append(Finding("amorphous", 2, Between(layer, region)))
    specimen.findings.append(Finding("vacuum", 2, region))


def beam_damage(specimen: Specimen, rng: np.random.Generator) -> None:
    """Add a beam-damaged patch: thinner, columns displaced at random and faded."""
    region = _blob(specimen, rng, 0.2, 0.45)
    softness = float(rng.uniform(0.3, 0.8)) * specimen.period
    left = float(rng.uniform(0.15, 0.4))
    disorder = float(rng.uniform(0.15, 0.3)) * specimen.period
    seed = int(rng.integers(2**31))

    def edit(columns: Columns) -> None:
        shifts = np.random.default_rng(seed).normal(0.0, disorder, columns.points.shape)
        columns.points = columns.points + shifts * region.holds(columns.points)[:, None]

    specimen.edits.append(edit)
    specimen.areas.append(
        Area(region, softness, left, float(rng.uniform(0.6, 0.95)), float(rng.uniform(0.03, 0.10)))
    )
    specimen.findings.append(Finding("beam damage", 2, region, None, {"lattice_left": left}))
