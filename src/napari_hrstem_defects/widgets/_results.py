"""Opens a micrograph and its analysis in napari."""

from __future__ import annotations

from typing import TYPE_CHECKING

import napari
import numpy as np
import qtpy.QtWidgets  # noqa: F401  napari without a Qt binding fails late, and with a traceback

from napari_hrstem_defects.widgets._readers import image_layer

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_hrstem_defects.core.micrograph import Micrograph
    from napari_hrstem_defects.core.pipeline import Analysis


def show(micrograph: Micrograph, analysis: Analysis) -> None:
    """Open a viewer and wait until it is closed."""
    viewer = napari.Viewer(title=f"HRSTEM defects – {micrograph.name}")
    add_layers(viewer, micrograph, analysis)
    napari.run()


def add_layers(viewer: ViewerModel, micrograph: Micrograph, analysis: Analysis) -> None:
    """Add the micrograph and, over it, what was found: variance and severity (hidden), labels, best patch."""
    from napari_hrstem_defects.io.display import (
        AMORPHOUS_COLOUR,
        BEST_PATCH_COLOUR,
        SYMMETRY_COLOUR,
        severity_range,
    )

    data, options, _ = image_layer(micrograph)
    viewer.add_image(data, **options)
    place = {key: options[key][-2:] for key in ("scale", "units", "axis_labels")}
    viewer.add_image(analysis.variance, name="local variance", visible=False, colormap="viridis", **place)
    low, high, _ = severity_range(analysis)
    viewer.add_image(
        analysis.severity,
        name="severity",
        visible=False,
        colormap="inferno",
        contrast_limits=(low, high),
        blending="additive",
        **place,
    )
    colours = {None: "transparent", 0: "transparent", 1: SYMMETRY_COLOUR, 2: AMORPHOUS_COLOUR}
    viewer.add_labels(analysis.labels, name="labels", colormap=colours, opacity=0.5, **place)
    best = analysis.best_patch
    if best is not None:
        half = best.size / 2
        corners = np.array([[best.y - half, best.x - half], [best.y + half, best.x + half]])
        viewer.add_shapes(
            [corners],
            shape_type="rectangle",
            name="best patch",
            edge_color=BEST_PATCH_COLOUR,
            face_color="transparent",
            edge_width=max(2.0, max(analysis.labels.shape) / 300),
            **place,
        )
