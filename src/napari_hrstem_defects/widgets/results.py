"""The dock below the image, tied to the canvas: table and sizes of the regions; what buttons do in the viewer."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QHBoxLayout, QMainWindow, QSplitter, QVBoxLayout, QWidget

from napari_hrstem_defects.io.display import BEST_PATCH_COLOUR
from napari_hrstem_defects.widgets import settings
from napari_hrstem_defects.widgets.layers import first_in_frame, label_colours, outline_px
from napari_hrstem_defects.widgets.layout import Links, box, button
from napari_hrstem_defects.widgets.outputs import Output, lattice_colour
from napari_hrstem_defects.widgets.region_plots import Profile, SizeView, profile_across
from napari_hrstem_defects.widgets.roles import Role, outputs_of, role_of
from napari_hrstem_defects.widgets.source import pixel_size_nm, pixels_of
from napari_hrstem_defects.widgets.tables import RegionRows, RegionTable
from napari_hrstem_defects.widgets.tasks import provenance_of
from napari_hrstem_defects.widgets.theme import Colours
from napari_hrstem_defects.widgets.view import hide, legend, outline_hovered, show_again

if TYPE_CHECKING:
    from napari import Viewer
    from napari.components import ViewerModel
    from napari.layers import Image

    from napari_hrstem_defects.core.regions import Region
    from napari_hrstem_defects.widgets.session import Session

#: Height that the dock opens with, in px of the screen: a heading and five rows.
_HEIGHT = 152
#: What is shown again if all was hidden by hand.
_RESULTS = (Role.SEVERITY, Role.LABELS, Role.BEST_PATCH)
#: Colour of the outlines of chosen regions.
_CHOSEN = BEST_PATCH_COLOUR
#: A region that was clicked takes up this share of the view's shorter side, at most.
_REGION_SHARE = 0.35


class Navigator:
    """Moves around in the viewer of a session.

    Parameters
    ----------
    viewer : ViewerModel
    session : Session
        The viewer's.
    """

    def __init__(self, viewer: ViewerModel, session: Session) -> None:
        self._viewer, self._session = viewer, session
        self._hovered = 0
        # Ids of the layers that were visible before the bare image was shown.
        self._hidden: set[object] = set()

    def _take(self, role: Role, mode: str) -> Any:
        layer = self._session.layer(role)
        if layer is not None:
            layer.visible = True
            self._viewer.layers.selection.active = layer
            layer.mode = mode
        return layer

    def move_best_patch(self) -> None:
        """Select the square of the best patch, ready to be dragged."""
        layer = self._take(Role.BEST_PATCH, "select")
        if layer is not None and len(layer.data):
            layer.selected_data = {first_in_frame(np.asarray(layer.data), self._session.shown_frame())}

    def move_lattices(self) -> None:
        """Select the patches of the other lattices, ready to be dragged."""
        self._take(Role.LATTICE_PATCHES, "select")

    def add_lattice(self) -> None:
        """Select the tool that adds another lattice."""
        self._session.edits.show_lattices(self._session.document, make=True)
        layer, best = self._take(Role.LATTICE_PATCHES, "add"), self._session.layer(Role.BEST_PATCH)
        if layer is not None and best is not None and len(best.size):
            layer.selected_data = set()
            layer.current_size = float(best.size[0])
            layer.current_symbol = "square"
            layer.current_face_color = "transparent"
            layer.current_border_color = lattice_colour(len(layer.data) + 1)

    def show_lattices(self, shown: bool) -> None:
        """Show or hide the map of the lattices."""
        layer = self._session.layer(Role.LATTICES)
        if layer is not None:
            layer.visible = shown

    def paint_patches(self) -> None:
        """Select the brush for the patches."""
        layer = self._take(Role.PATCHES, "paint")
        if layer is not None:
            layer.brush_size = 1

    def paint_labels(self) -> None:
        """Select the brush for the labels."""
        self.show_before(False)
        self._take(Role.LABELS, "paint")

    def show_before(self, before: bool) -> None:
        """Show the labels before corrections in a layer of their own, or the corrected ones; no record is changed."""
        session, document = self._session, self._session.document
        if document.analysis is None:
            return
        labels, layer = session.layer(Role.LABELS), session.layer(Role.LABELS_BEFORE)
        known = document.known(session.shown_frame())
        if not before and layer is not None:
            self._viewer.layers.remove(layer)
        elif before and known is not None and not _shows(layer, known.automatic):
            output = Output(Role.LABELS_BEFORE, known.automatic, frame=session.shown_frame())
            session.write(document, output, provenance_of(document.analysis))
        if labels is not None and (layer is None) == before:
            labels.visible, labels.mode = not before, "pan_zoom"

    def follow_before(self) -> None:
        """The labels before corrections are those of the latest run and the frame shown, as long as there are any."""
        if self._session.layer(Role.LABELS_BEFORE) is not None:
            self.show_before(bool(self._session.document.by_hand.painted))

    def toggle_before(self) -> None:
        """Show the labels before corrections, or the corrected ones again."""
        if not self._session.document.by_hand.painted:
            self._session.noticed.emit("There are no corrections of labels to compare with.")
        else:
            self.show_before(self._session.layer(Role.LABELS_BEFORE) is None)
            self._session.changed.emit()

    def toggle_results(self) -> None:
        """Show the bare image, or again what lay over it."""
        self.hover(0)
        ours = outputs_of(self._viewer.layers, self._session.document.source_id)
        if hidden := hide(ours):
            self._hidden = hidden
        else:
            there = self._hidden.intersection(layer.unique_id for layer in ours)
            results = {layer.unique_id for layer in ours if role_of(layer) in _RESULTS}
            show_again(ours, there or results)

    def go_to(self, region: Region) -> None:
        """Outline a region, and bring it into the view, in the middle unless that showed what is beyond the image."""
        document = self._session.document
        if (source := document.layer) is None:
            return
        self._zoom_to(source, region)
        point = np.zeros(source.ndim)
        point[-2:] = region.centroid
        centre = np.asarray(source.data_to_world(point))[-2:]
        camera, (begin, end) = self._viewer.scene.camera, source.extent.world[:, -2:]
        half = np.minimum(np.array(self._viewer.canvas.size) / camera.zoom, end - begin) / 2
        camera.center = (0.0, *np.clip(centre, begin + half, end - half))
        self.outline(region.id)

    def outline(self, *numbers: int) -> None:
        """Outline some regions; 0: none."""
        layer = self._session.layer(Role.REGIONS)
        if layer is None:
            return
        layer.contour = outline_px(layer.data.shape)
        layer.opacity = 1.0 if layer.contour else 0.6
        with layer.events.selected_label.blocker():  # it is not another label
            layer.colormap = label_colours(dict.fromkeys(numbers, _CHOSEN))
        if len(numbers) == 1:
            layer.selected_label = numbers[0]
        layer.visible = any(numbers)

    def hover(self, number: int, text: str = "") -> None:
        """Outline the region under the mouse, and say what it is; 0: none."""
        if number == self._hovered:
            return
        document, frame = self._session.document, self._session.shown_frame()
        numbers = self._numbers()
        region = next((r for r in document.regions(frame) if r.id == number), None)
        self._hovered = 0 if region is None else number
        if region is None or numbers is None:
            mask, corner, text = np.zeros((0, 0), bool), (0, 0), ""
        else:
            # With a pixel around it, so that it is outlined on all sides.
            y0, x0, y1, x1 = region.bbox
            corner = max(y0 - 1, 0), max(x0 - 1, 0)
            mask = numbers[corner[0] : y1 + 1, corner[1] : x1 + 1] == number
        with self._session.edits.ignored():
            outline_hovered(self._viewer, document, mask, corner, frame or 0, text)

    def region_at(self, position: Sequence[float]) -> int:
        """Number of the region at a place of the world, 0 where there is none."""
        source, numbers = self._session.document.layer, self._numbers()
        if source is None or numbers is None:
            return 0
        y, x = np.rint(np.asarray(source.world_to_data(position))[-2:]).astype(int)
        return int(numbers[y, x]) if 0 <= y < numbers.shape[0] and 0 <= x < numbers.shape[1] else 0

    def _numbers(self) -> NDArray[np.integer[Any]] | None:
        """Numbers of the regions of the frame shown, of their layer: connecting the labels anew would take a while."""
        document, frame = self._session.document, self._session.shown_frame()
        layer, known = self._session.layer(Role.REGIONS), document.known(frame)
        if known is None:
            return None
        if layer is None:
            return known.numbered
        if layer.data.ndim == 2:
            return np.asarray(layer.data)
        index = round(float(layer.world_to_data(self._viewer.dims.point)[-3]))
        return np.asarray(layer.data[index]) if 0 <= index < len(layer.data) else None

    def _zoom_to(self, source: Image, region: Region) -> None:
        y0, x0, y1, x1 = region.bbox
        pixel = float(np.abs(source.scale[-1]))
        height, width = pixels_of(source).shape[-2:]
        whole = max(height, width) * pixel
        # Never so near that the surroundings are lost, nor farther away than the whole image.
        wanted = max(max(y1 - y0, x1 - x0) * pixel / _REGION_SHARE, whole / 6)
        self._viewer.scene.camera.zoom = min(self._viewer.canvas.size) / min(wanted, whole)


def _shows(layer: Any, labels: NDArray[np.uint8]) -> bool:
    """Whether a layer holds these very labels."""
    return layer is not None and np.may_share_memory(layer.data, labels)


class ResultsDock:
    """Opens with the first result and closes with the panel.

    Parameters
    ----------
    viewer : ViewerModel
    session : Session
        The viewer's.
    navigator : Navigator
    colours : Colours
    """

    def __init__(self, viewer: ViewerModel, session: Session, navigator: Navigator, colours: Colours) -> None:
        self._viewer, self._session, self._navigator = viewer, session, navigator
        self._links = Links()
        self._dock: Any = None
        self._watched: Any = None
        self.table = RegionTable()
        self.widget = QWidget()
        splitter = QSplitter(Qt.Orientation.Horizontal)
        self.sizes = SizeView(colours)
        self.plot = self.sizes.series
        self.setColours = self.sizes.setColours
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
        self.table.selectionChanged.connect(self._selected)
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
        self.sizes.setSelected(self.table.selected())
        self._show_profile()

    def _show_profile(self) -> None:
        """The profile across the selected region of the frame that was analysed last."""
        if self.sizes.profile.isHidden():
            return
        document, frame = self._session.document, self._session.shown_frame()
        source, analysis, found = document.layer, document.analysis, document.found(frame)
        regions = [region for region in self.table.value() if region.id in self.table.selected()]
        profile: Profile | tuple[()] = ()
        here = len(regions) == 1 and frame in (None, document.frame)
        if (
            here
            and source is not None
            and analysis is not None
            and found is not None
            and analysis.severity.size
        ):
            pixels = pixels_of(source) if frame is None else pixels_of(source)[frame]
            pixels = pixels.reshape(document.frame_shape)
            period = found.period_px or regions[0].width_px
            size = pixel_size_nm(source)
            profile = profile_across(regions[0], pixels, analysis.severity, period, size)
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
        document, frame = self._session.document, self._session.shown_frame()
        scanned, regions = document.class_maps.get(frame or 0), document.regions(frame)
        in_nm = document.in_nm(frame)
        self.sizes.setValue(regions, in_nm=in_nm)
        colours = {} if scanned is None else scanned.colours
        painted, reviewed = document.painted_regions(frame), document.reviewed(frame)
        self.table.setValue(RegionRows(regions, colours, painted, reviewed, in_nm))
        self._hover(0)
        self._show_profile()
        self._show_legend()
        frames = [] if document.series is None else sorted(document.labelled.items())
        self.sizes.setSeries([known.areas for _, known in frames], frame or 0)
        layer = self._session.layer(Role.REGIONS)
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
        number = self._navigator.region_at(event.position) if wanted else 0
        self._hover(number)

    def _left(self, event: Any) -> None:
        if not self._viewer.mouse_over_canvas:
            self._hover(0)

    def _hover(self, number: int) -> None:
        """Point out a region, 0: none, in the image and in the table."""
        self._navigator.hover(number, self.table.about(number))
        self.table.point_out(number)

    def _show_legend(self) -> None:
        session = self._session
        before = session.layer(Role.LABELS_BEFORE) is not None
        layer = session.layer(Role.LABELS_BEFORE if before else Role.LABELS)
        shown = layer is not None and layer.visible
        known = session.document.known(session.shown_frame()) if shown else None
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
