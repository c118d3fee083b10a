"""How docs/make_results.py compares with other methods: the amplitude it computes itself, the scores, the tables."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

DOCS = Path(__file__).parents[1] / "docs"
SMALL = {"shape": (192, 192), "px_per_period": 12.0, "dose": 500.0}


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    monkeypatch.syspath_prepend(str(DOCS))
    from results_tools import peers, peers_gpa

    yield SimpleNamespace(peers=peers, gpa=peers_gpa)
    for name in [name for name in sys.modules if name.split(".")[0] == "results_tools"]:
        del sys.modules[name]


def _waves(shape: tuple[int, int]) -> np.ndarray:
    rows, columns = np.indices(shape)
    return np.cos(2 * np.pi * rows / 12) + 0.8 * np.cos(2 * np.pi * columns / 10)


def test_strongest_reflections(tools: SimpleNamespace) -> None:
    found = np.abs(tools.gpa.reflections(_waves((240, 240))))
    assert found == pytest.approx(np.array([[1 / 12, 0], [0, 1 / 10]]), abs=1e-6)


@pytest.mark.parametrize("normalise", [False, True])
def test_amplitude_drops_where_a_reflection_is_missing(tools: SimpleNamespace, normalise: bool) -> None:
    image = _waves((240, 240))
    rows, _ = np.indices(image.shape)
    # Lower third: another lattice.
    other = rows > 160
    image[other] = np.cos(2 * np.pi * (rows[other] * 0.6 + np.nonzero(other)[1] * 0.8) / 7)
    drop = tools.gpa.amplitude_drop(image, 0.2, normalise)
    assert drop[180:].min() > 0.7
    assert drop[20:140].max() < 0.3


def test_scores_of_a_perfect_map(tools: SimpleNamespace) -> None:
    cases = tools.peers.simulated_cases(count=3, seed=1, **SMALL)
    defective = next(case for case in cases if not case.perfect)
    truth = defective.ways[0][0]
    good = tools.peers.score(defective, truth.astype(float), truth > 0)
    assert good["dice"] == 1.0 or np.isnan(good["dice"])
    empty = tools.peers.score(defective, np.zeros(truth.shape), np.zeros(truth.shape, bool))
    assert empty["marked"] == 0.0
    assert empty["auroc"] == 0.5 or np.isnan(empty["auroc"])
    perfect = next(case for case in cases if case.perfect)
    scores = tools.peers.score(perfect, np.zeros(truth.shape), np.ones(truth.shape, bool))
    assert np.isnan(scores["dice"])
    assert scores["marked"] == 1.0


def test_tables_name_whoever_is_above(tools: SimpleNamespace) -> None:
    cases = tools.peers.simulated_cases(count=3, seed=1, **SMALL)
    rows = tools.peers.measure(cases, {"gpa": ("0.2 plain least", "Otsu")}, Path("unused"))
    assert [row["method"] for row in rows] == ["default"] * 3 + ["published"] * 3 + ["gpa"] * 3
    for row in rows:
        if row["content"] != "perfect":
            row.update(auroc=0.9 if row["method"] == "gpa" else 0.8, dice=0.5)
    text = tools.peers.report(rows)
    assert "GPA amplitude, AUROC 0.900 against 0.800" in text
    assert "nan" not in text
