"""Tables of a trained classifier as the two publications give them: as text, JSON, CSV and a figure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from napari_hrstem_defects.errors import WriteError
from napari_hrstem_defects.io.tables import write_table
from napari_hrstem_defects.models import evaluation

#: Files of a report.
TABLE_FILE, TEXT_FILE, JSON_FILE, FIGURE_FILE = "table_1.csv", "report.txt", "report.json", "confusion.png"


@dataclass(frozen=True)
class Reports:
    """Scores of a classifier.

    Attributes
    ----------
    table_1 : mapping
        Row → metric → mean and std, see :func:`~napari_hrstem_defects.models.evaluation.table_1`.
    confusions : mapping
        Heading → confusion (``classes``, ``counts``): of all classes, then of each binary network.
    """

    table_1: Mapping[str, Any]
    confusions: Mapping[str, Any] = field(default_factory=dict)

    def tables(self) -> Iterator[tuple[str, list[list[str]]]]:
        """Heading and rows of text of the confusion and the report of each."""
        for heading, confusion in self.confusions.items():
            names = confusion["classes"]
            counts = ([name, *map(str, row)] for name, row in zip(names, confusion["counts"], strict=True))
            yield f"{heading}: truth \\ found", [["", *names], *counts]
            yield heading, evaluation.report_table(evaluation.class_report(confusion))

    def write(self, folder: Path) -> None:
        """Write the files of a report; earlier ones are replaced.

        Raises
        ------
        WriteError
        """
        from napari_hrstem_defects.io.charts import save_confusions

        columns = [f"{name}_{end}" for name in evaluation.METRICS for end in ("mean", "std")]
        rows = [
            {"set": row, **{column: _value(scores, column) for column in columns}}
            for row, scores in self.table_1.items()
        ]
        reports = {
            heading: {"confusion": confusion, **evaluation.class_report(confusion)}
            for heading, confusion in self.confusions.items()
        }
        content = {"table_1": self.table_1, "reports": reports}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_table(folder / TABLE_FILE, ("set", *columns), rows)
            (folder / TEXT_FILE).write_text("\n".join(self._lines()), encoding="utf-8")
            text = json.dumps(evaluation.plain(content), indent=2, ensure_ascii=False)
            (folder / JSON_FILE).write_text(text + "\n", encoding="utf-8")
            if self.confusions:
                save_confusions(folder / FIGURE_FILE, self.confusions)
        except OSError as error:
            raise WriteError(
                f"{folder}: the report cannot be written there ({error.strerror or error}); choose a folder with space "
                "and write access."
            ) from error

    def _lines(self) -> Iterator[str]:
        tables = [("%", evaluation.table(self.table_1))] if self.table_1 else []
        for heading, rows in [*tables, *self.tables()]:
            widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
            yield heading
            for row in rows:
                cells = [
                    row[0].ljust(widths[0]),
                    *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True)),
                ]
                yield "  ".join(cells).rstrip()
            yield ""


def of_training(metrics: Mapping[str, Any]) -> Reports:
    """Of the metrics in a model file."""
    return _reports(evaluation.table_1(metrics), metrics)


def of_evaluation(scores: Mapping[str, Any]) -> Reports:
    """Of the scores of `evaluate_images` or `evaluate_patches`."""
    return _reports(scores.get("table_1", {}), scores)


def _reports(table_1: Mapping[str, Any], scores: Mapping[str, Any]) -> Reports:
    confusions = {"all classes": scores["confusion"]} if "confusion" in scores else {}
    confusions |= {f"network of {name}": found for name, found in scores.get("binary", {}).items()}
    return Reports(table_1, confusions)


def _value(scores: Mapping[str, Any], column: str) -> float | None:
    name, _, end = column.rpartition("_")
    value = scores.get(name, {}).get(end)
    return None if value is None or value != value else float(value)
