"""summary.csv: one row an image."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from napari_hrstem_defects.batch.locks import locked
from napari_hrstem_defects.io.folders import unwritable, whole_file
from napari_hrstem_defects.io.tables import read_table, write_table

#: File of a batch that lists its images.
SUMMARY_FILE = "summary.csv"


@dataclass(frozen=True)
class Row:
    """What became of one image.

    Attributes
    ----------
    name : str
        Folder of the result, below the folder of the batch.
    path : str
        Absolute path of the input.
    status : {"done", "skipped", "failed", "cancelled", "running"}
        Skipped: the result was there already, made from the same input with the same recipe. Running: some of its
        frames or tiles are done.
    message : str
        Why it failed, what is done of it, or the warnings.
    verdict : str
        "defective" or "non-defective"; empty where nothing could be assessed.
    symmetry_fraction, amorphous_fraction : float or None
        Shares of the image (of a series: means over its frames).
    regions : int or None
        How many defects.
    seconds : float or None
    frames_done, frames : int or None
        Frames of a series that are analysed, and its length.
    """

    name: str
    path: str
    status: str
    message: str = ""
    verdict: str = ""
    symmetry_fraction: float | None = None
    amorphous_fraction: float | None = None
    regions: int | None = None
    seconds: float | None = None
    frames_done: int | None = None
    frames: int | None = None

    @property
    def ok(self) -> bool:
        """Whether there is a result."""
        return self.status in ("done", "skipped")


COLUMNS = tuple(field.name for field in dataclasses.fields(Row))
_TEXT = ("name", "path", "status", "message", "verdict")


class Summary:
    """The table of a batch, on disk after every change, which several runs may write at a time.

    Rows of earlier batches stay as long as their results do, those of failures as long as their input does.

    Parameters
    ----------
    folder : Path
        Folder of the batch.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / SUMMARY_FILE
        self._own: set[str] = set()
        self._seen: tuple[int, ...] = ()
        self._rows: dict[str, Row] = {}

    def add(self, rows: Iterable[Row]) -> None:
        """Replace or append rows and write the table.

        Raises
        ------
        WriteError
            If it cannot be written.
        """
        rows = list(rows)
        with locked(self._path.with_name(".summary.lock")):
            self._read()
            for row in rows:
                # What was not done again leaves what is there.
                there = self._rows.get(row.name)
                if row.status not in ("cancelled", "running") or there is None or not there.ok:
                    self._rows[row.name] = row
            self._own.update(row.name for row in rows)
            try:
                with whole_file(self._path) as aside:
                    write_table(aside, COLUMNS, map(dataclasses.asdict, self._rows.values()))
                self._seen = _signature(self._path)
            except OSError as error:
                raise unwritable(self._path, error) from error

    def _read(self) -> None:
        """Take over what others wrote since."""
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):  # none yet; another table
            if _signature(self._path) == self._seen:
                return
            folder = self._path.parent
            others = [Row(**values) for values in read_table(self._path, _TEXT)]
            self._rows = {row.name: row for row in self._rows.values() if row.name in self._own} | {
                row.name: row
                for row in others
                if row.name not in self._own
                and ((folder / row.name).is_dir() if row.ok else os.path.exists(row.path))
            }


def _signature(path: Path) -> tuple[int, ...]:
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns
