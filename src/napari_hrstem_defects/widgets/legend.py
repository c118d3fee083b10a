"""What lies on the canvas beside the layers: a scale bar, and the classes with their colours and shares."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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


def legend(viewer: ViewerModel, areas: Mapping[str, float] | None) -> Iterator[None]:
    """Show the classes of the labels with their shares of the image, a line each time; None: no legend.

    napari takes 0.1 to 0.2 s for a new line, so the window has its turn between them.

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
        text = "" if areas is None else f"■ {name} {100 * areas[key]:.1f} %"
        if known is None and areas is not None:
            # Whole from the start: each change of one that is shown draws it anew.
            overlays[_OURS + key] = TextOverlay(
                text=text, color=colour, position="top_left", box=True, font_size=8, visible=True
            )
            yield
            if not overlays.scale_bar.visible:
                overlays.scale_bar.visible = True
                yield
        elif known is not None:
            known.visible = areas is not None
            if areas is not None and known.text != text:
                known.text = text
                yield
