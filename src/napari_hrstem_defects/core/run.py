"""One analysis under way: what was found so far, progress, cancel, warnings."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from numpy.typing import ArrayLike

from napari_hrstem_defects.core import amorphous
from napari_hrstem_defects.core.analysis import ADDED, Analysis, not_found
from napari_hrstem_defects.core.best_patch import BestPatch
from napari_hrstem_defects.core.errors import Cancelled, RecipeError
from napari_hrstem_defects.core.micrograph import Micrograph
from napari_hrstem_defects.core.model import Model
from napari_hrstem_defects.core.patch_lattices import PatchLattices
from napari_hrstem_defects.core.patches import PatchClassifier
from napari_hrstem_defects.core.recipe import Recipe

Progress = Callable[[str, float], None]


class Run:
    """One analysis under way: each step reads what earlier ones found and adds its own."""

    def __init__(
        self,
        micrograph: Micrograph,
        recipe: Recipe,
        classifier: PatchClassifier | None,
        patch_labels: ArrayLike | None,
        best_patch: BestPatch | tuple[float, float] | None,
        progress: Progress | None,
        cancelled: Callable[[], bool] | None,
    ) -> None:
        self.micrograph = micrograph
        self.recipe = recipe
        self.classifier = classifier
        self.patch_labels = patch_labels
        self.wanted_patch = best_patch
        self.progress = progress
        self.cancelled = cancelled
        self.frame = micrograph.frame()
        self.shape = micrograph.frame_shape
        self.found: dict[str, Any] = {}
        self.timings: dict[str, float] = {}
        self.doubts: dict[str, tuple[str, ...]] = {"preprocess": self.frame.notices}
        # Models of the patches looked at so far, by corner and edge: later steps reuse them.
        self.models: dict[tuple[int, int, int], Model] = {}
        self.patch_lattices: PatchLattices | None = None
        self.variance_found: amorphous.VarianceMap | None = None

    def take_over(self, previous: Analysis, steps: tuple[str, ...]) -> None:
        """Use what an earlier analysis found in some steps."""
        if previous.micrograph.frame_shape != self.shape:
            raise RecipeError(
                f"The earlier analysis is of an image of {previous.micrograph.frame_shape} px, this one has "
                f"{self.shape}; analyse it anew."
            )
        for step in steps:
            for name in ADDED[step]:
                self.found[name] = getattr(previous, name)
            self.timings[step] = previous.timings[step]
            self.doubts[step] = previous.doubts.get(step, ())

    def step(self, name: str) -> None:
        """Run one step, timed."""
        self.report(name, 0.0)
        begin = time.perf_counter()
        getattr(self, f"_{name}")()
        self.timings[name] = time.perf_counter() - begin
        self.report(name, 1.0)

    def report(self, step: str, fraction: float) -> None:
        """Tell the caller how far a step is; stop if the caller wants to."""
        if self.cancelled is not None and self.cancelled():
            raise Cancelled
        if self.progress is not None:
            self.progress(step, fraction)

    def doubt(self, step: str, text: str) -> None:
        """Add a warning to a step's."""
        self.doubts[step] = (*self.doubts.get(step, ()), text)

    def result(self) -> Analysis:
        """What was found."""
        return Analysis(
            micrograph=self.micrograph,
            recipe=self.recipe,
            timings=self.timings,
            doubts=self.doubts,
            **{**not_found(self.shape), **self.found},
        )
