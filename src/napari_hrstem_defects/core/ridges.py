"""Faint planar defects: severity averaged along straight lines."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from napari_hrstem_defects.core.preprocessing import resize_linear
from napari_hrstem_defects.core.sampling import even_sample
from napari_hrstem_defects.core.segmentation import MAD_TO_SIGMA, SEVERE, dilate
from napari_hrstem_defects.core.threads import side_by_side


@dataclass(frozen=True)
class Scale:
    """How long the lines are that are looked for.

    Attributes
    ----------
    along : float
        Standard deviation of the averaging along a line, in periods.
    directions : int
        Directions tried.
    px_per_period : float
        Resolution at which lines are looked for.
    weight : float
        Factor on their significance: the longer, the fewer lines there are that could stand out by chance.
    faintest : float
        Mean severity on a line that counts as one unit of its significance: jittering scan lines are significant, but
        faint.
    """

    along: float
    directions: int
    px_per_period: float
    weight: float
    faintest: float


#: Lines that end or bend, and lines that go on and on.
SHORT, LONG = Scale(3.0, 12, 4.0, 1.0, 0.6), Scale(8.0, 24, 2.0, 1.25, 0.45)
#: A long line makes a short one at most this many times as significant.
MOST_GAIN = 1.6
#: Standard deviation of the averaging across a line, in periods.
ACROSS_PERIODS = 0.25
#: A line must stand out of what lies this far to either side, in periods: a step or a slow slope does not.
FLANK_PERIODS = 2.5
#: Window of the local scatter, in periods, and what is clipped before: the line itself must not widen it.
SCATTER_PERIODS = 8.0
CLIP_MADS = 1.5
#: Severity is cut here before averaging: a strong defect must not radiate lines.
SEVERITY_LIMITS = (-3.0, 4.0)


def line_severity(
    severity: NDArray[np.float32], period_px: float, judged: tuple[slice, slice] = (slice(None), slice(None))
) -> NDArray[np.float32]:
    """Significance of a straight ridge of severity through each pixel, in robust standard deviations.

    For each direction the severity is averaged along the line, a = G ∗ z, and compared with both flanks,
    r = a − max(a shifted to one side, a shifted to the other), standardised by the median and the local scatter of
    its direction. The largest counts, but no line for more than its mean severity allows. Short pieces of long lines
    count for more, up to `MOST_GAIN` times, away from what is severe by itself; those along the scan lines (rows) the
    least, for jitter makes such lines.

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
    clipped = np.clip(severity, *SEVERITY_LIMITS)
    short, long = (_lines(clipped, period_px, scale) for scale in (SHORT, LONG))
    # What is found anyway needs no help, which would draw it out beyond its ends.
    long[dilate(severity > SEVERE, LONG.along * period_px)] = 0
    # The long ones say how sure it is, the short ones, seen more sharply, where.
    whole[judged] = np.maximum(short, np.minimum(long, MOST_GAIN * short))
    return whole


def _lines(severity: NDArray[np.float32], period_px: float, scale: Scale) -> NDArray[np.float32]:
    """Significance of lines of one length."""
    factor = min(1.0, scale.px_per_period / period_px)
    shape = (max(8, round(severity.shape[0] * factor)), max(8, round(severity.shape[1] * factor)))
    small = severity
    if factor < 1:
        small = resize_linear(ndimage.uniform_filter(small, max(1, round(1 / factor))), shape)
    period = period_px * factor
    pad = round(2 * scale.along * period)
    padded = np.pad(small, pad, mode="symmetric" if pad <= min(shape) else "edge")
    size = [fft.next_fast_len(n, real=True) for n in padded.shape]
    spectrum = fft.rfft2(padded, s=size)
    fy = fft.fftfreq(size[0]).astype(np.float32)[:, None]
    fx = fft.rfftfreq(size[1]).astype(np.float32)[None, :]
    # Of a Gaussian's transfer function exp(−2π²σ²f²).
    along, across = (
        np.float32(np.sqrt(2) * np.pi * period * width) for width in (scale.along, ACROSS_PERIODS)
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
        # Jitter makes lines along the scan: these get no discount.
        weight = scale.weight if angle else 1.0
        out: NDArray[np.float32] = np.minimum(weight * ridge / scatter, ridge / scale.faintest)
        return out

    best = np.full(shape, -np.inf, np.float32)
    angles = np.arange(scale.directions) * np.pi / scale.directions
    for found in side_by_side(significance, angles, pixels=padded.size):
        np.maximum(best, found, out=best)
    return resize_linear(best, (severity.shape[0], severity.shape[1]))
