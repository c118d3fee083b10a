"""Defects built into a specimen: positions of columns against crystallography."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from napari_hrstem_defects.simulation import planar, points, project
from napari_hrstem_defects.simulation.fields import edge_field, slip_field
from napari_hrstem_defects.simulation.specimen import Grain, Specimen

A_SI, A_GAP = 0.54310, 0.54505


def specimen(material="si", zone="110", half=4.0, turn=0.3):
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    grain = Grain(project(material, zone), rotation, np.array([0.03, 0.02]))
    return Specimen(grain, (half, half), 1.7)


def inner(places, half=3.3):
    return np.all(np.abs(places) < half, axis=1)


def neighbours(columns, half=3.3):
    """Sorted distances of the six nearest columns of every inner column."""
    return cKDTree(columns.points).query(columns.points[inner(columns.points, half)], 7)[0][:, 1:]


@pytest.mark.parametrize(
    ("kind", "planes"), [("intrinsic stacking fault", 1), ("extrinsic stacking fault", 2)]
)
@pytest.mark.parametrize(("material", "a"), [("si", A_SI), ("au", 0.40782)])
def test_fault_displaces_by_the_partial_burgers_vector(kind, planes, material, a):
    sample, perfect = specimen(material), specimen(material).columns(0.5)
    planar.stacking_fault(sample, np.random.default_rng(1), kind)
    columns = sample.columns(0.5)
    finding = sample.findings[0]
    normal = np.array(finding.region.normal)
    along = np.array([normal[1], -normal[0]])
    assert finding.details["planes"] == planes
    moved = columns.points - perfect.points
    far = perfect.points @ normal > finding.region.high_nm
    near = perfect.points @ normal < finding.region.low_nm
    np.testing.assert_allclose(moved @ normal, 0, atol=1e-12)
    relative = np.mean((moved @ along)[far]) - np.mean((moved @ along)[near])
    # slips × a/6<112>, a/√6 projected, modulo the period a√(3/8) of the layer; the sense is checked by the bonds below
    period = a * np.sqrt(3 / 8)
    assert abs((relative + period / 2) % period - period / 2) == pytest.approx(a / (2 * np.sqrt(6)))
    assert abs(np.hypot(*finding.displacement)) == pytest.approx(a / (2 * np.sqrt(6)))
    lengths = finding.region.high_nm - finding.region.low_nm
    assert lengths == pytest.approx(1.5 * sample.period + (planes - 1) * a / np.sqrt(3))


def faulted(material, kind, seed):
    sample = specimen(material)
    if kind == "twin":
        planar.twin(sample, np.random.default_rng(seed))
    else:
        planar.stacking_fault(sample, np.random.default_rng(seed), kind)
    return neighbours(sample.columns(0.5))


@pytest.mark.parametrize(
    "kind", ["intrinsic stacking fault", "extrinsic stacking fault", "twin lamella", "twin"]
)
@pytest.mark.parametrize("seed", range(2))
def test_coherent_faults_keep_every_bond(kind, seed):
    """Of diamond and zinc blende along [110]: one of a/4 (the dumbbell) and two of a√3/4 at every column.

    Of fcc: four neighbours at a√(3/8), two in the layer, one above and one below; none closer.
    """
    for material, a in (("si", A_SI), ("gap", A_GAP)):
        distances = faulted(material, kind, seed)
        np.testing.assert_allclose(distances[:, 0], a / 4, rtol=1e-6)
        np.testing.assert_allclose(distances[:, 1:3], a * np.sqrt(3) / 4, rtol=1e-6)
    np.testing.assert_allclose(faulted("au", kind, seed)[:, :4], 0.40782 * np.sqrt(3 / 8), rtol=1e-6)


@pytest.mark.parametrize("material", ["si", "gap", "au", "w"])
def test_twin_is_a_mirror_image(material):
    sample = specimen(material)
    planar.twin(sample, np.random.default_rng(5))
    columns = sample.columns(1.0)
    region = sample.findings[0].region
    normal = np.array(region.normal)
    along = np.array([normal[1], -normal[0]])
    # Turning the whole specimen by 180° about a bond along the normal must map the lower crystal onto the upper one.
    anchor = sample.base.cut(normal, region.offset_nm, "wide")[1]
    turned = sample.base.fill((5, 5))[0]
    turned = turned - 2 * np.outer((turned - anchor) @ along, along)
    upper = columns.points[(columns.points @ normal > region.offset_nm) & inner(columns.points)]
    assert len(upper) > 50
    assert cKDTree(turned).query(upper)[0].max() < 1e-6
    lower = columns.points[(columns.points @ normal < region.offset_nm) & inner(columns.points)]
    assert cKDTree(sample.base.fill((5, 5))[0]).query(lower)[0].max() < 1e-6
    # It is another orientation: the untouched lattice does not fit there.
    assert np.median(cKDTree(sample.base.fill((5, 5))[0]).query(upper)[0]) > 0.02


def test_twin_of_a_polar_crystal_keeps_polarity_across_the_boundary():
    sample = specimen("gap")
    planar.twin(sample, np.random.default_rng(5))
    columns = sample.columns(0.5)
    light = columns.weights < columns.weights.mean()
    keep = inner(columns.points)
    _, nearest = cKDTree(columns.points).query(columns.points[keep], 4)
    # All three bonded neighbours are of the other kind, everywhere.
    assert np.all(light[nearest[:, 1:]] != light[nearest[:, :1]])


def test_inversion_domain_exchanges_the_sublattices_and_keeps_the_sites():
    sample, perfect = specimen("gap"), specimen("gap").columns(0.0)
    planar.inversion_domain(sample, np.random.default_rng(3))
    columns = sample.columns(0.0)
    distance, index = cKDTree(perfect.points).query(columns.points[inner(columns.points)])
    assert distance.max() < 1e-6
    region = sample.findings[0].region
    places = columns.points[inner(columns.points)]
    swapped = region.distance(places[:, 0], places[:, 1]) < 0
    changed = columns.weights[inner(columns.points)] != perfect.weights[index]
    np.testing.assert_array_equal(changed, swapped)


def test_ruddlesden_popper_layer_doubles_the_a_site_plane():
    a = 0.39050
    sample = specimen("srtio3", "100")
    planar.antiphase_boundary(sample, np.random.default_rng(0))
    finding = sample.findings[0]
    normal = np.array(finding.region.of.normal)
    along = np.array([normal[1], -normal[0]])
    columns = sample.columns(0.5)
    strontium = columns.points[(columns.weights > 0.9 * columns.weights.max()) & inner(columns.points)]
    heights = np.unique((strontium @ normal).round(6))
    steps = np.diff(heights)
    walls = np.isclose(steps, a / 2, atol=1e-4)
    assert walls.any()
    np.testing.assert_allclose(steps[~walls], a, atol=1e-4)
    np.testing.assert_allclose(
        np.array(finding.displacement) @ np.stack([normal, along], axis=1), a / 2, rtol=1e-9
    )
    # Sr columns of neighbouring layers across the wall are a/√2 apart (rock salt), as close as they come.
    assert cKDTree(strontium).query(strontium, 2)[0][:, 1].min() == pytest.approx(a / np.sqrt(2), rel=1e-6)


def test_film_matches_the_substrate_along_the_interface():
    sample = specimen("srtio3", "100")
    planar.film(sample, np.random.default_rng(4), "pbtio3")
    substrate, layer = sample.grains[0][0], sample.grains[1][0]
    normal = np.array(sample.findings[0].region.normal)
    along = np.array([normal[1], -normal[0]])
    assert layer.stacking(along)[0] == pytest.approx(0.39050, rel=1e-9)  # same lines across
    mismatch = 0.39700 / 0.39050 - 1
    assert layer.stacking(normal)[0] == pytest.approx(0.39700 * (1 + mismatch / 2), rel=1e-9)
    assert substrate.stacking(normal)[0] == pytest.approx(0.39050, rel=1e-9)
    assert {finding.label for finding in sample.findings} == {0}


@pytest.mark.parametrize("material", ["si", "au", "graphene", "srtio3"])
def test_grain_boundary_has_no_double_columns(material):
    for seed in range(3):
        zone = "001" if material == "graphene" else "100" if material == "srtio3" else "110"
        sample = specimen(material, zone)
        planar.grain_boundary(sample, np.random.default_rng(seed))
        columns = sample.columns(0.5)
        closest = cKDTree(columns.points).query(columns.points, 2)[0][:, 1].min()
        assert closest >= 0.6 * sample.base.crystal.nearest_nm
        # ... and the wall is neither emptied nor crammed.
        region = sample.findings[0].region
        wall = (np.abs(region.distance(*columns.points.T)) < 0.5) & inner(columns.points)
        y, x = np.meshgrid(np.linspace(-3.3, 3.3, 400), np.linspace(-3.3, 3.3, 400), indexing="ij")
        area = np.mean(np.abs(region.distance(y, x)) < 0.5) * 6.6**2
        density = len(sample.base.crystal.sites) / sample.base.crystal.area_nm2
        assert 0.75 < wall.sum() / (area * density) < 1.15


def test_edge_field_closure_failure_is_the_burgers_vector():
    core, normal = np.array([0.2, -0.1]), np.array([0.6, 0.8])
    along = np.array([0.8, -0.6])
    burgers = 0.384 * along
    field = edge_field(core, burgers, normal)
    angles = np.linspace(1e-7, 2 * np.pi - 1e-7, 2000)
    circle = core + 3.0 * (np.cos(angles)[:, None] * along + np.sin(angles)[:, None] * normal)
    moved = field(circle)
    np.testing.assert_allclose(moved[0] - moved[-1], burgers, atol=1e-6)
    # smooth everywhere else
    assert np.hypot(*np.diff(moved, axis=0).T).max() < 1e-3
    # equilibrium: divergence of the displacement is -(1-2ν)/(1-ν)·b sinθ/(2πr) (Hirth & Lothe, eq. 3-47)
    step = 1e-5
    place = core + 1.0 * along + 1.5 * normal
    gradient = [
        (field((place + step * e)[None]) - field((place - step * e)[None]))[0] @ e / (2 * step)
        for e in (along, normal)
    ]
    r2, y = 1.0 + 1.5**2, 1.5
    assert abs(sum(gradient)) == pytest.approx((1 - 0.6) / (1 - 0.3) * 0.384 * y / (2 * np.pi * r2), rel=1e-3)


def test_slips_add_up_modulo_three():
    field = slip_field(np.array([1.0, 0.0]), [0.0, 1.0, 2.0], 0.1)
    moved = field(np.array([[-0.5, 0.0], [0.5, 0.0], [1.5, 0.0], [2.5, 0.0]]))
    np.testing.assert_allclose(
        moved[:, 1], [0.0, -0.1, 0.1, 0.0], atol=1e-12
    )  # two slips forward are one back
    np.testing.assert_allclose(moved[:, 0], 0.0)


@pytest.mark.parametrize("build", [points.vacancies, points.substitutions, points.interstitials])
def test_point_defects_change_one_column_each(build):
    sample, perfect = specimen(half=6.0), specimen(half=6.0).columns(0.0)
    build(sample, np.random.default_rng(2))
    columns = sample.columns(0.0)
    count = len(sample.findings)
    assert count >= 1
    if build is points.interstitials:
        assert len(columns.points) == len(perfect.points) + count
        new = columns.points[len(perfect.points) :]
        # The largest hole of Si [110] is as far from the columns as a channel is wide.
        assert cKDTree(perfect.points).query(new)[0].min() > 1.2 * A_SI / 4
    else:
        changed = np.flatnonzero(columns.weights != perfect.weights)
        assert len(changed) == count
        places = np.array([finding.region.centre_nm for finding in sample.findings])
        assert cKDTree(places).query(columns.points[changed])[0].max() < 1e-6
