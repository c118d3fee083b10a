"""Where tasks run: here, in local processes, on a dask cluster. Each function yields rows as they come."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # numpy must not be imported before a worker has limited its threads
    from napari_hrstem_defects.batch.summary import Row
    from napari_hrstem_defects.batch.task import Task

#: How often (s) a caller who wants to stop is asked.
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

Cancelled = Callable[[], bool]
Progress = Callable[[float, str], None]


def run_here(
    tasks: Sequence[Task], progress: Progress | None, cancelled: Cancelled | None
) -> Generator[Row, None, None]:
    """One after the other in this process; `progress` gets the fraction of all and what is going on."""
    from napari_hrstem_defects.batch.task import run_task

    for index, task in enumerate(tasks):
        if cancelled is not None and cancelled():
            return
        yield run_task(
            task, None if progress is None else _overall(progress, task, index, len(tasks)), cancelled
        )


def _overall(progress: Progress, task: Task, index: int, count: int) -> Progress:
    def report(fraction: float, step: str) -> None:
        progress((index + fraction) / count, f"{task.source.path.name}: {step}")

    return report


def run_in_processes(
    tasks: Sequence[Task], jobs: int, cancelled: Cancelled | None
) -> Generator[Row, None, None]:
    """Several at a time in local processes that share the processors evenly."""
    unfinished = dict(enumerate(tasks))
    try:
        for index, row in _pool(unfinished, jobs, cancelled):
            del unfinished[index]
            yield row
    except BrokenProcessPool:
        # The system ended a process, mostly for want of memory, and which image was too large for it is unknown:
        # what is left goes through a process of its own.
        for index, task in list(unfinished.items()):
            try:
                yield from (row for _, row in _pool({index: task}, 1, cancelled))
            except BrokenProcessPool:
                yield task.row(
                    "failed",
                    f"{task.source.path}: the process that analysed it was ended by the system, mostly for want of "
                    "memory; crop or bin the image, or use fewer jobs.",
                )


def _pool(
    tasks: dict[int, Task], jobs: int, cancelled: Cancelled | None
) -> Generator[tuple[int, Row], None, None]:
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    jobs = min(jobs, len(tasks))
    threads = max(1, (os.cpu_count() or 1) // jobs)
    pool = ProcessPoolExecutor(jobs, context, initializer=_prepare, initargs=(stop, threads))
    try:
        running: dict[Future[Row], int] = {pool.submit(_work, task): index for index, task in tasks.items()}
        while running:
            done, _ = wait(running, _POLL_S, FIRST_COMPLETED)
            for future in done:
                index = running.pop(future)
                if not future.cancelled():
                    yield index, future.result()
            if cancelled is not None and cancelled():
                # What runs notices within a moment and cleans up after itself.
                stop.set()
                for future in running:
                    future.cancel()
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


_stop: Any = None


def _prepare(stop: Any, threads: int) -> None:
    """Set up a worker process."""
    global _stop
    _stop = stop
    # An interrupt from the keyboard reaches all processes; the parent tells the workers what to do.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, str(threads)))


def _work(task: Task) -> Row:
    from napari_hrstem_defects.batch.task import run_task

    return run_task(task, cancelled=_stop.is_set)


def run_on_cluster(
    tasks: Sequence[Task], address: str, cancelled: Cancelled | None
) -> Generator[Row, None, None]:
    """On the workers of a running dask cluster, which must see the same files under the same paths."""
    from distributed import Client

    from napari_hrstem_defects.batch.task import internal_error, run_task
    from napari_hrstem_defects.core.errors import HrstemDefectsError

    try:
        # Not the default: this is no business of other dask arrays in the process.
        client = Client(address, timeout=_SCHEDULER_TIMEOUT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise HrstemDefectsError(
            f"{address}: no dask scheduler answers there; start one with `dask scheduler` or check the address."
        ) from error
    with client:
        running = {client.submit(run_task, task, pure=False): task for task in tasks}
        try:
            while running:
                done = [future for future in running if future.done()]
                if not done:
                    time.sleep(_POLL_S)
                for future in done:
                    task = running.pop(future)
                    failure = future.exception()
                    if failure is None:
                        yield future.result()
                    else:
                        yield task.row("failed", internal_error(failure, task.source.path))
                if cancelled is not None and cancelled():
                    return
        finally:
            client.cancel(list(running))
