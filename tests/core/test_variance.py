"""Box variance against a direct loop."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_hrstem_defects.core import variance as module
from napari_hrstem_defects.core.variance import amorphous_box, local_variance


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


def test_amorphous_box():
    variance = np.full((8, 8), 1.2, np.float32)
    variance[:4, :4] = 2.4
    variance[1, 1] = 1.8  # smallest in the model patch: the limit is 1.5
    variance[6, 6] = 1.6
    mask = amorphous_box(variance, (slice(0, 4), slice(0, 4)), 1.2)
    expected = variance < 1.5
    np.testing.assert_array_equal(mask, expected)
    assert mask.sum() == 8 * 8 - 16 - 1


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="window"):
        local_variance(np.zeros((4, 4)), 0)
    with pytest.raises(ValueError, match="pixels"):
        local_variance(np.zeros(4), 3)
    with pytest.raises(ValueError, match="model_patch"):
        amorphous_box(np.zeros((4, 4)), (slice(9, 12), slice(0, 4)))
    with pytest.raises(ValueError, match="ratio"):
        amorphous_box(np.zeros((4, 4)), (slice(0, 4), slice(0, 4)), 0.0)
