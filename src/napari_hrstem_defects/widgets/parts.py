"""Parts of the panel: progress, messages, groups of the steps, best patch, threshold; none knows of the session."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QImage, QPixmap
from qtpy.QtWidgets import (
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QSlider,
    QVBoxLayout,
    QWidget,
)
from superqt.utils import signals_blocked

from napari_hrstem_defects.core.recipe import PARAMETERS, Recipe
from napari_hrstem_defects.widgets.editors import ParameterGrid, Quiet, editor_of, mark_changed
from napari_hrstem_defects.widgets.layout import INDENT, Wrapped, box, button
from napari_hrstem_defects.widgets.model import SIGNS, STAGES, State, Step
from napari_hrstem_defects.widgets.outputs import Histogram
from napari_hrstem_defects.widgets.parameters import label_of, step_parameters
from napari_hrstem_defects.widgets.plots import Plot, draw_histogram
from napari_hrstem_defects.widgets.theme import Colours

#: Edge of the picture of an eigenfilter and the gap between two, in px of the screen.
_TILE, _GAP = 22, 2
#: More eigenfilters than these are not drawn; they come in the order of the variance they hold.
_MOST_FILTERS = 14
#: The parameter of the threshold; steps of its slider, and its ends: the severity grows to the right.
THRESHOLD = "segment.false_marks"
_STEPS, _MOST, _LEAST = 400, 1.0, 1e-4


class RunRow(QWidget):
    """Run all; while something runs its stage and a Cancel button beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.run = button(
            "▶  Run all",
            "Run every step on the chosen image (Ctrl+Shift+Return)",
            fixed=False,
        )
        self.run.setMinimumHeight(28)
        self.bar = QProgressBar()
        self.bar.setRange(0, 1000)
        self.bar.setTextVisible(True)
        self.bar.setMinimumHeight(22)
        self.cancel = button("✕ Cancel", "Stop the run; all layers stay as they are", fixed=False)
        layout = box(QHBoxLayout(self), self.run, self.bar, self.cancel)
        layout.setStretch(0, 2)
        layout.setStretch(1, 3)
        self.setRunning(False)

    def setRunning(self, running: bool) -> None:
        """Show progress and Cancel, or neither."""
        self.run.setEnabled(not running)
        self.bar.setVisible(running)
        self.cancel.setVisible(running)

    def setProgress(self, stage: str, fraction: float) -> None:
        """Show the progress of the run."""
        self.bar.setValue(round(1000 * fraction))
        self.bar.setFormat(f"{STAGES.get(stage, stage)}  %p %")


class Messages(Wrapped):
    """Error and warnings, in whole sentences."""

    def __init__(self) -> None:
        super().__init__(name="messages")
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._shown: tuple[str, ...] = ()
        self.hide()

    def text(self) -> str:
        """Everything shown, without markup."""
        return "\n".join(self._shown)

    def setMessages(
        self, error: str | None, warnings: Sequence[str], colours: Colours, notice: str | None = None
    ) -> None:
        """Show an error, warnings and a notice; all empty: nothing."""
        lines = [] if not error else [("✕", error, colours.error)]
        lines += [("⚠", text, colours.warning) for text in warnings]
        if notice and notice not in (error, *warnings):
            lines.append(("ℹ", notice, colours.text))
        self._shown = tuple(text for _, text, _ in lines)
        self.setText(
            "".join(
                f"<div><b style='color:{ink.name()}'>{sign}</b> {escape(text)}</div>"
                for sign, text, ink in lines
            )
        )
        self.setVisible(bool(lines))


def accent(button: QPushButton, colours: Colours | None) -> None:
    """Mark a button as the next one to press (None: as any other)."""
    sheet = ""
    if colours is not None:
        ink = "#ffffff" if colours.accent.lightness() < 150 else "#000000"
        sheet = f"QPushButton:enabled {{ background-color: {colours.accent.name()}; color: {ink}; font-weight: bold; }}"
    if button.styleSheet() != sheet:
        button.setStyleSheet(sheet)


class StepGroup(QWidget):
    """Heading, Run button and parameters of a step.

    Parameters
    ----------
    step : Step
    beside : str, optional
        The parameter that stands beside the heading: how the step is done.
    apart : collection of str
        Parameters that another editor shows.

    Attributes
    ----------
    folded : ParameterGrid
        Those that matter to few; to be placed by the owner.
    editors, labels : dict
        Of all of its parameters, by ``step.key``.
    """

    #: ``(step)``: the Run button was pressed.
    runRequested = Signal(str)
    #: ``(name, value)``: a parameter was changed.
    valueChanged = Signal(str, object)

    def __init__(self, step: Step, beside: str | None = None, apart: Collection[str] = ()) -> None:
        super().__init__()
        self.step = step
        self.sign = QLabel()
        self.sign.setFixedWidth(22)
        title = QLabel(f"<b>{step.title}</b>")
        self.word = QLabel()
        # As wide as the longest of them, so that the panel keeps its width during a run.
        metrics = self.word.fontMetrics()
        self.word.setMinimumWidth(max(metrics.horizontalAdvance(state.value) for state in State) + 2)
        tip = f"{step.does} Earlier steps that are out of date are run first."
        self.button = button("Run", tip, lambda: self.runRequested.emit(step.name))
        self.button.setAccessibleName(f"Run {step.title}")
        self.button.setFixedWidth(52)
        for widget in (self.sign, title):
            widget.setToolTip(f"<qt>{step.does}</qt>")
        method = ParameterGrid([] if beside is None else [beside], columns=1, named=False)
        names = step_parameters(step.name, shown=True)
        shown = ParameterGrid([name for name in names if name != beside and name not in apart])
        self.folded = ParameterGrid(step_parameters(step.name, shown=False), columns=1)
        self._grids = method, shown, self.folded
        self.editors = {name: editor for grid in self._grids for name, editor in grid.editors.items()}
        self.labels = {name: label for grid in self._grids for name, label in grid.labels.items()}
        space = None if beside is None else method
        head = box(QHBoxLayout(), self.sign, title, space, self.word, self.button, spacing=4)
        if beside is not None:
            head.setStretchFactor(method, 1)
        self._layout = box(QVBoxLayout(self), head, shown, spacing=2)
        for grid in self._grids:
            grid.valueChanged.connect(self.valueChanged)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)

    def addWidget(self, widget: QWidget) -> None:
        """Append something to the body."""
        self._layout.addWidget(widget)

    def setState(
        self, state: State, colours: Colours, note: str | None = None, next_one: bool = False
    ) -> None:
        """Show a state by sign, word and colour; accent the button if it is the next one to press."""
        ink = {State.FAILED: colours.error, State.STALE: colours.warning}.get(state, colours.text)
        self.sign.setText(f"<span style='color:{ink.name()}'>{SIGNS[state]}</span>")
        self.word.setText(note or state.value)
        self.word.setAccessibleName(f"{self.step.title}: {state.value}")
        accent(self.button, colours if next_one else None)

    def setValue(self, recipe: Recipe) -> None:
        """Show the parameters of a recipe."""
        for grid in self._grids:
            grid.setValue(recipe)


class FilterStrip(QLabel):
    """Row of small pictures of the eigenfilters."""

    def __init__(self) -> None:
        super().__init__()
        self._filters: NDArray[np.float32] | None = None
        # As many as fit are seen.
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.setAccessibleName("eigenfilters")
        self.hide()

    def count(self) -> int:
        """How many are drawn."""
        return 0 if self._filters is None else min(len(self._filters), _MOST_FILTERS)

    def setFilters(self, filters: NDArray[np.float32] | None) -> None:
        """Show filters of shape ``(n, k, k)`` in greys, zero in the middle; None: nothing."""
        if filters is self._filters:
            return
        self._filters = filters
        self.setVisible(filters is not None and len(filters) > 0)
        if filters is None or not len(filters):
            return
        cells = [
            np.repeat(np.repeat(f / (np.abs(f).max() or 1.0), 4, 0), 4, 1) for f in filters[: self.count()]
        ]
        size = cells[0].shape[0]
        gap = -(-size * _GAP // _TILE)
        strip = np.zeros((size, len(cells) * (size + gap), 4), np.uint8)
        for i, cell in enumerate(cells):
            inside = strip[:, i * (size + gap) : i * (size + gap) + size]
            inside[..., :3], inside[..., 3] = (127.5 * (1 + cell))[..., np.newaxis], 255
        height, width = strip.shape[:2]
        image = QImage(strip.tobytes(), width, height, 4 * width, QImage.Format.Format_RGBA8888)
        smooth = Qt.TransformationMode.SmoothTransformation
        self.setPixmap(QPixmap.fromImage(image).scaledToHeight(_TILE, smooth))
        self.setToolTip(
            f"<qt>The {len(filters)} eigenfilters (principal components) of the best patch, in the order of their "
            "variance. A defect is what they do not reproduce.</qt>"
        )


class BestPatchView(QWidget):
    """Place of the best patch, buttons to move it, its eigenfilters."""

    def __init__(self) -> None:
        super().__init__()
        self.place = QLabel("–")
        self.place.setAccessibleName("place of the best patch")
        tip = "Selects the yellow square: drag it, or click elsewhere with the add tool."
        self.move_button = button("Move…", tip)
        self.automatic = button("Back to automatic", "Restores the automatic best patch.")
        tip = "Reverts the last manual change: patch moved, lattice ticked, labels painted, region reviewed."
        self.undo = button("Undo", tip)
        self.filters = FilterStrip()
        buttons = box(QHBoxLayout(), self.move_button, self.automatic, self.undo, None, spacing=4)
        head = box(QHBoxLayout(), self.place, self.filters, stretch=1)
        box(QVBoxLayout(self), head, buttons, margins=(INDENT, 0, 0, 0), spacing=2)


class ThresholdEditor(QWidget):
    """Histogram, slider and number of the false marks that are expected in a clean image."""

    valueChanged = Signal(float)

    def __init__(self) -> None:
        super().__init__()
        self.histogram = Plot(
            draw_histogram,
            "severity histogram",
            "Histogram of the severity (logarithmic counts). Solid line: the threshold for the expected number of "
            "false marks; dotted: the lower threshold to which defects are grown.",
            "no severity histogram",
            (0, 0, 0, 0),
        )
        self.histogram.setFixedHeight(35)
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(0, _STEPS)
        self.slider.setAccessibleName("threshold")
        Quiet(self.slider)
        self.number = editor_of(THRESHOLD)
        self.label = QLabel(label_of(THRESHOLD))
        for widget in (self.label, self.slider):
            widget.setToolTip(self.number.toolTip())
        line = box(QHBoxLayout(), self.label, self.slider, self.number, spacing=6, stretch=1)
        box(QVBoxLayout(self), self.histogram, line, margins=(INDENT, 0, 0, 0), spacing=1)
        self._histogram: Histogram | None = None
        self._extent = 0.0
        self.slider.valueChanged.connect(lambda i: self._set(_MOST * (_LEAST / _MOST) ** (i / _STEPS)))
        self.number.valueChanged.connect(self._typed)
        for signal in (self.histogram.pressed, self.histogram.dragged):
            signal.connect(self._pointed)

    def value(self) -> float:
        """Expected false marks."""
        return float(self.number.value())

    def setValue(self, recipe: Recipe) -> None:
        """Show what a recipe asks for; nothing is emitted."""
        value = recipe.segment.false_marks
        mark_changed(self.label, value != PARAMETERS[THRESHOLD]["default"])
        self._extent = recipe.segment.extent
        with signals_blocked(self.number):
            self.number.setValue(value)
        self._show()

    def setHistogram(self, histogram: Histogram | None) -> None:
        """Show the severities of the image."""
        self._histogram = histogram
        self._show()

    @property
    def _area(self) -> float:
        return 0.0 if self._histogram is None else self._histogram.area_periods

    def _show(self) -> None:
        with signals_blocked(self.slider):
            share = math.log10(_MOST / self.value()) / math.log10(_MOST / _LEAST)
            self.slider.setValue(round(_STEPS * share))
        threshold = None
        if self._area:
            from napari_hrstem_defects.core.calibration import severity_of

            threshold = severity_of(self.value(), self._area)
        low = None if threshold is None else self._extent * threshold
        self.histogram.setValue((self._histogram, threshold, low) if self._histogram is not None else ())

    def _pointed(self, severity: float) -> None:
        if self._histogram is not None and self._area:
            from napari_hrstem_defects.core.calibration import false_marks_of

            severity = min(max(severity, 0.0), float(self._histogram.edges[-1]))
            self._set(false_marks_of(severity, self._area))

    def _set(self, value: float) -> None:
        """To two digits."""
        self.number.setValue(float(f"{value:.2g}"))

    def _typed(self, value: float) -> None:
        self._show()
        self.valueChanged.emit(float(value))
