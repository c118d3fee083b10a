"""Features of a region that its type is told by: geometry, lattices, order, displacement, stacking, brightness."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_hrstem_defects.core.autocorrelation import Field
from napari_hrstem_defects.core.best_patch import BestPatch
from napari_hrstem_defects.core.displacement import LatticePhases, across, circuit
from napari_hrstem_defects.core.domains import DomainMap
from napari_hrstem_defects.core.geometry import prepared_slices
from napari_hrstem_defects.core.lattice import Lattice
from napari_hrstem_defects.core.preprocessing import Prepared
from napari_hrstem_defects.core.regions import Region
from napari_hrstem_defects.core.stacking import KINDS, read_stacking

#: What is looked at around a region, in periods.
MARGIN_PERIODS = 3.0
#: A region is beside another one if it is this near, in periods: farther than the gap a threshold leaves.
BESIDE_PERIODS = 1.5
#: Standard deviation of the smoothing of the deviation from the lattice, in periods: about a column.
SPOT_PERIODS = 0.25
#: A Burgers circuit runs this far outside of what it encloses; beyond this radius there is none, both in periods.
CIRCUIT_PERIODS, CIRCUIT_MOST = 1.0, 14.0
#: Two displacements are the same within this many periods.
SAME_SHIFT = 0.1
#: Largest area of which single columns are compared with their neighbours, in periods².
SPOT_AREA = 30.0

#: Name of each feature and what it is. Lengths are in lattice periods, amplitudes relative to the model patch; what
#: does not apply is 0.
FEATURES = {
    "area": "logarithm of the area",
    "length": "logarithm of the length",
    "width": "logarithm of the mean width",
    "thickness": "logarithm of the greatest thickness",
    "straight": "extent along the principal axis over the length, at most 1",
    "along_lattice": "1 if the long axis runs along a lattice vector, falling off over 5°, times 1 − width/length",
    "beside_lost": "share within BESIDE_PERIODS of an area labelled so",
    "beside_larger": "logarithm of the area of the largest region beside it over its own, at least 0",
    "other": "share in domains that count as defects",
    "other_like": "that times 1 − the cosine distance of the inner half to the largest such domain: 0 for no lattice",
    "other_distance": "that times the cosine distance of the domain's direction to the reference's",
    "other_turn": "that times the misorientation over 10°, at most 1",
    "other_coherent": "that, if the domain's lattice is a coherent second phase",
    "other_filled": "share of the domain that the region covers",
    "order": "strength of the field in the inner half times how uniform its direction is: 0 for amorphous areas",
    "foreign": "that less the amplitude of the reference lattice: positive for another lattice",
    "amplitude_around": "lowest tenth of it around the region",
    "strength": "logarithm of the field's strength in the inner half",
    "direction": "cosine distance of the field's direction to the reference's in the inner half, median",
    "inverted": "invariant phase in the inner half: likeness to the reference's inverse less that to the reference's",
    "wall": "1 if the crystal on both sides can be compared",
    "wall_shift": "displacement across it, shortest equivalent",
    "wall_half": "likeness of that to half a lattice vector, times the coherence",
    "wall_none": "likeness of it to nothing, times the coherence",
    "wall_coherence": "how well one displacement explains the wall",
    "wall_unexplained": "how much better jumps of each harmonic by itself do",
    "wall_order": "amplitude of the reference lattice on the weaker side",
    "wall_inverted": "as “inverted”, of the two sides",
    "wall_step": "logarithm of the ratio of contrasts of the two sides, absolute, at most 0.5",
    "core": "clarity of a Burgers circuit that does not close",
    "closed": "clarity of one that closes",
    "layers": "1 if the stacking of close-packed layers can be read across it",
    **{
        f"layers_{kind}": f"lead of the sequence “{kind}” over any other, in layers, −1 to 1"
        for kind in KINDS
    },
    "spot_noise": "logarithm of the largest deviation over the noise",
    "spot_contrast": "that deviation over the contrast of the lattice, at most 3",
    "spot_brighter": "that, signed in the sense of the columns: positive for more matter",
    "spot_excess": "that, signed in the sense of the undisturbed lattice there: negative where that is weakened",
    "spot_place": "brightness of the undisturbed lattice there in the sense of the columns, over the contrast",
}


@dataclass(frozen=True, eq=False)
class Piece:
    """A region on the samples of the phases: part of the grid with a margin, and the region's mask in it."""

    window: tuple[slice, slice]
    mask: NDArray[np.bool_]

    @cached_property
    def depth(self) -> NDArray[np.float64]:
        """Distance of each sample to the outside."""
        return np.asarray(ndimage.distance_transform_edt(np.pad(self.mask, 1))[1:-1, 1:-1])

    @cached_property
    def inner(self) -> NDArray[np.bool_]:
        """The inner half of the region."""
        return self.depth >= 0.5 * self.depth.max()

    @cached_property
    def places(self) -> NDArray[np.float64]:
        """Rows and columns of its samples, ``(n, 2)``."""
        return np.argwhere(self.mask) + np.array([float(s.start) for s in self.window])


@dataclass(frozen=True, eq=False)
class Surroundings:
    """What is known of the lattice everywhere in one image; gives the features of a region.

    Parameters
    ----------
    labels : uint8 array (y, x)
        All that is marked.
    prepared : Prepared
    field : Field
    lattice : Lattice
        Of the model patch, in pixels of the frame.
    best_patch : BestPatch
    domains : DomainMap or None
    phases : LatticePhases
        Of the reference lattice. The maps below are on its samples, half a period apart.
    """

    labels: NDArray[np.uint8]
    prepared: Prepared
    field: Field
    lattice: Lattice
    best_patch: BestPatch
    domains: DomainMap | None
    phases: LatticePhases

    def __call__(self, region: Region, mask: NDArray[np.bool_]) -> dict[str, float]:
        """All `FEATURES` of a region whose `mask` fills its bounding box."""
        piece = self._sampled(region, mask)
        found = dict.fromkeys(FEATURES, 0.0)
        parts = (self._geometry, self._domain, self._order, self._wall, self._core, self._layers, self._spot)
        for part in parts:
            found |= part(region, piece)
        return found

    # Maps of the image ----------------------------------------------------------------------------------------

    @cached_property
    def _frame_places(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Rows and columns of the frame under the samples."""
        out = []
        for n, m, scale in zip(
            self.phases.values.shape[1:], self.labels.shape, self.prepared.scale, strict=True
        ):
            centre = (np.arange(n) + 0.5) * self.phases.step_px / scale - 0.5
            out.append(np.clip(np.rint(centre), 0, m - 1).astype(np.intp))
        return out[0], out[1]

    @cached_property
    def _marked(self) -> NDArray[np.uint8]:
        """Label of each sample."""
        return self.labels[np.ix_(*self._frame_places)]

    @cached_property
    def _regions(self) -> tuple[NDArray[np.int32], NDArray[np.intp]]:
        """Number of the connected marked area of each sample, and the areas in samples."""
        numbers = np.zeros(self._marked.shape, np.int32)
        for label in (1, 2):
            own, _ = ndimage.label(self._marked == label, np.ones((3, 3)))
            numbers[own > 0] = own[own > 0] + numbers.max()
        return numbers, np.bincount(numbers.ravel())

    @cached_property
    def _pieces(self) -> NDArray[np.integer]:
        """Number of the connected piece of good crystal of each sample, 0 where something is marked."""
        return np.asarray(ndimage.label(self._marked == 0)[0])

    @cached_property
    def _to_lost(self) -> NDArray[np.float64]:
        """Distance of each sample to an area that lost its order, in periods; infinite if there is none."""
        lost = self._marked == 2
        if not lost.any():
            return np.full(lost.shape, np.inf)
        return np.asarray(ndimage.distance_transform_edt(~lost) / self.phases.period)

    @cached_property
    def _domain_index(self) -> NDArray[np.uint8]:
        """Number of the domain of each sample."""
        if self.domains is None:
            return np.zeros(self._marked.shape, np.uint8)
        rows, columns = (
            np.minimum(((np.arange(n) + 0.5) * self.phases.step_px).astype(np.intp), m - 1)
            for n, m in zip(self._marked.shape, self.domains.index.shape, strict=True)
        )
        return self.domains.index[np.ix_(rows, columns)]

    @cached_property
    def _strength(self) -> NDArray[np.float32]:
        """Logarithm of the field's strength over that of the model patch."""
        rows, columns = self._marked.shape
        strength = self.field.strength[:rows, :columns]
        own = float(np.median(strength[self._patch_samples])) + 1e-6
        return np.log(np.maximum(strength / own, np.float32(0.01)))

    @cached_property
    def _distances(self) -> dict[int, NDArray[np.float32]]:
        return {}

    def _distance_to(self, number: int) -> NDArray[np.float32]:
        """Cosine distance of the field's direction to that of a domain, or of the model patch for 0."""
        if number not in self._distances:
            if number and self.domains is not None:
                direction = self.domains.domains[number].direction
            else:
                inside = np.zeros(self.field.shape, bool)
                inside[self._patch_samples] = True
                direction = self.field.mean_direction(inside)
            unit = direction / max(float(np.linalg.norm(direction)), 1e-9)
            rows, columns = self._marked.shape
            self._distances[number] = self.field.distance(unit)[:rows, :columns]
        return self._distances[number]

    @cached_property
    def _contrast(self) -> NDArray[np.float64]:
        """Logarithm of the local contrast, in grey values of the frame."""
        block = self.phases.step_px
        rows, columns = self._marked.shape
        part = self.prepared.band[: rows * block, : columns * block]
        power = np.square(part).reshape(rows, block, columns, block).mean(axis=(1, 3))
        smooth = ndimage.gaussian_filter(power.astype(np.float64), self.phases.period)
        return np.asarray(0.5 * np.log(np.maximum(smooth, 1e-12 + 1e-6 * smooth.max())))

    @cached_property
    def _patch(self) -> tuple[slice, slice]:
        return prepared_slices(self.best_patch, self.prepared)

    @cached_property
    def _patch_samples(self) -> tuple[slice, slice]:
        rows, columns = (
            slice(min(s.start // self.phases.step_px, n - 1), max(s.stop // self.phases.step_px, 1))
            for s, n in zip(self._patch, self._marked.shape, strict=True)
        )
        return rows, columns

    @cached_property
    def _own_invariant(self) -> complex:
        """Mean translation-invariant phase of the model patch."""
        values = self.phases.values[:, *self._patch_samples]
        return _mean_phase(self.phases.invariant(values.reshape(len(values), -1)))

    @cached_property
    def _polarity(self) -> float:
        """1 where columns are bright, −1 where they are dark, about 0 where that is not known."""
        band = self.prepared.band[self._patch]
        skewness = float(np.mean((band - band.mean()) ** 3) / (band.std() ** 3 + 1e-12))
        # Skewness below 0.2 is what noise and a centred contrast make.
        return math.tanh(skewness / 0.2)

    @cached_property
    def _noise(self) -> float:
        """Standard deviation in the model patch of what is no lattice."""
        (y0, y1), (x0, x1) = ((s.start, s.stop) for s in self._patch)
        return float(self._unlike_lattice(y0, x0, y1, x1)[0].std()) + 1e-12

    def _unlike_lattice(
        self, y0: int, x0: int, y1: int, x1: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """A part of the image less the median of its eight neighbours a lattice vector away, and that median."""
        sigma = SPOT_PERIODS * self.prepared.period_px
        margin = int(3 * sigma) + 1
        y, x = np.mgrid[y0 - margin : y1 + margin, x0 - margin : x1 + margin].astype(np.float64)
        nodes = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0)]
        here, *neighbours = (
            ndimage.map_coordinates(self.prepared.band, (y + dy, x + dx), order=1, mode="mirror")
            for dy, dx in (np.zeros(2), *(np.array(node) @ self.phases.basis for node in nodes))
        )
        lattice = np.median(neighbours, axis=0)
        deviation, usual = (ndimage.gaussian_filter(v, sigma) for v in (here - lattice, lattice))
        inner = slice(margin, -margin)
        return np.asarray(deviation[inner, inner]), np.asarray(usual[inner, inner])

    # Features of a region -------------------------------------------------------------------------------------

    def _sampled(self, region: Region, mask: NDArray[np.bool_]) -> Piece:
        """The region on the samples; at least the sample at its centre."""
        rows, columns = self._frame_places
        y0, x0, y1, x1 = region.bbox
        a, b = (int(i) for i in np.searchsorted(rows, (y0, y1)))
        c, d = (int(i) for i in np.searchsorted(columns, (x0, x1)))
        margin = int(MARGIN_PERIODS * self.phases.period) + 1
        top, left = max(a - margin, 0), max(c - margin, 0)
        window = (slice(top, min(b + margin, len(rows))), slice(left, min(d + margin, len(columns))))
        out = np.zeros([s.stop - s.start for s in window], bool)
        out[a - top : b - top, c - left : d - left] = mask[np.ix_(rows[a:b] - y0, columns[c:d] - x0)]
        if not out.any():
            y, x = region.centroid
            out[np.argmin(np.abs(rows[window[0]] - y)), np.argmin(np.abs(columns[window[1]] - x))] = True
        return Piece(window, out)

    def _periods(self, length_px: float) -> float:
        """A length in pixels of the frame in lattice periods."""
        return length_px * float(self.prepared.scale.mean()) / (self.phases.period * self.phases.step_px)

    def _geometry(self, region: Region, piece: Piece) -> dict[str, float]:
        period = self.phases.period
        length, width = self._periods(region.length_px), self._periods(region.width_px)
        centred = piece.places - piece.places.mean(axis=0)
        extent = float(np.ptp(centred @ np.linalg.eigh(centred.T @ centred)[1][:, 1])) + 1
        near = ndimage.binary_dilation(piece.mask, iterations=max(1, round(BESIDE_PERIODS * period)))
        numbers, areas = self._regions
        beside = np.unique(numbers[piece.window][near & ~piece.mask])
        own = np.unique(numbers[piece.window][piece.mask])
        others = areas[np.setdiff1d(beside, [0, *own])]
        larger = math.log(max(float(others.max(initial=0)) / len(piece.places), 1.0))
        to_lost = self._to_lost[piece.window][piece.mask]
        turn = 45.0 if region.to_lattice_deg is None else region.to_lattice_deg
        return {
            "area": math.log(max(self._periods(math.sqrt(region.area_px)) ** 2, 0.05)),
            "length": math.log(length),
            "width": math.log(width),
            "thickness": math.log(2 * float(piece.depth.max()) / period),
            "straight": min(extent / period / length, 1.0),
            "along_lattice": math.exp(-((turn / 5) ** 2)) * (1 - width / length),
            "beside_lost": float(np.mean(to_lost <= BESIDE_PERIODS)) * (region.label == 1),
            "beside_larger": min(larger, 5.0),
        }

    def _domain(self, region: Region, piece: Piece) -> dict[str, float]:
        # A mark inside an intact domain is a defect of that one, whatever the domain is.
        defective = [] if self.domains is None else [domain.defective for domain in self.domains.domains]
        if self.domains is None or not any(defective):
            return {}
        every = np.bincount(self._domain_index[piece.window][piece.mask], minlength=len(defective))
        counts = every * np.array(defective)
        number = int(np.argmax(counts))
        if not counts[number]:
            return {}
        share, domain = counts[number] / every.sum(), self.domains.domains[number]
        whole = self._domain_index == number
        unlike = self._distance_to(number)
        turn = 10.0 if domain.misorientation_deg is None else domain.misorientation_deg
        return {
            "other": float(counts.sum() / every.sum()),
            "other_like": float(share * max(1 - np.median(unlike[piece.window][piece.inner]), 0.0)),
            "other_distance": float(share * domain.distance),
            "other_turn": float(share * min(turn / 10, 1.0)),
            "other_coherent": float(share * (domain.relation == "second phase")),
            "other_filled": float(counts[number] / max(np.count_nonzero(whole), 1)),
        }

    def _order(self, region: Region, piece: Piece) -> dict[str, float]:
        period, (top, left) = self.phases.period, (s.start for s in piece.window)
        reach = max(1, round(period))
        ring = ndimage.binary_dilation(piece.mask, iterations=2 * reach)
        ring &= ~ndimage.binary_dilation(piece.mask, iterations=reach)
        amplitude = np.abs(self.phases.values[:2, *piece.window]).mean(axis=0)
        strength, distance = self._strength[piece.window], self._distance_to(0)[piece.window]
        inner = np.zeros(self.field.shape, bool)
        inner[top : top + piece.mask.shape[0], left : left + piece.mask.shape[1]] = piece.inner
        values = self.phases.values[:, *piece.window][:, piece.inner]
        inside = _mean_phase(self.phases.invariant(values))
        around = ring if ring.any() else ~piece.mask if not piece.mask.all() else piece.mask
        own = min(float(np.median(amplitude[piece.inner])), 2.0)
        uniform = float(np.linalg.norm(self.field.mean_direction(inner)))
        order = min(math.exp(float(np.median(strength[piece.inner]))) * uniform, 2.0)
        return {
            "order": order,
            "foreign": order - own,
            "amplitude_around": min(float(np.quantile(amplitude[around], 0.1)), 2.0),
            "strength": float(np.median(strength[piece.inner])),
            "direction": float(np.median(distance[piece.inner])),
            # Re(ab) − Re(ab*): 0 where the content has a centre of inversion.
            "inverted": -2 * inside.imag * self._own_invariant.imag,
        }

    def _wall(self, region: Region, piece: Piece) -> dict[str, float]:
        corner = (piece.window[0].start, piece.window[1].start)
        found = across(self.phases, piece.mask, corner, self._pieces, self._contrast)
        if found is None:
            return {}
        basis, period = self.phases.basis, self.phases.period * self.phases.step_px
        nodes = np.array([(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)])
        halves = np.array([(0.5, 0.0), (0.0, 0.5), (0.5, 0.5)])
        length = float(np.hypot(*((found.shift + nodes) @ basis).T).min()) / period
        to_half = (
            float(np.hypot(*((found.shift - halves[:, None] + nodes) @ basis).reshape(-1, 2).T).min())
            / period
        )
        weight = max(found.coherence, 0.0)
        return {
            "wall": 1.0,
            "wall_shift": length,
            "wall_half": weight * math.exp(-0.5 * (to_half / SAME_SHIFT) ** 2),
            "wall_none": weight * math.exp(-0.5 * (length / SAME_SHIFT) ** 2),
            "wall_coherence": found.coherence,
            "wall_unexplained": found.steadiness - found.coherence,
            "wall_order": min(found.order, 2.0),
            "wall_inverted": found.inverted,
            "wall_step": min(abs(found.step), 0.5),
        }

    def _core(self, region: Region, piece: Piece) -> dict[str, float]:
        centre = piece.places.mean(axis=0)
        period = self.phases.period
        radius = float(np.hypot(*(piece.places - centre).T).max())
        if radius > CIRCUIT_MOST * period:
            return {}
        # The nearest circuit may run through the disturbed lattice, a wide one into the next defect.
        found = [circuit(self.phases, centre, radius + n * CIRCUIT_PERIODS * period) for n in (1, 2)]
        burgers, clear = max(found, key=lambda each: each[1])
        return {"closed" if burgers == (0, 0) else "core": clear}

    def _layers(self, region: Region, piece: Piece) -> dict[str, float]:
        step = self.phases.step_px
        blocked = self._marked > 0
        blocked[piece.window] &= ~piece.mask
        found = read_stacking(
            self.prepared, self.phases.basis, (piece.places + 0.5) * step - 0.5, blocked, step
        )
        if found is None:
            return {}
        return {"layers": 1.0, **{f"layers_{kind}": lead for kind, lead in found.items()}}

    def _spot(self, region: Region, piece: Piece) -> dict[str, float]:
        if self._periods(math.sqrt(region.area_px)) ** 2 > SPOT_AREA:
            return {}
        y0, x0, y1, x1 = region.bbox
        corners = self.prepared.from_frame(np.array([(y0, x0), (y1 - 1, x1 - 1)]))
        low = np.maximum(np.floor(corners[0]), 0).astype(int)
        high = np.minimum(np.ceil(corners[1]) + 1, self.prepared.values.shape).astype(int)
        deviation, usual = self._unlike_lattice(*low.tolist(), *high.tolist())
        place = int(np.argmax(np.abs(deviation)))
        most, there = float(deviation.flat[place]), float(usual.flat[place])
        contrast = float(self.prepared.band[self._patch].std()) + 1e-12
        size = float(np.clip(most / contrast, -3, 3))
        sense = math.tanh(4 * there / contrast)
        return {
            "spot_noise": math.log1p(abs(most) / self._noise),
            "spot_contrast": abs(size),
            "spot_brighter": size * self._polarity,
            "spot_excess": size * sense,
            "spot_place": float(np.clip(there / contrast, -3, 3)) * self._polarity,
        }


def _mean_phase(values: NDArray[np.complex128] | None) -> complex:
    """Sum of complex numbers over the sum of their sizes; 0 if there are none."""
    if values is None or values.size == 0:
        return 0j
    return complex(values.sum() / (np.abs(values).sum() + 1e-12))
