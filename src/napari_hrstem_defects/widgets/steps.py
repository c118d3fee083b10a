"""The steps as a person sees them, and which of them is up to date."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.core.recipe import DomainParams, Recipe, SegmentParams


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
    needs : tuple of str
        Steps whose results it uses.
    runs : tuple of str
        Steps of the pipeline that it stands for; by default the one of its name.
    """

    name: str
    title: str
    does: str
    needs: tuple[str, ...]
    runs: tuple[str, ...] = ()


STEPS = (
    Step("preprocess", "Preprocess", "Finds the lattice period and evens out background and contrast.", ()),
    Step(
        "classify",
        "Classify patches",
        "Cuts the image into patches and judges which of them contain a defect.",
        ("preprocess",),
    ),
    Step(
        "best_patch",
        "Best patch",
        "Chooses the clean patch that everything else is compared with.",
        ("classify",),
    ),
    Step(
        "symmetry",
        "Symmetry filter",
        "Measures at every pixel how far its surroundings differ from the best patch, and from other intact lattices.",
        ("preprocess", "best_patch"),
        ("domains", "symmetry"),
    ),
    Step(
        "variance",
        "Variance filter",
        "Measures the local variance and finds amorphous or damaged areas.",
        ("preprocess", "best_patch"),
    ),
    Step(
        "segment",
        "Labels and regions",
        "Marks the defects and measures each connected one.",
        ("symmetry", "variance"),
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
    """

    recipe: Recipe
    point: tuple[float, float] | None = None
    patches: NDArray[np.bool_] | None = None
    pixel_size: float | None = None

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
            # Chosen automatically, it is revised by its own severity map.
            reads = (*reads, "symmetry")
        return any(getattr(self.recipe, name) != getattr(other.recipe, name) for name in reads)

    def begins(self, other: Inputs, step: str) -> str:
        """Step of the pipeline that a step of the panel begins with, if `other` was asked for before."""
        parts = PARTS[step]
        if step != "symmetry" or self.point != other.point or not _same(self.patches, other.patches):
            return parts[0]
        before, now = (
            dataclasses.replace(
                inputs.recipe,
                segment=SegmentParams(),
                domains=dataclasses.replace(inputs.recipe.domains, **_VERDICTS),
            )
            for inputs in (other, self)
        )
        # Which lattices count as intact is asked for only after they are found.
        return parts[1] if before == now else parts[0]


#: Steps of the recipe that each step reads.
_READS = {
    "preprocess": ("preprocess",),
    "classify": ("classify",),
    "best_patch": ("best_patch",),
    # Other lattices are looked for outside amorphous areas.
    "symmetry": ("domains", "symmetry", "variance"),
    "variance": ("variance",),
    "segment": ("segment",),
}
#: What the recipe says about lattices that were found already, as it is by default.
_VERDICTS: dict[str, Any] = {
    name: getattr(DomainParams(), name) for name in ("crystal", "intact_at", "defective_at")
}


def outdated(done: Inputs, now: Inputs) -> frozenset[str]:
    """Steps whose result would change: those asked for something else, and all that follow from them."""
    found: set[str] = set()
    for step in STEPS:
        if done.differs(now, step.name) or found.intersection(step.needs):
            found.add(step.name)
    return frozenset(found)


def first_of(steps: Collection[str]) -> str | None:
    """The earliest of some steps."""
    return next((name for name in STEP_NAMES if name in steps), None)


def _same(a: NDArray[np.bool_] | None, b: NDArray[np.bool_] | None) -> bool:
    if a is None or b is None:
        return a is b
    return np.array_equal(a, b)
