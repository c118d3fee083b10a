"""Several lattices in one image: found, bordered and told apart; and one lattice that stays one."""

import numpy as np
import pytest
from scipy import ndimage

import napari_hrstem_defects as hd
from napari_hrstem_defects.core.best_patch import BestPatch
from napari_hrstem_defects.core.domains import (
    WALL_PERIODS,
    Domain,
    DomainMap,
    domain_at,
    point_in,
    walls,
)
from napari_hrstem_defects.core.preprocessing import Prepared
from napari_hrstem_defects.core.recipe import points_of
from napari_hrstem_defects.core.steps import NO_OTHER_LATTICE

from .helpers import counted, crystal, dice, glass, noisy, vectors

PERIOD, WALL, SHAPE = 12.0, 160, (288, 320)
Y, X = np.indices(SHAPE)
BASE = crystal(SHAPE, vectors("oblique", PERIOD, 8.0))
#: Two columns to a cell, and the same turned by 180°.
DUMBBELL = (((0.0, 0.0), 1.0), ((0.3, 0.25), 0.5))
TURNED = (((0.0, 0.0), 1.0), ((-0.3, -0.25), 0.5))


def grains(kind="oblique", turn=23.0, sigma=0.15):
    left, right = (crystal(SHAPE, vectors(kind, PERIOD, angle)) for angle in (8.0, 8.0 + turn))
    return noisy(np.where(X < WALL, left, right), sigma)


def analyzed(image, **domains):
    recipe = hd.Recipe().replace({f"domains.{name}": value for name, value in domains.items()})
    return hd.analyze(hd.Micrograph(image), recipe)


def relations(analysis):
    return [domain.relation for domain in analysis.domains.domains]


def second(analysis, number=1):
    """Where a domain is, in the frame."""
    return analysis.prepared.to_frame((analysis.domains.index == number).astype(np.float32)) > 0.5


def side_of(analysis, number=1):
    """The side of the wall that a domain's model patch lies on."""
    return (X < WALL) == (analysis.domains.domains[number].patch.x < WALL)


def marked(analysis, right):
    far = X > WALL + 3 * PERIOD if right else X < WALL - 3 * PERIOD
    return (analysis.labels == 1)[far & analysis.valid_mask].mean()


@pytest.mark.parametrize(
    ("kind", "turn", "sigma"),
    [
        ("hexagonal", 5.0, 0.15),
        ("square", 10.0, 0.15),
        ("oblique", 25.0, 0.4),
        ("centred rectangular", 10.0, 0.02),
    ],
)
def test_two_grains(kind, turn, sigma):
    found = analyzed(grains(kind, turn, sigma))
    assert relations(found) == ["reference", "rotated"]
    other = found.domains.domains[1]
    assert other.misorientation_deg == pytest.approx(turn, abs=0.5)
    assert other.defective
    assert found.domains.domains[0].distance == pytest.approx(0, abs=1e-6)
    assert dice(second(found), side_of(found)) > 0.97
    # The border, row by row: a straight line within a period.
    edge = np.count_nonzero(second(found), axis=1)
    assert np.abs(edge - WALL).max() < PERIOD
    assert marked(found, other.patch.x > WALL) > 0.97
    assert marked(found, other.patch.x < WALL) < 0.01


@pytest.mark.parametrize("kind", ["square", "oblique"])
def test_boundary_of_a_low_angle_is_marked_all_the_same(kind):
    """Whether four degrees make a domain or only a boundary with its strain: what lies along the wall is a defect."""
    found = analyzed(grains(kind, 4.0))
    assert (found.labels == 1)[20:-20, WALL - 4 : WALL + 4].mean() > 0.6
    assert min(marked(found, False), marked(found, True)) < 0.01


def test_border_of_any_shape():
    inside = np.hypot(Y - 150, X - 170) < 75
    image = np.where(inside, crystal(SHAPE, vectors("oblique", PERIOD, 30.0)), BASE)
    # Patches small enough that some hold nothing of it.
    recipe = hd.Recipe().replace({"classify.patch_size": 64})
    found = hd.analyze(hd.Micrograph(noisy(image, 0.15)), recipe)
    assert relations(found) == ["reference", "rotated"]
    assert dice(second(found), inside) > 0.93


def test_three_lattices():
    shape = (384, 384)
    y, x = np.indices(shape)
    parts = [crystal(shape, vectors("oblique", PERIOD, a)) for a in (8.0, 30.0, 66.0)]
    image = np.where(x < 190, parts[0], np.where(y < 190, parts[1], parts[2]))
    found = analyzed(noisy(image, 0.1))
    assert len(found.domains.domains) == 3
    assert {round(d.misorientation_deg) for d in found.domains.domains[1:]} <= {22, 36, 58}
    for area in (x < 170, (x > 210) & (y < 170), (x > 210) & (y > 210)):
        small = ndimage.zoom(area.astype(float), np.array(found.domains.index.shape) / shape, order=0) > 0.5
        assert max(np.bincount(found.domains.index[small])) > 0.97 * small.sum()
    assert len(analyzed(noisy(image, 0.1), max_domains=2).domains.domains) == 2


@pytest.mark.parametrize("ratio", [1.15, 0.8])
def test_other_lattice(ratio):
    other = crystal(SHAPE, vectors("hexagonal", ratio * PERIOD, 20.0))
    found = analyzed(noisy(np.where(X < WALL, crystal(SHAPE, vectors("square", PERIOD)), other), 0.1))
    assert len(found.domains.domains) == 2
    assert relations(found)[1] != "second phase"
    assert found.domains.domains[1].defective
    assert dice(second(found), side_of(found)) > 0.95


@pytest.mark.parametrize("turn", [15.0, 25.0])
@pytest.mark.parametrize("kind", ["hexagonal", "square"])
def test_grain_much_smaller_than_its_patch(kind, turn):
    """A patch of 21 periods about a grain of 8 shows the crystal around it."""
    around, grain = (crystal(SHAPE, vectors(kind, 6.0, 10.0 + angle)) for angle in (0.0, turn))
    inside = np.hypot(Y - 140, X - 170) < 4 * 6.0
    found = analyzed(noisy(np.where(inside, grain, around), 0.1))
    assert relations(found) == ["reference", "rotated"]
    assert found.domains.domains[1].misorientation_deg == pytest.approx(turn, abs=2)
    assert (found.labels[inside] == 1).mean() > 0.9


def bent(image, angle):
    """Columns turn by an angle from left to right."""
    turn = np.radians(angle)
    u_y, u_x = turn * (X - WALL) ** 2 / (2 * SHAPE[1]), -(Y - 144) * turn * (X - WALL) / SHAPE[1]
    return ndimage.map_coordinates(image, [Y + u_y, X + u_x], order=3, mode="reflect")


@pytest.mark.parametrize(
    "image",
    [
        bent(BASE, 3.0),
        BASE * (0.4 + 1.2 * X / SHAPE[1]),
        BASE + 1.5 * X / SHAPE[1] + 0.3 * np.sin(Y / 40),
        BASE + 0.2 * glass(SHAPE, 40.0, 1),
    ],
    ids=["bent", "thickness", "haze", "contamination"],
)
def test_one_crystal_stays_one(image):
    found = analyzed(noisy(image, 0.3))
    assert relations(found) == ["reference"]
    assert not found.labels.any()


@pytest.mark.parametrize("begin", [2.0, 3.0])
def test_strong_drift_makes_no_second_lattice(begin):
    """Lines sheared by up to 3.5°, with turning points in the image: most of it has one of two shapes."""
    columns = (((0.0, 0.0), 1.0), ((0.5, 0.5), 0.45))
    image = crystal((512, 512), vectors("square", 16.0, 30.0), columns, width=0.13)
    y, x = np.indices(image.shape)
    lines = [y + 3.5 * np.sin(np.pi * y / 512), x + 7 * np.sin(1.4 * np.pi * y / 512 + begin)]
    image = ndimage.map_coordinates(image, lines, order=3, mode="reflect")
    assert relations(analyzed(noisy(image, 0.1))) == ["reference"]


def test_film_and_substrate_are_phases_and_intact():
    image = BASE.copy()
    image[144:] = 0.45 * image[144:] + 0.1
    found = analyzed(noisy(image, 0.05))
    assert relations(found) == ["reference", "second phase"]
    assert [d.crystal for d in found.domains.domains] == [True, True]
    rows = (Y >= 144) == (found.domains.domains[1].patch.y >= 144)
    assert dice(second(found), rows) > 0.93
    assert not found.labels.any()
    alone = analyzed(noisy(image, 0.05), crystal="reference")
    assert (alone.labels == 1)[rows & (np.abs(Y - 144) > 24)].mean() > 0.97


def test_phases_of_one_contrast_differ_in_their_columns():
    """A column in the middle of the cell, as in a perovskite on rock salt; the image is made equally strong."""
    film = crystal(SHAPE, vectors("square", PERIOD, 8.0), (((0.0, 0.0), 1.0), ((0.5, 0.5), 0.35)))
    base = crystal(SHAPE, vectors("square", PERIOD, 8.0))
    film = (film - film.mean()) * (base.std() / film.std()) + base.mean()
    found = analyzed(noisy(np.where(Y < 120, film, base), 0.1))
    assert relations(found) == ["reference", "second phase"]
    rows = (Y >= 120) == (found.domains.domains[1].patch.y >= 120)
    assert dice(second(found), rows) > 0.93
    assert not found.labels.any()


@pytest.mark.parametrize(("period", "turn"), [(8.0, 1.9), (13.0, 1.45)])
def test_grain_at_a_low_angle_is_no_phase(period, turn):
    """The model of one fits the other as little as that of a film fits a substrate."""
    columns = (((1 / 3, 1 / 3), 1.0), ((2 / 3, 2 / 3), 1.0))
    left, right = (crystal((400, 400), vectors("hexagonal", period, a), columns) for a in (8.0, 8.0 + turn))
    found = analyzed(noisy(np.where(np.arange(400) < 220, left, right), 0.1))
    assert relations(found) == ["reference"]
    wall = np.s_[20:-20, 220 - int(period) : 220 + int(period)]
    assert (found.labels[wall] == 1).mean() > 0.6


@pytest.mark.parametrize("best_patch", [(100, 150), (300, 150)])
def test_phases_beside_a_grain_whichever_holds_the_best_patch(best_patch):
    shape = (420, 480)
    y, x = np.indices(shape)
    base, grain = (crystal(shape, vectors("square", PERIOD, angle)) for angle in (8.0, 35.0))
    film = crystal(shape, vectors("square", PERIOD, 8.0), (((0.0, 0.0), 1.0), ((0.5, 0.5), 0.2)))
    film = (film - film.mean()) * (base.std() / film.std()) + base.mean()
    image = noisy(np.where(x > 340, grain, np.where(y < 160, film, base)), 0.1)
    found = hd.analyze(hd.Micrograph(image), best_patch=best_patch)
    assert sorted(relations(found)) == ["reference", "rotated", "second phase"]


def test_glass_and_vacuum_are_no_domains():
    for other in (BASE.mean() + 0.1 * glass(SHAPE, 2.0), np.zeros(SHAPE)):
        assert relations(analyzed(noisy(np.where(X < 200, BASE, other), 0.05))) == ["reference"]


def test_glass_with_speckles_of_the_size_of_columns_is_no_domain():
    shape, period = (512, 512), 7.0
    speckles = 0.5 * np.maximum(1 + 0.3 * glass(shape, 0.27 * period, 2), 0)
    columns = (((0.0, 0.0), 1.0), ((0.5, 0.5), 0.45))
    image = crystal(shape, vectors("square", period, 34.0), columns, width=0.15)
    found = analyzed(counted(np.where(np.indices(shape)[1] < 256, speckles, image) + 0.15, 20, 3))
    assert relations(found) == ["reference"]
    assert (found.labels[:, :240] == 2).mean() > 0.8
    assert not found.labels[:, 272:].any()


def test_layers_thinner_than_a_patch_are_phases_of_one_lattice():
    """A superlattice of layers of six cells; patches show three of them."""
    shape, period = (512, 512), 10.3
    basis = np.array(vectors("square", period, 37.0))
    layer = np.floor(np.tensordot(np.linalg.inv(basis)[:, 0], np.indices(shape), 1) / 6) % 2
    image = crystal(
        shape, vectors("square", period, 37.0), (((0.0, 0.0), 1.0), ((0.5, 0.5), 0.45)), width=0.14
    )
    found = analyzed(counted((image + 0.15) * np.where(layer, 0.72, 1), 20))
    assert set(relations(found)[1:]) <= {"second phase"}
    assert not found.labels.any()


# Polarity ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sigma", "wall"), [(0.03, 130), (0.1, 176), (0.1, 220)])
def test_inverted_domain(sigma, wall):
    x = np.indices((288, 352))[1]
    one, other = (crystal(x.shape, vectors("oblique", 14.0, 8.0), c, width=0.12) for c in (DUMBBELL, TURNED))
    found = analyzed(noisy(np.where(wall > x, one, other), sigma))
    assert relations(found) == ["reference", "inverted"]
    turned = (wall > x) == (found.domains.domains[1].patch.x < wall)
    assert dice(second(found), turned) > 0.93
    far = (np.abs(x - wall) > 30) & found.valid_mask
    assert (found.labels == 1)[turned & far].mean() > 0.97
    assert (found.labels == 1)[~turned & far].mean() < 0.01


def test_polarity_of_most_of_the_crystal_is_the_reference():
    # The patch in the middle lies in the band; its walls alone make no patch defective.
    shape, basis = (512, 512), vectors("oblique", 14.0, 8.0)
    x = np.indices(shape)[1]
    inside = np.abs(x - 256) < 100
    one, other = (crystal(shape, basis, c, width=0.12) for c in (DUMBBELL, TURNED))
    image = noisy(np.where(inside, one, other), 0.1)
    found = hd.analyze(hd.Micrograph(image), hd.Recipe().replace({"classify.max_defect_area": 0.5}))
    assert not inside[0, round(found.best_patch.x)]
    assert (found.labels == 1)[found.valid_mask & inside].mean() > 0.95
    assert (found.labels > 0)[np.abs(x - 256) > 130].mean() < 0.01


@pytest.mark.parametrize(
    "columns",
    [DUMBBELL, (DUMBBELL[0], ((0.3, 0.25), 1.0))],
    ids=["polar", "two alike"],
)
def test_no_polarity_where_there_is_none(columns):
    image = crystal(SHAPE, vectors("oblique", 14.0, 8.0), columns, width=0.12)
    found = analyzed(noisy(image, 0.05))
    assert relations(found) == ["reference"]
    assert not found.labels.any()


# What a person may say -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two():
    """Two grains, as analysed by default."""
    return analyzed(grains())


def test_which_lattices_are_intact(two):
    image, phases = grains(), two
    everything = analyzed(image, crystal="all")
    other = phases.domains.domains[1].patch
    assert [d.crystal for d in everything.domains.domains] == [True, True]
    assert marked(everything, True) < 0.01 > marked(everything, False)
    far, near = ("140,20", "140,300") if other.x < WALL else ("140,300", "140,20")
    pointed = analyzed(image, intact_at=far)
    np.testing.assert_array_equal(pointed.labels, everything.labels)
    np.testing.assert_array_equal(pointed.severity, everything.severity)
    # The reference stays intact whatever is said; beyond the rim the nearest pixel speaks; the later wins.
    for params in (
        {"defective_at": near},
        {"crystal": "all", "defective_at": f"999,{far[4:]}", "intact_at": far},
    ):
        np.testing.assert_array_equal(analyzed(image, **params).labels, phases.labels)


def test_one_lattice_asked_for_and_another_given_by_hand():
    alone = analyzed(grains(), max_domains=1)
    assert relations(alone) == ["reference"]
    # What is no longer a domain is no less a defect.
    right = alone.best_patch.x < WALL
    assert marked(alone, right) > 0.8
    assert marked(alone, not right) < 0.02
    # A person points at the other grain.
    given = analyzed(grains(), max_domains=1, given="140,260" if right else "140,60")
    assert relations(given) == ["reference", "rotated"]
    assert given.domains.domains[1].misorientation_deg == pytest.approx(23, abs=0.5)
    assert given.plateaus.given == (1,)
    assert dice(second(given), side_of(given)) > 0.95


def test_given_lattice_that_is_known_already(two):
    plain, given = two, analyzed(grains(), given="100,60; 200,260")
    # One point lies in the reference, the other says where the known lattice's model patch is.
    assert len(given.domains.domains) == len(plain.domains.domains) == 2
    assert NO_OTHER_LATTICE in given.warnings
    assert given.domains.domains[1].patch.placed == "hand"
    np.testing.assert_array_equal(given.domains.index, plain.domains.index)


def test_points_are_written_in_one_way():
    params = hd.Recipe().replace({"domains.given": " 5, 7.123456 ;-1,2.50"}).domains
    assert params.given == "5,7.12; -1,2.5"
    assert points_of(params.given) == ((5.0, 7.12), (-1.0, 2.5))


def test_lattices_that_differ_by_less_are_one_domain(two):
    assert len(analyzed(grains(), merge=1.5).domains.domains) < len(two.domains.domains)


def test_noise_in_a_dim_part_makes_no_lattice():
    image = crystal((512, 512), vectors("oblique", 8.5, 8.0))
    image = (image - image.mean()) / image.std()
    image[:, :180] *= np.clip(np.arange(180) / 255, 0.25, 1)
    found = analyzed(noisy(image, 0.5, 1))
    assert relations(found) == ["reference"]
    assert not found.labels.any()


def test_band_thinner_than_a_domain_is_none():
    image = grains()
    image[:, WALL + round(8 * PERIOD) :] = grains(turn=0.0)[:, WALL + round(8 * PERIOD) :]
    assert len(analyzed(image, thickness=4.4).domains.domains) == 2
    assert len(analyzed(image, thickness=11.0).domains.domains) == 1


# Small parts ---------------------------------------------------------------------------------------------------


def three(crystals=(True, True, False)):
    index = np.zeros((40, 90), np.uint8)
    index[:, 30:], index[:, 60:] = 1, 2
    some = np.ones(3) / np.sqrt(3)
    return DomainMap(tuple(Domain(BestPatch(9.5, 9.5, 8), None, "", c, some, 0.5) for c in crystals), index)


def test_walls_and_interfaces():
    found = walls(three(), 8.0)
    x = np.arange(90)
    for border, value in ((30, 2), (60, 1)):
        near = np.abs(x - border + 0.5) <= WALL_PERIODS * 8 - 0.5
        assert (found[:, near] == value).all()
        far = (np.abs(x - border + 0.5) > WALL_PERIODS * 8 + 0.5) & (np.abs(x - border) < 15)
        assert not found[:, far].any()
    assert not walls(DomainMap(three().domains[:1], np.zeros((40, 90), np.uint8)), 8.0).any()
    np.testing.assert_array_equal(three().defective, np.broadcast_to(x >= 60, (40, 90)))


def test_points_and_domains():
    prepared = Prepared(*(np.zeros((40, 90), np.float32),) * 2, np.ones((40, 90), bool), (80, 180), 8.0)
    found = three()
    at = [domain_at(found, prepared, point) for point in ((10, 20), (10, 100), (999, 999), (-5, -5))]
    assert at == [0, 1, 2, 0]
    # The middle of 30 × 40 pixels, twice as many in the frame; a domain without a pixel has none.
    y, x = point_in(found, prepared, 1)
    assert abs(x - 89.5) < 4
    assert 25 < y < 55
    assert domain_at(found, prepared, (y, x)) == 1
    assert point_in(found, prepared, 7) is None
