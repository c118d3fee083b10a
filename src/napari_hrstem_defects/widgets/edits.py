"""Turns what a person does to our layers into wishes of the session."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QTimer

from napari_hrstem_defects.widgets import placing
from napari_hrstem_defects.widgets.class_map import ClassMap
from napari_hrstem_defects.widgets.correction import (
    LARGEST_LABEL,
    Labelled,
    after_stroke,
    changed_frames,
    corrected,
    measured_in,
)
from napari_hrstem_defects.widgets.document import COMPARED, PAINTABLE, ByHand, Document
from napari_hrstem_defects.widgets.of_session import OfSession
from napari_hrstem_defects.widgets.outputs import (
    BEST_PATCH_COLOUR,
    CANDIDATE_COLOUR,
    PATCH_DEFECTIVE,
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

    from napari_hrstem_defects.widgets.session import Session

#: A layer that was redrawn is looked at after this time, in ms: so while it is painted not more often.
_LOOK_MS = 200
#: Said when a label is chosen or painted that means nothing.
REFUSED = {
    Role.LABELS: "Labels can be 0 (crystal), 1 (symmetry defect) or 2 (amorphous or blurred), nothing else.",
    Role.PATCHES: "Patches can be 1 (clean), 2 (defective) or 0 (as judged automatically), nothing else.",
}


class EditWatcher(OfSession):
    """Watches the layers of a session for edits by hand."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._ignoring = 0
        # Image and frame → what measures its regions.
        self._measuring: dict[tuple[str, int], TaskWorker] = {}
        # Layers that were redrawn, and what was in the others when they were last followed.
        self._to_look_at: weakref.WeakSet[Layer] = weakref.WeakSet()
        self._held: weakref.WeakSet[Layer] = weakref.WeakSet()
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
            if self._hold not in layer.mouse_drag_callbacks:
                layer.mouse_drag_callbacks.append(self._hold)
        if role in REFUSED:
            layer.events.selected_label.connect(self._label_chosen)

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
        """Take back what was done last by hand: a patch moved, a lattice ticked, labels painted."""
        session = self._session()
        if session is not None and session.document is not None:
            before = session.document.by_hand
            session.document.undo()
            self._show_point(session, session.document)
            self._show_lattices(session, session.document)
            self._show_corrections(session, session.document, before)
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
        if role is not Role.LABELS:
            tag(layer, edited=True)
        self._follow(layer, role, painted=True)

    def _label_chosen(self, event: Any) -> None:
        """Refuse a number that says nothing, as soon as it is chosen."""
        layer = event.source
        role = Role.PATCHES if role_of(layer) is Role.PATCHES else Role.LABELS
        largest = PATCH_DEFECTIVE if role is Role.PATCHES else LARGEST_LABEL
        session = self._session()
        if session is not None and not 0 <= layer.selected_label <= largest:
            layer.selected_label = largest
            session.noticed.emit(REFUSED[role])

    def _hold(self, layer: Layer, event: Any) -> Iterator[None]:
        """While a stroke is being painted the layer is left alone; at its end it is told as one."""
        self._held.add(layer)
        yield
        while event.type == "mouse_move":
            yield
        self._held.discard(layer)

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
        if layer in self._held:
            return
        concerned = self._concerned(layer, role)
        if concerned is None:
            return
        _, document = concerned
        if role is Role.LABELS:
            self._follow(layer, role)
            return
        if layer.data.size > COMPARED:
            return
        seen = self._seen.get(layer, document.references.get(role))
        if seen is None or np.array_equal(layer.data, seen):
            return
        if not document.is_taken_back(layer, role):
            tag(layer, edited=True)
        self._follow(layer, role)

    def _follow(self, layer: Layer, role: Role, *, painted: bool = False) -> None:
        """Let everything follow what a person painted."""
        concerned = self._concerned(layer, role)
        if role is Role.LABELS:
            if concerned is not None:
                self.take_up(concerned[1], layer, painted=painted)
            return
        if layer.data.size <= COMPARED:
            self._seen[layer] = np.array(layer.data)
        if concerned is None:
            return
        session, _ = concerned
        session.changed.emit()
        if role is Role.PATCHES:
            session.runs.update()
        elif role is Role.CLASSES:
            self.judge_again()

    def take_up(self, document: Document, layer: Layer, *, painted: bool = False) -> None:
        """Take what was painted since the labels were last looked at into the record of corrections.

        Parameters
        ----------
        document : Document
        layer : Labels
        painted : bool
            A stroke has just ended; else one may have been taken back, or may still be under way.
        """
        session, known = self._session(), document.references.get(Role.LABELS)
        if session is None or known is None or known.shape != layer.data.shape:
            return
        by_hand, frames = document.by_hand, []
        for frame, (now, before) in _frames(session, document, layer, known).items():
            if np.array_equal(now, before):
                continue
            if now.max() > LARGEST_LABEL:
                now[now > LARGEST_LABEL] = before[now > LARGEST_LABEL]
                layer.refresh()
                session.noticed.emit(REFUSED[Role.LABELS])
            found = document.labelled.get(frame)
            correction = after_stroke(
                by_hand.painted.get(frame),
                before,
                now,
                before if found is None else found.automatic,
                taken_back=not painted and frame in document.rewritten,
            )
            by_hand = by_hand.with_correction(frame, correction)
            shown = now if found is None else corrected(correction, found.automatic)
            if not np.array_equal(shown, now):
                now[...] = shown
                layer.refresh()
            before[...] = now
            frames.append(frame)
        if frames:
            document.ask(by_hand)
            session.changed.emit()
            for frame in frames:
                self.measure(document, frame)

    def discard(self) -> None:
        """Forget everything that was painted over the labels of the chosen image; can be undone."""
        session = self._session()
        if session is not None and session.document is not None:
            before = session.document.by_hand
            session.document.ask(dataclasses.replace(before, painted={}))
            self._show_corrections(session, session.document, before)

    def restore(self, session: Session, document: Document) -> None:
        """Take what the labels of a result folder differ in from those found again for corrections by hand."""
        saved, document.saved, before = document.saved, {}, document.by_hand
        for frame, labels in saved.items():
            found = document.labelled.get(frame)
            if found is not None and found.automatic.shape == labels.shape:
                correction = after_stroke(None, found.automatic, labels, found.automatic)
                document.by_hand = document.by_hand.with_correction(frame, correction)
        self._show_corrections(session, document, before)

    def _show_corrections(self, session: Session, document: Document, before: ByHand) -> None:
        """Show the labels of frames whose corrections are others than before."""
        viewer, painted = session.viewer, document.by_hand.painted
        layer = None if viewer is None else document.output(viewer.layers, Role.LABELS)
        known = document.references.get(Role.LABELS)
        for frame in changed_frames(painted, before.painted):
            found = document.labelled.get(frame)
            if found is None:
                continue
            if layer is not None and known is not None and known.shape == layer.data.shape:
                with self.ignored():
                    for data in _frames(session, document, layer, known, frame).get(frame, ()):
                        data[...] = corrected(painted.get(frame), found.automatic)
                    layer.refresh()
            self.measure(document, frame)
        session.changed.emit()

    def judge_again(self) -> None:
        """Give the regions shown their classes anew: the regions or the map of the classes were painted."""
        session = self._session()
        document = None if session is None else session.document
        if session is None or document is None:
            return
        if document.analysis is None:
            self._measure_classes(session, document)
        else:
            self.measure(document, session.shown_frame(document) or 0)

    def _measure_classes(self, session: Session, document: Document) -> None:
        """Measure the regions of a scan, as long as there are no others, as they are now."""
        frame = session.shown_frame(document) or 0
        known = document.class_maps.get(frame)
        if known is not None:
            self._measure(document, frame, lambda monitor: known.measured())

    def measure(self, document: Document, frame: int) -> None:
        """Measure the regions of the labels of a frame as they are shown now, so that the table follows."""
        session, analysis, known = self._session(), document.analysis, document.labelled.get(frame)
        if session is None or analysis is None or known is None:
            return
        severity = None
        if frame != document.frame:
            stack = None if document.series is None else document.series.severity
            severity = np.zeros_like(analysis.severity) if stack is None else stack[frame]
        correction, class_map = document.by_hand.painted.get(frame), document.class_maps.get(frame)

        def measure(monitor: Monitor) -> tuple[Labelled, Output]:
            found = known.corrected(correction, measured_in(analysis, severity), class_map)
            return found, region_outputs(found.shown, found.regions)

        self._measure(document, frame, measure)

    def _measure(self, document: Document, frame: int, call: Callable[[Monitor], Any]) -> None:
        worker = self._measuring[document.source_id, frame] = TaskWorker(call)
        before = document.labelled.get(frame), document.class_maps.get(frame)
        worker.returned.connect(functools.partial(self._measured, worker, document, frame, before))
        worker.start()

    def _measured(
        self, worker: TaskWorker, document: Document, frame: int, before: tuple[Any, Any], result: Any
    ) -> None:
        session, key = self._session(), (document.source_id, frame)
        viewer = None if session is None else session.viewer
        if worker is not self._measuring.get(key) or session is None or viewer is None:
            return
        del self._measuring[key]
        if document.layer is None or before != (
            document.labelled.get(frame),
            document.class_maps.get(frame),
        ):
            return  # a run has ended meanwhile
        if isinstance(result, Failure):
            session.failed.emit(result.message)
            return
        if isinstance(result, ClassMap):
            document.class_maps[frame] = result
        elif document.analysis is not None:
            document.labelled[frame], output = result
            if document.series is None:
                painted = frame in document.by_hand.painted
                provenance = {**provenance_of(document.analysis), "corrected_by_hand": painted}
                with self.ignored():
                    for _ in placing.write(viewer, document, output, provenance):
                        pass
        session.changed.emit()


def _frames(
    session: Session, document: Document, layer: Layer, known: NDArray[Any], only: int | None = None
) -> dict[int, tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Frame → labels in the layer and as they were last known, both to be written to.

    Of a long series only the frame that is shown, or `only` the one asked for.
    """
    data = layer.data
    if data.ndim == 2:
        return {0: (data, known)}
    first = 0 if len(data) > 1 else int(entry(layer).get("frame", 0))
    wanted = range(first, first + len(data))
    if only is not None:
        wanted = range(only, only + 1) if only in wanted else range(0)
    elif data.size > COMPARED:
        shown = session.shown_frame(document) or 0
        wanted = range(shown, shown + 1)
    return {frame: (data[frame - first], known[frame - first]) for frame in wanted}
