"""Table of the defects, docked below the image and tied to the layer of regions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qtpy.QtCore import (
    QAbstractTableModel,
    QItemSelectionModel,
    QModelIndex,
    QSortFilterProxyModel,
    Qt,
    Signal,
)
from qtpy.QtGui import QColor, QGuiApplication, QKeySequence, QPixmap
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableView, QVBoxLayout, QWidget

from napari_hrstem_defects.core.regions import Region

#: Words for the kinds of defects.
KINDS = {0: "class of the scan", 1: "symmetry", 2: "amorphous"}

_NO_INDEX = QModelIndex()
_TYPE_COLUMN = 2
#: Area, length and width: lower limits of what may go on beyond the rim.
_SIZE_COLUMNS = (3, 4, 5)
#: Widest and narrowest columns, in px of the screen; a text that does not fit is in the tooltip.
_WIDEST, _NARROWEST = 128, 30
#: Edge of the square that shows the colour of a class, in px of the screen.
_SWATCH = 10


class RegionModel(QAbstractTableModel):
    """Regions as rows; lengths in nm, or in px where the pixel size is unknown."""

    def __init__(self) -> None:
        super().__init__()
        self._regions: tuple[Region, ...] = ()
        self._colours: dict[str, str] = {}
        self._painted: frozenset[int] = frozenset()

    def regions(self) -> tuple[Region, ...]:
        """The rows."""
        return self._regions

    def painted(self) -> frozenset[int]:
        """Numbers of the regions in which a person painted."""
        return self._painted

    def setRegions(self, regions: Sequence[Region], painted: frozenset[int]) -> None:
        """Show other regions, and say in which of them a person painted."""
        self.beginResetModel()
        self._regions, self._painted = tuple(regions), painted
        self.endResetModel()

    def colours(self) -> dict[str, str]:
        """Colours of types that a layer shows."""
        return self._colours

    def setColours(self, colours: Mapping[str, str]) -> None:
        """Show beside these types which colour they have in the image."""
        self.beginResetModel()
        self._colours = dict(colours)
        self.endResetModel()

    @property
    def in_nm(self) -> bool:
        """Whether lengths are known in nm."""
        return bool(self._regions) and self._regions[0].area_nm2 is not None

    def headings(self) -> tuple[str, ...]:
        """Column headings with units."""
        length = "nm" if self.in_nm else "px"
        scanned = bool(self._regions) and self._regions[0].label == 0
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
        )

    def row(self, region: Region) -> tuple[Any, ...]:
        """Values of a row, unrounded."""
        sizes = (region.area_px, region.length_px, region.width_px)
        if self.in_nm:
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
        )

    def rowCount(self, parent: QModelIndex = _NO_INDEX) -> int:
        """Number of regions."""
        return 0 if parent.isValid() else len(self._regions)

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
        region = self._regions[index.row()]
        if role == Qt.ItemDataRole.DecorationRole:
            shown = index.column() == _TYPE_COLUMN and region.type in self._colours
            return _swatch(self._colours[region.type]) if shown else None
        value = self.row(region)[index.column()]
        if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.ToolTipRole):
            if region.at_rim and index.column() in _SIZE_COLUMNS:
                limit = f"≥ {_text(value)}"
                return limit if role == Qt.ItemDataRole.DisplayRole else f"{limit}: it reaches the rim"
            return _text(value)
        if role == Qt.ItemDataRole.UserRole:
            return float("-inf") if value is None else value[0] if isinstance(value, tuple) else value
        if role == Qt.ItemDataRole.TextAlignmentRole and not isinstance(value, str):
            return Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        return None


def _swatch(colour: str) -> QPixmap:
    square = QPixmap(_SWATCH, _SWATCH)
    square.fill(QColor(colour))
    return square


def _text(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, tuple):
        return ", ".join(f"{part:.0f}" for part in value)
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return str(value)


class _View(QTableView):
    """Tells of the keys that mean something in the table."""

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
        self.view.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
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
        self.setMinimumHeight(90)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.view)

    def value(self) -> tuple[Region, ...]:
        """The regions shown."""
        return self.model.regions()

    def setValue(
        self,
        regions: Sequence[Region],
        colours: Mapping[str, str] | None = None,
        painted: frozenset[int] = frozenset(),
    ) -> None:
        """Show other regions, the colours that their types have in the image, and which of them are painted."""
        if (tuple(regions), painted) != (self.model.regions(), self.model.painted()):
            self.model.setRegions(regions, painted)
        if (colours or {}) != self.model.colours():
            self.model.setColours(colours or {})

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

    def select(self, number: int) -> None:
        """Mark the row of a region; nothing is emitted."""
        for row, region in enumerate(self.model.regions()):
            if region.id == number:
                index = self._sorted.mapFromSource(self.model.index(row, 0))
                flags = QItemSelectionModel.SelectionFlag
                self._selection().setCurrentIndex(index, flags.ClearAndSelect | flags.Rows)
                self.view.scrollTo(index)
                return
        self.view.clearSelection()

    def selected(self) -> int:
        """Number of the region whose row is marked, 0 without one."""
        rows = self._selection().selectedRows()
        return 0 if not rows else self.model.regions()[self._sorted.mapToSource(rows[0]).row()].id

    def _selection(self) -> QItemSelectionModel:
        found = self.view.selectionModel()
        assert found is not None
        return found

    def _chosen(self, index: QModelIndex) -> None:
        self.regionChosen.emit(self.model.regions()[self._sorted.mapToSource(index).row()])
