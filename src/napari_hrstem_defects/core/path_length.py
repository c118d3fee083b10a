"""Geodesic diameter of a region: the longest of the shortest paths inside it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Larger regions are searched on a coarser raster of about this many cells; the path is measured on the fine
#: one.
_MAX_CELLS = 2000
#: A region that fills this share of its convex hull is measured along a straight line.
_CONVEX = 0.9
#: One of each pair of opposite steps to the 16 neighbours at distance 1, √2 and √5, each with the two cells
#: that a long step passes between: lengths of shortest paths come out at most 2.8 % long before the path is
#: pulled straight.
_STEPS: dict[tuple[int, int], tuple[tuple[int, int], ...]] = {
    (0, 1): (),
    (1, 0): (),
    (1, 1): (),
    (1, -1): (),
    (1, 2): ((0, 1), (1, 1)),
    (2, 1): ((1, 0), (1, 1)),
    (2, -1): ((1, 0), (1, -1)),
    (1, -2): ((0, -1), (1, -1)),
}


def geodesic_diameter(mask: NDArray[np.bool_]) -> float:
    """Length of the longest shortest path between two points of a connected region, in pixels.

    The far ends are found by searching twice for the farthest pixel; the path between them is then pulled
    straight wherever the straight line stays inside the region (give or take one pixel of ragged edge). Half
    a pixel is added at each end, as paths run between pixel centres.

    Parameters
    ----------
    mask : bool array (y, x)
        One 8-connected region.

    Returns
    -------
    float
        At least 1.
    """
    from scipy.ndimage import binary_dilation

    padded = np.pad(mask, 2)
    rim = _rim(padded)
    hull, hull_area = _hull(rim)
    ends = _farthest_pair(hull)
    within = binary_dilation(padded, np.ones((3, 3), bool))
    direct = float(np.hypot(*(ends[0] - ends[1])))
    # The hull of pixel centres misses half a pixel all around, so compare areas of the same kind.
    if np.count_nonzero(padded) >= _CONVEX * (hull_area + len(rim) / 2) and _visible(within, *ends):
        return direct + 1.0
    path = _longest_path(padded)
    return max(direct, _pulled_length(within, path)) + 1.0


def _rim(mask: NDArray[np.bool_]) -> NDArray[np.intp]:
    inner = mask[1:-1, 1:-1].copy()
    inner &= mask[:-2, 1:-1] & mask[2:, 1:-1] & mask[1:-1, :-2] & mask[1:-1, 2:]
    edge = mask.copy()
    edge[1:-1, 1:-1] &= ~inner
    return np.argwhere(edge)


def _hull(points: NDArray[np.intp]) -> tuple[NDArray[np.intp], float]:
    """Corners and area of the convex hull; of points on a line its ends (and some others) and 0."""
    from scipy.spatial import ConvexHull, QhullError

    try:
        hull = ConvexHull(points)
    except (QhullError, ValueError):
        order = np.lexsort((points[:, 1], points[:, 0]))
        return points[order[[0, -1]]], 0.0
    return points[hull.vertices], float(hull.volume)


def _farthest_pair(points: NDArray[np.intp]) -> NDArray[np.intp]:
    gaps = points[:, None] - points[None]
    squares = np.einsum("ijk,ijk->ij", gaps, gaps)
    return points[list(np.unravel_index(int(squares.argmax()), squares.shape))]


def _visible(within: NDArray[np.bool_], a: NDArray[np.intp], b: NDArray[np.intp]) -> bool:
    """Whether the straight line from a to b stays inside, looked at every half pixel."""
    count = 2 * int(np.abs(a - b).max()) + 1
    line = np.rint(np.linspace(a, b, count)).astype(np.intp)
    return bool(within[line[:, 0], line[:, 1]].all())


def _longest_path(mask: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Pixels along a longest shortest path, about one per step of the raster that was searched."""
    from scipy.sparse.csgraph import dijkstra

    factor = max(1, int(np.ceil(np.sqrt(np.count_nonzero(mask) / _MAX_CELLS))))
    cells = _coarsen(mask, factor)
    graph = _graph(cells)
    end = 0
    for _ in range(2):
        lengths, before = dijkstra(graph, directed=False, indices=end, return_predecessors=True)
        end = int(np.where(np.isfinite(lengths), lengths, -1.0).argmax())
    chain = [end]
    while (end := int(before[end])) >= 0:
        chain.append(end)
    places = np.argwhere(cells)[chain]
    path = np.array([_nearest(_pixels_of(mask, cell, factor), (cell + 0.5) * factor) for cell in places])
    if len(path) > 1:
        for at, beside in ((0, 1), (-1, -2)):
            pixels = _pixels_of(mask, places[at], factor)
            path[at] = pixels[np.hypot(*(pixels - path[beside]).T).argmax()]
    return path


def _graph(cells: NDArray[np.bool_]) -> Any:
    """Sparse matrix of the lengths between neighbouring cells, numbered in row-major order."""
    from scipy.sparse import coo_array

    numbers = np.cumsum(cells.ravel()).reshape(cells.shape) - 1
    y, x = np.nonzero(cells)
    inside = np.pad(cells, 2)
    rows, columns, lengths = [], [], []
    for (dy, dx), between in _STEPS.items():
        linked = inside[y + 2 + dy, x + 2 + dx]
        if between:
            # A long step must not jump a gap: one of the two cells has to belong as well.
            linked &= np.logical_or(*(inside[y + 2 + ey, x + 2 + ex] for ey, ex in between))
        rows.append(numbers[y[linked], x[linked]])
        columns.append(numbers[y[linked] + dy, x[linked] + dx])
        lengths.append(np.full(len(rows[-1]), np.hypot(dy, dx)))
    count = int(np.count_nonzero(cells))
    entries = (np.concatenate(rows), np.concatenate(columns))
    return coo_array((np.concatenate(lengths), entries), shape=(count, count)).tocsr()


def _pixels_of(mask: NDArray[np.bool_], cell: NDArray[np.intp], factor: int) -> NDArray[np.intp]:
    corner = cell * factor
    y, x = corner
    return np.argwhere(mask[y : y + factor, x : x + factor]) + corner


def _nearest(pixels: NDArray[np.intp], point: NDArray[np.float64]) -> NDArray[np.intp]:
    return pixels[np.hypot(*(pixels - point).T).argmin()]


def _pulled_length(within: NDArray[np.bool_], path: NDArray[np.intp]) -> float:
    """Length of the path with every bend taken out that can be seen past."""
    length, here = 0.0, 0
    while here < len(path) - 1:
        step = 1
        while here + 2 * step < len(path) and _visible(within, path[here], path[here + 2 * step]):
            step *= 2
        low, high = here + step, min(here + 2 * step, len(path))
        while high - low > 1:
            middle = (low + high) // 2
            if _visible(within, path[here], path[middle]):
                low = middle
            else:
                high = middle
        length += float(np.hypot(*(path[low] - path[here])))
        here = low
    return length


def _coarsen(mask: NDArray[np.bool_], factor: int) -> NDArray[np.bool_]:
    fill = [(0, -n % factor) for n in mask.shape]
    n_y, n_x = ((n + extra[1]) // factor for n, extra in zip(mask.shape, fill, strict=True))
    blocks = np.pad(mask, fill).reshape(n_y, factor, n_x, factor)
    return np.asarray(blocks.any(axis=(1, 3)))
