"""Banks and distances against the definitions, spelled out one neighbourhood at a time."""

import numpy as np
import pytest
from scipy import ndimage

from napari_hrstem_defects.core import symmetry
from napari_hrstem_defects.core.errors import Cancelled
from napari_hrstem_defects.core.preprocessing import Prepared
from napari_hrstem_defects.core.recipe import SymmetryParams
from napari_hrstem_defects.core.symmetry import (
    MAX_SHIFT_PX,
    MIN_NOISE_SHARE,
    STRIDE,
    fit_bank,
    kernel_edge,
    log_distances,
    rim_px,
)

from .helpers import crystal, noisy, vectors

KERNEL = 7
#: No smoothing: L is the logarithm of the squared distance itself.
RAW = SymmetryParams(smoothing=0.0, templates=40)


def image(shape=(40, 47), sigma=0.1, seed=0, angle=9.0):
    basis = vectors("oblique", 8.0, angle)
    out = noisy(crystal(shape, basis), sigma, seed)
    return ((out - out.mean()) / out.std()).astype(np.float32)


def as_prepared(values, period=8.0):
    return Prepared(values, values, np.ones_like(values), values.shape, period)


def neighbourhoods(patch, k=KERNEL):
    n_y, n_x = (n - k + 1 for n in patch.shape)
    return np.array(
        [patch[y : y + k, x : x + k].ravel() for y in range(n_y) for x in range(n_x)], dtype=np.float64
    )


def test_bank_is_the_eigen_decomposition_of_all_neighbourhoods():
    patch = image()
    bank = fit_bank(patch, KERNEL, SymmetryParams())
    samples = neighbourhoods(patch)
    covariance = np.cov(samples, rowvar=False, bias=True)
    expected = np.linalg.eigvalsh(covariance)[::-1]
    rank = len(bank.components)
    assert bank.kernel_px == KERNEL
    np.testing.assert_allclose(bank.mean, samples.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(bank.eigenvalues, expected[:rank], rtol=1e-4)
    np.testing.assert_allclose(bank.components @ bank.components.T, np.eye(rank), atol=1e-5)
    for value, vector in zip(bank.eigenvalues, bank.components.astype(float), strict=True):
        np.testing.assert_allclose(covariance @ vector, value * vector, atol=1e-4 * expected[0])
    assert bank.noise == pytest.approx(expected[rank:].mean(), rel=1e-3)
    np.testing.assert_array_equal(bank.filters.reshape(rank, -1), bank.components)


@pytest.mark.parametrize("kept", [0.6, 0.8, 0.95, 0.99])
def test_rank_holds_the_share_of_variance(kept):
    patch = image(sigma=0.3)
    params = SymmetryParams(variance_kept=kept, min_components=1, max_components=48)
    rank = len(fit_bank(patch, KERNEL, params).components)
    shares = np.cumsum(np.linalg.eigvalsh(np.cov(neighbourhoods(patch), rowvar=False))[::-1])
    shares /= shares[-1]
    assert shares[rank - 1] >= kept - 1e-4
    assert rank == 1 or shares[rank - 2] < kept + 1e-4


@pytest.mark.parametrize(("low", "high"), [(5, 14), (9, 9), (20, 30)])
def test_rank_is_kept_within_limits(low, high):
    for sigma in (0.0, 2.0):
        rank = len(
            fit_bank(
                image(sigma=sigma), KERNEL, SymmetryParams(min_components=low, max_components=high)
            ).components
        )
        assert low <= rank <= high


def test_patch_without_noise_keeps_a_floor():
    patch = image(sigma=0.0)
    bank = fit_bank(patch, KERNEL, SymmetryParams(variance_kept=0.9999, max_components=40))
    mean_variance = np.trace(np.cov(neighbourhoods(patch), rowvar=False, bias=True)) / KERNEL**2
    assert bank.noise >= 0.99 * MIN_NOISE_SHARE * mean_variance


def test_templates_are_neighbourhoods_with_their_derivatives():
    patch = image()
    bank = fit_bank(patch, KERNEL, SymmetryParams(templates=60))
    samples = (neighbourhoods(patch) - bank.mean) @ bank.components.T.astype(float)
    n_y, n_x = (n - KERNEL + 1 for n in patch.shape)
    grid = samples.reshape(n_y, n_x, -1)
    assert len(bank.templates) == 60
    places = []
    for template, (along_y, along_x) in zip(bank.templates, bank.tangents, strict=True):
        gaps = np.abs(grid - template).max(axis=2)
        y, x = np.unravel_index(gaps.argmin(), gaps.shape)
        assert gaps[y, x] < 1e-4
        places.append((y, x))
        np.testing.assert_allclose(along_y, (grid[y + 1, x] - grid[y - 1, x]) / 2, atol=1e-4)
        np.testing.assert_allclose(along_x, (grid[y, x + 1] - grid[y, x - 1]) / 2, atol=1e-4)
    # Spread through the patch: every quarter of it holds some, none is there twice.
    assert len(set(places)) == 60
    quarters = {(y >= n_y / 2, x >= n_x / 2) for y, x in places}
    assert len(quarters) == 4


def test_few_neighbourhoods_give_few_templates():
    patch = image((12, 13))
    assert len(fit_bank(patch, 9, SymmetryParams(templates=128)).templates) == 2 * 3


def squared_distance(neighbourhood, bank):
    """The distance of one neighbourhood, step by step."""
    x = neighbourhood.astype(float).ravel() - bank.mean
    components = bank.components.astype(float)
    y = components @ x
    residual = x @ x - y @ y
    gaps = ((y - bank.templates) ** 2).sum(axis=1)
    nearest = int(gaps.argmin())
    template, tangents = bank.templates[nearest].astype(float), bank.tangents[nearest].astype(float)
    # The shift that explains most of the rest, in px along y and x, no further than a template stands for.
    shift = np.linalg.lstsq(tangents.T, y - template, rcond=None)[0]
    shift = np.clip(shift, -MAX_SHIFT_PX, MAX_SHIFT_PX)
    rest = ((y - template - shift @ tangents) ** 2).sum()
    return max(rest + residual, 0) / (bank.noise * len(x))


def judged_from(shape, k=KERNEL, period=8.0):
    """First row and column that is worked out and not mirrored."""
    return -(-rim_px(k, period, shape) // STRIDE) * STRIDE


@pytest.mark.parametrize("sigma", [0.05, 0.4])
def test_distances_are_those_of_a_slow_loop(sigma):
    values = image((44, 51), sigma)
    values[20:, 30:] = image((24, 21), sigma, seed=3, angle=50.0)
    patch = values[:20, :28]
    bank = fit_bank(patch, KERNEL, RAW)
    found = log_distances(as_prepared(values), [bank], RAW)
    assert found.shape == (1, *values.shape)
    assert found.dtype == np.float32
    rim, half = judged_from(values.shape), KERNEL // 2
    difference = []
    for y in range(rim, values.shape[0] - rim, STRIDE):
        for x in range(rim, values.shape[1] - rim, STRIDE):
            block = values[y - half : y + half + 1, x - half : x + half + 1]
            difference.append(abs(np.log(squared_distance(block, bank)) - found[0, y, x]))
    assert len(difference) > 100
    # Two templates may be equally near to within rounding, and differ in what a shift adds.
    assert np.quantile(difference, 0.98) < 2e-3
    assert max(difference) < 0.3
    if sigma < 0.1:
        # The other orientation stands out.
        assert np.median(found[0, 28:36, 36:42]) > np.median(found[0, 8:14, 8:20]) + 1


def test_rim_repeats_what_lies_inside():
    values = image()
    bank = fit_bank(values, KERNEL, RAW)
    found = log_distances(as_prepared(values), [bank], RAW)[0]
    rim = rim_px(KERNEL, 8.0, values.shape)
    assert rim == KERNEL // 2 + 5
    assert (found[: rim + 1] == found[rim]).all()
    assert (found[:, : rim + 1] == found[:, rim, None]).all()
    assert (found[1 - rim :] == found[-rim]).all()
    assert (found[:, 1 - rim :] == found[:, -rim, None]).all()
    assert (found[rim + 2] != found[rim]).any()


def test_smoothing_is_of_the_squared_distance():
    values = image((60, 70))
    bank = fit_bank(values[:30, :30], KERNEL, RAW)
    raw = log_distances(as_prepared(values), [bank], RAW)[0]
    smooth = log_distances(as_prepared(values), [bank], SymmetryParams(smoothing=0.4, templates=40))[0]
    rim = judged_from(values.shape)
    judged = np.s_[rim:-rim:STRIDE, rim:-rim:STRIDE]
    squares = np.exp(raw[judged].astype(float))
    expected = np.log(ndimage.gaussian_filter(squares, 0.4 * 8 / STRIDE, mode="reflect", truncate=8))
    np.testing.assert_allclose(smooth[judged], expected, atol=1e-2)


def test_pixels_between_are_interpolated():
    values = image()
    bank = fit_bank(values, KERNEL, RAW)
    found = log_distances(as_prepared(values), [bank], RAW)[0].astype(float)
    for step in range(1, STRIDE):
        share = step / STRIDE
        count = (found.shape[0] - 1) // STRIDE * STRIDE
        known = found[::STRIDE]
        between = found[step:count:STRIDE]
        expected = (1 - share) * known[: len(between)] + share * known[1 : len(between) + 1]
        np.testing.assert_allclose(between, expected, atol=1e-5)


@pytest.mark.parametrize("tile", [16, 40, 64, 100])
def test_tiles_leave_no_seam(monkeypatch, tile):
    values = image((130, 97), 0.3)
    bank = fit_bank(values[:50, :50], 11, SymmetryParams())
    whole = log_distances(as_prepared(values), [bank], SymmetryParams(smoothing=0.1))
    monkeypatch.setattr(symmetry, "TILE_PX", tile)
    tiled = log_distances(as_prepared(values), [bank], SymmetryParams(smoothing=0.1))
    difference = np.abs(whole - tiled)
    # Rounding may choose another of two equally near templates at single pixels.
    assert np.quantile(difference, 0.999) < 1e-3
    assert difference.max() < 0.1


def test_several_banks_are_each_alone():
    values = image((80, 90), 0.2)
    banks = [
        fit_bank(values[:40, :40], 9, SymmetryParams()),
        fit_bank(image((40, 40), 0.1, 5, 50.0), 9, SymmetryParams(max_components=6)),
        fit_bank(values[40:, 50:], 9, SymmetryParams(templates=17)),
    ]
    together = log_distances(as_prepared(values), banks, SymmetryParams())
    for bank, found in zip(banks, together, strict=True):
        np.testing.assert_array_equal(found, log_distances(as_prepared(values), [bank], SymmetryParams())[0])


def test_own_patch_is_at_distance_one():
    """d² is a mean square in units of the noise: about 1 for the model's own crystal."""
    values = image((96, 96), 0.3)
    bank = fit_bank(values, 13, SymmetryParams())
    found = log_distances(as_prepared(values), [bank], SymmetryParams())[0]
    assert np.median(found) == pytest.approx(0, abs=0.5)


def test_a_lattice_shifted_by_a_fraction_of_a_pixel_is_no_defect():
    """The model patch meets whole pixels only; the tangents stand for what lies between."""
    basis = ((0.0, 8.0), (8.0, 0.0))
    plain = crystal((64, 64), basis).astype(np.float32)
    moved = crystal((64, 64), basis, shift=(0.5, 0.5)).astype(np.float32)
    scale = plain.std()
    bank = fit_bank(plain / scale, 11, SymmetryParams())
    own = log_distances(as_prepared(plain / scale), [bank], SymmetryParams())[0]
    other = log_distances(as_prepared(moved / scale), [bank], SymmetryParams())[0]
    without = bank.tangents.copy()
    bank.tangents[:] = 0
    untouched = log_distances(as_prepared(moved / scale), [bank], SymmetryParams())[0]
    assert np.any(without)
    assert np.median(other) < np.median(untouched) - 1
    assert abs(np.median(other) - np.median(own)) < 0.5


def test_nearest_template_tells_polarity():
    """A crystal and its copy turned by 180° share the covariance; the templates do not."""
    columns = [((0.0, 0.0), 1.0), ((0.3, 0.22), 0.5)]
    basis = vectors("square", 12.0)
    plain = noisy(crystal((80, 80), basis, columns, width=0.1), 0.02)
    plain = (plain - plain.mean()) / plain.std()
    turned = np.ascontiguousarray(plain[::-1, ::-1])
    banks = [fit_bank(p, 17, SymmetryParams()) for p in (plain, turned)]
    np.testing.assert_allclose(banks[0].eigenvalues, banks[1].eigenvalues, rtol=1e-3)
    own, other = (
        log_distances(as_prepared(p, 12.0), banks[:1], SymmetryParams())[0] for p in (plain, turned)
    )
    assert np.quantile(other, 0.01) > np.quantile(own, 0.99) + 0.4


def test_progress_and_cancel(monkeypatch):
    monkeypatch.setattr(symmetry, "TILE_PX", 40)
    values = image((150, 150))
    bank = fit_bank(values[:40, :40], 7, SymmetryParams())
    told = []
    log_distances(as_prepared(values), [bank], SymmetryParams(), progress=told.append)
    assert told == sorted(told)
    assert told[-1] == 1
    assert len(told) > 4
    asked, done = [], []

    def cancelled():
        asked.append(True)
        return len(asked) > 3

    with pytest.raises(Cancelled):
        log_distances(
            as_prepared(values), [bank], SymmetryParams(), progress=done.append, cancelled=cancelled
        )
    assert len(done) <= 3


@pytest.mark.parametrize(
    ("period", "periods", "limit", "expected"),
    # Odd number nearest to the product, within the limits.
    [(8.0, 1.5, 100, 13), (7.0, 1.5, 100, 11), (8.0, 3.0, 100, 25), (8.0, 3.0, 20, 19), (3.0, 0.5, 100, 5)],
)
def test_kernel_edge(period, periods, limit, expected):
    assert kernel_edge(period, SymmetryParams(kernel_periods=periods), limit) == expected


def test_rim_is_bounded():
    assert rim_px(13, 8.0, (400, 300)) == 6 + 5
    assert rim_px(13, 8.0, (400, 20)) == 5


def test_patch_must_hold_the_kernel():
    with pytest.raises(ValueError, match="patch has shape"):
        fit_bank(np.zeros((7, 20), np.float32), 7, SymmetryParams())
    with pytest.raises(ValueError, match="patch has shape"):
        fit_bank(np.random.default_rng(0).normal(size=(8, 20)).astype(np.float32), 7, SymmetryParams())
