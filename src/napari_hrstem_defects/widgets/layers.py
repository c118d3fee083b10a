"""What is written to the viewer: outputs as layers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.io.display import AMORPHOUS_COLOUR, BEST_PATCH_COLOUR, domain_colour
from napari_hrstem_defects.widgets.model import COMPARED, Document
from napari_hrstem_defects.widgets.outputs import (
    LABEL_CLASSES,
    LABEL_COLOURS,
    NOT_ASSESSED_COLOUR,
    PATCH_COLOURS,
    Output,
)
from napari_hrstem_defects.widgets.roles import (
    KEY,
    PAINTABLE,
    PARTED,
    POINTS,
    Role,
    entry,
    outputs_of,
    role_of,
    tag,
)
from napari_hrstem_defects.widgets.source import placed_like

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Layer

#: Outlines are as wide as this part of the image, at most so many px, and drawn up to this side: napari takes a time
#: that grows with the square of the width for each change of the layer, and the window stands still meanwhile.
_OUTLINED, WIDEST_OUTLINE, _LARGEST_OUTLINED = 100, 3, 1024
_OUTLINE_OPACITY = 0.9
_HIDDEN = {"visible": False}
#: Bright over whatever lies below.
_GLOW = {"colormap": "inferno", "blending": "additive"}
_LABELS = {"colormap": LABEL_COLOURS, "opacity": 0.6}
#: Frames of the size of a patch.
_FRAMES = {
    "symbol": "square",
    "face_color": "transparent",
    "border_width": 0.03,
    "border_width_is_relative": True,
    "canvas_size_limits": (2, 10000),
}


@dataclass(frozen=True)
class _Look:
    """How the layers of a role are made.

    Attributes
    ----------
    kind : str
        As napari names it.
    name : str
        Without the image's; of roles of several layers their part comes first: of a long name the middle is not shown.
    options : dict
        Colours of labels by their values.
    classes : tuple of str
        What the values of labels mean, where that is the same in all layers of the role.
    """

    kind: str
    name: str
    options: dict[str, Any]
    classes: tuple[str, ...] = ()


_DOMAINS = {number: domain_colour(number) for number in range(1, 256)}
_LOOKS = {
    Role.PREPROCESSED: _Look("image", "Preprocessed", {"colormap": "gray", **_HIDDEN}),
    Role.SCORES: _Look("image", "Patch scores", {"colormap": "viridis", "opacity": 0.5, **_HIDDEN}),
    Role.VARIANCE: _Look("image", "Local variance", {"colormap": "viridis", **_HIDDEN}),
    Role.BOUNDARIES: _Look("image", "Boundaries", {**_GLOW, **_HIDDEN}),
    Role.SEVERITY: _Look("image", "Severity", {**_GLOW, "opacity": 0.5}),
    Role.NOT_ASSESSED: _Look(
        "labels",
        "Not assessed",
        {"colormap": {1: NOT_ASSESSED_COLOUR}, "opacity": 0.5},
        ("assessed", "not assessed"),
    ),
    Role.AMORPHOUS: _Look(
        "labels",
        "Amorphous mask",
        {"colormap": {1: AMORPHOUS_COLOUR}, "opacity": 0.5, **_HIDDEN},
        LABEL_CLASSES[::2],
    ),
    Role.CLASS_SCORES: _Look(
        "image", "{part}: probability", {**_GLOW, "contrast_limits": (0.0, 1.0), **_HIDDEN}
    ),
    Role.CLASS_VOTES: _Look("labels", "{part}: votes", {"opacity": 0.5, **_HIDDEN}),
    Role.CLASSES: _Look("labels", "Classes of the scan", {"opacity": 0.5}),
    Role.PATCHES: _Look(
        "labels",
        "Patches",
        {"colormap": PATCH_COLOURS, "opacity": 0.3, **_HIDDEN},
        ("automatic", "non-defective", "defective"),
    ),
    Role.LATTICES: _Look("labels", "Lattices", {"colormap": _DOMAINS, "opacity": 0.4, **_HIDDEN}),
    Role.LABELS_BEFORE: _Look("labels", "Labels before corrections", _LABELS, LABEL_CLASSES),
    Role.LABELS: _Look("labels", "Labels", _LABELS, LABEL_CLASSES),
    Role.REGIONS: _Look("labels", "Regions", {"opacity": 0.5, **_HIDDEN}),
    Role.HOVERED: _Look(
        "labels", "Region under the mouse", {"colormap": {1: BEST_PATCH_COLOUR}, "opacity": 1.0, **_HIDDEN}
    ),
    Role.LATTICE_PATCHES: _Look("points", "Patches of other lattices", _FRAMES),
    Role.BEST_PATCH: _Look("points", "Best patch", _FRAMES),
}


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
    from napari.layers import Layer

    # With its role from the beginning, so that it is never offered as an image to analyse.
    _, options, kind = layer_data(output, source.name, placed, _about(document, output))
    layer = Layer.create(data, options, kind)
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


def layer_data(
    output: Output, image: str, placed: Mapping[str, Any], about: Mapping[str, Any]
) -> tuple[Any, dict[str, Any], str]:
    """What napari makes the layer of an output from: data, options and kind.

    Parameters
    ----------
    output : Output
    image : str
        Name of the image, which stands beside that of the role.
    placed : mapping
        Options that say where it lies.
    about : mapping
        Our entry in its metadata.
    """
    look, features = _LOOKS[output.role], output.features
    options = {**look.options, **output.options, **placed, "metadata": {KEY: dict(about)}}
    options["name"] = f"{look.name.format(part=output.part)} · {Path(image).stem}"
    if isinstance(options.get("colormap"), dict):
        options["colormap"] = label_colours(options["colormap"])
    if features is None and look.classes:
        features = {"index": list(range(len(look.classes))), "class": list(look.classes)}
    return output.data, options if features is None else {**options, "features": features}, look.kind


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


def first_in_frame(points: NDArray[Any], frame: int) -> int:
    """Number of the first point that lies in a frame of a series; the first of all where there is none."""
    if points.shape[1] < 3 or not (points[:, 0] == frame).any():
        return 0
    return int(np.argmax(points[:, 0] == frame))


def is_in_frame(layer: Any, frame: int) -> bool:
    """Whether a layer shows something in a frame of its image; those of a single image do."""
    if role_of(layer) in POINTS:
        return layer.ndim < 3 or frame in layer.data[:, 0]
    return len(layer.data) > 1 or entry(layer)["frame"] == frame


def outline_px(shape: tuple[int, ...]) -> int:
    """Width of outlines, which have one colour whatever lies below; 0, filled areas, in large images."""
    if max(shape[-2:]) > _LARGEST_OUTLINED:
        return 0
    return min(max(1, min(shape[-2:]) // _OUTLINED), WIDEST_OUTLINE)


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
