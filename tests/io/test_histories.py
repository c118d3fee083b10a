"""Drift, linking of regions over frames, growth: against movements and lengths that were put in."""

import itertools

import numpy as np
import pytest

from benchmarks.growing_fault import growing_fault
from napari_hrstem_defects.core.regions import find_regions
from napari_hrstem_defects.io.histories import Linker, frame_drift


def box(y, x, height=4, width=10, label=1, shape=(64, 96)):
    labels = np.zeros(shape, np.uint8)
    labels[y : y + height, x : x + width] = label
    return labels


def link(linker, labels, drift=(0.0, 0.0)):
    return linker.add(labels, find_regions(labels, labels.astype(float), pixel_size_nm=0.1), drift)


@pytest.mark.parametrize("drift_px", [(1.5, -2.25), (0.0, 0.0), (-3.0, 1.0)])
def test_drift_of_a_simulated_lattice(drift_px):
    # The offset of a simulated frame is that of its field of view: the specimen moves the other way.
    offset = tuple(-0.03 * d for d in drift_px)
    frames = list(growing_fault(3, rate_nm=0.1, drift_nm=offset, dose=50.0))
    for before, after in itertools.pairwise(frames):
        assert frame_drift(before, after) == pytest.approx(drift_px, abs=0.15)


def test_drift_of_nothing():
    blank = np.zeros((64, 64))
    assert frame_drift(blank, blank) == (0.0, 0.0)
    noise = np.random.default_rng(0).normal(size=(2, 64, 64))
    noise[0, 3, 3] = np.nan
    assert max(map(abs, frame_drift(*noise))) <= 16


def test_two_defects_keep_their_numbers_while_they_move():
    linker = Linker()
    found = []
    for t in range(5):
        labels = box(10, 10 + 8 * t, width=12) | box(40, 60 - 8 * t, width=10)
        found.append(link(linker, labels, (0.0, 0.0)))
    # 8 px a frame at a length of 12 px: they overlap from frame to frame.
    assert found == [[1, 2]] * 5
    assert [h.frames for h in linker.histories] == [[0, 1, 2, 3, 4]] * 2


def test_drift_is_taken_off_before_linking():
    columns = [10, 40, 70]
    without, with_drift = Linker(), Linker()
    apart = [link(without, box(10, x, 4, 4)) for x in columns]
    together = [link(with_drift, box(10, x, 4, 4), (0.0, 0.0 if x == 10 else 30.0)) for x in columns]
    assert apart == [[1], [2], [3]]
    assert together == [[1], [1], [1]]


def test_a_defect_may_be_missed_for_some_frames():
    linker = Linker(gap=2)
    nothing = np.zeros((64, 96), np.uint8)
    seen = [box(10, 10), nothing, nothing, box(10, 11), nothing, nothing, nothing, box(10, 11)]
    assert [link(linker, labels) for labels in seen] == [[1], [], [], [1], [], [], [], [2]]


def test_labels_are_not_mixed():
    linker = Linker()
    assert link(linker, box(10, 10, label=1)) == [1]
    assert link(linker, box(10, 10, label=2)) == [2]


def test_merging_and_splitting():
    linker = Linker()
    apart = box(10, 10, width=20) | box(10, 40, width=12)
    assert link(linker, apart) == [1, 2]
    assert link(linker, box(10, 10, width=42)) == [1]
    assert linker.histories[1].merged_into == 1
    assert link(linker, apart) == [1, 3]
    assert linker.histories[2].split_from == 1


def test_growth_is_the_slope_and_the_rim_does_not_count():
    linker = Linker()
    for t in range(8):
        # Grows by 3 px a frame until it reaches the rim; in one frame only a part of it is found.
        link(linker, box(10, 71, width=6 if t == 3 else min(4 + 3 * t, 25)))
    (history,) = linker.histories
    growth = history.growth("area_px")
    assert growth.rate == pytest.approx(3 * 4)
    assert history.growth("length_nm").rate == pytest.approx(0.3, abs=0.01)
    assert [region.at_rim for region in history.regions] == [False] * 7 + [True]
    short = Linker()
    link(short, box(10, 10))
    assert short.histories[0].growth("length_px") is None
