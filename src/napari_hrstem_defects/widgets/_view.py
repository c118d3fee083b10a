"""Opens napari with an image and the panel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_hrstem_defects.widgets._readers import PLUGIN, image_layer

if TYPE_CHECKING:
    import napari

    from napari_hrstem_defects.core.micrograph import Micrograph

#: Name of the panel, as napari's *Plugins* menu has it.
PANEL = "HRSTEM defects"


def available() -> bool:
    """Whether napari and a Qt binding are there."""
    try:
        import napari
        import qtpy.QtWidgets
    except (ImportError, RuntimeError):
        return False
    return bool(napari and qtpy.QtWidgets)


def wait() -> None:
    """Run the event loop until the windows are closed."""
    import napari

    napari.run()


def open_panel(micrograph: Micrograph, *, run: bool = True) -> napari.Viewer:
    """Make a viewer with a micrograph and the panel docked.

    Parameters
    ----------
    micrograph : Micrograph
    run : bool
        Press *Run all* as soon as the window is there.

    Returns
    -------
    napari.Viewer
        ``napari.run()`` waits until it is closed.
    """
    import napari
    from qtpy.QtCore import QTimer

    viewer = napari.Viewer(title=f"HRSTEM defects – {micrograph.name}")
    data, options, _ = image_layer(micrograph)
    viewer.add_image(data, **options)
    _, panel = viewer.window.add_plugin_dock_widget(PLUGIN, PANEL)
    if run:
        QTimer.singleShot(0, panel.session.runs.all)
    return viewer
