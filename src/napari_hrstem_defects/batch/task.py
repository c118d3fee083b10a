"""Analyse one file and write its result."""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_hrstem_defects.batch.inputs import Input, other_name
from napari_hrstem_defects.batch.locks import locked
from napari_hrstem_defects.batch.series import (
    PARTS,
    FromFrame,
    Placement,
    Progress,
    Series,
    placement_record,
    plausible,
    share_of_all,
)
from napari_hrstem_defects.batch.summary import Row
from napari_hrstem_defects.batch.tiles import analyze_in_tiles, tile_edge
from napari_hrstem_defects.core import pipeline
from napari_hrstem_defects.core.errors import Cancelled, HrstemDefectsError, ReadError, WriteError
from napari_hrstem_defects.core.micrograph import Micrograph
from napari_hrstem_defects.core.recipe import Recipe
from napari_hrstem_defects.io.loading import labels_sha256, load_info
from napari_hrstem_defects.io.provenance import software
from napari_hrstem_defects.io.reading import read
from napari_hrstem_defects.io.saving import FILES, INFO_FILE, ResultWriter
from napari_hrstem_defects.models.classifier import TrainedClassifier

#: Set to 1 to see where an internal error comes from.
DEBUG_VARIABLE = "HRSTEM_DEFECTS_DEBUG"


@dataclass(frozen=True)
class Task:
    """One file and what is to be done with it; travels to other processes.

    Attributes
    ----------
    source : Input
    name : str
        Folder of the result, below `out`.
    out : Path
    recipe : Recipe
    best_patch : tuple of float, FromFrame or None
        ``(y, x)`` in px, for all frames; or how it is found in a series.
    pixel_size_nm : float or None
        Instead of that in the file.
    select : str or None
        Number or title of the data set, for files that hold several.
    memory_share : float
        Largest share of the machine's memory that an image may take.
    overwrite : bool
        Analyse again even if the result is there.
    classifier : TrainedClassifier or None
        Classifier of the patches, if the recipe names a trained one. Only its file's name travels; a process reads
        the networks once.
    frame_time_s : float or None
        Time from frame to frame of a series.
    tile_px : int or None
        Edge of the tiles of large images, see :func:`~napari_hrstem_defects.batch.tiles.tile_edge`.
    split : bool
        Whether a series is to be shared out, see :class:`Parts`.
    frames : tuple of int or None
        Frames of a series that are to be analysed, and nothing else done.
    """

    source: Input
    name: str
    out: Path
    recipe: Recipe
    best_patch: Placement = None
    pixel_size_nm: float | None = None
    select: str | None = None
    memory_share: float = 0.25
    overwrite: bool = False
    classifier: TrainedClassifier | None = None
    frame_time_s: float | None = None
    tile_px: int | None = None
    split: bool = False
    frames: tuple[int, ...] | None = None

    def series(self, micrograph: Micrograph, cancelled: Callable[[], bool] | None) -> Series:
        """The series under way."""
        folder = self.out / f".{self.name}.series"
        return Series(folder, micrograph, self.recipe, self.best_patch, self.classifier, cancelled)

    def row(self, status: str, message: str = "", **values: Any) -> Row:
        """Row of the summary for this file."""
        return Row(self.name, os.path.abspath(self.source.path), status, message, **values)


@dataclass(frozen=True)
class Parts:
    """What a series was shared out to; when all are done, its task is run once more.

    Attributes
    ----------
    tasks : tuple of Task
    frames : int
        Length of the series.
    seconds : float
        Spent so far.
    """

    tasks: tuple[Task, ...]
    frames: int
    seconds: float


def run_task(
    task: Task, progress: Progress | None = None, cancelled: Callable[[], bool] | None = None
) -> Row | Parts | None:
    """Analyse one file; any error becomes a row with its message.

    Returns
    -------
    Row, Parts or None
        What became of it; what it was shared out to (`task.split`); nothing, if only some frames were to be analysed.
    """
    begin = time.perf_counter()
    try:
        row = _run(task, progress, cancelled)
        if not isinstance(row, Row):
            return row
    except Cancelled:
        return task.row("cancelled", "cancelled before it was finished")
    except HrstemDefectsError as error:
        row = task.row("failed", _named(str(error), task.source.path))
    except MemoryError:
        row = task.row(
            "failed",
            f"{task.source.path}: there is not enough memory for it; crop or bin the image, or use fewer jobs.",
        )
    except OSError as error:  # what cannot be written is a WriteError
        reason = error.strerror or error
        row = task.row("failed", f"{task.source.path}: the file cannot be read any more ({reason}).")
    except Exception as error:  # a bug, or a file that breaks a library: the other files continue
        if os.environ.get(DEBUG_VARIABLE):
            traceback.print_exc(file=sys.stderr)
        row = task.row("failed", internal_error(error, task.source.path))
    return dataclasses.replace(row, seconds=round(time.perf_counter() - begin, 3))


def internal_error(error: BaseException, path: Path | str) -> str:
    """One line for an unexpected error."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return f"{path}: internal error ({text}); please report it, {DEBUG_VARIABLE}=1 shows where it comes from."


def _run(task: Task, progress: Progress | None, cancelled: Callable[[], bool] | None) -> Row | Parts | None:
    if task.source.error is not None:
        raise ReadError(task.source.error)
    micrograph = read(
        task.source.path,
        pixel_size_nm=task.pixel_size_nm,
        select=task.select,
        memory_share=task.memory_share,
        as_dask=False,
    )
    if task.frames is not None:
        series = task.series(micrograph, cancelled)
        if series.resume():
            series.work(task.frames)
        return None
    own = os.path.abspath(task.source.path)
    for name in (task.name, other_name(task.name, task.source.path)):
        with locked(task.out / f".{name}.lock", cancelled):
            other = owner(task.out / name)
            # Another run may have made a result of another input of the same name in the meantime.
            if other is None or other == own or not os.path.exists(other):
                return _write(dataclasses.replace(task, name=name), micrograph, progress, cancelled)
    raise WriteError(f"{task.out}: results of other images of this name lie there; choose another folder.")


def owner(folder: Path) -> str | None:
    """Path of the input whose result lies in a folder."""
    if not (folder / INFO_FILE).is_file():
        return None
    try:
        path: str | None = load_info(folder / INFO_FILE)["input"]["path"]
    except ReadError:
        return None
    return path


def clear(out: Path, name: str) -> None:
    """Remove what a process that was killed left of a result; call it with the lock of the result."""
    for leftover in out.glob(f".{glob.escape(name)}.*.partial"):
        shutil.rmtree(leftover, ignore_errors=True)


def _write(
    task: Task, micrograph: Micrograph, progress: Progress | None, cancelled: Callable[[], bool] | None
) -> Row | Parts:
    clear(task.out, task.name)
    folder = task.out / task.name
    if not task.overwrite:
        info = _up_to_date(folder, task, micrograph)
        if info is not None:
            return _finished(task, "skipped", info)
    if micrograph.is_stack:
        begin = time.perf_counter()
        series = task.series(micrograph, cancelled)
        series.begin({**_asked(task), "shape": micrograph.shape, **_source(micrograph)})
        missing = series.missing()
        if task.split and len(missing) > 1:
            size = -(-len(missing) // PARTS)
            parts = [tuple(missing[i : i + size]) for i in range(0, len(missing), size)]
            return Parts(
                tuple(dataclasses.replace(task, frames=part) for part in parts),
                len(micrograph),
                time.perf_counter() - begin,
            )
        series.work(missing, progress)
        series.finish(folder, task.frame_time_s)
    else:

        def report(step: str, share: float) -> None:
            if progress is not None:
                progress(share_of_all(step, share), step.replace("_", " "))

        analyze_image(
            micrograph,
            task.recipe,
            folder,
            best_patch=_point(task.best_patch),
            classifier=task.classifier,
            tile_px=task.tile_px,
            progress=report,
            cancelled=cancelled,
        )
    return _finished(task, "done", load_info(folder / INFO_FILE))


def analyze_image(
    micrograph: Micrograph,
    recipe: Recipe,
    folder: Path,
    *,
    best_patch: tuple[float, float] | None = None,
    classifier: TrainedClassifier | None = None,
    tile_px: int | None = None,
    progress: Callable[[str, float], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> None:
    """Analyse one image, in tiles if it is large, and write its result folder."""
    edge = tile_edge(micrograph, recipe, tile_px)
    options: dict[str, Any] = {"best_patch": best_patch, "classifier": classifier, "cancelled": cancelled}
    with contextlib.ExitStack() as stack:
        writer = stack.enter_context(
            ResultWriter(
                folder,
                overwrite=True,
                best_patch=best_patch,
                cancelled=cancelled,
                facts={"tile_px": edge} if edge else None,
            )
        )
        if edge:
            prefix = f".{folder.name}."
            scratch = stack.enter_context(
                tempfile.TemporaryDirectory(prefix=prefix, suffix=".partial", dir=folder.parent)
            )
            writer.add(
                analyze_in_tiles(
                    micrograph, recipe, Path(scratch), edge_px=edge, progress=progress, **options
                )
            )
            return
        writer.add(plausible(pipeline.analyze(micrograph, recipe, progress=progress, **options)))


def _point(placement: Placement) -> tuple[float, float] | None:
    return placement.point if isinstance(placement, FromFrame) else placement


def _asked(task: Task) -> dict[str, Any]:
    """What is to be done with an image, as in analysis.json."""
    point = _point(task.best_patch)
    return {
        "recipe": task.recipe.to_dict(),
        "best_patch_by_hand": None if point is None else [float(v) for v in point],
        "best_patch_from": placement_record(task.best_patch),
        "classifier": None if task.classifier is None else task.classifier.sha256,
        "software": software()["napari-hrstem-defects"],
    }


def _source(micrograph: Micrograph) -> dict[str, Any]:
    """What besides its pixels determines the result of an image."""
    return {key: micrograph.metadata[key] for key in ("pixel_size_stated_nm", "pixel_size_from", "select")}


def _up_to_date(folder: Path, task: Task, micrograph: Micrograph) -> dict[str, Any] | None:
    """Contents of analysis.json if the result there is what the task would make."""
    try:
        if not all((folder / name).stat().st_size for name in FILES):
            return None
        info = load_info(folder / INFO_FILE)
    except (OSError, ReadError):
        return None
    there = {
        **info,
        "classifier": info["classifier"]["sha256"],
        "software": info["software"].get("napari-hrstem-defects"),
    }
    asked = _asked(task)
    if micrograph.is_stack:
        asked["frame_time_s"] = task.frame_time_s
    else:
        del asked["best_patch_from"]
        asked["tile_px"] = tile_edge(micrograph, task.recipe, task.tile_px) or None
    same = (
        all(there.get(key) == value for key, value in asked.items())
        and all(info["input"].get(key) == value for key, value in _source(micrograph).items())
        # Last, because they read all pixels.
        and labels_sha256(folder) == [frame["labels_sha256"] for frame in info.get("frames", [info])]
        and info["input"]["sha256"] == micrograph.sha256
    )
    return info if same else None


def _finished(task: Task, status: str, info: dict[str, Any]) -> Row:
    return task.row(
        status,
        " ".join(info["warnings"]),
        verdict=info.get("verdict", ""),
        symmetry_fraction=info["fractions"]["symmetry_defect"],
        amorphous_fraction=info["fractions"]["amorphous"],
        regions=info["regions"],
    )


def _named(message: str, path: Path) -> str:
    """The message with the file in front, unless it names it."""
    return message if path.name in message else f"{path}: {message}"
