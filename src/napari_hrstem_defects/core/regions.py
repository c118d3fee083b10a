"""Connected defects: area, length, orientation, severity, in pixels and nanometres."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from scipy.sparse.csgraph import dijkstra
from scipy.spatial import ConvexHull, KDTree, QhullError
from skimage.measure import block_reduce

from napari_hrstem_defects.core.lattice import Lattice

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
        Probable type, see `defect_types.TYPES`; ``"unknown"`` where it was not classified or nothing fits.
    confidence : float
        Of the type, 0...1.
    at_rim : bool
        Whether it touches the rim of the image or of the valid mask: it may go on there, and its sizes are lower
        limits.

    Examples
    --------
    >>> import numpy as np, napari_hrstem_defects as hd
    >>> labels = np.zeros((40, 40), np.uint8)
    >>> labels[:5, 10:20], labels[20:30, 20:30] = 1, 2
    >>> [(r.id, r.label, r.area_px, r.at_rim) for r in hd.find_regions(labels, labels)]
    [(1, 2, 100.0, False), (2, 1, 50.0, True)]
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
    at_rim: bool = False


def find_regions(
    labels: ArrayLike,
    severity: ArrayLike,
    *,
    pixel_size_nm: float | None = None,
    lattice: Lattice | None = None,
    min_area_px: float = 0.0,
    classify: Callable[[Region, NDArray[np.bool_]], tuple[str, float]] | None = None,
    valid_mask: NDArray[np.bool_] | None = None,
    numbers: NDArray[np.int32] | None = None,
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
    classify : callable, optional
        Gives type and confidence of a region and its mask, a bool array that fills its bounding box.
    valid_mask : bool array (y, x), optional
        Where anything can be marked; everywhere by default.
    numbers : int32 array (y, x), optional
        What :func:`label_regions` gives, if it is known.

    Returns
    -------
    tuple of Region
        By decreasing area; equal areas by label, then by the first pixel in row-major order.

    Raises
    ------
    ValueError
        If the shapes differ, or the pixel size is no positive length.

    Notes
    -----
    Length and mean width are the sides of the rectangle that has the region's area and its geodesic diameter
    (:func:`geodesic_diameter`). For a straight band this is its length and width at any angle; a bend is cut on
    its inner side, so an arc of width w and mean radius R comes out short by up to w/2R. Blobs without a long side
    come out as the square of their area; closed loops as half their circumference. The orientation is that of the
    principal axis of the second moments.

    Examples
    --------
    A bar of 4 × 20 px of 0.5 nm:

    >>> import numpy as np, napari_hrstem_defects as hd
    >>> labels = np.zeros((40, 40), np.uint8)
    >>> labels[10:14, 5:25] = 1
    >>> (bar,) = hd.find_regions(labels, np.ones(labels.shape), pixel_size_nm=0.5)
    >>> bar.area_nm2, bar.orientation_deg, bar.centroid
    (20.0, 0.0, (11.5, 14.5))
    >>> abs(bar.length_nm - 10) < 0.5 and abs(bar.width_nm - 2) < 0.1
    True
    """
    image = _labels(labels)
    values = np.asarray(severity)
    if values.shape != image.shape:
        raise ValueError(f"severity has shape {values.shape}, expected that of labels, {image.shape}")
    if pixel_size_nm is not None and not (math.isfinite(pixel_size_nm) and pixel_size_nm > 0):
        raise ValueError(f"pixel_size_nm is {pixel_size_nm}, expected a positive length or None")
    # What has a neighbour outside the image or where nothing can be marked lies at the rim.
    known = np.pad(np.ones(image.shape, bool) if valid_mask is None else valid_mask, 1)
    neighbours = np.ones((3, 3), bool)
    nm = math.nan if pixel_size_nm is None else pixel_size_nm
    regions: list[Region] = []
    numbers = label_regions(image) if numbers is None else numbers
    for number, box in enumerate(ndimage.find_objects(numbers), 1):
        mask = numbers[box] == number
        points = np.argwhere(mask) + np.array([box[0].start, box[1].start])
        if len(points) < min_area_px:
            break
        (y0, x0), (y1, x1) = points.min(axis=0).tolist(), (points.max(axis=0) + 1).tolist()
        inside = values[box][mask]
        length, width = _length_and_width(mask)
        centroid = points.mean(axis=0)
        orientation = _orientation(points - centroid)
        sizes = (len(points) * nm**2, length * nm, width * nm)
        area_nm2, length_nm, width_nm = (None if math.isnan(nm) else size for size in sizes)
        beyond = ~known[y0 : y1 + 2, x0 : x1 + 2]
        region = Region(
            id=number,
            label=int(image[tuple(points[0])]),
            centroid=(float(centroid[0]), float(centroid[1])),
            bbox=(y0, x0, y1, x1),
            area_px=float(len(points)),
            length_px=length,
            width_px=width,
            area_nm2=area_nm2,
            length_nm=length_nm,
            width_nm=width_nm,
            orientation_deg=orientation,
            to_lattice_deg=None if lattice is None else _to_lattice(orientation, lattice),
            mean_severity=float(inside.mean(dtype=np.float64)),
            max_severity=float(inside.max()),
            at_rim=bool(
                beyond.any() and (ndimage.binary_dilation(np.pad(mask, 1), neighbours) & beyond).any()
            ),
        )
        if classify is not None:
            kind, confidence = classify(region, mask)
            region = dataclasses.replace(region, type=kind, confidence=confidence)
        regions.append(region)
    return tuple(regions)


def label_regions(labels: ArrayLike) -> NDArray[np.int32]:
    """Image of region numbers, 0 outside; the numbers are the ids that :func:`find_regions` gives."""
    parts, areas, values = _parts(_labels(labels))
    # Those of one label are in row-major order.
    order = np.lexsort((values, -areas))
    numbers = np.zeros(len(areas), np.int32)
    numbers[order[order > 0]] = np.arange(1, len(areas))
    return np.asarray(numbers[parts])


def remove_small(labels: ArrayLike, min_area_px: float) -> NDArray[np.uint8]:
    """Copy of `labels` (uint8) in which 8-connected regions below an area are 0."""
    image = _labels(labels)
    parts, areas, _ = _parts(image)
    out = image.astype(np.uint8)
    small = areas < min_area_px
    if small[1:].any():
        out[small[parts]] = 0
    return out


def around(mask: NDArray[np.bool_], margin: int) -> tuple[slice, slice]:
    """Rows and columns of a rectangle that holds all of a bool array (y, x), True somewhere, and a margin in px."""
    rows, columns = (
        slice(max(int(found[0]) - margin, 0), int(found[-1]) + margin + 1)
        for found in (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    )
    return rows, columns


def geodesic_diameter(mask: NDArray[np.bool_], *, max_cells: int = 2000) -> float:
    """Length of the longest shortest path between two points of a connected region, in pixels.

    Of a nearly convex region this is the largest distance of two of its pixels, else the path to the pixel farthest
    from the one that is farthest from some pixel. Half a pixel is added at each end, as paths run between centres.
    A path takes steps to 16 neighbours and comes out up to 2.8 % long; gaps of a single pixel do not stop it.

    Parameters
    ----------
    mask : bool array (y, x)
        One 8-connected region.
    max_cells : int
        The paths in larger regions are searched on a raster of about so many cells.

    Returns
    -------
    float
        At least 1.
    """
    area = np.count_nonzero(mask)
    rows = np.flatnonzero(mask.any(axis=1))
    # The corners are first or last pixels of rows.
    first = mask[rows].argmax(axis=1)
    last = mask.shape[1] - 1 - mask[rows, ::-1].argmax(axis=1)
    ends = np.stack([np.concatenate([rows, rows]), np.concatenate([first, last])], axis=1)
    try:
        hull = ConvexHull(ends)
    except (QhullError, ValueError):
        # On one line.
        return float(np.hypot(*np.ptp(ends, axis=0))) + 1.0
    corners = ends[hull.vertices]
    direct = float(np.sqrt(((corners[:, None] - corners) ** 2).sum(axis=-1).max())) + 1.0
    if area >= 0.9 * hull.volume:
        return direct
    factor = math.ceil(math.sqrt(area / max_cells))
    raster = block_reduce(mask, factor, np.any)
    cells = KDTree(np.argwhere(raster))
    # Steps at distance 1, √2, 2 and √5.
    graph = cells.sparse_distance_matrix(cells, math.hypot(1, 2), output_type="coo_matrix").tocsr()
    end, reach = 0, 0.0
    for _ in range(2):
        lengths = dijkstra(graph, indices=end)
        end, reach = int(lengths.argmax()), float(lengths.max())
    return max(direct, (reach + 1) * factor)


def _labels(labels: ArrayLike) -> NDArray[np.integer[Any]]:
    image = np.asarray(labels)
    if image.ndim != 2 or image.size == 0 or image.dtype.kind not in "iub":
        raise ValueError(
            f"labels is a {image.dtype} array of shape {image.shape}, expected whole numbers (y, x)"
        )
    return image.astype(np.uint8) if image.dtype.kind == "b" else image


def _parts(
    image: NDArray[np.integer[Any]],
) -> tuple[NDArray[np.int32], NDArray[np.intp], NDArray[np.integer[Any]]]:
    """Number of the region that each pixel belongs to; areas and labels of all, those of the background 0."""
    parts, values = np.zeros(image.shape, np.int32), [0]
    for value in np.unique(image[image != 0]).tolist():
        own = image == value
        box = around(own, 0)
        found, count = ndimage.label(own[box], np.ones((3, 3)))
        np.add(found, len(values) - 1, out=found, where=own[box])
        parts[box] += found
        values += [value] * count
    areas = np.bincount(parts.ravel(), minlength=len(values))
    areas[0] = 0
    return parts, areas, np.array(values, image.dtype)


def _length_and_width(mask: NDArray[np.bool_]) -> tuple[float, float]:
    """Sides of the rectangle of the region's area and geodesic diameter (L² + W² = D², L·W = A)."""
    area = float(np.count_nonzero(mask))
    half = geodesic_diameter(mask) ** 2 / 2
    length = max(math.sqrt(half + math.sqrt(max(half**2 - area**2, 0.0))), math.sqrt(area))
    return length, area / length


def _orientation(offsets: NDArray[np.float64]) -> float:
    """Degrees from the x axis, counter-clockwise, of the principal axis of points ``(n, 2)``: above −90, up to 90."""
    (yy, yx), (_, xx) = offsets.T @ offsets
    return 90.0 - (90.0 + 0.5 * math.degrees(math.atan2(2 * yx, xx - yy))) % 180.0


def _to_lattice(orientation_deg: float, lattice: Lattice) -> float:
    v1, v2 = np.array(lattice.v1), np.array(lattice.v2)
    angles = []
    for vector in (v1, v2, v1 + v2, v1 - v2):
        difference = (math.degrees(math.atan2(-vector[0], vector[1])) - orientation_deg) % 180.0
        angles.append(min(difference, 180.0 - difference))
    return min(angles)
