"""The training-free patch classifier on images whose bad patches are known."""

import numpy as np
import pytest

from napari_hrstem_defects.core.geometry import patch_corners, patch_edge
from napari_hrstem_defects.core.patches import PatchGrid
from napari_hrstem_defects.core.preprocessing import prepare
from napari_hrstem_defects.core.recipe import ClassifyParams, PreprocessParams
from napari_hrstem_defects.core.screening import SIGNATURE_RADIUS, screen, signatures

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
    scores = screened(noisy(image, 0.1)).scores
    low, high = sorted((np.median(scores[:, :3]), np.median(scores[:, 5:])))
    assert low < 0 < high


def test_scores_are_what_is_cut():
    table = screened(noisy(lattice(), 0.3), cutoff=1.5, min_variance=0.0)
    np.testing.assert_array_equal(table.defective, table.scores > 1.5)
    assert table.threshold == 1.5


def marks_of(image):
    prepared = prepare(image, PERIOD, PreprocessParams())
    edge = patch_edge(prepared, GRID.size)
    corners = patch_corners(prepared, GRID).reshape(-1, 2)
    return signatures(prepared, corners, edge, SIGNATURE_RADIUS * prepared.period_px).reshape(
        *GRID.counts, -1
    )


def test_patch_across_a_boundary_is_defective():
    """Its quarters are unlike each other, though it lies between both grains."""
    image = lattice()
    image[:, 288:] = crystal(SHAPE, vectors("oblique", PERIOD, 30.0))[:, 288:]
    assert screened(noisy(image, 0.1)).defective[:, 4].all()


def test_signatures_are_shift_invariant_autocorrelations():
    """A lattice moved by any amount has the same signature; its values lie within ±1."""
    plain = marks_of(noisy(lattice(), 0.02))
    moved = crystal(SHAPE, BASIS, shift=(3.3, 5.1))
    other = marks_of(noisy(moved, 0.02))
    assert plain.shape[:2] == GRID.counts
    assert np.abs(plain[1:-1, 1:-1] - other[1:-1, 1:-1]).max() < 0.15
    assert np.abs(plain).max() < 1.2
    # One period along a lattice vector the autocorrelation comes back.
    assert plain.max() > 0.85


def test_noise_lowers_signatures():
    quiet, loud = (np.abs(marks_of(noisy(lattice(), s))).max() for s in (0.05, 1.0))
    assert loud < 0.9 * quiet


def test_single_patch():
    image = noisy(crystal((96, 96), BASIS), 0.1)
    prepared = prepare(image, PERIOD, PreprocessParams())
    table = screen(prepared, PatchGrid((96, 96), 96), ClassifyParams())
    np.testing.assert_array_equal(table.defective, [[False]])
