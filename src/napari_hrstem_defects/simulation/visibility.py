"""How much of the lattice a probe shows: keeps simulated images such that a trained person still finds the lattice."""

from __future__ import annotations

import numpy as np

from napari_hrstem_defects.simulation.crystals import Array, Projection
from napari_hrstem_defects.simulation.optics import EXPONENTS, probe_transfer

#: Reflections below this share of the strongest are no lattice planes one would see.
_STRONG = 0.15


def structure_factors(crystal: Projection, exponent: float, order: int = 6) -> tuple[Array, Array]:
    """Reflections of the projected crystal.

    Returns
    -------
    q : float array (n, 2)
        Spatial frequencies ``(y, x)`` in 1/nm, without zero.
    amplitude : float array (n,)
        |F| relative to the mean signal.
    """
    index = np.array(
        [(h, k) for h in range(-order, order + 1) for k in range(-order, order + 1) if (h, k) != (0, 0)]
    )
    q = index @ np.linalg.inv(crystal.cell).T
    weights = crystal.weights(exponent)
    factor = np.exp(2j * np.pi * (q @ crystal.sites.T)) @ weights
    return q, np.abs(factor) / weights.sum()


def sharpest_spacing_nm(crystal: Projection) -> float:
    """Spacing in nm of the widest strongly reflecting lattice planes."""
    q, amplitude = structure_factors(crystal, EXPONENTS["haadf"])
    strong = amplitude > _STRONG * amplitude.max()
    return float(1 / np.hypot(*q[strong].T).min())


def modulation(crystal: Projection, fwhm_nm: float) -> float:
    """Standard deviation over mean of a perfect HAADF lattice image without background."""
    q, amplitude = structure_factors(crystal, EXPONENTS["haadf"])
    passed = np.asarray(probe_transfer(q[:, 0], q[:, 1], fwhm_nm), float)
    return float(np.sqrt(np.sum((amplitude * passed) ** 2)))
