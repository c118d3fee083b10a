"""How docs/make_results.py says what a marked region is in truth."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from napari_hrstem_defects.core.best_patch import BestPatch
from napari_hrstem_defects.core.defect_types import TYPES
from napari_hrstem_defects.simulation import simulate

DOCS = Path(__file__).parents[1] / "docs"
WHOLE = (slice(0, 256), slice(0, 256))


@pytest.fixture
def types(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(DOCS))
    from results_tools import types

    yield types
    for name in [name for name in sys.modules if name.split(".")[0] == "results_tools"]:
        del sys.modules[name]


def test_every_kind_of_defect_has_a_type(types: ModuleType) -> None:
    for content in types.CONTENTS:
        preset = "set_fine" if {"vacancy", "interstitial", "substitution"} & set(content) else "set"
        sim = simulate(preset, 3, defects=content, shape=(256, 256), px_per_period=14.0)
        assert sim.defects
        for defect in sim.defects:
            assert types.true_name(defect) in TYPES


def test_truth_of_a_region(types: ModuleType) -> None:
    sim = simulate("fault_and_amorphous", 2, shape=(256, 256), px_per_period=12.0)
    masks = types.true_masks(sim.defects, BestPatch(128.0, 128.0, 40), (256, 256))
    names = {name for name, _, _ in masks}
    assert "amorphous" in names
    for name, kind, mask in masks:
        if kind not in types.WALLS.values():
            assert types.region_truth(masks, WHOLE, mask, 12)[0] == name
    # Both together hold several defects; the larger one counts.
    union = np.logical_or.reduce([mask for _, _, mask in masks])
    largest = max(masks, key=lambda each: each[2].sum())[0]
    assert types.region_truth(masks, WHOLE, union, 12) == (largest, True)
    # Where nothing is within a period.
    far = np.zeros((256, 256), bool)
    far[np.unravel_index(np.argmax(_distance(union)), far.shape)] = True
    assert _distance(union)[far] > 12
    assert types.region_truth(masks, WHOLE, far, 12) == (None, False)
    assert types.region_truth([], WHOLE, far, 12) == (None, False)


def test_either_grain_may_be_the_second_one(types: ModuleType) -> None:
    sim = simulate("cdte_twin", 0, shape=(256, 256), px_per_period=16.0)
    inside = sim.domains > 0
    for grain, marked in ((0, inside), (1, ~inside)):
        y, x = np.unravel_index(np.argmax(_distance(sim.domains != grain)), inside.shape)
        patch = BestPatch(float(np.clip(y, 20, 235)), float(np.clip(x, 20, 235)), 40)
        masks = types.true_masks(sim.defects, patch, inside.shape)
        assert types.region_truth(masks, WHOLE, marked, 16)[0] == "second grain"


def _distance(mask: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    return ndimage.distance_transform_edt(~mask)
