"""Severity of the published method: Mahalanobis distance to a model patch in its eigenfilter responses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_hrstem_defects.core.eigenfilters import (
    RESPONSE_FLOOR,
    EigenfilterBank,
    Eigenvectors,
    as_image,
    check_kernel,
    filter_responses,
    mahalanobis_transform,
    reach,
    window_sums,
)
from napari_hrstem_defects.core.errors import RecipeError

Features = Literal["responses", "energies"]
Comparison = Literal["distribution", "pixelwise"]

#: Pixels left out at the rim of a compared patch, beyond half the energy window ([D]: 16 px in all).
RIM_PX = 8
#: Fewest pixels along a side that a compared patch must keep without its rim.
MIN_CORE_PX = 8
#: Tile worked on at once, small enough for its responses to stay in the cache.
_TILE = (64, 256)


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
    """Mahalanobis distance of an image to a model patch in the responses of the patch's eigenfilters.

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
        See :meth:`EigenfilterBank.from_covariance`. Makes no difference to responses.
    comparison : {"distribution", "pixelwise"}
        Distance to the mean of the model patch's features, or, as published, to the model patch's features at
        the same place of patches that cover the image with 50 % overlap and whose rims are left out. Where
        such patches overlap the mean of their distances counts.
    window : int
        Edge of the window of the energies in pixels.

    Returns
    -------
    severity : float32 array (y, x)
        Defined everywhere; at the rim, where neighbourhoods or patches would reach outside the image, it is
        mirrored from inside.
    judged : bool array (y, x)
        False at that rim.

    Raises
    ------
    RecipeError
        If the model patch is too small for kernel, window and rim.

    Notes
    -----
    Done in tiles; memory stays near three times that of a float32 image. As in the published code, the
    covariance of a pixelwise comparison of energies is that of the whole model patch with its rim, where
    windows reach outside and sum less; so it forgives changes of overall contrast.

    References
    ----------
    .. [D] Dennler et al., Micron 146 (2021) 103069 (symmetry defects).
    """
    pixels = as_image(image)
    patch = pixels[model_patch].astype(np.float64)
    for name, value, choices in (
        ("features", features, ("responses", "energies")),
        ("comparison", comparison, ("distribution", "pixelwise")),
    ):
        if value not in choices:
            raise ValueError(f"{name} is {value!r}, expected one of {', '.join(choices)}")
    if window < 1:
        raise ValueError(f"window is {window}, expected at least 1 pixel")
    window = window if features == "energies" else 1
    check_kernel(kernel)
    before, after = near, far = reach(kernel, window)
    if comparison == "pixelwise":
        near = far = window // 2 + max(RIM_PX, kernel // 2)
    if min(patch.shape) < near + far + MIN_CORE_PX:
        raise RecipeError(
            f"The model patch is {patch.shape[0]} × {patch.shape[1]} px, but these eigenfilters need "
            f"{near + far + MIN_CORE_PX} px or more; choose a larger patch or a smaller kernel or window."
        )
    model = _Features(patch, kernel, eigenvectors, window, features == "energies", comparison == "pixelwise")
    centred = (pixels - model.offset).astype(np.float32)
    bottom, right = (length - far for length in pixels.shape)
    if comparison == "pixelwise":
        own = model(np.pad(centred[model_patch], (before, after)))
        distances: Callable[..., NDArray[np.float32]] = _Cover(own, near, centred.shape).distances
    else:
        distances = _length
    found = np.empty((bottom - near, right - near), np.float32)
    for y in range(near, bottom, _TILE[0]):
        for x in range(near, right, _TILE[1]):
            y1, x1 = min(y + _TILE[0], bottom), min(x + _TILE[1], right)
            values = model(centred[y - before : y1 + after, x - before : x1 + after])
            found[y - near : y1 - near, x - near : x1 - near] = distances(values, y, x)
    judged = np.zeros(pixels.shape, bool)
    judged[near:bottom, near:right] = True
    return np.pad(found, (near, far), mode="symmetric"), judged


class _Features:
    """Features of an image block, transformed so that Euclidean distances are Mahalanobis distances."""

    def __init__(
        self,
        patch: NDArray[np.float64],
        kernel: int,
        eigenvectors: Eigenvectors,
        window: int,
        squared: bool,
        whole: bool,
    ) -> None:
        bank = EigenfilterBank.from_patch(patch, kernel, eigenvectors)
        # Images come without the patch's mean, for the sake of precision; the bias puts it back.
        self.offset = float(patch.mean())
        self._window = window
        bias = self.offset * bank.filters.sum(axis=(1, 2))
        responses = filter_responses(
            np.pad(patch - self.offset, kernel // 2, mode="symmetric") if whole else patch - self.offset,
            bank.filters,
            bias,
        )
        if squared:
            energies = np.square(responses)
            if whole:
                energies = np.pad(energies, ((0, 0), *((window // 2, (window - 1) // 2),) * 2))
            energies = window_sums(energies, window)
            transform, mean = mahalanobis_transform(energies.reshape(len(energies), -1), RESPONSE_FLOOR**2)
            self._filters, self._bias = bank.filters, bias
            self._transform: Any = transform.astype(np.float32)
            self._mean = mean.astype(np.float32)[:, None, None]
        else:
            transform, mean = mahalanobis_transform(responses.reshape(len(responses), -1))
            self._filters = np.tensordot(transform, bank.filters, 1)
            self._bias = transform @ (bias - mean)
            self._transform = None

    def __call__(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        values = filter_responses(block, self._filters, self._bias)
        if self._transform is None:
            return values
        energies = window_sums(np.square(values, out=values), self._window)
        energies = energies - self._mean
        return (self._transform @ energies.reshape(len(energies), -1)).reshape(energies.shape)


class _Cover:
    """Patches that cover an image with 50 % overlap, compared with the model patch pixel by pixel."""

    def __init__(self, model: NDArray[np.float32], rim: int, shape: tuple[int, int]) -> None:
        self._core = np.ascontiguousarray(model[:, rim:-rim, rim:-rim])
        # First pixels of the cores along each axis; the last patch ends at the border.
        self._starts = []
        for length, size, core in zip(shape, model.shape[1:], self._core.shape[1:], strict=True):
            corners = {*range(0, length - size + 1, min(size // 2, core)), length - size}
            self._starts.append([corner + rim for corner in sorted(corners)])

    def distances(self, values: NDArray[np.float32], y: int, x: int) -> NDArray[np.float32]:
        """Mean distance, over the patches around each pixel, of a tile whose first pixel is (y, x)."""
        shape = values.shape[1:]
        total, count = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        for rows, core_rows in _overlaps(y, shape[0], self._starts[0], self._core.shape[1]):
            for columns, core_columns in _overlaps(x, shape[1], self._starts[1], self._core.shape[2]):
                difference = values[:, rows, columns] - self._core[:, core_rows, core_columns]
                total[rows, columns] += _length(difference)
                count[rows, columns] += 1
        return total / count


def _overlaps(tile: int, extent: int, starts: list[int], length: int) -> Iterator[tuple[slice, slice]]:
    """For each core that meets a tile, where it lies in the tile, and what part of the core that is."""
    for start in starts:
        low, high = max(tile, start), min(tile + extent, start + length)
        if low < high:
            yield slice(low - tile, high - tile), slice(low - start, high - start)


def _length(vectors: NDArray[np.float32], *_place: int) -> NDArray[np.float32]:
    return np.sqrt(np.einsum("kyx,kyx->yx", vectors, vectors))
