"""What answers a click at once while the rest is still being imported."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QWidget

if TYPE_CHECKING:
    import napari


@contextlib.contextmanager
def busy(doing: str) -> Iterator[None]:
    """Show a busy cursor, and a word in the status bar, until the block ends.

    Parameters
    ----------
    doing : str
    """
    import napari

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
