"""Patches of any size judged by an FFT ensemble: the clean class against all others."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.core.patches import PatchGrid
from napari_hrstem_defects.models.fft_ensemble import Ensemble
from napari_hrstem_defects.models.scan import window_means

#: Windows overlap by half: every place but the rim is seen by four, and one that errs is outvoted.
OVERLAP = 2


def patch_scores(
    model: Ensemble,
    pixels: NDArray[np.float32],
    grid: PatchGrid,
    *,
    cancelled: Callable[[], bool] | None = None,
) -> NDArray[np.float32]:
    """Largest probability inside each patch that the crystal is not clean there.

    The windows keep the scale that the networks were trained at, whatever the size of the patches: a missing column
    is seen in a large patch as well as in a small one.

    Parameters
    ----------
    model : Ensemble
    pixels : float32 array (y, x)
        The frame, 0...1.
    grid : PatchGrid
    cancelled : callable, optional

    Returns
    -------
    float32 array (n_y, n_x)

    Raises
    ------
    ModelError
        If the frame is smaller than a window.
    Cancelled
    """
    stride = model.contract.patch_px // OVERLAP
    clean = window_means(model, pixels, stride, cancelled=cancelled)[0]
    scores: NDArray[np.float32] = (1 - grid.extract(clean)).max(axis=(2, 3))
    return scores
