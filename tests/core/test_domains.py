"""Several lattices in one image: which pixel belongs to which is known by construction."""

import numpy as np
import pytest

import napari_hrstem_defects as hd
from napari_hrstem_defects.core.best_patch import BestPatch
from napari_hrstem_defects.core.domains import Domain, DomainMap, misorientation, walls
from napari_hrstem_defects.core.errors import RecipeError
from napari_hrstem_defects.core.lattice import Lattice
from napari_hrstem_defects.core.recipe import points_of

from .helpers import crystal, glass, noisy, vectors

PERIOD = 12.0
SHAPE = (384, 400)
WALL = 230


def side_by_side(left, right, sigma=0.15):
    image = left.copy()
    image[:, WALL:] = right[:, WALL:]
    return noisy(image, sigma)


def grains(kind, turn, sigma=0.15):
    return side_by_side(
        crystal(SHAPE, vectors(kind, PERIOD, 8.0)), crystal(SHAPE, vectors(kind, PERIOD, 8.0 + turn)), sigma
    )


def analyzed(image, **changes):
    recipe = hd.Recipe().replace({f"domains.{key}": value for key, value in changes.items()})
    return hd.analyze(hd.Micrograph(image), recipe)


def assert_halves(analysis):
    """Two domains, each pixel further than half a period from the wall in the right one."""
    index = analysis.domains.index
    assert index.shape == analysis.prepared.values.shape
    assert set(np.unique(index)) == {0, 1}
    x = analysis.prepared.to_frame_points(
        np.stack(np.broadcast_arrays(0.0, np.arange(index.shape[1])), axis=-1)
    )[:, 1]
    reference = 0 if analysis.domains.domains[0].patch.x < WALL else 1
    right = (index == 1) == (reference == 0)
    # The wall itself wavers with the phase of the lattices; on the whole it is where it should be.
    position = x[0] + np.count_nonzero(~right, axis=1) * (x[1] - x[0]) - (x[1] - x[0]) / 2
    assert abs(np.median(position) - (WALL - 0.5)) < PERIOD / 2
    assert np.mean(np.abs(position - (WALL - 0.5)) < PERIOD) > 0.9
    assert right[:, x > WALL + 1.5 * PERIOD].mean() > 0.995
    assert right[:, x < WALL - 1.5 * PERIOD].mean() < 0.005


@pytest.mark.parametrize(("kind", "turn"), [("square", 15.0), ("oblique", 23.0), ("hexagonal", 27.0)])
@pytest.mark.parametrize("sigma", [0.1, 0.25])
def test_bicrystal(kind, turn, sigma):
    analysis = analyzed(grains(kind, turn, sigma))
    first, second = analysis.domains.domains
    assert (first.relation, first.crystal) == ("reference", True)
    assert (second.relation, second.crystal) == ("rotated", False)
    assert second.misorientation_deg == pytest.approx(turn, abs=0.5)
    assert second.gain > 0.4
    assert second.lattice.period_px == pytest.approx(PERIOD, rel=0.02)
    assert_halves(analysis)
    # The other grain is a defect, the reference is not.
    marked = analysis.labels == 1
    x = np.arange(SHAPE[1])
    other = x > WALL if first.patch.x < WALL else x < WALL
    far = np.abs(x - WALL) > 2.5 * PERIOD
    assert marked[:, other & far].mean() > 0.97
    assert marked[:, ~other & far].mean() < 0.02


def test_other_lattice():
    left, right = vectors("square", PERIOD, 8.0), vectors("oblique", 1.25 * PERIOD, 31.0)
    analysis = analyzed(side_by_side(crystal(SHAPE, left), crystal(SHAPE, right)))
    assert [d.relation for d in analysis.domains.domains] == ["reference", "rotated"]
    assert_halves(analysis)


def test_all_lattices_intact_marks_walls_only():
    analysis = analyzed(grains("oblique", 23.0), crystal="all")
    second = analysis.domains.domains[1]
    assert (second.relation, second.crystal) == ("rotated", True)
    assert_halves(analysis)
    away = np.abs(np.arange(SHAPE[1]) - WALL) / PERIOD
    assert (analysis.labels[:, away > 3] == 1).mean() < 0.01
    assert (analysis.labels[:, away < 0.5] == 1).mean() > 0.9


def test_patches_of_a_phase_that_is_called_a_defect():
    """They are clean by themselves; what a person says about their lattice counts more."""
    whole = analyzed(phases())
    patch = whole.domains.domains[1].patch
    told = analyzed(phases(), defective_at=f"{patch.y:.0f},{patch.x:.0f}")
    grid = told.patches.grid
    x = grid.centres[..., 1]
    other = x > WALL if whole.domains.domains[0].patch.x < WALL else x < WALL
    away = np.abs(x - WALL) > grid.size / 2  # all of the patch
    assert (other & away).any()
    assert not whole.patches.defective[away].any()
    assert told.patches.defective[other & away].all()
    assert not told.patches.defective[:, -1 if other[0, 0] else 0].any()  # the furthest on the other side
    # Painted patches are a person's as well, and more exact.
    painted = np.zeros(grid.counts, bool)
    hand = hd.analyze(whole.micrograph, told.recipe, patch_labels=painted)
    assert not hand.patches.defective.any()


def test_only_the_reference_intact():
    analysis = analyzed(phases(), crystal="reference")
    second = analysis.domains.domains[1]
    assert (second.relation, second.crystal) == ("second phase", False)
    x = np.arange(SHAPE[1])
    other = x > WALL if analysis.domains.domains[0].patch.x < WALL else x < WALL
    assert (analysis.labels[:, other & (np.abs(x - WALL) > 2.5 * PERIOD)] == 1).mean() > 0.97


def test_one_lattice_asked_for():
    assert len(analyzed(grains("oblique", 23.0), most=1).domains.domains) == 1


POLAR = [((0.0, 0.0), 1.0), ((0.3, 0.22), 0.5)]


def phases(sigma=0.1):
    """A film that continues the lattice with brighter columns in other places of the cell."""
    basis = vectors("square", 16.0, 6.0)
    substrate = crystal(SHAPE, basis, POLAR, width=0.12)
    film = crystal(SHAPE, basis, [((0.0, 0.0), 2.0), ((0.5, 0.5), 1.0), ((0.5, 0.0), 0.5)], width=0.12)
    return side_by_side(substrate, film, sigma)


def test_coherent_film_is_a_phase_and_no_defect():
    analysis = analyzed(phases())
    second = analysis.domains.domains[1]
    assert (second.relation, second.crystal) == ("second phase", True)
    assert second.misorientation_deg == pytest.approx(0, abs=0.5)
    assert_halves(analysis)
    assert (analysis.labels == 1).mean() < 0.01


def test_inverted_polarity():
    basis = vectors("square", 16.0, 6.0)
    turned = [((-a, -b), weight) for (a, b), weight in POLAR]
    analysis = analyzed(
        side_by_side(crystal(SHAPE, basis, POLAR, width=0.1), crystal(SHAPE, basis, turned, width=0.1), 0.05)
    )
    second = analysis.domains.domains[1]
    assert (second.relation, second.crystal) == ("inverted", False)
    assert_halves(analysis)


@pytest.mark.parametrize("brightness", [1.3, 1.6])
def test_thickness_step_is_no_domain(brightness):
    """The same crystal, thicker on one side: nothing to mark."""
    plain = crystal(SHAPE, vectors("oblique", PERIOD, 8.0))
    analysis = analyzed(side_by_side(plain, brightness * plain, 0.15))
    assert len(analysis.domains.domains) == 1
    assert (analysis.labels == 1).mean() < 0.02


@pytest.mark.parametrize("sigma", [0.05, 0.3])
def test_perfect_crystal_is_one_domain(sigma):
    analysis = analyzed(noisy(crystal(SHAPE, vectors("oblique", PERIOD, 8.0)), sigma))
    assert len(analysis.domains.domains) == 1
    assert not analysis.domains.index.any()


def test_glass_is_no_domain():
    image = crystal(SHAPE, vectors("oblique", PERIOD, 8.0))
    image[:, WALL:] = image.mean() + 0.05 * glass(SHAPE, 2.0)[:, WALL:]
    assert len(analyzed(noisy(image, 0.03)).domains.domains) == 1


def lattice_of(basis):
    (a, b), (c, d) = basis
    return Lattice(basis[0], basis[1], float(np.sqrt(abs(a * d - b * c))), 1.0)


@pytest.mark.parametrize("kind", ["square", "oblique", "hexagonal"])
@pytest.mark.parametrize("turn", [0.0, 3.0, 11.0, -11.0, 20.0])
def test_misorientation_of_known_lattices(kind, turn):
    first, second = vectors(kind, 10.0, 4.0), vectors(kind, 10.0, 4.0 + turn)
    assert misorientation(lattice_of(first), lattice_of(second)) == pytest.approx(abs(turn), abs=1e-6)


def test_misorientation_by_symmetry():
    square, hexagonal = vectors("square", 10.0), vectors("hexagonal", 10.0)
    assert misorientation(lattice_of(square), lattice_of(vectors("square", 10.0, 80.0))) == pytest.approx(10)
    turned = lattice_of(vectors("hexagonal", 10.0, 50.0))
    assert misorientation(lattice_of(hexagonal), turned) == pytest.approx(10)


def test_misorientation_unknown():
    square = lattice_of(vectors("square", 10.0))
    assert misorientation(None, square) is None
    assert misorientation(square, None) is None
    # No vector of one is as long as any of the other.
    assert misorientation(square, lattice_of(vectors("square", 23.0))) is None


# Said by hand ---------------------------------------------------------------------------------------------------


def marked_share(analysis, right):
    """Share marked of one side, away from the wall."""
    x = np.arange(SHAPE[1])
    far = x > WALL + 2.5 * PERIOD if right else x < WALL - 2.5 * PERIOD
    return (analysis.labels[:, far] == 1).mean()


def test_points_say_which_lattices_are_intact():
    image = grains("oblique", 23.0)
    whole = analyzed(image)
    other = whole.domains.domains[0].patch.x < WALL
    far = (200, 390) if other else (200, 10)
    near = (200, 10) if other else (200, 390)
    intact = analyzed(image, intact_at=f"{far[0]},{far[1]}")
    assert [d.crystal for d in intact.domains.domains] == [True, True]
    assert marked_share(intact, other) < 0.01
    assert marked_share(whole, other) > 0.97
    # The reference is what everything is compared with: it stays intact.
    same = analyzed(image, defective_at=f"{near[0]},{near[1]}")
    assert [d.crystal for d in same.domains.domains] == [True, False]
    np.testing.assert_array_equal(same.labels, whole.labels)
    both = analyzed(image, crystal="all", defective_at=f"1000,{far[1]}")  # beyond the rim: the nearest pixel
    assert [d.crystal for d in both.domains.domains] == [True, False]
    np.testing.assert_array_equal(both.labels, whole.labels)


def test_other_verdict_needs_no_new_search(monkeypatch):
    image = grains("oblique", 23.0)
    whole = analyzed(image)
    y, x = whole.domains.domains[1].patch.y, whole.domains.domains[1].patch.x
    recipe = whole.recipe.replace({"domains.intact_at": f"{y},{x}"})
    monkeypatch.setattr(
        "napari_hrstem_defects.core.steps.find_domains", lambda *args: pytest.fail("searched")
    )
    again = hd.analyze(whole.micrograph, recipe, previous=whole, start="symmetry")
    monkeypatch.undo()
    expected = hd.analyze(whole.micrograph, recipe)
    np.testing.assert_array_equal(again.labels, expected.labels)
    np.testing.assert_array_equal(again.severity, expected.severity)
    assert not np.array_equal(again.labels, whole.labels)
    assert whole.domains.domains[1].crystal is False
    # The verdicts on the patches are those of a run that knew it from the beginning, and go back as well.
    np.testing.assert_array_equal(again.patches.defective, expected.patches.defective)
    assert again.patches.defective.sum() < whole.patches.defective.sum()
    back = hd.analyze(whole.micrograph, whole.recipe, previous=again, start="symmetry")
    np.testing.assert_array_equal(back.patches.defective, whole.patches.defective)


def test_lattice_given_by_hand():
    """Too few were allowed to be found; a person points at the other grain."""
    image = grains("oblique", 23.0)
    alone = analyzed(image, most=1)
    place = (150.0, 320.0 if alone.domains.domains[0].patch.x < WALL else 100.0)
    given = analyzed(image, most=1, given=f"{place[0]},{place[1]}")
    first, second = given.domains.domains
    assert (second.relation, second.crystal, second.patch.placed) == ("rotated", False, "hand")
    assert (second.patch.y, second.patch.x) == pytest.approx(place, abs=1)
    assert second.misorientation_deg == pytest.approx(23, abs=0.5)
    assert second.patch.size == first.patch.size
    assert_halves(given)
    assert not given.warnings
    # Where one is given, the search finds no second one for the same grain.
    assert len(analyzed(image, given=f"{place[0]},{place[1]}").domains.domains) == 2


@pytest.mark.parametrize("sigma", [0.05, 0.3])
def test_lattice_given_where_there_is_none_is_left_out(sigma):
    image = noisy(crystal(SHAPE, vectors("oblique", PERIOD, 8.0)), sigma)
    plain = analyzed(image)
    given = analyzed(image, given="100,100; 300,330")
    assert len(given.domains.domains) == 1
    assert any("what was given there is left out" in text for text in given.warnings)
    np.testing.assert_array_equal(given.labels, plain.labels)


@pytest.mark.parametrize("text", ["5", "1,2,3", "a,b", "1,nan", "1,2;;"])
def test_points_that_are_none_are_a_sentence(text):
    with pytest.raises(RecipeError, match=r"domains\.given must be points in px"):
        hd.Recipe().replace({"domains.given": text})


def test_points_are_written_in_one_way():
    params = hd.Recipe().replace({"domains.given": " 5, 7.123456 ;-1,2.50"}).domains
    assert params.given == "5,7.12; -1,2.5"
    assert points_of(params.given) == ((5.0, 7.12), (-1.0, 2.5))


def test_walls_and_interfaces():
    index = np.zeros((40, 90), np.uint8)
    index[:, 30:] = 1
    index[:, 60:] = 2
    domains = tuple(
        Domain(BestPatch(9.5, 9.5, 8), None, None, "", crystal, 1.0) for crystal in (True, True, False)
    )
    found = walls(DomainMap(domains, index), 8.0)
    expected = np.zeros(90, int)
    # 0.75 periods to either side: an interface of intact domains, and the wall of a defective one.
    expected[24:36], expected[54:66] = 2, 1
    assert np.array_equal(found, np.broadcast_to(expected, index.shape))
    assert not walls(DomainMap(domains[:1], np.zeros((8, 8), np.uint8)), 8.0).any()


def test_a_small_gain_is_reported_and_nothing_concluded():
    image = grains("square", 15.0, 0.8)
    unsure = analyzed(image)
    assert [domain.relation for domain in unsure.domains.domains] == ["reference", "unsure"]
    assert not unsure.domains.domains[1].decided
    assert not unsure.domains.defective.any()
    assert any("may be another lattice" in text for text in unsure.warnings)
    assert not walls(unsure.domains, unsure.prepared.period_px).any()
    # The reference judges it, as if it had not been found.
    alone = analyzed(image, most=1)
    np.testing.assert_array_equal(unsure.severity, alone.severity)
    # Whoever knows better says so.
    patch = unsure.domains.domains[1].patch
    told = analyzed(image, defective_at=f"{patch.y:.0f},{patch.x:.0f}")
    assert told.domains.domains[1].decided
    assert np.mean(told.labels == 1) > 0.3


def test_of_a_slight_turn_only_the_boundary_is_marked():
    image = grains("square", 2.8, 0.1)
    # Scan lines jitter: what is turned shows them more than the reference does.
    jitter = np.rint(2 * np.random.default_rng(1).standard_normal(SHAPE[0])).astype(int)
    image = np.stack([np.roll(row, shift // 2) for row, shift in zip(image, jitter, strict=True)])
    found = analyzed(image)
    assert [domain.relation for domain in found.domains.domains] == ["reference", "unsure"]
    assert found.domains.domains[1].slightly_turned
    assert found.domains.domains[1].misorientation_deg == pytest.approx(2.8, abs=0.4)
    assert any("turned a little" in text for text in found.warnings)
    near = np.abs(np.arange(SHAPE[1]) - WALL) < 2.5 * PERIOD
    inner = slice(30, -30)
    assert not found.labels[inner, ~near][:, 30:-30].any()
    assert (found.labels[inner, near] == 1).any(axis=1).mean() > 0.6
    patch = found.domains.domains[1].patch
    told = analyzed(image, defective_at=f"{patch.y:.0f},{patch.x:.0f}")
    assert not told.domains.domains[1].slightly_turned
    assert np.mean(told.labels == 1) > 0.3
