"""Eigenfilters of a model patch, their responses and energies, and the Mahalanobis transform."""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_hrstem_defects.core.errors import RecipeError

Eigenvectors = Literal["columns", "rows"]

#: Standard deviations below this share of the largest are raised to it: what float32 pixels and their sums
#: can tell apart. Energies are squares, so their floor is the square.
RESPONSE_FLOOR = 1e-6
#: Eigenvalues of the correlation matrix below this share of the largest are raised to it: keeps the inverse
#: of a nearly singular covariance (few samples, noise-free images) from blowing up rounding errors.
CORRELATION_FLOOR = 1e-9


@dataclass(frozen=True, eq=False)
class EigenfilterBank:
    """Filters that decorrelate the neighbourhoods of a model patch.

    Attributes
    ----------
    filters : float64 array (k·k, k, k)
        Orthonormal; correlated with an image they give the responses.
    eigenvalues : float64 array (k·k,)
        Variances of the neighbourhoods along the eigenvectors, largest first.
    mean : float64 array (k, k)
        Mean neighbourhood.

    References
    ----------
    .. [A] Ade, Signal Processing 5 (1983) 451.
    .. [D] Dennler et al., Micron 146 (2021) 103069 (eigenfilters).
    """

    filters: NDArray[np.float64]
    eigenvalues: NDArray[np.float64]
    mean: NDArray[np.float64]

    @classmethod
    def from_patch(
        cls, patch: ArrayLike, kernel: int = 7, eigenvectors: Eigenvectors = "columns"
    ) -> EigenfilterBank:
        """Bank of all k × k neighbourhoods that lie inside a patch.

        Parameters
        ----------
        patch : array (y, x)
            At least k + 1 pixels a side.
        kernel : int
            Edge k of the filters in pixels, odd.
        eigenvectors : {"columns", "rows"}
            See :meth:`from_covariance`.
        """
        image = np.asarray(patch, dtype=np.float64)
        check_kernel(kernel)
        if image.ndim != 2 or min(image.shape) <= kernel:
            raise ValueError(f"patch has shape {image.shape}, expected more than {kernel} × {kernel} pixels")
        offset = image.mean()
        samples = _neighbourhoods(image - offset, kernel)
        mean = samples.mean(axis=1)
        bank = cls.from_covariance(np.cov(samples), eigenvectors)
        return cls(bank.filters, bank.eigenvalues, (mean + offset).reshape(kernel, kernel))

    @classmethod
    def from_covariance(
        cls, covariance: ArrayLike, eigenvectors: Eigenvectors = "columns"
    ) -> EigenfilterBank:
        """Bank of a known covariance of neighbourhoods of mean zero.

        Parameters
        ----------
        covariance : array (k·k, k·k)
            Between the pixels of a neighbourhood, row by row.
        eigenvectors : {"columns", "rows"}
            Filters are the columns of the eigenvector matrix, as they should be. ``rows`` repeats a slip of
            the published code, which takes the rows of what numpy returns and convolves (turns them by 180°):
            still an orthonormal basis, but of no particular one. Eigenvectors are sorted by decreasing
            eigenvalue and signed so that the entry of largest modulus is positive.
        """
        matrix = np.asarray(covariance, dtype=np.float64)
        kernel = isqrt(len(matrix)) if matrix.ndim == 2 else 0
        if matrix.shape != (kernel * kernel, kernel * kernel):
            raise ValueError(f"covariance has shape {matrix.shape}, expected (k·k, k·k)")
        if eigenvectors not in ("columns", "rows"):
            raise ValueError(f"eigenvectors is {eigenvectors!r}, expected 'columns' or 'rows'")
        values, vectors = np.linalg.eigh(matrix)
        values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
        peak = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=0)[None], axis=0)
        vectors = vectors * np.where(peak < 0, -1.0, 1.0)
        rows = vectors.T if eigenvectors == "columns" else vectors[:, ::-1]
        return cls(rows.reshape(-1, kernel, kernel), values, np.zeros((kernel, kernel)))

    @property
    def kernel(self) -> int:
        """Edge of the filters in pixels."""
        return int(self.filters.shape[-1])

    def responses(self, image: ArrayLike) -> NDArray[np.floating[Any]]:
        """Responses of all filters to an image mirrored at its border.

        Parameters
        ----------
        image : array (y, x)

        Returns
        -------
        float array (k·k, y, x)
            Float32 unless `image` is float64: many times the image, so meant for patches and small images.
        """
        reach = self.kernel // 2
        return filter_responses(np.pad(as_image(image), reach, mode="symmetric"), self.filters)

    def energies(self, image: ArrayLike, window: int = 16) -> NDArray[np.floating[Any]]:
        """Squared responses summed over a window, of an image mirrored at its border.

        Parameters
        ----------
        image : array (y, x)
        window : int
            Edge in pixels; an even window reaches one pixel further up and left than down and right.

        Returns
        -------
        float array (k·k, y, x)
            Float32 unless `image` is float64.
        """
        if window < 1:
            raise ValueError(f"window is {window}, expected at least 1 pixel")
        before, after = reach(self.kernel, window)
        responses = filter_responses(np.pad(as_image(image), (before, after), mode="symmetric"), self.filters)
        return window_sums(np.square(responses, out=responses), window)


def mahalanobis_transform(
    features: NDArray[np.floating[Any]], floor: float = RESPONSE_FLOOR
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Linear map that turns the Mahalanobis distance into the Euclidean one.

    Parameters
    ----------
    features : array (n, samples)
        What the covariance is taken from, two samples at least.
    floor : float
        Smallest standard deviation as a share of the largest.

    Returns
    -------
    transform : float64 array (n, n)
        W with ``WᵀW = Σ⁻¹``, regularised: standard deviations are raised to `floor` times the largest, then
        eigenvalues of the correlation matrix to ``CORRELATION_FLOOR`` times the largest. Without any variance
        the identity.
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
    values = np.maximum(values, CORRELATION_FLOOR * values[-1])
    return (vectors / np.sqrt(values)).T / scale, mean


def filter_responses(
    block: NDArray[np.floating[Any]],
    filters: NDArray[np.floating[Any]],
    bias: NDArray[np.floating[Any]] | None = None,
) -> NDArray[np.floating[Any]]:
    """Correlate a block with filters, without a border.

    Parameters
    ----------
    block : float array (y, x)
    filters : array (n, k, k)
    bias : array (n,), optional
        Added to the responses.

    Returns
    -------
    array (n, y - k + 1, x - k + 1)
        Of the type of `block`.
    """
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


def window_sums(planes: NDArray[np.floating[Any]], window: int) -> NDArray[np.floating[Any]]:
    """Sums over square windows, without a border: ``(n, y, x)`` to ``(n, y - window + 1, x - window + 1)``.

    Sums of 2, 4, 8, ... neighbours are built from each other, so no difference of large numbers is ever
    taken.
    """
    for axis in (-2, -1):
        planes = _axis_sums(planes, window, axis)
    return planes


def _axis_sums(planes: NDArray[np.floating[Any]], window: int, axis: int) -> NDArray[np.floating[Any]]:
    length = planes.shape[axis] - window + 1

    def part(array: NDArray[np.floating[Any]], start: int, count: int) -> NDArray[np.floating[Any]]:
        index: list[slice] = [slice(None)] * array.ndim
        index[axis] = slice(start, start + count)
        return array[tuple(index)]

    total: NDArray[np.floating[Any]] | None = None
    power, size, offset = planes, 1, 0
    while True:
        if window & size:
            piece = part(power, offset, length)
            total = piece if total is None else total + piece
            offset += size
        if 2 * size > window:
            return planes if total is None else total
        pairs = power.shape[axis] - size
        power = part(power, 0, pairs) + part(power, size, pairs)
        size *= 2


def reach(kernel: int, window: int) -> tuple[int, int]:
    """How far a pixel's features reach up and left, and down and right, in pixels."""
    return kernel // 2 + window // 2, kernel // 2 + (window - 1) // 2


def as_image(image: ArrayLike, name: str = "image") -> NDArray[np.floating[Any]]:
    """Float32 or float64 image ``(y, x)``; other real types become float32."""
    out = np.asarray(image)
    if out.ndim != 2 or out.size == 0 or out.dtype.kind not in "iuf":
        raise ValueError(f"{name} is a {out.dtype} array of shape {out.shape}, expected real numbers (y, x)")
    return out if out.dtype in (np.float32, np.float64) else out.astype(np.float32)


def check_kernel(kernel: int) -> None:
    """Raise RecipeError unless the edge of the filters is odd and at least 3."""
    if kernel < 3 or kernel % 2 == 0:
        raise RecipeError(f"kernel_px is {kernel}, but it must be an odd number of at least 3.")


def _neighbourhoods(image: NDArray[np.float64], kernel: int) -> NDArray[np.float64]:
    """All neighbourhoods inside an image, shape ``(k·k, count)``."""
    windows = np.lib.stride_tricks.sliding_window_view(image, (kernel, kernel))
    return windows.reshape(-1, kernel * kernel).T
