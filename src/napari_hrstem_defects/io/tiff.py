"""Reader of TIFF files: OME, ImageJ and plain ones, single images and series."""

from __future__ import annotations

import functools
import logging
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_hrstem_defects.core.errors import ReadError
from napari_hrstem_defects.io.colour import are_frames
from napari_hrstem_defects.io.source import DataSet, LazyFrames
from napari_hrstem_defects.io.tiff_calibration import find_pixel_size

# Axes that tifffile names: samples (colour), channels, and everything that can be a time or a slice.
_SAMPLES, _CHANNEL = "S", "C"


def read(path: Path) -> list[DataSet]:
    """The series of the file, one for each channel; series stay on disk."""
    # tifffile reports oddities of metadata as log messages; what stops us is raised.
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    with tifffile.TiffFile(path) as tif:
        # The list of pages ends with an offset of 0; an offset beyond the end of the file is a page that got lost.
        if tif.series and _next_page_offset(tif) >= tif.filehandle.size:
            raise _cut_off(path)
        return [found for index in range(len(tif.series)) for found in _data_sets(path, tif, index)]


def _data_sets(path: Path, tif: tifffile.TiffFile, index: int) -> Iterator[DataSet]:
    series = tif.series[index]
    shape, axes = _squeezed(series.shape, series.axes)
    dtype = np.dtype(series.dtype)
    if series.keyframe.photometric == tifffile.PHOTOMETRIC.PALETTE:
        shape, axes, dtype = (*shape, 3), axes + _SAMPLES, np.dtype(np.uint16)
    channels = range(shape[axes.index(_CHANNEL)]) if _CHANNEL in axes else (None,)
    shape = tuple(n for n, axis in zip(shape, axes, strict=True) if axis != _CHANNEL)
    axes = axes.replace(_CHANNEL, "")
    pixel = find_pixel_size(tif, index)
    name = series.name if len(tif.series) > 1 else ""
    for channel in channels:
        title = name if channel is None else f"{name} channel {channel + 1}".strip()
        yield DataSet(
            shape,
            dtype,
            functools.partial(_load, path, index, channel),
            pixel,
            title=title,
            colour=_SAMPLES in axes,
            bilevel=series.keyframe.bitspersample == 1,
        )


def _load(path: Path, index: int, channel: int | None) -> Any:
    with tifffile.TiffFile(path) as tif:
        series = tif.series[index]
        _check_complete(tif, series, path)
        shape, axes = _squeezed(series.shape, series.axes)
        palette = series.keyframe.photometric == tifffile.PHOTOMETRIC.PALETTE
        if len(axes) == 3 and _SAMPLES not in axes and channel is None and not palette:
            return LazyFrames(shape, series.dtype, functools.partial(_frame, path, index))
        data = _pixels(series, shape)
        if palette:
            data, axes = np.moveaxis(np.asarray(series.keyframe.colormap)[:, data], 0, -1), axes + _SAMPLES
    if channel is not None:
        data, axes = data.take(channel, axes.index(_CHANNEL)), axes.replace(_CHANNEL, "")
    if axes == f"{_SAMPLES}YX" and data.shape[0] > 2 and are_frames(data):
        return data
    return np.moveaxis(data, axes.index(_SAMPLES), -1) if _SAMPLES in axes else data


def _check_complete(tif: tifffile.TiffFile, series: Any, path: Path) -> None:
    """Refuse files that end before their pixels do."""
    size = tif.filehandle.size
    for page in (series.keyframe, series.pages[-1]):
        if page is None or page.parent is not tif:  # a page in another file of the set
            continue
        ends = (offset + count for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False))
        if max(ends, default=0) > size:
            raise _cut_off(path)


def _next_page_offset(tif: tifffile.TiffFile) -> int:
    layout, file = tif.tiff, tif.filehandle
    file.seek(tif.pages[-1].offset)
    (count,) = struct.unpack(layout.tagnoformat, file.read(layout.tagnosize))
    file.seek(count * layout.tagsize, 1)
    (offset,) = struct.unpack(layout.offsetformat, file.read(layout.offsetsize))
    return int(offset)


def _cut_off(path: Path) -> ReadError:
    return ReadError(f"{path}: the file is cut off (truncated); copy it again from its source.")


def _squeezed(shape: tuple[int, ...], axes: str) -> tuple[tuple[int, ...], str]:
    kept = [(n, axis) for n, axis in zip(shape, axes, strict=True) if n > 1 or axis in "YX"]
    return tuple(n for n, _ in kept), "".join(axis for _, axis in kept)


def _pixels(series: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    return np.asarray(series.asarray()).reshape(shape)


def _frame(path: Path, index: int, t: int) -> NDArray[Any]:
    """Read one frame of a series."""
    try:
        return _read_frame(path, index, t)
    except ReadError:
        raise
    except Exception as error:  # the decoders raise what they like
        raise ReadError(
            f"{path}: frame {t} of the series cannot be read ({error}); copy the file again."
        ) from error


def _read_frame(path: Path, index: int, t: int) -> NDArray[Any]:
    with tifffile.TiffFile(path) as tif:
        series = tif.series[index]
        shape, _ = _squeezed(series.shape, series.axes)
        if series.dataoffset is not None:  # pixels in one piece, uncompressed
            count = shape[1] * shape[2]
            dtype = np.dtype(tif.byteorder + series.dtype.char)
            offset = series.dataoffset + t * count * dtype.itemsize
            if offset + count * dtype.itemsize > tif.filehandle.size:
                raise _cut_off(path)
            return np.fromfile(path, dtype, count, offset=offset).reshape(shape[1:])
        page = series.pages[t] if len(series.pages) == shape[0] else None
        if page is not None:
            return np.asarray(page.asarray()).reshape(shape[1:])
        return _pixels(series, shape)[t]
