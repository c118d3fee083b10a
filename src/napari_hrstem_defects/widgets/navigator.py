"""What buttons and clicks do in the viewer: tools taken, regions outlined and found, results hidden and shown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.io.display import BEST_PATCH_COLOUR
from napari_hrstem_defects.widgets.corrections import place_of
from napari_hrstem_defects.widgets.layers import first_in_frame, is_in_frame, label_colours, outline_px
from napari_hrstem_defects.widgets.outputs import Output, lattice_colour, region_output
from napari_hrstem_defects.widgets.roles import Role, outputs_of, role_of
from napari_hrstem_defects.widgets.tasks import provenance_of
from napari_hrstem_defects.widgets.view import hide, outline_hovered, show_again

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_hrstem_defects.core.regions import Region
    from napari_hrstem_defects.widgets.session import Session

#: What is shown again if all was hidden by hand.
_RESULTS = (Role.SEVERITY, Role.LABELS, Role.BEST_PATCH)
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
        elif (
            before
            and known is not None
            and (layer is None or not np.may_share_memory(layer.data, known.automatic))
        ):
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
        y0, x0, y1, x1 = region.bbox
        pixel = float(np.abs(source.scale[-1]))
        whole = max(document.frame_shape) * pixel
        # Never so near that the surroundings are lost, nor farther away than the whole image.
        wanted = max(max(y1 - y0, x1 - x0) * pixel / _REGION_SHARE, whole / 6)
        self._viewer.scene.camera.zoom = min(self._viewer.canvas.size) / min(wanted, whole)
        point = np.zeros(source.ndim)
        point[-2:] = region.centroid
        centre = np.asarray(source.data_to_world(point))[-2:]
        camera, (begin, end) = self._viewer.scene.camera, source.extent.world[:, -2:]
        half = np.minimum(np.array(self._viewer.canvas.size) / camera.zoom, end - begin) / 2
        camera.center = (0.0, *np.clip(centre, begin + half, end - half))
        self.outline(region.id)

    def outline(self, *numbers: int) -> None:
        """Outline some regions of the frame shown; 0: none."""
        layer = self._region_layer() if any(numbers) else self._session.layer(Role.REGIONS)
        if layer is None:
            return
        layer.contour = outline_px(layer.data.shape)
        layer.opacity = 1.0 if layer.contour else 0.6
        with layer.events.selected_label.blocker():  # it is not another label
            layer.colormap = label_colours(dict.fromkeys(numbers, BEST_PATCH_COLOUR))
        if len(numbers) == 1:
            layer.selected_label = numbers[0]
        layer.visible = any(numbers)

    def _region_layer(self) -> Any:
        """The layer of the numbers of the regions; of a series it has those of one frame, now of the one shown."""
        session, document, frame = self._session, self._session.document, self._session.shown_frame()
        layer, known = session.layer(Role.REGIONS), document.known(frame)
        if known is None or document.analysis is None or (layer is not None and is_in_frame(layer, frame)):
            return layer
        output = region_output(known.numbered, known.regions, frame)
        session.write(document, output, provenance_of(document.analysis))
        return session.layer(Role.REGIONS)

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

    def _numbers(self) -> NDArray[np.int32] | None:
        """Numbers of the regions of the frame shown."""
        known = self._session.document.known(self._session.shown_frame())
        return None if known is None else known.numbered

    def places_in(self, regions: Iterable[Region]) -> list[tuple[int, int]]:
        """A pixel in each of some regions, by which they are found again when the labels have changed."""
        numbers, found = self._numbers(), []
        if numbers is not None:
            for region in regions:
                y0, x0, y1, x1 = region.bbox
                if (place := place_of(numbers[y0:y1, x0:x1], region.id)) is not None:
                    found.append((y0 + place[0], x0 + place[1]))
        return found

    def numbers_at(self, places: Iterable[tuple[int, int]]) -> set[int]:
        """Numbers of the regions at some pixels."""
        numbers = self._numbers()
        return set() if numbers is None else {int(numbers[place]) for place in places} - {0}
