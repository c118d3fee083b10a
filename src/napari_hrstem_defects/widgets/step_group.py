"""One step in the panel: its state, its Run button and its parameters."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QSizePolicy, QVBoxLayout, QWidget

from napari_hrstem_defects.core.recipe import Recipe
from napari_hrstem_defects.widgets.parameters import ParameterGrid
from napari_hrstem_defects.widgets.steps import SIGNS, State, Step
from napari_hrstem_defects.widgets.theme import Colours


class StepGroup(QWidget):
    """Heading, Run button and parameters of a step.

    Parameters
    ----------
    step : Step
    shown : sequence of str
        Parameters that are always visible.
    beside : str, optional
        The one of them that stands beside the heading: how the step is done.
    """

    #: ``(step)``: the Run button was pressed.
    runRequested = Signal(str)
    #: ``(name, value)``: a parameter was changed.
    valueChanged = Signal(str, object)

    def __init__(self, step: Step, shown: Sequence[str], beside: str | None = None) -> None:
        super().__init__()
        self.step = step
        self._state = State.EMPTY
        self.sign = QLabel()
        self.sign.setFixedWidth(22)
        self._title = QLabel(f"<b>{step.title}</b>")
        self.word = QLabel()
        self.word.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self.button = QPushButton("Run")
        self.button.setToolTip(f"<qt>{step.does} Whatever it needs and is out of date is run first.</qt>")
        self.button.setAccessibleName(f"Run {step.title}")
        self.button.setFixedWidth(52)
        self.button.clicked.connect(lambda: self.runRequested.emit(step.name))
        for widget in (self.sign, self._title):
            widget.setToolTip(f"<qt>{step.does}</qt>")

        head = QHBoxLayout()
        head.setSpacing(4)
        head.addWidget(self.sign)
        head.addWidget(self._title)
        if beside is not None:
            self.method = ParameterGrid([beside], named=False)
            self.method.valueChanged.connect(self.valueChanged)
            head.addWidget(self.method)
        else:
            self.method = ParameterGrid([])
        head.addStretch(1)
        head.addWidget(self.word)
        head.addWidget(self.button)
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setSpacing(2)
        self._layout.addLayout(head)
        below = [name for name in shown if name != beside]
        self.parameters = ParameterGrid(below)
        self.parameters.valueChanged.connect(self.valueChanged)
        if below:
            self._layout.addWidget(self.parameters)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)

    def addWidget(self, widget: QWidget) -> None:
        """Append something to the body."""
        self._layout.addWidget(widget)

    def state(self) -> State:
        """The state shown."""
        return self._state

    def setState(
        self, state: State, colours: Colours, note: str | None = None, next_one: bool = False
    ) -> None:
        """Show a state by sign, word and colour; accent the button if it is the next one to press."""
        self._state = state
        ink = {State.FAILED: colours.error, State.STALE: colours.warning}.get(state, colours.text)
        self.sign.setText(f"<span style='color:{ink.name()}'>{SIGNS[state]}</span>")
        self.word.setText(note or state.value)
        self.word.setAccessibleName(f"{self.step.title}: {state.value}")
        accent(self.button, colours if next_one else None)

    def setValue(self, recipe: Recipe) -> None:
        """Show the parameters of a recipe."""
        self.method.setValue(recipe)
        self.parameters.setValue(recipe)


def accent(button: QPushButton, colours: Colours | None) -> None:
    """Mark a button as the next one to press (None: as any other)."""
    sheet = ""
    if colours is not None:
        ink = "#ffffff" if colours.accent.lightness() < 150 else "#000000"
        sheet = f"QPushButton:enabled {{ background-color: {colours.accent.name()}; color: {ink}; font-weight: bold; }}"
    if button.styleSheet() != sheet:
        button.setStyleSheet(sheet)
