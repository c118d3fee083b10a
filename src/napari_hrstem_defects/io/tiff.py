"""Reader of TIFF files: OME, ImageJ and plain ones, single images and series."""

from __future__ import annotations

import functools
import logging
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_hrstem_defects.errors import ReadError
from napari_hrstem_defects.io.colour import are_frames
from napari_hrstem_defects.io.source import DataSet, raw_frame
from napari_hrstem_defects.io.tiff_calibration import find_pixel_size

# Axes that tifffile names: samples (colour), channels, and everything that can be a time or a slice.
_SAMPLES, _CHANNEL = "S", "C"
# No microscope has more detectors: these "channels" are frames of a series that was saved without names of its axes.
_MOST_CHANNELS = 16


def read(path: Path) -> list[DataSet]:
    """The series of the file, one for each channel; series stay on disk."""
    # tifffile reports oddities of metadata as log messages; what stops us is raised.
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    with tifffile.TiffFile(path) as tif:
        _check_pages(tif, path)
        for series in tif.series:
            _check_complete(tif, series, path)
        return [found for index in range(len(tif.series)) for found in _data_sets(path, tif, index)]


def _data_sets(path: Path, tif: tifffile.TiffFile, index: int) -> Iterator[DataSet]:
    series = tif.series[index]
    shape, axes = _squeezed(series.shape, series.axes)
    dtype = np.dtype(series.dtype)
    palette = series.keyframe.photometric == tifffile.PHOTOMETRIC.PALETTE
    if palette:
        shape, axes, dtype = (*shape, 3), axes + _SAMPLES, np.dtype(np.uint16)
    channels = range(shape[axes.index(_CHANNEL)]) if _CHANNEL in axes else (None,)
    shape = tuple(n for n, axis in zip(shape, axes, strict=True) if axis != _CHANNEL)
    pixel = find_pixel_size(tif, index)
    name = series.name if len(tif.series) > 1 else ""
    by_frame = len(axes) == 3 and axes[-2:] == "YX" and axes[0] not in (_SAMPLES, _CHANNEL)
    for channel in channels:
        title = name if channel is None else f"{name} channel {channel + 1}".strip()
        yield DataSet(
            shape,
            dtype,
            _frames(path, tif, index, shape) if by_frame else functools.partial(_load, path, index, channel),
            pixel,
            title=title,
            colour=_SAMPLES in axes,
            bilevel=series.keyframe.bitspersample == 1,
            whole=not by_frame,
        )


def _load(path: Path, index: int, channel: int | None, _: int) -> Any:
    with tifffile.TiffFile(path) as tif:
        series = tif.series[index]
        shape, axes = _squeezed(series.shape, series.axes)
        data = _pixels(series, shape)
        if series.keyframe.photometric == tifffile.PHOTOMETRIC.PALETTE:
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


def _check_pages(tif: tifffile.TiffFile, path: Path) -> None:
    """Refuse a list of pages that leads out of the file, where pages got lost, or in a circle, which has no end."""
    layout, file, seen = tif.tiff, tif.filehandle, set[int]()
    offset = tif.pages.first.offset
    while offset:  # 0 after the last page
        if offset in seen:
            raise ReadError(f"{path}: the file is damaged (its list of pages has no end); copy it again.")
        seen.add(offset)
        try:
            file.seek(offset)
            (count,) = struct.unpack(layout.tagnoformat, file.read(layout.tagnosize))
            file.seek(count * layout.tagsize, 1)
            (offset,) = struct.unpack(layout.offsetformat, file.read(layout.offsetsize))
        except struct.error as error:
            raise _cut_off(path) from error


def _cut_off(path: Path) -> ReadError:
    return ReadError(f"{path}: the file is cut off (truncated); copy it again from its source.")


def _squeezed(shape: tuple[int, ...], axes: str) -> tuple[tuple[int, ...], str]:
    kept = [(n, axis) for n, axis in zip(shape, axes, strict=True) if n > 1 or axis in "YX"]
    if len(kept) == 3 and kept[0][1] == _CHANNEL and kept[0][0] > _MOST_CHANNELS:
        kept[0] = kept[0][0], "T"
    return tuple(n for n, _ in kept), "".join(axis for _, axis in kept)


def _pixels(series: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    return np.asarray(series.asarray()).reshape(shape)


def _frames(
    path: Path, tif: tifffile.TiffFile, index: int, shape: tuple[int, ...]
) -> Callable[[int], NDArray[Any]]:
    """How to read one frame, where possible without a look at the other pages: they may be many."""
    series = tif.series[index]
    if series.dataoffset is not None:  # pixels in one piece, uncompressed
        dtype = np.dtype(tif.byteorder + series.dtype.char)
        return functools.partial(raw_frame, path, shape[1:], dtype, series.dataoffset)
    pages = [page for page in series.pages if page is not None and page.parent is tif]
    offsets = tuple(page.offset for page in pages) if len(pages) == shape[0] else None
    return functools.partial(_frame, path, shape[1:], index, offsets)


def _frame(
    path: Path, shape: tuple[int, ...], index: int, offsets: tuple[int, ...] | None, t: int
) -> NDArray[Any]:
    try:
        with tifffile.TiffFile(path) as tif:
            if offsets is None:
                return _pixels(tif.series[index], (-1, *shape))[t]
            tif.filehandle.seek(offsets[t])
            return np.asarray(tifffile.TiffPage(tif, t).asarray()).reshape(shape)
    except Exception as error:  # the decoders raise what they like
        raise ReadError(
            f"{path}: frame {t} of the series cannot be read ({error}); copy the file again."
        ) from error
