"""Defects of a time series: drift of the specimen, regions of one defect linked over the frames, how fast it grows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft, ndimage
from scipy.optimize import linear_sum_assignment
from skimage.feature import peak_local_max

from napari_hrstem_defects.core.regions import Region, label_regions

# Cost of what must not be linked: more than all that may be.
_NEVER = 1e6


def frame_drift(
    before: ArrayLike, after: ArrayLike, *, window_px: int = 1024, alike: float = 0.9, upsampling: int = 20
) -> tuple[float, float]:
    """Movement of the specimen from one frame to the next, by the cross-correlation of their middles.

    A lattice cannot tell a movement from one that is longer by a lattice vector: of maxima that are nearly as high as
    the highest, the nearest counts.

    Parameters
    ----------
    before, after : array (y, x)
        Of equal shape. NaN and infinite pixels count as the mean.
    window_px : int
        Edge of the square in the middle that is correlated, under a Hann window.
    alike : float
        Share of the highest maximum from which others count.
    upsampling : int
        Resolution, in fractions of a pixel.

    Returns
    -------
    (float, float)
        ``(y, x)`` in pixels; right as long as it is less than half the shortest lattice vector. 0 where the frames
        have nothing in common: a maximum further away than a quarter of the window.

    Examples
    --------
    >>> wave = np.cos(np.arange(64) / 2)
    >>> image = np.add.outer(wave, wave)
    >>> frame_drift(image[2:, :-3], image[:-2, 3:])
    (2.0, -3.0)
    """
    parts = []
    for frame in (before, after):
        pixels = np.asarray(frame)
        edges = [min(n, window_px) for n in pixels.shape]
        low = [(n - edge) // 2 for n, edge in zip(pixels.shape, edges, strict=True)]
        pixels = pixels[low[0] : low[0] + edges[0], low[1] : low[1] + edges[1]].astype(np.float32)
        finite = np.isfinite(pixels)
        mean = pixels[finite].mean() if finite.any() else np.float32(0)
        window = np.outer(*map(np.hanning, edges)).astype(np.float32)
        parts.append(fft.rfft2(np.where(finite, pixels - mean, 0) * window))
    power = fft.fftshift(fft.irfft2(np.conj(parts[0]) * parts[1], edges))
    middle = np.array(edges) // 2
    peaks = peak_local_max(power, min_distance=1, threshold_rel=alike)
    if len(peaks) == 0 or power.max() <= 0:
        return 0.0, 0.0
    y, x = peaks[np.hypot(*(peaks - middle).T).argmin()]
    if max(abs(y - middle[0]), abs(x - middle[1])) > min(edges) / 4:
        return 0.0, 0.0
    # Splines between the samples: a parabola would be off where the maximum is narrow.
    near = power[y - 4 : y + 5, x - 4 : x + 5]
    fine = ndimage.zoom(near, (8 * upsampling + 1) / 9, order=3)
    row, column = np.unravel_index(fine.argmax(), fine.shape)
    return (
        float(y - middle[0] + row / upsampling - 4),
        float(x - middle[1] + column / upsampling - 4),
    )


class Growth(NamedTuple):
    """Change of a size from frame to frame: median of the slopes of all pairs, ends of its 95 % interval."""

    rate: float
    low: float
    high: float


@dataclass(eq=False)
class History:
    """One defect over the frames.

    Attributes
    ----------
    id : int
        1, 2, ... in the order of their first frames, there by decreasing area.
    frames : list of int
        In which it was found.
    regions : list of Region
        What it was there.
    split_from, merged_into : int or None
        The history whose region it was a part of before its first frame; that whose region covers it after its last.
    """

    id: int
    frames: list[int] = field(default_factory=list)
    regions: list[Region] = field(default_factory=list)
    split_from: int | None = None
    merged_into: int | None = None

    def growth(self, size: str, most: int = 1000) -> Growth | None:
        """Growth of a size by Theil and Sen, which a few frames with parts of the defect only do not change.

        Parameters
        ----------
        size : str
            Attribute of a region, for example ``"length_nm"``.
        most : int
            Of more frames, so many are taken, evenly spread.

        Returns
        -------
        Growth or None
            Per frame. Frames in which the region reaches the rim do not count; None with fewer than three others, or
            where the size is unknown.
        """
        known = [
            (frame, getattr(region, size))
            for frame, region in zip(self.frames, self.regions, strict=True)
            if not region.at_rim and getattr(region, size) is not None
        ]
        known = known[:: -(-len(known) // most) or 1]
        if len(known) < 3:
            return None
        from scipy.stats import theilslopes  # half a second of every worker's start

        frames, sizes = np.array(known, np.float64).T
        found = theilslopes(sizes, frames, 0.95)
        return Growth(float(found.slope), float(found.low_slope), float(found.high_slope))


@dataclass
class _Open:
    """A history that may go on: where its last region was."""

    history: History
    points: NDArray[np.intp]
    centroid: NDArray[np.float64]
    position: NDArray[np.float64]


class Linker:
    """Links the regions of frame after frame into histories.

    Regions are moved back by the drift and assigned so that the sum of ``1 − Dice`` is least; regions that do not
    overlap may belong together where their centroids are no further apart than the radii of their areas.

    Parameters
    ----------
    gap : int
        In how many frames on end a defect may be missed.

    Examples
    --------
    >>> from napari_hrstem_defects.core.regions import find_regions
    >>> linker = Linker()
    >>> for x in (10, 12, 14):
    ...     labels = np.zeros((32, 64), np.uint8)
    ...     labels[8:12, x : x + 8] = 1
    ...     linker.add(labels, find_regions(labels, labels), (0.0, 2.0 * (x > 10)))
    [1]
    [1]
    [1]
    >>> linker.histories[0].frames
    [0, 1, 2]
    """

    def __init__(self, gap: int = 3) -> None:
        self.histories: list[History] = []
        self._gap = gap
        self._open: list[_Open] = []
        self._count = 0
        self._position = np.zeros(2)

    def add(
        self, labels: ArrayLike, regions: Sequence[Region], drift: tuple[float, float] = (0.0, 0.0)
    ) -> list[int]:
        """Add a frame.

        Parameters
        ----------
        labels : int array (y, x)
        regions : sequence of Region
            Of these labels.
        drift : (float, float)
            Movement ``(y, x)`` of the specimen since the frame before, in px.

        Returns
        -------
        list of int
            Number of the history of each region.
        """
        frame, numbers = self._count, label_regions(labels)
        self._count += 1
        self._position = self._position + drift
        self._open = [each for each in self._open if frame - each.history.frames[-1] <= self._gap + 1]
        before, shape = self._open, (len(self._open), len(regions))
        shared, cost = np.zeros(shape), np.full(shape, _NEVER)
        for row, one in enumerate(before):
            moved = self._position - one.position
            points = one.points + np.rint(moved).astype(np.intp)
            inside = points[((points >= 0) & (points < numbers.shape)).all(axis=1)]
            counts = np.bincount(numbers[tuple(inside.T)], minlength=numbers.max() + 1)
            last = one.history.regions[-1]
            for column, region in enumerate(regions):
                if region.label != last.label:
                    continue
                shared[row, column] = counts[region.id] if region.id < len(counts) else 0
                reach = (np.sqrt(last.area_px) + np.sqrt(region.area_px)) / np.sqrt(np.pi)
                away = np.hypot(*(one.centroid + moved - region.centroid)) / reach
                if shared[row, column]:
                    cost[row, column] = 1 - 2 * shared[row, column] / (last.area_px + region.area_px)
                elif away <= 1:
                    cost[row, column] = 1 + away
        rows, columns = linear_sum_assignment(cost)
        linked = {int(c): int(r) for r, c in zip(rows, columns, strict=True) if cost[r, c] < _NEVER}
        found: list[History] = []
        for column, region in enumerate(regions):
            if column in linked:
                history = before[linked[column]].history
            else:
                history = History(len(self.histories) + 1)
                self.histories.append(history)
                if shape[0] and 2 * shared[:, column].max() > region.area_px:
                    history.split_from = before[int(shared[:, column].argmax())].history.id
            history.frames.append(frame)
            history.regions.append(region)
            found.append(history)
        for row, one in enumerate(before):
            if row not in linked.values() and regions and 2 * shared[row].max() > len(one.points):
                one.history.merged_into = found[int(shared[row].argmax())].id
        ended = {one.history.id for one in before if one.history.merged_into is not None}
        continued = {history.id for history in found}
        self._open = [one for one in before if one.history.id not in ended | continued]
        for region, history in zip(regions, found, strict=True):
            points = np.argwhere(numbers == region.id)
            self._open.append(_Open(history, points, np.array(region.centroid), self._position))
        return [history.id for history in found]
