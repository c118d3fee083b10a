"""Connected defects: area, length, orientation, severity, in pixels and nanometres."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Region:
    """One connected defect. Lengths in nm are None where the pixel size is unknown.

    Attributes
    ----------
    id : int
        1, 2, ... in the order of decreasing area.
    label : int
        1 symmetry defect, 2 amorphous or blurred.
    centroid : tuple of float
        ``(y, x)`` in pixels.
    bbox : tuple of int
        ``(y0, x0, y1, x1)`` in pixels, half open.
    area_px, length_px, width_px : float
        Area, length along the defect, mean width.
    area_nm2, length_nm, width_nm : float or None
    orientation_deg : float
        Angle of the long axis to the image's x axis, counter-clockwise as seen on screen, in (-90, 90].
    to_lattice_deg : float or None
        Smallest angle between the long axis and a lattice vector (v1, v2, v1 ± v2).
    mean_severity, max_severity : float
    """

    id: int
    label: int
    centroid: tuple[float, float]
    bbox: tuple[int, int, int, int]
    area_px: float
    length_px: float
    width_px: float
    area_nm2: float | None
    length_nm: float | None
    width_nm: float | None
    orientation_deg: float
    to_lattice_deg: float | None
    mean_severity: float
    max_severity: float
