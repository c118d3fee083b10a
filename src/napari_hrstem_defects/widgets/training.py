"""*Train…*: trains a classifier on defects painted in open images."""

from __future__ import annotations

import functools
import threading
from typing import TYPE_CHECKING, Any

from magicgui.widgets import ComboBox, LineEdit, SpinBox
from qtpy.QtCore import QEvent, Qt, QTimer, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QDialog,
    QFormLayout,
    QHBoxLayout,
    QMainWindow,
    QMessageBox,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_hrstem_defects.core.micrograph import MIN_SIDE_PX
from napari_hrstem_defects.errors import HrstemDefectsError
from napari_hrstem_defects.models import registry
from napari_hrstem_defects.models.kinds import KINDS
from napari_hrstem_defects.models.options import RECIPES, TrainingOptions, TrainingProgress, with_recipe
from napari_hrstem_defects.models.training import TrainingReport
from napari_hrstem_defects.widgets import classifiers
from napari_hrstem_defects.widgets.classifiers import Counted
from napari_hrstem_defects.widgets.examples import ExamplesView
from napari_hrstem_defects.widgets.layout import Wrapped, box, button
from napari_hrstem_defects.widgets.plots import Plot, draw_losses
from napari_hrstem_defects.widgets.worker import Failure, TaskWorker

if TYPE_CHECKING:
    from napari_hrstem_defects.widgets.session import Session

#: Time (ms) without painting before the patches are counted again.
_REST_MS = 200
#: What the fields of the form are for.
_TOOLTIPS = {
    "Kind": "Every kind distinguishes two classes, defective and non-defective. An ensemble of more classes is trained "
    "on a table of patches, by <code>hrstem-defects train --patches</code>.",
    "Name": "Name in the list of classifiers",
    "Patches per class": "Number of patches of each class, drawn at random, rotated and mirrored",
    "Patch (px)": "Edge of a patch, in pixels",
    "Max. epochs": "Training ends earlier when the validation loss no longer decreases",
    "Wholly marked": "Class of a patch wholly inside a domain of another symmetry (label 1): defective, as in the text "
    "of Dennler et al., or non-defective, as in their code.",
    "Weights": "VGG16 only: imagenet (fetched from the network once), none, or a file",
}


class TrainDialog(QDialog):
    """Images and kind of classifier, then progress and outcome of the training.

    Parameters
    ----------
    session : Session
    parent : QWidget or None
    """

    #: ``(name)``: a classifier was added to the list.
    trained = Signal(str)

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._session = session
        self._worker: TaskWorker | None = None
        # Trainings that were stopped, whose best network is still being tested.
        self._testing: dict[TaskWorker, str] = {}
        self._counting: TaskWorker | None = None
        self._cancel = threading.Event()
        self._placed = self._trainable = False
        self._rest = QTimer(self)
        self._rest.setSingleShot(True)
        self._rest.timeout.connect(self._count)
        self.setWindowTitle("Train a classifier")
        self.images = ExamplesView(session)
        self.images.changed.connect(self._changed)
        self.images.painted.connect(lambda: self._rest.start(_REST_MS))
        self.paint = button(
            "Paint defects…",
            "Shows only the image of the selected row and selects the brush: mark every defect over the width of the "
            "disturbed lattice. Unmarked pixels count as crystal, 255 as not assessed. Closing the dialog hides the "
            "marks and shows the other layers again.",
            self.images.paint_marks,
            fixed=False,
        )
        self.counts = Wrapped("–", "patches of each class")
        self.counts.setToolTip(
            "<qt>A patch with less than 1 % of its area marked is non-defective, one with more than 10 % defective; "
            "ambivalent ones between are not used.</qt>"
        )
        kinds = [(kind.summary, kind.name) for kind in KINDS.values()]
        kinds += [(recipe.summary, name) for name, recipe in RECIPES.items()]
        secondary = [("defective", "defective"), ("non-defective, if of another symmetry", "clean")]
        # All but the kind are named as the options of a training.
        self.kind = ComboBox(name="kind", label="Kind", choices=kinds, value="compact")
        self.name = LineEdit(name="name", label="Name", value=classifiers.free_name())
        self.patches = SpinBox(name="per_class", label="Patches per class", min=8, max=100_000, value=1000)
        self.patch = SpinBox(name="patch_px", label="Patch (px)", min=MIN_SIDE_PX, max=512)
        self.epochs = SpinBox(name="epochs", label="Max. epochs", min=1, max=1000)
        self.secondary = ComboBox(
            name="secondary", label="Wholly marked", choices=secondary, value="defective"
        )
        self.weights = LineEdit(name="weights", label="Weights", value="imagenet")
        sizes, rest = (self.patches, self.patch, self.epochs), (self.secondary, self.weights)
        self._options: tuple[Any, ...] = (self.name, *sizes, *rest)
        self.form = QFormLayout()
        for field in (self.kind, *self._options):
            field.tooltip = f"<qt>{_TOOLTIPS[field.label]}</qt>"
            self.form.addRow(field.label, field.native)
        for size in sizes:
            # Else each digit is forced into the range before the next one is typed.
            size.native.setKeyboardTracking(False)
        self.kind.changed.connect(lambda _: self._kind_chosen())
        for counted in (self.patch, self.secondary):
            counted.changed.connect(lambda _: self._changed())
        self.plot = Plot(
            draw_losses,
            "loss of the training",
            "Loss in each epoch; training ends when the validation loss no longer decreases",
            "loss: after the first epoch",
        )
        self.plot.setMinimumSize(260, 110)
        self.bar = QProgressBar()
        self.bar.setRange(0, 1000)
        self.status = Wrapped(
            "Training runs on this computer; no data are uploaded.", "outcome of the training"
        )
        self.status.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.start = button("Train", "Trains and tests a classifier", self._start, fixed=False)
        self.stop = button(
            "Cancel",
            "Stops the training at once; the best network so far is tested and kept, if there is one",
            self._halt,
            fixed=False,
        )
        self.leave = button("Close", "Closes this dialog", self.close, fixed=False)
        marked = box(QHBoxLayout(), self.counts, self.paint, stretch=0)
        buttons = box(QHBoxLayout(), self.bar, self.start, self.stop, self.leave, stretch=0)
        parts = self.images, marked, self.form, self.plot, self.status, buttons
        box(QVBoxLayout(self), *parts, margins=None, stretch=parts.index(self.plot))
        for choice in (self.kind, self.secondary):
            # Their longest entry would make the dialog wider than the panel.
            native: QComboBox = choice.native
            native.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.resize(440, 660)
        for each in self.findChildren(QPushButton):
            each.setAutoDefault(False)  # Return ends a number, and presses nothing
        self._kind_chosen()
        self._show_buttons()

    def showEvent(self, event: Any) -> None:
        """Follow the list of layers as long as the dialog is open."""
        super().showEvent(event)
        self._place()
        self.images.follow()

    def _place(self) -> None:
        """Open over the panel, no wider; later wherever it was left. When the window goes the dialog goes, too.

        The image beside it is to be painted.
        """
        panel = self.parentWidget()
        if panel is None or self._placed:
            return
        self._placed = True
        window: QWidget | None = panel
        while window is not None and not isinstance(window, QMainWindow):
            window = window.parentWidget()  # the panel may float in a window of its own
        if window is not None:
            window.installEventFilter(self)
        self.resize(min(self.width(), panel.width()), self.height())
        corner = panel.mapToGlobal(panel.rect().topRight())
        self.move(max(corner.x() - self.width(), 0), max(corner.y(), 0))

    def eventFilter(self, watched: Any, event: Any) -> bool:
        """The napari window is gone (not only minimised), so this dialog is closed as well."""
        if event.type() == QEvent.Type.Hide and not event.spontaneous():
            self.disconnect_all()
            self.hide()
        return super().eventFilter(watched, event)

    def reject(self) -> None:
        """Closing the dialog stops the training, after a question."""
        if self._worker is None or self._may_stop():
            super().reject()

    def _may_stop(self) -> bool:
        kept = "The best network so far will be tested and kept."
        if not self.plot.value():
            kept = "No epoch is complete yet, so nothing will be kept."
        return self._is_meant("Stop the training?", f"Closing stops the training. {kept}")

    def done(self, result: int) -> None:
        """Stop, and show again what was hidden for painting."""
        self._halt()
        self._let_go()
        super().done(result)

    def disconnect_all(self) -> None:
        """The panel goes, and the dialog with it: end the training and all connections."""
        self._cancel.set()
        for worker in filter(None, (self._worker, self._counting, *self._testing)):
            worker.quit()  # what there is to keep is added to the list of classifiers nevertheless
        self._worker = None
        self._let_go()

    def _let_go(self) -> None:
        self._rest.stop()
        self.images.let_go()

    # Images and options -----------------------------------------------------------------------------------------

    def _kind_name(self) -> str:
        """The kind of classifier, of a published way to train as well."""
        chosen = str(self.kind.value)
        return RECIPES[chosen].kind if chosen in RECIPES else chosen

    def _kind_chosen(self) -> None:
        """Show the defaults of the kind; initial weights only where there are any."""
        kind, recipe = KINDS[self._kind_name()], RECIPES.get(str(self.kind.value))
        self.form.setRowVisible(self.weights.native, self._kind_name() == "vgg16")
        self.patch.value, self.epochs.value = kind.patch_px, kind.epochs
        if recipe is not None:
            self.epochs.value = recipe.options["epochs"]
            self.patches.value = TrainingOptions().per_class
        self._changed()

    # How many patches -----------------------------------------------------------------------------------------

    def _changed(self) -> None:
        """Images or marks changed."""
        examples = self.images.value()
        self.paint.setEnabled(self.images.rowCount() > 0)
        self._trainable = False  # until the patches are counted
        self._show_buttons()
        if examples:
            self._rest.start(0)
            return
        self._rest.stop()
        self._counting = None
        self.counts.setText(self.images.missing())

    def _count(self) -> None:
        """Count the patches of each class, in the background."""
        if self._counting is not None:
            self._counting.quit()
        call = functools.partial(
            classifiers.count_patches,
            examples=self.images.value(),
            patch_px=int(self.patch.value),
            secondary=str(self.secondary.value),
        )
        worker = self._counting = TaskWorker(call, lambda result: self._counted(worker, result))

    def _counted(self, worker: TaskWorker, result: Any) -> None:
        if worker is not self._counting:
            return
        self._counting = None
        self._trainable = isinstance(result, Counted) and result.trainable
        self._show_buttons()
        if isinstance(result, Failure):
            self.counts.setText(result.message)
        elif isinstance(result, Counted):
            unused = [
                f"{name} is not used: choose the layer of its defects." for name in self.images.left_out()
            ]
            self.counts.setText(" ".join([result.text, *unused]))

    # Training -------------------------------------------------------------------------------------------------

    def options(self) -> TrainingOptions:
        """The options set.

        Raises
        ------
        ModelError
            If it cannot be used.
        """
        chosen = str(self.kind.value)
        options = {field.name: field.value for field in self._options}
        options["name"] = options["name"].strip()
        return with_recipe(chosen if chosen in RECIPES else "", options)

    def _start(self) -> None:
        if self._worker is not None:
            return
        try:
            options = self.options()
            taken = registry.check_free(options.name, overwrite=True).exists()
        except HrstemDefectsError as error:
            self.status.setText(str(error))
            return
        question = (
            f"There is a classifier “{options.name}” already. Replace it by the one that is trained now?"
        )
        taken = taken or options.name in self._testing.values()
        if taken and not self._is_meant("Replace the classifier?", question):
            return
        self._cancel = threading.Event()
        self.plot.setValue([])
        self.status.setText("Training…")
        call = functools.partial(
            classifiers.train_and_add,
            kind=self._kind_name(),
            examples=self.images.value(),
            options=options,
            stopped=self._cancel.is_set,
        )
        worker = self._worker = TaskWorker(
            call,
            lambda result: self._returned(worker, result),
            reported=lambda report: self._reported(worker, report),
        )
        self._show_buttons()

    def _is_meant(self, title: str, question: str) -> bool:
        answer = QMessageBox.question(self, title, question)
        return bool(answer == QMessageBox.StandardButton.Yes)

    def _halt(self) -> None:
        """Stop what is under way."""
        if self._worker is None:
            return
        self._cancel.set()
        if not self.plot.value():
            self.status.setText("Stopping…")
            return
        # Testing goes on in the background; another training may be started.
        self._testing[self._worker] = str(self.name.value).strip()
        self._end(
            "Stopped. The best network so far is being tested and then added to the list of classifiers."
        )

    @property
    def training(self) -> bool:
        """Whether a training is under way."""
        return self._worker is not None

    def _reported(self, worker: TaskWorker, report: TrainingProgress) -> None:
        if worker is not self._worker:
            return  # one that was stopped
        self.bar.setValue(round(1000 * report.fraction))
        self.bar.setFormat(f"{report.network + ', ' if report.network else ''}{report.text}  %p %")
        if report.loss is not None and report.validation_loss is not None:
            self.plot.setValue([*self.plot.value(), (report.loss, report.validation_loss)])

    def _returned(self, worker: TaskWorker, result: Any) -> None:
        if isinstance(result, Failure):
            text = result.message
        elif isinstance(result, TrainingReport):
            text = classifiers.outcome(result)
        else:
            text = "Stopped before the first epoch was complete; nothing was kept."
        if worker is self._worker:
            self._end(text)
        else:
            self._testing.pop(worker, None)
            if self._worker is None:
                self.status.setText(text)
        if isinstance(result, TrainingReport):
            self.trained.emit(result.contract.name)
            if not self.isVisible():
                self._session.noticed.emit(
                    f"The classifier “{result.contract.name}” was added to the list and selected."
                )

    def _end(self, text: str) -> None:
        """The training is over."""
        self._worker = None
        self.bar.reset()
        self.bar.setFormat("")
        self._show_buttons()
        self.status.setText(text)

    def _show_buttons(self) -> None:
        """Training can be started where there are patches, and stopped while it is under way."""
        self.start.setEnabled(self._worker is None and self._trainable)
        self.stop.setEnabled(self._worker is not None)
