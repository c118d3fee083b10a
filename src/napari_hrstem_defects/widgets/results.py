"""The dock below the image: table of the regions, tied to the canvas, and their areas against time."""

from __future__ import annotations

import contextlib
import functools
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import (
    QAbstractTableModel,
    QItemSelectionModel,
    QModelIndex,
    QSortFilterProxyModel,
    Qt,
    Signal,
)
from qtpy.QtGui import QGuiApplication, QKeySequence
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QHeaderView,
    QMainWindow,
    QSplitter,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from napari_hrstem_defects.core.regions import Region
from napari_hrstem_defects.widgets.editors import Links, button
from napari_hrstem_defects.widgets.layers import legend
from napari_hrstem_defects.widgets.navigation import Navigator
from napari_hrstem_defects.widgets.parts import swatch
from napari_hrstem_defects.widgets.plots import AreaPlot
from napari_hrstem_defects.widgets.roles import Role
from napari_hrstem_defects.widgets.theme import Colours

if TYPE_CHECKING:
    from napari import Viewer

    from napari_hrstem_defects.widgets.session import Session

#: Height that the dock opens with, in px of the screen: a heading and four rows.
_HEIGHT = 130
#: Name of the dock.
NAME = "Defect regions"
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

    def setValue(
        self,
        regions: Sequence[Region],
        colours: Mapping[str, str],
        painted: frozenset[int],
        reviewed: Mapping[int, str],
    ) -> None:
        """Show other regions, which colour their types have in the image, which were painted, accepted or rejected."""
        if (tuple(regions), dict(colours), painted) != (self.regions, self._colours, self._painted):
            self.beginResetModel()
            self.regions, self._colours, self._painted = tuple(regions), dict(colours), painted
            self.endResetModel()
        if reviewed != self._reviewed:
            self._reviewed = dict(reviewed)
            self.dataChanged.emit(self.index(0, 0), self.index(len(self.regions) - 1, self.columnCount() - 1))

    @property
    def in_nm(self) -> bool:
        """Whether lengths are known in nm."""
        return bool(self.regions) and self.regions[0].area_nm2 is not None

    def headings(self) -> tuple[str, ...]:
        """Column headings with units."""
        length = "nm" if self.in_nm else "px"
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
        return self.model.regions

    def setValue(
        self,
        regions: Sequence[Region],
        colours: Mapping[str, str] | None = None,
        painted: frozenset[int] = frozenset(),
        reviewed: Mapping[int, str] | None = None,
    ) -> None:
        """Show other regions, the colours of their types in the image, which are painted, accepted or rejected."""
        self.model.setValue(regions, colours or {}, painted, reviewed or {})

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
        for row, region in enumerate(self.model.regions):
            if region.id == number:
                index = self._sorted.mapFromSource(self.model.index(row, 0))
                flags = QItemSelectionModel.SelectionFlag
                self._selection().setCurrentIndex(index, flags.ClearAndSelect | flags.Rows)
                self.view.scrollTo(index)
                return
        self.view.clearSelection()

    def step(self, by: int) -> None:
        """Choose the row so many further down, as it is sorted; past the end it goes on at the other one."""
        if count := self._sorted.rowCount():
            row = self.view.currentIndex().row() if self.selected() else -1 if by > 0 else 0
            index = self._sorted.index((row + by) % count, 0)
            self.select(self.model.regions[self._sorted.mapToSource(index).row()].id)
            self._chosen(index)

    def selected(self) -> int:
        """Number of the region whose row is marked, 0 without one."""
        rows = self._selection().selectedRows()
        return 0 if not rows else self.model.regions[self._sorted.mapToSource(rows[0]).row()].id

    def _selection(self) -> QItemSelectionModel:
        found = self.view.selectionModel()
        assert found is not None
        return found

    def _chosen(self, index: QModelIndex) -> None:
        self.regionChosen.emit(self.model.regions[self._sorted.mapToSource(index).row()])


class ResultsDock:
    """Opens with the first result and closes with the panel.

    Parameters
    ----------
    viewer : napari.Viewer
        Only weakly referred to.
    session : Session
    navigator : Navigator
    colours : Colours
    """

    def __init__(self, viewer: Viewer, session: Session, navigator: Navigator, colours: Colours) -> None:
        self._viewer = weakref.ref(viewer)
        self._session = session
        self._links = Links()
        self._navigator = navigator
        self._dock: Any = None
        self._watched: Any = None
        self.table = RegionTable()
        self.plot = AreaPlot(colours)
        self.plot.hide()
        self.widget = QWidget()
        splitter = QSplitter(Qt.Orientation.Horizontal)
        splitter.addWidget(self.table)
        splitter.addWidget(self.plot)
        layout = QHBoxLayout(self.widget)
        layout.setContentsMargins(0, 0, 0, 0)
        buttons = QVBoxLayout()
        buttons.setSpacing(1)
        for sign, tip, pressed in (
            ("▲", "Previous defect (Shift+N)", functools.partial(self.step, -1)),
            ("▼", "Next defect (N)", functools.partial(self.step, 1)),
            (
                "✓",
                "Accept the chosen defect, and go to the next (K: keep)",
                functools.partial(self.review, True),
            ),
            (
                "✕",
                "Reject the chosen defect, and go to the next (Shift+K)",
                functools.partial(self.review, False),
            ),
        ):
            made = button(sign, tip, pressed)
            made.setAccessibleName(tip)
            made.setFixedSize(26, 22)
            buttons.addWidget(made)
        buttons.addStretch(1)
        layout.addLayout(buttons)
        layout.addWidget(splitter)
        self.table.regionChosen.connect(self._navigator.go_to)
        self.plot.frameChosen.connect(self._go_to_frame)

    def step(self, by: int) -> None:
        """Go to the next defect of the table (-1: the previous)."""
        self.table.step(by)

    def review(self, accepted: bool) -> None:
        """Accept or reject the chosen defect, and go to the next; without one, choose the first."""
        if number := self.table.selected():
            self._session.edits.review(number, accepted)
        self.table.step(1)

    def open_dock(self) -> None:
        """Dock below the image, once."""
        viewer = self._viewer()
        if viewer is None or self._dock is not None:
            return
        viewer.mouse_drag_callbacks.append(self._clicked)
        window = getattr(viewer, "window", None)
        if window is not None:
            self._dock = window.add_dock_widget(self.widget, name=NAME, area="bottom")
            main = self.widget.window()
            if isinstance(main, QMainWindow):
                # Below the image only: the panel keeps the full height of the window.
                main.setCorner(Qt.Corner.BottomRightCorner, Qt.DockWidgetArea.RightDockWidgetArea)
                main.setCorner(Qt.Corner.BottomLeftCorner, Qt.DockWidgetArea.LeftDockWidgetArea)
                main.resizeDocks([self._dock], [_HEIGHT], Qt.Orientation.Vertical)

    def offer(self) -> None:
        """Let the dock open with the next result, even if a person has closed it."""
        if self._dock is not None and self.widget.parent() is None:
            self._dock = None

    def close_dock(self) -> None:
        """Take the dock away and end all connections."""
        self._links.clear()
        self._watched = None
        viewer, dock, self._dock = self._viewer(), self._dock, None
        if viewer is not None:
            legend(viewer, None)
            with contextlib.suppress(ValueError):
                viewer.mouse_drag_callbacks.remove(self._clicked)
        window = getattr(viewer, "window", None)
        if dock is not None and window is not None:
            with contextlib.suppress(LookupError, RuntimeError, AttributeError):
                window.remove_dock_widget(dock)

    def refresh(self) -> None:
        """Show the regions of the chosen image and frame."""
        document = self._session.document
        frame = self._session.document_frame()
        scanned = None if document is None else document.class_maps.get(frame or 0)
        self.table.setValue(
            () if document is None else document.regions(frame),
            None if scanned is None else scanned.colours,
            frozenset() if document is None else document.painted_regions(frame),
            None if document is None else document.reviewed(frame),
        )
        self._show_legend()
        series = None if document is None else document.series
        self.plot.setVisible(series is not None)
        if document is not None and series is not None:
            self.plot.setValue([known.areas for _, known in sorted(document.labelled.items())], frame or 0)
        layer = self._session.layer(Role.REGIONS)
        if layer is not self._watched:
            self._links.clear()
            self._watched = layer
            if layer is not None:
                self._links.connect(layer.events.selected_label, self._label_selected)

    def _clicked(self, viewer: Viewer, event: Any) -> Iterator[None]:
        """A click into the image selects the region there, unless a tool is in the hand."""
        active = viewer.layers.selection.active
        if active is not None and str(active.mode) != "pan_zoom":
            return
        position, moved = event.position, False
        yield
        while event.type == "mouse_move":
            moved = True
            yield
        if not moved:
            number = self._navigator.region_at(position)
            self.table.select(number)
            self._navigator.outline(number)

    def _show_legend(self) -> None:
        viewer, session, document = self._viewer(), self._session, self._session.document
        before = session.layer(Role.LABELS_BEFORE) is not None
        layer = session.layer(Role.LABELS_BEFORE if before else Role.LABELS)
        if viewer is not None:
            shown = document is not None and layer is not None and layer.visible
            known = document.known(session.document_frame()) if document is not None and shown else None
            areas = None if known is None else known.areas_before if before else known.areas
            legend(viewer, areas, before=before and areas is not None)

    def _label_selected(self, event: Any) -> None:
        number = int(event.source.selected_label)
        if number != self.table.selected():
            self.table.select(number)

    def _go_to_frame(self, frame: int) -> None:
        viewer, document = self._viewer(), self._session.document
        if viewer is not None and document is not None and document.layer is not None:
            axis = viewer.dims.ndim - 3
            layer = document.layer
            viewer.dims.set_point(axis, float(layer.translate[0] + frame * layer.scale[0]))
