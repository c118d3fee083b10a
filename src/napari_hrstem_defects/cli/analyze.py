"""What the command ``analyze`` is given and what it shows."""

from __future__ import annotations

from pathlib import Path

from napari_hrstem_defects.batch.options import FromFrame, Placement
from napari_hrstem_defects.batch.summary import Row
from napari_hrstem_defects.core.recipe import Recipe
from napari_hrstem_defects.errors import HrstemDefectsError, RecipeError

_RECIPES = {"default": Recipe, "published": Recipe.published}


def check_positive(option: str, value: float | None, unit: str) -> None:
    """Refuse what is no positive number.

    Raises
    ------
    HrstemDefectsError
    """
    if value is not None and not 0 < value < float("inf"):
        raise HrstemDefectsError(f"{option} must be a positive {unit}, not {value:g}.")


def recipe_of(name: str, settings: list[str], classifier: str | None) -> Recipe:
    """Recipe by its file or name, with some settings changed.

    Raises
    ------
    RecipeError
        If it cannot be read or a setting is invalid.
    """
    if name in _RECIPES:
        recipe = _RECIPES[name]()
    else:
        try:
            text = Path(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not a text file"
            raise RecipeError(
                f"{name}: the recipe cannot be read ({reason}); name a JSON file, or one of {', '.join(_RECIPES)}."
            ) from error
        try:
            recipe = Recipe.from_json(text)
        except RecipeError as error:
            raise RecipeError(f"{name}: {error}") from error
    values = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise RecipeError(
                f"--set {setting}: write it as step.key=value, for example segment.false_marks=0.01."
            )
        values[key.strip()] = value.strip()
    if classifier is not None:
        values["classify.classifier"] = classifier
    recipe = recipe.replace(values)
    return recipe


def placement_of(text: str | None) -> Placement:
    """Best patch, written as ``Y,X`` (px), ``frame:N``, ``track:N`` or ``track:Y,X`` (px, in the first frame).

    Raises
    ------
    HrstemDefectsError
        If it is none.
    """
    if text is None:
        return None
    kind, colon, where = text.rpartition(":")
    try:
        if colon and where.isdecimal() and kind in ("frame", "track"):
            return FromFrame(int(where), kind == "track")
        y, x = (float(part) for part in where.split(","))
        if kind in ("", "track"):
            return FromFrame(0, True, (y, x)) if kind else (y, x)
    except ValueError:
        pass
    raise HrstemDefectsError(
        f"--best-patch {text}: write it as Y,X in pixels, for example 512,704; or, for a series, as frame:N, track:N "
        "or track:Y,X."
    )


def line_of(row: Row) -> str:
    """One line about an image."""
    if not row.ok:
        return row.message if row.status == "failed" else f"{row.path}: {row.message}"
    marked = 100 * ((row.symmetry_fraction or 0) + (row.amorphous_fraction or 0))
    verdict = f"{row.verdict}, " if row.verdict else ""
    regions = f"{row.regions} region{'' if row.regions == 1 else 's'}"
    text = f"{row.status:7} {row.name}: {verdict}{regions}, {marked:.1f} % marked"
    if row.status == "done":
        text += f", {row.seconds:.1f} s"
    return f"{text}. {row.message}" if row.message else text
