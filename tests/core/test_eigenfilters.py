"""Eigenfilters of a patch, and distances against a computation without any shortcut."""

import numpy as np
import pytest
from scipy import ndimage

from napari_hrstem_defects.core import eigenfilters as module
from napari_hrstem_defects.core.eigenfilters import (
    MAX_SHIFT_PX,
    STRIDE,
    fit_bank,
    log_distances,
    rim_px,
)
from napari_hrstem_defects.core.recipe import SymmetryParams

from .helpers import crystal, noisy, prepared_of, vectors

PERIOD = 8.0
PARAMS = SymmetryParams()
DUMBBELL = (((0.0, 0.0), 1.0), ((0.3, 0.2), 0.5))


def lattice(shape=(90, 100), columns=DUMBBELL, sigma=0.1, seed=0):
    image = crystal(shape, vectors("oblique", PERIOD, 8.0), columns)
    return noisy((image - image.mean()) / image.std(), sigma, seed)


def windows(image, k):
    return np.lib.stride_tricks.sliding_window_view(image, (k, k)).reshape(-1, k * k)


def naive(image, bank):
    """Squared distance of every neighbourhood, before smoothing: all templates, and shifts of the nearest."""
    k = bank.kernel_px
    padded = np.pad(image.astype(float), k // 2, mode="symmetric")
    x = windows(padded, k) - bank.mean
    y = x @ bank.components.T
    residual = (x**2).sum(1) - (y**2).sum(1)
    squares = ((y[:, None] - bank.templates[None]) ** 2).sum(-1)
    nearest = squares.argmin(1)
    best = np.empty(len(y))
    for i, t in enumerate(nearest):
        turned = bank.tangents[t].astype(float)
        shift = np.linalg.lstsq(turned.T, y[i] - bank.templates[t], rcond=None)[0]
        shift = np.clip(shift, -MAX_SHIFT_PX, MAX_SHIFT_PX)
        best[i] = ((y[i] - bank.templates[t] - shift @ turned) ** 2).sum()
    return ((best + residual) / (bank.noise * k * k) + unknown(bank) / bank.noise).reshape(image.shape)


def unknown(bank):
    """A hundredth of the lattice's variance."""
    return 0.01 * bank.eigenvalues.sum() / bank.kernel_px**2


@pytest.mark.parametrize(("tile", "shape"), [(256, (70, 81)), (40, (90, 64))])
def test_distances_by_definition(monkeypatch, tile, shape):
    monkeypatch.setattr(module, "TILE_PX", tile)
    image = lattice(shape)
    image[30:40, 30:44] = lattice(shape, seed=3, columns=DUMBBELL[:1])[30:40, 30:44] * 0.3
    bank = fit_bank(lattice((48, 48), seed=2), 9, SymmetryParams(templates=40))
    d2 = naive(image, bank)[::STRIDE, ::STRIDE]
    rim = -(-rim_px(9, PERIOD, shape) // STRIDE)
    for smoothing in (0.0, 0.4):
        found = log_distances(prepared_of(image), bank, smoothing)
        inner = d2[rim : d2.shape[0] - rim, rim : d2.shape[1] - rim]
        smooth = ndimage.gaussian_filter(inner, smoothing * PERIOD / STRIDE, mode="reflect", truncate=8)
        expected = np.pad(np.log(smooth), rim, mode="edge")
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, atol=0.01)


def test_bank_is_the_covariance_of_the_patch():
    patch, k = lattice((40, 44)), 7
    bank = fit_bank(patch, k, PARAMS)
    samples = windows(patch, k).astype(float)
    np.testing.assert_allclose(bank.mean, samples.mean(0), atol=1e-5)
    values, vectors_ = np.linalg.eigh(np.cov(samples.T, bias=True))
    rank = len(bank.components)
    np.testing.assert_allclose(bank.eigenvalues, values[::-1][:rank], rtol=1e-3)
    overlap = np.abs(np.einsum("rd,dr->r", bank.components, vectors_[:, ::-1][:, :rank]))
    np.testing.assert_allclose(overlap, 1, atol=1e-2)
    assert bank.noise == pytest.approx(values[::-1][rank:].mean() + unknown(bank), rel=1e-3)
    assert bank.filters.shape == (rank, k, k)
    # As few as hold the variance asked for.
    share = np.cumsum(values[::-1]) / values.sum()
    assert rank == min(14, np.searchsorted(share, 0.95) + 1)
    assert len(fit_bank(patch, k, SymmetryParams(max_components=3)).components) == 3


def test_templates_are_neighbourhoods_and_tangents_their_shifts():
    patch = lattice((40, 44), sigma=0.0)
    bank = fit_bank(patch, 7, PARAMS)
    everywhere = np.lib.stride_tricks.sliding_window_view(patch, (7, 7)).reshape(34, 38, 49) - bank.mean
    y = everywhere @ bank.components.T
    for template, tangent in zip(bank.templates[:9], bank.tangents, strict=False):
        r, c = np.unravel_index(((y - template) ** 2).sum(-1).argmin(), y.shape[:2])
        np.testing.assert_allclose(y[r, c], template, atol=1e-4)
        np.testing.assert_allclose((y[r + 1, c] - y[r - 1, c]) / 2, tangent[0], atol=1e-4)
        np.testing.assert_allclose((y[r, c + 1] - y[r, c - 1]) / 2, tangent[1], atol=1e-4)


def test_inverted_bank_is_that_of_the_turned_patch():
    image = lattice((90, 100))
    bank = fit_bank(lattice((48, 48), seed=2), 11, PARAMS)
    turned = log_distances(prepared_of(image[::-1, ::-1]), bank.inverted, 0.0)
    # Every second pixel from the other end.
    plain_d2 = np.log(np.maximum(naive(image, bank), 1e-6))[::-1, ::-1][::STRIDE, ::STRIDE]
    inner = np.s_[8:-8, 8:-8]
    np.testing.assert_allclose(turned[inner], plain_d2[inner], atol=0.02)
    np.testing.assert_array_equal(bank.inverted.inverted.components, bank.components)
    np.testing.assert_array_equal(bank.inverted.inverted.tangents, bank.tangents)


def test_noise_of_the_model_is_the_unit():
    """A crystal like the patch is at about 1, whatever its noise; an empty area is far."""
    for sigma in (0.05, 0.3):
        bank = fit_bank(lattice((64, 64), sigma=sigma, seed=2), 13, PARAMS)
        image = lattice((120, 140), sigma=sigma)
        image[40:80, 50:90] = 0
        found = log_distances(prepared_of(image), bank, 0.4)
        assert np.median(found[:15]) == pytest.approx(0, abs=0.25)
        assert found[30, 35] > 1


def test_patch_that_is_too_small_is_named():
    with pytest.raises(ValueError, match=r"patch has shape \(9, 30\)"):
        fit_bank(np.zeros((9, 30), np.float32), 9, PARAMS)
    with pytest.raises(ValueError, match="at least 11 px"):
        fit_bank(np.zeros((10, 30), np.float32), 9, PARAMS)


def test_defect_in_the_patch_is_no_template():
    """A wall in the patch stands out as it does from the model of a perfect patch."""
    basis, x = vectors("square", PERIOD), np.arange(256)
    # The crystal beyond the wall is displaced by half a period along it.
    image = np.where(x < 64, crystal((128, 256), basis), crystal((128, 256), basis, shift=(4.0, 0.0)))
    image = noisy((image - image.mean()) / image.std(), 0.1)
    crossed, perfect, prepared = image[16:112, 16:112], image[16:112, 140:236], prepared_of(image)

    def contrast(patch, **options):
        distances = log_distances(prepared, fit_bank(patch, 13, PARAMS, **options), 0.4)
        return distances[16:48, 32].mean() - distances[16:48, 80:].mean()

    assert contrast(crossed) < contrast(perfect) - 0.5
    assert contrast(crossed, period_px=PERIOD) > contrast(perfect) - 0.3
    # Nothing is left out of a perfect patch.
    assert len(fit_bank(perfect, 13, PARAMS, period_px=PERIOD).templates) == PARAMS.templates


def test_constant_patch_has_a_model():
    bank = fit_bank(np.zeros((60, 60), np.float32), 9, PARAMS, period_px=PERIOD)
    assert len(bank.templates) == PARAMS.templates
    assert bank.noise > 0
