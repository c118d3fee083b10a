"""What is seen in the viewer, and what buttons and clicks do there: layers, camera, tools, texts in the corners."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_hrstem_defects.io.display import (
    AMORPHOUS_COLOUR,
    BEST_PATCH_COLOUR,
    SYMMETRY_COLOUR,
    domain_colour,
)
from napari_hrstem_defects.widgets.layers import (
    WIDEST_OUTLINE,
    first_in_frame,
    is_in_frame,
    label_colours,
    outline_px,
)
from napari_hrstem_defects.widgets.model import Document
from napari_hrstem_defects.widgets.outputs import Output, region_output
from napari_hrstem_defects.widgets.roles import Role, entry, outputs_of, role_of
from napari_hrstem_defects.widgets.source import placed_like

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Layer

    from napari_hrstem_defects.core.regions import Region
    from napari_hrstem_defects.widgets.session import Session

#: Share of the canvas that a fitted image takes up, as napari has it.
_FITTED = 0.95
#: Id of an image → ids of the layers of it that were hidden because another one was chosen.
Hidden = dict[str, set[object]]
#: Overlay of the legend → share of the pixels that it shows, what that is called, and its colour.
_LEGEND = {
    "hrstem_defects_symmetry_defect": ("symmetry_defect", "symmetry defect", SYMMETRY_COLOUR),
    "hrstem_defects_amorphous": ("amorphous", "amorphous", AMORPHOUS_COLOUR),
}
#: Colours of classes are read on it; on a light one they are not.
_GROUND = "black"
_BEFORE = "hrstem_defects_before"
#: The view is centred if it is off by no more than this share of the image.
_CENTRED = 0.01
#: What is shown again if all was hidden by hand.
_RESULTS = (Role.SEVERITY, Role.LABELS, Role.BEST_PATCH)
#: A region that was clicked takes up this share of the view's shorter side, at most.
_REGION_SHARE = 0.35
#: Most pixels along a side of the layer that outlines the region under the mouse, and the overlay that names it.
_LARGEST_HOVERED, _HOVERED = 512, "hrstem_defects_hovered"


def show_only(viewer: ViewerModel, document: Document, images: Collection[Image], hidden: Hidden) -> None:
    """Show an image with its results, and hide all others: one of another size would be seen beside it.

    Images below one that is laid over them, half transparent or added, are meant to be seen through it.

    Parameters
    ----------
    viewer : ViewerModel
    document : Document
    images : collection of Image
        All that can be analysed.
    hidden : dict
        Id of an image → what was hidden of it; it is shown again when its turn comes.
    """
    source = document.layer
    if source is None or source not in viewer.layers or viewer.canvas.grid.enabled:
        return
    overlay = source.opacity < 1 or source.blending in ("additive", "minimum", "multiplicative")
    top = viewer.layers.index(source)
    for index, layer in enumerate(viewer.layers):
        owner = str(layer.unique_id) if layer in images else entry(layer).get("source")
        below = overlay and layer in images and index < top
        if owner not in (None, document.source_id) and not below:
            hidden.setdefault(str(owner), set()).update(hide([layer]))
    show_again(viewer.layers, hidden.pop(document.source_id, ()))
    active = viewer.layers.selection.active
    if active is not None and not active.visible:  # a tool would work on what is not seen
        viewer.layers.selection.active = source


def bring_into_view(viewer: ViewerModel, image: Image, before: Image) -> None:
    """Fit an image to the canvas, unless it lies where the one that was shown before lies."""
    if viewer.dims.ndisplay == 2 and not viewer.canvas.grid.enabled:
        ends = [layer.extent.world[:, -2:] for layer in (image, before)]
        if not np.allclose(*ends):
            fit(viewer, image)


def fit(viewer: ViewerModel, image: Image) -> None:
    """Fit an image to the canvas: napari fits all layers, or some that have as many axes as all together."""
    extent = image.extent.world[:, -2:]
    viewer.scene.camera.center = (0.0, *extent.mean(axis=0))
    viewer.scene.camera.zoom = _FITTED * float((np.array(viewer.canvas.size) / np.ptp(extent, axis=0)).min())


def hide(layers: Iterable[Layer]) -> set[object]:
    """Hide layers; returns the ids of those that were visible."""
    visible = [layer for layer in layers if layer.visible]
    for layer in visible:
        layer.visible = False
    return {layer.unique_id for layer in visible}


def show_again(layers: Iterable[Layer], hidden: Collection[object]) -> None:
    """Show those of some layers that were hidden."""
    for layer in layers:
        if layer.unique_id in hidden:
            layer.visible = True


def _line(viewer: ViewerModel, key: str, text: str, colour: str | None, position: str) -> None:
    """Show a line of text in a corner of the canvas; an empty one is hidden."""
    from napari.components.overlays import TextOverlay

    known = viewer.canvas.overlays.get(key)
    if known is not None:
        known.visible = bool(text)
        if text and known.text != text:
            known.text = text
    elif text:
        # Whole from the start: each change of one that is shown draws it anew.
        place = {"position": position, "box": True, "font_size": 8, "visible": True}
        ground = None if colour is None else _GROUND
        viewer.canvas.overlays[key] = TextOverlay(text=text, color=colour, box_color=ground, **place)


def legend(viewer: ViewerModel, areas: Mapping[str, float] | None, *, before: bool = False) -> None:
    """Show the classes of the labels with their shares of the image, and the scale bar with them; None: no legend.

    Parameters
    ----------
    viewer : ViewerModel
    areas : mapping of str to float or None
        Shares (0...1) by the keys ``symmetry_defect`` and ``amorphous``.
    before : bool
        Note that these are the labels before corrections.
    """
    if areas is not None and not set(_LEGEND) & set(viewer.canvas.overlays):
        viewer.canvas.overlays.scale_bar.visible = True
    lines: dict[str, tuple[str, str | None]] = {
        key: ("" if areas is None else f"■ {name} {100 * areas[share]:.1f} %", colour)
        for key, (share, name, colour) in _LEGEND.items()
    }
    # In the colour of the theme.
    lines[_BEFORE] = ("labels before corrections" if before else "", None)
    for key, (text, colour) in lines.items():
        _line(viewer, key, text, colour, "top_left")


class Fit:
    """Keeps the whole image in view when docks take room away from it, unless a person has chosen another view.

    Parameters
    ----------
    session : Session
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._size = session.viewer.canvas.size

    def follow(self, event: Any = None) -> None:
        """The canvas has another size."""
        if not self._session.alive:
            return
        viewer, image = self._session.viewer, self._session.document.layer
        before, self._size = self._size, viewer.canvas.size
        if before == self._size or image is None or viewer.dims.ndisplay != 2:
            return
        camera, extent = viewer.scene.camera, image.extent.world[:, -2:]
        size = np.ptp(extent, axis=0)
        centred = np.abs(np.asarray(camera.center[-2:]) - extent.mean(axis=0)) <= _CENTRED * size
        if centred.all() and (size * camera.zoom <= np.array(before)).all():
            fit(viewer, image)


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

    def take(self, role: Role, mode: str) -> Any:
        """Show the layer of a role and select a tool on it; None where there is no such layer."""
        layer = self._session.layer(role)
        if layer is not None:
            layer.visible = True
            self._viewer.layers.selection.active = layer
            layer.mode = mode
        return layer

    def move_best_patch(self) -> None:
        """Select the square of the best patch, ready to be dragged."""
        layer = self.take(Role.BEST_PATCH, "select")
        if layer is not None and len(layer.data):
            layer.selected_data = {first_in_frame(np.asarray(layer.data), self._session.shown_frame())}

    def add_lattice(self) -> None:
        """Select the tool that adds another lattice."""
        self._session.edits.show_lattices(self._session.document, make=True)
        layer, best = self.take(Role.LATTICE_PATCHES, "add"), self._session.layer(Role.BEST_PATCH)
        if layer is not None and best is not None and len(best.size):
            layer.selected_data = set()
            layer.current_size = float(best.size[0])
            layer.current_symbol = "square"
            layer.current_face_color = "transparent"
            layer.current_border_color = domain_colour(len(layer.data) + 1)

    def show_lattices(self, shown: bool) -> None:
        """Show or hide the map of the lattices."""
        layer = self._session.layer(Role.LATTICES)
        if layer is not None:
            layer.visible = shown

    def paint_labels(self) -> None:
        """Select the brush for the labels."""
        self.show_before(False)
        self.take(Role.LABELS, "paint")

    def show_before(self, before: bool) -> None:
        """Show the labels before corrections in a layer of their own, or the corrected ones; no record is changed."""
        session = self._session
        labels, layer, known = session.layer(Role.LABELS), session.layer(Role.LABELS_BEFORE), session.known
        if layer is not None and not before:
            self._viewer.layers.remove(layer)
        shown = layer is not None and known is not None and np.may_share_memory(layer.data, known.automatic)
        if before and known is not None and not shown:
            session.write(Output(Role.LABELS_BEFORE, known.automatic, frame=session.shown_frame()))
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
        session, known, frame = self._session, self._session.known, self._session.shown_frame()
        layer = session.layer(Role.REGIONS)
        if known is not None and (layer is None or not is_in_frame(layer, frame)):
            session.write(region_output(known.numbered, known.regions, frame))
        return session.layer(Role.REGIONS)

    def hover(self, number: int, text: str = "") -> None:
        """Outline the region under the mouse, and say what it is; 0: none.

        The layer of the outline is as small as the region: cheap to draw.
        """
        if number == self._hovered:
            return
        session, known = self._session, self._session.known
        source, layer = session.document.layer, session.layer(Role.HOVERED)
        region = None if known is None else next((r for r in known.regions if r.id == number), None)
        if region is None or known is None or source is None:
            self._hovered, text = 0, ""
            if layer is not None:
                layer.visible = False
        else:
            self._hovered = number
            # With a pixel around it, so that it is outlined on all sides; of a large one every so many pixels.
            y0, x0, y1, x1 = region.bbox
            y, x = max(y0 - 1, 0), max(x0 - 1, 0)
            mask = known.numbered[y : y1 + 1, x : x1 + 1] == number
            step = -(-max(mask.shape) // _LARGEST_HOVERED)
            data = mask[::step, ::step].astype(np.uint8)
            if layer is None:
                session.write(Output(Role.HOVERED, data))
                layer = session.layer(Role.HOVERED)
                layer.contour = WIDEST_OUTLINE
            layer.data = data if layer.data.ndim == 2 else data[np.newaxis]
            corner, frame = (y + (step - 1) / 2, x + (step - 1) / 2), session.shown_frame()
            placed = placed_like(source, layer.data.ndim, zoom=(step, step), offset=corner, frame=frame)
            layer.scale, layer.translate = placed["scale"], placed["translate"]
            layer.visible = True
        _line(self._viewer, _HOVERED, text, None, "bottom_left")

    def region_at(self, position: Sequence[float]) -> int:
        """Number of the region at a place of the world, 0 where there is none."""
        source, known = self._session.document.layer, self._session.known
        if source is None or known is None:
            return 0
        y, x = np.rint(np.asarray(source.world_to_data(position))[-2:]).astype(int)
        height, width = known.numbered.shape
        return int(known.numbered[y, x]) if 0 <= y < height and 0 <= x < width else 0
