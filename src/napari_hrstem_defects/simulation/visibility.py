"""How much of the lattice a probe shows: keeps simulated images such that a trained person still finds the lattice."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_hrstem_defects.simulation.crystals import Array, Projection, lattice_vectors
from napari_hrstem_defects.simulation.optics import EXPONENTS, probe_transfer

#: Reflections below this share of the strongest are no lattice planes one would see.
_STRONG = 0.15
_TYPICAL_PROBE_NM = 0.09
#: Points per lattice vector that are tried as centres of inversion.
_CENTRES = 24


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
