"""Changes that change nothing that matters: image and truth move together."""

import numpy as np
import pytest

import napari_hrstem_defects as hd
from benchmarks.accuracy import stability
from benchmarks.accuracy.datasets import DEFECT, Sample, Target, Truth


def _sample() -> Sample:
    """A bright square on waves; the truth is the square."""
    y, x = np.mgrid[:200, :240]
    image = np.cos(2 * np.pi * x / 10) + np.cos(2 * np.pi * y / 10)
    mask = (np.abs(y - 70) < 15) & (np.abs(x - 150) < 20)
    image[mask] += 20
    box = (slice(56, 85), slice(131, 170))
    truth = Truth(
        np.where(mask, DEFECT, 0).astype(np.uint8),
        np.zeros(mask.shape, bool),
        (Target("square", box, mask[box]),),
    )
    return Sample(((hd.Micrograph(image), (truth,)),))


@pytest.mark.parametrize("change", [*stability.VALUES, *stability.PLACES])
def test_truth_stays_on_what_it_marks(change: str) -> None:
    ((micrograph, (truth,)),) = stability.changed(_sample(), change).frames
    image = micrograph.frame().pixels
    assert image.shape == truth.labels.shape
    bright = image > (image.min() + image.max()) / 2
    overlap = np.count_nonzero(bright & (truth.labels == DEFECT))
    assert 2 * overlap / (np.count_nonzero(bright) + np.count_nonzero(truth.labels)) > 0.95
    (target,) = truth.targets
    whole = np.zeros(truth.labels.shape, bool)
    whole[target.box] = target.mask
    np.testing.assert_array_equal(whole, truth.labels == DEFECT)


def test_hole_is_dark_and_true() -> None:
    ((micrograph, (truth,)),) = stability.changed(_sample(), stability.HOLE).frames
    image, hole = micrograph.frame().pixels, truth.labels == 2
    assert 0.9 < np.count_nonzero(hole) / (np.pi * 30**2) < 1.1
    assert image[hole].mean() < np.quantile(image[~hole], 0.02)
    assert all(not hole[target.box][target.mask].any() for target in truth.targets)


def test_table_counts_what_passes() -> None:
    rows = [
        {"group": "real", "change": change, "passed": change != "gamma 0.7"} for change in stability.CHANGES
    ]
    lines = stability.table(rows).splitlines()
    assert "| gamma 0.7 | 0 of 1 |" in lines
    assert lines[-1] == f"| all | {len(stability.CHANGES) - 1} of {len(stability.CHANGES)} |"
