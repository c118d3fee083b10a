"""The command ``evaluate --model``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from napari_hrstem_defects.batch import reports
from napari_hrstem_defects.batch.labelled import read_labelled, read_patches
from napari_hrstem_defects.cli.console import USAGE, complain, errors_as_lines, write_json
from napari_hrstem_defects.cli.train import ROWS, remarks, show_table, split_pair
from napari_hrstem_defects.core.errors import HrstemDefectsError
from napari_hrstem_defects.models import evaluation, registry
from napari_hrstem_defects.models.contract import Contract
from napari_hrstem_defects.models.store import load_model


def run(
    model: str,
    images: Path | None,
    labels: Path | None,
    patches: Path | None,
    clean: str | None,
    only: str | None,
    json_file: Path | None,
    report: Path | None,
) -> None:
    """Judge a classifier on labelled data; see :mod:`napari_hrstem_defects.models.evaluation`."""
    left_out: list[str] = []
    with errors_as_lines(USAGE):
        if (images is None) == (patches is None):
            raise HrstemDefectsError("Name what to judge it on by one of --images and --patches.")
        for option, value, missing in (
            ("--labels", labels, images),
            ("--clean", clean, patches),
            ("--only", only, patches),
        ):
            if value is not None and missing is None:
                partner = "--images" if option == "--labels" else "--patches"
                raise HrstemDefectsError(f"{option} goes with {partner}; leave it out.")
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
    _show(scores, stored.contract)
    with errors_as_lines(USAGE):
        write_json(evaluation.plain(scores), json_file)
        if report is not None:
            reports.of_evaluation(scores).write(report)


def _show(scores: Mapping[str, Any], contract: Contract) -> None:
    rows: dict[str, Any] = {_headline(scores): scores}
    if "repeated" in scores:
        repeated = scores["repeated"]
        rows[f"{repeated['draws']} × {repeated['images']} {repeated['of']}"] = repeated
    if "defect_free" in scores:
        rows["defect-free"] = scores["defect_free"]
    if "trained_on" in scores:
        rows["seen in training"] = scores["trained_on"]
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
        complain(f"Seen in training, and scored apart: {_listed(scores['seen'])}.")
    if scores.get("left_out"):
        complain(
            f"{scores['left_out']} patches share pixels with such that it was trained on, and were left out."
        )
    if not scores.get("unseen"):
        complain("Everything here was seen in training: these numbers measure memory.")
    if not scores["recognisable"]:
        sort = "images" if "images" in scores else "patches"
        complain(
            f"Its file does not list the {sort} that it was trained on; if these are among them or cut from the same "
            "images, these numbers measure memory."
        )
    for line in remarks(contract.metrics):
        typer.echo(f"While training: {line}")


def _headline(scores: Mapping[str, Any]) -> str:
    if not scores["unseen"]:
        return "all (seen in training)"
    if "images" not in scores:
        return "all unseen"
    return "unseen with defects" if scores["with_defects"] else "unseen, none with defects"


def _listed(seen: Any) -> str:
    if isinstance(seen, int):
        return f"{seen} patches"
    return ", ".join(seen[:5]) + (f" and {len(seen) - 5} more" if len(seen) > 5 else "")
