"""The dock below the image, tied to the canvas: table and sizes of the regions."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QHBoxLayout, QMainWindow, QSplitter, QVBoxLayout, QWidget

from napari_hrstem_defects.widgets import settings
from napari_hrstem_defects.widgets.layout import Links, box, button
from napari_hrstem_defects.widgets.region_plots import Profile, SizeView, profile_across
from napari_hrstem_defects.widgets.roles import Role
from napari_hrstem_defects.widgets.source import pixel_size_nm, pixels_of
from napari_hrstem_defects.widgets.tables import RegionRows, RegionTable
from napari_hrstem_defects.widgets.view import Navigator, legend

if TYPE_CHECKING:
    from napari import Viewer
    from napari.components import ViewerModel

    from napari_hrstem_defects.core.regions import Region
    from napari_hrstem_defects.widgets.session import Session

#: Height that the dock opens with, in px of the screen: a heading and five rows.
_HEIGHT = 152


class ResultsDock:
    """Opens with the first result and closes with the panel.

    Parameters
    ----------
    viewer : ViewerModel
    session : Session
        The viewer's.
    navigator : Navigator
    """

    def __init__(self, viewer: ViewerModel, session: Session, navigator: Navigator) -> None:
        self._viewer, self._session, self._navigator = viewer, session, navigator
        self._links = Links()
        self._dock: Any = None
        self._watched: Any = None
        # Image and frame of the table; pixels in the regions that are selected there.
        self._about = "", 0
        self._places: list[tuple[int, int]] = []
        self.table = RegionTable()
        self.widget = QWidget()
        splitter = QSplitter(Qt.Orientation.Horizontal)
        self.sizes = SizeView()
        beside = QWidget()
        splitter.addWidget(self.table)
        splitter.addWidget(beside)
        buttons = box(QHBoxLayout(), spacing=2)
        forward, back = (functools.partial(self.table.step, by) for by in (1, -1))
        accept, reject = (functools.partial(self.review, accepted) for accepted in (True, False))
        for sign, tip, pressed in (
            ("▲", "Previous defect (Shift+N)", back),
            ("▼", "Next defect (N)", forward),
            ("✓", "Accept the chosen defect, and go to the next (K: keep)", accept),
            ("✕", "Reject the chosen defect, and go to the next (Shift+K)", reject),
        ):
            made = button(sign, tip, pressed)
            made.setAccessibleName(tip)
            made.setFixedSize(26, 22)
            buttons.addWidget(made)
        box(QVBoxLayout(beside), buttons, self.sizes, spacing=1)
        box(QHBoxLayout(self.widget), splitter)
        splitter.setStretchFactor(0, 1)
        self.table.regionChosen.connect(self._chosen)
        self.table.marked.connect(self._selected)
        self.sizes.choice.currentIndexChanged.connect(lambda _: self._show_profile())
        self.sizes.barChosen.connect(self._bar_chosen)
        self.sizes.frameChosen.connect(self._go_to_frame)

    def _chosen(self, region: Region) -> None:
        numbers = self.table.selected()
        if len(numbers) > 1:
            self._navigator.outline(*numbers)
        else:
            self._navigator.go_to(region)

    def _selected(self) -> None:
        chosen = self.table.selected()
        known = self._session.known
        self._places = [] if known is None else known.places(chosen)
        self.sizes.setSelected(chosen)
        self._show_profile()

    def _show_profile(self) -> None:
        """The profile across the selected region of the frame that was analysed last."""
        if self.sizes.profile.isHidden():
            return
        document, frame = self._session.document, self._session.shown_frame()
        source, analysis, found = document.layer, document.analysis, document.found(frame)
        regions = [region for region in self.table.value() if region.id in self.table.selected()]
        profile: Profile | tuple[()] = ()
        here = len(regions) == 1 and frame == document.frame
        severity = None if analysis is None else analysis.severity
        if here and source is not None and found is not None and severity is not None and severity.size:
            pixels = pixels_of(source)[frame] if document.is_stack else pixels_of(source)
            pixels = pixels.reshape(document.frame_shape)
            period = found.period_px or regions[0].width_px
            size = pixel_size_nm(source)
            profile = profile_across(regions[0], pixels, severity, period, size)
        self.sizes.profile.setValue(profile)

    def _bar_chosen(self, numbers: frozenset[int]) -> None:
        self.table.select(*numbers)
        self._navigator.outline(*numbers)

    def review(self, accepted: bool) -> None:
        """Accept or reject the chosen defects, and go to the next; without one, choose the first."""
        if numbers := self.table.selected():
            self._session.edits.review(numbers, accepted)
        self.table.step(1)

    def open_dock(self) -> None:
        """Dock below the image, once."""
        if self._dock is not None:
            return
        self._viewer.mouse_drag_callbacks.append(self._clicked)
        self._viewer.mouse_move_callbacks.append(self._moved)
        self._viewer.events.mouse_over_canvas.connect(self._left)
        window = getattr(self._viewer, "window", None)
        if window is not None:
            self._dock = window.add_dock_widget(self.widget, name="Defect regions", area="bottom")
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
        dock, self._dock = self._dock, None
        legend(self._viewer, None)
        self._hover(0)
        self._viewer.events.mouse_over_canvas.disconnect(self._left)
        with contextlib.suppress(ValueError):
            self._viewer.mouse_drag_callbacks.remove(self._clicked)
            self._viewer.mouse_move_callbacks.remove(self._moved)
        window = getattr(self._viewer, "window", None)
        if dock is not None and window is not None:
            with contextlib.suppress(LookupError, RuntimeError, AttributeError):
                window.remove_dock_widget(dock)

    def refresh(self) -> None:
        """Show the regions of the chosen image and frame."""
        session, document, frame = self._session, self._session.document, self._session.shown_frame()
        scanned, regions = document.class_maps.get(frame), document.regions(frame)
        in_nm = document.in_nm(frame)
        self.sizes.setValue(regions, in_nm=in_nm)
        colours = {} if scanned is None else scanned.colours
        painted = frozenset() if session.known is None else session.known.painted
        reviewed = document.reviewed(frame)
        about, places, chosen = (document.source_id, frame), self._places, self.table.selected()
        self.table.setValue(RegionRows(regions, colours, painted, reviewed, in_nm))
        if self.table.selected() != chosen:  # other regions
            known = session.known if about == self._about else None
            self.table.select(*() if known is None else {int(known.numbered[place]) for place in places})
            self._navigator.outline(*self.table.selected())
        self._about = about
        self._hover(0)
        self._show_profile()
        self._show_legend()
        frames = [] if document.series is None else sorted(document.labelled.items())
        self.sizes.setSeries([known.areas for _, known in frames], frame)
        layer = session.layer(Role.REGIONS)
        if layer is not self._watched:
            self._links.clear()
            self._watched = layer
            if layer is not None:
                self._links.connect(layer.events.selected_label, self._label_selected)

    def _clicked(self, viewer: Viewer, event: Any) -> Iterator[None]:
        """A click into the image selects the region there, unless a tool is selected."""
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

    def _moved(self, viewer: Viewer, event: Any) -> None:
        """The region under the mouse is outlined, unless a tool is selected."""
        active = viewer.layers.selection.active
        free = active is None or str(active.mode) == "pan_zoom"
        wanted = free and settings.preference("outline_hovered")
        self._hover(self._navigator.region_at(event.position) if wanted else 0)

    def _left(self, event: Any) -> None:
        if not self._viewer.mouse_over_canvas:
            self._hover(0)

    def _hover(self, number: int) -> None:
        """Point out a region, 0: none, in the image and in the table."""
        self._navigator.hover(number, self.table.regions.about(number))
        self.table.point_out(number)

    def _show_legend(self) -> None:
        session = self._session
        before = session.layer(Role.LABELS_BEFORE) is not None
        layer = session.layer(Role.LABELS_BEFORE if before else Role.LABELS)
        shown = layer is not None and layer.visible
        known = session.known if shown else None
        areas = None if known is None else known.areas_before if before else known.areas
        legend(self._viewer, areas, before=before and areas is not None)

    def _label_selected(self, event: Any) -> None:
        number = int(event.source.selected_label)
        if number not in self.table.selected():
            self.table.select(number)

    def _go_to_frame(self, frame: int) -> None:
        if (layer := self._session.document.layer) is not None:
            dims = self._viewer.dims
            dims.set_point(dims.ndim - 3, float(layer.translate[0] + frame * layer.scale[0]))
