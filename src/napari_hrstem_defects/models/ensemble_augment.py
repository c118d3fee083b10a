"""Variants of patches for the training of the FFT ensemble: symmetry, zoom, grey values, noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from napari_hrstem_defects.models.fft_features import equalise, standardised

#: Share of the patches that are zoomed and turned a little, the largest zoom and turn.
WARPED_SHARE, MOST_ZOOM, MOST_TURN_DEG = 0.6, 1.3, 8.0
#: Share of the patches that are blurred, and by how much (px).
BLURRED_SHARE, BLUR_PX = 0.25, 0.7
#: Largest changes of the equalised patch in units of its contrast: curvature of the grey scale, slope of the
#: brightness across the patch, noise.
MOST_CURVATURE, MOST_SLOPE, MOST_NOISE = 0.12, 0.25, 0.25


def quarter_turns(patches: NDArray[np.float32]) -> NDArray[np.float32]:
    """Patches ``(n, edge, edge)`` turned by 0, 90, 180 and 270°, ``(4 n, edge, edge)``, as Marvin, Holt et al. do."""
    return np.concatenate([np.rot90(patches, k, (1, 2)) for k in range(4)])


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
        In the range of :func:`~.fft_features.equalise`, 0...1.
    """
    count, edge = len(patches), patches.shape[1]
    values = standardised(equalise(_warped(_symmetric(patches, rng.integers(0, 8, count)), rng)))
    blurred = rng.random(count) < BLURRED_SHARE
    if blurred.any():
        values[blurred] = gaussian_filter(values[blurred], (0, BLUR_PX, BLUR_PX))

    def each(most: float, least: float | None = None) -> NDArray[np.float32]:
        low = -most if least is None else least
        return rng.uniform(low, most, (count, 1, 1)).astype(np.float32)

    values += each(MOST_CURVATURE) * (values**2 - 1)
    ramp = np.linspace(-1, 1, edge, dtype=np.float32)
    values += each(MOST_SLOPE) * ramp[:, None] + each(MOST_SLOPE) * ramp
    values += each(MOST_NOISE, 0.0) * rng.standard_normal(values.shape, np.float32)
    return equalise(values)


def symmetries(patches: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """The eight turned and mirrored copies of all patches, the unchanged one first."""
    return [_symmetric(patches, np.full(len(patches), k)) for k in range(8)]


def _symmetric(patches: NDArray[np.float32], kinds: NDArray[np.integer]) -> NDArray[np.float32]:
    out = np.empty_like(patches)
    for kind in np.unique(kinds).tolist():
        chosen = kinds == kind
        turned = np.rot90(patches[chosen], kind % 4, (1, 2))
        out[chosen] = turned[:, :, ::-1] if kind >= 4 else turned
    return out


def _warped(patches: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Zoom in and turn some patches about a random place, bilinear; all pixels come from inside the patch."""
    count, edge = len(patches), patches.shape[1]
    half = (edge - 1) / 2
    angle = np.deg2rad(rng.uniform(-MOST_TURN_DEG, MOST_TURN_DEG, count))
    # A turned square of this size touches the rim of the patch.
    least = np.abs(np.cos(angle)) + np.abs(np.sin(angle))
    zoom = least + (np.maximum(MOST_ZOOM, least) - least) * rng.random(count)
    kept = rng.random(count) > WARPED_SHARE
    angle[kept], zoom[kept], least[kept] = 0, 1, 1
    room = half * (1 - least / zoom)
    middle = half + rng.uniform(-1, 1, (2, count)) * room
    grid = np.arange(edge) - half
    cosine, sine = (np.cos(angle) / zoom)[:, None, None], (np.sin(angle) / zoom)[:, None, None]
    y = middle[0][:, None, None] + cosine * grid[:, None] + sine * grid
    x = middle[1][:, None, None] - sine * grid[:, None] + cosine * grid
    y0 = np.clip(y.astype(np.intp), 0, edge - 2)
    x0 = np.clip(x.astype(np.intp), 0, edge - 2)
    fy, fx = np.clip(y - y0, 0, 1).astype(np.float32), np.clip(x - x0, 0, 1).astype(np.float32)
    flat = patches.reshape(-1)
    corner = np.arange(count)[:, None, None] * edge**2 + y0 * edge + x0
    above = flat[corner] * (1 - fx) + flat[corner + 1] * fx
    below = flat[corner + edge] * (1 - fx) + flat[corner + edge + 1] * fx
    out: NDArray[np.float32] = above * (1 - fy) + below * fy
    return out
