"""Features of patches for the FFT ensemble: log spectra as published, and patches of equal brightness and contrast."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.ndimage import gaussian_filter

#: Blur before the transform, px ([M]).
BLUR_PX = 1.0
#: Spectra below it are set to zero ([M]; at most 1 in their training).
THRESHOLD = 1.0
#: Grey value and contrast (standard deviation) of an equalised patch: four standard deviations fit on either side.
EQUAL_MEAN, EQUAL_CONTRAST = 0.5, 0.125
#: Patches transformed at once; a batch of 64² stays in the cache.
_BATCH = 64
# A patch with less contrast than this (share of the grey values' range) shows nothing but rounding.
_LEAST_CONTRAST = 1e-6


def log_spectra(
    patches: NDArray[np.floating], *, threshold: float = THRESHOLD, blur_px: float = BLUR_PX
) -> NDArray[np.float32]:
    """Logarithm of the amplitude spectrum of each patch.

    The patch is divided by its maximum and blurred with a Gaussian; then ``ln(1 + |F|)`` with the zero frequency in
    the middle, and zero where that is not above the threshold.

    Parameters
    ----------
    patches : float array (n, edge, edge)
        Grey values, 0 or more.
    threshold : float
        Smallest value that is kept.
    blur_px : float
        Standard deviation of the Gaussian; it mirrors the patch at its rim.

    Returns
    -------
    float32 array (n, edge, edge)

    References
    ----------
    .. [M] Marvin, Holt et al., automated defect detection in STEM images: Fourier features of the patches; code
       github.com/NoHolt/ML-Hackathon-2025.

    Examples
    --------
    >>> flat = np.ones((1, 8, 8), np.float32)
    >>> spectrum = log_spectra(flat)[0]
    >>> round(float(spectrum[4, 4]), 4), int((spectrum > 0).sum())  # ln 65 in the middle, nothing else
    (4.1744, 1)
    """
    values = np.asarray(patches)
    if values.ndim != 3 or values.shape[1] != values.shape[2]:
        raise ValueError(f"patches has shape {values.shape}, expected (n, edge, edge)")
    edge = values.shape[1]
    out = np.empty(values.shape, np.float32)
    for part in _parts(len(values)):
        scaled = np.asarray(values[part], np.float32)
        brightest = np.maximum(scaled.max(axis=(1, 2), keepdims=True), np.finfo(np.float32).tiny)
        smooth = gaussian_filter(scaled / brightest, (0, blur_px, blur_px))
        half = fft.rfft2(smooth)
        amplitude = np.log1p(np.abs(half))
        amplitude[amplitude <= threshold] = 0
        _fill(out[part], amplitude, edge)
    return out


def _fill(out: NDArray[np.float32], half: NDArray[np.float32], edge: int) -> None:
    """Write a half spectrum as a whole one, the zero frequency at ``edge // 2``; |F(−k)| = |F(k)| gives the rest."""
    middle = edge // 2
    rows = np.fft.fftshift(np.arange(edge))
    right = edge - middle
    out[:, :, middle:] = half[:, rows, :right]
    # Column −c holds what column c has at the opposite row.
    columns = np.arange(middle, 0, -1)
    out[:, :, :middle] = half[:, (-rows) % edge][:, :, columns]


def equalise(patches: NDArray[np.floating]) -> NDArray[np.float32]:
    """Bring patches to the same mean grey value and contrast, so that brightness gives no class away.

    Parameters
    ----------
    patches : float array (n, edge, edge)

    Returns
    -------
    float32 array (n, edge, edge)
        Mean 0.5 and standard deviation 0.125 before everything beyond 0...1 is cut off; a flat patch becomes 0.5.
    """
    values = np.asarray(patches, np.float32)
    mean = values.mean(axis=(1, 2), keepdims=True)
    contrast = values.std(axis=(1, 2), keepdims=True)
    shown = contrast > _LEAST_CONTRAST
    scale = np.where(shown, EQUAL_CONTRAST / np.where(shown, contrast, 1), 0).astype(np.float32)
    out: NDArray[np.float32] = np.clip((values - mean) * scale + np.float32(EQUAL_MEAN), 0, 1)
    return out


def standardised(equal: NDArray[np.float32]) -> NDArray[np.float32]:
    """Equalised patches with mean 0 and standard deviation 1, what the raw branch of a network is given."""
    return (equal - np.float32(EQUAL_MEAN)) / np.float32(EQUAL_CONTRAST)


def _parts(count: int) -> Iterator[slice]:
    return (slice(start, start + _BATCH) for start in range(0, count, _BATCH))
