"""Periods and vectors of lattices made by hand."""

import numpy as np
import pytest
from scipy import ndimage

from napari_hrstem_defects.core.autocorrelation import mean_autocorrelation, tile_products
from napari_hrstem_defects.core.lattice import (
    MIN_STRENGTH,
    agreement,
    cell_of,
    find_lattice,
    typical_lattice,
)

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
@pytest.mark.parametrize("period", [5.0, 8.3, 14.7, 27.0])
@pytest.mark.parametrize("angle", [0.0, 12.0, 41.0])
def test_known_vectors(kind, period, angle):
    basis = vectors(kind, period, angle)
    image = noisy(crystal((160, 160), basis, shift=(0.3, 0.4)), 0.05)
    lattice = find_lattice(image)
    assert_lattice(lattice, basis, period)
    assert 0.85 < lattice.strength <= 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("period", [40.0, 60.0])
def test_large_cells(kind, period):
    basis = vectors(kind, period, 7.0)
    image = noisy(crystal((320, 320), basis), 0.1)
    assert_lattice(find_lattice(image), basis, period)


@pytest.mark.parametrize("kind", KINDS)
def test_noise_stronger_than_the_lattice(kind):
    """Ten times the lattice's variance: white noise is told from it by the spectrum, so the strength stays."""
    basis = vectors(kind, 12.0, 20.0)
    clean = crystal((160, 160), basis)
    lattice = find_lattice(noisy(clean, np.sqrt(10) * clean.std(), seed=1))
    assert_lattice(lattice, basis, 12.0)
    assert lattice.strength > 0.6


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dose", [30.0, 3.0])
def test_few_electrons(kind, dose):
    basis = vectors(kind, 11.0, 33.0)
    image = counted(0.3 + crystal((160, 160), basis), dose, seed=2)
    assert_lattice(find_lattice(image), basis, 11.0)


def test_two_columns_in_the_cell_do_not_halve_it():
    basis = vectors("centred rectangular", 16.0)
    dumbbells = crystal((160, 160), basis, [((0.0, 0.0), 1.0), ((0.25, 0.25), 0.8)], width=0.09)
    assert_lattice(find_lattice(noisy(dumbbells, 0.05)), basis, 16.0)


def test_contrast_and_offset_do_not_matter():
    basis = vectors("oblique", 13.0, 5.0)
    image = noisy(crystal((128, 128), basis), 0.2)
    plain = find_lattice(image)
    for other in (-image, 3000 * image + 20000, 1e-6 * image):
        lattice = find_lattice(other)
        assert lattice.period_px == pytest.approx(plain.period_px, rel=1e-3)
        assert lattice.strength == pytest.approx(plain.strength, rel=1e-2)


def test_background_slope_does_not_hide_the_lattice():
    basis = vectors("hexagonal", 10.0, 3.0)
    y, x = np.indices((160, 160))
    image = noisy(crystal((160, 160), basis), 0.1) + 5 * (x / 160) ** 2 + 3 * np.sin(y / 60)
    assert_lattice(find_lattice(image), basis, 10.0)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("blur", [0.0, 0.7, 1.5, 3.0])
def test_noise_has_no_lattice(seed, blur):
    noise = glass((384, 384), blur, seed)
    assert typical_lattice(noise).lattice is None


@pytest.mark.parametrize("seed", range(10))
def test_patch_of_white_noise_has_no_lattice(seed):
    assert find_lattice(glass((128, 128), 0.0, seed)) is None


@pytest.mark.parametrize("seed", range(5))
def test_patch_of_blurred_noise_is_hardly_crystalline(seed):
    lattice = find_lattice(glass((128, 128), 2.0, seed))
    assert lattice is None or lattice.strength < MIN_STRENGTH


def test_stripes_are_no_lattice():
    """Periodic in one direction only: no two independent vectors."""
    x = np.arange(160)
    image = noisy(np.tile(np.cos(2 * np.pi * x / 11.0), (160, 1)), 0.3)
    lattice = find_lattice(image)
    assert lattice is None or lattice.strength < MIN_STRENGTH


def test_constant_patch():
    assert find_lattice(np.full((64, 64), 3.0, np.float32)) is None
    found = typical_lattice(np.full((200, 150), 3.0, np.float32))
    assert found.lattice is None
    assert found.warnings


@pytest.mark.parametrize("shape", [(64, 64), (96, 130), (211, 97)])
def test_strength_falls_with_disorder(shape):
    """A copy of each column moved at random: the share that is left of the peaks is below 1 and falls."""
    basis = vectors("square", 12.0)
    clean = crystal(shape, basis)
    strengths = []
    for jitter in (0.0, 0.5, 1.0):
        disorder = glass(shape, 2.0, 4) * clean.std() * jitter
        strengths.append(find_lattice((clean + disorder).astype(np.float32)).strength)
    assert 1 >= strengths[0] > strengths[1] > strengths[2] > 0
    assert strengths[0] > 0.95


def test_scaled():
    lattice = find_lattice(crystal((128, 128), vectors("oblique", 12.0)).astype(np.float32))
    half = lattice.scaled(0.5)
    assert half.period_px == lattice.period_px / 2
    assert half.v1 == (lattice.v1[0] / 2, lattice.v1[1] / 2)
    assert half.v2 == (lattice.v2[0] / 2, lattice.v2[1] / 2)
    assert half.strength == lattice.strength


def test_autocorrelation_by_hand():
    """Centre 1; at a lag it is the normalised mean product, and it is even."""
    basis = vectors("square", 16.0)
    acf = mean_autocorrelation([tile_products(crystal((128, 128), basis, width=0.3).astype(np.float32))])
    centre = tuple(n // 2 for n in acf.values.shape)
    assert acf.values[centre] == pytest.approx(1)
    np.testing.assert_allclose(acf.values, acf.values[::-1, ::-1], atol=1e-4)
    # cos + cos: 1 one period off, 0 half a period off along one axis, -1 along both.
    assert acf.values[centre[0] + 16, centre[1]] == pytest.approx(1, abs=0.05)
    assert acf.values[centre[0] + 8, centre[1]] == pytest.approx(0, abs=0.1)
    assert acf.values[centre[0] + 8, centre[1] + 8] == pytest.approx(-1, abs=0.1)
    assert_lattice(cell_of(acf), basis, 16.0)


def test_noise_of_the_autocorrelation_is_as_stated():
    """White noise under a faint lattice: away from peaks the values scatter by `noise`."""
    basis = vectors("square", 8.0)
    deviations = []
    for seed in range(12):
        acf = mean_autocorrelation([tile_products(noisy(crystal((128, 128), basis), 0.6, seed))])
        lags = np.indices(acf.values.shape).T - np.array(acf.values.shape) // 2
        near = (np.hypot(*lags.T) > 10) & (np.hypot(*lags.T) < 40)
        deviations.append((acf.values[near], acf.noise[near]))
    values = np.array([v for v, _ in deviations])
    spread = values.std(axis=0, ddof=1)
    stated = np.mean([n for _, n in deviations], axis=0)
    # The products of noise with the lattice come on top of those of noise with noise.
    assert 0.8 < np.median(spread / stated) < 2.5


def test_typical_is_that_of_most_tiles():
    small, large = vectors("square", 9.0, 10.0), vectors("square", 20.0)
    image = crystal((512, 512), small)
    image[:, 400:] = crystal((512, 112), large)
    found = typical_lattice(noisy(image, 0.2))
    assert found.tile_px == 128
    assert found.share == pytest.approx(400 / 512, abs=0.15)
    assert_lattice(found.lattice, small, 9.0)


def test_typical_of_a_large_cell_takes_larger_tiles():
    basis = vectors("hexagonal", 55.0, 10.0)
    found = typical_lattice(noisy(crystal((640, 640), basis), 0.2))
    assert found.tile_px > 128
    assert_lattice(found.lattice, basis, 55.0)


def test_typical_survives_a_glassy_majority():
    basis = vectors("square", 12.0, 4.0)
    image = 0.1 * glass((512, 512), 2.0)
    image[:, :190] = crystal((512, 190), basis)
    assert_lattice(typical_lattice(noisy(image, 0.1)).lattice, basis, 12.0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("factor", [1.3, 1.7, 2.4])
def test_enlarged_with_its_noise(kind, factor):
    """Noise of neighbouring pixels that are not independent is no lattice and hides none."""
    image = noisy(crystal((150, 150), vectors(kind, 12.0, 17.0)), 0.6)
    enlarged = ndimage.zoom(image, factor, order=3)
    lattice = typical_lattice(enlarged).lattice
    assert lattice is not None
    scale = np.mean((np.array(enlarged.shape) - 1) / (np.array(image.shape) - 1))
    assert lattice.period_px == pytest.approx(12.0 * scale, rel=0.03)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("factor", [1.3, 1.7, 2.4])
def test_enlarged_noise_has_no_lattice(factor, seed):
    assert typical_lattice(ndimage.zoom(glass((150, 150), 0.0, seed), factor, order=3)).lattice is None


@pytest.mark.parametrize("ratio", [0.5, 0.6, 0.7])
@pytest.mark.parametrize("angle", [0.0, 31.0])
def test_two_unlike_columns_are_not_one(ratio, angle):
    """SrTiO3 along [001]: the lattice through both columns has half the true cell."""
    basis = vectors("square", 16.0, angle)
    columns = [((0.0, 0.0), 1.0), ((0.5, 0.5), ratio)]
    image = crystal((384, 384), basis, columns, width=0.12)
    assert_lattice(typical_lattice(noisy(image, 0.2)).lattice, basis, 16.0)


@pytest.mark.parametrize("kind", KINDS)
def test_like_columns_are_one(kind):
    basis = vectors(kind, 10.0, 8.0)
    double = (basis[0], (2 * basis[1][0], 2 * basis[1][1]))
    image = crystal((384, 384), double, [((0.0, 0.0), 1.0), ((0.0, 0.5), 1.0)], width=0.12)
    found = typical_lattice(noisy(image, 0.2))
    assert_lattice(found.lattice, basis, 10.0)
    assert found.warnings == ()


@pytest.mark.parametrize("kind", KINDS)
def test_small_images(kind):
    basis = vectors(kind, 13.0, 25.0)
    assert_lattice(typical_lattice(noisy(crystal((128, 128), basis), 0.5)).lattice, basis, 13.0)


def test_crystal_beside_vacuum_in_a_small_image():
    basis = vectors("hexagonal", 13.0, 5.0)
    image = crystal((128, 128), basis)
    image[:64] = 0
    assert_lattice(typical_lattice(noisy(image, 0.05)).lattice, basis, 13.0)


@pytest.mark.parametrize("upright", [False, True])
def test_strip_three_cells_wide(upright):
    basis = vectors("square", 62.0)
    image = noisy(crystal((192, 1200), basis), 0.2)
    assert_lattice(typical_lattice(image.T if upright else image).lattice, basis, 62.0, tolerance=0.03)


def test_too_few_cells_are_named():
    basis = vectors("hexagonal", 130.0, 10.0)
    found = typical_lattice(noisy(crystal((300, 300), basis), 0.1))
    assert found.lattice is None
    assert "cells" in found.warnings[0] or "No lattice" in found.warnings[0]


@pytest.mark.parametrize("dose", [0.3, 1.0])
def test_very_few_electrons_in_a_large_image(dose):
    basis = vectors("square", 12.0, 20.0)
    image = counted(0.3 + crystal((768, 768), basis), dose, seed=3)
    assert_lattice(typical_lattice(image).lattice, basis, 12.0)


@pytest.mark.parametrize("bits", [-1.0, 1.0])
def test_grains_are_kept_apart(bits):
    """The mean over two twins would show their coincidence lattice."""
    basis = vectors("centred rectangular", 12.0, 10.0)
    turned = vectors("centred rectangular", 12.0, 10.0 + bits * 70.53)
    image = crystal((512, 512), basis)
    image[:, 300:] = crystal((512, 212), turned)
    assert_lattice(typical_lattice(noisy(image, 0.2)).lattice, basis, 12.0)


def waves(count, period, turn=0.0):
    """Sum of `count` plane waves evenly over a half turn (even) or a whole one (odd)."""
    y, x = np.indices((512, 512))
    angles = turn + np.arange(count) * np.pi / count * (2 if count % 2 else 1)
    return sum(np.cos(2 * np.pi * (np.cos(t) * y + np.sin(t) * x) / period) for t in angles)


@pytest.mark.parametrize(("count", "period"), [(5, 14.0), (5, 9.0), (4, 12.0), (6, 16.0)])
def test_quasicrystals_are_doubted(count, period):
    found = typical_lattice(noisy(waves(count, period, 0.3), 0.3))
    assert found.lattice is None or found.warnings


@pytest.mark.parametrize(("count", "period", "ratio", "turn"), [(2, 14.0, 1.13, 0.0), (3, 12.0, 1.0, 8.0)])
def test_moires_are_doubted(count, period, ratio, turn):
    image = waves(count, period, 0.2) + waves(count, period * ratio, 0.2 + np.radians(turn))
    found = typical_lattice(noisy(image, 0.3))
    assert found.lattice is None or found.warnings


def test_curved_fringes_are_doubted():
    y, x = np.indices((512, 512))
    found = typical_lattice(noisy(np.cos(2 * np.pi * np.hypot(y + 100, x - 256) / 13), 0.3))
    assert found.lattice is None or found.warnings


@pytest.mark.parametrize("kind", KINDS)
def test_a_bent_crystal_is_not_doubted(kind):
    y, x = np.indices((512, 512)).astype(float)
    image = crystal((560, 560), vectors(kind, 14.0, 12.0))
    bent = ndimage.map_coordinates(image, (y + 20 + 3 * np.sin(x / 90), x + 20 + 2 * np.cos(y / 70)), order=3)
    found = typical_lattice(noisy(bent, 0.2))
    assert found.lattice.period_px == pytest.approx(14.0, rel=0.02)
    assert found.warnings == ()


def test_what_is_not_valid_does_not_count():
    basis = vectors("oblique", 15.0, 9.0)
    image = noisy(crystal((400, 400), basis), 0.2)
    valid = np.ones(image.shape, bool)
    valid[:, :170] = False
    image[:, :170] = 10 * noisy(crystal((400, 170), vectors("square", 9.0)), 0.2)
    assert_lattice(typical_lattice(image, valid).lattice, basis, 15.0)


def test_agreement_of_a_lattice_with_its_multiple():
    fine = find_lattice(noisy(crystal((160, 160), vectors("square", 12.0)), 0.1))
    turned = find_lattice(noisy(crystal((160, 160), vectors("square", 12.2, 1.5)), 0.1))
    other = find_lattice(noisy(crystal((160, 160), vectors("square", 12.0, 30.0)), 0.1))
    assert agreement(fine, turned) == 1
    assert agreement(fine, other) is None
    assert agreement(fine, None) is None


@pytest.mark.parametrize("edge", [20, 24, 32, 48])
def test_small_patches_have_a_lattice_or_none_without_complaint(edge):
    """Translations may lie at the border of the autocorrelation, where nothing is left to fit."""
    y, x = np.indices((edge, edge))
    for period in np.arange(4, 0.6 * edge, 0.7):
        image = np.cos(2 * np.pi * x / period) + np.cos(2 * np.pi * (y + 0.3 * x) / period)
        lattice = find_lattice(image.astype(np.float32))
        if period < edge / 4:
            assert lattice.period_px == pytest.approx(period, rel=0.03)
