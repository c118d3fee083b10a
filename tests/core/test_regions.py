"""Regions measured on shapes whose area, length and angle are known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_hrstem_defects.core.lattice import Lattice
from napari_hrstem_defects.core.regions import (
    find_regions,
    geodesic_diameter,
    label_regions,
    remove_small,
)

SIZE = 512
Y, X = np.mgrid[:SIZE, :SIZE] - (SIZE / 2 - 0.27)
RADIUS, ANGLE = np.hypot(Y, X), np.arctan2(-Y, X)


def band(length: float, width: float, degrees: float) -> np.ndarray:
    """Rectangle whose long side runs at an angle to the x axis, counter-clockwise on screen."""
    t = np.deg2rad(degrees)
    along, across = X * np.cos(t) - Y * np.sin(t), X * np.sin(t) + Y * np.cos(t)
    return (np.abs(along) < length / 2) & (np.abs(across) < width / 2)


def measure(mask: np.ndarray, **options: object):
    (region,) = find_regions(mask.astype(np.uint8), np.zeros(mask.shape, np.float32), **options)
    return region


@pytest.mark.parametrize(("length", "width"), [(400, 20), (200, 100), (450, 6)])
@pytest.mark.parametrize("degrees", [-75, -45, 0, 13, 45, 61.3, 90])
def test_rotated_rectangles(length, width, degrees):
    mask = band(length, width, degrees)
    region = measure(mask)
    assert region.area_px == mask.sum()
    assert region.length_px == pytest.approx(length, rel=0.03)
    # The area of a drawn rectangle differs from L·W, so refer the width to what was drawn.
    assert region.width_px == pytest.approx(mask.sum() / length, rel=0.03)
    assert (region.orientation_deg - degrees + 90) % 180 - 90 == pytest.approx(0, abs=0.5)
    assert -90 < region.orientation_deg <= 90


@pytest.mark.parametrize("half_angle", [1.0, 3.0])
def test_arcs_follow_the_bend(half_angle):
    radius, width = 200, 10
    region = measure((np.abs(RADIUS - radius) < width / 2) & (np.abs(ANGLE) < half_angle))
    assert region.length_px == pytest.approx(2 * half_angle * radius, rel=width / 2 / radius)


def test_ring_counts_half_its_circumference():
    assert measure(np.abs(RADIUS - 200) < 3).length_px == pytest.approx(np.pi * 200, rel=0.03)


def test_disk_is_the_square_of_its_area():
    region = measure(RADIUS < 100)
    assert region.length_px == pytest.approx(np.sqrt(np.pi) * 100, rel=0.01)
    assert region.width_px == pytest.approx(region.length_px)


def test_narrow_gap_is_not_jumped():
    # Two arms three pixels apart, joined at the right end only: 50 there, 4 down, 50 back.
    mask = np.zeros((20, 60), bool)
    mask[8, 5:55] = mask[12, 5:55] = True
    mask[8:12, 54] = True
    assert geodesic_diameter(mask) == pytest.approx(103, abs=3)


@pytest.mark.parametrize(
    ("cells", "length"),
    [
        ([(5, 5)], 1.0),
        ([(5, x) for x in range(3, 10)], 7.0),
        ([(i, i) for i in range(3, 13)], 9 * np.sqrt(2) + 1),
        ([(5, 5), (5, 6), (6, 5), (6, 6)], 2.0),
    ],
)
def test_tiny_regions(cells, length):
    mask = np.zeros((16, 16), bool)
    mask[tuple(np.transpose(cells))] = True
    region = measure(mask)
    assert region.length_px == pytest.approx(length, rel=0.03)
    assert region.width_px == pytest.approx(len(cells) / region.length_px)


def test_whole_image_and_nothing():
    assert measure(np.ones((50, 200), bool)).length_px == pytest.approx(200, rel=0.01)
    assert find_regions(np.zeros((9, 9), np.uint8), np.zeros((9, 9))) == ()


def test_place_severity_and_order():
    labels = np.zeros((40, 60), np.uint8)
    labels[2:6, 10:20] = 1  # 40 px
    labels[30:33, 5:8] = 2  # 9 px
    labels[20:23, 40:43] = 1  # 9 px
    labels[23, 43] = 1  # joined by a corner
    labels[22, 43] = 2  # another label in touch
    severity = np.arange(labels.size, dtype=float).reshape(labels.shape)
    regions = find_regions(labels, severity, pixel_size_nm=0.5)
    assert [(r.id, r.label, r.area_px) for r in regions] == [(1, 1, 40), (2, 1, 10), (3, 2, 9), (4, 2, 1)]
    first = regions[0]
    assert first.centroid == (3.5, 14.5)
    assert first.bbox == (2, 10, 6, 20)
    assert first.mean_severity == pytest.approx(3.5 * 60 + 14.5)
    assert first.max_severity == 5 * 60 + 19
    assert first.area_nm2 == pytest.approx(10.0)
    assert first.length_nm == pytest.approx(first.length_px / 2)
    assert first.width_nm == pytest.approx(first.width_px / 2)
    numbers = label_regions(labels)
    assert numbers.dtype == np.int32
    for region in regions:
        assert (numbers == region.id).sum() == region.area_px
        y0, x0, y1, x1 = region.bbox
        assert (numbers[y0:y1, x0:x1] == region.id).sum() == region.area_px
    assert [r.id for r in find_regions(labels, severity, min_area_px=10)] == [1, 2]
    kept = remove_small(labels, 9)
    assert kept.dtype == np.uint8
    assert (kept != labels).sum() == 1
    assert not remove_small(labels, 100).any()


def test_angle_to_the_lattice():
    square = Lattice((0.0, 10.0), (10.0, 0.0), 10.0, 1.0)
    for degrees, expected in [(0, 0), (20, 20), (30, 15), (50, 5), (-45, 0), (80, 10)]:
        found = measure(band(400, 10, degrees), lattice=square)
        assert found.to_lattice_deg == pytest.approx(expected, abs=0.5)
    # A single direction 30° up on screen has a negative y component.
    slanted = Lattice((-5.0, 8.660), (3.0, 40.0), 18.0, 1.0)
    assert measure(band(400, 10, 30), lattice=slanted).to_lattice_deg == pytest.approx(0, abs=0.5)
    assert measure(band(400, 10, 30)).to_lattice_deg is None


@settings(max_examples=60)
@given(arrays(np.uint8, st.tuples(st.integers(1, 24), st.integers(1, 24)), elements=st.integers(0, 2)))
def test_any_labels(labels):
    regions = find_regions(labels, labels.astype(np.float32))
    assert sum(r.area_px for r in regions) == (labels > 0).sum()
    for r in regions:
        assert np.isfinite([r.length_px, r.width_px, r.orientation_deg]).all()
        assert r.length_px * r.width_px == pytest.approx(r.area_px)
        assert r.length_px >= r.width_px * (1 - 1e-9)


def test_bad_arguments_are_named():
    labels = np.zeros((5, 5), np.uint8)
    with pytest.raises(ValueError, match="labels"):
        find_regions(labels.astype(float), labels)
    with pytest.raises(ValueError, match="severity"):
        find_regions(labels, np.zeros((4, 5)))
    with pytest.raises(ValueError, match="pixel_size_nm"):
        find_regions(labels, labels, pixel_size_nm=0.0)


def test_region_that_may_go_on_where_nothing_is_judged():
    mask = np.zeros((60, 80), bool)
    mask[20:30, 30:50] = True
    valid_mask = np.ones(mask.shape, bool)
    valid_mask[:, 50:] = False
    assert not measure(mask).at_rim
    assert measure(mask, valid_mask=valid_mask).at_rim
    assert not measure(np.roll(mask, -1, axis=1), valid_mask=valid_mask).at_rim
    assert measure(np.roll(mask, -20, axis=0)).at_rim
