"""Layers in which a person marks the defects that a classifier is to learn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_hrstem_defects.core.metrics import IGNORE
from napari_hrstem_defects.io.display import SYMMETRY_COLOUR
from napari_hrstem_defects.widgets.roles import Role, by_id, entry, role_of
from napari_hrstem_defects.widgets.source import pixels_of, placed_like

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels

#: Outputs of ours that say where defects are.
_LEARNABLE = (Role.LABELS, Role.AMORPHOUS, Role.CLASSES)
#: Grey of what is not judged.
_NOT_JUDGED_COLOUR = "#80808080"


def offered(viewer: ViewerModel, image: Image) -> list[tuple[Labels, bool]]:
    """Label layers that may say where the defects of an image are, each with whether it has the image's shape.

    What was found in the image comes first, then what a person made; what was found in other images is left out.
    """
    from napari.layers import Labels

    shape, own = tuple(pixels_of(image).shape), str(image.unique_id)
    found = []
    for layer in viewer.layers:
        if type(layer) is not Labels or layer.multiscale:
            continue
        role = role_of(layer)
        if role is None or (role in _LEARNABLE and entry(layer).get("source") == own):
            found.append((layer, tuple(layer.data.shape) == shape))
    return sorted(found, key=lambda pair: (not pair[1], role_of(pair[0]) is None))


def new_layer(viewer: ViewerModel, image: Image) -> Labels:
    """Lay an empty layer for marks over an image; whatever label is painted with, it is seen."""
    from napari.utils.colormaps import DirectLabelColormap

    shape = pixels_of(image).shape
    colours = DirectLabelColormap(
        color_dict={None: SYMMETRY_COLOUR, 0: "transparent", IGNORE: _NOT_JUDGED_COLOUR}
    )
    layer: Labels = viewer.add_labels(
        np.zeros(shape, np.uint8),
        name=f"Defects · {Path(image.name).stem}",
        colormap=colours,
        opacity=0.6,
        **placed_like(image, len(shape)),
    )
    layer.brush_size = max(5, min(shape[-2:]) // 50)
    return layer


class Spotlight:
    """Shows one image and its marks alone: of images that lie on each other only the topmost is seen."""

    def __init__(self) -> None:
        self._hidden: list[object] = []
        self._marks: set[object] = set()

    def paint(self, viewer: ViewerModel, image: Image, marks: Labels) -> None:
        """Hide all other layers, and take the brush."""
        for layer in viewer.layers:
            if layer not in (image, marks) and layer.visible:
                layer.visible = False
                self._hidden.append(layer.unique_id)
        image.visible = marks.visible = True
        if role_of(marks) is None:
            self._marks.add(marks.unique_id)
        viewer.layers.selection.active = marks
        marks.mode = "paint"

    def end(self, viewer: ViewerModel) -> None:
        """Show again what was hidden and is still there, and hide the marks: they would lie on other images."""
        for unique_id in (*self._hidden, *self._marks):
            layer = by_id(viewer.layers, unique_id)
            if layer is not None:
                layer.visible = unique_id not in self._marks
        self._hidden.clear()
        self._marks.clear()
