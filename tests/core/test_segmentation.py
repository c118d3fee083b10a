"""Hysteresis, drawing in and priorities against definitions and masks made by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.filters import apply_hysteresis_threshold

from napari_hrstem_defects.core.segmentation import dilate, hysteresis, join, localise

from .helpers import glass


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.floats(0, 3), st.floats(0, 4), st.floats(0.5, 4))
def test_hysteresis_is_scikit_images(seed, low, step, blur):
    severity = (3 * glass((60, 71), blur, seed)).astype(np.float32)
    params = (low, low + step)
    # Both connect along diagonals only where scikit-image's own labelling is asked to: compare on its terms.
    found = hysteresis(severity, *params)
    labels, _ = ndimage.label(severity > low, np.ones((3, 3)))
    expected = np.isin(labels, np.setdiff1d(np.unique(labels[severity > params[1]]), 0))
    np.testing.assert_array_equal(found, expected)
    # With edges only: a subset.
    assert not (apply_hysteresis_threshold(severity, low, params[1]) & ~found).any()


def test_hysteresis_by_hand():
    severity = np.array([[5, 5, 0, 5], [0, 0, 5, 0], [0, 0, 0, 8], [5, 0, 0, 0]], np.float32)
    found = hysteresis(severity, 4, 7)
    expected = [[1, 1, 0, 1], [0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]]
    np.testing.assert_array_equal(found, np.array(expected, bool))
    assert not hysteresis(severity, 4, 8).any()
    assert not hysteresis(severity, 8, 8).any()


def test_localise_halves_a_cone():
    """Excess that falls linearly from a point: what is above a share of the peak is a disk of known radius."""
    y, x = np.indices((81, 81)) - 40
    excess = np.maximum(1 - np.hypot(y, x) / 30, 0).astype(np.float32)
    mask = excess > 0.05
    np.testing.assert_array_equal(localise(mask, excess, 0.5, reach_px=60), excess >= 0.5)
    assert localise(mask, excess, 0.0, 60) is mask
    assert not localise(np.zeros_like(mask), excess, 0.5, 60).any()


def test_localise_looks_nearby_only():
    """A weak defect beyond reach of a strong one is not drawn in."""
    excess = np.zeros((40, 200), np.float32)
    excess[20, 30], excess[20, 44], excess[20, 40] = 100, 1, 1
    found = localise(excess > 0, excess, 0.5, reach_px=12)
    assert np.flatnonzero(found[20]).tolist() == [30, 44]


def test_priorities():
    """Not assessed before amorphous before symmetry."""
    symmetry, amorphous, valid_mask = (
        np.array(list(bits), bool) for bits in zip(*np.ndindex(2, 2, 2), strict=True)
    )
    found = join(symmetry[None], amorphous[None], valid_mask[None])
    assert found.dtype == np.uint8
    wanted = [(2 if a else int(s)) if j else 0 for s, a, j in np.ndindex(2, 2, 2)]
    assert found[0].tolist() == wanted


@pytest.mark.parametrize("reach", [0.4, 0.5, 1, 4.4, 11])
def test_dilate_by_distance(reach):
    mask = np.zeros((60, 50), bool)
    places = np.array([[30, 30], [31, 28], [2, 49], [59, 0]])
    mask[tuple(places.T)] = True
    y, x = np.indices(mask.shape)
    distance = np.min([np.hypot(y - a, x - b) for a, b in places], axis=0)
    np.testing.assert_array_equal(dilate(mask, reach), distance <= reach if reach >= 0.5 else mask)
    assert not dilate(np.zeros_like(mask), reach).any()
