"""A process of its own for Keras, kept alive between calls.

TensorFlow and the software renderer of many Linux desktops bring each other down in one process (both load a
compiler under the same names), and training shares no interpreter lock with a window that is to stay alive. So a
program with a window never imports Keras itself: it calls functions in a *spawned* child.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from types import ModuleType, TracebackType
from typing import Any

from napari_hrstem_defects.errors import Cancelled, ModelError

#: How often (s) the caller is asked whether to stop.
_POLL_S = 0.05
#: How long (s) a function that was asked to stop may take to come back before its process is ended.
GRACE_S = 1.0

Progress = Callable[..., None]


class KerasProcess:
    """Runs functions in a child process, one at a time.

    The child starts with the first call and stays, with all that it has imported and loaded, until it is closed,
    killed or the parent ends. It may be used from any thread.
    """

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._lock = threading.Lock()
        self._child: Any = None
        self._pipe: Connection | None = None
        self._stop: Any = None

    def call(
        self,
        function: Callable[..., Any],
        *args: Any,
        progress: Progress | None = None,
        cancelled: Callable[[], bool] | None = None,
        grace_s: float | Callable[[], float] = GRACE_S,
        **kwargs: Any,
    ) -> Any:
        """Run ``function(*args, **kwargs)`` in the child and wait for what it returns.

        Parameters
        ----------
        function : callable
            Of a module, so that the child can import it; arguments and result must be picklable.
        progress : callable, optional
            The function then gets a keyword `progress`; what it calls it with is passed on here, in this thread.
        cancelled : callable, optional
            Asked often. The function then gets a keyword `cancelled` of the same meaning; when it does not come
            back within `grace_s` of being asked, the child is killed.
        grace_s : float or callable
            Seconds. A callable is asked again as long as they last, for what was reported since may change them.

        Returns
        -------
        object
            What the function returned, also when it was asked to stop and returned what it had.

        Raises
        ------
        Cancelled
            If the child had to be killed, or the function raised it.
        ModelError
            If the child ended by itself.
        Exception
            Whatever the function raised.
        """
        with self._lock:
            pipe = self._ready()
            self._stop.clear()
            try:
                pipe.send((function, args, kwargs, progress is not None, cancelled is not None))
                kind, value = self._answer(pipe, progress, cancelled, grace_s)
            except (EOFError, ConnectionError) as error:
                self._end()
                raise ModelError(
                    "The process in which Keras runs was ended by the system, mostly for want of memory; use smaller "
                    "images or a smaller network, or close other programs."
                ) from error
            except BaseException:
                # The answer will not be fetched any more.
                self._end()
                raise
        if kind == "error":
            raise value
        return value

    @property
    def alive(self) -> bool:
        """Whether a child is running."""
        return self._child is not None and self._child.is_alive()

    def close(self) -> None:
        """End the child; the next call starts another."""
        with self._lock:
            self._end()

    def __enter__(self) -> KerasProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ready(self) -> Connection:
        if self._pipe is None or not self.alive:
            self._end()
            self._pipe, theirs = self._context.Pipe()
            self._stop = self._context.Event()
            # As a daemon it never outlives this process.
            child = self._context.Process(target=_serve, args=(theirs, self._stop), name="keras", daemon=True)
            with _without_script():
                child.start()
            self._child = child
            theirs.close()
        return self._pipe

    def _answer(
        self,
        pipe: Connection,
        progress: Progress | None,
        cancelled: Callable[[], bool] | None,
        grace_s: float | Callable[[], float],
    ) -> tuple[str, Any]:
        asked: float | None = None
        while True:
            if pipe.poll(_POLL_S):
                kind, value = pipe.recv()
                if kind != "progress":
                    return kind, value
                if progress is not None:
                    progress(*value)
            if asked is None and cancelled is not None and cancelled():
                self._stop.set()
                asked = time.monotonic()
            if asked is not None and time.monotonic() > asked + (grace_s() if callable(grace_s) else grace_s):
                raise Cancelled

    def _end(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.join()
            self._child.close()
        if self._pipe is not None:
            self._pipe.close()
        self._child = self._pipe = self._stop = None


@contextlib.contextmanager
def _without_script() -> Iterator[None]:
    """Hide the script that this program runs from the child, which would run it again: a second window would open."""
    script = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


def _serve(pipe: Connection, stop: Any) -> None:
    """Main loop of the child process: run the tasks it receives until the pipe is closed."""
    # An interrupt from the keyboard reaches all processes; the parent decides what becomes of this one.
    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        try:
            request = pipe.recv()
        except (EOFError, OSError):
            return
        except Exception as error:  # the function or an argument cannot be unpickled here
            pipe.send(("error", _portable(error)))
            continue
        function, args, kwargs, with_progress, with_cancelled = request
        if with_progress:
            kwargs["progress"] = lambda *values: pipe.send(("progress", values))
        if with_cancelled:
            kwargs["cancelled"] = stop.is_set
        try:
            answer = ("done", function(*args, **kwargs))
        except Exception as error:
            answer = ("error", _portable(error))
        try:
            pipe.send(answer)
        except (BrokenPipeError, ConnectionError):
            return
        except Exception as error:  # a result that cannot be pickled
            pipe.send(("error", _portable(error)))


def _portable(error: Exception) -> Exception:
    """The error with a note of where it came from, or a plain one of the same text if it does not travel."""
    trace = "".join(traceback.format_exception(error))
    try:
        copy = pickle.loads(pickle.dumps(error))
        if type(copy) is not type(error) or str(copy) != str(error):
            raise TypeError
    except Exception:
        copy = RuntimeError(f"{type(error).__name__}: {error}")
    copy.add_note(f"In the process of Keras:\n{trace}")
    return copy
