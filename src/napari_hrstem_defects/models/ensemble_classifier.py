"""An FFT ensemble as a patch classifier of the pipeline: the clean class against all others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.core.patches import PatchGrid, PatchTable
from napari_hrstem_defects.models.fft_ensemble import Ensemble
from napari_hrstem_defects.models.scan import window_means

#: Patches whose clean class is less likely than its opposite somewhere are defective.
THRESHOLD = 0.5
#: Windows overlap by half: every place but the rim is seen by four, and one that errs is outvoted.
_OVERLAP = 2


@dataclass(frozen=True)
class EnsembleClassifier:
    """Judges patches of any size by the windows of an ensemble.

    The windows keep the scale that the networks were trained at, whatever the size of the patches.

    Attributes
    ----------
    model : Ensemble
    name : str
        What the result is signed with.
    """

    model: Ensemble
    name: str

    def classify(self, pixels: NDArray[np.float32], grid: PatchGrid) -> PatchTable:
        """Judge every patch: its score is the largest probability inside it that the crystal is not clean.

        Raises
        ------
        ModelError
            If the frame is smaller than a window.
        """
        clean = window_means(self.model, pixels, self.model.contract.patch_px // _OVERLAP)[0]
        scores = (1 - grid.extract(clean)).max(axis=(2, 3))
        return PatchTable(grid, scores, THRESHOLD, scores > THRESHOLD, self.name)
