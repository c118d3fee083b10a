"""Severity along interfaces of intact crystal: what all of an interface shows is the interface, not a defect."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_hrstem_defects.core.preprocessing import Prepared, gaussian, resize_linear
from napari_hrstem_defects.core.segmentation import MAD_TO_SIGMA, surroundings

#: How far the filters feel an interface beyond half a kernel, in periods.
REACH_PERIODS = 3.5
#: Resolution at which steps of contrast are looked for, in px per period.
STEP_PX_PER_PERIOD = 4.0
#: Standard deviation of the smoothing of the contrast, in periods.
CONTRAST_PERIODS = 1.0
#: ... and of the level between the two sides of a step.
LEVEL_PERIODS = 3.0
#: Least step of the logarithm of the contrast's power that disturbs the lattice-aware filters.
LEAST_STEP = 0.35
#: A slow change of contrast is no step: it is as steep this far away, in periods, and a step is this many times
#: steeper than what lies there.
BESIDE_PERIODS = 4.0
SHARPNESS = 2.5
#: Shortest step, in periods.
SHORTEST_PERIODS = 10.0
#: Width of the strips beyond the reach of a step that must be intact, in periods, and their largest median severity.
STRIP_PERIODS = 2.0
INTACT = 3.0


@dataclass(frozen=True, eq=False)
class Band:
    """Pixels along an interface, at least one.

    Attributes
    ----------
    rows, columns : int arrays (n,)
    distances : int array (n,)
        Whole distances from the interface in px; negative on one side where there are two.
    """

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    distances: NDArray[np.intp]

    def level(self, values: NDArray[np.float32]) -> None:
        """Standardise a map ``(y', x')`` among pixels at the same distance, in place.

        The result is in robust standard deviations above their median, where that is above 0; their scatter is taken
        to be 1 at least.
        """
        found = values[self.rows, self.columns]
        # Pixels in the order of their distance: each distance is then one slice.
        order = np.argsort(self.distances, kind="stable")
        ends = np.flatnonzero(np.diff(self.distances[order])) + 1
        for here in np.split(order, ends):
            median = float(np.median(found[here]))
            if median > 0:
                off = found[here] - median
                found[here] = off / max(MAD_TO_SIGMA * float(np.median(np.abs(off))), 1.0)
        values[self.rows, self.columns] = found


def phase_bands(
    index: NDArray[np.uint8], intact: NDArray[np.bool_], kernel_px: int, period_px: float
) -> list[Band]:
    """Where the filters feel the interfaces of intact domains.

    Parameters
    ----------
    index : uint8 array (y', x')
        Number of the domain of each pixel.
    intact : bool array (y', x')
        Where the domains lie whose interfaces are no defects.
    kernel_px : int
        Edge of the filters.
    period_px : float

    Returns
    -------
    list of Band
        One for each domain that has such an interface, on its side.
    """
    bands = []
    reach = kernel_px / 2 + REACH_PERIODS * period_px
    for i in np.unique(index[intact]):
        others = intact & (index != i)
        if others.any():
            distance = ndimage.distance_transform_edt(~others)
            rows, columns = np.nonzero((index == i) & (distance <= reach))
            # There is none where something else lies between them.
            if rows.size:
                bands.append(Band(rows, columns, distance[rows, columns].astype(np.intp)))
    return bands


def step_bands(
    severity: NDArray[np.float32], prepared: Prepared, kernel_px: int, where: NDArray[np.bool_]
) -> list[Band]:
    """Where the filters feel sharp steps of contrast between two sides of intact crystal.

    The contrast cannot be normalised at a step: whatever window it is taken from holds both sides, and the filters
    see too strong a lattice on one side and too weak a one on the other, all along. Where both sides are intact that
    is the interface of a film, a terrace or the edge of a support, and no defect; what stands out along it, a misfit
    dislocation, is one.

    Parameters
    ----------
    severity : float32 array (y', x')
        In robust standard deviations.
    prepared : Prepared
    kernel_px : int
        Edge of the filters.
    where : bool array (y', x')
        Where steps are looked for.

    Returns
    -------
    list of Band
        One for each step.
    """
    bands: list[Band] = []
    period = prepared.period_px
    line, side = _steps(prepared)
    line &= where
    numbers, count = ndimage.label(line, np.ones((3, 3)))
    # The line of a step is two pixels wide, one on each side.
    long_enough = np.bincount(numbers.ravel(), minlength=count + 1) >= 2 * SHORTEST_PERIODS * period
    long_enough[0] = False
    if not long_enough.any():
        return bands
    line = long_enough[numbers]
    reach = kernel_px / 2 + REACH_PERIODS * period
    furthest = reach + STRIP_PERIODS * period
    window = surroundings(line, int(furthest) + 1)
    distance, nearest = ndimage.distance_transform_edt(~line[window], return_indices=True)
    near = (distance <= furthest) & where[window]
    owner = numbers[window][nearest[0][near], nearest[1][near]]
    signed = np.where(side[window][near], distance[near], -distance[near])
    rows, columns = (place + s.start for place, s in zip(np.nonzero(near), window, strict=True))
    for number in np.flatnonzero(long_enough):
        own = np.flatnonzero(owner == number)
        values = severity[rows[own], columns[own]]
        strips = [values[sign * signed[own] > reach] for sign in (1, -1)]
        if all(strip.size >= period**2 and np.median(strip) < INTACT for strip in strips):
            kept = own[np.abs(signed[own]) <= reach]
            bands.append(Band(rows[kept], columns[kept], np.rint(signed[kept]).astype(np.intp)))
    return bands


def _steps(prepared: Prepared) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Lines along which the contrast changes sharply, and where it is above the level of the surroundings."""
    full = (prepared.band.shape[0], prepared.band.shape[1])
    power = np.square(prepared.band)
    block = max(1, int(prepared.period_px / STEP_PX_PER_PERIOD))
    if block > 1 and min(full) >= 8 * block:
        rows, columns = (n // block for n in full)
        power = (
            power[: rows * block, : columns * block].reshape(rows, block, columns, block).mean(axis=(1, 3))
        )
    shape = (power.shape[0], power.shape[1])
    period = prepared.period_px * shape[0] / full[0]
    power = gaussian(power, CONTRAST_PERIODS * period)
    contrast = np.log(np.maximum(power, 1e-6 * max(float(power.mean()), 1e-30)))
    slope = np.hypot(*np.gradient(contrast)).astype(np.float32)
    # A step of height H, smoothed by σ, has a slope of H / (σ √(2π)).
    sharp = slope > LEAST_STEP / (CONTRAST_PERIODS * period * np.sqrt(2 * np.pi))
    if sharp.any():
        sharp &= slope > SHARPNESS * _beside(slope, max(1, round(BESIDE_PERIODS * period)))
    line = np.zeros(full, bool)
    if not sharp.any():
        return line, line
    side = resize_linear(contrast - gaussian(contrast, LEVEL_PERIODS * period), full) > 0
    line[:-1] |= side[1:] != side[:-1]
    line[:, :-1] |= side[:, 1:] != side[:, :-1]
    line = ndimage.maximum_filter(line, size=2, origin=0)
    line &= resize_linear(sharp.astype(np.float32), full) > 0.5
    return line, side


def _beside(slope: NDArray[np.float32], reach: int) -> NDArray[np.float32]:
    """The larger slope at two points on opposite sides, `reach` px away, least over the directions."""
    padded = np.pad(slope, reach, mode="edge")
    out = np.full(slope.shape, np.inf, np.float32)
    rows, columns = slope.shape
    for turn in np.arange(8) * np.pi / 8:
        dy, dx = round(reach * np.sin(turn)), round(reach * np.cos(turn))
        pair = [padded[reach + s * dy :, reach + s * dx :][:rows, :columns] for s in (1, -1)]
        np.minimum(out, np.maximum(*pair), out=out)
    return out
