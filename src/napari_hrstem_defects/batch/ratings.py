"""Ratings of results that people gave in the panel (*Rate*): written, and tabulated."""

from __future__ import annotations

import csv
import datetime
import json
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_hrstem_defects.errors import ReadError, WriteError

if TYPE_CHECKING:
    from napari_hrstem_defects.core.analysis import Analysis

#: What a result can be, best first: the words of Dennler et al. (2021).
RATINGS = ("Very helpful", "Potentially helpful", "Inadequate")


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
            writer = csv.DictWriter(file, list(row), lineterminator="\n")
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
    # Here, because the panel imports this module at once.
    from napari_hrstem_defects.io.tables import read_texts

    rows = read_texts(
        Path(path), "table of ratings", ("rating", "input_sha256", "recipe", "best_patch_placed")
    )
    last: dict[tuple[str, ...], dict[str, Any]] = {}
    for number, row in enumerate(rows, start=2):
        if row["rating"] not in RATINGS:
            raise ReadError(
                f"{path}, line {number}: the rating is {row['rating']!r}, expected one of {', '.join(RATINGS)}."
            )
        last[row["input_sha256"], row["recipe"], row["best_patch_placed"]] = row
    placed = sorted({row["best_patch_placed"] or "none" for row in last.values()})
    counts = Counter((row["best_patch_placed"] or "none", row["rating"]) for row in last.values())
    return {
        "count": len(last),
        "images": len({row["input_sha256"] for row in last.values()}),
        "ratings": {rating: sum(counts[by, rating] for by in placed) for rating in RATINGS},
        "by_best_patch": {by: {rating: counts[by, rating] for rating in RATINGS} for by in placed},
    }
