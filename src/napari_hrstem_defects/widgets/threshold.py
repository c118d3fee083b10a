"""Threshold of the severity: a slider under the histogram of the image."""

from __future__ import annotations

import math
from typing import Any

from qtpy.QtCore import QPointF, QRectF, QSignalBlocker, QSize, Qt, Signal
from qtpy.QtGui import QPainter, QPen
from qtpy.QtWidgets import QGridLayout, QLabel, QSizePolicy, QWidget

from napari_hrstem_defects.core.calibration import false_marks_of, severity_of
from napari_hrstem_defects.core.recipe import PARAMETERS, Recipe
from napari_hrstem_defects.widgets.outputs import Histogram
from napari_hrstem_defects.widgets.parameters import INDENT, QuietSlider, editor_of, label_of, mark_changed
from napari_hrstem_defects.widgets.theme import Colours

NAME = "segment.false_marks"
#: Steps of the slider, and its ends: the severity grows to the right, as in the histogram.
_STEPS, _MOST, _LEAST = 400, 1.0, 1e-4
#: Upper end of the severity without a histogram, in standard deviations.
_DEFAULT_TOP = 20.0


class HistogramView(QWidget):
    """Histogram of the severity (logarithmic) and the threshold.

    Clicking or dragging in it moves the threshold.
    """

    #: ``(severity)``: a person pointed at a severity.
    pointed = Signal(float)

    def __init__(self, colours: Colours) -> None:
        super().__init__()
        self._colours = colours
        self._histogram: Histogram | None = None
        self._threshold: float | None = None
        self._low: float | None = None
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setToolTip(
            "<qt>How many pixels have which severity (logarithmic). Solid line: the threshold, which exceeds "
            "what chance gives but for so many false marks; dotted: how far a defect is grown.</qt>"
        )
        self.setAccessibleName("severity histogram")

    def sizeHint(self) -> QSize:
        """As low as can be read."""
        return QSize(200, 42)

    def setColours(self, colours: Colours) -> None:
        """Follow the theme."""
        self._colours = colours
        self.update()

    def setHistogram(self, histogram: Histogram | None) -> None:
        """Show a histogram; None: nothing yet."""
        if histogram is not self._histogram:
            self._histogram = histogram
            self.update()

    def setThresholds(self, threshold: float | None, low: float | None) -> None:
        """Draw the threshold and how far defects are grown."""
        if (threshold, low) != (self._threshold, self._low):
            self._threshold, self._low = threshold, low
            self.update()

    def thresholds(self) -> tuple[float | None, float | None]:
        """The threshold and how far defects are grown, None where they are unknown."""
        return self._threshold, self._low

    def range(self) -> tuple[float, float]:
        """Severities at the left and right ends."""
        if self._histogram is None:
            return 0.0, _DEFAULT_TOP
        return float(self._histogram.edges[0]), float(self._histogram.edges[-1])

    def x_of(self, severity: float) -> float:
        """Where a severity lies, in pixels of the widget."""
        low, high = self.range()
        return (severity - low) / (high - low) * (self.width() - 1)

    def mousePressEvent(self, event: Any) -> None:
        """Move the threshold."""
        self.mouseMoveEvent(event)

    def mouseMoveEvent(self, event: Any) -> None:
        """Move the threshold."""
        if event.buttons() & Qt.MouseButton.LeftButton:
            low, high = self.range()
            share = min(max(event.position().x() / max(self.width() - 1, 1), 0.0), 1.0)
            self.pointed.emit(max(low + share * (high - low), 0.0))

    def paintEvent(self, event: Any) -> None:
        """Draw all of it."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        ink = self._colours
        painter.fillRect(self.rect(), ink.background.lighter(112) if ink.dark else ink.background.darker(104))
        if self._histogram is None:
            painter.setPen(ink.text)
            painter.drawText(self.rect(), Qt.AlignmentFlag.AlignCenter, "severity histogram: after a run")
            return
        self._draw_bars(painter, self._histogram)
        for value, style in ((self._low, Qt.PenStyle.DotLine), (self._threshold, Qt.PenStyle.SolidLine)):
            if value is not None:
                x = self.x_of(value)
                painter.setPen(QPen(ink.text, 1.6, style))
                painter.drawLine(QPointF(x, 0), QPointF(x, self.height()))

    def _draw_bars(self, painter: QPainter, histogram: Histogram) -> None:
        height, width = self.height() - 2, self.width() - 1
        top = math.log1p(float(histogram.counts.max()))
        bar = width / len(histogram.counts)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(self._colours.accent)
        for i, count in enumerate(histogram.counts):
            tall = height * math.log1p(float(count)) / max(top, 1e-9)
            painter.drawRect(QRectF(i * bar, self.height() - tall, bar + 0.3, tall))


class ThresholdEditor(QWidget):
    """Histogram, slider and number of the false marks that are expected in a clean image."""

    valueChanged = Signal(float)

    def __init__(self, colours: Colours) -> None:
        super().__init__()
        self.histogram = HistogramView(colours)
        self.slider = QuietSlider()
        self.slider.setRange(0, _STEPS)
        self.number = editor_of(NAME)
        self.slider.setToolTip(self.number.toolTip())
        self.slider.setAccessibleName("threshold")
        layout = QGridLayout(self)
        layout.setContentsMargins(INDENT, 0, 0, 0)
        layout.setVerticalSpacing(1)
        layout.setHorizontalSpacing(6)
        layout.addWidget(self.histogram, 0, 0, 1, 3)
        self.label = QLabel(label_of(NAME))
        self.label.setToolTip(self.number.toolTip())
        layout.addWidget(self.label, 1, 0)
        layout.addWidget(self.slider, 1, 1)
        layout.addWidget(self.number, 1, 2)
        layout.setColumnStretch(1, 1)
        self._area = 0.0
        self._extent = 0.0
        self.slider.valueChanged.connect(self._slid)
        self.number.valueChanged.connect(self._typed)
        self.histogram.pointed.connect(self._pointed)

    def value(self) -> float:
        """Expected false marks."""
        return float(self.number.value())

    def setValue(self, recipe: Recipe) -> None:
        """Show what a recipe asks for; nothing is emitted."""
        value = recipe.segment.false_marks
        mark_changed(self.label, value != PARAMETERS[NAME]["default"])
        self._extent = recipe.segment.extent
        with QSignalBlocker(self.number):
            self.number.setValue(value)
        self._show()

    def setHistogram(self, histogram: Histogram | None) -> None:
        """Show the severities of the image."""
        self._area = 0.0 if histogram is None else histogram.area_periods
        self.histogram.setHistogram(histogram)
        self._show()

    def _show(self) -> None:
        with QSignalBlocker(self.slider):
            self.slider.setValue(
                round(_STEPS * math.log10(_MOST / self.value()) / math.log10(_MOST / _LEAST))
            )
        threshold = severity_of(self.value(), self._area) if self._area else None
        self.histogram.setThresholds(threshold, None if threshold is None else self._extent * threshold)

    def _slid(self, position: int) -> None:
        self._set(_MOST * (_LEAST / _MOST) ** (position / _STEPS))

    def _pointed(self, severity: float) -> None:
        if self._area:
            self._set(false_marks_of(severity, self._area))

    def _set(self, value: float) -> None:
        """To two digits, as a hand that moves a slider means it."""
        self.number.setValue(float(f"{value:.2g}"))

    def _typed(self, value: float) -> None:
        self._show()
        self.valueChanged.emit(float(value))
