"""Validated input: the pixels of one micrograph or of a time series, with pixel size and unit."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.core.errors import MicrographError

#: Smallest side of an image that can be analysed, in pixels: a few lattice periods and one kernel.
MIN_SIDE_PX = 32
#: More pixels than this fraction missing (NaN, infinite) and the rest says nothing about the lattice.
MAX_INVALID_FRACTION = 0.5


@dataclass(frozen=True, eq=False)
class Micrograph:
    """One micrograph ``(y, x)`` or a time series of them ``(t, y, x)``.

    Parameters
    ----------
    data : array of shape (y, x) or (t, y, x)
        Any real numeric type; numpy or dask (a stack stays lazy, one frame is loaded at a time).
        Length-1 axes in front are dropped; ``(y, x, 3|4)`` pictures whose channels are equal become grey.
    pixel_size_nm : float, optional
        Edge of a (square) pixel in nanometres; None where unknown.
    name : str
        What to call it in tables and messages.
    metadata : mapping
        What the file said (instrument, date, ...), passed through unread.
    notices : tuple of str
        What was changed on the way in, one sentence each.

    Raises
    ------
    MicrographError
        If the data are not a real numeric image, are too small, or hold nothing to analyse.
        Contents (constant, all NaN) are checked when a frame is taken, so that stacks stay lazy.
    """

    data: Any
    pixel_size_nm: float | None = None
    name: str = "micrograph"
    metadata: Mapping[str, Any] = field(default_factory=dict)
    notices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        data, notices = _as_frames(self.data, self.name)
        object.__setattr__(self, "data", data)
        object.__setattr__(self, "notices", (*self.notices, *notices))
        size = self.pixel_size_nm
        if size is not None:
            size = float(size)
            if not (np.isfinite(size) and size > 0):
                raise MicrographError(
                    f"{self.name}: the pixel size must be a positive length in nm, not {self.pixel_size_nm!r}; "
                    "leave it out if it is unknown."
                )
            object.__setattr__(self, "pixel_size_nm", size)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape ``(y, x)`` or ``(t, y, x)``."""
        return tuple(int(n) for n in self.data.shape)

    @property
    def frame_shape(self) -> tuple[int, int]:
        """Shape ``(y, x)`` of one frame."""
        return self.shape[-2], self.shape[-1]

    @property
    def is_stack(self) -> bool:
        """Whether there is a time axis."""
        return len(self.shape) == 3

    def __len__(self) -> int:
        return self.shape[0] if self.is_stack else 1

    def frame(self, index: int = 0) -> Frame:
        """Pixels of one frame, checked and with missing pixels filled.

        Raises
        ------
        MicrographError
            If the frame is constant or mostly without finite values.
        """
        if not -len(self) <= index < len(self):
            raise MicrographError(
                f"{self.name}: frame {index} was asked for, but there are only {len(self)} frames; "
                "choose one of them."
            )
        pixels = self.data[index] if self.is_stack else self.data
        name = f"{self.name}, frame {index % len(self)}" if self.is_stack else self.name
        return _check_frame(np.asarray(pixels), name)

    def __iter__(self) -> Iterator[Micrograph]:
        """Each frame as a micrograph of its own."""
        if not self.is_stack:
            yield self
            return
        for t in range(len(self)):
            yield Micrograph(
                self.data[t], self.pixel_size_nm, f"{self.name}[{t}]", self.metadata, self.notices
            )

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of dtype, shape and pixels (row-major), as hexadecimal digits."""
        digest = hashlib.sha256(f"{np.dtype(self.data.dtype).str}{self.shape}".encode())
        for t in range(len(self)):
            pixels = np.asarray(self.data[t] if self.is_stack else self.data)
            digest.update(np.ascontiguousarray(pixels).data)
        return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame ready for the numerics.

    Attributes
    ----------
    pixels : float32 array (y, x)
        Finite everywhere, shifted and scaled to the range 0...1 of the finite input.
    valid : bool array (y, x)
        False where the input was NaN or infinite and `pixels` was filled in.
    notices : tuple of str
        What was changed, one sentence each.
    """

    pixels: NDArray[np.float32]
    valid: NDArray[np.bool_]
    notices: tuple[str, ...] = ()


def _as_frames(data: Any, name: str) -> tuple[Any, tuple[str, ...]]:
    """Drop empty axes, turn grey pictures with channels into one channel, check type and shape."""
    notices: list[str] = []
    if not hasattr(data, "dtype") or not hasattr(data, "shape"):
        try:
            data = np.asarray(data)
        except ValueError as error:
            raise MicrographError(
                f"{name}: this is not a rectangular array of numbers; pass a 2-D image."
            ) from error
    dtype = np.dtype(data.dtype)
    if dtype == np.bool_:
        raise MicrographError(
            f"{name}: this is a black-and-white mask (boolean), not a micrograph; open the grey image."
        )
    if np.issubdtype(dtype, np.complexfloating):
        raise MicrographError(
            f"{name}: the pixels are complex numbers; take the modulus or the phase first (numpy.abs, numpy.angle)."
        )
    if not (np.issubdtype(dtype, np.integer) or np.issubdtype(dtype, np.floating)):
        raise MicrographError(f"{name}: the pixels have type {dtype}; a micrograph must hold real numbers.")
    shape = tuple(int(n) for n in data.shape)
    if len(shape) >= 3 and shape[-1] in (3, 4) and min(shape[-3:-1]) > 4:
        data = _grey(data, name)
        notices.append("The picture has colour channels that are all equal; one of them was used.")
        shape = tuple(int(n) for n in data.shape)
    while len(shape) > 2 and shape[0] == 1:
        data = data[0]
        shape = shape[1:]
    if len(shape) not in (2, 3):
        raise MicrographError(
            f"{name}: an image (y, x) or a time series (t, y, x) is needed, but the data have shape {shape}; "
            "choose one image of it."
        )
    if min(shape) == 0:
        raise MicrographError(f"{name}: the image is empty (shape {shape}); open one with pixels.")
    if min(shape[-2:]) < MIN_SIDE_PX:
        raise MicrographError(
            f"{name}: the image is {shape[-2]} × {shape[-1]} px; at least {MIN_SIDE_PX} × {MIN_SIDE_PX} px "
            "are needed to see a lattice, use a larger field of view."
        )
    return data, tuple(notices)


def _grey(data: Any, name: str) -> Any:
    first = data[..., 0]
    for channel in (1, 2):
        if not bool(np.asarray((data[..., channel] == first).all())):
            raise MicrographError(
                f"{name}: this is a colour picture, not a micrograph; save the original grey image "
                "without false colours or annotations."
            )
    return first


def _check_frame(pixels: NDArray[Any], name: str) -> Frame:
    values: NDArray[np.floating] = pixels.astype(np.float64 if pixels.dtype.itemsize > 2 else np.float32)
    valid = np.isfinite(values)
    fraction = 1.0 - np.count_nonzero(valid) / values.size
    if fraction == 1.0:
        raise MicrographError(
            f"{name}: no pixel has a finite value (all NaN or infinite); check how it was exported."
        )
    if fraction > MAX_INVALID_FRACTION:
        raise MicrographError(
            f"{name}: {100 * fraction:.0f} % of the pixels are NaN or infinite, too many to judge the lattice; "
            "crop the image to its valid part."
        )
    finite = values[valid] if fraction else values
    low, high = float(finite.min()), float(finite.max())
    if not high > low:
        raise MicrographError(
            f"{name}: all pixels have the same value ({low:g}); there is nothing to analyse."
        )
    # Divide first: the difference of the extremes of a float64 image may overflow.
    scale = max(abs(low), abs(high))
    span = high / scale - low / scale
    if not span > 0:
        raise MicrographError(
            f"{name}: the grey values differ by less than they can be told apart; rescale the image."
        )
    values = (values / scale - low / scale) / span
    notices: tuple[str, ...] = ()
    if fraction:
        values = _fill(values, valid)
        count = int(np.count_nonzero(~valid))
        notices = (
            f"{count} pixel{'s were' if count > 1 else ' was'} NaN or infinite and filled from the neighbours.",
        )
    return Frame(values.astype(np.float32), valid, notices)


def _fill(values: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[Any]:
    """Fill invalid pixels with the value of the nearest valid one."""
    from scipy.ndimage import distance_transform_edt

    index = distance_transform_edt(~valid, return_distances=False, return_indices=True)
    return values[tuple(index)]
