"""The comparing network of docs/make_results.py: what it is given, its size, that it learns and can be stored."""

import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from napari_hrstem_defects.core.metrics import patch_truth
from napari_hrstem_defects.core.patches import PatchGrid
from napari_hrstem_defects.models.backend import keras
from napari_hrstem_defects.simulation import simulate

pytestmark = pytest.mark.keras

DOCS = Path(__file__).parents[1] / "docs"
EDGE = 96
Faulted = tuple[np.ndarray, np.ndarray, PatchGrid]


@pytest.fixture
def comparing(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(DOCS))
    from results_tools import comparing

    yield comparing
    for name in [name for name in sys.modules if name.split(".")[0] == "results_tools"]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def faulted() -> Faulted:
    sim = simulate(
        "grain_boundary", 1, material="au", zone_axis="110", shape=(384, 384), px_per_period=12.0, dose=800
    )
    return sim.micrograph.frame().pixels, sim.labels, PatchGrid((384, 384), EDGE)


def test_inputs(comparing: ModuleType, faulted: Faulted) -> None:
    pixels, labels, grid = faulted
    found = comparing.relative_inputs(pixels, grid)
    assert found is not None
    inputs, centre = found
    assert len(inputs) == 16
    assert inputs.statistics.shape == (16, len(comparing.STATISTICS))
    assert all(np.isfinite(part).all() for part in inputs.arrays)
    # The typical patch is compared with itself.
    np.testing.assert_array_equal(inputs.patch[centre], inputs.reference[0])
    assert inputs.statistics[centre, comparing.STATISTICS.index("distance")] == pytest.approx(0, abs=1e-2)
    # What is told apart: patches of the grain of the typical one from all others.
    truth = patch_truth(labels, grid, ignore=None).ravel()
    truth = 1 - truth if truth[centre] == 1 else truth
    distance = inputs.statistics[:, comparing.STATISTICS.index("distance")]
    assert distance[truth == 0].max() < distance[truth == 1].max()


def test_no_lattice(comparing: ModuleType) -> None:
    noise = np.random.default_rng(0).random((256, 256), np.float32)
    assert comparing.relative_inputs(noise, PatchGrid((256, 256), 128)) is None


def test_same_scale_and_brightness_do_not_matter(comparing: ModuleType, faulted: Faulted) -> None:
    pixels, _, grid = faulted
    some = comparing.relative_inputs(pixels, grid)
    other = comparing.relative_inputs(0.3 + 0.5 * pixels, grid)
    assert some is not None
    assert other is not None
    np.testing.assert_allclose(some[0].patch, other[0].patch, atol=2e-2)
    np.testing.assert_allclose(some[0].correlation, other[0].correlation, atol=1e-2)


def test_correlation_map_is_symmetric(comparing: ModuleType, faulted: Faulted) -> None:
    inputs, _ = comparing.relative_inputs(faulted[0], faulted[2])  # type: ignore[misc]
    usual = inputs.correlation[0, :, :, 0]
    np.testing.assert_allclose(usual, usual[::-1, ::-1], atol=1e-4)
    assert usual.max() == pytest.approx(usual[16, 16]) == pytest.approx(1, abs=1e-5)


def test_turned_alike(comparing: ModuleType) -> None:
    rng = np.random.default_rng(0)
    pieces = rng.random((6, 8, 8, 1)).astype(np.float32)
    maps = np.concatenate([pieces, 2 * pieces], axis=-1)
    numbers = rng.random((6, 3)).astype(np.float32)
    new = comparing.turned_together((pieces, -pieces, maps, numbers), np.random.default_rng(1))
    np.testing.assert_array_equal(new[0], -new[1])
    np.testing.assert_array_equal(new[2][..., :1], new[0])
    np.testing.assert_array_equal(new[3], numbers)
    assert not np.array_equal(new[0], pieces)
    np.testing.assert_allclose(new[0].sum(axis=(1, 2)), pieces.sum(axis=(1, 2)), rtol=1e-5)


def test_network_is_small_and_learns(comparing: ModuleType, tmp_path: Path) -> None:
    keras().utils.set_random_seed(0)
    network = comparing.build_relative()
    assert network.count_params() <= 1_000_000
    rng = np.random.default_rng(0)
    labels = np.arange(64) % 2
    shift = labels[:, None].astype(np.float32)
    inputs = comparing.RelativeInputs(
        rng.normal(size=(64, 64, 64, 1)).astype(np.float32),
        rng.normal(size=(64, 64, 64, 1)).astype(np.float32),
        rng.normal(size=(64, 33, 33, 2)).astype(np.float32),
        (rng.normal(size=(64, len(comparing.STATISTICS))) + 3 * shift).astype(np.float32),
    )
    history = comparing.fit_relative(
        network, (inputs, labels), (inputs, labels), epochs=8, patience=8, batch=16, learning_rate=5e-3
    )
    said = comparing.defect_probabilities(network, inputs, batch=24)
    assert said.shape == (64,)
    assert ((said > 0.5) == labels).mean() > 0.9
    assert history.epochs == 8
    chosen = inputs.take(labels == 1)
    assert len(chosen) == 32
    np.testing.assert_allclose(comparing.defect_probabilities(network, chosen), said[labels == 1], atol=1e-5)
    both = comparing.join_inputs([chosen, inputs.take(labels == 0)])
    assert len(both) == 64
    path = tmp_path / "comparing.keras"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras' own, about numpy
        network.save(path)
    assert path.stat().st_size <= 3_000_000
    stored = keras().saving.load_model(path, compile=False)
    np.testing.assert_allclose(comparing.defect_probabilities(stored, inputs, batch=24), said, atol=1e-5)
