"""The script behind docs/results/ensemble*.csv: its splits share no pixel, its tables say what was measured."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from napari_hrstem_defects.models.data import PatchSet

ROOT = Path(__file__).parents[1]
PATCHES = ROOT.parent / "shared" / "data" / "stem_patches"


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    from results_tools import ensemble, ensemble_linear, ensemble_published, ensemble_simulated

    yield SimpleNamespace(
        ensemble=ensemble, linear=ensemble_linear, published=ensemble_published, simulated=ensemble_simulated
    )
    for name in [name for name in sys.modules if name.split(".")[0] == "results_tools"]:
        del sys.modules[name]


def pixels_of(corners: np.ndarray, edge: int) -> np.ndarray:
    """Which pixels of the image a set of patches shows."""
    seen = np.zeros((800, 800), bool)
    for y, x in corners.astype(int):
        seen[y : y + edge, x : x + edge] = True
    return seen


@pytest.mark.parametrize("seed", [0, 1, 200])
def test_splits_share_no_pixel(tools: SimpleNamespace, seed: int) -> None:
    rng = np.random.default_rng(0)
    corners = np.concatenate([rng.integers(0, 400, (300, 2)), rng.integers(600, 610, (30, 2))]).astype(float)
    labels = np.concatenate([np.arange(300) % 2, np.full(30, 2)])
    patches = PatchSet(
        np.zeros((330, 64, 64), np.float32), labels, ("Bulk", "Vacancy", "LC"), np.array(["a"] * 330), corners
    )
    split = tools.ensemble.split_by_place(patches, ("Bulk", "Vacancy"), seed)
    assert not (pixels_of(corners[split.train], 64) & pixels_of(corners[split.test], 64)).any()
    assert set(labels[split.test]) == {0, 1}
    assert set(labels[split.train]) == {0, 1, 2}
    for k in (0, 1):
        assert min((labels[split.train] == k).sum(), (labels[split.test] == k).sum()) >= 8


@pytest.mark.skipif(not PATCHES.is_dir(), reason="needs the shared patches")
@pytest.mark.parametrize("material", ["CdTe", "STO"])
def test_splits_of_the_real_patches(tools: SimpleNamespace, material: str) -> None:
    patches = tools.ensemble.read_patches(PATCHES, material)
    assert patches.classes[0] == "Bulk"
    assert 0 <= patches.pixels.min() <= patches.pixels.max() <= 1
    tested = tools.ensemble.TESTED[material]
    tests = set()
    for seed in tools.ensemble.SEEDS:
        split = tools.ensemble.split_by_place(patches, tested, seed)
        train, test = patches.corners[split.train], patches.corners[split.test]
        assert not (pixels_of(train, 64) & pixels_of(test, 64)).any()
        names = {patches.classes[k] for k in patches.labels[split.test]}
        assert names == set(tested)
        tests.add(tuple(split.test))
    assert len(tests) == len(tools.ensemble.SEEDS)


def test_no_split(tools: SimpleNamespace) -> None:
    patches = PatchSet(
        np.zeros((20, 64, 64), np.float32),
        np.arange(20) % 2,
        ("Bulk", "LC"),
        np.array(["a"] * 20),
        np.random.default_rng(0).integers(0, 30, (20, 2)).astype(float),
    )
    with pytest.raises(ValueError, match="no split by place"):
        tools.ensemble.split_by_place(patches, ("Bulk", "LC"), 0)


def test_table(tools: SimpleNamespace) -> None:
    rows = [
        {
            "material": "STO",
            "variant": variant,
            "seed": seed,
            "balanced_accuracy": str(value),
            "balanced_accuracy_8_views": str(value + 0.02),
            "accuracy": "0.5",
        }
        for variant, values in (("raw", (0.9, 0.94)), ("FFT", (0.6, 0.7)), ("published", (0.5,)))
        for seed, value in enumerate(values)
    ]
    text = tools.ensemble.summary(rows)
    assert "| STO | raw | 2 | 0.920 ± 0.028 | 0.940 ± 0.028 | 0.500 ± 0.000 | ≥ 0.9 met |" in text
    assert "≥ 0.9 **not met**" in text
    assert text.count("CdTe") == 0


def test_calibration_error(tools: SimpleNamespace) -> None:
    own = np.array([True] * 10 + [False] * 10)
    right = np.where(own, 1.0, 0.0)
    assert tools.simulated.calibration_error(right, own) == pytest.approx(0)
    assert tools.simulated.calibration_error(1 - right, own) == pytest.approx(1)
    assert tools.simulated.calibration_error(np.full(20, 0.5), own) == pytest.approx(0)
    assert tools.simulated.calibration_error(np.full(20, 0.7), own) == pytest.approx(0.2)


@pytest.mark.keras
def test_the_published_network_is_trained_as_it_is(tools: SimpleNamespace) -> None:
    """What is computed with less is what Keras computes layer by layer, but for products of eight bits."""
    from napari_hrstem_defects.models.backend import keras
    from napari_hrstem_defects.models.ensemble_networks import build_published, logits

    keras().utils.set_random_seed(0)
    network = build_published()
    trainer = tools.published.Trainer(network, 1e-3)
    rng = np.random.default_rng(0)
    spectra = np.maximum(rng.uniform(-4, 5, (8, 64, 64, 1)), 0).astype(np.float32)
    whole = logits(network)

    def differ(training: bool) -> float:
        found, expected = (
            np.asarray(values)
            for values in (
                trainer.logits(spectra, training)[0],
                whole([spectra], training=training),
            )
        )
        return float(np.abs(found - expected).max() / expected.std())

    assert differ(True) < 0.05
    targets = (np.arange(8) % 2).astype(np.float32)[:, None]
    before = [np.array(values) for values in network.get_weights()]
    losses = [float(trainer.step(spectra, targets)) for _ in range(6)]
    assert losses[-1] < losses[0]
    trainer.write()
    changed = [not np.array_equal(a, b) for a, b in zip(before, network.get_weights(), strict=True)]
    # Only biases before a batch normalisation stay.
    assert changed.count(False) == 3
    assert differ(False) < 0.05
    assert differ(True) < 0.05


def test_passes_of_the_published_recipe(tools: SimpleNamespace) -> None:
    assert tools.published.needed_passes(500) == 3  # 63 steps each
    assert tools.published.needed_passes(80) == 10  # 10 steps each


def test_a_linear_model_reads_spectra(tools: SimpleNamespace) -> None:
    """Stripes of different periods and directions differ in their spectra, wherever they lie."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:32, :32]
    labels = np.arange(60) % 3
    waves = [2 * np.pi * y / 8, 2 * np.pi * x / 8, 2 * np.pi * x / 5]
    pixels = np.stack([0.5 + 0.3 * np.cos(waves[k] + rng.uniform(0, 6)) for k in labels]).astype(np.float32)
    patches = PatchSet(pixels, labels, ("Bulk", "a", "b"), np.array(["image"] * 60))
    model = tools.linear.train(patches.take(range(30)))
    np.testing.assert_array_equal(tools.linear.said(model, pixels[30:]).argmax(axis=1), labels[30:])
    # Brighter or darker by a factor they have the same spectra, for they are divided by their maxima.
    np.testing.assert_allclose(
        tools.linear.said(model, pixels / 3), tools.linear.said(model, pixels), atol=1e-3
    )
