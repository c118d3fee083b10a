"""The tables of a result: patches.csv and regions.csv."""

from __future__ import annotations

import csv
import dataclasses
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from napari_hrstem_defects.core.patches import PatchTable
from napari_hrstem_defects.core.regions import LABEL_NAMES, Region
from napari_hrstem_defects.errors import ReadError
from napari_hrstem_defects.io.histories import History

#: A table row: column → number or text.
Row = dict[str, Any]

# What makes a spreadsheet take a cell for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
# Fields of a region that take several columns.
_SPLIT = {"centroid": ("y_px", "x_px"), "bbox": ("y0", "x0", "y1", "x1")}


# What is followed over the frames of a series.
_SIZES = ("length_px", "area_px", "length_nm", "area_nm2")


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
    return [_region_row(region) for region in regions]


def _region_row(region: Region | None) -> Row:
    """Row of a region; of None the columns."""
    row: Row = {}
    for field in dataclasses.fields(Region):
        value = getattr(region, field.name, None)
        for number, column in enumerate(_SPLIT.get(field.name, ())):
            row[column] = value and value[number]
        if field.name not in _SPLIT:
            row[field.name] = value
        if field.name == "label":
            row["kind"] = LABEL_NAMES.get(value or 0)
    return row


REGION_COLUMNS = tuple(_region_row(None))


def history_rows(histories: Sequence[History], frame_time_s: float | None = None) -> list[Row]:
    """One row a defect of a series: first and last frame, sizes there, how fast they grow.

    Parameters
    ----------
    histories : sequence of History
    frame_time_s : float, optional
        Time from frame to frame.
    """
    rows = []
    for history in histories:
        first, last = history.regions[0], history.regions[-1]
        row: Row = {
            "history": history.id,
            "kind": LABEL_NAMES[first.label],
            "type": Counter(region.type for region in history.regions).most_common(1)[0][0],
            "first_frame": history.frames[0],
            "last_frame": history.frames[-1],
            "frames": len(history.frames),
            "frames_at_rim": sum(region.at_rim for region in history.regions),
            "split_from": history.split_from,
            "merged_into": history.merged_into,
            "y_px": first.centroid[0],
            "x_px": first.centroid[1],
        }
        for size in _SIZES:
            name, _, unit = size.partition("_")
            growth = history.growth(size)
            row |= {f"{name}_first_{unit}": getattr(first, size), f"{name}_last_{unit}": getattr(last, size)}
            for per, step in (("frame", 1.0), ("s", frame_time_s)):
                values = (None,) * 3 if growth is None or step is None else (v / step for v in growth)
                row |= dict(zip(_rate_columns(size, per), values, strict=True))
        rows.append(row)
    return rows


def _rate_columns(size: str, per: str) -> tuple[str, str, str]:
    name, _, unit = size.partition("_")
    rate, low, high = (f"{name}_{kind}_{unit}_per_{per}" for kind in ("rate", "rate_low", "rate_high"))
    return rate, low, high


HISTORY_COLUMNS = (
    "history",
    "kind",
    "type",
    "first_frame",
    "last_frame",
    "frames",
    "frames_at_rim",
    "split_from",
    "merged_into",
    "y_px",
    "x_px",
    *(f"{size.replace('_', f'_{end}_')}" for size in _SIZES for end in ("first", "last")),
    *(column for per in ("frame", "s") for size in _SIZES for column in _rate_columns(size, per)),
)


class Table:
    """CSV file (UTF-8, comma, one header line) that grows; None becomes an empty cell.

    Parameters
    ----------
    path : Path
    columns : sequence of str, optional
        Default: the keys of the first row.
    """

    def __init__(self, path: Path, columns: Sequence[str] = ()) -> None:
        self._file = path.open("w", newline="", encoding="utf-8")
        self._columns = columns
        self._writer = csv.writer(self._file, lineterminator="\n")
        if columns:
            self._writer.writerow(columns)

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append rows."""
        for row in rows:
            if not self._columns:
                self._columns = tuple(row)
                self._writer.writerow(self._columns)
            self._writer.writerow([_cell(row[column]) for column in self._columns])

    def __enter__(self) -> Table:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a whole :class:`Table`."""
    with Table(path, columns) as table:
        table.add(rows)


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
    rows = _rows(path)
    if any(None in row or None in row.values() for row in rows):
        raise ValueError(f"{path.name} has rows that are longer or shorter than its head")
    return tuple(
        {key: _plain(value) if key in text else _value(value) for key, value in row.items()} for row in rows
    )


def read_texts(path: Path, what: str, columns: Iterable[str]) -> list[dict[str, str]]:
    """Rows of a table that a person may have edited: texts without blanks around them, empty where cells are missing.

    Parameters
    ----------
    path : Path
    what : str
        What it is, for the message.
    columns : iterable of str
        That it must have.

    Raises
    ------
    ReadError
    """
    try:
        rows = _rows(path, columns)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not a CSV file"
        raise ReadError(f"{path}: the {what} cannot be read ({reason}); check the name.") from error
    except LookupError as error:
        raise ReadError(f"{path}: this is no {what}, the column {error.args[0]} is missing.") from error
    return [{key: (value or "").strip() for key, value in row.items() if key is not None} for row in rows]


def _rows(path: Path, columns: Iterable[str] = ()) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [name for name in columns if name not in (reader.fieldnames or ())]
            if missing:
                raise LookupError(missing[0])
            return list(reader)
    except csv.Error as error:
        raise ValueError(f"{path.name} is no table: {error}") from error


#: Cells that are neither numbers nor names.
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
