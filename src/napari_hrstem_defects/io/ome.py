"""Writer of OME-TIFF files that grow frame by frame."""

from __future__ import annotations

import uuid
import zlib
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import tifffile
from numpy.typing import NDArray

# Namespace of the identifiers in the files: equal contents get equal identifiers, so that files are reproducible.
_NAMESPACE = uuid.UUID("5f0c3f43-52a1-5d0e-9f5b-5d4d2f6b9c11")
# 2³¹ pixels per centimetre.
_FINEST_TAG_NM = 0.005


#: Level of zlib: noise hardly compresses, and a higher one takes twice as long for files of the same size.
ZLIB_LEVEL = 1


class Page(NamedTuple):
    """Pixels as a TIFF keeps them, which go from file to file as they are."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    rows: int
    strips: Iterable[bytes]

    @classmethod
    def of(cls, page: tifffile.TiffPage | tifffile.TiffFrame) -> Page:
        """Of a page that was written here, compressed as :class:`OmeTiffWriter` does."""
        file, strips = page.parent.filehandle, []
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
            file.seek(offset)
            strips.append(file.read(count))
            if len(strips[-1]) < count:
                raise ValueError("the file ends before its pixels do")
        return cls(page.shape, np.dtype(page.dtype), page.aspage().rowsperstrip, tuple(strips))

    def pixels(self) -> NDArray[Any]:
        """The pixels as an array."""
        return np.frombuffer(b"".join(map(zlib.decompress, self.strips)), self.dtype).reshape(self.shape)


class OmeTiffWriter:
    """One image or series, written one frame at a time.

    Parameters
    ----------
    path : Path
    shape : tuple of int
        ``(y, x)`` or ``(t, y, x)``.
    dtype : data type
    pixel_size_nm : float or None
    key : str
        Text that identifies the contents; the same text gives the same file.
    """

    def __init__(
        self, path: Path, shape: tuple[int, ...], dtype: Any, pixel_size_nm: float | None, key: str
    ) -> None:
        self._dtype = np.dtype(dtype)
        self._frame_shape = shape[-2:]
        self._description: str | None = _description(path.stem, shape, self._dtype, pixel_size_nm, key)
        # The resolution tags are for programs that do not read OME: pixels per centimetre.
        # They hold 32-bit fractions, too small a number for the very finest pixels.
        per_cm = None if pixel_size_nm is None or pixel_size_nm < _FINEST_TAG_NM else 1e7 / pixel_size_nm
        self._resolution = None if per_cm is None else (per_cm, per_cm)
        size = int(np.prod(shape)) * self._dtype.itemsize
        self._tiff = tifffile.TiffWriter(path, bigtiff=size > 3 * 2**30, ome=False)

    def write(self, frame: NDArray[Any] | Page) -> None:
        """Append a frame."""
        if frame.shape != self._frame_shape:
            raise ValueError(f"frame has shape {frame.shape}, expected {self._frame_shape}")
        if isinstance(frame, Page):
            pixels: dict[str, Any] = {
                "data": iter(frame.strips),
                "shape": frame.shape,
                "dtype": frame.dtype,
                "rowsperstrip": frame.rows,
            }
        else:
            pixels = {"data": np.ascontiguousarray(frame, self._dtype)}
        self._tiff.write(
            **pixels,
            photometric="minisblack",
            compression="zlib",
            compressionargs={"level": ZLIB_LEVEL},
            description=self._description,
            metadata=None,
            resolution=self._resolution,
            resolutionunit=None if self._resolution is None else "CENTIMETER",
            software="napari-hrstem-defects",
        )
        self._description = None  # OME: only the first page carries it

    def __enter__(self) -> OmeTiffWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tiff.close()


def _description(
    name: str, shape: tuple[int, ...], dtype: np.dtype[Any], pixel_size_nm: float | None, key: str
) -> str:
    frames = shape[0] if len(shape) == 3 else 1
    size: dict[str, Any] = {}
    if pixel_size_nm is not None:
        for axis in "YX":
            size[f"PhysicalSize{axis}"] = pixel_size_nm
            size[f"PhysicalSize{axis}Unit"] = "nm"
    identifier = uuid.uuid5(_NAMESPACE, f"{name}\n{shape}\n{key}")
    xml = tifffile.OmeXml(Creator="napari-hrstem-defects", UUID=f"urn:uuid:{identifier}")
    axes = "TYX" if len(shape) == 3 else "YX"
    xml.addimage(dtype, shape, (frames, 1, 1, shape[-2], shape[-1], 1), axes=axes, Name=name, **size)
    return xml.tostring(declaration=True)
