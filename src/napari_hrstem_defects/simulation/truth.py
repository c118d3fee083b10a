"""The truth about a specimen in the pixels of its image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from napari_hrstem_defects.simulation.parameters import Parameters
from napari_hrstem_defects.simulation.regions import Region
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
    shape : (int, int)
        Shape of the image.
    origin : (int, int)
        Where `crop` begins, ``(y, x)`` in px.
    crop : bool array
        The defect's mask within its bounding box.
    displacement_nm : (float, float) or None
        Displacement ``(y, x)`` of the crystal across the fault, or Burgers vector; projected.
    geometry : dict
        Shape and numbers in nm, origin in the middle of the image, before drift.
    details : dict
        What else is known (angle, occupancy, ...).
    """

    kind: str
    label: int
    shape: tuple[int, int]
    origin: tuple[int, int]
    crop: Mask
    displacement_nm: tuple[float, float] | None
    geometry: dict[str, Any]
    details: dict[str, Any]

    @property
    def mask(self) -> Mask:
        """Mask of the image's shape."""
        full = np.zeros(self.shape, bool)
        y, x = self.origin
        full[y : y + self.crop.shape[0], x : x + self.crop.shape[1]] = self.crop
        return full


def truth(
    specimen: Specimen, parameters: Parameters
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], Mask, tuple[Defect, ...]]:
    """Labels, domains, ignored pixels and defects of a specimen as its image shows it."""
    shape = parameters.shape
    y, x = parameters.coordinates(shape)
    labels = np.zeros(shape, np.uint8)
    found = []
    for finding in specimen.findings:
        box = _window(finding.region, parameters)
        if box is None:
            continue
        crop = np.asarray(finding.region.distance(y[box], x[box]) <= 0)
        view = labels[box]
        np.maximum(view, np.uint8(finding.label) * crop, out=view)
        found.append((finding, box, crop))
    defects = []
    for finding, box, crop in found:
        if finding.label < 2:
            # What lies under an amorphous area cannot be seen and is no defect of its kind there.
            crop &= labels[box] < 2
        if crop.any():
            geometry = finding.region.to_dict()
            about = finding.displacement, geometry, finding.details
            defects.append(
                Defect(finding.kind, finding.label, shape, (box[0].start, box[1].start), crop, *about)
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


def _window(region: Region, parameters: Parameters) -> tuple[slice, slice] | None:
    """Pixels within a region's bounding box; None if it lies outside the image."""
    box = region.bounds()
    shape = parameters.shape
    if box is None:
        return slice(0, shape[0]), slice(0, shape[1])
    corners = np.array([(cy, cx) for cy in (box[0], box[2]) for cx in (box[1], box[3])])
    pixels = parameters.pixels_of(corners, shape)
    low = np.clip(np.floor(pixels.min(axis=0)).astype(int), 0, shape)
    high = np.clip(np.ceil(pixels.max(axis=0)).astype(int) + 1, 0, shape)
    if np.any(high <= low):
        return None
    return slice(int(low[0]), int(high[0])), slice(int(low[1]), int(high[1]))
