"""The published pipeline against transfer functions, closed forms, scipy and the formulas spelled out in loops."""

from itertools import product

import numpy as np
import pytest
from scipy.ndimage import correlate, gaussian_filter, maximum_filter, median_filter, uniform_filter
from scipy.spatial.distance import mahalanobis
from skimage.filters import threshold_triangle

from napari_hrstem_defects.core import published
from napari_hrstem_defects.core.errors import RecipeError
from napari_hrstem_defects.core.metrics import auroc
from napari_hrstem_defects.core.published import (
    amorphous_box,
    difference_of_gaussians,
    eigenfilter_severity,
    eigenfilters,
    filter_responses,
    fuse,
    log_gaussian,
    mahalanobis_transform,
    published_maps,
    triangle_binarise,
    window_sums,
)
from napari_hrstem_defects.core.recipe import PublishedParams

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
    """Cosine that the mirrored border continues exactly (half-sample symmetric)."""
    y, x = ((np.arange(length) + 0.5) * np.pi / length for length in SHAPE)
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


def dog_transfer(omega: tuple[float, float], low: float, high: float) -> float:
    w2 = sum(w**2 for w in omega)
    return np.exp(-(low**2) * w2 / 2) - np.exp(-(high**2) * w2 / 2)


@pytest.mark.parametrize(
    ("filtered", "transfer", "sizes", "atol"),
    [
        *(
            (lambda image, k, g: log_gaussian(image, kernel=k, gauss_kernel=g), log_transfer, sizes, 0.02)
            for sizes in ((19, 5), (7, 3), (3, 9))
        ),
        # Kernels end at 4 σ.
        (difference_of_gaussians, dog_transfer, (2.0, 3.0), 0.3),
    ],
)
def test_transfer_of_the_filters(filtered, transfer, sizes, atol):
    waves = [(3, 20, 1.0), (12, 0, 0.7), (17, 31, 3.0)]
    expected = sum(
        a * transfer((m * np.pi / SHAPE[0], n * np.pi / SHAPE[1]), *sizes) * wave(m, n) for m, n, a in waves
    )
    out = filtered(sum(a * wave(m, n) for m, n, a in waves) + 5.0, *sizes)
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, (expected - expected.min()) / np.ptp(expected) * 254, atol=atol)


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


def test_plane_wave_has_two_eigenfilters():
    """All phases of cos(q·r) covary as cos(q·(r − r')) / 2: an even and an odd wave, known in closed form."""
    q = 2 * np.pi * np.array([3, 5]) / 64
    y, x = np.indices((70, 70))  # neighbourhoods of 7 px start at 64 × 64 places: whole periods
    filters, variances = eigenfilters(np.cos(q[0] * y + q[1] * x), 7)
    t = np.arange(7) - 3
    phase = q[0] * t[:, None] + q[1] * t[None]
    for k, shape in enumerate(sorted((np.cos(phase), np.sin(phase)), key=lambda w: -(w**2).sum())):
        norm = np.sqrt((shape**2).sum())
        # 64² samples, divided by one less as covariances are.
        assert variances[k] == pytest.approx(norm**2 / 2 * 64**2 / (64**2 - 1))
        assert abs((filters[k] * shape).sum() / norm) == pytest.approx(1)
    np.testing.assert_allclose(variances[2:], 0, atol=1e-10)


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
    np.testing.assert_array_equal(rows, matrix.T)
    np.testing.assert_allclose(rows @ rows.T, np.eye(25), atol=1e-12)


def test_responses_by_loop():
    rng = np.random.default_rng(0)
    block, filters, bias = rng.normal(size=(9, 11)), rng.normal(size=(4, 3, 3)), rng.normal(size=4)
    out = filter_responses(block, filters, bias)
    assert out.shape == (4, 7, 9)
    for k, y, x in np.ndindex(out.shape):
        assert out[k, y, x] == pytest.approx((filters[k] * block[y : y + 3, x : x + 3]).sum() + bias[k])
    assert filter_responses(block.astype(np.float32), filters).dtype == np.float32


@pytest.mark.parametrize("window", range(1, 20))
def test_window_sums(window):
    planes = np.random.default_rng(0).normal(size=(2, 25, 21)).astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(planes, (window, window), (1, 2))
    np.testing.assert_allclose(window_sums(planes, window), windows.sum((-2, -1)), atol=1e-4)


def test_transform_is_scipys_mahalanobis():
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(6, 6)) * np.array([1, 10, 0.1, 3, 1, 100])[:, None]
    samples = mixing @ rng.normal(size=(6, 500)) + 7
    transform, mean = mahalanobis_transform(samples)
    inverse = np.linalg.inv(np.cov(samples))
    for point in (mixing @ rng.normal(size=(6, 20)) * 3).T:
        expected = mahalanobis(point, samples.mean(axis=1), inverse)
        assert np.linalg.norm(transform @ (point - mean)) == pytest.approx(expected)


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


def features_of(image: np.ndarray, filters: np.ndarray, kind: str, outside: str) -> np.ndarray:
    responses = np.array([correlate(image, f, mode="reflect") for f in filters])
    if kind == "responses":
        return responses
    return np.array([uniform_filter(r**2, 16, mode=outside) * 256 for r in responses])


def naive_severity(image, patch, kind, eigenvectors, comparison):
    """Severity, NaN at the rim, pixel by pixel and patch by patch in double precision."""
    model = image[patch].astype(float)
    size = model.shape[0]
    filters, _ = eigenfilters(model, 7, eigenvectors)
    total, count = np.zeros(image.shape), np.zeros(image.shape)
    if comparison == "distribution":
        near, far = (3, 3) if kind == "responses" else (3 + 8, 3 + 7)
        own = features_of(model, filters, kind, "reflect")[:, near:-far, near:-far].reshape(49, -1)
        inverse, reference = (
            np.linalg.inv(np.cov(own)),
            np.broadcast_to(own.mean(axis=1)[:, None, None], (49, 1, 1)),
        )
        corners, shape = ([0], [0]), image.shape
    else:
        near = far = 16 if kind == "energies" else 8
        reference = features_of(model, filters, kind, "constant")
        inverse = np.linalg.inv(np.cov(reference.reshape(49, -1)))
        reference = reference[:, near:-far, near:-far]
        # 50 % overlap; the last patch ends at the border.
        corners = tuple(sorted({*range(0, n - size + 1, size // 2), n - size}) for n in image.shape)
        shape = (size, size)
    for y, x in product(*corners):
        part = image[y : y + shape[0], x : x + shape[1]].astype(float)
        values = features_of(part, filters, kind, "constant" if comparison == "pixelwise" else "reflect")
        inside = np.s_[y + near : y + shape[0] - far, x + near : x + shape[1] - far]
        difference = values[:, near : shape[0] - far, near : shape[1] - far] - reference
        total[inside] += np.sqrt(np.einsum("iyx,ij,jyx->yx", difference, inverse, difference, optimize=True))
        count[inside] += 1
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


@pytest.mark.parametrize("options", EVERY, ids=IDS)
def test_severity_is_the_formula(options):
    image = lattice((150, 131))
    image[100:, :60] = image[100:, :60][::-1]
    severity, judged = eigenfilter_severity(image, MODEL, PublishedParams(**options))
    expected = naive_severity(image, MODEL, *(options[k] for k in ("features", "eigenvectors", "comparison")))
    np.testing.assert_array_equal(judged, np.isfinite(expected))
    # Where a patch lies on the model itself the distance is 0 but for rounding.
    np.testing.assert_allclose(severity[judged], expected[judged], rtol=5e-3, atol=0.02)
    # The rim is mirrored from inside.
    rows, columns = (np.flatnonzero(judged.any(axis=axis)) for axis in (1, 0))
    inside = severity[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    rim = [(i[0], n - 1 - i[-1]) for i, n in zip((rows, columns), image.shape, strict=True)]
    np.testing.assert_array_equal(severity, np.pad(inside, rim, mode="symmetric"))


@pytest.mark.parametrize("options", EVERY, ids=IDS)
def test_tiles_leave_no_trace(monkeypatch, options):
    image = lattice((97, 140))
    whole, judged = eigenfilter_severity(image, MODEL, PublishedParams(**options))
    monkeypatch.setattr(published, "_TILE", (13, 37))
    tiled, judged_tiled = eigenfilter_severity(image, MODEL, PublishedParams(**options))
    np.testing.assert_allclose(tiled, whole, rtol=1e-3, atol=1e-2)
    np.testing.assert_array_equal(judged_tiled, judged)


@pytest.mark.parametrize("options", EVERY, ids=IDS)
@pytest.mark.parametrize("make", [lambda s: np.full(s, 7.0), lambda s: lattice(s, 0.0), lambda s: np.eye(*s)])
def test_degenerate_images_stay_finite(options, make):
    image = make((96, 101))
    severity, judged = eigenfilter_severity(image, np.s_[16:80, 20:84], PublishedParams(**options))
    assert severity.dtype == np.float32
    assert severity.shape == judged.shape == image.shape
    assert np.isfinite(severity).all()
    assert severity.min() >= 0


@pytest.mark.parametrize("options", EVERY, ids=IDS)
def test_another_orientation_stands_out(options):
    image = lattice((192, 224))
    truth = np.zeros(image.shape, bool)
    truth[:, 128:] = True
    y, x = np.indices(image.shape)
    other = np.cos(2 * np.pi * (0.8 * x + 0.6 * y) / 9.3) + np.cos(2 * np.pi * (0.8 * y - 0.6 * x) / 9.3)
    image[truth] = (100 + 40 * other + 8 * np.random.default_rng(1).normal(size=image.shape))[truth]
    severity, judged = eigenfilter_severity(image, np.s_[48:144, 16:112], PublishedParams(**options))
    assert auroc(severity, truth, ~judged) > (0.95 if options["features"] == "energies" else 0.6)


def test_small_patches():
    image = lattice((64, 64))
    for size in (40, 44, 48):
        severity, judged = eigenfilter_severity(image, np.s_[:size, :size], PublishedParams())
        assert np.isfinite(severity).all()
        assert judged[16:-16, 16:-16].all()
    with pytest.raises(RecipeError, match="40 px"):
        eigenfilter_severity(image, np.s_[:39, :50], PublishedParams())


def test_amorphous_is_below_the_model_patch():
    variance = np.array([[5.0, 6.0, 4.0, 3.0], [9.0, 6.0, 5.1, 4.9]])
    np.testing.assert_array_equal(amorphous_box(variance, np.s_[:, :2], 1.0), variance < 5)
    np.testing.assert_array_equal(amorphous_box(variance, np.s_[:, :2], 1.25), variance < 4)


def test_triangle_finds_a_block():
    severity = np.random.default_rng(0).gamma(4.0, 1.0, (200, 240)).astype(np.float32)
    truth = np.zeros(severity.shape, bool)
    truth[60:120, 80:150] = True
    severity[truth] += 40
    mask = triangle_binarise(severity)
    # The method is generous: the block and at most 3 σ around it.
    assert mask[truth].all()
    assert not mask[~maximum_filter(truth, 2 * 18 + 1)].any()


def test_triangle_drops_a_weak_maximum():
    severity = np.zeros((100, 100))
    severity[50, 50] = 1.0
    # A single pixel of 255 smoothed by σ = 6 reaches 255 / (2π·36) = 1.1.
    assert not triangle_binarise(severity, min_maximum=1.2).any()
    assert triangle_binarise(severity, min_maximum=1.0, median_size=1).any()
    assert not triangle_binarise(np.full((30, 30), 5.0)).any()


@pytest.mark.parametrize("size", [1, 3, 19])
def test_median_is_the_median(size):
    mask = np.random.default_rng(size).random((60, 80)) < 0.5
    mask[:20, :20] = True
    out = triangle_binarise(mask.astype(np.float32), sigma=0, median_size=size)
    np.testing.assert_array_equal(out, median_filter(mask.astype(np.uint8), size, mode="reflect") > 0)


def test_fuse():
    out = fuse([[True, True], [False, False]], [[False, True], [True, False]])
    assert out.dtype == np.uint8
    np.testing.assert_array_equal(out, [[1, 2], [2, 0]])


def naive_maps(image: np.ndarray, patch: tuple[slice, slice], params: PublishedParams):
    """The published steps, written down as in the paper."""
    variance = uniform_filter(image**2, params.window_px) - uniform_filter(image, params.window_px) ** 2
    amorphous = variance < variance[patch].min() / params.ratio
    severity = naive_severity(image, patch, params.features, params.eigenvectors, params.comparison)
    valid = np.isfinite(severity)
    severity = severity[valid.any(axis=1)][:, valid.any(axis=0)]
    severity = np.pad(severity, (image.shape[0] - severity.shape[0]) // 2, mode="symmetric")
    smooth = gaussian_filter((severity - severity.min()) / np.ptp(severity) * 255, params.gauss_sigma)
    mask = (smooth > threshold_triangle(smooth)) & (smooth.max() > params.min_maximum)
    mask = median_filter(mask.astype(np.uint8), params.median_size) > 0
    return severity, variance, amorphous, np.where(amorphous, 2, np.where(mask, 1, 0))


@pytest.mark.parametrize("kind", ["log", "dog", "none"])
def test_maps_are_those_of_the_paper(kind):
    image = lattice((190, 170))
    image[:70, 100:] = image[:70, 100:][:, ::-1]
    image[150:, 120:] = 100
    # Less than published: the image is small.
    params = PublishedParams(filter=kind, gauss_sigma=2, median_size=5, min_maximum=40)
    maps = published_maps(image, MODEL, params)
    filtered = {"log": log_gaussian, "dog": difference_of_gaussians, "none": np.asarray}[kind](image)
    np.testing.assert_array_equal(maps.filtered, filtered)
    severity, variance, amorphous, labels = naive_maps(filtered.astype(float), MODEL, params)
    np.testing.assert_allclose(maps.variance, variance, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(maps.severity, severity, rtol=5e-3, atol=0.02)
    assert maps.judged[16:-16, 16:-16].all()
    assert np.mean(maps.amorphous != amorphous) < 1e-3
    assert np.mean(maps.labels != labels) < 5e-3
    assert set(np.unique(labels)) == {0, 1, 2}


def test_maps_without_a_best_patch():
    maps = published_maps(lattice((60, 50)), None, PublishedParams())
    for nothing in (maps.severity, maps.judged, maps.amorphous, maps.labels):
        assert nothing.shape == (60, 50)
        assert not nothing.any()
    assert maps.variance.any()


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
