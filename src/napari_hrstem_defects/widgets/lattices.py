"""Table of the lattices of an image, with their cells."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QIcon
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)
from superqt.utils import signals_blocked

from napari_hrstem_defects.io.display import BEST_PATCH_COLOUR
from napari_hrstem_defects.widgets.layout import INDENT, box, button
from napari_hrstem_defects.widgets.model import Document
from napari_hrstem_defects.widgets.outputs import Findings, lattice_colour
from napari_hrstem_defects.widgets.source import pixel_size_nm
from napari_hrstem_defects.widgets.tables import PAINTED, RIGHT, swatch
from napari_hrstem_defects.widgets.theme import Colours, boxes

#: Height of a row of the lattices and least width, so that the panel keeps its width; in px of the screen.
_ROW, _WIDTH = 18, 240
#: Headings of the table of lattices, and what the cell of a lattice is.
_LATTICE_HEADINGS = ("intact", "lattice", "rotation", "a, b ({unit})", "γ", "share")
_CELL = "a, b: lengths of the two shortest lattice vectors; γ: angle between them, 90° or more."


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
    cell : tuple of float or None
        Lengths a and b, angle γ in degrees.
    in_nm : bool
        Whether the lengths are in nm, not in px.
    """

    number: int
    relation: str
    turn_deg: float | None
    share: float
    intact: bool
    by_hand: bool
    colour: str
    cell: tuple[float, float, float] | None
    in_nm: bool

    def about_cell(self) -> str:
        """The cell in one line, empty where it is unknown."""
        if self.cell is None:
            return ""
        a, b, gamma = self.cell
        return f"a {a:.4g}, b {b:.4g} {'nm' if self.in_nm else 'px'}, γ {gamma:.1f}°"

    def items(self) -> list[QTableWidgetItem]:
        """Cells of its row."""
        box = QTableWidgetItem(f"{self.number}")
        # The lattice of the best patch is intact.
        free = Qt.ItemFlag.ItemIsUserCheckable | Qt.ItemFlag.ItemIsEnabled
        box.setFlags(free if self.number else Qt.ItemFlag.NoItemFlags)
        box.setCheckState(Qt.CheckState.Checked if self.intact else Qt.CheckState.Unchecked)
        name = QTableWidgetItem(f"{self.relation}{f' {PAINTED}' if self.by_hand else ''}")
        name.setToolTip(f"{self.relation}{', patch placed by hand' if self.by_hand else ''}")
        name.setIcon(QIcon(swatch(self.colour)))
        turn = QTableWidgetItem("–" if self.turn_deg is None else f"{self.turn_deg:.1f}°")
        share = QTableWidgetItem(f"{100 * self.share:.1f} %")
        sides, gamma = QTableWidgetItem("–"), QTableWidgetItem("–")
        if self.cell is not None:
            sides.setText(f"{self.cell[0]:.3g}, {self.cell[1]:.3g}")
            sides.setToolTip(self.about_cell())
            gamma.setText(f"{self.cell[2]:.1f}°")
        for item in (turn, share, sides, gamma):
            item.setTextAlignment(RIGHT)
        return [box, name, turn, sides, gamma, share]


def cell(row: Mapping[str, Any], size_nm: float | None) -> tuple[float, float, float] | None:
    """Lengths of the two shortest lattice vectors in nm, in px without a pixel size, and the angle between them.

    Parameters
    ----------
    row : mapping
        Of the table of domains.
    size_nm : float or None

    Returns
    -------
    tuple of float or None
        ``a <= b``, and γ in degrees: of the two angles the one of 90° or more, as for a hexagonal lattice.
    """
    if row["v1_y_px"] is None:
        return None
    (ay, ax), (by, bx) = ((row[f"{name}_y_px"], row[f"{name}_x_px"]) for name in ("v1", "v2"))
    a, b = math.hypot(ay, ax), math.hypot(by, bx)
    gamma = math.degrees(math.acos(-min(abs(ay * by + ax * bx) / (a * b), 1.0)))
    scale = 1.0 if size_nm is None else size_nm
    return scale * a, scale * b, gamma


def spacing_px(found: Findings | None) -> float | None:
    """Length of the shortest vector of the best patch's lattice; None without a lattice."""
    known = None if found is None or not found.lattices else cell(found.lattices[0], None)
    return None if known is None else known[0]


def lattice_rows(document: Document, found: Findings | None, frame: int | None) -> list[LatticeRow]:
    """The lattices, the best patch's first."""
    if found is None:
        return []
    # Those of the latest run as asked for by now.
    asked = document.verdicts() if frame in (None, document.frame) else ()
    size = None if document.layer is None else pixel_size_nm(document.layer)
    rows = []
    for number, row in enumerate(found.lattices):
        # Of a turned lattice the twin or coincidence relation, where it is one.
        special = row["coincidence"] if row["relation"] == "rotated" else None
        made = LatticeRow(
            number=number,
            relation=special or row["relation"],
            turn_deg=row["misorientation_deg"],
            share=row["fraction"],
            intact=asked[number] if asked else row["crystal"] == "yes",
            by_hand=row["by_hand"],
            colour=lattice_colour(number) if number else BEST_PATCH_COLOUR,
            cell=cell(row, size),
            in_nm=size is not None,
        )
        rows.append(made)
    return rows


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
        self.add = button("Add…", "Click into a lattice in the image that was not found.")
        self.about.setToolTip(f"<qt>{_CELL}</qt>")
        self.calibrate = button("Calibrate…", "Sets the pixel size by a known length of a lattice vector.")
        self.table = QTableWidget(0, 6)
        rows, columns = self.table.verticalHeader(), self.table.horizontalHeader()
        assert rows is not None
        assert columns is not None
        rows.hide()
        rows.setMinimumSectionSize(_ROW)
        rows.setDefaultSectionSize(_ROW)
        columns.setFixedHeight(_ROW)
        columns.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        columns.setSectionResizeMode(1, QHeaderView.ResizeMode.Stretch)
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
        # As high as its rows: it never scrolls inside the panel.
        self.table.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.table.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.table.setMinimumWidth(_WIDTH)
        self.table.setAccessibleName("which lattices count as intact")
        self.table.setToolTip(
            "<qt>Ticked: the lattice counts as intact crystal; only deviations from it are defects. Not ticked: all of "
            "it is a defect. The lattice of the best patch is always intact. Rotation: the smallest that brings its "
            f"lattice onto this one. {_CELL}</qt>"
        )
        self.table.itemChanged.connect(self._changed)
        buttons = self.calibrate, self.map, self.move_button, self.add
        head = box(QHBoxLayout(), self.about, None, *buttons, spacing=4)
        box(QVBoxLayout(self), head, self.table, margins=(INDENT, 0, 0, 0), spacing=2)
        self.table.hide()
        self.setState(count=0, mapped=False)

    def setColours(self, colours: Colours) -> None:
        """Follow the theme."""
        self.table.setStyleSheet(boxes(colours))

    def value(self) -> tuple[LatticeRow, ...]:
        """The lattices, the best patch's first."""
        return self._rows

    def setValue(self, rows: Sequence[LatticeRow]) -> None:
        """Show the lattices in a table where there are several; nothing is emitted."""
        if tuple(rows) == self._rows:
            return
        self._rows = tuple(rows)
        unit = "nm" if self._rows and self._rows[0].in_nm else "px"
        with signals_blocked(self.table):
            self.table.setHorizontalHeaderLabels([heading.format(unit=unit) for heading in _LATTICE_HEADINGS])
            self.table.setRowCount(len(self._rows))
            for line, row in enumerate(self._rows):
                for column, item in enumerate(row.items()):
                    self.table.setItem(line, column, item)
        self.table.setFixedHeight(_ROW * (len(self._rows) + 1) + 2 * self.table.frameWidth())
        self.table.setVisible(len(self._rows) > 1)

    def setState(self, *, count: int, mapped: bool) -> None:
        """Show the number of lattices (0: unknown), of a single one the cell, and whether their map is visible."""
        cell = self._rows[0].about_cell() if self._rows else ""
        self.about.setText("–" if not count else f"{count} lattices" if count > 1 else cell or "1 lattice")
        self.calibrate.setVisible(bool(cell))
        self.add.setEnabled(count > 0)
        self.map.setVisible(len(self._rows) > 1)
        self.move_button.setVisible(len(self._rows) > 1)
        self.map.setChecked(mapped)

    def _changed(self, item: QTableWidgetItem) -> None:
        if item.column() == 0:
            self.verdictGiven.emit(self._rows[item.row()].number, item.checkState() == Qt.CheckState.Checked)
