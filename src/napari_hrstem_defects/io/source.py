"""What a format's reader hands over: the data sets of a file, described, with their pixels loaded on demand."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.core.micrograph import MIN_SIDE_PX
from napari_hrstem_defects.errors import ReadError
from napari_hrstem_defects.io.calibration import UNKNOWN, PixelSize, is_reciprocal

#: Kind of the data sets that can be analysed.
IMAGE = "an image"
#: Units of axes along which there is a spectrum, not an image.
_SPECTRAL_UNITS = ("ev", "kev", "mev")


@dataclass(frozen=True, eq=False)
class DataSet:
    """One image, series or other data set of a file.

    Attributes
    ----------
    shape : tuple of int
        ``(y, x)``, ``(t, y, x)`` or with a last axis of colour channels.
    dtype : numpy.dtype
    frame : callable
        ``frame(index)`` gives the pixels of one image of a series that stays on disk; otherwise ``frame(0)`` gives all.
    pixel : PixelSize
    title : str
    notices : tuple of str
    metadata : mapping
    colour : bool
        Whether the last axis holds colour channels, or planes of a TIFF are called so.
    units : sequence of str
        Units of the axes, as far as the file has some.
    shown : int
        Number of the last axes that make one image or spectrum.
    bilevel : bool
        Whether the pixels are single bits.
    whole : bool
        Whether a series is loaded as a whole.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    frame: Callable[[int], Any]
    pixel: PixelSize = UNKNOWN
    title: str = ""
    notices: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    colour: bool = False
    units: Sequence[Any] = ()
    shown: int = 2
    bilevel: bool = False
    whole: bool = False

    def pixels(self) -> Any:
        """The pixels: numpy, or :class:`LazyFrames` where a series stays on disk."""
        series = len(self.shape) == 3 and not (self.colour or self.whole)
        return LazyFrames(self.shape, self.dtype, self.frame) if series else self.frame(0)

    @property
    def frame_shape(self) -> tuple[int, ...]:
        """Shape ``(y, x)`` of one image."""
        return self.shape[-3:-1] if self.colour and self.shape[-1] in (2, 3, 4) else self.shape[-2:]

    @property
    def kind(self) -> str:
        """What it is, in words; :data:`IMAGE` if it can be analysed."""
        axes = len(self.shape) - self.colour
        if self.shown == 1 or any(str(unit).lower() in _SPECTRAL_UNITS for unit in self.units):
            return "a spectrum" if axes == 1 else "a spectrum image"
        if self.bilevel or self.dtype == np.bool_:
            return "a black-and-white (1-bit) picture"
        if self.dtype.kind == "c" or self.dtype.names:
            return "complex numbers (a Fourier transform?)"
        if axes < 2 or self.dtype.kind not in "iuf" or not all(self.shape):
            return f"an array of shape {self.shape} and type {self.dtype}"
        if axes > 3:
            return f"a {axes}-dimensional data set (4D-STEM?)"
        if min(self.frame_shape) < MIN_SIDE_PX:
            y, x = self.frame_shape
            return f"a picture of {y} × {x} px (at least {MIN_SIDE_PX} × {MIN_SIDE_PX} are needed)"
        if self.pixel.reciprocal or any(map(is_reciprocal, self.units)):
            return "a diffraction pattern"
        return IMAGE


def optional_library(name: str, path: Path) -> Any:
    """Module of the extra ``formats`` that a file needs.

    Raises
    ------
    ReadError
        If it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = {"rsciio": "RosettaSciIO"}.get(name.partition(".")[0], name)
        raise ReadError(
            f"{path}: reading {path.suffix.lower()} files needs {package}; install it with "
            'pip install "napari-hrstem-defects[formats]".'
        ) from error


def raw_frame(
    path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], offset: int, index: int = 0
) -> NDArray[Any]:
    """Frame `index` of those that lie in a file from `offset` on, one after the other and uncompressed.

    Raises
    ------
    ReadError
        If the file ends before.
    """
    count = math.prod(shape)
    pixels = np.fromfile(path, dtype, count, offset=offset + index * count * dtype.itemsize)
    if len(pixels) < count:
        raise ReadError(f"{path}: the file is cut off (truncated); copy it again from its source.")
    return pixels.reshape(shape)


class LazyFrames:
    """Array-like series ``(t, y, x, ...)`` that reads one frame at a time from a file.

    Parameters
    ----------
    shape : tuple of int
    dtype : numpy.dtype
    load : callable
        ``load(index)`` returns one frame; picklable if the array is to travel to other processes.
    """

    def __init__(self, shape: tuple[int, ...], dtype: Any, load: Callable[[int], NDArray[Any]]) -> None:
        self.shape = shape
        self.dtype = np.dtype(dtype).newbyteorder("=")
        self.ndim = len(shape)
        self._load = load

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> NDArray[Any]:
        frames, *rest = key if isinstance(key, tuple) else (key,)
        indices = range(self.shape[0])[frames]
        if isinstance(indices, int):
            return self._load(indices).astype(self.dtype, copy=False)[tuple(rest)]
        stack = np.stack([self._load(index) for index in indices]).astype(self.dtype, copy=False)
        return stack[(slice(None), *rest)]

    def as_dask(self) -> Any:
        """Dask array, one chunk a frame."""
        import dask.array as da

        # A name of its own: dask would otherwise hash the object to find one.
        return da.from_array(
            self,
            chunks=(1, *self.shape[1:]),
            name=False,
            asarray=False,
            meta=np.empty((0,) * self.ndim, self.dtype),
        )
