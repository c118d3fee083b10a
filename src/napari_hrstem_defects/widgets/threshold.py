"""Threshold of the severity: a slider under the histogram of the image."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from qtpy.QtCore import QPointF, QRectF, QSignalBlocker, QSize, Qt, Signal
from qtpy.QtGui import QPainter, QPen, QPolygonF
from qtpy.QtWidgets import QGridLayout, QLabel, QSizePolicy, QWidget

from napari_hrstem_defects.core.recipe import SegmentParams
from napari_hrstem_defects.widgets.outputs import Histogram
from napari_hrstem_defects.widgets.parameters import INDENT, QuietSlider, editor_of, mark_changed
from napari_hrstem_defects.widgets.theme import Colours

#: Steps of the slider.
_STEPS = 400
#: Upper end of the slider without a histogram, in standard deviations.
_DEFAULT_TOP = 20.0


class HistogramView(QWidget):
    """Histogram of the severity (logarithmic), its defect-free population and the threshold.

    Clicking or dragging in it moves the threshold.
    """

    #: ``(severity)``: a person pointed at a severity.
    pointed = Signal(float)

    def __init__(self, colours: Colours) -> None:
        super().__init__()
        self._colours = colours
        self._histogram: Histogram | None = None
        self._threshold = 7.0
        self._low: float | None = None
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setToolTip(
            "<qt>How many pixels have which severity (logarithmic). Dashed: what a crystal without defects would give. "
            "Solid line: the threshold; dotted: how far a defect is grown.</qt>"
        )
        self.setAccessibleName("severity histogram")

    def sizeHint(self) -> QSize:
        """As low as can be read."""
        return QSize(200, 46)

    def setColours(self, colours: Colours) -> None:
        """Follow the theme."""
        self._colours = colours
        self.update()

    def setHistogram(self, histogram: Histogram | None) -> None:
        """Show a histogram; None: nothing yet."""
        if histogram is not self._histogram:
            self._histogram = histogram
            self.update()

    def setThresholds(self, threshold: float, low: float | None) -> None:
        """Draw the threshold and how far defects are grown."""
        if (threshold, low) != (self._threshold, self._low):
            self._threshold, self._low = threshold, low
            self.update()

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
        if histogram.null is None:
            return
        mean, sigma = histogram.null
        middles = (histogram.edges[1:] + histogram.edges[:-1]) / 2
        density = np.exp(-(((middles - mean) / sigma) ** 2) / 2)
        # As high as the mode of the image: the clean population makes it.
        curve = np.log1p(density * float(histogram.counts.max())) / max(top, 1e-9)
        points = [
            QPointF(self.x_of(x), self.height() - height * y) for x, y in zip(middles, curve, strict=True)
        ]
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.setPen(QPen(self._colours.text, 1.2, Qt.PenStyle.DashLine))
        painter.drawPolyline(QPolygonF(points))


class ThresholdEditor(QWidget):
    """Histogram, slider and number of one threshold."""

    valueChanged = Signal(float)

    def __init__(self, colours: Colours) -> None:
        super().__init__()
        self.histogram = HistogramView(colours)
        self.slider = QuietSlider()
        self.slider.setRange(0, _STEPS)
        self.number = editor_of("segment.threshold")
        self.slider.setToolTip(self.number.toolTip())
        self.slider.setAccessibleName("threshold")
        layout = QGridLayout(self)
        layout.setContentsMargins(INDENT, 0, 0, 0)
        layout.setVerticalSpacing(1)
        layout.setHorizontalSpacing(6)
        layout.addWidget(self.histogram, 0, 0, 1, 3)
        self.label = QLabel("threshold")
        self.label.setToolTip(self.number.toolTip())
        layout.addWidget(self.label, 1, 0)
        layout.addWidget(self.slider, 1, 1)
        layout.addWidget(self.number, 1, 2)
        layout.setColumnStretch(1, 1)
        self._low: float | None = None
        self.slider.valueChanged.connect(self._slid)
        self.number.valueChanged.connect(self._typed)
        self.histogram.pointed.connect(lambda value: self.number.setValue(round(value, 2)))

    def value(self) -> float:
        """The threshold."""
        return float(self.number.value())

    def setValue(self, value: float, low: float | None = None) -> None:
        """Show a threshold; nothing is emitted."""
        self._low = low
        mark_changed(self.label, value != SegmentParams().threshold)
        with QSignalBlocker(self.number):
            self.number.setValue(value)
        self._show()

    def setHistogram(self, histogram: Histogram | None) -> None:
        """Show the severities of the image."""
        self.histogram.setHistogram(histogram)
        self._show()

    def _show(self) -> None:
        with QSignalBlocker(self.slider):
            self.slider.setValue(round(self.value() / self._top() * _STEPS))
        self.histogram.setThresholds(self.value(), self._low)

    def _top(self) -> float:
        return max(self.histogram.range()[1], 1e-6)

    def _slid(self, position: int) -> None:
        self.number.setValue(round(position / _STEPS * self._top(), 2))

    def _typed(self, value: float) -> None:
        self._show()
        self.valueChanged.emit(float(value))
