"""Analyse many files into one folder."""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from napari_hrstem_defects.batch import workers
from napari_hrstem_defects.batch.inputs import find_inputs, result_names
from napari_hrstem_defects.batch.locks import locked
from napari_hrstem_defects.batch.options import Options
from napari_hrstem_defects.batch.summary import Row, Summary
from napari_hrstem_defects.batch.task import Shared, Task, clear, internal_error, owner
from napari_hrstem_defects.core.recipe import Recipe
from napari_hrstem_defects.errors import WriteError
from napari_hrstem_defects.io.ome import check_image_format
from napari_hrstem_defects.models.classifier import for_recipe

#: How often (s) workers are looked after, and what is done of a series is written into the table.
_POLL_S, _LOOK_S = 0.2, 1.0


def analyze_files(
    named: Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    recipe: Recipe | None = None,
    *,
    jobs: int = 1,
    isolated: bool = False,
    scheduler: str | None = None,
    timeout_s: float = 300.0,
    progress: Callable[[float, str], None] | None = None,
    finished: Callable[[Row], None] | None = None,
    notify: Callable[[str], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
    **options: Any,
) -> list[Row]:
    """Analyse files, folders and patterns, mixed, and write ``out/<stem>/`` for each image and ``out/summary.csv``.

    A result that is there already and was made from the same pixels with the same recipe, best patch and program
    version is skipped; one that was made otherwise is replaced. A file that cannot be analysed becomes a row of
    the table, and the others continue.

    Parameters
    ----------
    named : iterable of path-like
        See :func:`~napari_hrstem_defects.batch.inputs.find_inputs`.
    out : path-like
        Made if missing.
    recipe : Recipe, optional
    jobs : int
        Local processes; a single one is this one.
    isolated : bool
        Use another process even for a single job: the batch then stops also where a library does not return.
    scheduler : str, optional
        Address of a running dask scheduler, whose workers see the same files; `jobs` is ignored then.
    timeout_s : float
        How long to wait, s, while the cluster has no worker.
    progress : callable, optional
        Called as ``progress(fraction, text)``, 0...1 of all.
    finished : callable, optional
        Called with the row of each image as it is finished.
    notify : callable, optional
        Called with a sentence while the batch waits for workers.
    cancelled : callable, optional
        Called often; as soon as it returns True the batch stops.
    **options
        See :class:`~napari_hrstem_defects.batch.options.Options`.

    Returns
    -------
    list of Row
        In the order of the inputs; what was not finished has the status ``cancelled``.

    Raises
    ------
    WriteError
        If `out` cannot be written, or the image format is not available.
    HrstemDefectsError
        If there is no scheduler at the address, it or its workers are gone, or the recipe's trained classifier cannot
        be used.
    KeyboardInterrupt
        After an interrupt; the table is written and nothing is left half done.
    """
    out, recipe, asked = Path(out), recipe or Recipe(), Options(**options)
    # Once, before anything begins: a classifier that cannot be used fails every image.
    classifier = for_recipe(recipe)
    check_image_format(asked.image_format)
    sources = find_inputs(named)
    make_folder(out)
    names = result_names([source.path for source in sources], lambda name: owner(out / name))
    tasks = [
        Task(source, name, out.absolute(), recipe, asked, classifier)
        for source, name in zip(sources, names, strict=True)
    ]
    batch = _Batch(tasks, Summary(out), progress, finished)
    stop = cancelled or (lambda: False)
    try:
        if scheduler is not None:
            batch.run(workers.cluster(scheduler, timeout_s, notify, stop))
        elif jobs > 1 or isolated:
            batch.run_in_processes(jobs, stop)
        else:
            batch.run(workers.here(batch.report, stop))
    finally:
        batch.close()
    return batch.rows


class _Batch:
    """Many files, what became of each, and who is told.

    Parameters
    ----------
    tasks : sequence of Task
    summary : Summary
    progress, finished : callable or None
        See :func:`analyze_files`.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        summary: Summary,
        progress: Callable[[float, str], None] | None,
        finished: Callable[[Row], None] | None,
    ) -> None:
        self._tasks = {task.path: task for task in tasks}
        self._summary, self._progress, self._finished = summary, progress, finished
        # By the path of the input: what became of it; of what is at work the fraction that is done, the plan, and the
        # number of tasks that are to be run before it can be finished.
        self._rows: dict[str, Row] = {}
        self._fractions: dict[str, float] = {}
        self._shared: dict[str, Shared] = {}
        self._left: Counter[str] = Counter()
        self._planned: dict[str, float] = {}
        self._looked = 0.0

    @property
    def rows(self) -> list[Row]:
        """In the order of the tasks."""
        return [self._rows[path] for path in self._tasks]

    def run_in_processes(self, jobs: int, cancelled: Callable[[], bool]) -> None:
        """Run all in local processes, also if the system ends one of them."""
        try:
            self.run(workers.processes(jobs, self.report, cancelled))
        except BrokenProcessPool:
            # Usually for lack of memory, and which image was too large is unknown: what is left goes through a process
            # of its own.
            for path, task in self._tasks.items():
                if path in self._rows or cancelled():
                    continue
                try:
                    self.run(workers.processes(1, self.report, cancelled), [task])
                except BrokenProcessPool:
                    message = (
                        f"{task.source.path}: the process that analysed it was ended by the system, usually for lack "
                        "of memory; crop or bin the image, or use fewer jobs."
                    )
                    self._finish(task.row("failed", message))

    def run(
        self, opened: AbstractContextManager[workers.Workers], tasks: Iterable[Task] | None = None
    ) -> None:
        """Run tasks, by default all, on some workers; the parts of an image are shared out to them."""
        waiting = deque(self._tasks.values() if tasks is None else tasks)
        running: dict[Future[Row | Shared | None], Task] = {}
        self._fractions.clear()
        self._shared.clear()
        with opened as on:
            while True:
                # Once more at the end: a scheduler that goes cancels what runs.
                if on.asked():
                    waiting.clear()
                    for future in running:
                        future.cancel()
                if not waiting and not running:
                    return
                while waiting and len(running) < on.ahead:
                    task = waiting.popleft()
                    if task.path not in self._rows:
                        running[on.executor.submit(on.run, task)] = task
                done = wait(running, _POLL_S, FIRST_COMPLETED).done
                on.listen()
                for future in done:
                    task = running.pop(future)
                    if not future.cancelled() and task.path not in self._rows:
                        waiting.extendleft(reversed(self._next(task, future, on.share)))
                self._look()

    def _next(self, task: Task, future: Future[Row | Shared | None], share: int) -> list[Task]:
        """Take over what a task gave; what is to be done next."""
        failure = future.exception()
        if failure is not None and (
            isinstance(failure, BrokenProcessPool) or not isinstance(failure, Exception)
        ):
            raise failure
        found = task.row("failed", internal_error(failure, task.source.path)) if failure else future.result()
        if isinstance(found, Row):
            self._finish(found)
            return []
        if isinstance(found, Shared):
            self._shared[task.path] = found
            self._planned[task.path] = time.monotonic() - (found.seconds or 0)
            self._fractions.pop(task.path, None)
            self._looked = 0.0
            share = min(share, found.parts)
            self._left[task.path] = share
            return [replace(found.task, stage="work", begin=k / share) for k in range(share)]
        self._left[task.path] -= 1
        self._looked = 0.0
        return [] if self._left[task.path] else [replace(task, stage="finish")]

    def _finish(self, row: Row) -> None:
        path = row.path
        if path in self._shared:
            if row.status == "cancelled":
                row = self._running(path, "cancelled")
            row = replace(row, seconds=round(time.monotonic() - self._planned[path], 3))
        self._rows[path] = row
        self._fractions.pop(path, None)
        self._summary.add([row])
        if self._finished is not None:
            self._finished(row)
        if self._progress is not None:
            self._progress(len(self._rows) / len(self._tasks), f"{len(self._rows)} of {len(self._tasks)}")

    def report(self, path: str, fraction: float, text: str) -> None:
        """Tell how much of an image is done."""
        self._tell(path, fraction, text)
        self._look()

    def _tell(self, path: str, fraction: float, text: str) -> None:
        # Of a series several tell.
        if path in self._rows or fraction < self._fractions.get(path, 0.0):
            return
        self._fractions[path] = fraction
        if self._progress is not None:
            done = (len(self._rows) + sum(self._fractions.values())) / len(self._tasks)
            self._progress(done, f"{self._tasks[path].source.path.name}: {text}")

    def _look(self) -> None:
        """Write into the table what is done of series and large images, by this run and others, every second."""
        at_work = [path for path in self._shared if path not in self._rows]
        if not at_work or time.monotonic() - self._looked < _LOOK_S:
            return
        self._looked = time.monotonic()
        self._summary.add(self._running(path, "running") for path in at_work)

    def _running(self, path: str, status: str) -> Row:
        """Row of a series or large image that is not finished."""
        shared = self._shared[path]
        done, total = shared.done(), shared.parts
        self._tell(path, done / total, f"{shared.part} {done} of {total}")
        text = f"{done} of {total} {shared.part}s analysed"
        frames = {"frames_done": done, "frames": total} if shared.part == "frame" else {}
        return shared.task.row(status, text, **frames)

    def close(self) -> None:
        """Complete the table, however the batch ended."""
        for path, task in self._tasks.items():
            if path not in self._rows:
                shared = path in self._shared
                self._rows[path] = (
                    self._running(path, "cancelled") if shared else task.row("cancelled", "not analysed")
                )
            if not self._rows[path].ok:
                # A process that was killed cleans nothing up.
                name = self._rows[path].name
                with (
                    contextlib.suppress(WriteError),
                    locked(task.out / f".{name}.lock", wait=False) as ours,
                ):
                    if ours:
                        clear(task.out, name)
        self._summary.add(row for row in self._rows.values() if row.status == "cancelled")


def make_folder(folder: Path) -> None:
    """Make a folder for results if it is missing.

    Raises
    ------
    WriteError
        If it cannot be made or written into.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(
            f"{folder}: the folder cannot be made ({error.strerror}); choose another place for the results."
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise WriteError(f"{folder}: there is no permission to write; choose another place for the results.")
