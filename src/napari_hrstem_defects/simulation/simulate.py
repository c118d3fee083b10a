"""Make one micrograph: draw parameters, build the specimen, image it, write down the truth."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.ndimage import uniform_filter

from napari_hrstem_defects.core.micrograph import Micrograph
from napari_hrstem_defects.simulation import areas, planar, points
from napari_hrstem_defects.simulation.crystals import Array, SimulationError, project
from napari_hrstem_defects.simulation.detector import counted, digitised, scan_jitter
from napari_hrstem_defects.simulation.optics import (
    EXPONENTS,
    Image,
    filtered,
    frequencies,
    phase_transfer,
    probe_transfer,
    spline_correction,
    splat,
)
from napari_hrstem_defects.simulation.presets import PRESETS, Parameters, draw, stream
from napari_hrstem_defects.simulation.regions import Region
from napari_hrstem_defects.simulation.specimen import Columns, Grain, Specimen

Mask = NDArray[np.bool_]

#: Defect name → function that builds it into a specimen.
BUILDERS: dict[str, Callable[[Specimen, np.random.Generator], None]] = {
    "intrinsic stacking fault": partial(planar.stacking_fault, kind="intrinsic stacking fault"),
    "extrinsic stacking fault": partial(planar.stacking_fault, kind="extrinsic stacking fault"),
    "finite stacking fault": partial(planar.stacking_fault, kind="intrinsic stacking fault", finite=True),
    "stacking fault lamella": partial(planar.stacking_fault, kind="stacking fault lamella"),
    "twin lamella": partial(planar.stacking_fault, kind="twin lamella"),
    "twin": planar.twin,
    "grain boundary": planar.grain_boundary,
    "inversion domain": planar.inversion_domain,
    "antiphase boundary": planar.antiphase_boundary,
    "film": planar.film,
    "dislocation": points.dislocations,
    "vacancy": points.vacancies,
    "interstitial": points.interstitials,
    "substitution": points.substitutions,
    "amorphous": areas.amorphous,
    "beam damage": areas.beam_damage,
    "vacuum": areas.vacuum,
}
#: Pixels within this share of a period of a border of the truth are not scored.
BORDER_PERIODS = 0.35
#: Columns this far outside the image in nm still reach into it (probe tails, displacements).
_MARGIN_NM = 0.6


@dataclass(frozen=True, eq=False)
class Defect:
    """One defect of the truth.

    Attributes
    ----------
    kind : str
        E.g. ``"intrinsic stacking fault"``, ``"second grain"``, ``"amorphous"``.
    label : int
        1 symmetry defect, 2 amorphous, blurred, damaged or vacuum, 0 no defect (a second phase, its interface).
    shape : (int, int)
        Shape of the image.
    origin : (int, int)
        Where `crop` begins, ``(y, x)`` in px.
    crop : bool array
        The defect's mask within its bounding box.
    displacement_nm : (float, float) or None
        Displacement ``(y, x)`` of the crystal across the fault, or Burgers vector; projected.
    geometry : dict
        Shape and numbers in nm, origin in the middle of the image, before drift.
    details : dict
        What else is known (angle, occupancy, ...).
    """

    kind: str
    label: int
    shape: tuple[int, int]
    origin: tuple[int, int]
    crop: Mask
    displacement_nm: tuple[float, float] | None
    geometry: dict[str, Any]
    details: dict[str, Any]

    @property
    def mask(self) -> Mask:
        """Mask of the image's shape."""
        full = np.zeros(self.shape, bool)
        y, x = self.origin
        full[y : y + self.crop.shape[0], x : x + self.crop.shape[1]] = self.crop
        return full


@dataclass(frozen=True, eq=False)
class SimulatedMicrograph:
    """A simulated micrograph and all that is true about it.

    Attributes
    ----------
    micrograph : Micrograph
        The image.
    labels : uint8 array (y, x)
        0 crystal, 1 symmetry defect, 2 amorphous, blurred, damaged or vacuum.
    domains : uint8 array (y, x)
        Which grain or phase each pixel belongs to; 0 is the reference. Where two grains are about equally large either
        may be called the reference: score both ways.
    ignore : bool array (y, x)
        Where a fair judge does not score: borders of the truth, the interface of a coherent film.
    defects : tuple of Defect
        Every defect with its own mask.
    period_px : float
        Lattice period of the reference crystal (square root of the projected cell's area) in pixels.
    description : dict
        Everything needed to make it again, JSON-able: ``simulate(**description["call"])``.
    """

    micrograph: Micrograph
    labels: NDArray[np.uint8]
    domains: NDArray[np.uint8]
    ignore: Mask
    defects: tuple[Defect, ...]
    period_px: float
    description: dict[str, Any]


def simulate(preset: str = "si_demo", seed: int = 0, *, name: str | None = None, **overrides: Any) -> SimulatedMicrograph:
    """Simulate one micrograph.

    Parameters
    ----------
    preset : str
        Key of ``PRESETS``.
    seed : int
        Everything that the preset leaves open is drawn from it; the same seed gives the same micrograph.
    name : str, optional
        Name of the micrograph.
    **overrides
        Any field of ``Parameters`` (shape, dose, pixel_size_nm, material, zone_axis, defects, mode, bits, ...), or
        px_per_period; replaces the draw.

    Raises
    ------
    SimulationError
        If the preset or a parameter is unknown, or the defect cannot be in that crystal.
    """
    if preset not in PRESETS:
        raise SimulationError(f"There is no preset {preset!r}; there are {', '.join(PRESETS)}.")
    parameters = draw(preset, PRESETS[preset], seed, overrides)
    specimen = build(parameters, seed)
    image = expose(specimen, parameters, seed)
    labels, domains, ignore, defects = _truth(specimen, parameters)
    name = name or f"{preset}-{seed}"
    description = {
        "call": {"preset": preset, "seed": seed, "name": name, **_plain(overrides)},
        "parameters": _plain(dataclasses.asdict(parameters)),
        "defects": [
            {"kind": d.kind, "label": d.label, "geometry": _plain(d.geometry), "details": _plain(d.details)}
            for d in defects
        ],
    }
    micrograph = Micrograph(image, parameters.pixel_size_nm, name, {"simulation": description})
    return SimulatedMicrograph(
        micrograph, labels, domains, ignore, defects, specimen.period / parameters.pixel_size_nm, description
    )


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list | np.ndarray):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value


def build(parameters: Parameters, seed: int) -> Specimen:
    """Specimen with its defects; their places are drawn from the seed."""
    turn = np.deg2rad(parameters.rotation_deg)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    crystal = project(parameters.material, parameters.zone_axis)
    origin = stream(seed, "origin").uniform(0, 1, 2) @ crystal.cell
    half = tuple(n * parameters.pixel_size_nm / 2 for n in parameters.shape)
    specimen = Specimen(Grain(crystal, rotation, origin), (half[0], half[1]), EXPONENTS[parameters.mode])
    for index, defect in enumerate(parameters.defects):
        if defect not in BUILDERS:
            raise SimulationError(f"There is no defect {defect!r}; there are {', '.join(BUILDERS)}.")
        BUILDERS[defect](specimen, stream(seed, "defect", index, defect))
    return specimen


def _scan(parameters: Parameters) -> Array:
    """Matrix from pixels (about the middle) to nm on the specimen: pixel size and drift during the scan."""
    dy, dx = parameters.drift
    return parameters.pixel_size_nm * np.array([[1.0 + dy, 0.0], [dx, 1.0]])


def _coordinates(parameters: Parameters, shape: tuple[int, int]) -> tuple[Image, Image]:
    """Place ``(y, x)`` on the specimen in nm of every pixel of a frame of `shape` about the image's middle."""
    matrix = _scan(parameters)
    v = (np.arange(shape[0], dtype=np.float32) - (shape[0] - 1) / 2).astype(np.float32)[:, None]
    u = (np.arange(shape[1], dtype=np.float32) - (shape[1] - 1) / 2).astype(np.float32)[None, :]
    y = np.broadcast_to(np.float32(matrix[0, 0]) * v, shape)
    x = np.float32(matrix[1, 0]) * v + np.float32(matrix[1, 1]) * u
    return y, x


def _slow(rng: np.random.Generator, y: Any, x: Any, size: float, amplitude: float) -> Any:
    """Smooth random function within ±amplitude: a few long waves."""
    total = 0.0
    for _ in range(3):
        angle, number, phase = rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 2.5) / size, rng.uniform(0, 2 * np.pi)
        total = total + np.cos(number * (np.sin(angle) * y + np.cos(angle) * x) + phase)
    return np.asarray(total, np.float32) * np.float32(amplitude / 3)


def expose(specimen: Specimen, parameters: Parameters, seed: int) -> NDArray[Any]:
    """Image of the specimen, as stored."""
    p = parameters
    size = min(specimen.half_size)
    margin_px = int(np.ceil(_MARGIN_NM / p.pixel_size_nm))
    margin_px = min(margin_px, 64)
    shape = tuple(int(fft.next_fast_len(n + 2 * margin_px, real=True)) for n in p.shape)
    shape = tuple(n + (n - m) % 2 for n, m in zip(shape, p.shape, strict=True))
    frame = (shape[0], shape[1])

    drift_reach = max(abs(d) for d in p.drift) * max(specimen.half_size)
    columns = specimen.columns((margin_px + 4) * p.pixel_size_nm + drift_reach + 1.0)
    bend_rng = stream(seed, "bending")
    bend = partial(_bent, seed=int(bend_rng.integers(2**31)), size=size, amount=p.bending)
    y, x = _coordinates(p, frame)
    lattice, thickness, speckle = _area_maps(specimen, y, x)
    lattice = lattice * bend(y, x)

    pixels = columns.points @ np.linalg.inv(_scan(p)).T + (np.array(frame) - 1) / 2
    weights = columns.weights * _at(specimen, columns, bend)
    # Signal per pixel of a perfect crystal is 1 on average.
    unit = specimen.density * abs(np.linalg.det(_scan(p)))
    density = splat(pixels, weights / unit, frame)
    rng = stream(seed, "atoms")
    faded = 1 - lattice
    if specimen.areas:
        grains = stream(seed, "speckle").standard_normal(frame, dtype=np.float32)
        blur_px = p.probe_nm / p.pixel_size_nm
        # White noise scaled so that its standard deviation after the blur is about `speckle`.
        density += faded * (1 + speckle * grains * np.float32(max(1.5 * blur_px, 1.0)))
    else:
        density += faded

    qy, qx = frequencies(frame, p.pixel_size_nm)
    cy, cx = spline_correction(frame)
    if p.mode == "hrtem":
        transfer = phase_transfer(qy, qx, p.probe_nm, p.defocus_nm, p.cs_mm, p.voltage_kv)
    else:
        transfer = probe_transfer(qy, qx, p.probe_nm, p.astigmatism, float(rng.uniform(0, np.pi)))
    signal = filtered(density, transfer * cy * cx)
    image = _contrast(signal, specimen, p, transfer_of=partial(_transfer_at, p))
    relief = 1 + _slow(stream(seed, "haze"), y, x, size, p.haze)
    angle = float(rng.uniform(0, 2 * np.pi))
    wedge = 1 + np.float32(p.wedge / size) * (np.float32(np.sin(angle)) * y + np.float32(np.cos(angle)) * x)
    image = image * np.maximum(wedge, 0.2) * relief
    if specimen.areas and p.mode == "haadf":
        image = image * thickness
    if p.jitter_px > 0:
        image = scan_jitter(np.asarray(image, np.float32), stream(seed, "jitter"), p.jitter_px)
    y0, x0 = ((n - m) // 2 for n, m in zip(frame, p.shape, strict=True))
    image = image[y0 : y0 + p.shape[0], x0 : x0 + p.shape[1]]
    return digitised(counted(image, stream(seed, "counts"), p.dose, p.readout), p.bits)


def _bent(y: Any, x: Any, seed: int, size: float, amount: float) -> Any:
    """Share of lattice contrast left by bending, 1 − amount to 1."""
    if amount == 0:
        return np.float32(1.0)
    return np.float32(1 - amount / 2) + _slow(np.random.default_rng(seed), y, x, size, amount / 2)


def _at(specimen: Specimen, columns: Columns, bend: Any) -> Array:
    """Share of its signal that each column keeps on the lattice."""
    y, x = columns.points.T
    lattice = np.asarray(bend(y, x), float)
    for area in specimen.areas:
        lattice = lattice * (area.lattice + (1 - area.lattice) * _outside(area.region, y, x, area.softness))
    return lattice


def _outside(region: Region, y: Any, x: Any, softness: float) -> Any:
    """1 outside a region, 0 inside, with a smooth border `softness` wide."""
    return 0.5 * (1 + np.tanh(region.distance(y, x) * (2 / softness)))


def _area_maps(specimen: Specimen, y: Image, x: Image) -> tuple[Any, Any, Any]:
    lattice, thickness, speckle = np.float32(1.0), np.float32(1.0), np.float32(0.0)
    for area in specimen.areas:
        out = _outside(area.region, y, x, area.softness)
        lattice = lattice * (np.float32(area.lattice) + np.float32(1 - area.lattice) * out)
        thickness = thickness * (np.float32(area.thickness) + np.float32(1 - area.thickness) * out)
        speckle = np.maximum(speckle, np.float32(area.speckle) * (1 - out))
    return lattice, thickness, speckle


def _transfer_at(p: Parameters, qy: Array, qx: Array) -> Array:
    if p.mode == "hrtem":
        return np.asarray(phase_transfer(qy, qx, p.probe_nm, p.defocus_nm, p.cs_mm, p.voltage_kv))
    return np.asarray(probe_transfer(qy, qx, p.probe_nm))


def _contrast(signal: Image, specimen: Specimen, p: Parameters, transfer_of: Any) -> Image:
    """Relative intensity, about 1 on average, of the filtered signal."""
    if p.mode == "haadf":
        return np.asarray(np.float32(1 - p.background) * signal + np.float32(p.background), np.float32)
    from napari_hrstem_defects.simulation.visibility import structure_factors

    q, amplitude = structure_factors(specimen.base.crystal, specimen.exponent)
    spread = float(np.sqrt(np.sum((amplitude * transfer_of(q[:, 0], q[:, 1])) ** 2)))
    factor = np.float32(p.contrast / max(spread, 1e-6))
    if p.mode == "bf":
        return np.asarray(np.maximum(1 - factor * (signal - 1), 0.02), np.float32)
    return np.asarray(np.maximum(1 + factor * signal, 0.02), np.float32)


def _truth(
    specimen: Specimen, parameters: Parameters
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], Mask, tuple[Defect, ...]]:
    shape = parameters.shape
    y, x = _coordinates(parameters, shape)
    defects = []
    labels = np.zeros(shape, np.uint8)
    for finding in specimen.findings:
        window = _window(finding.region, parameters)
        if window is None:
            continue
        crop = np.asarray(finding.region.distance(y[window], x[window]) <= 0)
        if not crop.any():
            continue
        view = labels[window]
        np.maximum(view, np.uint8(finding.label) * crop, out=view)
        origin = (int(window[0].start), int(window[1].start))
        defects.append(
            Defect(
                finding.kind,
                finding.label,
                shape,
                origin,
                crop,
                finding.displacement,
                finding.region.to_dict(),
                finding.details,
            )
        )
    domains = np.zeros(shape, np.uint8)
    for index, (_, region) in enumerate(specimen.grains):
        if region is not None:
            domains[region.distance(y, x) <= 0] = index
    border = 2 * round(BORDER_PERIODS * specimen.period / parameters.pixel_size_nm) + 1
    smooth = uniform_filter(labels.astype(np.float32) ** 2, border, mode="nearest")
    ignore = np.abs(smooth - labels.astype(np.float32) ** 2) > 1e-3
    for region in specimen.interfaces:
        ignore |= region.distance(y, x) <= 0
    return labels, domains, ignore, tuple(defects)


def _window(region: Region, parameters: Parameters) -> tuple[slice, slice] | None:
    """Pixels within a region's bounding box; None if it lies outside the image."""
    box = region.bounds()
    shape = parameters.shape
    if box is None:
        return slice(0, shape[0]), slice(0, shape[1])
    corners = np.array([(cy, cx) for cy in (box[0], box[2]) for cx in (box[1], box[3])])
    pixels = corners @ np.linalg.inv(_scan(parameters)).T + (np.array(shape) - 1) / 2
    low = np.clip(np.floor(pixels.min(axis=0)).astype(int), 0, shape)
    high = np.clip(np.ceil(pixels.max(axis=0)).astype(int) + 1, 0, shape)
    if np.any(high <= low):
        return None
    return slice(int(low[0]), int(high[0])), slice(int(low[1]), int(high[1]))
