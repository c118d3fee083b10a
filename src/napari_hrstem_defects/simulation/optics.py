"""Linear image formation: atomic columns, sampled, times the transfer function of the microscope.

HAADF: intensities add, an atom gives Z^1.7 (Hartel, Rose & Dinges, Ultramicroscopy 63 (1996) 93), blurred by the
probe. Bright field and HRTEM: weak-phase object, contrast = projected potential (about Z^0.8 an atom) times the
contrast transfer function with its envelopes (Kirkland, *Advanced Computing in Electron Microscopy*, ch. 3).

And how much of a lattice is seen through it, so that simulated images are such that a trained person finds the lattice.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft

from napari_hrstem_defects.simulation.crystals import Array, Projection, lattice_vectors

Image = NDArray[np.float32]

#: Signal of an atom is Z to this power, by imaging mode.
EXPONENTS = {"haadf": 1.7, "bf": 0.8, "hrtem": 0.8}
#: Full width at half maximum of a Gaussian over its standard deviation.
FWHM_PER_SIGMA = 2.3548
#: Share of the probe's intensity in its tails, and their width relative to the core.
TAIL_SHARE, TAIL_WIDTH = 0.15, 2.5
#: Smearing of a column by its atoms' size and thermal vibration, standard deviation in nm.
COLUMN_SIGMA_NM = 0.018
#: Reflections below this share of the strongest are no lattice planes one would see.
_STRONG = 0.15
_TYPICAL_PROBE_NM = 0.09
#: Points per lattice vector that are tried as centres of inversion.
_CENTRES = 24


def splat(points_px: Array, weights: Array, shape: tuple[int, int]) -> Image:
    """Sample point columns on the pixel grid with cubic B-splines, sub-pixel exact.

    Parameters
    ----------
    points_px : float array (n, 2)
        ``(y, x)`` in pixels; pixel centres are at whole numbers.
    weights : float array (n,)
        Signal of each column.
    shape : (int, int)
        Shape of the result.

    Returns
    -------
    float32 array of shape `shape`
        Its sum is that of the weights of the points at least two pixels inside.
    """
    low = np.floor(points_px).astype(np.int64)
    keep = np.all((low >= 1) & (low < np.subtract(shape, 2)), axis=1)
    low, points_px, weights = low[keep], points_px[keep], weights[keep]
    fraction = points_px - low
    u = 1.0 - fraction
    pieces = np.stack(
        [
            u**3 / 6,
            (4 - 6 * fraction**2 + 3 * fraction**3) / 6,
            (4 - 6 * u**2 + 3 * u**3) / 6,
            fraction**3 / 6,
        ]
    )  # (4, n, 2)
    offsets = np.arange(-1, 3)
    values = weights[:, None, None] * pieces[:, :, 0].T[:, :, None] * pieces[:, :, 1].T[:, None, :]
    index = (low[:, 0, None, None] + offsets[:, None]) * shape[1] + low[:, 1, None, None] + offsets[None, :]
    total = np.bincount(index.ravel(), values.ravel(), minlength=shape[0] * shape[1])
    return total.reshape(shape).astype(np.float32)


def frequencies(shape: tuple[int, int], pixel_nm: float) -> tuple[Image, Image]:
    """Spatial frequencies ``(q_y, q_x)`` in 1/nm of a real FFT of `shape`, as a column and a row."""
    qy = fft.fftfreq(shape[0], pixel_nm).astype(np.float32)[:, None]
    qx = fft.rfftfreq(shape[1], pixel_nm).astype(np.float32)[None, :]
    return qy, qx


def probe_transfer(qy: Any, qx: Any, fwhm_nm: float, astigmatism: float = 0.0, angle: float = 0.0) -> Any:
    """Transfer function of an incoherent probe: a Gaussian core with tails; 1 at zero frequency.

    Parameters
    ----------
    qy, qx : arrays
        Spatial frequencies in 1/nm.
    fwhm_nm : float
        Full width at half maximum of the core.
    astigmatism : float
        The core is this share wider along `angle` (radians from x) and as much narrower across.
    """
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    along, across = c * qx + s * qy, c * qy - s * qx
    q2 = (np.float32(1 + astigmatism) * along) ** 2 + (np.float32(1 - astigmatism) * across) ** 2
    factor = np.float32(-2 * np.pi**2)
    core = (fwhm_nm / FWHM_PER_SIGMA) ** 2
    wide = np.exp(factor * np.float32(core * TAIL_WIDTH**2 + COLUMN_SIGMA_NM**2) * q2)
    return np.float32(1 - TAIL_SHARE) * np.exp(factor * np.float32(core + COLUMN_SIGMA_NM**2) * q2) + (
        np.float32(TAIL_SHARE) * wide
    )


def phase_transfer(
    qy: Any, qx: Any, fwhm_nm: float, defocus_nm: float, cs_mm: float, voltage_kv: float
) -> Any:
    """Contrast transfer function of HRTEM: sin χ(q) times envelopes; 0 at zero frequency.

    Parameters
    ----------
    qy, qx : arrays
        Spatial frequencies in 1/nm.
    fwhm_nm : float
        Width of the blur by focal spread, vibration and the atoms' size.
    defocus_nm : float
        Underfocus is negative.
    cs_mm : float
        Spherical aberration.
    voltage_kv : float
        Acceleration voltage.
    """
    q2 = qx**2 + qy**2
    wavelength = electron_wavelength_nm(voltage_kv)
    chi = np.float32(np.pi * wavelength * defocus_nm) * q2 + np.float32(
        0.5 * np.pi * cs_mm * 1e6 * wavelength**3
    ) * (q2 * q2)
    sigma2 = (fwhm_nm / FWHM_PER_SIGMA) ** 2 + COLUMN_SIGMA_NM**2
    return np.sin(chi) * np.exp(np.float32(-2 * np.pi**2 * sigma2) * q2)


def electron_wavelength_nm(voltage_kv: float) -> float:
    """Relativistic de Broglie wavelength in nm: 0.00197 at 300 kV."""
    energy = voltage_kv * 1e3
    return 1.226426 / float(np.sqrt(energy * (1 + 0.978476e-6 * energy)))


def spline_correction(shape: tuple[int, int]) -> tuple[Image, Image]:
    """Inverse transfer of the cubic B-spline of :func:`splat`, as a column and a row."""
    y = np.sinc(fft.fftfreq(shape[0])).astype(np.float32) ** -4
    x = np.sinc(fft.rfftfreq(shape[1])).astype(np.float32) ** -4
    return y[:, None], x[None, :]


def filtered(image: Image, transfer: Any) -> Image:
    """Image after multiplication of its spectrum with `transfer`."""
    return np.asarray(fft.irfft2(fft.rfft2(image) * transfer, s=image.shape), np.float32)


def structure_factors(
    crystal: Projection, exponent: float, order: int = 6
) -> tuple[Array, NDArray[np.complex128]]:
    """Reflections of the projected crystal.

    Returns
    -------
    q : float array (n, 2)
        Spatial frequencies ``(y, x)`` in 1/nm, without zero.
    factor : complex array (n,)
        F relative to the mean signal.
    """
    q = lattice_vectors(np.linalg.inv(crystal.cell).T, order)
    q = q[np.any(q != 0, axis=1)]
    weights = crystal.weights(exponent)
    factor = np.exp(2j * np.pi * (q @ crystal.sites.T)) @ weights
    return q, np.asarray(factor / weights.sum())


def domain_contrast(crystal: Projection, exponent: float, shift: ArrayLike | None = None) -> float:
    """How much a domain's image differs from the reference's.

    Parameters
    ----------
    shift : float array (2,), optional
        Displacement ``(y, x)`` of the domain in nm; None: it is inverted about the mean of its columns.

    Returns
    -------
    float
        Root mean square difference over root mean square modulation, seen with a probe of `_TYPICAL_PROBE_NM`.
    """
    q, factor = structure_factors(crystal, exponent)
    factor = factor * np.asarray(probe_transfer(q[:, 0], q[:, 1], _TYPICAL_PROBE_NM), float)
    if shift is None:
        centred = factor * np.exp(-2j * np.pi * (q @ crystal.sites.mean(axis=0)))
        change = centred - np.conj(centred)
    else:
        change = factor * (1 - np.exp(2j * np.pi * (q @ np.asarray(shift, float))))
    return float(np.sqrt(np.sum(np.abs(change) ** 2) / np.sum(np.abs(factor) ** 2)))


def polarity(crystal: Projection, exponent: float) -> float:
    """How far a projected crystal is from having a centre of inversion.

    Zinc blende along [100] has such centres, seen from the side: an inverted domain is only a shifted one there.

    Returns
    -------
    float
        Root mean square difference between the crystal and its inverse about the best centre, over the root mean
        square modulation: 0 for a centrosymmetric projection.
    """
    q, factor = structure_factors(crystal, exponent)
    steps = np.arange(_CENTRES) / _CENTRES
    centres = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2) @ np.asarray(crystal.cell)
    centred = factor * np.exp(-2j * np.pi * (centres @ q.T))
    change = np.sum(np.abs(centred - np.conj(centred)) ** 2, axis=1).min()
    return float(np.sqrt(change / np.sum(np.abs(factor) ** 2)))


def sharpest_spacing_nm(crystal: Projection) -> float:
    """Spacing in nm of the widest strongly reflecting lattice planes."""
    q, factor = structure_factors(crystal, EXPONENTS["haadf"])
    strong = np.abs(factor) > _STRONG * np.abs(factor).max()
    return float(1 / np.hypot(*q[strong].T).min())


def modulation(crystal: Projection, fwhm_nm: float) -> float:
    """Standard deviation over mean of a perfect HAADF lattice image without background."""
    q, factor = structure_factors(crystal, EXPONENTS["haadf"])
    passed = np.asarray(probe_transfer(q[:, 0], q[:, 1], fwhm_nm), float)
    return float(np.sqrt(np.sum((np.abs(factor) * passed) ** 2)))
