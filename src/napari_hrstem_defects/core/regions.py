"""Connected defects: area, length, orientation, severity, in pixels and nanometres."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_hrstem_defects.core.lattice import Lattice
from napari_hrstem_defects.core.path_length import geodesic_diameter

#: Names of the labels in tables.
LABEL_NAMES = {1: "symmetry", 2: "amorphous"}


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
    type : str
        Probable type, see `defect_types.TYPES`; ``"unknown"`` where nobody judged or nothing fits.
    confidence : float
        Of the type, 0...1.
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
    type: str = "unknown"
    confidence: float = 0.0


@dataclass(frozen=True)
class _Component:
    label: int
    area: int
    window: tuple[slice, slice]
    mask: NDArray[np.bool_]


def find_regions(
    labels: ArrayLike,
    severity: ArrayLike,
    *,
    pixel_size_nm: float | None = None,
    lattice: Lattice | None = None,
    min_area_px: float = 0.0,
    judge: Callable[[Region, NDArray[np.bool_]], tuple[str, float]] | None = None,
) -> tuple[Region, ...]:
    """Measure the 8-connected regions of each label.

    Parameters
    ----------
    labels : int array (y, x)
        0 crystal, 1 symmetry defect, 2 amorphous or blurred.
    severity : float array (y, x)
    pixel_size_nm : float, optional
        Edge of a pixel in nanometres.
    lattice : Lattice, optional
        Lattice that `to_lattice_deg` refers to.
    min_area_px : float
        Smaller regions are left out.
    judge : callable, optional
        Says type and confidence of a region with its mask, a bool array that fills its bounding box.

    Returns
    -------
    tuple of Region
        By decreasing area; equal areas by label, then by the first pixel in row-major order.

    Notes
    -----
    Length and mean width are the sides of the rectangle that has the region's area and its geodesic diameter,
    the longest of the shortest paths between two of its points that stay inside it. For a straight band this
    is its length and width at any angle; a bend is cut on its inner side, so an arc of width w and mean
    radius R comes out short by up to w/2R. Blobs without a long side come out as the square of their area;
    closed loops as half their circumference. The orientation is that of the principal axis of the second
    moments.
    """
    image = _labels(labels)
    values = np.asarray(severity)
    if values.shape != image.shape:
        raise ValueError(f"severity has shape {values.shape}, expected that of labels, {image.shape}")
    if pixel_size_nm is not None and not (math.isfinite(pixel_size_nm) and pixel_size_nm > 0):
        raise ValueError(f"pixel_size_nm is {pixel_size_nm}, expected a positive length or None")
    nm = pixel_size_nm
    regions = []
    for number, part in enumerate(_components(image, min_area_px), start=1):
        inside = values[part.window][part.mask]
        y, x = np.nonzero(part.mask)
        y0, x0 = part.window[0].start, part.window[1].start
        length, width = _length_and_width(part.mask)
        orientation = _orientation(y, x)
        region = Region(
            id=number,
            label=part.label,
            centroid=(float(y.mean() + y0), float(x.mean() + x0)),
            bbox=(y0, x0, part.window[0].stop, part.window[1].stop),
            area_px=float(part.area),
            length_px=length,
            width_px=width,
            area_nm2=None if nm is None else part.area * nm**2,
            length_nm=None if nm is None else length * nm,
            width_nm=None if nm is None else width * nm,
            orientation_deg=orientation,
            to_lattice_deg=None if lattice is None else _to_lattice(orientation, lattice),
            mean_severity=float(inside.mean(dtype=np.float64)),
            max_severity=float(inside.max()),
        )
        if judge is not None:
            kind, confidence = judge(region, part.mask)
            region = dataclasses.replace(region, type=kind, confidence=confidence)
        regions.append(region)
    return tuple(regions)


def label_regions(labels: ArrayLike, *, min_area_px: float = 0.0) -> NDArray[np.int32]:
    """Image of region numbers, 0 outside; the numbers are the ids that :func:`find_regions` gives."""
    image = _labels(labels)
    out = np.zeros(image.shape, np.int32)
    for number, part in enumerate(_components(image, min_area_px), start=1):
        out[part.window][part.mask] = number
    return out


def remove_small(labels: ArrayLike, min_area_px: float) -> NDArray[np.uint8]:
    """Copy of `labels` (uint8) in which 8-connected regions below an area are 0."""
    from scipy.ndimage import find_objects, label

    image = _labels(labels)
    out = image.astype(np.uint8)
    for value in np.unique(image[image > 0]).tolist():
        numbers, _ = label(image == value, np.ones((3, 3), bool))
        for number, window in enumerate(find_objects(numbers), start=1):
            mask = numbers[window] == number
            if np.count_nonzero(mask) < min_area_px:
                out[window][mask] = 0
    return out


def densities(
    regions: Sequence[Region], shape: tuple[int, int], pixel_size_nm: float | None = None
) -> dict[str, float | int | None]:
    """Defect densities of one frame.

    Parameters
    ----------
    regions : sequence of Region
    shape : tuple of int
        Shape ``(y, x)`` of the frame.
    pixel_size_nm : float, optional
        Edge of a pixel in nanometres; densities per area are None without it.

    Returns
    -------
    dict
        For each label (``symmetry``, ``amorphous``): ``<label>_count``; ``<label>_area_fraction``;
        ``<label>_per_um2`` and ``<label>_per_nm2``, regions per area; ``<label>_length_per_area_nm``, line
        length in nm per nm² (for planar defects seen edge-on the defect area per volume).
    """
    if len(shape) != 2 or min(shape) < 1:
        raise ValueError(f"shape is {shape}, expected (y, x)")
    pixels = shape[0] * shape[1]
    out: dict[str, float | int | None] = {}
    for value, name in LABEL_NAMES.items():
        chosen = [region for region in regions if region.label == value]
        out[f"{name}_count"] = len(chosen)
        out[f"{name}_area_fraction"] = sum(region.area_px for region in chosen) / pixels
        if pixel_size_nm is None:
            out.update({f"{name}_{key}": None for key in ("per_um2", "per_nm2", "length_per_area_nm")})
            continue
        area_nm2 = pixels * pixel_size_nm**2
        length_nm = sum(region.length_px for region in chosen) * pixel_size_nm
        out[f"{name}_per_um2"] = len(chosen) / area_nm2 * 1e6
        out[f"{name}_per_nm2"] = len(chosen) / area_nm2
        out[f"{name}_length_per_area_nm"] = length_nm / area_nm2
    return out


def region_rows(regions: Sequence[Region]) -> list[dict[str, Any]]:
    """Flat dictionaries, one per region, for a table; unknown lengths are None."""
    rows = []
    for region in regions:
        values: Mapping[str, Any] = dataclasses.asdict(region)
        row: dict[str, Any] = {}
        for key, value in values.items():
            if key == "centroid":
                row["centroid_y"], row["centroid_x"] = value
            elif key == "bbox":
                row.update(zip(("bbox_y0", "bbox_x0", "bbox_y1", "bbox_x1"), value, strict=True))
            else:
                row[key] = value
                if key == "label":
                    row["kind"] = LABEL_NAMES.get(value, str(value))
        rows.append(row)
    return rows


#: Columns of :func:`region_rows`, also for a table without rows.
ROW_NAMES = tuple(
    region_rows(
        [Region(1, 1, (0.0, 0.0), (0, 0, 1, 1), 1.0, 1.0, 1.0, None, None, None, 0.0, None, 0.0, 0.0)]
    )[0]
)


def _labels(labels: ArrayLike) -> NDArray[np.integer[Any]]:
    image = np.asarray(labels)
    if image.ndim != 2 or image.size == 0 or image.dtype.kind not in "iub":
        raise ValueError(
            f"labels is a {image.dtype} array of shape {image.shape}, expected whole numbers (y, x)"
        )
    return image.astype(np.uint8) if image.dtype.kind == "b" else image


def _components(image: NDArray[np.integer[Any]], min_area_px: float) -> list[_Component]:
    from scipy.ndimage import find_objects, label

    found: list[_Component] = []
    for value in np.unique(image[image > 0]).tolist():
        numbers, _ = label(image == value, np.ones((3, 3), bool))
        for number, window in enumerate(find_objects(numbers), start=1):
            mask = numbers[window] == number
            area = int(np.count_nonzero(mask))
            if area >= min_area_px:
                found.append(_Component(value, area, window, mask))
    # `label` numbers its components in row-major order and the sort is stable.
    return sorted(found, key=lambda part: (-part.area, part.label))


def _length_and_width(mask: NDArray[np.bool_]) -> tuple[float, float]:
    """Sides of the rectangle of the region's area and geodesic diameter (L² + W² = D², L·W = A)."""
    area = float(np.count_nonzero(mask))
    square = geodesic_diameter(mask) ** 2
    long_square = (square + math.sqrt(max(square**2 - 4 * area**2, 0.0))) / 2
    length = max(math.sqrt(long_square), math.sqrt(area))
    return length, area / length


def _orientation(y: NDArray[np.intp], x: NDArray[np.intp]) -> float:
    up, right = -(y - y.mean()), x - x.mean()
    angle = 0.5 * math.degrees(math.atan2(2.0 * float(up @ right), float(right @ right) - float(up @ up)))
    return 90.0 if angle <= -90.0 else angle


def _to_lattice(orientation_deg: float, lattice: Lattice) -> float:
    v1, v2 = np.array(lattice.v1), np.array(lattice.v2)
    angles = []
    for vector in (v1, v2, v1 + v2, v1 - v2):
        difference = (math.degrees(math.atan2(-vector[0], vector[1])) - orientation_deg) % 180.0
        angles.append(min(difference, 180.0 - difference))
    return min(angles)
