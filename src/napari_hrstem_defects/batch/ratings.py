"""Ratings of results that people gave in the panel (*Rate*): written, and tabulated."""

from __future__ import annotations

import csv
import datetime
import json
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_hrstem_defects.core.errors import ReadError, WriteError

if TYPE_CHECKING:
    from napari_hrstem_defects.core.analysis import Analysis

#: What a result can be, best first: the words of Dennler et al. (2021).
RATINGS = ("Very helpful", "Potentially helpful", "Inadequate")
#: Columns of the file.
COLUMNS = (
    "time",
    "rating",
    "image",
    "path",
    "input_sha256",
    "pixel_size_nm",
    "regions",
    "best_patch_placed",
    "version",
    "recipe",
)


def append_rating(path: Path, rating: str, analysis: Analysis) -> None:
    """Append a rating of an analysis to a CSV file, which is made if it is missing.

    Raises
    ------
    WriteError
        If the file cannot be written.
    """
    import napari_hrstem_defects

    micrograph, best = analysis.micrograph, analysis.best_patch
    row = {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "rating": rating,
        "image": micrograph.name,
        "path": micrograph.metadata.get("path", ""),
        "input_sha256": micrograph.sha256,
        "pixel_size_nm": micrograph.pixel_size_nm,
        "regions": len(analysis.regions),
        "best_patch_placed": None if best is None else best.placed,
        "version": napari_hrstem_defects.__version__,
        "recipe": json.dumps(analysis.recipe.to_dict(), separators=(",", ":")),
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new = not path.exists() or path.stat().st_size == 0
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            if new:
                writer.writeheader()
            writer.writerow(row)
    except OSError as error:
        raise WriteError(
            f"{path}: the rating cannot be written ({error.strerror or error}); choose another file."
        ) from error


def tabulate_ratings(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Count ratings.

    A result that was rated again (the same pixels, recipe and way of choosing the best patch) counts once, as rated
    last.

    Parameters
    ----------
    path : path-like
        CSV file of the panel.

    Returns
    -------
    dict
        ``count``, ``ratings`` (rating → number), ``by_best_patch`` (automatic or hand → rating → number) and
        ``images`` (number of different images).

    Raises
    ------
    ReadError
        If the file cannot be read or is no table of ratings.
    """
    path = Path(path)
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
            columns = reader.fieldnames or ()
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ReadError(
            f"{path}: the ratings cannot be read ({error}); name the CSV file of the panel."
        ) from error
    missing = [
        name for name in ("rating", "input_sha256", "recipe", "best_patch_placed") if name not in columns
    ]
    if missing:
        raise ReadError(f"{path}: this is no table of ratings, the column {missing[0]} is missing.")
    last: dict[tuple[str, ...], dict[str, Any]] = {}
    for number, row in enumerate(rows, start=2):
        if row["rating"] not in RATINGS:
            raise ReadError(
                f"{path}, line {number}: the rating is {row['rating']!r}, expected one of {', '.join(RATINGS)}."
            )
        last[row["input_sha256"], row["recipe"], row["best_patch_placed"]] = row
    placed: dict[str, Counter[str]] = {}
    for row in last.values():
        placed.setdefault(row["best_patch_placed"] or "none", Counter())[row["rating"]] += 1
    counts = Counter(row["rating"] for row in last.values())
    return {
        "count": len(last),
        "images": len({row["input_sha256"] for row in last.values()}),
        "ratings": {name: counts[name] for name in RATINGS},
        "by_best_patch": {
            name: {rating: counter[rating] for rating in RATINGS} for name, counter in sorted(placed.items())
        },
    }
