"""The truth about a specimen in the pixels of its image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from napari_hrstem_defects.simulation.parameters import Parameters
from napari_hrstem_defects.simulation.specimen import Specimen

Mask = NDArray[np.bool_]

#: Pixels within this share of a period of a border of the truth are not scored.
BORDER_PERIODS = 0.35


@dataclass(frozen=True, eq=False)
class Defect:
    """One defect of the truth.

    Attributes
    ----------
    kind : str
        E.g. ``"intrinsic stacking fault"``, ``"second grain"``, ``"amorphous"``.
    label : int
        1 symmetry defect, 2 amorphous, blurred, damaged or vacuum, 0 no defect (a second phase, its interface).
    mask : bool array (y, x)
        Of the image's shape.
    displacement_nm : (float, float) or None
        Displacement ``(y, x)`` of the crystal across the fault, or Burgers vector; projected.
    geometry : dict
        Shape and numbers in nm, origin in the middle of the image, before drift.
    details : dict
        What else is known (angle, occupancy, ...).
    """

    kind: str
    label: int
    mask: Mask
    displacement_nm: tuple[float, float] | None
    geometry: dict[str, Any]
    details: dict[str, Any]


def truth(
    specimen: Specimen, parameters: Parameters
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], Mask, tuple[Defect, ...]]:
    """Labels, domains, ignored pixels and defects of a specimen as its image shows it."""
    shape = parameters.shape
    y, x = parameters.coordinates(shape)
    labels = np.zeros(shape, np.uint8)
    found = [(finding, np.asarray(finding.region.distance(y, x) <= 0)) for finding in specimen.findings]
    for finding, mask in found:
        np.maximum(labels, np.uint8(finding.label) * mask, out=labels)
    defects = []
    for finding, mask in found:
        # What lies under an amorphous area cannot be seen and is no defect of its kind there.
        seen = mask & (labels < 2) if finding.label < 2 else mask
        if seen.any():
            geometry = finding.region.to_dict()
            defects.append(
                Defect(finding.kind, finding.label, seen, finding.displacement, geometry, finding.details)
            )
    domains = np.zeros(shape, np.uint8)
    for index, (_, region) in enumerate(specimen.grains):
        if region is not None:
            domains[region.distance(y, x) <= 0] = index
    border = 2 * round(BORDER_PERIODS * specimen.period / parameters.pixel_size_nm) + 1
    smooth = uniform_filter(labels.astype(np.float32) ** 2, border, mode="nearest")
    ignore = np.abs(smooth - labels.astype(np.float32) ** 2) > 1e-3
    for region in specimen.interfaces:
        ignore |= region.distance(y, x) <= 0
    return labels, domains, ignore, tuple(defects)
