"""Box variance against a direct loop; what is amorphous or empty is tested with whole analyses."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import napari_hrstem_defects as hd
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


def columns(shape: tuple[int, int], period: float) -> np.ndarray:
    y, x = np.indices(shape)
    squares = (x % period - period / 2) ** 2 + (y % period - period / 2) ** 2
    return np.exp(-squares / (2 * (period / 6) ** 2))


@pytest.mark.parametrize("rim", [1.0, 1.6], ids=["plain", "bright rim"])
@pytest.mark.parametrize("periods", [5, 8])
def test_hole_is_amorphous_and_nothing_around_it_is_a_lattice(periods, rim):
    """The edge of a hole, a step, is the strongest thing in the band-passed image."""
    period, noise = 12, 0.03
    y, x = np.indices((320, 320))
    angle = np.arctan2(y - 150, x - 170)
    distance = np.hypot(y - 150, x - 170) - periods * period / 2 * (1 + 0.15 * np.sin(3 * angle))
    image = columns(distance.shape, period)
    image = np.select([distance < 0, distance < 1.2 * period], [-1.0, rim * image], image)
    image += np.random.default_rng(0).normal(0, noise, image.shape)
    analysis = hd.analyze(hd.Micrograph(image.astype(np.float32)))
    assert len(analysis.domains.domains) == 1
    assert np.mean(analysis.labels[distance < -4] == 2) > 0.98
    assert not analysis.labels[distance > 4 * period].any()
    (hole,) = [region for region in analysis.regions if region.label == 2]
    assert hole.type == "amorphous"
    assert not hole.at_rim
    assert analysis.results["preprocess"].field.strength.max() <= 1
    assert analysis.valid_mask[distance < 2 * period].all()


def test_weak_film_is_no_vacuum():
    period = 12
    image = columns((360, 360), period)
    image[180:] *= 0.15
    image += np.random.default_rng(0).normal(0, 0.01, image.shape)
    analysis = hd.analyze(hd.Micrograph(image.astype(np.float32)))
    assert not (analysis.labels[220:] == 2).any()


def test_vacancy_in_an_image_of_seven_periods():
    """Windows of several periods would hold most of it."""
    period, at = 18, 54
    image = columns((128, 128), period)
    image[at : at + period, at : at + period] = 0
    image += np.random.default_rng(0).normal(0, 0.05, image.shape)
    analysis = hd.analyze(hd.Micrograph(image.astype(np.float32)))
    y, x = np.indices(image.shape)
    distance = np.hypot(y - at - period / 2, x - at - period / 2) / period
    assert analysis.labels[distance < 0.3].all()
    assert not analysis.labels[distance > 1.5].any()


def test_particle_on_a_crystal_beside_vacuum_is_a_domain():
    y, x = np.indices((128, 128))
    image = columns((128, 128), 13)
    turn = np.deg2rad(25)
    across, down = x - 64, y - 50
    u, v = across * np.cos(turn) + down * np.sin(turn), down * np.cos(turn) - across * np.sin(turn)
    particle = 0.6 * np.exp(-((u % 9 - 4.5) ** 2 + (v % 9 - 4.5) ** 2) / (2 * 1.5**2))
    image[:80] = np.where((abs(across) < 24) & (y > 36), particle, 0)[:80]
    image += np.random.default_rng(0).normal(0, 0.02, image.shape)
    analysis = hd.analyze(hd.Micrograph(image.astype(np.float32)))
    assert [domain.relation for domain in analysis.domains.domains] == ["reference", "rotated"]
    assert np.mean(analysis.labels[(abs(across) < 18) & (y > 42) & (y < 72)] == 1) > 0.9
    assert (analysis.labels[:28] == 2).all()
    assert not analysis.labels[94:].any()
