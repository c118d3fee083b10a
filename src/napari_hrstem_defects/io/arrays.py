"""Readers of numpy files and of Nion Swift's .ndata."""

from __future__ import annotations

import dataclasses
import functools
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.errors import ReadError
from napari_hrstem_defects.io.calibration import size_of_axes
from napari_hrstem_defects.io.source import DataSet

# Keys of Swift's metadata, the newest first.
_CALIBRATIONS = ("dimensional_calibrations", "spatial_calibrations", "intrinsic_spatial_calibrations")


def read_npy(path: Path) -> list[DataSet]:
    """A numpy array; series stay on disk."""
    data = np.load(path, mmap_mode="r", allow_pickle=False)
    colour = data.ndim == 3 and data.shape[-1] in (3, 4)
    return [
        DataSet(
            data.shape,
            data.dtype,
            functools.partial(_npy, path, data.ndim == 3 and not colour),
            colour=colour,
        )
    ]


def _npy(path: Path, series: bool, index: int) -> NDArray[Any]:
    if not series:
        return np.asarray(np.load(path, allow_pickle=False))
    # A copy, which lets go of the file.
    return np.array(np.load(path, mmap_mode="r", allow_pickle=False)[index])


def read_npz(path: Path) -> list[DataSet]:
    """The arrays of a numpy archive."""
    with zipfile.ZipFile(path) as archive:
        return [_member(path, archive, name) for name in archive.namelist() if name.lower().endswith(".npy")]


def _member(path: Path, archive: zipfile.ZipFile, name: str, **options: Any) -> DataSet:
    """An array of an archive, described by its header."""
    with archive.open(name) as file:
        shape, _, dtype = _header(file)
    if dtype.hasobject:
        raise ReadError(
            f"{path}: {name} holds Python objects, which are not loaded; save an array of numbers."
        )
    if (declared := _bytes(shape, dtype)) > archive.getinfo(name).file_size:
        raise ReadError(
            f"{path}: {name} declares {declared} bytes of pixels and holds fewer; export or copy it again."
        )
    return DataSet(
        shape,
        dtype,
        functools.partial(_unpack, path, name),
        title=name.removesuffix(".npy"),
        colour=len(shape) == 3 and shape[-1] in (3, 4),
        whole=True,
        **options,
    )


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    major, _ = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
    return read(file)


def _bytes(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    size = dtype.itemsize
    for n in shape:
        size *= int(n)
    return size


def _unpack(path: Path, name: str, _: int) -> NDArray[Any]:
    with zipfile.ZipFile(path) as archive, archive.open(name) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def read_ndata(path: Path) -> list[DataSet]:
    """An image or a sequence of Nion Swift: a numpy array and its metadata as JSON, in one archive."""
    with zipfile.ZipFile(path) as archive:
        metadata = json.loads(archive.read("metadata.json")) if "metadata.json" in archive.namelist() else {}
        sides = next(_find(metadata), None) or []
        if not all(isinstance(side, dict) for side in sides):
            sides = []
        units = [side.get("units", "") for side in sides]
        pixel = size_of_axes([side.get("scale") for side in sides], units)
        shown = next(_find(metadata, ("datum_dimension_count",)), 2)
        title = metadata.get("title") if isinstance(metadata, dict) else ""
        found = _member(path, archive, "data.npy", pixel=pixel, units=units, shown=shown)
    return [dataclasses.replace(found, title=str(title or ""))]


def _find(value: Any, names: tuple[str, ...] = _CALIBRATIONS) -> Iterator[Any]:
    """Values of some keys, wherever they stand in a tree."""
    if isinstance(value, dict):
        yield from (value[name] for name in names if value.get(name))
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from _find(inner, names)
