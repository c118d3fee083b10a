"""The neighbourhood graph and W(node), on graphs small enough to count; where patches lie."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_hrstem_defects.core.best_patch import (
    NO_CLEAN_PATCH,
    BestPatch,
    choose,
    frame_slices,
    neighbour_counts,
    patch_edge,
    patch_graph,
    prepared_slices,
    weights,
)
from napari_hrstem_defects.core.preprocessing import Prepared


def grid(text: str) -> np.ndarray:
    return np.array([[c == "#" for c in row] for row in text.split()])


@settings(max_examples=40)
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


@settings(max_examples=100)
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


def test_no_clean_patch_warns():
    choice = choose(np.zeros((3, 3), bool))
    assert choice.index == (1, 1)
    assert choice.warning == NO_CLEAN_PATCH


def test_bad_arguments_are_named():
    for clean in ([True], [[1, 0]], np.ones((0, 3), bool)):
        with pytest.raises(ValueError, match="clean is"):
            weights(clean)
    with pytest.raises(ValueError, match="depth"):
        weights([[True]], depth=0)
    with pytest.raises(ValueError, match="connectivity"):
        patch_graph([[True]], connectivity=6)
    with pytest.raises(ValueError, match="severity"):
        choose([[True]], severity=[[1, 2]])


# Where patches lie, in the frame and in the prepared image -------------------------------------------------------


def blank(frame, shape, period=8.0):
    image = np.zeros(shape, np.float32)
    return Prepared(image, image, np.ones(shape, bool), frame, period)


def test_slices_by_hand():
    # 4 px around 5.5: 4, 5, 6, 7.
    assert frame_slices(BestPatch(5.5, 9.5, 4), (20, 20)) == np.s_[4:8, 8:12]
    # Odd: 5 px around 6.
    assert frame_slices(BestPatch(6.0, 6.0, 5), (20, 20)) == np.s_[4:9, 4:9]
    # Sticks out: moved in.
    assert frame_slices(BestPatch(0.0, 19.0, 8), (20, 20)) == np.s_[0:8, 12:20]


def test_prepared_slices_by_hand():
    # Half the pixels: frame pixels 40...103 are prepared ones 20...51.
    prepared = blank((200, 300), (100, 150))
    patch = BestPatch(71.5, 71.5, 64)
    assert [patch_edge(prepared, size) for size in (1, 64, 5000)] == [1, 32, 100]
    assert prepared_slices(patch, prepared) == np.s_[20:52, 20:52]


@settings(max_examples=100)
@given(
    st.tuples(st.integers(64, 900), st.integers(64, 900)),
    st.floats(0.1, 1.0),
    st.floats(0, 1),
    st.floats(0, 1),
    st.integers(8, 64),
)
def test_slices_are_inside_and_square(frame, scale, fy, fx, size):
    prepared = blank(frame, tuple(max(8, round(n * scale)) for n in frame))
    patch = BestPatch(fy * (frame[0] - 1), fx * (frame[1] - 1), size)
    for (rows, columns), shape, edge in (
        (frame_slices(patch, frame), frame, size),
        (prepared_slices(patch, prepared), prepared.values.shape, patch_edge(prepared, size)),
    ):
        assert 0 <= rows.start < rows.stop <= shape[0]
        assert 0 <= columns.start < columns.stop <= shape[1]
        assert rows.stop - rows.start == columns.stop - columns.start == edge


def test_points_by_hand():
    prepared = blank((100, 60), (50, 20))
    np.testing.assert_allclose(prepared.scale, [0.5, 1 / 3])
    # The corner of the first pixel stays the corner of the first pixel.
    np.testing.assert_allclose(prepared.from_frame([-0.5, -0.5]), [-0.5, -0.5])
    np.testing.assert_allclose(prepared.from_frame([99.5, 59.5]), [49.5, 19.5])
    np.testing.assert_allclose(prepared.from_frame([0.5, 1.0]), [0.0, 0.0])
    points = np.random.default_rng(0).uniform(0, 60, (5, 4, 2))
    np.testing.assert_allclose(prepared.to_frame_points(prepared.from_frame(points)), points)
