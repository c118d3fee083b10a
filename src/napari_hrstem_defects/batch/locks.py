"""Locks between processes that write into one folder."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from napari_hrstem_defects.errors import Cancelled
from napari_hrstem_defects.io.folders import unwritable

_POLL_S = 0.1


@contextlib.contextmanager
def locked(path: Path, cancelled: Callable[[], bool] | None = None, *, wait: bool = True) -> Iterator[bool]:
    """Hold a lock for the length of the block, after waiting for those who hold it.

    The system frees the lock of a process that ends, however it ends. File systems without locks are used without.

    Parameters
    ----------
    path : Path
        The lock's file, which is there as long as the lock is held.
    cancelled : callable, optional
        Asked while waiting.
    wait : bool
        Whether to wait.

    Yields
    ------
    bool
        Whether the lock is held: not so where it would have to be waited for.

    Raises
    ------
    Cancelled
        If `cancelled` returned True.
    WriteError
        If the file cannot be made.
    """
    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise unwritable(path.parent, error) from error
        if _take(handle):
            # The holder before may have deleted it: then this is the lock of a file that is gone.
            with contextlib.suppress(OSError):
                if os.fstat(handle).st_ino == path.stat().st_ino:
                    break
            os.close(handle)
            continue
        os.close(handle)
        if not wait:
            yield False
            return
        if cancelled is not None and cancelled():
            raise Cancelled
        time.sleep(_POLL_S)
    try:
        yield True
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(handle)


def _take(handle: int) -> bool:
    """Lock an open file; False if another process holds it."""
    if sys.platform == "win32":
        import msvcrt

        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # there are no locks on this file system
        return True
    return True
