"""The published pipeline against transfer functions, closed forms, scipy and the formulas spelled out in loops."""

from itertools import product

import numpy as np
import pytest
from scipy.ndimage import convolve, correlate, gaussian_filter, median_filter, uniform_filter
from skimage.filters import threshold_triangle

from napari_hrstem_defects.core import published
from napari_hrstem_defects.core.patches import TouchingGrid
from napari_hrstem_defects.core.published import (
    difference_of_gaussians,
    eigenfilter_severity,
    eigenfilters,
    log_gaussian,
    mahalanobis_transform,
    published_maps,
    triangle_binarise,
    triangle_threshold,
    window_sums,
)
from napari_hrstem_defects.core.recipe import PublishedParams
from napari_hrstem_defects.errors import RecipeError

SHAPE = (96, 120)
MODEL = np.s_[8:72, 30:94]
EVERY = [
    {"features": features, "comparison": comparison, "eigenvectors": eigenvectors}
    for features, comparison, eigenvectors in product(
        ("responses", "energies"), ("distribution", "pixelwise"), ("columns", "rows")
    )
]
IDS = ["-".join(options.values()) for options in EVERY]


def lattice(shape: tuple[int, int], noise: float = 0.2) -> np.ndarray:
    y, x = np.indices(shape)
    image = np.cos(2 * np.pi * x / 9.3) + np.cos(2 * np.pi * (0.3 * x + y) / 11.1)
    return (100 + 40 * image + 40 * noise * np.random.default_rng(0).normal(size=shape)).astype(np.float32)


def wave(m: int, n: int) -> np.ndarray:
    """Cosine that the mirrored border continues exactly (whole-sample symmetric, d c b | a b c d)."""
    y, x = (np.arange(length) * np.pi / (length - 1) for length in SHAPE)
    return np.outer(np.cos(m * y), np.cos(n * x))


def log_transfer(omega: tuple[float, float], kernel: int, gauss_kernel: int) -> float:
    """Of binomial smoothing and second differences, and of a sampled Gaussian."""
    t = np.arange(gauss_kernel) - gauss_kernel // 2
    g = np.exp(-(t**2) / (2 * ((gauss_kernel - 1) / 4) ** 2))
    laplacian = sum(
        (2 - 2 * np.cos(along)) * np.cos(along / 2) ** (kernel - 3) * np.cos(across / 2) ** (kernel - 1)
        for along, across in (omega, omega[::-1])
    )
    return laplacian * np.prod([(g * np.cos(w * t)).sum() / g.sum() for w in omega])


@pytest.mark.parametrize(("kernel", "gauss_kernel"), [(19, 5), (7, 3), (3, 9)])
def test_transfer_of_the_log_filter(kernel, gauss_kernel):
    waves = [(3, 20, 1.0), (12, 0, 0.7), (17, 31, 3.0)]
    rows, columns = (np.pi / (length - 1) for length in SHAPE)
    expected = sum(
        a * log_transfer((m * rows, n * columns), kernel, gauss_kernel) * wave(m, n) for m, n, a in waves
    )
    image = sum(a * wave(m, n) for m, n, a in waves) + 5.0
    out = log_gaussian(image, kernel=kernel, gauss_kernel=gauss_kernel)
    assert out.dtype == np.float32
    expected = (expected - expected.min()) / np.ptp(expected) * 254
    np.testing.assert_allclose(out, expected, atol=0.02)


def test_difference_of_gaussians():
    image = lattice(SHAPE)
    # Continued by the values at the border, by hand.
    whole = np.pad(image.astype(float), 20, mode="edge")
    expected = (gaussian_filter(whole, 2) - gaussian_filter(whole, 3))[20:-20, 20:-20]
    expected = (expected - expected.min()) / np.ptp(expected) * 254
    np.testing.assert_allclose(difference_of_gaussians(image), expected, atol=0.01)


@pytest.mark.parametrize("filtered", [log_gaussian, difference_of_gaussians])
def test_any_image_is_filtered(filtered):
    image = np.random.default_rng(0).integers(0, 255, (50, 70)).astype(np.uint8)
    image[20, 30] = 255
    out = filtered(image)
    assert out.shape == image.shape
    assert out.min() == 0
    assert out.max() == pytest.approx(254)
    np.testing.assert_allclose(filtered(image.astype(float) * 3 + 1e6), out, atol=0.01)
    np.testing.assert_array_equal(filtered(np.full((40, 40), 3.2)), 0)
    spot = np.zeros((40, 60))
    spot[11, 33] = 1
    assert np.unravel_index(filtered(spot).argmax(), spot.shape) == (11, 33)
    assert filtered(np.eye(5)).shape == (5, 5)


def test_eigenfilters_decorrelate():
    patch = lattice((40, 33)).astype(float)
    samples = [patch[i : i + 5, j : j + 5].ravel() for i in range(36) for j in range(29)]
    filters, variances = eigenfilters(patch, 5)
    matrix = filters.reshape(25, 25)
    np.testing.assert_allclose(
        matrix @ np.cov(np.transpose(samples)) @ matrix.T, np.diag(variances), atol=1e-8
    )
    assert (np.diff(variances) <= 0).all()
    rows = eigenfilters(patch, 5, "rows")[0][:, ::-1, ::-1].reshape(25, 25)
    # Rows of the matrix whose columns are the eigenvectors in ascending order.
    np.testing.assert_array_equal(rows, matrix[::-1].T)
    np.testing.assert_allclose(rows @ rows.T, np.eye(25), atol=1e-12)


@pytest.mark.parametrize("window", [1, 2, 7, 16, 19])
def test_window_sums(window):
    planes = np.random.default_rng(0).normal(size=(2, 25, 21)).astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(planes, (window, window), (1, 2))
    np.testing.assert_allclose(window_sums(planes, window), windows.sum((-2, -1)), atol=1e-4)


def test_singular_covariance_stays_finite():
    samples = np.random.default_rng(0).normal(size=(5, 200))
    samples[3] = samples[0] + samples[1]
    samples[4] = 2.0
    transform, _ = mahalanobis_transform(samples)
    # A constant feature weighs as if it scattered by the floor, 1e-6 of the largest.
    assert np.abs(transform[:, 4]).max() <= 1.01e6 / samples.std(axis=1, ddof=1).max() / np.sqrt(1e-9)
    transform, mean = mahalanobis_transform(np.full((3, 10), 4.0))
    np.testing.assert_array_equal(transform, np.eye(3))
    np.testing.assert_array_equal(mean, 4.0)


def features_of(image: np.ndarray, filters: np.ndarray, kind: str) -> np.ndarray:
    """Convolutions as scipy does them, 0 outside for the energies."""
    responses = np.array([correlate(image, f, mode="mirror") for f in filters])
    if kind == "responses":
        return responses
    return np.array([convolve(r**2, np.ones((16, 16)), mode="constant") for r in responses])


def naive_severity(image, patch, kind, eigenvectors, comparison):
    """Severity, NaN at the rim, pixel by pixel and patch by patch in double precision."""
    model = image[patch].astype(float)
    size = model.shape[0]
    filters, _ = eigenfilters(model, 7, eigenvectors)
    total, count = np.zeros(image.shape), np.zeros(image.shape)
    reference = features_of(model, filters, kind)
    if comparison == "distribution":
        near, far = (3, 3) if kind == "responses" else (3 + 7, 3 + 8)
        own = reference[:, near:-far, near:-far].reshape(49, -1)
        inverse, reference = (
            np.linalg.inv(np.cov(own)),
            np.broadcast_to(own.mean(axis=1)[:, None, None], (49, 1, 1)),
        )
        corners, shape = ([0], [0]), image.shape
    else:
        near = far = 16 if kind == "energies" else 8
        inverse = np.linalg.inv(np.cov(reference.reshape(49, -1)))
        reference = reference[:, near:-far, near:-far]
        corners = tuple(range(0, n - size + 1, size // 2) for n in image.shape)
        shape = (size, size)
    for y, x in product(*corners):
        part = image[y : y + shape[0], x : x + shape[1]].astype(float)
        values = features_of(part, filters, kind)
        inside = np.s_[y + near : y + shape[0] - far, x + near : x + shape[1] - far]
        difference = values[:, near : shape[0] - far, near : shape[1] - far] - reference
        total[inside] += np.sqrt(np.einsum("iyx,ij,jyx->yx", difference, inverse, difference, optimize=True))
        count[inside] += 1
    # Added up as if four patches overlapped everywhere.
    times = 4 if comparison == "pixelwise" else 1
    return np.where(count > 0, times * total / np.maximum(count, 1), np.nan)


@pytest.mark.parametrize("options", EVERY, ids=IDS)
def test_severity_is_the_formula(options):
    image = lattice((150, 131))
    image[100:, :60] = image[100:, :60][::-1]
    severity, valid_mask = eigenfilter_severity(image, MODEL, PublishedParams(**options))
    expected = naive_severity(image, MODEL, *(options[k] for k in ("features", "eigenvectors", "comparison")))
    np.testing.assert_array_equal(valid_mask, np.isfinite(expected))
    np.testing.assert_allclose(severity[valid_mask], expected[valid_mask], rtol=5e-3, atol=0.08)
    assert not severity[~valid_mask].any()


@pytest.mark.parametrize("options", EVERY, ids=IDS)
def test_tiles_leave_no_trace(monkeypatch, options):
    image = lattice((97, 140))
    whole, valid_mask = eigenfilter_severity(image, MODEL, PublishedParams(**options))
    monkeypatch.setattr(published, "_TILE", (13, 37))
    tiled, valid_tiled = eigenfilter_severity(image, MODEL, PublishedParams(**options))
    np.testing.assert_allclose(tiled, whole, rtol=1e-3, atol=1e-2)
    np.testing.assert_array_equal(valid_tiled, valid_mask)


@pytest.mark.parametrize("options", EVERY, ids=IDS)
def test_degenerate_images_stay_finite(options):
    shape = (96, 101)
    for image in (np.full(shape, 7.0), lattice(shape, 0.0), np.eye(*shape)):
        severity, valid_mask = eigenfilter_severity(image, np.s_[16:80, 20:84], PublishedParams(**options))
        assert severity.dtype == np.float32
        assert severity.shape == valid_mask.shape == shape
        assert np.isfinite(severity).all()
        assert severity.min() >= 0


def test_small_patches():
    image = lattice((64, 64))
    for size in (40, 44, 48):
        severity, valid_mask = eigenfilter_severity(image, np.s_[:size, :size], PublishedParams())
        assert np.isfinite(severity).all()
        assert valid_mask[16 : size - 16, 16 : size - 16].all()
    with pytest.raises(RecipeError, match="40 px"):
        eigenfilter_severity(image, np.s_[:39, :50], PublishedParams())


def test_variance_threshold_is_of_the_patch_itself():
    """Contrast falls beside the model patch: the image's own map would see that within it and mark nothing."""
    image = np.random.default_rng(0).normal(size=(256, 384)).astype(np.float32) * 10
    image[:, 128:] *= 0.75
    params = PublishedParams(filter="none", variance_sigma=0)
    maps = published_maps(image, np.s_[:128, :128], params)
    least = min(
        np.pad(image[:128, :128].astype(float), 20, mode="reflect")[y + 10 : y + 30, x + 10 : x + 30].var()
        for y in range(128)
        for x in range(128)
    )
    np.testing.assert_array_equal(maps.amorphous, maps.variance < least / 1.2)
    assert maps.variance[:128, :128].min() < 0.95 * least
    assert 0.5 < maps.amorphous[:, 140:].mean() < 0.95
    # Smoothed, it is the mean of 0.75² × 100 everywhere.
    smooth = published_maps(image, np.s_[:128, :128], PublishedParams(filter="none"))
    assert least / 1.2 > 1.05 * 0.75**2 * 100
    assert smooth.amorphous[:, 170:].mean() > 0.99


def test_triangle_of_a_histogram():
    # Peak of 100 at 2, empty from 10 on: the line falls by 12.5 a level, and 12 at level 3 lies farthest below it.
    counts = np.array([0, 60, 100, 12, 9, 8, 6, 4, 2, 1, 0, 0])
    line = 100 * (1 - (np.arange(12) - 2) / 8)
    farthest = 2 + int((line - counts)[2:11].argmax())
    assert farthest == 3
    # One level further into the tail, on either side.
    assert triangle_threshold(counts) == farthest + 1
    assert triangle_threshold(counts[::-1]) == 11 - farthest - 1
    image = np.random.default_rng(0).gamma(3, 12, (300, 300)).clip(0, 255).astype(np.uint8)
    assert abs(triangle_threshold(np.bincount(image.ravel(), minlength=256)) - threshold_triangle(image)) <= 2


def test_gate_is_on_the_raw_map():
    severity = np.random.default_rng(0).gamma(4.0, 1.0, (200, 240)).astype(np.float32)
    severity[60:120, 80:150] += 40
    severity *= 90 / severity.max()
    # Scaled to 0...255 it would exceed 90 whatever it is.
    assert not triangle_binarise(severity).any()
    assert triangle_binarise(1.001 * severity).any()
    assert triangle_binarise(severity, min_maximum=89.9).any()
    assert not triangle_binarise(np.full((30, 30), 5.0)).any()


@pytest.mark.parametrize("size", [1, 3, 19])
def test_median_is_the_median(size):
    mask = np.random.default_rng(size).random((60, 80)) < 0.5
    mask[:20, :20] = True
    severity = np.where(mask, 100, 1).astype(np.float32)
    out = triangle_binarise(severity, sigma=0, median_size=size)
    np.testing.assert_array_equal(out, median_filter(mask.astype(np.uint8), size, mode="nearest") > 0)


def naive_maps(image: np.ndarray, patch: tuple[slice, slice], params: PublishedParams):
    """The published steps, written down as in the authors' code."""

    def variance_of(part):
        mean = uniform_filter(part, params.window_px, mode="mirror")
        return uniform_filter(part**2, params.window_px, mode="mirror") - mean**2

    variance, least = variance_of(image), variance_of(image[patch]).min()
    amorphous = (
        gaussian_filter(variance, params.variance_sigma, mode="mirror", radius=50) < least / params.ratio
    )
    severity = naive_severity(image, patch, params.features, params.eigenvectors, params.comparison)
    severity = np.nan_to_num(severity)
    cut = np.maximum(severity, severity[severity > 1e-6].min())
    smooth = gaussian_filter(
        (cut - cut.min()) / np.ptp(cut) * 255, params.gauss_sigma, mode="mirror", radius=50
    ).astype(np.uint8)
    mask = (smooth > threshold_triangle(smooth)) & (severity.max() > params.min_maximum)
    mask = median_filter(mask.astype(np.uint8), params.median_size, mode="nearest") > 0
    return severity, variance, amorphous, np.where(amorphous, 2, np.where(mask, 1, 0))


@pytest.mark.parametrize("kind", ["log", "dog", "none"])
def test_maps_are_those_of_the_paper(kind):
    image = lattice((190, 170))
    image[:70, 100:] = image[:70, 100:][:, ::-1]
    image[140:, 100:] = 100
    # Less than published: the image is small.
    params = PublishedParams(filter=kind, gauss_sigma=2, median_size=5, min_maximum=40)
    maps = published_maps(image, MODEL, params)
    filtered = {"log": log_gaussian, "dog": difference_of_gaussians, "none": np.asarray}[kind](image)
    np.testing.assert_array_equal(maps.filtered, filtered)
    severity, variance, amorphous, labels = naive_maps(filtered.astype(float), MODEL, params)
    np.testing.assert_allclose(maps.variance, variance, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(maps.severity, severity, rtol=5e-3, atol=0.08)
    assert maps.valid_mask[16:144, 16:144].all()
    assert np.mean(maps.amorphous != amorphous) < 1e-3
    # One grey level more or less: another library's triangle.
    assert np.mean(maps.labels != labels) < 0.02
    assert set(np.unique(labels)) == {0, 1, 2}


def test_maps_without_a_best_patch():
    image = lattice((60, 50))
    maps = published_maps(image, None, PublishedParams())
    for nothing in (maps.severity, maps.valid_mask, maps.variance, maps.amorphous, maps.labels):
        assert nothing.shape == (60, 50)
        assert not nothing.any()
    np.testing.assert_array_equal(maps.filtered, log_gaussian(image))


def test_touching_grid():
    grid = TouchingGrid((300, 390))
    assert grid.counts == (2, 3)
    assert grid.corners[1, 2].tolist() == [128, 256]
    assert grid.centres[1, 2].tolist() == [191.5, 319.5]
    image = lattice((300, 390))
    patches = grid.extract(image)
    assert patches.shape == (2, 3, 128, 128)
    np.testing.assert_array_equal(patches[1, 2], image[128:256, 256:384])
    painted = grid.paint(np.arange(6).reshape(2, 3))
    assert painted.shape == image.shape
    assert painted[[0, 127, 128, 299], [383, 255, 383, 0]].tolist() == [2, 1, 5, 3]
    assert TouchingGrid((128, 256)).counts == (1, 2)
    with pytest.raises(RecipeError, match=r"255 × 255 px is smaller than two patches of 128 px"):
        TouchingGrid((255, 255))


def test_bad_arguments_are_named():
    image = lattice((64, 64))
    with pytest.raises(RecipeError, match="log_kernel"):
        log_gaussian(image, kernel=18)
    with pytest.raises(RecipeError, match="gauss_kernel"):
        log_gaussian(image, gauss_kernel=4)
    with pytest.raises(RecipeError, match="dog_low"):
        difference_of_gaussians(image, 3.0, 2.0)
    with pytest.raises(RecipeError, match="kernel_px"):
        eigenfilter_severity(image, MODEL, PublishedParams(kernel_px=6))
    with pytest.raises(ValueError, match="expected real numbers"):
        log_gaussian(np.zeros(9))
    with pytest.raises(ValueError, match="patch has shape"):
        eigenfilters(np.zeros((7, 20)), 7)
