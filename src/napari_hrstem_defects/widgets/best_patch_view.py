"""Best patch in the panel: where it is, back, undo, and its eigenfilters as small pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QImage, QPainter
from qtpy.QtWidgets import QHBoxLayout, QLabel, QSizePolicy, QVBoxLayout, QWidget

from napari_hrstem_defects.widgets.layout import fixed_button
from napari_hrstem_defects.widgets.parameters import INDENT

#: Edge of a small picture and the gap between two, in px of the screen.
_TILE, _GAP = 22, 2
#: More eigenfilters than these are not drawn; they come in the order of the variance they hold.
_MOST = 14


class FilterStrip(QWidget):
    """Row of small pictures of the eigenfilters."""

    def __init__(self) -> None:
        super().__init__()
        self._filters: NDArray[np.float32] | None = None
        self._images: list[QImage] = []
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setAccessibleName("eigenfilters")
        self.hide()

    def sizeHint(self) -> QSize:
        """One row."""
        return QSize(6 * (_TILE + _GAP), _TILE if self._images else 0)

    def count(self) -> int:
        """How many are drawn."""
        return len(self._images)

    def setFilters(self, filters: NDArray[np.float32] | None) -> None:
        """Show filters of shape ``(n, k, k)``; None: nothing."""
        if filters is self._filters:
            return
        self._filters = filters
        self._images = [] if filters is None else [_picture(item) for item in filters[:_MOST]]
        number = 0 if filters is None else len(filters)
        self.setToolTip(
            f"<qt>The {number} eigenfilters of the best patch: the patterns that its surroundings are made of, the "
            "most common first. A defect is what cannot be put together from them.</qt>"
        )
        self.setVisible(bool(self._images))
        self.updateGeometry()
        self.update()

    def paintEvent(self, event: Any) -> None:
        """Draw as many as fit."""
        painter = QPainter(self)
        fitting = max(1, (self.width() + _GAP) // (_TILE + _GAP))
        for i, image in enumerate(self._images[:fitting]):
            painter.drawImage(
                i * (_TILE + _GAP), 0, image.scaled(_TILE, _TILE, Qt.AspectRatioMode.IgnoreAspectRatio)
            )


def _picture(values: NDArray[np.float32]) -> QImage:
    """Filter in greys, zero in the middle."""
    largest = float(np.abs(values).max()) or 1.0
    grey = np.ascontiguousarray(127.5 * (1 + values / largest), dtype=np.uint8)
    height, width = grey.shape
    return QImage(grey.tobytes(), width, height, width, QImage.Format.Format_Grayscale8).copy()


class BestPatchView(QWidget):
    """Place of the best patch, buttons to move it, its eigenfilters."""

    moveRequested = Signal()
    automaticRequested = Signal()
    undoRequested = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.place = QLabel("–")
        self.place.setAccessibleName("place of the best patch")
        self.move_button = fixed_button(
            "Move…", "Selects the yellow square: drag it, or click elsewhere with the add tool."
        )
        self.automatic = fixed_button("Back to automatic", "Forgets where you placed the best patch.")
        self.undo = fixed_button(
            "Undo", "Takes back what was done last by hand: a patch moved, a lattice ticked, labels painted."
        )
        self.filters = FilterStrip()
        buttons = QHBoxLayout()
        buttons.setSpacing(4)
        for button, signal in (
            (self.move_button, self.moveRequested),
            (self.automatic, self.automaticRequested),
            (self.undo, self.undoRequested),
        ):
            buttons.addWidget(button)
            button.clicked.connect(lambda _=False, signal=signal: signal.emit())
        buttons.addStretch(1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(INDENT, 0, 0, 0)
        layout.setSpacing(2)
        head = QHBoxLayout()
        head.addWidget(self.place)
        head.addWidget(self.filters, 1)
        layout.addLayout(head)
        layout.addLayout(buttons)

    def setPlace(self, text: str, *, by_hand: bool, undoable: bool, movable: bool) -> None:
        """Say where it is, and what can be done about it."""
        self.place.setText(text)
        self.automatic.setEnabled(by_hand)
        self.undo.setEnabled(undoable)
        self.move_button.setEnabled(movable)
