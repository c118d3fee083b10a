"""Preprocessing and binarisation of the published pipeline (Dennler et al. 2021)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_hrstem_defects.core.errors import RecipeError

#: Largest grey value after preprocessing ([D]; the minimum is 0).
WHITE = 254.0


def log_gaussian(pixels: ArrayLike, *, kernel: int = 19, gauss_kernel: int = 5) -> NDArray[np.float32]:
    """Laplacian of Gaussian, sign reversed, then a Gaussian, scaled to 0...254.

    Parameters
    ----------
    pixels : array (y, x)
        Any real type.
    kernel : int
        Edge of the Laplacian-of-Gaussian kernel in pixels, odd.
    gauss_kernel : int
        Edge of the Gaussian kernel in pixels, odd.

    Returns
    -------
    float32 array (y, x)
        Bright columns stay bright. All zero for a constant image. Mirrored at the border.

    Notes
    -----
    A Laplacian of Gaussian "of kernel n" is the sum of the second derivatives of Sobel type, whose smoothing
    is binomial: weights ``(1 + z)^(n−1)`` across and ``(1 + z)^(n−3) (1 − z)²`` along. The binomial of order
    n−1 is a Gaussian of σ = √(n−1)/2, 2.1 px for n = 19. The Gaussian has σ = (n−1)/4, 1 px for n = 5.

    References
    ----------
    .. [D] Dennler et al., Micron 146 (2021) 103069 (preprocessing).
    """
    from scipy.ndimage import correlate1d

    _odd(kernel, 3, "log_kernel")
    _odd(gauss_kernel, 1, "gauss_kernel")
    image = _image(pixels)
    smooth = _binomial(kernel - 1)
    second = np.convolve(_binomial(kernel - 3), [1.0, -2.0, 1.0])
    down = correlate1d(correlate1d(image, second, 0, mode="reflect"), smooth, 1, mode="reflect")
    image = correlate1d(correlate1d(image, second, 1, mode="reflect"), smooth, 0, mode="reflect")
    image += down
    np.negative(image, out=image)
    if gauss_kernel > 1:
        distance = np.arange(gauss_kernel) - gauss_kernel // 2
        gauss = np.exp(-0.5 * (distance / ((gauss_kernel - 1) / 4)) ** 2)
        gauss /= gauss.sum()
        for axis in (0, 1):
            image = correlate1d(image, gauss, axis, mode="reflect")
    return _scaled(image, WHITE)


def difference_of_gaussians(pixels: ArrayLike, low: float = 2.0, high: float = 3.0) -> NDArray[np.float32]:
    """Narrow minus wide Gaussian, scaled to 0...254.

    Parameters
    ----------
    pixels : array (y, x)
        Any real type.
    low, high : float
        Standard deviations in pixels, ``low < high``.

    Returns
    -------
    float32 array (y, x)
        Bright columns stay bright. All zero for a constant image. Mirrored at the border.

    References
    ----------
    .. [D] Dennler et al., Micron 146 (2021) 103069; the form used in the published code.
    """
    from scipy.ndimage import gaussian_filter

    if not 0 <= low < high:
        raise RecipeError(f"dog_low is {low:g} and dog_high {high:g}, but 0 ≤ dog_low < dog_high is needed.")
    image = _image(pixels)
    out = gaussian_filter(image, low, mode="reflect")
    out -= gaussian_filter(image, high, mode="reflect")
    return _scaled(out, WHITE)


def triangle_binarise(
    severity: ArrayLike,
    *,
    sigma: float = 6.0,
    median_size: int = 19,
    min_maximum: float = 90.0,
    judged: ArrayLike | None = None,
) -> NDArray[np.bool_]:
    """Published binarisation of a severity map.

    The map is scaled to 0...255, smoothed by a Gaussian, thresholded by the triangle method and cleaned by a
    median filter. Nothing is marked if the smoothed maximum stays at or below `min_maximum`.

    Parameters
    ----------
    severity : float array (y, x)
        Finite.
    sigma : float
        Standard deviation of the Gaussian in pixels.
    median_size : int
        Edge of the median filter in pixels.
    min_maximum : float
        On the scale 0...255.
    judged : bool array (y, x), optional
        Pixels that scale, maximum and threshold are taken from; all of them if left out.

    Returns
    -------
    bool array (y, x)

    References
    ----------
    .. [D] Dennler et al., Micron 146 (2021) 103069 (segmentation); the triangle method is that of Zack,
    Rogers
       and Latt, J. Histochem. Cytochem. 25 (1977) 741.
    """
    from scipy.ndimage import gaussian_filter, uniform_filter
    from skimage.filters import threshold_triangle

    image = _image(severity, "severity")
    where = np.ones(image.shape, bool) if judged is None else np.asarray(judged)
    if where.shape != image.shape or where.dtype != np.bool_:
        raise ValueError(
            f"judged is a {where.dtype} array of shape {where.shape}, expected booleans {image.shape}"
        )
    nothing = np.zeros(image.shape, bool)
    if not where.any():
        return nothing
    low, high = image[where].min(), image[where].max()
    if not high > low:
        return nothing
    image = np.clip(image, low, high)
    image -= low
    image *= 255.0 / (high - low)
    image = gaussian_filter(image, sigma, mode="reflect", output=image)
    values = image[where]
    if values.max() <= min_maximum or values.max() == values.min():
        return nothing
    marked = (image > threshold_triangle(values)).astype(np.float32)
    # The median of zeros and ones is their majority. Sums of ones and zeros round to far less than one pixel.
    share = uniform_filter(marked, median_size, mode="reflect")
    return np.asarray(share > 0.5 + 0.25 / median_size**2)


def fuse(symmetry: ArrayLike, amorphous: ArrayLike) -> NDArray[np.uint8]:
    """Label image of two masks: 1 symmetry defect, 2 amorphous or blurred (also where both), 0 neither."""
    first, second = np.asarray(symmetry, dtype=bool), np.asarray(amorphous, dtype=bool)
    if first.shape != second.shape:
        raise ValueError(f"amorphous has shape {second.shape}, expected that of symmetry, {first.shape}")
    out = first.astype(np.uint8)
    out[second] = 2
    return out


def _image(pixels: ArrayLike, name: str = "pixels") -> NDArray[np.float32]:
    """Float32 copy around zero, so that a large offset costs no precision."""
    image = np.asarray(pixels)
    if image.ndim != 2 or image.size == 0 or image.dtype.kind not in "iuf":
        raise ValueError(
            f"{name} is a {image.dtype} array of shape {image.shape}, expected real numbers (y, x)"
        )
    return (image - float(image.mean(dtype=np.float64))).astype(np.float32, copy=False)


def _odd(value: int, least: int, name: str) -> None:
    if value < least or value % 2 == 0:
        raise RecipeError(f"{name} is {value}, but it must be an odd number of at least {least}.")


def _binomial(order: int) -> NDArray[np.float64]:
    weights = np.ones(1)
    for _ in range(order):
        weights = np.convolve(weights, [0.5, 0.5])
    return weights


def _scaled(image: NDArray[np.float32], top: float) -> NDArray[np.float32]:
    low, high = float(image.min()), float(image.max())
    if not high > low:
        return np.zeros_like(image)
    image -= low
    image *= top / (high - low)
    return image
