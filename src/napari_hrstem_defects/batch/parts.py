"""An image under way: analysed at once or in parts, each of which is kept as soon as it is done."""

from __future__ import annotations

import abc
import contextlib
import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from napari_hrstem_defects.batch.locks import locked
from napari_hrstem_defects.batch.options import Options
from napari_hrstem_defects.core import pipeline
from napari_hrstem_defects.core.best_patch import BestPatch
from napari_hrstem_defects.core.lattice import Lattice
from napari_hrstem_defects.core.micrograph import Micrograph
from napari_hrstem_defects.core.pipeline import Analysis
from napari_hrstem_defects.core.recipe import Recipe
from napari_hrstem_defects.errors import Cancelled
from napari_hrstem_defects.io.calibration import implausible
from napari_hrstem_defects.io.folders import unwritable
from napari_hrstem_defects.io.frames import FrameResult
from napari_hrstem_defects.io.ome import ZLIB_LEVEL
from napari_hrstem_defects.io.provenance import write_record
from napari_hrstem_defects.io.saving import ResultWriter
from napari_hrstem_defects.models.classifier import TrainedClassifier

#: ``progress(fraction, text)``, 0...1 of the file.
Progress = Callable[[float, str], None]

# What all parts depend on; there where one of them failed.
_PLAN_FILE, _FAILED_FILE = "plan.json", "failed"


@dataclass
class Parts(abc.ABC):
    """An image or series under way: a folder with a file for each part of it that is done.

    Several processes may work at the parts of one image.

    Attributes
    ----------
    folder : Path
        Hidden among the results; it is deleted when the result is complete, and when another recipe is asked for.
    micrograph : Micrograph
    recipe : Recipe
    options : Options
    classifier : TrainedClassifier or None
    progress : callable, optional
        ``progress(fraction, text)``.
    cancelled : callable, optional
    """

    folder: Path
    micrograph: Micrograph
    recipe: Recipe
    options: Options
    classifier: TrainedClassifier | None = None
    progress: Progress | None = None
    cancelled: Callable[[], bool] | None = None

    #: What :meth:`plan` gave, perhaps in another process.
    planned: dict[str, Any] = field(default_factory=dict, init=False)
    #: What a part is called, and the end of the name of the folder.
    part: ClassVar[str]
    suffix: ClassVar[str]
    #: Level of zlib for maps of real numbers in the files of the parts.
    level: ClassVar[int] = ZLIB_LEVEL

    @abc.abstractmethod
    def __len__(self) -> int: ...

    @abc.abstractmethod
    def pixels(self, index: int) -> Micrograph:
        """What is analysed as a part."""

    @abc.abstractmethod
    def analyze(self, index: int) -> FrameResult:
        """Analyse a part."""

    @abc.abstractmethod
    def facts(self) -> dict[str, Any]:
        """What is said about the parts in analysis.json."""

    @abc.abstractmethod
    def write(self, writer: ResultWriter) -> None:
        """Put the parts together."""

    def plan(self) -> dict[str, Any]:
        """What all parts depend on, as JSON."""
        return {}

    def begin(self, asked: Any) -> None:
        """Continue if the same was asked for before, else begin anew.

        Parameters
        ----------
        asked : JSON
            Everything that decides what is made of the image.

        Raises
        ------
        WriteError
            If the folder cannot be written.
        """
        plan = self._read()
        if plan is None or plan["asked"] != json.loads(json.dumps(asked)):
            plan = {"asked": asked, "parts": len(self), **self.plan()}
            try:
                shutil.rmtree(self.folder, ignore_errors=True)
                self.folder.mkdir(exist_ok=True)
                write_record(self.folder / "plan.tmp", plan)
                (self.folder / "plan.tmp").replace(self.folder / _PLAN_FILE)
            except OSError as error:
                raise unwritable(self.folder, error) from error
        (self.folder / _FAILED_FILE).unlink(missing_ok=True)
        self.planned = plan

    def resume(self) -> bool:
        """Continue what another process has begun; False if that is gone."""
        plan = self._read()
        if plan is not None:
            self.planned = plan
        return plan is not None

    def _read(self) -> dict[str, Any] | None:
        try:
            found = json.loads((self.folder / _PLAN_FILE).read_text(encoding="utf-8"))
            return found if found["parts"] == len(self) and "asked" in found else None
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def _path(self, index: int) -> Path:
        return self.folder / f"{index:06d}.tif"

    def missing(self) -> list[int]:
        """Parts that are not done."""
        there = set(done_in(self.folder))
        return [index for index in range(len(self)) if self._path(index).name not in there]

    def work(self, indices: Sequence[int] | None = None, *, begin: float = 0.0, wait: bool = False) -> None:
        """Analyse what is missing and no other process is working at, until one of them fails.

        Parameters
        ----------
        indices : sequence of int, optional
            Of these parts only.
        begin : float
            Where to begin, as a fraction of what is missing; several processes that begin at different places do not
            meet before the end, which matters on file systems without locks.
        wait : bool
            Wait for what others are working at.

        Raises
        ------
        WriteError
            If the disk is full.
        Cancelled
            The parts that are done stay.
        """
        missing = self.missing() if indices is None else list(indices)
        first = int(begin * len(missing))
        for index in missing[first:] + missing[:first]:
            if (self.folder / _FAILED_FILE).exists():
                return
            if self._path(index).exists():
                continue
            with locked(self.folder / f".{index:06d}.lock", self.cancelled, wait=wait) as ours:
                if not ours or self._path(index).exists():
                    continue
                self._keep(index)

    def _keep(self, index: int) -> None:
        """Analyse a part and write its file."""
        try:
            found = self.analyze(index)
            try:
                found.save(self._path(index), level=self.level)
            except OSError as error:
                raise unwritable(self.folder, error) from error
        except Cancelled:
            raise
        except Exception:
            with contextlib.suppress(OSError):
                (self.folder / _FAILED_FILE).touch()
            raise

    def results(self) -> Iterator[FrameResult]:
        """Results of all parts; those that are missing, damaged or of other pixels are analysed.

        Raises
        ------
        Cancelled
        """
        for index in range(len(self)):
            if self.cancelled is not None and self.cancelled():
                raise Cancelled
            found = FrameResult.load(self._path(index), self.pixels(index), self.recipe)
            yield self.analyze(index) if found is None else found

    def finish(self, target: Path, *, overwrite: bool = True) -> None:
        """Write the result, with what is missing.

        Raises
        ------
        WriteError
        Cancelled
        """
        with ResultWriter(
            target,
            frames=len(self) if self.micrograph.is_stack else None,
            overwrite=overwrite,
            best_patch=self.options.point,
            cancelled=self.cancelled,
            facts=self.facts(),
            frame_time_s=self.options.frame_time_s,
            image_format=self.options.image_format,
        ) as writer:
            self.write(writer)
        shutil.rmtree(self.folder, ignore_errors=True)

    def patch(self, index: int) -> BestPatch | tuple[float, float] | None:
        """Best patch of a part, as planned or as placed by hand for all."""
        patch = self.planned.get("patches", {index: self.options.point})[index]
        return BestPatch(**patch) if isinstance(patch, dict) else patch and (patch[0], patch[1])

    def reporter(self, index: int) -> Callable[[str, float], None] | None:
        """``report(step, share)`` of the analysis of a part."""
        progress, total = self.progress, len(self)
        if progress is None:
            return None
        text = f"{self.part} {index + 1} of {total}"

        def report(step: str, share: float) -> None:
            done = (pipeline.STEPS.index(step) + share) / len(pipeline.STEPS)
            progress((index + done) / total, text if total > 1 else step.replace("_", " "))

        return report


class Whole(Parts):
    """An image that is analysed at once; nothing is kept of it before it is done."""

    part, suffix = "image", "image"

    def __len__(self) -> int:
        return 1

    def begin(self, asked: Any) -> None:
        """There is nothing to continue."""

    def missing(self) -> list[int]:
        """There are no parts."""
        return []

    def pixels(self, index: int) -> Micrograph:
        """The image."""
        return self.micrograph

    def analyze(self, index: int) -> FrameResult:
        """Analyse the image."""
        return FrameResult.of(
            plausible(
                pipeline.analyze(
                    self.micrograph,
                    self.recipe,
                    best_patch=self.patch(0),
                    classifier=self.classifier,
                    progress=self.reporter(index),
                    cancelled=self.cancelled,
                )
            )
        )

    def facts(self) -> dict[str, Any]:
        """None."""
        return {}

    def write(self, writer: ResultWriter) -> None:
        """Write the image."""
        writer.add(self.analyze(0))


def done_in(folder: Path) -> list[str]:
    """Names of the files of the parts that are done."""
    return [path.name for path in folder.glob("*.tif")]


def implausible_size(micrograph: Micrograph, lattice: Lattice | None) -> str | None:
    """Why the pixel size of a file is implausible, given the lattice; one given by hand is not checked."""
    by_hand = micrograph.metadata.get("pixel_size_from") == "hand"
    if lattice is None or micrograph.pixel_size_nm is None or by_hand:
        return None
    return implausible(lattice.period_px, micrograph.pixel_size_nm)


def unsized(micrograph: Micrograph, notice: str) -> Micrograph:
    """A micrograph without its pixel size, and why."""
    return dataclasses.replace(micrograph, pixel_size_nm=None, notices=(*micrograph.notices, notice))


def plausible(analysis: Analysis) -> Analysis:
    """The analysis, without lengths if its pixel size is wrong."""
    notice = implausible_size(analysis.micrograph, analysis.lattice or analysis.typical)
    if notice is None:
        return analysis
    sizeless = unsized(analysis.micrograph, notice)
    return pipeline.analyze(sizeless, analysis.recipe, previous=analysis, start=pipeline.STEPS[-1])
