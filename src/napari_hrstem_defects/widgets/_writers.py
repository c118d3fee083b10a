"""Writes image and label layers as OME-TIFF that keeps the pixel size."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.core.errors import WriteError

#: Types that OME-TIFF knows; others are converted to the next wider one, if that loses nothing.
_TYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")


def write_layer(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write one image or label layer.

    Parameters
    ----------
    path : str
    data : array (y, x) or (t, y, x)
    meta : dict
        Options of the layer; ``scale`` and ``units`` give the pixel size.

    Returns
    -------
    list of str
        The path, as npe2 wants it.

    Raises
    ------
    WriteError
        If the layer has other dimensions or the file cannot be written.
    """
    from pathlib import Path

    from napari_hrstem_defects.io.ome import OmeTiffWriter

    if meta.get("rgb") or getattr(data, "ndim", 0) not in (2, 3):
        raise WriteError(
            f"{path}: only images (y, x) and time series (t, y, x) are written, not data of shape {np.shape(data)}."
        )
    size = _pixel_size(meta)
    frames = [data] if data.ndim == 2 else [data[t] for t in range(data.shape[0])]
    dtype = _ome_type(np.dtype(data.dtype), data)
    shape = tuple(int(n) for n in data.shape)
    try:
        with OmeTiffWriter(Path(path), shape, dtype, size, f"{meta.get('name', '')} {path}") as writer:
            for frame in frames:
                writer.write(np.asarray(frame).astype(dtype))
    except OSError as error:
        raise WriteError(
            f"{path}: the file cannot be written ({error.strerror or error}); choose another folder."
        ) from error
    return [path]


def _pixel_size(meta: dict[str, Any]) -> float | None:
    """Edge of a pixel in nm."""
    from types import SimpleNamespace

    import pint

    from napari_hrstem_defects.widgets.source import pixel_size_nm

    scale, units = meta.get("scale"), meta.get("units")
    if scale is None or units is None:
        return None
    registry = pint.get_application_registry()
    known: Any = SimpleNamespace(
        scale=scale, units=[registry.Unit(unit) if isinstance(unit, str) else unit for unit in units]
    )
    return pixel_size_nm(known)


def _ome_type(dtype: np.dtype[Any], data: Any) -> np.dtype[Any]:
    if dtype.name in _TYPES:
        return dtype
    if dtype == np.bool_:
        return np.dtype(np.uint8)
    if dtype.kind in "iu":
        values: NDArray[Any] = np.asarray(data)
        return np.dtype(np.int32 if values.size == 0 or abs(values).max() < 2**31 else np.float64)
    return np.dtype(np.float32 if dtype.itemsize < 4 else np.float64)
