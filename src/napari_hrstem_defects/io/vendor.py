"""Readers of Gatan's and TIA's formats, by RosettaSciIO (optional, GPL-3, imported only here)."""

from __future__ import annotations

import functools
import logging
import math
import mmap
import struct
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_hrstem_defects.errors import ReadError
from napari_hrstem_defects.io.calibration import size_of_axes
from napari_hrstem_defects.io.source import DataSet, optional_library

# Kinds of tags of DigitalMicrograph, of composed types, and bytes of plain types.
_GROUP, _DATA = 20, 21
_STRUCT, _STRING, _ARRAY = 15, 18, 20
_BYTES = {2: 2, 3: 4, 4: 2, 5: 4, 6: 4, 7: 8, 8: 1, 9: 1, 10: 1, 11: 8, 12: 8}

# TIA: kind of a file of images, version from which on offsets have 8 bytes, and bytes of a pixel by its type.
_IMAGES, _WIDE_VERSION = 0x4122, 0x220
_DIMENSION_BYTES = 32  # at least
_SER_BYTES = {1: 1, 2: 2, 3: 4, 4: 1, 5: 2, 6: 4, 7: 4, 8: 8, 9: 8, 10: 16}

#: Suffix → RosettaSciIO module.
PLUGINS = {".dm3": "digitalmicrograph", ".dm4": "digitalmicrograph", ".ser": "tia", ".emi": "tia"}


def read(path: Path) -> list[DataSet]:
    """The data sets of the file; series stay on disk."""
    suffix = path.suffix.lower()
    module = optional_library(f"rsciio.{PLUGINS[suffix]}", path)
    paths = [path]
    if suffix == ".emi":  # its pixels are in other files
        beside = path.parent.glob("*.[sS][eE][rR]")
        paths = sorted(other for other in beside if other.name.startswith(f"{path.stem}_"))
        if not paths:
            raise ReadError(
                f"{path}: the pixels of an .emi file are in {path.stem}_1.ser, which is not in its folder; copy both."
            )
    if suffix in (".dm3", ".dm4"):
        _check_tags(path)
    logging.getLogger("rsciio").setLevel(logging.CRITICAL)
    found = []
    for file in paths:
        if suffix in (".ser", ".emi"):
            _check_elements(file)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about metadata that is not used
            signals: Sequence[Mapping[str, Any]] = module.file_reader(str(file), lazy=True)
        sets = [_data_set(signal) for signal in signals]
        # These formats hold pixels as they are, and a reader that is lazy does not miss those that are not there.
        if sum(math.prod(one.shape) * one.dtype.itemsize for one in sets) > file.stat().st_size:
            raise _more_than_held(file)
        found += sets
    return found


def _check_tags(path: Path) -> None:
    """Refuse a file of DigitalMicrograph whose tags count more than the file can hold: a reader would loop for hours.

    The structure is big-endian: groups of tags, which are groups again, or numbers with a description of their type.
    """
    wide = path.suffix.lower() == ".dm4"
    length = struct.Struct(">Q" if wide else ">I")
    at = 16 if wide else 12

    def number() -> int:
        nonlocal at
        (value,) = length.unpack_from(raw, at)
        at += length.size
        if value > len(raw):
            raise ValueError(f"a count of {value}")
        return int(value)

    def group() -> None:
        nonlocal at
        at += 2
        for _ in range(number()):
            kind, name = struct.unpack_from(">BH", raw, at)
            at += 3 + name + (8 if wide else 0)
            if kind == _GROUP:
                group()
            elif kind == _DATA:
                at += 4
                info = [number() for _ in range(number())]
                at += _size(info)
                if at > len(raw):
                    raise ValueError("values beyond the end")
            else:
                return

    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as raw:
            group()
    except (ValueError, struct.error, IndexError, RecursionError) as error:
        raise ReadError(
            f"{path}: the file is damaged or cut off (its tags declare more than it holds: {error}); copy it again "
            "from its source."
        ) from error


def _check_elements(path: Path) -> None:
    """Refuse a file of TIA that counts more images or axes than it can hold: a reader would make room for them."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(34)
        if len(head) < 34 or head[:4] != b"II\x97\1":
            raise ReadError(f"{path}: the file is damaged or not really a ser file; export or copy it again.")
        version, kind, _, total, valid = struct.unpack_from("<HIIII", head, 4)
        wide = version >= _WIDE_VERSION
        table, dimensions = struct.unpack_from("<QI" if wide else "<II", head, 22)
        needed = max(table + max(total, valid) * (8 if wide else 4), dimensions * _DIMENSION_BYTES)
        if kind == _IMAGES and valid and needed <= size:
            file.seek(table)
            (first,) = struct.unpack("<Q" if wide else "<I", file.read(8 if wide else 4))
            file.seek(min(first, size))
            element = file.read(50)
            if len(element) == 50:
                pixel, x, y = struct.unpack_from("<HII", element, 40)
                needed = valid * x * y * _SER_BYTES.get(pixel, 1)
    if needed > size:
        raise _more_than_held(path)


def _more_than_held(path: Path) -> ReadError:
    return ReadError(
        f"{path}: the file is cut off (truncated): it declares more pixels than it holds; copy it again from its "
        "source."
    )


def _size(info: Sequence[int]) -> int:
    """Bytes of the values that a description of DigitalMicrograph announces."""
    if info[0] == _ARRAY:
        return info[-1] * _size(info[1:-1])
    if info[0] == _STRUCT:
        return sum(_BYTES.get(kind, 0) for kind in info[4::2])
    return 2 * info[1] if info[0] == _STRING else _BYTES.get(info[0], 0)


def _data_set(signal: Mapping[str, Any]) -> DataSet:
    axes, data = signal["axes"], signal["data"]
    units = [axis.get("units") or "" for axis in axes]
    metadata = signal.get("metadata", {})
    title = str(metadata.get("General", {}).get("title") or "")
    return DataSet(
        tuple(int(n) for n in data.shape),
        np.dtype(data.dtype),
        functools.partial(_frame, data),
        size_of_axes([axis.get("scale") for axis in axes], units),
        title=title,
        metadata={"title": title, "format": metadata},
        units=units,
        shown=sum(not axis.get("navigate", False) for axis in axes),
    )


def _frame(data: Any, index: int) -> Any:
    # In this thread: on a cluster the current scheduler would be the cluster itself, where open files cannot travel.
    return np.asarray((data[index] if data.ndim == 3 else data).compute(scheduler="synchronous"))
