"""The gate of ensembles that are trained on simulations."""

import numpy as np
import pytest

from benchmarks.accuracy import ensemble
from napari_hrstem_defects.simulation import simulate
from napari_hrstem_defects.simulation.class_patches import PROBE_NM, PX_PER_PERIOD, SCHEMES
from napari_hrstem_defects.simulation.presets import PRESETS


def test_what_is_outside_lies_outside_the_ranges_of_the_training() -> None:
    # What the training's simulations draw, drawn 60 times.
    known = [
        simulate("set", seed, material="srtio3", zone_axis="100", mode="haadf", shape=(64, 64)).description[
            "parameters"
        ]
        for seed in range(60)
    ]
    least = {key: min(p[key] for p in known) for key in ("wedge", "bending")}
    most = {key: max(p[key] for p in known) for key in ("wedge", "bending")}
    assert least["wedge"] >= 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        drawn = ensemble.parameters(ensemble.CONDITIONS["all"], rng)
        low, high = PRESETS["set"].dose
        assert not low <= drawn["dose"] <= high
        assert not PROBE_NM[0] <= drawn["probe_nm"] <= PROBE_NM[1]
        assert drawn["wedge"] > most["wedge"]
        assert drawn["bending"] > most["bending"]
        assert PX_PER_PERIOD[0] <= drawn["px_per_period"] <= PX_PER_PERIOD[1]
        assert drawn["jitter_px"] / drawn["px_per_period"] > 0.04
        assert min(abs(part) for part in drawn["drift"]) > 3 * 0.006
    both = {ensemble.parameters(("dose",), np.random.default_rng(seed))["dose"] > 3000 for seed in range(20)}
    assert both == {False, True}
    assert set(ensemble.parameters((), np.random.default_rng(0))) == {"px_per_period"}


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
