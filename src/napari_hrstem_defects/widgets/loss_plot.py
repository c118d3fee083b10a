"""Loss of a training, pass by pass."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_hrstem_defects.widgets.theme import Colours

_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 10, 20, 20
#: Name, colour and dashes of the two curves.
_CURVES = (
    ("training", "#D55E00", Qt.PenStyle.SolidLine),
    ("validation", "#56B4E9", Qt.PenStyle.DashLine),
)


class LossPlot(QWidget):
    """Two curves: loss on the patches trained on, and on others; the second one tells when it is enough."""

    def __init__(self, colours: Colours) -> None:
        super().__init__()
        self._colours = colours
        self._losses: list[tuple[float, float]] = []
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumSize(260, 110)
        self.setAccessibleName("loss of the training")
        self.setToolTip("Loss, pass by pass; training ends when that on the validation part falls no more")

    def sizeHint(self) -> QSize:
        """Below the settings."""
        return QSize(420, 150)

    def value(self) -> list[tuple[float, float]]:
        """Losses on the training and on the validation part, one pair a pass."""
        return list(self._losses)

    def clear(self) -> None:
        """Begin anew."""
        self._losses = []
        self.update()

    def add(self, training: float, validation: float) -> None:
        """Another pass is finished."""
        self._losses.append((training, validation))
        self.update()

    def paintEvent(self, event: Any) -> None:
        """Draw axes and curves."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        ink = self._colours.text
        painter.setPen(QPen(ink, 1))
        if not self._losses:
            painter.drawText(self.rect(), Qt.AlignmentFlag.AlignCenter, "loss: after the first pass")
            return
        top = 1.05 * max(max(pair) for pair in self._losses) or 1.0
        base, tall, wide = (
            self.height() - _BOTTOM,
            self.height() - _TOP - _BOTTOM,
            self.width() - _LEFT - _RIGHT,
        )
        painter.drawLine(QPointF(_LEFT, _TOP), QPointF(_LEFT, base))
        painter.drawLine(QPointF(_LEFT, base), QPointF(self.width() - _RIGHT, base))
        right = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        painter.drawText(QRectF(0, _TOP - 8, _LEFT - 4, 16), right, f"{top:.2g}")
        painter.drawText(QRectF(0, base - 8, _LEFT - 4, 16), right, "0")
        painter.drawText(QRectF(_LEFT, base + 2, wide, 16), right, f"{len(self._losses)}")
        painter.drawText(QRectF(_LEFT, base + 2, wide, 16), Qt.AlignmentFlag.AlignCenter, "pass")
        x = float(_LEFT + 8)
        for k, (name, colour, style) in enumerate(_CURVES):
            painter.setPen(QPen(QColor(colour), 2, style))
            points = [
                QPointF(_LEFT + (i + 1) / len(self._losses) * wide, base - pair[k] / top * tall)
                for i, pair in enumerate(self._losses)
            ]
            painter.drawPolyline(QPolygonF(points))
            for point in points if len(points) <= 60 else ():
                painter.drawEllipse(point, 2, 2)
            painter.drawLine(QPointF(x, 9), QPointF(x + 22, 9))
            painter.setPen(QPen(ink, 1))
            width = painter.fontMetrics().horizontalAdvance(name)
            painter.drawText(QRectF(x + 27, 0, width + 4, 18), Qt.AlignmentFlag.AlignVCenter, name)
            x += width + 44
