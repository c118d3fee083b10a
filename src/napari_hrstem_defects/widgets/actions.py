"""The buttons at the bottom of the panel and what they do: export, recipes, folders, rating; the page of help."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtGui import QGuiApplication, QImage
from qtpy.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QFileDialog,
    QHBoxLayout,
    QMenu,
    QMessageBox,
    QTextBrowser,
    QVBoxLayout,
    QWidget,
)

from napari_hrstem_defects.batch.ratings import RATINGS, append_rating
from napari_hrstem_defects.core.recipe import Recipe
from napari_hrstem_defects.errors import HrstemDefectsError, RecipeError
from napari_hrstem_defects.widgets import settings, tasks
from napari_hrstem_defects.widgets.folders import FolderDialog, FolderJob, about_folder, run_folder
from napari_hrstem_defects.widgets.layout import box, button
from napari_hrstem_defects.widgets.model import SIGNS, STEPS, State
from napari_hrstem_defects.widgets.source import Source

if TYPE_CHECKING:
    from napari_hrstem_defects.core.pipeline import Analysis
    from napari_hrstem_defects.widgets.session import Session

#: The paper to cite.
CITATION = "Dennler et al., Micron 146 (2021) 103069"
CITATION_URL = "https://doi.org/10.1016/j.micron.2021.103069"
_OUT_OF_DATE = " Some steps are out of date (◐); their previous results were written."
_JSON = "Recipes (*.json)"
_TOOLTIPS = {
    "Export…": "Write masks, severity, tables and a figure into a folder: the same files as "
    "<code>hrstem-defects analyze</code> (Ctrl+Shift+E: into the folder of the last export)",
    "Copy": "Put the overview figure of the result on the clipboard",
    "Recipe": "Save, load or reset all parameters",
    "Folder…": "Analyse all images of a folder with these parameters, and write the results",
    "Rate": "Note in a CSV file how helpful this result is",
}
_HELP = """
<h3>From an image to a mask</h3>
<ol>
<li><b>Open an image</b>: drop a file on the window, or take one of <i>File → Open Sample → HRSTEM defects</i>.</li>
<li><b>Run all</b>. Defects are coloured over the image: orange breaks the symmetry of the lattice, blue is amorphous or
blurred.</li>
<li><b>Check the yellow square</b>, the best patch: the reference of the filters. If it contains a defect or lies in
the wrong grain, press <i>Move…</i> and drag it. Grey squares are alternatives.</li>
<li><b>Set the threshold</b>: the number of false marks expected in a defect-free image.</li>
<li><b>Paint</b> corrections over the labels: the table of regions is updated.</li>
<li><b>Several lattices?</b> Tick in <i>Lattices</i> which of them count as intact; drag their squares, or point
out another one with <i>Add…</i>.</li>
<li><b>Export…</b> writes masks, tables and a figure, the same files as <code>hrstem-defects analyze</code>.</li>
</ol>
<h3>The steps</h3>
{steps}
<p>{states}</p>
<h3>Manual corrections are kept</h3>
<p>Painted patches and a placed best patch are used by the next run. Corrections painted over labels are applied to the
labels of every later run; <i>Undo</i> and <i>Discard corrections</i> remove them.</p>
<h3>Keys</h3>
<p><b>Ctrl+Return</b> run the next step that is not current &nbsp; <b>Ctrl+Shift+Return</b> run all &nbsp;
<b>Ctrl+Shift+L</b> show or hide the results &nbsp; <b>Ctrl+Shift+E</b> accept: export where the last one went
&nbsp; <b>N</b>, <b>Shift+N</b> next and previous defect &nbsp; <b>K</b>, <b>Shift+K</b> accept (keep) or reject it
&nbsp; <b>U</b> labels before your corrections, and back &nbsp; <b>F1</b> this page</p>
<h3>Please cite</h3>
<p><a href="{url}">{citation}</a></p>
"""


class Actions(QWidget):
    """What can be done with a result and with the parameters: a row of buttons.

    Parameters
    ----------
    session : Session
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self.buttons = {text: button(text, tip, fixed=False) for text, tip in _TOOLTIPS.items()}
        for text, pressed in (
            ("Export…", self._export),
            ("Copy", self.copy_figure),
            ("Folder…", self._ask_folder),
        ):
            self.buttons[text].clicked.connect(lambda _=False, pressed=pressed: pressed())
        menu = QMenu(self)
        menu.addAction("Save recipe…", lambda: self.save_recipe())
        menu.addAction("Load recipe…", lambda: self.load_recipe())
        menu.addSeparator()
        self.reset = menu.addAction("Reset to defaults", lambda: setattr(session, "recipe", Recipe()))
        menu.addAction(
            "As published (Dennler et al.)", lambda: setattr(session, "recipe", Recipe.published())
        )
        self.buttons["Recipe"].setMenu(menu)
        ratings = QMenu(self)
        for rating in RATINGS:
            ratings.addAction(rating, functools.partial(self._rate, rating))
        ratings.addSeparator()
        ratings.addAction("Another file…", self._choose_ratings)
        self.buttons["Rate"].setMenu(ratings)
        box(QHBoxLayout(self), *self.buttons.values(), spacing=4)

    def result(self, purpose: str) -> Analysis | None:
        """The current result; where it is incomplete a message is shown and None is returned.

        Parameters
        ----------
        purpose : str
            Verb of the message: "export", "copy", "rate".
        """
        found = self._session.document.result()
        if found is None or not found.is_complete:
            self._session.noticed.emit(f"There is no complete result to {purpose} yet; press Run all first.")
            return None
        return found

    # Export ---------------------------------------------------------------------------------------------------

    def export(self, parent: Path, *, overwrite: bool = False) -> Path | None:
        """Write the result, of a series that was analysed as a whole all frames, into a folder below `parent`.

        Returns
        -------
        Path or None
            The folder; None if there is nothing to write.
        """
        session, document, analysis = self._session, self._session.document, self.result("export")
        if document.layer is None or analysis is None:
            return None
        folder = tasks.folder_in(parent, Source.of(document.layer))
        call: Any = functools.partial(tasks.export_image, analysis=analysis, reviewed=document.reviewed())
        if document.series is not None:
            request = session.request(document.layer, document.frame)
            inputs = replace(document.series.request.inputs, painted=request.inputs.painted)
            request, verdicts = replace(request, inputs=inputs), document.by_hand.reviewed
            call = functools.partial(tasks.export_series, request=request, verdicts=verdicts)
        said = _OUT_OF_DATE if session.outdated() else ""
        session.runs.background(
            functools.partial(call, folder=folder, overwrite=overwrite),
            lambda path: session.noticed.emit(f"The result was written to {path}.{said}"),
            "writing",
        )
        return folder

    def accept(self) -> None:
        """Accept the result: export it to the last folder; the first time a folder is asked for."""
        self._export(settings.recall("export"))

    def _export(self, chosen: str = "") -> None:
        document = self._session.document
        if self.result("export") is None or document.layer is None:
            return
        if not chosen or not Path(chosen).is_dir():
            chosen = QFileDialog.getExistingDirectory(
                self, "Folder for the result", settings.recall("export")
            )
        if not chosen:
            return
        settings.remember("export", chosen)
        target = tasks.folder_in(Path(chosen), Source.of(document.layer))
        overwrite = target.exists()
        if overwrite:
            question = f"“{target.name}” is there already. Replace the result in it?"
            answer = QMessageBox.question(self, "Replace the result?", question)
            if answer != QMessageBox.StandardButton.Yes:
                return
        self.export(Path(chosen), overwrite=overwrite)

    def copy_figure(self) -> None:
        """Put the overview figure on the clipboard, drawn in the background."""
        analysis = self.result("copy")
        if analysis is None:
            return

        def done(png: bytes) -> None:
            board: Any = QGuiApplication.clipboard()
            board.setImage(QImage.fromData(png))
            self._session.noticed.emit("The overview figure is on the clipboard.")

        call = functools.partial(tasks.overview_png, analysis=analysis)
        self._session.runs.background(call, done, "drawing the figure")

    # Folders --------------------------------------------------------------------------------------------------

    def run_folder(self, job: FolderJob) -> None:
        """Analyse a folder with the parameters of the panel, without the manual changes, which belong to one image."""
        session = self._session
        session.runs.background(
            functools.partial(run_folder, job=job, recipe=session.recipe, process=session.keras),
            lambda rows: session.noticed.emit(about_folder(rows, job.out)),
            "folder",
            about_image=False,
        )

    def _ask_folder(self) -> None:
        dialog = FolderDialog(self)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.startRequested.connect(self.run_folder)
        dialog.open()

    # Recipes --------------------------------------------------------------------------------------------------

    def save_recipe(self, path: Path | None = None) -> None:
        """Write the parameters and what was set by hand for the lattices of the image as JSON; None: ask where."""
        chosen = path or QFileDialog.getSaveFileName(self, "Save recipe", "recipe.json", _JSON)[0]
        if not chosen:
            return
        path = Path(chosen)
        said = f"The parameters were written to {path}."
        recipe = self._session.inputs(self._session.document).recipe
        try:
            path.write_text(recipe.to_json(), encoding="utf-8")
        except OSError as error:
            said = f"{path}: the recipe cannot be written ({error.strerror or error}); choose another folder."
        self._session.noticed.emit(said)

    def load_recipe(self, path: Path | None = None) -> None:
        """Take parameters from a JSON file, None: ask which; one that holds none is refused with a sentence."""
        chosen = path or QFileDialog.getOpenFileName(self, "Load recipe", "", _JSON)[0]
        if not chosen:
            return
        session, path = self._session, Path(chosen)
        try:
            recipe = Recipe.from_json(path.read_text(encoding="utf-8"))
        except RecipeError as error:
            session.noticed.emit(f"{path.name}: {error}")
        except UnicodeDecodeError:
            session.noticed.emit(f"{path}: this is no recipe; choose a JSON file that the panel wrote.")
        except OSError as error:
            session.noticed.emit(f"{path}: the recipe cannot be read ({error.strerror or error}).")
        else:
            session.recipe = recipe
            session.document.ask(session.document.by_hand.from_recipe(recipe))
            session.changed.emit()

    # Ratings --------------------------------------------------------------------------------------------------

    def _rate(self, rating: str) -> None:
        """Append a rating of the result to a CSV file."""
        result = self.result("rate")
        path = None if result is None else settings.recall("ratings") or self._choose_ratings()
        if result is None or not path:
            return
        said = f"Rated “{rating}” in {path}."
        try:
            append_rating(Path(path), rating, result)
        except HrstemDefectsError as error:
            said = str(error)
        self._session.noticed.emit(said)

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


class HelpDialog(QDialog):
    """What the panel does, on one page.

    Parameters
    ----------
    parent : QWidget
    """

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setWindowTitle("HRSTEM defects: help")
        self.resize(560, 560)
        steps = "".join(f"<p><b>{step.title}</b>: {step.does}</p>" for step in STEPS)
        states = " &nbsp; ".join(f"{SIGNS[state]} {state.value}" for state in State)
        self.page = QTextBrowser()
        self.page.setOpenExternalLinks(True)
        self.page.setHtml(_HELP.format(steps=steps, states=states, url=CITATION_URL, citation=CITATION))
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        buttons.rejected.connect(self.reject)
        box(QVBoxLayout(self), self.page, buttons, margins=None)
