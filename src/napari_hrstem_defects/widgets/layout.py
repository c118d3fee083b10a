"""Parts of the panel that only arrange others: columns, rows, wrapped text, buttons; connections that end together."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QEvent, QSize, Qt
from qtpy.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QLabel,
    QLayout,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QWidget,
)

#: How far the parameters of a step stand in from its heading; width of a scroll bar with its margins; in screen px.
INDENT, _SCROLL_BAR = 22, 16


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
        return QSize(self.minimumSizeHint().width(), self._inside.sizeHint().height())

    def event(self, event: Any) -> bool:
        """Take another width when the contents do."""
        if event.type() == QEvent.Type.LayoutRequest:
            self.updateGeometry()
        return super().event(event)


class Wrapped(QLabel):
    """Text as high as its lines are at the width that it has; Qt would leave room for a narrower column."""

    def __init__(self, text: str = "", name: str = "") -> None:
        super().__init__(text)
        self.setAccessibleName(name)
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


def button(
    text: str, tooltip: str, pressed: Callable[[], Any] | None = None, *, fixed: bool = True
) -> QPushButton:
    """Button with a tooltip, no larger than its text if `fixed`; `pressed` is called without arguments."""
    made = QPushButton(text)
    made.setToolTip(f"<qt>{tooltip}</qt>")
    if fixed:
        made.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
    if pressed is not None:
        made.clicked.connect(lambda: pressed())
    return made


def box(
    layout: Any,
    *parts: QWidget | QLayout | None,
    margins: tuple[int, int, int, int] | None = (0, 0, 0, 0),
    spacing: int | None = None,
    stretch: int | None = None,
) -> Any:
    """A layout with widgets and layouts, None: a stretch; returns it.

    Margins None are those of the style; the part with the index `stretch` takes the room that is left.
    """
    if margins is not None:
        layout.setContentsMargins(*margins)
    if spacing is not None:
        layout.setSpacing(spacing)
    for part in parts:
        if part is None:
            layout.addStretch(1)
        elif isinstance(part, QWidget):
            layout.addWidget(part)
        else:
            layout.addLayout(part)
    if stretch is not None:
        layout.setStretch(stretch, 1)
    return layout


def row(*widgets: QWidget) -> QWidget:
    """Widgets side by side, spread out, unless a text among them takes what room is left."""
    whole = QWidget()
    layout = box(QHBoxLayout(whole), margins=(INDENT, 0, 0, 0))
    spread = not any(isinstance(widget, Wrapped) for widget in widgets)
    for i, widget in enumerate(widgets):
        if i and spread:
            layout.addStretch(1)
        layout.addWidget(widget, 1 if isinstance(widget, Wrapped) else 0)
    return whole


class Links:
    """Signal connections of a widget to things that outlive it, which end together.

    Closing a dock neither deletes the widget at once nor sends it a close event, so what it is connected to must be
    let go explicitly.
    """

    def __init__(self) -> None:
        self._links: list[tuple[Any, Callable[..., Any]]] = []

    def connect(self, signal: Any, slot: Callable[..., Any]) -> None:
        """Connect and remember."""
        signal.connect(slot)
        self._links.append((signal, slot))

    def clear(self) -> None:
        """End all connections."""
        for signal, slot in self._links:
            # What is gone already needs no disconnecting.
            with contextlib.suppress(ValueError, RuntimeError, TypeError):
                signal.disconnect(slot)
        self._links.clear()

    def __len__(self) -> int:
        return len(self._links)
