"""What types of defects are told by: phases of the lattice, brightness, domains, in and around a region."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_hrstem_defects.core.best_patch import BestPatch
from napari_hrstem_defects.core.displacement import LatticePhases
from napari_hrstem_defects.core.domains import DomainMap
from napari_hrstem_defects.core.geometry import prepared_slices
from napari_hrstem_defects.core.lattice import Lattice
from napari_hrstem_defects.core.preprocessing import Prepared
from napari_hrstem_defects.core.regions import Region

#: What is looked at around a region, in periods.
MARGIN_PERIODS = 3.0
#: Standard deviation of the smoothing of the deviation from the lattice, in periods: about a column.
SPOT_PERIODS = 0.25


@dataclass(frozen=True, eq=False)
class Piece:
    """A region on the samples of the phases: part of the grid with a margin, and the region's mask in it."""

    window: tuple[slice, slice]
    mask: NDArray[np.bool_]

    def places(self) -> NDArray[np.float64]:
        """Rows and columns of its samples, ``(n, 2)``."""
        return np.argwhere(self.mask) + np.array([float(s.start) for s in self.window])

    def depth(self) -> NDArray[np.float64]:
        """Distance of each sample to the outside."""
        out: NDArray[np.float64] = ndimage.distance_transform_edt(np.pad(self.mask, 1))[1:-1, 1:-1]
        return out

    def within(self, shape: tuple[int, ...]) -> NDArray[np.bool_]:
        """The mask on the whole grid."""
        out = np.zeros(shape, bool)
        out[self.window] = self.mask
        return out


@dataclass(frozen=True, eq=False)
class Evidence:
    """One image, and what is known of its lattice everywhere.

    Parameters
    ----------
    labels : uint8 array (y, x)
        All that is marked.
    prepared : Prepared
    lattice : Lattice
        Of the model patch, in pixels of the frame.
    best_patch : BestPatch
    domains : DomainMap or None
    phases : LatticePhases
        Of the reference lattice; all that is *sampled* is at their places.
    """

    labels: NDArray[np.uint8]
    prepared: Prepared
    lattice: Lattice
    best_patch: BestPatch
    domains: DomainMap | None
    phases: LatticePhases

    @cached_property
    def patch(self) -> tuple[slice, slice]:
        """The best patch in the prepared image."""
        return prepared_slices(self.best_patch, self.prepared)

    @cached_property
    def places(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Rows and columns of the frame under the samples of the phases."""
        out = []
        for n, m, scale in zip(
            self.phases.values.shape[1:], self.labels.shape, self.prepared.scale, strict=True
        ):
            centre = (np.arange(n) + 0.5) * self.phases.step_px / scale - 0.5
            out.append(np.clip(np.rint(centre), 0, m - 1).astype(np.intp))
        return out[0], out[1]

    @cached_property
    def marked(self) -> NDArray[np.bool_]:
        """Whether a sample is in any region."""
        return self.labels[np.ix_(*self.places)] > 0

    @cached_property
    def index(self) -> NDArray[np.uint8] | None:
        """Number of the domain of each sample; None if there is only one."""
        if self.domains is None or len(self.domains.domains) < 2:
            return None
        rows, columns = (
            np.minimum(((np.arange(n) + 0.5) * self.phases.step_px).astype(np.intp), m - 1)
            for n, m in zip(self.phases.values.shape[1:], self.domains.index.shape, strict=True)
        )
        return self.domains.index[np.ix_(rows, columns)]

    @cached_property
    def to_amorphous(self) -> NDArray[np.float64] | None:
        """Distance of each sample to an amorphous area, in periods; None if there is none."""
        amorphous = self.labels[np.ix_(*self.places)] == 2
        if not amorphous.any():
            return None
        out: NDArray[np.float64] = ndimage.distance_transform_edt(~amorphous) / self.phases.period
        return out

    @cached_property
    def contrast(self) -> NDArray[np.float64]:
        """Logarithm of the local contrast, in grey values of the frame, on the samples of the phases."""
        block = int(self.phases.step_px)
        rows, columns = self.phases.values.shape[1:]
        part = self.prepared.band[: rows * block, : columns * block]
        power = np.square(part).reshape(rows, block, columns, block).mean(axis=(1, 3))
        smooth = ndimage.gaussian_filter(power.astype(np.float64), self.phases.period)
        return np.asarray(0.5 * np.log(np.maximum(smooth, 1e-12 + 1e-6 * smooth.max())))

    @cached_property
    def reference_invariant(self) -> complex | None:
        """Translation-invariant phase of the reference crystal, as a number of length 1 or less."""
        rows, columns = (
            slice(int(s.start / self.phases.step_px), int(s.stop / self.phases.step_px)) for s in self.patch
        )
        own = self.phases.values[:, rows, columns].reshape(len(self.phases.orders), -1)
        return mean_phase(self.phases.invariant(own.astype(np.complex128)))

    @cached_property
    def skewness(self) -> float:
        """Skewness of the brightness in the best patch: positive where columns are bright."""
        band = self.prepared.band[self.patch]
        return float(np.mean((band - band.mean()) ** 3) / (band.std() ** 3 + 1e-12))

    @cached_property
    def noise(self) -> float:
        """Standard deviation in the model patch of what is no lattice."""
        rows, columns = self.patch
        return float(self._unlike_lattice(rows.start, columns.start, rows.stop, columns.stop).std()) + 1e-12

    def _unlike_lattice(self, y0: int, x0: int, y1: int, x1: int) -> NDArray[np.float64]:
        """A part of the prepared image less the median of its eight neighbours a lattice vector away."""
        period = self.prepared.period_px
        sigma = SPOT_PERIODS * period
        margin = int(3 * sigma) + 1
        y, x = np.mgrid[y0 - margin : y1 + margin, x0 - margin : x1 + margin].astype(np.float64)
        v1, v2 = (np.array(v) * self.prepared.scale for v in (self.lattice.v1, self.lattice.v2))
        vectors = (np.zeros(2), v1, -v1, v2, -v2, v1 + v2, -v1 - v2, v1 - v2, v2 - v1)
        here, *neighbours = (
            ndimage.map_coordinates(self.prepared.band, (y + dy, x + dx), order=1, mode="mirror")
            for dy, dx in vectors
        )
        smooth = ndimage.gaussian_filter(here - np.median(neighbours, axis=0), sigma)
        return np.asarray(smooth[margin:-margin, margin:-margin], np.float64)

    def sampled(self, region: Region, mask: NDArray[np.bool_]) -> Piece:
        """The region on the samples of the phases; at least the sample at its centre."""
        rows, columns = self.places
        y0, x0, y1, x1 = region.bbox
        a, b = (int(i) for i in np.searchsorted(rows, (y0, y1)))
        c, d = (int(i) for i in np.searchsorted(columns, (x0, x1)))
        margin = int(MARGIN_PERIODS * self.phases.period)
        top, left = max(a - margin, 0), max(c - margin, 0)
        window = (slice(top, min(b + margin + 1, len(rows))), slice(left, min(d + margin + 1, len(columns))))
        out = np.zeros([s.stop - s.start for s in window], bool)
        out[a - top : b - top, c - left : d - left] = mask[np.ix_(rows[a:b] - y0, columns[c:d] - x0)]
        if not out.any():
            y, x = region.centroid
            out[np.argmin(np.abs(rows[window[0]] - y)), np.argmin(np.abs(columns[window[1]] - x))] = True
        return Piece(window, out)

    def order(self, piece: Piece) -> float:
        """Strength of the reference lattice in the inner half of a region, relative to the model patch."""
        depth = piece.depth()
        inner = depth >= 0.5 * depth.max()
        return float(np.mean([np.median(np.abs(v[piece.window][inner])) for v in self.phases.values[:2]]))

    def periods(self, length_px: float) -> float:
        """A length in pixels of the frame in lattice periods."""
        return length_px * float(self.prepared.scale.mean()) / self.prepared.period_px

    def area_periods(self, region: Region) -> float:
        """Area of a region in periods²."""
        return self.periods(math.sqrt(region.area_px)) ** 2

    def spot(self, region: Region) -> float:
        """Largest deviation of the brightness from the lattice's in a small region, in grey values."""
        y0, x0, y1, x1 = region.bbox
        corners = self.prepared.from_frame(np.array([(y0, x0), (y1 - 1, x1 - 1)]))
        low = np.maximum(np.floor(corners[0]), 0).astype(int)
        high = np.minimum(np.ceil(corners[1]) + 1, self.prepared.values.shape).astype(int)
        inside = self._unlike_lattice(*low.tolist(), *high.tolist())
        return float(inside.ravel()[np.argmax(np.abs(inside))])


def mean_phase(values: NDArray[np.complex128] | None) -> complex | None:
    """Sum of complex numbers over the sum of their sizes; None if there are none."""
    if values is None or values.size == 0:
        return None
    return complex(values.sum() / (np.abs(values).sum() + 1e-12))
