"""Where tasks run: here, in local processes, on a dask cluster. Each function yields rows as they come."""

from __future__ import annotations

import asyncio
import importlib
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from multiprocessing import connection
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # numpy must not be imported before a worker has limited its threads
    from napari_hrstem_defects.batch.summary import Row
    from napari_hrstem_defects.batch.task import Parts, Task

#: How long (s) a worker may take to stop when asked, and a cluster be without workers before a warning.
_GRACE_S, _ALONE_S = 2.5, 30
#: After which more time (s) workers are ended that did not do so.
_MORE_GRACE_S = 1.0
#: How often (s) the caller is asked whether to stop.
_POLL_S = 0.2
#: How long (s) a scheduler may take to answer.
_SCHEDULER_TIMEOUT_S = 10
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)

# What takes long to import and is used at the end of a series only, by one of the workers.
_USED_AT_THE_END = (
    "napari_hrstem_defects.batch.task",
    "napari_hrstem_defects.io.figure",
    "scipy.stats",
)

Cancelled = Callable[[], bool]
Progress = Callable[[float, str], None]


def run_here(
    tasks: Sequence[Task], progress: Progress | None, cancelled: Cancelled | None
) -> Generator[Row, None, None]:
    """One after the other in this process; `progress` gets the fraction of all and what is going on."""
    from napari_hrstem_defects.batch.summary import Row
    from napari_hrstem_defects.batch.task import run_task

    for index, task in enumerate(tasks):
        if cancelled is not None and cancelled():
            return
        report = None if progress is None else _overall(progress, task, index, len(tasks))
        row = run_task(task, report, cancelled)
        assert isinstance(row, Row)  # nothing is shared out here
        yield row


def _overall(progress: Progress, task: Task, index: int, count: int) -> Progress:
    def report(fraction: float, step: str) -> None:
        progress((index + fraction) / count, f"{task.source.path.name}: {step}")

    return report


def run_in_processes(
    tasks: Sequence[Task], jobs: int, progress: Progress | None, cancelled: Cancelled | None
) -> Generator[Row, None, None]:
    """Several at a time in local processes that share the processors evenly, of a series several frames."""
    unfinished = dict(enumerate(tasks))
    try:
        for index, row in _pool(unfinished, jobs, progress, cancelled):
            del unfinished[index]
            yield row
    except BrokenProcessPool:
        # The system ended a process, usually for lack of memory, and which image was too large for it is unknown:
        # what is left goes through a process of its own.
        for index, task in list(unfinished.items()):
            if cancelled is not None and cancelled():
                return
            try:
                yield from (row for _, row in _pool({index: task}, 1, progress, cancelled))
            except BrokenProcessPool:
                yield task.row(
                    "failed",
                    f"{task.source.path}: the process that analysed it was ended by the system, usually for lack of "
                    "memory; crop or bin the image, or use fewer jobs.",
                )


def _pool(
    tasks: dict[int, Task], jobs: int, progress: Progress | None, cancelled: Cancelled | None
) -> Generator[tuple[int, Row], None, None]:
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    threads = max(1, (os.cpu_count() or 1) // jobs)
    pool = ProcessPoolExecutor(jobs, context, initializer=_prepare, initargs=(stop, threads))
    others, since = set(multiprocessing.active_children()), None

    def asked() -> bool:
        nonlocal since
        if cancelled is None or not cancelled():
            return False
        stop.set()
        since = since or time.monotonic()
        # Workers end by themselves, except where the code of a library never returns to Python.
        if time.monotonic() - since > _GRACE_S + _MORE_GRACE_S:
            for worker in set(multiprocessing.active_children()) - others:
                worker.kill()
        return True

    def when_idle() -> None:
        for _ in range(jobs):
            pool.submit(_import)

    try:
        yield from _rows(tasks, lambda task: pool.submit(_work, task), jobs > 1, asked, progress, when_idle)
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


def _rows(
    tasks: dict[int, Task],
    submit: Callable[[Task], Future[Any]],
    split: bool,
    asked: Callable[[], bool],
    progress: Progress | None,
    when_idle: Callable[[], None] = lambda: None,
) -> Iterator[tuple[int, Row]]:
    """Rows as they come, series shared out (`split`); what has not begun when `asked` gives True is cancelled.

    `when_idle` is called after submitting, for what workers can do while there is no task for them.
    """
    from napari_hrstem_defects.batch.task import Parts, internal_error

    running = {
        submit(replace(task, split=split)): (index, replace(task, split=split))
        for index, task in tasks.items()
    }
    when_idle()
    at_work: dict[int, tuple[Parts, int, float]] = {}
    finished: set[int] = set()
    while running:
        for future in wait(running, _POLL_S, FIRST_COMPLETED).done:
            index, task = running.pop(future)
            if future.cancelled() or index in finished:
                continue
            failure = future.exception()
            if isinstance(failure, BrokenProcessPool):
                raise failure
            found = (
                task.row("failed", internal_error(failure, task.source.path)) if failure else future.result()
            )
            if isinstance(found, Parts):
                at_work[index] = found, len(found.tasks), time.monotonic() - found.seconds
                running |= {submit(part): (index, part) for part in found.tasks}
                when_idle()
                continue
            if found is None:
                parts, left, begin = at_work[index]
                at_work[index] = parts, left - 1, begin
                if progress is not None:
                    share = 1 - (left - 1) / len(parts.tasks)
                    text = f"frame {round(share * parts.frames)} of {parts.frames}"
                    progress((len(finished) + share) / len(tasks), f"{task.source.path.name}: {text}")
                if left == 1:
                    whole = tasks[index]
                    running[submit(whole)] = index, whole
                continue
            finished.add(index)
            if index in at_work:
                found = replace(found, seconds=round(time.monotonic() - at_work[index][2], 3))
            yield index, found
        if asked():
            for future in running:
                future.cancel()


_stop: Any = None


def _prepare(stop: Any, threads: int) -> None:
    """Set up a worker process."""
    global _stop
    _stop = stop
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


def _import() -> None:
    for name in _USED_AT_THE_END:
        importlib.import_module(name)


def _work(task: Task) -> Row | Parts | None:
    from napari_hrstem_defects.batch.task import run_task

    return run_task(task, cancelled=_stop.is_set)


def run_on_cluster(
    tasks: Sequence[Task],
    address: str,
    timeout_s: float,
    progress: Progress | None,
    notify: Callable[[str], None] | None,
    cancelled: Cancelled | None,
) -> Generator[Row, None, None]:
    """On the workers of a running dask cluster, which must see the same files under the same paths."""
    from distributed import Client, Security
    from distributed.comm import connect

    from napari_hrstem_defects.batch.task import run_task
    from napari_hrstem_defects.core.errors import HrstemDefectsError

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
        return cancelled is not None and cancelled()

    with client:
        executor = client.get_executor(pure=False)
        try:
            unfinished = dict(enumerate(tasks))
            rows = _rows(unfinished, lambda task: executor.submit(run_task, task), True, asked, progress)
            for _, row in rows:
                yield row
                if cancelled is not None and cancelled():
                    return
        finally:
            executor.shutdown(wait=False)
