"""Where patches lie, in the frame and in the prepared image."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.core.best_patch import BestPatch
from napari_hrstem_defects.core.patches import PatchGrid
from napari_hrstem_defects.core.preprocessing import Prepared


def patch_edge(prepared: Prepared, size: int) -> int:
    """Edge in pixels of the prepared image of a patch of `size` pixels of the frame."""
    return max(4, min(round(size * float(prepared.scale.mean())), *prepared.values.shape))


def patch_corners(prepared: Prepared, grid: PatchGrid) -> NDArray[np.intp]:
    """Top-left corners of the patches of a grid in pixels of the prepared image, shape ``(n_y, n_x, 2)``."""
    edge = patch_edge(prepared, grid.size)
    corners = prepared.from_frame(grid.centres) - (edge - 1) / 2
    return np.clip(np.rint(corners).astype(np.intp), 0, np.array(prepared.values.shape) - edge)


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


def patch_means(image: NDArray[np.generic], corners: NDArray[np.intp], edge: int) -> NDArray[np.float64]:
    """Mean of an image over square patches.

    Parameters
    ----------
    image : array (y, x)
    corners : int array (n_y, n_x, 2)
        Top-left corners.
    edge : int
        Edge of a patch in pixels.

    Returns
    -------
    float64 array (n_y, n_x)
    """
    # Sums between all the edges of patches first: what is left to accumulate is a small table.
    (rows, y0, y1), (columns, x0, x1) = (_cuts(corners[..., axis], edge) for axis in (0, 1))
    bands = np.stack([image[a:b].sum(axis=0, dtype=np.float64) for a, b in pairwise(rows)])
    cells = np.add.reduceat(bands[:, : columns[-1]], columns[:-1], axis=1)
    sums = np.zeros((len(rows), len(columns)))
    np.cumsum(np.cumsum(cells, axis=0), axis=1, out=sums[1:, 1:])
    total = sums[y1, x1] - sums[y0, x1] - sums[y1, x0] + sums[y0, x0]
    out: NDArray[np.float64] = total / edge**2
    return out


def _cuts(
    corners: NDArray[np.intp], edge: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """All places where a patch begins or ends along one axis, and which of them each patch begins and ends at."""
    cuts, places = np.unique(np.stack([corners, corners + edge]), return_inverse=True)
    places = places.reshape(2, *corners.shape)
    return cuts, places[0], places[1]
