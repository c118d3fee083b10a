"""What noise alone does to the distances: the expected log distance as a function of the local noise share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.core.preprocessing import Prepared, white_noise
from napari_hrstem_defects.core.recipe import PreprocessParams, SymmetryParams
from napari_hrstem_defects.core.sampling import even_sample
from napari_hrstem_defects.core.symmetry import Bank, log_distances

#: Noise variances added to the model patch, in units of its variance.
ADDED = (0.0, 0.15, 0.5, 1.5, 4.0)
#: Fixed, so that the same image gives the same result.
SEED = 20210701


@dataclass(frozen=True, eq=False)
class NoiseResponse:
    """Median and width of the log distance of the model's own crystal under more noise.

    Attributes
    ----------
    share : float64 array (n,)
        Noise variance over variance, increasing; the first is the model patch's.
    shift : float64 array (n,)
        Median log distance relative to the model patch.
    widening : float64 array (n,)
        Its width relative to the model patch.
    reference : float
        ``Prepared.noise_share`` of the model patch.
    """

    share: NDArray[np.float64]
    shift: NDArray[np.float64]
    widening: NDArray[np.float64]
    reference: float

    def normalise(self, distances: NDArray[np.float32], prepared: Prepared) -> NDArray[np.float32]:
        """Log distances as they would be at the model patch's noise.

        Where there is less noise than in the model patch nothing is changed.
        """
        relative = np.clip(
            self.share[0] * prepared.noise_share / self.reference, self.share[0], self.share[-1]
        )
        # The map is smooth: a table of a few hundred entries replaces a million interpolations.
        table = np.linspace(self.share[0], self.share[-1], 512)
        index = ((relative - table[0]) * (511 / max(table[-1] - table[0], 1e-12))).astype(np.intp)
        shift = np.interp(table, self.share, self.shift).astype(np.float32)
        widening = np.interp(table, self.share, self.widening).astype(np.float32)
        out = distances - shift[index]
        middle = np.float32(np.median(even_sample(out)))
        return (out - middle) / widening[index] + middle


def noise_response(
    prepared: Prepared,
    patch: tuple[slice, slice],
    bank: Bank,
    preprocess: PreprocessParams,
    params: SymmetryParams,
) -> NoiseResponse:
    """Add noise to the model patch and see how far from its own model it moves.

    The prepared image has unit local variance, so more noise also means less lattice:
    ``(h + √ε n) / √(1 + ε)``.

    Parameters
    ----------
    prepared : Prepared
    patch : tuple of slice
        Rows and columns of the model patch in the prepared image.
    bank : Bank
        Its model.
    preprocess : PreprocessParams
        As `prepared` was made.
    params : SymmetryParams
    """
    values = prepared.values[patch]
    noise = white_noise(prepared, (values.shape[0], values.shape[1]), preprocess, SEED)
    variance = float(values.var())
    first = min(bank.noise / max(variance, 1e-12), 0.9)
    shares, medians, widths = [], [], []
    for added in ADDED:
        mixed = values + np.float32(np.sqrt(added * variance)) * noise
        mixed *= np.float32(1 / np.sqrt(1 + added))
        copy = Prepared(mixed, mixed, mixed, (values.shape[0], values.shape[1]), prepared.period_px)
        found = log_distances(copy, [bank], params)[0]
        low, median, high = np.quantile(found, (0.16, 0.5, 0.84))
        shares.append((first + added) / (1 + added))
        medians.append(median)
        widths.append(max(high - low, 1e-3))
    widening = np.maximum.accumulate(np.array(widths) / widths[0])
    shift = np.maximum.accumulate(np.array(medians) - medians[0])
    reference = float(np.median(prepared.noise_share[patch]))
    return NoiseResponse(np.array(shares), shift, widening, max(reference, float(np.finfo(np.float32).tiny)))
