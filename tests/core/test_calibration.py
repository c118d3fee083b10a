"""Null and false marks against populations of known mean and spread."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage, stats

from napari_hrstem_defects.core.calibration import (
    LEVEL_WINDOW,
    QUANTILES,
    contrast_level,
    false_marks_of,
    severity_of,
    standardise,
)
from napari_hrstem_defects.core.preprocessing import Prepared

from .helpers import crystal, vectors

SHAPE = (300, 320)
EVERYWHERE = np.ones(SHAPE, bool)
LEVEL = np.zeros(SHAPE, np.float32)


def normal(mean, sigma, seed=0):
    return (mean + sigma * np.random.default_rng(seed).standard_normal(SHAPE)).astype(np.float32)


@given(st.floats(1e-6, 10), st.floats(1, 1e6))
def test_severity_and_false_marks_are_inverse(marks, area):
    assert false_marks_of(severity_of(marks, area), area) == pytest.approx(marks, rel=1e-9)


@given(st.floats(1e-6, 5), st.floats(1, 1e5))
def test_fewer_false_marks_and_more_trials_ask_for_more(marks, area):
    assert severity_of(marks / 2, area) > severity_of(marks, area)
    assert severity_of(marks, 2 * area) > severity_of(marks, area)
    # Twice the area, twice the marks: the same severity.
    assert severity_of(2 * marks, 2 * area) == pytest.approx(severity_of(marks, area))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3])
def test_defects_hardly_move_the_null(share):
    """Quantile q of all is quantile q / (1 − share) of the undisturbed: the null moves by what follows from that."""
    values, disturbed = normal(2.0, 0.5), np.zeros(SHAPE, bool)
    disturbed[: round(share * SHAPE[0])] = True
    values[disturbed] += 5
    z = standardise(values, LEVEL, EVERYWHERE, 0.0, 4.0)
    low, high = stats.norm.ppf(np.array(QUANTILES) / (1 - share))
    usual = stats.norm.ppf(QUANTILES)
    spread = (high - low) / (usual[1] - usual[0])
    middle = high - usual[1] * spread
    assert abs(middle) < 0.55
    assert 1 <= spread + 1e-9 < 1.3
    assert z[~disturbed].mean() == pytest.approx(-middle / spread, abs=0.05)
    assert z[~disturbed].std() == pytest.approx(1 / spread, abs=0.05)
    assert disturbed.sum() == 0 or np.median(z[disturbed]) > 6


def test_a_crystal_more_than_half_of_which_is_disturbed_has_the_spread_of_a_clean_one():
    values = normal(0.0, 0.2)
    values[:170] += np.linspace(0.2, 3, 170)[:, None]
    wide, narrow = (standardise(values, LEVEL, EVERYWHERE, 0.0, 4.0, ceiling=most) for most in (np.inf, 0.3))
    assert np.median(wide[100:170]) < 6 < 7 < np.median(narrow[100:170])
    assert abs(np.median(narrow[170:])) < 1
    # Where it is as even as a crystal, the ceiling changes nothing.
    even = [
        standardise(normal(0.0, 0.2), LEVEL, EVERYWHERE, 0.0, 4.0, ceiling=most) for most in (np.inf, 0.3)
    ]
    np.testing.assert_array_equal(*even)


def test_every_level_has_its_own_null():
    """Film and substrate: another mean and another spread, each at its own contrast."""
    level = np.where(np.arange(SHAPE[1]) < 150, 0.0, 2.0) * np.ones(SHAPE)
    values = np.where(level > 1, normal(5.0, 2.0), normal(-1.0, 0.1, 1))
    z = standardise(values, level, EVERYWHERE, 0.0, 4.0)
    assert z.dtype == np.float32
    for side in (level > 1, level < 1):
        assert np.median(z[side]) == pytest.approx(0, abs=0.05)
        assert z[side].std() == pytest.approx(1, abs=0.05)


def test_gradual_change_is_no_deviation():
    level = np.linspace(-1, 1, SHAPE[1]) * np.ones(SHAPE)
    z = standardise(normal(0.0, 0.3) + 3 * level, level, EVERYWHERE, 0.0, 4.0)
    inner = z[:, 60:-60]
    np.testing.assert_allclose(np.median(inner, axis=0), 0, atol=0.6)


def test_interfaces_have_a_null_of_their_own():
    away = np.abs(np.arange(SHAPE[1]) - 150) / 8.0 * np.ones(SHAPE)
    values = normal(0.0, 1.0) + 10 * np.exp(-away)
    z = standardise(values, LEVEL, EVERYWHERE, 0.0, 8.0, interface=away)
    assert np.median(z[:, 146:155]) == pytest.approx(0, abs=0.5)
    values[100:110, 145:155] += 10
    z = standardise(values, LEVEL, EVERYWHERE, 0.0, 8.0, interface=away)
    assert np.median(z[100:110, 145:155]) > 4
    assert np.median(standardise(values, LEVEL, EVERYWHERE, 0.0, 8.0)[:, 146:155]) > 4


def test_floor_and_weight_widen_the_spread():
    values = normal(0.0, 1.0)
    assert standardise(values, LEVEL, EVERYWHERE, 2.0, 4.0).std() == pytest.approx(1 / np.sqrt(5), rel=0.03)
    weight = np.where(np.arange(SHAPE[1]) < 150, 1.0, 0.25) * np.ones(SHAPE)
    z = standardise(values, LEVEL, EVERYWHERE, 0.0, 4.0, weight=weight)
    assert z[:, :150].std() == pytest.approx(2 * z[:, 150:].std(), rel=0.05)


def test_constant_map_and_nothing_to_learn_from():
    assert not standardise(np.full(SHAPE, 3.0), LEVEL, EVERYWHERE, 0.1, 4.0).any()
    assert not standardise(normal(0, 1), LEVEL, ~EVERYWHERE, 0.1, 4.0).any()


def test_null_is_taken_from_the_inside_only():
    own = np.zeros(SHAPE, bool)
    own[:, :160] = True
    values = np.where(own, normal(0.0, 1.0), 40.0)
    z = standardise(values, LEVEL, own, 0.0, 4.0)
    assert z[own].std() == pytest.approx(1, abs=0.05)
    assert np.median(z[~own]) == pytest.approx(40, rel=0.05)


def test_contrast_level_is_the_logarithm_of_power():
    band = crystal((240, 260), vectors("square", 8.0))
    band -= band.mean()
    strong = band * np.where(np.arange(260) < 130, 1.0, 3.0)
    strong[100:108, 60:68] *= 4  # one column sets no level
    prepared = Prepared(strong.astype(np.float32), strong.astype(np.float32), strong > 9, strong.shape, 8.0)
    level = contrast_level(prepared, 2)
    assert level.shape == (120, 130)
    power = np.log(ndimage.uniform_filter(band**2, 8)[120, 120])
    assert level[20, 30] == pytest.approx(power, abs=0.1)
    assert level[52, 32] == pytest.approx(power, abs=0.25)
    reach = int(LEVEL_WINDOW * 4 / 2)
    assert level[60, 65 + reach] - level[60, 65 - reach] == pytest.approx(2 * np.log(3), abs=0.15)
