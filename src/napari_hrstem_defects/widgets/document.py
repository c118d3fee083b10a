"""One image under work: what was found out, what a person asked for, which layers show it."""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.core.pipeline import Analysis
from napari_hrstem_defects.core.regions import Region
from napari_hrstem_defects.widgets.outputs import PATCH_DEFECTIVE, Histogram, corrected
from napari_hrstem_defects.widgets.roles import Role, by_id, entry, tag, with_role
from napari_hrstem_defects.widgets.source import is_stack, pixels_of
from napari_hrstem_defects.widgets.steps import Inputs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.layers import Image, Layer, Points

    from napari_hrstem_defects.widgets.series import SeriesResult

#: Layers whose contents a person may paint.
PAINTABLE = (Role.PATCHES, Role.LABELS)
#: Larger layers (long series) are not compared pixel by pixel; the strokes of the brush tell.
_COMPARED = 2**25


@dataclass(frozen=True, eq=False)
class Correction:
    """Labels that a person painted, measured anew."""

    labels: NDArray[np.uint8]
    regions: tuple[Region, ...]


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
    point : tuple of float or None
        Centre of the best patch placed by hand.
    history : list
        Earlier values of `point`, for undo.
    moving : bool
        The best patch is being dragged.
    outputs : dict
        Role → ``unique_id`` of the layer that shows it.
    references : dict
        Role → what was written to a paintable layer.
    histogram : Histogram or None
        Of the severity of `analysis`.
    correction : Correction or None
        Labels that a person painted over those of `analysis`.
    failed : tuple of str or None
        Step and sentence.
    series : SeriesResult or None
        All frames of a time series.
    notes : tuple of str
        What became of edited layers in the last run.
    """

    _layer: weakref.ref[Image]
    source_id: str
    analysis: Analysis | None = None
    done: Inputs | None = None
    written: set[str] = field(default_factory=set)
    shown: set[str] = field(default_factory=set)
    frame: int = 0
    point: tuple[float, float] | None = None
    history: list[tuple[float, float] | None] = field(default_factory=list)
    moving: bool = False
    outputs: dict[Role, object] = field(default_factory=dict)
    references: dict[Role, NDArray[Any]] = field(default_factory=dict)
    histogram: Histogram | None = None
    correction: Correction | None = None
    failed: tuple[str, str] | None = None
    series: SeriesResult | None = None
    notes: tuple[str, ...] = ()

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
        self.analysis = self.done = self.histogram = self.correction = self.failed = self.series = None
        self.written.clear()

    def output(self, layers: Sequence[Layer], role: Role) -> Any:
        """The layer that shows a role, None if it was never written or was deleted."""
        return by_id(layers, self.outputs[role]) if role in self.outputs else None

    def adopt(self, layers: Sequence[Layer]) -> None:
        """Find layers of an earlier session by what their metadata say."""
        for role in Role:
            if role not in self.outputs:
                found = [
                    layer for layer in with_role(layers, role, self.source_id) if not entry(layer).get("kept")
                ]
                if found:
                    self.outputs[role] = found[-1].unique_id

    def is_edited(self, layer: Layer, role: Role) -> bool:
        """Whether a person changed what was written to a layer."""
        if role not in PAINTABLE:
            return False
        if entry(layer).get("edited"):
            return True
        reference = self.references.get(role)
        data = layer.data
        if reference is None or data.size > _COMPARED:
            return False
        changed = data.shape != reference.shape or not np.array_equal(data, reference)
        if changed:
            tag(layer, edited=True)
        return changed

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
        if point is not None:
            limits = np.array(self.frame_shape) - 1
            y, x = np.clip(np.asarray(point, dtype=float), 0, limits)
            point = (float(y), float(x))
        if point != self.point:
            self.history.append(self.point)
            self.point = point

    def regions(self, frame: int | None = None) -> tuple[Region, ...]:
        """Regions to show: as painted, else as found (of a series: those of a frame)."""
        if frame is not None and frame != self.frame:
            return () if self.series is None else self.series.regions[frame]
        if self.correction is not None:
            return self.correction.regions
        return () if self.analysis is None or "segment" not in self.shown else self.analysis.regions

    def result(self) -> Analysis | None:
        """The analysis as it stands, with labels painted by hand in place of those found."""
        if self.analysis is None or self.correction is None:
            return self.analysis
        return corrected(self.analysis, self.correction.labels, self.correction.regions)

    def undo(self) -> None:
        """Take back the last change of the best patch."""
        if self.history:
            self.point = self.history.pop()

    def point_of(self, layer: Points, index: int) -> tuple[float, float]:
        """``(y, x)`` of a point of the best-patch layer."""
        y, x = np.asarray(layer.data)[index][-2:]
        return float(y), float(x)
