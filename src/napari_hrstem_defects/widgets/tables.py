"""Tables of the defect regions and of the lattices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import (
    QAbstractTableModel,
    QItemSelection,
    QItemSelectionModel,
    QModelIndex,
    QSortFilterProxyModel,
    Qt,
    Signal,
)
from qtpy.QtGui import QColor, QGuiApplication, QIcon, QKeySequence, QPixmap
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QTableView,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)
from superqt.utils import signals_blocked

from napari_hrstem_defects.widgets.layout import INDENT, box, button
from napari_hrstem_defects.widgets.theme import Colours, boxes

if TYPE_CHECKING:
    from napari_hrstem_defects.core.regions import Region

#: Words for the kinds of defects.
KINDS = {0: "class of the scan", 1: "symmetry", 2: "amorphous"}
#: Sign of a verdict beside the number, for the column itself may lie beyond the edge of the dock.
_SIGNS = {"accepted": "✓", "rejected": "✕"}
_NO_INDEX = QModelIndex()
_TYPE_COLUMN = 2
#: Area, length and width: lower limits of what may go on beyond the rim.
_SIZE_COLUMNS = (3, 4, 5)
#: Widest and narrowest columns, in px of the screen; a text that does not fit is in the tooltip.
_WIDEST, _NARROWEST = 128, 30
#: Height of a row of the lattices and least width, so that the panel keeps its width; in px of the screen.
_ROW, _WIDTH = 18, 240
#: Headings of the table of lattices, and what the cell of a lattice is.
_LATTICE_HEADINGS = ("intact", "lattice", "rotation", "a, b ({unit})", "γ", "share")
_CELL = "a, b: lengths of the two shortest lattice vectors; γ: angle between them, 90° or more."
_RIGHT = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter


def swatch(colour: str) -> QPixmap:
    """Small square of a colour."""
    square = QPixmap(10, 10)
    square.fill(QColor(colour))
    return square


@dataclass(frozen=True)
class RegionRows:
    """What the table of regions shows.

    Attributes
    ----------
    regions : tuple of Region
    colours : mapping of str to str
        Colours of their types in the image.
    painted : frozenset of int
        Numbers of those in which a person painted.
    reviewed : mapping of int to str
        Number → "accepted" or "rejected".
    in_nm : bool
        Whether lengths are known in nm.
    """

    regions: tuple[Region, ...] = ()
    colours: Mapping[str, str] = field(default_factory=dict)
    painted: frozenset[int] = frozenset()
    reviewed: Mapping[int, str] = field(default_factory=dict)
    in_nm: bool = False


class RegionModel(QAbstractTableModel):
    """Regions as rows; lengths in nm, or in px where the pixel size is unknown."""

    def __init__(self) -> None:
        super().__init__()
        self._rows = RegionRows()

    @property
    def regions(self) -> tuple[Region, ...]:
        """The regions, in the order of their numbers."""
        return self._rows.regions

    def setValue(self, rows: RegionRows) -> None:
        """Show other rows."""
        if replace(rows, reviewed=self._rows.reviewed) != self._rows:
            self.beginResetModel()
            self._rows = rows
            self.endResetModel()
        elif rows != self._rows:
            self._rows = rows
            self.dataChanged.emit(self.index(0, 0), self.index(len(self.regions) - 1, self.columnCount() - 1))

    @property
    def unit(self) -> str:
        """Unit of the lengths."""
        return "nm" if self._rows.in_nm else "px"

    def headings(self) -> tuple[str, ...]:
        """Column headings with units."""
        length = self.unit
        scanned = bool(self.regions) and self.regions[0].label == 0
        measure = "probability" if scanned else "severity"
        return (
            "No.",
            "Kind",
            "Probable type",
            f"Area ({length}²)",
            f"Length ({length})",
            f"Width ({length})",
            "Angle (°)",
            "To lattice (°)",
            f"Mean {measure}",
            f"Max. {measure}",
            "Centre y, x (px)",
            "Reviewed",
        )

    def row(self, region: Region) -> tuple[Any, ...]:
        """Values of a row, unrounded."""
        sizes = (region.area_px, region.length_px, region.width_px)
        if self._rows.in_nm:
            sizes = (region.area_nm2 or 0.0, region.length_nm or 0.0, region.width_nm or 0.0)
        return (
            region.id,
            KINDS.get(region.label, str(region.label))
            + (", painted" if region.id in self._rows.painted else ""),
            "–" if region.type == "unknown" else f"{region.type} ({100 * region.confidence:.0f} %)",
            *sizes,
            region.orientation_deg,
            region.to_lattice_deg,
            region.mean_severity,
            region.max_severity,
            region.centroid,
            self._rows.reviewed.get(region.id, ""),
        )

    def rowCount(self, parent: QModelIndex = _NO_INDEX) -> int:
        """Number of regions."""
        return 0 if parent.isValid() else len(self.regions)

    def columnCount(self, parent: QModelIndex = _NO_INDEX) -> int:
        """Number of columns."""
        return 0 if parent.isValid() else len(self.headings())

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = 0) -> Any:
        """Heading of a column."""
        if orientation == Qt.Orientation.Horizontal and role == Qt.ItemDataRole.DisplayRole:
            # In two lines a column takes half the room.
            return "\n".join(self.headings()[section].rsplit(" ", 1))
        return None

    def data(self, index: QModelIndex, role: int = 0) -> Any:
        """A cell: text to show, or the value itself to sort by."""
        region = self.regions[index.row()]
        if role == Qt.ItemDataRole.DecorationRole:
            shown = index.column() == _TYPE_COLUMN and region.type in self._rows.colours
            return swatch(self._rows.colours[region.type]) if shown else None
        value = self.row(region)[index.column()]
        if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.ToolTipRole):
            if index.column() == 0 and (verdict := self._rows.reviewed.get(region.id)):
                return f"{value} {_SIGNS[verdict]}"
            if region.at_rim and index.column() in _SIZE_COLUMNS:
                limit = f"≥ {_text(value)}"
                return limit if role == Qt.ItemDataRole.DisplayRole else f"{limit}: it reaches the rim"
            return _text(value)
        if role == Qt.ItemDataRole.UserRole:
            return float("-inf") if value is None else value[0] if isinstance(value, tuple) else value
        if role == Qt.ItemDataRole.TextAlignmentRole and not isinstance(value, str):
            return _RIGHT
        return None


def _text(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, tuple):
        return ", ".join(f"{part:.0f}" for part in value)
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return str(value)


class _View(QTableView):
    """Emits signals for the keys of the table."""

    copyRequested = Signal()

    def keyPressEvent(self, event: Any) -> None:
        """Copy the whole table, not one cell; a row that is reached by key is chosen as by a click."""
        if event.matches(QKeySequence.StandardKey.Copy):
            self.copyRequested.emit()
            return
        before = self.currentIndex()
        super().keyPressEvent(event)
        if self.currentIndex().row() != before.row():
            self.clicked.emit(self.currentIndex())


class RegionTable(QWidget):
    """View of the regions; clicking a row asks for the view to go there."""

    #: ``(Region)``: a person chose a row.
    regionChosen = Signal(object)
    #: Other rows are marked.
    selectionChanged = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.model = RegionModel()
        self._sorted = QSortFilterProxyModel()
        self._sorted.setSourceModel(self.model)
        self._sorted.setSortRole(Qt.ItemDataRole.UserRole)
        self.view = _View()
        self.view.setModel(self._sorted)
        self.view.setSortingEnabled(True)
        self.view.sortByColumn(0, Qt.SortOrder.AscendingOrder)
        self.view.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.view.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.view.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        rows: Any = self.view.verticalHeader()
        rows.hide()
        rows.setDefaultSectionSize(22)
        self.view.setStyleSheet("QHeaderView::section { padding: 1px 2px; }")
        columns: Any = self.view.horizontalHeader()
        columns.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        columns.setStretchLastSection(True)
        columns.setMaximumSectionSize(_WIDEST)
        columns.setMinimumSectionSize(_NARROWEST)
        self.view.setAlternatingRowColors(False)
        self.view.setAccessibleName("defect regions")
        self.view.clicked.connect(self._chosen)
        self.view.activated.connect(self._chosen)
        self.view.copyRequested.connect(self.copy)
        selection = self.view.selectionModel()
        assert selection is not None
        self._selection = selection
        self._selection.selectionChanged.connect(lambda *_: self.selectionChanged.emit())
        # A reset drops the selection without a word.
        self.model.modelReset.connect(self.selectionChanged)
        self.setMinimumHeight(90)
        box(QVBoxLayout(self), self.view)

    def value(self) -> tuple[Region, ...]:
        """The regions shown."""
        return self.model.regions

    def setValue(self, rows: RegionRows) -> None:
        """Show other regions."""
        self.model.setValue(rows)

    def text(self) -> str:
        """The whole table as it is sorted, with its headings, columns separated by tabs."""
        regions = (self._region(self._sorted.index(row, 0)) for row in range(len(self.value())))
        cells = [self.model.headings(), *(self.model.row(region) for region in regions)]
        return "\n".join("\t".join(_text(cell) for cell in line) for line in cells)

    def about(self, number: int) -> str:
        """The main columns of a region in one line; empty where there is none of this number."""
        region = next((region for region in self.value() if region.id == number), None)
        if region is None:
            return ""
        number, kind, name, area = self.model.row(region)[:4]
        return f"{number} · {kind} · {name} · {_text(area)} {self.model.unit}²"

    def copy(self) -> None:
        """Put the whole table on the clipboard, so that a spreadsheet takes it."""
        board = QGuiApplication.clipboard()
        assert board is not None
        board.setText(self.text())

    def select(self, *numbers: int) -> None:
        """Mark the rows of some regions; nothing is chosen by it."""
        flags, chosen = QItemSelectionModel.SelectionFlag, QItemSelection()
        rows = [row for row, region in enumerate(self.model.regions) if region.id in numbers]
        for index in (self._sorted.mapFromSource(self.model.index(row, 0)) for row in rows):
            chosen.select(index, index)
        self._selection.select(chosen, flags.ClearAndSelect | flags.Rows)
        if chosen.indexes():
            first = min(chosen.indexes(), key=lambda index: index.row())
            self._selection.setCurrentIndex(first, flags.NoUpdate)
            self.view.scrollTo(first)

    def step(self, by: int) -> None:
        """Choose the row so many further down, as it is sorted; past the end it goes on at the other one."""
        if count := self._sorted.rowCount():
            row = self.view.currentIndex().row() if self.selected() else -1 if by > 0 else 0
            index = self._sorted.index((row + by) % count, 0)
            self.select(self._region(index).id)
            self._chosen(index)

    def selected(self) -> list[int]:
        """Numbers of the regions whose rows are marked, from the top."""
        rows = sorted(self._selection.selectedRows(), key=lambda index: index.row())
        return [self._region(index).id for index in rows]

    def _region(self, index: QModelIndex) -> Region:
        return self.model.regions[self._sorted.mapToSource(index).row()]

    def _chosen(self, index: QModelIndex) -> None:
        self.regionChosen.emit(self._region(index))


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
        name = QTableWidgetItem(f"{self.relation}{', by hand' if self.by_hand else ''}")
        name.setIcon(QIcon(swatch(self.colour)))
        turn = QTableWidgetItem("–" if self.turn_deg is None else f"{self.turn_deg:.1f}°")
        share = QTableWidgetItem(f"{100 * self.share:.1f} %")
        sides, gamma = QTableWidgetItem("–"), QTableWidgetItem("–")
        if self.cell is not None:
            sides.setText(f"{self.cell[0]:.3g}, {self.cell[1]:.3g}")
            sides.setToolTip(self.about_cell())
            gamma.setText(f"{self.cell[2]:.1f}°")
        for item in (turn, share, sides, gamma):
            item.setTextAlignment(_RIGHT)
        return [box, name, turn, sides, gamma, share]


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
