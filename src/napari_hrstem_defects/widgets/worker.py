"""Runs the pipeline outside the GUI's thread."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from napari.qt.threading import WorkerBase, WorkerBaseSignals
from qtpy.QtCore import Signal

from napari_hrstem_defects.core.errors import Cancelled, HrstemDefectsError

#: Progress is reported at most this often, in seconds.
_PROGRESS_INTERVAL = 0.1

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Failure:
    """Why a task failed, in words for the user.

    Attributes
    ----------
    message : str
    during : str
        What was last reported.
    """

    message: str
    during: str = ""


class _Signals(WorkerBaseSignals):
    progressed = Signal(str, float)


@dataclass(eq=False)
class Monitor:
    """Progress and cancellation of a task; handed to the pipeline."""

    progressed: Callable[[str, float], None]
    cancelled: Callable[[], bool]
    during: str = ""
    _last: float = field(default=0.0, repr=False)

    def progress(self, text: str, fraction: float) -> None:
        """Report progress."""
        now = time.monotonic()
        if text != self.during or now - self._last > _PROGRESS_INTERVAL:
            self.during, self._last = text, now
            self.progressed(text, fraction)


class TaskWorker(WorkerBase):
    """Calls a function in a thread; it can be cancelled and always ends with a result or a :class:`Failure`.

    Parameters
    ----------
    task : callable
        Called with a :class:`Monitor`; asks it often whether to stop.
    """

    def __init__(self, task: Callable[[Monitor], Any]) -> None:
        super().__init__(SignalsClass=_Signals)
        self._task = task

    def work(self) -> Any:
        """Do the task; called in the thread."""
        monitor = Monitor(self.signals.progressed.emit, lambda: self.abort_requested)
        try:
            return self._task(monitor)
        except Cancelled:
            return None
        except HrstemDefectsError as error:
            return Failure(str(error), monitor.during)
        except MemoryError:
            return Failure("There is not enough memory for this image; crop or bin it.", monitor.during)
        except Exception as error:  # a bug: the person gets a sentence, the log gets the rest
            if self.abort_requested:
                return None
            _log.exception("internal error")
            text = " ".join(f"{type(error).__name__}: {error}".split())
            return Failure(f"Internal error ({text}); please report it.", monitor.during)
