"""Validated input: the pixels of one micrograph or of a time series, with pixel size and unit."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_hrstem_defects.core.preprocessing import filled, without_spikes
from napari_hrstem_defects.errors import MicrographError

Mask = NDArray[np.bool_]

#: Smallest side of an image that can be analysed, in pixels: a few lattice periods and one kernel.
MIN_SIDE_PX = 32


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

    Examples
    --------
    >>> import numpy as np, napari_hrstem_defects as hd
    >>> series = hd.Micrograph(np.arange(2 * 40 * 50).reshape(2, 40, 50), pixel_size_nm=0.01)
    >>> series.shape, series.frame_shape, len(series)
    ((2, 40, 50), (40, 50), 2)
    >>> pixels = series.frame(1).pixels
    >>> pixels.min(), pixels.max()
    (np.float32(0.0), np.float32(1.0))
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
        Finite everywhere, without hot and dead pixels, shifted and scaled to the range 0...1 of the valid input.
    valid : bool array (y, x)
        False where the input was NaN or infinite or no image (borders, info bars, scale bars, text, dead lines,
        saturated areas; see :func:`find_blanks`) and `pixels` was filled in.
    notices : tuple of str
        What was changed, one sentence each.
    """

    pixels: NDArray[np.float32]
    valid: NDArray[np.bool_]
    notices: tuple[str, ...] = ()


def _as_frames(data: Any, name: str) -> tuple[Any, tuple[str, ...]]:
    """Drop empty axes, turn grey pictures with channels into one channel, check type and shape."""
    notices: list[str] = []
    try:
        data = data if hasattr(data, "dtype") and hasattr(data, "shape") else np.asarray(data)
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
    if len(shape) > 2 and shape[-1] in range(3, 5) and min(shape[-3:-1]) > shape[-1]:
        if not bool(np.asarray((data[..., :1] == data[..., 1:3]).all())):
            raise MicrographError(
                f"{name}: this is a colour picture, not a micrograph; save the original grey image "
                "without false colours or annotations."
            )
        data = data[..., 0]
        notices.append("The picture has colour channels that are all equal; one of them was used.")
        shape = tuple(int(n) for n in data.shape)
    while len(shape) > 2 and shape[0] == 1:
        data, shape = data[0], shape[1:]
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


def _check_frame(pixels: NDArray[Any], name: str) -> Frame:
    values: NDArray[np.floating] = pixels.astype(np.float64 if pixels.dtype.itemsize > 2 else np.float32)
    valid = np.isfinite(values)
    missing = int(np.count_nonzero(~valid))
    if missing == values.size:
        raise MicrographError(f"{name}: no pixel has a finite value; check how it was exported.")
    if 2 * missing > values.size:
        raise MicrographError(
            f"{name}: {missing / values.size:.0%} of the pixels are not finite; crop the image to its valid part."
        )
    finite = values[valid] if missing else values.ravel()
    if finite.min() == finite.max():
        raise MicrographError(
            f"{name}: all pixels have the same value ({finite[0]:g}); there is nothing to analyse."
        )
    notices: list[str] = []
    if missing:
        notices.append(
            f"{missing} pixel{'s were' if missing > 1 else ' was'} NaN or infinite and filled from the neighbours."
        )
    blank = find_blanks(pixels) & valid
    if blank.any():
        share = float(f"{100 * np.count_nonzero(blank) / blank.size:.2g}")
        notices.append(f"{share:g} % of the image ({_places(blank, pixels)}) hold no image and are left out.")
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
            f"{name}: the grey values differ by less than their numerical precision; rescale the image."
        )
    values = filled(values, valid) / scale
    values -= low / scale
    values /= span
    image, spikes = without_spikes(values.astype(np.float32), valid)
    if spikes:
        notices.append(
            f"{spikes} hot or dead pixel{'s' if spikes > 1 else ''} took the median of those around."
        )
        image -= image.min(where=valid, initial=1)
        image /= image.max(where=valid, initial=0)
    return Frame(image, valid, tuple(notices))


def _places(blank: Mask, pixels: NDArray[Any]) -> str:
    """Where the blank parts are, in words."""
    from skimage.segmentation import clear_border

    borders, bars = list[str](), list[str]()
    for turns, side in enumerate(("top", "right", "bottom", "left")):
        mask, turned = np.rot90(blank, turns), np.rot90(pixels, turns)
        if 2 * np.count_nonzero(mask[0]) <= mask.shape[1]:
            continue
        depth = int(np.cumprod(mask.all(axis=1)).sum())
        # A bar with writing holds more than one grey value; its last rows are the margin and the blur of JPEG.
        strip = turned[: depth * 2 // 3]
        (bars if strip.size and (strip != strip[0, 0]).any() else borders).append(side)
    parts = [f"an info bar at the {_and(bars)}"] if bars else []
    if borders:
        parts.insert(0, "a border all around" if len(borders) == 4 else f"a border at the {_and(borders)}")
    inside = clear_border(blank)
    if not parts and (blank & ~inside).any():
        parts.append("parts at the edge")
    if inside.any():
        parts.append("marks inside, such as a scale bar, text or saturation")
    return _and(parts)


def _and(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def find_blanks(
    pixels: NDArray[Any],
    *,
    side_px: int = 10,
    tolerance: float = 0.1,
    repeats: int = 8,
    margin_px: int = 2,
) -> Mask:
    """Find the parts that are no micrograph: borders, info bars, scale bars, text, dead lines, saturated areas.

    They hold no noise. Flat parts of a micrograph (counts of 0, a clipped background, saturated columns) are small, or
    the lattice repeats them all over the image. So squares and straight lines (along rows or columns) of exactly
    equal pixels are blank if they are several times larger than any that the image repeats. Lines and letters are
    drawn in the darkest or brightest value, nearly so after JPEG: connected, even, three times as long as wide, with
    sharp edges, and longer than what the image repeats. Smaller writing beside them in their colour, and what a flat
    background encloses, belongs to them.

    Parameters
    ----------
    pixels : array (y, x)
        As recorded, of any real type: exact equality is what counts. NaN and infinite pixels are never found.
    side_px : int
        Smallest square of equal pixels: larger than a smooth block of JPEG (8 px) and the saturated top of a column.
        Lines of equal pixels, longer than a column is wide, are at least twice as long and at most twice as thick.
    tolerance : float
        Ringing of JPEG of quality 75 in a bar, as a share of the range between the darkest and the brightest value.
    repeats : int
        Flat parts of one size at more places than this belong to the image: more than four borders and a few bars.
    margin_px : int
        What is found is widened by so many pixels, for the ringing of JPEG and of interpolation beside it.

    Returns
    -------
    bool array (y, x)
        True where there is no image.

    Examples
    --------
    >>> image = np.random.default_rng(0).normal(size=(128, 128))
    >>> image[:, :20] = 0
    >>> blank = find_blanks(image)
    >>> bool(blank[:, :22].all()), bool(blank[:, 22:].any())
    (True, False)
    """
    length = 2 * side_px
    along_y, along_x = pixels[1:] == pixels[:-1], pixels[:, 1:] == pixels[:, :-1]
    found = _spread(_standing_out(along_y[:, 1:] & along_x[1:], (0, 1), side_px - 1, repeats), (2, 2))
    solid = bool(found.any())
    for same, axis in ((along_y, 0), (along_x, 1)):
        if _whole(same, length, (axis,)).any():
            # Fringes without noise are equal along one axis everywhere: side by side, lines say nothing.
            broad = _spread(_whole(same, length, (0, 1)), (length, length))
            lines = _standing_out(same & ~broad, (axis,), length, repeats)
            found |= _spread(lines, (2, 1) if axis == 0 else (1, 2))
    blank = found.copy()
    for ink in _extremes(pixels, tolerance):
        blank |= _drawn(pixels, found, ink, tolerance, (side_px, repeats, margin_px))
    if solid:
        # Two halves of an image that a line parts are both image; text is small.
        rest, _ = ndimage.label(~found)
        area = np.bincount(rest.ravel())
        area[0] = 0
        blank |= ((area > 0) & (repeats * area < area.max()))[rest]
    return _spread(blank, (2 * margin_px + 1,) * 2, centred=True) if blank.any() else blank


def _standing_out(mask: Mask, axes: tuple[int, ...], size: int, repeats: int) -> Mask:
    """Union of the lines along an axis, or squares along two, that are larger than those the image repeats."""
    starts = _whole(mask, size, axes)
    if not starts.any():
        return np.zeros_like(mask)
    # Counted on a grid: `n` blocks in a row are a line of that many blocks at least.
    block = size // 2
    grid = _whole(mask, block, axes)[:: block if 0 in axes else 1, :: block if 1 in axes else 1]
    common, n = 0, 1
    # Large parts run together at small sizes: all sizes have to be counted.
    while (parts := _whole(grid, n, axes)).any():
        if ndimage.label(parts, np.ones((3, 3)))[1] > repeats:
            common = n
        n += (n + 1) // 2
    # Sizes of clipped, noisy areas fall off exponentially: the largest of thousands are less than 4 times the eighth.
    larger = max(size, 2 * common * size)
    starts = _whole(starts, larger - size + 1, axes)
    shape = (larger if 0 in axes else 1, larger if 1 in axes else 1)
    return _spread(starts, shape) if starts.any() else np.zeros_like(mask)


def _drawn(
    pixels: NDArray[Any], flat: Mask, ink: tuple[Mask, ...], tolerance: float, sizes: tuple[int, int, int]
) -> Mask:
    """Lines and letters drawn in an extreme value: long, thin, even, with sharp edges, in a part of the image only."""
    (near, core, wide), (side, repeats, margin) = ink, sizes
    # Nothing is drawn in a value that much of the image has.
    if np.count_nonzero(core) < side or repeats * np.count_nonzero(near) > near.size:
        return np.zeros_like(near)
    labels, count = ndimage.label(near, np.ones((3, 3)))
    places = np.argwhere(near)
    part = labels[near] - 1
    starts, stops = np.full((count, 2), max(near.shape)), np.zeros((count, 2), int)
    np.minimum.at(starts, part, places)
    np.maximum.at(stops, part, places + 1)
    extent = (stops - starts).max(axis=1)
    # What the lattice repeats is as large in most squares of a chess board; few are written on.
    largest = np.zeros((repeats, repeats), int)
    np.maximum.at(largest, tuple((repeats * places // near.shape).T), extent[part])
    usual = np.median(largest)

    def drawn(i: np.intp, *, even: bool) -> bool:
        window = tuple(map(slice, np.maximum(starts[i] - 2 * margin, 0), stops[i] + 2 * margin))
        part = labels[window] == i + 1
        if even and not flat[window][part].any() and np.mean(core[window][part]) < 0.5:
            return False
        # Columns are round, dumbbells twice as long as wide; what noise has cut out of them is filled again.
        filled = _spread(part, (margin + 1,) * 2, centred=True)
        if _whole(filled, margin - (-extent[i] // 3), (0, 1)).any():
            return False
        # A pen's edge ends within the margin; columns, rims of particles and dark faults change gradually.
        edge, around = (
            _spread(part, (2 * n * margin + 1,) * 2, centred=True)
            & ~_spread(part, (size, size), centred=True)
            for n, size in ((1, margin + 1), (2, 2 * margin + 1))
        )
        own, beside, beyond = (float(np.median(pixels[window][each])) for each in (part, edge, around))
        gradual = abs(beside - beyond) > tolerance * abs(own - beyond) and (beside < beyond) == (own < beyond)
        return bool(np.mean(wide[window][edge]) < 0.5 and not gradual)

    marks = [i for i in np.flatnonzero(extent > max(side, 2 * usual)) if drawn(i, even=True)]
    found = set(marks)
    for i in marks:
        # Writing is placed within about half the length of its bar.
        reach = max(side, extent[i] // 2)
        beside = ((starts < stops[i] + reach) & (stops > starts[i] - reach)).all(axis=1)
        beside &= extent > max(margin, usual)
        found.update(j for j in np.flatnonzero(beside) if drawn(j, even=False))
    return np.isin(labels, np.array(sorted(found)) + 1) if found else np.zeros_like(near)


def _extremes(pixels: NDArray[Any], tolerance: float) -> list[tuple[Mask, ...]]:
    """Pixels near the brightest value, those nearer to it and those twice as far; the same for the darkest."""
    real = pixels.dtype.kind == "f"
    finite = pixels
    if real and not (known := np.isfinite(pixels)).all():
        finite = pixels[known]
    # Python's integers do not overflow; of floating-point extremes the difference may, their shares do not.
    low, high = finite.min().item(), finite.max().item()
    shares = [n * high - n * low for n in (tolerance, tolerance / 4, 2 * tolerance)]
    steps = shares if real else map(int, shares)
    bright, dark = zip(*((pixels >= high - step, pixels <= low + step) for step in steps), strict=True)
    return [bright, dark]


def _whole(mask: Mask, n: int, axes: tuple[int, ...]) -> Mask:
    """Where lines or squares of `n` True pixels start; the axes become shorter by ``n - 1``."""
    for axis in axes:
        mask, done = np.moveaxis(mask, axis, 0), 1
        while done < n:
            step = min(done, n - done)
            mask = mask[step:] & mask[:-step] if len(mask) > step else mask[:0]
            done += step
        mask = np.moveaxis(mask, 0, axis)
    return mask


def _spread(mask: Mask, shape: tuple[int, int], *, centred: bool = False) -> Mask:
    """Union of the rectangles that start, or are centred, where a mask is True; in the first case it grows."""
    if not centred:
        mask = np.pad(mask, [(n - 1, n - 1) for n in shape])
        return ~_whole(_whole(~mask, shape[0], (0,)), shape[1], (1,))
    y, x = (n // 2 for n in shape)
    return _spread(mask, shape)[y : y + mask.shape[0], x : x + mask.shape[1]]
