"""Readers of plain pictures: PNG, JPEG, BMP."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.errors import ReadError
from napari_hrstem_defects.io.source import DataSet

_CHANNELS = {"LA": 2, "RGB": 3, "RGBA": 4, "RGBX": 4}
_TYPES = {"I": np.int32, "F": np.float32}


def read(path: Path) -> list[DataSet]:
    """The pictures of a file; palettes are resolved."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            mode, (width, height) = picture.mode, picture.size
            count = getattr(picture, "n_frames", 1)
            jpeg = picture.format == "JPEG"
    except Image.DecompressionBombError as error:
        raise ReadError(f"{path}: the picture is too large for this format; save it as TIFF.") from error
    notices = ("JPEG compression changes weak contrast; use the original file where there is one.",)
    channels = () if mode in ("1", "L", "I", "F") or mode.startswith("I;16") else (_CHANNELS.get(mode, 3),)
    dtype = np.dtype(_TYPES.get(mode, np.uint16 if mode.startswith("I;16") else np.uint8))
    return [
        DataSet(
            (height, width, *channels),
            dtype,
            functools.partial(_load, path, index),
            notices=notices if jpeg else (),
            colour=bool(channels),
            bilevel=mode == "1",
        )
        for index in range(count)
    ]


def _load(path: Path, index: int, _: int) -> NDArray[Any]:
    from PIL import Image

    with Image.open(path) as picture:
        picture.seek(index)
        plain = picture.mode in ("L", "I", "F", *_CHANNELS) or picture.mode.startswith("I;16")
        return np.asarray(picture if plain else picture.convert("RGB"))
