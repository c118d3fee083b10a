"""The commands ``analyze`` and ``replay``."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path

import typer

from napari_hrstem_defects import batch
from napari_hrstem_defects.batch.run import make_folder
from napari_hrstem_defects.batch.summary import SUMMARY_FILE, Row
from napari_hrstem_defects.cli.console import (
    FAILED,
    USAGE,
    Reporter,
    complain,
    errors_as_lines,
    stop_signals,
)
from napari_hrstem_defects.core.errors import HrstemDefectsError, RecipeError
from napari_hrstem_defects.core.recipe import Recipe
from napari_hrstem_defects.models.classifier import for_recipe

_RECIPES = {"default": Recipe, "published": Recipe.published}


def run(
    paths: list[str],
    out: Path,
    recipe_name: str,
    settings: list[str],
    classifier: str | None,
    best_patch: str | None,
    pixel_size_nm: float | None,
    select: str | None,
    memory_share: float,
    jobs: int,
    scheduler: str | None,
    timeout: float,
    overwrite: bool,
    quiet: bool,
    json_lines: bool,
) -> None:
    """Analyse files; see :func:`napari_hrstem_defects.batch.run.analyze_files`."""
    with errors_as_lines(USAGE):
        recipe = _recipe(recipe_name, settings, classifier)
        # Refused here rather than after the folder is made.
        for_recipe(recipe)
        point = _point(best_patch)
        if pixel_size_nm is not None and not 0 < pixel_size_nm < float("inf"):
            raise HrstemDefectsError(f"--pixel-size must be a positive length in nm, not {pixel_size_nm:g}.")
        make_folder(out)
    with errors_as_lines(FAILED), stop_signals() as stop, Reporter(quiet or json_lines) as reporter:

        def finished(row: Row) -> None:
            if json_lines:
                typer.echo(json.dumps(dataclasses.asdict(row)))
                return
            (reporter.say if row.ok else reporter.complain)(_line(row))

        rows = batch.analyze_files(
            paths,
            out,
            recipe,
            best_patch=point,
            pixel_size_nm=pixel_size_nm,
            select=select,
            memory_share=memory_share,
            jobs=jobs,
            scheduler=scheduler,
            overwrite=overwrite,
            progress=reporter.progress,
            timeout_s=timeout,
            finished=finished,
            notify=reporter.complain,
            cancelled=stop.is_set,
        )
    counts = Counter(row.status for row in rows)
    if not quiet and not json_lines:
        order = ("done", "skipped", "failed", "cancelled")
        parts = [f"{counts[status]} {status}" for status in order if counts[status]]
        typer.echo(f"{', '.join(parts)}; table in {out / SUMMARY_FILE}")
    if stop.is_set():
        complain("Interrupted; the same command, run again, goes on from there.")
        raise typer.Exit(stop.status)
    if any(not row.ok for row in rows):
        raise typer.Exit(FAILED)


def run_replay(record: Path, out: Path, image: Path | None, overwrite: bool, quiet: bool) -> None:
    """Repeat an analysis; see :func:`napari_hrstem_defects.batch.replaying.replay`."""
    with errors_as_lines(USAGE):
        make_folder(out)
    with errors_as_lines(FAILED), Reporter(quiet) as reporter:
        outcome = batch.replay(record, out, image=image, overwrite=overwrite, progress=reporter.progress)
        if outcome.differing:
            why = f" (other versions: {', '.join(outcome.changed)})" if outcome.changed else ""
            reporter.complain(f"{outcome.folder}: the labels are not those of the first run{why}.")
            raise typer.Exit(FAILED)
        reporter.say(f"{outcome.folder}: the labels are identical.")


def _recipe(name: str, settings: list[str], classifier: str | None) -> Recipe:
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


def _point(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        y, x = (float(part) for part in text.split(","))
    except ValueError:
        raise HrstemDefectsError(
            f"--best-patch {text}: write it as Y,X in pixels, for example 512,704."
        ) from None
    return y, x


def _line(row: Row) -> str:
    if not row.ok:
        return row.message if row.status == "failed" else f"{row.path}: {row.message}"
    marked = 100 * ((row.symmetry_fraction or 0) + (row.amorphous_fraction or 0))
    verdict = f"{row.verdict}, " if row.verdict else ""
    regions = f"{row.regions} region{'' if row.regions == 1 else 's'}"
    text = f"{row.status:7} {row.name}: {verdict}{regions}, {marked:.1f} % marked"
    if row.status == "done":
        text += f", {row.seconds:.1f} s"
    return f"{text}. {row.message}" if row.message else text
