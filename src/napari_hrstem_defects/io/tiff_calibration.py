"""Pixel size of a series of a TIFF file, wherever its writer put it."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from typing import Any

import tifffile

from napari_hrstem_defects.io.calibration import UNKNOWN, PixelSize, Sides, from_text, from_xml, pixel_size

# Tags of a TIFF written by Gatan DigitalMicrograph: unit and size of a pixel.
_GATAN_UNIT_X, _GATAN_UNIT_Y, _GATAN_SCALE_X, _GATAN_SCALE_Y = 65003, 65004, 65009, 65010
# Tags of Thermo Fisher (S-FEG, Helios), the description, and from where on tags are those of makers.
_FEI, _DESCRIPTION, _PRIVATE = (34680, 34682), 270, 32768
# Types of tags (bytes, text, anything) and lengths of those that may be text or XML.
_TEXTS, _TEXT_BYTES = (1, 2, 7), range(10, 1 << 20)
_OLYMPUS, _ZEISS, _TVIPS, _MAKE = 33560, 34118, 37706, 271
# Values of the tag ResolutionUnit and the length they stand for.
_RESOLUTION_UNITS = {2: "inch", 3: "cm", 4: "mm", 5: "um"}


def find_pixel_size(tif: tifffile.TiffFile, index: int) -> PixelSize:
    """Size of a pixel of the series `index`, from the first place that has one: its own tags, never those of another.

    The tags XResolution and ResolutionUnit come last and only count where they are no printing resolution.
    """
    for find in _PLACES:
        sides = find(tif, index)
        if sides is not None:
            found = pixel_size(*sides)
            if found.nm is not None or found.reciprocal or (found.notices and find is not _resolution):
                return found
    return UNKNOWN


def _tags(tif: tifffile.TiffFile, index: int) -> tifffile.TiffTags:
    return tif.series[index].keyframe.tags


def _values(tif: tifffile.TiffFile, index: int, code: int) -> dict[str, Any]:
    value = _tags(tif, index).valueof(code)
    return value if isinstance(value, dict) else {}


def _ome(tif: tifffile.TiffFile, index: int) -> Sides | None:
    if not tif.is_ome or not tif.ome_metadata:
        return None
    try:
        root = ElementTree.fromstring(tif.ome_metadata)
    except ElementTree.ParseError:
        return None
    # An image is found by its size, and among those of one size by its place: previews come and go.
    sizes = [_size(series) for series in tif.series]
    wanted = sizes[index]
    pixels = [element for element in root.iter() if element.tag.rpartition("}")[2] == "Pixels"]
    same = [element for element in pixels if (element.get("SizeY"), element.get("SizeX")) == wanted]
    place = sizes[:index].count(wanted)
    if place >= len(same):
        return None
    stated = same[place]
    y, x = stated.get("PhysicalSizeY"), stated.get("PhysicalSizeX")
    if y is None and x is None:
        return None
    # The OME schema's default unit is the micrometre.
    return y, x, stated.get("PhysicalSizeYUnit", "um"), stated.get("PhysicalSizeXUnit", "um")


def _size(series: Any) -> tuple[str, str]:
    lengths = dict(zip(series.axes, series.shape, strict=True))
    return str(lengths.get("Y")), str(lengths.get("X"))


def _imagej(tif: tifffile.TiffFile, index: int) -> Sides | None:
    if not tif.is_imagej or not tif.imagej_metadata:
        return None
    unit = tif.imagej_metadata.get("unit")
    y, x = _pixels_per_unit(tif, index) or (math.inf, math.inf)
    return (1 / y, 1 / x, str(unit)) if unit else None


def _fei(tif: tifffile.TiffFile, index: int) -> Sides | None:
    for code in _FEI:
        values = _values(tif, index, code)
        for section in ("Scan", "EScan", "IScan", "ScanSettings", "Image"):
            part = values.get(section)
            if isinstance(part, dict) and (part.get("PixelHeight") or part.get("PixelWidth")):
                return part.get("PixelHeight"), part.get("PixelWidth"), "m"
    return None


def _jeol(tif: tifffile.TiffFile, index: int) -> Sides | None:
    """JEOL's SightX: the resolution of the camera, and what magnified it, in the description."""
    text = _text(tif, index, _DESCRIPTION)
    if "JEOL" not in _text(tif, index, _MAKE) or "TemReporter" not in text:
        return None
    values = dict(re.findall(r"<(EosMode|ModeString|SelectorValue)>\s*([^<]*?)\s*</", text))
    if values.get("ModeString", "").upper().startswith("DIFF"):
        return 1, 1, "1/nm"
    sides = _resolution(tif, index)
    try:
        magnification = float(values.get("SelectorValue", ""))
    except ValueError:
        return None
    if sides is None or magnification <= 0 or values.get("EosMode") != "eosTEM":
        return None
    return sides[0] / magnification, sides[1] / magnification, sides[2]


def _written(tif: tifffile.TiffFile, index: int) -> Sides | None:
    """Text and XML in private tags and the description, of any program."""
    tags = [tag for tag in _tags(tif, index) if tag.dtype in _TEXTS and tag.valuebytecount in _TEXT_BYTES]
    codes = [
        tag.code for tag in tags if tag.code >= _PRIVATE or (tag.code == _DESCRIPTION and not tif.is_ome)
    ]
    texts = [_text(tif, index, code) for code in codes]
    return next(filter(None, (find(text) for text in texts if text for find in (from_xml, from_text))), None)


def _text(tif: tifffile.TiffFile, index: int, code: int) -> str:
    """A tag as it stands in the file, not as tifffile parses it."""
    tag = _tags(tif, index).get(code)
    if tag is None:
        return ""
    file = tif.series[index].keyframe.parent.filehandle
    file.seek(tag.valueoffset)
    raw = file.read(tag.valuebytecount)
    return raw.decode("utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8", "replace")


def _zeiss(tif: tifffile.TiffFile, index: int) -> Sides | None:
    values = _values(tif, index, _ZEISS)
    for key in ("ap_image_pixel_size", "ap_pixel_size"):
        entry = values.get(key)
        if entry and len(entry) >= 3:
            return entry[1], entry[1], str(entry[2])
    return None


def _gatan(tif: tifffile.TiffFile, index: int) -> Sides | None:
    tags = _tags(tif, index)
    y, x = tags.valueof(_GATAN_SCALE_Y), tags.valueof(_GATAN_SCALE_X)
    unit = tags.valueof(_GATAN_UNIT_X)
    if x is None or not isinstance(unit, str):
        return None
    return y, x, str(tags.valueof(_GATAN_UNIT_Y, unit)), unit


def _olympus(tif: tifffile.TiffFile, index: int) -> Sides | None:
    values = _values(tif, index, _OLYMPUS)
    y, x = values.get("pixelsizey"), values.get("pixelsizex")
    return (y, x, "m") if x else None


def _tvips(tif: tifffile.TiffFile, index: int) -> Sides | None:
    values = _values(tif, index, _TVIPS)
    y, x = values.get("PixelSizeY"), values.get("PixelSizeX")
    return (y, x, "nm") if x else None


def _resolution(tif: tifffile.TiffFile, index: int) -> Sides | None:
    unit = _RESOLUTION_UNITS.get(int(_tags(tif, index).valueof("ResolutionUnit", 2)))
    resolution = _pixels_per_unit(tif, index)
    if unit is None or resolution is None:
        return None
    return 1 / resolution[0], 1 / resolution[1], unit


def _pixels_per_unit(tif: tifffile.TiffFile, index: int) -> tuple[float, float] | None:
    """Tags YResolution and XResolution as numbers, None unless both are positive."""
    numbers = []
    for name in ("YResolution", "XResolution"):
        numerator, denominator = _tags(tif, index).valueof(name, (0, 1))
        if not numerator or not denominator:
            return None
        numbers.append(numerator / denominator)
    return numbers[0], numbers[1]


_PLACES: tuple[Callable[[tifffile.TiffFile, int], Sides | None], ...] = (
    _ome,
    _imagej,
    _fei,
    _zeiss,
    _gatan,
    _olympus,
    _tvips,
    _jeol,
    _written,
    _resolution,
)
