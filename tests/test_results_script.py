"""The script behind docs/results.md, on a few small simulated micrographs."""

import csv
import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import napari_hrstem_defects as hd
from napari_hrstem_defects.simulation import simulate

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    monkeypatch.syspath_prepend(str(DOCS))
    from results_tools import page, scoring, simulated

    yield SimpleNamespace(page=page, scoring=scoring, simulated=simulated)
    for name in [name for name in sys.modules if name.split(".")[0] == "results_tools"]:
        del sys.modules[name]


def test_simulated_section(tools: SimpleNamespace, tmp_path: Path) -> None:
    text = tools.simulated.section(
        tmp_path, count=3, processes=0, shape=(192, 192), px_per_period=12.0, dose=500.0
    )
    with (tmp_path / "simulated.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["mode"] for row in rows] == ["default", "published"] * 3
    assert sum(row["content"] != "perfect" for row in rows) == 2
    assert "| image specificity |" in text
    assert "2 micrographs without defects and 1 with" in text
    assert "nan" not in text


def test_page_keeps_the_other_sections(tools: SimpleNamespace, tmp_path: Path) -> None:
    path = tmp_path / "results.md"
    for name, text in (("one", "first"), ("two", "second"), ("one", "third")):
        tools.page.write_section(path, ("one", "two"), name, text)
    written = path.read_text("utf-8")
    assert "third" in written
    assert "second" in written
    assert "first" not in written
    assert written.index("third") < written.index("second")


def test_verdicts(tools: SimpleNamespace) -> None:
    assert tools.page.verdict(0.95, 0.95) == "≥ 0.95 met"
    assert tools.page.verdict(0.94, 0.95) == "≥ 0.95 **not met**"
    assert tools.page.verdict(float("nan"), 0.95) == "≥ 0.95 **not met**"
    assert tools.page.verdict(0.2, 0.3, below=True) == "≤ 0.3 met"


def test_either_of_two_large_grains_may_be_the_reference(tools: SimpleNamespace) -> None:
    sim = simulate("cdte_twin", 0, shape=(192, 192), px_per_period=16.0)
    first, second = tools.scoring.truths(sim)
    # What is no wall is a defect one way and crystal the other.
    scored = ~first.ignore & ~second.ignore
    both = (first.labels == 1) & (second.labels == 1) & scored
    assert np.array_equal(
        (first.labels != second.labels)[scored & ~both], np.ones((scored & ~both).sum(), bool)
    )
    assert 0 < both.sum() < 0.2 * both.size
    # An analysis that took the other grain for the reference and found everything else.
    perfect = dataclasses.replace(
        hd.analyze(sim.micrograph), labels=second.labels, severity=second.labels.astype(np.float32)
    )
    found = tools.scoring.score(sim, perfect)
    assert (found["reference"], found["dice_symmetry"], found["auroc"]) == (1, 1.0, 1.0)
    assert found["objects"] == {"second grain": [1, 1], "twin boundary": [1, 1]}
    assert found["false_regions"] == 0


def test_patch_scores_count_ambivalent_patches_with_the_nearer_class(tools: SimpleNamespace) -> None:
    row = {
        "patches_clean": 8,
        "patches_clean_called": 1,
        "patches_defective": 4,
        "patches_defective_called": 3,
        "patches_ambivalent": 3,
        "patches_ambivalent_called": 2,
        "patches_upper": 1,
        "patches_upper_called": 1,
    }
    clear = tools.scoring.patch_scores([row], ambivalent=False)
    assert clear["accuracy"] == pytest.approx(10 / 12)
    assert clear["precision"] == pytest.approx(3 / 4)
    every = tools.scoring.patch_scores([row], ambivalent=True)
    # One ambivalent patch counts as defective and was called so, two as clean, of which one was called.
    assert every["recall"] == pytest.approx(4 / 5)
    assert every["specificity"] == pytest.approx(8 / 10)
