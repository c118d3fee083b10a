"""What lies on the canvas beside the layers: a scale bar, and the classes with their colours and shares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from napari_hrstem_defects.io.display import AMORPHOUS_COLOUR, SYMMETRY_COLOUR

if TYPE_CHECKING:
    from napari.components import ViewerModel

#: Share of the pixels → what it is called, and its colour.
_CLASSES = {
    "symmetry_defect": ("symmetry defect", SYMMETRY_COLOUR),
    "amorphous": ("amorphous", AMORPHOUS_COLOUR),
}
#: Names of our lines begin so.
_OURS = "hrstem_defects_"


def show_legend(viewer: ViewerModel, areas: Mapping[str, float] | None) -> None:
    """Show the classes of the labels with their shares of the image; None: no legend.

    Parameters
    ----------
    viewer : ViewerModel
    areas : mapping of str to float or None
        Shares (0...1) by the keys ``symmetry_defect`` and ``amorphous``.
    """
    from napari.components.overlays import TextOverlay

    overlays = viewer.canvas.overlays
    for key, (name, colour) in _CLASSES.items():
        known = overlays.get(_OURS + key)
        if known is None:
            if areas is None:
                continue
            known = overlays[_OURS + key] = TextOverlay(
                color=colour, position="top_left", box=True, font_size=8
            )
            viewer.canvas.overlays.scale_bar.visible = True
        if areas is not None:
            known.text = f"■ {name} {100 * areas[key]:.1f} %"
        known.visible = areas is not None
