"""Analyse one file and write its result."""

from __future__ import annotations

import dataclasses
import glob
import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_hrstem_defects.batch.inputs import Input, other_name
from napari_hrstem_defects.batch.locks import locked
from napari_hrstem_defects.batch.options import Options
from napari_hrstem_defects.batch.parts import Parts, Progress, Whole, done_in
from napari_hrstem_defects.batch.series import Series
from napari_hrstem_defects.batch.summary import Row
from napari_hrstem_defects.batch.tiles import Tiles, tile_edge
from napari_hrstem_defects.core.micrograph import Micrograph
from napari_hrstem_defects.core.recipe import Recipe
from napari_hrstem_defects.errors import Cancelled, HrstemDefectsError, ReadError, WriteError
from napari_hrstem_defects.io.loading import labels_sha256, load_info
from napari_hrstem_defects.io.provenance import software
from napari_hrstem_defects.io.reading import read
from napari_hrstem_defects.io.saving import INFO_FILE, is_whole
from napari_hrstem_defects.models.classifier import TrainedClassifier

#: Set to 1 to see where an internal error comes from.
DEBUG_VARIABLE = "HRSTEM_DEFECTS_DEBUG"
#: Entries of analysis.json that say how an image was divided.
_FACTS = ("best_patch_from", "frame_time_s", "tile_px")


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
    options : Options
    classifier : TrainedClassifier or None
        Classifier of the patches, if the recipe names a trained one. Only its file's name travels; a process reads
        the networks once.
    stage : {"plan", "work", "finish"}
        A series and an image in tiles are planned, worked at by all who are free, and finished; all other images are
        done when they are planned.
    begin : float
        Where work begins, see :meth:`.Parts.work`.
    """

    source: Input
    name: str
    out: Path
    recipe: Recipe
    options: Options
    classifier: TrainedClassifier | None = None
    stage: str = "plan"
    begin: float = 0.0

    @property
    def path(self) -> str:
        """Absolute path of the input."""
        return os.path.abspath(self.source.path)

    def row(self, status: str, message: str = "", **values: Any) -> Row:
        """Row of the summary for this file."""
        return Row(self.name, self.path, status, message, **values)


@dataclass(frozen=True)
class Shared:
    """What is planned, to be worked at.

    Attributes
    ----------
    task : Task
        Under its final name.
    folder : Path
        Where a file lies for each part that is done.
    parts : int
    part : str
        What a part is called.
    seconds : float or None
        That planning took.
    """

    task: Task
    folder: Path
    parts: int
    part: str
    seconds: float | None = None

    def done(self) -> int:
        """Number of parts that are done, by whichever run."""
        return len(done_in(self.folder))


def run_task(
    task: Task, progress: Progress | None = None, cancelled: Callable[[], bool] | None = None
) -> Row | Shared | None:
    """Analyse one file; any error becomes a row with its message.

    Returns
    -------
    Row, Shared or None
        What became of it; what is planned; nothing after work at parts.
    """
    begin = time.perf_counter()
    try:
        found = _run(task, progress, cancelled)
    except Cancelled:
        return task.row("cancelled", "cancelled before it was finished")
    except HrstemDefectsError as error:
        found = task.row("failed", _named(str(error), task.source.path))
    except MemoryError:
        found = task.row(
            "failed",
            f"{task.source.path}: there is not enough memory for it; crop or bin the image, or use fewer jobs.",
        )
    except OSError as error:  # what cannot be written is a WriteError
        reason = error.strerror or error
        found = task.row("failed", f"{task.source.path}: the file cannot be read any more ({reason}).")
    except Exception as error:  # a bug, or a file that breaks a library: the other files continue
        if os.environ.get(DEBUG_VARIABLE):
            traceback.print_exc(file=sys.stderr)
        found = task.row("failed", internal_error(error, task.source.path))
    return found and dataclasses.replace(found, seconds=round(time.perf_counter() - begin, 3))


def internal_error(error: BaseException, path: Path | str) -> str:
    """One line for an unexpected error."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return f"{path}: internal error ({text}); please report it, {DEBUG_VARIABLE}=1 shows where it comes from."


def _run(task: Task, progress: Progress | None, cancelled: Callable[[], bool] | None) -> Row | Shared | None:
    if task.source.error is not None:
        raise ReadError(task.source.error)
    micrograph = read(
        task.source.path,
        pixel_size_nm=task.options.pixel_size_nm,
        select=task.options.select,
        memory_share=task.options.memory_share,
        as_dask=False,
    )
    described = micrograph, task.recipe, task.options, task.classifier, progress, cancelled
    if task.stage == "work":
        parts = divided(task.out / task.name, *described)
        try:
            if parts.resume():
                parts.work(begin=task.begin)
        except WriteError:
            if parts.folder.is_dir():
                raise  # else another run has finished it
        return None
    for name in (task.name, other_name(task.name, task.source.path)):
        with locked(task.out / f".{name}.lock", cancelled):
            other = owner(task.out / name)
            # Another run may have made a result of another input of the same name in the meantime.
            if other is None or other == task.path or not os.path.exists(other):
                task = dataclasses.replace(task, name=name)
                return _write(task, micrograph, divided(task.out / name, *described))
    raise WriteError(f"{task.out}: results of other images of this name lie there; choose another folder.")


def divided(
    folder: Path,
    micrograph: Micrograph,
    recipe: Recipe,
    options: Options,
    classifier: TrainedClassifier | None = None,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Parts:
    """What is analysed of an image at a time; `folder` is that of its result, beside which the parts are kept."""
    tiled = not micrograph.is_stack and tile_edge(micrograph, recipe, options.tile_px)
    kind = Series if micrograph.is_stack else Tiles if tiled else Whole
    folder = folder.with_name(f".{folder.name}.{kind.suffix}")
    return kind(folder, micrograph, recipe, options, classifier, progress, cancelled)


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


def _write(task: Task, micrograph: Micrograph, parts: Parts) -> Row | Shared:
    clear(task.out, task.name)
    folder = task.out / task.name
    if task.stage == "plan" or not parts.resume():  # another run has finished it
        asked, first = _asked(task, parts), task.stage == "plan"
        if (
            not (task.options.overwrite and first)
            and (info := _up_to_date(folder, asked, micrograph)) is not None
        ):
            return _finished(task, "skipped", info)
        # The time between frames and the format change no part.
        same = {"frame_time_s": None, "image_format": None}
        parts.begin({**asked, **same, "shape": micrograph.shape, **_source(micrograph)})
        if parts.missing():
            return Shared(task, parts.folder, len(parts), parts.part)
    parts.work(wait=True)
    parts.finish(folder)
    return _finished(task, "done", load_info(folder / INFO_FILE))


def _asked(task: Task, parts: Parts) -> dict[str, Any]:
    """What is to be done with an image, as in analysis.json."""
    point = task.options.point
    return {
        "recipe": task.recipe.to_dict(),
        "best_patch_by_hand": None if point is None else [float(v) for v in point],
        "classifier": None if task.classifier is None else task.classifier.sha256,
        "software": software()["napari-hrstem-defects"],
        **dict.fromkeys(_FACTS),
        **parts.facts(),
        # Said only of what is not usual.
        "image_format": None if task.options.image_format == "ome-tiff" else task.options.image_format,
    }


def _source(micrograph: Micrograph) -> dict[str, Any]:
    """What besides its pixels determines the result of an image."""
    return {key: micrograph.metadata[key] for key in ("pixel_size_stated_nm", "pixel_size_from", "select")}


def _up_to_date(folder: Path, asked: dict[str, Any], micrograph: Micrograph) -> dict[str, Any] | None:
    """Contents of analysis.json if the result there is what the task would make."""
    try:
        info = load_info(folder / INFO_FILE)
    except ReadError:
        return None
    there = {
        **info,
        "classifier": info["classifier"]["sha256"],
        "software": info["software"].get("napari-hrstem-defects"),
    }
    same = (
        is_whole(folder)
        and all(there.get(key) == value for key, value in asked.items())
        and all(info["input"].get(key) == value for key, value in _source(micrograph).items())
        # Last, because they read all pixels.
        and labels_sha256(folder) == [frame["labels_sha256"] for frame in info.get("frames", [info])]
        and info["input"]["sha256"] == micrograph.sha256
    )
    return info if same else None


def _finished(task: Task, status: str, info: dict[str, Any]) -> Row:
    frames = len(info["frames"]) if "frames" in info else None
    return task.row(
        status,
        " ".join(info["warnings"]),
        verdict=info.get("verdict", ""),
        symmetry_fraction=info["fractions"]["symmetry_defect"],
        amorphous_fraction=info["fractions"]["amorphous"],
        regions=info["regions"],
        frames_done=frames,
        frames=frames,
    )


def _named(message: str, path: Path) -> str:
    """The message with the file in front, unless it names it."""
    return message if path.name in message else f"{path}: {message}"
