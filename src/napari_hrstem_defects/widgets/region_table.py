"""Table of the defect regions: its model, and its view with sorting, copying and a selection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from qtpy.QtGui import QGuiApplication, QKeySequence
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableView, QVBoxLayout, QWidget

from napari_hrstem_defects.widgets.editors import box
from napari_hrstem_defects.widgets.parts import swatch

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


class RegionModel(QAbstractTableModel):
    """Regions as rows; lengths in nm, or in px where the pixel size is unknown."""

    def __init__(self) -> None:
        super().__init__()
        self.regions: tuple[Region, ...] = ()
        self._colours: dict[str, str] = {}
        self._painted: frozenset[int] = frozenset()
        self._reviewed: dict[int, str] = {}
        self._in_nm = False

    def setValue(
        self,
        regions: Sequence[Region],
        colours: Mapping[str, str],
        painted: frozenset[int],
        reviewed: Mapping[int, str],
        in_nm: bool,
    ) -> None:
        """Show other regions, which colour their types have in the image, which were painted, accepted or rejected."""
        shown = tuple(regions), dict(colours), painted, in_nm
        if shown != (self.regions, self._colours, self._painted, self._in_nm):
            self.beginResetModel()
            self.regions, self._colours, self._painted, self._in_nm = shown
            self.endResetModel()
        if reviewed != self._reviewed:
            self._reviewed = dict(reviewed)
            self.dataChanged.emit(self.index(0, 0), self.index(len(self.regions) - 1, self.columnCount() - 1))

    def headings(self) -> tuple[str, ...]:
        """Column headings with units."""
        length = "nm" if self._in_nm else "px"
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
        if self._in_nm:
            sizes = (region.area_nm2 or 0.0, region.length_nm or 0.0, region.width_nm or 0.0)
        return (
            region.id,
            KINDS.get(region.label, str(region.label)) + (", painted" if region.id in self._painted else ""),
            "–" if region.type == "unknown" else f"{region.type} ({100 * region.confidence:.0f} %)",
            *sizes,
            region.orientation_deg,
            region.to_lattice_deg,
            region.mean_severity,
            region.max_severity,
            region.centroid,
            self._reviewed.get(region.id, ""),
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
            shown = index.column() == _TYPE_COLUMN and region.type in self._colours
            return swatch(self._colours[region.type]) if shown else None
        value = self.row(region)[index.column()]
        if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.ToolTipRole):
            if index.column() == 0 and (verdict := self._reviewed.get(region.id)):
                return f"{value} {_SIGNS[verdict]}"
            if region.at_rim and index.column() in _SIZE_COLUMNS:
                limit = f"≥ {_text(value)}"
                return limit if role == Qt.ItemDataRole.DisplayRole else f"{limit}: it reaches the rim"
            return _text(value)
        if role == Qt.ItemDataRole.UserRole:
            return float("-inf") if value is None else value[0] if isinstance(value, tuple) else value
        if role == Qt.ItemDataRole.TextAlignmentRole and not isinstance(value, str):
            return Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
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
        self._selection().selectionChanged.connect(lambda *_: self.selectionChanged.emit())
        # A reset drops the selection without a word.
        self.model.modelReset.connect(self.selectionChanged)
        self.setMinimumHeight(90)
        box(QVBoxLayout(self), self.view)

    def value(self) -> tuple[Region, ...]:
        """The regions shown."""
        return self.model.regions

    def setValue(
        self,
        regions: Sequence[Region],
        colours: Mapping[str, str] | None = None,
        painted: frozenset[int] = frozenset(),
        reviewed: Mapping[int, str] | None = None,
        *,
        in_nm: bool = False,
    ) -> None:
        """Show other regions, the colours of their types in the image, which are painted, accepted or rejected."""
        self.model.setValue(regions, colours or {}, painted, reviewed or {}, in_nm)

    def text(self) -> str:
        """The whole table as it is sorted, with its headings, columns separated by tabs."""
        rows = (
            self._sorted.mapToSource(self._sorted.index(row, 0)).row() for row in range(len(self.value()))
        )
        cells = [self.model.headings(), *(self.model.row(self.value()[row]) for row in rows)]
        return "\n".join("\t".join(_text(cell) for cell in line) for line in cells)

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
        self._selection().select(chosen, flags.ClearAndSelect | flags.Rows)
        if chosen.indexes():
            first = min(chosen.indexes(), key=lambda index: index.row())
            self._selection().setCurrentIndex(first, flags.NoUpdate)
            self.view.scrollTo(first)

    def step(self, by: int) -> None:
        """Choose the row so many further down, as it is sorted; past the end it goes on at the other one."""
        if count := self._sorted.rowCount():
            row = self.view.currentIndex().row() if self.selected() else -1 if by > 0 else 0
            index = self._sorted.index((row + by) % count, 0)
            self.select(self.model.regions[self._sorted.mapToSource(index).row()].id)
            self._chosen(index)

    def selected(self) -> int:
        """Number of the first region whose row is marked, 0 without one."""
        return next(iter(self.all_selected()), 0)

    def all_selected(self) -> list[int]:
        """Numbers of the regions whose rows are marked, from the top."""
        rows = sorted(self._selection().selectedRows(), key=lambda index: index.row())
        return [self.model.regions[self._sorted.mapToSource(index).row()].id for index in rows]

    def _selection(self) -> QItemSelectionModel:
        found = self.view.selectionModel()
        assert found is not None
        return found

    def _chosen(self, index: QModelIndex) -> None:
        self.regionChosen.emit(self.model.regions[self._sorted.mapToSource(index).row()])
