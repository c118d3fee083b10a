"""The comparing network as a patch classifier of the pipeline."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.core.patches import PatchGrid, PatchTable
from results_tools.comparing_inputs import relative_inputs
from results_tools.comparing_network import ComparingNetwork, read_network

#: Its weights, as ``docs/train_comparing.py`` wrote them.
FILE = Path(__file__).parents[1] / "results" / "comparing.npz"


class ComparingClassifier:
    """Judges the patches of a frame by comparing each with what is typical of the frame.

    A :class:`~napari_hrstem_defects.core.patches.PatchClassifier`. Where a frame shows no lattice nothing is defective,
    as in the screening.

    Parameters
    ----------
    threshold : float
        Probability above which a patch is defective.
    """

    name = "comparing"

    def __init__(self, threshold: float = 0.5) -> None:
        self.threshold = threshold

    def classify(self, pixels: NDArray[np.float32], grid: PatchGrid) -> PatchTable:
        """Judge every patch of `grid` on the frame `pixels` (float32, ``(y, x)``, 0...1)."""
        found = relative_inputs(pixels, grid)
        if found is None:
            scores = np.zeros(grid.counts, np.float32)
        else:
            scores = network().probabilities(found[0]).reshape(grid.counts)
        return PatchTable(grid, scores, self.threshold, scores > self.threshold, self.name)


@lru_cache(maxsize=1)
def network() -> ComparingNetwork:
    """The network, read once in a process."""
    return read_network(FILE)
