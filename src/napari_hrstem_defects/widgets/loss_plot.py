"""Loss of a training, pass by pass."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QPainter, QPen

from napari_hrstem_defects.widgets.curves import Curve, CurvePlot
from napari_hrstem_defects.widgets.theme import Colours

_CURVES = (
    Curve("training loss", "#D55E00", Qt.PenStyle.SolidLine),
    Curve("validation loss", "#56B4E9", Qt.PenStyle.DashLine),
)


class LossPlot(CurvePlot):
    """Two curves: loss on the patches trained on, and on others; the second one tells when it is enough."""

    def __init__(self, colours: Colours) -> None:
        super().__init__(colours, _CURVES, "pass")
        self._losses: list[tuple[float, float]] = []
        self.setMinimumSize(260, 110)
        self.setAccessibleName("loss of the training")
        self.setToolTip("Loss, pass by pass; training ends when that on the validation part falls no more")

    def sizeHint(self) -> QSize:
        """Below the settings."""
        return QSize(420, 150)

    def value(self) -> list[tuple[float, float]]:
        """Losses on the training and on the validation part, one pair a pass."""
        return list(self._losses)

    def points(self) -> list[tuple[float, tuple[float, ...]]]:
        """The losses after each pass."""
        return [(number, pair) for number, pair in enumerate(self._losses, start=1)]

    def last(self) -> int:
        """The latest pass."""
        return len(self._losses)

    def clear(self) -> None:
        """Begin anew."""
        self._losses = []
        self.update()

    def add(self, training: float, validation: float) -> None:
        """Another pass is finished."""
        self._losses.append((training, validation))
        self.update()

    def paintEvent(self, event: Any) -> None:
        """Draw axes and curves, or say when there will be any."""
        super().paintEvent(event)
        if not self._losses:
            painter = QPainter(self)
            painter.setPen(QPen(self._colours.text, 1))
            painter.drawText(self.rect(), Qt.AlignmentFlag.AlignCenter, "loss: after the first pass")
