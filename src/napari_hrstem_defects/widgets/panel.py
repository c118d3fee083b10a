"""The panel *HRSTEM defects*: every step from an opened image to an exported mask."""

from __future__ import annotations

import functools
import threading
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, QTimer
from qtpy.QtGui import QKeySequence, QShortcut
from qtpy.QtWidgets import (
    QCheckBox,
    QHBoxLayout,
    QInputDialog,
    QLabel,
    QMenu,
    QPushButton,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_hrstem_defects.widgets import summary, threshold
from napari_hrstem_defects.widgets.actions import Actions, Footer
from napari_hrstem_defects.widgets.best_patch_view import BestPatchView
from napari_hrstem_defects.widgets.head import Header
from napari_hrstem_defects.widgets.help import HelpDialog
from napari_hrstem_defects.widgets.lattices_view import LatticesView
from napari_hrstem_defects.widgets.layout import Column, Wrapped, fixed_button, row
from napari_hrstem_defects.widgets.navigation import Fit, Navigator
from napari_hrstem_defects.widgets.parameters import (
    ParameterGrid,
    changed_names,
    is_read,
    step_parameters,
)
from napari_hrstem_defects.widgets.results_dock import ResultsDock
from napari_hrstem_defects.widgets.roles import Role
from napari_hrstem_defects.widgets.session_widget import SessionWidget
from napari_hrstem_defects.widgets.step_group import StepGroup, accent
from napari_hrstem_defects.widgets.steps import STEPS, TITLES, State
from napari_hrstem_defects.widgets.task import import_early

if TYPE_CHECKING:
    import napari

    from napari_hrstem_defects.widgets.training import TrainDialog

#: Parameters with a place of their own.
_ELSEWHERE = (threshold.NAME,)
#: Parameters beside the heading of their step.
_BESIDE = {"preprocess": "mode", "classify": "classify.classifier"}


class DefectsPanel(SessionWidget):
    """Dock widget with the whole pipeline.

    Parameters
    ----------
    napari_viewer : napari.Viewer
    """

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__(napari_viewer)
        self.actions_ = Actions(self.session)
        self._training: TrainDialog | None = None
        self._help: HelpDialog | None = None
        self._build()
        self.navigator = Navigator(self._viewer, self.session)
        self.results = ResultsDock(self._viewer, self.session, self._colours)
        self._connect()
        self._show_classifiers()
        self._begin()
        self._fit = Fit(self._viewer)
        self._links.connect(self._viewer.canvas.events.size, self._fit.follow)
        if self.session.document is not None and self.session.document.regions():
            # The panel was closed and is opened again; once it has its own place.
            QTimer.singleShot(0, self._reopen)
        # Now, while the person looks at the panel, rather than in the first run.
        threading.Thread(target=import_early, daemon=True).start()

    # Parts ----------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        self.header = Header()
        self.header.setColours(self._colours)
        self.info = Wrapped()
        self.info.setAccessibleName("about the image")
        self.calibrate = QPushButton("Pixel size…")
        self.calibrate.setToolTip(
            "<qt>Takes the pixel size from the file, or else asks for it: lengths are then given in nm.</qt>"
        )
        self.groups = {
            step.name: StepGroup(
                step,
                [name for name in step_parameters(step.name, shown=True) if name not in _ELSEWHERE],
                _BESIDE.get(step.name),
            )
            for step in STEPS
        }
        self.patches = QPushButton("Paint…")
        self.patches.setToolTip(
            "<qt>Shows the patches and takes the brush: paint a patch defective (2) or clean (1). The eraser gives it "
            "back to the classifier.</qt>"
        )
        self.patch_count = Wrapped("–")
        self.scan = fixed_button(
            "Scan…",
            "Slides an FFT ensemble over the image: its classes become layers, and types of the regions.",
        )
        self.train = fixed_button(
            "Train…", "Makes a classifier of your own from defects painted on open images."
        )
        self.groups["classify"].addWidget(row(self.patch_count, self.scan, self.train, self.patches))
        self.best_patch = BestPatchView()
        self.groups["best_patch"].addWidget(self.best_patch)
        self.lattices = LatticesView()
        self.lattices.setColours(self._colours)
        self.groups["domains"].addWidget(self.lattices)
        self.threshold = threshold.ThresholdEditor(self._colours)
        self.groups["segment"].addWidget(self.threshold)
        self.region_count = Wrapped("–")
        self.region_count.setAccessibleName("regions")
        self.paint_labels = QPushButton("Paint…")
        self.paint_labels.setToolTip(
            "<qt>Takes the brush on the labels: 1 symmetry defect, 2 amorphous, 0 crystal. The table follows.</qt>"
        )
        self.discard = fixed_button(
            "Discard corrections",
            "Forgets what was painted over the labels of this image; Undo brings it back.",
        )
        self.groups["segment"].addWidget(row(self.region_count, self.discard, self.paint_labels))
        self.frames = row(
            self._frames_button("All frames", fixed=False),
            self._frames_button("All frames, this patch", fixed=True),
        )
        self.auto = QCheckBox("Update at once")
        self.auto.setToolTip(
            "<qt>Runs what is out of date as soon as a parameter, the best patch, a painted patch or the pixel size "
            "changes. On by default up to 2048 × 2048 px.</qt>"
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
            names = step_parameters(step.name, shown=False)
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
        body.setSpacing(2)
        about = QHBoxLayout()
        about.addWidget(self.info, 1)
        about.addWidget(self.calibrate)
        top = QHBoxLayout()
        top.addWidget(self.image, 1)
        top.addWidget(self.header)
        body.addLayout(top)
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
        button.clicked.connect(lambda: self.session.runs.series(fixed=fixed))
        return button

    # Connections ----------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        session = self.session
        # Before the layers: both at once would hold up the window.
        self._links.connect(session.arriving, self.results.open_dock)
        self.header.helpRequested.connect(self.show_help)
        self.run_row.runRequested.connect(self._run_all)
        for group in self.groups.values():
            group.runRequested.connect(self._run_step)
            group.valueChanged.connect(self._edit)
        for grid in self.grids.values():
            grid.valueChanged.connect(self._edit)
        self.threshold.valueChanged.connect(lambda value: self._edit(threshold.NAME, value))
        self.auto.clicked.connect(lambda on: setattr(session, "auto_update", on))
        self.best_patch.moveRequested.connect(self.navigator.move_best_patch)
        self.best_patch.automaticRequested.connect(lambda: session.edits.place(None))
        self.best_patch.undoRequested.connect(session.edits.undo)
        self.discard.clicked.connect(session.edits.discard)
        self.lattices.verdictGiven.connect(session.edits.count_as)
        self.lattices.addRequested.connect(self.navigator.add_lattice)
        self.lattices.moveRequested.connect(self.navigator.move_lattices)
        self.lattices.mapRequested.connect(self.navigator.show_lattices)
        self.calibrate.clicked.connect(self._calibrate)
        self.patches.clicked.connect(lambda: self.navigator.paint_patches())
        self.train.clicked.connect(lambda: self.show_training())
        self.scan.clicked.connect(lambda: self._scan())
        self.paint_labels.clicked.connect(lambda: self.navigator.paint_labels())
        for keys, slot in (
            ("Ctrl+Return", self._run_next),
            ("Ctrl+Shift+Return", self._run_all),
            ("Ctrl+Shift+L", self.navigator.toggle_results),
            ("Ctrl+Shift+E", self.footer.accept),
            ("F1", self.show_help),
        ):
            shortcut = QShortcut(QKeySequence(keys), self)
            shortcut.setContext(Qt.ShortcutContext.WindowShortcut)
            shortcut.activated.connect(slot)

    def _reopen(self) -> None:
        if self._docked and self.parent() is not None:
            self.results.open_dock()

    def disconnect_all(self) -> None:
        """End all connections to the viewer and its session."""
        super().disconnect_all()
        self.results.close_dock()
        if self._training is not None:
            self._training.disconnect_all()

    # What a person does ---------------------------------------------------------------------------------------

    def _run_all(self) -> None:
        self._notice = None
        self.results.offer()
        self.session.runs.all()

    def _run_step(self, step: str) -> None:
        self.results.offer()
        super()._run_step(step)

    def _run_next(self) -> None:
        step = self.session.next_step()
        if step is not None and not self.session.running:
            self._run_step(step)

    def _calibrate(self) -> None:
        # Later: a dialog shall not hold up the run that looked into the file.
        self.actions_.take_pixel_size(lambda: QTimer.singleShot(0, self._ask_pixel_size))

    def _ask_pixel_size(self) -> None:
        document = self.session.document
        layer = None if document is None else document.layer
        if layer is None:
            return
        size, given = QInputDialog.getDouble(self, "Pixel size", "Edge of a pixel in nm", 0.02, 1e-5, 1e3, 6)
        if given:
            self.actions_.set_pixel_size(layer, size)

    def _fold(self, shown: bool) -> None:
        self.folded.setVisible(shown)
        self.more.setArrowType(Qt.ArrowType.DownArrow if shown else Qt.ArrowType.RightArrow)

    def show_training(self) -> TrainDialog:
        """Open the dialog that trains a classifier; one at a time."""
        from napari_hrstem_defects.widgets.training import TrainDialog

        if self._training is None:
            self._training = TrainDialog(self.session, self._colours, self)
            self._training.trained.connect(self._trained)
        self._training.show()
        self._training.raise_()
        return self._training

    def _trained(self, name: str) -> None:
        self._show_classifiers()
        self._edit("classify.classifier", name)
        self.session.judged_anew(name)

    def _scan(self) -> None:
        from napari_hrstem_defects.widgets.classifiers import ensembles

        known = ensembles()
        if not known:
            self.session.noticed.emit(
                "Scanning takes an FFT ensemble; train one with Train…, or put one into the list with "
                "hrstem-defects models --add FILE."
            )
        elif len(known) == 1:
            self.actions_.scan(known[0].path)
        else:
            menu = QMenu(self.scan)
            for entry in known:
                menu.addAction(entry.name, functools.partial(self.actions_.scan, entry.path))
            menu.popup(self.scan.mapToGlobal(self.scan.rect().bottomLeft()))

    def show_help(self) -> None:
        """Open the page of help; one at a time."""
        if self._help is None:
            self._help = HelpDialog(self)
        self._help.show()
        self._help.raise_()

    # What is shown --------------------------------------------------------------------------------------------

    def _show_images(self) -> None:
        super()._show_images()
        self.info.setText(summary.about_image(self.session.document))

    def _show_classifiers(self) -> None:
        from napari_hrstem_defects.widgets.classifiers import names

        self.groups["classify"].method.editors["classify.classifier"].setChoices(names())

    def _show_recipe(self) -> None:
        recipe = self.session.recipe
        for group in self.groups.values():
            group.setValue(recipe)
        for grid in self.grids.values():
            grid.setValue(recipe)
        self.threshold.setValue(recipe)
        self.lattices.setVisible(recipe.mode == "lattice")
        self.threshold.setVisible(recipe.mode == "lattice")
        folded = {name for grid in self.grids.values() for name in grid.editors if is_read(name, recipe.mode)}
        changed = len(folded.intersection(changed_names(recipe)))
        self.more.setText("More parameters…" + (f" ({changed} changed)" if changed else ""))

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
        seen = None if document is None else document.at(session.document_frame())
        self.info.setText(summary.about_image(seen))
        self.calibrate.setVisible(document is not None and summary.has_no_pixel_size(document))
        self.patch_count.setText(summary.about_patches(seen))
        self.region_count.setText(summary.about_regions(document, session.document_frame()))
        has_patch = self.navigator.layer(Role.BEST_PATCH) is not None
        self.best_patch.setPlace(
            summary.about_best_patch(seen),
            by_hand=document is not None and document.point is not None,
            undoable=document is not None and bool(document.history),
            movable=has_patch,
        )
        banks = () if seen is None or seen.analysis is None else seen.analysis.banks
        self.best_patch.filters.setFilters(banks[0].filters if banks else None)
        self.lattices.setValue(summary.lattices(seen))
        lattice_map = self.navigator.layer(Role.LATTICES)
        self.lattices.setState(
            count=summary.lattice_count(seen),
            mapped=lattice_map is not None and lattice_map.visible,
        )
        self.threshold.setHistogram(None if seen is None else seen.histogram)
        # Without the layer there is nothing to paint: a run makes it again.
        self.patches.setEnabled(self.navigator.layer(Role.PATCHES) is not None)
        self.discard.setVisible(document is not None and bool(document.by_hand.painted))
        self.paint_labels.setEnabled(self.navigator.layer(Role.LABELS) is not None)
        self.frames.setVisible(document is not None and document.is_stack)
        self.auto.setChecked(session.auto_update)
        error, warnings = summary.messages(document)
        self.messages.setMessages(error, warnings, self._colours, self._notice)
        self.results.refresh()

    def _finished(self) -> None:
        super()._finished()
        self.results.open_dock()

    def _theme_changed(self) -> None:
        super()._theme_changed()
        self.header.setColours(self._colours)
        self.lattices.setColours(self._colours)
        self.threshold.histogram.setColours(self._colours)
        if self._training is not None:
            self._training.setColours(self._colours)
        self.results.setColours(self._colours)
