"""A folder that is complete or absent: written aside, moved into place when all of it is there."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from napari_hrstem_defects.core.errors import WriteError


@contextlib.contextmanager
def whole_folder(target: Path, is_ours: Callable[[Path], bool], overwrite: bool) -> Iterator[Path]:
    """Folder to write into, which becomes `target` at the end of the block and vanishes if the block raises.

    Parameters
    ----------
    target : Path
        Missing parents are made.
    is_ours : callable
        Whether a folder is a result of the same kind; others are never replaced.
    overwrite : bool
        Replace a result that is there.

    Raises
    ------
    WriteError
        If `target` is in the way or cannot be written.
    """
    try:
        _check(target, is_ours, overwrite)
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix=f".{target.name}.", suffix=".partial", dir=target.parent
        ) as aside:
            # What tempfile makes is closed to others; this folder gets the usual rights.
            folder = Path(aside) / target.name
            folder.mkdir()
            yield folder
            if target.exists():
                os.replace(target, Path(aside) / "replaced")
            try:
                os.replace(folder, target)
            except OSError:
                if (Path(aside) / "replaced").exists():
                    os.replace(Path(aside) / "replaced", target)
                raise
            shutil.rmtree(Path(aside) / "replaced", ignore_errors=True)
    except OSError as error:
        raise WriteError(
            f"{target}: the result cannot be written there ({error.strerror or error}); choose a folder with space and "
            "write access."
        ) from error


def _check(target: Path, is_ours: Callable[[Path], bool], overwrite: bool) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        raise WriteError(f"{target}: a file of this name is in the way; choose another folder.")
    if not any(target.iterdir()):
        return
    if not is_ours(target):
        raise WriteError(
            f"{target}: the folder holds other files, which are not overwritten; choose another one."
        )
    if not overwrite:
        raise WriteError(f"{target}: there is a result already; allow overwriting or choose another folder.")
