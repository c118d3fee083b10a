"""State of one image, without Qt or a viewer: steps, manual changes, results."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.core.recipe import Recipe
from napari_hrstem_defects.widgets.corrections import (
    ByHand,
    ClassMap,
    Correction,
    Labelled,
    Point,
    measured_in,
)
from napari_hrstem_defects.widgets.outputs import PATCH_DEFECTIVE, Findings
from napari_hrstem_defects.widgets.roles import (
    PAINTABLE,
    Role,
    by_id,
    entry,
    outputs_of,
    part_of,
    role_of,
    tag,
)
from napari_hrstem_defects.widgets.source import is_stack, pixel_size_nm, pixels_of

if TYPE_CHECKING:
    from napari.layers import Image, Layer

    from napari_hrstem_defects.core.analysis import Analysis
    from napari_hrstem_defects.core.regions import Region
    from napari_hrstem_defects.widgets.tasks import SeriesResult

#: Larger layers (long series) are not compared pixel by pixel; only events of the brush count.
COMPARED = 2**25


class State(StrEnum):
    """State of a step; shown by a sign and a word, never by colour alone."""

    EMPTY = "not run"
    RUNNING = "running"
    CURRENT = "current"
    STALE = "stale"
    FAILED = "failed"


#: Sign of each state.
SIGNS = dict(zip(State, "○◌●◐✕", strict=True))


@dataclass(frozen=True)
class Step:
    """One group of the panel.

    Attributes
    ----------
    name, title, does : str
        Heading, and a sentence for the tooltip.
    reads : tuple of str
        Parts of the recipe that it reads first.
    parts : tuple of str
        Steps of the pipeline that it stands for; by default the one of its name.
    """

    name: str
    title: str
    does: str
    reads: tuple[str, ...]
    parts: tuple[str, ...] = ()


STEPS = (
    Step(
        "preprocess",
        "Preprocess",
        "Determines the lattice period, and normalizes background and contrast.",
        ("mode", "preprocess"),
    ),
    Step("domains", "Lattices", "Divides the image into areas of one lattice each.", ("domains",)),
    Step(
        "classify",
        "Classify patches",
        "Divides the image into patches and classifies each as defective or non-defective.",
        ("classify",),
    ),
    Step(
        "best_patch",
        "Best patch",
        "Selects the defect-free patch that is the reference of the filters.",
        ("best_patch",),
    ),
    Step(
        "variance",
        "Variance filter",
        "Measures the local variance and finds amorphous or damaged areas.",
        ("variance", "as_published"),
    ),
    Step(
        "symmetry",
        "Symmetry filter",
        "Computes the severity: the deviation of the surroundings of each pixel from the intact lattices.",
        ("symmetry", "verdicts"),
    ),
    Step(
        "segment",
        "Labels and regions",
        "Segments the defects and measures each connected region.",
        ("segment",),
        ("segment", "regions"),
    ),
)
STEP_NAMES = tuple(step.name for step in STEPS)
#: What is shown while a step of the pipeline runs.
STAGES = {
    "preprocess": "lattice and contrast",
    "domains": "lattices",
    "classify": "patches",
    "best_patch": "best patch",
    "symmetry": "severity",
    "segment": "labels",
}
#: Step → steps of the pipeline that it stands for, and the other way round.
PARTS = {step.name: step.parts or (step.name,) for step in STEPS}
SHOWN_AS = {part: name for name, parts in PARTS.items() for part in parts}

#: Parameters of the domains that say which of them count as crystal: read with the severity.
_VERDICTS = ("crystal", "intact_at", "defective_at")


def _part(recipe: Recipe, name: str) -> Any:
    """What a step reads of a recipe."""
    if name == "verdicts":
        return tuple(getattr(recipe.domains, key) for key in _VERDICTS)
    if name == "domains":
        return recipe.domains.model_dump(exclude=set(_VERDICTS))
    return getattr(recipe, name)


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a result depends on beside the pixels.

    Attributes
    ----------
    recipe : Recipe
    point : tuple of float or None
        Centre of the best patch placed by hand, ``(y, x)`` in pixels.
    patches : bool array (n_y, n_x) or None
        Patches painted by hand, True: defective.
    pixel_size : float or None
        In nm; the regions are measured with it.
    painted : mapping of int to Correction
        Frame → what was painted over its labels. It is laid over the result, so no step is out of date for it.
    """

    recipe: Recipe
    point: Point | None = None
    patches: NDArray[np.bool_] | None = None
    pixel_size: float | None = None
    painted: Mapping[int, Correction] = field(default_factory=dict)

    def differs(self, other: Inputs, step: Step) -> bool:
        """Whether a step itself was asked for something else."""
        if step.name == "classify" and not np.array_equal(self.patches, other.patches):  # type: ignore[arg-type]
            return True
        if step.name == "best_patch" and self.point != other.point:
            return True
        if step.name == "segment" and self.pixel_size != other.pixel_size:
            return True
        # A best patch chosen automatically is revised by the distances to its own templates.
        revised = ("symmetry",) if step.name == "best_patch" and self.point is None else ()
        return any(_part(self.recipe, name) != _part(other.recipe, name) for name in (*step.reads, *revised))


def outdated(done: Inputs, now: Inputs) -> frozenset[str]:
    """Steps whose result would change: those asked for something else, and all that follow from them."""
    asked = [step.name for step in STEPS if done.differs(now, step)]
    old = frozenset(STEP_NAMES[STEP_NAMES.index(asked[0]) :] if asked else ())
    if now.recipe.mode == "lattice" and not {"preprocess", "domains", "variance"}.intersection(asked):
        old -= {"variance"}  # of the image alone, whatever the patches
    return old


def first_of(steps: Collection[str]) -> str:
    """The earliest of some steps; of none the first of all."""
    return next((name for name in STEP_NAMES if name in steps), STEP_NAMES[0])


@dataclass(eq=False)
class Document:
    """One image layer and its analysis; without a layer nothing is known and nothing can be asked for.

    Attributes
    ----------
    analysis, done : Analysis and Inputs, or None
        The latest one, and what it was asked for.
    written, shown : set of str
        Steps whose layers show `analysis`; those that have ever been written, maybe out of date.
    frame : int
        Frame of a series that `analysis` is of.
    by_hand, history : ByHand and list of ByHand
        What a person asked for, and earlier values of it, for undo.
    moving : Role or None
        Layer of points of which one is being dragged.
    outputs : dict
        Role and part → ``unique_id`` of the layer that shows it; the part is empty where a role has one layer.
    references : dict
        Role → what was last known to be in a paintable layer.
    rewritten : set of int
        Frames whose labels were computed anew since they were painted.
    findings, labelled, class_maps : dict
        Frame (0 for a single image) → what the panel says about it; its labels and regions; what an ensemble found.
    failed : tuple of str or None
        Step and sentence.
    series : SeriesResult or None
        All frames of a time series.
    notes : tuple of str
        What became of edited layers in the last run.
    saved : dict
        Frame → labels of a result folder that the next run restores the corrections from.
    """

    _layer: Callable[[], Image | None]
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
    findings: dict[int, Findings] = field(default_factory=dict)
    labelled: dict[int, Labelled] = field(default_factory=dict)
    class_maps: dict[int, ClassMap] = field(default_factory=dict)
    failed: tuple[str, str] | None = None
    series: SeriesResult | None = None
    notes: tuple[str, ...] = ()
    saved: dict[int, NDArray[np.uint8]] = field(default_factory=dict)

    @classmethod
    def of(cls, layer: Image, layers: Iterable[Layer]) -> Document:
        """Begin work on an image; layers of an earlier session are found by their metadata."""
        made = cls(weakref.ref(layer), str(layer.unique_id))
        for output in outputs_of(layers, made.source_id):
            if not entry(output).get("kept"):
                made.outputs[Role(entry(output)["role"]), part_of(output)] = output.unique_id
        return made

    @property
    def layer(self) -> Image | None:
        """The image; None when it is gone."""
        return self._layer()

    @property
    def frame_shape(self) -> tuple[int, int]:
        """Shape ``(y, x)`` of the image."""
        layer = self.layer
        shape = (0, 0) if layer is None else pixels_of(layer).shape[: -1 if layer.rgb else None]
        return int(shape[-2]), int(shape[-1])

    @property
    def is_stack(self) -> bool:
        """Whether the image is a time series."""
        return self.layer is not None and is_stack(self.layer)

    def forget(self) -> None:
        """The pixels changed: no result holds any more. Layers stay."""
        self.analysis = self.done = self.failed = self.series = None
        for found in (self.written, self.class_maps, self.findings, self.labelled, self.history):
            found.clear()
        self.by_hand = replace(self.by_hand, painted={}, reviewed={})

    # Layers that show it --------------------------------------------------------------------------------------

    def output(self, layers: Iterable[Layer], role: Role, part: str = "") -> Any:
        """The layer that shows a role, None if it was never written or was deleted."""
        known = self.outputs.get((role, part))
        return None if known is None else by_id(layers, known)

    def is_edited(self, layer: Layer) -> bool:
        """Whether a person changed what was written to a layer; what is painted over labels is kept apart from them."""
        role = role_of(layer)
        if entry(layer).get("edited"):
            return True
        reference = None if role is None else self.references.get(role)
        if role is Role.LABELS or role not in PAINTABLE or reference is None or layer.data.size > COMPARED:
            return False
        changed = not np.array_equal(layer.data, reference)
        if changed:
            tag(layer, edited=True)
        return changed

    def painted_patches(self, layers: Iterable[Layer]) -> NDArray[np.bool_] | None:
        """Patches as painted, True: defective; erased ones have their automatic class."""
        layer = self.output(layers, Role.PATCHES)
        if layer is None or not self.is_edited(layer):
            return None
        painted = np.asarray(layer.data)
        painted = painted.reshape(painted.shape[-2:])
        reference = self.references.get(Role.PATCHES)
        if reference is not None and reference.shape[-2:] == painted.shape:
            painted = np.where(painted == 0, reference.reshape(painted.shape), painted)
        return painted == PATCH_DEFECTIVE

    # What a person asked for ----------------------------------------------------------------------------------

    @property
    def point(self) -> Point | None:
        """Centre of the best patch placed by hand."""
        return self.by_hand.point

    def inside(self, point: Iterable[float]) -> Point:
        """The point of the image that is nearest to a point."""
        y, x = np.clip(np.asarray(point, dtype=float), 0, np.array(self.frame_shape) - 1)
        return float(y), float(x)

    def place(self, point: Point | None) -> None:
        """Ask for another best patch (None: automatic); can be undone."""
        self.ask(point=None if point is None else self.inside(point))

    def ask(self, by_hand: ByHand | None = None, **changes: Any) -> None:
        """Ask for something else by hand; can be undone."""
        by_hand = replace(self.by_hand if by_hand is None else by_hand, **changes)
        if by_hand != self.by_hand and self.layer is not None:
            self.history.append(self.by_hand)
            self.by_hand = by_hand

    def undo(self) -> None:
        """Take back what was asked for last."""
        if self.history:
            self.by_hand = self.history.pop()

    def count_as(self, number: int, intact: bool) -> None:
        """Ask for a lattice of the latest run to count as intact, or as a defect; can be undone."""
        from napari_hrstem_defects.core.domains import domain_at, point_in

        analysis = self.analysis
        if analysis is None or analysis.domains is None or analysis.prepared is None:
            return
        found, prepared = analysis.domains, analysis.prepared
        if (point := point_in(found, prepared, number)) is None:
            return
        # Earlier settings for this lattice no longer hold.
        kept: dict[str, Any] = {
            name: tuple(p for p in getattr(self.by_hand, name) if domain_at(found, prepared, p) != number)
            for name in ("intact", "defective")
        }
        # To the hundredth of a pixel, as in a recipe.
        kept["intact" if intact else "defective"] += ((round(point[0], 2), round(point[1], 2)),)
        self.ask(**kept)

    # What was found -------------------------------------------------------------------------------------------

    def intact(self, frame: int) -> tuple[bool, ...]:
        """Which of the lattices of a frame count as intact; of the one that was analysed last as asked for by now."""
        from napari_hrstem_defects.core.domains import with_verdicts

        analysis, found = self.analysis, self.found(frame)
        if frame != self.frame or analysis is None or not analysis.domains or not analysis.prepared:
            return () if found is None else tuple(row["crystal"] == "yes" for row in found.lattices)
        wanted = self.by_hand.in_recipe(analysis.recipe).domains
        return tuple(d.crystal for d in with_verdicts(analysis.domains, analysis.prepared, wanted).domains)

    def found(self, frame: int | None = None) -> Findings | None:
        """What the panel says about a frame; None: about the one that was analysed."""
        return self.findings.get(self.frame if frame is None else frame)

    def known(self, frame: int | None = None) -> Labelled | None:
        """Labels and regions of a frame; None: of the one that was analysed."""
        return self.labelled.get(self.frame if frame is None else frame)

    def regions(self, frame: int | None = None) -> tuple[Region, ...]:
        """Regions to show of a frame: with what was painted, or those of a scan as long as there are no others."""
        found: Mapping[int, Any] = self.class_maps if self.analysis is None else self.labelled
        known = found.get(self.frame if frame is None else frame)
        return () if known is None else known.regions

    def in_nm(self, frame: int | None = None) -> bool:
        """Whether lengths in a frame are known in nm; without regions: whether they would be."""
        if regions := self.regions(frame):
            return regions[0].area_nm2 is not None
        return self.layer is not None and pixel_size_nm(self.layer) is not None

    def review(self, frame: int, numbers: Collection[int], accepted: bool) -> None:
        """Accept or reject regions of a frame; can be undone."""
        if (known := self.labelled.get(frame)) is None:
            return
        others = {
            (t, *pixel): kept
            for (t, *pixel), kept in self.by_hand.reviewed.items()
            if t != frame or known.numbered[tuple(pixel)] not in numbers
        }
        self.ask(reviewed=others | {(frame, *place): accepted for place in known.places(numbers)})

    def reviewed(self, frame: int | None = None) -> dict[int, str]:
        """Region of a frame → "accepted" or "rejected"."""
        frame = self.frame if frame is None else frame
        known = self.labelled.get(frame)
        return {} if known is None else known.reviewed(frame, self.by_hand.reviewed)

    def result(self) -> Analysis | None:
        """The analysis as it stands: with what was painted and scanned."""
        analysis, known = self.analysis, self.known()
        if analysis is None or not analysis.is_complete or known is None:
            return analysis
        painted, scanned = self.by_hand.painted.get(self.frame), self.class_maps.get(self.frame)
        if known.correction is not painted:  # its regions are still being measured
            known = known.corrected(painted, measured_in(analysis), scanned)
        return known.in_analysis(analysis)
