"""Faint planar defects: severity averaged along straight lines."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from napari_hrstem_defects.core.preprocessing import resize_linear
from napari_hrstem_defects.core.sampling import even_sample
from napari_hrstem_defects.core.segmentation import MAD_TO_SIGMA
from napari_hrstem_defects.core.threads import side_by_side

#: Directions tried.
DIRECTIONS = 12
#: Standard deviations of the averaging along a line and across it, in periods.
ALONG_PERIODS = 3.0
ACROSS_PERIODS = 0.25
#: A line must stand out of what lies this far to either side, in periods: a step or a slow slope does not.
FLANK_PERIODS = 2.5
#: Window of the local scatter, in periods, and what is clipped before: the line itself must not widen it.
SCATTER_PERIODS = 8.0
CLIP_MADS = 1.5
#: Mean severity on a line that counts as one unit of its significance: jittering scan lines are significant, but
#: faint.
FAINTEST = 0.6
#: Resolution at which lines are looked for, in px per period.
LINE_PX_PER_PERIOD = 4.0
#: Severity is cut here before averaging: a strong defect must not radiate lines.
SEVERITY_LIMITS = (-3.0, 4.0)


def line_severity(
    severity: NDArray[np.float32], period_px: float, judged: tuple[slice, slice] = (slice(None), slice(None))
) -> NDArray[np.float32]:
    """Significance of a straight ridge of severity through each pixel, in robust standard deviations.

    For each of `DIRECTIONS` the severity is averaged along the line, a = G ∗ z, and compared with both flanks,
    r = a − max(a shifted to one side, a shifted to the other), standardised by the median and the local scatter of
    its direction. The largest over the directions counts, but no line for more than `FAINTEST` allows.

    Parameters
    ----------
    severity : float32 array (y, x)
        In robust standard deviations.
    period_px : float
        Lattice period in px of the map.
    judged : tuple of slice
        Rows and columns that are looked at; elsewhere the result is 0.

    Returns
    -------
    float32 array (y, x)
    """
    whole, severity = np.zeros(severity.shape, np.float32), severity[judged]
    factor = min(1.0, LINE_PX_PER_PERIOD / period_px)
    shape = (max(8, round(severity.shape[0] * factor)), max(8, round(severity.shape[1] * factor)))
    small = np.clip(severity, *SEVERITY_LIMITS)
    if factor < 1:
        small = resize_linear(ndimage.uniform_filter(small, max(1, round(1 / factor))), shape)
    period = period_px * factor
    pad = round(2 * ALONG_PERIODS * period)
    padded = np.pad(small, pad, mode="symmetric" if pad <= min(shape) else "edge")
    size = [fft.next_fast_len(n, real=True) for n in padded.shape]
    spectrum = fft.rfft2(padded, s=size)
    fy = fft.fftfreq(size[0]).astype(np.float32)[:, None]
    fx = fft.rfftfreq(size[1]).astype(np.float32)[None, :]
    # Of a Gaussian's transfer function exp(−2π²σ²f²).
    along, across = (
        np.float32(np.sqrt(2) * np.pi * period * width) for width in (ALONG_PERIODS, ACROSS_PERIODS)
    )
    window = max(3, round(SCATTER_PERIODS * period))

    def significance(angle: float) -> NDArray[np.float32]:
        # Line along (sin, cos) in (y, x).
        sine, cosine = np.float32(np.sin(angle)), np.float32(np.cos(angle))
        u, v = along * (fy * sine + fx * cosine), across * (fy * cosine - fx * sine)
        transfer = np.exp(-(u * u + v * v))
        mean = fft.irfft2(spectrum * transfer, s=size)
        dy, dx = (round(FLANK_PERIODS * period * c) for c in (np.cos(angle), -np.sin(angle)))
        here, left, right = (
            mean[pad + s * dy : pad + s * dy + shape[0], pad + s * dx : pad + s * dx + shape[1]]
            for s in (0, 1, -1)
        )
        ridge = here - np.maximum(left, right)
        # Each direction by its own scatter: jitter between scan lines makes stripes along one.
        seen = even_sample(ridge)
        middle = np.median(seen)
        mad = MAD_TO_SIGMA * float(np.median(np.abs(seen - middle)))
        ridge -= middle
        clipped = np.clip(ridge, -CLIP_MADS * mad, CLIP_MADS * mad)
        local = np.sqrt(ndimage.uniform_filter(clipped**2, window))
        scatter = np.maximum(local, max(mad, 1e-6))
        out: NDArray[np.float32] = np.minimum(ridge / scatter, ridge / FAINTEST)
        return out

    best = np.full(shape, -np.inf, np.float32)
    for found in side_by_side(significance, np.arange(DIRECTIONS) * np.pi / DIRECTIONS, pixels=padded.size):
        np.maximum(best, found, out=best)
    whole[judged] = resize_linear(best, (severity.shape[0], severity.shape[1]))
    return whole
