"""Box variance against a direct loop; what is amorphous is tested with whole analyses."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_hrstem_defects.core import variance as module
from napari_hrstem_defects.core.variance import local_variance


def loop(image: np.ndarray, window: int) -> np.ndarray:
    before = window // 2
    padded = np.pad(image.astype(float), (before, window - 1 - before), mode="symmetric")
    out = np.empty(image.shape)
    for y, x in np.ndindex(image.shape):
        out[y, x] = padded[y : y + window, x : x + window].var()
    return out


@settings(max_examples=30)
@given(
    st.integers(1, 14),
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
    st.integers(0, 99),
    st.sampled_from(["u1", "u2", "i4", "f4", "f8"]),
)
def test_direct_loop(window, shape, seed, dtype):
    image = np.random.default_rng(seed).normal(50.0, 10.0, shape).astype(dtype)
    found = local_variance(image, window)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, loop(image, window), rtol=2e-5, atol=2e-4)


@pytest.mark.parametrize("window", [1, 5, 20, 21])
def test_strips_leave_no_seam(monkeypatch, window):
    image = np.random.default_rng(1).normal(size=(60, 33))
    whole = local_variance(image, window)
    monkeypatch.setattr(module, "_STRIP_ROWS", 7)
    np.testing.assert_allclose(local_variance(image, window), whole, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("offset", [1e4, -1e7])
def test_large_offset_does_not_matter(offset):
    image = np.random.default_rng(2).normal(size=(64, 64))
    expected = loop(image, 9)
    np.testing.assert_allclose(local_variance(image + offset, 9), expected, rtol=1e-5)


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
