"""The neighbourhood graph and W(node), on graphs small enough to count by hand."""

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_hrstem_defects.core.best_patch import (
    NO_CLEAN_PATCH,
    choose,
    neighbour_counts,
    patch_graph,
    weights,
)


def grid(text: str) -> np.ndarray:
    return np.array([[c == "#" for c in row] for row in text.split()])


def test_line_by_hand():
    # Middle: 2 at distance 1, 2 at distance 2. End: one node at each distance.
    w = weights(grid("#####"), depth=10)[0]
    assert w[2] == pytest.approx(2 + 2 / 8 / 2)
    assert w[1] == pytest.approx(2 + 1 / 8 / 2 + 1 / 64 / 6)
    assert w[0] == pytest.approx(1 + 1 / 16 + 1 / 384 + 1 / 512 / 24)
    assert w[4] == w[0]


def test_depth_cuts_off():
    np.testing.assert_array_equal(weights(grid("#####"), depth=1), [[1, 2, 2, 2, 1]])


def test_plus_by_hand():
    w = weights(grid(".#. ### .#."))
    assert w[1, 1] == 4
    assert w[0, 1] == pytest.approx(1 + 3 / 16)
    assert w[0, 0] == 0


def test_plus_8_connected():
    # The arms touch at corners: each has the centre and two arms at distance 1, the opposite arm at 2.
    w = weights(grid(".#. ### .#."), connectivity=8)
    assert w[1, 1] == 4
    assert w[0, 1] == pytest.approx(3 + 1 / 16 / 2)


def test_full_square_by_hand():
    w = weights(np.ones((3, 3), bool))
    assert w[1, 1] == pytest.approx(4 + 4 / 16)
    assert w[0, 1] == pytest.approx(3 + 3 / 16 + 2 / 384)
    assert w[0, 0] == pytest.approx(2 + 3 / 16 + 2 / 384 + 1 / (512 * 24))


def test_ring_distances_go_around():
    # 8 nodes in a ring: 2 at distances 1, 2, 3 and one opposite at 4.
    counts = neighbour_counts(patch_graph(grid("### #.# ###")), depth=5)
    assert len(counts) == 8
    assert set(map(tuple, counts.values())) == {(2, 2, 2, 1, 0)}


def test_components_do_not_see_each_other():
    w = weights(grid("##.##. ......"))
    np.testing.assert_array_equal(w[0], [1, 1, 0, 1, 1, 0])
    assert not w[1].any()


def test_rows_do_not_wrap_around():
    assert not weights(grid("..# #..")).any()
    assert not weights(grid("..# #.."), connectivity=8).any()


@settings(max_examples=40, deadline=None)
@given(
    arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))), st.integers(1, 12), st.sampled_from([4, 8])
)
def test_w_is_the_published_sum_over_a_search(clean, depth, connectivity):
    """Breadth first, one ring of neighbours after the other, without a graph."""
    steps = [(0, 1), (1, 0), (0, -1), (-1, 0)]
    steps += [(1, 1), (1, -1), (-1, 1), (-1, -1)] if connectivity == 8 else []
    nodes = {(y, x) for y, x in np.argwhere(clean).tolist()}
    graph = patch_graph(clean, connectivity=connectivity)
    counts, w = neighbour_counts(graph, depth=depth), weights(clean, depth=depth, connectivity=connectivity)
    assert list(graph) == sorted(nodes)
    assert not w[~clean].any()
    for node in nodes:
        seen, ring, found = {node}, {node}, []
        for _ in range(depth):
            ring = {(y + dy, x + dx) for y, x in ring for dy, dx in steps} & nodes - seen
            seen |= ring
            found.append(len(ring))
        assert counts[node] == found
        base = 2 * connectivity
        expected = sum(n * base ** (1 - i) / math.factorial(i) for i, n in enumerate(found, 1))
        assert w[node] == pytest.approx(expected)


@settings(max_examples=100, deadline=None)
@given(
    arrays(
        bool, st.tuples(st.integers(1, 10), st.integers(1, 10)), elements=st.sampled_from([True, True, False])
    )
)
def test_w_orders_lexicographically(clean):
    """The published reason for the weights: W compares N1 first, then N2, and so on."""
    choice = choose(clean, depth=10)
    nodes = clean if clean.any() else ~clean
    counts = neighbour_counts(patch_graph(nodes, connectivity=choice.connectivity), depth=10)
    best = max(tuple(counts[tuple(index)]) for index in np.argwhere(nodes).tolist())
    tied = [tuple(i) for i in np.argwhere(nodes).tolist() if tuple(counts[tuple(i)]) == best]
    assert set(choice.candidates) == set(tied)
    assert choice.weight == pytest.approx(weights(nodes, connectivity=choice.connectivity).max())


def test_choose_breaks_ties_row_major():
    choice = choose(np.ones((8, 8), bool))
    assert choice.candidates == ((3, 3), (3, 4), (4, 3), (4, 4))
    assert choice.index == (3, 3)
    assert choice.connectivity == 4
    assert choice.warning is None


def test_choose_breaks_ties_by_severity():
    severity = np.zeros((8, 8))
    severity[3, 3] = np.nan
    severity[3, 4] = 2.0
    severity[4, 3] = severity[4, 4] = 1.0
    choice = choose(np.ones((8, 8), bool), severity=severity)
    assert choice.candidates == ((4, 3), (4, 4), (3, 4), (3, 3))


def test_choose_tells_far_terms_apart():
    # A chain of 12: seen from either end nothing but the far end differs at distances beyond double
    # precision.
    clean = np.zeros((3, 27), bool)
    clean[0, :12] = True
    clean[0, 13:26] = True
    assert neighbour_counts(patch_graph(clean), depth=12)[0, 5] == [2, 2, 2, 2, 2, 1, 0, 0, 0, 0, 0, 0]
    assert choose(clean, depth=12).index == (0, 19)


def test_isolated_patches_fall_back_to_corners():
    clean = grid("#.#.. .#... ....#")
    choice = choose(clean)
    assert choice.connectivity == 8
    assert choice.index == (1, 1)
    assert choice.weight == 2


def test_all_alone_ties_everywhere():
    choice = choose(grid("#..# .... #..#"), severity=np.arange(12.0).reshape(3, 4)[::-1])
    assert choice.weight == 0
    assert choice.index == (2, 0)
    assert len(choice.candidates) == 4


def test_no_clean_patch_warns():
    choice = choose(np.zeros((3, 3), bool))
    assert choice.index == (1, 1)
    assert choice.warning == NO_CLEAN_PATCH


@pytest.mark.parametrize("clean", [[[True]], [[False]]])
def test_single_patch(clean):
    choice = choose(np.array(clean))
    assert choice.index == (0, 0)
    assert choice.candidates == ((0, 0),)


def test_large_grid_is_quick():
    clean = np.ones((32, 32), bool)
    start = time.perf_counter()
    choice = choose(clean)
    # A tenth of that on a machine at rest.
    assert time.perf_counter() - start < 3
    assert len(choice.candidates) == 144  # 10 patches from every side


@pytest.mark.parametrize("clean", [[True], [[1, 0]], np.ones((0, 3), bool)])
def test_bad_grid_is_named(clean):
    with pytest.raises(ValueError, match="clean is"):
        weights(clean)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="depth"):
        weights([[True]], depth=0)
    with pytest.raises(ValueError, match="connectivity"):
        patch_graph([[True]], connectivity=6)
    with pytest.raises(ValueError, match="severity"):
        choose([[True]], severity=[[1, 2]])
