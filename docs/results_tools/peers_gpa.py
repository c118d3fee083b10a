"""Amplitude of geometric phase analysis: how far the two strongest reflections are present at each pixel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

#: Reflections are sought where a period is less than this share of the image's shorter side.
LONGEST = 1 / 6
#: Width of the smoothing of the power spectrum before its peaks are sought (bins).
SMOOTHING = 1.0
#: Sine of the least angle between the two reflections.
LEAST_SINE = 0.3


def reflections(image: NDArray[np.floating]) -> NDArray[np.float64]:
    """The strongest reflection and the strongest that is not along it.

    Parameters
    ----------
    image : float array (y, x)

    Returns
    -------
    float64 array (2, 2)
        Rows are reflections (cycles/px along y and x), with x > 0, or x = 0 and y > 0.
    """
    window = np.outer(*(np.hanning(length) for length in image.shape))
    power = np.abs(fft.fft2((image - image.mean()) * window)) ** 2
    power = ndimage.gaussian_filter(power, SMOOTHING, mode="wrap")
    vertical, horizontal = np.meshgrid(*(fft.fftfreq(length) for length in image.shape), indexing="ij")
    size = np.hypot(vertical, horizontal)
    half = (horizontal > 0) | ((horizontal == 0) & (vertical > 0))
    power = np.where(half & (size > 1 / (LONGEST * min(image.shape))), power, 0)
    first = np.unravel_index(np.argmax(power), power.shape)
    sine = np.abs(vertical * horizontal[first] - horizontal * vertical[first]) / np.maximum(
        size * size[first], 1e-12
    )
    second = np.unravel_index(np.argmax(np.where(sine > LEAST_SINE, power, 0)), power.shape)
    return np.array([[vertical[at], horizontal[at]] for at in (first, second)])


def amplitude_drop(
    image: NDArray[np.floating], width: float, normalise: bool, combine: str = "least"
) -> NDArray[np.float32]:
    """One minus the Bragg-filtered amplitude over its median, where below it.

    Parameters
    ----------
    image : float array (y, x)
    width : float
        Standard deviation of the Gaussian mask about a reflection, in lengths of the shorter reflection.
    normalise : bool
        Divide by the local standard deviation first, so that thickness does not look like order.
    combine : {"least", "mean"}
        Of the two reflections.

    Returns
    -------
    float32 array (y, x)
        0 where both are as strong as in half of the image or stronger, 1 where there is none.

    References
    ----------
    .. [H] Hÿtch, Snoeck, Kilaas, Ultramicroscopy 74 (1998) 131.
    """
    found = reflections(image)
    sigma = width * float(np.linalg.norm(found, axis=1).min())
    reach = 1 / (np.pi * sigma)
    flat = np.asarray(image, float) - ndimage.gaussian_filter(np.asarray(image, float), reach, mode="nearest")
    if normalise:
        spread = np.sqrt(ndimage.gaussian_filter(flat**2, reach, mode="nearest"))
        flat = flat / np.maximum(spread, 1e-3 * spread.max())
    # Nothing beyond the edges, and the amplitude there over the share of the filter that lies inside.
    margin = round(0.5 / sigma)
    padded = np.pad(flat, margin)
    inside = fft.fft2(np.pad(np.ones(image.shape), margin))
    spectrum = fft.fft2(padded)
    vertical, horizontal = np.meshgrid(*(fft.fftfreq(length) for length in padded.shape), indexing="ij")
    inner = tuple(slice(margin, margin + length) for length in image.shape)
    weight = np.abs(fft.ifft2(inside * np.exp(-(vertical**2 + horizontal**2) / (2 * sigma**2))))[inner]
    shares = []
    for y, x in found:
        mask = np.exp(-((vertical - y) ** 2 + (horizontal - x) ** 2) / (2 * sigma**2))
        amplitude = np.abs(fft.ifft2(spectrum * mask))[inner] / weight
        shares.append(amplitude / np.median(amplitude))
    least = np.minimum(*shares) if combine == "least" else (shares[0] + shares[1]) / 2
    return np.clip(1 - least, 0, 1).astype(np.float32)
