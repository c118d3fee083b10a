"""The steps as a person sees them, and which of them is up to date."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.core.recipe import Recipe
from napari_hrstem_defects.widgets.correction import Correction


class State(StrEnum):
    """State of a step; shown by a sign and a word, never by colour alone."""

    EMPTY = "not run"
    RUNNING = "running"
    CURRENT = "current"
    STALE = "stale"
    FAILED = "failed"


#: Sign of each state.
SIGNS = {
    State.EMPTY: "○",
    State.RUNNING: "◌",
    State.CURRENT: "●",
    State.STALE: "◐",
    State.FAILED: "✕",
}


@dataclass(frozen=True)
class Step:
    """One group of the panel.

    Attributes
    ----------
    name : str
    title, does : str
        Heading, and a sentence for the tooltip.
    runs : tuple of str
        Steps of the pipeline that it stands for; by default the one of its name.
    """

    name: str
    title: str
    does: str
    runs: tuple[str, ...] = ()


STEPS = (
    Step("preprocess", "Preprocess", "Finds the lattice period and evens out background and contrast."),
    Step("domains", "Lattices", "Divides the image into areas of one lattice each."),
    Step(
        "classify",
        "Classify patches",
        "Cuts the image into patches and judges which of them contain a defect.",
    ),
    Step(
        "best_patch",
        "Best patch",
        "Chooses the clean patch that everything else is compared with.",
    ),
    Step(
        "variance",
        "Variance filter",
        "Measures the local variance and finds amorphous or damaged areas.",
    ),
    Step(
        "symmetry",
        "Symmetry filter",
        "Measures at every pixel how far its surroundings differ from the best patch, and from other intact lattices.",
    ),
    Step(
        "segment",
        "Labels and regions",
        "Marks the defects and measures each connected one.",
        ("segment", "regions"),
    ),
)

STEP_NAMES = tuple(step.name for step in STEPS)
#: Step of the pipeline → the step that stands for it.
SHOWN_AS = {part: step.name for step in STEPS for part in (step.runs or (step.name,))}
#: Step → steps of the pipeline that it stands for.
PARTS = {step.name: step.runs or (step.name,) for step in STEPS}
TITLES = {step.name: step.title for step in STEPS}


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a result depends on beside the pixels.

    Attributes
    ----------
    recipe : Recipe
    point : tuple of float or None
        Centre of the best patch placed by hand, ``(y, x)`` in pixels.
    patches : bool array (n_y, n_x) or None
        Patches painted by hand, True: defective.
    pixel_size : float or None
        In nm; the regions are measured with it.
    painted : mapping of int to Correction
        Frame → what was painted over its labels. It is laid over the result, so no step is out of date for it.
    """

    recipe: Recipe
    point: tuple[float, float] | None = None
    patches: NDArray[np.bool_] | None = None
    pixel_size: float | None = None
    painted: Mapping[int, Correction] = field(default_factory=dict)

    def differs(self, other: Inputs, step: str) -> bool:
        """Whether a step itself was asked for something else."""
        if step == "classify" and not _same(self.patches, other.patches):
            return True
        if step == "best_patch" and self.point != other.point:
            return True
        if step == "segment" and self.pixel_size != other.pixel_size:
            return True
        reads = _READS[step]
        if step == "best_patch" and self.point is None:
            # Chosen automatically, it is revised by the distances to its own templates.
            reads = (*reads, "symmetry")
        return any(_part(self.recipe, name) != _part(other.recipe, name) for name in reads)


#: Parts of the recipe that each step reads first.
_READS = {
    "preprocess": ("mode", "preprocess"),
    "domains": ("domains",),
    "classify": ("classify",),
    "best_patch": ("best_patch",),
    "variance": ("variance", "as_published"),
    "symmetry": ("symmetry", "verdicts"),
    "segment": ("segment",),
}
#: Parameters of the domains that say which of them count as crystal: read with the severity.
_VERDICTS = ("crystal", "intact_at", "defective_at")


def _part(recipe: Recipe, name: str) -> Any:
    """What a step reads of a recipe."""
    if name == "verdicts":
        return tuple(getattr(recipe.domains, key) for key in _VERDICTS)
    if name == "domains":
        return recipe.domains.model_dump(exclude=set(_VERDICTS))
    return getattr(recipe, name)


def outdated(done: Inputs, now: Inputs) -> frozenset[str]:
    """Steps whose result would change: those asked for something else, and all that follow from them."""
    first = next((i for i, name in enumerate(STEP_NAMES) if done.differs(now, name)), len(STEP_NAMES))
    return frozenset(STEP_NAMES[first:])


def first_of(steps: Collection[str]) -> str | None:
    """The earliest of some steps."""
    return next((name for name in STEP_NAMES if name in steps), None)


def _same(a: NDArray[np.bool_] | None, b: NDArray[np.bool_] | None) -> bool:
    if a is None or b is None:
        return a is b
    return np.array_equal(a, b)
