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
from napari_hrstem_defects.batch.summary import Row
from napari_hrstem_defects.core import pipeline
from napari_hrstem_defects.core.errors import Cancelled, HrstemDefectsError, ReadError, WriteError
from napari_hrstem_defects.core.micrograph import Micrograph
from napari_hrstem_defects.core.pipeline import Analysis
from napari_hrstem_defects.core.recipe import Recipe
from napari_hrstem_defects.io.calibration import implausible
from napari_hrstem_defects.io.loading import labels_sha256, load_info
from napari_hrstem_defects.io.provenance import software
from napari_hrstem_defects.io.reading import read
from napari_hrstem_defects.io.saving import FILES, INFO_FILE, ResultWriter
from napari_hrstem_defects.io.source import frames_here
from napari_hrstem_defects.models.classifier import TrainedClassifier

#: Set to 1 to see where an internal error comes from.
DEBUG_VARIABLE = "HRSTEM_DEFECTS_DEBUG"

# What besides its pixels decides what is made of an image.
_SOURCE = ("pixel_size_stated_nm", "pixel_size_from", "select")

#: ``progress(fraction, step)``, 0...1 of the file.
Progress = Callable[[float, str], None]


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
    best_patch : tuple of float or None
        ``(y, x)`` in px, for all frames.
    pixel_size_nm : float or None
        Instead of what the file says.
    select : str or None
        Number or title of the data set, for files that hold several.
    memory_share : float
        Largest share of the machine's memory that an image may take.
    overwrite : bool
        Analyse again even if the result is there.
    classifier : TrainedClassifier or None
        What judges the patches, if the recipe asks for a trained one. Only its file's name travels; a process reads
        the networks once.
    """

    source: Input
    name: str
    out: Path
    recipe: Recipe
    best_patch: tuple[float, float] | None = None
    pixel_size_nm: float | None = None
    select: str | None = None
    memory_share: float = 0.25
    overwrite: bool = False
    classifier: TrainedClassifier | None = None

    def row(self, status: str, message: str = "", **values: Any) -> Row:
        """Row of the summary for this file."""
        return Row(self.name, os.path.abspath(self.source.path), status, message, **values)


def run_task(
    task: Task, progress: Progress | None = None, cancelled: Callable[[], bool] | None = None
) -> Row:
    """Analyse one file; whatever goes wrong with it becomes a row that says so."""
    begin = time.perf_counter()
    try:
        row = _run(task, progress, cancelled)
    except Cancelled:
        return task.row("cancelled", "cancelled before it was finished")
    except HrstemDefectsError as error:
        row = task.row("failed", _named(str(error), task.source.path))
    except MemoryError:
        row = task.row(
            "failed",
            f"{task.source.path}: there is not enough memory for it; crop or bin the image, or use fewer jobs.",
        )
    except Exception as error:  # a bug, or a file that breaks a library: the other files go on
        if os.environ.get(DEBUG_VARIABLE):
            traceback.print_exc(file=sys.stderr)
        row = task.row("failed", internal_error(error, task.source.path))
    return dataclasses.replace(row, seconds=round(time.perf_counter() - begin, 3))


def internal_error(error: BaseException, path: Path | str) -> str:
    """One line for an error that nobody foresaw."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return f"{path}: internal error ({text}); please report it, {DEBUG_VARIABLE}=1 shows where it comes from."


def _run(task: Task, progress: Progress | None, cancelled: Callable[[], bool] | None) -> Row:
    if task.source.error is not None:
        raise ReadError(task.source.error)
    micrograph = read(
        task.source.path,
        pixel_size_nm=task.pixel_size_nm,
        select=task.select,
        memory_share=task.memory_share,
    )
    micrograph = dataclasses.replace(micrograph, data=frames_here(micrograph.data))
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
) -> Row:
    clear(task.out, task.name)
    folder = task.out / task.name
    if not task.overwrite:
        info = _up_to_date(folder, task, micrograph)
        if info is not None:
            return _finished(task, "skipped", info)
    frames = len(micrograph)
    with ResultWriter(
        folder, frames=frames if micrograph.is_stack else None, overwrite=True, best_patch=task.best_patch
    ) as writer:
        notice = None
        for index, frame in enumerate(micrograph):
            analysis = pipeline.analyze(
                frame if notice is None else _unsized(frame, notice),
                task.recipe,
                best_patch=task.best_patch,
                classifier=task.classifier,
                progress=None if progress is None else _in_file(progress, index, frames),
                cancelled=cancelled,
            )
            if index == 0 and (notice := _implausible(analysis)) is not None:
                sizeless = _unsized(frame, notice)
                analysis = pipeline.analyze(
                    sizeless, task.recipe, previous=analysis, start=pipeline.STEPS[-1]
                )
            writer.add(analysis)
    return _finished(task, "done", load_info(folder / INFO_FILE))


def _implausible(analysis: Analysis) -> str | None:
    """Why the pixel size that a file states is wrong, given the lattice; one given by hand is not questioned."""
    micrograph, lattice = analysis.micrograph, analysis.lattice or analysis.typical
    if (
        lattice is None
        or micrograph.pixel_size_nm is None
        or micrograph.metadata.get("pixel_size_from") == "hand"
    ):
        return None
    return implausible(lattice.period_px, micrograph.pixel_size_nm)


def _unsized(micrograph: Micrograph, notice: str) -> Micrograph:
    return dataclasses.replace(micrograph, pixel_size_nm=None, notices=(*micrograph.notices, notice))


def _up_to_date(folder: Path, task: Task, micrograph: Micrograph) -> dict[str, Any] | None:
    """Contents of analysis.json if the result there is what the task would make."""
    try:
        if not all((folder / name).stat().st_size for name in FILES):
            return None
        info = load_info(folder / INFO_FILE)
    except (OSError, ReadError):
        return None
    asked = None if task.best_patch is None else [float(v) for v in task.best_patch]
    package = "napari-hrstem-defects"
    classifier = None if task.classifier is None else task.classifier.sha256
    same = (
        info["recipe"] == task.recipe.to_dict()
        and info["best_patch_by_hand"] == asked
        and info["classifier"]["sha256"] == classifier
        and info["software"].get(package) == software()[package]
        and all(info["input"].get(key) == micrograph.metadata[key] for key in _SOURCE)
        # Last, for they read all pixels.
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


def _in_file(progress: Progress, index: int, frames: int) -> Callable[[str, float], None]:
    steps = pipeline.STEPS

    def report(step: str, fraction: float) -> None:
        text = step.replace("_", " ") if frames == 1 else f"frame {index + 1} of {frames}"
        progress((index + (steps.index(step) + fraction) / len(steps)) / frames, text)

    return report


def _named(message: str, path: Path) -> str:
    """The message with the file in front, unless it names it."""
    return message if path.name in message else f"{path}: {message}"
