"""Projected crystals against textbook geometry."""

import numpy as np
import pytest

from napari_hrstem_defects.simulation import MATERIALS, STRUCTURES, SimulationError, project
from napari_hrstem_defects.simulation.optics import modulation, sharpest_spacing_nm
from napari_hrstem_defects.simulation.specimen import Grain

A_SI = 0.54310


@pytest.mark.parametrize(
    ("material", "zone", "area", "columns"),
    [
        ("si", "110", A_SI**2 / (2 * np.sqrt(2)), 2),  # centred rectangle a × a/√2
        ("si", "100", A_SI**2 / 8, 1),  # all columns alike: square of edge a/(2√2)
        ("si", "112", A_SI**2 / (4 * np.sqrt(3 / 2)), 2),  # a/√2 × a√3 rectangle, centred, halved along [112]
        ("gaas", "100", 0.56533**2 / 4, 2),
        ("au", "110", 0.40782**2 / (2 * np.sqrt(2)), 1),
        ("au", "100", 0.40782**2 / 4, 1),
        ("au", "111", 0.40782**2 * np.sqrt(3) / 12, 1),
        ("fe", "100", 0.28665**2 / 2, 1),
        ("fe", "111", 0.28665**2 / np.sqrt(3), 1),
        ("fe", "110", 0.28665**2 / (2 * np.sqrt(2)), 1),
        ("srtio3", "100", 0.39050**2, 4),
        ("nial", "100", 0.28870**2, 2),
        ("graphene", "001", 0.24610**2 * np.sqrt(3) / 2, 2),
    ],
)
def test_projected_cell(material, zone, area, columns):
    crystal = project(material, zone)
    assert crystal.area_nm2 == pytest.approx(area, rel=1e-9)
    assert crystal.period_nm == pytest.approx(np.sqrt(area), rel=1e-9)
    assert len(crystal.sites) == columns


@pytest.mark.parametrize(
    ("material", "zone", "distance"),
    [
        ("si", "110", A_SI / 4),  # dumbbell
        ("gaas", "100", 0.56533 / np.sqrt(8)),
        ("au", "110", 0.40782 * np.sqrt(3 / 8)),
        ("srtio3", "100", 0.39050 / 2),  # TiO column to O column
        ("graphene", "001", 0.24610 / np.sqrt(3)),
    ],
)
def test_nearest_columns(material, zone, distance):
    assert project(material, zone).nearest_nm == pytest.approx(distance, rel=1e-9)


@pytest.mark.parametrize("material", MATERIALS)
def test_every_projection_keeps_the_density(material):
    kind = MATERIALS[material]
    structure = STRUCTURES[kind.structure]
    per_cell = len(structure.centring) * sum(
        2 if kind.elements[i][-1] == "2" else 1 for i, _ in structure.basis
    )
    volume = kind.a_nm**3 * (np.sqrt(0.75) if structure.hexagonal else 1.0)
    for zone in structure.zone_axes:
        crystal = project(material, zone)
        atoms = sum(density for column in crystal.atoms for _, density in column)
        assert atoms / crystal.area_nm2 == pytest.approx(per_cell / volume, rel=1e-9)


def test_mixed_columns_add_up():
    crystal = project("srtio3", "100")
    a = 0.39050
    weights = np.sort(crystal.weights(1.7))
    expected = np.sort([38**1.7 / a, (22**1.7 + 8**1.7) / a, 8**1.7 / a, 8**1.7 / a])
    np.testing.assert_allclose(weights, expected, rtol=1e-9)


def test_zone_001_is_the_same_as_100_in_cubic_crystals():
    assert project("srtio3", "001").period_nm == project("srtio3", "100").period_nm


@pytest.mark.parametrize(("material", "zone"), [("unobtainium", "110"), ("si", "111"), ("graphene", "110")])
def test_unknown_crystals(material, zone):
    with pytest.raises(SimulationError, match=r"choose one of|there are"):
        project(material, zone)


def test_stacking_of_close_packed_planes():
    grain = Grain(project("si", "110"), np.eye(2), np.zeros(2))
    spacing, repeat, step = grain.stacking(grain.direction((1, 1, 1)))
    assert spacing == pytest.approx(A_SI / np.sqrt(3))
    assert repeat == pytest.approx(A_SI * np.sqrt(3 / 8))
    # The slip of an intrinsic fault: a/6<112> has the projections a/√6 (90°) and a/(2√6) (30°); same modulo the period.
    assert abs(step) == pytest.approx(A_SI / (2 * np.sqrt(6)))
    assert abs(step) == pytest.approx(repeat / 3)


@pytest.mark.parametrize(("gap", "share"), [("wide", 0.75), ("narrow", 0.25)])
def test_cuts_lie_in_the_middle_of_the_gap_asked_for(gap, share):
    grain = Grain(project("gaas", "110"), np.eye(2), np.array([0.05, 0.11]))
    normal = grain.direction((1, 1, -1))
    spacing = 0.56533 / np.sqrt(3)
    height, column = grain.cut(normal, 1.3, gap)
    assert abs(height - 1.3) <= spacing / 2
    heights = np.sort(np.unique((grain.fill((3, 3))[0] @ normal).round(9)))
    below, above = heights[heights < height].max(), heights[heights > height].min()
    assert above - below == pytest.approx(share * spacing, abs=1e-6)
    assert height == pytest.approx((above + below) / 2, abs=1e-6)
    assert column @ normal == pytest.approx(below, abs=1e-6)
    assert np.hypot(*(grain.fill((3, 3))[0] - column).T).min() < 1e-9


def test_widest_planes_and_modulation():
    # Si [110]: the {111} planes, a/√3.
    assert sharpest_spacing_nm(project("si", "110")) == pytest.approx(A_SI / np.sqrt(3), rel=1e-6)
    # A wider probe shows less; an infinitely wide one nothing.
    wide, narrow = modulation(project("si", "110"), 0.15), modulation(project("si", "110"), 0.08)
    assert 0 < wide < narrow
    assert modulation(project("si", "110"), 2.0) < 1e-3
