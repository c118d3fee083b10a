"""A quick look at symmetry breaking: one whitening filter instead of a model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from napari_hrstem_defects.core.best_patch import BestPatch
from napari_hrstem_defects.core.geometry import prepared_slices
from napari_hrstem_defects.core.preprocessing import Prepared

#: Lags of the model patch's autocovariance that are kept, in periods: further ones rest on few pairs of pixels.
LAG_PERIODS = 2.2
#: White variance added to the spectrum, as a share of the patch's variance: bounds the gain between lattice peaks.
FLOOR_SHARE = 0.1
#: Edge of the box in which the whitened image's power is averaged, in periods.
WINDOW_PERIODS = 1.5


def preview(prepared: Prepared, patch: BestPatch) -> NDArray[np.float32]:
    """Power of the image after the model patch's lattice is whitened out of it.

    The filter ``(S + 0.1 var)^(-1/2)``, S the power spectrum of the best patch, turns its crystal into noise of
    even power; whatever breaks the symmetry stands out. It ranks pixels nearly as well as the severity in a
    fraction of the time, but has no calibrated scale.

    Parameters
    ----------
    prepared : Prepared
    patch : BestPatch

    Returns
    -------
    float32 array (y, x)
        Logarithm of the local power relative to its median, at the frame's resolution.
    """
    values = prepared.values
    own = values[prepared_slices(patch, prepared)]
    own = own - own.mean()
    edge = own.shape[0]
    window = np.outer(*(np.hanning(edge + 2)[1:-1],) * 2).astype(np.float32)
    padded = fft.next_fast_len(2 * edge, real=True)

    def lags(image: NDArray[np.float32]) -> NDArray[np.float32]:
        power = np.abs(fft.rfft2(image, s=(padded, padded))) ** 2
        out: NDArray[np.float32] = fft.irfft2(power, s=(padded, padded))
        return out

    reach = max(1, min(round(LAG_PERIODS * prepared.period_px), edge // 2))
    size = [fft.next_fast_len(n + reach, real=True) for n in values.shape]
    covariance = np.zeros(size, np.float32)
    near = np.arange(-reach, reach + 1)
    taper = np.cos(0.5 * np.pi * np.minimum(np.hypot(near[:, None], near[None, :]) / (reach + 1), 1)) ** 2
    grid = np.ix_(near, near)
    covariance[grid] = taper * lags(own * window)[grid] / lags(window)[grid]
    spectrum = np.maximum(fft.rfft2(covariance).real, 0)
    gain = 1 / np.sqrt(spectrum + np.float32(FLOOR_SHARE * float(own.var()) + 1e-12))
    white = fft.irfft2(fft.rfft2(values, s=size) * gain, s=size)
    # The filter meets an edge at the rim: what lies inside is repeated there.
    rim = min(reach, min(values.shape) // 4)
    white = white[rim : values.shape[0] - rim, rim : values.shape[1] - rim]
    box = max(3, round(WINDOW_PERIODS * prepared.period_px))
    power = np.pad(ndimage.uniform_filter(np.square(white), box), rim, mode="edge")
    level = max(float(np.median(power)), float(np.finfo(np.float32).tiny))
    return prepared.to_frame(np.log(np.maximum(power, 1e-6 * level) / level))
