"""Analyse many files into one folder."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from napari_hrstem_defects.batch import workers
from napari_hrstem_defects.batch.inputs import find_inputs, result_names
from napari_hrstem_defects.batch.locks import locked
from napari_hrstem_defects.batch.series import Placement
from napari_hrstem_defects.batch.summary import Row, Summary
from napari_hrstem_defects.batch.task import Task, clear, owner
from napari_hrstem_defects.core.errors import Cancelled, ReadError, WriteError
from napari_hrstem_defects.core.recipe import Recipe
from napari_hrstem_defects.io.reading import choose, data_sets
from napari_hrstem_defects.models.classifier import for_recipe


def analyze_files(
    named: Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    recipe: Recipe | None = None,
    *,
    best_patch: Placement = None,
    frame_time_s: float | None = None,
    tile_px: int | None = None,
    pixel_size_nm: float | None = None,
    select: str | None = None,
    memory_share: float = 0.25,
    jobs: int = 1,
    scheduler: str | None = None,
    timeout_s: float = 300.0,
    overwrite: bool = False,
    progress: Callable[[float, str], None] | None = None,
    finished: Callable[[Row], None] | None = None,
    notify: Callable[[str], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
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
    best_patch : tuple of float or FromFrame, optional
        ``(y, x)`` in pixels, for every image and frame; or the one of one frame of a series for all of them; default:
        chosen for each.
    frame_time_s : float, optional
        Time from frame to frame of a series, for growth rates per second.
    tile_px : int, optional
        Edge of the tiles that larger images are done in, 0 for none; default: 3072 for sides of more than 8192.
    pixel_size_nm : float, optional
        Instead of that in the files.
    select : str, optional
        Number (from 1) or title of the data set to analyse, in files that hold several; default: the largest image.
    memory_share : float
        Largest share of the machine's memory that an image may take.
    jobs : int
        Local processes.
    scheduler : str, optional
        Address of a running dask scheduler, whose workers see the same files; `jobs` is ignored then.
    timeout_s : float
        How long to wait, s, while the cluster has no worker.
    overwrite : bool
        Analyse again what is there already.
    progress : callable, optional
        Called as ``progress(fraction, text)``, 0...1 of all.
    finished : callable, optional
        Called with the row of each image as it is finished.
    notify : callable, optional
        Called with a sentence while the batch waits for workers.
    cancelled : callable, optional
        Called often; as soon as it returns True the batch stops.

    Returns
    -------
    list of Row
        In the order of the inputs; what was not finished has the status ``cancelled``.

    Raises
    ------
    WriteError
        If `out` cannot be written.
    HrstemDefectsError
        If there is no scheduler at the address, it or its workers are gone, or the recipe's trained classifier cannot
        be used.
    KeyboardInterrupt
        After an interrupt; the table is written and nothing is left half done.
    """
    out, recipe = Path(out), recipe or Recipe()
    # Once, before anything begins: a classifier that cannot be used fails every image.
    classifier = for_recipe(recipe)
    sources = find_inputs(named)
    make_folder(out)
    names = result_names([source.path for source in sources], lambda name: owner(out / name))
    tasks = [
        Task(
            source,
            name,
            out.absolute(),
            recipe,
            best_patch=best_patch,
            frame_time_s=frame_time_s,
            tile_px=tile_px,
            pixel_size_nm=pixel_size_nm,
            select=select,
            memory_share=memory_share,
            overwrite=overwrite,
            classifier=classifier,
        )
        for source, name in zip(sources, names, strict=True)
    ]
    summary = Summary(out)
    rows: dict[str, Row] = {}
    try:
        if scheduler is not None:
            running = workers.run_on_cluster(tasks, scheduler, timeout_s, progress, notify, cancelled)
        elif (busy := _at_once(tasks, jobs)) > 1:
            running = workers.run_in_processes(tasks, busy, progress, cancelled)
        else:
            running = workers.run_here(tasks, progress, cancelled)
        with contextlib.closing(running) as stream:
            for row in stream:
                rows[row.path] = row
                summary.add([row])
                if finished is not None:
                    finished(row)
                if progress is not None:
                    progress(len(rows) / len(tasks), f"{len(rows)} of {len(tasks)}")
    finally:
        # The table is complete however the loop ended.
        for task in tasks:
            row = task.row("cancelled", "not analysed")
            rows.setdefault(row.path, row)
            if not rows[row.path].ok:
                # A process that was killed cleans nothing up.
                with (
                    contextlib.suppress(WriteError, Cancelled),
                    locked(out / f".{task.name}.lock", lambda: True),
                ):
                    clear(out, task.name)
        summary.add(row for row in rows.values() if row.status == "cancelled")
    return [rows[task.row("done").path] for task in tasks]


def _at_once(tasks: Sequence[Task], jobs: int) -> int:
    """Processes that there is work for: images and frames of series."""
    if len(tasks) >= jobs:
        return jobs
    frames = 0
    for task in tasks:
        with contextlib.suppress(ReadError):
            found = data_sets(task.source.path)
            shape = found[choose(task.source.path, found, task.select)].shape
            frames += 1 if len(shape) < 3 else shape[0]
    return min(jobs, max(len(tasks), frames))


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
