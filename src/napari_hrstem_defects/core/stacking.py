"""The stacking sequence of close-packed layers across a band, read layer by layer.

Seen along [110] the close-packed layers of cubic crystals lie edge-on, each displaced along the band by a third of
the period within the layer against the one below: ABC. A slip of the crystal by that third turns one step round. One
turned step is an intrinsic stacking fault, two neighbouring ones are an extrinsic one, m neighbouring ones a twin
lamella, every second one hexagonal stacking, all beyond a plane a twin (Hirth & Lothe, *Theory of Dislocations*,
2nd ed., 1982, chapter 10).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_hrstem_defects.core.lattice import Lattice
from napari_hrstem_defects.core.preprocessing import Prepared

#: A lattice is stacked in threes if the step between layers is this near to a third of the period; drift shears it.
STEP_TOLERANCE = 0.09
#: A band runs along a lattice vector if their directions differ by no more than this, in degrees.
ALONG_DEG = 6.0
#: Samples per layer across, and layers looked at on both sides.
SAMPLES = 8
SIDE_LAYERS = 5
#: Thickest band that is read, and most turned steps, in layers.
MOST_LAYERS = 24
#: Periods along the band over which the phase is taken, and the longest part of it that is looked at.
CHUNK_PERIODS = 6.0
MOST_PERIODS = 60.0
#: Share of a chunk that must be free of other defects.
FREE_SHARE = 0.7
#: The plane of a fault may be inclined against the lattice of the model patch by this much: drift.
MOST_SLOPE = 0.06
#: A lamella whose far side is hardly seen, less than this many layers, passes for a twin.
ENDLESS_LAYERS = 0.5
#: What is marked around turned steps is at most this many layers thicker than they are.
REACH_LAYERS = 5.0
#: What one step more or less explains: cos 0° − cos 120°.
_GAIN = 1.5

#: Turned steps → what it is called.
INTRINSIC, EXTRINSIC, LAMELLA, SEVERAL, TWIN, NONE = (
    "intrinsic",
    "extrinsic",
    "twin lamella",
    "several",
    "twin",
    "none",
)


@dataclass(frozen=True)
class Stacking:
    """How the layers across a band are stacked.

    Attributes
    ----------
    kind : str
        ``"intrinsic"``, ``"extrinsic"``, ``"twin lamella"``, ``"several"`` (every second step turned), ``"twin"``
        (one side is the other's twin) or ``"none"``.
    layers : int
        Number of turned steps; 0 for a twin.
    fit : float
        Share of the layers' steps that the sequence explains, -1 to 1.
    margin : float
        By how many layers it explains more than any sequence of another kind, at most 1.
    """

    kind: str
    layers: int
    fit: float
    margin: float


def read_stacking(
    prepared: Prepared,
    lattice: Lattice,
    points: NDArray[np.floating],
    blocked: NDArray[np.bool_],
    step_px: float,
) -> Stacking | None:
    """Read the stacking sequence across a band.

    Parameters
    ----------
    prepared : Prepared
    lattice : Lattice
        In pixels of the frame.
    points : float array (n, 2)
        The band, evenly sampled, in pixels of the prepared image.
    blocked : bool array (y', x')
        Where the crystal is spoilt by something else, on a grid of `step_px`.
    step_px : float
        Distance of the points and of the samples of `blocked`, in pixels of the prepared image.

    Returns
    -------
    Stacking or None
        None if the band does not run along layers stacked in threes, or is too thick.
    """
    basis = np.array([lattice.v1, lattice.v2]) * prepared.scale
    band = _band(points, basis, step_px)
    if band is None:
        return None
    steps = _steps(prepared, band, blocked, step_px)
    return None if steps is None else _best_sequence(steps, band)


def slip_of_layers(
    shift: NDArray[np.floating], normal: NDArray[np.floating], basis: NDArray[np.floating]
) -> int:
    """Number of slips, modulo 3, that displace one side of a wall by a third of a period along close-packed layers.

    Parameters
    ----------
    shift : float array (2,)
        Displacement ``(y, x)`` of the side that `normal` points to.
    normal : float array (2,)
        Across the wall.
    basis : float array (2, 2)
        Rows: lattice vectors ``(y, x)``, in the units of `shift`.

    Returns
    -------
    int
        1 (intrinsic), 2 (extrinsic) or 0: not along layers stacked in threes, or by something else.
    """
    v1, v2 = basis
    lattice = np.array([(i, j) for i in range(-2, 3) for j in range(-2, 3)]) @ basis
    for vector in (v1, v2, v1 + v2, v1 - v2):
        repeat = float(np.hypot(*vector))
        along = vector / repeat
        upward = np.array([along[1], -along[0]])
        # Upward is where `normal` points to.
        if normal @ upward < 0:
            along, upward = -along, -upward
        if abs(normal @ along) > np.sin(np.radians(4 * ALONG_DEG)) * np.hypot(*normal):
            continue
        lateral = _lateral(basis, along, upward, repeat)
        if abs(abs(lateral) / repeat - 1 / 3) > STEP_TOLERANCE:
            continue
        for slips in (1, 2):
            expected = slips * np.copysign(repeat / 3, lateral) * along
            if np.hypot(*(shift - expected - lattice).T).min() < repeat / 8:
                return slips
    return 0


def _lateral(
    basis: NDArray[np.floating], along: NDArray[np.floating], normal: NDArray[np.floating], repeat: float
) -> float:
    """Displacement along a layer of the next layer in the direction of `normal`, in ±repeat/2."""
    spacing = float(abs(np.linalg.det(basis))) / repeat
    up = np.array([(i, j) for i in range(-2, 3) for j in range(-2, 3)]) @ basis
    lateral = float(up[np.argmin(np.abs(up @ normal - spacing))] @ along)
    return lateral - repeat * round(lateral / repeat)


@dataclass(frozen=True, eq=False)
class _Band:
    centre: NDArray[np.float64]
    along: NDArray[np.float64]
    normal: NDArray[np.float64]
    repeat: float
    spacing: float
    lateral: float
    middle: float
    slope: float
    width: float
    ends: tuple[float, float]


def _band(points: NDArray[np.floating], basis: NDArray[np.float64], step_px: float) -> _Band | None:
    """Geometry of a band along a lattice vector, None if it is none or its layers are not stacked in threes."""
    if len(points) < 8:
        return None
    centre = points.mean(axis=0)
    _, vectors = np.linalg.eigh((points - centre).T @ (points - centre))
    axis = vectors[:, 1]
    extent = np.ptp((points - centre) @ vectors, axis=0)
    # The ends of a broad band turn its principal axis.
    tolerance = max(ALONG_DEG, 0.25 * float(np.degrees(np.arctan2(extent[0], extent[1]))))
    v1, v2 = basis
    angles = {
        i: float(np.degrees(np.arccos(min(1.0, abs(axis @ v) / np.hypot(*v)))))
        for i, v in enumerate((v1, v2, v1 + v2, v1 - v2))
    }
    nearest = min(angles, key=lambda i: angles[i])
    if angles[nearest] > tolerance:
        return None
    vector = (v1, v2, v1 + v2, v1 - v2)[nearest]
    repeat = float(np.hypot(*vector))
    along = vector / repeat * (1.0 if vector @ axis >= 0 else -1.0)
    normal = np.array([along[1], -along[0]])
    spacing = float(abs(np.linalg.det(basis))) / repeat
    lateral = _lateral(basis, along, normal, repeat)
    if abs(abs(lateral) / repeat - 1 / 3) > STEP_TOLERANCE:
        return None
    s, h = (points - centre) @ along, (points - centre) @ normal
    middle, slope, width = _midline(s, h, 3 * repeat, step_px)
    if width > MOST_LAYERS * spacing:
        return None
    half = 0.5 * MOST_PERIODS * repeat
    return _Band(
        centre,
        along,
        normal,
        repeat,
        spacing,
        lateral,
        middle,
        slope,
        width,
        (max(float(s.min()), -half), min(float(s.max()), half)),
    )


def _midline(
    s: NDArray[np.floating], h: NDArray[np.floating], chunk: float, step_px: float
) -> tuple[float, float, float]:
    """Straight line through the middle of a band (offset and slope), robustly, and its width."""
    number = ((s - s.min()) / chunk).astype(np.intp)
    low = ndimage.minimum(h, number, np.arange(number.max() + 1))
    high = ndimage.maximum(h, number, np.arange(number.max() + 1))
    filled = np.bincount(number) > 3
    low, high = low[filled], high[filled]
    place = (np.flatnonzero(filled) + 0.5) * chunk + s.min()
    if len(low) == 0:
        return float(np.median(h)), 0.0, float(np.ptp(h)) + step_px
    width = float(np.median(high - low)) + step_px
    middles = (low + high) / 2
    if len(middles) < 5:
        return float(np.median(middles)), 0.0, width
    design = np.stack([place, np.ones_like(place)], axis=1)
    weights = np.ones_like(place)
    slope, offset = 0.0, 0.0
    for _ in range(8):
        slope, offset = np.linalg.lstsq(design * weights[:, None], middles * weights, rcond=None)[0]
        # Least absolute deviations: a branch or a blob on the band does not pull the line.
        weights = 1 / np.sqrt(np.maximum(np.abs(middles - slope * place - offset), 0.5))
    return float(offset), float(np.clip(slope, -MOST_SLOPE, MOST_SLOPE)), width


def _steps(
    prepared: Prepared, band: _Band, blocked: NDArray[np.bool_], step_px: float
) -> NDArray[np.complex128] | None:
    """Lateral phase from each height to that one layer further, `SAMPLES` heights a layer; None if all is blocked."""
    half = band.width / 2 + SIDE_LAYERS * band.spacing
    heights = np.arange(-half, half, band.spacing / SAMPLES)
    places = np.arange(band.ends[0], band.ends[1], 1.0)
    chunk = max(8, round(CHUNK_PERIODS * band.repeat))
    if len(places) < chunk // 2:
        return None
    h = heights[:, None] + band.middle + band.slope * places
    points = band.centre[:, None, None] + band.normal[:, None, None] * h + band.along[:, None, None] * places
    shape = np.array(prepared.values.shape)[:, None, None]
    free = ((points >= 1) & (points <= shape - 2)).all(axis=0)
    sample = np.rint((points + 0.5) / step_px - 0.5).astype(np.intp)
    sample = np.clip(sample, 0, np.array(blocked.shape)[:, None, None] - 1)
    free &= ~blocked[tuple(sample)]
    image = ndimage.map_coordinates(prepared.values, points, order=1, mode="nearest") * free
    starts = np.unique(
        np.linspace(0, max(0, len(places) - chunk), max(1, 2 * len(places) // chunk - 1)).astype(np.intp)
    )
    total = np.zeros(len(heights) - SAMPLES, np.complex128)
    for start in starts:
        part = slice(start, min(start + chunk, len(places)))
        window = np.hanning(part.stop - part.start + 2)[1:-1]
        wave = image[:, part] @ (window * np.exp(-2j * np.pi * places[part] / band.repeat))
        wave[free[:, part].mean(axis=1) < FREE_SHARE] = 0
        total += wave[SAMPLES:] * np.conj(wave[:-SAMPLES])
    if not np.abs(total).sum() > 0:
        return None
    return total


def _best_sequence(steps: NDArray[np.complex128], band: _Band) -> Stacking | None:
    """The sequence of turned and unturned steps that explains the phases best; None if the band is too thick for it."""
    step = -2 * np.pi * band.lateral / band.repeat
    # A slip by a third of the period in the sense of the step itself: what was +1/3 becomes 2/3, that is -1/3.
    slip = np.copysign(2 * np.pi / 3, step)
    usual = (steps * np.exp(-1j * step)).real
    turned = (steps * np.exp(-1j * (step + slip))).real
    total = float(np.abs(steps).sum())
    # Gain of turning the steps from one height to another: differences of this.
    gain = np.concatenate([[0.0], np.cumsum(turned - usual)])
    count = len(steps)
    one_layer = _GAIN * total / count * SAMPLES
    base = float(usual.sum())

    def turn(start: NDArray[np.intp], layers: int) -> NDArray[np.float64]:
        return np.asarray(
            gain[np.minimum(start + layers * SAMPLES, count)] - gain[np.minimum(start, count)], np.float64
        )

    offset = SIDE_LAYERS * SAMPLES
    thick = int(band.width / band.spacing)
    starts = np.arange(max(offset - 2 * SAMPLES, 0), min(offset + (thick + 1) * SAMPLES, count))
    found = {(NONE, 0): base}
    found[INTRINSIC, 1] = base + float(turn(starts, 1).max())
    found[EXTRINSIC, 2] = base + float(turn(starts, 2).max())
    for layers in range(3, thick + 4):
        found[LAMELLA, layers] = base + float(turn(starts, layers).max())
    for layers in range(2, thick // 2 + 3):
        every_second = sum(turn(starts + 2 * i * SAMPLES, 1) for i in range(layers))
        found[SEVERAL, layers] = base + float(np.max(every_second))
    found[TWIN, 0] = base + float(max((gain[count] - gain[starts]).max(), gain[starts].max()))
    kind, layers = max(found, key=lambda key: found[key])
    if kind == LAMELLA and found[TWIN, 0] > found[kind, layers] - ENDLESS_LAYERS * one_layer:
        kind, layers = TWIN, 0
    thickness = {INTRINSIC: 1, EXTRINSIC: 2, LAMELLA: layers, SEVERAL: 2 * layers - 1}
    if band.width > (thickness.get(kind, thick) + REACH_LAYERS) * band.spacing:
        return None
    best = found[kind, layers]
    second = max(
        value for key, value in found.items() if key[0] != kind and {key[0], kind} != {LAMELLA, TWIN}
    )
    return Stacking(kind, layers, best / total, min((best - second) / one_layer, 1.0))
