"""Reader of HDF5 files: EMD of Velox and of the NCEM (Berkeley), HyperSpy's .hspy."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.io.calibration import is_reciprocal, nm_per_unit, pixel_size, size_of_axes
from napari_hrstem_defects.io.source import DataSet, optional_library


def read(path: Path) -> list[DataSet]:
    """The data sets of the file; series stay on disk."""
    h5py = optional_library("h5py", path)
    with h5py.File(path, "r") as file:
        if "Experiments" in file:
            return list(hyperspy(file["Experiments"], functools.partial(_reader, path)))
        if "Data" in file and "Version" in file:
            return list(_velox(path, file["Data"]))
        return list(_ncem(path, file))


def _velox(path: Path, data: Any) -> Iterator[DataSet]:
    """Images ``(y, x, t)`` of Velox; of spectra only that they are there."""
    for number, group in enumerate(_groups(data.get("Image")), 1):
        pixels = group["Data"]
        text = (
            bytes(np.asarray(group["Metadata"][:, 0])).partition(b"\x00")[0] if "Metadata" in group else b"{}"
        )
        try:
            metadata = json.loads(text)
        except ValueError:
            metadata = {}
        result = metadata.get("BinaryResult") or {}
        sides = result.get("PixelSize") or {}
        units = result.get("PixelUnitY", ""), result.get("PixelUnitX", "")
        y, x, t = pixels.shape
        shape = (y, x) if t == 1 else (t, y, x)
        yield DataSet(
            shape,
            pixels.dtype,
            functools.partial(_frame, path, pixels.name, (2, 0, 1)),
            pixel_size(sides.get("height"), sides.get("width"), *units),
            title=str(result.get("Detector") or f"image {number}"),
            metadata={"format": metadata},
        )
    for name in ("SpectrumImage", "EelsSpectrumImage", "SpectrumStream", "Spectrum"):
        for group in _groups(data.get(name)):
            if "Data" in group:
                whole = group["Data"]
                shown = (whole.shape[0],) if name == "Spectrum" else whole.shape
                yield DataSet(shown, whole.dtype, _no_pixels, title=name, shown=1)


def _ncem(path: Path, file: Any) -> Iterator[DataSet]:
    """Groups with the attribute ``emd_group_type``: an array ``data`` and, for its axes, ``dim1``, ``dim2``, ..."""
    found: list[Any] = []
    file.visititems(lambda _, item: found.append(item) if "emd_group_type" in item.attrs else None)
    for group in found:
        pixels = group.get("data")
        if not hasattr(pixels, "shape"):
            continue
        # Newer files count from 0.
        dims = [group.get(f"dim{n + ('dim0' not in group)}") for n in range(pixels.ndim)]
        units = [_text(dim.attrs.get("units", "")) if dim is not None else "" for dim in dims]
        names = [_text(dim.attrs.get("name", "")) if dim is not None else "" for dim in dims]
        order = _order(names, units)
        shape = tuple(pixels.shape[axis] for axis in order)
        units = [units[axis] for axis in order]
        yield DataSet(
            shape,
            pixels.dtype,
            functools.partial(_frame, path, pixels.name, order),
            size_of_axes([_step(dims[axis]) for axis in order], units),
            title=group.name.rpartition("/")[2],
            units=units,
            shown=min(2, len(order)),
        )


def _order(names: Sequence[str], units: Sequence[str]) -> tuple[int, ...]:
    """Axes of an array in the order (..., y, x): by their names, else the only two with lengths, else as they are."""
    ends = [name.strip().lower()[-1:] for name in names]
    lengths = [k for k, unit in enumerate(units) if nm_per_unit(unit) is not None or is_reciprocal(unit)]
    if ends.count("y") == ends.count("x") == 1:
        shown = [ends.index("y"), ends.index("x")]
    else:
        shown = lengths if len(lengths) == 2 else [*range(len(names))][-2:]
    return (*(k for k in range(len(names)) if k not in shown), *shown)


def hyperspy(experiments: Any, reader: Callable[[str, int], Any]) -> Iterator[DataSet]:
    """Signals of HyperSpy, which are laid out alike in HDF5 and Zarr.

    Parameters
    ----------
    experiments : mapping
        Groups with an array ``data``, groups ``axis-0``, ... and a group ``metadata``.
    reader : callable
        ``reader(name, axes)`` gives what reads a frame of an array, see :class:`~.source.DataSet`.
    """
    for group in _groups(experiments):
        pixels = group["data"]
        axes: list[Mapping[str, Any]] = []
        for n in range(len(pixels.shape)):
            name = next((name for name in (f"axis-{n}", f"_sig_axis-{n}") if name in group), None)
            axes.append({} if name is None else dict(group[name].attrs))
        units = [_text(axis.get("units") or "") for axis in axes]
        flags = [_text(axis.get("navigate", "")) in ("True", "1") for axis in axes]
        yield DataSet(
            pixels.shape,
            pixels.dtype,
            reader(pixels.name, len(pixels.shape)),
            size_of_axes([axis.get("scale") for axis in axes], units),
            title=group.name.rpartition("/")[2].replace("__unnamed__", ""),
            units=units,
            shown=len(axes) - sum(flags) if any(flags) else min(2, len(axes)),
        )


def _groups(parent: Any) -> Iterator[Any]:
    for name in () if parent is None else parent:
        if hasattr(parent[name], "keys"):
            yield parent[name]


def _text(value: Any) -> str:
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.ravel()[0]
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    # HyperSpy's file of old keeps texts as their Python form.
    return str(value).removeprefix("b'").removesuffix("'") if str(value).startswith("b'") else str(value)


def _step(axis: Any) -> float | None:
    """Distance of the entries of an axis, of which the first two suffice."""
    if axis is None or axis.ndim != 1 or len(axis) < 2:
        return None
    values = np.asarray(axis, np.float64)
    step = float(values[-1] - values[0]) / (len(values) - 1)
    return step if math.isfinite(step) else None


def _reader(path: Path, name: str, axes: int) -> Callable[[int], Any]:
    return functools.partial(_frame, path, name, tuple(range(axes)))


def _frame(path: Path, name: str, order: tuple[int, ...], index: int) -> NDArray[Any]:
    """One image; `order` names the axes (t, y, x) or (y, x) of the array in the file."""
    import h5py

    at: list[Any] = [slice(None)] * len(order)
    if len(order) == 3:
        at[order[0]] = index
    with h5py.File(path, "r") as file:
        pixels = np.asarray(file[name][tuple(at)])
    return pixels.T if order[-2] > order[-1] else pixels


def _no_pixels(_: int) -> Any:
    raise ValueError("spectra are not loaded")
