"""Probable type of a marked region, with a confidence: rules on geometry, displacement, domains and brightness.

The rules are tried from the most to the least specific; each has one number that says how clearly it holds, turned
into a confidence by a logistic function. What no rule explains is ``"unknown"``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_hrstem_defects.core import stacking
from napari_hrstem_defects.core.best_patch import BestPatch
from napari_hrstem_defects.core.coincidence import lattice_rotation
from napari_hrstem_defects.core.displacement import (
    CIRCUIT_PERIODS,
    across,
    circuit,
    lattice_phases,
)
from napari_hrstem_defects.core.domains import DomainMap
from napari_hrstem_defects.core.geometry import prepared_slices
from napari_hrstem_defects.core.lattice import Lattice, find_lattice
from napari_hrstem_defects.core.preprocessing import Prepared
from napari_hrstem_defects.core.regions import Region
from napari_hrstem_defects.core.type_evidence import Evidence, Piece, mean_phase

#: Type and confidence of a region, by its mask in its bounding box.
Judge = Callable[[Region, NDArray[np.bool_]], tuple[str, float]]
#: Every type there is.
TYPES = (
    "stacking fault",
    "intrinsic stacking fault",
    "extrinsic stacking fault",
    "twin boundary",
    "twin lamella",
    "grain boundary",
    "second grain",
    "second phase",
    "inversion domain",
    "antiphase domain",
    "dislocation core",
    "vacancy-like",
    "interstitial-like",
    "amorphous",
    "interface",
    "unknown",
)
UNKNOWN = ("unknown", 0.0)

#: Share of a region in one domain from which it is that domain.
DOMAIN_SHARE = 0.4
#: The lattice of a domain that is only displaced is turned by no more than this: what a patch tells for sure.
SHIFTED_DEG = 1.5
#: A band is at least this many periods long and this many times longer than wide.
BAND_PERIODS = 5.0
BAND_ASPECT = 1.6
#: Least share of the layers' steps that a stacking sequence must explain, and least lead in layers over any other.
STACKING_FIT = 0.55
STACKING_MARGIN = 0.1
#: A twin boundary is at most this many periods wide; what is wider holds the twin.
WALL_PERIODS = 5.0
#: Largest radius of a region that a Burgers circuit is drawn around, in periods, and least clarity of the circuit.
CIRCUIT_MOST = 14.0
CIRCUIT_CLEAR = 0.3
#: Largest area of a point defect in periods², and least deviation of its brightness: in standard deviations of the
#: noise and of the lattice.
POINT_AREA = 30.0
SPOT_NOISES = 3.5
SPOT_SHARE = 0.25
#: Below this skewness of the lattice's brightness it is not known whether columns are bright or dark.
LEAST_SKEWNESS = 0.2
#: Displacement across a wall that is one, in periods, and least coherence of it.
SHIFT_PERIODS = 0.15
SHIFT_COHERENCE = 0.5
#: Agreement of the translation-invariant phases that tells an inversion.
INVERTED = 0.4
#: Antiphase domains are displaced by half lattice vectors, within this share of one (doubled); a smaller displacement
#: than this in periods that is none is what exchanging unequal columns looks like.
HALVES = 0.25
POLARITY_SHIFT = 0.45
#: How much better jumps of each harmonic by itself explain a wall than one displacement, where it is none.
UNEXPLAINED = 0.15
#: Below this steadiness of the jump along a wall, at this many places or more, its sides are turned.
UNSTEADY = 0.4
LEAST_PLACES = 8
#: Strength of the reference lattice, relative to the model patch, below which a side of a wall is another crystal,
#: below which the inside of a region is, and below which it has lost the lattice.
OTHER_SIDE = 0.4
OTHER_INSIDE = 0.6
LOST = 0.35
#: A region is an area if it is at least this thick, from the rim to its innermost point, in periods.
AREA_DEPTH = 2.2
#: So many places inside an area are looked at for another lattice.
AREA_PLACES = 5
#: A second grain has a lattice at least this strong, relative to the model patch's.
GRAIN_STRENGTH = 0.6
#: ... and is turned by at least this angle.
GRAIN_DEG = 3.0
#: Ratio of the contrast on the two sides of an interface (natural logarithm).
INTERFACE_RATIO = 0.25
#: Remainders at the edge of an amorphous area: nearer than this in periods, with this share of them, or smaller than
#: this many periods², or than that if the lattice is lost in them.
RIM_PERIODS = 1.5
RIM_SHARE = 0.5
RIM_AREA = 12.0
LOST_RIM_AREA = 40.0
#: A remainder of any other region is this many times smaller than it.
REMAINDER_RATIO = 5.0
#: Around a point defect the lattice is intact: this strong, relative to the model patch.
POINT_ORDER = 0.5


@dataclass(frozen=True, eq=False)
class TypeJudge:
    """Says the probable type of regions of one image; give it to :func:`~.regions.find_regions`.

    Parameters
    ----------
    seen : Evidence
        What the image shows.

    Notes
    -----
    A judge remembers: large regions come before their small remainders.
    """

    seen: Evidence
    _earlier: list[tuple[tuple[str, float], float]] = field(default_factory=list, init=False, repr=False)

    def __call__(self, region: Region, mask: NDArray[np.bool_]) -> tuple[str, float]:
        """Type and confidence of a region whose `mask` fills its bounding box."""
        piece = self.seen.sampled(region, mask)
        if region.label == 2:
            verdict = "amorphous", _confidence(0.6 - self.seen.order(piece), 0.12)
        else:
            verdict = next((v for v in self._verdicts(region, piece) if v is not None), UNKNOWN)
        if verdict != UNKNOWN:
            self._earlier.append((verdict, self.seen.area_periods(region)))
            self._numbers[piece.window][piece.mask] = len(self._earlier)
        return verdict

    def _verdicts(self, region: Region, piece: Piece) -> Iterator[tuple[str, float] | None]:
        """Verdicts of the rules in their order."""
        yield self._stacking(region, piece)
        yield self._rim(region, piece)
        yield self._remainder(region, piece)
        yield self._domain(piece)
        yield self._dislocation(region, piece)
        yield self._point(region, piece)
        yield self._area(piece)
        yield self._wall(region, piece)

    @cached_property
    def _numbers(self) -> NDArray[np.int32]:
        """Which of the regions told before each sample belongs to, from 1."""
        return np.zeros(self.seen.marked.shape, np.int32)

    # The rules ----------------------------------------------------------------------------------------------

    def _stacking(self, region: Region, piece: Piece) -> tuple[str, float] | None:
        """Faults and twins of close-packed layers seen edge-on."""
        length, width = self.seen.periods(region.length_px), self.seen.periods(region.width_px)
        if length < BAND_PERIODS or length < BAND_ASPECT * width:
            return None
        step = self.seen.phases.step_px
        points = (piece.places() + 0.5) * step - 0.5
        others = self.seen.marked & ~piece.within(self.seen.marked.shape)
        found = stacking.read_stacking(self.seen.prepared, self.seen.lattice, points, others, step)
        if found is None or found.fit < STACKING_FIT or found.margin < STACKING_MARGIN:
            return None
        confidence = _confidence(min(found.margin, 2 * (found.fit - STACKING_FIT)) - 0.2, 0.12)
        names = {
            stacking.INTRINSIC: "intrinsic stacking fault",
            stacking.EXTRINSIC: "extrinsic stacking fault",
            stacking.SEVERAL: "stacking fault",
            stacking.LAMELLA: "twin lamella",
        }
        if found.kind in names:
            return names[found.kind], confidence
        if found.kind == stacking.TWIN:
            return ("twin boundary" if width < WALL_PERIODS else "second grain"), confidence
        return None

    def _domain(self, piece: Piece) -> tuple[str, float] | None:
        """A domain that counts as a defect."""
        if self.seen.index is None or self.seen.domains is None:
            return None
        counts = np.bincount(
            self.seen.index[piece.window][piece.mask], minlength=len(self.seen.domains.domains)
        )
        share = counts / counts.sum()
        number = int(np.argmax(share * [domain.defective for domain in self.seen.domains.domains]))
        domain = self.seen.domains.domains[number]
        if not domain.defective or share[number] < DOMAIN_SHARE:
            return None
        names = {
            "inverted": "inversion domain",
            "shifted": "antiphase domain",
            "second phase": "second phase",
        }
        name = names.get(domain.relation, "second grain")
        if name == "antiphase domain" and domain.lattice is not None:
            turn = lattice_rotation(self.seen.lattice, domain.lattice)
            if turn is not None and turn > SHIFTED_DEG:
                # Hardly turned, but turned: a grain behind a low-angle boundary.
                name = "second grain"
        clear = (share[number] - DOMAIN_SHARE) / 0.2 + (domain.gain - 0.3) / 0.2
        return name, _confidence(float(clear), 1.0)

    def _dislocation(self, region: Region, piece: Piece) -> tuple[str, float] | None:
        """A core: a circuit around it does not close."""
        points = piece.places()
        centre = points.mean(axis=0)
        radius = float(np.hypot(*(points - centre).T).max()) + CIRCUIT_PERIODS * self.seen.phases.period
        if radius > CIRCUIT_MOST * self.seen.phases.period:
            return None
        found = circuit(self.seen.phases, centre, radius)
        if found is None or found.burgers == (0, 0) or found.clear < CIRCUIT_CLEAR:
            return None
        return "dislocation core", _confidence(found.clear - 0.35, 0.1)

    def _rim(self, region: Region, piece: Piece) -> tuple[str, float] | None:
        """What is left over at the edge of an amorphous area belongs to it."""
        if self.seen.to_amorphous is None:
            return None
        share = float(np.mean(self.seen.to_amorphous[piece.window][piece.mask] <= RIM_PERIODS))
        area = self.seen.area_periods(region)
        small = area < RIM_AREA or (area < LOST_RIM_AREA and self.seen.order(piece) < OTHER_INSIDE)
        if share > RIM_SHARE or (share > 0 and small):
            return "amorphous", _confidence(share - 0.3, 0.2)
        return None

    def _remainder(self, region: Region, piece: Piece) -> tuple[str, float] | None:
        """What is left over beside a much larger region belongs to it."""
        area = self.seen.area_periods(region)
        if area > RIM_AREA:
            return None
        near = ndimage.binary_dilation(piece.mask, iterations=round(RIM_PERIODS * self.seen.phases.period))
        for number in np.unique(self._numbers[piece.window][near]).tolist():
            if number:
                (name, confidence), other = self._earlier[number - 1]
                if other > REMAINDER_RATIO * area:
                    return name, 0.7 * confidence
        return None

    def _point(self, region: Region, piece: Piece) -> tuple[str, float] | None:
        """A column too little or too much, by its brightness."""
        if self.seen.area_periods(region) > POINT_AREA:
            return None
        reach = round(2 * self.seen.phases.period)
        ring = ndimage.binary_dilation(piece.mask, iterations=reach)
        ring &= ~ndimage.binary_dilation(piece.mask, iterations=reach // 2)
        around = np.abs(self.seen.phases.values[:2, *piece.window][:, ring])
        if around.size == 0 or float(np.quantile(around, 0.1)) < POINT_ORDER:
            return None
        deviation = self.seen.spot(region)
        contrast = float(self.seen.prepared.band[self.seen.patch].std()) + 1e-12
        clear = min(
            abs(deviation) / (SPOT_NOISES * self.seen.noise), abs(deviation) / (SPOT_SHARE * contrast)
        )
        if clear < 1:
            return None
        dark_columns = self.seen.skewness < -LEAST_SKEWNESS
        name = "interstitial-like" if (deviation > 0) != dark_columns else "vacancy-like"
        sure = _confidence(abs(self.seen.skewness) - LEAST_SKEWNESS, 0.15)
        return name, min(_confidence(math.log(clear), 0.3), sure)

    def _wall(self, region: Region, piece: Piece) -> tuple[str, float] | None:
        """A wall between two pieces of crystal."""
        if self.seen.periods(region.length_px) < BAND_PERIODS:
            return None
        found = across(
            self.seen.phases, piece.within(self.seen.marked.shape), self.seen.marked, self.seen.contrast
        )
        if found is None:
            return None
        weak, _ = found.order
        period = self.seen.prepared.period_px
        if found.inverted > INVERTED and found.inverted > found.invariant + INVERTED:
            return "inversion domain", _confidence(found.inverted - found.invariant - 0.6, 0.2)
        if weak < OTHER_SIDE:
            return "grain boundary", _confidence(OTHER_SIDE - weak, 0.1)
        if found.places >= LEAST_PLACES and found.steadiness < UNSTEADY:
            # What lies opposite to each other changes along the wall: the sides are turned by a small angle.
            return "grain boundary", _confidence(UNSTEADY - found.steadiness, 0.1)
        if found.steadiness > found.coherence + UNEXPLAINED:
            # The harmonics jump, but not as one displacement would have it: another structure.
            return "inversion domain", _confidence(found.steadiness - found.coherence - UNEXPLAINED, 0.1)
        if found.shift_px > SHIFT_PERIODS * period and found.coherence > SHIFT_COHERENCE:
            clear = min(
                found.shift_px / period / SHIFT_PERIODS - 1, (found.coherence - SHIFT_COHERENCE) / 0.2
            )
            shift = np.array(found.shift) @ self.seen.phases.basis
            slips = stacking.slip_of_layers(shift, np.array(found.normal), self.seen.phases.basis)
            if slips and self.seen.periods(region.width_px) > WALL_PERIODS:
                return "stacking fault", _confidence(clear, 0.5)
            if slips:
                return ("intrinsic", "extrinsic")[slips - 1] + " stacking fault", _confidence(clear, 0.5)
            doubled = 2 * np.array(found.shift)
            if np.abs(doubled - np.rint(doubled)).max() < HALVES:
                return "antiphase domain", _confidence(clear, 0.5)
            if found.shift_px < POLARITY_SHIFT * period:
                # Two unequal columns exchanged: their common centre moves by no simple fraction, and not far.
                return "inversion domain", _confidence(min(clear, 0.0), 0.5)
            return None
        step = abs(found.step)
        if step > INTERFACE_RATIO:
            return "interface", _confidence(step / INTERFACE_RATIO - 1, 0.5)
        return None

    def _area(self, piece: Piece) -> tuple[str, float] | None:
        """An area of something else: another grain, the inverted crystal, no crystal."""
        depth = piece.depth()
        if depth.max() < AREA_DEPTH * self.seen.phases.period:
            return None
        inner = depth >= 0.5 * depth.max()
        values = self.seen.phases.values[:, *piece.window][:, inner].astype(np.complex128)
        order = float(np.mean([np.median(np.abs(v)) for v in values[:2]]))
        if order > OTHER_INSIDE:
            own, inside = self.seen.reference_invariant, mean_phase(self.seen.phases.invariant(values))
            if own is None or inside is None:
                return None
            same, opposite = (inside * own.conjugate()).real, (inside * own).real
            if opposite > INVERTED and opposite > same + INVERTED:
                return "inversion domain", _confidence(opposite - same - 0.6, 0.2)
            return None
        strength = self._another_lattice(piece, depth)
        if strength > GRAIN_STRENGTH:
            return "second grain", _confidence(strength - GRAIN_STRENGTH, 0.15)
        if order < LOST:
            return "amorphous", _confidence(LOST - order, 0.1)
        return None

    def _another_lattice(self, piece: Piece, depth: NDArray[np.float64]) -> float:
        """Strength of a turned lattice inside an area, relative to the reference's; 0 if there is none.

        What is marked may hold several grains, so it is looked for in several places, no larger than the model patch.
        """
        step, scale = self.seen.phases.step_px, float(self.seen.prepared.scale.mean())
        most = (self.seen.patch[0].stop - self.seen.patch[0].start) / 2
        own = self.seen.lattice
        left, found = depth.copy(), []
        for _ in range(AREA_PLACES):
            if left.max() < AREA_DEPTH * self.seen.phases.period:
                break
            place = np.array(np.unravel_index(int(np.argmax(left)), left.shape), np.float64)
            half = min(float(depth[int(place[0]), int(place[1])]) * step / math.sqrt(2), most)
            middle = (place + [s.start for s in piece.window] + 0.5) * step - 0.5
            low = np.maximum(np.rint(middle - half), 0).astype(int)
            high = np.rint(middle + half).astype(int) + 1
            lattice = find_lattice(self.seen.prepared.values[low[0] : high[0], low[1] : high[1]])
            turn = None if lattice is None else lattice_rotation(own.scaled(scale), lattice)
            turned = lattice is not None and (turn is None or turn > GRAIN_DEG)
            found.append(lattice.strength / own.strength if lattice is not None and turned else 0.0)
            rows, columns = np.indices(left.shape)
            left[np.hypot(rows - place[0], columns - place[1]) * step < 2 * half] = 0
        return float(np.median(found)) if found else 0.0


def type_judge(
    labels: NDArray[np.uint8],
    prepared: Prepared | None,
    lattice: Lattice | None,
    best_patch: BestPatch | None,
    domains: DomainMap | None,
) -> Judge | None:
    """A judge, or None where no lattice was found or nothing is marked.

    Parameters
    ----------
    labels : uint8 array (y, x)
        All that is marked.
    prepared : Prepared or None
    lattice : Lattice or None
        Of the model patch, in pixels of the frame.
    best_patch : BestPatch or None
    domains : DomainMap or None

    Returns
    -------
    callable or None
        Give it to :func:`~.regions.find_regions`.
    """
    if prepared is None or lattice is None or best_patch is None or not labels.any():
        return None
    phases = lattice_phases(prepared, lattice, prepared_slices(best_patch, prepared))
    if phases is None:
        return _by_label
    return TypeJudge(Evidence(labels, prepared, lattice, best_patch, domains, phases))


def _by_label(region: Region, mask: NDArray[np.bool_]) -> tuple[str, float]:
    """All that can be said where the lattice has no phases."""
    return ("amorphous", 0.5) if region.label == 2 else UNKNOWN


def _confidence(clear: float, scale: float) -> float:
    """Logistic function: 0.5 where a rule just holds."""
    return 1 / (1 + math.exp(-max(min(clear / scale, 30.0), -30.0)))
