"""Areas of the defects against time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qtpy.QtCore import QPointF, QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QPainter, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_hrstem_defects.widgets.theme import Colours

#: Key of the share, its name, its pen: told apart by the dashes too.
_CURVES = (
    ("symmetry_defect", "symmetry", "#D55E00", Qt.PenStyle.SolidLine),
    ("amorphous", "amorphous", "#56B4E9", Qt.PenStyle.DashLine),
)
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 20, 20


class AreaPlot(QWidget):
    """Share of the image that is marked, frame by frame; a click goes to a frame."""

    #: ``(frame)``
    frameChosen = Signal(int)

    def __init__(self, colours: Colours) -> None:
        super().__init__()
        self._colours = colours
        self._areas: list[dict[str, float]] = []
        self._frame = 0
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumSize(250, 90)
        self.setAccessibleName("area of the defects against time")
        self.setToolTip("Share of the image that is marked, frame by frame; click to go to a frame")

    def sizeHint(self) -> QSize:
        """Beside the table."""
        return QSize(360, 130)

    def value(self) -> list[dict[str, float]]:
        """The shares shown."""
        return self._areas

    def setValue(self, areas: Sequence[dict[str, float]]) -> None:
        """Show other shares."""
        self._areas = list(areas)
        self.update()

    def setFrame(self, frame: int) -> None:
        """Mark the frame that the viewer shows."""
        if frame != self._frame:
            self._frame = frame
            self.update()

    def setColours(self, colours: Colours) -> None:
        """Follow the theme."""
        self._colours = colours
        self.update()

    def x_of(self, frame: float) -> float:
        """Where a frame lies, in pixels of the widget."""
        return _LEFT + frame / max(len(self._areas) - 1, 1) * (self.width() - _LEFT - _RIGHT)

    def mousePressEvent(self, event: Any) -> None:
        """Go to the nearest frame."""
        if self._areas:
            wide = max(self.width() - _LEFT - _RIGHT, 1)
            share = (event.position().x() - _LEFT) / wide
            last = len(self._areas) - 1
            self.frameChosen.emit(min(max(round(share * last), 0), last))

    def paintEvent(self, event: Any) -> None:
        """Draw axes, curves and the frame shown."""
        if not self._areas:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        ink = self._colours.text
        top = max(1.0, *(100 * area[key] for area in self._areas for key, *_ in _CURVES)) * 1.05
        base, tall = self.height() - _BOTTOM, self.height() - _TOP - _BOTTOM
        painter.setPen(QPen(ink, 1))
        painter.drawLine(QPointF(_LEFT, _TOP), QPointF(_LEFT, base))
        painter.drawLine(QPointF(_LEFT, base), QPointF(self.width() - _RIGHT, base))
        right = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        painter.drawText(QRectF(0, _TOP - 8, _LEFT - 4, 16), right, f"{top:.3g} %")
        painter.drawText(QRectF(0, base - 8, _LEFT - 4, 16), right, "0")
        last = len(self._areas) - 1
        centre = Qt.AlignmentFlag.AlignCenter
        painter.drawText(QRectF(_LEFT - 20, base + 2, 40, 16), centre, "0")
        painter.drawText(QRectF(_LEFT, base + 2, self.width() - _LEFT - _RIGHT, 16), right, f"{last}")
        painter.drawText(QRectF(_LEFT, base + 2, self.width() - _LEFT - _RIGHT, 16), centre, "frame")
        painter.setPen(QPen(ink, 1, Qt.PenStyle.DotLine))
        painter.drawLine(QPointF(self.x_of(self._frame), _TOP), QPointF(self.x_of(self._frame), base))
        metrics = painter.fontMetrics()
        x = self.width() - sum(metrics.horizontalAdvance(name) + 44.0 for _, name, *_ in _CURVES)
        for key, name, colour, style in _CURVES:
            painter.setPen(QPen(QColor(colour), 2, style))
            points = [
                QPointF(self.x_of(i), base - 100 * area[key] / top * tall)
                for i, area in enumerate(self._areas)
            ]
            painter.drawPolyline(QPolygonF(points))
            for point in points if len(points) <= 60 else ():
                painter.drawEllipse(point, 2, 2)
            painter.drawLine(QPointF(x, 9), QPointF(x + 22, 9))
            painter.setPen(QPen(ink, 1))
            width = metrics.horizontalAdvance(name)
            painter.drawText(QRectF(x + 27, 0, width + 4, 18), Qt.AlignmentFlag.AlignVCenter, name)
            x += width + 44
