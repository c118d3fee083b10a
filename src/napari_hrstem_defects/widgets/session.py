"""The controller of one viewer: which image, which parameters, which step is in which state, what is run."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from psygnal import Signal
from qtpy.QtCore import QTimer

from napari_hrstem_defects.core.recipe import Recipe
from napari_hrstem_defects.errors import HrstemDefectsError
from napari_hrstem_defects.models.process import KerasProcess
from napari_hrstem_defects.widgets import layers, settings, view
from napari_hrstem_defects.widgets.corrections import PAINTED, ByHand, Labelled
from napari_hrstem_defects.widgets.edits import EditWatcher
from napari_hrstem_defects.widgets.model import STEP_NAMES, Document, Inputs, State, outdated
from napari_hrstem_defects.widgets.outputs import Output
from napari_hrstem_defects.widgets.roles import Role, entry, role_of, tag
from napari_hrstem_defects.widgets.runs import Runs
from napari_hrstem_defects.widgets.source import (
    Source,
    calibrate,
    is_calibrated,
    path_of,
    pixel_size_nm,
    pixels_of,
    size_in_file,
)
from napari_hrstem_defects.widgets.tasks import Request, provenance_of
from napari_hrstem_defects.widgets.worker import TaskWorker

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels, Layer

#: Message when a result came too late.
REPLACED = "The image was replaced during the run; the result was discarded."


class Session:
    """Work in one viewer; docks of a viewer share it (:meth:`of`).

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
    arriving, finished : Signal
        All is computed, and its layers are about to be written one after another; they are written.
    failed, noticed : Signal
        ``(sentence)``: a run failed; a notice.
    """

    changed = Signal()
    image_changed = Signal()
    recipe_changed = Signal()
    progressed = Signal(str, float)
    arriving = Signal()
    finished = Signal()
    failed = Signal(str)
    noticed = Signal(str)

    _of: ClassVar[weakref.WeakKeyDictionary[ViewerModel, Session]] = weakref.WeakKeyDictionary()

    @classmethod
    def of(cls, viewer: ViewerModel) -> Session:
        """The session of a viewer, made on first use; it lives as long as the viewer."""
        if viewer not in cls._of:
            cls._of[viewer] = cls(viewer)
        return cls._of[viewer]

    def __init__(self, viewer: ViewerModel) -> None:
        from napari.utils import notifications

        self._viewer = weakref.ref(viewer)
        self._recipe = Recipe()
        self._documents: dict[str, Document] = {}
        #: What a task is about that is about no image that is open.
        self.no_image = Document(lambda: None, "")
        self._current: str | None = None
        self._hidden: view.Hidden = {}
        self._auto: bool | None = None
        self.runs = Runs(self)
        self.edits = EditWatcher(self)
        #: Where trained classifiers run; it starts with the first one.
        self.keras = KerasProcess()
        #: Whether a panel has filled in the parameters of the last session.
        self.ready = False
        # Once for all docks of the viewer.
        self.failed.connect(lambda text: notifications.show_error(text))
        self.noticed.connect(lambda text: notifications.show_info(text))
        events = viewer.layers.events
        events.inserted.connect(self._layer_inserted)
        events.removed.connect(self._layer_removed)
        events.renamed.connect(self._layers_renamed)
        viewer.dims.events.current_step.connect(self._frame_changed)
        for layer in viewer.layers:
            self._watch(layer)
            self._offer_to_take_up(layer)
        for image in (images := self.images()):
            self._look_up_pixel_size(image)
        if images:
            self._current = str(images[-1].unique_id)

    # What it is about -----------------------------------------------------------------------------------------

    @property
    def viewer(self) -> ViewerModel:
        """The viewer.

        Raises
        ------
        ReferenceError
            If it is gone; see :attr:`alive`.
        """
        if (viewer := self._viewer()) is None:
            raise ReferenceError("The viewer of this session was closed.")
        return viewer

    @property
    def alive(self) -> bool:
        """Whether the viewer is still there: what comes from a thread or a timer may be later."""
        return self._viewer() is not None

    @property
    def layers(self) -> Any:
        """The viewer's layers; none when it is gone."""
        return self.viewer.layers if self.alive else ()

    def images(self) -> list[Image]:
        """Image layers that can be analysed: all but our own outputs."""
        from napari.layers import Image

        return [layer for layer in self.layers if type(layer) is Image and role_of(layer) is None]

    def image(self, unique_id: str) -> Image | None:
        """The image with an id; None where there is none."""
        return next((image for image in self.images() if str(image.unique_id) == unique_id), None)

    @property
    def document(self) -> Document:
        """The chosen image and what is known about it; without an image an empty one, whose layer is None."""
        key = self._current or ""
        if key not in self._documents and (image := self.image(key)) is not None:
            self._documents[key] = Document.of(image, self.layers)
        return self._documents.get(key, self.no_image)

    def layer(self, role: Role) -> Any:
        """Layer of a role of the chosen image; None without one."""
        return self.document.output(self.layers, role)

    @property
    def known(self) -> Labelled | None:
        """Labels and regions of the chosen image, in the frame that is shown."""
        return self.document.known(self.shown_frame())

    def choose(self, layer: Image | None) -> None:
        """Work on another image."""
        before = self.document.layer
        if layer is not before:
            self._show_instead(layer, before)
            self.image_changed.emit()
            self.changed.emit()

    def _show_instead(self, layer: Image | None, before: Image | None) -> None:
        """Choose an image, and show it and its results instead of those of another one."""
        self._current = None if layer is None else str(layer.unique_id)
        self.show_chosen()
        if layer is not None and before is not None:
            view.bring_into_view(self.viewer, layer, before)

    def show_chosen(self) -> None:
        """Show the chosen image and its results, and hide all others."""
        view.show_only(self.viewer, self.document, self.images(), self._hidden)

    @property
    def recipe(self) -> Recipe:
        """The parameters of the next run."""
        return self._recipe

    @recipe.setter
    def recipe(self, recipe: Recipe) -> None:
        # Settings for places of one image belong to its document.
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
        height, width = self.document.frame_shape
        return bool(height * width <= settings.preference("update_at_once_px") ** 2)

    @auto_update.setter
    def auto_update(self, value: bool) -> None:
        self._auto = bool(value)
        self.changed.emit()

    def invalidate(self, classifier: str) -> None:
        """A classifier was trained again under its old name: earlier results of it are out of date."""
        for document in self._documents.values():
            if document.done is not None and document.done.recipe.classify.classifier == classifier:
                document.written.clear()
        self.changed.emit()

    # States ---------------------------------------------------------------------------------------------------

    def inputs(self, document: Document) -> Inputs:
        """What the next run is asked for."""
        # No place yet: different from any earlier one.
        point = (float("nan"), float("nan")) if document.moving is Role.BEST_PATCH else document.point
        size = None if document.layer is None else pixel_size_nm(document.layer)
        recipe = document.by_hand.in_recipe(self._recipe)
        return Inputs(recipe, point, document.painted_patches(self.layers), size, document.by_hand.painted)

    def request(self, layer: Image, frame: int) -> Request:
        """What the next run of the chosen image, whose layer this is, is asked for."""
        document = self.document
        source, inputs = Source.of(layer, frame), self.inputs(document)
        return Request(source, inputs, self.keras, dict(document.class_maps), dict(document.saved))

    def states(self) -> Mapping[str, State]:
        """State of every step of the chosen image."""
        document, old = self.document, self.outdated()

        def state(step: str) -> State:
            if self.runs.is_running(document, step):
                return State.RUNNING
            if document.failed is not None and document.failed[0] == step:
                return State.FAILED
            if step not in old:
                return State.CURRENT
            return State.STALE if step in document.shown else State.EMPTY

        return {step: state(step) for step in STEP_NAMES}

    def outdated(self) -> frozenset[str]:
        """Steps of the chosen image that would come out differently if run now."""
        document = self.document
        if document.done is None:
            return frozenset(STEP_NAMES)
        if self.shown_frame() != document.frame and document.series is None:
            return frozenset(STEP_NAMES)
        return outdated(document.done, self.inputs(document)) | (frozenset(STEP_NAMES) - document.written)

    @property
    def running(self) -> bool:
        """Whether a run is under way."""
        return self.runs.running

    def next_step(self) -> str | None:
        """The step that a person would run next; None when all is current."""
        return next((step for step, state in self.states().items() if state is not State.CURRENT), None)

    def shown_frame(self, document: Document | None = None) -> int:
        """Frame of a series, by default the chosen one, that the viewer shows; 0 for a single image."""
        document = document or self.document
        viewer, layer = self.viewer, document.layer
        if layer is None or not document.is_stack:
            return 0
        step = (viewer.dims.point[viewer.dims.ndim - 3] - layer.translate[0]) / layer.scale[0]
        return min(max(round(float(step)), 0), len(pixels_of(layer)) - 1)

    # The viewer's layers --------------------------------------------------------------------------------------

    def write(
        self, output: Output, document: Document | None = None, provenance: dict[str, Any] | None = None
    ) -> None:
        """Show an output of an image, by default of the latest analysis of the chosen one; watch what is painted."""
        document = document or self.document
        if provenance is None and document.analysis is not None:
            provenance = provenance_of(document.analysis)
        with self.edits.ignored():
            made = layers.write(self.viewer, document, output, provenance or {})
        if made is not None:
            self.edits.watch(made)

    def set_pixel_size(self, layer: Image, size_nm: float, spacing_nm: float | None = None) -> None:
        """Take a pixel size that was typed; the view stays, and what was measured is measured anew.

        Parameters
        ----------
        layer : Image
        size_nm : float
        spacing_nm : float, optional
            The lattice constant that it follows from, where this was typed.
        """
        known = entry(layer)
        stated = known.get("stated_nm") if known.get("calibrated_by_hand") else pixel_size_nm(layer)
        tag(layer, calibrated_by_hand=True, stated_nm=stated, spacing_nm=spacing_nm)
        calibrate(self.viewer, layer, size_nm)

    def _watch(self, layer: Layer) -> None:
        from napari.layers import Image

        events = layer.events
        if role_of(layer) is not None:
            self.edits.watch(layer)
        elif type(layer) is Image:
            events.data.connect(self._pixels_replaced)
            for event in (events.scale, events.translate, events.rotate, events.units):
                event.connect(self._image_moved)

    def _layer_inserted(self, event: Any) -> None:
        layer = event.value
        if role_of(layer) is not None:
            self._offer_to_take_up(layer)
            return
        self._watch(layer)
        if layer in self.images():
            # A new image is chosen, unless a run is under way.
            if self._current is None or not self.running:
                self._show_instead(layer, self.document.layer)
            self.image_changed.emit()
            self.changed.emit()
            self._look_up_pixel_size(layer)

    def _look_up_pixel_size(self, layer: Image) -> None:
        """Read the pixel size from the file of an image: napari's own readers ignore it."""
        path, known = path_of(layer), weakref.ref(layer)
        if path is None or is_calibrated(layer):
            return

        def apply(size: Any) -> None:
            image = known()
            if self.alive and image is not None and not is_calibrated(image) and isinstance(size, float):
                calibrate(self.viewer, image, size)

        TaskWorker(lambda monitor: size_in_file(path), apply)

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
            self._show_instead(images[-1] if images else None, layer)
        if role_of(layer) is None:
            self.image_changed.emit()
        self.changed.emit()

    def _layers_renamed(self) -> None:
        self.image_changed.emit()

    def _frame_changed(self) -> None:
        if self.document.is_stack:
            self.changed.emit()

    def _pixels_replaced(self, event: Any) -> None:
        document = self._documents.get(str(event.source.unique_id))
        if document is not None:
            document.forget()
            if self.runs.drop(document):
                self.noticed.emit(REPLACED)
            self.changed.emit()

    def _image_moved(self, event: Any) -> None:
        if (document := self._documents.get(str(event.source.unique_id))) is None:
            return
        with self.edits.ignored():
            layers.follow(self.viewer, document)
        self.image_changed.emit()
        self.changed.emit()
        self.runs.update(measure=True)

    # Results of an earlier session ----------------------------------------------------------------------------

    def _offer_to_take_up(self, layer: Layer) -> None:
        """Go on with a result folder that was opened, once all of its layers are there."""
        if role_of(layer) is Role.LABELS and "folder" in entry(layer) and "source" not in entry(layer):
            QTimer.singleShot(0, functools.partial(self._take_up, weakref.ref(layer)))

    def _take_up(self, known: weakref.ref[Labels]) -> None:
        """Analyse the image of a result folder with its recipe, and restore the manual corrections.

        The automatic labels are reproduced; where those of the folder differ they were painted.
        """
        from napari_hrstem_defects.io.loading import load_info
        from napari_hrstem_defects.io.saving import INFO_FILE

        labels = known()
        if labels is None or labels not in self.layers:
            return
        folder = entry(labels)["folder"]
        image = next((layer for layer in self.images() if entry(layer).get("folder") == folder), None)
        try:
            if image is None:
                raise HrstemDefectsError(
                    f"{folder}: the image of this result was not found; the result can only be viewed."
                )
            info = load_info(Path(folder) / INFO_FILE)
            recipe = Recipe.from_dict(info["recipe"])
        except HrstemDefectsError as error:
            self.noticed.emit(str(error))
            return
        self.choose(image)
        document = self.document
        for layer in self.layers:
            role = role_of(layer)
            if role is not None and entry(layer).get("folder") == folder:
                tag(layer, source=document.source_id)
                document.outputs[role, ""] = layer.unique_id
                layers.dress(layer, role)
                self.edits.watch(layer)
        point = info["best_patch_by_hand"]
        placed = None if point is None else (point[0], point[1])
        document.by_hand = ByHand(placed, reviewed=entry(labels)["reviewed"]).from_recipe(recipe)
        self.recipe = recipe
        frames = labels.data if document.is_stack else [labels.data]
        document.saved = {
            number: np.array(frame, np.uint8)
            for number, (frame, record) in enumerate(zip(frames, info.get("frames", [info]), strict=False))
            if PAINTED in record["warnings"]
        }
        if document.is_stack:
            self.runs.series()
        else:
            self.runs.all()
