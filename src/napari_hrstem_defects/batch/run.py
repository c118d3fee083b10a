"""Analyse many files into one folder."""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import os
import shutil
from collections.abc import Callable, Generator, Iterable, Sequence
from pathlib import Path

from napari_hrstem_defects.batch import workers
from napari_hrstem_defects.batch.inputs import find_inputs, result_names
from napari_hrstem_defects.batch.summary import Row, Summary
from napari_hrstem_defects.batch.task import Task
from napari_hrstem_defects.core.errors import ReadError, WriteError
from napari_hrstem_defects.core.recipe import Recipe
from napari_hrstem_defects.io.loading import load_info
from napari_hrstem_defects.io.saving import INFO_FILE
from napari_hrstem_defects.models.classifier import for_recipe


def analyze_files(
    named: Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    recipe: Recipe | None = None,
    *,
    best_patch: tuple[float, float] | None = None,
    pixel_size_nm: float | None = None,
    select: str | None = None,
    jobs: int = 1,
    scheduler: str | None = None,
    overwrite: bool = False,
    progress: Callable[[float, str], None] | None = None,
    finished: Callable[[Row], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> list[Row]:
    """Analyse files, folders and patterns, mixed, and write ``out/<stem>/`` for each image and ``out/summary.csv``.

    A result that is there already and was made from the same pixels with the same recipe, best patch and program
    version is skipped; one that was made otherwise is replaced. A file that cannot be analysed becomes a row of
    the table, and the others go on.

    Parameters
    ----------
    named : iterable of path-like
        See :func:`~napari_hrstem_defects.batch.inputs.find_inputs`.
    out : path-like
        Made if missing.
    recipe : Recipe, optional
    best_patch : tuple of float, optional
        ``(y, x)`` in pixels, for every image and frame; default: chosen for each.
    pixel_size_nm : float, optional
        Instead of what the files say.
    select : str, optional
        Number (from 1) or title of the data set to analyse, in files that hold several; default: the largest image.
    jobs : int
        Local processes.
    scheduler : str, optional
        Address of a running dask scheduler, whose workers see the same files; `jobs` is not looked at then.
    overwrite : bool
        Analyse again what is there already.
    progress : callable, optional
        Called as ``progress(fraction, text)``, 0...1 of all.
    finished : callable, optional
        Called with the row of each image as it is finished.
    cancelled : callable, optional
        Asked often; as soon as it returns True the batch stops.

    Returns
    -------
    list of Row
        In the order of the inputs; what was not finished has the status ``cancelled``.

    Raises
    ------
    WriteError
        If `out` cannot be written.
    HrstemDefectsError
        If there is no scheduler at the address, or the recipe's trained classifier cannot be used.
    KeyboardInterrupt
        After an interrupt; the table is written and nothing is left half done.
    """
    out, recipe = Path(out), recipe or Recipe()
    # Once, before anything begins: a classifier that cannot be used fails every image.
    classifier = for_recipe(recipe)
    tasks = [
        dataclasses.replace(task, classifier=classifier)
        for task in _tasks(named, out, recipe, best_patch, pixel_size_nm, select, overwrite)
    ]
    summary = Summary(out)
    rows: dict[str, Row] = {}
    try:
        with contextlib.closing(_run(tasks, jobs, scheduler, progress, cancelled)) as stream:
            for row in stream:
                rows[row.name] = row
                summary.add([row])
                if finished is not None:
                    finished(row)
                if progress is not None:
                    progress(len(rows) / len(tasks), f"{len(rows)} of {len(tasks)}")
    finally:
        # Nothing is lost of the table, whatever ended the loop.
        rest = [task.row("cancelled", "not analysed") for task in tasks if task.name not in rows]
        summary.add(rest)
        rows.update((row.name, row) for row in rest)
    return [rows[task.name] for task in tasks]


def _run(
    tasks: Sequence[Task],
    jobs: int,
    scheduler: str | None,
    progress: Callable[[float, str], None] | None,
    cancelled: Callable[[], bool] | None,
) -> Generator[Row, None, None]:
    if scheduler is not None:
        return workers.run_on_cluster(tasks, scheduler, cancelled)
    if jobs > 1 and len(tasks) > 1:
        return workers.run_in_processes(tasks, jobs, cancelled)
    return workers.run_here(tasks, progress, cancelled)


def _tasks(
    named: Iterable[str | os.PathLike[str]],
    out: Path,
    recipe: Recipe,
    best_patch: tuple[float, float] | None,
    pixel_size_nm: float | None,
    select: str | None,
    overwrite: bool,
) -> list[Task]:
    sources = find_inputs(named)
    make_folder(out)
    names = result_names([source.path for source in sources], lambda name: _owner(out / name))
    for name in names:
        # Left by a batch that was killed.
        for leftover in out.glob(f".{glob.escape(name)}.*.partial"):
            shutil.rmtree(leftover, ignore_errors=True)
    return [
        Task(source, name, out.absolute(), recipe, best_patch, pixel_size_nm, select, overwrite)
        for source, name in zip(sources, names, strict=True)
    ]


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


def _owner(folder: Path) -> str | None:
    """Path of the input whose result lies in a folder."""
    if not (folder / INFO_FILE).is_file():
        return None
    try:
        path: str | None = load_info(folder / INFO_FILE)["input"]["path"]
    except ReadError:
        return None
    return path
