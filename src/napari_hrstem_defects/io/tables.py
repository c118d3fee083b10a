"""The tables of a result: patches.csv and regions.csv."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from napari_hrstem_defects.core.patches import PatchTable
from napari_hrstem_defects.core.regions import LABEL_NAMES, Region

#: A table row: column → number or text.
Row = dict[str, Any]

# What makes a spreadsheet take a cell for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
PATCH_COLUMNS = ("y", "x", "score", "label")
# Fields of a region that take several columns.
_SPLIT = {"centroid": ("y_px", "x_px"), "bbox": ("y0", "x0", "y1", "x1")}


def _region_columns() -> tuple[str, ...]:
    columns: list[str] = []
    for field in dataclasses.fields(Region):
        columns += _SPLIT.get(field.name, (field.name,))
        if field.name == "label":
            columns.append("kind")
    return tuple(columns)


REGION_COLUMNS = _region_columns()


def patch_rows(patches: PatchTable) -> list[Row]:
    """One row a patch: centre in px, score, verdict."""
    centres = patches.grid.centres.reshape(-1, 2)
    verdicts = ("non-defective", "defective")
    return [
        {"y": float(y), "x": float(x), "score": float(score), "label": verdicts[bool(defective)]}
        for (y, x), score, defective in zip(
            centres, patches.scores.ravel(), patches.defective.ravel(), strict=True
        )
    ]


def region_rows(regions: Sequence[Region]) -> list[Row]:
    """One row a region: centroid and bounding box in px, sizes in px and nm."""
    rows = []
    for region in regions:
        row: Row = {}
        for field in dataclasses.fields(region):
            value = getattr(region, field.name)
            row.update(
                zip(_SPLIT[field.name], value, strict=True) if field.name in _SPLIT else [(field.name, value)]
            )
            if field.name == "label":
                row["kind"] = LABEL_NAMES[region.label]
        rows.append(row)
    return rows


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a CSV file (UTF-8, comma, one header line); None becomes an empty cell."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([_cell(row[column]) for column in columns] for row in rows)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.7g}"
    if isinstance(value, str):
        # Names of files may hold bytes that are no text, and spreadsheets run what looks like a formula.
        value = value.encode("utf-8", "backslashreplace").decode()
        return f"'{value}" if value.startswith(_FORMULA) else value
    return str(value)


def _plain(text: str) -> str:
    return text[1:] if text.startswith("'") and text[1:].startswith(_FORMULA) else text


def read_table(path: Path, text: Collection[str] = ()) -> tuple[Row, ...]:
    """Inverse of :func:`write_table`: numbers, truth values, None for empty cells, text; the columns `text` always so.

    Raises
    ------
    ValueError
        If it is no table.
    """
    with path.open(newline="", encoding="utf-8") as file:
        try:
            rows = list(csv.DictReader(file))
        except csv.Error as error:
            raise ValueError(f"{path.name} is no table: {error}") from error
    if any(None in row or None in row.values() for row in rows):
        raise ValueError(f"{path.name} has rows that are longer or shorter than its head")
    return tuple(
        {key: _plain(value) if key in text else _value(value) for key, value in row.items()} for row in rows
    )


#: What cells say that are neither numbers nor names.
_WORDS = {"": None, "True": True, "False": False}


def _value(text: str) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return _plain(text)
