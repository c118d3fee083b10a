"""Metrics against numbers worked out by hand and against counting all pairs."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_hrstem_defects.core.metrics import auroc, classification, dice, image_level, patch_truth
from napari_hrstem_defects.core.patches import PatchGrid


def test_patch_truth_by_area():
    mask = np.zeros((20, 40), np.uint8)
    grid = PatchGrid((20, 40), 10)
    # Patches of 100 px, so a pixel is 1 %: exactly 1 % and exactly 10 % are ambivalent.
    mask[0, 10:11] = 1  # 1 %
    mask[0, 20:30] = 1  # 10 %
    mask[0:2, 30:36] = 2  # 12 %, and any positive value counts
    mask[10:20, 0:10] = 255  # nothing left to score
    mask[10:20, 10:20] = 255
    mask[10:14, 10:15] = 0
    mask[10, 10:13] = 1  # 3 of 20 scored pixels: 15 %
    np.testing.assert_array_equal(patch_truth(mask, grid), [[0, -1, -1, 1], [-1, 1, 0, 0]])


def test_classification_by_hand():
    # 3 hits, 1 missed, 2 false alarms, 4 rightly clean, 2 ambivalent (one called defective).
    truth = [1, 1, 1, 1, 0, 0, 0, 0, 0, 0, -1, -1]
    found = [1, 1, 1, 0, 1, 1, 0, 0, 0, 0, 1, 0]
    out = classification(truth, found)
    assert out["accuracy"] == pytest.approx(7 / 10)
    assert out["precision"] == pytest.approx(3 / 5)
    assert out["specificity"] == pytest.approx(4 / 6)
    assert out["recall"] == pytest.approx(3 / 4)
    assert out["balanced_accuracy"] == pytest.approx((3 / 4 + 4 / 6) / 2)
    assert out["count"] == 10
    assert out["ambivalent"] == 2
    assert out["confusion"] == {"classes": ["non-defective", "defective"], "counts": [[4, 2], [1, 3]]}
    assert classification(truth, found, ambivalent="defective")["recall"] == pytest.approx(4 / 6)
    assert classification(truth, found, ambivalent="non-defective")["specificity"] == pytest.approx(5 / 8)


def test_several_classes_by_hand():
    out = classification([0, 0, 1, 1, 1, 1], [0, 1, 1, 1, 0, 2], classes=("bulk", "twin", "fault", "vacancy"))
    assert out["accuracy"] == pytest.approx(3 / 6)
    assert out["recall"] == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert out["precision"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert out["specificity"] == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert out["balanced_accuracy"] == pytest.approx(0.5)


def test_undefined_is_nan():
    out = classification([0, 0], [0, 0])
    assert out["accuracy"] == out["specificity"] == 1
    assert all(math.isnan(out[key]) for key in ("precision", "recall", "balanced_accuracy"))
    assert math.isnan(classification([], [])["accuracy"])
    assert math.isnan(dice(np.zeros(4), np.zeros(4), 1))
    assert math.isnan(auroc([1.0, 2.0], np.array([True, True])))
    assert image_level([True], [True])["image_recall"] == 1
    assert math.isnan(image_level([True], [True])["image_specificity"])


def test_image_level_by_hand():
    out = image_level([True, True, False, False, True], [True, True, True, False, False])
    assert out == {"image_recall": pytest.approx(2 / 3), "image_specificity": pytest.approx(1 / 2)}


def test_dice_by_hand():
    found, truth = np.array([1, 1, 0, 2, 1, 0]), np.array([1, 0, 1, 2, 255, 0])
    assert dice(found, truth, 1) == pytest.approx(2 * 1 / (3 + 2))
    assert dice(found, truth, 1, ignore=255) == pytest.approx(2 * 1 / (2 + 2))
    assert dice(found, truth, 1, ignore=truth != 1) == pytest.approx(2 * 1 / (1 + 2))
    assert dice(found, truth, 2) == 1
    assert dice(found, np.zeros(6), 1) == 0


scored = st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=60)


@settings(max_examples=50)
@given(scored)
def test_auroc_counts_pairs(items):
    values = np.array([float(v) for v, _ in items])
    positive = np.array([p for _, p in items])
    above, below = values[positive], values[~positive]
    if not (above.size and below.size):
        assert math.isnan(auroc(values, positive))
        return
    pairs = (above[:, None] > below).sum() + 0.5 * (above[:, None] == below).sum()
    assert auroc(values, positive) == pytest.approx(pairs / (above.size * below.size))
    assert auroc(-values, positive) == pytest.approx(1 - auroc(values, positive))


def test_ignored_scores_do_not_count():
    values = np.array([1, 2, 3, 4], np.uint8)
    positive = np.array([False, True, True, False])
    assert auroc(values, positive) == 0.5
    assert auroc(values, positive, np.array([False, False, False, True])) == 1


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: patch_truth(np.zeros((4, 4)), PatchGrid((8, 8), 4)), "mask"),
        (lambda: classification([0, 1], [0]), "predicted"),
        (lambda: classification([0, 2], [0, 1]), "truth has values"),
        (lambda: classification([0, 1], [0, 1], ambivalent="half"), "ambivalent"),
        (lambda: classification([0, 1], [0, 1], classes="abc", ambivalent="defective"), "ambivalent"),
        (lambda: classification([0], [0], classes=["one"]), "classes"),
        (lambda: auroc([1.0, 2.0], [0, 1]), "positive"),
        (lambda: auroc([np.nan, 2.0], np.array([True, False])), "NaN"),
        (lambda: dice(np.zeros(3), np.zeros(3), 1, ignore=np.zeros(3)), "ignore"),
        (lambda: dice(np.zeros(3), np.zeros(4), 1), "shape"),
    ],
)
def test_bad_arguments_are_named(call, named):
    with pytest.raises(ValueError, match=named):
        call()
