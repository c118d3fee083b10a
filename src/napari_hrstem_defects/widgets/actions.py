"""Export, recipes and rating: what the buttons at the bottom of the panel do."""

from __future__ import annotations

import dataclasses
import functools
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QMenu, QMessageBox, QPushButton, QWidget

from napari_hrstem_defects.core.errors import HrstemDefectsError, RecipeError
from napari_hrstem_defects.core.recipe import Recipe
from napari_hrstem_defects.widgets import export, placing, settings
from napari_hrstem_defects.widgets.classifiers import Scanned, scan_image
from napari_hrstem_defects.widgets.folder import FolderDialog, FolderJob, about, run_folder
from napari_hrstem_defects.widgets.rating import RATINGS, append_rating
from napari_hrstem_defects.widgets.roles import tag
from napari_hrstem_defects.widgets.runs import NO_IMAGE
from napari_hrstem_defects.widgets.source import UNKNOWN_SIZE, Source, calibrate, size_in_file

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_hrstem_defects.batch import Row
    from napari_hrstem_defects.core.pipeline import Analysis
    from napari_hrstem_defects.widgets.session import Session

_OUT_OF_DATE = " Some steps are out of date (◐): what they found before was written."
_JSON = "Recipes (*.json)"


class Actions:
    """What can be done with a result, without any dialog.

    Parameters
    ----------
    session : Session
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    def export(self, parent: Path, *, overwrite: bool = False, all_frames: bool = False) -> Path | None:
        """Write the result into a new folder below `parent`, in the background.

        Returns
        -------
        Path or None
            The folder; None if there is nothing to write.
        """
        session = self._session
        document, analysis = session.document, self.result("export")
        if document is None or document.layer is None or analysis is None:
            return None
        said = _OUT_OF_DATE if session.outdated() else ""
        source = Source.of(document.layer, document.frame)
        folder = parent / export.folder_name(source.name)
        call: Any
        if all_frames and document.is_stack:
            inputs = session.inputs(document)
            if document.series is not None:
                inputs = dataclasses.replace(document.series.inputs, painted=inputs.painted)
            call = functools.partial(
                export.export_series,
                source=source,
                inputs=inputs,
                folder=folder,
                overwrite=overwrite,
                class_maps=dict(document.class_maps),
                process=session.keras,
            )
        else:
            call = functools.partial(
                export.export_image, analysis=analysis, folder=folder, overwrite=overwrite
            )
        session.runs.background(
            call, lambda path: session.noticed.emit(f"The result was written to {path}.{said}"), "writing"
        )
        return folder

    def result(self, purpose: str) -> Analysis | None:
        """The result as it stands; where it is not complete a person is told so, and None is returned.

        Parameters
        ----------
        purpose : str
            What it is wanted for: "export", "rate".
        """
        document = self._session.document
        found = None if document is None else document.result()
        if found is None or not found.is_complete:
            self._session.noticed.emit(f"There is no complete result to {purpose} yet; press Run all first.")
            return None
        return found

    def take_pixel_size(self, unknown: Callable[[], None]) -> None:
        """Give the chosen image the pixel size that its file tells; napari's own readers do not look at it.

        Parameters
        ----------
        unknown : callable
            Called if no file tells it.
        """
        session = self._session
        document = session.document
        layer = None if document is None else document.layer
        if layer is None:
            return
        if layer.source.path is None:
            unknown()
            return
        path, known = layer.source.path, weakref.ref(layer)

        def apply(size: float | None) -> None:
            if (image := known()) is None:
                return
            if size is None:
                session.noticed.emit(UNKNOWN_SIZE)
                unknown()
            else:
                self.set_pixel_size(image, size, by_hand=False)

        session.runs.background(lambda monitor: size_in_file(path), apply, "reading the pixel size")

    def set_pixel_size(self, layer: Image, size_nm: float, *, by_hand: bool = True) -> None:
        """Calibrate an image; its view stays, and what was measured is measured anew."""
        tag(layer, calibrated_by_hand=by_hand)
        if (viewer := self._session.viewer) is not None:
            calibrate(viewer, layer, size_nm)

    def run_folder(self, job: FolderJob) -> None:
        """Analyse a folder with the parameters of the panel; what was said by hand is about one image only."""
        session = self._session

        def done(rows: list[Row]) -> None:
            session.noticed.emit(about(rows, job.out))

        call = functools.partial(run_folder, job=job, recipe=session.recipe, process=session.keras)
        session.runs.background(call, done, "folder", about_image=False)

    def scan(self, model: Path) -> None:
        """Slide an ensemble over the chosen image; its classes become layers and types of the regions."""
        session = self._session
        document = session.document
        if document is None or document.layer is None:
            session.noticed.emit(NO_IMAGE)
            return
        viewer = session.viewer
        assert viewer is not None
        shown = session.shown_frame(document)
        frame = shown or 0
        known = document.labelled.get(frame)

        def done(scanned: Scanned) -> None:
            if document.layer is None:
                return
            document.class_maps[frame] = scanned.class_map
            placing.remove_parts(viewer, document, scanned.scan.classes)
            if document.labelled.get(frame) is known and scanned.labelled is not None:
                document.labelled[frame] = scanned.labelled
            elif document.analysis is not None:  # painted meanwhile
                session.edits.measure(document, frame)
            session.finished.emit()
            if scanned.scan.warnings:
                session.noticed.emit(" ".join(scanned.scan.warnings))

        call = functools.partial(
            scan_image,
            process=session.keras,
            source=Source.of(document.layer, shown),
            model=model,
            known=known,
            numbered=document.series is None,
        )
        session.runs.background(call, done, "scanning")

    def save_recipe(self, path: Path) -> None:
        """Write the parameters as JSON."""
        try:
            path.write_text(self.recipe().to_json(), encoding="utf-8")
        except OSError as error:
            said = f"{path}: the recipe cannot be written ({error.strerror or error}); choose another folder."
        else:
            said = f"The parameters were written to {path}."
        self._session.noticed.emit(said)

    def load_recipe(self, path: Path) -> None:
        """Take parameters from a JSON file; a file that holds none is refused with a sentence."""
        try:
            recipe = Recipe.from_json(path.read_text(encoding="utf-8"))
        except RecipeError as error:
            self._session.noticed.emit(f"{path.name}: {error}")
        except UnicodeDecodeError:
            self._session.noticed.emit(f"{path}: this is no recipe; choose a JSON file that the panel wrote.")
        except OSError as error:
            self._session.noticed.emit(f"{path}: the recipe cannot be read ({error.strerror or error}).")
        else:
            self._session.recipe = recipe
            document = self._session.document
            if document is not None:
                document.ask(document.by_hand.told_by(recipe))
            self._session.changed.emit()

    def recipe(self) -> Recipe:
        """Parameters, and what was said by hand about the lattices of the chosen image."""
        document = self._session.document
        return self._session.recipe if document is None else self._session.inputs(document).recipe

    def rate(self, rating: str, path: Path) -> None:
        """Append a rating of the result to a CSV file."""
        session, result = self._session, self.result("rate")
        if result is None:
            return
        try:
            append_rating(path, rating, result)
        except HrstemDefectsError as error:
            session.noticed.emit(str(error))
        else:
            session.noticed.emit(f"Rated “{rating}” in {path}.")


class Footer(QWidget):
    """The buttons at the bottom of the panel, with their dialogs.

    Parameters
    ----------
    actions : Actions
    session : Session
    """

    def __init__(self, actions: Actions, session: Session) -> None:
        super().__init__()
        self._actions = actions
        self._session = weakref.ref(session)
        self.export = QPushButton("Export…")
        self.export.setToolTip(
            "<qt>Write masks, severity, tables and a figure into a folder: the same files as "
            "<code>hrstem-defects analyze</code> (Ctrl+Shift+E: into the folder of the last export)</qt>"
        )
        self.export.clicked.connect(lambda: self._export())
        self.recipe = QPushButton("Recipe")
        self.recipe.setToolTip("Save, load or reset all parameters")
        menu = QMenu(self.recipe)
        menu.addAction("Save recipe…", self._save_recipe)
        menu.addAction("Load recipe…", self._load_recipe)
        menu.addSeparator()
        self.reset = menu.addAction("Reset to defaults", self._reset)
        menu.addAction("As published (Dennler et al.)", self._published)
        self.recipe.setMenu(menu)
        self.folder = QPushButton("Folder…")
        self.folder.setToolTip(
            "<qt>Analyse all images of a folder with these parameters, and write the results</qt>"
        )
        self.folder.clicked.connect(lambda: self.show_folder())
        self.rate = QPushButton("Rate")
        self.rate.setToolTip("<qt>Note in a CSV file how helpful this result is</qt>")
        ratings = QMenu(self.rate)
        for rating in RATINGS:
            ratings.addAction(rating, functools.partial(self._rate, rating))
        ratings.addSeparator()
        ratings.addAction("Another file…", self._choose_ratings)
        self.rate.setMenu(ratings)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        for button in (self.export, self.recipe, self.folder, self.rate):
            layout.addWidget(button)

    def show_folder(self) -> FolderDialog:
        """Ask for a folder to analyse."""
        dialog = FolderDialog(self)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.startRequested.connect(self._actions.run_folder)
        dialog.open()
        return dialog

    def accept(self) -> None:
        """The result is right: write it where the last one was written; the first time a folder is asked for."""
        self._export(settings.recall("export"))

    def _export(self, chosen: str = "") -> None:
        session = self._session()
        document = None if session is None else session.document
        if self._actions.result("export") is None or document is None or document.layer is None:
            return
        if not chosen or not Path(chosen).is_dir():
            chosen = QFileDialog.getExistingDirectory(
                self, "Folder for the result", settings.recall("export")
            )
        if not chosen:
            return
        settings.remember("export", chosen)
        target = Path(chosen) / export.folder_name(Source.of(document.layer).name)
        overwrite = False
        if target.exists():
            question = f"“{target.name}” is there already. Replace the result in it?"
            answer = QMessageBox.question(self, "Replace the result?", question)
            if answer != QMessageBox.StandardButton.Yes:
                return
            overwrite = True
        self._actions.export(Path(chosen), overwrite=overwrite, all_frames=document.series is not None)

    def _save_recipe(self) -> None:
        chosen, _ = QFileDialog.getSaveFileName(self, "Save recipe", "recipe.json", _JSON)
        if chosen:
            self._actions.save_recipe(Path(chosen))

    def _load_recipe(self) -> None:
        chosen, _ = QFileDialog.getOpenFileName(self, "Load recipe", "", _JSON)
        if chosen:
            self._actions.load_recipe(Path(chosen))

    def _reset(self) -> None:
        if (session := self._session()) is not None:
            session.recipe = Recipe()

    def _published(self) -> None:
        if (session := self._session()) is not None:
            session.recipe = Recipe.published()

    def _rate(self, rating: str) -> None:
        if self._actions.result("rate") is None:
            return
        known = settings.recall("ratings") or self._choose_ratings()
        if known:
            self._actions.rate(rating, Path(known))

    def _choose_ratings(self) -> str:
        """Ask which file the ratings are appended to; it is remembered."""
        known = settings.recall("ratings", "ratings.csv")
        # The file is not replaced, so that question need not be asked.
        option = QFileDialog.Option.DontConfirmOverwrite
        chosen, _ = QFileDialog.getSaveFileName(
            self, "File for the ratings", known, "Tables (*.csv)", options=option
        )
        if chosen:
            settings.remember("ratings", chosen)
        return chosen
