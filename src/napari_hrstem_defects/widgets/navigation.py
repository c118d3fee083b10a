"""What buttons of the panel do in the viewer: tools, layers, camera."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.io.display import BEST_PATCH_COLOUR
from napari_hrstem_defects.widgets.layers import label_colours, outline_px
from napari_hrstem_defects.widgets.outputs import labels_output, lattice_colour
from napari_hrstem_defects.widgets.roles import Role, outputs_of, role_of
from napari_hrstem_defects.widgets.source import pixels_of
from napari_hrstem_defects.widgets.tasks import provenance_of

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image

    from napari_hrstem_defects.core.regions import Region
    from napari_hrstem_defects.widgets.session import Session

#: What is shown again if all was hidden by hand.
_RESULTS = (Role.SEVERITY, Role.LABELS, Role.BEST_PATCH)
#: The view is centred if it is off by no more than this share of the image.
_CENTRED = 0.01
#: Outline of several regions: that of one has its own colour.
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
            layer.selected_data = {0}

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
            output = labels_output(Role.LABELS_BEFORE, known.automatic)
            output = replace(output, frame=session.shown_frame())
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
        ours = outputs_of(self._viewer.layers, self._session.document.source_id)
        shown = [layer for layer in ours if layer.visible]
        hide = bool(shown)
        if hide:
            self._hidden = {layer.unique_id for layer in shown}
        else:
            shown = [layer for layer in ours if layer.unique_id in self._hidden]
            shown = shown or [layer for layer in ours if role_of(layer) in _RESULTS]
        for layer in shown:
            layer.visible = not hide

    def go_to(self, region: Region) -> None:
        """Outline a region, and bring it into the middle of the view."""
        document = self._session.document
        if (source := document.layer) is None:
            return
        point = np.zeros(source.ndim)
        point[-2:] = region.centroid
        if document.is_stack:
            point[-3] = self._session.shown_frame() or 0
        self._viewer.scene.camera.center = tuple(np.asarray(source.data_to_world(point))[-2:])
        self._zoom_to(source, region)
        self.outline(region.id)

    def outline(self, *numbers: int) -> None:
        """Outline some regions; 0: none."""
        from napari.utils.colormaps import label_colormap

        layer, one = self._session.layer(Role.REGIONS), len(numbers) == 1
        if layer is None:
            return
        layer.contour = outline_px(layer.data.shape)
        # napari shows one label alone, or all.
        if not one or not layer.show_selected_label:
            with layer.events.selected_label.blocker():  # it is not another label
                layer.colormap = label_colormap() if one else label_colours(dict.fromkeys(numbers, _CHOSEN))
        layer.show_selected_label, layer.opacity = one, 1.0 if layer.contour else 0.6
        if one:
            layer.selected_label = numbers[0]
        layer.visible = any(numbers)

    def region_at(self, position: Sequence[float]) -> int:
        """Number of the region at a place of the world, 0 where there is none."""
        document, frame = self._session.document, self._session.shown_frame()
        if (source := document.layer) is None:
            return 0
        y, x = np.rint(np.asarray(source.world_to_data(position))[-2:]).astype(int)
        known = document.known(frame)
        if known is None or not (0 <= y < known.shown.shape[0] and 0 <= x < known.shown.shape[1]):
            return 0
        return int(known.numbered[y, x])

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


class Fit:
    """Keeps the whole image in view when docks take room away from it, unless a person has chosen another view.

    Parameters
    ----------
    viewer : ViewerModel
        Only weakly referred to.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = weakref.ref(viewer)
        self._size = viewer.canvas.size

    def follow(self, event: Any = None) -> None:
        """The canvas has another size."""
        viewer = self._viewer()
        if viewer is None:
            return
        before, self._size = self._size, viewer.canvas.size
        if before == self._size or not viewer.layers or viewer.dims.ndisplay != 2:
            return
        camera, extent = viewer.scene.camera, viewer.layers.extent.world[:, -2:]
        size = np.ptp(extent, axis=0)
        centred = np.abs(np.asarray(camera.center[-2:]) - extent.mean(axis=0)) <= _CENTRED * size
        if centred.all() and (size * camera.zoom <= np.array(before)).all():
            viewer.reset_view()
