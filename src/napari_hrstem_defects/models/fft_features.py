"""Inputs of the FFT ensemble: log spectra as published, equalised patches, and variants of patches for the training."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.ndimage import affine_transform, gaussian_filter

from napari_hrstem_defects.models.preparing import symmetric

#: Blur before the transform, px ([M]).
BLUR_PX = 1.0
#: Spectra below it are set to zero ([M]; at most 1 in their training).
THRESHOLD = 1.0
#: Grey value and contrast (standard deviation) of an equalised patch: four standard deviations fit on either side.
EQUAL_MEAN, EQUAL_CONTRAST = 0.5, 0.125
#: Share of the patches that are zoomed and turned a little, the largest zoom and turn.
WARPED_SHARE, MOST_ZOOM, MOST_TURN_DEG = 0.6, 1.3, 8.0
#: Share of the patches that are blurred while training, and by how much (px).
BLURRED_SHARE, BLURRED_PX = 0.25, 0.7
#: Largest changes of the equalised patch in units of its contrast: curvature of the grey scale, slope of the
#: brightness across the patch, noise.
MOST_CURVATURE, MOST_SLOPE, MOST_NOISE = 0.12, 0.25, 0.25
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
    out = np.empty(values.shape, np.float32)
    for start in range(0, len(values), _BATCH):
        part = slice(start, start + _BATCH)
        scaled = np.asarray(values[part], np.float32)
        brightest = np.maximum(scaled.max(axis=(1, 2), keepdims=True), np.finfo(np.float32).tiny)
        smooth = gaussian_filter(scaled / brightest, (0, blur_px, blur_px))
        amplitude = np.log1p(np.abs(fft.fftshift(fft.fft2(smooth), axes=(1, 2))))
        out[part] = np.where(amplitude > threshold, amplitude, 0)
    return out


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


def varied(patches: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Random variants of patches, equalised.

    Each is turned by a multiple of 90° and perhaps mirrored; most are zoomed by up to 1.3 and turned a little, never
    so far that pixels from outside would be needed; then come the grey scale, the brightness and the noise.

    Parameters
    ----------
    patches : float32 array (n, edge, edge)
    rng : Generator

    Returns
    -------
    float32 array (n, edge, edge)
        In the range of :func:`equalise`, 0...1.
    """
    count, edge = len(patches), patches.shape[1]
    values = standardised(equalise(warped(symmetric(patches, rng.integers(0, 8, count)), rng)))
    blurred = rng.random(count) < BLURRED_SHARE
    if blurred.any():
        values[blurred] = gaussian_filter(values[blurred], (0, BLURRED_PX, BLURRED_PX))

    def each(most: float, least: float | None = None) -> NDArray[np.float32]:
        low = -most if least is None else least
        return rng.uniform(low, most, (count, 1, 1)).astype(np.float32)

    values += each(MOST_CURVATURE) * (values**2 - 1)
    ramp = np.linspace(-1, 1, edge, dtype=np.float32)
    values += each(MOST_SLOPE) * ramp[:, None] + each(MOST_SLOPE) * ramp
    values += each(MOST_NOISE, 0.0) * rng.standard_normal(values.shape, np.float32)
    return equalise(values)


def warped(patches: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Zoom in and turn some patches about a random place, bilinear; all pixels come from inside the patch."""
    count, half = len(patches), (patches.shape[1] - 1) / 2
    angle = np.deg2rad(rng.uniform(-MOST_TURN_DEG, MOST_TURN_DEG, count))
    # A turned square of this size touches the rim of the patch.
    least = np.abs(np.cos(angle)) + np.abs(np.sin(angle))
    zoom = least + (np.maximum(MOST_ZOOM, least) - least) * rng.random(count)
    chosen = rng.random(count) < WARPED_SHARE
    middle = half + rng.uniform(-1, 1, (count, 2)) * (half * (1 - least / zoom))[:, None]
    out = patches.copy()
    for k in np.flatnonzero(chosen):
        cosine, sine = np.cos(angle[k]) / zoom[k], np.sin(angle[k]) / zoom[k]
        matrix = np.array([[cosine, sine], [-sine, cosine]])
        offset = middle[k] - matrix @ (half, half)
        out[k] = affine_transform(patches[k], matrix, offset, order=1, mode="nearest")
    return out
