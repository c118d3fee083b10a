"""The arithmetic of a scan, with a model whose answers are known."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from napari_hrstem_defects.errors import ModelError
from napari_hrstem_defects.models import scan as scanning
from napari_hrstem_defects.models import store
from napari_hrstem_defects.models.contract import Contract

EDGE = 16
CONTRACT = Contract("fft-ensemble", "known", ("Bulk", "bright", "dark"), EDGE)


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> Callable[..., SimpleNamespace]:
    """A model that finds a class wherever a pixel of a window is above 0.9, or below 0.1."""

    def predict(kind: object, model: object, windows: np.ndarray, **settings: object) -> np.ndarray:
        bright = (windows > 0.9).any(axis=(1, 2))
        dark = (windows < 0.1).any(axis=(1, 2))
        return np.stack([~bright & ~dark, bright, dark], axis=1).astype(np.float32)

    monkeypatch.setattr(scanning.FFTEnsemble, "predict", predict)

    def make(**changes: object) -> SimpleNamespace:
        contract = Contract("fft-ensemble", "known", CONTRACT.classes, EDGE, **changes)
        return SimpleNamespace(contract=contract, networks={})

    return make


def brute(found: np.ndarray, rows: list[int], columns: list[int], shape: tuple[int, int]) -> np.ndarray:
    """Sum over windows, pixel by pixel."""
    total = np.zeros(shape)
    for i, y in enumerate(rows):
        for j, x in enumerate(columns):
            total[y : y + EDGE, x : x + EDGE] += found[i, j]
    return total


@pytest.mark.parametrize(("shape", "stride"), [((16, 16), 8), ((33, 50), 7), ((40, 64), 16), ((17, 90), 1)])
def test_any_shape_and_stride(
    known: Callable[..., SimpleNamespace], shape: tuple[int, int], stride: int
) -> None:
    pixels = np.full(shape, 0.5, np.float32)
    pixels[shape[0] // 2, shape[1] // 3] = 1
    pixels[3, -2] = 0
    found = scanning.scan(known(), pixels, stride_px=stride)
    rows, columns = ([*range(0, n - EDGE, stride), n - EDGE] for n in shape)
    windows = np.array([[pixels[y : y + EDGE, x : x + EDGE] for x in columns] for y in rows])
    bright, dark = (windows > 0.9).any(axis=(2, 3)), (windows < 0.1).any(axis=(2, 3))
    covering = brute(np.ones(bright.shape), rows, columns, shape)
    assert covering.min() >= 1
    for k, said in enumerate((~bright & ~dark, bright, dark)):
        votes = brute(said, rows, columns, shape)
        np.testing.assert_allclose(found.probabilities[k], votes / covering, atol=1e-6)
        np.testing.assert_array_equal(found.majority[k], votes > votes.max() / 2)
        # As published without the last window of each row, the last row and the windows at the rim, and more than 16.
        n_y, n_x = (int((n - EDGE) / stride) for n in shape)
        votes = brute(said[:n_y, :n_x], rows[:n_y], columns[:n_x], shape)
        np.testing.assert_array_equal(found.votes[k], (votes > votes.max() * 0.5) & (votes > 16))


def test_published_votes_need_more_than_sixteen() -> None:
    ballots = np.zeros((2, 9, 9), bool)
    ballots[0, :4, :4] = (
        True  # 16 windows of 16 px with steps of 2 px over the pixels from (6, 6) to (15, 15)
    )
    ballots[1, :4, :5] = True
    votes = scanning.published_votes(ballots, 2, 16, (32, 32))
    assert not votes[0].any()
    assert votes[1, 6:16, 8:16].all()
    assert votes[1].sum() == 10 * 8
    # A vote in the last window of a row or the last row counts for nothing.
    ballots[1, :, 8] = ballots[1, 8] = True
    np.testing.assert_array_equal(scanning.published_votes(ballots, 2, 16, (32, 32)), votes)
    assert not scanning.published_votes(np.ones((1, 1, 1), bool), 4, 16, (16, 16)).any()


def test_class_map_and_its_uncertain_pixels() -> None:
    probabilities = np.array(
        [[[0.9, 0.2, 0.4, 0.5]], [[0.3, 0.7, 0.45, 0.1]], [[0.1, 0.69, 0.3, 0.2]]], np.float32
    )
    np.testing.assert_array_equal(scanning.class_map(probabilities), [[0, 1, scanning.UNCERTAIN, 0]])
    np.testing.assert_array_equal(scanning.class_map(probabilities, 0.0), [[0, 1, 1, 0]])
    np.testing.assert_array_equal(scanning.class_map(probabilities, 0.8), [[0, 255, 255, 255]])


def test_regions_carry_their_class() -> None:
    labels = np.zeros((40, 60), np.uint8)
    labels[5:15, 5:25] = 2
    labels[20:30, 40:50] = 1
    labels[35, 1] = 1  # too small
    labels[0:4, 30:60] = scanning.UNCERTAIN
    probabilities = np.zeros((3, 40, 60), np.float32)
    probabilities[2, 5:15, 5:25] = 0.75
    probabilities[1, 20:30, 40:50] = 0.6
    found = scanning.class_regions(labels, probabilities, CONTRACT.classes, EDGE, pixel_size_nm=0.1)
    assert [region.type for region in found] == ["dark", "bright"]
    assert found[0].label == 2
    assert found[0].area_nm2 == pytest.approx(2.0)
    assert found[0].centroid == (9.5, 14.5)
    assert found[0].mean_severity == found[0].confidence == pytest.approx(0.75)
    assert found[1].max_severity == pytest.approx(0.6)


def test_scan_of_a_defect(known: Callable[..., SimpleNamespace]) -> None:
    pixels = np.full((64, 64), 0.5, np.float32)
    pixels[32, 32] = 1
    found = scanning.scan(known(), pixels, stride_px=4, pixel_size_nm=0.02)
    assert [region.type for region in found.regions] == ["bright"]
    (region,) = found.regions
    assert np.abs(np.subtract(region.centroid, 32)).max() <= 2  # half a stride
    assert region.area_nm2 == pytest.approx(region.area_px * 0.02**2)
    assert found.labels[0, 0] == 0
    assert found.classes == CONTRACT.classes
    assert found.warnings == ()


def test_image_of_another_scale(known: Callable[..., SimpleNamespace]) -> None:
    y, x = np.mgrid[:128, :128]
    pixels = (0.5 + 0.2 * np.cos(y * 2 * np.pi / 8) + 0.2 * np.cos(x * 2 * np.pi / 8)).astype(np.float32)
    model = known(period_px=(15.0, 17.0), pixel_size_nm=(0.02, 0.02))
    found = scanning.scan(model, pixels, stride_px=16, pixel_size_nm=0.1)
    (warning,) = found.warnings
    assert "0.1 nm a pixel instead of 0.02, 8.0 px a lattice period instead of 15.0 to 17.0" in warning
    right = known(period_px=(7.0, 9.0), pixel_size_nm=(0.09, 0.11))
    assert scanning.scan(right, pixels, stride_px=16, pixel_size_nm=0.1).warnings == ()
    noise = np.random.default_rng(0).uniform(0, 1, (128, 128)).astype(np.float32)
    (warning,) = scanning.scan(right, noise, stride_px=16).warnings
    assert "No lattice was found" in warning


def test_a_file_is_read_once_for_all_scans(
    known: Callable[..., SimpleNamespace], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has run is compiled: the second scan in a process takes seconds less."""
    read: list[Path] = []
    monkeypatch.setattr(store, "load_model", lambda path: read.append(path) or known())
    path = tmp_path / "known.hrstem"
    for content in (b"a", b"a", b"another model under the same name"):
        path.write_bytes(content)
        assert scanning.scan_file(path, np.full((32, 32), 0.5, np.float32)).regions == ()
    assert read == [path, path]


def test_wrong_arguments(known: Callable[..., SimpleNamespace]) -> None:
    pixels = np.zeros((32, 32), np.float32)
    for stride in (0, 17):
        with pytest.raises(ModelError, match="The stride must be 1 to 16 px"):
            scanning.scan(known(), pixels, stride_px=stride)
    with pytest.raises(ModelError, match="windows of 16 px"):
        scanning.scan(known(), pixels[:10])
    with pytest.raises(ModelError, match="least probability"):
        scanning.scan(known(), pixels, least_probability=2)
    with pytest.raises(ValueError, match="expected"):
        scanning.scan(known(), np.zeros((2, 32, 32), np.float32))
