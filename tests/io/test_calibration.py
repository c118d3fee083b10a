import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_hrstem_defects.io.calibration import nm_per_unit, pixel_size


@pytest.mark.parametrize(
    ("unit", "nm"),
    [
        ("m", 1e9),
        ("cm", 1e7),
        ("mm", 1e6),
        ("inch", 2.54e7),
        ("um", 1e3),
        ("µm", 1e3),
        ("μm", 1e3),
        ("\\u00B5m", 1e3),
        ("micron", 1e3),
        ("Microns", 1e3),
        ("nm", 1.0),
        ("nm\x00", 1.0),
        (b"nm", 1.0),
        ("nanometers", 1.0),
        ("A", 0.1),
        ("Å", 0.1),
        ("\u212b", 0.1),
        ("\\u00C5", 0.1),
        ("Angstrom", 0.1),
        ("pm", 1e-3),
    ],
)
def test_units(unit, nm):
    assert nm_per_unit(unit) == nm


@pytest.mark.parametrize("unit", ["", "px", "pixel", "1/nm", "eV", "s", None, 3])
def test_no_length(unit):
    assert nm_per_unit(unit) is None
    assert pixel_size(1.0, 1.0, unit) == (None, ())


def test_square_pixels_say_nothing():
    assert pixel_size("0.2", "0.2", "Å") == (0.02, ())
    assert pixel_size(-2e-11, 2e-11, "m") == (0.02, ())


def test_one_side_is_enough():
    assert pixel_size(None, 20, "pm") == (0.02, ())


def test_anisotropic_pixels_keep_their_area():
    size, notices = pixel_size(0.01, 0.04, "nm")
    assert size == pytest.approx(0.02)
    assert "not square (0.01 × 0.04 nm, y × x)" in notices[0]


def test_sides_in_different_units():
    assert pixel_size(20, 0.2, "pm", "Å") == (pytest.approx(0.02), ())


@pytest.mark.parametrize("dpi", [72, 96, 150, 300, 600, 1200, 9600])
def test_printing_resolutions_are_no_pixel_sizes(dpi):
    size, notices = pixel_size(1 / dpi, 1 / dpi, "inch")
    assert size is None
    assert "ignored" in notices[0]


@pytest.mark.parametrize("value", [0, math.nan, math.inf, "wide", None])
def test_nonsense_is_unknown(value):
    assert pixel_size(value, value, "nm")[0] is None


@given(st.floats(1e-3, 10.0), st.sampled_from(["m", "um", "nm", "Å", "pm"]))
def test_every_unit_comes_back_in_nm(size, unit):
    stated = size / nm_per_unit(unit)
    assert pixel_size(stated, stated, unit)[0] == pytest.approx(size, rel=1e-8)
