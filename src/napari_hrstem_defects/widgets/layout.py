"""Ways to arrange widgets."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QEvent, QSize, Qt
from qtpy.QtWidgets import QFrame, QHBoxLayout, QLabel, QPushButton, QScrollArea, QSizePolicy, QWidget

from napari_hrstem_defects.widgets.parameters import INDENT

#: Width of a scroll bar in napari's themes with its margins, in px of the screen.
_SCROLL_BAR = 16


class Column(QScrollArea):
    """Scrolls up and down only: as wide as its contents, so that nothing is cut off sideways.

    Parameters
    ----------
    inside : QWidget
    """

    def __init__(self, inside: QWidget) -> None:
        super().__init__()
        self.setWidgetResizable(True)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setWidget(inside)
        self._inside = inside

    def minimumSizeHint(self) -> QSize:
        """Width of the contents and of the scroll bar."""
        return QSize(self._inside.minimumSizeHint().width() + _SCROLL_BAR, 120)

    def sizeHint(self) -> QSize:
        """All of the contents."""
        hint = self.minimumSizeHint()
        return QSize(hint.width(), self._inside.sizeHint().height())

    def event(self, event: Any) -> bool:
        """Take another width when the contents do."""
        if event.type() == QEvent.Type.LayoutRequest:
            self.updateGeometry()
        return super().event(event)


class Wrapped(QLabel):
    """Text as high as its lines are at the width that it has; Qt would leave room for a narrower column."""

    def __init__(self, text: str = "") -> None:
        super().__init__(text)
        self.setWordWrap(True)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)

    def sizeHint(self) -> QSize:
        """Height of the lines."""
        return QSize(0, self.heightForWidth(max(self.width(), 1)))

    minimumSizeHint = sizeHint

    def resizeEvent(self, event: Any) -> None:
        """Another width may take another height."""
        super().resizeEvent(event)
        if event.oldSize().width() != event.size().width():
            self.updateGeometry()


def fixed_button(text: str, tooltip: str) -> QPushButton:
    """Button no larger than its text."""
    button = QPushButton(text)
    button.setToolTip(f"<qt>{tooltip}</qt>")
    button.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
    return button


def row(*widgets: QWidget) -> QWidget:
    """Widgets side by side, spread out."""
    whole = QWidget()
    layout = QHBoxLayout(whole)
    layout.setContentsMargins(INDENT, 0, 0, 0)
    spread = not any(isinstance(widget, Wrapped) for widget in widgets)  # else a text takes what room is left
    for i, widget in enumerate(widgets):
        if i and spread:
            layout.addStretch(1)
        layout.addWidget(widget, 1 if isinstance(widget, Wrapped) else 0)
    return whole
