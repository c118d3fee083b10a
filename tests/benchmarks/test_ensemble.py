"""The gate of ensembles that are trained on simulations."""

import numpy as np
import pytest

from benchmarks.accuracy import ensemble
from napari_hrstem_defects.simulation.class_patches import SCHEMES


def test_patches_of_a_condition() -> None:
    drawn = list(ensemble.draws(SCHEMES["STO"], "all", 14))
    assert [np.bincount(labels).tolist() for _, labels in drawn] == [[12] * 4, [2] * 4]
    assert drawn[0][0].shape == (48, 64, 64)


def test_verdict() -> None:
    labels = np.array([0, 0, 1, 1, 2, 2])
    rows = ensemble.confusion(("Bulk", "a", "b"), labels, np.array([0, 0, 1, 1, 2, 1]), "all")
    assert [row["recall"] for row in rows] == pytest.approx([1, 1, 0.5, 2.5 / 3])
    assert rows[2]["found a"] == 1
    clean = [{"image": "x", "false regions": 0}]
    assert not ensemble.verdict(rows, clean)[0]
    better = ensemble.confusion(("Bulk", "a", "b"), labels, labels, "all")
    assert ensemble.verdict(better, clean)[0]
    passed, text = ensemble.verdict(better, [*clean, {"image": "y", "false regions": 1}])
    assert not passed
    assert "false classes on 1 of 2 perfect real images (y)" in text
    assert not ensemble.verdict(better, [])[0]
