"""One scoring for all groups: against numbers worked out by hand, and against the scripts that come with the data."""

import math
import runpy
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import napari_hrstem_defects as hd
from benchmarks.accuracy import datasets, scoring
from benchmarks.accuracy.scoring import Result, score_frame
from napari_hrstem_defects.core.patches import PatchGrid, PatchTable


def result(labels: NDArray[np.uint8], severity: NDArray[np.float32], domains: Any = None) -> Result:
    return Result(labels, severity, np.zeros(labels.shape, np.uint8) if domains is None else domains)


# -- by hand ----------------------------------------------------------------------------------------------------


def test_tolerance_leaves_out_a_border_on_either_side() -> None:
    labels = np.zeros((60, 50), np.uint8)
    labels[20:40] = 1
    truth = datasets.Truth(labels, np.zeros(labels.shape, bool), tolerance_px=4.0, margin_px=10.0)
    assert set(np.flatnonzero(~truth.scored[:, 0])) == {*range(16, 24), *range(36, 44)}
    # Row 9 is 11 px from row 20, row 10 is 10 px away.
    assert set(np.flatnonzero(truth.clear[:, 0])) == {*range(10), *range(50, 60)}


def test_band_that_is_too_wide_within_the_tolerance_is_perfect_and_half_a_band_is_two_thirds() -> None:
    labels = np.zeros((60, 50), np.uint8)
    labels[20:40] = 1
    truth = datasets.Truth(labels, np.zeros(labels.shape, bool), tolerance_px=4.0)
    wide, half = np.zeros_like(labels), np.zeros_like(labels)
    wide[17:43] = 1
    half[20:40, :25] = 1
    severity = labels.astype(np.float32)
    assert score_frame(result(wide, severity), [truth])["dice"] == 1
    # P is half of T: 2 · ½ / (½ + 1).
    assert score_frame(result(half, severity), [truth])["dice"] == pytest.approx(2 / 3)
    assert score_frame(result(wide, severity), [truth])["auroc"] == 1
    assert score_frame(result(wide, np.ones_like(severity)), [truth])["auroc"] == 0.5


def test_of_two_grains_either_may_be_the_reference() -> None:
    drawn = np.zeros((40, 40), np.uint8)
    drawn[:, 20:] = 2
    labels = (drawn == 0).astype(np.uint8)
    views = [datasets.seen_from(drawn, reference) for reference in (0, 2)]
    assert score_frame(result(labels, labels.astype(np.float32)), views[:1])["dice"] == 0
    assert score_frame(result(labels, labels.astype(np.float32)), views)["dice"] == 1


def test_other_grain_counts_as_found_where_it_has_a_domain_of_its_own() -> None:
    drawn = np.zeros((40, 40), np.uint8)
    drawn[:, 30:] = 2
    nothing = np.zeros(drawn.shape, np.uint8)
    alone = score_frame(result(nothing, nothing.astype(np.float32)), [datasets.seen_from(drawn, 0)])
    own = result(nothing, nothing.astype(np.float32), drawn // 2)
    apart = score_frame(own, [datasets.seen_from(drawn, 0)])
    assert (alone["other"], alone["passed"]) == (0, False)
    assert (apart["other"], apart["passed"]) == (1, True)


def test_image_fails_with_more_than_two_percent_of_clear_crystal_marked() -> None:
    truth = datasets.Truth(np.zeros((50, 100), np.uint8), np.zeros((50, 100), bool))
    for columns, passed in ((2, True), (3, False)):
        labels = np.zeros((50, 100), np.uint8)
        labels[:, :columns] = 1
        row = score_frame(result(labels, labels.astype(np.float32)), [truth])
        assert (row["false"], row["passed"]) == (columns / 100, passed)
        assert math.isnan(row["dice"])
        assert (row["called"], row["defective"], row["regions"], row["regions_false"]) == (True, False, 1, 1)


def test_patches_are_counted_by_what_they_are() -> None:
    labels = np.zeros((64, 128), np.uint8)
    labels[:, :40] = 1
    labels[:, 64:66] = 3  # no defect
    truth = datasets.Truth(labels, np.zeros(labels.shape, bool))
    grid = PatchGrid((64, 128), 32)
    defective = np.zeros(grid.counts, bool)
    defective[0] = True
    table = PatchTable(grid, defective.astype(np.float32), 0.5, defective)
    row = score_frame(Result(labels, labels.astype(np.float32), np.zeros_like(labels), table), [truth])
    # Columns of patches: 0–31 all defect, 32–63 a quarter, then clean; one of two rows is called.
    assert {key: row[key] for key in row if key.startswith("patches")} == {
        "patches_clean": 4,
        "patches_clean_called": 2,
        "patches_defective": 4,
        "patches_defective_called": 2,
    }
    summary = scoring.summarise([{**row, "content": "twin", "extent": ""}])
    assert (summary["patch_accuracy"], summary["patch_recall"], summary["recall"]) == (0.5, 0.5, 1.0)


def test_series_is_one_row() -> None:
    labels = np.zeros((30, 30), np.uint8)
    labels[10:20] = 1
    truth = datasets.Truth(labels, np.zeros(labels.shape, bool), (datasets.Target("twin", (slice(10, 20), slice(0, 30)),
                           np.ones((10, 30), bool)),))  # fmt: skip
    frame = hd.Micrograph(np.random.default_rng(0).random((64, 64), np.float32))
    sample = datasets.Sample(((frame, (truth,)), (frame, (truth,))))
    nothing = np.zeros_like(labels)
    severity = labels.astype(np.float32)
    row = scoring.score([result(labels, severity), result(nothing, severity)], sample)
    assert (row["dice"], row["auroc"], row["called"], row["passed"]) == (0.5, 1.0, True, False)
    assert row["targets"] == "twin 1/2"


def test_image_that_cannot_be_analysed_is_a_miss() -> None:
    labels = np.zeros((30, 30), np.uint8)
    labels[10:20] = 1
    frame = hd.Micrograph(np.random.default_rng(0).random((64, 64), np.float32))
    truth = datasets.Truth(labels, np.zeros(labels.shape, bool))
    row = scoring.missed(datasets.Sample(((frame, (truth,)),)), "broken")
    keys = ("dice", "auroc", "false", "passed", "error")
    assert [row[key] for key in keys] == [0, 0.5, 1, False, "broken"]
    assert math.isnan(row["dice_amorphous"])


# -- against the script of a data set ---------------------------------------------------------------------------


def test_same_numbers_as_the_script_of_sim_b() -> None:
    """Truth with a band, an amorphous corner, an interface and a rim that is not scored; a result near it."""
    path = datasets.DEFAULT_DATA / "sim_b" / "score.py"
    if not path.is_file():
        pytest.skip("the data sets are not here")
    theirs = runpy.run_path(str(path))
    truth, labels = np.zeros((2, 120, 120), np.uint8)
    truth[40:80] = 1
    truth[:30, :30] = 2
    truth[100:104] = 3
    truth[:, 115:] = 255
    labels[50:85, :70] = 1
    labels[:25, :40] = 2
    labels[110:, 50:60] = 1
    noise = np.random.default_rng(5).normal(0, 1, truth.shape)
    severity = (noise + (truth == 1)).round(1).astype(np.float32)
    ours = score_frame(result(labels, severity), [datasets.tolerant(truth, 24.0)])
    expected = theirs["one"](labels, severity, truth, 0.6 * 24.0)
    for mine, key in (("dice", "dice"), ("auroc", "auroc"), ("dice_amorphous", "dice2"), ("false", "false")):
        assert ours[mine] == pytest.approx(expected[key], abs=1e-12), key
    assert (ours["called"], ours["defective"]) == (expected["called"], expected["defect"])
