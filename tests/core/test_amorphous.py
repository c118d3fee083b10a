"""Amorphous areas whose edge is known."""

import numpy as np
import pytest

from napari_hrstem_defects.core.amorphous import variance_map
from napari_hrstem_defects.core.preprocessing import prepare
from napari_hrstem_defects.core.recipe import PreprocessParams, VarianceParams
from napari_hrstem_defects.core.variance import local_variance

from .helpers import crystal, glass, noisy, vectors

PERIOD = 14.0
SHAPE = (320, 400)
EDGE = 210
BASIS = vectors("oblique", PERIOD, 8.0)
PATCH = np.s_[8:72, 8:72]


def mapped(image, **params):
    prepared = prepare(image, PERIOD, PreprocessParams())
    return prepared, variance_map(prepared, PATCH, VarianceParams(**params))


def half_glass(contrast=0.06, sigma=0.03, speckle=2.5):
    image = crystal(SHAPE, BASIS)
    image[:, EDGE:] = image.mean() + contrast * glass(SHAPE, speckle)[:, EDGE:]
    return noisy(image, sigma)


@pytest.mark.parametrize(("contrast", "sigma"), [(0.0, 0.02), (0.06, 0.03), (0.08, 0.06)])
def test_edge_lies_within_half_a_period(contrast, sigma):
    prepared, found = mapped(half_glass(contrast, sigma))
    variance, amorphous = found.in_frame(prepared)
    assert variance.shape == amorphous.shape == SHAPE
    assert amorphous.dtype == bool
    edges = np.count_nonzero(~amorphous, axis=1)
    assert np.median(edges) == pytest.approx(EDGE, abs=PERIOD / 2)
    assert np.abs(edges - EDGE).max() < 1.25 * PERIOD
    assert amorphous[:, EDGE + 15 :].mean() > 0.99
    assert amorphous[:, : EDGE - 20].mean() < 1e-3


def test_island_of_glass():
    image = crystal(SHAPE, BASIS)
    y, x = np.indices(SHAPE)
    truth = np.hypot(y - 170, x - 230) < 70
    image[truth] = image.mean() + 0.05 * glass(SHAPE, 2.0)[truth]
    prepared, found = mapped(noisy(image, 0.03))
    amorphous = found.in_frame(prepared)[1]
    overlap = 2 * (amorphous & truth).sum() / (amorphous.sum() + truth.sum())
    assert overlap > 0.95


@pytest.mark.parametrize("contrast", [0.3, 0.5])
def test_a_dimmer_crystal_is_not_amorphous(contrast):
    """Its variance is 9 % or 25 % of the model patch's, but its lattice is there."""
    image = crystal(SHAPE, BASIS)
    image[:, EDGE:] *= contrast
    _, found = mapped(noisy(image, 0.03))
    assert not found.amorphous.any()


@pytest.mark.parametrize("sigma", [0.0, 0.1, 0.4])
def test_perfect_crystal_is_not_amorphous(sigma):
    assert not mapped(noisy(crystal(SHAPE, BASIS), sigma))[1].amorphous.any()


def test_lively_glass_is_left_to_the_severity():
    """With the crystal's own variance it may be another lattice out of focus: not for this step."""
    image = crystal(SHAPE, BASIS)
    image[:, EDGE:] = image.mean() + 1.2 * image.std() * glass(SHAPE, 2.5)[:, EDGE:]
    assert mapped(noisy(image, 0.03))[1].amorphous.mean() < 0.02


def test_variance_is_that_of_the_band_in_a_box():
    prepared, found = mapped(half_glass(), window_px=28, window_periods=1.0)
    # 28 px of the frame are 16 px where the period of 14 px has 8.
    expected = local_variance(prepared.band, round(28 * float(prepared.scale.mean())))
    np.testing.assert_allclose(found.variance, expected, rtol=1e-6)
    prepared, found = mapped(half_glass(), window_px=3, window_periods=3.0)
    expected = local_variance(prepared.band, round(3 * prepared.period_px))
    np.testing.assert_allclose(found.variance, expected, rtol=1e-6)


def test_no_share_of_variance_marks_nothing():
    assert not mapped(half_glass(), fraction=0.0)[1].amorphous.any()


def test_variance_in_the_frame_is_never_negative():
    prepared, found = mapped(half_glass(0.0, 0.0))
    assert found.in_frame(prepared)[0].min() >= 0


@pytest.mark.parametrize("noise", [1.0, 3.0])
def test_a_crystal_that_only_all_windows_together_show(noise):
    """A tenth of the contrast, noise up to three times as strong: too faint for any window by itself."""
    image = crystal((480, 560), BASIS)
    image[:, EDGE:] *= 0.1
    sigma = np.where(np.arange(560) < EDGE, 0.03, noise * image[:, EDGE:].std())
    image += np.random.default_rng(3).normal(0, sigma, image.shape)
    _, found = mapped(image.astype(np.float32))
    assert not found.amorphous.any()


def test_noise_alone_is_no_crystal():
    image = crystal((480, 560), BASIS)
    image[:, EDGE:] = image.mean() + 0.05 * glass((480, 560), 0.0)[:, EDGE:]
    _, found = mapped(noisy(image, 0.01))
    assert found.amorphous.mean() > 0.9 * (1 - EDGE / 560)
