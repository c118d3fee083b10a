"""How docs/make_results.py judges the patch classifiers: counting, views, sets that share nothing, the gate."""

import dataclasses
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
    from results_tools import classifier_data, classifiers, pretrained

    yield SimpleNamespace(data=classifier_data, classifiers=classifiers, pretrained=pretrained)
    for name in [name for name in sys.modules if name.split(".")[0] == "results_tools"]:
        del sys.modules[name]


def image(tools: SimpleNamespace, truths: list[list[int]], said: list[int], crystal: str = "si 110"):
    empty = np.zeros((0, 0))
    verdicts = dict.fromkeys(tools.pretrained.READY, np.array(said, bool))
    return tools.data.Judged("an image", crystal, empty, empty, GRID, np.array(truths, np.int8), verdicts)


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
    assert tools.classifiers.counts_on(two, lambda each: each.verdicts["screening"]).tolist() == [2, 0, 0, 2]
    one = image(tools, [[0, 0, 1, 1]], [1, 1, 0, 0])
    assert tools.classifiers.counts_on(one, lambda each: each.verdicts["screening"]).tolist() == [0, 2, 2, 0]


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
    screening, comparing = tools.data.SCREENING, tools.data.COMPARING
    found = tools.data.one("left out", 1, (screening,), shape=(256, 256), px_per_period=12.0)
    assert found.crystal.endswith(" 112")
    assert (found.part, found.index) == ("left out", 1)
    assert found.truths.shape[1] == 4
    assert list(found.verdicts) == [screening, screening + tools.data.REVISED]
    lean = tools.data.one(
        "gate, films", 1, (screening, comparing), True, shape=(256, 256), px_per_period=12.0
    )
    assert lean.pixels.size == 0
    assert "film" in lean.name
    assert not lean.truths.any()
    assert {name: verdict.shape for name, verdict in lean.verdicts.items()} == dict.fromkeys(
        tools.pretrained.READY, (4,)
    )


def test_verdicts_that_were_given_in_another_process(tools: SimpleNamespace) -> None:
    images = [
        dataclasses.replace(image(tools, [[0, 0, 1, 1]], said), part=part, index=n)
        for part in ("known", "left out")
        for n, said in enumerate(([0, 0, 0, 1], [1, 0, 0, 0]))
    ]
    data = {part: [each for each in images if each.part == part] for part in ("known", "left out")}
    data.update({"known clean": [], "left out clean": []})
    said = tools.classifiers._ask(data, tools.classifiers.said_by("screening"))
    heard = tools.classifiers._heard(said)
    for each in images:
        np.testing.assert_array_equal(heard(each), each.verdicts["screening"])


def judged(tools: SimpleNamespace, name: str, truth: list[int], crystal: str = "si 110", **said: list[int]):
    """An image on which classifiers say what they are to say: own, own_revised, other, other_revised."""
    data = tools.data
    names = {
        "other": data.SCREENING,
        "other_revised": data.SCREENING + data.REVISED,
        "own": data.COMPARING,
        "own_revised": data.COMPARING + data.REVISED,
    }
    verdicts = {names[key]: np.array(value, bool) for key, value in said.items()}
    empty = np.zeros((0, 0))
    return tools.data.Judged(name, crystal, empty, empty, GRID, np.array([truth], np.int8), verdicts)


def gate(tools: SimpleNamespace, perfect: dict[str, int], films: dict[str, int], left_out: dict[str, int]):
    """The gate where so many of four patches are wrong."""

    def wrong(counts: dict[str, int], truth: list[int]) -> dict[str, list[int]]:
        keys = ("own", "own_revised", "other", "other_revised")
        return {key: [t ^ (i < counts.get(key, 0)) for i, t in enumerate(truth)] for key in keys}

    clean, defective = [0, 0, 0, 0], [0, 0, 1, 1]
    return tools.pretrained.gate(
        [
            judged(tools, "an image", defective, zone, **wrong(left_out, defective))
            for zone in ("si 110", "si 112")
        ],
        [judged(tools, "a film", clean, **wrong(films, clean))],
        [judged(tools, name, clean, **wrong(perfect, clean)) for name in tools.pretrained.PERFECT],
    )


BETTER = {"other": 1, "other_revised": 1}


def test_gate(tools: SimpleNamespace) -> None:
    rows, reasons = gate(tools, {}, {}, BETTER)
    assert reasons == []
    accuracy = {row["classifier"]: row["accuracy"] for row in rows if row["set"] == "left out"}
    assert accuracy == dict(zip(tools.pretrained.READY, (0.75, 0.75, 1.0, 1.0), strict=True))
    # What the screening does wrong on perfect images is not the network's fault.
    assert gate(tools, {"other": 2}, {"other": 1}, BETTER)[1] == []


@pytest.mark.parametrize(
    ("perfect", "films", "left_out", "says"),
    [
        ({"own": 1}, {}, BETTER, "false alarms of the comparing network on dso_perfect (25.0 %)"),
        ({"own_revised": 1}, {}, BETTER, "false alarms of the comparing network, revised by the pipeline on"),
        ({}, {"own": 1}, BETTER, "on left out, coherent films (25.0 %)"),
        ({}, {"own_revised": 1}, BETTER, "revised by the pipeline on left out, coherent films (25.0 %)"),
        ({}, {}, {"other": 1}, "the screening, revised by the pipeline is as good or better"),
        (
            {},
            {},
            {"other_revised": 1},
            "the screening is as good or better on left-out lattices (100.0 against 100.0 %)",
        ),
    ],
)
def test_gate_is_not_passed(
    tools: SimpleNamespace,
    perfect: dict[str, int],
    films: dict[str, int],
    left_out: dict[str, int],
    says: str,
) -> None:
    reasons = gate(tools, perfect, films, left_out)[1]
    assert any(says in reason for reason in reasons)


def test_gate_forgives_what_the_pipeline_adds_on_films(tools: SimpleNamespace) -> None:
    assert gate(tools, {}, {"own_revised": 1, "other_revised": 1}, BETTER)[1] == []


def test_gate_needs_the_real_images(tools: SimpleNamespace) -> None:
    one = judged(
        tools,
        "x",
        [0, 0, 1, 1],
        own=[0, 0, 1, 1],
        own_revised=[0, 0, 1, 1],
        other=[0] * 4,
        other_revised=[0] * 4,
    )
    assert tools.pretrained.gate([one], [one], [])[1] == ["not all of the real images were there"]


def split_rows(tools: SimpleNamespace):
    known = [image(tools, [[0, 0, 1, 1]], [0, 0, 0, 1]) for _ in range(13)]
    clean = [image(tools, [[0] * 4], [0] * 4)]
    data = {"known": known, "left out": known, "known clean": clean, "left out clean": clean}
    return tools.classifiers.ready(data, (tools.data.SCREENING, tools.data.COMPARING))


def test_text(tools: SimpleNamespace, tmp_path: Path) -> None:
    rows = split_rows(tools)
    assert rows["screening"]["test"]["accuracy"]["mean"] == 0.75
    text = tools.classifiers.text(rows)
    assert (
        "| screening | known lattices | 75.0 ± 0.0 | 100.0 ± 0.0 | 100.0 ± 0.0 | 50.0 ± 0.0 | 100.0 ± 0.0 |"
        in text
    )
    assert (
        "| VGG16, Dennler et al. (2021) | their test images, real | 88.1 | 79.7 | 89.0 | 82.6 | 99.5 |"
        in text
    )
    tools.classifiers.write_table(tmp_path, rows)
    assert len((tmp_path / "classifiers.csv").read_text().splitlines()) == 9


def test_text_of_the_pretrained_one(tools: SimpleNamespace) -> None:
    from results_tools.comparing_classifier import network as trained

    rows, network = split_rows(tools), trained()
    gated, reasons = gate(tools, {"own": 1}, {}, BETTER)
    text = tools.pretrained.text(rows, gated, reasons, network)
    assert "**False alarms of the comparing network on dso_perfect (25.0 %);" in text
    assert "no pretrained classifier is bundled" in text
    assert "All conditions are met" not in text
    assert "differ by +25.00 points" in text
    assert "Dennler" not in text
    assert "All conditions are met" in tools.pretrained.text(rows, gated, [], network)
