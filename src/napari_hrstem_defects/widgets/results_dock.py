"""The dock below the image: table of the regions, and their areas against time."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QHBoxLayout, QMainWindow, QSplitter, QWidget

from napari_hrstem_defects.widgets.legend import legend
from napari_hrstem_defects.widgets.links import Links
from napari_hrstem_defects.widgets.navigation import Navigator
from napari_hrstem_defects.widgets.regions_table import RegionTable
from napari_hrstem_defects.widgets.roles import Role
from napari_hrstem_defects.widgets.series_view import AreaPlot
from napari_hrstem_defects.widgets.theme import Colours

if TYPE_CHECKING:
    from napari import Viewer

    from napari_hrstem_defects.widgets.session import Session

#: Height that the dock opens with, in px of the screen: a heading and four rows.
_HEIGHT = 130
#: Name of the dock.
NAME = "Defect regions"


class ResultsDock:
    """Opens with the first result and closes with the panel.

    Parameters
    ----------
    viewer : napari.Viewer
        Only weakly referred to.
    session : Session
    colours : Colours
    """

    def __init__(self, viewer: Viewer, session: Session, colours: Colours) -> None:
        self._viewer = weakref.ref(viewer)
        self._session = session
        self._links = Links()
        self._navigator = Navigator(viewer, session)
        self._dock: Any = None
        self._watched: Any = None
        self._legend: Iterator[None] = iter(())
        self._legend_turn = QTimer()
        self._legend_turn.timeout.connect(self._next_of_legend)
        self.table = RegionTable()
        self.plot = AreaPlot(colours)
        self.plot.hide()
        self.widget = QWidget()
        splitter = QSplitter(Qt.Orientation.Horizontal)
        splitter.addWidget(self.table)
        splitter.addWidget(self.plot)
        layout = QHBoxLayout(self.widget)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(splitter)
        self.table.regionChosen.connect(self._navigator.go_to)
        self.plot.frameChosen.connect(self._go_to_frame)

    def setColours(self, colours: Colours) -> None:
        """Follow the theme."""
        self.plot.setColours(colours)

    def open_dock(self) -> None:
        """Dock below the image, once."""
        viewer = self._viewer()
        if viewer is None or self._dock is not None:
            return
        viewer.mouse_drag_callbacks.append(self._clicked)
        window = getattr(viewer, "window", None)
        if window is not None and hasattr(window, "_qt_window"):
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
            self._legend_turn.stop()
            for _ in legend(viewer, None):
                pass
        if viewer is not None and self._clicked in viewer.mouse_drag_callbacks:
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
        )
        self._show_legend()
        series = None if document is None else document.series
        self.plot.setVisible(series is not None)
        if document is not None and series is not None:
            if self.plot.value() != (areas := document.areas()):
                self.plot.setValue(areas)
            self.plot.setFrame(frame or 0)
        layer = self._navigator.layer(Role.REGIONS)
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
        viewer, document = self._viewer(), self._session.document
        layer = self._navigator.layer(Role.LABELS)
        if viewer is None:
            return
        areas = None
        if document is not None and layer is not None and layer.visible:
            frame = self._session.document_frame()
            known = document.labelled.get(document.frame if frame is None else frame)
            areas = None if known is None else known.areas
        self._legend = legend(viewer, areas)
        self._legend_turn.start(0)

    def _next_of_legend(self) -> None:
        if next(self._legend, self) is self:
            self._legend_turn.stop()

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
