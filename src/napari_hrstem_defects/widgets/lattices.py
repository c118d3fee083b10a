"""Table of the lattices of an image, with their cells."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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

from napari_hrstem_defects.io.display import domain_colour
from napari_hrstem_defects.widgets.layout import INDENT, box, button
from napari_hrstem_defects.widgets.outputs import Findings
from napari_hrstem_defects.widgets.tables import PAINTED, RIGHT, swatch

#: Height of a row of the lattices and least width, so that the panel keeps its width; in px of the screen.
_ROW, _WIDTH = 18, 240
#: Headings of the table of lattices, and what the cell of a lattice is.
_LATTICE_HEADINGS = ("intact", "lattice", "rotation", "a, b ({unit})", "γ", "share")
_CELL = "a, b: lengths of the two shortest lattice vectors; γ: angle between them, 90° or more."


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


def about_cell(row: Mapping[str, Any], size_nm: float | None) -> str:
    """The cell of a lattice in one line, empty where it is unknown."""
    if (known := cell(row, size_nm)) is None:
        return ""
    a, b, gamma = known
    return f"a {a:.4g}, b {b:.4g} {'px' if size_nm is None else 'nm'}, γ {gamma:.1f}°"


def _items(row: Mapping[str, Any], intact: bool, size_nm: float | None) -> list[QTableWidgetItem]:
    """Cells of the row of a lattice."""
    number, turn, known = row["domain"], row["misorientation_deg"], cell(row, size_nm)
    # Of a turned lattice the twin or coincidence relation, where it is one.
    relation = (row["coincidence"] if row["relation"] == "rotated" else None) or row["relation"]
    sign, note = (f" {PAINTED}", ", patch placed by hand") if row["by_hand"] else ("", "")
    texts = (
        f"{number}",
        relation + sign,
        "–" if turn is None else f"{turn:.1f}°",
        "–" if known is None else f"{known[0]:.3g}, {known[1]:.3g}",
        "–" if known is None else f"{known[2]:.1f}°",
        f"{100 * row['fraction']:.1f} %",
    )
    items = [QTableWidgetItem(text) for text in texts]
    # The lattice of the best patch is intact.
    free = Qt.ItemFlag.ItemIsUserCheckable | Qt.ItemFlag.ItemIsEnabled
    items[0].setFlags(free if number else Qt.ItemFlag.NoItemFlags)
    items[0].setCheckState(Qt.CheckState.Checked if intact else Qt.CheckState.Unchecked)
    items[1].setToolTip(relation + note)
    items[1].setIcon(QIcon(swatch(domain_colour(number))))
    items[3].setToolTip(about_cell(row, size_nm))
    for item in items[2:]:
        item.setTextAlignment(RIGHT)
    return items


class LatticesView(QWidget):
    """Table of the lattices with a tick box each, and what can be done about them."""

    #: ``(number, intact)``: a box was ticked or unticked.
    verdictGiven = Signal(int, bool)

    def __init__(self) -> None:
        super().__init__()
        self._shown: tuple[Any, ...] = ()
        self.about = QLabel("–")
        self.about.setAccessibleName("lattices")
        self.map = button("Map", "Shows which lattice each part of the image belongs to.")
        self.map.setCheckable(True)
        self.move_button = button("Move…", "Selects the patches of the other lattices: drag them.")
        self.add = button("Add…", "Click into a lattice in the image that was not found.")
        self.about.setToolTip(f"<qt>{_CELL}</qt>")
        self.calibrate = button("Calibrate…", "Sets the pixel size by a known length of a lattice vector.")
        self.table = QTableWidget(0, 6)
        rows: Any = self.table.verticalHeader()
        columns: Any = self.table.horizontalHeader()
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
        self.setValue(None, (), None, mapped=False)

    def setValue(
        self, found: Findings | None, intact: Sequence[bool], size_nm: float | None, *, mapped: bool
    ) -> None:
        """Show the lattices in a table where there are several; nothing is emitted.

        Parameters
        ----------
        found : Findings or None
        intact : sequence of bool
            Which of the lattices count as intact.
        size_nm : float or None
            Pixel size.
        mapped : bool
            Whether their map is visible.
        """
        rows, count = ((), 0) if found is None else (found.lattices, found.count)
        cell = about_cell(rows[0], size_nm) if rows else ""
        self.about.setText("–" if not count else f"{count} lattices" if count > 1 else cell or "1 lattice")
        self.calibrate.setVisible(bool(cell))
        self.add.setEnabled(count > 0)
        self.map.setChecked(mapped)
        for part in (self.map, self.move_button, self.table):
            part.setVisible(len(rows) > 1)
        if (shown := (rows, tuple(intact), size_nm)) == self._shown:
            return
        self._shown = shown
        unit = "px" if size_nm is None else "nm"
        with signals_blocked(self.table):
            self.table.setHorizontalHeaderLabels([heading.format(unit=unit) for heading in _LATTICE_HEADINGS])
            self.table.setRowCount(len(rows))
            for line, (row, ticked) in enumerate(zip(rows, intact, strict=True)):
                for column, item in enumerate(_items(row, ticked, size_nm)):
                    self.table.setItem(line, column, item)
        self.table.setFixedHeight(_ROW * (len(rows) + 1) + 2 * self.table.frameWidth())

    def _changed(self, item: QTableWidgetItem) -> None:
        if item.column() == 0:
            self.verdictGiven.emit(item.row(), item.checkState() == Qt.CheckState.Checked)
