"""Readers of Gatan's and TIA's formats, by RosettaSciIO (optional, GPL-3, imported only here)."""

from __future__ import annotations

import functools
import importlib
import logging
import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_hrstem_defects.core.errors import ReadError
from napari_hrstem_defects.io.calibration import UNKNOWN, pixel_size
from napari_hrstem_defects.io.source import DataSet

#: Suffix → RosettaSciIO module.
PLUGINS = {".dm3": "digitalmicrograph", ".dm4": "digitalmicrograph", ".ser": "tia", ".emi": "tia"}


def read(path: Path) -> list[DataSet]:
    """The data sets of the file; series stay on disk."""
    suffix = path.suffix.lower()
    try:
        module = importlib.import_module(f"rsciio.{PLUGINS[suffix]}")
    except ImportError as error:
        raise ReadError(
            f"{path}: reading {suffix} files needs RosettaSciIO; install it with "
            'pip install "napari-hrstem-defects[formats]".'
        ) from error
    paths = [path]
    if suffix == ".emi":  # it holds remarks on pixels that are elsewhere
        beside = path.parent.glob("*.[sS][eE][rR]")
        paths = sorted(other for other in beside if other.name.startswith(f"{path.stem}_"))
        if not paths:
            raise ReadError(
                f"{path}: the pixels of an .emi file are in {path.stem}_1.ser, which is not beside it; copy both."
            )
    logging.getLogger("rsciio").setLevel(logging.CRITICAL)
    found = []
    for file in paths:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # remarks on metadata that nobody here reads
            signals: Sequence[Mapping[str, Any]] = module.file_reader(str(file), lazy=True)
        sets = [_data_set(signal) for signal in signals]
        # These formats hold pixels as they are, and a reader that is lazy does not miss those that are not there.
        if sum(math.prod(one.shape) * one.dtype.itemsize for one in sets) > file.stat().st_size:
            raise ReadError(
                f"{file}: the file is cut off (truncated): it declares more pixels than it holds; copy it again from "
                "its source."
            )
        found += sets
    return found


def _data_set(signal: Mapping[str, Any]) -> DataSet:
    axes, data = signal["axes"], signal["data"]
    units = [axis.get("units") or "" for axis in axes]
    pixel = UNKNOWN
    if len(axes) > 1:
        pixel = pixel_size(axes[-2].get("scale"), axes[-1].get("scale"), units[-2], units[-1])
    metadata = signal.get("metadata", {})
    title = str(metadata.get("General", {}).get("title") or "")
    return DataSet(
        tuple(int(n) for n in data.shape),
        np.dtype(data.dtype),
        functools.partial(np.asarray, data) if data.ndim == 2 else lambda: data,
        pixel,
        title=title,
        metadata={"title": title, "format": metadata},
        units=units,
        shown=sum(not axis.get("navigate", False) for axis in axes),
    )
