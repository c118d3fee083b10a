"""Choice of the best patch: neighbourhood graph of the clean patches and W(node); where a patch lies."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import factorial

import networkx as nx
import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_hrstem_defects.core.preprocessing import Prepared
from napari_hrstem_defects.errors import RecipeError

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

    Examples
    --------
    >>> import napari_hrstem_defects as hd
    >>> hd.BestPatch(200.0, 310.5, 128, "hand")
    BestPatch(y=200.0, x=310.5, size=128, placed='hand')
    """

    y: float
    x: float
    size: int
    placed: str = "automatic"


@dataclass(frozen=True, eq=False)
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
    graph : networkx.Graph
        Neighbourhood graph that W was taken from; nodes are ``(row, column)``.
    warning : str or None
        A warning about the choice, one sentence.
    """

    index: tuple[int, int]
    candidates: tuple[tuple[int, int], ...]
    weight: float
    connectivity: int
    graph: nx.Graph
    warning: str | None = None


def patch_graph(clean: ArrayLike, *, connectivity: int = 4) -> nx.Graph:
    """Neighbourhood graph of the clean patches.

    Parameters
    ----------
    clean : bool array (ny, nx)
        True where a patch is a node.
    connectivity : {4, 8}
        Patches joined by an edge only, or by a corner as well.

    Returns
    -------
    networkx.Graph
        Nodes are ``(row, column)`` in row-major order.
    """
    nodes = _nodes(clean)
    if connectivity not in BASES:
        raise ValueError(f"connectivity is {connectivity}, expected 4 or 8")
    graph: nx.Graph = nx.Graph()
    graph.add_nodes_from((int(y), int(x)) for y, x in np.argwhere(nodes))
    steps = ((0, 1), (1, 0)) if connectivity == 4 else ((0, 1), (1, 0), (1, 1), (1, -1))
    graph.add_edges_from(
        ((y, x), (y + dy, x + dx)) for y, x in graph for dy, dx in steps if graph.has_node((y + dy, x + dx))
    )
    return graph


def neighbour_counts(graph: nx.Graph, *, depth: int = 10) -> dict[tuple[int, int], list[int]]:
    """Number of nodes by their graph distance from each node.

    Parameters
    ----------
    graph : networkx.Graph
    depth : int
        Largest distance k.

    Returns
    -------
    dict of node to list of int
        Item i - 1 is N_i, the number of nodes whose shortest path has i steps.
    """
    if depth < 1:
        raise ValueError(f"depth is {depth}, expected at least 1")
    counts = {}
    for node in graph:
        found = [0] * depth
        for distance in nx.single_source_shortest_path_length(graph, node, cutoff=depth).values():
            if distance:
                found[distance - 1] += 1
        counts[node] = found
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
    base = BASES[connectivity]
    scale = np.array([float(base) ** (1 - i) / factorial(i) for i in range(1, depth + 1)])
    out = np.zeros(_nodes(clean).shape)
    for node, counts in neighbour_counts(patch_graph(clean, connectivity=connectivity), depth=depth).items():
        out[node] = scale @ counts
    return out


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

    Examples
    --------
    >>> import napari_hrstem_defects as hd
    >>> hd.choose_best_patch([[True] * 3] * 3 + [[False] * 3]).index
    (1, 1)
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
        graph = patch_graph(nodes, connectivity=connectivity)
        if graph.number_of_edges():
            break
    # Whole numbers: floating point cannot tell the far terms apart.
    base = BASES[connectivity]
    factors = [base ** (depth - i) * (factorial(depth) // factorial(i)) for i in range(1, depth + 1)]
    score = {
        node: sum(n * f for n, f in zip(counts, factors, strict=True))
        for node, counts in neighbour_counts(graph, depth=depth).items()
    }
    best = max(score.values())
    ties = [node for node, value in score.items() if value == best]
    ties.sort(key=lambda node: (badness[node], node))
    weight = best / (base ** (depth - 1) * factorial(depth))
    return PatchChoice(ties[0], tuple(ties), weight, connectivity, graph, warning)


def _nodes(clean: ArrayLike) -> NDArray[np.bool_]:
    nodes = np.asarray(clean)
    if nodes.ndim != 2 or nodes.size == 0 or nodes.dtype != np.bool_:
        raise ValueError(f"clean is a {nodes.dtype} array of shape {nodes.shape}, expected booleans (ny, nx)")
    return nodes


def placed_by_hand(wanted: BestPatch | tuple[float, float], size: int, shape: tuple[int, int]) -> BestPatch:
    """Patch of `size` px around a point, or a given one, moved so that all of it lies on a frame of `shape`.

    Raises
    ------
    RecipeError
        If it lies outside of the frame, or is larger.
    """
    if not isinstance(wanted, BestPatch):
        wanted = BestPatch(float(wanted[0]), float(wanted[1]), size, "hand")
    if wanted.size > min(shape):
        raise RecipeError(f"The best patch is {wanted.size} px wide, more than the image; make it smaller.")
    point, last = np.array([wanted.y, wanted.x]), np.array(shape) - 0.5
    if not ((point >= -0.5) & (point <= last)).all():
        raise RecipeError(
            f"The best patch at y = {wanted.y:g}, x = {wanted.x:g} lies outside the image; place it on it."
        )
    y, x = np.clip(point, wanted.size / 2 - 0.5, last - wanted.size / 2)
    return replace(wanted, y=float(y), x=float(x))


def patch_edge(prepared: Prepared, size: int) -> int:
    """Edge in pixels of the prepared image of a patch of `size` pixels of the frame."""
    return max(1, min(round(size * float(prepared.scale.mean())), *prepared.values.shape))


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
