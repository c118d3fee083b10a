"""Reader of MRC files (MRC2014, IMOD, FEI): .mrc, .mrcs, .st, .rec, .map."""

from __future__ import annotations

import functools
import math
import struct
from pathlib import Path
from typing import Literal

import numpy as np

from napari_hrstem_defects.errors import ReadError
from napari_hrstem_defects.io.calibration import UNKNOWN, PixelSize, pixel_size
from napari_hrstem_defects.io.source import DataSet, raw_frame

_HEADER_BYTES = 1024
# Mode → type of a pixel.
_TYPES = {0: "i1", 1: "i2", 2: "f4", 3: "i2,i2", 4: "c8", 6: "u2", 12: "f2", 16: "u1"}
# Extended header of FEI: types it goes by, offsets of the pixel size x and y (m) in its first record.
_FEI_TYPES, _FEI_OFFSETS = (b"FEI1", b"FEI2"), (156, 164)
_IMOD_STAMP = 1146047817


def read(path: Path) -> list[DataSet]:
    """The image or stack of the file; stacks stay on disk."""
    size = path.stat().st_size
    with path.open("rb") as file:
        header = file.read(_HEADER_BYTES)
        if len(header) < _HEADER_BYTES:
            raise ReadError(f"{path}: the file is cut off (truncated) in its header; copy it again.")
        # The machine stamp gives the byte order; without one, the width is the smaller of two numbers.
        little, big = (abs(struct.unpack_from(f"{order}i", header)[0]) for order in "<>")
        order: Literal["<", ">"] = (
            ">" if header[212] == 0x11 or (header[212] != 0x44 and big < little) else "<"
        )
        nx, ny, nz, mode = struct.unpack_from(f"{order}4i", header)
        extra = struct.unpack_from(f"{order}i", header, 92)[0]
        if min(nx, ny, nz) < 1 or extra < 0 or not 0 <= mode <= 0xFF:
            raise ReadError(
                f"{path}: the file is damaged or not really an MRC file (its header is invalid); "
                "export or copy it again."
            )
        if mode not in _TYPES:
            raise ReadError(
                f"{path}: pixels of the MRC mode {mode} cannot be read; convert the image to TIFF."
            )
        fei = file.read(min(extra, 768)) if header[104:108] in _FEI_TYPES else b""
    # IMOD wrote unsigned bytes unless a flag is set.
    stamp, flags = struct.unpack_from(f"{order}2i", header, 152)
    unsigned = mode == 0 and stamp == _IMOD_STAMP and not flags & 1
    dtype = np.dtype("u1" if unsigned else _TYPES[mode]).newbyteorder(order)
    colours = (3,) if mode == 16 else ()
    frame = math.prod((ny, nx, *colours)) * dtype.itemsize
    held = max(0, size - _HEADER_BYTES - extra) // frame
    if held < nz:
        raise ReadError(
            f"{path}: the file is cut off (truncated): it declares {nz} image{'s' if nz > 1 else ''} of {ny} × {nx} px "
            f"and holds {held}; copy it again from its source."
        )
    shape = (*((nz,) if nz > 1 else ()), ny, nx, *colours)
    # Colours are loaded as a whole.
    at_once = shape if colours else shape[-2:]
    load = functools.partial(raw_frame, path, at_once, dtype, _HEADER_BYTES + extra)
    return [DataSet(shape, dtype, load, _pixel_size(header, fei, order), colour=bool(colours))]


def _pixel_size(header: bytes, fei: bytes, order: str) -> PixelSize:
    if len(fei) >= 172:
        x, y = (struct.unpack_from(f"{order}d", fei, offset)[0] for offset in _FEI_OFFSETS)
        if x > 0 or y > 0:
            return pixel_size(y, x, "m")
    samples = struct.unpack_from(f"{order}3i", header, 28)
    cell = struct.unpack_from(f"{order}3f", header, 40)
    axes = [
        axis if axis in (1, 2, 3) else i + 1
        for i, axis in enumerate(struct.unpack_from(f"{order}2i", header, 64))
    ]
    # No number of samples, no cell or a negative one: not calibrated.
    if any(samples[axis - 1] < 1 or not cell[axis - 1] > 0 for axis in axes):
        return UNKNOWN
    x, y = (cell[axis - 1] / samples[axis - 1] for axis in axes)
    if all(math.isclose(side, 1, rel_tol=1e-6) for side in (x, y)) or all(
        cell[axis - 1] == 1 for axis in axes
    ):
        return PixelSize(
            None,
            (
                "The file states 1 Å, the value of MRC files without a calibration; it was not used, give the pixel "
                "size by hand.",
            ),
        )
    return pixel_size(y, x, "Å")
