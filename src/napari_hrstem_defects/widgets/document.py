"""One image under work: what was found out, what a person asked for, which layers show it."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.core.domains import Domain, domain_at, point_in, with_verdicts
from napari_hrstem_defects.core.pipeline import Analysis
from napari_hrstem_defects.core.recipe import Recipe, points_of, points_text
from napari_hrstem_defects.core.regions import Region
from napari_hrstem_defects.widgets.class_map import ClassMap
from napari_hrstem_defects.widgets.correction import PAINTED, Correction, Labelled, measured_in
from napari_hrstem_defects.widgets.outputs import PATCH_DEFECTIVE, Histogram
from napari_hrstem_defects.widgets.roles import Role, by_id, entry, part_of, tag, with_role
from napari_hrstem_defects.widgets.source import is_stack, pixels_of
from napari_hrstem_defects.widgets.steps import Inputs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.layers import Image, Layer

    from napari_hrstem_defects.widgets.series import SeriesResult

Point = tuple[float, float]

#: Layers whose contents a person may paint.
PAINTABLE = (Role.PATCHES, Role.LABELS, Role.CLASSES)
#: Larger layers (long series) are not compared pixel by pixel; the strokes of the brush tell.
COMPARED = 2**25


@dataclass(frozen=True)
class ByHand:
    """What a person asked for about places of an image, ``(y, x)`` in pixels.

    Attributes
    ----------
    point : tuple of float or None
        Centre of the best patch; None: chosen automatically.
    lattices : tuple of tuple of float
        Centres of the model patches of further lattices.
    intact, defective : tuple of tuple of float
        Points in lattices that count as intact or as defects.
    painted : mapping of int to Correction
        Frame (0 for a single image) → what was painted over its labels.
    """

    point: Point | None = None
    lattices: tuple[Point, ...] = ()
    intact: tuple[Point, ...] = ()
    defective: tuple[Point, ...] = ()
    painted: Mapping[int, Correction] = field(default_factory=dict)

    def with_correction(self, frame: int, correction: Correction | None) -> ByHand:
        """With other corrections of a frame; None: without any."""
        others = {known: kept for known, kept in self.painted.items() if known != frame}
        return replace(self, painted=others if correction is None else {**others, frame: correction})

    def in_recipe(self, recipe: Recipe) -> Recipe:
        """A recipe with what is said about the lattices; the best patch is no part of a recipe."""
        return recipe.replace(
            {f"domains.{key}": points_text(getattr(self, name)) for key, name in _IN_RECIPE.items()}
        )

    def told_by(self, recipe: Recipe) -> ByHand:
        """With what a recipe says about the lattices instead."""
        points: dict[str, Any] = {
            name: points_of(getattr(recipe.domains, key)) for key, name in _IN_RECIPE.items()
        }
        return replace(self, **points)


#: Parameter of the step domains → what it is called here.
_IN_RECIPE = {"given": "lattices", "intact_at": "intact", "defective_at": "defective"}


@dataclass(eq=False)
class Document:
    """One image layer and its analysis.

    Attributes
    ----------
    analysis : Analysis or None
        The latest one.
    done : Inputs or None
        What it was asked for.
    written : set of str
        Steps whose layers show `analysis`.
    shown : set of str
        Steps that have ever been written, maybe out of date.
    frame : int
        Frame of a series that `analysis` is of.
    by_hand : ByHand
        What a person asked for.
    history : list of ByHand
        Earlier values of it, for undo.
    moving : Role or None
        Layer of points of which one is being dragged.
    outputs : dict
        Role and part → ``unique_id`` of the layer that shows it; the part is empty where a role has one layer.
    references : dict
        Role → what was last known to be in a paintable layer.
    rewritten : set of int
        Frames whose labels were computed anew since they were painted.
    histogram : Histogram or None
        Of the severity of `analysis`.
    labelled : dict
        Frame (0 for a single image) → its labels and regions.
    class_maps : dict
        Frame (0 for a single image) → what an ensemble found in it.
    failed : tuple of str or None
        Step and sentence.
    series : SeriesResult or None
        All frames of a time series.
    notes : tuple of str
        What became of edited layers in the last run.
    saved : dict
        Frame → labels of a result folder that the next run restores the corrections from.
    """

    _layer: weakref.ref[Image]
    source_id: str
    analysis: Analysis | None = None
    done: Inputs | None = None
    written: set[str] = field(default_factory=set)
    shown: set[str] = field(default_factory=set)
    frame: int = 0
    by_hand: ByHand = field(default_factory=ByHand)
    history: list[ByHand] = field(default_factory=list)
    moving: Role | None = None
    outputs: dict[tuple[Role, str], object] = field(default_factory=dict)
    references: dict[Role, NDArray[Any]] = field(default_factory=dict)
    rewritten: set[int] = field(default_factory=set)
    histogram: Histogram | None = None
    labelled: dict[int, Labelled] = field(default_factory=dict)
    class_maps: dict[int, ClassMap] = field(default_factory=dict)
    failed: tuple[str, str] | None = None
    series: SeriesResult | None = None
    notes: tuple[str, ...] = ()
    saved: dict[int, NDArray[np.uint8]] = field(default_factory=dict)

    @classmethod
    def of(cls, layer: Image) -> Document:
        """Begin work on an image."""
        return cls(weakref.ref(layer), str(layer.unique_id))

    @property
    def layer(self) -> Image | None:
        """The image; None when it is gone."""
        return self._layer()

    @property
    def frame_shape(self) -> tuple[int, int]:
        """Shape ``(y, x)`` of the image, as far as its layer says."""
        layer = self.layer
        if layer is None:
            return (0, 0)
        shape = pixels_of(layer).shape
        if layer.rgb:
            shape = shape[:-1]
        return int(shape[-2]), int(shape[-1])

    @property
    def is_stack(self) -> bool:
        """Whether the image is a time series."""
        return self.layer is not None and is_stack(self.layer)

    def forget(self) -> None:
        """The pixels changed: nothing that was found still holds. Layers stay."""
        self.analysis = self.done = self.histogram = self.failed = self.series = None
        self.written.clear()
        self.class_maps.clear()
        self.labelled.clear()
        self.by_hand = replace(self.by_hand, painted={})
        self.history.clear()

    def output(self, layers: Sequence[Layer], role: Role, part: str = "") -> Any:
        """The layer that shows a role, None if it was never written or was deleted."""
        known = self.outputs.get((role, part))
        return None if known is None else by_id(layers, known)

    def parts(self, layers: Sequence[Layer], role: Role) -> dict[str, Layer]:
        """All layers of a role by their part."""
        found = {part: self.output(layers, role, part) for known, part in self.outputs if known is role}
        return {part: layer for part, layer in found.items() if layer is not None}

    def adopt(self, layers: Sequence[Layer]) -> None:
        """Find layers of an earlier session by what their metadata say."""
        found: dict[tuple[Role, str], object] = {}
        for role in Role:
            for layer in with_role(layers, role, self.source_id):
                if not entry(layer).get("kept"):
                    found[role, part_of(layer)] = layer.unique_id
        self.outputs = found | self.outputs

    def is_edited(self, layer: Layer, role: Role) -> bool:
        """Whether a person changed what was written to a layer."""
        if entry(layer).get("edited"):
            return True
        if role not in PAINTABLE or role is Role.LABELS:
            return False  # what was painted over labels is kept apart from them
        reference = self.references.get(role)
        data = layer.data
        if reference is None or data.size > COMPARED:
            return False
        changed = data.shape != reference.shape or not np.array_equal(data, reference)
        if changed:
            tag(layer, edited=True)
        return changed

    def is_taken_back(self, layer: Layer, role: Role) -> bool:
        """Whether a layer that was painted is again as it was written; then it counts as never painted."""
        reference = self.references.get(role)
        back = reference is not None and np.array_equal(layer.data, reference)
        if back:
            tag(layer, edited=False)
        return back

    def painted_patches(self, layers: Sequence[Layer]) -> NDArray[np.bool_] | None:
        """Patches as a person painted them; where the eraser was used, as the classifier judged them."""
        layer = self.output(layers, Role.PATCHES)
        if layer is None or not self.is_edited(layer, Role.PATCHES):
            return None
        painted = np.asarray(layer.data)
        painted = painted.reshape(painted.shape[-2:])
        reference = self.references.get(Role.PATCHES)
        if reference is None or reference.shape[-2:] != painted.shape:
            return painted == PATCH_DEFECTIVE
        return np.where(painted == 0, reference.reshape(painted.shape), painted) == PATCH_DEFECTIVE

    def place(self, point: tuple[float, float] | None) -> None:
        """Ask for another best patch (None: automatic); can be undone."""
        self.ask(replace(self.by_hand, point=None if point is None else self.inside(point)))

    def inside(self, point: Point) -> Point:
        """The point of the image that is nearest to a point."""
        y, x = np.clip(np.asarray(point, dtype=float), 0, np.array(self.frame_shape) - 1)
        return float(y), float(x)

    def ask(self, by_hand: ByHand) -> None:
        """Ask for something else by hand; can be undone."""
        if by_hand != self.by_hand:
            self.history.append(self.by_hand)
            self.by_hand = by_hand

    @property
    def point(self) -> Point | None:
        """Centre of the best patch placed by hand."""
        return self.by_hand.point

    @property
    def lattices(self) -> tuple[Domain, ...]:
        """The lattices found in the latest run, the best patch's first."""
        if self.analysis is None or self.analysis.domains is None:
            return ()
        return self.analysis.domains.domains

    def verdicts(self) -> tuple[bool, ...]:
        """Which of the lattices count as intact, as asked for now."""
        analysis = self.analysis
        if analysis is None or analysis.domains is None or analysis.prepared is None:
            return ()
        wanted = self.by_hand.in_recipe(analysis.recipe).domains
        return tuple(d.crystal for d in with_verdicts(analysis.domains, analysis.prepared, wanted).domains)

    def count_as(self, number: int, intact: bool) -> None:
        """Ask for a lattice of the latest run to count as intact, or as a defect; can be undone."""
        analysis = self.analysis
        if analysis is None or analysis.domains is None or analysis.prepared is None:
            return
        found, prepared = analysis.domains, analysis.prepared
        point = point_in(found, prepared, number)
        if point is None:
            return
        # What was said about this lattice earlier no longer holds.
        kept: dict[str, Any] = {
            name: tuple(
                other for other in getattr(self.by_hand, name) if domain_at(found, prepared, other) != number
            )
            for name in ("intact", "defective")
        }
        name = "intact" if intact else "defective"
        # To the hundredth of a pixel that a recipe keeps, so that both say the same.
        kept[name] += ((round(point[0], 2), round(point[1], 2)),)
        self.ask(replace(self.by_hand, **kept))

    def regions(self, frame: int | None = None) -> tuple[Region, ...]:
        """Regions to show of a frame: with what was painted, or those of a scan as long as there are no others."""
        if self.analysis is None:
            scanned = self.class_maps.get(frame or 0)
            return () if scanned is None else scanned.regions
        known = self.labelled.get(self.frame if frame is None else frame)
        return () if known is None else known.regions

    def at(self, frame: int | None) -> Document:
        """What is known about a frame: without the numbers of another one that was analysed."""
        if frame is None or frame == self.frame or self.analysis is None:
            return self
        return replace(self, analysis=None, histogram=None, done=None)

    def painted_regions(self, frame: int | None = None) -> frozenset[int]:
        """Numbers of the regions of a frame in which a person painted."""
        known = self.labelled.get(self.frame if frame is None else frame)
        return frozenset() if known is None else known.painted

    def areas(self) -> list[dict[str, float]]:
        """Per frame of a series the shares of the pixels: symmetry defect, amorphous."""
        return [known.areas for _, known in sorted(self.labelled.items())]

    def result(self) -> Analysis | None:
        """The analysis as it stands: with what was painted and scanned."""
        analysis, known = self.analysis, self.labelled.get(self.frame)
        if analysis is None or not analysis.is_complete or known is None:
            return analysis
        painted, scanned = self.by_hand.painted.get(self.frame), self.class_maps.get(self.frame)
        if known.correction is not painted:  # its regions are still being measured
            known = known.corrected(painted, measured_in(analysis), scanned)
        analysis = analysis.with_labels(known.shown, known.regions, None if painted is None else PAINTED)
        return analysis if scanned is None else scanned.noted(analysis)

    def undo(self) -> None:
        """Take back what was asked for last."""
        if self.history:
            self.by_hand = self.history.pop()
