"""Eigenfilters against analytic covariances, direct loops and scipy's Mahalanobis distance."""

import numpy as np
import pytest
from scipy.spatial.distance import mahalanobis

from napari_hrstem_defects.core.eigenfilters import (
    EigenfilterBank,
    filter_responses,
    mahalanobis_transform,
    window_sums,
)
from napari_hrstem_defects.core.errors import RecipeError

RNG = np.random.default_rng(0)


def texture(shape: tuple[int, int], seed: int = 0, noise: float = 0.3) -> np.ndarray:
    y, x = np.indices(shape)
    image = np.cos(2 * np.pi * x / 9.3) + np.cos(2 * np.pi * (0.3 * x + y) / 11.1)
    return image + noise * np.random.default_rng(seed).normal(size=shape)


def test_known_covariance():
    basis, _ = np.linalg.qr(RNG.normal(size=(9, 9)))
    values = np.array([9.0, 7, 5, 4, 3, 2, 1, 0.5, 0.1])
    bank = EigenfilterBank.from_covariance(basis * values @ basis.T)
    np.testing.assert_allclose(bank.eigenvalues, values)
    overlap = bank.filters.reshape(9, 9) @ basis
    np.testing.assert_allclose(np.abs(overlap), np.eye(9), atol=1e-10)
    assert bank.kernel == 3


def test_plane_wave_has_two_filters():
    """All phases of cos(q·r) covary as cos(q·(r − r')) / 2: an even and an odd wave, known in closed form."""
    q = 2 * np.pi * np.array([3, 5]) / 64
    y, x = np.indices((70, 70))  # neighbourhoods of 7 px start at 64 × 64 places: whole periods
    bank = EigenfilterBank.from_patch(np.cos(q[0] * y + q[1] * x), 7)
    t = np.arange(7) - 3
    phase = q[0] * t[:, None] + q[1] * t[None]
    expected = sorted(((np.cos(phase), "even"), (np.sin(phase), "odd")), key=lambda w: -(w[0] ** 2).sum())
    for k, (shape, _) in enumerate(expected):
        norm = np.sqrt((shape**2).sum())
        # 64² samples, divided by one less as covariances are.
        assert bank.eigenvalues[k] == pytest.approx(norm**2 / 2 * 64**2 / (64**2 - 1))
        assert abs((bank.filters[k] * shape).sum() / norm) == pytest.approx(1)
    np.testing.assert_allclose(bank.eigenvalues[2:], 0, atol=1e-10)
    np.testing.assert_allclose(bank.mean, 0, atol=1e-10)


def test_patch_covariance_is_that_of_numpy():
    patch = texture((40, 33)) + 100
    samples = [patch[i : i + 5, j : j + 5].ravel() for i in range(36) for j in range(29)]
    bank = EigenfilterBank.from_patch(patch, 5)
    np.testing.assert_allclose(bank.mean.ravel(), np.mean(samples, axis=0))
    matrix = bank.filters.reshape(25, 25)
    np.testing.assert_allclose(
        matrix @ np.cov(np.transpose(samples)) @ matrix.T, np.diag(bank.eigenvalues), atol=1e-10
    )


def test_rows_are_the_rows_turned():
    patch = texture((60, 60))
    columns, rows = (EigenfilterBank.from_patch(patch, 7, which) for which in ("columns", "rows"))
    vectors = columns.filters.reshape(49, 49).T
    np.testing.assert_allclose(rows.filters[:, ::-1, ::-1].reshape(49, 49), vectors)
    np.testing.assert_allclose(
        rows.filters.reshape(49, 49) @ rows.filters.reshape(49, 49).T, np.eye(49), atol=1e-12
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_responses_by_loop(dtype):
    image = (texture((9, 11)) * 40 + 120).astype(dtype)
    bank = EigenfilterBank.from_patch(texture((20, 20)), 3)
    padded = np.pad(image.astype(float), 1, mode="symmetric")
    expected = np.empty((9, 9, 11))
    for k, y, x in np.ndindex(expected.shape):
        expected[k, y, x] = (bank.filters[k] * padded[y : y + 3, x : x + 3]).sum()
    out = bank.responses(image)
    assert out.dtype == (np.float64 if dtype == np.float64 else np.float32)
    np.testing.assert_allclose(out, expected, atol=2e-4)


@pytest.mark.parametrize("window", [1, 2, 3, 6, 7, 16])
def test_energies_by_loop(window):
    image = texture((20, 23))
    bank = EigenfilterBank.from_patch(texture((20, 20)), 3)
    before, after = window // 2, (window - 1) // 2
    padded = np.pad(image, (1 + before, 1 + after), mode="symmetric")
    squares = filter_responses(padded, bank.filters) ** 2
    expected = np.empty((9, 20, 23))
    for k, y, x in np.ndindex(expected.shape):
        expected[k, y, x] = squares[k, y : y + window, x : x + window].sum()
    np.testing.assert_allclose(bank.energies(image, window), expected)


def test_bias_is_added():
    block = RNG.normal(size=(6, 7))
    filters = RNG.normal(size=(2, 3, 3))
    plain, biased = filter_responses(block, filters), filter_responses(block, filters, np.array([1.0, -2.0]))
    np.testing.assert_allclose(biased - plain, np.broadcast_to([[[1.0]], [[-2.0]]], plain.shape))


@pytest.mark.parametrize("window", range(1, 20))
def test_window_sums(window):
    planes = RNG.normal(size=(2, 25, 21)).astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(planes, (window, window), (1, 2))
    np.testing.assert_allclose(window_sums(planes, window), windows.sum((-2, -1)), atol=1e-4)


def test_transform_is_scipys_mahalanobis():
    mixing = RNG.normal(size=(6, 6)) * np.array([1, 10, 0.1, 3, 1, 100])[:, None]
    samples = mixing @ RNG.normal(size=(6, 500)) + 7
    transform, mean = mahalanobis_transform(samples)
    inverse = np.linalg.inv(np.cov(samples))
    for point in (mixing @ RNG.normal(size=(6, 20)) * 3).T:
        assert np.linalg.norm(transform @ (point - mean)) == pytest.approx(
            mahalanobis(point, samples.mean(axis=1), inverse)
        )


def test_singular_covariance_stays_finite():
    samples = RNG.normal(size=(5, 200))
    samples[3] = samples[0] + samples[1]
    samples[4] = 2.0
    transform, _ = mahalanobis_transform(samples)
    assert np.isfinite(transform).all()
    # A constant feature weighs as if it scattered by the floor, 1e-6 of the largest.
    assert np.abs(transform[:, 4]).max() <= 1.01e6 / samples.std(axis=1, ddof=1).max() / np.sqrt(1e-9)
    transform, mean = mahalanobis_transform(np.full((3, 10), 4.0))
    np.testing.assert_array_equal(transform, np.eye(3))
    np.testing.assert_array_equal(mean, 4.0)


def test_bad_arguments_are_named():
    with pytest.raises(RecipeError, match="kernel_px"):
        EigenfilterBank.from_patch(np.zeros((20, 20)), 4)
    with pytest.raises(ValueError, match="patch"):
        EigenfilterBank.from_patch(np.zeros((7, 20)), 7)
    with pytest.raises(ValueError, match="eigenvectors"):
        EigenfilterBank.from_patch(np.zeros((20, 20)), 3, "diagonal")
    with pytest.raises(ValueError, match="covariance"):
        EigenfilterBank.from_covariance(np.eye(8))
    bank = EigenfilterBank.from_patch(texture((20, 20)), 3)
    with pytest.raises(ValueError, match="image"):
        bank.responses(np.zeros(5))
    with pytest.raises(ValueError, match="window"):
        bank.energies(np.zeros((9, 9)), 0)
