"""The lattices of an image in the panel: which of them count as intact, and how to point out another one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtGui import QColor, QIcon, QPixmap
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

from napari_hrstem_defects.widgets.layout import fixed_button
from napari_hrstem_defects.widgets.parameters import INDENT
from napari_hrstem_defects.widgets.theme import Colours, boxes

#: Least width of the table, in px of the screen: the panel shall not grow with the words in it.
_WIDTH = 240
#: Height of a row, in px of the screen.
_ROW = 20


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
    intact : bool
    by_hand : bool
        Its patch was placed by hand.
    colour : str
    """

    number: int
    relation: str
    turn_deg: float | None
    share: float
    intact: bool
    by_hand: bool
    colour: str


class LatticesView(QWidget):
    """Table of the lattices with a tick box each, and what can be done about them."""

    #: ``(number, intact)``: a box was ticked or unticked.
    verdictGiven = Signal(int, bool)
    addRequested = Signal()
    moveRequested = Signal()
    #: ``(shown)``: show or hide the map of the lattices.
    mapRequested = Signal(bool)

    def __init__(self) -> None:
        super().__init__()
        self._rows: tuple[LatticeRow, ...] = ()
        self.about = QLabel("–")
        self.about.setAccessibleName("lattices")
        self.map = fixed_button("Map", "Shows which lattice each part of the image belongs to.")
        self.map.setCheckable(True)
        self.move_button = fixed_button("Move…", "Selects the patches of the other lattices: drag them.")
        self.add = fixed_button("Add…", "Click into the image where another lattice lies that was not found.")
        self.map.clicked.connect(self.mapRequested)
        self.move_button.clicked.connect(lambda: self.moveRequested.emit())
        self.add.clicked.connect(lambda: self.addRequested.emit())
        self.table = _Table()
        self.table.itemChanged.connect(self._changed)
        head = QHBoxLayout()
        head.setSpacing(4)
        head.addWidget(self.about)
        head.addStretch(1)
        for button in (self.map, self.move_button, self.add):
            head.addWidget(button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(INDENT, 0, 0, 0)
        layout.setSpacing(2)
        layout.addLayout(head)
        layout.addWidget(self.table)
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
        with QSignalBlocker(self.table):
            self.table.setRowCount(len(self._rows))
            for line, row in enumerate(self._rows):
                for column, item in enumerate(_items(row)):
                    self.table.setItem(line, column, item)
        self.table.setVisible(bool(self._rows))
        self.table.updateGeometry()

    def setState(self, *, count: int, mapped: bool) -> None:
        """Say how many lattices were found (0: not known), and whether their map is shown."""
        self.about.setText(f"{count} lattice{'s' if count > 1 else ''}" if count else "–")
        self.add.setEnabled(count > 0)
        for button in (self.map, self.move_button):
            button.setVisible(bool(self._rows))
        self.map.setChecked(mapped)

    def _changed(self, item: QTableWidgetItem) -> None:
        if item.column() == 0:
            self.verdictGiven.emit(self._rows[item.row()].number, item.checkState() == Qt.CheckState.Checked)


class _Table(QTableWidget):
    """As high as its rows: it never scrolls inside the panel."""

    def __init__(self) -> None:
        super().__init__(0, 4)
        self.setHorizontalHeaderLabels(["intact", "lattice", "turned", "share"])
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
            "<qt>Ticked: this lattice counts as intact crystal, and only what departs from it is a defect. Not ticked: "
            "all of it is a defect. The best patch's own lattice is always intact.</qt>"
        )

    def sizeHint(self) -> Any:
        """Heading and rows."""
        hint = super().sizeHint()
        hint.setWidth(_WIDTH)
        hint.setHeight(_ROW * (self.rowCount() + 1) + 2 * self.frameWidth())
        return hint

    minimumSizeHint = sizeHint


def _items(row: LatticeRow) -> list[QTableWidgetItem]:
    box = QTableWidgetItem(f"{row.number}")
    box.setFlags(Qt.ItemFlag.ItemIsUserCheckable | Qt.ItemFlag.ItemIsEnabled)
    box.setCheckState(Qt.CheckState.Checked if row.intact else Qt.CheckState.Unchecked)
    name = QTableWidgetItem(f"{row.relation}{', by hand' if row.by_hand else ''}")
    swatch = QPixmap(12, 12)
    swatch.fill(QColor(row.colour))
    name.setIcon(QIcon(swatch))
    turn = QTableWidgetItem("–" if row.turn_deg is None else f"{row.turn_deg:.1f}°")
    share = QTableWidgetItem(f"{100 * row.share:.1f} %")
    for item in (turn, share):
        item.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
    return [box, name, turn, share]
