"""Where tasks run: executors of this process, of local processes and of a dask cluster."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import connection
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # numpy must not be imported before a worker has limited its threads
    from napari_hrstem_defects.batch.task import Task

#: How long (s) a worker may take to stop when asked, and a cluster be without workers before a warning.
_GRACE_S, _ALONE_S = 2.5, 30
#: After which more time (s) workers are ended that did not do so.
_MORE_GRACE_S = 1.0
#: How often (s) workers look whether to stop.
_POLL_S = 0.2
#: How long (s) a scheduler may take to answer.
_SCHEDULER_TIMEOUT_S = 10
#: How many tasks at a time a cluster gets for the parts of one image: its workers come and go.
_CLUSTER_SHARE = 32
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)

Cancelled = Callable[[], bool]
#: ``report(path of the input, fraction, text)``.
Report = Callable[[str, float, str], None]


@dataclass(frozen=True)
class Workers:
    """An executor and how to use it.

    Attributes
    ----------
    executor : concurrent.futures.Executor
    run : callable
        ``run(task)``, as :func:`~napari_hrstem_defects.batch.task.run_task` there.
    asked : callable
        To be called often; whether to stop. Raises if the workers are lost.
    share : int
        How many work at the parts of one image.
    ahead : int
        How many tasks are submitted at a time.
    listen : callable
        To be called often, and before a result is taken: passes on what the workers reported.
    """

    executor: Executor
    run: Callable[[Task], Any]
    asked: Cancelled
    share: int
    ahead: int
    listen: Callable[[], None] = lambda: None


@contextlib.contextmanager
def here(report: Report, cancelled: Cancelled) -> Iterator[Workers]:
    """One task after the other in this process."""
    from dask.local import synchronous_executor

    from napari_hrstem_defects.batch.task import run_task

    def run(task: Task) -> Any:
        return run_task(task, functools.partial(report, task.path), cancelled)

    yield Workers(synchronous_executor, run, cancelled, share=1, ahead=1)


@contextlib.contextmanager
def processes(jobs: int, report: Report, cancelled: Cancelled) -> Iterator[Workers]:
    """Local processes that share the processors evenly and end with this one."""
    context = multiprocessing.get_context("spawn")
    stop, reports = context.Event(), context.SimpleQueue()
    threads = max(1, (os.cpu_count() or 1) // jobs)
    pool = ProcessPoolExecutor(
        jobs, context, initializer=_prepare, initargs=(stop, reports, threads, jobs == 1)
    )
    others, since = set(multiprocessing.active_children()), None

    def asked() -> bool:
        nonlocal since
        if since is None:
            if not cancelled():
                return False
            since = time.monotonic()
            stop.set()
        # Workers end by themselves, except where the code of a library never returns to Python.
        if time.monotonic() - since > _GRACE_S + _MORE_GRACE_S:
            for worker in set(multiprocessing.active_children()) - others:
                worker.kill()
        return True

    def listen() -> None:
        # Not after some may have been ended in the middle of a report.
        while since is None and not reports.empty():
            report(*reports.get())

    try:
        yield Workers(pool, _work, asked, share=jobs, ahead=2 * jobs, listen=listen)
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


# In a worker: whether to stop, where reports go, whether there are others.
_stop: Any = None
_reports: Any = None
_alone = False


def _prepare(stop: Any, reports: Any, threads: int, alone: bool) -> None:
    """Set up a worker process."""
    global _stop, _reports, _alone
    _stop, _reports, _alone = stop, reports, alone
    # Signals reach all processes of a group; the parent stops the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, str(threads)))
    threading.Thread(target=_watch, args=(stop,), daemon=True).start()


def _watch(stop: Any) -> None:
    """End this process with its parent, or when it does not stop in time."""
    parent = multiprocessing.parent_process()
    asked = None
    while parent is not None and not connection.wait([parent.sentinel], _POLL_S):
        if stop.is_set():
            asked = time.monotonic() if asked is None else asked
            if time.monotonic() - asked > _GRACE_S:
                break
    os._exit(1)


def _work(task: Task) -> Any:
    from napari_hrstem_defects.batch.task import run_task

    def progress(share: float, text: str) -> None:
        _reports.put((task.path, share, text))

    # How far one of several is at the parts of an image says nothing.
    told = _alone or task.stage != "work"
    return run_task(task, progress if told else None, _stop.is_set)


@contextlib.contextmanager
def cluster(
    address: str, timeout_s: float, notify: Callable[[str], None] | None, cancelled: Cancelled
) -> Iterator[Workers]:
    """The workers of a running dask cluster, which must see the same files under the same paths.

    Raises
    ------
    HrstemDefectsError
        If there is no scheduler at the address, or it or its workers are gone.
    """
    from distributed import Client, Security
    from distributed.comm import connect

    from napari_hrstem_defects.batch.task import run_task
    from napari_hrstem_defects.errors import HrstemDefectsError

    async def knock() -> None:
        options = Security().get_connection_args("client")
        await (await connect(address, timeout=_SCHEDULER_TIMEOUT_S, **options)).close()

    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # a lost connection costs one line, ours
    try:
        # A client that finds nobody tries for 20 s to tell them that it goes, and ends with a traceback.
        asyncio.run(knock())
        # Not the default: other dask arrays in the process do not use it.
        client = Client(address, timeout=_SCHEDULER_TIMEOUT_S, set_as_default=False)
    except (OSError, ValueError, TypeError, ImportError, MemoryError) as error:  # or another program
        raise HrstemDefectsError(
            f"{address}: no dask scheduler answers there; start one with `dask scheduler` or check the address."
        ) from error
    alone_since, warned = None, False

    def asked() -> bool:
        nonlocal alone_since, warned
        if client.status != "running":
            raise HrstemDefectsError(
                f"{address}: the dask scheduler is gone; the same command, run again, continues from here."
            )
        workers = client.scheduler_info(n_workers=1)["workers"]
        alone_since = None if workers else alone_since or time.monotonic()
        waited = 0.0 if alone_since is None else time.monotonic() - alone_since
        if waited > timeout_s:
            raise HrstemDefectsError(
                f"{address}: the dask cluster has had no worker for {timeout_s:g} s; start some and run the same "
                "command again."
            )
        if waited > _ALONE_S and notify is not None and not warned:
            warned = True
            notify(f"{address}: the dask cluster has no worker; waiting for up to {timeout_s:g} s.")
        return cancelled()

    with client:
        executor = client.get_executor(pure=False)
        try:
            yield Workers(executor, run_task, asked, _CLUSTER_SHARE, ahead=1 << 30)
        finally:
            executor.shutdown(wait=False)
