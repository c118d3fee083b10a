"""Docks with one step only, for those who want no more."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_hrstem_defects.widgets.actions import Actions
from napari_hrstem_defects.widgets.editors import ParameterGrid, box, step_parameters
from napari_hrstem_defects.widgets.model import STEPS
from napari_hrstem_defects.widgets.parts import StepGroup
from napari_hrstem_defects.widgets.session_widget import SessionWidget

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
        parts = self.image, self._body(), self.run_row, self.messages, None
        box(QVBoxLayout(self), *parts, margins=(6, 2, 6, 4))
        self._begin()

    def _body(self) -> QWidget:
        """What the dock is for."""
        raise NotImplementedError


class _OneStep(_Dock):
    """One step with all of its parameters."""

    step: ClassVar[str]

    def _body(self) -> QWidget:
        step = next(step for step in STEPS if step.name == self.step)
        self.group = StepGroup(step, step_parameters(self.step, shown=True))
        self.others = ParameterGrid(step_parameters(self.step, shown=False), columns=1)
        self.group.addWidget(self.others)
        for part in (self.group, self.others):
            part.valueChanged.connect(self._edit)
        self.group.runRequested.connect(self._run_step)
        return self.group

    def _show(self) -> None:
        super()._show()
        self.group.setState(self.session.states()[self.step], self._colours)
        self.group.button.setEnabled(not self.session.running)

    def _show_recipe(self) -> None:
        self.group.setValue(self.session.recipe)
        self.others.setValue(self.session.recipe)


def _only(step: str) -> type[_OneStep]:
    return type(f"{step}_widget", (_OneStep,), {"step": step, "__doc__": f"The step *{step}* alone."})


PreprocessWidget = _only("preprocess")
DomainsWidget = _only("domains")
ClassifyWidget = _only("classify")
BestPatchWidget = _only("best_patch")
SymmetryWidget = _only("symmetry")
VarianceWidget = _only("variance")
SegmentWidget = _only("segment")


class ExportWidget(_Dock):
    """Export, recipes and rating alone."""

    def _body(self) -> QWidget:
        self.actions_ = Actions(self.session)
        return self.actions_

    def _show(self) -> None:
        super()._show()
        self.actions_.buttons["Export…"].setEnabled(self.session.document.analysis is not None)
