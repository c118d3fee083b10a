"""Manual edits of our layers become inputs of the session; changes made in the panel are shown in the layers."""

from __future__ import annotations

import contextlib
import functools
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QTimer

from napari_hrstem_defects.io.display import BEST_PATCH_COLOUR, domain_colour
from napari_hrstem_defects.widgets.corrections import (
    LARGEST_LABEL,
    ByHand,
    Point,
    after_stroke,
    changed_frames,
    corrected,
)
from napari_hrstem_defects.widgets.layers import first_in_frame
from napari_hrstem_defects.widgets.model import COMPARED, Document
from napari_hrstem_defects.widgets.outputs import (
    CANDIDATE_COLOUR,
    PATCH_DEFECTIVE,
    lattice_patches,
)
from napari_hrstem_defects.widgets.roles import (
    PAINTABLE,
    POINTS,
    Role,
    entry,
    outputs_of,
    part_of,
    role_of,
    tag,
)

if TYPE_CHECKING:
    from napari.layers import Layer, Points

    from napari_hrstem_defects.widgets.session import Session

#: A layer that was redrawn is compared after this time, in ms; while it is painted not more often.
_COMPARE_MS = 200
#: Largest label that can be painted, and the message for a larger one.
REFUSED = {
    Role.LABELS: (
        LARGEST_LABEL,
        "Labels can be 0 (crystal), 1 (symmetry defect) or 2 (amorphous or blurred), nothing else.",
    ),
    Role.PATCHES: (
        PATCH_DEFECTIVE,
        "Patches can be 1 (clean), 2 (defective) or 0 (automatic class), nothing else.",
    ),
}


class EditWatcher:
    """Watches the layers of a session for edits by hand.

    Parameters
    ----------
    session : Session
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._ignoring = 0
        # Layers that were redrawn; those with a stroke under way; contents when last compared.
        self._to_compare: weakref.WeakSet[Layer] = weakref.WeakSet()
        self._held: weakref.WeakSet[Layer] = weakref.WeakSet()
        self._seen: weakref.WeakKeyDictionary[Layer, NDArray[Any]] = weakref.WeakKeyDictionary()

    @contextlib.contextmanager
    def ignored(self) -> Iterator[None]:
        """Changes inside are the program's: layers emit the same events for them as for manual edits."""
        self._ignoring += 1
        try:
            yield
        finally:
            self._ignoring -= 1

    def watch(self, layer: Layer) -> None:
        """Connect to the events of one of our layers; they end with the layer."""
        role = role_of(layer)
        if role in POINTS:
            layer.events.data.connect(self._points_changed)
        if role in (Role.SEVERITY, Role.LABELS, Role.LATTICES):
            layer.events.visible.connect(self._visibility_changed)
        if role in (*PAINTABLE, Role.CLASS_VOTES):
            layer.events.paint.connect(self._painted)
        if role in PAINTABLE:
            layer.events.set_data.connect(self._redrawn)
            if self._hold not in layer.mouse_drag_callbacks:
                layer.mouse_drag_callbacks.append(self._hold)
        if role in REFUSED:
            layer.events.selected_label.connect(self._label_chosen)

    def _visibility_changed(self, event: Any) -> None:
        """Pixels not assessed are hatched with the severity, the legend and the button of the map follow the rest."""
        if role_of(event.source) is not Role.SEVERITY:
            self._session.changed.emit()
            return
        for layer in outputs_of(self._session.layers, str(entry(event.source).get("source"))):
            if role_of(layer) is Role.NOT_ASSESSED:
                layer.visible = event.source.visible

    def _concerned(self, layer: Layer) -> Document | None:
        """The image of a layer, if it is the one in use and the layer shows a result of it."""
        document, role = self._session.document, role_of(layer)
        if role is None or self._ignoring or entry(layer).get("source") != document.source_id:
            return None
        return document if document.outputs.get((role, part_of(layer))) == layer.unique_id else None

    # Points ---------------------------------------------------------------------------------------------------

    def _points_changed(self, event: Any) -> None:
        """A square was moved, added or removed, or is held with the mouse."""
        layer: Points = event.source
        if (document := self._concerned(layer)) is None:
            return
        action = str(getattr(event.action, "value", event.action))
        if action == "changing":
            document.moving = role_of(layer)
            self._session.changed.emit()
        elif action in ("added", "changed", "removed"):
            document.moving = None
            removed, many = action == "removed", max(len(layer.data), 1)
            indices = [] if removed else [int(index) % many for index in event.data_indices]
            if role_of(layer) is Role.LATTICE_PATCHES:
                self._place_lattices(document, layer)
            elif indices:
                document.place(tuple(map(float, np.asarray(layer.data)[indices[-1]][-2:])))  # type: ignore[arg-type]
                if indices[-1]:
                    QTimer.singleShot(0, functools.partial(self._settle, layer, indices[-1]))
                self._moved()
            elif removed and (0 in event.data_indices or len(layer.data) == 0):
                document.place(None)
                self._moved()

    def _settle(self, layer: Any, chosen: int) -> None:
        """Make the chosen point the first and the only bright one, once the event is over."""
        if chosen < len(layer.data):
            order = [chosen, *(i for i in range(len(layer.data)) if i not in (0, chosen))]
            with self.ignored():
                layer.data = np.asarray(layer.data)[order]
                layer.border_color = [BEST_PATCH_COLOUR] + [CANDIDATE_COLOUR] * (len(order) - 1)

    def _moved(self) -> None:
        self._session.changed.emit()
        self._session.runs.update()

    def ask(self, change: Callable[..., None], *given: Any, **changes: Any) -> None:
        """Let a method of the chosen image's document change what is asked for, and show it in the layers."""
        document = self._session.document
        before = document.by_hand
        change(document, *given, **changes)
        self._show_point(document)
        if document.by_hand.lattices != before.lattices:
            self.show_lattices(document)
        self._show_corrections(document, before)
        self._moved()

    def place(self, point: Point | None) -> None:
        """Move the best patch from the panel: to a point, or back to automatic (None)."""
        self.ask(Document.place, point)

    def _show_point(self, document: Document) -> None:
        """Move the square to the point that was placed; an automatic one is shown by the next run."""
        layer = document.output(self._session.layers, Role.BEST_PATCH)
        if layer is not None and document.point is not None and len(layer.data):
            points = np.array(layer.data)
            points[first_in_frame(points, self._session.shown_frame(document)), -2:] = document.point
            with self.ignored():
                layer.data = points

    def _place_lattices(self, document: Document, layer: Any) -> None:
        """Ask for the lattices at the squares that a person placed: all but those where one was found automatically."""
        found = None if document.analysis is None else document.analysis.domains
        patches = () if found is None else [domain.patch for domain in found.domains]
        automatic = {(patch.y, patch.x) for patch in patches if patch.placed != "hand"}
        points = [document.inside(point[-2:]) for point in np.asarray(layer.data)]
        before = document.by_hand
        document.ask(lattices=tuple(point for point in points if point not in automatic))
        if document.by_hand == before:
            # An automatic one was deleted; it would be found again.
            QTimer.singleShot(0, lambda: self.show_lattices(document))
            return

        def settle() -> None:
            with self.ignored():
                numbers = range(1, len(layer.data) + 1)
                layer.border_color = [domain_colour(number) for number in numbers] or "white"

        QTimer.singleShot(0, settle)
        self._moved()

    def show_lattices(self, document: Document, *, make: bool = False) -> None:
        """Put the frames where the lattices of the latest run are; `make` the layer where there is none."""
        there = document.output(self._session.layers, Role.LATTICE_PATCHES) is not None
        if document.analysis is not None and document.layer is not None and not (make and there):
            self._session.write(lattice_patches(document.analysis, make=make), document)

    # Painting -------------------------------------------------------------------------------------------------

    def _painted(self, event: Any) -> None:
        layer = event.source
        if not self._ignoring:
            if role_of(layer) is not Role.LABELS:
                tag(layer, edited=True)
            self._follow(layer, painted=True)

    def _label_chosen(self, event: Any) -> None:
        """Refuse a label without a meaning as soon as it is chosen."""
        largest, message = REFUSED[role_of(event.source) or Role.LABELS]
        if not 0 <= event.source.selected_label <= largest:
            event.source.selected_label = largest
            self._session.noticed.emit(message)

    def _hold(self, layer: Layer, event: Any) -> Iterator[None]:
        """While a stroke is being painted the layer is not compared; at its end the stroke is one change."""
        self._held.add(layer)
        yield
        while event.type == "mouse_move":
            yield
        self._held.discard(layer)

    def _redrawn(self, event: Any) -> None:
        """Compare the pixels soon: an undone stroke (Ctrl+Z) emits no other event."""
        layer = event.source
        if not self._ignoring and layer not in self._to_compare:
            self._to_compare.add(layer)
            known = weakref.ref(layer)
            QTimer.singleShot(_COMPARE_MS, lambda: self._compare(known()))

    def _compare(self, layer: Layer | None) -> None:
        if layer is None:
            return
        self._to_compare.discard(layer)
        document, role = self._concerned(layer), role_of(layer)
        if document is None or role is None or layer in self._held:
            return
        if role is not Role.LABELS:
            written = document.references.get(role)
            seen = self._seen.get(layer, written)
            if layer.data.size > COMPARED or seen is None or np.array_equal(layer.data, seen):
                return
            # One that is again as it was written counts as never painted.
            tag(layer, edited=not np.array_equal(layer.data, written))  # type: ignore[arg-type]
        self._follow(layer)

    def _follow(self, layer: Layer, *, painted: bool = False) -> None:
        """Let everything follow what a person painted."""
        document, role = self._concerned(layer), role_of(layer)
        if role is not Role.LABELS and layer.data.size <= COMPARED:
            self._seen[layer] = np.array(layer.data)
        if document is None:
            return
        if role is Role.LABELS:
            self.take_up(document, layer, painted=painted)
            return
        self._session.changed.emit()
        if role is Role.PATCHES:
            self._session.runs.update()
        elif role is Role.CLASSES:
            self._session.runs.measure(document, self._session.shown_frame())

    def take_up(self, document: Document, layer: Any, *, painted: bool = False) -> None:
        """Record as corrections what was painted since the labels were last compared.

        Parameters
        ----------
        document : Document
        layer : Labels
        painted : bool
            A stroke has just ended; else one may have been taken back, or may still be under way.
        """
        by_hand, frames = document.by_hand, []
        largest, message = REFUSED[Role.LABELS]
        for frame, (now, before) in self._frames(document, layer).items():
            if np.array_equal(now, before):
                continue
            if now.max() > largest:
                now[now > largest] = before[now > largest]
                layer.refresh()
                self._session.noticed.emit(message)
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
            self._session.changed.emit()
            for frame in frames:
                self._session.runs.measure(document, frame)

    def review(self, numbers: Collection[int], accepted: bool) -> None:
        """Accept or reject regions of the frame shown; can be undone."""
        self._session.document.review(self._session.shown_frame(), numbers, accepted)
        self._session.changed.emit()

    def restore(self, document: Document) -> None:
        """Take over what was painted in a result folder, as the run has found it."""
        saved, document.saved = document.saved, {}
        for frame in saved:
            if (found := document.labelled.get(frame)) is not None:
                document.by_hand = document.by_hand.with_correction(frame, found.correction)

    def _show_corrections(self, document: Document, before: ByHand) -> None:
        """Show the labels of frames whose corrections are others than before."""
        painted, layer = document.by_hand.painted, document.output(self._session.layers, Role.LABELS)
        for frame in changed_frames(painted, before.painted):
            found = document.labelled.get(frame)
            if found is None:
                continue
            if layer is not None:
                with self.ignored():
                    for data in self._frames(document, layer, frame).get(frame, ()):
                        data[...] = corrected(painted.get(frame), found.automatic)
                    layer.refresh()
            self._session.runs.measure(document, frame)

    def _frames(
        self, document: Document, layer: Any, only: int | None = None
    ) -> dict[int, tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
        """Frame → labels in the layer and as they were last known, both to be written to.

        Of a long series only the frame that is shown, or `only` the one asked for.
        """
        data, known = layer.data, document.references.get(Role.LABELS)
        if known is None or known.shape != data.shape:
            return {}
        if data.ndim == 2:
            return {0: (data, known)}
        first = 0 if len(data) > 1 else int(entry(layer).get("frame", 0))
        wanted: Iterable[int] = range(first, first + len(data))
        if only is not None:
            wanted = {only} & set(wanted)
        elif data.size > COMPARED:
            wanted = {self._session.shown_frame(document)}
        return {frame: (data[frame - first], known[frame - first]) for frame in wanted}
