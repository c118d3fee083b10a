"""How docs/make_results.py judges the patch classifiers: counting, views, sets that share nothing, the gate."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from napari_hrstem_defects.core.patches import PatchGrid

DOCS = Path(__file__).parents[1] / "docs"
GRID = PatchGrid((256, 256), 128)


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    monkeypatch.syspath_prepend(str(DOCS))
    from results_tools import classifier_data, classifiers

    yield SimpleNamespace(data=classifier_data, classifiers=classifiers)
    for name in [name for name in sys.modules if name.split(".")[0] == "results_tools"]:
        del sys.modules[name]


def image(tools: SimpleNamespace, truths: list[list[int]], said: list[int], crystal: str = "si 110"):
    verdict = np.array(said, bool)
    empty = np.zeros((0, 0))
    return tools.data.Judged(
        "an image", crystal, empty, empty, GRID, np.array(truths, np.int8), verdict, verdict, None, 0
    )


def test_counts(tools: SimpleNamespace) -> None:
    truth = np.array([0, 0, 0, 1, 1, -1], np.int8)
    said = np.array([0, 0, 1, 1, 0, 1], bool)
    counts = tools.classifiers.counts_of(truth, said)
    assert counts.tolist() == [2, 1, 1, 1]
    scores = tools.classifiers.scores_of(counts)
    assert scores == {"accuracy": 0.6, "precision": 0.5, "specificity": pytest.approx(2 / 3), "recall": 0.5}
    assert np.isnan(tools.classifiers.scores_of(np.array([3, 0, 0, 0]))["recall"])


def test_the_better_view_counts(tools: SimpleNamespace) -> None:
    two = image(tools, [[0, 0, 1, 1], [1, 1, 0, 0]], [1, 1, 0, 0])
    assert tools.classifiers._judged(two, lambda each: each.screen).tolist() == [2, 0, 0, 2]
    one = image(tools, [[0, 0, 1, 1]], [1, 1, 0, 0])
    assert tools.classifiers._judged(one, lambda each: each.screen).tolist() == [0, 2, 2, 0]


def test_nothing_left_out_is_trained_on(tools: SimpleNamespace) -> None:
    from napari_hrstem_defects.simulation.crystals import MATERIALS
    from napari_hrstem_defects.simulation.presets import crystals_of

    data = tools.data
    seen = crystals_of(data.TRAINING_STRUCTURES, data.TRAINING_ZONES)
    assert not {f"{material} {zone}" for material, zone in seen} & set(data.left_out_crystals())
    validation = {m for m in MATERIALS if MATERIALS[m].structure in data.VALIDATION_STRUCTURES}
    assert not validation & {material for material, _ in seen}
    seeds = [part.seed for part in data.PARTS.values()]
    assert len(set(seeds)) == len(seeds)


def test_one_image(tools: SimpleNamespace) -> None:
    found = tools.data.one("left out", 1, shape=(256, 256), px_per_period=12.0)
    assert found.crystal.endswith(" 112")
    assert found.screen.shape == found.pipeline.shape == (found.truths.shape[1],) == (4,)
    assert found.inputs is None or len(found.inputs) == 4
    lean = tools.data.one("training", 1, True, shape=(256, 256), px_per_period=12.0)
    assert lean.pixels.size == 0


@pytest.mark.parametrize("seed", range(5))
def test_warped_images_hold_nothing_made_up(tools: SimpleNamespace, seed: int) -> None:
    labels = np.ones((200, 200), np.uint8)
    labels[1:-1, 1:-1] = 0
    pixels = np.random.default_rng(seed).random((200, 200), np.float32)
    new, (mask,) = tools.data._warped(pixels, [labels], np.random.default_rng(seed))
    assert new.shape == mask.shape == (200, 200)
    # A mirror image beyond the rims would show the frame of the labels inside the picture.
    assert not mask[2:-2, 2:-2].any()


def gate(tools: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, said: list[int], alarms: int):
    simulated = [
        image(tools, [[0, 0, 1, 1]], [0, 0, 0, 1]),
        image(tools, [[0, 0, 1, 1]], [0, 0, 1, 0], "si 112"),
    ]
    perfect = [
        tools.data.Judged(
            name,
            "",
            *([np.zeros((0, 0))] * 2),
            GRID,
            np.zeros((1, 4), np.int8),
            *([np.zeros(4, bool)] * 2),
            None,
            0,
        )
        for name in tools.classifiers.PERFECT
    ]

    def verdict(each) -> np.ndarray:
        if each.name in tools.classifiers.PERFECT:
            return np.arange(4) < alarms
        return np.array(said, bool)

    return tools.classifiers.gate(simulated, perfect, SimpleNamespace(verdict=verdict))


def test_gate(tools: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, passed = gate(tools, monkeypatch, [0, 0, 1, 1], 0)
    assert passed
    assert {row["accuracy"] for row in rows if row["set"] == "left out"} == {0.75, 1.0}
    rows, passed = gate(tools, monkeypatch, [0, 0, 1, 1], 1)
    assert not passed
    assert "False alarms on dso_perfect (25.0 %)" in tools.classifiers._reasons(rows)
    rows, passed = gate(tools, monkeypatch, [0, 1, 0, 1], 0)
    assert not passed
    assert "as good or better" in tools.classifiers._reasons(rows)


def test_text(tools: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    known = [image(tools, [[0, 0, 1, 1]], [0, 0, 0, 1]) for _ in range(13)]
    data = {"known": known, "left out": known, "known clean": [image(tools, [[0] * 4], [0] * 4)]}
    data["left out clean"] = data["known clean"]
    rows = tools.classifiers.training_free(data)
    assert rows["screening"]["test"]["accuracy"]["mean"] == 0.75
    gated, passed = gate(tools, monkeypatch, [0, 0, 1, 1], 1)
    numbers = dict.fromkeys(
        ("images", "patches", "validation", "gate", "parameters", "threshold", "epochs", "cpu_s"), 1
    )
    text = tools.classifiers.text(rows, gated, passed, numbers)
    assert (
        "| screening | known lattices | 75.0 ± 0.0 | 100.0 ± 0.0 | 100.0 ± 0.0 | 50.0 ± 0.0 | 100.0 ± 0.0 |"
        in text
    )
    assert (
        "| VGG16, Dennler et al. (2021) | their test images, real | 88.1 | 79.7 | 89.0 | 82.6 | 99.5 |"
        in text
    )
    assert "no pretrained classifier is bundled" in text
    tools.classifiers.write_tables(tmp_path, rows, gated)
    assert len((tmp_path / "classifiers.csv").read_text().splitlines()) == 5
    assert len((tmp_path / "classifiers_gate.csv").read_text().splitlines()) == 1 + len(gated)
