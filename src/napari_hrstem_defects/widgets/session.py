"""One viewer's work: which image, which parameters, which step is in which state."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from psygnal import Signal
from qtpy.QtCore import QTimer

from napari_hrstem_defects.core.recipe import Recipe
from napari_hrstem_defects.models.process import KerasProcess
from napari_hrstem_defects.widgets import placing
from napari_hrstem_defects.widgets.document import ByHand, Document
from napari_hrstem_defects.widgets.edits import EditWatcher
from napari_hrstem_defects.widgets.roles import Role, entry, role_of
from napari_hrstem_defects.widgets.runs import Runs
from napari_hrstem_defects.widgets.source import (
    calibrate,
    is_calibrated,
    pixel_size_nm,
    pixels_of,
    size_in_file,
)
from napari_hrstem_defects.widgets.steps import STEP_NAMES, Inputs, State, outdated
from napari_hrstem_defects.widgets.taking_up import take_up
from napari_hrstem_defects.widgets.worker import TaskWorker

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


def _notify_of_error(message: str) -> None:
    from napari.utils.notifications import show_error

    show_error(message)


def _notify(message: str) -> None:
    from napari.utils.notifications import show_info

    show_info(message)


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
    arriving : Signal
        All is computed, and its layers are about to be written, one after another.
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
    arriving = Signal()
    finished = Signal()
    failed = Signal(str)
    noticed = Signal(str)

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = weakref.ref(viewer)
        self._recipe = Recipe()
        self._documents: dict[str, Document] = {}
        self._current: str | None = None
        self._hidden: placing.Hidden = {}
        self.runs = Runs(self)
        self._auto: bool | None = None
        #: Where trained classifiers run; it starts with the first one.
        self.keras = KerasProcess()
        #: Whether a panel has filled in the parameters of the last session.
        self.ready = False
        self.edits = EditWatcher(self)
        # Once for all docks of the viewer.
        self.failed.connect(_notify_of_error)
        self.noticed.connect(_notify)
        events = viewer.layers.events
        events.inserted.connect(self._layer_inserted)
        events.removed.connect(self._layer_removed)
        events.renamed.connect(self._layers_renamed)
        viewer.dims.events.current_step.connect(self._frame_changed)
        for layer in viewer.layers:
            self._watch(layer)
            self._offer_to_take_up(layer)
        images = self.images()
        for image in images:
            self._look_up_pixel_size(image)
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
            self.show_chosen()
            self.image_changed.emit()
            self.changed.emit()

    def show_chosen(self) -> None:
        """Show the chosen image and its results, and hide those of the others."""
        viewer, document = self.viewer, self.document
        if viewer is not None and document is not None:
            placing.show_only(viewer, document, self.images(), self._hidden)

    @property
    def recipe(self) -> Recipe:
        """The parameters of the next run."""
        return self._recipe

    @recipe.setter
    def recipe(self, recipe: Recipe) -> None:
        # What is said about the places of one image is the document's.
        recipe = ByHand().in_recipe(recipe)
        if recipe != self._recipe:
            self._recipe = recipe
            self.recipe_changed.emit()
            self.changed.emit()
            self.runs.update()

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

    def judged_anew(self, classifier: str) -> None:
        """A classifier was trained again under its old name: what it said before no longer holds."""
        for document in self._documents.values():
            if document.done is not None and document.done.recipe.classify.classifier == classifier:
                document.written.clear()
        self.changed.emit()

    # States ---------------------------------------------------------------------------------------------------

    def inputs(self, document: Document) -> Inputs:
        """What the next run is asked for."""
        viewer = self.viewer
        layers = [] if viewer is None else viewer.layers
        # Nowhere yet: different from whatever was asked for before.
        point = (float("nan"), float("nan")) if document.moving is Role.BEST_PATCH else document.point
        size = None if document.layer is None else pixel_size_nm(document.layer)
        painted = document.by_hand.painted
        recipe = document.by_hand.in_recipe(self._recipe)
        return Inputs(recipe, point, document.painted_patches(layers), size, painted)

    def states(self) -> Mapping[str, State]:
        """State of every step of the chosen image."""
        document = self.document
        if document is None:
            return dict.fromkeys(STEP_NAMES, State.EMPTY)
        old = self.outdated()
        states = {}
        for step in STEP_NAMES:
            if self.runs.is_running(document, step):
                state = State.RUNNING
            elif document.failed is not None and document.failed[0] == step:
                state = State.FAILED
            elif step not in old:
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
        shown = self.shown_frame(document)
        if shown is not None and shown != document.frame and document.series is None:
            return frozenset(STEP_NAMES)
        return outdated(document.done, self.inputs(document)) | (frozenset(STEP_NAMES) - document.written)

    @property
    def running(self) -> bool:
        """Whether a run is under way."""
        return self.runs.running

    def next_step(self) -> str | None:
        """The step that a person would run next; None when all is current."""
        states = self.states()
        return next((step for step in STEP_NAMES if states[step] is not State.CURRENT), None)

    def document_frame(self) -> int | None:
        """Frame of the chosen series that is shown; None for a single image."""
        return None if self.document is None else self.shown_frame(self.document)

    def shown_frame(self, document: Document) -> int | None:
        """Frame of a series that the viewer shows; None for a single image."""
        viewer = self.viewer
        if viewer is None or not document.is_stack or document.layer is None:
            return None
        layer = document.layer
        last = len(pixels_of(layer)) - 1
        axis = viewer.dims.ndim - 3
        step = (viewer.dims.point[axis] - layer.translate[0]) / layer.scale[0]
        return min(max(round(float(step)), 0), last)

    # The viewer's layers --------------------------------------------------------------------------------------

    def _watch(self, layer: Layer) -> None:
        from napari.layers import Image

        if role_of(layer) is not None:
            self.edits.watch(layer)
        elif type(layer) is Image:
            layer.events.data.connect(self._pixels_replaced)
            for event in (
                layer.events.scale,
                layer.events.translate,
                layer.events.rotate,
                layer.events.units,
            ):
                event.connect(self._image_moved)

    def _layer_inserted(self, event: Any) -> None:
        layer = event.value
        if role_of(layer) is not None:
            self._offer_to_take_up(layer)
            return
        self._watch(layer)
        images = self.images()
        if layer in images:
            # A new image is what a person wants to look at, unless a run is under way.
            if self._current is None or not self.running:
                self._current = str(layer.unique_id)
                self.show_chosen()
            self.image_changed.emit()
            self.changed.emit()
            self._look_up_pixel_size(layer)

    def _offer_to_take_up(self, layer: Layer) -> None:
        """Go on with a result folder that was opened, once all of its layers are there."""
        if role_of(layer) is Role.LABELS and "folder" in entry(layer) and "source" not in entry(layer):
            known = weakref.ref(layer)
            QTimer.singleShot(0, lambda: take_up(self, known()))

    def _look_up_pixel_size(self, layer: Image) -> None:
        """Read the pixel size from the file that an image came from: napari's own readers do not look at it."""
        path, known = layer.source.path, weakref.ref(layer)
        if path is None or is_calibrated(layer):
            return

        def apply(size: Any) -> None:
            image, viewer = known(), self.viewer
            if (
                isinstance(size, float)
                and image is not None
                and viewer is not None
                and not is_calibrated(image)
            ):
                calibrate(viewer, image, size)

        worker = TaskWorker(lambda monitor: size_in_file(path))
        worker.returned.connect(apply)
        worker.start()

    def _layer_removed(self, event: Any) -> None:
        layer = event.value
        removed = str(layer.unique_id)
        document = self._documents.pop(removed, None)
        if document is not None:
            self.runs.drop(document)
        for other in self._documents.values():
            if other.moving is not None and other.outputs.get((other.moving, "")) == layer.unique_id:
                other.moving = None
        if removed == self._current:
            images = self.images()
            self._current = str(images[-1].unique_id) if images else None
            self.show_chosen()
        if role_of(layer) is None:
            self.image_changed.emit()
        self.changed.emit()

    def _layers_renamed(self) -> None:
        self.image_changed.emit()

    def _frame_changed(self) -> None:
        document = self.document
        if document is not None and document.is_stack:
            self.changed.emit()

    def _pixels_replaced(self, event: Any) -> None:
        document = self._documents.get(str(event.source.unique_id))
        if document is None:
            return
        document.forget()
        if self.runs.drop(document):
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
        self.changed.emit()
        self.runs.update(measure=True)
