"""Table of the lattices of an image, with a tick box each: whether it counts as intact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QIcon
from qtpy.QtWidgets import (
    QAbstractItemView,
    QAbstractScrollArea,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QSizePolicy,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)
from superqt.utils import signals_blocked

from napari_hrstem_defects.widgets.editors import INDENT, box, button
from napari_hrstem_defects.widgets.parts import swatch
from napari_hrstem_defects.widgets.theme import Colours, boxes

#: Height of a row and least width, so that the panel keeps its width; in px of the screen.
_ROW, _WIDTH = 20, 240


@dataclass(frozen=True)
class LatticeRow:
    """One lattice of the image.

    Attributes
    ----------
    number : int
        As in the layer of lattices; 0 is the best patch's.
    relation : str
        To the first.
    turn_deg : float or None
        Misorientation to the first.
    share : float
        Of the image, 0...1.
    intact, by_hand : bool
        It counts as intact; its patch was placed by hand.
    colour : str
    """

    number: int
    relation: str
    turn_deg: float | None
    share: float
    intact: bool
    by_hand: bool
    colour: str

    def items(self) -> list[QTableWidgetItem]:
        """Cells of its row."""
        box = QTableWidgetItem(f"{self.number}")
        box.setFlags(Qt.ItemFlag.ItemIsUserCheckable | Qt.ItemFlag.ItemIsEnabled)
        box.setCheckState(Qt.CheckState.Checked if self.intact else Qt.CheckState.Unchecked)
        name = QTableWidgetItem(f"{self.relation}{', by hand' if self.by_hand else ''}")
        name.setIcon(QIcon(swatch(self.colour)))
        turn = QTableWidgetItem("–" if self.turn_deg is None else f"{self.turn_deg:.1f}°")
        share = QTableWidgetItem(f"{100 * self.share:.1f} %")
        for item in (turn, share):
            item.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        return [box, name, turn, share]


class LatticesView(QWidget):
    """Table of the lattices with a tick box each, and what can be done about them."""

    #: ``(number, intact)``: a box was ticked or unticked.
    verdictGiven = Signal(int, bool)

    def __init__(self) -> None:
        super().__init__()
        self._rows: tuple[LatticeRow, ...] = ()
        self.about = QLabel("–")
        self.about.setAccessibleName("lattices")
        self.map = button("Map", "Shows which lattice each part of the image belongs to.")
        self.map.setCheckable(True)
        self.move_button = button("Move…", "Selects the patches of the other lattices: drag them.")
        self.add = button(
            "Add…",
            "Click into a lattice in the image that was not found.",
        )
        self.table = _LatticeTable()
        self.table.itemChanged.connect(self._changed)
        head = box(QHBoxLayout(), self.about, None, self.map, self.move_button, self.add, spacing=4)
        box(QVBoxLayout(self), head, self.table, margins=(INDENT, 0, 0, 0), spacing=2)
        self.table.hide()
        self.setState(count=0, mapped=False)

    def setColours(self, colours: Colours) -> None:
        """Follow the theme."""
        self.table.setStyleSheet(boxes(colours))

    def value(self) -> tuple[LatticeRow, ...]:
        """The lattices shown, but the first."""
        return self._rows

    def setValue(self, rows: Sequence[LatticeRow]) -> None:
        """Show the lattices beside the best patch's; nothing is emitted."""
        if tuple(rows) == self._rows:
            return
        self._rows = tuple(rows)
        with signals_blocked(self.table):
            self.table.setRowCount(len(self._rows))
            for line, row in enumerate(self._rows):
                for column, item in enumerate(row.items()):
                    self.table.setItem(line, column, item)
        self.table.setVisible(bool(self._rows))
        self.table.updateGeometry()

    def setState(self, *, count: int, mapped: bool) -> None:
        """Show the number of lattices (0: unknown), and whether their map is visible."""
        self.about.setText(f"{count} lattice{'s' if count > 1 else ''}" if count else "–")
        self.add.setEnabled(count > 0)
        self.map.setVisible(bool(self._rows))
        self.move_button.setVisible(bool(self._rows))
        self.map.setChecked(mapped)

    def _changed(self, item: QTableWidgetItem) -> None:
        if item.column() == 0:
            self.verdictGiven.emit(self._rows[item.row()].number, item.checkState() == Qt.CheckState.Checked)


class _LatticeTable(QTableWidget):
    """As high as its rows: it never scrolls inside the panel."""

    def __init__(self) -> None:
        super().__init__(0, 4)
        self.setHorizontalHeaderLabels(["intact", "lattice", "rotation", "share"])
        rows: Any = self.verticalHeader()
        rows.hide()
        rows.setMinimumSectionSize(_ROW)
        rows.setDefaultSectionSize(_ROW)
        columns: Any = self.horizontalHeader()
        columns.setFixedHeight(_ROW)
        columns.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        columns.setSectionResizeMode(1, QHeaderView.ResizeMode.Stretch)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
        self.setSizeAdjustPolicy(QAbstractScrollArea.SizeAdjustPolicy.AdjustToContents)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setAccessibleName("which lattices count as intact")
        self.setToolTip(
            "<qt>Ticked: the lattice counts as intact crystal; only deviations from it are defects. Not ticked: all of "
            "it is a defect. The lattice of the best patch is always intact.</qt>"
        )

    def sizeHint(self) -> Any:
        """Heading and rows."""
        hint = super().sizeHint()
        hint.setWidth(_WIDTH)
        hint.setHeight(_ROW * (self.rowCount() + 1) + 2 * self.frameWidth())
        return hint

    minimumSizeHint = sizeHint
