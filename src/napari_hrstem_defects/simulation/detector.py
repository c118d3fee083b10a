"""From the noise-free image to the file: scan distortions, counting noise, digitisation."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.signal import lfilter

from napari_hrstem_defects.simulation.crystals import SimulationError
from napari_hrstem_defects.simulation.optics import Image

#: Expected counts are rounded to this step, so that the last bits of the arithmetic, which differ between processors,
#: do not change the draw.
_COUNT_STEP = 2.0**-8
#: Correlation of the scan jitter from line to line.
_JITTER_MEMORY = 0.6


def scan_jitter(image: Image, rng: np.random.Generator, rms_px: float) -> Image:
    """Shift every scan line by a small random amount along x (all of `rms_px`) and y (a third of it).

    Parameters
    ----------
    image : float32 array (y, x)
        Noise-free image, with a few pixels to spare at the rim.
    rms_px : float
        Root mean square of the shifts along x in pixels; lines are correlated with their neighbours.
    """
    rows = image.shape[0]
    white = rng.standard_normal((rows, 2))
    shifts = lfilter([np.sqrt(1 - _JITTER_MEMORY**2)], [1, -_JITTER_MEMORY], white, axis=0)
    shifts *= (rms_px / 3, rms_px)
    y = np.clip(np.arange(rows) + shifts[:, 0], 0, rows - 1)
    low = np.minimum(np.floor(y).astype(int), rows - 2)
    fraction = (y - low).astype(np.float32)[:, None]
    moved = image[low] * (1 - fraction) + image[low + 1] * fraction
    q = fft.rfftfreq(image.shape[1]).astype(np.float32)
    phase = np.exp(np.complex64(-2j * np.pi) * shifts[:, 1, None].astype(np.float32) * q)
    return np.asarray(fft.irfft(fft.rfft(moved, axis=1) * phase, n=image.shape[1], axis=1), np.float32)


def counted(image: Image, rng: np.random.Generator, dose: float, readout: float = 0.0) -> NDArray[np.float64]:
    """Poisson counts of an image whose mean of 1 stands for `dose` electrons per pixel.

    Parameters
    ----------
    image : float32 array (y, x)
        Relative intensity; negative values count as none.
    dose : float
        Detected electrons per pixel at intensity 1.
    readout : float
        Standard deviation of the electronic noise in electrons.
    """
    expected = np.round(np.maximum(image, 0).astype(np.float64) * (dose / _COUNT_STEP)) * _COUNT_STEP
    counts = rng.poisson(expected).astype(np.float64)
    if readout > 0:
        counts += readout * rng.standard_normal(counts.shape)
    return counts


def digitised(counts: NDArray[np.float64], bits: int) -> NDArray[Any]:
    """Counts as they are stored.

    Parameters
    ----------
    bits : {8, 16, 32}
        8: stretched between the 0.05 and 99.95 percentiles, as exported pictures are; 16: unsigned, with a gain that
        uses the range and an offset; 32: the counts themselves, float32.
    """
    if bits == 32:
        return counts.astype(np.float32)
    if bits == 16:
        offset = max(0.0, -float(counts.min()))
        gain = min(40.0, 60000.0 / max(float(counts.max()) + offset, 1.0))
        return np.round((counts + offset) * gain + 500.0).clip(0, 65535).astype(np.uint16)
    if bits != 8:
        raise SimulationError(f"An image can have 8, 16 or 32 bits, not {bits}.")
    sample = counts[::2, ::2]
    low, high = np.percentile(sample, [0.05, 99.95])
    high = max(high, low + 1.0)
    return np.asarray(np.round((counts - low) * (255.0 / (high - low))).clip(0, 255), np.uint8)
