"""The stacking sequence of close-packed layers across a band, read layer by layer.

Seen along [110] the close-packed layers of cubic crystals lie edge-on, each displaced along the band by a third of
the period within the layer against the one below: ABC. A slip of the crystal by that third reverses one step. One
reversed step is an intrinsic stacking fault, two neighbouring ones are an extrinsic one, m neighbouring ones a twin
lamella, every second one hexagonal stacking, all beyond a plane a twin (Hirth & Lothe, *Theory of Dislocations*,
2nd ed., 1982, chapter 10).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_hrstem_defects.core.preprocessing import Prepared

#: A lattice is stacked in threes if the step between layers is this near to a third of the period; drift shears it.
STEP_TOLERANCE = 0.09
#: A band runs along a lattice vector if their directions differ by no more than this, in degrees.
ALONG_DEG = 6.0
#: Layers read on both sides of a band, and in the thickest band.
SIDE_LAYERS, MOST_LAYERS = 5, 24
#: Periods along the band over which the phase is taken, and the longest part of it that is read.
CHUNK_PERIODS, MOST_PERIODS = 6.0, 60.0
#: Share of a chunk that must be free of other defects.
FREE_SHARE = 0.7
#: The plane of a fault may be inclined against the lattice of the model patch by this much: drift.
MOST_SLOPE = 0.06
#: Heights per layer at which the phase is taken.
_SAMPLES = 8
#: What one reversed step explains in phase: cos 0° − cos 120°.
_GAIN = 1.5

#: Sequences that are told apart.
KINDS = ("perfect", "intrinsic", "extrinsic", "lamella", "several", "twin")


@dataclass(frozen=True, eq=False)
class Layers:
    """Close-packed layers of a lattice seen edge-on.

    Attributes
    ----------
    along, normal : float array (2,)
        Unit vectors ``(y, x)``.
    repeat, spacing : float
        Period within a layer and distance of layers.
    step : float
        Displacement along a layer of the next one in the direction of `normal`, in ±repeat/2.
    """

    along: NDArray[np.float64]
    normal: NDArray[np.float64]
    repeat: float
    spacing: float
    step: float


def layers_along(
    basis: NDArray[np.floating], axis: NDArray[np.floating], tolerance_deg: float
) -> Layers | None:
    """Layers of a lattice that run along an axis; None if none do or they are not stacked in threes.

    Parameters
    ----------
    basis : float array (2, 2)
        Rows: lattice vectors ``(y, x)``.
    axis : float array (2,)
        Unit vector.
    tolerance_deg : float
        Largest angle between the axis and a lattice vector.
    """
    v1, v2 = basis
    vector = max((v1, v2, v1 + v2, v1 - v2), key=lambda v: abs(axis @ v) / np.hypot(*v))
    repeat = float(np.hypot(*vector))
    if abs(axis @ vector) < repeat * np.cos(np.radians(tolerance_deg)):
        return None
    along = vector / repeat * (1.0 if vector @ axis >= 0 else -1.0)
    normal = np.array([along[1], -along[0]])
    spacing = float(abs(np.linalg.det(basis))) / repeat
    nodes = np.array([(i, j) for i in range(-2, 3) for j in range(-2, 3)]) @ basis
    step = float(nodes[np.argmin(np.abs(nodes @ normal - spacing))] @ along)
    step -= repeat * round(step / repeat)
    if abs(abs(step) / repeat - 1 / 3) > STEP_TOLERANCE:
        return None
    return Layers(along, normal, repeat, spacing, step)


def read_stacking(
    prepared: Prepared,
    basis: NDArray[np.floating],
    points: NDArray[np.floating],
    blocked: NDArray[np.bool_],
    step_px: float,
) -> dict[str, float] | None:
    """Read the stacking sequence across a band.

    Parameters
    ----------
    prepared : Prepared
    basis : float array (2, 2)
        Rows: lattice vectors ``(y, x)`` in pixels of the prepared image.
    points : float array (n, 2)
        The band, evenly sampled, in pixels of the prepared image.
    blocked : bool array (y', x')
        Where the crystal is disturbed by something else, on a grid of `step_px`.
    step_px : float
        Distance of the points and of the samples of `blocked`, in pixels of the prepared image.

    Returns
    -------
    dict of str to float, or None
        Lead of each of `KINDS` over the best other one, in layers whose step it explains, -1 to 1. ``"lamella"``: at
        least three neighbouring steps reversed; ``"several"``: every second one; ``"twin"``: all on one side. None if
        the band does not run along layers stacked in threes, or is too thick or too short.
    """
    if len(points) < 8:
        return None
    centre = points.mean(axis=0)
    vectors = np.linalg.eigh((points - centre).T @ (points - centre))[1]
    extent = np.ptp((points - centre) @ vectors, axis=0)
    # The ends of a broad band turn its principal axis.
    tolerance = max(ALONG_DEG, 0.25 * float(np.degrees(np.arctan2(extent[0], extent[1]))))
    layers = layers_along(basis, vectors[:, 1], tolerance)
    if layers is None:
        return None
    s, h = (points - centre) @ layers.along, (points - centre) @ layers.normal
    middle, slope, width = _midline(s, h, 3 * layers.repeat, step_px)
    if width > MOST_LAYERS * layers.spacing:
        return None
    half = 0.5 * MOST_PERIODS * layers.repeat
    places = np.arange(max(float(s.min()), -half), min(float(s.max()), half), 1.0)
    if len(places) < CHUNK_PERIODS * layers.repeat / 2:
        return None
    heights = np.arange(-1.0, 1.0, 2 / (_SAMPLES * (width / layers.spacing + 2 * SIDE_LAYERS)))
    h = heights[:, None] * (width / 2 + SIDE_LAYERS * layers.spacing) + middle + slope * places
    where = centre[:, None, None] + layers.normal[:, None, None] * h + layers.along[:, None, None] * places
    phases = _steps(prepared, where, places / layers.repeat, blocked, step_px)
    if not np.abs(phases).sum() > 0:
        return None
    return _compare(phases, layers, width / layers.spacing)


def _midline(
    s: NDArray[np.floating], h: NDArray[np.floating], chunk: float, step_px: float
) -> tuple[float, float, float]:
    """Straight line through the middle of a band (offset and slope), robustly, and its width."""
    number = ((s - s.min()) / chunk).astype(np.intp)
    count = np.bincount(number)
    filled = np.flatnonzero(count > 3)
    if len(filled) == 0:
        return float(np.median(h)), 0.0, float(np.ptp(h)) + step_px
    low, high = (np.asarray(side(h, number, filled)) for side in (ndimage.minimum, ndimage.maximum))
    place = (filled + 0.5) * chunk + s.min()
    width, middles = float(np.median(high - low)) + step_px, (low + high) / 2
    if len(middles) < 5:
        return float(np.median(middles)), 0.0, width
    design = np.stack([place, np.ones_like(place)], axis=1)
    weights = np.ones_like(place)
    for _ in range(8):
        slope, offset = np.linalg.lstsq(design * weights[:, None], middles * weights, rcond=None)[0]
        # Least absolute deviations: a branch or a blob on the band does not pull the line.
        weights = 1 / np.sqrt(np.maximum(np.abs(middles - slope * place - offset), 0.5))
    return float(offset), float(np.clip(slope, -MOST_SLOPE, MOST_SLOPE)), width


def _steps(
    prepared: Prepared,
    points: NDArray[np.float64],
    places: NDArray[np.float64],
    blocked: NDArray[np.bool_],
    step_px: float,
) -> NDArray[np.complex128]:
    """Lateral phase from each height to that one layer further, for `points` ``(2, heights, places)``."""
    chunk = max(8, round(CHUNK_PERIODS / (places[1] - places[0])))
    shape = np.array(prepared.values.shape)[:, None, None]
    free = ((points >= 1) & (points <= shape - 2)).all(axis=0)
    sample = np.rint((points + 0.5) / step_px - 0.5).astype(np.intp)
    free &= ~blocked[tuple(np.clip(sample, 0, np.array(blocked.shape)[:, None, None] - 1))]
    image = ndimage.map_coordinates(prepared.values, points, order=1, mode="nearest") * free
    count = max(1, 2 * len(places) // chunk - 1)
    total = np.zeros(points.shape[1] - _SAMPLES, np.complex128)
    for start in np.unique(np.linspace(0, max(0, len(places) - chunk), count).astype(np.intp)):
        part = slice(start, min(start + chunk, len(places)))
        window = np.hanning(part.stop - part.start + 2)[1:-1]
        wave = image[:, part] @ (window * np.exp(-2j * np.pi * places[part]))
        wave[free[:, part].mean(axis=1) < FREE_SHARE] = 0
        total += wave[_SAMPLES:] * np.conj(wave[:-_SAMPLES])
    return total


def _compare(phases: NDArray[np.complex128], layers: Layers, width: float) -> dict[str, float]:
    """Leads of all sequences; `width` in layers."""
    step = -2 * np.pi * layers.step / layers.repeat
    # A slip by a third of the period in the sense of the step itself: what was +1/3 becomes 2/3, that is -1/3.
    slip = np.copysign(2 * np.pi / 3, step)
    usual, turned = ((phases * np.exp(-1j * angle)).real for angle in (step, step + slip))
    count = len(phases)
    # Gain of reversing the steps from one height to another: differences of this.
    gain = np.concatenate([[0.0], np.cumsum(turned - usual)])

    def reverse(start: NDArray[np.intp], steps: int) -> NDArray[np.float64]:
        ends = (np.minimum(start + n * _SAMPLES, count) for n in (steps, 0))
        return np.subtract(*(gain[end] for end in ends))

    offset, thick = SIDE_LAYERS * _SAMPLES, int(width)
    starts = np.arange(max(offset - 2 * _SAMPLES, 0), min(offset + (thick + 1) * _SAMPLES, count))
    every_second = [
        sum(reverse(starts + 2 * i * _SAMPLES, 1) for i in range(n)) for n in range(2, thick // 2 + 3)
    ]
    explained = {
        "perfect": 0.0,
        "intrinsic": float(reverse(starts, 1).max()),
        "extrinsic": float(reverse(starts, 2).max()),
        "lamella": max(float(reverse(starts, n).max()) for n in range(3, thick + 4)),
        "several": max(float(np.max(several)) for several in every_second),
        "twin": float(max((gain[count] - gain[starts]).max(), gain[starts].max())),
    }
    one_layer = _GAIN * float(np.abs(phases).sum()) / count * _SAMPLES
    leads = {}
    for kind, value in explained.items():
        others = max(other for name, other in explained.items() if name != kind)
        leads[kind] = float(np.clip((value - others) / one_layer, -1, 1))
    return leads
