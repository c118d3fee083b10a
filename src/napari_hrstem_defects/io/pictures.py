"""Readers of plain pictures (PNG, JPEG, BMP) and numpy files."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.core.errors import ReadError
from napari_hrstem_defects.io.source import Source, lazy_stack


def read_picture(path: Path) -> Source:
    """PNG, JPEG or BMP; palettes are resolved, an alpha channel is left out."""
    from PIL import Image, UnidentifiedImageError

    notices: list[str] = []
    try:
        with Image.open(path) as picture:
            if picture.mode == "1":
                raise ReadError(
                    f"{path}: this is a black-and-white (1-bit) picture, not a micrograph; open the grey image."
                )
            count = getattr(picture, "n_frames", 1)
            if count > 1:
                notices.append(f"The file holds {count} pictures; the first one was used.")
            if picture.format == "JPEG":
                notices.append(
                    "JPEG compression changes weak contrast; use the original file where there is one."
                )
            indirect = picture.mode in ("P", "PA", "CMYK", "YCbCr", "LAB", "HSV")
            data = np.asarray(picture.convert("RGB") if indirect else picture)
    except UnidentifiedImageError as error:
        raise ReadError(
            f"{path}: the file is damaged or not really a {path.suffix[1:].lower()} file; export or copy it again."
        ) from error
    except Image.DecompressionBombError as error:
        raise ReadError(f"{path}: the picture is too large for this format; save it as TIFF.") from error
    if data.ndim == 3 and data.shape[-1] == 2:
        data = data[..., 0]
        notices.append("The picture has an alpha channel; it was left out.")
    return Source(data, notices=tuple(notices))


def read_npy(path: Path) -> Source:
    """A numpy array; series stay on disk."""
    data = np.load(path, mmap_mode="r", allow_pickle=False)
    if data.ndim == 3 and data.shape[-1] not in (3, 4):
        return Source(lazy_stack(data.shape, data.dtype, functools.partial(_npy_frame, path)))
    return Source(np.array(data))


def _npy_frame(path: Path, index: int) -> NDArray[Any]:
    return np.array(np.load(path, mmap_mode="r", allow_pickle=False)[index])


def read_npz(path: Path) -> Source:
    """The first image of a numpy archive."""
    with np.load(path, allow_pickle=False) as archive:
        for name in archive.files:
            data = archive[name]
            if data.ndim in (2, 3):
                break
        else:
            held = ", ".join(archive.files) or "nothing"
            raise ReadError(
                f"{path}: there is no image among the arrays of the file ({held}); save a 2-D array."
            )
        others = [other for other in archive.files if other != name]
    notices = (f"The file holds several arrays; {name!r} was used.",) if others else ()
    return Source(data, notices=notices)
