"""Opens the panel, from the menu or with an image; answers a click at once while the rest is being imported."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import napari
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QApplication, QWidget

from napari_hrstem_defects.widgets.contributions import PLUGIN, image_layer

if TYPE_CHECKING:
    from napari_hrstem_defects.core.micrograph import Micrograph

#: Name of the panel, as napari's *Plugins* menu has it.
PANEL = "HRSTEM defects"


@contextlib.contextmanager
def busy(doing: str) -> Iterator[None]:
    """Show a busy cursor, and in the status bar what is being done, until the block ends."""
    viewer = napari.current_viewer() if QApplication.instance() is not None else None
    if viewer is None:
        yield
        return
    before, viewer.help = viewer.help, doing
    QApplication.setOverrideCursor(Qt.CursorShape.WaitCursor)
    QApplication.processEvents()
    try:
        yield
    finally:
        QApplication.restoreOverrideCursor()
        viewer.help = before


class Panel(QWidget):
    """Stands for the panel in the manifest: making one imports and makes the panel itself.

    Parameters
    ----------
    napari_viewer : napari.Viewer
    """

    def __new__(cls, napari_viewer: napari.Viewer) -> Any:
        """Make the panel."""
        with busy("Opening HRSTEM defects…"):
            from napari_hrstem_defects.widgets.panel import DefectsPanel

            return DefectsPanel(napari_viewer)

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        """Signature for napari; never called."""


def open_panel(micrograph: Micrograph) -> napari.Viewer:
    """Make a viewer with a micrograph and the panel docked, which presses *Run all* as soon as the window is there."""
    viewer = napari.Viewer(title=f"HRSTEM defects – {micrograph.name}")
    data, options, _ = image_layer(micrograph)
    viewer.add_image(data, **options)
    _, panel = viewer.window.add_plugin_dock_widget(PLUGIN, PANEL)
    QTimer.singleShot(0, panel.session.runs.all)
    return viewer


def view(micrograph: Micrograph) -> None:
    """Show a micrograph in a viewer with the panel until its windows are closed."""
    open_panel(micrograph)
    napari.run()
