"""A model patch with all that follows from it: filters, distances of the whole image, null, severity."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.core.errors import RecipeError
from napari_hrstem_defects.core.noise import noise_response
from napari_hrstem_defects.core.preprocessing import Prepared
from napari_hrstem_defects.core.recipe import PreprocessParams, SymmetryParams
from napari_hrstem_defects.core.segmentation import Null, calibrate
from napari_hrstem_defects.core.symmetry import Bank, fit_bank, kernel_edge, log_distances, rim_px


@dataclass(frozen=True, eq=False)
class Model:
    """What one model patch says about the image; maps are in pixels of the prepared image.

    Attributes
    ----------
    patch : tuple of slice
        Rows and columns of the patch in the prepared image.
    bank : Bank
    energies : float32 array (y', x')
        Log residual energies: log distances without the division by the model's own noise. Comparable between
        models.
    distances : float32 array (y', x')
        Log distances as they would be at the model patch's noise.
    null : Null
        Their defect-free population.
    """

    patch: tuple[slice, slice]
    bank: Bank
    energies: NDArray[np.float32]
    distances: NDArray[np.float32]
    null: Null

    @property
    def severity(self) -> NDArray[np.float32]:
        """Distances in standard deviations of the null."""
        return (self.distances - np.float32(self.null.mode)) / np.float32(self.null.sigma)

    def judged(self, prepared: Prepared) -> tuple[slice, slice]:
        """Rows and columns that rest on no mirrored pixels."""
        shape = self.distances.shape
        rim = rim_px(self.bank.kernel_px, prepared.period_px, shape)
        return slice(rim, shape[0] - rim), slice(rim, shape[1] - rim)


def fit_model(
    prepared: Prepared,
    patch: tuple[slice, slice],
    preprocess: PreprocessParams,
    params: SymmetryParams,
    *,
    cancelled: Callable[[], bool] | None = None,
) -> Model:
    """Fit a bank to a patch, take the distances of the whole image and find their null.

    Raises
    ------
    RecipeError
        If the patch is too small to learn from.
    Cancelled
        If `cancelled` returned True.
    """
    edge = patch[0].stop - patch[0].start
    kernel = kernel_edge(prepared.period_px, params, edge // 2)
    if edge < kernel + 2:
        raise RecipeError(
            f"The best patch holds {edge / prepared.period_px:.1f} lattice periods, too few to learn the crystal from; "
            "make it larger."
        )
    bank = fit_bank(prepared.values[patch], kernel, params)
    raw = log_distances(prepared, [bank], params, cancelled=cancelled)[0]
    distances = noise_response(prepared, patch, bank, preprocess, params).normalise(raw, prepared)
    rim = rim_px(kernel, prepared.period_px, raw.shape)
    inside = distances[rim : raw.shape[0] - rim, rim : raw.shape[1] - rim]
    half = kernel // 2
    rows, columns = patch
    own = distances[rows.start + half : rows.stop - half, columns.start + half : columns.stop - half]
    return Model(patch, bank, raw + np.float32(np.log(bank.noise)), distances, calibrate(inside, own))
