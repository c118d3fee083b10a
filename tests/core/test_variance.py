"""Box variance against a direct loop, and areas that have lost their order."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import napari_hrstem_defects as hd
from napari_hrstem_defects.core import variance as module
from napari_hrstem_defects.core.pipeline import analyze
from napari_hrstem_defects.core.variance import local_variance

from .helpers import crystal, dice, glass, noisy, vectors


def loop(image: np.ndarray, window: int) -> np.ndarray:
    before = window // 2
    padded = np.pad(image.astype(float), (before, window - 1 - before), mode="symmetric")
    out = np.empty(image.shape)
    for y, x in np.ndindex(image.shape):
        out[y, x] = padded[y : y + window, x : x + window].var()
    return out


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 14), st.integers(1, 12), st.integers(1, 12), st.integers(0, 99))
def test_direct_loop(window, n_y, n_x, seed):
    image = np.random.default_rng(seed).normal(5.0, 2.0, (n_y, n_x)).astype(np.float32)
    np.testing.assert_allclose(local_variance(image, window), loop(image, window), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("window", [1, 5, 20, 21])
def test_strips_leave_no_seam(monkeypatch, window):
    image = np.random.default_rng(1).normal(size=(60, 33))
    whole = local_variance(image, window)
    monkeypatch.setattr(module, "_STRIP_ROWS", 7)
    np.testing.assert_allclose(local_variance(image, window), whole, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("offset", [0.0, 1e4, -1e7])
def test_large_offset_does_not_matter(offset):
    image = np.random.default_rng(2).normal(size=(64, 64))
    expected = loop(image, 9)
    np.testing.assert_allclose(local_variance(image + offset, 9), expected, rtol=1e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32, np.float64])
def test_types(dtype):
    image = np.random.default_rng(3).integers(0, 200, (40, 40)).astype(dtype)
    out = local_variance(image, 20)
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, loop(image, 20), rtol=1e-5)


def test_constant_is_zero_and_never_negative():
    assert not local_variance(np.full((30, 40), 7.3), 20).any()
    step = np.zeros((64, 64))
    step[:, 32:] = 1e6
    out = local_variance(step, 20)
    assert out.min() >= 0
    # Half of the box on either side of a step of height h: variance h²/4.
    assert out[32, 32] == pytest.approx(1e12 / 4)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="window"):
        local_variance(np.zeros((4, 4)), 0)
    with pytest.raises(ValueError, match="pixels"):
        local_variance(np.zeros(4), 3)


# What has lost its order ---------------------------------------------------------------------------------------


def lost(image):
    found = analyze(hd.Micrograph(image), stop="variance")
    return found.amorphous


SHAPE = (256, 288)
Y, X = np.indices(SHAPE)
BASIS = vectors("oblique", 12.0, 8.0)


@pytest.mark.parametrize("sigma", [0.02, 0.15, 0.4])
def test_a_crystal_has_lost_nothing(sigma):
    assert not lost(noisy(crystal(SHAPE, BASIS), sigma)).any()


@pytest.mark.parametrize("contrast", [0.05, 0.15])
def test_amorphous_half(contrast):
    image = crystal(SHAPE, BASIS)
    truth = X >= 170
    image[truth] = image.mean() + contrast * glass(SHAPE, 2.0)[truth]
    found = lost(noisy(image, 0.03))
    assert dice(found, truth) > 0.95
    assert not found[:, :150].any()


@pytest.mark.parametrize("edge", [150, 200])
def test_a_crystal_beside_vacuum_stays_crystal(edge):
    image = np.where(edge > X, crystal(SHAPE, BASIS), 0.0)
    found = lost(noisy(image, 0.05))
    assert dice(found, edge <= X) > 0.95
    assert not found[:, : edge - 12].any()


def test_one_foreign_column_is_no_amorphous_area():
    image = crystal(SHAPE, BASIS)
    image += 3 * np.exp(-((Y - 120) ** 2 + (X - 140) ** 2) / (2 * 2.5**2))
    assert not lost(noisy(image, 0.05)).any()
