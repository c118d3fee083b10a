"""The steps as one graph: run all, run from a step, progress, cancel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.core.best_patch import BestPatch
from napari_hrstem_defects.core.lattice import Lattice
from napari_hrstem_defects.core.micrograph import Micrograph
from napari_hrstem_defects.core.patches import PatchTable
from napari_hrstem_defects.core.recipe import Recipe
from napari_hrstem_defects.core.regions import Region

#: The steps in order.
STEPS = ("preprocess", "classify", "best_patch", "symmetry", "variance", "segment", "regions")


@dataclass(frozen=True, eq=False)
class Analysis:
    """Everything found out about one frame.

    Attributes
    ----------
    micrograph : Micrograph
        The input, one frame ``(y, x)``.
    recipe : Recipe
    patches : PatchTable
    best_patch : BestPatch or None
        None where no lattice was found.
    lattice : Lattice or None
        Lattice of the best patch.
    severity : float32 array (y, x)
        Symmetry breaking in robust standard deviations of the image's defect-free population (lattice mode), or
        the Mahalanobis distance (eigenfilter mode).
    judged : bool array (y, x)
        False where the severity rests on mirrored or missing pixels.
    variance : float32 array (y, x)
        Local variance.
    labels : uint8 array (y, x)
        0 crystal, 1 symmetry defect, 2 amorphous or blurred.
    regions : tuple of Region
    warnings : tuple of str
        Doubts about the result, in plain words.
    timings : mapping of str to float
        Seconds per step.
    """

    micrograph: Micrograph
    recipe: Recipe
    patches: PatchTable
    best_patch: BestPatch | None
    lattice: Lattice | None
    severity: NDArray[np.float32]
    judged: NDArray[np.bool_]
    variance: NDArray[np.float32]
    labels: NDArray[np.uint8]
    regions: tuple[Region, ...]
    warnings: tuple[str, ...] = ()
    timings: Mapping[str, float] = field(default_factory=dict)
