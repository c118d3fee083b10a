"""Analyse one file and write its result."""

from __future__ import annotations

import contextlib
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
from typing import TYPE_CHECKING, Any

from napari_hrstem_defects.batch.inputs import Input, other_name
from napari_hrstem_defects.batch.locks import locked
from napari_hrstem_defects.batch.options import Options
from napari_hrstem_defects.batch.parts import PartError, Parts, Progress, Whole, done_in, owner_in
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

if TYPE_CHECKING:  # takes long to import
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
        A series and an image in tiles are planned; then one process finishes them, that is writes the parts in their
        order as they are done, and it and all others that are free work at the parts. All other images are done when
        they are planned.
    place : (int, int)
        See :class:`~napari_hrstem_defects.batch.parts.Parts`.
    """

    source: Input
    name: str
    out: Path
    recipe: Recipe
    options: Options
    classifier: TrainedClassifier | None = None
    stage: str = "plan"
    place: tuple[int, int] = (0, 1)

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
        What became of it; what is planned; nothing after work at parts, and where another run stands in the way.
    """
    begin = time.perf_counter()
    try:
        found = _run(task, progress, cancelled)
    except PartError:
        return None
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
    for name in (task.name, other_name(task.name, task.source.path)):
        task = dataclasses.replace(task, name=name)
        described = micrograph, task.recipe, task.options, task.classifier, progress, cancelled, task.place
        parts = divided(task.out / name, *described)
        key = _key(task, parts, micrograph)
        if task.stage == "work":
            if parts.resume(key):
                _work(parts)
            return None
        lock = task.out / f".{name}.lock"
        with contextlib.ExitStack() as held:
            if not held.enter_context(locked(lock, wait=False)):
                # Another run finishes it: the parts are shared.
                if owner(task.out / name) == task.path and parts.resume(key):
                    if task.stage == "plan":
                        return Shared(task, parts.folder, len(parts), parts.part)
                    _work(parts)
                held.enter_context(locked(lock, cancelled))
            other = owner(task.out / name)
            # Another run may have made a result of another input of the same name in the meantime.
            if other is None or other == task.path or not os.path.exists(other):
                return _write(task, micrograph, parts, key)
    raise WriteError(f"{task.out}: results of other images of this name lie there; choose another folder.")


def _work(parts: Parts) -> None:
    """Work at the parts until nothing is left that no other process works at."""
    try:
        for _ in parts.work():
            pass
    except WriteError as error:
        if not _was_removed(error):
            raise


def _was_removed(error: WriteError) -> bool:
    """Whether a file or folder is gone: another run has finished it, or begun anew where there are no locks."""
    return isinstance(error.__cause__, FileNotFoundError)


def divided(
    folder: Path,
    micrograph: Micrograph,
    recipe: Recipe,
    options: Options,
    classifier: TrainedClassifier | None = None,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
    place: tuple[int, int] = (0, 1),
) -> Parts:
    """What is analysed of an image at a time; `folder` is that of its result, beside which the parts are kept."""
    tiled = not micrograph.is_stack and tile_edge(micrograph, recipe, options.tile_px)
    kind = Series if micrograph.is_stack else Tiles if tiled else Whole
    return kind(_folder_of(folder, kind), micrograph, recipe, options, classifier, progress, cancelled, place)


def owner(folder: Path) -> str | None:
    """Path of the input whose result lies in a folder, or is on its way there."""
    for kind in (Series, Tiles):
        if (path := owner_in(_folder_of(folder, kind))) is not None:
            return path
    if (folder / INFO_FILE).is_file():
        with contextlib.suppress(ReadError):
            return load_info(folder / INFO_FILE)["input"]["path"]
    return None


def _folder_of(result: Path, kind: type[Parts]) -> Path:
    """Where the parts of a result are kept."""
    return result.with_name(f".{result.name}.{kind.suffix}")


def clear(out: Path, name: str) -> None:
    """Remove what a process that was killed left of a result; call it with the lock of the result."""
    for leftover in out.glob(f".{glob.escape(name)}.*.partial"):
        shutil.rmtree(leftover, ignore_errors=True)


def _write(task: Task, micrograph: Micrograph, parts: Parts, key: dict[str, Any]) -> Row | Shared | None:
    clear(task.out, task.name)
    folder = task.out / task.name
    if task.stage == "plan" or not parts.resume(key):  # another run has finished it
        anew = task.options.overwrite and task.stage == "plan"
        if not anew and (info := _up_to_date(folder, _asked(task, parts), micrograph)) is not None:
            return _finished(task, "skipped", info)
        parts.begin(key)
        if parts.missing():
            return Shared(task, parts.folder, len(parts), parts.part)
    try:
        parts.finish(folder)
    except WriteError as error:
        if task.stage == "finish" and _was_removed(error):
            return None
        raise
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


def _key(task: Task, parts: Parts, micrograph: Micrograph) -> dict[str, Any]:
    """What determines the parts of an image, besides their pixels."""
    # The time between frames and the format change no part.
    same = {"frame_time_s": None, "image_format": None}
    return {**_asked(task, parts), **same, "shape": micrograph.shape, **_source(micrograph)}


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
