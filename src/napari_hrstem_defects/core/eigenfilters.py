"""Eigenfilters of a model patch and the Mahalanobis distance of an image to it (the published method)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_hrstem_defects.core.errors import RecipeError

Features = Literal["responses", "energies"]
Eigenvectors = Literal["columns", "rows"]
Comparison = Literal["distribution", "pixelwise"]

#: Standard deviations below this share of the largest are raised to it: what float32 pixels and their sums can
#: tell apart. Energies are squares, so their floor is the square.
RESPONSE_FLOOR = 1e-6
#: Eigenvalues of the correlation matrix below this share of the largest are raised to it: keeps the inverse of a
#: nearly singular covariance (few samples, noise-free images) from blowing up rounding errors.
CORRELATION_FLOOR = 1e-9
#: Pixels left out at the rim of a compared patch, beyond half the energy window ([D]: 16 px in all).
RIM_PX = 8
#: Tile worked on at once, small enough for the filter responses of a tile to stay in the cache.
_TILE = (64, 256)


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
        _check_kernel(kernel)
        if image.ndim != 2 or min(image.shape) <= kernel:
            raise ValueError(f"patch has shape {image.shape}, expected more than {kernel} × {kernel} pixels")
        offset = image.mean()
        samples = _neighbourhoods(image - offset, kernel).reshape(kernel * kernel, -1)
        mean = samples.mean(axis=1)
        bank = cls.from_covariance(np.cov(samples), eigenvectors)
        return cls(bank.filters, bank.eigenvalues, (mean + offset).reshape(kernel, kernel))

    @classmethod
    def from_covariance(cls, covariance: ArrayLike, eigenvectors: Eigenvectors = "columns") -> EigenfilterBank:
        """Bank of a known covariance of neighbourhoods of mean zero.

        Parameters
        ----------
        covariance : array (k·k, k·k)
            Between the pixels of a neighbourhood, row by row.
        eigenvectors : {"columns", "rows"}
            Filters are the columns of the eigenvector matrix, as they should be. ``rows`` repeats a slip of the
            published code, which takes the rows of what numpy returns and convolves (turns them by 180°): still
            an orthonormal basis, but of no particular one. Eigenvectors are sorted by decreasing eigenvalue and
            signed so that the entry of largest modulus is positive.
        """
        matrix = np.asarray(covariance, dtype=np.float64)
        kernel = int(np.sqrt(matrix.shape[0])) if matrix.ndim == 2 else 0
        if matrix.ndim != 2 or matrix.shape != (kernel * kernel, kernel * kernel):
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
        """Responses of all filters, shape ``(k·k, y, x)``; the image is mirrored at its border."""
        return self._responses(_pad(_as_image(image), self.kernel // 2))

    def energies(self, image: ArrayLike, window: int = 16) -> NDArray[np.floating[Any]]:
        """Squared responses summed over a window, shape ``(k·k, y, x)``.

        An even window reaches one pixel further up and left than down and right.
        """
        if window < 1:
            raise ValueError(f"window is {window}, expected at least 1 pixel")
        padded = _pad(_as_image(image), self.kernel // 2 + window // 2, window % 2 - 1)
        return _window_sums(np.square(self._responses(padded)), window)

    def _responses(self, padded: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        return _filtered(padded, self.filters.reshape(len(self.filters), -1), self.kernel)


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


def eigenfilter_severity(
    image: ArrayLike,
    model_patch: tuple[slice, slice],
    *,
    kernel: int = 7,
    features: Features = "responses",
    eigenvectors: Eigenvectors = "columns",
    comparison: Comparison = "distribution",
    window: int = 16,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Mahalanobis distance between an image and a model patch in the responses of the patch's eigenfilters.

    Parameters
    ----------
    image : array (y, x)
        Preprocessed.
    model_patch : tuple of slice
        Rows and columns of the model patch.
    kernel : int
        Edge of the filters in pixels, odd.
    features : {"responses", "energies"}
        What is compared: filter responses, or their squares summed over `window`.
    eigenvectors : {"columns", "rows"}
        See :meth:`EigenfilterBank.from_covariance`.
    comparison : {"distribution", "pixelwise"}
        Distance to the mean of the model patch's features, or, as published, to the model patch's features at
        the same place of patches that cover the image with 50 % overlap and whose rims are left out; where
        patches overlap the mean of their distances counts.
    window : int
        Edge of the window of the energies in pixels.

    Returns
    -------
    severity : float32 array (y, x)
        Defined everywhere; the rim rests on mirrored pixels.
    judged : bool array (y, x)
        False at that rim.

    Raises
    ------
    RecipeError
        If the model patch is too small for the kernel, the window and the rim.

    Notes
    -----
    The image is worked on in tiles, so memory stays near twice that of the image. As in the published code, the
    covariance of a pixelwise comparison of energies is that of the whole model patch including its rim, where
    windows reach outside and sum less; it thereby forgives changes of overall contrast.

    References
    ----------
    .. [D] Dennler et al., Micron 146 (2021) 103069 (symmetry defects).
    """
    pixels = _as_image(image)
    patch = pixels[model_patch]
    energies = features == "energies"
    _check(pixels, patch, kernel, features, comparison, window)
    bank = EigenfilterBank.from_patch(patch, kernel, eigenvectors)
    compare = _Comparison(bank, patch.astype(np.float64), window if energies else 0, comparison)
    out = np.empty(pixels.shape, np.float32)
    judged = np.zeros(pixels.shape, bool)
    before, after = compare.reach
    padded = _pad(pixels, before, after - before)
    for y in range(0, pixels.shape[0], _TILE[0]):
        for x in range(0, pixels.shape[1], _TILE[1]):
            tile = np.s_[y : min(y + _TILE[0], pixels.shape[0]), x : min(x + _TILE[1], pixels.shape[1])]
            block = padded[y : tile[0].stop + before + after, x : tile[1].stop + before + after]
            compare.tile(block, tile, pixels.shape, out, judged)
    return out, judged
