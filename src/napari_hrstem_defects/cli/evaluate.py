"""The command ``evaluate``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from napari_hrstem_defects.batch import reports
from napari_hrstem_defects.batch.evaluation import evaluate_folders
from napari_hrstem_defects.batch.labelled import read_labelled, read_patches
from napari_hrstem_defects.batch.ratings import tabulate_ratings
from napari_hrstem_defects.cli.console import (
    FAILED,
    USAGE,
    complain,
    errors_as_lines,
    show_table,
    write_json,
)
from napari_hrstem_defects.cli.train import ROWS, check_data, remarks, split_pair
from napari_hrstem_defects.models import evaluation, registry
from napari_hrstem_defects.models.contract import Contract
from napari_hrstem_defects.models.store import load_model

_COLUMNS = ("accuracy", "precision", "specificity", "recall", "balanced_accuracy")


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
        _of_ratings(ratings, json)
    elif model is not None and pred is None and truth is None:
        _of_model(model, json_file=json, **data)
    elif model is not None or pred is None or truth is None:
        raise typer.BadParameter("give either --pred and --truth, or --model with --images or --patches")
    elif any(data.values()):
        raise typer.BadParameter(
            "--images, --labels, --patches, --clean, --only and --report go with --model"
        )
    else:
        _of_folders(pred, truth, json)


def _of_folders(pred: Path, truth: Path, json_file: Path | None) -> None:
    """Score label images; see :func:`napari_hrstem_defects.batch.evaluation.evaluate_folders`."""
    with errors_as_lines(USAGE):
        scores = evaluate_folders(pred, truth)
    kinds = list(scores["mean"]["dice"])

    def line(name: str, values: Mapping[str, Any]) -> list[str]:
        numbers = [values[key] for key in _COLUMNS]
        if "dice" in values:
            numbers += [*(values["dice"][kind] for kind in kinds), values["auroc"]]
        return [name, *("–" if value is None else f"{value:.3f}" for value in numbers)]

    totals = {f"mean of {len(scores['images'])}": scores["mean"], "all pixels": scores}
    if "patches" in scores:
        totals["patches"] = scores["patches"]
    rows = [line(name, values) for name, values in [*scores["images"].items(), *totals.items()]]
    head = ["", *_COLUMNS[:-1], "balanced", *(f"Dice {kind}" for kind in kinds), "AUROC"]
    show_table([head, *rows], "image", summary=len(totals))
    with errors_as_lines(USAGE):
        write_json(scores, json_file)
    if scores["unpaired"]:
        complain(f"Not compared, because they are in one folder only: {', '.join(scores['unpaired'])}.")
    for message in scores["failed"].values():
        complain(message)
    if scores["failed"]:
        raise typer.Exit(FAILED)


def _of_ratings(ratings: Path, json_file: Path | None) -> None:
    """Count ratings; see :func:`napari_hrstem_defects.batch.ratings.tabulate_ratings`."""
    with errors_as_lines(USAGE):
        found = tabulate_ratings(ratings)
    rows = [["", "results", "share", *found["by_best_patch"]]]
    for rating, number in found["ratings"].items():
        share = f"{100 * number / found['count']:.0f} %" if found["count"] else "–"
        placed = (str(counts[rating]) for counts in found["by_best_patch"].values())
        rows.append([rating, str(number), share, *placed])
    show_table(rows, "rating")
    typer.echo(f"{found['count']} results of {found['images']} images; by the best patch: who placed it.")
    with errors_as_lines(USAGE):
        write_json(found, json_file)


def _of_model(
    model: str,
    images: Path | None,
    labels: Path | None,
    patches: Path | None,
    clean: str | None,
    only: str | None,
    json_file: Path | None,
    report: Path | None,
) -> None:
    """Score a classifier on labelled data; see :mod:`napari_hrstem_defects.models.evaluation`."""
    left_out: list[str] = []
    with errors_as_lines(USAGE):
        options = {"images": images, "labels": labels, "patches": patches, "clean": clean, "only": only}
        check_data(options, ("images", "patches"), "evaluate on")
        stored = load_model(registry.find(model))
        if patches is not None:
            data = read_patches(patches, clean=clean, only=split_pair(only, "--only"))
            scores = evaluation.evaluate_patches(stored, data)
        else:
            assert images is not None
            found, left_out = read_labelled(images, labels)
            scores = evaluation.evaluate_images(stored, found)
        scores["model"] = {
            "name": stored.contract.name,
            "kind": stored.contract.kind,
            "sha256": stored.sha256,
            "held_out_while_training": dict(stored.contract.metrics),
        }
    for line in left_out:
        complain(line)
    _show_scores(scores, stored.contract)
    with errors_as_lines(USAGE):
        write_json(evaluation.plain(scores), json_file)
        if report is not None:
            reports.of_evaluation(scores).write(report)


def _show_scores(scores: Mapping[str, Any], contract: Contract) -> None:
    rows: dict[str, Any] = {_headline(scores): scores}
    if "repeated" in scores:
        repeated = scores["repeated"]
        rows[f"{repeated['draws']} × {repeated['images']} {repeated['of']}"] = repeated
    if "defect_free" in scores:
        rows["defect-free"] = scores["defect_free"]
    if "trained_on" in scores:
        rows["used in training"] = scores["trained_on"]
    for name, title in ROWS.items():
        stated = evaluation.stated(contract.metrics, name)
        if stated:
            rows[f"while training: {title}"] = stated
    show_table(evaluation.table(rows), "%")
    found = reports.of_evaluation(scores)
    if found.table_1:
        show_table(
            evaluation.table(found.table_1), "% with ambivalent patches, as in table 1 of Dennler et al."
        )
    for heading, table in found.tables():
        show_table(table, heading)
    if scores.get("seen"):
        complain(f"Used in training, and scored apart: {_listed(scores['seen'])}.")
    if scores.get("left_out"):
        complain(f"{scores['left_out']} patches share pixels with training patches, and were left out.")
    if not scores.get("unseen"):
        complain("All of these data were used in training: the scores are too high.")
    if not scores["recognisable"]:
        sort = "images" if "images" in scores else "patches"
        complain(
            f"Its file does not list the {sort} that it was trained on; if these are among them or cut from the same "
            "images, the scores are too high."
        )
    for line in remarks(contract.metrics):
        typer.echo(f"While training: {line}")


def _headline(scores: Mapping[str, Any]) -> str:
    if not scores["unseen"]:
        return "all (used in training)"
    if "images" not in scores:
        return "all unseen"
    return "unseen with defects" if scores["with_defects"] else "unseen, none with defects"


def _listed(seen: Any) -> str:
    if isinstance(seen, int):
        return f"{seen} patches"
    return ", ".join(seen[:5]) + (f" and {len(seen) - 5} more" if len(seen) > 5 else "")
