"""Colours of napari's theme, for what style sheets do not reach."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qtpy.QtGui import QColor

if TYPE_CHECKING:
    from napari.components import ViewerModel

#: Least contrast of text that is easy to read (WCAG 2.1, 1.4.3).
LEAST_CONTRAST = 4.5


@dataclass(frozen=True)
class Colours:
    """Colours of the theme in use."""

    background: QColor
    text: QColor
    accent: QColor
    warning: QColor
    error: QColor
    dark: bool


def contrast(one: QColor, other: QColor) -> float:
    """Contrast of two colours, 1 to 21, as the Web Content Accessibility Guidelines 2.1 define it."""

    def luminance(colour: QColor) -> float:
        linear = (
            v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4
            for v in (colour.redF(), colour.greenF(), colour.blueF())
        )
        return sum(weight * v for weight, v in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def readable(ink: QColor, ground: QColor) -> QColor:
    """A colour, lighter or darker as far as it must be to be read on a ground: napari's red is not on its dark grey."""
    step = 1 if ground.lightnessF() < 0.5 else -1
    while contrast(ink, ground) < LEAST_CONTRAST and 0 < ink.lightness() < 255:
        hue, saturation, lightness, alpha = ink.getHsl()
        ink = QColor.fromHsl(hue, saturation, min(max(lightness + 5 * step, 0), 255), alpha)
    return ink


def colours(viewer: ViewerModel | None) -> Colours:
    """Colours of a viewer's theme."""
    from napari.utils.theme import get_system_theme, get_theme

    name = "dark" if viewer is None else viewer.theme
    theme = get_theme(get_system_theme() if name == "system" else name)

    def colour(value: object) -> QColor:
        return QColor(value.as_hex()) if hasattr(value, "as_hex") else QColor(str(value))

    return Colours(
        background=colour(theme.background),
        text=colour(theme.text),
        accent=colour(theme.current),
        warning=readable(colour(theme.warning), colour(theme.background)),
        error=readable(colour(theme.error), colour(theme.background)),
        dark=theme.type == "dark",
    )


def boxes(colours: Colours) -> str:
    """Style of the boxes to be ticked in a table: on a dark ground those of Qt's own style cannot be seen."""
    theme = "dark" if colours.dark else "light"
    return (
        "QTableView::indicator { width: 11px; height: 11px; border-radius: 2px; "
        f"border: 1px solid {colours.text.name()}; }}"
        f"QTableView::indicator:checked {{ image: url('theme_{theme}:/check.svg'); }}"
    )
