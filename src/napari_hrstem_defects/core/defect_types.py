"""Features of a marked region that decide its probable type: geometry, domains, order, walls, cores, layers, points.

:mod:`.type_classifier` makes a type and a confidence of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_hrstem_defects.core.autocorrelation import Field, autocorrelation_field
from napari_hrstem_defects.core.best_patch import BestPatch, prepared_slices
from napari_hrstem_defects.core.displacement import (
    SEQUENCES,
    TURN_DEG,
    LatticePhases,
    across,
    circuit,
    lattice_phases,
    read_stacking,
)
from napari_hrstem_defects.core.domains import DomainMap
from napari_hrstem_defects.core.lattice import Lattice, column_sense
from napari_hrstem_defects.core.preprocessing import Prepared
from napari_hrstem_defects.core.regions import Region, find_regions, label_regions
from napari_hrstem_defects.core.severity import field_valid
from napari_hrstem_defects.core.type_classifier import default_classifier

Floats = NDArray[np.float64]

_EPSILON, _TINY = float(np.finfo(np.float32).eps), float(np.finfo(np.float32).tiny)

#: Relations of a domain to the reference that are one feature.
_RELATIONS = {
    "other_rotated": ("rotated", "other lattice"),
    "other_inverted": ("inverted",),
    "other_phase": ("second phase",),
}

#: Name of each feature and what it is. Lengths are in lattice periods, amplitudes relative to the model patch; what
#: does not apply is 0.
FEATURES = {
    "length": "logarithm of the length",
    "width": "logarithm of the mean width",
    "thickness": "logarithm of the greatest thickness",
    "along_lattice": "1 if the long axis runs along a lattice vector, 0 beyond `TURN_DEG`, times 1 − width/length",
    "beside_lost": "share in an area that lost its order or within 2 periods of one",
    "beside_larger": "logarithm of the area of the largest region within 2 periods over its own, at least 0",
    "other_turn": "share in a domain that counts as a defect, times its misorientation over `TURN_DEG`, at most 1",
    "other_rotated": "share in domains of another orientation or lattice that count as defects",
    "other_inverted": "share in domains of opposite polarity that count as defects",
    "other_phase": "share in coherent second phases that count as defects",
    "order": "strength of the field in the inner half times how uniform its direction is: 0 for amorphous areas",
    "foreign": "that less the amplitude of the reference lattice: positive for another lattice",
    "amplitude_around": "tenth percentile of that amplitude between 1 and 2 periods around it, at most 2",
    "contrast": "logarithm of the local contrast over that of the model patch, medians",
    "direction": "cosine distance of the field's direction to the model patch's in the inner half, median",
    "inverted": "invariant phase in the inner half: likeness to the reference's inverse less that to the reference's",
    "wall": "1 if the crystal on both sides can be compared",
    "wall_coherent": "how well one displacement explains all of it",
    "wall_half": "likeness of the displacement across it to half a lattice vector, times how well one explains it",
    "wall_none": "likeness of it to nothing, times the same",
    "wall_step": "logarithm of the ratio of contrasts of the two sides, absolute, at most 0.5",
    "core": "clarity of a Burgers circuit that does not close",
    "closed": "clarity of one that closes",
    **{f"layers_{kind}": f"lead of the sequence “{kind}” over any other, −1 to 1" for kind in SEQUENCES},
    "spot_noise": "logarithm of the largest deviation from the lattice over the noise",
    "spot_contrast": "that deviation over the contrast of the lattice, its arctangent",
    "spot_brighter": "that, signed in the sense of the columns: positive for more matter",
    "spot_excess": "deviation times the brightness of the lattice there, arctangents, if positive: more of the same",
}


@dataclass(frozen=True, eq=False)
class RegionClassifier:
    """What is known of the lattice everywhere in one image; gives the features and the type of a region.

    Parameters
    ----------
    labels : uint8 array (y, x)
        All that is marked.
    prepared : Prepared
    field : Field
    best_patch : BestPatch
    domains : DomainMap or None
    phases : LatticePhases
        Of the reference lattice. The maps below are on its samples, half a period apart.
    """

    labels: NDArray[np.uint8]
    prepared: Prepared
    field: Field
    best_patch: BestPatch
    domains: DomainMap | None
    phases: LatticePhases

    def __call__(self, region: Region, mask: NDArray[np.bool_]) -> tuple[str, float]:
        """Type and confidence of a region; `mask` is not read."""
        valid = self._valid[self._numbers == region.id]
        if 2 * np.count_nonzero(valid) < valid.size:
            # Vacuum has no features.
            return "amorphous", 1.0
        return default_classifier().classify(self.features(region))

    def features(self, region: Region) -> dict[str, float]:
        """All `FEATURES` of a region; its number says which of the labels' it is."""
        inside = self._numbers == region.id
        if not inside.any():
            place = self.prepared.from_frame(np.array(region.centroid)) / self.phases.step_px
            inside[tuple(np.clip(place.astype(np.intp), 0, np.array(inside.shape) - 1))] = True
        (box,) = ndimage.find_objects(inside.astype(np.uint8))
        depth = np.zeros(inside.shape)
        depth[box] = ndimage.distance_transform_edt(np.pad(inside[box], 1))[1:-1, 1:-1]
        return {
            **dict.fromkeys(FEATURES, 0.0),
            **self._geometry(region, inside, box),
            **self._domain(inside),
            **self._order(depth >= 0.5 * depth.max()),
            **self._wall(inside),
            **self._core(inside),
            **self._layers(inside),
            **self._spot(region),
            "thickness": math.log(2 * float(depth.max()) / self.phases.period),
        }

    @cached_property
    def _places(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Row and column in the frame of each sample."""
        samples = np.moveaxis(np.indices(self.phases.values.shape[1:]), 0, -1)
        points = self.prepared.to_frame_points((samples + 0.5) * self.phases.step_px - 0.5)
        y, x = np.moveaxis(
            np.clip(np.rint(points), 0, np.array(self.labels.shape) - 1).astype(np.intp), -1, 0
        )
        return y, x

    @cached_property
    def _valid(self) -> NDArray[np.bool_]:
        """Whether a sample rests on an image of a crystal."""
        return field_valid(self.field, self.prepared)[tuple(map(slice, self._numbers.shape))]

    @cached_property
    def numbers(self) -> NDArray[np.int32]:
        """Number of the region of each pixel of the frame."""
        return label_regions(self.labels)

    @cached_property
    def _numbers(self) -> NDArray[np.int32]:
        """Number of the region of each sample."""
        return self.numbers[self._places]

    @cached_property
    def _near_lost(self) -> NDArray[np.bool_]:
        """Whether an area that lost its order is within 2 periods."""
        kept = self.labels[self._places] != 2
        return np.asarray(ndimage.distance_transform_edt(kept) <= 2 * self.phases.period) & (not kept.all())

    @cached_property
    def _pieces(self) -> NDArray[np.integer]:
        """Number of the connected piece of good crystal of each sample, 0 where something is marked."""
        return np.asarray(ndimage.label(self._numbers == 0)[0])

    @cached_property
    def _strength(self) -> NDArray[np.float32]:
        """The field's strength over that of the model patch."""
        own = float(np.median(self.field.strength[self._patch_samples]))
        return np.asarray(self.field.strength[tuple(map(slice, self._numbers.shape))] / max(own, _TINY))

    @cached_property
    def _amplitude(self) -> NDArray[np.floating]:
        """Mean amplitude of the two strongest harmonics of the reference lattice, at most 2."""
        return np.minimum(np.abs(self.phases.values[:2]).mean(axis=0), 2.0)

    @cached_property
    def _distance(self) -> NDArray[np.float32]:
        """Cosine distance of the field's direction to that of the model patch."""
        inside = np.zeros(self.field.shape, bool)
        inside[self._patch_samples] = True
        direction = self.field.mean_direction(inside)
        unit = direction / max(float(np.linalg.norm(direction)), _TINY)
        return self.field.distance(unit)[tuple(map(slice, self._numbers.shape))]

    @cached_property
    def _contrast(self) -> Floats:
        """Logarithm of the local contrast, in grey values of the frame."""
        block = self.phases.step_px
        rows, columns = self._numbers.shape
        part = self.prepared.band[: rows * block, : columns * block]
        power = np.square(part, dtype=np.float64).reshape(rows, block, columns, block).mean(axis=(1, 3))
        smooth = ndimage.gaussian_filter(power, self.phases.period)
        return np.asarray(0.5 * np.log(smooth + _EPSILON * smooth.max() + _TINY))

    @cached_property
    def _patch(self) -> tuple[slice, slice]:
        return prepared_slices(self.best_patch, self.prepared)

    @cached_property
    def _patch_samples(self) -> tuple[slice, slice]:
        rows, columns = (
            slice(min(s.start // self.phases.step_px, n - 1), max(s.stop // self.phases.step_px, 1))
            for s, n in zip(self._patch, self._numbers.shape, strict=True)
        )
        return rows, columns

    @cached_property
    def _columns(self) -> tuple[float, float, float]:
        """Of the model patch: contrast; sense of the columns, 1 bright, −1 dark, about 0 unknown; and noise."""
        band = self.prepared.band[self._patch]
        (top, bottom), (left, right) = ((s.start, s.stop) for s in self._patch)
        noise = float(self._unlike_lattice(top, left, bottom, right)[0].std()) + _TINY
        return float(band.std()) + _TINY, column_sense(band, self.phases.basis), noise

    def _unlike_lattice(self, y0: int, x0: int, y1: int, x1: int) -> tuple[Floats, Floats]:
        """A part of the image less the median of its eight neighbours a lattice vector away, and that median."""
        margin = round(self.prepared.period_px)
        y, x = np.mgrid[y0 - margin : y1 + margin, x0 - margin : x1 + margin].astype(np.float64)
        nodes = [np.array((i, j)) @ self.phases.basis for i in (-1, 0, 1) for j in (-1, 0, 1)]
        values = [
            ndimage.map_coordinates(self.prepared.band, (y + dy, x + dx), order=1, mode="mirror")
            for dy, dx in nodes
        ]
        here = values.pop(len(values) // 2)
        lattice = np.median(values, axis=0)
        # Smoothed by about a column.
        smooth = (ndimage.gaussian_filter(v, self.phases.step_px / 2) for v in (here - lattice, lattice))
        deviation, usual = (v[margin:-margin, margin:-margin] for v in smooth)
        return deviation, usual

    def _periods(self, length_px: float) -> float:
        """A length in pixels of the frame in lattice periods."""
        return length_px * float(self.prepared.scale.mean()) / (self.phases.period * self.phases.step_px)

    def _geometry(
        self, region: Region, inside: NDArray[np.bool_], box: tuple[slice, ...]
    ) -> dict[str, float]:
        length, width = self._periods(region.length_px), self._periods(region.width_px)
        margin = round(2 * self.phases.period)
        window = tuple(slice(max(0, s.start - margin), s.stop + margin) for s in box)
        distance = ndimage.distance_transform_edt(~inside[window])
        near = distance <= margin
        beside = self._numbers[window][near]
        around = self._amplitude[window][near & (distance >= min(margin / 2, distance.max()))]
        areas = np.bincount(self._numbers.ravel())
        larger = areas[beside[(beside > 0) & (beside != region.id)]].max(initial=1) / np.count_nonzero(inside)
        turn = 90.0 if region.to_lattice_deg is None else region.to_lattice_deg
        return {
            "length": math.log(length),
            "width": math.log(width),
            "along_lattice": math.exp(-((2 * turn / TURN_DEG) ** 2)) * (1 - width / length),
            "beside_lost": float(np.mean(self._near_lost[inside])),
            "beside_larger": math.log(max(float(larger), 1.0)),
            "amplitude_around": float(np.quantile(around, 0.1)),
            "contrast": float(
                np.median(self._contrast[inside]) - np.median(self._contrast[self._patch_samples])
            ),
        }

    def _domain(self, inside: NDArray[np.bool_]) -> dict[str, float]:
        if self.domains is None:
            return {}
        step, (rows, columns) = self.phases.step_px, inside.shape
        index = self.domains.index[step // 2 :: step, step // 2 :: step][:rows, :columns][inside]
        # A mark inside an intact domain is a defect of that one, whatever the domain is.
        defective = np.array([domain.defective for domain in self.domains.domains])
        counts = np.bincount(index, minlength=len(defective)) * defective
        shares = counts / index.size
        turn = self.domains.domains[int(np.argmax(counts))].misorientation_deg
        turned = 1.0 if turn is None else min(turn / TURN_DEG, 1.0)
        out = {"other_turn": turned * float(shares.max())}
        for name, relations in _RELATIONS.items():
            of_kind = [domain.relation in relations for domain in self.domains.domains]
            out[name] = float(shares[of_kind].sum())
        return out

    def _order(self, inner: NDArray[np.bool_]) -> dict[str, float]:
        values = self.phases.values
        own_invariant = self.phases.invariant(values[:, *self._patch_samples].reshape(len(values), -1))
        whole = np.zeros(self.field.shape, bool)
        whole[: inner.shape[0], : inner.shape[1]] = inner
        uniform = float(np.linalg.norm(self.field.mean_direction(whole)))
        order = min(float(np.median(self._strength[inner])) * uniform, 2.0)
        return {
            "order": order,
            "foreign": order - float(np.median(self._amplitude[inner])),
            "direction": float(np.median(self._distance[inner])),
            # Re(ab) − Re(ab*): 0 where the content has a centre of inversion.
            "inverted": -2 * self.phases.invariant(values[:, inner]).imag * own_invariant.imag,
        }

    def _wall(self, inside: NDArray[np.bool_]) -> dict[str, float]:
        found = across(self.phases, inside, self._pieces, self._contrast)
        if found is None:
            return {}
        shift, coherence, step = found
        # Distance to the nearest lattice point, and to the nearest other node of the half lattice.
        halves = np.array([(i, j) for i in range(-2, 3) for j in range(-2, 3)])
        length = np.hypot(*((shift - halves / 2) @ self.phases.basis).T)
        length /= self.phases.period * self.phases.step_px
        whole = (halves % 2 == 0).all(axis=1)
        none, half = (
            max(coherence, 0.0) * math.exp(-0.5 * (float(length[of].min()) / 0.1) ** 2)
            for of in (whole, ~whole)
        )
        return {
            "wall": 1.0,
            "wall_coherent": max(coherence, 0.0),
            "wall_half": half,
            "wall_none": none,
            "wall_step": min(abs(step), 0.5),
        }

    def _core(self, inside: NDArray[np.bool_]) -> dict[str, float]:
        places = np.argwhere(inside)
        centre = places.mean(axis=0)
        radius = float(np.hypot(*(places - centre).T).max())
        # The nearest circuit may run through the disturbed lattice, a wide one into the next defect.
        found = [circuit(self.phases, centre, radius + n * self.phases.period) for n in (1, 2)]
        burgers, clear = max(found, key=lambda each: each[1])
        return {"closed" if burgers == (0, 0) else "core": clear}

    def _layers(self, inside: NDArray[np.bool_]) -> dict[str, float]:
        step, blocked = self.phases.step_px, (self._numbers > 0) & ~inside
        points = (np.argwhere(inside) + 0.5) * step - 0.5
        found = read_stacking(self.prepared, self.phases.basis, points, blocked, step) or {}
        return {f"layers_{kind}": lead for kind, lead in found.items()}

    def _spot(self, region: Region) -> dict[str, float]:
        # In larger areas single columns are not significant.
        if self._periods(math.sqrt(region.area_px)) ** 2 > 30:
            return {}
        corners = self.prepared.from_frame(np.array(region.bbox).reshape(2, 2) - ((0,), (1,)))
        low = np.maximum(np.floor(corners[0]), 0).astype(int)
        high = np.minimum(np.ceil(corners[1]) + 1, self.prepared.values.shape).astype(int)
        deviation, usual = self._unlike_lattice(*low.tolist(), *high.tolist())
        place = int(np.argmax(np.abs(deviation)))
        contrast, sense, noise = self._columns
        size, usual_size = (math.atan(values.flat[place] / contrast) for values in (deviation, usual))
        return {
            "spot_noise": math.log1p(abs(float(deviation.flat[place])) / noise),
            "spot_contrast": abs(size),
            "spot_brighter": size * sense,
            "spot_excess": max(size * usual_size, 0.0),
        }


def typed_regions(
    labels: NDArray[np.uint8],
    severity: NDArray[np.floating],
    *,
    prepared: Prepared | None,
    lattice: Lattice | None,
    best_patch: BestPatch | None,
    domains: DomainMap | None,
    field: Field | None,
    pixel_size_nm: float | None,
    valid_mask: NDArray[np.bool_],
) -> tuple[Region, ...]:
    """Regions of an analysis with their types.

    Parameters
    ----------
    labels, prepared, lattice, best_patch, domains, field
        See :func:`region_classifier`.
    severity, pixel_size_nm
        See :func:`.find_regions`.
    valid_mask : bool array (y, x)
        Where the severity is valid; anything can be marked there and where something is.
    """
    classifier = region_classifier(labels, prepared, lattice, best_patch, domains, field)
    return find_regions(
        labels,
        severity,
        pixel_size_nm=pixel_size_nm,
        lattice=lattice,
        valid_mask=valid_mask | (labels > 0),
        numbers=None if classifier is None else classifier.numbers,
        classify=classifier,
    )


def region_classifier(
    labels: NDArray[np.uint8],
    prepared: Prepared | None,
    lattice: Lattice | None,
    best_patch: BestPatch | None,
    domains: DomainMap | None,
    field: Field | None = None,
) -> RegionClassifier | None:
    """What gives the type of a region, or None where the lattice is not known or nothing is marked.

    Parameters
    ----------
    labels, prepared, best_patch, domains, field
        See :class:`RegionClassifier`; the field is computed if it is not given.
    lattice : Lattice or None
        Of the model patch, in pixels of the frame.

    Returns
    -------
    RegionClassifier or None
        Give it to :func:`~.regions.find_regions`.
    """
    if prepared is None or lattice is None or best_patch is None or not labels.any():
        return None
    phases = lattice_phases(prepared, lattice, prepared_slices(best_patch, prepared))
    if phases is None:
        return None
    field = autocorrelation_field(prepared, prepared.valid) if field is None else field
    return RegionClassifier(labels, prepared, field, best_patch, domains, phases)
