"""Reader of Zarr (versions 2 and 3; folders and .zip): arrays, OME-Zarr, HyperSpy's .zspy."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.errors import ReadError
from napari_hrstem_defects.io.calibration import size_of_axes
from napari_hrstem_defects.io.hdf5 import hyperspy
from napari_hrstem_defects.io.source import DataSet, optional_library


def read(path: Path) -> list[DataSet]:
    """The arrays of the store; series stay on disk. Of a pyramid only the finest level is one of them."""
    optional_library("zarr", path)
    try:
        with _opened(path) as root:
            if hasattr(root, "keys") and "Experiments" in root:
                return list(hyperspy(root["Experiments"], functools.partial(_reader, path)))
            return list(_arrays(path, root))
    except FileNotFoundError as error:
        raise ReadError(
            f"{path}: this is not a Zarr store (it holds no zarr.json, .zarray or .zgroup); name its top folder."
        ) from error


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The group or array at the top of a store."""
    import zarr

    store = (
        zarr.storage.LocalStore(path, read_only=True)
        if path.is_dir()
        else zarr.storage.ZipStore(path, mode="r")
    )
    try:
        yield zarr.open(store, mode="r")
    finally:
        store.close()


def _arrays(path: Path, node: Any) -> Iterator[DataSet]:
    if not hasattr(node, "keys"):
        yield _data_set(path, node, node.name.strip("/"))
        return
    scales = (node.attrs.get("ome") or node.attrs).get("multiscales") or ()
    for scale in scales:
        finest = scale["datasets"][0]
        axes = [axis if isinstance(axis, dict) else {} for axis in scale.get("axes") or ()]
        steps = [1.0] * len(axes)
        for part in (
            *(finest.get("coordinateTransformations") or ()),
            *(scale.get("coordinateTransformations") or ()),
        ):
            if part.get("type") == "scale":
                steps = [a * b for a, b in zip(steps, part["scale"], strict=True)]
        found = node[finest["path"]]
        yield _data_set(path, found, scale.get("name") or found.name.strip("/"), axes, steps)
    for name in () if scales else sorted(node):
        yield from _arrays(path, node[name])


def _data_set(
    path: Path,
    array: Any,
    title: Any,
    axes: Sequence[Mapping[str, Any]] = (),
    steps: Sequence[float] = (),
) -> DataSet:
    units = [axis.get("unit") or "" for axis in axes] if len(axes) == array.ndim else []
    # Of an OME-Zarr the first axes (t, c, z) often have a length of 1.
    lead = next((k for k, n in enumerate(array.shape[:-2]) if n != 1), max(array.ndim - 2, 0))
    shape = array.shape[lead:]
    return DataSet(
        shape,
        array.dtype,
        _reader(path, array.name, len(shape), (0,) * lead),
        size_of_axes(steps, units),
        title=str(title),
        units=units[lead:],
    )


def _reader(path: Path, name: str, axes: int, at: tuple[int, ...] = ()) -> Callable[[int], Any]:
    return functools.partial(_frame, path, name, at, axes == 3)


def _frame(path: Path, name: str, at: tuple[int, ...], series: bool, index: int) -> NDArray[Any]:
    with _opened(path) as root:
        pixels = root[name] if hasattr(root, "keys") else root
        return np.asarray(pixels[(*at, index, ...) if series else (*at, ...)])
