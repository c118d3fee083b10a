"""Colours of napari's theme, for what style sheets do not reach."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qtpy.QtGui import QColor

if TYPE_CHECKING:
    from napari.components import ViewerModel


@dataclass(frozen=True)
class Colours:
    """Colours of the theme in use."""

    background: QColor
    foreground: QColor
    text: QColor
    faint: QColor
    accent: QColor
    warning: QColor
    error: QColor
    dark: bool


def colours(viewer: ViewerModel | None) -> Colours:
    """Colours of a viewer's theme."""
    from napari.utils.theme import get_system_theme, get_theme

    name = "dark" if viewer is None else viewer.theme
    theme = get_theme(get_system_theme() if name == "system" else name)

    def colour(value: object) -> QColor:
        return QColor(value.as_hex()) if hasattr(value, "as_hex") else QColor(str(value))

    return Colours(
        background=colour(theme.background),
        foreground=colour(theme.foreground),
        text=colour(theme.text),
        faint=colour(theme.secondary),
        accent=colour(theme.current),
        warning=colour(theme.warning),
        error=colour(theme.error),
        dark=theme.type == "dark",
    )
