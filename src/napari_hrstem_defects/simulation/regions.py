"""Regions of the specimen plane with a signed distance: where a second grain is, or an amorphous area.

All lengths in nm, points ``(y, x)`` with the origin in the middle of the image. Distances are negative inside.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Pair = tuple[float, float]
#: Amplitude, wave number or order, and phase of each wave.
Waves = tuple[tuple[float, float, float], ...]


def pair(vector: Any) -> Pair:
    """A vector as regions and descriptions hold it."""
    return float(vector[0]), float(vector[1])


def tangent(normal: Any) -> NDArray[np.float64]:
    """Unit vector along the planes with unit normal `normal`, both ``(y, x)``."""
    return np.array([normal[1], -normal[0]])


class Region(ABC):
    """A part of the plane; the fields are the numbers that describe it."""

    #: What it is called in descriptions.
    shape: ClassVar[str]

    @abstractmethod
    def distance(self, y: Floats, x: Floats) -> Floats:
        """Signed distance in nm of each point to the border, negative inside; to first order in waves' slopes."""

    def to_dict(self) -> dict[str, Any]:
        """Shape and numbers, fit for JSON."""
        values = {
            name: value.to_dict() if isinstance(value, Region) else value
            for name, value in vars(self).items()
        }
        return {"shape": self.shape, **values}

    def holds(self, points: Floats) -> NDArray[np.bool_]:
        """Whether each point ``(n, 2)`` lies in it."""
        return np.asarray(self.distance(points[:, 0], points[:, 1]) < 0)


@dataclass(frozen=True)
class HalfPlane(Region):
    """Everything beyond a straight or gently waving line: ``normal·r > offset_nm + waves``.

    Attributes
    ----------
    normal : (float, float)
        Unit vector ``(y, x)`` pointing into the region.
    offset_nm : float
        Distance of the line from the origin.
    waves : tuple of (float, float, float)
        Amplitude in nm, wave number in rad/nm and phase of each wave along the line.
    """

    shape = "half plane"

    normal: Pair
    offset_nm: float
    waves: Waves = ()

    def distance(self, y: Floats, x: Floats) -> Floats:
        """Signed distance in nm; to first order in the waves' slope."""
        ny, nx = self.normal
        height = ny * y + nx * x
        if not self.waves:
            return np.asarray(self.offset_nm - height)
        along = nx * y - ny * x
        line = sum(amplitude * np.cos(number * along + phase) for amplitude, number, phase in self.waves)
        return np.asarray(self.offset_nm + line - height)


@dataclass(frozen=True)
class Band(Region):
    """Strip ``low_nm ≤ normal·r ≤ high_nm``, without ends or between two positions along it.

    Attributes
    ----------
    normal : (float, float)
        Unit vector ``(y, x)`` across the strip.
    low_nm, high_nm : float
        Heights of its two borders.
    ends_nm : (float, float) or None
        Positions along ``(normal_x, -normal_y)`` where it begins and ends.
    """

    shape = "band"

    normal: Pair
    low_nm: float
    high_nm: float
    ends_nm: Pair | None = None

    def distance(self, y: Floats, x: Floats) -> Floats:
        """Signed distance in nm."""
        ny, nx = self.normal
        height = ny * y + nx * x
        distance = np.maximum(self.low_nm - height, height - self.high_nm)
        if self.ends_nm is not None:
            along = nx * y - ny * x
            distance = np.maximum(distance, np.maximum(self.ends_nm[0] - along, along - self.ends_nm[1]))
        return np.asarray(distance)


@dataclass(frozen=True)
class Blob(Region):
    """Disk whose radius varies with the direction: ``r(φ) = radius_nm·(1 + Σ a·cos(k φ + phase))``.

    Attributes
    ----------
    centre_nm : (float, float)
        ``(y, x)``.
    radius_nm : float
        Mean radius.
    waves : tuple of (float, int, float)
        Relative amplitude a, order k and phase of each harmonic; none: a disk.
    """

    shape = "blob"

    centre_nm: Pair
    radius_nm: float
    waves: Waves = ()

    def distance(self, y: Floats, x: Floats) -> Floats:
        """Signed distance in nm; to first order in the outline's slope."""
        dy, dx = y - self.centre_nm[0], x - self.centre_nm[1]
        r = np.hypot(dy, dx)
        if not self.waves:
            return np.asarray(r - self.radius_nm)
        angle = np.arctan2(dy, dx)
        factor = 1.0 + sum(a * np.cos(k * angle + phase) for a, k, phase in self.waves)
        slope = sum(-a * k * np.sin(k * angle + phase) for a, k, phase in self.waves) / factor
        return np.asarray((r - self.radius_nm * factor) / np.sqrt(1.0 + slope**2))


@dataclass(frozen=True)
class Rim(Region):
    """Points within `half_width_nm` of another region's border: a wall."""

    shape = "rim"

    of: HalfPlane | Band | Blob
    half_width_nm: float

    def distance(self, y: Floats, x: Floats) -> Floats:
        """Signed distance in nm."""
        return np.asarray(np.abs(self.of.distance(y, x)) - self.half_width_nm)


@dataclass(frozen=True)
class Between(Region):
    """Points of one region that are not in another: an amorphous rim before the vacuum."""

    shape = "between"

    of: HalfPlane | Blob
    without: HalfPlane | Blob

    def distance(self, y: Floats, x: Floats) -> Floats:
        """Signed distance in nm."""
        return np.maximum(self.of.distance(y, x), -self.without.distance(y, x))


def pick(rng: np.random.Generator, options: Sequence[Any]) -> Any:
    """One of the options at random."""
    return options[int(rng.integers(len(options)))]


def harmonics(rng: np.random.Generator, amplitude: Pair, orders: tuple[int, ...]) -> Waves:
    """Random waves of a :class:`Blob` with relative amplitudes in a range."""
    return tuple((float(rng.uniform(*amplitude)), k, float(rng.uniform(0, 2 * np.pi))) for k in orders)


def ripples(rng: np.random.Generator, count: int, amplitude: Pair, number: Pair, size: float) -> Waves:
    """Random waves of a :class:`HalfPlane`: ranges of amplitude and wave number for a field of view `size` nm large."""
    return tuple(
        (
            float(rng.uniform(*amplitude)) * size,
            float(rng.uniform(*number)) / size,
            float(rng.uniform(0, 2 * np.pi)),
        )
        for _ in range(count)
    )
