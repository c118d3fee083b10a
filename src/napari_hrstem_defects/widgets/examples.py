"""Table of the open images to train on, each with the layer that says where its defects are."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QHeaderView,
    QTableWidget,
    QTableWidgetItem,
)
from superqt.utils import signals_blocked

from napari_hrstem_defects.io.display import SYMMETRY_COLOUR
from napari_hrstem_defects.widgets.classifiers import Example
from napari_hrstem_defects.widgets.layers import brush_px, label_colours
from napari_hrstem_defects.widgets.layout import Links
from napari_hrstem_defects.widgets.outputs import NOT_ASSESSED_COLOUR
from napari_hrstem_defects.widgets.roles import Role, entry, role_of
from napari_hrstem_defects.widgets.source import Source, is_stack, pixels_of, placed_like
from napari_hrstem_defects.widgets.view import hide, show_again

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels

    from napari_hrstem_defects.widgets.session import Session

#: Our outputs that can be used as marks of defects.
_LEARNABLE = (Role.LABELS, Role.AMORPHOUS, Role.CLASSES)
#: Choices beside the layers, text and value.
_NO_CHOICE, _CLEAN = ("– choose –", ""), ("no defects in it", "clean")


def offered_marks(viewer: ViewerModel, image: Image) -> list[tuple[Labels, bool]]:
    """Label layers in which the defects of an image may be marked, each with whether it has the image's shape.

    What was found in the image comes first, then what a person made; what was found in other images is left out.
    """
    from napari.layers import Labels

    shape, own = tuple(pixels_of(image).shape), str(image.unique_id)
    found = [
        (layer, tuple(layer.data.shape) == shape)
        for layer in viewer.layers
        if type(layer) is Labels and not layer.multiscale
        if (role := role_of(layer)) is None or (role in _LEARNABLE and entry(layer).get("source") == own)
    ]
    return sorted(found, key=lambda pair: (not pair[1], role_of(pair[0]) is None))


def new_marks(viewer: ViewerModel, image: Image) -> Labels:
    """Add an empty layer for marks over an image; every label is visible."""
    from napari_hrstem_defects.core.metrics import IGNORE

    shape = pixels_of(image).shape
    layer: Labels = viewer.add_labels(
        np.zeros(shape, np.uint8),
        name=f"Defects · {Path(image.name).stem}",
        colormap=label_colours({IGNORE: NOT_ASSESSED_COLOUR}, SYMMETRY_COLOUR),
        opacity=0.6,
        **placed_like(image, len(shape)),
    )
    layer.brush_size = brush_px(shape)
    return layer


class ExamplesView(QTableWidget):
    """A row for each image: whether it is used for training, and the layer in which its defects are marked.

    Parameters
    ----------
    session : Session
    """

    #: Other images, or other layers for them.
    changed = Signal()
    #: A layer that is offered was painted.
    painted = Signal()

    def __init__(self, session: Session) -> None:
        super().__init__(0, 2)
        self._session = session
        # Id of an image → whether it is used, and where its defects are marked.
        self._rows: dict[str, tuple[QTableWidgetItem, QComboBox]] = {}
        # To the list of layers while it is shown, and to the brush on the layers that are offered.
        self._links, self._brushes = Links(), Links()
        # Ids of the layers that were hidden so that one image and its marks are seen, and of the marks.
        self._hidden: set[object] = set()
        self._marks: set[object] = set()
        self.setHorizontalHeaderLabels(["train on", "defects marked in"])
        rows: Any = self.verticalHeader()
        columns: Any = self.horizontalHeader()
        rows.hide()
        columns.setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
        self.setMinimumHeight(110)
        self.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        self.itemChanged.connect(lambda _: self.changed.emit())

    def follow(self) -> None:
        """Follow the list of layers from now on."""
        if len(self._links):
            return
        events = self._session.viewer.layers.events
        for emitter in (events.inserted, events.removed, events.renamed):
            self._links.connect(emitter, self.refresh)
        self.refresh()

    def let_go(self) -> None:
        """End all connections, show again what was hidden for painting, and hide the marks."""
        self._links.clear()
        self._brushes.clear()
        # They would lie on other images.
        hide(layer for layer in self._session.layers if layer.unique_id in self._marks)
        show_again(self._session.layers, self._hidden - self._marks)
        self._hidden, self._marks = set(), set()

    def refresh(self, event: Any = None) -> None:
        """Offer the images that are open, each with the label layers that fit it."""
        known = {key: (choice.currentData(), _is_ticked(item)) for key, (item, choice) in self._rows.items()}
        current = self._chosen_image()
        self._brushes.clear()
        images = {str(image.unique_id): image for image in self._session.images() if not image.rgb}
        self._rows = {}
        with signals_blocked(self):
            self.setRowCount(0)
            self.setRowCount(len(images))
            for row, (key, image) in enumerate(images.items()):
                item, choice = QTableWidgetItem(image.name), self._choices(image)
                item.setToolTip(image.name)
                before, ticked = known.get(key, ("", True))
                choice.setCurrentIndex(max(choice.findData(before), 0))
                _tick(item, ticked and choice.currentData() != "")
                choice.currentIndexChanged.connect(functools.partial(self._labels_chosen, key))
                choice.setToolTip(choice.currentText())
                self.setItem(row, 0, item)
                self.setCellWidget(row, 1, choice)
                self._rows[key] = item, choice
            if images:
                self.setCurrentCell(list(images).index(current) if current in images else 0, 0)
        self.changed.emit()

    def _chosen_image(self) -> str:
        """Id of the image of the chosen row, the first without one; empty where there is none."""
        keys = list(self._rows)
        return keys[max(self.currentRow(), 0)] if keys else ""

    def _choices(self, image: Image) -> QComboBox:
        """Layers in which the defects of an image may be marked; those of another shape are disabled."""
        choice = QComboBox()
        # Long names do not make the dialog wider.
        choice.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        choice.addItem(*_NO_CHOICE)
        if not is_stack(image):
            choice.addItem(*_CLEAN)
        model: Any = choice.model()
        for layer, fits in offered_marks(self._session.viewer, image):
            shape = "" if fits else f" ({' × '.join(str(n) for n in layer.data.shape)} px, does not fit)"
            choice.addItem(f"{layer.name}{shape}", str(layer.unique_id) if fits else None)
            model.item(choice.count() - 1).setEnabled(fits)
            # The brush, and undo or fill.
            for emitter in (layer.events.paint, layer.events.set_data) if fits else ():
                self._brushes.connect(emitter, self._painted)
        return choice

    def choose(self, image: Image, labels: Labels | None) -> None:
        """Train on an image with a layer of marked defects; None: not on this one."""
        self.refresh()
        _, choice = self._rows[str(image.unique_id)]
        choice.setCurrentIndex(max(choice.findData("" if labels is None else str(labels.unique_id)), 0))

    def value(self) -> list[Example]:
        """The images to train on."""
        known = {str(layer.unique_id): layer for layer in self._session.layers}
        found = []
        for key, (item, choice) in self._rows.items():
            image, chosen = known.get(key), choice.currentData()
            if not _is_ticked(item) or image is None:
                continue
            if chosen == _CLEAN[1]:
                found.append(Example(Source.of(image), np.zeros(pixels_of(image).shape, np.uint8)))
            elif chosen in known:
                found.append(Example(Source.of(image), known[chosen].data))
        return found

    def missing(self) -> str:
        """What is missing for a training."""
        if not self._session.images():
            return "Open an image first."
        if not self.rowCount():
            return "Colour images cannot be used for training; open a greyscale image."
        beside = "the ticked image" if self.left_out() else "an image"
        return f"Choose beside {beside} in which layer its defects are marked, or press Paint defects…"

    def left_out(self) -> list[str]:
        """Names of ticked images without a layer of defects."""
        rows = self._rows.values()
        return [item.text() for item, choice in rows if _is_ticked(item) and not choice.currentData()]

    def _painted(self, event: Any) -> None:
        self.painted.emit()

    def _labels_chosen(self, key: str, index: int) -> None:
        item, choice = self._rows[key]
        _tick(item, index > 0)
        choice.setToolTip(choice.currentText())
        self.setCurrentCell(item.row(), 0)
        self.changed.emit()

    def paint_marks(self) -> None:
        """Select the brush for the marks of the image of the chosen row, and hide all else; a missing layer is made."""
        viewer, key = self._session.viewer, self._chosen_image()
        if (image := self._session.image(key)) is None:
            return
        chosen = self._rows[key][1].currentData()
        marks: Any = next((layer for layer in viewer.layers if str(layer.unique_id) == chosen), None)
        if marks is None:
            marks = new_marks(viewer, image)
            self.choose(image, marks)
        # Of images that lie on each other only the topmost is seen.
        self._hidden |= hide(layer for layer in viewer.layers if layer not in (image, marks))
        image.visible = marks.visible = True
        if role_of(marks) is None:
            self._marks.add(marks.unique_id)
        viewer.layers.selection.active = marks
        marks.mode = "paint"


def _tick(item: QTableWidgetItem, ticked: bool) -> None:
    item.setCheckState(Qt.CheckState.Checked if ticked else Qt.CheckState.Unchecked)


def _is_ticked(item: QTableWidgetItem) -> bool:
    return item.checkState() == Qt.CheckState.Checked
