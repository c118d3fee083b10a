"""One viewer's work: which image, which parameters, which step is in which state, and the run under way."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psygnal import Signal
from qtpy.QtCore import QTimer

from napari_hrstem_defects.core.recipe import Recipe
from napari_hrstem_defects.widgets import placing, task
from napari_hrstem_defects.widgets.document import Document
from napari_hrstem_defects.widgets.edits import EditWatcher
from napari_hrstem_defects.widgets.roles import role_of
from napari_hrstem_defects.widgets.source import Source
from napari_hrstem_defects.widgets.steps import STEP_NAMES, Inputs, State, first_of, outdated
from napari_hrstem_defects.widgets.worker import Failure, TaskWorker

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Layer

#: Images up to this many pixels are analysed anew as soon as something is moved or painted.
AUTO_UPDATE_PX = 2048**2
#: Said when a result came too late.
REPLACED = "The image was replaced meanwhile, so the result was dropped."

_sessions: weakref.WeakKeyDictionary[ViewerModel, Session] = weakref.WeakKeyDictionary()


def session_of(viewer: ViewerModel) -> Session:
    """The session of a viewer, made on first use; it lives as long as the viewer."""
    viewer = getattr(viewer, "__wrapped__", viewer)  # widgets are handed a proxy
    found = _sessions.get(viewer)
    if found is None:
        found = _sessions[viewer] = Session(viewer)
    return found


@dataclass(eq=False)
class _Job:
    """A run under way and what it was started for."""

    document: Document
    worker: TaskWorker
    inputs: Inputs
    frame: int
    steps: frozenset[str]
    begin: str
    placing: bool = False


class Session:
    """State of the panel of one viewer.

    Parameters
    ----------
    viewer : ViewerModel
        Only weakly referred to.

    Attributes
    ----------
    changed : Signal
        States, warnings or results are not what they were.
    image_changed : Signal
        Another image was chosen, or the list of images is another.
    recipe_changed : Signal
    progressed : Signal
        ``(stage, fraction)`` of the run.
    finished : Signal
        A run has ended and its layers are written.
    failed : Signal
        ``(sentence)``: a run could not be done.
    noticed : Signal
        ``(sentence)``: something a person should know.
    """

    changed = Signal()
    image_changed = Signal()
    recipe_changed = Signal()
    progressed = Signal(str, float)
    finished = Signal()
    failed = Signal(str)
    noticed = Signal(str)

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = weakref.ref(viewer)
        self._recipe = Recipe()
        self._documents: dict[str, Document] = {}
        self._current: str | None = None
        self._job: _Job | None = None
        self._pending: Callable[[], None] | None = None
        self._auto: bool | None = None
        self.edits = EditWatcher(self)
        events = viewer.layers.events
        events.inserted.connect(self._layer_inserted)
        events.removed.connect(self._layer_removed)
        events.renamed.connect(self._layers_renamed)
        for layer in viewer.layers:
            self._watch(layer)
        images = self.images()
        if images:
            self._current = str(images[-1].unique_id)

    # What it is about -----------------------------------------------------------------------------------------

    @property
    def viewer(self) -> ViewerModel | None:
        """The viewer; None when it is gone."""
        return self._viewer()

    def images(self) -> list[Image]:
        """Image layers that can be analysed: all but our own outputs."""
        from napari.layers import Image

        viewer = self.viewer
        if viewer is None:
            return []
        return [layer for layer in viewer.layers if type(layer) is Image and role_of(layer) is None]

    @property
    def document(self) -> Document | None:
        """The chosen image and what is known about it."""
        if self._current is None:
            return None
        return self._document(self._current)

    def _document(self, unique_id: str) -> Document | None:
        found = self._documents.get(unique_id)
        if found is None:
            layer = next((image for image in self.images() if str(image.unique_id) == unique_id), None)
            if layer is None:
                return None
            found = self._documents[unique_id] = Document.of(layer)
            if (viewer := self.viewer) is not None:
                found.adopt(viewer.layers)
        return found

    def choose(self, layer: Image | None) -> None:
        """Work on another image."""
        chosen = None if layer is None else str(layer.unique_id)
        if chosen != self._current:
            self._current = chosen
            self.image_changed.emit()
            self.changed.emit()

    @property
    def recipe(self) -> Recipe:
        """The parameters of the next run."""
        return self._recipe

    @recipe.setter
    def recipe(self, recipe: Recipe) -> None:
        if recipe != self._recipe:
            self._recipe = recipe
            self.recipe_changed.emit()
            self.changed.emit()

    @property
    def auto_update(self) -> bool:
        """Whether a moved patch or slider starts a run at once; by default on images of moderate size."""
        if self._auto is not None:
            return self._auto
        document = self.document
        if document is None:
            return True
        height, width = document.frame_shape
        return height * width <= AUTO_UPDATE_PX

    @auto_update.setter
    def auto_update(self, value: bool) -> None:
        self._auto = bool(value)
        self.changed.emit()

    # States ---------------------------------------------------------------------------------------------------

    def inputs(self, document: Document) -> Inputs:
        """What the next run is asked for."""
        viewer = self.viewer
        layers = [] if viewer is None else viewer.layers
        point = (float("nan"), float("nan")) if document.moving else document.point
        return Inputs(self._recipe, point, document.painted_patches(layers))

    def states(self) -> Mapping[str, State]:
        """State of every step of the chosen image."""
        document = self.document
        if document is None:
            return dict.fromkeys(STEP_NAMES, State.EMPTY)
        old = self.outdated()
        states = {}
        for step in STEP_NAMES:
            if self._job is not None and self._job.document is document and step in self._job.steps:
                state = State.RUNNING
            elif document.failed is not None and document.failed[0] == step:
                state = State.FAILED
            elif document.analysis is not None and step in document.written and step not in old:
                state = State.CURRENT
            else:
                state = State.STALE if step in document.shown else State.EMPTY
            states[step] = state
        return states

    def outdated(self) -> frozenset[str]:
        """Steps of the chosen image that would come out differently if run now."""
        document = self.document
        if document is None or document.done is None:
            return frozenset(STEP_NAMES)
        return outdated(document.done, self.inputs(document))

    @property
    def running(self) -> bool:
        """Whether a run is under way."""
        return self._job is not None

    def next_step(self) -> str | None:
        """The step that a person would run next; None when all is current."""
        states = self.states()
        return next((step for step in STEP_NAMES if states[step] is not State.CURRENT), None)

    # Running --------------------------------------------------------------------------------------------------

    def run_all(self) -> None:
        """Run every step, anew."""
        self._start(STEP_NAMES, begin=STEP_NAMES[0])

    def run_step(self, step: str) -> None:
        """Run one step, and before it whatever it needs that is not up to date."""
        last = STEP_NAMES.index(step)
        states = self.states()
        steps = [name for name in STEP_NAMES[:last] if states[name] is not State.CURRENT]
        self._start([*steps, step], begin=step)

    def update(self) -> None:
        """Run what is out of date, if that is wanted; while a run is under way, as soon as it has ended."""
        document = self.document
        if document is None or document.analysis is None or not self.auto_update or document.moving:
            return
        if self._job is not None:
            self._pending = self.update
            return
        steps = self.outdated() & document.shown
        if steps:
            self._start(steps)

    def cancel(self) -> None:
        """Stop the run under way; the layers stay as they are."""
        self._pending = None
        job, self._job = self._job, None
        if job is not None:
            job.worker.quit()
            self.changed.emit()

    def _start(self, steps: Collection[str], *, begin: str | None = None) -> None:
        document = self.document
        layer = None if document is None else document.layer
        if document is None or layer is None:
            self.noticed.emit("Open an image first: drop a file on the window, or take one of File → Open Sample.")
            return
        self.cancel()
        frame = self._shown_frame(document)
        source = Source.of(layer, frame)
        inputs = self.inputs(document)
        previous = document.analysis if frame == document.frame else None
        old = self.outdated() if previous is not None else frozenset(STEP_NAMES)
        # The pipeline runs from here; what a step needs has been included by the caller.
        start = first_of(old | ({begin} if begin is not None and begin not in self._unwritten(document, old) else set()))
        worker = TaskWorker(
            functools.partial(
                task.run, source=source, inputs=inputs, previous=previous, start=start, write=frozenset(steps)
            )
        )
        first = first_of(frozenset(steps)) or STEP_NAMES[0]
        job = self._job = _Job(document, worker, inputs, frame or 0, frozenset(steps), first)
        document.failed = None
        worker.progressed.connect(self._progressed)
        worker.returned.connect(functools.partial(self._returned, job))
        worker.start()
        self.progressed.emit(first, 0.0)
        self.changed.emit()

    @staticmethod
    def _unwritten(document: Document, old: frozenset[str]) -> frozenset[str]:
        """Steps whose result is there but was not shown yet: they need no second computation."""
        if document.analysis is None:
            return frozenset()
        return frozenset(set(STEP_NAMES) - document.written - old)

    def _shown_frame(self, document: Document) -> int | None:
        viewer = self.viewer
        if viewer is None or not document.is_stack or document.layer is None:
            return None
        last = len(document.layer.data) - 1
        axis = viewer.dims.ndim - 3
        layer = document.layer
        step = (viewer.dims.point[axis] - layer.translate[0]) / layer.scale[0]
        return min(max(round(float(step)), 0), last)

    def _progressed(self, stage: str, fraction: float) -> None:
        if self._job is not None and not self._job.placing:
            self.progressed.emit(stage, fraction)

    def _returned(self, job: _Job, result: Any) -> None:
        if job is not self._job:
            return  # cancelled, or about an image that is gone
        if isinstance(result, Failure):
            self._job = None
            step = "segment" if result.during == "regions" else result.during or job.begin
            job.document.failed = (step, result.message)
            self.failed.emit(result.message)
            self._ended()
            return
        job.placing = True
        job.document.notes = ()
        QTimer.singleShot(0, functools.partial(self._place, job, result, list(result.outputs)))

    def _place(self, job: _Job, result: task.Result, left: list[Any]) -> None:
        """Write one layer a turn of the event loop: together they would hold up the window."""
        viewer, document = self.viewer, job.document
        if job is not self._job or viewer is None or document.layer is None:
            return
        if left:
            output = left.pop(0)
            active = viewer.layers.selection.active
            selected = set(viewer.layers.selection)
            with self.edits.ignored():
                made, note = placing.write(viewer, document, output, result.provenance)
            if made is not None:
                self.edits.watch(made)
                if selected:
                    viewer.layers.selection = selected
                    viewer.layers.selection.active = active
            if note is not None:
                document.notes = (*document.notes, note)
            QTimer.singleShot(0, functools.partial(self._place, job, result, left))
            return
        self._accept(job, result)

    def _accept(self, job: _Job, result: task.Result) -> None:
        document = job.document
        before = document.done
        kept = document.written - (frozenset(STEP_NAMES) if before is None else outdated(before, job.inputs))
        document.analysis, document.done = result.analysis, job.inputs
        document.histogram, document.frame = result.histogram, job.frame
        document.written = kept | job.steps
        document.shown |= job.steps
        if "segment" in job.steps:
            document.correction = None
        self._job = None
        self._ended()
        self.finished.emit()

    def _ended(self) -> None:
        self.changed.emit()
        pending, self._pending = self._pending, None
        if pending is not None:
            pending()

    # The viewer's layers --------------------------------------------------------------------------------------

    def _watch(self, layer: Layer) -> None:
        from napari.layers import Image

        if role_of(layer) is not None:
            self.edits.watch(layer)
        elif type(layer) is Image:
            layer.events.data.connect(self._pixels_replaced)
            for event in (layer.events.scale, layer.events.translate, layer.events.rotate, layer.events.units):
                event.connect(self._image_moved)

    def _layer_inserted(self, event: Any) -> None:
        layer = event.value
        if role_of(layer) is not None:
            return
        self._watch(layer)
        images = self.images()
        if layer in images:
            # A new image is what a person wants to look at, unless a run is under way.
            if self._current is None or self._job is None:
                self._current = str(layer.unique_id)
            self.image_changed.emit()
            self.changed.emit()

    def _layer_removed(self, event: Any) -> None:
        layer = event.value
        removed = str(layer.unique_id)
        document = self._documents.pop(removed, None)
        if document is not None and self._job is not None and self._job.document is document:
            self.cancel()
        if removed == self._current:
            images = self.images()
            self._current = str(images[-1].unique_id) if images else None
        if role_of(layer) is None:
            self.image_changed.emit()
        self.changed.emit()

    def _layers_renamed(self) -> None:
        self.image_changed.emit()

    def _pixels_replaced(self, event: Any) -> None:
        document = self._documents.get(str(event.source.unique_id))
        if document is None:
            return
        document.forget()
        if self._job is not None and self._job.document is document:
            self.cancel()
            self.noticed.emit(REPLACED)
        self.changed.emit()

    def _image_moved(self, event: Any) -> None:
        viewer = self.viewer
        document = self._documents.get(str(event.source.unique_id))
        if viewer is None or document is None:
            return
        with self.edits.ignored():
            placing.follow(viewer, document)
        self.image_changed.emit()
