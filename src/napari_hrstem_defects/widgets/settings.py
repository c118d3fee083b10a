"""What the panel remembers between sessions."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QSettings

from napari_hrstem_defects.core.recipe import Recipe


def _settings() -> QSettings:
    return QSettings(
        QSettings.Format.IniFormat,
        QSettings.Scope.UserScope,
        "napari-hrstem-defects",
        "napari-hrstem-defects",
    )


def remember(key: str, value: str) -> None:
    """Keep a text."""
    _settings().setValue(key, value)


def recall(key: str, default: str = "") -> str:
    """Text kept earlier."""
    value: Any = _settings().value(key, default)
    return value if isinstance(value, str) else default


def remember_recipe(recipe: Recipe) -> None:
    """Keep the parameters for the next session."""
    remember("recipe", recipe.to_json())


def recall_recipe() -> Recipe:
    """Parameters of the last session; the defaults if there are none.

    Raises
    ------
    RecipeError
        If this version knows others.
    """
    text = recall("recipe")
    return Recipe.from_json(text) if text else Recipe()
