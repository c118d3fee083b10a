"""Rate this result: one row of a CSV file a click."""

from __future__ import annotations

import csv
import datetime
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import napari_hrstem_defects
from napari_hrstem_defects.batch.ratings import COLUMNS, RATINGS
from napari_hrstem_defects.core.errors import WriteError
from napari_hrstem_defects.core.pipeline import Analysis


def append_rating(path: Path, rating: str, analysis: Analysis) -> None:
    """Append a rating of an analysis to a CSV file, which is made if it is missing.

    Raises
    ------
    ValueError
        If `rating` is none of `RATINGS`.
    WriteError
        If the file cannot be written.
    """
    if rating not in RATINGS:
        raise ValueError(f"rating is {rating!r}, expected one of {', '.join(RATINGS)}")
    micrograph = analysis.micrograph
    row: Mapping[str, Any] = {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "rating": rating,
        "image": micrograph.name,
        "path": micrograph.metadata.get("path", ""),
        "input_sha256": micrograph.sha256,
        "pixel_size_nm": "" if micrograph.pixel_size_nm is None else micrograph.pixel_size_nm,
        "regions": len(analysis.regions),
        "best_patch_placed": "" if analysis.best_patch is None else analysis.best_patch.placed,
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
