"""The image of a specimen: columns, faded areas, thickness; scan distortions, counting noise, digitisation."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.signal import lfilter

from napari_hrstem_defects.simulation.crystals import Array
from napari_hrstem_defects.simulation.optics import (
    Image,
    filtered,
    frequencies,
    phase_transfer,
    probe_transfer,
    splat,
    spline_correction,
    structure_factors,
)
from napari_hrstem_defects.simulation.parameters import Parameters
from napari_hrstem_defects.simulation.presets import stream
from napari_hrstem_defects.simulation.specimen import Columns, Specimen

#: Columns this far outside the image in nm still reach into it (probe tails, displacements).
_MARGIN_NM = 0.6
# ... and no more pixels than these, however small they are.
_MOST_MARGIN_PX = 64
#: How much brighter vacuum is than the specimen, in bright field and HRTEM.
_TRANSMITTED = 0.3
#: Expected counts are rounded to this step, so that the last bits of the arithmetic, which differ between processors,
#: do not change the draw.
_COUNT_STEP = 2.0**-8
#: Correlation of the scan jitter from line to line.
_JITTER_MEMORY = 0.6


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
    stretch = (0.0, 0.0) if p.mode == "hrtem" else (p.astigmatism, float(rng.uniform(0, np.pi)))
    signal = filtered(density, _transfer(p, qy, qx, *stretch) * cy * cx)
    veil = 1 + _slow(stream(seed, "veil"), y, x, size, 2 * p.haze)
    image = _contrast(signal, specimen, p, veil)
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


def _transfer(p: Parameters, qy: Any, qx: Any, astigmatism: float = 0.0, angle: float = 0.0) -> Any:
    if p.mode == "hrtem":
        return phase_transfer(qy, qx, p.probe_nm, p.defocus_nm, p.cs_mm, p.voltage_kv)
    return probe_transfer(qy, qx, p.probe_nm, astigmatism, angle)


def _contrast(signal: Image, specimen: Specimen, p: Parameters, veil: Any) -> Image:
    """Relative intensity, about 1 on average, of the filtered signal."""
    if p.mode == "haadf":
        return np.asarray(np.float32(1 - p.background) * signal + np.float32(p.background) * veil, np.float32)
    q, factor = structure_factors(specimen.base.crystal, specimen.exponent)
    spread = float(np.sqrt(np.sum((np.abs(factor) * _transfer(p, q[:, 0], q[:, 1])) ** 2)))
    gain = np.float32(p.contrast / max(spread, 1e-6))
    if p.mode == "bf":
        return np.asarray(np.maximum(1 - gain * (signal - 1), 0.02), np.float32)
    return np.asarray(np.maximum(1 + gain * signal, 0.02), np.float32)


def scan_jitter(image: Image, rng: np.random.Generator, rms_px: float) -> Image:
    """Shift every scan line by a small random amount along x (all of `rms_px`) and y (a third of it).

    Parameters
    ----------
    image : float32 array (y, x)
        Noise-free image, with a few pixels to spare at the rim.
    rms_px : float
        Root mean square of the shifts along x in pixels; lines are correlated with their neighbours.
    """
    rows = image.shape[0]
    white = rng.standard_normal((rows, 2))
    shifts = lfilter([np.sqrt(1 - _JITTER_MEMORY**2)], [1, -_JITTER_MEMORY], white, axis=0)
    shifts *= (rms_px / 3, rms_px)
    y = np.clip(np.arange(rows) + shifts[:, 0], 0, rows - 1)
    low = np.minimum(np.floor(y).astype(int), rows - 2)
    fraction = (y - low).astype(np.float32)[:, None]
    moved = image[low] * (1 - fraction) + image[low + 1] * fraction
    q = fft.rfftfreq(image.shape[1]).astype(np.float32)
    phase = np.exp(np.complex64(-2j * np.pi) * shifts[:, 1, None].astype(np.float32) * q)
    return np.asarray(fft.irfft(fft.rfft(moved, axis=1) * phase, n=image.shape[1], axis=1), np.float32)


def counted(image: Image, rng: np.random.Generator, dose: float, readout: float = 0.0) -> NDArray[np.float64]:
    """Poisson counts of an image whose mean of 1 stands for `dose` electrons per pixel.

    Parameters
    ----------
    image : float32 array (y, x)
        Relative intensity; negative values count as none.
    dose : float
        Detected electrons per pixel at intensity 1.
    readout : float
        Standard deviation of the electronic noise in electrons.
    """
    expected = np.round(np.maximum(image, 0).astype(np.float64) * (dose / _COUNT_STEP)) * _COUNT_STEP
    counts = rng.poisson(expected).astype(np.float64)
    if readout > 0:
        counts += readout * rng.standard_normal(counts.shape)
    return counts


def digitised(counts: NDArray[np.float64], bits: int) -> NDArray[Any]:
    """Counts as they are stored.

    Parameters
    ----------
    bits : {8, 16, 32}
        8: stretched between the 0.05 and 99.95 percentiles, as exported pictures are; 16: unsigned, with a gain that
        uses the range and an offset; 32: the counts themselves, float32.
    """
    if bits == 32:
        return counts.astype(np.float32)
    if bits == 16:
        offset = max(0.0, -float(counts.min()))
        gain = min(40.0, 60000.0 / max(float(counts.max()) + offset, 1.0))
        return np.round((counts + offset) * gain + 500.0).clip(0, 65535).astype(np.uint16)
    sample = counts[::2, ::2]
    low, high = np.percentile(sample, [0.05, 99.95])
    high = max(high, low + 1.0)
    return np.asarray(np.round((counts - low) * (255.0 / (high - low))).clip(0, 255), np.uint8)
