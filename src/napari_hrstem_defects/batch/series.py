"""A time series, frame by frame."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from napari_hrstem_defects.batch.options import FromFrame
from napari_hrstem_defects.batch.parts import Parts, implausible_size, unsized
from napari_hrstem_defects.core import pipeline
from napari_hrstem_defects.core.micrograph import Micrograph
from napari_hrstem_defects.core.pipeline import Analysis
from napari_hrstem_defects.errors import Cancelled, RecipeError
from napari_hrstem_defects.io.frames import FrameResult
from napari_hrstem_defects.io.histories import frame_drift
from napari_hrstem_defects.io.saving import ResultWriter


@dataclass
class Series(Parts):
    """A series under way."""

    part, suffix = "frame", "series"

    # The last analysis and its frame.
    _last: tuple[int, Analysis] | None = field(default=None, init=False)

    def __len__(self) -> int:
        return len(self.micrograph)

    @property
    def _first(self) -> int:
        """Frame that the plan is made from."""
        return self.options.best_patch.frame if isinstance(self.options.best_patch, FromFrame) else 0

    def begin(self, asked: Any) -> None:
        """As :meth:`Parts.begin`; the frame that the plan is made from is done then."""
        super().begin(asked)
        # Here, where its analysis is at hand.
        self.do(self._first, wait=True)

    def plan(self) -> dict[str, Any]:
        """Best patch of each frame, and whether the pixel size is plausible."""
        rule, first, total = self.options.best_patch, self._first, len(self)
        if first >= total:
            raise RecipeError(
                f"The best patch is to be from frame {first}, but the series ends with frame {total - 1}; name one of "
                "its frames, counted from 0."
            )
        patches: list[Any] = [rule if isinstance(rule, tuple) else None] * total
        patches[first] = self.options.point
        # What the frame is analysed by.
        self.planned = {"patches": patches, "notice": None}
        analysis = self._analysis(first)
        notice = implausible_size(analysis.micrograph, analysis.lattice or analysis.typical)
        best = analysis.best_patch
        if isinstance(rule, FromFrame) and best is not None:
            places = np.zeros((total, 2))
            if rule.tracked:
                places = np.cumsum([self._drift(t) for t in range(total)], axis=0)
            low = best.size / 2 - 0.5
            for t, (y, x) in enumerate(places - places[first] + (best.y, best.x)):
                height, width = self.micrograph.frame_shape
                y, x = float(np.clip(y, low, height - 1 - low)), float(np.clip(x, low, width - 1 - low))
                if t != first:
                    patches[t] = dataclasses.asdict(dataclasses.replace(best, y=y, x=x, placed="series"))
        return {"patches": patches, "notice": notice}

    def pixels(self, index: int) -> Micrograph:
        """One frame, without an implausible pixel size."""
        micrograph = self.micrograph
        frame = Micrograph(
            np.asarray(micrograph.data[index]),
            micrograph.pixel_size_nm,
            f"{micrograph.name}[{index}]",
            micrograph.metadata,
            micrograph.notices,
        )
        notice = self.planned["notice"]
        return frame if notice is None else unsized(frame, notice)

    def analyze(self, index: int) -> FrameResult:
        """Analyse one frame."""
        return FrameResult.of(self._analysis(index), self._drift(index))

    def _analysis(self, index: int) -> Analysis:
        if self._last is not None and self._last[0] == index and self.planned["notice"] is None:
            return self._last[1]
        analysis = pipeline.analyze(
            self.pixels(index),
            self.recipe,
            best_patch=self.patch(index),
            classifier=self.classifier,
            progress=self.reporter(index),
            cancelled=self.cancelled,
        )
        self._last = index, analysis
        return analysis

    def _drift(self, index: int) -> tuple[float, float]:
        """Movement ``(y, x)`` of the specimen since the frame before, in px."""
        if self.cancelled is not None and self.cancelled():
            raise Cancelled
        data = self.micrograph.data
        return frame_drift(data[index - 1], data[index]) if index else (0.0, 0.0)

    def facts(self) -> dict[str, Any]:
        """The frame that the best patch is from, and the time between frames."""
        rule = self.options.best_patch
        of = {"frame": rule.frame, "tracked": rule.tracked} if isinstance(rule, FromFrame) else None
        return {"best_patch_from": of, "frame_time_s": self.options.frame_time_s}

    def write(self, writer: ResultWriter) -> None:
        """Write all frames."""
        for found in self.results():
            writer.add(found)
