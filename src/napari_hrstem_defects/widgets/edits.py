"""Turns what a person does to our layers into wishes of the session."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QTimer

from napari_hrstem_defects.core.defect_types import type_judge
from napari_hrstem_defects.core.regions import Region, find_regions
from napari_hrstem_defects.widgets import placing
from napari_hrstem_defects.widgets.correction import Correction
from napari_hrstem_defects.widgets.document import COMPARED, PAINTABLE, Document
from napari_hrstem_defects.widgets.of_session import OfSession
from napari_hrstem_defects.widgets.outputs import (
    BEST_PATCH_COLOUR,
    CANDIDATE_COLOUR,
    Output,
    lattice_colour,
    lattice_patches,
    region_outputs,
)
from napari_hrstem_defects.widgets.roles import Role, entry, part_of, role_of, tag
from napari_hrstem_defects.widgets.task import provenance_of
from napari_hrstem_defects.widgets.worker import Failure, Monitor, TaskWorker

if TYPE_CHECKING:
    from napari.layers import Layer, Points

    from napari_hrstem_defects.core.pipeline import Analysis
    from napari_hrstem_defects.widgets.class_map import ClassMap
    from napari_hrstem_defects.widgets.session import Session

#: A layer that was redrawn is looked at after this time, in ms: so while it is painted not more often.
_LOOK_MS = 200

#: Labels of a frame, as painted (None: as found), their regions, and the layer that shows these.
_Measured = tuple[NDArray[np.uint8], Correction | None, tuple[Region, ...], Output]


class EditWatcher(OfSession):
    """Watches the layers of a session for edits by hand."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._ignoring = 0
        self._measuring: TaskWorker | None = None
        # Layers that were redrawn, and what was in the others when they were last followed.
        self._to_look_at: weakref.WeakSet[Layer] = weakref.WeakSet()
        self._seen: weakref.WeakKeyDictionary[Layer, NDArray[Any]] = weakref.WeakKeyDictionary()

    @contextlib.contextmanager
    def ignored(self) -> Iterator[None]:
        """What happens inside is our own doing: layers emit the same events for a program as for a hand."""
        self._ignoring += 1
        try:
            yield
        finally:
            self._ignoring -= 1

    def watch(self, layer: Layer) -> None:
        """Connect to the events of one of our layers; they end with the layer."""
        role = role_of(layer)
        if role is Role.BEST_PATCH:
            layer.events.data.connect(self._points_changed)
        elif role is Role.LATTICE_PATCHES:
            layer.events.data.connect(self._lattices_changed)
        elif role in (*PAINTABLE, Role.CLASS_VOTES):
            layer.events.paint.connect(self._painted)
        if role in PAINTABLE:
            layer.events.set_data.connect(self._redrawn)

    def _concerned(self, layer: Layer, role: Role) -> tuple[Session, Document] | None:
        """Session and image of a layer, if it is the one in use."""
        session = self._session()
        if session is None or self._ignoring:
            return None
        document = session.document
        if document is None or entry(layer).get("source") != document.source_id:
            return None
        if document.outputs.get((role, part_of(layer))) != layer.unique_id:
            return None
        return session, document

    # The best patch -------------------------------------------------------------------------------------------

    def _points_changed(self, event: Any) -> None:
        layer: Points = event.source
        concerned = self._concerned(layer, Role.BEST_PATCH)
        if concerned is None:
            return
        session, document = concerned
        action = str(getattr(event.action, "value", event.action))
        indices = [int(index) % max(len(layer.data), 1) for index in event.data_indices]
        if action == "changing":
            document.moving = Role.BEST_PATCH
            session.changed.emit()
        elif action in ("added", "changed") and indices:
            document.moving = None
            y, x = np.asarray(layer.data)[indices[-1]][-2:]
            document.place((float(y), float(x)))
            self._settle(layer, indices[-1])
            self._moved(session)
        elif action == "removed" and (0 in event.data_indices or len(layer.data) == 0):
            document.moving = None
            document.place(None)
            self._moved(session)

    def _settle(self, layer: Points, chosen: int) -> None:
        """Make the chosen point the first and the only bright one, once the event is over."""

        def settle() -> None:
            order = [chosen, *(i for i in range(len(layer.data)) if i not in (0, chosen))]
            if chosen >= len(layer.data):
                return
            with self.ignored():
                layer.data = np.asarray(layer.data)[order]
                layer.border_color = [BEST_PATCH_COLOUR] + [CANDIDATE_COLOUR] * (len(order) - 1)
                layer.features = {"kind": ["best patch"] + ["candidate"] * (len(order) - 1)}

        if chosen != 0:
            QTimer.singleShot(0, settle)

    @staticmethod
    def _moved(session: Session) -> None:
        session.changed.emit()
        session.runs.update()

    def place(self, point: tuple[float, float] | None) -> None:
        """Move the best patch from the panel: to a point, or back to automatic (None)."""
        session = self._session()
        if session is not None and session.document is not None:
            session.document.place(point)
            self._show_point(session, session.document)
            self._moved(session)

    def undo(self) -> None:
        """Take back the last move of the best patch."""
        session = self._session()
        if session is not None and session.document is not None:
            session.document.undo()
            self._show_point(session, session.document)
            self._show_lattices(session, session.document)
            self._moved(session)

    def _show_point(self, session: Session, document: Document) -> None:
        """Put the square where the best patch was asked for from the panel; where it was chosen, a run will tell."""
        viewer = session.viewer
        layer = None if viewer is None else document.output(viewer.layers, Role.BEST_PATCH)
        if layer is None or document.point is None or len(layer.data) == 0:
            return
        points = np.array(layer.data)
        points[0, -2:] = document.point
        with self.ignored():
            layer.data = points

    # Further lattices -----------------------------------------------------------------------------------------

    def _lattices_changed(self, event: Any) -> None:
        layer: Points = event.source
        concerned = self._concerned(layer, Role.LATTICE_PATCHES)
        action = str(getattr(event.action, "value", event.action))
        if concerned is None:
            return
        session, document = concerned
        if action == "changing":
            document.moving = Role.LATTICE_PATCHES
        if action not in ("added", "changed", "removed"):
            return
        document.moving = None
        points = [document.inside((float(y), float(x))) for *_, y, x in np.asarray(layer.data)]
        by_hand = [value is True or value == 1 for value in layer.features.get("by_hand", ())]
        by_hand += [True] * (len(points) - len(by_hand))
        if action != "removed":
            for index in event.data_indices:
                by_hand[int(index) % len(points)] = True
        given = tuple(point for point, placed in zip(points, by_hand, strict=False) if placed)
        before = document.by_hand
        document.ask(dataclasses.replace(before, lattices=given))
        if document.by_hand == before:
            # One that was found by itself was deleted; it would be found again.
            QTimer.singleShot(0, lambda: self._show_lattices(session, document))
            return

        def settle() -> None:
            with self.ignored():
                if len(layer.data) == len(by_hand):
                    layer.features = {
                        "lattice": [str(i + 1) for i in range(len(points))],
                        "by_hand": by_hand,
                    }
                    layer.border_color = [lattice_colour(i + 1) for i in range(len(points))] or "white"

        QTimer.singleShot(0, settle)
        self._moved(session)

    def count_as(self, number: int, intact: bool) -> None:
        """Let a lattice count as intact, or as a defect."""
        session = self._session()
        if session is not None and session.document is not None:
            session.document.count_as(number, intact)
            self._moved(session)

    def offer_lattices(self) -> None:
        """Make the layer in which further lattices are pointed out, if it is not there."""
        session = self._session()
        document = None if session is None else session.document
        if session is not None and document is not None:
            self._show_lattices(session, document, make=True)

    def _show_lattices(self, session: Session, document: Document, *, make: bool = False) -> None:
        """Put the frames where the lattices of the latest run are, and where others were asked for since."""
        viewer, analysis = session.viewer, document.analysis
        if viewer is None or analysis is None or document.layer is None:
            return
        if make and document.output(viewer.layers, Role.LATTICE_PATCHES) is not None:
            return
        found = [(d.patch.y, d.patch.x) for d in document.lattices[1:]]
        session.runs.write(
            session, document, lattice_patches(analysis, found, make=make), provenance_of(analysis)
        )

    # Painting -------------------------------------------------------------------------------------------------

    def _painted(self, event: Any) -> None:
        layer = event.source
        role = role_of(layer)
        if role is None or self._ignoring:
            return
        tag(layer, edited=True)
        self._follow(layer, role)

    def _redrawn(self, event: Any) -> None:
        """Look soon whether the pixels are others: of a stroke that is taken back (Ctrl+Z) no other event tells."""
        layer = event.source
        if self._ignoring or layer in self._to_look_at:
            return
        self._to_look_at.add(layer)
        known = weakref.ref(layer)
        QTimer.singleShot(_LOOK_MS, lambda: self._look(known()))

    def _look(self, layer: Layer | None) -> None:
        role = None if layer is None else role_of(layer)
        if layer is None or role not in PAINTABLE:
            return
        self._to_look_at.discard(layer)
        concerned = self._concerned(layer, role)
        if concerned is None or layer.data.size > COMPARED:
            return
        _, document = concerned
        seen = self._seen.get(layer, document.references.get(role))
        if seen is None or np.array_equal(layer.data, seen):
            return
        if not document.is_taken_back(layer, role):
            tag(layer, edited=True)
        self._follow(layer, role)

    def _follow(self, layer: Layer, role: Role) -> None:
        """Let everything follow what a person painted."""
        if layer.data.size <= COMPARED:
            self._seen[layer] = np.array(layer.data)
        concerned = self._concerned(layer, role)
        if concerned is None:
            return
        session, document = concerned
        session.changed.emit()
        if role is Role.PATCHES:
            session.runs.update()
        elif role is Role.CLASSES:
            self.judge_again()
        elif role is Role.LABELS and document.analysis is not None:
            self._measure(session, document, layer, document.analysis)

    def judge_again(self) -> None:
        """Give the regions shown their classes anew: the regions or the map of the classes were painted."""
        session = self._session()
        viewer, document = (None, None) if session is None else (session.viewer, session.document)
        if session is None or viewer is None or document is None:
            return
        if document.analysis is None:
            self._measure_classes(session, document)
            return
        labels = document.output(viewer.layers, Role.LABELS)
        if labels is not None:
            self._measure(session, document, labels, document.analysis)

    def _measure_classes(self, session: Session, document: Document) -> None:
        """Measure the regions of a scan, as long as there are no others, as they are now."""
        frame = session.shown_frame(document) or 0
        known = document.class_maps.get(frame)
        if known is None:
            return
        worker = self._measuring = TaskWorker(lambda monitor: known.measured())
        worker.returned.connect(functools.partial(self._classes_measured, worker, document, frame, known))
        worker.start()

    def _classes_measured(
        self, worker: TaskWorker, document: Document, frame: int, before: ClassMap, result: Any
    ) -> None:
        session = self._session()
        late = worker is not self._measuring or document.class_maps.get(frame) is not before
        if late or session is None:
            return
        self._measuring = None
        if isinstance(result, Failure):
            session.failed.emit(result.message)
            return
        document.class_maps[frame] = result
        session.changed.emit()

    def _measure(self, session: Session, document: Document, layer: Layer, analysis: Analysis) -> None:
        """Measure the regions of the labels as they are now, so that the table follows."""
        viewer, severity, frame = session.viewer, analysis.severity, document.frame
        labels, found = np.asarray(layer.data), document.references.get(Role.LABELS)
        if labels.ndim == 3 and len(labels) > 1:
            frame = session.shown_frame(document) or 0
            labels = labels[frame]
            found = None if found is None else found[frame]
            others = None if viewer is None else document.output(viewer.layers, Role.SEVERITY)
            if frame != document.frame and others is not None and len(others.data) > frame:
                severity = np.asarray(others.data[frame])
        labels = np.clip(labels.reshape(labels.shape[-2:]), 0, 2).astype(np.uint8)
        if labels.shape != severity.shape or (document.series is None and frame != document.frame):
            return
        as_found = found is not None and np.array_equal(labels, found.reshape(found.shape[-2:]))
        known = analysis.regions if document.series is None else document.series.regions[frame]
        class_map = document.class_maps.get(frame)
        # Types are told by the pixels, and of a series only those of one frame are kept.
        analysed = frame == document.frame

        def measure(monitor: Monitor) -> _Measured:
            regions = known
            if not as_found:
                regions = find_regions(
                    labels,
                    severity,
                    pixel_size_nm=analysis.micrograph.pixel_size_nm,
                    lattice=analysis.lattice,
                    judge=type_judge(
                        labels,
                        analysis.prepared,
                        analysis.lattice,
                        analysis.best_patch,
                        analysis.domains,
                        analysis.field,
                    )
                    if analysed
                    else None,
                )
            if class_map is not None:
                regions = class_map.types(regions, labels)
            correction = None if as_found else Correction(labels, regions)
            return labels, correction, regions, region_outputs(labels, regions)

        worker = self._measuring = TaskWorker(measure)
        worker.returned.connect(functools.partial(self._measured, worker, document, analysis, frame))
        worker.start()

    def _measured(
        self, worker: TaskWorker, document: Document, analysis: Analysis, frame: int, result: Any
    ) -> None:
        session = self._session()
        viewer = None if session is None else session.viewer
        late = worker is not self._measuring or document.analysis is not analysis or document.layer is None
        if late or session is None or viewer is None:
            return
        self._measuring = None
        if isinstance(result, Failure):
            session.failed.emit(result.message)
            return
        labels, correction, regions, output = result
        if document.series is None:
            document.correction = correction
            if correction is None:
                document.found = regions
            provenance = {**provenance_of(analysis), "corrected_by_hand": correction is not None}
            with self.ignored():
                for _ in placing.write(viewer, document, output, provenance):
                    pass
        elif correction is None:
            document.series.take_back(frame, labels, regions)
        else:
            document.series.paint(frame, correction)
        session.changed.emit()
        session.finished.emit()
