"""Where patches lie, in the frame and in the prepared image."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_hrstem_defects.core.best_patch import BestPatch, frame_slices, patch_edge, prepared_slices
from napari_hrstem_defects.core.preprocessing import Prepared


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
    assert patch_edge(prepared, 64) == 32
    assert prepared_slices(patch, prepared) == np.s_[20:52, 20:52]


@settings(max_examples=100, deadline=None)
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


@pytest.mark.parametrize("size", [1, 64, 5000])
def test_patch_edge_stays_possible(size):
    assert 1 <= patch_edge(blank((200, 300), (60, 90)), size) <= 60
