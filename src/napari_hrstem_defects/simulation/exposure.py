"""The image of a specimen: columns, faded areas, thickness, scan and counting noise."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from napari_hrstem_defects.simulation.crystals import Array
from napari_hrstem_defects.simulation.detector import counted, digitised, scan_jitter
from napari_hrstem_defects.simulation.optics import (
    Image,
    filtered,
    frequencies,
    phase_transfer,
    probe_transfer,
    splat,
    spline_correction,
)
from napari_hrstem_defects.simulation.parameters import Parameters
from napari_hrstem_defects.simulation.presets import stream
from napari_hrstem_defects.simulation.specimen import Columns, Specimen
from napari_hrstem_defects.simulation.visibility import structure_factors

#: Columns this far outside the image in nm still reach into it (probe tails, displacements).
_MARGIN_NM = 0.6
# ... and no more pixels than these, however small they are.
_MOST_MARGIN_PX = 64
#: How much brighter vacuum is than the specimen, in bright field and HRTEM.
_TRANSMITTED = 0.3


def expose(specimen: Specimen, parameters: Parameters, seed: int, index: int = 0) -> NDArray[Any]:
    """Image of the specimen, as stored; `index` is that of a frame in a series (other noise)."""
    p = parameters
    size = specimen.size
    margin_px = min(int(np.ceil(_MARGIN_NM / p.pixel_size_nm)), _MOST_MARGIN_PX)
    sides = [int(fft.next_fast_len(n + 2 * margin_px, real=True)) for n in p.shape]
    # As many pixels more on either side.
    height, width = (n + (n - m) % 2 for n, m in zip(sides, p.shape, strict=True))
    frame = (height, width)

    drift_reach = max(abs(d) for d in p.drift) * max(specimen.half_size) + max(abs(o) for o in p.offset_nm)
    columns = specimen.columns((margin_px + 4) * p.pixel_size_nm + drift_reach + 1.0)
    bend_rng = stream(seed, "bending")
    bend = partial(_bent, seed=int(bend_rng.integers(2**31)), size=size, amount=p.bending)
    y, x = p.coordinates(frame)
    lattice, thickness, speckle = _area_maps(specimen, y, x)
    lattice = lattice * bend(y, x)

    pixels = p.pixels_of(columns.points, frame)
    weights = columns.weights * _at(specimen, columns, bend)
    # Signal per pixel of a perfect crystal is 1 on average.
    unit = specimen.density * abs(np.linalg.det(p.scan_matrix))
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
    veil = 1 + _slow(stream(seed, "veil"), y, x, size, 2 * p.haze)
    image = _contrast(signal, specimen, p, veil, transfer_of=partial(_transfer_at, p))
    relief = 1 + _slow(stream(seed, "haze"), y, x, size, p.haze)
    angle = float(rng.uniform(0, 2 * np.pi))
    wedge = 1 + np.float32(p.wedge / size) * (np.float32(np.sin(angle)) * y + np.float32(np.cos(angle)) * x)
    image = image * np.maximum(wedge, 0.2) * relief
    if specimen.areas:
        # Thinner is darker in HAADF and brighter where the transmitted beam is recorded.
        image = image * (thickness if p.mode == "haadf" else 1 + np.float32(_TRANSMITTED) * (1 - thickness))
    if p.jitter_px > 0:
        image = scan_jitter(np.asarray(image, np.float32), stream(seed, "jitter", index), p.jitter_px)
    y0, x0 = ((n - m) // 2 for n, m in zip(frame, p.shape, strict=True))
    image = image[y0 : y0 + p.shape[0], x0 : x0 + p.shape[1]]
    return digitised(counted(image, stream(seed, "counts", index), p.dose, p.readout), p.bits)


def _slow(rng: np.random.Generator, y: Any, x: Any, size: float, amplitude: float) -> Any:
    """Smooth random function within ±amplitude: a few long waves."""
    total = 0.0
    for _ in range(3):
        angle, number, phase = (
            rng.uniform(0, 2 * np.pi),
            rng.uniform(0.5, 2.5) / size,
            rng.uniform(0, 2 * np.pi),
        )
        total = total + np.cos(number * (np.sin(angle) * y + np.cos(angle) * x) + phase)
    return np.asarray(total, np.float32) * np.float32(amplitude / 3)


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
        lattice = lattice * _fading(area.lattice, area.outside(y, x))
    return lattice


def _fading(inside: float, outside: Any) -> Any:
    """1 outside an area and `inside` within, from its map :meth:`.Area.outside`."""
    return inside + (1 - inside) * outside


def _area_maps(specimen: Specimen, y: Image, x: Image) -> tuple[Any, Any, Any]:
    lattice, thickness, speckle = np.float32(1.0), np.float32(1.0), np.float32(0.0)
    for area in specimen.areas:
        out = area.outside(y, x)
        lattice = lattice * _fading(area.lattice, out)
        thickness = thickness * _fading(area.thickness, out)
        speckle = np.maximum(speckle, np.float32(area.speckle) * (1 - out))
    return lattice, thickness, speckle


def _transfer_at(p: Parameters, qy: Array, qx: Array) -> Array:
    if p.mode == "hrtem":
        return np.asarray(phase_transfer(qy, qx, p.probe_nm, p.defocus_nm, p.cs_mm, p.voltage_kv))
    return np.asarray(probe_transfer(qy, qx, p.probe_nm))


def _contrast(signal: Image, specimen: Specimen, p: Parameters, veil: Any, transfer_of: Any) -> Image:
    """Relative intensity, about 1 on average, of the filtered signal."""
    if p.mode == "haadf":
        return np.asarray(np.float32(1 - p.background) * signal + np.float32(p.background) * veil, np.float32)
    q, factor = structure_factors(specimen.base.crystal, specimen.exponent)
    spread = float(np.sqrt(np.sum((np.abs(factor) * transfer_of(q[:, 0], q[:, 1])) ** 2)))
    gain = np.float32(p.contrast / max(spread, 1e-6))
    if p.mode == "bf":
        return np.asarray(np.maximum(1 - gain * (signal - 1), 0.02), np.float32)
    return np.asarray(np.maximum(1 + gain * signal, 0.02), np.float32)
