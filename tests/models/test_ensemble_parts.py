"""Variants of patches and the calibration of probabilities."""

import numpy as np
import pytest
from scipy.special import expit

from napari_hrstem_defects.models import fft_features
from napari_hrstem_defects.models.fft_ensemble import calibrate, calibrated
from napari_hrstem_defects.models.fft_features import varied
from napari_hrstem_defects.models.preparing import symmetric, symmetries


@pytest.fixture
def patches() -> np.ndarray:
    return np.random.default_rng(3).random((40, 32, 32)).astype(np.float32)


def test_symmetries_are_the_eight_of_a_square() -> None:
    patch = np.arange(16, dtype=np.float32).reshape(1, 4, 4)
    copies = {copy.tobytes() for copy in symmetries(patch)}
    assert len(copies) == 8
    assert symmetries(patch)[0].tobytes() == patch.tobytes()
    # Closed: turning and mirroring a copy gives another of them.
    assert {np.rot90(c, 1, (1, 2)).tobytes() for c in symmetries(patch)} == copies
    assert {c[:, :, ::-1].tobytes() for c in symmetries(patch)} == copies


def test_each_patch_in_its_own_way(patches: np.ndarray) -> None:
    kinds = np.arange(40) % 8
    np.testing.assert_array_equal(
        symmetric(patches, kinds), [symmetries(p)[k] for p, k in zip(patches, kinds, strict=True)]
    )


def test_varied_is_seeded_and_equalised(patches: np.ndarray) -> None:
    first = varied(patches, np.random.default_rng(5))
    np.testing.assert_array_equal(first, varied(patches, np.random.default_rng(5)))
    assert not np.array_equal(first, varied(patches, np.random.default_rng(6)))
    assert first.dtype == np.float32
    assert 0 <= first.min() <= first.max() <= 1
    np.testing.assert_allclose(first.mean(axis=(1, 2)), 0.5, atol=0.01)


def test_warp_reads_a_plane_exactly_and_stays_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    # A plane survives linear interpolation, so each variant must be a plane with the slope of its zoom and turn,
    # and values only from inside the patch.
    monkeypatch.setattr(fft_features, "WARPED_SHARE", 1.0)
    edge = 32
    plane = np.tile(np.arange(edge, dtype=np.float32), (50, edge, 1))
    out = fft_features.warped(plane, np.random.default_rng(1))
    slope_y, slope_x = np.diff(out, axis=1), np.diff(out, axis=2)
    assert np.ptp(slope_x, axis=(1, 2)).max() < 1e-3
    zoom = 1 / np.hypot(slope_x.mean(axis=(1, 2)), slope_y.mean(axis=(1, 2)))
    turn = np.degrees(np.arctan2(-slope_y.mean(axis=(1, 2)), slope_x.mean(axis=(1, 2))))
    assert zoom.min() >= 1
    assert zoom.max() <= 1.3 + 1e-3
    assert np.ptp(zoom) > 0.1
    assert np.abs(turn).max() <= 8.01
    assert np.ptp(turn) > 8
    assert out.min() >= 0
    assert out.max() <= edge - 1


def test_calibration_recovers_a_known_line() -> None:
    rng = np.random.default_rng(4)
    truth = rng.normal(0, 2, 20000)
    labels = (rng.random(truth.size) < expit(truth)).astype(int)
    # The network says three times too much, and leans to one side.
    said = 3 * truth + 1.5
    found = calibrate(np.stack([said, -said], axis=1), 1 - labels)
    assert found["fitted"] == [True, True]
    assert found["slope"] == pytest.approx([1 / 3, 1 / 3], rel=0.05)
    assert found["offset"] == pytest.approx([-0.5, 0.5], abs=0.06)
    probabilities = calibrated(np.stack([said, -said], axis=1), found)
    np.testing.assert_allclose(probabilities[:, 0], expit(truth), atol=0.03)


def test_calibration_of_a_class_that_was_not_held_out() -> None:
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 2, 400)
    said = rng.normal(0, 4, (400, 3)) + 3 * (labels[:, None] == np.arange(3))
    found = calibrate(said, labels)
    assert found["fitted"] == [True, True, False]
    assert found["slope"][2] == pytest.approx(np.mean(found["slope"][:2]), rel=1e-6)
    assert found["offset"][2] == 0
    nothing = calibrate(said[:4], labels[:4])
    assert nothing["fitted"] == [False] * 3
    np.testing.assert_allclose(calibrated(said, nothing), expit(said), atol=1e-6)
    np.testing.assert_allclose(calibrated(said, {}), expit(said), atol=1e-6)


def test_few_patches_make_no_certainties() -> None:
    labels = np.array([0] * 5 + [1] * 5)
    said = np.where(labels[:, None] == np.arange(2), 1.4, -1.4)  # 0.8 and 0.2, perfectly separated
    probabilities = calibrated(said, calibrate(said, labels))
    assert 0.8 < probabilities[0, 0] < 0.999
