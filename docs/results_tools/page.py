"""The page docs/results.md: sections between markers, tables, numbers against their targets."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

HEAD = """\
# Results

Every number on this page was measured by `python docs/make_results.py`, which writes the page; nothing is typed in by
hand. Each section can be made anew by itself (`--only SECTION`). *Default* is the lattice-aware mode, *published* the
pipeline of Dennler et al., Micron 146 (2021) 103069, as `Recipe.published()` repeats it, with the same training-free
choice of the best patch.
"""
_NOT_YET = "Not measured yet."


def write_section(path: Path, names: Sequence[str], name: str, text: str) -> None:
    """Put a section's text into the page, in the place of what was there.

    Parameters
    ----------
    path : Path
        The page; made if missing.
    names : sequence of str
        All sections in their order.
    name : str
        The one that changes.
    text : str
    """
    old = path.read_text("utf-8") if path.is_file() else ""
    parts = [HEAD]
    for each in names:
        body = text.strip() if each == name else _section(old, each)
        parts.append(f"\n<!-- begin: {each} -->\n{body}\n<!-- end: {each} -->\n")
    path.write_text("".join(parts), "utf-8")


def _section(page: str, name: str) -> str:
    match = re.search(rf"<!-- begin: {name} -->\n(.*?)\n<!-- end: {name} -->", page, re.DOTALL)
    return match[1] if match else f"## {name.capitalize()}\n\n{_NOT_YET}"


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table; floats get three decimals, NaN and None a dash."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(cell(value) for value in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def cell(value: Any) -> str:
    """Text of one number."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, float):
        return f"{value:.3f}"
    return str(value)


def verdict(value: float, target: float | None, *, below: bool = False) -> str:
    """``"≥ 0.95 met"`` or ``"≥ 0.95 not met"``; `below`: the target is a largest value."""
    if target is None:
        return ""
    sign = "≤" if below else "≥"
    met = not math.isnan(value) and (value <= target if below else value >= target)
    return f"{sign} {target:g} {'met' if met else '**not met**'}"


def mean(values: Iterable[float]) -> float:
    """Mean of the numbers that are defined; NaN if none is."""
    known = [float(v) for v in values if not math.isnan(v)]
    return math.fsum(known) / len(known) if known else math.nan


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write one line a row; floats with six significant digits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    keys = list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(keys)
        for row in rows:
            writer.writerow([_plain(row.get(key, "")) for key in keys])


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}"
    return int(value) if isinstance(value, bool) else value
