"""Table of the defect regions."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import (
    QAbstractTableModel,
    QItemSelection,
    QItemSelectionModel,
    QModelIndex,
    QSortFilterProxyModel,
    Qt,
    QTimer,
    Signal,
)
from qtpy.QtGui import QAction, QBrush, QColor, QGuiApplication, QKeySequence, QPixmap
from qtpy.QtWidgets import (
    QHeaderView,
    QTableView,
)

from napari_hrstem_defects.io.display import BEST_PATCH_COLOUR
from napari_hrstem_defects.widgets.outputs import LABEL_COLOURS

if TYPE_CHECKING:
    from napari_hrstem_defects.core.regions import Region

#: Words for the kinds of defects.
KINDS = {0: "class of the scan", 1: "symmetry", 2: "amorphous"}
#: Signs beside the number: of the verdicts, and of what a person painted or placed.
_SIGNS = {"accepted": "✓", "rejected": "✕"}
PAINTED = "✎"
_NO_INDEX = QModelIndex()
#: Room beside the text of a cell, that of a swatch, and the narrowest column, in px of the screen.
_MARGIN, _SWATCH, _NARROWEST = 8, 16, 20
#: The row of the region under the mouse is scrolled to when the mouse has rested there for so long, in ms.
_REST_MS = 400
#: Opacity of the ground of that row.
_HOVERED_ALPHA = 90
RIGHT = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter


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


def _known(value: str) -> str:
    return "–" if value == "unknown" else value


def _whole(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f}"


def _text(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, tuple):
        return ", ".join(f"{part:.0f}" for part in value)
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return str(value)


def _short(value: float | None) -> str:
    """Two decimals at most below 0.1: more would be noise."""
    if value is None or abs(value) >= 0.1:
        return _text(value)
    return f"{round(value, 2) + 0.0:.2f}"


@dataclass(frozen=True)
class Column:
    """A column of the table of regions.

    Attributes
    ----------
    head, title : str
        What it is, as short as can be and in full; ``{measure}`` stands for severity or probability.
    unit : str
        Unit, where there is one; ``{length}`` stands for nm or px.
    fits : str
        A text that it is wide enough for.
    value : callable
        ``value(region, rows)``, unrounded.
    text : callable
        How a value is shown.
    limit : bool
        Whether the value is a lower limit where the region may go on beyond the rim.
    """

    head: str
    title: str
    unit: str
    fits: str
    value: Callable[[Region, RegionRows], Any]
    text: Callable[[Any], str] = _text
    limit: bool = False


def _size(name: str, power: str = "") -> Callable[[Region, RegionRows], float]:
    """A size of a region in nm, or in px where the pixel size is unknown."""
    return lambda region, rows: getattr(region, f"{name}_nm{power}" if rows.in_nm else f"{name}_px") or 0.0


def _kind(region: Region, rows: RegionRows) -> str:
    return KINDS[region.label] + (", painted" if region.id in rows.painted else "")


def _confidence(region: Region, rows: RegionRows) -> float | None:
    return None if region.type == "unknown" else 100 * region.confidence


#: Those that matter most come first; from the last on they are left out where the table is too narrow for all.
COLUMNS = (
    Column("No.", "Number", "", f"9 ✓ {PAINTED}", lambda region, rows: region.id),
    Column("Type", "Probable type", "", "intrinsic stacking fault", lambda region, rows: region.type, _known),
    Column("Conf.", "Confidence of the type", "%", "Conf.", _confidence, _whole),
    Column("Area", "Area", "{length}²", "≥99999", _size("area", "2"), limit=True),
    Column("Length", "Length", "{length}", "≥0.999", _size("length"), limit=True),
    Column("y, x", "Centre y, x", "px", "9999, 9999", lambda region, rows: region.centroid),
    # The sign beside the number says already what was painted.
    Column("Kind", "Kind", "", "amorphous", _kind, lambda kind: kind.partition(",")[0]),
    Column("Width", "Width", "{length}", "≥0.999", _size("width"), limit=True),
    Column("Max.", "Max. {measure}", "", "-0.999", lambda region, rows: region.max_severity, _short),
    Column("Mean", "Mean {measure}", "", "-0.999", lambda region, rows: region.mean_severity, _short),
    Column("Angle", "Angle", "°", "-0.999", lambda region, rows: region.orientation_deg, _short),
    Column(
        "To lattice",
        "Angle to the lattice",
        "°",
        "-0.999",
        lambda region, rows: region.to_lattice_deg,
        _short,
    ),
    Column("Reviewed", "Reviewed", "", "accepted", lambda region, rows: rows.reviewed.get(region.id, "")),
)
#: The column that takes the room that is left; the columns before this one are shown if the type is cut off by it.
_TYPE, _ALWAYS = 1, 5


class RegionModel(QAbstractTableModel):
    """Regions as rows; lengths in nm, or in px where the pixel size is unknown."""

    def __init__(self) -> None:
        super().__init__()
        self._rows = RegionRows()
        self.hovered = 0

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

    def setHovered(self, number: int) -> None:
        """Mark the row of the region under the mouse; 0: none."""
        before, self.hovered = self.hovered, number
        for row, region in enumerate(self.regions):
            if region.id in {before, number} and before != number:
                self.dataChanged.emit(self.index(row, 0), self.index(row, self.columnCount() - 1))

    @property
    def unit(self) -> str:
        """Unit of the lengths."""
        return "nm" if self._rows.in_nm else "px"

    def headings(self) -> tuple[str, ...]:
        """What the columns are, with units."""
        units = [f" ({unit})" if unit else "" for unit in self._units()]
        scanned = bool(self.regions) and self.regions[0].label == 0
        measure = "probability" if scanned else "severity"
        titles = (column.title.format(measure=measure) for column in COLUMNS)
        return tuple(title + unit for title, unit in zip(titles, units, strict=True))

    def _units(self) -> list[str]:
        return [column.unit.format(length=self.unit) for column in COLUMNS]

    def row(self, region: Region) -> tuple[Any, ...]:
        """Values of a row, unrounded."""
        return tuple(column.value(region, self._rows) for column in COLUMNS)

    def _marks(self, region: Region) -> dict[str, str]:
        """Signs beside the number of a region, and what they mean."""
        verdict, painted = self._rows.reviewed.get(region.id), region.id in self._rows.painted
        marks = {} if verdict is None else {_SIGNS[verdict]: verdict}
        return marks | ({PAINTED: "painted"} if painted else {})

    def about(self, number: int) -> str:
        """The main columns of a region in one line; empty where there is none of this number."""
        region = next((region for region in self.regions if region.id == number), None)
        if region is None:
            return ""
        known = region.type != "unknown"
        name = f"{region.type} ({100 * region.confidence:.0f} %)" if known else "–"
        kind, area = _kind(region, self._rows), _text(_size("area", "2")(region, self._rows))
        return f"{region.id} · {kind} · {name} · {area} {self.unit}²"

    def rowCount(self, parent: QModelIndex = _NO_INDEX) -> int:
        """Number of regions."""
        return 0 if parent.isValid() else len(self.regions)

    def columnCount(self, parent: QModelIndex = _NO_INDEX) -> int:
        """Number of columns."""
        return 0 if parent.isValid() else len(COLUMNS)

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = 0) -> Any:
        """Heading of a column, with its unit below."""
        if orientation == Qt.Orientation.Horizontal and role == Qt.ItemDataRole.DisplayRole:
            return f"{COLUMNS[section].head}\n{self._units()[section]}"
        if orientation == Qt.Orientation.Horizontal and role == Qt.ItemDataRole.ToolTipRole:
            return f"{self.headings()[section]}. Right-click to choose the columns."
        return None

    def data(self, index: QModelIndex, role: int = 0) -> Any:
        """A cell: text to show, or the value itself to sort by."""
        region, column = self.regions[index.row()], COLUMNS[index.column()]
        if role == Qt.ItemDataRole.BackgroundRole and region.id == self.hovered:
            ground = QColor(BEST_PATCH_COLOUR)
            ground.setAlpha(_HOVERED_ALPHA)
            return QBrush(ground)
        if role == Qt.ItemDataRole.DecorationRole and index.column() == _TYPE:
            colour = self._rows.colours.get(region.type) or LABEL_COLOURS.get(region.label)
            return None if colour is None else swatch(colour)
        value = column.value(region, self._rows)
        if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.ToolTipRole):
            text, more = column.text(value), ""
            if column.limit and region.at_rim:
                text, more = f"≥{text}", ", for it reaches the rim"
            elif index.column() == 0:
                marks = self._marks(region)
                text, more = " ".join([text, *marks]), "".join(f", {mark}" for mark in marks.values())
            return text if role == Qt.ItemDataRole.DisplayRole else text + more
        if role == Qt.ItemDataRole.UserRole:
            return float("-inf") if value is None else value[0] if isinstance(value, tuple) else value
        if role == Qt.ItemDataRole.TextAlignmentRole and not isinstance(value, str):
            return RIGHT
        return None


class RegionTable(QTableView):
    """View of the regions; clicking a row asks for the view to go there."""

    #: ``(Region)``: a person chose a row.
    regionChosen = Signal(object)
    #: Other rows are marked.
    marked = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.regions = RegionModel()
        self._sorted = QSortFilterProxyModel()
        self._sorted.setSourceModel(self.regions)
        self._sorted.setSortRole(Qt.ItemDataRole.UserRole)
        # What a person has chosen to see, or not to.
        self._wanted: dict[int, bool] = {}
        self.actions_ = [QAction(column.title.format(measure="severity"), self) for column in COLUMNS]
        for number, action in enumerate(self.actions_):
            action.setCheckable(True)
            action.triggered.connect(functools.partial(self._choose_column, number))
        self._rest = QTimer(self)
        self._rest.setSingleShot(True)
        self._rest.setInterval(_REST_MS)
        self._rest.timeout.connect(self._scroll_to_hovered)
        self.setModel(self._sorted)
        self.setSortingEnabled(True)
        self.sortByColumn(0, Qt.SortOrder.AscendingOrder)
        self.setSelectionBehavior(QTableView.SelectionBehavior.SelectRows)
        self.setEditTriggers(QTableView.EditTrigger.NoEditTriggers)
        self.setWordWrap(False)  # a long type is cut off at the edge, not after its first word
        self.setAccessibleName("defect regions")
        self.setMinimumHeight(90)
        self.setStyleSheet("QHeaderView::section { padding: 1px 2px; }")
        rows: Any = self.verticalHeader()
        rows.hide()
        rows.setDefaultSectionSize(22)
        columns: Any = self.horizontalHeader()
        self._columns = columns
        self._columns.setSectionResizeMode(_TYPE, QHeaderView.ResizeMode.Stretch)
        self._columns.setMinimumSectionSize(_NARROWEST)
        self._columns.setHighlightSections(False)
        self._columns.setContextMenuPolicy(Qt.ContextMenuPolicy.ActionsContextMenu)
        self._columns.addActions(self.actions_)
        selection: Any = self.selectionModel()
        self._selection = selection
        self._selection.selectionChanged.connect(lambda *_: self.marked.emit())
        # A reset drops the selection without a word.
        self.regions.modelReset.connect(self.marked)
        self.clicked.connect(self._chosen)
        self.activated.connect(self._chosen)

    def resizeEvent(self, event: Any) -> None:
        """More or fewer columns fit."""
        super().resizeEvent(event)
        self._arrange()

    def keyPressEvent(self, event: Any) -> None:
        """Copy the whole table, not one cell; a row that is reached by key is chosen as by a click."""
        if event.matches(QKeySequence.StandardKey.Copy):
            self.copy()
            return
        before = self.currentIndex().row()
        super().keyPressEvent(event)
        if self.currentIndex().row() != before:
            self._chosen(self.currentIndex())

    def _choose_column(self, number: int, shown: bool) -> None:
        self._wanted[number] = shown
        self._arrange()

    def _arrange(self) -> None:
        """Show the columns that a person has asked for, and of the others as many as fit, the first ones first."""
        measure, viewport = self.fontMetrics().horizontalAdvance, self.viewport()
        assert viewport is not None
        widths = [
            max(map(measure, (column.fits, column.head, "nm²" if column.unit else ""))) + _MARGIN
            for column in COLUMNS
        ]
        widths[_TYPE] += _SWATCH
        room = viewport.width() - sum(widths[number] for number, on in self._wanted.items() if on)
        for number, (width, action) in enumerate(zip(widths, self.actions_, strict=True)):
            shown = self._wanted.get(number, number < _ALWAYS or room >= width)
            if number not in self._wanted:
                room = room - width if shown else -1  # none of those that matter less
            self._columns.setSectionHidden(number, not shown)
            action.setChecked(shown)
            if number != _TYPE:
                self._columns.resizeSection(number, width)

    def value(self) -> tuple[Region, ...]:
        """The regions shown."""
        return self.regions.regions

    def setValue(self, rows: RegionRows) -> None:
        """Show other regions."""
        self.regions.setValue(rows)

    def text(self) -> str:
        """The whole table as it is sorted, with its headings, columns separated by tabs."""
        regions = (self._region(self._sorted.index(row, 0)) for row in range(len(self.value())))
        rows = [self.regions.headings(), *(map(_text, self.regions.row(region)) for region in regions)]
        return "\n".join("\t".join(row) for row in rows)

    def copy(self) -> None:
        """Put the whole table on the clipboard, so that a spreadsheet takes it."""
        board: Any = QGuiApplication.clipboard()
        board.setText(self.text())

    def select(self, *numbers: int) -> None:
        """Mark the rows of some regions; nothing is chosen by it."""
        flags, chosen = QItemSelectionModel.SelectionFlag, QItemSelection()
        rows = [row for row, region in enumerate(self.regions.regions) if region.id in numbers]
        for index in (self._sorted.mapFromSource(self.regions.index(row, 0)) for row in rows):
            chosen.select(index, index)
        self._selection.select(chosen, flags.ClearAndSelect | flags.Rows)
        if chosen.indexes():
            first = min(chosen.indexes(), key=lambda index: index.row())
            self._selection.setCurrentIndex(first, flags.NoUpdate)
            self.scrollTo(first)

    def point_out(self, number: int) -> None:
        """Mark the row of the region under the mouse, 0: none; it is scrolled to only if the mouse rests there."""
        self.regions.setHovered(number)
        self._rest.start()

    def _scroll_to_hovered(self) -> None:
        row = next(
            (row for row, region in enumerate(self.value()) if region.id == self.regions.hovered), None
        )
        if row is not None:
            self.scrollTo(self._sorted.mapFromSource(self.regions.index(row, 0)))

    def step(self, by: int) -> None:
        """Choose the row so many further down, as it is sorted; past the end it goes on at the other one."""
        if count := self._sorted.rowCount():
            row = self.currentIndex().row() if self.selected() else -1 if by > 0 else 0
            index = self._sorted.index((row + by) % count, 0)
            self.select(self._region(index).id)
            self._chosen(index)

    def selected(self) -> list[int]:
        """Numbers of the regions whose rows are marked, from the top."""
        rows = sorted(self._selection.selectedRows(), key=lambda index: index.row())
        return [self._region(index).id for index in rows]

    def _region(self, index: QModelIndex) -> Region:
        return self.regions.regions[self._sorted.mapToSource(index).row()]

    def _chosen(self, index: QModelIndex) -> None:
        self.regionChosen.emit(self._region(index))
