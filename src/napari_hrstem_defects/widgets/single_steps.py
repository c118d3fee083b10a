"""Docks with one step only, for those who want no more."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_hrstem_defects.widgets import settings, summary
from napari_hrstem_defects.widgets.actions import Actions, Footer
from napari_hrstem_defects.widgets.head import ImageChooser, Messages, RunRow
from napari_hrstem_defects.widgets.links import Links
from napari_hrstem_defects.widgets.parameters import ParameterGrid, names_of
from napari_hrstem_defects.widgets.session import session_of
from napari_hrstem_defects.widgets.step_group import StepGroup
from napari_hrstem_defects.widgets.steps import STEPS
from napari_hrstem_defects.widgets.theme import colours

if TYPE_CHECKING:
    import napari


class _OneStep(QWidget):
    """Image, one step with all of its parameters, progress and messages.

    It works on the same session as the panel: what one of them ran, the other shows.

    Parameters
    ----------
    napari_viewer : napari.Viewer
    """

    step: ClassVar[str] = ""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__()
        self._viewer = getattr(napari_viewer, "__wrapped__", napari_viewer)
        self.session = session_of(self._viewer)
        self._links = Links()
        self._docked = False
        self._notice: str | None = None
        self.image = ImageChooser()
        self.run_row = RunRow()
        self.run_row.run.hide()
        self.messages = Messages()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 2, 6, 4)
        layout.addWidget(self.image)
        self._add_body(layout)
        layout.addWidget(self.run_row)
        layout.addWidget(self.messages)
        layout.addStretch(1)
        self._connect()
        if not self.session.ready:
            self.session.ready = True
            self.session.recipe = settings.recall_recipe()
        self._show_images()
        self._show()

    def _add_body(self, layout: QVBoxLayout) -> None:
        step = next(step for step in STEPS if step.name == self.step)
        parts = ("symmetry", "domains") if self.step == "symmetry" else (self.step,)
        self.group = StepGroup(step, [name for part in parts for name in names_of(part, shown=True)])
        others = [name for part in parts for name in names_of(part, shown=False)]
        if others:
            self.others = ParameterGrid(others, columns=1)
            self.others.valueChanged.connect(self._edit)
            self.group.addWidget(self.others)
        self.group.valueChanged.connect(self._edit)
        self.group.runRequested.connect(self._run)
        layout.addWidget(self.group)

    def _connect(self) -> None:
        session, link = self.session, self._links.connect
        link(session.changed, self._show)
        link(session.recipe_changed, self._show)
        link(session.image_changed, self._show_images)
        link(session.progressed, self.run_row.setProgress)
        link(session.failed, self._noticed)
        link(session.noticed, self._noticed)
        self.image.valueChanged.connect(self._choose)
        self.run_row.cancelRequested.connect(session.runs.cancel)

    def event(self, event: Any) -> bool:
        """Let go of the session when the dock is closed."""
        if event.type() == QEvent.Type.ParentChange:
            if self.parent() is not None:
                self._docked = True
            elif self._docked:
                self._links.clear()
        return super().event(event)

    def _choose(self, unique_id: str) -> None:
        self.session.choose(
            next((image for image in self.session.images() if str(image.unique_id) == unique_id), None)
        )

    def _run(self, step: str) -> None:
        self._notice = None
        self.session.runs.step(step)

    def _edit(self, name: str, value: Any) -> None:
        step, _, key = name.partition(".")
        recipe = self.session.recipe
        params = dataclasses.replace(getattr(recipe, step), **{key: value})
        self.session.recipe = dataclasses.replace(recipe, **{step: params})

    def _noticed(self, message: str) -> None:
        self._notice = message
        self._show()

    def _show_images(self) -> None:
        self.image.setChoices([(str(image.unique_id), image.name) for image in self.session.images()])
        document = self.session.document
        self.image.setValue("" if document is None else document.source_id)

    def _show(self) -> None:
        ink = colours(self._viewer)
        self.run_row.setRunning(self.session.running)
        error, warnings = summary.messages(self.session.document, self._notice)
        self.messages.setMessages(error, [text for text in warnings if text != error], ink)
        self._show_step()

    def _show_step(self) -> None:
        ink = colours(self._viewer)
        self.group.setState(self.session.states()[self.step], ink)
        self.group.setValue(self.session.recipe)
        if hasattr(self, "others"):
            self.others.setValue(self.session.recipe)


class PreprocessWidget(_OneStep):
    """The step *Preprocess* alone."""

    step = "preprocess"


class ClassifyWidget(_OneStep):
    """The step *Classify patches* alone."""

    step = "classify"


class BestPatchWidget(_OneStep):
    """The step *Best patch* alone."""

    step = "best_patch"


class SymmetryWidget(_OneStep):
    """The step *Symmetry filter* alone."""

    step = "symmetry"


class VarianceWidget(_OneStep):
    """The step *Variance filter* alone."""

    step = "variance"


class SegmentWidget(_OneStep):
    """The step *Labels and regions* alone."""

    step = "segment"


class ExportWidget(_OneStep):
    """Export, recipes and rating alone."""

    def _add_body(self, layout: QVBoxLayout) -> None:
        self.actions_ = Actions(self.session)
        self.footer = Footer(self.actions_, self.session)
        layout.addWidget(self.footer)

    def export(self, parent: Path) -> Path | None:
        """Write the result below a folder."""
        return self.actions_.export(parent)

    def _show_step(self) -> None:
        document = self.session.document
        self.footer.export.setEnabled(document is not None and document.analysis is not None)
