"""The training-free patch classifier on images whose bad patches are known."""

import numpy as np
import pytest

from napari_hrstem_defects.core.patches import PatchGrid
from napari_hrstem_defects.core.preprocessing import prepare
from napari_hrstem_defects.core.recipe import ClassifyParams, PreprocessParams
from napari_hrstem_defects.core.screening import screen, signatures

from .helpers import crystal, glass, noisy, vectors

PERIOD = 12.0
SHAPE = (384, 512)
GRID = PatchGrid(SHAPE, 64)
BASIS = vectors("oblique", PERIOD, 8.0)


def screened(image, cutoff=3.0, **kwargs):
    prepared = prepare(image.astype(np.float32), PERIOD, PreprocessParams())
    return screen(prepared, GRID, ClassifyParams(cutoff=cutoff, **kwargs))


def lattice():
    return crystal(SHAPE, BASIS)


@pytest.mark.parametrize("sigma", [0.0, 0.2, 0.6])
def test_perfect_crystal(sigma):
    table = screened(noisy(lattice(), sigma))
    assert table.grid == GRID
    assert table.scores.shape == table.defective.shape == GRID.counts
    assert np.isfinite(table.scores).all()
    # A cut at three deviations of a tail: a few of the 48 may lie beyond.
    assert table.defective.sum() <= 4
    assert table.classifier == "screening"


@pytest.mark.parametrize("sigma", [0.1, 0.3])
def test_patches_of_another_orientation(sigma):
    image = lattice()
    image[128:256, 192:320] = crystal((128, 128), vectors("oblique", PERIOD, 38.0))
    truth = np.zeros(GRID.counts, bool)
    truth[2:4, 3:5] = True
    table = screened(noisy(image, sigma))
    assert table.defective[truth].all()
    assert (table.defective & ~truth).sum() <= 4
    assert table.scores[truth].min() > table.scores[~truth].max()


def test_patches_without_contrast():
    image = lattice() + 0
    image[:64, :128] = 0.3 + 0.02 * glass((64, 128), 2.0)
    table = screened(noisy(image, 0.05))
    assert table.defective[0, :2].all()
    assert table.defective.sum() <= 6


def test_one_grain_of_two_equal_ones_is_clean():
    """A median over all patches would lie between the grains and condemn both."""
    image = lattice()
    image[:, 256:] = crystal(SHAPE, vectors("oblique", PERIOD, 30.0))[:, 256:]
    table = screened(noisy(image, 0.1), cutoff=0.5)
    clean = ~table.defective
    assert min(clean[:, :4].sum(), clean[:, 4:].sum()) == 0
    assert max(clean[:, :4].sum(), clean[:, 4:].sum()) >= 20


def test_scores_are_what_is_cut():
    table = screened(noisy(lattice(), 0.3), cutoff=1.5, min_variance=0.0)
    np.testing.assert_array_equal(table.defective, table.scores > 1.5)
    assert table.threshold == 1.5


def test_signatures_are_shift_invariant_autocorrelations():
    """A lattice moved by any amount has the same signature; its values lie within ±1."""
    plain = signatures(prepare(noisy(lattice(), 0.02), PERIOD, PreprocessParams()), GRID)
    moved = crystal(SHAPE, BASIS, shift=(3.3, 5.1))
    other = signatures(prepare(noisy(moved, 0.02), PERIOD, PreprocessParams()), GRID)
    assert plain.shape[:2] == GRID.counts
    assert np.abs(plain[1:-1, 1:-1] - other[1:-1, 1:-1]).max() < 0.15
    assert np.abs(plain).max() < 1.2
    # One period along a lattice vector the autocorrelation comes back.
    assert plain.max() > 0.85


def test_noise_lowers_signatures():
    quiet, loud = (
        np.abs(signatures(prepare(noisy(lattice(), s), PERIOD, PreprocessParams()), GRID)).max()
        for s in (0.05, 1.0)
    )
    assert loud < 0.9 * quiet


def test_single_patch():
    image = noisy(crystal((96, 96), BASIS), 0.1)
    prepared = prepare(image, PERIOD, PreprocessParams())
    table = screen(prepared, PatchGrid((96, 96), 96), ClassifyParams())
    np.testing.assert_array_equal(table.defective, [[False]])
