"""The panel *HRSTEM defects*: every step from an opened image to an exported mask."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, QTimer
from qtpy.QtGui import QKeySequence, QShortcut
from qtpy.QtWidgets import (
    QCheckBox,
    QFileDialog,
    QHBoxLayout,
    QInputDialog,
    QLabel,
    QMenu,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_hrstem_defects.widgets import classifiers, settings, summary
from napari_hrstem_defects.widgets.actions import CITATION, CITATION_URL, Actions, HelpDialog
from napari_hrstem_defects.widgets.contributions import PLUGIN, available_samples, is_ours
from napari_hrstem_defects.widgets.docks import SessionWidget
from napari_hrstem_defects.widgets.lattices import LatticesView, spacing_px
from napari_hrstem_defects.widgets.layers import is_in_frame
from napari_hrstem_defects.widgets.layout import Column, Wrapped, box, button, row
from napari_hrstem_defects.widgets.model import STEPS, Document, State
from napari_hrstem_defects.widgets.parameters import changed_names, is_read
from napari_hrstem_defects.widgets.parts import THRESHOLD, BestPatchView, StepGroup, ThresholdEditor, accent
from napari_hrstem_defects.widgets.plots import Plot
from napari_hrstem_defects.widgets.results import ResultsDock
from napari_hrstem_defects.widgets.roles import Role
from napari_hrstem_defects.widgets.source import pixel_size_nm
from napari_hrstem_defects.widgets.tasks import import_early
from napari_hrstem_defects.widgets.theme import boxes
from napari_hrstem_defects.widgets.view import Fit, Navigator
from napari_hrstem_defects.widgets.worker import Monitor, TaskWorker

if TYPE_CHECKING:
    import napari

    from napari_hrstem_defects.widgets.training import TrainDialog

#: Parameters beside the heading of their step.
_BESIDE = {"preprocess": "mode", "classify": "classify.classifier"}
_TOOLTIPS = {
    "calibrate": "Asks for a pixel size that the file does not state, or states wrongly; lengths are then given in nm.",
    "files": "Opens micrographs with their pixel size; dropping them on the window does the same",
    "samples": "Micrographs with known defects that come with the program",
    "patches": "Shows the patches and selects the brush: paint a patch defective (2) or non-defective (1). The eraser "
    "restores the automatic class.",
    "scan": "Classifies a sliding window with an FFT ensemble: layers of the classes, and types of the regions.",
    "train": "Trains a classifier on defects painted in open images.",
    "labels": "Selects the brush for the labels: 1 symmetry defect, 2 amorphous, 0 crystal. The table is updated.",
    "discard": "Removes all corrections of the labels of this image; Undo restores them.",
    "before": "Shows the labels without corrections, and back (U). Table and export are not affected.",
    "all frames": "Analyses every frame of the series; each chooses its best patch.",
    "this patch": "Analyses every frame of the series; the best patch of the frame shown serves all.",
    "auto": "Runs the steps that are out of date when a parameter, the best patch, a painted patch or the pixel size "
    "changes. On by default up to 2048 × 2048 px, or what File → Preferences says.",
}


class DefectsPanel(SessionWidget):
    """Dock widget with the whole pipeline.

    Parameters
    ----------
    napari_viewer : napari.Viewer
    """

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__(napari_viewer)
        self.actions_ = Actions(self.session)
        self.navigator = Navigator(self._viewer, self.session)
        self._training: TrainDialog | None = None
        self._help: HelpDialog | None = None
        self._build()
        self._lay_out()
        self.results = ResultsDock(self._viewer, self.session, self.navigator)
        self._colour()
        self._connect()
        self._begin()
        self._fit = Fit(self.session)
        self._links.connect(self._viewer.canvas.events.size, self._fit.follow)
        if self.session.document.regions():
            # The panel was closed and is opened again; once it has its own place.
            QTimer.singleShot(0, self._reopen)

        # Now rather than in the first run.
        def start(monitor: Monitor) -> list[str]:
            import_early()
            return classifiers.names()

        TaskWorker(start, self._offer_classifiers)

    # Parts ----------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        session, navigator, tips = self.session, self.navigator, _TOOLTIPS
        ask = session.edits.ask
        self.citation = QLabel()
        self.citation.setOpenExternalLinks(True)
        self.citation.setToolTip(f"<qt>Please cite {CITATION}, when you publish results.</qt>")
        self.help = QToolButton()
        self.help.setText("Help")
        self.help.setToolTip("What the steps do, and how to correct them by hand (F1)")
        self.info = Wrapped(name="about the image")
        self.calibrate = button("Pixel size…", tips["calibrate"], self._ask_pixel_size, fixed=False)
        samples = button("Open a sample", tips["samples"], fixed=False)
        menu = QMenu(samples)
        for key, name in available_samples():
            menu.addAction(name, functools.partial(self._viewer.open_sample, PLUGIN, key))
        samples.setMenu(menu)
        self.open = row(button("Open a file…", tips["files"], self._open_files, fixed=False), samples)
        self.groups = {step.name: StepGroup(step, _BESIDE.get(step.name), [THRESHOLD]) for step in STEPS}
        paint = functools.partial(navigator.take, Role.PATCHES, "paint")
        self.patches = button("Paint…", tips["patches"], paint, fixed=False)
        self.patch_count = Wrapped("–")
        self.scan = button("Scan…", tips["scan"], self._scan)
        self.train = button("Train…", tips["train"], self.show_training)
        self.best_patch, self.lattices = BestPatchView(), LatticesView()
        self.threshold = ThresholdEditor()
        self.region_count = Wrapped("–", "regions")
        self.paint_labels = button("Paint…", tips["labels"], navigator.paint_labels, fixed=False)
        self.discard = button(
            "Discard corrections", tips["discard"], functools.partial(ask, Document.ask, painted={})
        )
        self.before = button("", tips["before"], navigator.toggle_before)
        self.before.setCheckable(True)
        self.corrections = row(self.before, self.discard)
        series, fixed = session.runs.series, functools.partial(session.runs.series, fixed=True)
        self.frames = row(
            button("All frames", tips["all frames"], series, fixed=False),
            button("All frames, this patch", tips["this patch"], fixed, fixed=False),
        )
        self.auto = QCheckBox("Update at once")
        self.auto.setToolTip(f"<qt>{tips['auto']}</qt>")
        self.more = QToolButton()
        self.more.setText("More parameters…")
        self.more.setCheckable(True)
        self.more.setArrowType(Qt.ArrowType.RightArrow)
        self.more.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)

    def _lay_out(self) -> None:
        for step, part in (
            ("domains", self.lattices),
            ("classify", row(self.patch_count, self.scan, self.train, self.patches)),
            ("best_patch", self.best_patch),
            ("segment", self.threshold),
            ("segment", row(self.region_count, self.paint_labels)),
            ("segment", self.corrections),
        ):
            self.groups[step].addWidget(part)
        self.folded = QWidget()
        inner = box(QVBoxLayout(self.folded))
        for group in self.groups.values():
            if group.folded.editors:
                box(inner, QLabel(f"<b>{group.step.title}</b>"), group.folded)
        self.folded.hide()
        inside = QWidget()
        head = box(QHBoxLayout(), QLabel("Image"), self.image, stretch=1)
        lines = (
            box(QHBoxLayout(), head, self.citation, self.help, stretch=0),
            box(QHBoxLayout(), self.info, self.calibrate, stretch=0),
        )
        above = (*lines, self.open, self.run_row, self.messages)
        below = (self.frames, row(self.more, self.auto), self.folded, None)
        box(QVBoxLayout(inside), *above, *self.groups.values(), *below, margins=(6, 2, 6, 2), spacing=2)
        box(QVBoxLayout(self), Column(inside), self.actions_, margins=(0, 0, 0, 4), spacing=2)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)

    def _connect(self) -> None:
        session, navigator = self.session, self.navigator
        # Before the layers: both at once would hold up the window.
        self._links.connect(session.arriving, self.results.open_dock)
        for group in self.groups.values():
            group.runRequested.connect(self._run_step)
            group.valueChanged.connect(self._edit)
        self.threshold.valueChanged.connect(lambda value: self._edit(THRESHOLD, value))
        self.auto.clicked.connect(lambda on: setattr(session, "auto_update", on))
        self.more.toggled.connect(self._fold)
        self.lattices.verdictGiven.connect(functools.partial(session.edits.ask, Document.count_as))
        self.lattices.map.clicked.connect(navigator.show_lattices)
        for pressed, slot in (
            (self.help, self.show_help),
            (self.run_row.run, self._run_all),
            (self.best_patch.move_button, navigator.move_best_patch),
            (self.best_patch.automatic, functools.partial(session.edits.place, None)),
            (self.best_patch.undo, functools.partial(session.edits.ask, Document.undo)),
            (self.lattices.add, navigator.add_lattice),
            (self.lattices.move_button, functools.partial(navigator.take, Role.LATTICE_PATCHES, "select")),
            (self.lattices.calibrate, self._ask_spacing),
        ):
            pressed.clicked.connect(lambda _=False, slot=slot: slot())
        for keys, slot in (
            ("Ctrl+Return", self._run_next),
            ("Ctrl+Shift+Return", self._run_all),
            ("Ctrl+Shift+L", navigator.toggle_results),
            ("Ctrl+Shift+E", self.actions_.accept),
            ("F1", self.show_help),
            ("U", navigator.toggle_before),
            ("N", functools.partial(self.results.table.step, 1)),
            ("Shift+N", functools.partial(self.results.table.step, -1)),
            ("K", functools.partial(self.results.review, True)),
            ("Shift+K", functools.partial(self.results.review, False)),
        ):
            shortcut = QShortcut(QKeySequence(keys), self)
            shortcut.setContext(Qt.ShortcutContext.WindowShortcut)
            shortcut.activated.connect(slot)

    def _reopen(self) -> None:
        if self._docked and self.parent() is not None:
            self.results.open_dock()

    def disconnect_all(self) -> None:
        """End all connections to the viewer and its session."""
        self.navigator.show_before(False)
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

    def _open_files(self) -> None:
        chosen, _ = QFileDialog.getOpenFileNames(self, "Open micrographs", settings.recall("open"))
        for path in chosen:
            settings.remember("open", str(Path(path).parent))
            # Vendors' formats have our own reader; of the others the session looks the pixel size up.
            self._viewer.open(path, plugin=PLUGIN if is_ours(path) else "napari")

    def _run_next(self) -> None:
        step = self.session.next_step()
        if step is not None and not self.session.running:
            self._run_step(step)

    def _ask_pixel_size(self) -> None:
        if (layer := self.session.document.layer) is not None:
            text = "Edge of a pixel in nm:"
            if pixel_size_nm(layer) is None:
                text = f"{layer.name} states no pixel size. {text}"
            size, given = QInputDialog.getDouble(self, "Pixel size", text, 0.02, 1e-5, 1e3, 6)
            if given:
                self.session.set_pixel_size(layer, size)

    def _ask_spacing(self) -> None:
        session = self.session
        layer, found = session.document.layer, session.document.found(session.shown_frame())
        measured = spacing_px(found)
        if layer is None or measured is None:
            return
        size = pixel_size_nm(layer)
        now = "" if size is None else f", now {measured * size:.4g} nm"
        text = (
            f"Length a of the shortest lattice vector at the best patch, in nm (measured: {measured:.2f} px{now}).\n"
            "In a projection this may differ from the edge of the unit cell."
        )
        shown = 0.4 if size is None else measured * size
        title = "Calibrate from a known spacing"
        spacing, given = QInputDialog.getDouble(self, title, text, shown, 0.01, 1e3, 5)
        if given:
            session.set_pixel_size(layer, spacing / measured, spacing)

    def _fold(self, shown: bool) -> None:
        self.folded.setVisible(shown)
        self.more.setArrowType(Qt.ArrowType.DownArrow if shown else Qt.ArrowType.RightArrow)

    def show_training(self) -> TrainDialog:
        """Open the dialog that trains a classifier; one at a time."""
        from napari_hrstem_defects.widgets.training import TrainDialog

        if self._training is None:
            self._training = TrainDialog(self.session, self)
            self._colour()
            self._training.trained.connect(self._trained)
        self._training.show()
        self._training.raise_()
        return self._training

    def _trained(self, name: str) -> None:
        self._offer_classifiers(classifiers.names())
        self._edit("classify.classifier", name)
        self.session.invalidate(name)

    def _scan(self) -> None:
        known = classifiers.ensembles()
        if not known:
            self.session.noticed.emit(
                "A scan needs an FFT ensemble; train one with Train…, or add one with hrstem-defects models --add FILE."
            )
        elif len(known) == 1:
            self.session.runs.scan(known[0].path)
        else:
            menu = QMenu(self.scan)
            for entry in known:
                menu.addAction(entry.name, functools.partial(self.session.runs.scan, entry.path))
            menu.popup(self.scan.mapToGlobal(self.scan.rect().bottomLeft()))

    def show_help(self) -> None:
        """Open the page of help; one at a time."""
        if self._help is None:
            self._help = HelpDialog(self)
        self._help.show()
        self._help.raise_()

    # What is shown --------------------------------------------------------------------------------------------

    def _offer_classifiers(self, names: Any) -> None:
        if isinstance(names, list):
            editor, recipe = self.groups["classify"].editors["classify.classifier"], self.session.recipe
            editor.setChoices((name, name) for name in dict.fromkeys([*names, recipe.classify.classifier]))

    def _show_recipe(self) -> None:
        recipe = self.session.recipe
        for group in self.groups.values():
            group.setValue(recipe)
        self.threshold.setValue(recipe)
        self.lattices.setVisible(recipe.mode == "lattice")
        self.threshold.setVisible(recipe.mode == "lattice")
        folded = {name for group in self.groups.values() for name in group.folded.editors}
        changed = sum(is_read(name, recipe.mode) for name in folded.intersection(changed_names(recipe)))
        self.more.setText("More parameters…" + (f" ({changed} changed)" if changed else ""))

    def _show(self) -> None:
        super()._show()
        self.navigator.follow_before()
        session, frame = self.session, self.session.shown_frame()
        document, states, running = session.document, session.states(), session.running
        found, opened = document.found(frame), document.layer is not None
        size = None if document.layer is None else pixel_size_nm(document.layer)
        following = None if running else session.next_step()
        nothing = all(state is State.EMPTY for state in states.values())
        accent(self.run_row.run, self._colours if nothing and opened else None)
        for name, group in self.groups.items():
            placed = name == "best_patch" and document.point is not None and states[name] is State.CURRENT
            note = "placed by hand" if placed else None
            group.setState(states[name], self._colours, note, name == following and not nothing)
            group.button.setEnabled(not running)
        self.info.setText(summary.about_image(document, found))
        unknown = opened and size is None
        self.calibrate.setVisible(unknown or bool(summary.about_pixel_size(document)))
        self.open.setVisible(not opened)
        self.patch_count.setText(summary.about_patches(document, found))
        self.region_count.setText(summary.about_regions(document, frame))
        self.best_patch.place.setText(summary.about_best_patch(document, found))
        self.best_patch.automatic.setEnabled(document.point is not None)
        self.best_patch.undo.setEnabled(bool(document.history))
        self.best_patch.filters.setFilters(None if found is None else found.filters)
        lattices = session.layer(Role.LATTICES)
        mapped = lattices is not None and lattices.visible
        self.lattices.setValue(found, document.intact(frame), size, mapped=mapped)
        self.threshold.setHistogram(None if found is None else found.histogram)
        # Without the layer, or in a frame that it does not show, there is nothing to move or paint.
        for role, tool in (
            (Role.PATCHES, self.patches),
            (Role.BEST_PATCH, self.best_patch.move_button),
            (Role.LABELS, self.paint_labels),
        ):
            layer = session.layer(role)
            tool.setEnabled(layer is not None and is_in_frame(layer, frame))
        self.corrections.setVisible(bool(document.by_hand.painted))
        before = session.layer(Role.LABELS_BEFORE) is not None
        self.before.setChecked(before)
        self.before.setText("Back to corrected" if before else "Show before")
        self.frames.setVisible(document.is_stack)
        self.auto.setChecked(session.auto_update)
        self.results.refresh()

    def _theme_changed(self) -> None:
        super()._theme_changed()
        self._colour()

    def _colour(self) -> None:
        """Give all parts, those of the dialog as well, the colours of the theme."""
        # Links in the colour of the text, underlined: the default blue cannot be read on a dark ground.
        link = f"<a style='color:{self._colours.text.name()}' href='{CITATION_URL}'>Dennler 2021</a>"
        self.citation.setText(f"<small>Cite {link}</small>")
        self.setStyleSheet(boxes(self._colours))
        for part in (self, self.results.widget):
            for plot in part.findChildren(Plot):
                plot.setColours(self._colours)
