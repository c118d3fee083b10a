"""Folders and files that are complete or absent: written aside, moved into place when all of it is there."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from napari_hrstem_defects.errors import WriteError


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
    _check_target(target, is_ours, overwrite)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent))
        try:
            yield folder
            move_into_place(folder, target)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        if _is_about(target, error):
            raise unwritable(target, error) from error
        raise


@contextlib.contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """File to write into, which replaces `target` at the end of the block and vanishes if the block raises.

    Raises
    ------
    OSError
    """
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent)
    os.close(handle)
    try:
        yield Path(name)
        os.chmod(name, 0o666 & ~_umask())  # mkstemp keeps others out
        os.replace(name, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


def _check_target(target: Path, is_ours: Callable[[Path], bool], overwrite: bool) -> None:
    """Refuse a target that must not be replaced."""
    try:
        if not target.exists():
            return
        if not target.is_dir():
            raise WriteError(f"{target}: a file of this name is in the way; choose another folder.")
        if not any(target.iterdir()):
            return
    except OSError as error:
        raise unwritable(target, error) from error
    if not is_ours(target):
        raise WriteError(
            f"{target}: the folder holds other files, which are not overwritten; choose another one."
        )
    if not overwrite:
        raise WriteError(f"{target}: there is a result already; allow overwriting or choose another folder.")


def move_into_place(folder: Path, target: Path) -> None:
    """Make a folder that was written aside the target; what stood there comes back if that fails.

    Raises
    ------
    OSError
    """
    folder.chmod(0o777 & ~_umask())  # mkdtemp keeps others out
    if target.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent))
        os.replace(target, old / "replaced")
        try:
            os.replace(folder, target)
        except OSError:
            os.replace(old / "replaced", target)
            raise
        finally:
            shutil.rmtree(old, ignore_errors=True)
    else:
        os.replace(folder, target)


def _is_about(target: Path, error: OSError) -> bool:
    """Whether an error is about a folder that is written, not about a file that is read meanwhile."""
    if error.filename is None:
        return True
    path = Path(os.fsdecode(error.filename))
    aside = (part.name.startswith(f".{target.name}.") or part == target for part in (path, *path.parents))
    return path in target.parents or any(aside)


def unwritable(target: Path, error: OSError) -> WriteError:
    """Error for a result that cannot be written."""
    reason = error.strerror or str(error)
    return WriteError(
        f"{target}: the result cannot be written there ({reason}); choose a folder with space and write access."
    )


def _umask() -> int:
    umask = os.umask(0o022)
    os.umask(umask)
    return umask
