"""*Folder…*: analyses all images of a folder."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from magicgui.types import FileDialogMode
from magicgui.widgets import CheckBox, Container, FileEdit, SpinBox
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QDialog, QDialogButtonBox, QLabel, QVBoxLayout, QWidget

from napari_hrstem_defects.core.recipe import Recipe
from napari_hrstem_defects.models.process import KerasProcess
from napari_hrstem_defects.widgets import settings
from napari_hrstem_defects.widgets.layout import box
from napari_hrstem_defects.widgets.worker import Monitor

if TYPE_CHECKING:
    from napari_hrstem_defects.batch import Row

#: Failures listed in the message; the table has all.
_LISTED = 3


@dataclass(frozen=True)
class FolderJob:
    """What to analyse and where to write.

    Attributes
    ----------
    images, out : Path
        Folder of the images, and folder of the results.
    jobs : int
        Local processes.
    overwrite : bool
        Recompute results with the same parameters.
    """

    images: Path
    out: Path
    jobs: int = 1
    overwrite: bool = False


def run_folder(monitor: Monitor, job: FolderJob, recipe: Recipe, process: KerasProcess) -> list[Row]:
    """Analyse a folder.

    Raises
    ------
    ReadError
        If there are no images in it.
    WriteError
        If the results cannot be written.
    """
    from napari_hrstem_defects.batch import analyze_files
    from napari_hrstem_defects.models import SCREENING

    options: dict[str, Any] = {
        "jobs": job.jobs,
        "overwrite": job.overwrite,
        "progress": lambda fraction, text: monitor.progress(text, fraction),
        "cancelled": monitor.cancelled,
    }
    if recipe.classify.classifier == SCREENING:
        return analyze_files([job.images], job.out, recipe, **options)
    # Keras must not come into the viewer's process; that of its own may not start others.
    rows: list[Row] = process.call(analyze_files, [job.images], job.out, recipe, **{**options, "jobs": 1})
    return rows


def about_folder(rows: Sequence[Row], out: Path) -> str:
    """What came out of a folder, in a sentence or two."""
    from napari_hrstem_defects.batch.summary import SUMMARY_FILE

    counts = Counter(row.status for row in rows)
    parts = [f"{counts[status]} {status}" for status in ("done", "skipped", "failed") if counts[status]]
    text = f"Folder: {', '.join(parts)}; table in {out / SUMMARY_FILE}."
    failed = [row.message for row in rows if row.status == "failed"]
    more = f" And {len(failed) - _LISTED} more." if len(failed) > _LISTED else ""
    return " ".join([text, *failed[:_LISTED]]) + more


class FolderDialog(QDialog):
    """Asks for the two folders; ``value()``, ``setValue()``.

    Parameters
    ----------
    parent : QWidget or None
    """

    #: ``(FolderJob)``: a person pressed Start.
    startRequested = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Analyse a folder")
        self.images, self.out = (
            FileEdit(name=name, label=label, mode=FileDialogMode.EXISTING_DIRECTORY, tooltip=tip)
            for name, label, tip in (
                ("images", "Images in", "Every micrograph and time series in it, not below it"),
                ("out", "Results in", "Each image gets a folder of its own, and all one table"),
            )
        )
        most = max(os.cpu_count() or 1, 1)
        self.jobs = SpinBox(name="jobs", label="Processes", min=1, max=most, value=1)
        self.jobs.tooltip = "Number of images analysed at the same time, one process each; each needs memory"
        self.jobs.native.setKeyboardTracking(False)
        self.overwrite = CheckBox(name="overwrite", text="Recompute existing results")
        self.overwrite.tooltip = "Otherwise only missing results and those of other parameters"
        # Only what is added to a container that is there already gets labels of one width.
        self.form: Container[Any] = Container()
        self.form.extend([self.images, self.out, self.jobs, self.overwrite])
        note = QLabel("All images are analysed with the parameters of the panel.")
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Cancel)
        self.start: Any = buttons.addButton("Start", QDialogButtonBox.ButtonRole.AcceptRole)
        buttons.accepted.connect(self._start)
        buttons.rejected.connect(self.reject)
        box(QVBoxLayout(self), self.form.native, note, buttons, margins=None)
        self.resize(460, self.sizeHint().height())
        self.form.changed.connect(self._check)
        known = settings.recall("folder.images")
        if known:
            out = settings.recall("folder.out") or str(Path(known) / "results")
            self.setValue(FolderJob(Path(known), Path(out)))
        self._check()

    def value(self) -> FolderJob:
        """What was chosen."""
        return FolderJob(**self.form.asdict())

    def setValue(self, job: FolderJob) -> None:
        """Show a choice."""
        self.form.update(asdict(job))

    def _check(self) -> None:
        """Offer Start once both folders are named."""
        chosen = self.value()
        named = all(str(path) not in ("", ".") for path in (chosen.images, chosen.out))
        self.start.setEnabled(named and chosen.images.is_dir())

    def _start(self) -> None:
        job = self.value()
        settings.remember("folder.images", str(job.images))
        settings.remember("folder.out", str(job.out))
        self.accept()
        self.startRequested.emit(job)
