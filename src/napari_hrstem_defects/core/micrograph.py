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
#: Filled pixels fade to the mean within this many pixels: edge pixels repeated far outward would look like fringes.
FADE_PX = 8.0


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
        """Pixels of one frame, checked, with what is missing or no image filled.

        Raises
        ------
        MicrographError
            If the frame is constant, mostly without finite values, or holds no image.
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
        Finite everywhere, shifted and scaled to the range 0...1 of the valid input.
    valid : bool array (y, x)
        False where the input was NaN or infinite or no image (borders, info bars, scale bars, text, dead lines,
        saturated areas; see :func:`~napari_hrstem_defects.core.blanks.find_blanks`) and `pixels` was filled in.
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
    from napari_hrstem_defects.core.blanks import find_blanks

    values: NDArray[np.floating] = pixels.astype(np.float64 if pixels.dtype.itemsize > 2 else np.float32)
    valid = np.isfinite(values)
    missing = values.size - int(np.count_nonzero(valid))
    if missing == values.size:
        raise MicrographError(
            f"{name}: no pixel has a finite value (all NaN or infinite); check how it was exported."
        )
    if missing > MAX_INVALID_FRACTION * values.size:
        raise MicrographError(
            f"{name}: {100 * missing / values.size:.0f} % of the pixels are NaN or infinite, too many to judge the "
            "lattice; crop the image to its valid part."
        )
    finite = values[valid] if missing else values
    low, high = float(finite.min()), float(finite.max())
    if not high > low:
        raise MicrographError(
            f"{name}: all pixels have the same value ({low:g}); there is nothing to analyse."
        )
    notices: list[str] = []
    if missing:
        notices.append(
            f"{missing} pixel{'s were' if missing > 1 else ' was'} NaN or infinite and filled from the neighbours."
        )
    blank = find_blanks(pixels) & valid
    if blank.any():
        notices.append(
            f"{_percent(np.count_nonzero(blank) / blank.size)} of the image ({_places(blank, pixels)}) hold no image "
            "and are left out."
        )
        valid &= ~blank
        finite = values[valid]
        if finite.size < MIN_SIDE_PX**2 or finite.min() == finite.max():
            raise MicrographError(
                f"{name}: nearly all of the image is constant (a border, a bar or saturation); there is nothing to "
                "analyse."
            )
        low, high = float(finite.min()), float(finite.max())
    # Divide first: the difference of the extremes of a float64 image may overflow.
    scale = max(abs(low), abs(high))
    span = high / scale - low / scale if scale else 0.0
    if not span > 0:
        raise MicrographError(
            f"{name}: the grey values differ by less than they can be told apart; rescale the image."
        )
    if not valid.all():
        values = _fill(values, valid)
    values = (values / scale - low / scale) / span
    return Frame(values.astype(np.float32), valid, tuple(notices))


def _fill(values: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[Any]:
    """Fill invalid pixels with the value of the nearest valid one, further out more and more with the mean."""
    from scipy.ndimage import distance_transform_edt

    distance, index = distance_transform_edt(~valid, return_indices=True)
    weight = np.exp((1 - distance[~valid]) / FADE_PX)
    known = values[valid]
    # Of parts of the largest value: a sum of extremes may overflow.
    scale = max(float(np.abs(known).max()), np.finfo(values.dtype).tiny)
    mean = float(np.mean(known / scale)) * scale
    filled = values.copy()
    filled[~valid] = weight * values[tuple(i[~valid] for i in index)] + (1 - weight) * mean
    return filled


def _percent(share: float) -> str:
    return "less than 0.1 %" if share < 0.001 else f"{100 * share:.{0 if share >= 0.0095 else 1}f} %"


def _places(blank: NDArray[np.bool_], pixels: NDArray[Any]) -> str:
    """Where the blank parts are, in words."""
    from scipy.ndimage import label

    borders: list[str] = []
    bars: list[str] = []
    parts: list[str] = []
    for side, turns in (("top", 0), ("right", 1), ("bottom", 2), ("left", 3)):
        mask, turned = np.rot90(blank, turns), np.rot90(pixels, turns)
        if np.count_nonzero(mask[0]) <= mask.shape[1] / 2:
            continue
        depth = int(np.cumprod(mask.all(axis=1)).sum())
        # A bar with writing holds more than one grey value; its last rows are the margin.
        strip = turned[: max(depth - 8, 0)]
        written = strip.size > 0 and bool((strip != strip[0, 0]).any())
        (bars if written else borders).append(side)
    if len(borders) == 4:
        parts.append("a border all around")
    elif borders:
        parts.append(f"a border at the {_and(borders)}")
    if bars:
        parts.append(f"an info bar at the {_and(bars)}")
    labels, count = label(blank)
    at_edge = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    at_edge = at_edge[at_edge > 0]
    if len(at_edge) and not parts:
        parts.append("parts at the edge")
    if count > len(at_edge):
        parts.append("marks inside, such as a scale bar, text or saturation")
    return _and(parts)


def _and(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
