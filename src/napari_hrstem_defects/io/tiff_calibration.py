"""Pixel size of a TIFF file, wherever its writer put it."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from typing import Any

import tifffile

from napari_hrstem_defects.io.calibration import pixel_size

# Tags of a TIFF written by Gatan DigitalMicrograph: unit and size of a pixel.
_GATAN_UNIT_X, _GATAN_UNIT_Y, _GATAN_SCALE_X, _GATAN_SCALE_Y = 65003, 65004, 65009, 65010
# Values of the tag ResolutionUnit and the length they stand for.
_RESOLUTION_UNITS = {2: "inch", 3: "cm", 4: "mm", 5: "um"}

#: Height, width and unit (or units, y and x) of a pixel.
Sides = tuple[Any, Any, str] | tuple[Any, Any, str, str]


def find_pixel_size(tif: tifffile.TiffFile) -> tuple[float | None, tuple[str, ...]]:
    """Edge of a pixel in nm and remarks on it, from the first place of the file that tells.

    The tags XResolution and ResolutionUnit come last and only count where they are no printing resolution:
    a pixel of 72, 96 or 300 dpi is far larger than anything a microscope records.
    """
    for find in _PLACES:
        sides = find(tif)
        if sides is not None:
            size, notices = pixel_size(*sides)
            if size is not None or (notices and find is not _resolution):
                return size, notices
    return None, ()


def _ome(tif: tifffile.TiffFile) -> Sides | None:
    if not tif.is_ome or not tif.ome_metadata:
        return None
    try:
        root = ElementTree.fromstring(tif.ome_metadata)
    except ElementTree.ParseError:
        return None
    for element in root.iter():
        if element.tag.rpartition("}")[2] == "Pixels":
            y, x = element.get("PhysicalSizeY"), element.get("PhysicalSizeX")
            if y is None and x is None:
                return None
            # The OME schema's default unit is the micrometre.
            units = element.get("PhysicalSizeYUnit", "um"), element.get("PhysicalSizeXUnit", "um")
            return y, x, *units
    return None


def _imagej(tif: tifffile.TiffFile) -> Sides | None:
    if not tif.is_imagej or not tif.imagej_metadata:
        return None
    unit = tif.imagej_metadata.get("unit")
    resolution = _pixels_per_unit(tif)
    if not unit or resolution is None:
        return None
    return 1 / resolution[0], 1 / resolution[1], str(unit)


def _fei(tif: tifffile.TiffFile) -> Sides | None:
    metadata = tif.fei_metadata or {}
    for section in ("Scan", "EScan", "ScanSettings", "Image"):
        values = metadata.get(section) or {}
        y, x = values.get("PixelHeight"), values.get("PixelWidth")
        if y or x:
            return y, x, "m"
    return None


def _zeiss(tif: tifffile.TiffFile) -> Sides | None:
    values = tif.sem_metadata or {}
    for key in ("ap_image_pixel_size", "ap_pixel_size"):
        entry = values.get(key)
        if entry and len(entry) >= 3:
            return entry[1], entry[1], str(entry[2])
    return None


def _gatan(tif: tifffile.TiffFile) -> Sides | None:
    tags = tif.pages.first.tags
    y, x = tags.valueof(_GATAN_SCALE_Y), tags.valueof(_GATAN_SCALE_X)
    unit = tags.valueof(_GATAN_UNIT_X)
    if x is None or unit is None:
        return None
    return y, x, str(tags.valueof(_GATAN_UNIT_Y, unit)), str(unit)


def _olympus(tif: tifffile.TiffFile) -> Sides | None:
    values = tif.sis_metadata or {}
    y, x = values.get("pixelsizey"), values.get("pixelsizex")
    return (y, x, "m") if x else None


def _tvips(tif: tifffile.TiffFile) -> Sides | None:
    values = tif.tvips_metadata or {}
    y, x = values.get("PixelSizeY"), values.get("PixelSizeX")
    return (y, x, "nm") if x else None


def _resolution(tif: tifffile.TiffFile) -> Sides | None:
    unit = _RESOLUTION_UNITS.get(int(tif.pages.first.tags.valueof("ResolutionUnit", 2)))
    resolution = _pixels_per_unit(tif)
    if unit is None or resolution is None:
        return None
    return 1 / resolution[0], 1 / resolution[1], unit


def _pixels_per_unit(tif: tifffile.TiffFile) -> tuple[float, float] | None:
    """Tags YResolution and XResolution as numbers, None unless both are positive."""
    numbers = []
    for name in ("YResolution", "XResolution"):
        numerator, denominator = tif.pages.first.tags.valueof(name, (0, 1))
        if not numerator or not denominator:
            return None
        numbers.append(numerator / denominator)
    return numbers[0], numbers[1]


_PLACES: tuple[Callable[[tifffile.TiffFile], Sides | None], ...] = (
    _ome,
    _imagej,
    _fei,
    _zeiss,
    _gatan,
    _olympus,
    _tvips,
    _resolution,
)
