"""Areas of the defects against time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qtpy.QtCore import QPointF, QSize, Qt, Signal
from qtpy.QtGui import QPainter, QPen

from napari_hrstem_defects.io.display import AMORPHOUS_COLOUR, SYMMETRY_COLOUR
from napari_hrstem_defects.widgets.curves import Curve, CurvePlot
from napari_hrstem_defects.widgets.theme import Colours

#: Keys of the shares that are drawn, and how.
_CURVES = {
    "symmetry_defect": Curve("symmetry", SYMMETRY_COLOUR, Qt.PenStyle.SolidLine),
    "amorphous": Curve("amorphous", AMORPHOUS_COLOUR, Qt.PenStyle.DashLine),
}


class AreaPlot(CurvePlot):
    """Share of the image that is marked, frame by frame; a click goes to a frame."""

    #: ``(frame)``
    frameChosen = Signal(int)

    def __init__(self, colours: Colours) -> None:
        super().__init__(colours, tuple(_CURVES.values()), "frame", " %")
        self._areas: list[dict[str, float]] = []
        self._frame = 0
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

    def points(self) -> list[tuple[float, tuple[float, ...]]]:
        """The shares in percent."""
        return [(k, tuple(100 * area[key] for key in _CURVES)) for k, area in enumerate(self._areas)]

    def last(self) -> int:
        """The last frame."""
        return max(len(self._areas) - 1, 0)

    def top(self) -> float:
        """One percent at least: less is noise."""
        return max(1.05, super().top())

    def mousePressEvent(self, event: Any) -> None:
        """Go to the nearest frame."""
        if self._areas:
            self.frameChosen.emit(self.number_at(event.position().x()))

    def paintEvent(self, event: Any) -> None:
        """Draw axes, curves and the frame shown."""
        super().paintEvent(event)
        if self._areas:
            x, top = self.x_of(self._frame), self.top()
            painter = QPainter(self)
            painter.setPen(QPen(self._colours.text, 1, Qt.PenStyle.DotLine))
            painter.drawLine(QPointF(x, self.y_of(0, top)), QPointF(x, self.y_of(top, top)))
