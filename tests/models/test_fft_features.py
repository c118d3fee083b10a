"""Log spectra against the formula, and patches of equal brightness."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from napari_hrstem_defects.models.fft_features import equalise, log_spectra, standardised


def direct(patch: np.ndarray, threshold: float) -> np.ndarray:
    """The published steps, one after the other, in double precision."""
    smooth = gaussian_filter(patch.astype(np.float64) / patch.max(), 1)
    spectrum = np.log(1 + np.abs(np.fft.fftshift(np.fft.fft2(smooth))))
    return np.where(spectrum > threshold, spectrum, 0)


@pytest.mark.parametrize("edge", [64, 63, 16])
@pytest.mark.parametrize("threshold", [0.0, 1.0])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_log_spectra(edge: int, threshold: float, dtype: type) -> None:
    patches = (np.random.default_rng(1).random((70, edge, edge)) * 255).astype(dtype)
    spectra = log_spectra(patches, threshold=threshold)
    assert spectra.dtype == np.float32
    for k in (0, 63, 64, 69):  # on both sides of a batch's end
        expected = direct(patches[k], threshold)
        # Rounding may lift a value over the threshold; nothing else may differ.
        near = np.abs(expected - threshold) < 1e-3
        np.testing.assert_allclose(spectra[k][~near], expected[~near], atol=2e-4)


def test_lattice_gives_its_spots() -> None:
    x = np.arange(64)
    patch = np.float32(1 + np.cos(2 * np.pi * x / 8))[None] * np.ones((64, 1), np.float32)
    spectrum = log_spectra(patch[None], blur_px=0.0)[0]
    middle = 32
    assert spectrum[middle, middle + 8] == pytest.approx(np.log(1 + 64 * 64 / 4))
    assert spectrum[middle, middle - 8] == spectrum[middle, middle + 8]
    assert np.count_nonzero(spectrum) == 3


def test_dark_patch_and_wrong_shape() -> None:
    assert not log_spectra(np.zeros((1, 16, 16), np.float32)).any()
    with pytest.raises(ValueError, match=r"expected \(n, edge, edge\)"):
        log_spectra(np.zeros((16, 16), np.float32))


def test_equalise() -> None:
    rng = np.random.default_rng(2)
    patch = rng.random((1, 64, 64)).astype(np.float32)
    for changed in (patch * 0.2 + 0.7, patch * 200):
        np.testing.assert_allclose(equalise(changed), equalise(patch), atol=1e-4)
    equal = equalise(patch)
    assert equal.mean() == pytest.approx(0.5, abs=1e-5)
    assert equal.std() == pytest.approx(0.125, abs=1e-5)
    assert standardised(equal).std() == pytest.approx(1, abs=1e-4)
    flat = equalise(np.full((1, 16, 16), 0.3, np.float32))
    np.testing.assert_array_equal(flat, 0.5)
    one_bright = np.zeros((1, 64, 64), np.float32)
    one_bright[0, 3, 3] = 1
    assert equalise(one_bright).max() == 1
