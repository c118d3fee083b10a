"""Regions of the specimen plane with a signed distance: where a second grain is, or an amorphous area.

All lengths in nm, points ``(y, x)`` with the origin in the middle of the image. Distances are negative inside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]


class Region(Protocol):
    """A part of the plane."""

    def distance(self, y: Floats, x: Floats) -> Floats:
        """Signed distance in nm of each point to the border, negative inside."""

    def bounds(self) -> tuple[float, float, float, float] | None:
        """Smallest box ``(y0, x0, y1, x1)`` around the region in nm; None if it is not bounded."""

    def to_dict(self) -> dict[str, Any]:
        """Shape and numbers, fit for JSON."""


@dataclass(frozen=True)
class HalfPlane:
    """Everything beyond a straight or gently waving line: ``normal·r > offset + waves``.

    Attributes
    ----------
    normal : (float, float)
        Unit vector ``(y, x)`` pointing into the region.
    offset : float
        Distance of the line from the origin in nm.
    waves : tuple of (float, float, float)
        Amplitude in nm, wave number in rad/nm and phase of each wave along the line.
    """

    normal: tuple[float, float]
    offset: float
    waves: tuple[tuple[float, float, float], ...] = ()

    def distance(self, y: Floats, x: Floats) -> Floats:
        """Signed distance in nm; to first order in the waves' slope."""
        ny, nx = self.normal
        height = ny * y + nx * x
        if not self.waves:
            return np.asarray(self.offset - height)
        along = nx * y - ny * x
        line = sum(amplitude * np.cos(number * along + phase) for amplitude, number, phase in self.waves)
        return np.asarray(self.offset + line - height)

    def bounds(self) -> None:
        """Not bounded."""

    def to_dict(self) -> dict[str, Any]:
        """Shape and numbers."""
        return {
            "shape": "half plane",
            "normal": list(self.normal),
            "offset_nm": self.offset,
            "waves": self.waves,
        }


@dataclass(frozen=True)
class Band:
    """Strip ``low ≤ normal·r ≤ high``, without ends or between two positions along it.

    Attributes
    ----------
    normal : (float, float)
        Unit vector ``(y, x)`` across the strip.
    low, high : float
        Heights of its two borders in nm.
    ends : (float, float) or None
        Positions in nm along ``(normal_x, -normal_y)`` where it begins and ends.
    """

    normal: tuple[float, float]
    low: float
    high: float
    ends: tuple[float, float] | None = None

    def distance(self, y: Floats, x: Floats) -> Floats:
        """Signed distance in nm."""
        ny, nx = self.normal
        height = ny * y + nx * x
        distance = np.maximum(self.low - height, height - self.high)
        if self.ends is not None:
            along = nx * y - ny * x
            distance = np.maximum(distance, np.maximum(self.ends[0] - along, along - self.ends[1]))
        return np.asarray(distance)

    def bounds(self) -> tuple[float, float, float, float] | None:
        """Box around a strip with ends."""
        if self.ends is None:
            return None
        ny, nx = self.normal
        corners = np.array(
            [(h * ny + a * nx, h * nx - a * ny) for h in (self.low, self.high) for a in self.ends]
        )
        y0, x0 = corners.min(axis=0)
        y1, x1 = corners.max(axis=0)
        return float(y0), float(x0), float(y1), float(x1)

    def to_dict(self) -> dict[str, Any]:
        """Shape and numbers."""
        return {
            "shape": "band",
            "normal": list(self.normal),
            "low_nm": self.low,
            "high_nm": self.high,
            "ends_nm": None if self.ends is None else list(self.ends),
        }


@dataclass(frozen=True)
class Blob:
    """Disk whose radius varies with the direction: ``r(φ) = radius·(1 + Σ a·cos(k φ + phase))``.

    Attributes
    ----------
    centre : (float, float)
        ``(y, x)`` in nm.
    radius : float
        Mean radius in nm.
    waves : tuple of (float, int, float)
        Relative amplitude a, order k and phase of each harmonic; none: a disk.
    """

    centre: tuple[float, float]
    radius: float
    waves: tuple[tuple[float, int, float], ...] = ()

    def distance(self, y: Floats, x: Floats) -> Floats:
        """Signed distance in nm; to first order in the outline's slope."""
        dy, dx = y - self.centre[0], x - self.centre[1]
        r = np.hypot(dy, dx)
        if not self.waves:
            return np.asarray(r - self.radius)
        angle = np.arctan2(dy, dx)
        factor = 1.0 + sum(a * np.cos(k * angle + phase) for a, k, phase in self.waves)
        slope = sum(-a * k * np.sin(k * angle + phase) for a, k, phase in self.waves) / factor
        return np.asarray((r - self.radius * factor) / np.sqrt(1.0 + slope**2))

    def bounds(self) -> tuple[float, float, float, float]:
        """Box around the largest radius."""
        reach = self.radius * (1.0 + sum(abs(a) for a, _, _ in self.waves))
        cy, cx = self.centre
        return cy - reach, cx - reach, cy + reach, cx + reach

    def to_dict(self) -> dict[str, Any]:
        """Shape and numbers."""
        return {
            "shape": "blob",
            "centre_nm": list(self.centre),
            "radius_nm": self.radius,
            "waves": self.waves,
        }


@dataclass(frozen=True)
class Rim:
    """Points within `half_width` nm of another region's border: a wall."""

    of: HalfPlane | Band | Blob
    half_width: float

    def distance(self, y: Floats, x: Floats) -> Floats:
        """Signed distance in nm."""
        return np.asarray(np.abs(self.of.distance(y, x)) - self.half_width)

    def bounds(self) -> tuple[float, float, float, float] | None:
        """Box of the region, widened."""
        box = self.of.bounds()
        if box is None:
            return None
        w = self.half_width
        return box[0] - w, box[1] - w, box[2] + w, box[3] + w

    def to_dict(self) -> dict[str, Any]:
        """Shape and numbers."""
        return {"shape": "rim", "half_width_nm": self.half_width, "of": self.of.to_dict()}


@dataclass(frozen=True)
class Between:
    """Points of one region that are not in another: an amorphous rim before the vacuum."""

    of: HalfPlane | Blob
    without: HalfPlane | Blob

    def distance(self, y: Floats, x: Floats) -> Floats:
        """Signed distance in nm."""
        return np.maximum(self.of.distance(y, x), -self.without.distance(y, x))

    def bounds(self) -> tuple[float, float, float, float] | None:
        """Box of the larger region."""
        return self.of.bounds()

    def to_dict(self) -> dict[str, Any]:
        """Shape and numbers."""
        return {"shape": "between", "of": self.of.to_dict(), "without": self.without.to_dict()}


def inside(region: Region, points: Floats) -> NDArray[np.bool_]:
    """Whether each point ``(n, 2)`` lies in the region."""
    return np.asarray(region.distance(points[:, 0], points[:, 1]) < 0)
