"""Work in a thread: a function with progress, reports and cancellation."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from napari.qt.threading import WorkerBase, WorkerBaseSignals
from qtpy.QtCore import Signal

from napari_hrstem_defects.errors import Cancelled, HrstemDefectsError

#: Progress is reported at most this often, in seconds.
_PROGRESS_INTERVAL = 0.1

_log = logging.getLogger(__name__)


@dataclass(eq=False)
class Monitor:
    """Progress, cancellation and reports of a task; handed to the pipeline."""

    progressed: Callable[[str, float], None]
    cancelled: Callable[[], bool]
    report: Callable[[Any], None] = lambda report: None
    during: str = ""
    _last: float = field(default=0.0, repr=False)

    def progress(self, text: str, fraction: float) -> None:
        """Report progress."""
        now = time.monotonic()
        if text != self.during or now - self._last > _PROGRESS_INTERVAL:
            self.during, self._last = text, now
            self.progressed(text, fraction)


@dataclass(frozen=True)
class Failure:
    """Why a task failed, in words for the user, and what was last reported."""

    message: str
    during: str = ""


class _Signals(WorkerBaseSignals):
    progressed = Signal(str, float)
    reported = Signal(object)


class TaskWorker(WorkerBase):
    """Calls a function in a thread, from now on; it can be cancelled.

    Parameters
    ----------
    task : callable
        Called with a :class:`~napari_hrstem_defects.widgets.worker.Monitor`; asks it often whether to stop.
    returned : callable
        Takes the result, None or a :class:`Failure` in the GUI's thread; not called after `quit`.
    progressed, reported : callable, optional
        Takes text and fraction of each progress; takes whatever else the task reports.
    """

    def __init__(
        self,
        task: Callable[[Monitor], Any],
        returned: Callable[[Any], None],
        progressed: Callable[[str, float], None] | None = None,
        reported: Callable[[Any], None] | None = None,
    ) -> None:
        super().__init__(SignalsClass=_Signals)
        self._task = task
        self.returned.connect(returned)
        for signal, slot in ((self.progressed, progressed), (self.reported, reported)):
            if slot is not None:
                signal.connect(slot)
        self.start()

    def work(self) -> Any:
        """Do the task; called in the thread."""
        monitor = Monitor(
            self.signals.progressed.emit, lambda: self.abort_requested, self.signals.reported.emit
        )
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
