"""What an analysis of one frame found."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.core.best_patch import BestPatch
from napari_hrstem_defects.core.domains import DomainMap
from napari_hrstem_defects.core.lattice import Lattice
from napari_hrstem_defects.core.micrograph import Micrograph
from napari_hrstem_defects.core.patches import PatchGrid, PatchTable
from napari_hrstem_defects.core.preprocessing import Prepared
from napari_hrstem_defects.core.recipe import Recipe
from napari_hrstem_defects.core.regions import Region
from napari_hrstem_defects.core.segmentation import Null
from napari_hrstem_defects.core.symmetry import Bank

#: The steps in order.
STEPS = ("preprocess", "classify", "best_patch", "domains", "symmetry", "variance", "segment", "regions")


@dataclass(frozen=True, eq=False)
class Analysis:
    """Everything found out about one frame.

    What belongs to steps that were not run is empty: None, no rows, arrays of shape ``(0, 0)``.

    Attributes
    ----------
    micrograph : Micrograph
        The input, one frame ``(y, x)``.
    recipe : Recipe
    patches : PatchTable
        Verdict on each patch: `revised`, less what lies in another lattice that counts as intact.
    best_patch : BestPatch or None
        None where no lattice was found.
    lattice : Lattice or None
        Lattice of the best patch, in pixels of the image.
    severity : float32 array (y, x)
        Symmetry breaking in robust standard deviations of the image's defect-free population (lattice mode), or
        the Mahalanobis distance (eigenfilter mode).
    judged : bool array (y, x)
        False where the severity rests on mirrored or missing pixels.
    variance : float32 array (y, x)
        Local variance.
    amorphous : bool array (y, x)
        Areas that the variance step takes for amorphous, blurred or damaged.
    labels : uint8 array (y, x)
        0 crystal, 1 symmetry defect, 2 amorphous or blurred.
    regions : tuple of Region
    timings : mapping of str to float
        Seconds per step.
    typical : Lattice or None
        Lattice of the image as a whole, which sets the scales.
    prepared : Prepared or None
        The image as the screening and the lattice-aware filters see it; None where no lattice was found.
    filtered : float32 array (y, x) or None
        The image as the published filters see it (eigenfilter mode).
    screened : PatchTable
        The patches as first classified or painted, before any revision.
    revised : PatchTable
        The same, revised by the severity map where the best patch was chosen automatically.
    domains : DomainMap or None
        The lattices found and which pixel belongs to which (lattice mode).
    boundaries : float32 array (y, x) or None
        How differently the lattice repeats on the two sides of each pixel, without a reference; None unless the
        recipe asks for it (``domains.boundary_map``).
    banks : tuple of Bank
        The models that distances were taken to (lattice mode), as in `domains`.
    null : Null or None
        Defect-free population of the log distances (lattice mode).
    doubts : mapping of str to tuple of str
        `warnings` by the step that raised them.
    """

    micrograph: Micrograph
    recipe: Recipe
    patches: PatchTable
    best_patch: BestPatch | None
    lattice: Lattice | None
    severity: NDArray[np.float32]
    judged: NDArray[np.bool_]
    variance: NDArray[np.float32]
    amorphous: NDArray[np.bool_]
    labels: NDArray[np.uint8]
    regions: tuple[Region, ...]
    timings: Mapping[str, float]
    typical: Lattice | None
    prepared: Prepared | None
    filtered: NDArray[np.float32] | None
    screened: PatchTable
    revised: PatchTable
    domains: DomainMap | None
    boundaries: NDArray[np.float32] | None
    banks: tuple[Bank, ...]
    null: Null | None
    doubts: Mapping[str, tuple[str, ...]]

    @property
    def warnings(self) -> tuple[str, ...]:
        """Doubts about the result, in plain words, and what was changed in the input."""
        return (*self.micrograph.notices, *(text for step in STEPS for text in self.doubts.get(step, ())))

    @property
    def steps(self) -> tuple[str, ...]:
        """The steps that were run; all of `STEPS` unless the analysis was stopped early."""
        return tuple(step for step in STEPS if step in self.timings)

    @property
    def is_complete(self) -> bool:
        """Whether every step was run."""
        return len(self.steps) == len(STEPS)

    def taking_over(self, other: Analysis, steps: Collection[str]) -> Analysis:
        """Add what another analysis of the same frame found in those of `steps` that were not run here."""
        missing = [step for step in other.steps if step in steps and step not in self.steps]
        return replace(
            self,
            timings={**self.timings, **{step: other.timings[step] for step in missing}},
            doubts={**self.doubts, **{step: other.doubts.get(step, ()) for step in missing}},
            **{name: getattr(other, name) for step in missing for name in ADDED[step]},
        )


#: What each step adds to an Analysis.
ADDED = {
    "preprocess": ("typical", "prepared", "filtered"),
    "classify": ("screened",),
    "best_patch": ("revised", "patches", "best_patch", "lattice"),
    "domains": ("domains", "boundaries"),
    "symmetry": ("patches", "banks", "null", "severity", "judged"),
    "variance": ("variance", "amorphous"),
    "segment": ("labels",),
    "regions": ("regions",),
}


def not_found(shape: tuple[int, int]) -> dict[str, Any]:
    """What the steps add to the Analysis of a frame of a shape ``(y, x)`` before they are run."""
    no_patches = PatchTable(
        PatchGrid(shape, min(shape)), np.zeros((0, 0), np.float32), 0.5, np.zeros((0, 0), bool), "none"
    )
    empty: dict[str, Any] = dict.fromkeys(name for names in ADDED.values() for name in names)
    empty.update(screened=no_patches, revised=no_patches, patches=no_patches, banks=(), regions=())
    for name, dtype in {
        "severity": np.float32,
        "judged": np.bool_,
        "variance": np.float32,
        "amorphous": np.bool_,
        "labels": np.uint8,
    }.items():
        empty[name] = np.zeros((0, 0), dtype)
    return empty
