"""Image formation and detection against closed formulas."""

import numpy as np
import pytest

from napari_hrstem_defects.simulation.exposure import counted, digitised, scan_jitter
from napari_hrstem_defects.simulation.optics import (
    COLUMN_SIGMA_NM,
    FWHM_PER_SIGMA,
    TAIL_SHARE,
    TAIL_WIDTH,
    electron_wavelength_nm,
    filtered,
    frequencies,
    phase_transfer,
    probe_transfer,
    splat,
    spline_correction,
)


def test_splat_keeps_sum_and_centre_of_mass():
    image = splat(np.array([[20.3, 31.7]]), np.array([5.0]), (64, 48))
    y, x = np.indices(image.shape)
    assert image.sum() == pytest.approx(5.0, rel=1e-6)
    assert (image * y).sum() / 5 == pytest.approx(20.3, rel=1e-6)
    assert (image * x).sum() / 5 == pytest.approx(31.7, rel=1e-6)


def test_a_column_becomes_the_probe():
    """Sub-pixel exact: two Gaussians at the column's place."""
    pixel, fwhm, shape = 0.02, 0.1, (96, 96)
    place = np.array([[40.25, 50.6]])
    qy, qx = frequencies(shape, pixel)
    cy, cx = spline_correction(shape)
    image = filtered(splat(place, np.array([1.0]), shape), probe_transfer(qy, qx, fwhm) * cy * cx)
    y, x = np.indices(shape)
    r2 = ((y - 40.25) ** 2 + (x - 50.6) ** 2) * pixel**2
    expected = 0.0
    for share, width in ((1 - TAIL_SHARE, 1.0), (TAIL_SHARE, TAIL_WIDTH)):
        variance = (width * fwhm / FWHM_PER_SIGMA) ** 2 + COLUMN_SIGMA_NM**2
        expected = expected + share * pixel**2 / (2 * np.pi * variance) * np.exp(-r2 / (2 * variance))
    np.testing.assert_allclose(image, expected, atol=5e-4 * expected.max())


@pytest.mark.parametrize(("voltage", "wavelength"), [(80, 0.0041757), (200, 0.0025079), (300, 0.0019687)])
def test_electron_wavelength(voltage, wavelength):
    assert electron_wavelength_nm(voltage) == pytest.approx(wavelength, rel=1e-4)


def test_contrast_transfer_changes_sign_with_defocus():
    q = np.linspace(0, 4, 50, dtype=np.float32)
    over = phase_transfer(0.0, q, 0.05, 6.0, 0.0, 300.0)
    under = phase_transfer(0.0, q, 0.05, -6.0, 0.0, 300.0)
    np.testing.assert_allclose(over, -under, atol=1e-6)
    assert over[0] == 0
    # first zero crossing of sin(π λ Δf q²) at q = 1/√(λ Δf)
    q0 = 1 / np.sqrt(electron_wavelength_nm(300.0) * 60.0)
    assert phase_transfer(0.0, np.float32(q0), 0.05, 60.0, 0.0, 300.0) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("dose", [30.0, 300.0])
def test_counts_are_poisson(dose):
    counts = counted(np.ones((500, 500), np.float32), np.random.default_rng(0), dose)
    n = counts.size
    assert counts.mean() == pytest.approx(dose, abs=5 * np.sqrt(dose / n))
    # variance of the sample variance of a Poisson law: (2 dose² + dose)/n
    assert counts.var() == pytest.approx(dose, abs=5 * np.sqrt((2 * dose**2 + dose) / n))


def test_readout_noise_adds_in_square():
    counts = counted(np.ones((400, 400), np.float32), np.random.default_rng(0), 50.0, readout=5.0)
    assert counts.var() == pytest.approx(75.0, rel=0.03)


def test_digitised():
    counts = np.random.default_rng(0).poisson(100, (200, 200)).astype(float)
    eight, sixteen, raw = (digitised(counts, bits) for bits in (8, 16, 32))
    assert (eight.dtype, sixteen.dtype, raw.dtype) == (np.uint8, np.uint16, np.float32)
    np.testing.assert_array_equal(raw, counts)
    assert eight.min() == 0
    assert eight.max() == 255
    assert np.mean((eight == 0) | (eight == 255)) < 0.01
    gain = np.polyfit(counts.ravel(), sixteen.ravel(), 1)
    assert gain[0] == pytest.approx(40, rel=1e-3)


def test_scan_jitter_shifts_lines_by_what_was_asked():
    """Phase of a vertical stripe pattern in every line gives the line's shift."""
    x = np.arange(400)
    stripes = np.broadcast_to(np.cos(2 * np.pi * x / 20), (2000, 400)).astype(np.float32)
    moved = scan_jitter(stripes, np.random.default_rng(1), 0.8)
    phase = np.angle(np.fft.rfft(moved, axis=1)[:, 20])
    shifts = -phase * 20 / (2 * np.pi)
    assert np.sqrt(np.mean(shifts**2)) == pytest.approx(0.8, rel=0.1)
    assert np.corrcoef(shifts[1:], shifts[:-1])[0, 1] == pytest.approx(0.6, abs=0.08)
