"""Where patches lie, in the frame and in the prepared image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.core.best_patch import BestPatch
from napari_hrstem_defects.core.preprocessing import Prepared


def patch_edge(prepared: Prepared, size: int) -> int:
    """Edge in pixels of the prepared image of a patch of `size` pixels of the frame."""
    return max(4, min(round(size * float(prepared.scale.mean())), *prepared.values.shape))


def frame_slices(patch: BestPatch, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Rows and columns of a patch in a frame of `shape`; a patch that sticks out is moved in."""
    return _slices(np.array([patch.y, patch.x]), patch.size, shape)


def prepared_slices(patch: BestPatch, prepared: Prepared) -> tuple[slice, slice]:
    """Rows and columns of a patch in the prepared image."""
    centre = prepared.from_frame(np.array([patch.y, patch.x]))
    return _slices(centre, patch_edge(prepared, patch.size), prepared.values.shape)


def _slices(centre: NDArray[np.float64], edge: int, shape: tuple[int, ...]) -> tuple[slice, slice]:
    corner = np.clip(np.rint(centre - (edge - 1) / 2).astype(int), 0, np.array(shape) - edge)
    y, x = (int(v) for v in corner)
    return slice(y, y + edge), slice(x, x + edge)
