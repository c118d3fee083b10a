"""The patch grid: nothing left out, nothing out of range."""

import hypothesis
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_hrstem_defects.core.lattice import Lattice
from napari_hrstem_defects.core.patches import PatchGrid, patch_size, shares


@st.composite
def grids(draw, longest=700, most=400):
    """Grids of at most `most` patches to a side."""
    sides = st.integers(1, longest)
    shape = draw(st.tuples(sides, sides))
    return PatchGrid(shape, draw(st.integers(min(-(-max(shape) // most), min(shape)), min(shape))))


@settings(max_examples=100)
@given(grids())
def test_patches_cover_all_pixels_evenly_and_are_as_few_as_possible(grid):
    for axis, (length, count) in enumerate(zip(grid.shape, grid.counts, strict=True)):
        assert count * grid.size >= length
        assert (count - 1) * grid.size < length
        starts = np.unique(grid.corners[..., axis])
        assert len(starts) == count
        # From rim to rim, without a gap.
        assert (starts[0], starts[-1] + grid.size) == (0, length)
        steps = np.diff(starts)
        assert steps.size == 0 or (steps.max() <= grid.size and steps.max() - steps.min() <= 1)


@settings(max_examples=40)
@given(grids(longest=90, most=12))
def test_extract_cuts_out_at_the_corners(grid):
    hypothesis.assume(max(grid.counts) <= 20)
    image = np.arange(np.prod(grid.shape), dtype=np.float32).reshape(grid.shape)
    tiles = grid.extract(image)
    assert tiles.shape == (*grid.counts, grid.size, grid.size)
    for index in np.ndindex(grid.counts):
        y, x = grid.corners[index]
        np.testing.assert_array_equal(tiles[index], image[y : y + grid.size, x : x + grid.size])


@settings(max_examples=50)
@given(grids())
def test_painting_gives_each_patch_the_cell_around_its_centre(grid):
    numbers = np.arange(np.prod(grid.counts)).reshape(grid.counts)
    painted = grid.paint(numbers)
    assert painted.shape == grid.shape
    # A centre may lie on the line between two cells: one of the pixels around it is the patch's.
    found = np.zeros(grid.counts, bool)
    for y in (np.floor, np.ceil):
        for x in (np.floor, np.ceil):
            rows, columns = y(grid.centres[..., 0]).astype(int), x(grid.centres[..., 1]).astype(int)
            found |= painted[rows, columns] == numbers
    assert found.all()


def test_centres_are_at_pixel_centres():
    # Four pixels 0...3: the middle is 1.5.
    np.testing.assert_array_equal(PatchGrid((4, 4), 4).centres, [[[1.5, 1.5]]])
    np.testing.assert_array_equal(PatchGrid((4, 7), 4).centres, [[[1.5, 1.5], [1.5, 4.5]]])


@pytest.mark.parametrize("size", [0, -3, 9])
def test_impossible_size_is_named(size):
    with pytest.raises(ValueError, match=f"size is {size}"):
        _ = PatchGrid((8, 20), size).counts


def test_wrong_shapes_are_named():
    grid = PatchGrid((8, 20), 4)
    with pytest.raises(ValueError, match=r"image has shape \(20, 8\)"):
        grid.extract(np.zeros((20, 8), np.float32))
    with pytest.raises(ValueError, match=r"values has shape \(5, 2\)"):
        grid.paint(np.zeros((5, 2)))


@pytest.mark.parametrize("scale", [1.0, 0.5, 0.31])
def test_shares_are_means_over_the_patches(scale):
    """Also of a map of lower resolution: pixels whose centres lie in the patch."""
    grid = PatchGrid((120, 150), 48)
    shape = tuple(round(n * scale) for n in grid.shape)
    values = np.random.default_rng(0).random(shape)
    found = shares(values, grid)
    assert found.shape == grid.counts
    factor = np.array(shape) / np.array(grid.shape)
    y, x = ((np.arange(n) + 0.5) / f for n, f in zip(shape, factor, strict=True))
    for index in np.ndindex(grid.counts):
        top, left = grid.corners[index]
        rows, columns = (y > top) & (y < top + 48), (x > left) & (x < left + 48)
        assert found[index] == pytest.approx(values[np.ix_(rows, columns)].mean(), abs=0.02)
    np.testing.assert_allclose(shares(np.ones(shape, bool), grid), 1)


@pytest.mark.parametrize(
    ("shape", "period", "wanted", "expected"),
    [
        ((1024, 1024), 12.0, 0, 128),
        ((1024, 1024), 40.0, 0, 200),  # five periods
        ((200, 500), 12.0, 0, 96),  # eight whole periods in half the shorter side
        ((128, 128), 25.0, 0, 75),  # not quite four periods: whole ones in seven tenths of the side
        ((1024, 1024), 12.0, 77, 77),
        ((60, 500), 12.0, 77, 60),
        ((1024, 1024), None, 0, 128),
        ((90, 90), None, 0, 45),
    ],
)
def test_patch_size(shape, period, wanted, expected):
    lattice = None if period is None else Lattice((period, 0.0), (0.0, period), period, 1.0)
    assert patch_size(shape, lattice, wanted) == expected


@pytest.mark.parametrize(
    ("wanted", "made_for", "expected"),
    # What was asked for; what it was made for, if it holds 2.5 periods; no smaller than patches can be.
    [(77, 64, 77), (0, 64, 64), (0, 38, 38), (0, 37, 128), (0, 0, 128), (0, 500, 300)],
)
def test_patches_of_the_size_that_a_classifier_was_made_for(wanted, made_for, expected):
    lattice = Lattice((15.0, 0.0), (0.0, 15.0), 15.0, 1.0)
    assert patch_size((300, 360), lattice, wanted, made_for) == expected
    assert patch_size((300, 360), None, 0, 16) == 32
