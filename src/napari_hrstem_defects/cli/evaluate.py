"""The command ``evaluate``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import typer

from napari_hrstem_defects.batch.evaluation import evaluate_folders
from napari_hrstem_defects.batch.ratings import tabulate_ratings
from napari_hrstem_defects.cli.console import FAILED, USAGE, complain, errors_as_lines, write_json

_COLUMNS = ("accuracy", "precision", "specificity", "recall", "balanced_accuracy")
_PIPE_WIDTH = 200
_HEADS = ("accuracy", "precision", "specificity", "recall", "balanced")


def run(
    pred: Path | None,
    truth: Path | None,
    model: str | None,
    ratings: Path | None,
    json: Path | None,
    **data: Any,
) -> None:
    """Score label images or a classifier, or count ratings, whichever is named; `data` is what goes with a model."""
    if ratings is not None:
        if any((pred, truth, model, *data.values())):
            raise typer.BadParameter("--ratings goes with --json only")
        _run_ratings(ratings, json)
    elif model is not None and pred is None and truth is None:
        from napari_hrstem_defects.cli.judge import run as judge

        judge(model, json_file=json, **data)
    elif model is not None or pred is None or truth is None:
        raise typer.BadParameter("give either --pred and --truth, or --model with --images or --patches")
    elif any(data.values()):
        raise typer.BadParameter(
            "--images, --labels, --patches, --clean, --only and --report go with --model"
        )
    else:
        _run_folders(pred, truth, json)


def _run_folders(pred: Path, truth: Path, json_file: Path | None) -> None:
    """Score label images; see :func:`napari_hrstem_defects.batch.evaluation.evaluate_folders`."""
    with errors_as_lines(USAGE):
        scores = evaluate_folders(pred, truth)
    _show(scores)
    with errors_as_lines(USAGE):
        write_json(scores, json_file)
    if scores["unpaired"]:
        complain(f"Not compared, for they are in one folder only: {', '.join(scores['unpaired'])}.")
    for message in scores["failed"].values():
        complain(message)
    if scores["failed"]:
        raise typer.Exit(FAILED)


def _run_ratings(ratings: Path, json_file: Path | None) -> None:
    """Count ratings; see :func:`napari_hrstem_defects.batch.ratings.tabulate_ratings`."""
    with errors_as_lines(USAGE):
        found = tabulate_ratings(ratings)
    _show_ratings(found)
    with errors_as_lines(USAGE):
        write_json(found, json_file)


def _show_ratings(found: dict[str, Any]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table("rating", "results", "share", *found["by_best_patch"], box=box.SIMPLE_HEAD)
    for column in table.columns[1:]:
        column.justify = "right"
    for rating, number in found["ratings"].items():
        share = f"{100 * number / found['count']:.0f} %" if found["count"] else "–"
        placed = (str(counts[rating]) for counts in found["by_best_patch"].values())
        table.add_row(rating, str(number), share, *placed)
    console = Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH)
    console.print(table)
    typer.echo(f"{found['count']} results of {found['images']} images; by the best patch: who placed it.")


def _show(scores: dict[str, Any]) -> None:
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    names = list(scores["mean"]["dice"])
    table = Table("image", *_HEADS, *(f"Dice {name}" for name in names), "AUROC", box=box.SIMPLE_HEAD)
    for column in table.columns[1:]:
        column.justify = "right"
        column.no_wrap = True
    table.columns[0].overflow = "fold"
    for stem, image in scores["images"].items():
        table.add_row(escape(stem), *_cells(image, names))
    table.add_section()
    table.add_row(f"mean of {len(scores['images'])}", *_cells(scores["mean"], names))
    table.add_row("all pixels", *(_cell(scores[key]) for key in _COLUMNS), *[""] * (len(names) + 1))
    if "patches" in scores:
        table.add_row(
            "patches", *(_cell(scores["patches"][key]) for key in _COLUMNS), *[""] * (len(names) + 1)
        )
    # In a pipe there is no width to keep to.
    Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH).print(table)


def _cells(values: dict[str, Any], names: list[str]) -> list[str]:
    dice = (values["dice"][name] for name in names)
    return [_cell(value) for value in (*(values[key] for key in _COLUMNS), *dice, values["auroc"])]


def _cell(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
