"""What noise alone does to distances, and that it is taken out again."""

import numpy as np
import pytest

from napari_hrstem_defects.core.model import fit_model
from napari_hrstem_defects.core.noise import NoiseResponse, noise_response
from napari_hrstem_defects.core.preprocessing import Prepared, prepare
from napari_hrstem_defects.core.recipe import PreprocessParams, SymmetryParams
from napari_hrstem_defects.core.symmetry import fit_bank, kernel_edge, log_distances

from .helpers import crystal, noisy, vectors

PERIOD = 12.0
PRE, SYM = PreprocessParams(), SymmetryParams()
CLEAN = crystal((288, 432), vectors("oblique", PERIOD, 8.0))
PATCH = np.s_[8:88, 8:88]


def half_noisy(left, right, seed=0):
    image = noisy(CLEAN, left, seed)
    image[:, 216:] = noisy(CLEAN, right, seed + 1)[:, 216:]
    return prepare(image, PERIOD, PRE)


def response(prepared):
    kernel = kernel_edge(prepared.period_px, SYM, 40)
    bank = fit_bank(prepared.values[PATCH], kernel, SYM)
    return noise_response(prepared, PATCH, bank, PRE, SYM), log_distances(prepared, [bank], SYM)[0]


@pytest.mark.parametrize(("left", "right"), [(0.15, 0.3), (0.2, 0.4), (0.3, 0.6)])
def test_noisier_half_stays_within_the_null(left, right):
    """The crystal is perfect everywhere; one half has twice the noise, and larger distances for that alone."""
    prepared = half_noisy(left, right)
    found, raw = response(prepared)
    levelled = found.normalise(raw, prepared)
    quiet, loud = np.s_[24:-24, 24:110], np.s_[24:-24, 170:-24]
    shift = np.median(raw[loud]) - np.median(raw[quiet])
    assert shift > 5 * levelled[quiet].std()
    rest = np.median(levelled[loud]) - np.median(levelled[quiet])
    assert abs(rest) < 0.5 * shift
    # Nothing of the noisy half would be marked: its upper end in widths of the quiet half.
    model = fit_model(prepared, PATCH, PRE, SYM)
    assert np.quantile(model.severity[loud], 0.999) < 7


def test_more_noise_shifts_further():
    found, _ = response(half_noisy(0.1, 0.1))
    assert found.shift[0] == 0
    assert found.widening[0] == 1
    assert (np.diff(found.share) > 0).all()
    assert (np.diff(found.shift) >= 0).all()
    assert (np.diff(found.widening) >= 0).all()
    assert found.shift[-1] > 0.5
    assert 0 < found.share[0] < found.share[-1] < 1


def test_the_shift_is_that_of_real_noise():
    """Predicted from the model patch alone; measured on an image that has the noise."""
    plain = half_noisy(0.2, 0.2)
    found, raw = response(plain)
    bank = fit_bank(plain.values[PATCH], kernel_edge(plain.period_px, SYM, 40), SYM)
    base = float(np.median(raw[24:-24, 24:-24]))
    for sigma in (0.3, 0.4, 0.6):
        noisier = half_noisy(sigma, sigma, seed=5)
        measured = float(np.median(log_distances(noisier, [bank], SYM)[0][24:-24, 24:-24])) - base
        share = found.share[0] * float(np.median(noisier.noise_share)) / found.reference
        predicted = float(np.interp(share, found.share, found.shift))
        assert predicted == pytest.approx(measured, rel=0.5)


def test_normalise_by_hand():
    found = NoiseResponse(
        share=np.array([0.1, 0.5]), shift=np.array([0.0, 2.0]), widening=np.array([1.0, 1.0]), reference=3.0
    )
    blank = np.zeros((4, 5), np.float32)
    noise = np.full((4, 5), 3.0, np.float32)
    noise[0] = 1.0  # quieter than the model patch: unchanged
    noise[1] = 9.0  # three times the share, 0.3: half way
    noise[2] = 90.0  # beyond the table: its end
    prepared = Prepared(blank, blank, noise, (4, 5), 8.0)
    out = found.normalise(np.full((4, 5), 7.0, np.float32), prepared)
    np.testing.assert_allclose(out[:, 0], [7, 6, 5, 7], atol=0.02)


def test_widening_narrows_about_the_median():
    found = NoiseResponse(np.array([0.1, 0.5]), np.array([0.0, 0.0]), np.array([1.0, 3.0]), 1.0)
    blank = np.zeros((2, 5), np.float32)
    prepared = Prepared(blank, blank, np.repeat([[1.0], [50.0]], 5, axis=1).astype("f4"), (2, 5), 8.0)
    values = np.array([[-1, -1, 0, 1, 1], [-3, -3, 0, 3, 3]], np.float32)
    expected = [[-1, -1, 0, 1, 1]] * 2
    np.testing.assert_allclose(found.normalise(values, prepared), expected, atol=1e-5)


def test_repeatable():
    prepared = half_noisy(0.1, 0.2)
    first, second = response(prepared)[0], response(prepared)[0]
    np.testing.assert_array_equal(first.shift, second.shift)
    np.testing.assert_array_equal(first.widening, second.widening)
