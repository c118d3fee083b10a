"""The pipeline of Dennler et al., Micron 146 (2021) 103069, whole and apart from the default path.

[D] classifies the image's patches and ends where none is defective (figure 2d); otherwise it filters the image,
compares it with the best patch in the energies of the patch's eigenfilters, maps the local variance and fuses the
binarised maps. :class:`~.patches.TouchingGrid` cuts the patches, :func:`published_maps` runs the steps that follow the
choice of the best patch. A docstring names the step of [D] that it follows; what the text leaves open is that of [C].

References
----------
.. [D] Dennler et al., Micron 146 (2021) 103069: patch classification (network: table B.3, scores: table 1), end without
   a defective patch (figure 2d), choice of the best patch, eigenfilters and Mahalanobis distance, variance filter,
   segmentation, expert rating (table 2).
.. [C] The authors' code, github.com/nkdnnlr/TEMDefectClassification.
.. [A] F. Ade, Signal Processing 5 (1983) 451, eigenfilters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import correlate1d, gaussian_filter, uniform_filter

from napari_hrstem_defects.core.recipe import Eigenvectors, PublishedParams
from napari_hrstem_defects.core.variance import local_variance
from napari_hrstem_defects.errors import RecipeError

#: What is said where the analysis ends ([D], figure 2d).
NON_DEFECTIVE = "no defective patch: the image is non-defective"
#: Largest grey value after filtering ([D]; the minimum is 0).
WHITE = 254.0
#: Pixels left out at the rim of a compared patch, beyond half the energy window ([D]: 16 px in all), and fewest
#: pixels along a side that are left then.
RIM_PX = MIN_CORE_PX = 8
#: Patches with 50 % overlap that lie on a pixel, whose distances are added up.
OVERLAPPING = 4
#: Half the edge of the authors' Gaussian kernels, 101 px whatever their standard deviation.
GAUSS_RADIUS_PX = 50
#: Smallest standard deviation of responses as a share of the largest: the resolution of float32 sums. Of energies it
#: is the square.
RESPONSE_FLOOR = 1e-6
#: Smallest eigenvalue of a correlation matrix as a share of the largest: where it is nearly singular (few samples,
#: noise-free images) its inverse would amplify rounding errors.
CORRELATION_FLOOR = 1e-9
#: Tile worked on at once, small enough for its responses to stay in the cache.
_TILE = (64, 256)

#: A map or stack of filter responses, float32 or float64.
Planes = NDArray[np.floating[Any]]
Window = tuple[slice, slice]


@dataclass(frozen=True, eq=False)
class PublishedMaps:
    """Results of the steps of [D] after the choice of the best patch, arrays of the image's shape ``(y, x)``.

    Attributes
    ----------
    filtered : 0...254; the image itself where the filter is "none".
    severity : Sum of the Mahalanobis distances of the four patches around a pixel; 0 where none was compared.
    valid_mask : Where patches were compared.
    variance : Local variance of `filtered`, in its units squared.
    amorphous : Less variance than anywhere in the model patch.
    labels : 0 crystal, 1 symmetry defect, 2 amorphous or blurred.
    """

    filtered: NDArray[np.float32]
    severity: NDArray[np.float32]
    valid_mask: NDArray[np.bool_]
    variance: NDArray[np.float32]
    amorphous: NDArray[np.bool_]
    labels: NDArray[np.uint8]


def published_maps(
    pixels: NDArray[np.float32],
    best_patch: Window | None,
    params: PublishedParams,
    *,
    defective: bool = True,
) -> PublishedMaps:
    """Run the steps of [D] that follow the choice of the best patch: eigenfilters, variance filter, segmentation.

    Parameters
    ----------
    pixels : float32 array (y, x)
        Finite.
    best_patch : tuple of slice or None
        Rows and columns of the model patch. None: the image is filtered only, all maps are 0.
    params : PublishedParams
    defective : bool
        Whether a patch was classified defective. Where none is, the image is non-defective and the analysis ends
        ([D], figure 2d): nothing is marked, and the maps are made on request only (`always_filter`).

    Returns
    -------
    PublishedMaps
        ``filtered``, ``severity``, ``valid_mask``, ``variance``, ``amorphous`` and ``labels``, all ``(y, x)``.

    Raises
    ------
    RecipeError
        If a kernel is even or the model patch too small.

    Examples
    --------
    >>> import numpy as np, napari_hrstem_defects as hd
    >>> y, x = np.mgrid[:256, :256]
    >>> image = np.cos(2 * np.pi * x / 16) + np.cos(2 * np.pi * y / 16)
    >>> image[128:] = 0  # no lattice
    >>> window = slice(0, 64), slice(0, 64)
    >>> maps = hd.published_maps(image.astype(np.float32), window, hd.Recipe.published().as_published)
    >>> maps.labels[192, 128], maps.labels[64, 128]
    (np.uint8(2), np.uint8(0))
    """
    if not (defective or params.always_filter):
        best_patch = None
    filtered = pixels
    if params.filter == "log":
        filtered = log_gaussian(pixels, kernel=params.log_kernel, gauss_kernel=params.gauss_kernel)
    elif params.filter == "dog":
        filtered = difference_of_gaussians(pixels, params.dog_low, params.dog_high)
    if best_patch is None:
        severity, labels, nothing = (np.zeros(filtered.shape, kind) for kind in (np.float32, np.uint8, bool))
        return PublishedMaps(filtered, severity, nothing, severity, nothing, labels)
    severity, valid_mask = eigenfilter_severity(filtered, best_patch, params)
    # [D], variance filter.
    variance = local_variance(filtered, params.window_px, mode="mirror")
    least = float(local_variance(filtered[best_patch], params.window_px, mode="mirror").min())
    amorphous = smoothed(variance, params.variance_sigma) < least / params.ratio
    symmetry = triangle_binarise(
        severity, sigma=params.gauss_sigma, median_size=params.median_size, min_maximum=params.min_maximum
    )
    labels = fuse(symmetry & defective, amorphous & defective)
    return PublishedMaps(filtered, severity, valid_mask, variance, amorphous, labels)


def log_gaussian(pixels: ArrayLike, *, kernel: int = 19, gauss_kernel: int = 5) -> NDArray[np.float32]:
    """Laplacian of Gaussian, sign reversed, then a Gaussian, scaled to 0...254 ([D], preprocessing).

    Parameters
    ----------
    pixels : real array (y, x)
    kernel, gauss_kernel : int
        Edges of the two kernels in pixels, odd.

    Returns
    -------
    float32 array (y, x)
        Bright columns stay bright. All zero for a constant image. Mirrored at the border (``d c b | a b c d``).

    Notes
    -----
    A Laplacian of Gaussian "of kernel n" is the sum of the second derivatives of Sobel type, whose smoothing is
    binomial: weights ``(1 + z)^(n−1)`` across and ``(1 + z)^(n−3) (1 − z)²`` along. The binomial of order n−1 is a
    Gaussian of σ = √(n−1)/2, 2.1 px for n = 19. The Gaussian has σ = (n−1)/4, 1 px for n = 5.

    Examples
    --------
    A single bright column stays the brightest place:

    >>> import numpy as np, napari_hrstem_defects as hd
    >>> image = np.zeros((64, 64))
    >>> image[20, 30] = 1
    >>> filtered = hd.log_gaussian(image)
    >>> filtered.min(), filtered.max(), divmod(int(filtered.argmax()), 64)
    (np.float32(0.0), np.float32(254.0), (20, 30))
    """
    _check_odd(kernel, 3, "log_kernel")
    _check_odd(gauss_kernel, 1, "gauss_kernel")
    image = _centred(pixels)
    smooth = _binomial(kernel - 1)
    second = np.convolve(_binomial(kernel - 3), [1.0, -2.0, 1.0])
    down = correlate1d(correlate1d(image, second, 0, mode="mirror"), smooth, 1, mode="mirror")
    image = correlate1d(correlate1d(image, second, 1, mode="mirror"), smooth, 0, mode="mirror")
    image += down
    np.negative(image, out=image)
    if gauss_kernel > 1:
        distance = np.arange(gauss_kernel) - gauss_kernel // 2
        gauss = np.exp(-0.5 * (distance / ((gauss_kernel - 1) / 4)) ** 2)
        for axis in (0, 1):
            image = correlate1d(image, gauss / gauss.sum(), axis, mode="mirror")
    return _scaled(image)


def difference_of_gaussians(pixels: ArrayLike, low: float = 2.0, high: float = 3.0) -> NDArray[np.float32]:
    """Narrow minus wide Gaussian, scaled to 0...254: the preprocessing in [C].

    Parameters
    ----------
    pixels : real array (y, x)
    low, high : float
        Standard deviations in pixels, ``0 ≤ low < high``.

    Returns
    -------
    float32 array (y, x)
        As of :func:`log_gaussian`, but continued by its border's values.

    Examples
    --------
    >>> import numpy as np, napari_hrstem_defects as hd
    >>> image = np.zeros((64, 64))
    >>> image[20, 30] = 1
    >>> divmod(int(hd.difference_of_gaussians(image, 2.0, 3.0).argmax()), 64)
    (20, 30)
    """
    if not 0 <= low < high:
        raise RecipeError(f"dog_low is {low:g} and dog_high {high:g}, but 0 ≤ dog_low < dog_high is needed.")
    image = _centred(pixels)
    return _scaled(gaussian_filter(image, low, mode="nearest") - gaussian_filter(image, high, mode="nearest"))


def eigenfilter_severity(
    image: ArrayLike, model_patch: Window, params: PublishedParams
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Mahalanobis distance of an image to a model patch in its eigenfilters' responses ([D], symmetry defects; [C]).

    Parameters
    ----------
    image : array (y, x)
        Filtered.
    model_patch : tuple of slice
        Rows and columns of the model patch.
    params : PublishedParams
        `kernel_px`, `features`, `eigenvectors`, `comparison` and `energy_window` are used.

    Returns
    -------
    severity : float32 array (y, x)
        0 where `valid_mask` is False.
    valid_mask : bool array (y, x)
        False at the rim, where neighbourhoods or patches would reach outside the image.

    Raises
    ------
    RecipeError
        If the kernel is even, or the model patch too small for kernel, window and rim.

    Notes
    -----
    A pixelwise comparison is with the features at the same place of the model patch, of patches from the upper left
    corner on that overlap by 50 % and are compared without rims of 16 px. The distances of the four patches around
    a pixel are added up; where rims leave fewer of them, the sum is scaled to four. ([C] does so by doubling areas,
    of which it misses the lower left corner and one row.) As published, the covariance of energies is that of the
    whole model patch with its rim, where windows reach outside and sum less; this makes it insensitive to changes
    of overall contrast. Memory stays near three float32 images.

    Examples
    --------
    A periodic image is like its model patch wherever the patches, 32 px apart, meet the same phase of the lattice:

    >>> import numpy as np, napari_hrstem_defects as hd
    >>> image = np.tile(np.random.default_rng(0).normal(size=(16, 16)), (12, 12))
    >>> params = hd.Recipe.published().as_published
    >>> severity, valid_mask = hd.eigenfilter_severity(image, (slice(0, 64), slice(0, 64)), params)
    >>> severity[valid_mask].max() < 0.1
    np.True_
    """
    _check_odd(params.kernel_px, 3, "kernel_px")
    pixels = _real(image)
    patch = pixels[model_patch].astype(np.float64)
    pixelwise = params.comparison == "pixelwise"
    half = params.kernel_px // 2
    window = params.energy_window if params.features == "energies" else 0
    # How far the features of a pixel reach up and left, and down and right.
    before, after = near, far = half + max(window - 1, 0) // 2, half + window // 2
    if pixelwise:
        near = far = window // 2 + max(RIM_PX, half)
    if min(patch.shape) < near + far + MIN_CORE_PX:
        raise RecipeError(
            f"The model patch is {patch.shape[0]} × {patch.shape[1]} px, but these eigenfilters need "
            f"{near + far + MIN_CORE_PX} px or more; choose a larger patch or a smaller kernel or window."
        )
    model = _Features(patch, params.kernel_px, params.eigenvectors, window, pixelwise)
    centred = (pixels - model.offset).astype(np.float32)
    distances: Callable[..., NDArray[np.float32]] = _length
    bottom, right = (length - far for length in pixels.shape)
    if pixelwise:
        own = model(np.pad(centred[model_patch], (before, after)))
        cover = _Cover(own, near, centred.shape, (model_patch[0].start or 0, model_patch[1].start or 0))
        distances, (bottom, right) = cover.distances, cover.stops
    severity = np.zeros(pixels.shape, np.float32)
    for y in range(near, bottom, _TILE[0]):
        for x in range(near, right, _TILE[1]):
            y1, x1 = min(y + _TILE[0], bottom), min(x + _TILE[1], right)
            values = model(centred[y - before : y1 + after, x - before : x1 + after])
            severity[y:y1, x:x1] = distances(values, y, x)
    valid_mask = np.zeros(pixels.shape, bool)
    valid_mask[near:bottom, near:right] = True
    return severity, valid_mask


def eigenfilters(
    patch: ArrayLike, kernel: int = 7, eigenvectors: Eigenvectors = "columns"
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Filters that decorrelate the k × k neighbourhoods inside a model patch ([D], eigenfilters, after [A]).

    Parameters
    ----------
    patch : array (y, x)
        At least k + 1 pixels a side.
    kernel : int
        Edge k of the filters in pixels.
    eigenvectors : {"columns", "rows"}
        Of the matrix of eigenvectors, columns are right. ``rows`` repeats an error of [C], which takes
        the rows of what numpy returns and convolves (turns them by 180°): still orthonormal, but dependent on the
        order and signs in which eigenvectors are found. These come from the solver for symmetric matrices; that of
        the authors, for general ones, finds others after every rounding of the image.

    Returns
    -------
    filters : float64 array (k·k, k, k)
        Orthonormal; correlated with an image they give the responses.
    variances : float64 array (k·k,)
        Of the neighbourhoods along the eigenvectors, largest first.

    References
    ----------
    .. [A] F. Ade, Signal Processing 5 (1983) 451.

    Examples
    --------
    The filters are an orthonormal basis: no variance is lost. White noise of variance 4 has it in all 9 directions.

    >>> import numpy as np, napari_hrstem_defects as hd
    >>> filters, variances = hd.eigenfilters(np.random.default_rng(0).normal(0, 2, (300, 300)), kernel=3)
    >>> np.allclose(filters.reshape(9, 9) @ filters.reshape(9, 9).T, np.eye(9))
    True
    >>> abs(variances.mean() - 4) < 0.1
    np.True_
    """
    image = np.asarray(patch, dtype=np.float64)
    if image.ndim != 2 or min(image.shape) <= kernel:
        raise ValueError(f"patch has shape {image.shape}, expected more than {kernel} × {kernel} pixels")
    windows = np.lib.stride_tricks.sliding_window_view(image - image.mean(), (kernel, kernel))
    values, vectors = np.linalg.eigh(np.cov(windows.reshape(-1, kernel * kernel).T))
    # Ascending and with the signs that the solver gives; of rows both matter.
    rows = vectors.T[::-1] if eigenvectors == "columns" else vectors[:, ::-1]
    return rows.reshape(-1, kernel, kernel), np.maximum(values[::-1], 0.0)


def filter_responses(block: Planes, filters: Planes, bias: Planes | None = None) -> Planes:
    """Correlate a block ``(y, x)`` with filters ``(n, k, k)`` and add `bias` ``(n,)``, without a border ([D], [A])."""
    count, kernel, _ = filters.shape
    rows, columns = (length - kernel + 1 for length in block.shape)
    # One matrix product over all neighbourhoods; a row of ones carries the bias along at no cost.
    shifted = np.empty((kernel * kernel + 1, rows, columns), block.dtype)
    for i in range(kernel):
        for j in range(kernel):
            shifted[i * kernel + j] = block[i : i + rows, j : j + columns]
    shifted[-1] = 1
    matrix = np.zeros((count, kernel * kernel + 1), block.dtype)
    matrix[:, :-1] = filters.reshape(count, -1)
    if bias is not None:
        matrix[:, -1] = bias
    return np.asarray(matrix @ shifted.reshape(len(shifted), -1)).reshape(count, rows, columns)


def window_sums(planes: Planes, window: int) -> Planes:
    """Sums of planes ``(n, y, x)`` over square windows, without a border: of squares the energies of [C]."""
    # Sums of 2, 4, 8, ... neighbours are built from each other: no difference of large numbers is ever taken.
    for axis in (1, 2):
        power = np.moveaxis(planes, axis, 0)
        length, total, offset, size = len(power) - window + 1, None, 0, 1
        while size <= window:
            if window & size:
                piece = power[offset : offset + length]
                total = piece if total is None else total + piece
                offset += size
            if 2 * size <= window:
                power = power[:-size] + power[size:]
            size *= 2
        planes = np.moveaxis(np.asarray(total), 0, axis)
    return planes


def mahalanobis_transform(
    features: Planes, floor: float = RESPONSE_FLOOR
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Linear map W that turns the Mahalanobis distance of [D] into the Euclidean one, ``WᵀW = Σ⁻¹``.

    Parameters
    ----------
    features : array (n, samples)
    floor : float
        Standard deviations are raised to this share of the largest, then eigenvalues of the correlation matrix to
        ``CORRELATION_FLOOR`` times the largest.

    Returns
    -------
    transform : float64 array (n, n)
        The identity if there is no variance at all.
    mean : float64 array (n,)
    """
    samples = np.asarray(features, dtype=np.float64)
    mean = samples.mean(axis=1)
    spread = samples.std(axis=1, ddof=1)
    largest = float(spread.max())
    if not largest > 0:
        return np.eye(len(samples)), mean
    scale = np.maximum(spread, floor * largest)
    values, vectors = np.linalg.eigh(np.cov((samples - mean[:, None]) / scale[:, None]))
    return (vectors / np.sqrt(np.maximum(values, CORRELATION_FLOOR * values[-1]))).T / scale, mean


def smoothed(image: ArrayLike, sigma: float) -> NDArray[np.float32]:
    """An image ``(y, x)`` smoothed by the Gaussian of [C]: 101 px wide, mirrored at the border."""
    values = np.asarray(image, dtype=np.float32)
    return np.asarray(gaussian_filter(values, sigma, mode="mirror", radius=GAUSS_RADIUS_PX if sigma else 0))


def triangle_binarise(
    severity: ArrayLike, *, sigma: float = 6.0, median_size: int = 19, min_maximum: float = 90.0
) -> NDArray[np.bool_]:
    """Binarisation of a severity map ([D], segmentation; sizes and `min_maximum`: [C]).

    The map is scaled to 0...255 from its least positive value on, smoothed by a Gaussian, cut to whole numbers,
    thresholded by the triangle method (Zack, Rogers and Latt, J. Histochem. Cytochem. 25 (1977) 741) and cleaned by a
    median filter.

    Parameters
    ----------
    severity : float array (y, x)
        Finite; 0 where nothing was compared.
    sigma : float
        Standard deviation of the Gaussian in pixels.
    median_size : int
        Edge of the median filter in pixels.
    min_maximum : float
        Nothing is marked unless `severity` exceeds it somewhere.

    Returns
    -------
    bool array (y, x)

    Examples
    --------
    >>> import numpy as np, napari_hrstem_defects as hd
    >>> severity = np.random.default_rng(0).uniform(10, 20, (200, 200))
    >>> severity[80:120, 80:120] = 300
    >>> marked = hd.triangle_binarise(severity)
    >>> marked[100, 100], marked[:60].any(), hd.triangle_binarise(severity, min_maximum=400).any()
    (np.True_, np.False_, np.False_)
    """
    values = np.asarray(severity)
    if not values.max() > min_maximum:
        return np.zeros(values.shape, bool)
    image = _scaled(np.maximum(values, values[values > 0].min()).astype(np.float32), 255.0)
    # Rounding must not make 254 of what 255 was.
    image = np.floor(smoothed(image, sigma) + np.float32(1e-3)).astype(np.uint8)
    marked = (image > triangle_threshold(np.bincount(image.ravel(), minlength=256))).astype(np.float32)
    # The median of zeros and ones is their majority. Sums of ones and zeros round to far less than one pixel.
    share = uniform_filter(marked, median_size, mode="nearest")
    return np.asarray(share > 0.5 + 0.25 / median_size**2)


def fuse(symmetry: ArrayLike, amorphous: ArrayLike) -> NDArray[np.uint8]:
    """Label image of two masks: 1 symmetry defect, 2 amorphous or blurred (also where both), 0 neither ([D]).

    Parameters
    ----------
    symmetry, amorphous : bool array (y, x)

    Returns
    -------
    uint8 array (y, x)

    Examples
    --------
    >>> import napari_hrstem_defects as hd
    >>> hd.fuse_masks([[True, True, False]], [[False, True, False]])
    array([[1, 2, 0]], dtype=uint8)
    """
    labels = np.asarray(symmetry, dtype=bool).astype(np.uint8)
    labels[np.asarray(amorphous, dtype=bool)] = 2
    return labels


class _Features:
    """Features of an image block, transformed so that Euclidean distances are Mahalanobis distances.

    `window` is 0 for responses; `whole` if the covariance is that of the whole patch, rim included.
    """

    def __init__(self, patch: Planes, kernel: int, which: Eigenvectors, window: int, whole: bool) -> None:
        filters, _ = eigenfilters(patch, kernel, which)
        # Images come without the patch's mean, for the sake of precision; the bias puts it back.
        self.offset = float(patch.mean())
        bias = self.offset * filters.sum(axis=(1, 2))
        block = np.pad(patch - self.offset, kernel // 2 if whole else 0, mode="reflect")
        values = filter_responses(block, filters, bias)
        self._window = window
        if window:
            # An even window reaches one pixel further down and right, as scipy's convolution does.
            rim = ((window - 1) // 2, window // 2) if whole else (0, 0)
            values = window_sums(np.pad(np.square(values), ((0, 0), rim, rim)), window)
            transform, mean = mahalanobis_transform(values.reshape(len(values), -1), RESPONSE_FLOOR**2)
            self._filters, self._bias = filters, bias
            self._transform, self._mean = transform.astype(np.float32), mean.astype(np.float32)[:, None, None]
        else:
            transform, mean = mahalanobis_transform(values.reshape(len(values), -1))
            self._filters, self._bias = np.tensordot(transform, filters, 1), transform @ (bias - mean)

    def __call__(self, block: NDArray[np.float32]) -> Planes:
        values = filter_responses(block, self._filters, self._bias)
        if self._window == 0:
            return values
        energies = window_sums(np.square(values, out=values), self._window) - self._mean
        return np.asarray(self._transform @ energies.reshape(len(energies), -1)).reshape(energies.shape)


class _Cover:
    """Patches that cover an image with 50 % overlap, compared with the model patch pixel by pixel."""

    def __init__(self, model: Planes, rim: int, shape: tuple[int, ...], place: tuple[int, int]) -> None:
        self._place = [start + rim for start in place]
        self._core = np.ascontiguousarray(model[:, rim:-rim, rim:-rim])
        # First pixels of the cores along each axis.
        self._starts = [
            range(rim, length - size + rim + 1, min(size // 2, core))
            for length, size, core in zip(shape, model.shape[1:], self._core.shape[1:], strict=True)
        ]

    @property
    def stops(self) -> tuple[int, int]:
        """Rows and columns from which on nothing is compared."""
        bottom, right = (s[-1] + n for s, n in zip(self._starts, self._core.shape[1:], strict=True))
        return bottom, right

    def distances(self, values: Planes, y: int, x: int) -> NDArray[np.float32]:
        """Distances, of the patches around each pixel, in a tile whose first pixel is (y, x), scaled to four."""
        total, count = np.zeros((2, *values.shape[1:]), np.float32)
        for top, rows, core_rows in self._overlaps(0, y, values.shape[1]):
            for left, columns, core_columns in self._overlaps(1, x, values.shape[2]):
                count[rows, columns] += 1
                if [
                    top,
                    left,
                ] != self._place:  # of the model patch itself the distance is 0, without rounding
                    difference = values[:, rows, columns] - self._core[:, core_rows, core_columns]
                    total[rows, columns] += _length(difference)
        return total * (OVERLAPPING / count)

    def _overlaps(self, axis: int, tile: int, extent: int) -> Iterator[tuple[int, slice, slice]]:
        """For each core that meets a tile, its start, where it lies in the tile, and what part of it that is."""
        for start in self._starts[axis]:
            low, high = max(tile, start), min(tile + extent, start + self._core.shape[1 + axis])
            if low < high:
                yield start, slice(low - tile, high - tile), slice(low - start, high - start)


def triangle_threshold(counts: NDArray[np.integer[Any]]) -> int:
    """Threshold of the triangle method (Zack et al. 1977) in a histogram ``(levels,)``: marked is what is above it.

    It lies one level further into the longer tail than the level farthest from the line between the peak and the empty
    level beyond the tail, as in OpenCV, which [C] uses.
    """
    used, peak = np.flatnonzero(counts), int(counts.argmax())
    low, high = max(int(used[0]) - 1, 0), min(int(used[-1]) + 1, len(counts) - 1)
    upper = peak - low < high - peak
    if upper:
        counts, low, peak = counts[::-1], len(counts) - 1 - high, len(counts) - 1 - peak
    levels = np.arange(low, peak + 1)
    far = low + int((int(counts.max()) * (levels - low) - (peak - low) * counts[levels]).argmax())
    return len(counts) - far if upper else far - 1


def _length(vectors: Planes, *_place: int) -> NDArray[np.float32]:
    return np.sqrt(np.einsum("kyx,kyx->yx", vectors, vectors))


def _real(pixels: ArrayLike) -> Planes:
    """Image ``(y, x)`` in float32, or in float64 where float32 does not hold its numbers."""
    image = np.asarray(pixels)
    if image.ndim != 2 or image.size == 0 or image.dtype.kind not in "iuf":
        raise ValueError(f"the image is a {image.dtype} array {image.shape}, expected real numbers (y, x)")
    return image.astype(np.result_type(image, np.float32), copy=False)


def _centred(pixels: ArrayLike) -> NDArray[np.float32]:
    """Float32 copy around zero, so that a large offset costs no precision."""
    image = _real(pixels)
    return (image - float(image.mean(dtype=np.float64))).astype(np.float32, copy=False)


def _check_odd(value: int, least: int, name: str) -> None:
    if value < least or value % 2 == 0:
        raise RecipeError(f"{name} is {value}, but it must be an odd number of at least {least}.")


def _binomial(order: int) -> NDArray[np.float64]:
    return reduce(np.convolve, [np.full(2, 0.5)] * order, np.ones(1))


def _scaled(image: NDArray[np.float32], top: float = WHITE) -> NDArray[np.float32]:
    """The image in its own memory, scaled to 0...`top`."""
    low, high = float(image.min()), float(image.max())
    image -= low
    image *= top / (high - low) if high > low else 0.0
    return image
