"""Masks from label images and polygons."""

import numpy as np
import pytest

from napari_hrstem_defects.errors import ModelError
from napari_hrstem_defects.models.data import mask_of_labels, mask_of_polygons

SHAPE = (40, 60)


def shape(label, points, kind="polygon"):
    return {"label": label, "points": points, "shape_type": kind}


def square(label, y0, x0, y1, x1):
    return shape(label, [[x0, y0], [x1, y0], [x1, y1], [x0, y1]])


def test_labels_of_napari():
    labels = np.zeros(SHAPE, np.int64)
    labels[5:10, 5:10], labels[20:25], labels[30, 30], labels[0] = 1, 2, 7, 255
    mask = mask_of_labels(labels, SHAPE, "x")
    assert mask.dtype == np.uint8
    assert (mask[7, 7], mask[22, 0], mask[30, 30], mask[0, 0], mask[15, 15]) == (1, 2, 1, 255, 0)


@pytest.mark.parametrize(
    "labels",
    [
        np.ones(SHAPE, bool),
        np.ones((1, *SHAPE), np.uint16),
        np.ones(SHAPE, np.float32),
        np.ones((*SHAPE, 3), np.uint8),
    ],
)
def test_all_sorts_of_label_images(labels):
    assert (mask_of_labels(labels, SHAPE, "x") == 1).all()


def test_a_black_and_white_picture_is_a_mask():
    picture = np.zeros(SHAPE, np.uint8)
    picture[:10] = 255
    np.testing.assert_array_equal(mask_of_labels(picture, SHAPE, "x"), picture // 255)


def faded():
    """A white disk whose edge was smoothed."""
    y, x = np.indices(SHAPE)
    return (255 * np.clip((15 - np.hypot(y - 20, x - 30)) / 3, 0, 1)).astype(np.uint8)


def test_many_numbered_defects_are_no_soft_edges():
    labels = np.full(SHAPE, 255)
    labels[:10] = 0
    for k in range(12):
        labels[12, k] = k + 1
    mask = mask_of_labels(labels, SHAPE, "x")
    assert np.unique(mask).tolist() == [0, 1, 2, 255]
    assert (mask[12, :12] > 0).all()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            np.dstack([np.zeros(SHAPE), np.eye(*SHAPE), np.zeros(SHAPE)]).astype(np.uint8),
            "a coloured picture",
        ),
        (faded(), "soft edges"),
        (np.zeros((40, 50), int), r"the labels have shape \(40, 50\), the image has \(40, 60\)"),
        (np.full(SHAPE, 0.5), "whole numbers, not float64"),
        (np.full(SHAPE, -1), "no negative numbers"),
    ],
)
def test_what_is_no_label_image(labels, message):
    with pytest.raises(ModelError, match=message):
        mask_of_labels(labels, SHAPE, "x")


def test_polygons():
    drawn = {
        "imageHeight": 40,
        "imageWidth": 60,
        "shapes": [
            square("S", 10, 20, 19, 39),  # a defect drawn before the crystal around it stays one
            square("B", 0, 0, 39, 59),
            shape("A", [[0, 30], [9, 39]], "rectangle"),
            shape("S", [[50, 8], [50, 11]], "circle"),
            square("ignore", 0, 0, 2, 2),
        ],
    }
    mask = mask_of_polygons(drawn, SHAPE, "x")
    assert (mask[15, 30], mask[35, 5], mask[8, 50], mask[1, 1], mask[20, 5]) == (1, 2, 1, 255, 0)
    assert np.count_nonzero(mask[10:20, 20:40] == 1) == 200
    assert np.count_nonzero(mask == 2) == 100
    assert abs(np.count_nonzero(mask[:20, 45:] == 1) - np.pi * 9) < 6


def test_no_polygons_is_no_defect():
    assert not mask_of_polygons({"shapes": []}, SHAPE, "x").any()


@pytest.mark.parametrize(
    ("drawn", "message"),
    [
        ([], "no labelme polygons"),
        ({"shapes": None}, "no labelme polygons"),
        (
            {"shapes": [], "imageHeight": 41, "imageWidth": 60},
            "drawn on an image of 41 × 60 px, this one has 40 × 60",
        ),
        ({"shapes": [{"label": "S"}]}, "no polygon, rectangle or circle"),
        ({"shapes": [shape("S", [[0, 0], [1, 1]], "line")]}, "no polygon, rectangle or circle"),
        ({"shapes": [shape("S", [[0, 0], [1, float("nan")], [2, 2]])]}, "no polygon, rectangle or circle"),
        ({"shapes": ["S"]}, "no polygon, rectangle or circle"),
    ],
)
def test_what_is_no_polygon(drawn, message):
    with pytest.raises(ModelError, match=message):
        mask_of_polygons(drawn, SHAPE, "x")
