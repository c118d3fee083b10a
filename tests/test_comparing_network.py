"""The comparing network (docs/train_comparing.py): images, what it is given, fitting, numpy, its file, its verdicts."""

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import signal

from napari_hrstem_defects.core.errors import ModelError, RecipeError, WriteError
from napari_hrstem_defects.core.metrics import AMBIVALENT, patch_truth
from napari_hrstem_defects.core.patches import PatchGrid
from napari_hrstem_defects.models.backend import keras
from napari_hrstem_defects.simulation import SimulatedMicrograph, simulate
from napari_hrstem_defects.simulation.crystals import MATERIALS
from napari_hrstem_defects.simulation.planar import FILMS

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    monkeypatch.syspath_prepend(str(DOCS))
    from results_tools import (
        comparing,
        comparing_classifier,
        comparing_inputs,
        comparing_network,
        comparing_training,
        examples,
        training_set,
    )

    yield SimpleNamespace(
        classifier=comparing_classifier,
        comparing=comparing,
        examples=examples,
        images=training_set,
        inputs=comparing_inputs,
        plain=comparing_network,
        training=comparing_training,
    )
    for name in [name for name in sys.modules if name.split(".")[0] == "results_tools"]:
        del sys.modules[name]


def some_examples(tools: SimpleNamespace, count: int = 64, images: int = 4):
    rng = np.random.default_rng(0)
    labels = (np.arange(count) % 2).astype(np.int8)
    numbers = rng.normal(size=(count, len(tools.inputs.STATISTICS))) + 3 * labels[:, None]
    return tools.examples.Examples(
        rng.normal(size=(count, 64, 64, 1)).astype(np.float16),
        rng.normal(size=(images, 64, 64, 1)).astype(np.float16),
        rng.normal(size=(count, 33, 33, 2)).astype(np.float16),
        rng.normal(size=(count, 16, 16, 2)).astype(np.float16),
        numbers.astype(np.float32),
        labels,
        np.sort(np.arange(count) % images),
    )


# -- images


def test_training_images_follow_from_their_number_alone(tools: SimpleNamespace) -> None:
    structures, zones = ("zincblende", "fcc"), ("110", "100")
    before = dict(MATERIALS), dict(FILMS)
    kinds = set()
    for index in (3, 12, 16, 18):
        name, pixels, labels = tools.images.training_image(index, 7, structures, zones)
        again = tools.images.training_image(index, 7, structures, zones)
        np.testing.assert_array_equal(pixels, again[1])
        assert pixels.dtype == np.float32
        assert pixels.min() == pytest.approx(0)
        assert pixels.max() == pytest.approx(1)
        assert all(each.shape == pixels.shape for each in labels)
        if "perfect" in name or name.endswith("-film"):
            assert not labels[0].any()
        kinds.add("film" in name)
    assert kinds == {True, False}
    assert (dict(MATERIALS), dict(FILMS)) == before


def test_made_up_crystals(tools: SimpleNamespace) -> None:
    from napari_hrstem_defects.simulation.crystals import ATOMIC_NUMBERS

    for seed in range(20):
        with tools.images.made_up("zincblende", np.random.default_rng(seed)) as name:
            base, film = MATERIALS[name], MATERIALS[FILMS[name][0]]
            assert base.structure == film.structure == "zincblende"
            assert abs(film.a_nm / base.a_nm - 1) <= tools.images.MOST_MISMATCH
            heavy = [ATOMIC_NUMBERS[m.elements[0]] > ATOMIC_NUMBERS[m.elements[1]] for m in (base, film)]
            assert heavy[0] == heavy[1]
        assert name not in MATERIALS


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("shape", [(200, 200), (100, 300)])
def test_warped_images_hold_nothing_made_up(
    tools: SimpleNamespace, seed: int, shape: tuple[int, int]
) -> None:
    labels = np.ones(shape, np.uint8)
    labels[1:-1, 1:-1] = 0
    pixels = np.random.default_rng(seed).random(shape, np.float32)
    new, (mask,) = tools.images.warped(pixels, [labels], np.random.default_rng(seed))
    assert new.shape == mask.shape == shape
    # A mirror image beyond the rims would show the frame of the labels inside the picture.
    assert not mask[2:-2, 2:-2].any()


# -- examples


def test_examples_of_an_image(tools: SimpleNamespace, tmp_path: Path) -> None:
    found = tools.examples.of_image("validation", 0)
    assert found is not None
    assert set(np.unique(found.labels)) <= {0, 1}
    inputs = found.inputs(np.array([0, 1]))
    assert inputs.patch.dtype == np.float32
    np.testing.assert_array_equal(inputs.reference[0], inputs.reference[1])
    path = tools.examples.of_file("validation", 0, 1, tmp_path)
    made = path.stat().st_mtime_ns
    assert tools.examples.of_file("validation", 0, 1, tmp_path).stat().st_mtime_ns == made
    read = tools.examples.gather("validation", 1, tmp_path, 0)
    np.testing.assert_array_equal(read.statistics, found.statistics)
    np.testing.assert_array_equal(read.labels, found.labels)
    both = tools.examples.join([found, found])
    assert len(both) == 2 * len(found)
    assert both.images.max() == 1
    np.testing.assert_array_equal(
        both.inputs(np.array([len(found)])).patch, found.inputs(np.array([0])).patch
    )


def test_sets_share_nothing(tools: SimpleNamespace) -> None:
    from results_tools import classifier_data

    sets = tools.examples.SETS
    seeds = [seed for seed, *_ in sets.values()] + [part.seed for part in classifier_data.PARTS.values()]
    assert len(set(seeds)) == len(seeds)
    for _, structures, zones in sets.values():
        assert not set(structures) & set(classifier_data.LEFT_OUT_STRUCTURES)
        assert not set(zones) & set(classifier_data.LEFT_OUT_ZONES)
    assert not set(sets["training"][1]) & set(sets["validation"][1])


# -- what it is given


def grains(preset: str = "grain_boundary", material: str = "au") -> SimulatedMicrograph:
    return simulate(
        preset, 1, material=material, zone_axis="110", shape=(384, 384), px_per_period=12.0, dose=800
    )


GRID = PatchGrid((384, 384), 96)


def given(tools: SimpleNamespace):
    found = tools.inputs.relative_inputs(grains().micrograph.frame().pixels, GRID)
    assert found is not None
    return found


def column(tools: SimpleNamespace, inputs, name: str) -> np.ndarray:
    return inputs.statistics[:, tools.inputs.STATISTICS.index(name)]


def test_inputs(tools: SimpleNamespace) -> None:
    inputs, centre = given(tools)
    assert len(inputs) == 16
    assert inputs.patch.shape == inputs.reference.shape == (16, 64, 64, 1)
    assert inputs.correlation.shape == (16, 33, 33, 2)
    assert inputs.severity.shape == (16, 16, 16, 2)
    assert inputs.statistics.shape == (16, len(tools.inputs.STATISTICS))
    assert all(part.dtype == np.float32 and np.isfinite(part).all() for part in inputs.arrays)
    # The typical patch is compared with itself.
    np.testing.assert_array_equal(inputs.patch[centre], inputs.reference[0])
    assert column(tools, inputs, "distance")[centre] == pytest.approx(0, abs=1e-2)
    usual = inputs.correlation[0, :, :, 0]
    np.testing.assert_allclose(usual, usual[::-1, ::-1], atol=1e-4)
    assert usual.max() == pytest.approx(usual[16, 16]) == pytest.approx(1, abs=1e-5)
    # What is told apart: patches of the grain of the typical one from all others.
    truth = patch_truth(grains().labels, GRID, ignore=None).ravel()
    truth = 1 - truth if truth[centre] == 1 else truth
    for name in ("distance", "mean severity", "share that is marked", "90% quantile of the severity"):
        values = column(tools, inputs, name)
        assert np.median(values[truth == 0]) < np.median(values[truth == 1]), name
    means = inputs.severity[..., 0].mean(axis=(1, 2))
    assert np.median(means[truth == 0]) < np.median(means[truth == 1])


def test_no_lattice(tools: SimpleNamespace) -> None:
    noise = np.random.default_rng(0).random((256, 256), np.float32)
    assert tools.inputs.relative_inputs(noise, PatchGrid((256, 256), 128)) is None
    table = tools.classifier.ComparingClassifier().classify(noise, PatchGrid((256, 256), 64))
    assert table.scores.shape == (4, 4)
    assert not table.defective.any()


def test_patches_too_small_for_a_model(tools: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_small(*_: object) -> None:
        raise RecipeError("too small")

    monkeypatch.setattr(tools.inputs, "fit_model", too_small)
    inputs, _ = given(tools)
    assert not inputs.severity.any()
    assert inputs.statistics.shape == (16, len(tools.inputs.STATISTICS))
    assert not column(tools, inputs, "mean severity").any()
    assert column(tools, inputs, "distance").any()


def test_brightness_does_not_matter(tools: SimpleNamespace) -> None:
    pixels = grains().micrograph.frame().pixels
    other = tools.inputs.relative_inputs(0.3 + 0.5 * pixels, GRID)
    assert other is not None
    inputs, _ = given(tools)
    np.testing.assert_allclose(inputs.patch, other[0].patch, atol=2e-2)
    np.testing.assert_allclose(inputs.correlation, other[0].correlation, atol=1e-2)
    np.testing.assert_allclose(inputs.severity, other[0].severity, atol=0.1)


def test_verdicts(tools: SimpleNamespace) -> None:
    classifier = tools.classifier.ComparingClassifier()
    sim = grains()
    table = classifier.classify(sim.micrograph.frame().pixels, GRID)
    truth = patch_truth(sim.labels, GRID, ignore=None)
    clear = truth != AMBIVALENT
    # Either grain may be the reference.
    right = np.mean((table.defective == truth)[clear])
    assert max(right, 1 - right) > 0.8
    np.testing.assert_array_equal(table.defective, table.scores > 0.5)
    perfect = grains("perfect", "si").micrograph.frame().pixels
    assert not classifier.classify(perfect, GRID).defective.any()


# -- in numpy


@pytest.mark.parametrize(("length", "edge"), [(64, 5), (33, 5), (17, 3), (16, 3)])
def test_convolution(tools: SimpleNamespace, length: int, edge: int) -> None:
    rng = np.random.default_rng(length)
    maps = rng.normal(size=(2, length, length, 2)).astype(np.float32)
    kernel = rng.normal(size=(edge, edge, 2, 3)).astype(np.float32)
    got = tools.plain.convolved(maps, kernel)
    half = -(-length // 2)
    assert got.shape == (2, half, half, 3)
    # Of an even side the padding is one larger behind: the windows are centred on odd pixels, else on even ones.
    begin = (edge - max((half - 1) * 2 + edge - length, 0) // 2) - 1 - edge // 2
    expected = sum(signal.correlate2d(maps[1, :, :, c], kernel[:, :, c, 2], mode="same") for c in range(2))
    np.testing.assert_allclose(got[1, :, :, 2], expected[begin::2, begin::2], atol=1e-4)


def test_shifted(tools: SimpleNamespace) -> None:
    given = np.array([0.0, 0.2, 0.7, 0.99, 1.0])
    out = tools.plain.shifted(given, 0.7)
    assert out[2] == pytest.approx(0.5)
    assert (np.diff(out) > 0).all()
    assert 0 <= out[0] < out[-1] <= 1
    np.testing.assert_allclose(tools.plain.shifted(given[1:4], 0.5), given[1:4], atol=1e-6)


def test_members_are_averaged(tools: SimpleNamespace) -> None:
    inputs = some_inputs(tools)
    stored = tools.plain.read_network(tools.classifier.FILE)
    each = [tools.plain.forward(weights, inputs) for weights in stored.members]
    np.testing.assert_allclose(
        stored.probabilities(inputs), tools.plain.shifted(np.mean(each, axis=0), stored.threshold), atol=1e-6
    )
    assert len(stored.members) > 1
    assert np.ptp(each, axis=0).max() > 1e-4


def test_no_patches_no_probabilities(tools: SimpleNamespace) -> None:
    assert tools.plain.read_network(tools.classifier.FILE).probabilities(some_inputs(tools, 0)).shape == (0,)


def test_what_is_written_is_read(tools: SimpleNamespace, tmp_path: Path) -> None:
    stored = tools.plain.read_network(tools.classifier.FILE)
    path = tmp_path / "again.npz"
    tools.plain.write_network(path, stored)
    again = tools.plain.read_network(path)
    assert again.threshold == stored.threshold
    assert again.about == stored.about
    inputs = some_inputs(tools)
    np.testing.assert_array_equal(again.probabilities(inputs), stored.probabilities(inputs))
    assert [each.name for each in tmp_path.iterdir()] == ["again.npz"]
    with pytest.raises(WriteError, match="cannot be written"):
        tools.plain.write_network(tmp_path / "nowhere" / "x.npz", stored)


def test_file_is_small_and_says_what_it_is(tools: SimpleNamespace) -> None:
    assert tools.classifier.FILE.stat().st_size <= 3_000_000
    about = tools.plain.read_network(tools.classifier.FILE).about
    assert about["parameters"] <= 1_000_000
    assert about["parameters"] == sum(
        value.size
        for weights in tools.plain.read_network(tools.classifier.FILE).members
        for value in weights.values()
    )
    assert {"images", "patches", "passes", "seeds", "scores", "known"} <= set(about)


def some_inputs(tools: SimpleNamespace, count: int = 5):
    return some_examples(tools).inputs(np.arange(count))


def damaged(kind: str, file: Path, path: Path) -> Path:
    content = file.read_bytes()
    if kind == "missing":
        return path
    if kind == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "text":
        path.write_text("nothing")
    elif kind == "pickle":
        np.savez(path, about=np.array([{}], dtype=object))
    else:
        with np.load(file) as stored:
            arrays = dict(stored)
        name = "0/numbers/kernel"
        if kind == "lacking":
            del arrays[name]
        elif kind == "other":
            arrays[name] = arrays[name][:-1]
        elif kind == "no number":
            arrays[name] = np.full_like(arrays[name], np.nan)
        elif kind == "no limit":
            arrays["about"] = np.array('{"members": 1}')
        np.savez(path, **arrays)
    return path


@pytest.mark.parametrize(
    "kind", ["missing", "cut", "text", "pickle", "lacking", "other", "no number", "no limit"]
)
def test_damaged_files_are_refused(tools: SimpleNamespace, kind: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"train it with docs/train_comparing.py"):
        tools.plain.read_network(damaged(kind, tools.classifier.FILE, tmp_path / "x.npz"))


# -- network


@pytest.mark.keras
def test_numpy_and_keras_agree(tools: SimpleNamespace, tmp_path: Path) -> None:
    keras().utils.set_random_seed(0)
    network = tools.comparing.build_comparing()
    rng = np.random.default_rng(1)
    # As after a training: normalisations that do something.
    network.set_weights(
        [
            (np.abs(value) + rng.uniform(0.2, 0.6, value.shape)).astype(np.float32)
            if value.ndim == 1
            else value
            for value in network.get_weights()
        ]
    )
    given = some_examples(tools)
    weights = tools.comparing.plain_weights(network)
    assert set(weights) == tools.plain.expected_names()
    expected = tools.comparing.defect_probabilities(network, given, batch=24)
    assert np.ptp(expected) > 0.05
    inputs = given.inputs(np.arange(len(given)))
    np.testing.assert_allclose(tools.plain.forward(weights, inputs), expected, atol=1e-4)
    path = tmp_path / "one.npz"
    about = {"parameters": 1}
    tools.plain.write_network(path, tools.plain.ComparingNetwork([weights], 0.5, about))
    np.testing.assert_allclose(tools.plain.read_network(path).probabilities(inputs), expected, atol=1e-4)


@pytest.mark.keras
def test_network_is_small_and_learns(tools: SimpleNamespace) -> None:
    keras().utils.set_random_seed(0)
    network = tools.comparing.build_comparing()
    assert network.count_params() <= 100_000
    given = some_examples(tools, 256, 16)
    before = tools.comparing.defect_probabilities(network, given)
    said: list[str] = []
    losses = tools.comparing.fit_comparing(network, given, epochs=12, seed=0, tell=said.append)
    assert len(losses) == len(said) == 12
    assert losses[-1] < losses[0]
    after = tools.comparing.defect_probabilities(network, given)
    assert np.mean((after > 0.5) == given.labels) > max(0.9, np.mean((before > 0.5) == given.labels))


def test_passes_take_some_patches_of_each_image(tools: SimpleNamespace) -> None:
    given = dataclasses.replace(some_examples(tools, 60, 4), images=np.repeat([0, 1, 2, 3], [30, 20, 7, 3]))
    chosen = tools.comparing._chosen(given, np.random.default_rng(0))
    most = tools.comparing.MOST_PER_IMAGE
    assert np.bincount(given.images[chosen]).tolist() == [most, most, 7, 3]
    assert len(set(chosen.tolist())) == len(chosen)


def test_turned_alike(tools: SimpleNamespace) -> None:
    given = some_examples(tools, 40, 40)
    inputs = given.inputs(np.arange(40))
    same = dataclasses.replace(inputs, reference=inputs.patch, statistics=np.zeros_like(inputs.statistics))
    new = tools.comparing.augmented(same, np.random.default_rng(1))
    quiet = np.abs(new.patch - new.reference).max(axis=(1, 2, 3)) == 0
    assert 20 < quiet.sum() < 40
    np.testing.assert_allclose(
        np.abs(new.reference.sum(axis=(1, 2))), np.abs(inputs.patch.sum(axis=(1, 2))), atol=1e-2
    )
    assert not np.array_equal(new.correlation, inputs.correlation)
    np.testing.assert_allclose(new.severity.sum(axis=(1, 2)), inputs.severity.sum(axis=(1, 2)), atol=1e-2)
    assert 0 < np.abs(new.statistics).max() < 0.5


def test_limit_is_that_of_best_accuracy(tools: SimpleNamespace) -> None:
    labels = np.array([0, 0, 0, 1, 1])
    assert tools.training.choose_threshold(np.array([0.1, 0.2, 0.62, 0.68, 0.9]), labels) == 0.65
    # Of 0.3 ... 0.9 all are as good.
    assert tools.training.choose_threshold(np.array([0.1, 0.1, 0.1, 0.95, 0.95]), labels) == 0.6


@pytest.mark.keras
@pytest.mark.slow
def test_the_command(tools: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(DOCS))
    import train_comparing

    out = tmp_path / "weights.npz"
    train_comparing.main(
        ["--quick", "--processes", "0", "--out", str(out), "--cache", str(tmp_path / "cache")]
    )
    network = tools.plain.read_network(out)
    assert len(network.members) == 1
    assert network.about["images"]["training"] == 20
    assert network.threshold in tools.training.THRESHOLDS
