"""Rows of numbers: CSV files, Markdown tables, means of what is defined."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write one line a row: floats with six significant digits, NaN empty, booleans as 0 and 1."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: _plain(value) for key, value in row.items()} for row in rows)


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}"
    return int(value) if isinstance(value, bool) else value


def read_csv(path: Path) -> list[Row]:
    """Rows of a CSV file, numbers as floats; none if there is no file."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [{key: _parsed(text) for key, text in row.items()} for row in csv.DictReader(file)]


def _parsed(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text


def mean(values: Iterable[Any]) -> float:
    """Mean of the values that are defined (numbers other than NaN); NaN if none is."""
    known = [float(value) for value in values if isinstance(value, int | float) and not math.isnan(value)]
    return math.fsum(known) / len(known) if known else math.nan


def column(rows: Iterable[Mapping[str, Any]], key: str) -> list[Any]:
    """Values of one column; None where a row lacks it."""
    return [row.get(key) for row in rows]


def markdown(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Markdown table; floats with three decimals, whole floats without, what is undefined as a dash.

    >>> print(markdown(("image", "Dice"), [("a", 0.5), ("b", float("nan"))]))
    | image | Dice |
    |---|---|
    | a | 0.500 |
    | b | – |
    <BLANKLINE>
    """
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(cell(value) for value in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def cell(value: Any) -> str:
    """Text of one value in a table."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, float):
        return f"{value:.3f}"
    return str(value).replace("|", "\\|")
