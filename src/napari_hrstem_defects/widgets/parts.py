"""Parts of the panel: head, groups of the steps, best patch, lattices, threshold. Each knows nothing of the session."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QColor, QIcon, QImage, QPixmap
from qtpy.QtWidgets import (
    QAbstractItemView,
    QAbstractScrollArea,
    QComboBox,
    QGridLayout,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QSlider,
    QTableWidget,
    QTableWidgetItem,
    QToolButton,
    QVBoxLayout,
    QWidget,
)
from superqt.utils import signals_blocked

from napari_hrstem_defects.core.recipe import PARAMETERS, Recipe
from napari_hrstem_defects.widgets.editors import (
    INDENT,
    ParameterGrid,
    Quiet,
    Wrapped,
    button,
    editor_of,
    label_of,
    mark_changed,
)
from napari_hrstem_defects.widgets.model import SIGNS, STAGES, State, Step
from napari_hrstem_defects.widgets.outputs import Histogram
from napari_hrstem_defects.widgets.plots import HistogramView
from napari_hrstem_defects.widgets.theme import Colours, boxes

#: The paper to cite.
CITATION, CITED = "Dennler et al., Micron 146 (2021) 103069", "Dennler 2021"
CITATION_URL = "https://doi.org/10.1016/j.micron.2021.103069"
#: Edge of the picture of an eigenfilter and the gap between two; height of a row and least width of the table of the
#: lattices, for the panel shall not grow with the words in it; in px of the screen.
_TILE, _GAP, _ROW, _WIDTH = 22, 2, 20, 240
#: More eigenfilters than these are not drawn; they come in the order of the variance they hold.
_MOST_FILTERS = 14
#: The parameter of the threshold; steps of its slider, and its ends: the severity grows to the right.
THRESHOLD = "segment.false_marks"
_STEPS, _MOST, _LEAST = 400, 1.0, 1e-4


def _box(layout: Any, *widgets: QWidget, margins: tuple[int, int, int, int] = (0, 0, 0, 0)) -> Any:
    layout.setContentsMargins(*margins)
    for widget in widgets:
        layout.addWidget(widget)
    return layout


class Header(QWidget):
    """Citation and Help."""

    helpRequested = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.citation = QLabel()
        self.citation.setOpenExternalLinks(True)
        self.citation.setToolTip(f"<qt>Please cite {CITATION}, when you publish results.</qt>")
        self.help = QToolButton()
        self.help.setText("Help")
        self.help.setToolTip("What the steps do, and how to correct them by hand (F1)")
        self.help.clicked.connect(lambda: self.helpRequested.emit())
        _box(QHBoxLayout(self), self.citation, self.help)

    def setColours(self, colours: Colours) -> None:
        """Links are drawn in the colour of the text, underlined: the default blue cannot be read on a dark ground."""
        ink = colours.text.name()
        self.citation.setText(f"<small>Cite <a style='color:{ink}' href='{CITATION_URL}'>{CITED}</a></small>")


class ImageChooser(QWidget):
    """Drop-down list of the images, by id: two may have the same name."""

    #: ``(unique id)``
    valueChanged = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self._list = QComboBox()
        self._list.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self._list.setMinimumContentsLength(10)
        self._list.setAccessibleName("image")
        self._list.setEnabled(False)
        self._list.currentIndexChanged.connect(lambda _: self.valueChanged.emit(self.value()))
        Quiet(self._list)
        _box(QHBoxLayout(self), QLabel("Image"), self._list).setStretch(1, 1)

    def value(self) -> str:
        """Id of the image chosen, empty without any."""
        return str(self._list.currentData() or "")

    def setValue(self, unique_id: str) -> None:
        """Choose an image; nothing is emitted."""
        with signals_blocked(self._list):
            self._list.setCurrentIndex(self._list.findData(unique_id))
        # A long name is cut off in the list.
        self._list.setToolTip(f"The image to analyse: {self._list.currentText() or '–'}")

    def setChoices(self, choices: Sequence[tuple[str, str]]) -> None:
        """Offer images, ``(unique id, name)``; nothing is emitted."""
        there = [(self._list.itemData(i), self._list.itemText(i)) for i in range(self._list.count())]
        if there != list(choices):
            with signals_blocked(self._list):
                chosen = self.value()
                self._list.clear()
                for unique_id, name in choices:
                    self._list.addItem(name, unique_id)
                self._list.setCurrentIndex(self._list.findData(chosen))
            self._list.setEnabled(bool(choices))


class RunRow(QWidget):
    """Run all; while something runs its stage and a Cancel button beside it."""

    runRequested = Signal()
    cancelRequested = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.run = button(
            "▶  Run all",
            "Run every step on the chosen image (Ctrl+Shift+Return)",
            self.runRequested.emit,
            fixed=False,
        )
        self.run.setMinimumHeight(28)
        self.bar = QProgressBar()
        self.bar.setRange(0, 1000)
        self.bar.setTextVisible(True)
        self.bar.setMinimumHeight(22)
        self.cancel = button(
            "✕ Cancel", "Stop the run; all layers stay as they are", self.cancelRequested.emit, fixed=False
        )
        layout = _box(QHBoxLayout(self), self.run, self.bar, self.cancel)
        layout.setStretch(0, 2)
        layout.setStretch(1, 3)
        self.setRunning(False)

    def setRunning(self, running: bool) -> None:
        """Show progress and Cancel, or neither."""
        self.run.setEnabled(not running)
        self.bar.setVisible(running)
        self.cancel.setVisible(running)

    def setProgress(self, stage: str, fraction: float) -> None:
        """Say how far the run is."""
        self.bar.setValue(round(1000 * fraction))
        self.bar.setFormat(f"{STAGES.get(stage, stage)}  %p %")


class Messages(Wrapped):
    """What went wrong, and the warnings, in whole sentences."""

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
        """Show an error, warnings, and what is worth knowing; all empty: nothing."""
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
        self.sign = QLabel()
        self.sign.setFixedWidth(22)
        title = QLabel(f"<b>{step.title}</b>")
        self.word = QLabel()
        # As wide as the longest of them, so that the panel keeps its width during a run.
        metrics = self.word.fontMetrics()
        self.word.setMinimumWidth(max(metrics.horizontalAdvance(state.value) for state in State) + 2)
        self.button = button(
            "Run",
            f"{step.does} Whatever it needs and is out of date is run first.",
            lambda: self.runRequested.emit(step.name),
        )
        self.button.setAccessibleName(f"Run {step.title}")
        self.button.setFixedWidth(52)
        for widget in (self.sign, title):
            widget.setToolTip(f"<qt>{step.does}</qt>")
        self.method = ParameterGrid([] if beside is None else [beside], named=False)
        self.parameters = ParameterGrid([name for name in shown if name != beside])
        head = _box(QHBoxLayout(), self.sign, title, self.method)
        head.setSpacing(4)
        head.addStretch(1)
        head.addWidget(self.word)
        head.addWidget(self.button)
        self._layout = _box(QVBoxLayout(self))
        self._layout.setSpacing(2)
        self._layout.addLayout(head)
        self._layout.addWidget(self.parameters)
        for grid in (self.method, self.parameters):
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
        self.method.setValue(recipe)
        self.parameters.setValue(recipe)


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
            f"<qt>The {len(filters)} eigenfilters of the best patch: the patterns that its surroundings are made of, "
            "the most common first. A defect is what cannot be put together from them.</qt>"
        )


class BestPatchView(QWidget):
    """Place of the best patch, buttons to move it, its eigenfilters."""

    moveRequested = Signal()
    automaticRequested = Signal()
    undoRequested = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.place = QLabel("–")
        self.place.setAccessibleName("place of the best patch")
        self.move_button = button(
            "Move…",
            "Selects the yellow square: drag it, or click elsewhere with the add tool.",
            self.moveRequested.emit,
        )
        self.automatic = button(
            "Back to automatic", "Forgets where you placed the best patch.", self.automaticRequested.emit
        )
        self.undo = button(
            "Undo",
            "Takes back what was done last by hand: a patch moved, a lattice ticked, labels painted.",
            self.undoRequested.emit,
        )
        self.filters = FilterStrip()
        buttons = _box(QHBoxLayout(), self.move_button, self.automatic, self.undo)
        buttons.setSpacing(4)
        buttons.addStretch(1)
        head = _box(QHBoxLayout(), self.place)
        head.addWidget(self.filters, 1)
        layout = _box(QVBoxLayout(self), margins=(INDENT, 0, 0, 0))
        layout.setSpacing(2)
        layout.addLayout(head)
        layout.addLayout(buttons)

    def setPlace(self, text: str, *, by_hand: bool, undoable: bool, movable: bool) -> None:
        """Say where it is, and what can be done about it."""
        self.place.setText(text)
        self.automatic.setEnabled(by_hand)
        self.undo.setEnabled(undoable)
        self.move_button.setEnabled(movable)


@dataclass(frozen=True)
class LatticeRow:
    """One lattice of the image.

    Attributes
    ----------
    number : int
        As in the layer of lattices; 0 is the best patch's.
    relation : str
        To the first.
    turn_deg : float or None
        Misorientation to the first.
    share : float
        Of the image, 0...1.
    intact, by_hand : bool
        It counts as intact; its patch was placed by hand.
    colour : str
    """

    number: int
    relation: str
    turn_deg: float | None
    share: float
    intact: bool
    by_hand: bool
    colour: str

    def items(self) -> list[QTableWidgetItem]:
        """Cells of its row."""
        box = QTableWidgetItem(f"{self.number}")
        box.setFlags(Qt.ItemFlag.ItemIsUserCheckable | Qt.ItemFlag.ItemIsEnabled)
        box.setCheckState(Qt.CheckState.Checked if self.intact else Qt.CheckState.Unchecked)
        name = QTableWidgetItem(f"{self.relation}{', by hand' if self.by_hand else ''}")
        name.setIcon(QIcon(swatch(self.colour)))
        turn = QTableWidgetItem("–" if self.turn_deg is None else f"{self.turn_deg:.1f}°")
        share = QTableWidgetItem(f"{100 * self.share:.1f} %")
        for item in (turn, share):
            item.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        return [box, name, turn, share]


def swatch(colour: str) -> QPixmap:
    """Small square of a colour."""
    square = QPixmap(10, 10)
    square.fill(QColor(colour))
    return square


class LatticesView(QWidget):
    """Table of the lattices with a tick box each, and what can be done about them."""

    #: ``(number, intact)``: a box was ticked or unticked.
    verdictGiven = Signal(int, bool)
    addRequested = Signal()
    moveRequested = Signal()
    #: ``(shown)``: show or hide the map of the lattices.
    mapRequested = Signal(bool)

    def __init__(self) -> None:
        super().__init__()
        self._rows: tuple[LatticeRow, ...] = ()
        self.about = QLabel("–")
        self.about.setAccessibleName("lattices")
        self.map = button("Map", "Shows which lattice each part of the image belongs to.")
        self.map.setCheckable(True)
        self.map.clicked.connect(self.mapRequested)
        self.move_button = button(
            "Move…", "Selects the patches of the other lattices: drag them.", self.moveRequested.emit
        )
        self.add = button(
            "Add…",
            "Click into the image where another lattice lies that was not found.",
            self.addRequested.emit,
        )
        self.table = _LatticeTable()
        self.table.itemChanged.connect(self._changed)
        head = _box(QHBoxLayout(), self.about)
        head.setSpacing(4)
        head.addStretch(1)
        for part in (self.map, self.move_button, self.add):
            head.addWidget(part)
        layout = _box(QVBoxLayout(self), margins=(INDENT, 0, 0, 0))
        layout.setSpacing(2)
        layout.addLayout(head)
        layout.addWidget(self.table)
        self.table.hide()
        self.setState(count=0, mapped=False)

    def setColours(self, colours: Colours) -> None:
        """Follow the theme."""
        self.table.setStyleSheet(boxes(colours))

    def value(self) -> tuple[LatticeRow, ...]:
        """The lattices shown, but the first."""
        return self._rows

    def setValue(self, rows: Sequence[LatticeRow]) -> None:
        """Show the lattices beside the best patch's; nothing is emitted."""
        if tuple(rows) == self._rows:
            return
        self._rows = tuple(rows)
        with signals_blocked(self.table):
            self.table.setRowCount(len(self._rows))
            for line, row in enumerate(self._rows):
                for column, item in enumerate(row.items()):
                    self.table.setItem(line, column, item)
        self.table.setVisible(bool(self._rows))
        self.table.updateGeometry()

    def setState(self, *, count: int, mapped: bool) -> None:
        """Say how many lattices were found (0: not known), and whether their map is shown."""
        self.about.setText(f"{count} lattice{'s' if count > 1 else ''}" if count else "–")
        self.add.setEnabled(count > 0)
        self.map.setVisible(bool(self._rows))
        self.move_button.setVisible(bool(self._rows))
        self.map.setChecked(mapped)

    def _changed(self, item: QTableWidgetItem) -> None:
        if item.column() == 0:
            self.verdictGiven.emit(self._rows[item.row()].number, item.checkState() == Qt.CheckState.Checked)


class _LatticeTable(QTableWidget):
    """As high as its rows: it never scrolls inside the panel."""

    def __init__(self) -> None:
        super().__init__(0, 4)
        self.setHorizontalHeaderLabels(["intact", "lattice", "turned", "share"])
        rows: Any = self.verticalHeader()
        rows.hide()
        rows.setMinimumSectionSize(_ROW)
        rows.setDefaultSectionSize(_ROW)
        columns: Any = self.horizontalHeader()
        columns.setFixedHeight(_ROW)
        columns.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        columns.setSectionResizeMode(1, QHeaderView.ResizeMode.Stretch)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
        self.setSizeAdjustPolicy(QAbstractScrollArea.SizeAdjustPolicy.AdjustToContents)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setAccessibleName("which lattices count as intact")
        self.setToolTip(
            "<qt>Ticked: this lattice counts as intact crystal, and only what departs from it is a defect. Not ticked: "
            "all of it is a defect. The best patch's own lattice is always intact.</qt>"
        )

    def sizeHint(self) -> Any:
        """Heading and rows."""
        hint = super().sizeHint()
        hint.setWidth(_WIDTH)
        hint.setHeight(_ROW * (self.rowCount() + 1) + 2 * self.frameWidth())
        return hint

    minimumSizeHint = sizeHint


class ThresholdEditor(QWidget):
    """Histogram, slider and number of the false marks that are expected in a clean image."""

    valueChanged = Signal(float)

    def __init__(self, colours: Colours) -> None:
        super().__init__()
        self.histogram = HistogramView(colours)
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(0, _STEPS)
        self.slider.setAccessibleName("threshold")
        Quiet(self.slider)
        self.number = editor_of(THRESHOLD)
        self.label = QLabel(label_of(THRESHOLD))
        layout = QGridLayout(self)
        layout.setContentsMargins(INDENT, 0, 0, 0)
        layout.setVerticalSpacing(1)
        layout.setHorizontalSpacing(6)
        layout.addWidget(self.histogram, 0, 0, 1, 3)
        for column, widget in enumerate((self.label, self.slider, self.number)):
            layout.addWidget(widget, 1, column)
            widget.setToolTip(self.number.toolTip())
        layout.setColumnStretch(1, 1)
        self._histogram: Histogram | None = None
        self._extent = 0.0
        self.slider.valueChanged.connect(lambda i: self._set(_MOST * (_LEAST / _MOST) ** (i / _STEPS)))
        self.number.valueChanged.connect(self._typed)
        self.histogram.pointed.connect(self._pointed)

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
        self.histogram.setValue(self._histogram, threshold, low)

    def _pointed(self, severity: float) -> None:
        if self._area:
            from napari_hrstem_defects.core.calibration import false_marks_of

            self._set(false_marks_of(severity, self._area))

    def _set(self, value: float) -> None:
        """To two digits, as a hand that moves a slider means it."""
        self.number.setValue(float(f"{value:.2g}"))

    def _typed(self, value: float) -> None:
        self._show()
        self.valueChanged.emit(float(value))
