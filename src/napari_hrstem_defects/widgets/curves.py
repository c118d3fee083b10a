"""A few curves in a small plot: axes, names, points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qtpy.QtCore import QPointF, QRectF, Qt
from qtpy.QtGui import QColor, QPainter, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_hrstem_defects.widgets.theme import Colours

#: Room beside the axes, in px of the screen.
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 20, 20
#: Points closer together than so many in a plot would hide the line.
_MOST_POINTS = 60
#: Length of the piece of line before the name of a curve, and the room of both without the letters.
_SAMPLE, _NAME_ROOM = 22, 44


@dataclass(frozen=True)
class Curve:
    """How a curve is drawn; told apart by the dashes too."""

    name: str
    colour: str
    style: Qt.PenStyle


class CurvePlot(QWidget):
    """Curves over whole numbers, beginning at 0 both ways.

    Parameters
    ----------
    colours : Colours
    curves : sequence of Curve
    axis : str
        What is counted from left to right.
    unit : str
        Of the values.
    """

    def __init__(self, colours: Colours, curves: Sequence[Curve], axis: str, unit: str = "") -> None:
        super().__init__()
        self._colours, self._curves, self._axis, self._unit = colours, curves, axis, unit
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)

    def setColours(self, colours: Colours) -> None:
        """Follow the theme."""
        self._colours = colours
        self.update()

    def points(self) -> list[tuple[float, tuple[float, ...]]]:
        """Where from left to right, and the value of each curve there."""
        raise NotImplementedError

    def last(self) -> int:
        """Right end."""
        raise NotImplementedError

    def x_of(self, number: float) -> float:
        """Where a number lies from left to right, in pixels of the widget."""
        return _LEFT + number / max(self.last(), 1) * (self.width() - _LEFT - _RIGHT)

    def number_at(self, x: float) -> int:
        """The nearest number to a place, in pixels of the widget."""
        share = (x - _LEFT) / max(self.width() - _LEFT - _RIGHT, 1)
        return min(max(round(share * max(self.last(), 1)), 0), self.last())

    def y_of(self, value: float, top: float) -> float:
        """Where a value lies if `top` is the upper end, in pixels of the widget."""
        return self.height() - _BOTTOM - value / top * (self.height() - _TOP - _BOTTOM)

    def top(self) -> float:
        """Upper end."""
        return 1.05 * max(max(values) for _, values in self.points()) or 1.0

    def paintEvent(self, event: Any) -> None:
        """Draw axes and curves."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        if self.points():
            self._draw_axes(painter)
            self._draw_curves(painter)

    def _draw_axes(self, painter: QPainter) -> None:
        base, wide = self.height() - _BOTTOM, self.width() - _LEFT - _RIGHT
        painter.setPen(QPen(self._colours.text, 1))
        painter.drawLine(QPointF(_LEFT, _TOP), QPointF(_LEFT, base))
        painter.drawLine(QPointF(_LEFT, base), QPointF(_LEFT + wide, base))
        right = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        painter.drawText(QRectF(0, _TOP - 8, _LEFT - 4, 16), right, f"{self.top():.3g}{self._unit}")
        painter.drawText(QRectF(0, base - 8, _LEFT - 4, 16), right, "0")
        below = QRectF(_LEFT, base + 2, wide, 16)
        painter.drawText(QRectF(_LEFT - 20, base + 2, 40, 16), Qt.AlignmentFlag.AlignCenter, "0")
        painter.drawText(below, Qt.AlignmentFlag.AlignCenter, self._axis)
        painter.drawText(below, right, f"{self.last()}")

    def _draw_curves(self, painter: QPainter) -> None:
        metrics, top, points = painter.fontMetrics(), self.top(), self.points()
        x = self.width() - sum(metrics.horizontalAdvance(c.name) + float(_NAME_ROOM) for c in self._curves)
        for number, curve in enumerate(self._curves):
            painter.setPen(QPen(QColor(curve.colour), 2, curve.style))
            line = [QPointF(self.x_of(k), self.y_of(values[number], top)) for k, values in points]
            painter.drawPolyline(QPolygonF(line))
            for point in line if len(line) <= _MOST_POINTS else ():
                painter.drawEllipse(point, 2, 2)
            painter.drawLine(QPointF(x, 9), QPointF(x + _SAMPLE, 9))
            painter.setPen(QPen(self._colours.text, 1))
            width = metrics.horizontalAdvance(curve.name)
            name = QRectF(x + _SAMPLE + 5, 0, width + 4, 18)
            painter.drawText(name, Qt.AlignmentFlag.AlignVCenter, curve.name)
            x += width + _NAME_ROOM
