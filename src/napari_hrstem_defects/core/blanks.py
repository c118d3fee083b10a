"""Parts of an image that are no micrograph: borders, info bars, scale bars, text, dead lines, saturated areas.

What they have in common is that they hold no noise. Neighbouring pixels of a micrograph differ; where they do not
(counts of 0, a clipped background, saturated columns) the areas are small, or the lattice repeats them all over the
image. So a part is blank if it is flat over more than an atom column *and* much larger than any flat part that the
image repeats. The lattice itself sets the scale, no period has to be known.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Mask = NDArray[np.bool_]

#: Diagonal neighbours belong together.
_EIGHT = np.ones((3, 3), dtype=bool)
#: How many times larger than what the image repeats a blank part is. The sizes of clipped, noisy areas fall off
#: exponentially; the few largest of thousands are less than twice as large as the eighth.
_APART = 4


def find_blanks(
    pixels: NDArray[Any],
    *,
    side_px: int = 10,
    length_px: int = 24,
    tolerance: float = 0.1,
    repeats: int = 8,
    margin_px: int = 2,
) -> Mask:
    """Find the parts of an image that hold no image.

    Three kinds of flat parts are looked for: squares of exactly equal pixels, straight runs (along a row or column) of
    exactly equal pixels, and straight runs of nearly the darkest or brightest value, which is what JPEG leaves of a
    burnt-in bar. The last must also have sharp edges. Text is what stands out beside such a bar in its colour, or is
    enclosed by a flat background.

    Parameters
    ----------
    pixels : array (y, x)
        As recorded, of any real type: exact equality is what counts. NaN and infinite pixels are never found.
    side_px : int
        Smallest square of equal pixels, in pixels. Larger than a block of JPEG (8 px), which is flat wherever the
        image is smooth, and than the saturated top of a column at a usual sampling.
    length_px : int
        Shortest straight run of equal or extreme pixels, in pixels. Longer than a column is wide, shorter than a
        scale bar.
    tolerance : float
        How far the pixels of a burnt-in bar are from the darkest or brightest value, as a share of the range between:
        the ringing that JPEG of quality 75 leaves in it.
    repeats : int
        Flat parts of one size at more places than this belong to the image. Four borders and a few bars are fewer,
        the cells of a lattice are more.
    margin_px : int
        What is found is widened by so many pixels, for the ringing of JPEG and of interpolation beside it.

    Returns
    -------
    bool array (y, x)
        True where there is no image.

    Examples
    --------
    >>> image = np.random.default_rng(0).normal(size=(128, 128))
    >>> bool(find_blanks(image).any())
    False
    >>> image[:, :20] = 0
    >>> blank = find_blanks(image)
    >>> bool(blank[:, :22].all()), bool(blank[:, 22:].any())
    (True, False)
    """
    same_x = pixels[:, 1:] == pixels[:, :-1]
    same_y = pixels[1:] == pixels[:-1]
    solid = _flat_squares(same_x, same_y, side_px, repeats)
    exact = solid.copy()
    for same, axis in ((same_y, 0), (same_x, 1)):
        exact |= _flat_lines(same, axis, length_px, 2 * side_px, repeats)
    blank = exact.copy()
    for near, wide in _extremes(pixels, tolerance):
        blank |= _burnt_in(near, wide, exact, side_px, length_px, repeats, margin_px)
    if not blank.any():
        return blank
    if solid.any():
        blank |= _enclosed(exact, solid)
    return _grown(blank, margin_px)


def _flat_squares(same_x: Mask, same_y: Mask, side: int, repeats: int) -> Mask:
    """Union of the squares of equal pixels that are larger than those the image repeats."""

    def corners(n: int) -> Mask:
        across = _all_of(_all_of(same_x, n - 1, 1), n, 0)
        return across & _all_of(_all_of(same_y, n - 1, 0), n, 1)

    shape = same_x.shape[0], same_y.shape[1]
    squares = corners(side)
    if not squares.any():
        return np.zeros(shape, dtype=bool)
    # On every fifth pixel: squares of five that follow one another make a larger one.
    step = side // 2
    grid = corners(step)[::step, ::step]
    size = step * _standing_out(lambda n: _all_of(_all_of(grid, n, 0), n, 1), 1, 2, repeats)
    squares = _all_of(_all_of(squares, size - side + 1, 0), size - side + 1, 1)
    if not squares.any():
        return np.zeros(shape, dtype=bool)
    return _any_of(_any_of(squares, size, 0), size, 1)


def _flat_lines(same: Mask, axis: int, length: int, thick: int, repeats: int) -> Mask:
    """Thin straight runs of equal pixels along an axis: dead lines, narrow borders, frames, rims of a box."""
    shape = tuple(n + (i == axis) for i, n in enumerate(same.shape))
    starts = _all_of(same, length - 1, axis)
    if not starts.any():
        return np.zeros(shape, dtype=bool)
    # Fringes without noise are equal along one axis everywhere: side by side, runs say nothing.
    broad = _opened(_any_of(starts, length, axis), thick)

    def runs(n: int) -> Mask:
        starts = _all_of(same, n - 1, axis)
        if not starts.any():
            return np.zeros(shape, dtype=bool)
        found: Mask = _any_of(starts, n, axis) & ~broad
        return found

    return runs(_standing_out(runs, length // 3, length, repeats))


def _burnt_in(near: Mask, wide: Mask, exact: Mask, side: int, length: int, repeats: int, margin: int) -> Mask:
    """Bars of an extreme value with sharp edges, the text beside them, and the edge of what is exactly flat.

    `near` are the pixels close to the extreme value, `wide` those within some distance more.
    """
    found = np.zeros_like(near)
    if not any(_all_of(near, length, axis).any() for axis in (0, 1)):
        return found
    if exact.any():
        # JPEG blurs the edge of a flat part by no more than a block.
        found = _runs(near, length) & _grown(exact, side)
    # A bar is thin; vacuum is not.
    near = near & ~_opened(near, 2 * side)
    if not any(_all_of(near, length, axis).any() for axis in (0, 1)):
        return found
    size = max(
        _standing_out(lambda n, axis=axis: _all_of(near, n, axis), length // 3, length, repeats)  # type: ignore[misc]
        for axis in (0, 1)
    )
    labels, _ = ndimage.label(_runs(near, size) & ~found, _EIGHT)
    for i, box in enumerate(ndimage.find_objects(labels), 1):
        if min(s.stop - s.start for s in box) > 2 * side:
            continue
        window = tuple(slice(max(0, s.start - 2 * margin), s.stop + 2 * margin) for s in box)
        bar = labels[window] == i
        around = _grown(bar, 2 * margin) & ~_grown(bar, margin) & ~found[window]
        # The dark rim of a particle or a dark fault darkens gradually, or on one side only.
        if 3 * np.count_nonzero(around & wide[window]) < np.count_nonzero(around):
            found[window] |= bar
    seeds = _inside((found | exact) & near)
    return found | _text(near, seeds, length, repeats) if seeds.any() else found


def _text(near: Mask, seeds: Mask, length: int, repeats: int) -> Mask:
    """Parts of `near` close to the seeds that are larger than what there is elsewhere."""
    # Writing is placed within about half the length of its bar.
    bars, _ = ndimage.label(seeds, _EIGHT)
    longest = max(s.stop - s.start for box in ndimage.find_objects(bars) for s in box)
    close = _grown(seeds, max(length, longest // 2))
    labels, count = ndimage.label(near, _EIGHT)
    extent = np.zeros(count + 1)
    extent[1:] = [max(s.stop - s.start for s in box) for box in ndimage.find_objects(labels)]
    outside = np.zeros(count + 1, dtype=bool)
    outside[labels[~close]] = True
    # What hangs together with the bar is no letter but noise at its edge.
    outside[labels[seeds]] = True
    elsewhere = np.sort(extent[outside])[::-1]
    usual = elsewhere[repeats] if len(elsewhere) > repeats else 0
    letter = ~outside & (extent > max(length // 3, usual))
    letter[0] = False
    return np.asarray(letter[labels], dtype=bool)


def _enclosed(exact: Mask, solid: Mask) -> Mask:
    """What a flat background cuts off from the image: the text of an info bar."""
    labels, _ = ndimage.label(exact, _EIGHT)
    rest, count = ndimage.label(~np.isin(labels, np.unique(labels[solid])))
    area = np.bincount(rest.ravel(), minlength=count + 1)
    area[0] = 0
    # Two halves of an image that a line parts are both image.
    small = (area > 0) & (10 * area < area.max())
    return np.asarray(small[rest], dtype=bool)


def _inside(mask: Mask) -> Mask:
    """Connected parts that do not touch the edge of the image."""
    labels, count = ndimage.label(mask, _EIGHT)
    keep = np.ones(count + 1, dtype=bool)
    for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        keep[edge] = False
    keep[0] = False
    return np.asarray(keep[labels], dtype=bool)


def _extremes(pixels: NDArray[Any], tolerance: float) -> list[tuple[Mask, Mask]]:
    """Pixels close to the brightest value and those less close; the same for the darkest."""
    real = pixels.dtype.kind == "f"
    finite = pixels[np.isfinite(pixels)] if real else pixels
    # Python's integers do not overflow; of floating-point extremes the difference may, their shares do not.
    low, high = finite.min().item(), finite.max().item()
    out = []
    for share in (tolerance, 2.5 * tolerance):
        step = share * high - share * low if real else int(share * (high - low))
        out.append((pixels >= high - step, pixels <= low + step))
    (bright, dark), (brightish, darkish) = out
    return [(bright, brightish), (dark, darkish)]


def _standing_out(parts: Callable[[int], Mask], smallest: int, size: int, repeats: int) -> int:
    """Size from which on a flat part stands out: `size`, or more where the image repeats parts of some size."""
    common, n = 0, smallest
    while (mask := parts(n)).any():
        # Large parts run together at small sizes: all sizes have to be counted.
        if ndimage.label(mask, _EIGHT)[1] > repeats:
            common = n
        n = max(n + 1, n * 3 // 2)
    return max(size, _APART * common)


def _runs(mask: Mask, length: int) -> Mask:
    """Pixels on a straight run of at least `length` pixels along a row or a column."""
    out = np.zeros_like(mask)
    for axis in (0, 1):
        starts = _all_of(mask, length, axis)
        if starts.any():
            out |= _any_of(starts, length, axis)
    return out


def _opened(mask: Mask, side: int) -> Mask:
    """Union of the squares that fit into a mask."""
    corners = _all_of(_all_of(mask, side, 0), side, 1)
    if not corners.any():
        return np.zeros_like(mask)
    return _any_of(_any_of(corners, side, 0), side, 1)


def _grown(mask: Mask, by: int) -> Mask:
    """Widened by so many pixels to all sides."""
    inner = slice(by, -by or None)
    return _any_of(_any_of(mask, 2 * by + 1, 0), 2 * by + 1, 1)[inner, inner]


def _all_of(mask: Mask, n: int, axis: int) -> Mask:
    """Whether `n` successive pixels are True; the axis becomes shorter by ``n - 1``."""
    done = 1
    while done < n:
        step = min(done, n - done)
        if mask.shape[axis] <= step:
            return mask[:0] if axis == 0 else mask[:, :0]
        mask = mask[step:] & mask[:-step] if axis == 0 else mask[:, step:] & mask[:, :-step]
        done += step
    return mask


def _any_of(mask: Mask, n: int, axis: int) -> Mask:
    """Pixels of ``n`` successive ones of which the first is True; the axis becomes longer by ``n - 1``."""
    done = 1
    while done < n:
        step = min(done, n - done)
        longer = np.pad(mask, [(0, step), (0, 0)] if axis == 0 else [(0, 0), (0, step)])
        if axis == 0:
            longer[step:] |= mask
        else:
            longer[:, step:] |= mask
        mask = longer
        done += step
    return mask
