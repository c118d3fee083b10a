"""Docks with one step only, for those who want no more."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from qtpy.QtWidgets import QVBoxLayout

from napari_hrstem_defects.widgets import summary
from napari_hrstem_defects.widgets.actions import Actions, Footer
from napari_hrstem_defects.widgets.parameters import ParameterGrid, step_parameters
from napari_hrstem_defects.widgets.session_widget import SessionWidget
from napari_hrstem_defects.widgets.step_group import StepGroup
from napari_hrstem_defects.widgets.steps import STEPS

if TYPE_CHECKING:
    import napari


class _Dock(SessionWidget):
    """Image, a body, progress and messages.

    Parameters
    ----------
    napari_viewer : napari.Viewer
    """

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__(napari_viewer)
        self.run_row.run.hide()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 2, 6, 4)
        layout.addWidget(self.image)
        self._add_body(layout)
        layout.addWidget(self.run_row)
        layout.addWidget(self.messages)
        layout.addStretch(1)
        self._begin()

    def _add_body(self, layout: QVBoxLayout) -> None:
        """Add what the dock is for."""
        raise NotImplementedError

    def _show(self) -> None:
        self.run_row.setRunning(self.session.running)
        error, warnings = summary.messages(self.session.document)
        self.messages.setMessages(error, warnings, self._colours, self._notice)


class _OneStep(_Dock):
    """One step with all of its parameters."""

    step: ClassVar[str]

    def _add_body(self, layout: QVBoxLayout) -> None:
        step = next(step for step in STEPS if step.name == self.step)
        self.group = StepGroup(step, step_parameters(self.step, shown=True))
        self.others = ParameterGrid(step_parameters(self.step, shown=False), columns=1)
        self.group.addWidget(self.others)
        for part in (self.group, self.others):
            part.valueChanged.connect(self._edit)
        self.group.runRequested.connect(self._run_step)
        layout.addWidget(self.group)

    def _show(self) -> None:
        super()._show()
        self.group.setState(self.session.states()[self.step], self._colours)
        self.group.button.setEnabled(not self.session.running)

    def _show_recipe(self) -> None:
        self.group.setValue(self.session.recipe)
        self.others.setValue(self.session.recipe)


class PreprocessWidget(_OneStep):
    """The step *Preprocess* alone."""

    step = "preprocess"


class DomainsWidget(_OneStep):
    """The step *Lattices* alone."""

    step = "domains"


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


class ExportWidget(_Dock):
    """Export, recipes and rating alone."""

    def _add_body(self, layout: QVBoxLayout) -> None:
        self.actions_ = Actions(self.session)
        self.footer = Footer(self.actions_, self.session)
        layout.addWidget(self.footer)

    def export(self, parent: Path) -> Path | None:
        """Write the result below a folder."""
        return self.actions_.export(parent)

    def _show(self) -> None:
        super()._show()
        document = self.session.document
        self.footer.export.setEnabled(document is not None and document.analysis is not None)
