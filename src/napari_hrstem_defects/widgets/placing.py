"""Writes outputs as layers: in place where the layer is only ours, as a new layer where a person edited it."""

from __future__ import annotations

from collections.abc import Collection, Generator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_hrstem_defects.widgets.document import PAINTABLE, Document
from napari_hrstem_defects.widgets.inserting import insert
from napari_hrstem_defects.widgets.outputs import Output
from napari_hrstem_defects.widgets.roles import KEY, Role, entry, role_of, tag
from napari_hrstem_defects.widgets.source import placed_like

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Layer


#: Outlines are as wide as this part of the image, at most so many px, and drawn up to this side: napari takes a time
#: that grows with the square of the width for each change of the layer, and the window stands still meanwhile.
_OUTLINED, _WIDEST_OUTLINE, _LARGEST_OUTLINED = 100, 3, 1024
#: Id of an image → ids of the layers of it that were hidden because another one was chosen.
Hidden = dict[str, set[object]]
#: Outputs with one layer for each class of a scan.
PARTED = (Role.CLASS_SCORES, Role.CLASS_VOTES)
#: Outputs that are points, in pixels of the image.
POINTS = (Role.BEST_PATCH, Role.LATTICE_PATCHES)


def write(
    viewer: ViewerModel, document: Document, output: Output, provenance: Mapping[str, Any]
) -> Generator[None, None, tuple[Layer | None, str | None]]:
    """Show an output, bit by bit: each bit holds up the window for a moment, all of them for too long.

    Yields
    ------
    None
        Between two bits.

    Returns
    -------
    layer : Layer or None
        The layer if it was made, None if it was there.
    note : str or None
        What a person should know: an edited layer was kept.
    """
    source = document.layer
    assert source is not None
    data, placed = _fitted(source, document, output)
    role = output.role
    layer = document.output(viewer.layers, role, output.part)
    if layer is None and output.if_there:
        return None, None
    if layer is not None and document.moving is role:
        return None, None  # held with the mouse; when it is let go it is run again
    note = None
    if layer is not None and _is_frame_of(layer, document, output) and not document.is_edited(layer, role):
        # One frame of a series that was analysed as a whole.
        layer.data[_frame(document, output)] = data[0]
        if (reference := document.references.get(role)) is not None:
            reference[_frame(document, output)] = data[0]
        layer.refresh()
        return None, None
    if layer is not None and document.is_edited(layer, role):
        if role is Role.PATCHES and layer.data.shape == data.shape:
            return None, None  # what a person painted is what was used
        tag(layer, kept=True)
        layer.visible = False
        note = (
            f"Your edited layer “{layer.name}” was kept and hidden; the new result is in a layer of its own."
        )
        layer = None
    made = None
    if layer is None:
        layer = made = _make(document, source, output, data, placed)
        # Found by its id, so it may be named before it is in the list.
        document.outputs[role, output.part] = layer.unique_id
        yield from insert(viewer, layer, lambda: _position(viewer, source, role))
    else:
        _update(layer, output, data, placed)
    if role in PAINTABLE:
        document.references[role] = data.copy()
    tag(
        layer,
        role=role.value,
        part=output.part,
        source=document.source_id,
        frame=_frame(document, output),
        provenance=dict(provenance),
        edited=False,
    )
    return made, note


def remove_parts(viewer: ViewerModel, document: Document, kept: Collection[str]) -> None:
    """Remove layers of classes that the latest scan does not know; those that a person painted are kept, hidden."""
    for role in PARTED:
        for part, layer in document.parts(viewer.layers, role).items():
            if part in kept:
                continue
            del document.outputs[role, part]
            if document.is_edited(layer, role):
                tag(layer, kept=True)
                layer.visible = False
            else:
                viewer.layers.remove(layer)


def follow(viewer: ViewerModel, document: Document) -> None:
    """The image was moved or calibrated anew: its outputs follow."""
    source = document.layer
    if source is None:
        return
    for role, part in document.outputs:
        layer = document.output(viewer.layers, role, part)
        if layer is None:
            continue
        shape = np.array(layer.data.shape[-2:])
        zoom, offset = (1.0, 1.0), (0.0, 0.0)
        points = role in POINTS
        if not points:
            y, x = np.array(document.frame_shape) / shape
            zoom, offset = (float(y), float(x)), (float(y - 1) / 2, float(x - 1) / 2)
        single = layer.data.ndim == 3 and layer.data.shape[0] == 1
        frame = int(entry(layer).get("frame", document.frame)) if single and not points else 0
        for key, value in placed_like(source, layer.ndim, zoom=zoom, offset=offset, frame=frame).items():
            if value is not None:
                setattr(layer, key, value)


def _frame(document: Document, output: Output) -> int:
    return document.frame if output.frame is None else output.frame


def _is_frame_of(layer: Layer, document: Document, output: Output) -> bool:
    return bool(
        document.is_stack
        and output.kind != "points"
        and output.data.ndim == 2
        and layer.data.ndim == 3
        and layer.data.shape[0] > 1
        and layer.data.shape[1:] == output.data.shape
    )


def _fitted(source: Image, document: Document, output: Output) -> tuple[Any, dict[str, Any]]:
    """Data and place of an output in the dimensions of its image."""
    data = output.data
    stack = document.is_stack
    if output.kind == "points":
        if stack:
            data = np.column_stack([np.full(len(data), float(_frame(document, output))), data])
        return data, placed_like(source, data.shape[1])
    frame = 0
    if stack and data.ndim == 2:
        data, frame = data[np.newaxis], _frame(document, output)
    return data, placed_like(source, data.ndim, zoom=output.zoom, offset=output.offset, frame=frame)


def _make(document: Document, source: Image, output: Output, data: Any, placed: Mapping[str, Any]) -> Layer:
    from napari.layers import Image, Labels, Points

    options = dict(output.options)
    # From the beginning, so that nobody takes it for an image to analyse.
    options["metadata"] = {
        KEY: {"role": output.role.value, "part": output.part, "source": document.source_id}
    }
    if "colormap" in options and output.kind == "labels":
        options["colormap"] = label_colours(options["colormap"])
    if output.features is not None:
        options["features"] = output.features
    made = {"image": Image, "labels": Labels, "points": Points}[output.kind]
    layer: Layer = made(data, name=f"{output.name} · {Path(source.name).stem}", **placed, **options)
    if output.role is Role.LABELS:
        layer.contour = outline_px(data.shape)
    if output.role is Role.SEVERITY:
        layer.colorbar.size, layer.colorbar.font_size = (12, 100), 8
        layer.colorbar.visible = True
    if output.role in PAINTABLE:
        layer.brush_size = 1 if output.role is Role.PATCHES else max(5, min(data.shape[-2:]) // 50)
        layer.selected_label = 2 if output.role is Role.PATCHES else 1
    return layer


def label_colours(colours: Mapping[int, str]) -> Any:
    """Colour map of a few classes; everything else is transparent."""
    from napari.utils.colormaps import DirectLabelColormap

    table: dict[Any, str] = {None: "transparent", 0: "transparent"}
    table.update(colours)
    return DirectLabelColormap(color_dict=table)


def _update(layer: Layer, output: Output, data: Any, placed: Mapping[str, Any]) -> None:
    if output.kind == "points":
        layer.selected_data = set()
        layer.data = data
        if len(data):
            layer.size = output.options["size"]
            layer.border_color = output.options["border_color"]
            layer.face_color = "transparent"
    else:
        layer.data = data
    for key in output.kept_up:
        setattr(layer, key, output.options[key])
    for key in ("scale", "translate"):
        if not np.array_equal(getattr(layer, key), placed[key]):
            setattr(layer, key, placed[key])
    if output.features is not None:
        layer.features = output.features


def outline_px(shape: tuple[int, ...]) -> int:
    """Width of outlines, which have one colour whatever lies below; 0, filled areas, in large images."""
    if max(shape[-2:]) > _LARGEST_OUTLINED:
        return 0
    return min(max(1, min(shape[-2:]) // _OUTLINED), _WIDEST_OUTLINE)


def _position(viewer: ViewerModel, source: Image, role: Role) -> int:
    """Above the image, and below those of its outputs that belong above, however the layers were reordered."""
    order, own = list(Role), str(source.unique_id)
    first = viewer.layers.index(source) + 1
    ours = {
        index: order.index(found)
        for index, layer in enumerate(viewer.layers)
        if (found := role_of(layer)) is not None and entry(layer).get("source") == own and index >= first
    }
    above = [index for index, place in ours.items() if place > order.index(role)]
    return min(above, default=max(ours, default=first - 1) + 1)


def show_only(viewer: ViewerModel, document: Document, images: Collection[Image], hidden: Hidden) -> None:
    """Show an image with its results: hide the results of all others, and the images that lie above it.

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
    top = viewer.layers.index(source)
    for index, layer in enumerate(viewer.layers):
        of_image = layer in images
        owner = str(layer.unique_id) if of_image else entry(layer).get("source")
        covers = role_of(layer) is not None or (of_image and index > top)
        if owner not in (None, document.source_id) and covers and layer.visible:
            hidden.setdefault(str(owner), set()).add(layer.unique_id)
            layer.visible = False
    for layer in viewer.layers:
        if layer.unique_id in hidden.get(document.source_id, ()):
            layer.visible = True
    hidden.pop(document.source_id, None)
