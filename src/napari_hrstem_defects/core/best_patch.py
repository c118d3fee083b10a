"""Choice of the best patch: neighbourhood graph of the clean patches and W(node)."""

from __future__ import annotations

from dataclasses import dataclass
from math import factorial

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: Base b of the weights by connectivity: large enough that one patch more at distance i outweighs whatever lies
#: further away, as a patch has 4i (8i) others at distance i around it ([D], choice of the model patch).
BASES = {4: 8, 8: 16}

#: What is said when no patch is clean.
NO_CLEAN_PATCH = (
    "No patch was found clean, so the best patch was chosen among the defective ones; place it by hand on a "
    "clean area."
)


@dataclass(frozen=True)
class BestPatch:
    """The model patch that the filters are built from.

    Attributes
    ----------
    y, x : float
        Centre in pixels.
    size : int
        Edge in pixels.
    placed : {"automatic", "hand"}
        Who placed it.
    """

    y: float
    x: float
    size: int
    placed: str = "automatic"


@dataclass(frozen=True)
class PatchChoice:
    """Which patch of the grid serves as model.

    Attributes
    ----------
    index : tuple of int
        ``(row, column)`` in the patch grid.
    candidates : tuple of tuple of int
        All patches of greatest W, the chosen one first, in the order in which ties are broken.
    weight : float
        W of the chosen patch.
    connectivity : {4, 8}
        Graph that W was taken from; 8 where no two clean patches share an edge.
    warning : str or None
        A doubt about the choice, in plain words.
    """

    index: tuple[int, int]
    candidates: tuple[tuple[int, int], ...]
    weight: float
    connectivity: int
    warning: str | None = None


def neighbour_counts(clean: ArrayLike, *, depth: int = 10, connectivity: int = 4) -> NDArray[np.int64]:
    """Count the clean patches by their graph distance from each clean patch.

    Parameters
    ----------
    clean : bool array (ny, nx)
        True where a patch is a node of the graph.
    depth : int
        Largest distance k.
    connectivity : {4, 8}
        Patches joined by an edge only, or by a corner as well.

    Returns
    -------
    int array (ny, nx, depth)
        ``[..., i - 1]`` is N_i, the number of nodes whose shortest path inside the graph has i steps; 0 where
        `clean` is False.
    """
    nodes = _nodes(clean)
    if depth < 1:
        raise ValueError(f"depth is {depth}, expected at least 1")
    if connectivity not in BASES:
        raise ValueError(f"connectivity is {connectivity}, expected 4 or 8")
    n_y, n_x = nodes.shape
    counts = np.zeros((n_y, n_x, depth), np.int64)
    # The grid is one long integer, a bit per patch and an empty column that keeps rows from running into each
    # other: a step of the breadth-first search is then a handful of shifts for all patches at once.
    stride = n_x + 1
    padded = np.zeros((n_y, stride), bool)
    padded[:, :n_x] = nodes
    graph = int.from_bytes(np.packbits(padded, bitorder="little").tobytes(), "little")
    for y, x in np.argwhere(nodes).tolist():
        front = 1 << (y * stride + x)
        unseen = graph ^ front
        for i in range(depth):
            beside = (front << 1) | (front >> 1)
            if connectivity == 8:
                beside |= front
                front = beside | (beside << stride) | (beside >> stride)
            else:
                front = beside | (front << stride) | (front >> stride)
            front &= unseen
            if not front:
                break
            unseen ^= front
            counts[y, x, i] = front.bit_count()
    return counts


def weights(clean: ArrayLike, *, depth: int = 10, connectivity: int = 4) -> NDArray[np.float64]:
    """Embedding of each clean patch among other clean patches.

    W(n) = Σ_{i=1...k} N_i(n) · b^(1-i) / i!, with N_i the number of nodes at graph distance i inside the
    graph of the clean patches, b = 8 for 4-connected and 16 for 8-connected patches. W orders patches by N₁,
    then by N₂, and so on: the best patch is the one deepest inside clean surroundings.

    Parameters
    ----------
    clean : bool array (ny, nx)
        True where a patch is a node of the graph.
    depth : int
        Largest distance k. In double precision terms beyond i = 9 hardly count.
    connectivity : {4, 8}
        Patches joined by an edge only, or by a corner as well.

    Returns
    -------
    float array (ny, nx)
        0 where `clean` is False, and at patches without a neighbour.

    References
    ----------
    .. [D] Dennler et al., Micron 146 (2021) 103069 (choice of the model patch).

    Examples
    --------
    >>> weights([[True, True, True]], depth=2)
    array([[1.0625, 2.    , 1.0625]])
    """
    counts = neighbour_counts(clean, depth=depth, connectivity=connectivity)
    base = BASES[connectivity]
    scale = [float(base) ** (1 - i) / factorial(i) for i in range(1, depth + 1)]
    return counts.astype(float) @ np.array(scale)


def choose(clean: ArrayLike, *, depth: int = 10, severity: ArrayLike | None = None) -> PatchChoice:
    """Choose the patch deepest inside the clean area.

    The greatest W of the 4-connected graph wins. Where no two clean patches share an edge (W = 0 everywhere),
    the 8-connected graph decides; where no patch is clean, the graph of the defective ones does, with a
    warning. Ties go to the lowest mean severity, then to the first in row-major order. W is compared exactly,
    not in floating point.

    Parameters
    ----------
    clean : bool array (ny, nx)
    depth : int
        Largest graph distance k.
    severity : float array (ny, nx), optional
        Mean severity of each patch, from an earlier round; NaN counts as worst.

    Returns
    -------
    PatchChoice
    """
    nodes = _nodes(clean)
    if severity is None:
        badness = np.zeros(nodes.shape)
    else:
        badness = np.asarray(severity, dtype=float)
        if badness.shape != nodes.shape:
            raise ValueError(
                f"severity has shape {badness.shape}, expected one value per patch, {nodes.shape}"
            )
        badness = np.where(np.isnan(badness), np.inf, badness)
    warning = None
    if not nodes.any():
        nodes, warning = ~nodes, NO_CLEAN_PATCH
    for connectivity in BASES:
        counts = neighbour_counts(nodes, depth=depth, connectivity=connectivity)
        if counts.any():
            break
    score = _exact_weights(counts, nodes, connectivity)
    best = max(score.values())
    ties = [index for index, value in score.items() if value == best]
    ties.sort(key=lambda index: (badness[index], index))
    weight = best / _denominator(connectivity, depth)
    return PatchChoice(ties[0], tuple(ties), weight, connectivity, warning)


def _nodes(clean: ArrayLike) -> NDArray[np.bool_]:
    nodes = np.asarray(clean)
    if nodes.ndim != 2 or nodes.size == 0 or nodes.dtype != np.bool_:
        raise ValueError(f"clean is a {nodes.dtype} array of shape {nodes.shape}, expected booleans (ny, nx)")
    return nodes


def _denominator(connectivity: int, depth: int) -> int:
    return int(BASES[connectivity] ** (depth - 1) * factorial(depth))


def _exact_weights(
    counts: NDArray[np.int64], nodes: NDArray[np.bool_], connectivity: int
) -> dict[tuple[int, int], int]:
    """W times its common denominator, as whole numbers: floating point cannot tell the far terms apart."""
    depth = counts.shape[2]
    base = BASES[connectivity]
    factors = [base ** (depth - i) * (factorial(depth) // factorial(i)) for i in range(1, depth + 1)]
    return {
        (y, x): sum(n * f for n, f in zip(counts[y, x].tolist(), factors, strict=True))
        for y, x in np.argwhere(nodes).tolist()
    }
