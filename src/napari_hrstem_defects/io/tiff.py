"""Reader of TIFF files: OME, ImageJ and plain ones, single images and series."""

from __future__ import annotations

import functools
import logging
import struct
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_hrstem_defects.core.errors import ReadError
from napari_hrstem_defects.core.micrograph import MIN_SIDE_PX
from napari_hrstem_defects.io.source import Source, lazy_stack
from napari_hrstem_defects.io.tiff_calibration import find_pixel_size

# Axes that tifffile names: samples (colour), channels, and everything that can be a time or a slice.
_SAMPLES, _CHANNEL = "S", "C"


def read(path: Path) -> Source:
    """First image or series of images of the file."""
    # tifffile reports oddities of metadata as log messages; what stops us is raised.
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    with tifffile.TiffFile(path) as tif:
        index, notices = _choose(tif, path)
        series = tif.series[index]
        _check_complete(tif, series, path)
        size, remarks = find_pixel_size(tif)
        shape, axes = _squeezed(series.shape, series.axes)
        if len(axes) == 3 and _SAMPLES not in axes and _CHANNEL not in axes:
            data = lazy_stack(shape, series.dtype, functools.partial(_frame, path, index))
        else:
            data = _pixels(series, shape)
            data, remark = _to_frames(data, axes, _colormap(series), path)
            notices += remark
    return Source(data, size, (*notices, *remarks))


def _choose(tif: tifffile.TiffFile, path: Path) -> tuple[int, tuple[str, ...]]:
    """Index of the first series that can be an image (previews are small)."""
    if not tif.series:
        raise ReadError(f"{path}: there is no image in the file; export it again.")
    large = (i for i, series in enumerate(tif.series) if sum(n >= MIN_SIDE_PX for n in series.shape) >= 2)
    index = next(large, 0)
    if len(tif.series) > 1:
        ordinal = "first" if index == 0 else f"{index + 1}."
        return index, (
            f"The file holds {len(tif.series)} images of different kinds; the {ordinal} one was used.",
        )
    return index, ()


def _check_complete(tif: tifffile.TiffFile, series: Any, path: Path) -> None:
    """Refuse files that end before their pixels do."""
    size = tif.filehandle.size
    for page in (series.keyframe, series.pages[-1]):
        if page is None or page.parent is not tif:  # a page in another file of the set
            continue
        ends = (offset + count for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False))
        if max(ends, default=0) > size:
            raise _cut_off(path)
    # The list of pages ends with an offset of 0; an offset beyond the end of the file is a page that got lost.
    if _next_page_offset(tif) >= size:
        raise _cut_off(path)
    if series.keyframe.bitspersample == 1:
        raise ReadError(
            f"{path}: this is a black-and-white (1-bit) picture, not a micrograph; open the grey image."
        )


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


def _colormap(series: Any) -> NDArray[Any] | None:
    page = series.keyframe
    return page.colormap if page.photometric == tifffile.PHOTOMETRIC.PALETTE else None


def _to_frames(
    data: NDArray[Any], axes: str, colormap: NDArray[Any] | None, path: Path
) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Resolve channels and colours: (y, x), (t, y, x) or with the colours last."""
    notices: tuple[str, ...] = ()
    if colormap is not None:
        data = np.moveaxis(colormap[:, data], 0, -1)
        axes += _SAMPLES
    if _CHANNEL in axes:
        where = axes.index(_CHANNEL)
        notices = (f"The file holds {data.shape[where]} channels; the first one was used.",)
        data = data.take(0, where)
        axes = axes.replace(_CHANNEL, "")
    if _SAMPLES in axes:
        data = np.moveaxis(data, axes.index(_SAMPLES), -1)
        if data.shape[-1] == 2:
            data = data[..., 0]
            notices = (*notices, "The picture has an alpha channel; it was left out.")
    elif data.ndim > 3:
        raise ReadError(
            f"{path}: the file holds a {data.ndim}-dimensional series (axes {axes}), not an image or a time series; "
            "save the part to analyse on its own."
        )
    return data, notices
