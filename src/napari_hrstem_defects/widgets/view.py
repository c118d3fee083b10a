"""What is seen in the viewer: layers shown and hidden, the camera, the legend, the region under the mouse."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.io.display import AMORPHOUS_COLOUR, SYMMETRY_COLOUR
from napari_hrstem_defects.widgets.layers import WIDEST_OUTLINE, write
from napari_hrstem_defects.widgets.model import Document
from napari_hrstem_defects.widgets.outputs import Output
from napari_hrstem_defects.widgets.roles import Role, entry
from napari_hrstem_defects.widgets.source import placed_like

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Layer

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
_BEFORE, _HOVERED = "hrstem_defects_before", "hrstem_defects_hovered"
#: Most pixels along a side of the layer that outlines the region under the mouse.
_LARGEST_HOVERED = 512
#: The view is centred if it is off by no more than this share of the image.
_CENTRED = 0.01


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


def outline_hovered(
    viewer: ViewerModel,
    document: Document,
    mask: NDArray[np.bool_],
    corner: tuple[int, int],
    frame: int,
    text: str,
) -> None:
    """Outline a region, and say what it is, in a layer of its own that is as small as the region: cheap to draw.

    Parameters
    ----------
    viewer : ViewerModel
    document : Document
        Of the image, and that of the frame that is shown.
    mask : bool array (n_y, n_x)
        The region and its surroundings; every so many pixels are taken where it is large.
    corner : tuple of int
        Pixel of the image that the mask begins at.
    frame : int
        Of a series.
    text : str
        Empty: no region.
    """
    source, layer = document.layer, document.output(viewer.layers, Role.HOVERED)
    _line(viewer, _HOVERED, text, None, "bottom_left")
    if not text or source is None:
        if layer is not None:
            layer.visible = False
        return
    step = -(-max(mask.shape) // _LARGEST_HOVERED)
    data = mask[::step, ::step].astype(np.uint8)
    if layer is None:
        write(viewer, document, Output(Role.HOVERED, data), {})
        layer = document.output(viewer.layers, Role.HOVERED)
        layer.contour = WIDEST_OUTLINE
    layer.data = data if layer.data.ndim == 2 else data[np.newaxis]
    first = (corner[0] + (step - 1) / 2, corner[1] + (step - 1) / 2)
    placed = placed_like(source, layer.data.ndim, zoom=(step, step), offset=first, frame=frame)
    layer.scale, layer.translate = placed["scale"], placed["translate"]
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
