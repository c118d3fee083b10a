"""summary.csv: one row an image."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from napari_hrstem_defects.core.errors import WriteError
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
    status : {"done", "skipped", "failed", "cancelled"}
        Skipped: the result was there already, made from the same input with the same recipe.
    message : str
        Why it failed, or the warnings.
    verdict : str
        "defective" or "non-defective"; empty where nothing could be judged.
    symmetry_fraction, amorphous_fraction : float or None
        Shares of the image (of a series: means over its frames).
    regions : int or None
        How many defects.
    seconds : float or None
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

    @property
    def ok(self) -> bool:
        """Whether there is a result."""
        return self.status in ("done", "skipped")


COLUMNS = tuple(field.name for field in dataclasses.fields(Row))
_TEXT = ("name", "path", "status", "message", "verdict")


class Summary:
    """The table of a batch, on disk after every change.

    Rows of earlier batches stay as long as their results do.

    Parameters
    ----------
    folder : Path
        Folder of the batch.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / SUMMARY_FILE
        self._rows: dict[str, Row] = {}
        if self._path.is_file():
            with contextlib.suppress(ValueError, TypeError, KeyError):  # somebody's own table: written anew
                earlier = [Row(**values) for values in read_table(self._path, _TEXT)]
                self._rows = {row.name: row for row in earlier if row.ok and (folder / row.name).is_dir()}

    def add(self, rows: Iterable[Row]) -> None:
        """Replace or append rows and write the table.

        Raises
        ------
        WriteError
            If it cannot be written.
        """
        self._rows.update((row.name, row) for row in rows)
        try:
            self._write()
        except OSError as error:
            raise WriteError(
                f"{self._path}: the table cannot be written ({error.strerror or error}); "
                "choose a folder with space and write access."
            ) from error

    def _write(self) -> None:
        handle, aside = tempfile.mkstemp(prefix=".summary.", suffix=".partial", dir=self._path.parent)
        os.close(handle)
        try:
            write_table(Path(aside), COLUMNS, map(dataclasses.asdict, self._rows.values()))
            # mkstemp keeps others out.
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(aside, 0o666 & ~umask)
            os.replace(aside, self._path)
        except BaseException:
            os.unlink(aside)
            raise
