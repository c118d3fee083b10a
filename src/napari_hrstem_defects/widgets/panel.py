"""The panel *HRSTEM defects*: every step from an opened image to an exported mask."""

from __future__ import annotations

import dataclasses
import threading
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, Qt
from qtpy.QtGui import QKeySequence, QShortcut
from qtpy.QtWidgets import (
    QCheckBox,
    QHBoxLayout,
    QInputDialog,
    QLabel,
    QPushButton,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_hrstem_defects.widgets import settings, summary
from napari_hrstem_defects.widgets.actions import UNKNOWN_SIZE, Actions, Footer
from napari_hrstem_defects.widgets.best_patch_view import BestPatchView
from napari_hrstem_defects.widgets.head import Header, ImageChooser, Messages, RunRow
from napari_hrstem_defects.widgets.help import HelpDialog
from napari_hrstem_defects.widgets.layout import Column, row
from napari_hrstem_defects.widgets.links import Links
from napari_hrstem_defects.widgets.navigation import Navigator
from napari_hrstem_defects.widgets.parameters import ParameterGrid, names_of
from napari_hrstem_defects.widgets.results_dock import ResultsDock
from napari_hrstem_defects.widgets.session import session_of
from napari_hrstem_defects.widgets.source import set_pixel_size
from napari_hrstem_defects.widgets.step_group import StepGroup, accent
from napari_hrstem_defects.widgets.steps import STEPS, TITLES, State
from napari_hrstem_defects.widgets.task import import_early
from napari_hrstem_defects.widgets.theme import colours
from napari_hrstem_defects.widgets.threshold import ThresholdEditor

if TYPE_CHECKING:
    import napari

#: Parameters with a place of their own.
_ELSEWHERE = ("segment.threshold",)
#: Parameters beside the heading of their step.
_BESIDE = {
    "preprocess": "preprocess.method",
    "classify": "classify.classifier",
    "symmetry": "symmetry.method",
    "variance": "variance.method",
    "segment": "segment.method",
}
#: A change of these is followed by a run at once: it takes a fraction of a second.
_LIVE = frozenset(("symmetry", "domains", "variance", "segment"))


class DefectsPanel(QWidget):
    """Dock widget with the whole pipeline.

    Parameters
    ----------
    napari_viewer : napari.Viewer
    """

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__()
        self._viewer = getattr(napari_viewer, "__wrapped__", napari_viewer)
        self.session = session_of(self._viewer)
        self.actions_ = Actions(self.session)
        self._links = Links()
        self._docked = False
        self._notice: str | None = None
        self._colours = colours(self._viewer)
        self._build()
        self.navigator = Navigator(self._viewer, self.session)
        self.results = ResultsDock(self._viewer, self.session, self._colours)
        self._connect()
        if not self.session.ready:
            self.session.ready = True
            self.session.recipe = settings.recall_recipe()
        self._show_recipe()
        self._show_images()
        self._show()
        # Now, while the person looks at the panel, rather than in the first run.
        threading.Thread(target=import_early, daemon=True).start()

    # Parts ----------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        self.header = Header()
        self.header.setColours(self._colours)
        self.image = ImageChooser()
        self.info = QLabel()
        self.info.setAccessibleName("about the image")
        self.info.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.calibrate = QPushButton("Pixel size…")
        self.calibrate.setToolTip(
            "<qt>Takes the pixel size from the file, or else asks for it: lengths are then given in nm.</qt>"
        )
        self.run_row = RunRow()
        self.messages = Messages()
        self.groups = {
            step.name: StepGroup(
                step,
                [name for name in _names(step.name, shown=True) if name not in _ELSEWHERE],
                _BESIDE.get(step.name),
            )
            for step in STEPS
        }
        self.patches = QPushButton("Paint…")
        self.patches.setToolTip(
            "<qt>Shows the patches and takes the brush: paint a patch defective (2) or clean (1). The eraser gives it "
            "back to the classifier.</qt>"
        )
        self.patch_count = QLabel("–")
        self.groups["classify"].addWidget(row(self.patch_count, self.patches))
        self.best_patch = BestPatchView()
        self.groups["best_patch"].addWidget(self.best_patch)
        self.threshold = ThresholdEditor(self._colours)
        self.groups["segment"].addWidget(self.threshold)
        self.region_count = QLabel("–")
        self.region_count.setAccessibleName("regions")
        self.paint_labels = QPushButton("Paint…")
        self.paint_labels.setToolTip(
            "<qt>Takes the brush on the labels: 1 symmetry defect, 2 amorphous, 0 crystal. The table follows.</qt>"
        )
        self.groups["segment"].addWidget(row(self.region_count, self.paint_labels))
        self.frames = row(
            self._frames_button("All frames", fixed=False),
            self._frames_button("All frames, this patch", fixed=True),
        )
        self.auto = QCheckBox("Update at once")
        self.auto.setToolTip(
            "<qt>Runs what is out of date as soon as the best patch, a painted patch or the threshold changes. On by "
            "default up to 2048 × 2048 px.</qt>"
        )
        self.more = QToolButton()
        self.more.setText("More parameters…")
        self.more.setCheckable(True)
        self.more.setArrowType(Qt.ArrowType.RightArrow)
        self.more.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.more.toggled.connect(self._fold)
        self.folded = QWidget()
        inner = QVBoxLayout(self.folded)
        inner.setContentsMargins(0, 0, 0, 0)
        self.grids = {}
        for step in STEPS:
            names = _names(step.name, shown=False)
            if names:
                inner.addWidget(QLabel(f"<b>{TITLES[step.name]}</b>"))
                self.grids[step.name] = ParameterGrid(names, columns=1)
                inner.addWidget(self.grids[step.name])
        self.folded.hide()
        self.footer = Footer(self.actions_, self.session)
        self._lay_out()

    def _lay_out(self) -> None:
        inside = QWidget()
        body = QVBoxLayout(inside)
        body.setContentsMargins(6, 2, 6, 2)
        body.setSpacing(4)
        about = QHBoxLayout()
        about.addWidget(self.info, 1)
        about.addWidget(self.calibrate)
        body.addWidget(self.header)
        body.addWidget(self.image)
        body.addLayout(about)
        body.addWidget(self.run_row)
        body.addWidget(self.messages)
        for group in self.groups.values():
            body.addWidget(group)
        body.addWidget(self.frames)
        body.addWidget(row(self.more, self.auto))
        body.addWidget(self.folded)
        body.addStretch(1)
        area = Column(inside)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 4)
        layout.setSpacing(2)
        layout.addWidget(area)
        layout.addWidget(self.footer)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)

    def _frames_button(self, text: str, *, fixed: bool) -> QPushButton:
        button = QPushButton(text)
        button.setToolTip(
            "<qt>Analyses every frame of the series; "
            + (
                "the best patch of the frame shown serves all.</qt>"
                if fixed
                else "each chooses its best patch.</qt>"
            )
        )
        button.clicked.connect(lambda: self.actions_.run_series(fixed=fixed))
        return button

    # Connections ----------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        session, link = self.session, self._links.connect
        link(session.changed, self._show)
        link(session.image_changed, self._show_images)
        link(session.recipe_changed, self._show_recipe)
        link(session.progressed, self.run_row.setProgress)
        link(session.finished, self._finished)
        link(session.failed, self._failed)
        link(session.noticed, self._noticed)
        link(self._viewer.events.theme, self._theme_changed)
        self.header.helpRequested.connect(self.show_help)
        self.image.valueChanged.connect(self._choose)
        self.run_row.runRequested.connect(self._run_all)
        self.run_row.cancelRequested.connect(session.runs.cancel)
        for group in self.groups.values():
            group.runRequested.connect(self._run_step)
            group.valueChanged.connect(self._edit)
        for grid in self.grids.values():
            grid.valueChanged.connect(self._edit)
        self.threshold.valueChanged.connect(lambda value: self._edit("segment.threshold", value))
        self.threshold.slider.sliderReleased.connect(session.runs.update)
        self.auto.clicked.connect(lambda on: setattr(session, "auto_update", on))
        self.best_patch.moveRequested.connect(self.navigator.move_best_patch)
        self.best_patch.automaticRequested.connect(lambda: session.edits.place(None))
        self.best_patch.undoRequested.connect(session.edits.undo)
        self.calibrate.clicked.connect(self._calibrate)
        self.patches.clicked.connect(lambda: self.navigator.paint_patches())
        self.paint_labels.clicked.connect(lambda: self.navigator.paint_labels())
        for keys, slot in (
            ("Ctrl+Return", self._run_next),
            ("Ctrl+Shift+Return", self._run_all),
            ("Ctrl+Shift+L", self.navigator.toggle_results),
            ("F1", self.show_help),
        ):
            shortcut = QShortcut(QKeySequence(keys), self)
            shortcut.setContext(Qt.ShortcutContext.WindowShortcut)
            shortcut.activated.connect(slot)

    def event(self, event: Any) -> bool:
        """Let go of everything when the dock is closed: napari then takes the panel out of it."""
        if event.type() == QEvent.Type.ParentChange:
            if self.parent() is not None:
                self._docked = True
            elif self._docked:
                self.disconnect_all()
        return super().event(event)

    def disconnect_all(self) -> None:
        """End all connections to the viewer and its session."""
        self._links.clear()
        self.results.close_dock()

    # What a person does ---------------------------------------------------------------------------------------

    def _choose(self, unique_id: str) -> None:
        self._notice = None
        layer = next((image for image in self.session.images() if str(image.unique_id) == unique_id), None)
        self.session.choose(layer)

    def _run_all(self) -> None:
        self._notice = None
        self.session.runs.all()

    def _run_step(self, step: str) -> None:
        self._notice = None
        self.session.runs.step(step)

    def _run_next(self) -> None:
        step = self.session.next_step()
        if step is not None and not self.session.running:
            self._run_step(step)

    def _edit(self, name: str, value: Any) -> None:
        step, _, key = name.partition(".")
        recipe = self.session.recipe
        params = dataclasses.replace(getattr(recipe, step), **{key: value})
        self.session.recipe = dataclasses.replace(recipe, **{step: params})
        if name == "segment.threshold" and self.threshold.slider.isSliderDown():
            self.session.runs.preview()
        elif step in _LIVE:
            self.session.runs.update()

    def _calibrate(self) -> None:
        document = self.session.document
        layer = None if document is None else document.layer
        if layer is None:
            return
        if layer.source.path is not None and self._notice != UNKNOWN_SIZE:
            self.actions_.take_pixel_size()
            return
        size, given = QInputDialog.getDouble(self, "Pixel size", "Edge of a pixel in nm", 0.02, 1e-5, 1e3, 6)
        if given:
            set_pixel_size(layer, size)

    def _fold(self, shown: bool) -> None:
        self.folded.setVisible(shown)
        self.more.setArrowType(Qt.ArrowType.DownArrow if shown else Qt.ArrowType.RightArrow)

    def show_help(self) -> None:
        """Open the page of help."""
        HelpDialog(self).show()

    # What is shown --------------------------------------------------------------------------------------------

    def _show_images(self) -> None:
        self.image.setChoices([(str(image.unique_id), image.name) for image in self.session.images()])
        document = self.session.document
        self.image.setValue("" if document is None else document.source_id)
        self.info.setText(summary.about_image(document))

    def _show_recipe(self) -> None:
        recipe = self.session.recipe
        for group in self.groups.values():
            group.setValue(recipe)
        for grid in self.grids.values():
            grid.setValue(recipe)
        hysteresis = recipe.segment.method == "hysteresis"
        self.threshold.setValue(recipe.segment.threshold, recipe.segment.low if hysteresis else None)
        self.threshold.setEnabled(hysteresis)
        settings.remember_recipe(recipe)

    def _show(self) -> None:
        session = self.session
        document, states, running = session.document, session.states(), session.running
        self.run_row.setRunning(running)
        following = None if running else session.next_step()
        nothing = all(state is State.EMPTY for state in states.values())
        accent(self.run_row.run, self._colours if nothing and document is not None else None)
        for name, group in self.groups.items():
            note = (
                "placed by hand" if name == "best_patch" and summary.by_hand(document, states[name]) else None
            )
            group.setState(states[name], self._colours, note, name == following and not nothing)
            group.button.setEnabled(not running)
        self.info.setText(summary.about_image(document))
        self.calibrate.setVisible(document is not None and summary.has_no_pixel_size(document))
        self.patch_count.setText(summary.about_patches(document))
        self.region_count.setText(summary.about_regions(document, session.document_frame()))
        has_patch = (
            document is not None
            and document.analysis is not None
            and document.analysis.best_patch is not None
        )
        self.best_patch.setPlace(
            summary.about_best_patch(document),
            by_hand=document is not None and document.point is not None,
            undoable=document is not None and bool(document.history),
            movable=has_patch,
        )
        banks = () if document is None or document.analysis is None else document.analysis.banks
        self.best_patch.filters.setFilters(banks[0].filters if banks else None)
        self.threshold.setHistogram(None if document is None else document.histogram)
        shown = () if document is None else document.shown
        self.patches.setEnabled("classify" in shown)
        self.paint_labels.setEnabled("segment" in shown)
        self.frames.setVisible(document is not None and document.is_stack)
        self.auto.setChecked(session.auto_update)
        error, warnings = summary.messages(document, self._notice)
        self.messages.setMessages(error, warnings, self._colours)
        self.results.refresh()

    def _finished(self) -> None:
        self._show()
        self.results.open_dock()

    def _failed(self, message: str) -> None:
        from napari.utils.notifications import show_error

        document = self.session.document
        if document is None or document.failed is None:
            self._notice = message
        self._show()
        show_error(message)

    def _noticed(self, message: str) -> None:
        from napari.utils.notifications import show_info

        self._notice = message
        self._show()
        show_info(message)

    def _theme_changed(self) -> None:
        self._colours = colours(self._viewer)
        self.header.setColours(self._colours)
        self.threshold.histogram.setColours(self._colours)
        self.results.setColours(self._colours)
        self._show()


def _names(step: str, *, shown: bool) -> list[str]:
    """Parameters of a step of the panel."""
    parts = ("symmetry", "domains") if step == "symmetry" else (step,)
    return [name for part in parts for name in names_of(part, shown=shown)]
