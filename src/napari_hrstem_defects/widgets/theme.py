"""Colours of napari's theme, for what style sheets do not reach."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qtpy.QtGui import QColor

if TYPE_CHECKING:
    from napari.components import ViewerModel

#: Warnings and errors on a dark and on a light ground: napari's own are for areas, not for text.
_WARNINGS = {True: "#e3b617", False: "#7a5c00"}
_ERRORS = {True: "#ff6b5e", False: "#991200"}


@dataclass(frozen=True)
class Colours:
    """Colours of the theme in use."""

    background: QColor
    text: QColor
    accent: QColor
    warning: QColor
    error: QColor
    dark: bool


def colours(viewer: ViewerModel) -> Colours:
    """Colours of a viewer's theme."""
    from napari.utils.theme import get_system_theme, get_theme

    theme = get_theme(get_system_theme() if viewer.theme == "system" else viewer.theme)
    dark = theme.type == "dark"
    return Colours(
        background=QColor(theme.background.as_hex()),
        text=QColor(theme.text.as_hex()),
        accent=QColor(theme.current.as_hex()),
        warning=QColor(_WARNINGS[dark]),
        error=QColor(_ERRORS[dark]),
        dark=dark,
    )


def boxes(colours: Colours) -> str:
    """Style of the boxes to be ticked in a table: on a dark ground those of Qt's own style cannot be seen."""
    theme = "dark" if colours.dark else "light"
    return (
        "QTableView::indicator { width: 11px; height: 11px; border-radius: 2px; "
        f"border: 1px solid {colours.text.name()}; }}"
        f"QTableView::indicator:checked {{ image: url('theme_{theme}:/check.svg'); }}"
    )
