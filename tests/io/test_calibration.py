import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from napari_hrstem_defects.io.calibration import (
    beside,
    from_xml,
    implausible,
    is_reciprocal,
    nm_per_unit,
    pixel_size,
)

UNITS = {
    1e9: ["m"],
    1e7: ["cm"],
    1e6: ["mm"],
    2.54e7: ["inch"],
    1e3: ["um", "µm", "μm", "\\u00B5m", "micron", "Microns", "[u_m]", b"\xb5m"],
    1.0: ["nm", "nm\x00", b"nm", "n_m", "[n_m]", "nanometer", "nanometers"],
    0.1: ["A", "Å", "\u212b", "\\u00C5", "Angstrom", "[Å]", "A\u030a"],
    1e-3: ["pm"],
}


@pytest.mark.parametrize(("unit", "nm"), [(unit, nm) for nm, units in UNITS.items() for unit in units])
def test_units(unit, nm):
    assert nm_per_unit(unit) == nm


@pytest.mark.parametrize("unit", ["", "px", "pixel", "1/nm", "eV", "s", None, 3])
def test_no_length(unit):
    assert nm_per_unit(unit) is None
    assert pixel_size(1.0, 1.0, unit).nm is None


def test_square_pixels_say_nothing():
    assert pixel_size("0.2", "0.2", "Å") == (0.02, (), "")
    assert pixel_size(-2e-11, 2e-11, "m") == (0.02, (), "")
    assert pixel_size(None, 20, "pm") == (0.02, (), "")
    assert pixel_size(20, 0.2, "pm", "Å") == (pytest.approx(0.02), (), "")


def test_anisotropic_pixels_keep_their_area():
    size, notices, _ = pixel_size(0.01, 0.04, "nm")
    assert size == pytest.approx(0.02)
    assert "not square (0.01 × 0.04 nm, y × x)" in notices[0]


@pytest.mark.parametrize("dpi", [1, 72, 96, 300, 1200, 9600, 30_000, 99_000])
def test_printing_resolutions_are_no_pixel_sizes(dpi):
    size, notices, reciprocal = pixel_size(1 / dpi, 1 / dpi, "inch")
    assert size is None
    assert not reciprocal
    assert "not used" in notices[0]


@pytest.mark.parametrize("value", [0, math.nan, math.inf, "wide", None])
def test_nonsense_is_unknown(value):
    assert pixel_size(value, value, "nm")[0] is None


@given(st.floats(1e-3, 2.4), st.sampled_from(["m", "um", "nm", "Å", "pm"]))
def test_every_unit_comes_back_in_nm(size, unit):
    stated = size / nm_per_unit(unit)
    assume(not math.isclose(stated, 1, rel_tol=1e-6))  # of files without a calibration
    assert pixel_size(stated, stated, unit)[0] == pytest.approx(size, rel=1e-8)


RECIPROCAL = (
    "1/nm|1 / nm|nm^-1|nm-1|nm⁻¹|[n_m^-1]|[1/n_m]|1/Å|1/A|Å^-1|1/m|1/µm|/nm|1/(nm)|cycles/nm|per nm|reciprocal nm|mrad|"
    "rad|[mrad]|deg|degrees|°|1/px|$nm^{-1}$|Å$^{-1}$|nm**-1|inverse nm|1/nanometer"
)


@pytest.mark.parametrize("unit", [*RECIPROCAL.split("|"), b"1/nm"])
def test_units_of_diffraction_patterns(unit):
    assert is_reciprocal(unit)
    found = pixel_size(0.01, 0.01, unit)
    assert found.nm is None
    assert found.reciprocal
    assert pixel_size(0.01, 0.01, "nm", unit).reciprocal


@pytest.mark.parametrize(
    "unit", ["nm", "m", "Å", "", None, "px", "s", "1/s", "eV", "counts", "a.u.", "1", "-1", 1.0]
)
def test_units_of_other_things(unit):
    assert not is_reciprocal(unit)


def test_metres_that_must_be_reciprocal():
    # 0.1 1/nm = 1e8 1/m, written by TIA without its exponent.
    assert pixel_size(1e8, 1e8, "m").reciprocal == "1/m"
    # An uncalibrated pixel of 1 m is none.
    assert pixel_size(1, 1, "m").nm is None
    assert not pixel_size(1, 1, "m").reciprocal


@pytest.mark.parametrize(
    ("size", "period", "fine"), [(0.02, 12, True), (0.01, 4.9, False), (0.5, 11, False), (1, 5, True)]
)
def test_period_of_a_lattice(size, period, fine):
    sentence = implausible(period, size)
    assert (sentence is None) == fine
    if sentence:
        assert f"{size * period:.3g} nm" in sentence


@pytest.mark.parametrize(
    "text",
    [
        '<Metadata><BinaryResult><PixelSize><X unit="m" unitPrefixPower="1">2e-11</X><Y unit="m">2e-11</Y></PixelSize>'
        "</BinaryResult></Metadata>",
        '\x00<?xml version="1.0"?><a:M xmlns:a="x"><a:pixelSize>'
        "<a:x><a:numericValue>2E-11</a:numericValue><a:unit><a:c>m"
        "</a:c></a:unit></a:x></a:pixelSize></a:M>\r\n\x00",
        "<J><LengthPerPixel><X>0.02</X><Y>0.02</Y></LengthPerPixel></J>",
        "<J><PixelSize><Width>2e-11</Width><Height>2e-11</Height></PixelSize></J>",
        '<J><PixelSize unit="nm">0.02</PixelSize></J>',
    ],
)
def test_xml(text):
    assert pixel_size(*from_xml(text)).nm == pytest.approx(0.02)


@pytest.mark.parametrize(
    "text", ["", "no XML", "<a>", "<a/>", "<a><PixelSize/></a>", "<a><PixelSize>wide</PixelSize></a>"]
)
def test_xml_without_a_size(text):
    assert from_xml(text) is None


HITACHI = "[SemImageFile]\r\nInstructName=HD-2700\r\nDataSize=640x480\r\nPixelSize=0.02\r\n"
JEOL = "$CM_FORMAT JEOL-SEM\r\n$CM_FULL_SIZE 640 512\r\n$$SM_MICRON_BAR 100\r\n$$SM_MICRON_MARKER 2nm\r\n"
TESCAN = "[MAIN]\r\nDevice=TESCAN\r\nPixelSizeX=2e-11\r\nPixelSizeY=2e-11\r\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("image.txt", HITACHI),
        ("IMAGE.TXT", HITACHI.replace("Sem", "Tem")),
        ("image.txt", JEOL),
        ("image.Txt", JEOL.replace("2nm", "0.002um")),
        ("image.hdr", TESCAN),
        ("image-tif.hdr", TESCAN),
    ],
)
@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_text_beside_an_image(tmp_path, name, text, encoding):
    (tmp_path / name).write_bytes(text.encode(encoding))
    (tmp_path / "other.txt").write_text(HITACHI.replace("0.02", "0.03"))
    assert beside(tmp_path / "image.tif", 640).nm == pytest.approx(0.02)


@pytest.mark.parametrize("text", [HITACHI, JEOL])
def test_text_about_an_image_of_another_size(tmp_path, text):
    (tmp_path / "image.txt").write_text(text)
    found = beside(tmp_path / "image.tif", 320)
    assert found.nm is None
    assert "640 px wide, not 320" in found.notices[0]


def test_texts_that_say_nothing(tmp_path):
    (tmp_path / "image.txt").write_text(
        "My notes: PixelSize=3, looks good\n$$SM_MICRON_BAR 0\n$$SM_MICRON_MARKER 2nm\n"
    )
    assert beside(tmp_path / "image.tif", 320) == (None, (), "")
    assert beside(tmp_path / "missing" / "image.tif", 320) == (None, (), "")
