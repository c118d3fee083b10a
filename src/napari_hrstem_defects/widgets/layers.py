"""What is written to the viewer: outputs as layers, which of them are seen, the legend, layers for marks."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.io.display import AMORPHOUS_COLOUR, BEST_PATCH_COLOUR, SYMMETRY_COLOUR
from napari_hrstem_defects.widgets.model import COMPARED, Document
from napari_hrstem_defects.widgets.outputs import (
    LABEL_CLASSES,
    LABEL_COLOURS,
    NOT_ASSESSED_COLOUR,
    PATCH_COLOURS,
    Output,
    lattice_colour,
)
from napari_hrstem_defects.widgets.roles import (
    IMAGES,
    KEY,
    PAINTABLE,
    PARTED,
    POINTS,
    Role,
    entry,
    name_of,
    outputs_of,
    tag,
)
from napari_hrstem_defects.widgets.source import placed_like

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Layer

#: Outlines are as wide as this part of the image, at most so many px, and drawn up to this side: napari takes a time
#: that grows with the square of the width for each change of the layer, and the window stands still meanwhile.
_OUTLINED, _WIDEST_OUTLINE, _LARGEST_OUTLINED = 100, 3, 1024
_OUTLINE_OPACITY = 0.9
#: Share of the canvas that a fitted image takes up, as napari has it.
_FITTED = 0.95
#: Id of an image → ids of the layers of it that were hidden because another one was chosen.
Hidden = dict[str, set[object]]
#: Overlay of the legend → share of the pixels that it shows, what that is called, and its colour.
_LEGEND = {
    "hrstem_defects_symmetry_defect": ("symmetry_defect", "symmetry defect", SYMMETRY_COLOUR),
    "hrstem_defects_amorphous": ("amorphous", "amorphous", AMORPHOUS_COLOUR),
}
_HIDDEN = {"visible": False}
_LABELS = {"colormap": LABEL_COLOURS, "opacity": 0.6}
#: Frames of the size of a patch.
_FRAMES = {
    "symbol": "square",
    "face_color": "transparent",
    "border_width": 0.03,
    "border_width_is_relative": True,
    "canvas_size_limits": (2, 10000),
}
#: What the layers of a role look like when they are made; colours of labels by their values.
_OPTIONS: dict[Role, dict[str, Any]] = {
    Role.PREPROCESSED: {"colormap": "gray", **_HIDDEN},
    Role.SCORES: {"colormap": "viridis", "opacity": 0.5, "blending": "translucent", **_HIDDEN},
    Role.VARIANCE: {"colormap": "viridis", **_HIDDEN},
    Role.BOUNDARIES: {"colormap": "inferno", "blending": "additive", **_HIDDEN},
    Role.SEVERITY: {"colormap": "inferno", "blending": "additive", "opacity": 0.5},
    Role.NOT_ASSESSED: {"colormap": {1: NOT_ASSESSED_COLOUR}, "opacity": 0.5},
    Role.AMORPHOUS: {"colormap": {1: AMORPHOUS_COLOUR}, "opacity": 0.5, **_HIDDEN},
    Role.CLASS_SCORES: {
        "colormap": "inferno",
        "blending": "additive",
        "contrast_limits": (0.0, 1.0),
        **_HIDDEN,
    },
    Role.CLASS_VOTES: {"opacity": 0.5, **_HIDDEN},
    Role.CLASSES: {"opacity": 0.5},
    Role.PATCHES: {"colormap": PATCH_COLOURS, "opacity": 0.3, **_HIDDEN},
    Role.LATTICES: {"colormap": {n: lattice_colour(n) for n in range(1, 256)}, "opacity": 0.4, **_HIDDEN},
    Role.LABELS_BEFORE: _LABELS,
    Role.LABELS: _LABELS,
    Role.REGIONS: {"opacity": 0.5, **_HIDDEN},
    Role.HOVERED: {"colormap": {1: BEST_PATCH_COLOUR}, "opacity": 1.0, **_HIDDEN},
    Role.LATTICE_PATCHES: _FRAMES,
    Role.BEST_PATCH: _FRAMES,
}
#: What the values of labels mean, where that is the same in all layers of the role.
_CLASSES = {
    Role.NOT_ASSESSED: ("assessed", "not assessed"),
    Role.AMORPHOUS: LABEL_CLASSES[::2],
    Role.PATCHES: ("automatic", "non-defective", "defective"),
    Role.LABELS_BEFORE: LABEL_CLASSES,
    Role.LABELS: LABEL_CLASSES,
}
_BEFORE, _HOVERED = "hrstem_defects_before", "hrstem_defects_hovered"
#: Most pixels along a side of the layer that outlines the region under the mouse.
_LARGEST_HOVERED = 512


def write(
    viewer: ViewerModel, document: Document, output: Output, provenance: Mapping[str, Any]
) -> Layer | None:
    """Show an output: in place where the layer is only ours, as a new layer where a person edited it.

    Returns
    -------
    Layer or None
        The layer if it was made, None if it was there.
    """
    source, role, made = document.layer, output.role, None
    assert source is not None
    frame = document.frame if output.frame is None else output.frame
    data = _fitted(document, output, frame)
    placed = _placed(source, document, role, data.shape, frame)
    layer = document.output(viewer.layers, role, output.part)
    # What is held with the mouse is run again when it is let go.
    if document.moving is role if layer is not None else output.if_there:
        return None
    if layer is not None and document.is_edited(layer):
        if role is Role.PATCHES and layer.data.shape == data.shape:
            return None  # what a person painted is what was used
        note = (
            f"Your edited layer “{layer.name}” was kept and hidden; the new result is in a layer of its own."
        )
        document.notes = (*document.notes, note)
        tag(layer, kept=True)
        layer.visible = False
        layer = None
    elif layer is not None and _is_frame_of(layer, document, output):
        for whole in (layer.data, document.references.get(role)):
            if whole is not None:
                whole[frame] = data[0]
        layer.refresh()
        return None
    if layer is None:
        layer = made = _make(document, source, output, data, placed)
        # Found by its id, so it may be named before it is in the list.
        document.outputs[role, output.part] = layer.unique_id
        _insert(viewer, _position(viewer, source, role), layer)
    else:
        _update(layer, output, data, placed)
    if role in PAINTABLE:
        document.references[role] = data.copy()
    tag(layer, **_about(document, output), frame=frame, provenance=dict(provenance), edited=False)
    return made


def _insert(viewer: ViewerModel, position: int, layer: Layer) -> None:
    """Put a layer into the list; what was selected stays so."""
    selection = viewer.layers.selection
    selected, active = set(selection), selection.active
    if not selected:
        viewer.layers.insert(position, layer)
        return
    # Unseen by the controls of the layers, which would be changed twice.
    with selection.events.blocker():
        viewer.layers.insert(position, layer)
        viewer.layers.selection = selected
        viewer.layers.selection.active = active


def _is_frame_of(layer: Any, document: Document, output: Output) -> bool:
    """Whether an output is one frame of a layer of a series that was analysed as a whole."""
    if output.role in POINTS or not document.is_stack or output.data.ndim != 2:
        return False
    return len(layer.data) > 1 and layer.data.shape[1:] == output.data.shape


def remove_parts(viewer: ViewerModel, document: Document, kept: Collection[str]) -> None:
    """Remove layers of classes that the latest scan does not know; those that a person painted are kept, hidden."""
    for role, part in list(document.outputs):
        if role not in PARTED or part in kept:
            continue
        layer = document.output(viewer.layers, role, part)
        del document.outputs[role, part]
        if layer is not None and document.is_edited(layer):
            tag(layer, kept=True)
            layer.visible = False
        elif layer is not None:
            viewer.layers.remove(layer)


def follow(viewer: ViewerModel, document: Document) -> None:
    """The image was moved or calibrated anew: its outputs follow."""
    source = document.layer
    for role, part in document.outputs:
        layer = document.output(viewer.layers, role, part)
        if layer is not None and source is not None:
            frame = int(entry(layer).get("frame", document.frame))
            for key, value in _placed(source, document, role, layer.data.shape, frame).items():
                if value is not None:
                    setattr(layer, key, value)


def _fitted(document: Document, output: Output, frame: int) -> Any:
    """Data of an output in the dimensions of its image."""
    data = output.data
    if document.is_stack and output.role in POINTS and data.shape[1] == 2:
        return np.column_stack([np.full(len(data), float(frame)), data])
    return data[np.newaxis] if document.is_stack and output.role not in POINTS and data.ndim == 2 else data


def _placed(
    source: Image, document: Document, role: Role, shape: tuple[int, ...], frame: int
) -> dict[str, Any]:
    """Where data of a shape lie: over the whole image, whose pixels they may be coarser than, from a frame on."""
    if role in POINTS:
        return placed_like(source, shape[1])
    (height, width), (rows, columns) = document.frame_shape, shape[-2:]
    y, x = height / rows, width / columns
    first = frame if document.is_stack and shape[0] == 1 else 0
    return placed_like(source, len(shape), zoom=(y, x), offset=((y - 1) / 2, (x - 1) / 2), frame=first)


def _about(document: Document, output: Output) -> dict[str, str]:
    return {"role": output.role.value, "part": output.part, "source": document.source_id}


def _make(document: Document, source: Image, output: Output, data: Any, placed: Mapping[str, Any]) -> Layer:
    from napari.layers import Image, Labels, Points

    # With its role from the beginning, so that it is never offered as an image to analyse.
    options = {
        **placed,
        **options_of(output, Path(source.name).stem),
        "metadata": {KEY: _about(document, output)},
    }
    kinds = {"image": Image, "labels": Labels, "points": Points}
    layer: Layer = kinds[kind_of(output.role)](data, **options)
    dress(layer, output.role)
    return layer


def dress(layer: Any, role: Role) -> None:
    """Set what napari does not take when it makes a layer: outlines, brush, colour bar."""
    if role in (Role.LABELS, Role.LABELS_BEFORE) and (width := outline_px(layer.data.shape)):
        layer.contour, layer.opacity = width, _OUTLINE_OPACITY
    if role is Role.LABELS_BEFORE:
        layer.editable = False
    if role is Role.SEVERITY:
        layer.colorbar.size, layer.colorbar.font_size = (12, 100), 8
        layer.colorbar.visible = True
    if role in PAINTABLE:
        layer.brush_size = 1 if role is Role.PATCHES else brush_px(layer.data.shape)
        layer.selected_label = 2 if role is Role.PATCHES else 1


def options_of(output: Output, image: str = "") -> dict[str, Any]:
    """Options that napari makes the layer of an output with, but for its place; `image` is named beside the role."""
    role, features = output.role, output.features
    options = {"name": f"{name_of(role, output.part)} · {image}", **_OPTIONS[role], **output.options}
    if isinstance(options.get("colormap"), dict):
        options["colormap"] = label_colours(options["colormap"])
    if features is None and (classes := _CLASSES.get(role)) is not None:
        features = {"index": list(range(len(classes))), "class": list(classes)}
    return options if features is None else {**options, "features": features}


def kind_of(role: Role) -> str:
    """Kind of the layers of a role, as napari names it."""
    return "points" if role in POINTS else "image" if role in IMAGES else "labels"


def label_colours(colours: Mapping[int, str], other: str = "transparent") -> Any:
    """Colour map of a few classes; everything else has another colour."""
    from napari.utils.colormaps import DirectLabelColormap

    table: dict[Any, str] = {None: other, 0: "transparent", **colours}
    return DirectLabelColormap(color_dict=table)


def _update(layer: Any, output: Output, data: Any, placed: Mapping[str, Any]) -> None:
    if output.role in POINTS:
        layer.selected_data = set()
    # The same data would be drawn anew.
    if layer.data.size > COMPARED or not np.array_equal(layer.data, data):
        layer.data = data
    if output.role in POINTS and len(data):
        layer.size, layer.border_color = output.options["size"], output.options["border_color"]
        layer.face_color = "transparent"
    if "contrast_limits" in output.options:
        layer.contrast_limits = output.options["contrast_limits"]
    for key in ("scale", "translate"):
        if not np.array_equal(getattr(layer, key), placed[key]):
            setattr(layer, key, placed[key])
    if output.features is not None:
        layer.features = output.features


def first_in_frame(points: NDArray[Any], frame: int | None) -> int:
    """Number of the first point that lies in a frame of a series; the first of all where there is none."""
    if frame is None or points.shape[1] < 3 or not (points[:, 0] == frame).any():
        return 0
    return int(np.argmax(points[:, 0] == frame))


def outline_px(shape: tuple[int, ...]) -> int:
    """Width of outlines, which have one colour whatever lies below; 0, filled areas, in large images."""
    if max(shape[-2:]) > _LARGEST_OUTLINED:
        return 0
    return min(max(1, min(shape[-2:]) // _OUTLINED), _WIDEST_OUTLINE)


def brush_px(shape: tuple[int, ...]) -> int:
    """Width of the brush that suits an image."""
    return max(5, min(shape[-2:]) // 50)


def _position(viewer: ViewerModel, source: Image, role: Role) -> int:
    """Above the image, and below those of its outputs that belong above, however the layers were reordered."""
    # A slice of napari's own list would be another list of layers, with all its events.
    order, layers = list(Role), list(viewer.layers)
    first = layers.index(source) + 1
    ours = {
        layers.index(layer): order.index(Role(entry(layer)["role"]))
        for layer in outputs_of(layers[first:], str(source.unique_id))
    }
    above = [index for index, place in ours.items() if place > order.index(role)]
    return min(above, default=max(ours, default=first - 1) + 1)


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
        layer.contour = _WIDEST_OUTLINE
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
        viewer.canvas.overlays[key] = TextOverlay(text=text, color=colour, **place)


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
