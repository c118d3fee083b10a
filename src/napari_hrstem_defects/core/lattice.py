"""Lattice period and basis of a patch, from its autocorrelation."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Lattice:
    """Translation lattice of a crystalline patch.

    Attributes
    ----------
    v1, v2 : tuple of float
        The two shortest non-collinear translation vectors ``(y, x)`` in pixels, ``|v1| <= |v2|``.
    period_px : float
        ``sqrt(|v1 × v2|)``: edge of a square of the area of the unit cell.
    strength : float
        Height of the best off-centre peak of the normalised autocorrelation (`ac`), 0...1; below 0.6 the
        patch is hardly crystalline.
    """

    v1: tuple[float, float]
    v2: tuple[float, float]
    period_px: float
    strength: float
