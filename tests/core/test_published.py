"""Published preprocessing against transfer functions, binarisation against hand-made maps."""

import numpy as np
import pytest
from scipy.ndimage import maximum_filter, median_filter

from napari_hrstem_defects.core.errors import RecipeError
from napari_hrstem_defects.core.published import (
    difference_of_gaussians,
    fuse,
    log_gaussian,
    triangle_binarise,
)

SHAPE = (96, 120)


def wave(m: int, n: int) -> np.ndarray:
    """Cosine that the mirrored border continues exactly (half-sample symmetric)."""
    y, x = ((np.arange(length) + 0.5) * np.pi / length for length in SHAPE)
    return np.outer(np.cos(m * y), np.cos(n * x))


def frequencies(m: int, n: int) -> tuple[float, float]:
    return m * np.pi / SHAPE[0], n * np.pi / SHAPE[1]


def log_transfer(m: int, n: int, kernel: int, gauss_kernel: int) -> float:
    """Of binomial smoothing and second differences, and of a sampled Gaussian."""
    out = 0.0
    omega = frequencies(m, n)
    for along, across in (omega, omega[::-1]):
        out += (
            (2 - 2 * np.cos(along)) * np.cos(along / 2) ** (kernel - 3) * np.cos(across / 2) ** (kernel - 1)
        )
    t = np.arange(gauss_kernel) - gauss_kernel // 2
    g = np.exp(-(t**2) / (2 * ((gauss_kernel - 1) / 4) ** 2))
    for w in omega:
        out *= (g * np.cos(w * t)).sum() / g.sum()
    return out


def scaled(image: np.ndarray) -> np.ndarray:
    return (image - image.min()) / np.ptp(image) * 254


@pytest.mark.parametrize(("kernel", "gauss_kernel"), [(19, 5), (7, 3), (3, 9)])
def test_log_gaussian_transfer(kernel, gauss_kernel):
    waves = [(3, 20, 1.0), (12, 0, 0.7), (17, 31, 3.0)]
    image = sum(a * wave(m, n) for m, n, a in waves) + 5.0
    expected = sum(a * log_transfer(m, n, kernel, gauss_kernel) * wave(m, n) for m, n, a in waves)
    out = log_gaussian(image, kernel=kernel, gauss_kernel=gauss_kernel)
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, scaled(expected), atol=0.02)


def test_difference_of_gaussians_transfer():
    waves = [(3, 20, 1.0), (12, 0, 0.7), (17, 31, 3.0)]
    image = sum(a * wave(m, n) for m, n, a in waves) + 5.0

    def transfer(m: int, n: int) -> float:
        w2 = sum(w**2 for w in frequencies(m, n))
        return np.exp(-(2.0**2) * w2 / 2) - np.exp(-(3.0**2) * w2 / 2)

    expected = sum(a * transfer(m, n) * wave(m, n) for m, n, a in waves)
    out = difference_of_gaussians(image, 2.0, 3.0)
    assert out.dtype == np.float32
    # Kernels end at 4 σ.
    np.testing.assert_allclose(out, scaled(expected), atol=0.3)


@pytest.mark.parametrize("filtered", [log_gaussian, difference_of_gaussians])
def test_any_image(filtered):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (50, 70)).astype(np.uint8)
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


def test_triangle_finds_a_block():
    severity = np.random.default_rng(0).gamma(4.0, 1.0, (200, 240)).astype(np.float32)
    truth = np.zeros(severity.shape, bool)
    truth[60:120, 80:150] = True
    severity[truth] += 40
    mask = triangle_binarise(severity)
    assert mask.dtype == np.bool_
    # The method is generous: the block and at most 3 σ around it.
    assert mask[truth].all()
    assert not mask[~maximum_filter(truth, 2 * 18 + 1)].any()


def test_triangle_drops_a_weak_maximum():
    severity = np.zeros((100, 100))
    severity[50, 50] = 1.0
    # A single pixel of 255 smoothed by σ = 6 reaches 255 / (2π·36) = 1.1.
    assert not triangle_binarise(severity).any()
    assert not triangle_binarise(severity, min_maximum=1.2).any()
    assert triangle_binarise(severity, min_maximum=1.0, median_size=1).any()


@pytest.mark.parametrize("size", [1, 3, 19])
def test_median_is_the_median(size):
    mask = np.random.default_rng(size).random((60, 80)) < 0.5
    mask[:20, :20] = True
    out = triangle_binarise(mask.astype(np.float32), sigma=0, median_size=size)
    np.testing.assert_array_equal(out, median_filter(mask.astype(np.uint8), size, mode="reflect") > 0)


def test_triangle_leaves_out_what_was_not_judged():
    severity = np.random.default_rng(0).gamma(4.0, 1.0, (200, 200)).astype(np.float32)
    severity[80:120, 80:120] += 40
    judged = np.ones(severity.shape, bool)
    judged[:16] = False
    expected = triangle_binarise(severity, judged=judged)
    severity[0, 0] = 1e6
    assert expected[100, 100]
    # A hot pixel in the rim changes nothing but its own surroundings.
    np.testing.assert_array_equal(triangle_binarise(severity, judged=judged)[40:], expected[40:])
    assert not triangle_binarise(severity)[100, 100]


def test_triangle_of_nothing():
    assert not triangle_binarise(np.full((30, 30), 5.0)).any()
    assert not triangle_binarise(np.arange(900.0).reshape(30, 30), judged=np.zeros((30, 30), bool)).any()


def test_fuse():
    out = fuse([[True, True], [False, False]], [[False, True], [True, False]])
    assert out.dtype == np.uint8
    np.testing.assert_array_equal(out, [[1, 2], [2, 0]])


def test_bad_arguments_are_named():
    image = np.zeros((9, 9))
    with pytest.raises(RecipeError, match="log_kernel"):
        log_gaussian(image, kernel=18)
    with pytest.raises(RecipeError, match="gauss_kernel"):
        log_gaussian(image, gauss_kernel=4)
    with pytest.raises(RecipeError, match="dog_low"):
        difference_of_gaussians(image, 3.0, 2.0)
    with pytest.raises(ValueError, match="pixels"):
        log_gaussian(np.zeros(9))
    with pytest.raises(ValueError, match="judged"):
        triangle_binarise(image, judged=image)
    with pytest.raises(ValueError, match="amorphous"):
        fuse(image, image[1:])
