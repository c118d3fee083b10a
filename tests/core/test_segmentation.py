"""Calibration on known mixtures, hysteresis against scikit-image, masks drawn by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.filters import apply_hysteresis_threshold
from skimage.morphology import disk

from napari_hrstem_defects.core.segmentation import (
    MIN_SIGMA,
    Null,
    calibrate,
    dilate,
    fuse,
    hysteresis,
    localise,
    without_splinters,
)

from .helpers import glass


def normal(mean, sigma, count, seed):
    return np.random.default_rng(seed).normal(mean, sigma, count).astype(np.float32)


@pytest.mark.parametrize("sigma", [0.15, 0.4])
@pytest.mark.parametrize("mean", [-3.0, 0.0, 2.0])
def test_normal_population(mean, sigma):
    null = calibrate(normal(mean, sigma, 200_000, 1), normal(mean, sigma, 5000, 2))
    assert null.mode == pytest.approx(mean, abs=0.15 * sigma)
    # Half widths are read off in bins of an eighth of a standard deviation.
    assert null.sigma == pytest.approx(sigma, rel=0.2)
    assert null.patch_median == pytest.approx(mean, abs=0.1 * sigma)
    # 99 % quantile of a normal distribution: 2.326 σ.
    assert null.impurity == pytest.approx(2.326 * sigma, rel=0.1)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.8])
@pytest.mark.parametrize("seed", range(3))
def test_the_patchs_population_is_found_however_small(share, seed):
    """A second grain may hold most of the area: what the patch says decides."""
    count = 100_000
    mixture = np.concatenate(
        [normal(0.0, 0.2, int(count * (1 - share)), seed), normal(1.6, 0.25, int(count * share), seed + 50)]
    )
    null = calibrate(mixture, normal(0.05, 0.2, 4000, seed + 9))
    assert null.mode == pytest.approx(0.0, abs=0.08)
    assert null.sigma == pytest.approx(0.2, rel=0.3)
    other = calibrate(mixture, normal(1.6, 0.25, 4000, seed + 9))
    assert other.mode == pytest.approx(1.6, abs=0.1)


def test_an_untypical_patch_climbs_to_the_crowd():
    """The patch lies in the tail of one broad population: the mode is the population's."""
    null = calibrate(normal(0.0, 0.3, 100_000, 0), normal(-0.5, 0.25, 3000, 1))
    assert null.mode == pytest.approx(0.0, abs=0.1)
    assert null.mode - null.patch_median == pytest.approx(0.5, abs=0.1)


def test_defects_hardly_widen_the_null():
    clean = normal(0.0, 0.2, 90_000, 0)
    plain = calibrate(clean, normal(0.0, 0.2, 3000, 1))
    dirty = calibrate(
        np.concatenate([clean, np.random.default_rng(2).uniform(0.4, 4, 10_000).astype(np.float32)]),
        normal(0.0, 0.2, 3000, 1),
    )
    assert dirty.sigma == pytest.approx(plain.sigma, rel=0.1)
    assert dirty.mode == pytest.approx(plain.mode, abs=0.05)


@pytest.mark.parametrize("value", [0.0, -4.2])
def test_constant_distances(value):
    null = calibrate(np.full(5000, value, np.float32), np.full(100, value, np.float32))
    assert null.mode == pytest.approx(value, abs=0.1)
    assert null.sigma >= MIN_SIGMA


def test_scale_and_shift():
    values, patch = normal(0.0, 0.3, 50_000, 3), normal(0.0, 0.3, 2000, 4)
    plain, moved = calibrate(values, patch), calibrate(values + 5, patch + 5)
    assert moved.mode - plain.mode == pytest.approx(5, abs=0.02)
    assert moved.sigma == pytest.approx(plain.sigma, rel=0.02)


@settings(max_examples=40, deadline=None)
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


def test_hysteresis_without_diagonals_is_scikit_images():
    """Where blobs touch along edges only, both agree exactly."""
    severity = np.kron(glass((12, 15), 1.0, 1), np.ones((8, 8))).astype(np.float32) * 3
    severity = ndimage.gaussian_filter(severity, 3.0)
    found = hysteresis(severity, 1.0, 2.5)
    np.testing.assert_array_equal(found, apply_hysteresis_threshold(severity, 1.0, 2.5))
    assert found.any()
    assert not found.all()


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
    excess = np.maximum(1 - np.hypot(y, x) / 30, 0)
    null = Null(0.0, 0.1, 0.0, 0.0)
    severity = (np.log1p(excess) / 0.1).astype(np.float32)
    mask = severity > 0.5
    found = localise(mask, severity, null, window_px=100, share=0.5)
    np.testing.assert_array_equal(found, excess > 0.5)
    assert localise(mask, severity, null, 100, 0.0) is mask
    assert not localise(np.zeros_like(mask), severity, null, 100, 0.5).any()


def test_localise_looks_nearby_only():
    """A weak defect far from a strong one is not drawn in."""
    severity = np.zeros((40, 100), np.float32)
    severity[18:22, 10:14] = 22
    severity[18:22, 80:84] = 5
    null = Null(0.0, 0.1, 0.0, 0.0)
    found = localise(severity > 4, severity, null, window_px=30, share=0.5)
    np.testing.assert_array_equal(found, severity > 4)
    found = localise(severity > 4, severity, null, window_px=200, share=0.5)
    np.testing.assert_array_equal(found, severity > 10)


def test_fuse_keeps_a_fault_and_drops_the_rim():
    """A disk of glass with the rim of severity that goes around it, and a fault that runs into it."""
    y, x = np.indices((200, 200))
    radius = np.hypot(y - 100, x - 120)
    amorphous = radius < 30
    rim = (radius < 38) & ~amorphous
    fault = (np.abs(y - 100) < 4) & (x < 120)
    labels = fuse(rim | fault, amorphous, reach_px=10)
    assert labels.dtype == np.uint8
    assert (labels[amorphous] == 2).all()
    assert not (labels[~amorphous] == 2).any()
    # The fault stays marked up to the edge of the glass.
    assert (labels[fault & ~amorphous] == 1).all()
    # The rim is gone wherever no fault is near.
    away = rim & (np.abs(y - 100) > 25)
    assert not labels[away].any()
    assert np.count_nonzero(labels == 1) < 1.3 * np.count_nonzero(fault & ~amorphous)


def test_fuse_keeps_what_lies_apart():
    symmetry = np.zeros((100, 100), bool)
    symmetry[10:20, 10:20] = True
    amorphous = np.zeros((100, 100), bool)
    amorphous[60:90, 60:90] = True
    labels = fuse(symmetry, amorphous, 8)
    np.testing.assert_array_equal(labels, symmetry + 2 * amorphous.astype(int))
    np.testing.assert_array_equal(fuse(symmetry, ~amorphous & False, 8), symmetry)


def test_fuse_drops_what_is_inside():
    amorphous = np.zeros((100, 100), bool)
    amorphous[30:70, 30:70] = True
    symmetry = np.zeros((100, 100), bool)
    symmetry[27:73, 27:73] = True
    np.testing.assert_array_equal(fuse(symmetry, amorphous, 5), 2 * amorphous)


@pytest.mark.parametrize("reach", [0, 1, 4.4, 11])
def test_dilate_lies_between_the_disk_and_the_square(reach):
    mask = np.zeros((60, 60), bool)
    mask[30, 30] = mask[31, 28] = True
    found = dilate(mask, reach)
    radius = round(reach)
    inside = ndimage.binary_dilation(mask, disk(radius)) if radius else mask
    outside = ndimage.binary_dilation(mask, np.ones((2 * radius + 1,) * 2))
    assert not (inside & ~found).any()
    assert not (found & ~outside).any()
    assert found.sum() <= 1.15 * inside.sum() + 4


def test_small_amorphous_areas_must_show_at_their_edge():
    amorphous = np.zeros((80, 120), bool)
    amorphous[10:20, 10:20] = amorphous[10:20, 60:70] = True
    amorphous[40:75, 20:90] = True
    severity = np.zeros(amorphous.shape, np.float32)
    severity[8:12, 72] = 5.0
    kept = without_splinters(amorphous, severity, 200.0, 4.0)
    expected = amorphous.copy()
    expected[10:20, 10:20] = False
    np.testing.assert_array_equal(kept, expected)
