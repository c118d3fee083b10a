"""Pixel sizes: units as files spell them, and what is plausible for a micrograph."""

from __future__ import annotations

import math
import re
import unicodedata
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

#: Nanometres per unit, by the unit's name in lower case ("Å" and "A" are both "a").
_NM_PER_UNIT = {
    **dict.fromkeys(("m", "meter", "metre"), 1e9),
    "dm": 1e8,
    **dict.fromkeys(("cm", "centimeter", "centimetre"), 1e7),
    **dict.fromkeys(("inch", "in", '"'), 2.54e7),
    **dict.fromkeys(("mm", "millimeter", "millimetre"), 1e6),
    **dict.fromkeys(("um", "micron", "micrometer", "micrometre"), 1e3),
    **dict.fromkeys(("nm", "nanometer", "nanometre"), 1.0),
    **dict.fromkeys(("a", "å", "ang", "angstrom", "ångström", "ångstrom"), 0.1),
    **dict.fromkeys(("pm", "picometer", "picometre"), 1e-3),
}
#: Units of angles, in which diffraction patterns are calibrated.
_ANGLES = ("rad", "radian", "mrad", "milliradian", "urad", "deg", "degree", "°")

#: Shortest and longest period (nm) of a lattice that a micrograph can show: below the shortest distance of atoms, above
#: the cells of complex oxides and superlattices.
MIN_PERIOD_NM, MAX_PERIOD_NM = 0.05, 5.0
#: A period takes two pixels at least. Placeholders (1 µm) and resolutions of screens and printers lie above.
MAX_PIXEL_NM = MAX_PERIOD_NM / 2
#: Smallest pixel (nm) taken for a measured one: a hundredth of the sharpest probe ever made.
MIN_PIXEL_NM = 1e-4
#: A "length" of a pixel above (nm; 1 km) is a number of reciprocal metres whose unit got lost, as TIA writes it.
_RECIPROCAL_NM = 1e12
#: Sides of a pixel that differ by more than this give a notice.
_ANISOTROPY = 0.01

#: Height, width and unit (or units, y and x) of a pixel.
Sides = tuple[Any, Any, Any] | tuple[Any, Any, Any, Any]


class PixelSize(NamedTuple):
    """Pixel size as stated by a file.

    Attributes
    ----------
    nm : float or None
        Edge in nm; None if unknown or not plausible.
    notices : tuple of str
        Notices for the user, one sentence each.
    reciprocal : str
        Unit of the pixels of a diffraction pattern; empty for real space.
    """

    nm: float | None = None
    notices: tuple[str, ...] = ()
    reciprocal: str = ""


#: Of a file without a pixel size.
UNKNOWN = PixelSize()


def _plain(unit: Any) -> str:
    if isinstance(unit, bytes):
        try:
            unit = unit.decode("utf-8")
        except UnicodeDecodeError:
            unit = unit.decode("latin-1")
    if not isinstance(unit, str):
        return ""
    # ImageJ writes non-ASCII letters as escapes ("\u00B5m"), NCEM brackets and underscores ("[n_m]"), HyperSpy formulas
    # of LaTeX ("$nm^{-1}$").
    text = re.sub(r"\\u([0-9a-fA-F]{4})", lambda match: chr(int(match.group(1), 16)), unit)
    text = unicodedata.normalize("NFKC", text).replace("μ", "u").replace("−", "-").lower()
    return re.sub(r"[\[\]_\x00\s${}]", "", text)


def nm_per_unit(unit: Any) -> float | None:
    """Nanometres in one `unit`; None if it is no length (pixels, 1/nm, nothing at all)."""
    text = _plain(unit)
    factor = _NM_PER_UNIT.get(text)
    return _NM_PER_UNIT.get(text[:-1]) if factor is None and text.endswith("s") else factor


def is_reciprocal(unit: Any) -> bool:
    """Whether a unit is one of a diffraction pattern: reciprocal lengths and angles."""
    text = _plain(unit)
    if text in _ANGLES or text.removesuffix("s") in _ANGLES:
        return True
    match = re.fullmatch(
        r"(?:1|cyc\w*|lines?|lp)?(?:/|per)(.+)|(?:reciprocal|inverse)(.+)|(.+?)(?:\^|\*\*)?\(?-1\)?", text
    )
    inner = "" if match is None else next(filter(None, match.groups())).strip("()")
    return inner in ("px", "pixel", "pixels") or nm_per_unit(inner) is not None


def pixel_size(y: Any, x: Any, unit: Any, unit_x: Any = None) -> PixelSize:
    """Size of a pixel from its two sides as a file states them.

    Parameters
    ----------
    y, x : float
        Height and width of a pixel; one of them may be None.
    unit, unit_x : str
        Unit of `y` and, where it differs, of `x`.

    Returns
    -------
    PixelSize
        Its length is the geometric mean of the sides, which keeps areas right.
    """
    units = (unit, unit if unit_x is None else unit_x)
    for text in units:
        if is_reciprocal(text):
            return PixelSize(reciprocal=text.decode("utf-8", "replace") if isinstance(text, bytes) else text)
    stated = [
        (number, factor)
        for number, factor in zip(map(_positive, (y, x)), map(nm_per_unit, units), strict=True)
        if number is not None and factor is not None
    ]
    if not stated:
        return UNKNOWN
    if all(math.isclose(number, 1, rel_tol=1e-6) for number, _ in stated):
        return PixelSize(
            None,
            (
                f"The file states a pixel of 1 {_plain(unit)}, as files without a calibration do; it was not used, "
                "give the pixel size by hand.",
            ),
        )
    sides = [number * factor for number, factor in stated]
    size = math.sqrt(sides[0]) * math.sqrt(sides[-1])
    if size > _RECIPROCAL_NM:
        return PixelSize(reciprocal="1/m")
    if not MIN_PIXEL_NM <= size <= MAX_PIXEL_NM:
        return PixelSize(
            None,
            (
                f"The file states a pixel of {size:.3g} nm, which cannot show a lattice; it was not used, give the "
                "pixel size by hand.",
            ),
        )
    # Files keep decimal numbers and their reciprocals, both rounded; digits beyond those of a float32 are noise.
    size = float(f"{size:.9g}")
    if abs(math.log(sides[0] / sides[-1])) > _ANISOTROPY:
        notice = (
            f"The pixels are not square ({sides[0]:.4g} × {sides[-1]:.4g} nm, y × x); "
            f"their geometric mean, {size:.4g} nm, was used."
        )
        return PixelSize(size, (notice,))
    return PixelSize(size)


def _positive(value: Any) -> float | None:
    """Absolute value of a number; None for others."""
    try:
        number = abs(float(value))
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) and number > 0 else None


def size_of_axes(steps: Sequence[Any], units: Sequence[Any]) -> PixelSize:
    """Size of a pixel from the steps and units of the axes ``(..., y, x)`` of an array."""
    if not len(steps) == len(units) >= 2:
        return UNKNOWN
    step = _positive(steps[-1])
    if step not in (None, 1) and not any(map(_plain, units[-2:])):
        notice = f"The file states a pixel of {step:.4g} without a unit; it was not used, give the pixel size by hand."
        return PixelSize(None, (notice,))
    return pixel_size(*steps[-2:], *units[-2:])


def implausible(period_px: float, pixel_size_nm: float) -> str | None:
    """Sentence about a pixel size that makes the period of a lattice one that no crystal has; None if it is plausible.

    Examples
    --------
    >>> implausible(12.0, 0.02) is None
    True
    >>> implausible(12.0, 1.0)
    'A pixel of 1 nm makes the lattice period 12 nm, which no crystal shows (0.05 to 5 nm); it was not used, ...'
    """
    period = period_px * pixel_size_nm
    if MIN_PERIOD_NM <= period <= MAX_PERIOD_NM:
        return None
    return (
        f"A pixel of {pixel_size_nm:.3g} nm makes the lattice period {period:.3g} nm, which no crystal shows "
        f"({MIN_PERIOD_NM:g} to {MAX_PERIOD_NM:g} nm); it was not used, give the pixel size by hand."
    )


def from_xml(text: str) -> Sides | None:
    """Sides of a pixel in the XML of Velox, EPU and other programs of Thermo Fisher, or of JEOL."""
    start = text.find("<")
    try:
        root = ElementTree.fromstring(text[start:].strip("\x00 \r\n\t\x01")) if start >= 0 else None
    except (ElementTree.ParseError, ValueError):
        return None
    for element in () if root is None else root.iter():
        name = _local(element)
        if name not in ("pixelsize", "lengthperpixel"):
            continue
        # Of JEOL's length the unit is not stated; all files known hold nanometres.
        usual = "nm" if name == "lengthperpixel" else "m"
        parts = {_local(child): _quantity(child, usual) for child in element}
        y, x = (parts.get(a, parts.get(b)) for a, b in (("y", "height"), ("x", "width")))
        both = _quantity(element, usual)
        y, x = y or x or both, x or y or both
        if y is not None and x is not None:
            return y[0], x[0], y[1], x[1]
    return None


def _local(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2].lower().replace("_", "")


def _quantity(element: ElementTree.Element, unit: str) -> tuple[float, str] | None:
    """Number and unit of an element or of what is inside it."""
    number = None
    for inner in element.iter():
        unit = inner.get("unit") or unit
        text = (inner.text or "").strip()
        try:
            number = float(text) if number is None else number
        except ValueError:
            if nm_per_unit(text) is not None or is_reciprocal(text):
                unit = text
    return None if number is None else (number, unit)


def from_text(text: str) -> Sides | None:
    """Sides of a pixel in the text that Tescan, Hitachi and JEOL keep in a tag or in a sidecar file."""
    values = {
        match[1].lower(): match[2].strip()
        for match in re.finditer(r"^[ \t\x00]*\$*([A-Za-z_]+)[ \t]*[=:\s][ \t]*(.+?)[\s\x00]*$", text, re.M)
    }
    if "sm_micron_bar" in values and "sm_micron_marker" in values:
        marker = re.match(r"([\d.]+)\s*(\S+)", values["sm_micron_marker"])
        try:
            length = float(marker[1]) / float(values["sm_micron_bar"]) if marker else None
        except (ValueError, ZeroDivisionError):
            return None
        return (length, length, marker[2]) if marker else None
    # Where no unit is written, Tescan and Thermo Fisher mean metres and Hitachi nanometres.
    y, x = (
        _split(values.get(f"pixelsize{axis}") or values.get(f"pixel{side}"), "m")
        for axis, side in (("y", "height"), ("x", "width"))
    )
    if y is None and x is None and "imagefile]" in text.lower():
        y = x = _split(values.get("pixelsize"), "nm")
    y, x = y or x, x or y
    return None if y is None or x is None else (y[0], x[0], y[1], x[1])


def _split(text: str | None, unit: str) -> tuple[str, str] | None:
    """Number and unit of a text, `unit` where it names none."""
    match = re.fullmatch(r"([-+\d.eE]+)\s*(\S*)", text or "")
    return None if match is None else (match[1], match[2] or unit)


def beside(path: Path, width_px: int) -> PixelSize:
    """Pixel size from the text file that a microscope of Hitachi, JEOL or Tescan wrote next to an image.

    Parameters
    ----------
    path : Path
        Of the image.
    width_px : int
        Width of the image; a text about an image of another width does not count.
    """
    names = {f"{path.stem}{end}".lower() for end in (".txt", ".hdr", "-tif.hdr", "-png.hdr")}
    names |= {f"{path.name}{end}".lower() for end in (".txt", ".hdr")}
    try:
        found = sorted(other for other in path.parent.iterdir() if other.name.lower() in names)
    except OSError:
        return UNKNOWN
    for other in found:
        try:
            raw = other.read_bytes()[: 1 << 20]
        except OSError:
            continue
        utf16 = raw[:2] in (b"\xff\xfe", b"\xfe\xff")
        text = raw.decode("utf-16" if utf16 else "latin-1", "replace")
        sides = from_text(text)
        if sides is None:
            continue
        size = re.search(r"(?:DataSize\s*=|\$CM_FULL_SIZE)\s*(\d+)", text)
        if size is not None and int(size[1]) != width_px:
            notice = f"{other.name} is about an image {size[1]} px wide, not {width_px}; its pixel size was not used."
            return PixelSize(None, (notice,))
        return pixel_size(*sides)
    return UNKNOWN
