"""What the panel remembers between sessions, and what is set in napari's preferences."""

from __future__ import annotations

import json
from typing import Any

from qtpy.QtCore import QSettings

from napari_hrstem_defects.core.recipe import Recipe
from napari_hrstem_defects.errors import RecipeError
from napari_hrstem_defects.widgets.parameters import changed_names, value_of


def _settings() -> QSettings:
    return QSettings(
        QSettings.Format.IniFormat,
        QSettings.Scope.UserScope,
        "napari-hrstem-defects",
        "napari-hrstem-defects",
    )


def preference(name: str) -> Any:
    """Value of one of our entries in napari's *Preferences*, as the manifest declares them."""
    from napari.settings import get_plugin_settings

    return getattr(get_plugin_settings("napari-hrstem-defects").panel, name)


def remember(key: str, value: str) -> None:
    """Keep a text."""
    _settings().setValue(key, value)


def recall(key: str, default: str = "") -> str:
    """Text kept earlier."""
    value: Any = _settings().value(key, default)
    return value if isinstance(value, str) else default


def remember_recipe(recipe: Recipe) -> None:
    """Keep the parameters for the next session; only those that were changed, for defaults may be others then."""
    remember("parameters", json.dumps({name: value_of(recipe, name) for name in changed_names(recipe)}))


def recall_recipe() -> Recipe:
    """Parameters of the last session; the defaults if there are none.

    Raises
    ------
    RecipeError
        If this version knows others.
    """
    text = recall("parameters")
    try:
        changed = json.loads(text) if text else {}
    except json.JSONDecodeError as error:
        raise RecipeError("what was kept cannot be read.") from error
    return Recipe().replace(changed)
