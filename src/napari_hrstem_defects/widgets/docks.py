"""Docks that work on the session of their viewer, and those with one step only, for those who want no more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from qtpy.QtCore import QEvent
from qtpy.QtWidgets import (
    QAbstractButton,
    QApplication,
    QComboBox,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QVBoxLayout,
    QWidget,
)
from superqt.utils import signals_blocked

from napari_hrstem_defects.errors import RecipeError
from napari_hrstem_defects.widgets import settings, summary
from napari_hrstem_defects.widgets.actions import Actions
from napari_hrstem_defects.widgets.editors import ChoiceEditor, Quiet
from napari_hrstem_defects.widgets.layout import Links, box
from napari_hrstem_defects.widgets.model import STEPS
from napari_hrstem_defects.widgets.parts import Messages, RunRow, StepGroup
from napari_hrstem_defects.widgets.session import Session
from napari_hrstem_defects.widgets.theme import colours

if TYPE_CHECKING:
    import napari


class SessionWidget(QWidget):
    """Works on the session of a viewer, and lets go of it when its dock is closed.

    Docks of one viewer share its session: what one of them ran, the others show.

    Parameters
    ----------
    napari_viewer : napari.Viewer
    """

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__()
        self._viewer = getattr(napari_viewer, "__wrapped__", napari_viewer)
        self.session = Session.of(self._viewer)
        self._links = Links()
        self._docked = False
        self._notice: str | None = None
        self._image_id = ""
        self._colours = colours(self._viewer)
        self.image = ChoiceEditor()
        self.image.setMinimumContentsLength(10)
        self.image.setAccessibleName("image")
        Quiet(self.image)
        self.run_row = RunRow()
        self.messages = Messages()

    def _begin(self) -> None:
        """Connect and show; called when the widget is built."""
        session, link = self.session, self._links.connect
        link(session.changed, self._show)
        link(session.image_changed, self._show_images)
        link(session.recipe_changed, self._keep_recipe)
        link(session.recipe_changed, self._show_recipe)
        link(session.progressed, self.run_row.setProgress)
        link(session.finished, self._finished)
        link(session.failed, self._failed)
        link(session.noticed, self._noticed)
        link(self._viewer.events.theme, self._theme_changed)
        self.image.valueChanged.connect(self._choose)
        self.run_row.cancel.clicked.connect(lambda: session.runs.cancel())
        refused = None
        if not session.ready:
            session.ready = True
            try:
                session.recipe = settings.recall_recipe()
            except RecipeError as error:
                refused = str(error)
        # After a button or a list the keys 1...9 are the viewer's tools again, not digits for a number field.
        for kind, signal in (
            (QAbstractButton, "clicked"),
            (QComboBox, "activated"),
            (QLineEdit, "returnPressed"),
        ):
            for widget in self.findChildren(kind):
                getattr(widget, signal).connect(self._let_go_of_keyboard)
        self._show_recipe()
        self._show_images()
        self._show()
        if refused is not None:
            session.noticed.emit(f"The parameters of the last session were left out: {refused}")

    def _let_go_of_keyboard(self) -> None:
        focused = QApplication.focusWidget()
        if focused is not None and self.isAncestorOf(focused):
            focused.clearFocus()

    def _keep_recipe(self) -> None:
        settings.remember_recipe(self.session.recipe)

    def event(self, event: Any) -> bool:
        """Let go of everything when the dock is closed: napari then takes the widget out of it."""
        if event.type() == QEvent.Type.ParentChange:
            if self.parent() is not None:
                self._docked = True
            elif self._docked:
                self.disconnect_all()
        return super().event(event)

    def disconnect_all(self) -> None:
        """End all connections to the viewer and its session."""
        self._links.clear()

    # What a person does ---------------------------------------------------------------------------------------

    def _choose(self, unique_id: str) -> None:
        self.session.choose(self.session.image(unique_id))

    def _run_step(self, step: str) -> None:
        self._notice = None
        self.session.runs.step(step)

    def _edit(self, name: str, value: Any) -> None:
        """Give a parameter another value; one that fits to no other is refused with a sentence."""
        try:
            self.session.recipe = self.session.recipe.replace({name: value})
        except RecipeError as error:
            self._show_recipe()
            self.session.noticed.emit(str(error))

    # What is shown --------------------------------------------------------------------------------------------

    def _show(self) -> None:
        """Show the states of the steps and what came out."""
        self.run_row.setRunning(self.session.running)
        error, warnings = summary.messages(self.session.document, self.session.shown_frame())
        self.messages.setMessages(error, warnings, self._colours, self._notice)

    def _show_recipe(self) -> None:
        """Show the parameters."""

    def _show_images(self) -> None:
        images = [
            (str(image.unique_id), image.name) for image in self.session.images()
        ]  # by id, for names may be alike
        chosen = self.session.document.source_id
        with signals_blocked(self.image):
            self.image.setChoices(images)
            self.image.setValue(chosen)
        self.image.setEnabled(bool(images))
        self.image.setToolTip(f"The image to analyse: {self.image.currentText() or '–'}")
        if chosen != self._image_id:
            self._image_id = chosen
            # The notice was about another image.
            self._notice = summary.about_recipe(self.session.recipe) if chosen else None

    def _finished(self) -> None:
        # The notice was about an earlier result.
        self._notice = None
        self._show()

    def _failed(self, message: str) -> None:
        if self.session.document.failed is None:
            self._notice = message
        self._show()

    def _noticed(self, message: str) -> None:
        self._notice = message
        self._show()

    def _theme_changed(self) -> None:
        self._colours = colours(self._viewer)
        self._show()


class _Dock(SessionWidget):
    """Image, a body, progress and messages."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__(napari_viewer)
        self.run_row.run.hide()
        image = box(QHBoxLayout(), QLabel("Image"), self.image, stretch=1)
        parts = image, self._body(), self.run_row, self.messages, None
        box(QVBoxLayout(self), *parts, margins=(6, 2, 6, 4))
        self._begin()

    def _body(self) -> QWidget:
        """What the dock is for."""
        raise NotImplementedError


class _OneStep(_Dock):
    """One step with all of its parameters."""

    step: ClassVar[str]

    def _body(self) -> QWidget:
        self.group = StepGroup(next(step for step in STEPS if step.name == self.step))
        self.group.addWidget(self.group.folded)
        self.group.valueChanged.connect(self._edit)
        self.group.runRequested.connect(self._run_step)
        return self.group

    def _show(self) -> None:
        super()._show()
        self.group.setState(self.session.states()[self.step], self._colours)
        self.group.button.setEnabled(not self.session.running)

    def _show_recipe(self) -> None:
        super()._show_recipe()
        self.group.setValue(self.session.recipe)


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
