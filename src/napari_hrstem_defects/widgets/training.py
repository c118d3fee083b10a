"""*Train…*: a classifier of one's own, from defects painted on open images."""

from __future__ import annotations

import functools
import threading
import weakref
from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from magicgui.widgets import ComboBox, LineEdit, SpinBox
from qtpy.QtCore import QObject, Qt, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QDialog,
    QFormLayout,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QProgressBar,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_hrstem_defects.core.errors import ModelError
from napari_hrstem_defects.io.display import SYMMETRY_COLOUR
from napari_hrstem_defects.models import evaluation
from napari_hrstem_defects.models.kinds import KINDS
from napari_hrstem_defects.models.options import TrainingOptions, TrainingProgress
from napari_hrstem_defects.models.training import TrainingReport
from napari_hrstem_defects.widgets import classifiers
from napari_hrstem_defects.widgets.classifiers import Example
from napari_hrstem_defects.widgets.links import Links
from napari_hrstem_defects.widgets.loss_plot import LossPlot
from napari_hrstem_defects.widgets.placing import label_colours
from napari_hrstem_defects.widgets.source import Source, pixels_of, placed_like
from napari_hrstem_defects.widgets.theme import Colours
from napari_hrstem_defects.widgets.worker import Failure, TaskWorker

if TYPE_CHECKING:
    from napari.layers import Image, Labels

    from napari_hrstem_defects.widgets.session import Session

#: Sets that metrics are given for, as the panel calls them.
_SETS = {
    "train": "trained on",
    "test": "held out",
    "test_with_ambivalent": "held out, with ambivalent",
    "defect_free": "held out, without defects",
}
_NO_LABELS = "– none –"


class _Bridge(QObject):
    """Carries reports of a training, told by its event, from its thread to the window's."""

    told = Signal(object, object)


class TrainDialog(QDialog):
    """Which images, which classifier; then how the training goes and what came out.

    Parameters
    ----------
    session : Session
        Only weakly referred to.
    colours : Colours
    parent : QWidget or None
    """

    #: ``(name)``: a classifier was added to the list.
    trained = Signal(str)

    def __init__(self, session: Session, colours: Colours, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._session = weakref.ref(session)
        self._worker: TaskWorker | None = None
        # Trainings that were stopped, whose best network is still being tested.
        self._testing: list[TaskWorker] = []
        self._counting: TaskWorker | None = None
        self._cancel = threading.Event()
        # To the list of layers while the dialog is open, and to the brush on the layers that are offered.
        self._links, self._brushes = Links(), Links()
        self._closed_down = False
        self._bridge = _Bridge()
        self._bridge.told.connect(self._told)
        self.setWindowTitle("Train a classifier")
        self.images = QTableWidget(0, 2)
        self.images.setHorizontalHeaderLabels(["learn from", "defects marked in"])
        rows, columns = self.images.verticalHeader(), self.images.horizontalHeader()
        assert rows is not None
        assert columns is not None
        rows.hide()
        columns.setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
        self.images.setMinimumHeight(110)
        self.images.itemChanged.connect(lambda _: self._count())
        self.paint = QPushButton("Paint defects…")
        self.paint.setToolTip(
            "<qt>Makes a layer on the chosen image and takes the brush: mark every defect in it. What is not marked "
            "counts as clean crystal.</qt>"
        )
        self.paint.clicked.connect(lambda: self._paint())
        self.counts = QLabel("–")
        self.counts.setWordWrap(True)
        self.counts.setAccessibleName("patches of each class")
        kinds = [(kind.summary, kind.name) for kind in KINDS.values()]
        self.kind = ComboBox(label="Kind", choices=kinds, value="compact")
        self.name = LineEdit(label="Name", value="my classifier", tooltip="As it stands in the list")
        self.patches = SpinBox(
            label="Patches a class",
            min=8,
            max=100_000,
            value=1000,
            tooltip="So many patches of each class, drawn at random, turned and mirrored",
        )
        self.epochs = SpinBox(
            label="Most passes",
            min=1,
            max=1000,
            tooltip="At most so many passes through all patches; it ends by itself before",
        )
        self.patch = SpinBox(
            label="Patch (px)",
            min=8,
            max=512,
            tooltip="Edge of a patch, in pixels",
        )
        self.weights = LineEdit(
            label="Weights",
            value="imagenet",
            tooltip="VGG16 only: imagenet (fetched from the network once), none, or a file",
        )
        self.form = QFormLayout()
        for row in (self.kind, self.name, self.patches, self.patch, self.epochs, self.weights):
            self.form.addRow(row.label, row.native)
        self._take_usual()
        self._show_weights()
        self.kind.changed.connect(lambda _: self._kind_chosen())
        self.patch.changed.connect(lambda _: self._count())
        self.plot = LossPlot(colours)
        self.bar = QProgressBar()
        self.bar.setRange(0, 1000)
        self.said = QLabel("Nothing that is trained here leaves this computer.")
        self.said.setWordWrap(True)
        self.said.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.said.setAccessibleName("outcome of the training")
        self.start = QPushButton("Train")
        self.start.clicked.connect(lambda: self._start())
        self.stop = QPushButton("Cancel")
        self.stop.setToolTip(
            "Stops the training at once; the best network so far is tested and kept, if there is one"
        )
        self.stop.clicked.connect(lambda: self._stop())
        buttons = QHBoxLayout()
        buttons.addWidget(self.bar, 1)
        buttons.addWidget(self.start)
        buttons.addWidget(self.stop)
        layout = QVBoxLayout(self)
        marked = QHBoxLayout()
        marked.addWidget(self.counts, 1)
        marked.addWidget(self.paint)
        layout.addWidget(self.images)
        layout.addLayout(marked)
        layout.addLayout(self.form)
        layout.addWidget(self.plot, 1)
        layout.addWidget(self.said)
        layout.addLayout(buttons)
        self.resize(520, 640)
        self._kind_chosen()

    def showEvent(self, event: Any) -> None:
        """Follow the list of layers as long as the dialog is open."""
        super().showEvent(event)
        session = self._session()
        viewer = None if session is None else session.viewer
        if viewer is None or self._closed_down or len(self._links):
            return
        events = viewer.layers.events
        for emitter in (events.inserted, events.removed, events.renamed):
            self._links.connect(emitter, self._layers_changed)
        self.refresh()

    def _layers_changed(self, event: Any = None) -> None:
        self.refresh()

    def done(self, result: int) -> None:
        """A training nobody sees the end of is stopped, however the dialog is closed."""
        self._cancel.set()
        self._links.clear()
        self._brushes.clear()
        super().done(result)

    def disconnect_all(self) -> None:
        """The panel goes, and the dialog with it: end the training and all connections."""
        self._closed_down = True
        self._cancel.set()
        self._links.clear()
        self._brushes.clear()

    # Which images ---------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Offer the images that are open, each with the label layers that fit it."""
        session = self._session()
        viewer = None if session is None else session.viewer
        if session is None or viewer is None:
            return
        from napari.layers import Labels

        rows = range(self.images.rowCount())
        known = {self._id(row): (self._chosen(row), self._is_ticked(row)) for row in rows}
        current = self._id(self.images.currentRow()) if self.images.currentRow() >= 0 else ""
        self._brushes.clear()
        self.images.blockSignals(True)
        self.images.setRowCount(0)
        for image in session.images():
            if image.rgb:
                continue
            row = self.images.rowCount()
            self.images.insertRow(row)
            item = QTableWidgetItem(image.name)
            item.setFlags(
                Qt.ItemFlag.ItemIsUserCheckable | Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable
            )
            item.setData(Qt.ItemDataRole.UserRole, str(image.unique_id))
            choice = QComboBox()
            choice.addItem(_NO_LABELS, "")
            fitting = [
                layer
                for layer in viewer.layers
                if type(layer) is Labels and tuple(layer.data.shape) == tuple(pixels_of(image).shape)
            ]
            for layer in fitting:
                choice.addItem(layer.name, str(layer.unique_id))
                self._brushes.connect(layer.events.paint, self._painted)
            before, ticked = known.get(str(image.unique_id), ("", True))
            choice.setCurrentIndex(max(choice.findData(before), 0))
            ticked = ticked and choice.currentData() != ""
            item.setCheckState(Qt.CheckState.Checked if ticked else Qt.CheckState.Unchecked)
            choice.currentIndexChanged.connect(functools.partial(self._labels_chosen, item))
            self.images.setItem(row, 0, item)
            self.images.setCellWidget(row, 1, choice)
            item.setToolTip(image.name)
            choice.setToolTip(choice.currentText())
        ids = [self._id(row) for row in range(self.images.rowCount())]
        if ids:
            self.images.setCurrentCell(ids.index(current) if current in ids else 0, 0)
        self.images.blockSignals(False)
        self._count()

    def choose(self, image: Image, labels: Labels | None) -> None:
        """Learn from an image with a layer of marked defects; None: not from this one."""
        self.refresh()
        for row in range(self.images.rowCount()):
            if self._id(row) == str(image.unique_id):
                choice: Any = self.images.cellWidget(row, 1)
                choice.setCurrentIndex(
                    max(choice.findData("" if labels is None else str(labels.unique_id)), 0)
                )

    def value(self) -> list[Example]:
        """The images to learn from."""
        session = self._session()
        viewer = None if session is None else session.viewer
        if session is None or viewer is None:
            return []
        layers = {str(layer.unique_id): layer for layer in viewer.layers}
        found = []
        for row in range(self.images.rowCount()):
            item = self.images.item(row, 0)
            image, labels = layers.get(self._id(row)), layers.get(self._chosen(row))
            if item is None or not self._is_ticked(row) or image is None or labels is None:
                continue
            found.append(Example(Source.of(image), np.array(labels.data)))
        return found

    def _id(self, row: int) -> str:
        item = self.images.item(row, 0)
        return "" if item is None else str(item.data(Qt.ItemDataRole.UserRole))

    def _chosen(self, row: int) -> str:
        choice: Any = self.images.cellWidget(row, 1)
        return str(choice.currentData() or "")

    def _is_ticked(self, row: int) -> bool:
        item = self.images.item(row, 0)
        return item is not None and item.checkState() == Qt.CheckState.Checked

    def _painted(self, event: Any) -> None:
        self._count()

    def _labels_chosen(self, item: QTableWidgetItem, index: int) -> None:
        item.setCheckState(Qt.CheckState.Checked if index > 0 else Qt.CheckState.Unchecked)
        choice: Any = self.images.cellWidget(item.row(), 1)
        choice.setToolTip(choice.currentText())
        self._count()

    def _paint(self) -> None:
        """Make a layer for the marks on the image of the chosen row, and take the brush."""
        session = self._session()
        viewer = None if session is None else session.viewer
        row = max(self.images.currentRow(), 0)
        image = (
            next((i for i in session.images() if str(i.unique_id) == self._id(row)), None)
            if session
            else None
        )
        if viewer is None or image is None:
            return
        shape = pixels_of(image).shape
        layer = viewer.add_labels(
            np.zeros(shape, np.uint8),
            name=f"Defects to learn · {image.name}",
            colormap=label_colours({1: SYMMETRY_COLOUR}),
            opacity=0.6,
            **placed_like(image, len(shape)),
        )
        layer.brush_size = max(5, min(shape[-2:]) // 50)
        layer.mode = "paint"
        self.choose(image, layer)

    def _show_weights(self) -> None:
        """Ask for weights where there are any to begin with."""
        asked = self.kind.value == "vgg16"
        self.weights.visible = asked
        label = self.form.labelForField(self.weights.native)
        assert label is not None
        label.setVisible(asked)

    def _take_usual(self) -> None:
        """Show what suits the kind."""
        kind = KINDS[str(self.kind.value)]
        self.patch.value, self.epochs.value = kind.patch_px, kind.epochs

    def _kind_chosen(self) -> None:
        self._show_weights()
        self._take_usual()
        self._count()

    # How many patches -----------------------------------------------------------------------------------------

    def _count(self) -> None:
        """Count the patches of each class, in the background."""
        examples = self.value()
        self.start.setEnabled(bool(examples) and self._worker is None)
        if not examples:
            self.counts.setText("Choose an image and the layer in which its defects are marked.")
            self._counting = None
            return
        call = functools.partial(
            classifiers.count_patches,
            examples=examples,
            kind=str(self.kind.value),
            patch_px=int(self.patch.value),
        )
        worker = self._counting = TaskWorker(call)
        worker.returned.connect(functools.partial(self._counted, worker))
        worker.start()

    def _counted(self, worker: TaskWorker, result: Any) -> None:
        if worker is not self._counting or self._closed_down:
            return
        self._counting = None
        if isinstance(result, Failure):
            self.counts.setText(result.message)
        elif result is not None:
            parts = ", ".join(f"{name} {count}" for name, count in result.items())
            self.counts.setText(f"Patches of the grid: {parts}")

    # Training -------------------------------------------------------------------------------------------------

    def options(self) -> TrainingOptions:
        """What was set.

        Raises
        ------
        ModelError
            If it cannot be used.
        """
        return TrainingOptions(
            name=str(self.name.value).strip(),
            patch_px=int(self.patch.value),
            per_class=int(self.patches.value),
            epochs=int(self.epochs.value),
            weights=str(self.weights.value),
        )

    def _start(self) -> None:
        session = self._session()
        if session is None or self._worker is not None:
            return
        try:
            options = self.options()
        except ModelError as error:
            self.said.setText(str(error))
            return
        self._cancel = threading.Event()
        self.plot.clear()
        self.said.setText("Training…")
        call = functools.partial(
            classifiers.train_and_add,
            kind=str(self.kind.value),
            examples=self.value(),
            options=options,
            tell=functools.partial(self._bridge.told.emit, self._cancel),
            stopped=self._cancel.is_set,
        )
        worker = self._worker = TaskWorker(call)
        worker.returned.connect(functools.partial(self._returned, worker))
        self.start.setEnabled(False)
        worker.start()

    def _stop(self) -> None:
        if self._worker is None:
            self.close()
            return
        self._cancel.set()
        if not self.plot.value():
            self.said.setText("Stopping…")
            return
        # It no longer learns; testing is of no hindrance to anything else, not even to another training.
        self._testing.append(self._worker)
        self._end("Stopped. The best network so far is being tested, and then joins the list of classifiers.")

    @property
    def training(self) -> bool:
        """Whether a training is under way."""
        return self._worker is not None

    def _told(self, training: threading.Event, report: TrainingProgress) -> None:
        if training is not self._cancel or self._worker is None or self._closed_down:
            return  # one that was stopped
        self.bar.setValue(round(1000 * report.fraction))
        self.bar.setFormat(f"{report.network + ', ' if report.network else ''}{report.text}  %p %")
        if classifiers.ends_a_pass(report) and report.loss is not None and report.validation_loss is not None:
            self.plot.add(report.loss, report.validation_loss)

    def _returned(self, worker: TaskWorker, result: Any) -> None:
        if self._closed_down:
            return  # what there was to keep is in the list of classifiers
        if isinstance(result, Failure):
            said = result.message
        elif isinstance(result, TrainingReport):
            said = _outcome(result)
        else:
            said = "Stopped before there was anything to keep."
        if worker is self._worker:
            self._end(said)
        else:
            self._testing.remove(worker)
            if self._worker is None:
                self.said.setText(said)
        if isinstance(result, TrainingReport):
            self.trained.emit(result.contract.name)

    def _end(self, said: str) -> None:
        """Nothing is learned any more."""
        self._worker = None
        self.bar.reset()
        self.bar.setFormat("")
        self.start.setEnabled(bool(self.value()))
        self.said.setText(said)


def _outcome(report: TrainingReport) -> str:
    """The metrics, in the layout of the published table, and what must be known about them."""
    metrics: Mapping[str, Any] = report.metrics
    rows = evaluation.table({title: metrics[key] for key, title in _SETS.items() if key in metrics})
    cells = "".join(
        "<tr>" + "".join(f"<td style='padding-right:10px'>{escape(cell)}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    lines = [f"“{report.contract.name}” is in the list of classifiers. Held out: {metrics['split']}."]
    if report.stopped:
        lines.append("It was stopped early.")
    if metrics.get("shared"):
        lines.append(f"Not honest: {metrics['shared']}.")
    if "test" not in metrics:
        lines.append("Nothing was left to test on, so nobody knows how good it is.")
    return f"<qt>{escape(' '.join(lines))}<table>{cells}</table>(in percent)</qt>"
