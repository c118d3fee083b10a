"""Writers of OME-TIFF and OME-Zarr that grow frame by frame, and how the images of a result are found and read."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import math
import uuid
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_hrstem_defects.errors import WriteError
from napari_hrstem_defects.io.source import LazyFrames, optional_library

#: Format of the images of a result → suffix of their names.
IMAGE_FORMATS = {"ome-tiff": ".tif", "ome-zarr": ".ome.zarr"}
# Largest edge of a chunk in OME-Zarr: frames of most cameras are one or four files.
_CHUNK_PX = 2048
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
        return next(self.blocks(self.shape[0]))

    def blocks(self, rows: int) -> Iterator[NDArray[Any]]:
        """The pixels as arrays of whole strips, with about `rows` rows."""
        remaining, count = iter(self.strips), math.ceil(rows / self.rows)
        while strips := list(itertools.islice(remaining, count)):
            pixels = np.frombuffer(b"".join(map(zlib.decompress, strips)), self.dtype)
            yield pixels.reshape(-1, *self.shape[1:])


def compressed(pixels: NDArray[Any]) -> bytes:
    """Rows (n, x) of an image as a strip of :class:`OmeTiffWriter`; by imagecodecs where it is there: faster."""
    encode = tifffile.TIFF.COMPRESSORS[tifffile.COMPRESSION.ADOBE_DEFLATE]
    return bytes(encode(pixels, level=ZLIB_LEVEL))


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


class OmeZarrWriter:
    """As :class:`OmeTiffWriter`: an OME-Zarr image (OME-NGFF 0.5, one level, a chunk a frame or part of a frame).

    Parameters
    ----------
    path : Path
        The folder to make.
    shape : tuple of int
        ``(y, x)`` or ``(t, y, x)``.
    dtype : data type
    pixel_size_nm : float or None
    frame_time_s : float or None
    """

    def __init__(
        self,
        path: Path,
        shape: tuple[int, ...],
        dtype: Any,
        pixel_size_nm: float | None,
        frame_time_s: float | None = None,
    ) -> None:
        import zarr

        known = {"t": (frame_time_s, "time", "second"), "y": (pixel_size_nm, "space", "nanometer")}
        known["x"] = known["y"]
        axes, scale = [], []
        for name in "tyx"[-len(shape) :]:
            step, kind, unit = known[name]
            axes.append({"name": name, "type": kind, **({} if step is None else {"unit": unit})})
            scale.append(1.0 if step is None else step)
        level = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": scale}]}
        image = {"name": path.name.removesuffix(".ome.zarr"), "axes": axes, "datasets": [level]}
        ome = {"version": "0.5", "multiscales": [image]}
        group = zarr.create_group(path, attributes={"ome": ome}, zarr_format=3)
        chunks = (*(1 for _ in shape[:-2]), *(min(n, _CHUNK_PX) for n in shape[-2:]))
        self._array = group.create_array(
            "0", shape=shape, dtype=np.dtype(dtype), chunks=chunks, dimension_names=list("tyx"[-len(shape) :])
        )
        self._next = 0

    def write(self, frame: NDArray[Any] | Page) -> None:
        """Append a frame."""
        if frame.shape != self._array.shape[-2:]:
            raise ValueError(f"frame has shape {frame.shape}, expected {self._array.shape[-2:]}")
        y = 0
        for part in frame.blocks(_CHUNK_PX) if isinstance(frame, Page) else [frame]:
            rows = slice(y, y + len(part))
            self._array[(self._next, rows) if self._array.ndim == 3 else rows] = part
            y = rows.stop
        self._next += 1


def check_image_format(name: str) -> None:
    """Refuse a format that is unknown or needs what is not installed.

    Raises
    ------
    WriteError
    """
    if name not in IMAGE_FORMATS:
        raise WriteError(f"The image format {name!r} is not known; name one of {', '.join(IMAGE_FORMATS)}.")
    if name == "ome-zarr":
        try:
            importlib.import_module("zarr")
        except ImportError as error:
            raise WriteError(
                'Writing OME-Zarr needs zarr; install it with pip install "napari-hrstem-defects[formats]".'
            ) from error


def image_file(folder: Path, name: str) -> Path | None:
    """Image of a result, in whichever format."""
    paths = (folder / f"{name}{suffix}" for suffix in IMAGE_FORMATS.values())
    return next((path for path in paths if path.exists()), None)


@contextlib.contextmanager
def open_image(path: Path) -> Iterator[LazyFrames]:
    """Frames ``(t, y, x)`` of an image that was written here."""
    if path.suffix == ".zarr":
        array = optional_library("zarr", path).open_array(path / "0", mode="r")
        count = array.shape[0] if array.ndim == 3 else 1
        yield LazyFrames(
            (count, *array.shape[-2:]),
            array.dtype,
            lambda t: np.asarray(array[(t, ...) if array.ndim == 3 else ...]),
        )
        return
    with tifffile.TiffFile(path) as tif:
        pages = tif.pages
        yield LazyFrames(
            (len(pages), *pages.first.shape), pages.first.dtype, lambda t: np.asarray(pages[t].asarray())
        )


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
