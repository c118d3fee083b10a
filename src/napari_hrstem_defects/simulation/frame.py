"""Where pixels lie on the specimen: pixel size, drift during the scan, position of the frame."""

from __future__ import annotations

import numpy as np

from napari_hrstem_defects.simulation.crystals import Array
from napari_hrstem_defects.simulation.optics import Image
from napari_hrstem_defects.simulation.presets import Parameters
from napari_hrstem_defects.simulation.regions import Region


def scan_matrix(parameters: Parameters) -> Array:
    """Matrix (2, 2) from pixels about the middle of the image to nm on the specimen: pixel size and drift."""
    dy, dx = parameters.drift
    return parameters.pixel_size_nm * np.array([[1.0 + dy, 0.0], [dx, 1.0]])


def pixels_of(points: Array, parameters: Parameters, shape: tuple[int, int]) -> Array:
    """Pixel coordinates (n, 2) of places (n, 2) in nm, in a frame of `shape` about the image's middle."""
    away = points - np.asarray(parameters.offset_nm)
    return np.asarray(away @ np.linalg.inv(scan_matrix(parameters)).T + (np.array(shape) - 1) / 2)


def coordinates(parameters: Parameters, shape: tuple[int, int]) -> tuple[Image, Image]:
    """Place ``(y, x)`` on the specimen in nm of every pixel of a frame of `shape` about the image's middle."""
    matrix = scan_matrix(parameters)
    oy, ox = parameters.offset_nm
    v = (np.arange(shape[0]) - (shape[0] - 1) / 2)[:, None]
    u = (np.arange(shape[1]) - (shape[1] - 1) / 2)[None, :]
    y = np.broadcast_to((matrix[0, 0] * v + oy).astype(np.float32), shape)
    x = (matrix[1, 0] * v + ox).astype(np.float32) + (matrix[1, 1] * u).astype(np.float32)
    return y, x


def window(region: Region, parameters: Parameters) -> tuple[slice, slice] | None:
    """Pixels within a region's bounding box; None if it lies outside the image."""
    box = region.bounds()
    shape = parameters.shape
    if box is None:
        return slice(0, shape[0]), slice(0, shape[1])
    corners = np.array([(cy, cx) for cy in (box[0], box[2]) for cx in (box[1], box[3])])
    pixels = pixels_of(corners, parameters, shape)
    low = np.clip(np.floor(pixels.min(axis=0)).astype(int), 0, shape)
    high = np.clip(np.ceil(pixels.max(axis=0)).astype(int) + 1, 0, shape)
    if np.any(high <= low):
        return None
    return slice(int(low[0]), int(high[0])), slice(int(low[1]), int(high[1]))
