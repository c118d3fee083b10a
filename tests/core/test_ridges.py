"""Straight lines in maps of white noise: found where they are, and nowhere else."""

import numpy as np
import pytest

from napari_hrstem_defects.core.recipe import SegmentParams, SymmetryParams
from napari_hrstem_defects.core.ridges import SHORT, _lines, line_severity

from .helpers import dice, glass

PERIOD = 8.0
NEEDED = SymmetryParams().line_significance


def across(shape, point, angle_deg):
    """Distance of each pixel from the line through `point` along (sin, cos)."""
    t = np.radians(angle_deg)
    y, x = np.indices(shape)
    return (y - point[0]) * np.cos(t) - (x - point[1]) * np.sin(t)


@pytest.mark.parametrize("angle", [0, 15, 37, 45, 70, 90, 135, 171])
@pytest.mark.parametrize("seed", range(2))
def test_weak_line_is_found_in_its_place(angle, seed):
    """Half a period wide and nowhere as high as a defect must be somewhere."""
    shape = (256, 230)
    distance = across(shape, (120, 118), angle)
    line = 5.5 * np.exp(-0.5 * (distance / (0.5 * PERIOD)) ** 2)
    assert line.max() < SegmentParams().threshold
    found = line_severity((glass(shape, 0.0, seed) + line).astype(np.float32), PERIOD)
    assert found.shape == shape
    assert found.dtype == np.float32
    # Nearly all of it but the ends, and nothing further away than a period or so.
    inner = np.zeros(shape, bool)
    inner[24:-24, 24:-24] = True
    assert np.mean(found[inner & (np.abs(distance) < 1)] > 0.8 * NEEDED) > 0.95
    assert np.median(found[inner & (np.abs(distance) < 1)]) > NEEDED
    assert np.abs(distance[found > 0.8 * NEEDED]).max() < 1.25 * PERIOD
    assert abs(distance[np.unravel_index(found.argmax(), shape)]) < 0.5 * PERIOD


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("blur", [0.0, 3.0])
def test_no_line_in_noise(seed, blur):
    found = line_severity(glass((256, 256), blur, seed).astype(np.float32), PERIOD)
    assert found.max() < 0.8 * NEEDED


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("height", [10.0, 300.0])
def test_a_point_does_not_shine(seed, height):
    shape = (256, 256)
    y, x = np.indices(shape)
    radius = np.hypot(y - 128, x - 120)
    severity = glass(shape, 0.0, seed) + height * np.exp(-0.5 * (radius / PERIOD) ** 2)
    found = line_severity(severity.astype(np.float32), PERIOD)
    assert found[radius > 3 * PERIOD].max() < 0.8 * NEEDED


@pytest.mark.parametrize("along", [0, 1])
def test_steps_and_slopes_are_no_lines(along):
    place = np.indices((256, 256))[along]
    for background in (3.0 * (place > 128), 0.02 * place, 3.0 * np.sin(place / 60)):
        found = line_severity((glass((256, 256), 0.0, 1) + background).astype(np.float32), PERIOD)
        assert found[16:-16, 16:-16].max() < NEEDED


def test_a_wide_band_is_no_line():
    place = np.indices((256, 256))[1]
    band = 3.5 * ((place > 90) & (place < 90 + 8 * PERIOD))
    found = line_severity((glass((256, 256), 0.0, 1) + band).astype(np.float32), PERIOD)
    assert found.max() < NEEDED


def test_turning_the_map_turns_the_lines():
    distance = across((200, 200), (90, 110), 30)
    severity = (glass((200, 200), 0.0) + 5.5 * np.exp(-0.5 * (distance / 4) ** 2)).astype(np.float32)
    found = line_severity(severity, PERIOD)
    for turned in (np.flipud, np.fliplr, np.transpose):
        other = line_severity(np.ascontiguousarray(turned(severity)), PERIOD)
        assert dice(turned(found) > 4, other > 4) > 0.9


@pytest.mark.parametrize("shape", [(33, 40), (64, 300), (97, 131)])
@pytest.mark.parametrize("period", [3.0, 8.0, 16.0])
def test_any_shape(shape, period):
    found = line_severity(glass(shape, 0.0).astype(np.float32), period)
    assert found.shape == shape
    assert np.isfinite(found).all()


def test_nothing_in_nothing():
    assert not (line_severity(np.zeros((90, 90), np.float32), PERIOD) > 0).any()


@pytest.mark.parametrize("angle", [0, 33, 90, 142])
def test_fainter_but_longer_line(angle):
    """Too faint piece by piece, beyond doubt as a whole."""
    shape = (500, 480)
    distance = across(shape, (250, 240), angle)
    line = 3.2 * np.exp(-0.5 * (distance / (0.5 * PERIOD)) ** 2)
    severity = (1.1 * glass(shape, 6.0, 1) + line).astype(np.float32)
    inner = np.zeros(shape, bool)
    inner[60:-60, 60:-60] = True
    on = inner & (np.abs(distance) < 1)
    assert np.median(_lines(severity, PERIOD, SHORT)[on]) < 0.75 * NEEDED
    found = line_severity(severity, PERIOD)
    assert np.median(found[on]) > 0.8 * NEEDED
    assert found[np.abs(distance) > 3 * PERIOD].max() < 0.75 * NEEDED
