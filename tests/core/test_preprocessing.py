"""Band-pass, resampling and contrast normalisation against scipy.ndimage and known positions."""

import numpy as np
import pytest
from scipy import ndimage

from napari_hrstem_defects.core.preprocessing import (
    BAND_REACH,
    CLIP_SHARE,
    ENOUGH,
    even_sample,
    gaussian,
    prepare,
    resize_linear,
)
from napari_hrstem_defects.core.recipe import PreprocessParams

from .helpers import crystal, noisy, vectors

PARAMS = PreprocessParams()


def lattice_image(shape=(150, 181), period=12.0, sigma=0.3):
    return noisy(crystal(shape, vectors("hexagonal", period, 11.0)), sigma)


def band_pass(image, period, params=PARAMS):
    """The definition, in double precision and real space."""
    low, high = (
        ndimage.gaussian_filter(image.astype(float), s * period, mode="reflect", truncate=8)
        for s in (params.band_low, params.band_high)
    )
    return low - high


def test_band_pass_is_the_difference_of_gaussians():
    image = lattice_image()
    prepared = prepare(image, 12.0, PreprocessParams(px_per_period=16))
    assert prepared.values.shape == image.shape
    assert prepared.period_px == 12.0
    expected = band_pass(image, 12.0)
    # The sampled Gaussian of 1.44 px and its transform agree to a few parts in 10⁴.
    np.testing.assert_allclose(prepared.band, expected, atol=2e-3 * expected.std())


def test_contrast_is_normalised_as_the_formula_says():
    image = lattice_image()
    image[:, 90:] *= 0.2
    params = PreprocessParams(px_per_period=16, contrast_window=2.0)
    band = band_pass(image, 12.0, params)
    # What is brighter than nearly all counts as if it were not: one foreign column sets no contrast.
    power = np.minimum(np.abs(band), np.quantile(np.abs(band), CLIP_SHARE)) ** 2
    v = ndimage.gaussian_filter(power, 24.0, mode="reflect", truncate=8)
    expected = band / np.sqrt(v)
    values = prepare(image, 12.0, params).values
    np.testing.assert_allclose(values, expected, atol=1e-2)
    assert values.dtype == np.float32


@pytest.mark.parametrize("sigma", [0.0, 1.5, 3.0, 17.0])
@pytest.mark.parametrize("shape", [(40, 61), (90, 33)])
def test_gaussian_is_ndimages(sigma, shape):
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    expected = ndimage.gaussian_filter(image.astype(float), sigma, mode="reflect", truncate=10)
    # A narrower Gaussian is sampled too coarsely in real space for the comparison to be close.
    np.testing.assert_allclose(gaussian(image, sigma), expected, atol=2e-4 if sigma < 2 else 2e-5)


@pytest.mark.parametrize("period", [13.7, 24.0, 50.0])
def test_places_survive_resampling(period):
    """A blob's centre is found where `from_frame` says, and is brought back by `to_frame_points`."""
    y, x = np.indices((320, 413))
    for point in ((160.3, 149.6), (121.0, 222.75)):
        blob = np.exp(-((y - point[0]) ** 2 + (x - point[1]) ** 2) / (2 * (0.25 * period) ** 2))
        prepared = prepare(blob.astype(np.float32), period, PARAMS)
        peak = np.unravel_index(prepared.band.argmax(), prepared.band.shape)
        window = prepared.band[peak[0] - 2 : peak[0] + 3, peak[1] - 2 : peak[1] + 3].astype(float)
        found = np.array(peak) + paraboloid_peak(window)
        expected = prepared.from_frame(np.array(point))
        assert np.hypot(*(found - expected)) < 0.1
        np.testing.assert_allclose(prepared.to_frame_points(expected), point, atol=1e-9)
        back = prepared.to_frame(prepared.band)
        centre = ndimage.center_of_mass(np.maximum(back - 0.3 * back.max(), 0))
        assert np.hypot(*(np.array(centre) - point)) < 0.1 * period / 8


def paraboloid_peak(window):
    """Offset of the peak of a quadratic fitted to the logarithm of a 5 × 5 window."""
    dy, dx = np.mgrid[-2:3, -2:3]
    keep = window > 0.2 * window.max()
    y, x, z = dy[keep], dx[keep], np.log(window[keep])
    c = np.linalg.lstsq(np.stack([y * y, x * x, y * x, y, x, np.ones_like(y)], 1), z, rcond=None)[0]
    return -np.linalg.solve([[2 * c[0], c[2]], [c[2], 2 * c[1]]], c[3:5])


@pytest.mark.parametrize("period", [4.0, 7.9, 8.0])
def test_never_resampled_up(period):
    image = lattice_image(period=period)
    prepared = prepare(image, period, PARAMS)
    assert prepared.values.shape == image.shape
    np.testing.assert_array_equal(prepared.scale, 1)


def test_resampled_to_the_pixels_per_period_asked_for():
    image = lattice_image((400, 300), 20.0)
    for wanted in (4.0, 8.0, 12.5):
        prepared = prepare(image, 20.0, PreprocessParams(px_per_period=wanted))
        # Give or take a few pixels: sizes that transform fast are taken.
        assert prepared.period_px == pytest.approx(wanted, rel=0.04)
        assert prepared.period_px == pytest.approx(20 * prepared.scale[0])
        assert prepared.scale[1] == pytest.approx(prepared.scale[0], rel=0.04)
        assert prepared.to_frame(prepared.values).shape == (400, 300)
        for name in ("band", "valid"):
            assert getattr(prepared, name).shape == prepared.values.shape


@pytest.mark.parametrize(("gain", "offset"), [(1e-3, 0.0), (1.0, 50.0), (-250.0, 1e4)])
def test_gain_and_offset_do_not_matter(gain, offset):
    image = lattice_image(period=20.0)
    plain = prepare(image, 20.0, PARAMS)
    other = prepare((gain * image.astype(float) + offset).astype(np.float32), 20.0, PARAMS)
    # Inverted contrast only changes the sign.
    np.testing.assert_allclose(other.values, np.sign(gain) * plain.values, atol=5e-3)
    np.testing.assert_allclose(other.band, gain * plain.band, atol=5e-3 * abs(gain) * plain.band.std())


def test_valid_is_out_of_reach_of_what_was_filled_in():
    seen = np.ones((160, 200), bool)
    seen[60:80, 100:130] = False
    prepared = prepare(lattice_image((160, 200), 16.0), 16.0, PARAMS, seen)
    distance = ndimage.distance_transform_edt(seen)
    points = prepared.to_frame_points(np.argwhere(~prepared.valid))
    assert ndimage.map_coordinates(distance, points.T, order=1).max() < BAND_REACH * 16 + 2
    points = prepared.to_frame_points(np.argwhere(prepared.valid))
    assert ndimage.map_coordinates(distance, points.T, order=1).min() > BAND_REACH * 16 - 2
    assert prepare(lattice_image(), 12.0, PARAMS).valid.all()


def test_strokes_of_letters_are_out_of_reach_and_dead_lines_filled():
    stroke, line = np.ones((160, 200), bool), np.ones((160, 200), bool)
    stroke[60:100, 96:104] = line[:, 98:102] = False
    for seen, valid in ((stroke, False), (line, True)):
        assert prepare(lattice_image((160, 200), 16.0), 16.0, PARAMS, seen).valid.all() == valid


def test_resize_linear_is_exact_on_a_plane():
    y, x = np.indices((20, 30)) + 0.5
    plane = (2 * y / 20 - 3 * x / 30).astype(np.float32)
    out = resize_linear(plane, (47, 95))
    y, x = np.indices((47, 95)) + 0.5
    inner = np.s_[3:-3, 3:-3]
    np.testing.assert_allclose(out[inner], (2 * y / 47 - 3 * x / 95)[inner], atol=1e-5)
    assert plane.min() <= out.min()
    assert out.max() <= plane.max()
    np.testing.assert_array_equal(resize_linear(plane, (20, 30)), plane)


def test_flat_image_does_not_divide_by_zero():
    prepared = prepare(np.full((64, 64), 0.5, np.float32), 9.0, PARAMS)
    for name in ("values", "band"):
        assert np.isfinite(getattr(prepared, name)).all()


@pytest.mark.parametrize("shape", [(7,), (300, 400), (100, 5000), (1500, 2100)])
def test_sample_of_a_large_map_is_even_and_that_of_a_small_one_whole(shape):
    values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    sample = even_sample(values)
    assert np.isin(sample, values).all()
    assert len(np.unique(sample)) == len(sample)
    assert min(values.size, ENOUGH // 2) <= len(sample) <= 4 * ENOUGH
    shares = np.quantile(sample, (0.16, 0.5, 0.84)) / values.size
    assert shares == pytest.approx((0.16, 0.5, 0.84), abs=0.02 if values.size > 100 else 0.2)
