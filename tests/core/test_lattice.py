"""Periods and vectors of lattices made by hand."""

import numpy as np
import pytest
from scipy import ndimage

from napari_hrstem_defects import Recipe
from napari_hrstem_defects.core.image_lattice import lattice_of_image, typical_lattice
from napari_hrstem_defects.core.lattice import MIN_STRENGTH, Lattice, agreement, find_lattice

from .helpers import CELLS, counted, crystal, glass, noisy, vectors

KINDS = sorted(CELLS)


def two_shortest(basis):
    """Lengths of the two shortest independent vectors, by trying all small combinations."""
    a, b = np.array(basis)
    found = sorted(
        (float(np.hypot(*(h * a + k * b))), h, k)
        for h in range(-4, 5)
        for k in range(-4, 5)
        if (h, k) != (0, 0)
    )
    first = found[0]
    second = next(v for v in found if v[1] * first[2] != v[2] * first[1])
    return first[0], second[0]


def assert_lattice(lattice, basis, period, tolerance=0.02):
    assert lattice is not None
    assert lattice.period_px == pytest.approx(period, rel=tolerance)
    v1, v2 = np.array(lattice.v1), np.array(lattice.v2)
    # Each is a whole combination of the true vectors, and together they span the same lattice.
    coefficients = np.linalg.solve(np.array(basis).T, np.array([v1, v2]).T).T
    whole = np.rint(coefficients)
    off = np.hypot(*((coefficients - whole) @ np.array(basis)).T)
    assert (off <= tolerance * np.hypot(*np.array([v1, v2]).T)).all()
    assert abs(round(float(np.linalg.det(whole)))) == 1
    np.testing.assert_allclose(sorted(np.hypot(*np.array([v1, v2]).T)), two_shortest(basis), rtol=tolerance)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("period", "angle", "edge"), [(5.0, 0.0, 160), (8.3, 41.0, 160), (27.0, 12.0, 160), (60.0, 7.0, 320)]
)
def test_known_vectors(kind, period, angle, edge):
    basis = vectors(kind, period, angle)
    lattice = find_lattice(noisy(crystal((edge, edge), basis, shift=(0.3, 0.4)), 0.05))
    assert_lattice(lattice, basis, period)
    assert 0.85 < lattice.strength <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_noise_stronger_than_the_lattice(kind):
    """Ten times the lattice's variance: white noise is told from it by the spectrum, so the strength stays."""
    basis = vectors(kind, 12.0, 20.0)
    clean = crystal((160, 160), basis)
    lattice = find_lattice(noisy(clean, np.sqrt(10) * clean.std(), seed=1))
    assert_lattice(lattice, basis, 12.0)
    assert lattice.strength > 0.6
    assert_lattice(find_lattice(counted(0.3 + clean, 3.0, seed=2)), basis, 12.0)


def test_two_columns_in_the_cell_do_not_halve_it():
    basis = vectors("centred rectangular", 16.0)
    dumbbells = crystal((160, 160), basis, [((0.0, 0.0), 1.0), ((0.25, 0.25), 0.8)], width=0.09)
    assert_lattice(find_lattice(noisy(dumbbells, 0.05)), basis, 16.0)


def test_contrast_and_background_do_not_matter():
    basis = vectors("oblique", 13.0, 5.0)
    image = noisy(crystal((128, 128), basis), 0.2)
    plain = find_lattice(image)
    for other in (-image, 3000 * image + 20000, 1e-6 * image):
        lattice = find_lattice(other)
        assert lattice.period_px == pytest.approx(plain.period_px, rel=1e-3)
        assert lattice.strength == pytest.approx(plain.strength, rel=1e-2)
    y, x = np.indices(image.shape)
    assert_lattice(find_lattice(image + 5 * (x / 160) ** 2 + 3 * np.sin(y / 60)), basis, 13.0)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("blur", [0.0, 0.7, 2.0, 3.0])
def test_noise_has_no_lattice(seed, blur):
    assert typical_lattice(glass((256, 256), blur, seed)).lattice is None
    patch = find_lattice(glass((128, 128), min(blur, 2.0), seed))
    assert patch is None or (blur > 0 and patch.strength < MIN_STRENGTH)


@pytest.mark.parametrize("factor", [1.3, 2.4])
def test_enlarged_with_its_noise(factor):
    """Noise of neighbouring pixels that are not independent is no lattice and hides none."""

    def enlarged(image):
        return ndimage.zoom(image, factor, order=3)

    assert typical_lattice(enlarged(glass((150, 150), 0.0, 0))).lattice is None
    image = enlarged(noisy(crystal((150, 150), vectors("oblique", 12.0, 17.0)), 0.6))
    wanted = 12.0 * (image.shape[0] - 1) / 149
    assert typical_lattice(image).lattice.period_px == pytest.approx(wanted, rel=0.03)


def test_stripes_are_no_lattice():
    """Periodic in one direction only: no two independent vectors."""
    image = noisy(np.tile(np.cos(2 * np.pi * np.arange(160) / 11.0), (160, 1)), 0.3)
    lattice = find_lattice(image)
    assert lattice is None or lattice.strength < MIN_STRENGTH


def test_constant_patch():
    assert find_lattice(np.full((64, 64), 3.0, np.float32)) is None
    found = typical_lattice(np.full((200, 150), 3.0, np.float32))
    assert found.lattice is None
    assert found.warnings


def test_strength_falls_with_disorder():
    """A copy of each column moved at random: the share that is left of the peaks is below 1 and falls."""
    shape = (96, 130)
    clean = crystal(shape, vectors("square", 12.0))
    strengths = []
    for jitter in (0.0, 0.5, 1.0):
        disorder = glass(shape, 2.0, 4) * clean.std() * jitter
        strengths.append(find_lattice((clean + disorder).astype(np.float32)).strength)
    assert 1 >= strengths[0] > strengths[1] > strengths[2] > 0
    assert strengths[0] > 0.95


def test_typical_is_that_of_most_tiles():
    small, large = vectors("square", 9.0, 10.0), vectors("square", 20.0)
    image = crystal((256, 512), small)
    image[:, 400:] = crystal((256, 112), large)
    found = typical_lattice(noisy(image, 0.2))
    assert found.tile_px == 128
    assert found.share == pytest.approx(400 / 512, abs=0.15)
    assert_lattice(found.lattice, small, 9.0)


def test_typical_of_a_large_cell_takes_larger_tiles():
    basis = vectors("hexagonal", 55.0, 10.0)
    found = typical_lattice(noisy(crystal((400, 400), basis), 0.2))
    assert found.tile_px > 128
    assert_lattice(found.lattice, basis, 55.0)


def test_typical_survives_a_glassy_majority():
    basis = vectors("square", 12.0, 4.0)
    image = 0.1 * glass((256, 512), 2.0)
    image[:, :190] = crystal((256, 190), basis)
    assert_lattice(typical_lattice(noisy(image, 0.1)).lattice, basis, 12.0)


@pytest.mark.parametrize(("ratio", "angle"), [(0.5, 31.0), (0.7, 0.0), (0.7, 31.0)])
def test_two_unlike_columns_are_not_one(ratio, angle):
    """SrTiO3 along [001]: the lattice through both columns has half the true cell."""
    basis = vectors("square", 16.0, angle)
    image = crystal((384, 384), basis, [((0.0, 0.0), 1.0), ((0.5, 0.5), ratio)], width=0.12)
    assert_lattice(typical_lattice(noisy(image, 0.2)).lattice, basis, 16.0)


@pytest.mark.parametrize("kind", KINDS)
def test_like_columns_are_one(kind):
    basis = vectors(kind, 10.0, 8.0)
    double = (basis[0], (2 * basis[1][0], 2 * basis[1][1]))
    image = crystal((256, 256), double, [((0.0, 0.0), 1.0), ((0.0, 0.5), 1.0)], width=0.12)
    found = typical_lattice(noisy(image, 0.2))
    assert_lattice(found.lattice, basis, 10.0)
    assert found.warnings == ()


@pytest.mark.parametrize("kind", KINDS)
def test_small_images(kind):
    basis = vectors(kind, 13.0, 25.0)
    clean = crystal((128, 128), basis)
    assert_lattice(typical_lattice(noisy(clean, 0.5)).lattice, basis, 13.0)
    clean[:64] = 0  # vacuum
    assert_lattice(typical_lattice(noisy(clean, 0.05)).lattice, basis, 13.0)


@pytest.mark.parametrize("upright", [False, True])
def test_strip_three_cells_wide(upright):
    basis = vectors("square", 62.0)
    image = noisy(crystal((192, 800), basis), 0.2)
    assert_lattice(typical_lattice(image.T if upright else image).lattice, basis, 62.0, tolerance=0.03)


def test_too_few_cells_are_named():
    found = typical_lattice(noisy(crystal((300, 300), vectors("hexagonal", 130.0, 10.0)), 0.1))
    assert found.lattice is None
    assert "cells" in found.warnings[0] or "No lattice" in found.warnings[0]


def test_very_few_electrons_in_a_large_image():
    basis = vectors("square", 12.0, 20.0)
    image = counted(0.3 + crystal((768, 768), basis), 0.3, seed=3)
    assert_lattice(typical_lattice(image).lattice, basis, 12.0)


def test_grains_are_kept_apart():
    """The mean over two twins would show their coincidence lattice."""
    basis, turned = (vectors("centred rectangular", 12.0, angle) for angle in (10.0, 80.53))
    image = crystal((384, 512), basis)
    image[:, 300:] = crystal((384, 212), turned)
    assert_lattice(typical_lattice(noisy(image, 0.2)).lattice, basis, 12.0)


Y, X = np.indices((512, 512)).astype(float)


def waves(count, period, turn=0.0):
    """Sum of `count` plane waves evenly over a half turn (even) or a whole one (odd)."""
    angles = turn + np.arange(count) * np.pi / count * (2 if count % 2 else 1)
    return sum(np.cos(2 * np.pi * (np.cos(t) * Y + np.sin(t) * X) / period) for t in angles)


@pytest.mark.parametrize(
    "image",
    [
        *(waves(count, period, 0.3) for count, period in ((5, 14.0), (5, 9.0), (4, 12.0), (6, 16.0))),
        waves(2, 14.0, 0.2) + waves(2, 14.0 * 1.13, 0.2),
        waves(3, 12.0, 0.2) + waves(3, 12.0, 0.2 + np.radians(8.0)),
        waves(2, 40.0, 0.2) + waves(2, 46.0, 0.2),
        np.cos(2 * np.pi * np.hypot(Y + 100, X - 256) / 13),
        glass((512, 512), 1.5, 0),
        glass((512, 512), 3.0, 1),
    ],
    ids=[
        *(f"quasicrystal {k}" for k in range(4)),
        "moiré of sizes",
        "moiré of turns",
        "moiré larger than a tile",
        "curved fringes",
        "fine glass",
        "coarse glass",
    ],
)
def test_what_is_no_crystal_is_doubted(image):
    """By the lattice of most tiles, and where there is none by reflections of a part."""
    found = typical_lattice(noisy(image, 0.3))
    assert found.lattice is None or found.warnings
    valid = np.ones(image.shape, bool)
    whole, _, _ = lattice_of_image(noisy(image / image.std(), 0.3), valid, Recipe().preprocess)
    assert whole.lattice is None or "does not repeat" in whole.warnings[0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_bent_crystal_is_not_doubted(kind):
    image = crystal((560, 560), vectors(kind, 14.0, 12.0))
    bent = ndimage.map_coordinates(image, (Y + 20 + 3 * np.sin(X / 90), X + 20 + 2 * np.cos(Y / 70)), order=3)
    found = typical_lattice(noisy(bent, 0.2))
    assert found.lattice.period_px == pytest.approx(14.0, rel=0.02)
    assert found.warnings == ()


def test_what_is_not_valid_does_not_count():
    basis = vectors("oblique", 15.0, 9.0)
    image = noisy(crystal((300, 400), basis), 0.2)
    valid = np.ones(image.shape, bool)
    valid[:, :170] = False
    image[:, :170] = 10 * noisy(crystal((300, 170), vectors("square", 9.0)), 0.2)
    assert_lattice(typical_lattice(image, valid).lattice, basis, 15.0)


def test_agreement_of_a_lattice_with_its_multiple():
    bases = (vectors("square", period, angle) for period, angle in ((12.0, 0.0), (12.2, 1.5), (12.0, 30.0)))
    fine, turned, other = (find_lattice(noisy(crystal((160, 160), basis), 0.1)) for basis in bases)
    assert agreement(fine, turned) == 1
    assert agreement(fine, other) is None
    assert agreement(fine, None) is None
    # Too few electrons for every translation: two of three may be missing.
    tripled = Lattice(fine.v1, (3 * fine.v2[0], 3 * fine.v2[1]), 3**0.5 * fine.period_px, 1.0)
    assert agreement(turned, tripled) == 3


@pytest.mark.parametrize("edge", [20, 24, 32, 48])
def test_small_patches_have_a_lattice_or_none_without_complaint(edge):
    """Translations may lie at the border of the autocorrelation, where nothing is left to fit."""
    y, x = np.indices((edge, edge))
    for period in np.arange(4, 0.6 * edge, 1.4):
        image = np.cos(2 * np.pi * x / period) + np.cos(2 * np.pi * (y + 0.3 * x) / period)
        lattice = find_lattice(image.astype(np.float32))
        if period < edge / 4:
            assert lattice.period_px == pytest.approx(period, rel=0.03)
