"""Domains of an analysis as files want them: an image in pixels of the frame and one table row a domain."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.core.domains import coincidence, walls
from napari_hrstem_defects.core.lattice import Lattice
from napari_hrstem_defects.core.pipeline import Analysis
from napari_hrstem_defects.io.tables import Row

#: Lattice vectors count as equally short up to this difference in length.
EQUALLY_SHORT = 0.03


def domain_image(analysis: Analysis) -> NDArray[np.uint8]:
    """Number of each pixel's domain, 0 the reference, uint8 ``(y, x)``."""
    if analysis.domains is None:
        return np.zeros(analysis.micrograph.frame_shape, np.uint8)
    return _in_frame(analysis.domains.index, analysis)


def wall_image(analysis: Analysis) -> NDArray[np.uint8]:
    """1 at the walls of domains that count as defects, 2 at interfaces of intact ones, uint8 ``(y, x)``."""
    if analysis.domains is None or analysis.prepared is None:
        return np.zeros(analysis.micrograph.frame_shape, np.uint8)
    return _in_frame(walls(analysis.domains, analysis.prepared.period_px), analysis)


def _in_frame(numbers: NDArray[np.uint8], analysis: Analysis) -> NDArray[np.uint8]:
    """Numbers cannot be interpolated: the pixel of the reduced image that each pixel of the frame lies in."""
    rows, columns = (
        np.minimum(((np.arange(n) + 0.5) * m / n).astype(np.intp), m - 1)
        for n, m in zip(analysis.micrograph.frame_shape, numbers.shape, strict=True)
    )
    return np.asarray(numbers[np.ix_(rows, columns)], np.uint8)


def domain_rows(analysis: Analysis) -> list[Row]:
    """One row a domain: number in the image, relation to the first, whether it counts as crystal, model patch.

    ``orientation_deg`` is the angle of the shortest lattice vector to the image's x axis, counter-clockwise as seen on
    screen, of several equally short ones the smallest; ``misorientation_deg`` the smallest turn that brings the first
    domain's lattice onto this one; ``zone_axis`` and ``coincidence`` the relation if both are a cubic lattice seen
    along the same axis, or both hexagonal (no axis); ``distance`` how differently the two repeat: the cosine distance
    of their autocorrelations.
    """
    if analysis.domains is None:
        return []
    found, size = analysis.domains, analysis.micrograph.pixel_size_nm
    first = found.domains[0].lattice
    rows = []
    for number, domain in enumerate(found.domains):
        fraction = float(np.count_nonzero(found.index == number) / found.index.size)
        area = fraction * math.prod(analysis.micrograph.frame_shape)
        special = coincidence(first, domain.lattice) if number > 0 else None
        rows.append(
            {
                "domain": number,
                "relation": domain.relation,
                "crystal": "yes" if domain.crystal else "no",
                "fraction": fraction,
                "area_px": area,
                "area_nm2": None if size is None else area * size**2,
                "orientation_deg": None if domain.lattice is None else orientation(domain.lattice),
                "misorientation_deg": domain.misorientation_deg,
                "zone_axis": _in_brackets(None if special is None else special.zone_axis),
                "coincidence": None if special is None else special.name,
                "distance": domain.distance if number > 0 else None,
                "period_px": None if domain.lattice is None else domain.lattice.period_px,
                **_vectors(domain.lattice, size),
                "patch_y_px": domain.patch.y,
                "patch_x_px": domain.patch.x,
                "patch_size_px": domain.patch.size,
            }
        )
    return rows


def _in_brackets(axis: tuple[int, int, int] | None) -> str | None:
    return None if axis is None else "[{}{}{}]".format(*axis)


def orientation(lattice: Lattice) -> float:
    """Angle of the shortest lattice vector to the x axis, counter-clockwise as seen on screen, in (-90, 90] degrees.

    Of vectors that differ in length by less than `EQUALLY_SHORT` the one nearest to the axis counts.
    """
    v1, v2 = np.array(lattice.v1), np.array(lattice.v2)
    vectors = np.array([v1, v2, v1 + v2, v1 - v2])
    lengths = np.hypot(*vectors.T)
    short = vectors[lengths < (1 + EQUALLY_SHORT) * lengths.min()]
    angles = np.degrees(np.arctan2(-short[:, 0], short[:, 1]))
    angles = 90 - (90 - angles) % 180
    return float(angles[np.argmin(np.abs(angles))])


def _vectors(lattice: Lattice | None, size: float | None) -> Row:
    """Lattice vectors in px and nm, as columns."""
    row: Row = {}
    for unit, scale in (("px", 1.0), ("nm", size)):
        for name in ("v1", "v2"):
            vector = (None, None) if lattice is None else getattr(lattice, name)
            for axis, value in zip("yx", vector, strict=True):
                row[f"{name}_{axis}_{unit}"] = None if value is None or scale is None else value * scale
    return row
