"""Local variance and the published amorphous mask."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_hrstem_defects.core.threads import side_by_side

#: Rows worked on at once: the double-precision intermediates then stay small whatever the image.
_STRIP_ROWS = 256


def local_variance(pixels: ArrayLike, window: int) -> NDArray[np.float32]:
    """Variance in a box around each pixel, ``G∗I² − (G∗I)²`` with a uniform G.

    Parameters
    ----------
    pixels : array (y, x)
        Any real type.
    window : int
        Edge of the box in pixels. An even box reaches one pixel further up and left than down and right. The
        image is mirrored at its border (``d c b a | a b c d``).

    Returns
    -------
    float32 array (y, x)
        In squared units of `pixels`; never negative.

    Notes
    -----
    The global mean is taken away first and sums run in double precision, so that a large offset does not
    drown the variance.

    References
    ----------
    .. [D] Dennler et al., Micron 146 (2021) 103069 (variance filter).

    Examples
    --------
    >>> local_variance([[0.0, 2.0], [0.0, 2.0]], 2)
    array([[0., 1.],
           [0., 1.]], dtype=float32)
    """
    from scipy.ndimage import uniform_filter

    image = _image(pixels)
    if window < 1:
        raise ValueError(f"window is {window}, expected at least 1 pixel")
    mean = float(image.mean(dtype=np.float64))
    rows = image.shape[0]
    reach = window // 2 + 1
    out = np.empty(image.shape, np.float32)

    def one(start: int) -> None:
        # Each strip brings the rows its boxes reach into; what it mirrors at a seam is cut off again.
        stop = min(start + _STRIP_ROWS, rows)
        low = max(start - reach, 0)
        strip = image[low : min(stop + reach, rows)].astype(np.float64)
        strip -= mean
        first = uniform_filter(strip, window, mode="reflect")
        np.square(strip, out=strip)
        second = uniform_filter(strip, window, mode="reflect", output=strip)
        np.square(first, out=first)
        np.subtract(second, first, out=second)
        # Running sums leave rounding errors in flat areas, of the order of the largest square in the row.
        np.maximum(second, 0.0, out=second)
        out[start:stop] = second[start - low : stop - low]

    for _ in side_by_side(one, range(0, rows, _STRIP_ROWS), pixels=_STRIP_ROWS * image.shape[1]):
        pass
    return out


def amorphous_box(
    variance: ArrayLike, model_patch: tuple[slice, slice], ratio: float = 1.2
) -> NDArray[np.bool_]:
    """Published rule for amorphous or blurred areas: less variance than anywhere in the model patch.

    Parameters
    ----------
    variance : array (y, x)
        Local variance.
    model_patch : tuple of slice
        Rows and columns of the model patch.
    ratio : float
        Amorphous is below the minimum over the model patch divided by this.

    Returns
    -------
    bool array (y, x)

    References
    ----------
    .. [D] Dennler et al., Micron 146 (2021) 103069 (variance filter).
    """
    image = _image(variance, "variance")
    model = image[model_patch]
    if model.size == 0:
        raise ValueError(f"model_patch {model_patch} has no pixel inside an image of shape {image.shape}")
    if not ratio > 0:
        raise ValueError(f"ratio is {ratio}, expected a positive number")
    return np.asarray(image < model.min() / ratio)


def _image(pixels: ArrayLike, name: str = "pixels") -> NDArray[np.generic]:
    image = np.asarray(pixels)
    if image.ndim != 2 or image.size == 0:
        raise ValueError(f"{name} has shape {image.shape}, expected an image (y, x)")
    return image
