"""A time series frame by frame: each is kept as soon as it is analysed, so that nothing is done twice."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_hrstem_defects.batch.locks import locked
from napari_hrstem_defects.core import pipeline
from napari_hrstem_defects.core.best_patch import BestPatch
from napari_hrstem_defects.core.errors import Cancelled, RecipeError
from napari_hrstem_defects.core.histories import frame_drift
from napari_hrstem_defects.core.micrograph import Micrograph
from napari_hrstem_defects.core.pipeline import Analysis
from napari_hrstem_defects.core.recipe import Recipe
from napari_hrstem_defects.io.calibration import implausible
from napari_hrstem_defects.io.folders import unwritable
from napari_hrstem_defects.io.frames import FrameResult
from napari_hrstem_defects.io.provenance import write_record
from napari_hrstem_defects.io.saving import ResultWriter
from napari_hrstem_defects.models.classifier import TrainedClassifier

#: Parts that a series is split into: they end at about the same time, and the file is opened few times.
PARTS = 32

#: ``progress(fraction, text)``, 0...1 of the file.
Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class FromFrame:
    """The best patch of one frame serves all frames of a series.

    Attributes
    ----------
    frame : int
        In which it is chosen.
    tracked : bool
        Whether it moves with the drift of the specimen.
    point : tuple of float or None
        Its centre ``(y, x)`` in px there, placed by hand; chosen automatically by default.
    """

    frame: int = 0
    tracked: bool = False
    point: tuple[float, float] | None = None


#: Where the best patch is: ``(y, x)`` in px in all frames, as one of them shows, or chosen in each.
Placement = tuple[float, float] | FromFrame | None


class Series:
    """A series under way: a folder with a file for each frame that is done.

    Parameters
    ----------
    folder : Path
        Hidden among the results; it is deleted when the result is complete, and when another recipe is asked for.
    micrograph : Micrograph
        The series.
    recipe : Recipe
    placement : FromFrame, tuple of float or None
    classifier : TrainedClassifier or None
    cancelled : callable, optional
    """

    def __init__(
        self,
        folder: Path,
        micrograph: Micrograph,
        recipe: Recipe,
        placement: Placement = None,
        classifier: TrainedClassifier | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> None:
        self.folder, self._micrograph, self._recipe = folder, micrograph, recipe
        self._placement, self._classifier, self._cancelled = placement, classifier, cancelled
        self._patches: list[BestPatch | tuple[float, float] | None] = [None] * len(micrograph)
        self._notice: str | None = None
        self._last: tuple[int, Analysis] | None = None

    def begin(self, asked: Any) -> None:
        """Continue if the same was asked for before, else begin anew with the frame that the plan is made from.

        Parameters
        ----------
        asked : JSON
            Everything that decides what is made of the series.

        Raises
        ------
        WriteError
            If the folder cannot be written.
        """
        plan = self._read()
        if plan is None or plan["asked"] != json.loads(json.dumps(asked)):
            plan = {"asked": asked, **self._plan()}
            try:
                shutil.rmtree(self.folder, ignore_errors=True)
                self.folder.mkdir(exist_ok=True)
                write_record(self.folder / "plan.tmp", plan)
                (self.folder / "plan.tmp").replace(self._file)
            except OSError as error:
                raise unwritable(self.folder, error) from error
        self._follow(plan)
        # Here, where its analysis is at hand.
        self.work([self._first])

    def resume(self) -> bool:
        """Continue what another process has begun; False if that is gone."""
        plan = self._read()
        if plan is not None:
            self._follow(plan)
        return plan is not None

    @property
    def _first(self) -> int:
        """Frame that the plan is made from."""
        return self._placement.frame if isinstance(self._placement, FromFrame) else 0

    @property
    def _file(self) -> Path:
        return self.folder / "plan.json"

    def _read(self) -> dict[str, Any] | None:
        try:
            found = json.loads(self._file.read_text(encoding="utf-8"))
            return found if {"asked", "patches", "notice"} <= found.keys() else None
        except (OSError, ValueError, AttributeError):
            return None

    def _follow(self, plan: dict[str, Any]) -> None:
        self._notice = plan["notice"]
        self._patches = [
            BestPatch(**patch) if isinstance(patch, dict) else None if patch is None else (patch[0], patch[1])
            for patch in plan["patches"]
        ]

    def _plan(self) -> dict[str, Any]:
        """What all frames depend on: the best patch of each, and whether the pixel size is plausible."""
        rule, first = self._placement, self._first
        if first >= len(self._micrograph):
            raise RecipeError(
                f"The best patch is to be from frame {first}, but the series ends with frame "
                f"{len(self._micrograph) - 1}; name one of its frames, counted from 0."
            )
        if isinstance(rule, tuple):
            self._patches = [rule] * len(self._micrograph)
        elif isinstance(rule, FromFrame) and rule.point is not None:
            self._patches[first] = rule.point
        analysis = self.analysis(first)
        self._notice = implausible_size(analysis)
        best = analysis.best_patch
        if isinstance(rule, FromFrame) and best is not None:
            places = np.zeros((len(self._micrograph), 2))
            if rule.tracked:
                places = np.cumsum([self.drift(t) for t in range(len(places))], axis=0)
            low = best.size / 2 - 0.5
            for t, (y, x) in enumerate(places - places[first] + (best.y, best.x)):
                height, width = self._micrograph.frame_shape
                y, x = float(np.clip(y, low, height - 1 - low)), float(np.clip(x, low, width - 1 - low))
                if t != first:
                    self._patches[t] = dataclasses.replace(best, y=y, x=x, placed="series")
        patches = [dataclasses.asdict(p) if isinstance(p, BestPatch) else p for p in self._patches]
        return {"patches": patches, "notice": self._notice}

    def frame(self, index: int) -> Micrograph:
        """One frame, without an implausible pixel size."""
        micrograph = self._micrograph
        frame = Micrograph(
            np.asarray(micrograph.data[index]),
            micrograph.pixel_size_nm,
            f"{micrograph.name}[{index}]",
            micrograph.metadata,
            micrograph.notices,
        )
        return frame if self._notice is None else unsized(frame, self._notice)

    def analysis(self, index: int, progress: Callable[[str, float], None] | None = None) -> Analysis:
        """Analyse one frame."""
        if self._last is not None and self._last[0] == index and self._notice is None:
            return self._last[1]
        analysis = pipeline.analyze(
            self.frame(index),
            self._recipe,
            best_patch=self._patches[index],
            classifier=self._classifier,
            progress=progress,
            cancelled=self._cancelled,
        )
        self._last = index, analysis
        return analysis

    def drift(self, index: int) -> tuple[float, float]:
        """Movement ``(y, x)`` of the specimen since the frame before, in px."""
        if self._cancelled is not None and self._cancelled():
            raise Cancelled
        data = self._micrograph.data
        return frame_drift(data[index - 1], data[index]) if index else (0.0, 0.0)

    def _path(self, index: int) -> Path:
        return self.folder / f"{index:06d}.tif"

    def missing(self) -> list[int]:
        """Frames that are not done."""
        there = {path.name for path in self.folder.glob("*.tif")}
        return [t for t in range(len(self._micrograph)) if self._path(t).name not in there]

    def work(self, frames: Iterable[int], progress: Progress | None = None) -> None:
        """Analyse those of some frames that are not done; another process may do the same.

        Raises
        ------
        WriteError
            If the disk is full.
        Cancelled
            The frames that are done stay.
        """
        total = len(self._micrograph)

        def report(index: int) -> Callable[[str, float], None] | None:
            if progress is None:
                return None
            text = f"frame {index + 1} of {total}"
            return lambda step, share: progress((index + share_of_all(step, share)) / total, text)

        for index in frames:
            if not self.folder.is_dir():  # another run has finished it
                return
            if self._path(index).exists():
                continue
            with locked(self.folder / f".{index:06d}.lock", self._cancelled):
                if self._path(index).exists():
                    continue
                found = FrameResult.of(self.analysis(index, report(index)), self.drift(index))
                try:
                    found.save(self._path(index))
                except OSError as error:
                    raise unwritable(self.folder, error) from error

    def finish(self, target: Path, frame_time_s: float | None = None) -> None:
        """Put the frames together to a result; those that are damaged or of other pixels are analysed again.

        Raises
        ------
        WriteError
        Cancelled
        """
        rule = self._placement
        point = rule.point if isinstance(rule, FromFrame) else rule
        with ResultWriter(
            target,
            frames=len(self._micrograph),
            overwrite=True,
            best_patch=point,
            cancelled=self._cancelled,
            facts={"best_patch_from": placement_record(rule), "frame_time_s": frame_time_s},
            frame_time_s=frame_time_s,
        ) as writer:
            for index in range(len(self._micrograph)):
                if self._cancelled is not None and self._cancelled():
                    raise Cancelled
                frame = self.frame(index)
                found = FrameResult.load(self._path(index), frame, self._recipe)
                if found is None:
                    found = FrameResult.of(self.analysis(index), self.drift(index))
                writer.add(found)
        shutil.rmtree(self.folder, ignore_errors=True)


def placement_record(placement: Placement) -> dict[str, Any] | None:
    """Entry in analysis.json about the frame that the best patch is from."""
    if not isinstance(placement, FromFrame):
        return None
    return {"frame": placement.frame, "tracked": placement.tracked}


def implausible_size(analysis: Analysis) -> str | None:
    """Why the pixel size of a file is implausible, given the lattice; one given by hand is not checked."""
    micrograph, lattice = analysis.micrograph, analysis.lattice or analysis.typical
    by_hand = micrograph.metadata.get("pixel_size_from") == "hand"
    if lattice is None or micrograph.pixel_size_nm is None or by_hand:
        return None
    return implausible(lattice.period_px, micrograph.pixel_size_nm)


def unsized(micrograph: Micrograph, notice: str) -> Micrograph:
    """A micrograph without its pixel size, and why."""
    return dataclasses.replace(micrograph, pixel_size_nm=None, notices=(*micrograph.notices, notice))


def plausible(analysis: Analysis) -> Analysis:
    """The analysis, without lengths if its pixel size is wrong."""
    notice = implausible_size(analysis)
    if notice is None:
        return analysis
    sizeless = unsized(analysis.micrograph, notice)
    return pipeline.analyze(sizeless, analysis.recipe, previous=analysis, start=pipeline.STEPS[-1])


def share_of_all(step: str, share: float) -> float:
    """How much of an analysis is done with a share of a step."""
    return (pipeline.STEPS.index(step) + share) / len(pipeline.STEPS)
