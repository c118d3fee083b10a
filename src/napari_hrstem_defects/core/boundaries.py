"""Boundaries between grains, twins and phases, without a reference patch."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.core.errors import Cancelled
from napari_hrstem_defects.core.preprocessing import Prepared
from napari_hrstem_defects.core.threads import own_threads

#: Shortest and longest shift of the autocorrelation, in periods: below, it only knows how wide the atoms are; beyond
#: the first neighbours the measure reaches over the boundary, and jitter and bending blur it.
SHIFT_PERIODS = (0.4, 1.5)
#: Steps between the shifts, in periods: a quarter of a period is what the band-pass leaves to resolve.
SHIFT_STEP_PERIODS = 0.25
#: Standard deviation of the Gaussian in which the autocorrelation is taken, in periods: as narrow as it can be without
#: seeing the single atoms (at 0.5 it does).
WINDOW_PERIODS = 0.8
#: Power added before dividing by it, as a share of its mean: where there is little lattice there is little
#: autocorrelation, rather than that of the noise; less, and phases of weaker contrast are harder to see.
POWER_FLOOR = 0.5
#: Resolution at which the autocorrelation is kept, in blocks per period; the window makes it smoother than that.
BLOCKS_PER_PERIOD = 2.0
#: Principal components kept: few lattices meet in one image, and each differs from the mean in few ways.
COMPONENTS = 16
#: Directions across which sides are compared.
DIRECTIONS = 8
#: Distances from the boundary at which sides are compared, in periods: the nearer pair says where, the farther one
#: must agree, which neither noise nor a narrow fault between equal sides does.
REACH_PERIODS = (1.0, 2.0)
#: As far as the band-pass feels the mirrored lattice beyond the rim of the image, in periods: mirrored, any lattice
#: looks like its twin.
RIM_PERIODS = 0.6
#: So close to the rim, in periods, the autocorrelation further in is taken: there the longest shifts have hardly any
#: pixels of their own, and the single atoms of one-sided windows show.
HELD_PERIODS = 1.0


def boundary_map(prepared: Prepared, *, cancelled: Callable[[], bool] | None = None) -> NDArray[np.float32]:
    """How differently the lattice repeats on the two sides of each pixel.

    The local autocorrelation of the prepared image h over shifts s,

        a_s(r) = (G ∗ h(r − s/2) h(r + s/2)) / (G ∗ h² + floor),

    tells lattices of other orientation, spacing or motif apart, wherever their atoms lie. With D_n(r, t) =
    a(r + t n) − a(r − t n), its change across r along a direction n,

        b(r) = max_n sqrt(max(0, mean_s D_n(r, t₁) D_n(r, t₂)))

    is large where the lattices on both sides differ at two distances t₁ < t₂ in the same way: at the boundaries of
    grains, twins and phases, but neither in noise, whose differences do not agree, nor at a fault between equal
    halves. Lattices turned by 180° (inversion domains) have the same autocorrelation and are not told apart, nor are
    coherent phases that differ in brightness alone.

    Only pixels within the image count; nearer to its rim than `HELD_PERIODS`, the values found at that distance
    stand in, so that a boundary that runs along the rim within about two periods of it is not seen.

    Parameters
    ----------
    prepared : Prepared
    cancelled : callable, optional
        Asked now and then; True stops the computation.

    Returns
    -------
    float32 array (y, x)
        At the frame's resolution; root mean square change of the autocorrelation, 0...1 or so. It ranks the
        pixels of one image; no value of it by itself tells a boundary from the variation within a grain. All
        zero if the image is too small to hold the shifts.

    Raises
    ------
    Cancelled
        If `cancelled` returned True.
    """
    block = max(1, round(prepared.period_px / BLOCKS_PER_PERIOD))
    with own_threads():
        correlation = _autocorrelation(prepared, block, cancelled)
        if correlation is None:
            return np.zeros(prepared.shape, np.float32)
        found = _steps(_principal(correlation), prepared.period_px / block)
        found /= np.float32(np.sqrt(len(correlation)))
    return _to_frame(found, prepared, block)


def _shifts(period_px: float) -> list[tuple[int, int]]:
    """Shifts ``(dy, dx)`` in px on a grid through half a ring; a shift and its opposite are one."""
    step = max(1, round(SHIFT_STEP_PERIODS * period_px))
    shortest, longest = (reach * period_px for reach in SHIFT_PERIODS)
    count = int(longest / step)
    return [
        (step * i, step * j)
        for i in range(count + 1)
        for j in range(-count, count + 1)
        if (i > 0 or j > 0) and shortest <= step * np.hypot(i, j) <= longest
    ]


def _autocorrelation(
    prepared: Prepared, block: int, cancelled: Callable[[], bool] | None
) -> NDArray[np.float32] | None:
    """Local autocorrelation, shape ``(shifts, y / block, x / block)``; None if the image is too small for it."""
    values, period = prepared.values, prepared.period_px
    rim = round(RIM_PERIODS * period)
    inner = values[rim : values.shape[0] - rim, rim : values.shape[1] - rim]
    if min(inner.shape) < 2 * SHIFT_PERIODS[1] * period:
        return None
    sigma = WINDOW_PERIODS * period / block
    windows = (_window(-(-values.shape[0] // block), sigma), _window(-(-values.shape[1] // block), sigma))
    canvas = np.zeros((len(windows[0]) * block, len(windows[1]) * block), np.float32)

    def mean_product(dy: int, dx: int) -> NDArray[np.float32]:
        # Both factors lie within the image; the product is put in the middle between them.
        rows, columns = inner.shape[0] - dy, inner.shape[1] - abs(dx)
        left = max(0, -dx)
        first = inner[:rows, left : left + columns]
        second = inner[dy:, left + dx : left + dx + columns]
        y, x = rim + dy // 2, rim + abs(dx) // 2
        canvas.fill(0)
        np.multiply(first, second, out=canvas[y : y + rows, x : x + columns])
        total = windows[0] @ _block_sums(canvas, block) @ windows[1].T
        weights = (
            window @ _counts(start, length, size, block)
            for window, start, length, size in zip(
                windows, (y, x), (rows, columns), canvas.shape, strict=True
            )
        )
        mean: NDArray[np.float32] = total / np.outer(*weights)
        return mean

    shifts = _shifts(period)
    power = np.maximum(mean_product(0, 0), 0)
    power += np.float32(max(POWER_FLOOR * float(power.mean()), float(np.finfo(np.float32).tiny)))
    out = np.empty((len(shifts), *power.shape), np.float32)
    for i, shift in enumerate(shifts):
        if cancelled is not None and cancelled():
            raise Cancelled
        np.divide(mean_product(*shift), power, out=out[i])
    return out


def _window(count: int, sigma: float) -> NDArray[np.float32]:
    """Gaussian weights between `count` blocks; `sigma` in blocks."""
    offset = np.arange(count)[:, None] - np.arange(count)[None]
    # Cut where it is nothing in single precision but not yet slow to compute with.
    return np.where(np.abs(offset) < 8 * sigma, np.exp(-0.5 * (offset / sigma) ** 2), 0).astype(np.float32)


def _block_sums(image: NDArray[np.float32], block: int) -> NDArray[np.float32]:
    """Sums over blocks; the sides of the image are multiples of their edge."""
    rows = image.reshape(image.shape[0] // block, block, image.shape[1]).sum(axis=1)
    out: NDArray[np.float32] = sum((rows[:, i::block] for i in range(1, block)), start=rows[:, ::block])
    return out


def _counts(start: int, length: int, size: int, block: int) -> NDArray[np.float32]:
    """How many of the pixels ``start...start + length`` each block of a side of `size` pixels holds."""
    inside = np.zeros(size, np.float32)
    inside[start : start + length] = 1
    return inside.reshape(-1, block).sum(axis=1)


def _principal(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Leading principal components of the features ``(n, y, x)``."""
    flat = features.reshape(len(features), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    _, vectors = np.linalg.eigh((flat @ flat.T).astype(np.float64))
    leading = vectors[:, ::-1][:, :COMPONENTS].T.astype(np.float32)
    out: NDArray[np.float32] = (leading @ flat).reshape(-1, *features.shape[1:])
    return out


def _steps(features: NDArray[np.float32], period: float) -> NDArray[np.float32]:
    """Largest agreement of the changes at both distances over all directions; `period` in pixels of the features."""
    pad = int(np.ceil(REACH_PERIODS[1] * period))
    held = int(HELD_PERIODS * period)
    inner = features[:, held : features.shape[1] - held, held : features.shape[2] - held]
    padded = np.pad(inner, ((0, 0), (pad + held,) * 2, (pad + held,) * 2), mode="edge")
    best = np.zeros(features.shape[1:], np.float32)
    for near, far in _pairs(period):
        agreement = np.zeros_like(best)
        # One component at a time: what is worked on stays in the cache.
        for component in padded:
            agreement += _difference(component, near, pad) * _difference(component, far, pad)
        np.maximum(best, agreement, out=best)
    return np.sqrt(best)


def _pairs(period: float) -> Iterator[tuple[tuple[int, int], ...]]:
    """Steps ``(dy, dx)`` to the near and the far point of each direction, in whole pixels of the features."""
    for angle in np.arange(DIRECTIONS) * np.pi / DIRECTIONS:
        yield tuple(
            (round(reach * period * np.sin(angle)), round(reach * period * np.cos(angle)))
            for reach in REACH_PERIODS
        )


def _difference(padded: NDArray[np.float32], step: tuple[int, int], pad: int) -> NDArray[np.float32]:
    rows, columns = (n - 2 * pad for n in padded.shape)
    ahead, behind = (
        padded[pad + s * step[0] : pad + s * step[0] + rows, pad + s * step[1] : pad + s * step[1] + columns]
        for s in (1, -1)
    )
    return ahead - behind


def _to_frame(found: NDArray[np.float32], prepared: Prepared, block: int) -> NDArray[np.float32]:
    """Blocks to pixels of the frame by linear interpolation; the last blocks may reach beyond the image."""
    out: NDArray[np.float32] = found
    for axis in (0, 1):
        pixels = (np.arange(prepared.shape[axis]) + 0.5) * prepared.scale[axis]
        position = pixels / block - 0.5
        below = np.clip(np.floor(position).astype(np.intp), 0, found.shape[axis] - 2)
        share = np.clip(position - below, 0, 1).astype(np.float32)
        share = share[:, None] if axis == 0 else share[None]
        low, high = np.take(out, below, axis), np.take(out, below + 1, axis)
        out = low + share * (high - low)
    return out
