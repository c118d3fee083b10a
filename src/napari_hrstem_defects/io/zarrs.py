"""Reader of Zarr (versions 2 and 3; folders and .zip): arrays, OME-Zarr, HyperSpy's .zspy."""

from __future__ import annotations

import functools
import itertools
import json
import math
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.core.errors import ReadError
from napari_hrstem_defects.io.calibration import UNKNOWN, size_of_axes
from napari_hrstem_defects.io.hdf5 import hyperspy
from napari_hrstem_defects.io.source import DataSet, lazy_stack

_DOCUMENTS = ("zarr.json", ".zarray", ".zgroup")


def read(path: Path) -> list[DataSet]:
    """The arrays of the store; series stay on disk. Of a pyramid only the finest level is one of them."""
    node = Node(path, "")
    if node.array is None and not node.exists:
        raise ReadError(
            f"{path}: this is not a Zarr store (it holds no {', '.join(_DOCUMENTS)}); name its top folder."
        )
    if "Experiments" in node:
        return list(hyperspy(node["Experiments"], functools.partial(_load, path)))
    return list(_arrays(path, node))


class Node:
    """A group or an array of a store: the part of the interface of h5py that readers need.

    Parameters
    ----------
    path : Path
        The store, a folder or a zip file.
    name : str
        Path of the node in it, without slashes at its ends.
    """

    def __init__(self, path: Path, name: str) -> None:
        self._path, self.name = path, name
        document = _json(path, name, "zarr.json")
        self.exists = document is not None
        self.attrs: Mapping[str, Any]
        if document is not None:
            self.array = _Array.version_3(document) if document.get("node_type") == "array" else None
            self.attrs = document.get("attributes") or {}
            return
        array = _json(path, name, ".zarray")
        self.exists = array is not None or _json(path, name, ".zgroup") is not None
        self.array = None if array is None else _Array.version_2(array)
        self.attrs = _json(path, name, ".zattrs") or {}

    def __contains__(self, name: str) -> bool:
        return self[name].exists

    def __getitem__(self, name: str) -> Node:
        return Node(self._path, f"{self.name}/{name}".strip("/"))

    def __getattr__(self, name: str) -> Any:
        # Arrays have a shape, groups have keys, as those of h5py.
        if name in ("shape", "dtype") and self.array is not None:
            return getattr(self.array, name)
        if name == "keys" and self.array is None:
            return lambda: list(self)
        raise AttributeError(name)

    def __iter__(self) -> Iterator[str]:
        for name in _names(self._path, self.name):
            if name in self:
                yield name


class _Array:
    """Layout of an array."""

    def __init__(self, shape: Any, chunks: Any, dtype: Any, fill: Any) -> None:
        self.shape = tuple(int(n) for n in shape)
        self.chunks = tuple(int(n) for n in chunks)
        self.dtype = np.dtype(dtype)
        # JSON has no number for NaN and infinity: they are texts.
        self.fill = 0 if fill in (None, "") else float(fill) if isinstance(fill, str) else fill
        self.order, self.codecs = "C", list[tuple[str, dict[str, Any]]]()
        self.key = "{}"
        if (
            len(self.shape) != len(self.chunks)
            or min((*self.chunks, *self.shape), default=0) < 0
            or 0 in self.chunks
        ):
            raise ValueError("shape and chunks do not fit")

    @classmethod
    def version_2(cls, document: Mapping[str, Any]) -> _Array:
        array = cls(document["shape"], document["chunks"], document["dtype"], document.get("fill_value"))
        array.order = document.get("order", "C")
        array.separator, array.prefix = document.get("dimension_separator", "."), ""
        codecs = [*(document.get("filters") or ()), document.get("compressor")]
        array.codecs = [(codec["id"], codec) for codec in codecs if codec]
        return array

    @classmethod
    def version_3(cls, document: Mapping[str, Any]) -> _Array:
        chunks = document["chunk_grid"]["configuration"]["chunk_shape"]
        array = cls(document["shape"], chunks, document["data_type"], document.get("fill_value"))
        encoding = document.get("chunk_key_encoding") or {}
        version_2 = encoding.get("name") == "v2"
        array.separator = (encoding.get("configuration") or {}).get("separator", "." if version_2 else "/")
        array.prefix = "" if version_2 else f"c{array.separator}"
        for codec in document["codecs"]:
            settings = codec.get("configuration") or {}
            if codec["name"] == "bytes":
                array.dtype = array.dtype.newbyteorder(">" if settings.get("endian") == "big" else "<")
            elif codec["name"] != "transpose" or settings.get("order") not in (
                "C",
                [*range(len(array.shape))],
            ):
                array.codecs.append((codec["name"], settings))
        return array

    separator, prefix = ".", ""

    def decode(self, raw: bytes) -> NDArray[Any]:
        """Pixels of a chunk."""
        for name, _ in reversed(self.codecs):
            raw = _decode(name, raw)
        count = math.prod(self.chunks)
        return np.frombuffer(raw, self.dtype, count).reshape(self.chunks, order=self.order)  # type: ignore[call-overload]


def _decode(name: str, raw: bytes) -> bytes:
    import imagecodecs

    decoders: dict[str, Callable[[bytes], Any]] = {
        "blosc": imagecodecs.blosc_decode,
        "zstd": imagecodecs.zstd_decode,
        "zlib": imagecodecs.zlib_decode,
        "gzip": imagecodecs.gzip_decode,
        "bz2": imagecodecs.bz2_decode,
        "lz4": functools.partial(imagecodecs.lz4_decode, header=True),
    }
    if name == "crc32c":
        return raw[:-4]
    if name not in decoders:
        raise NotImplementedError(f"codec {name} of Zarr")
    return bytes(decoders[name](raw))


def _arrays(path: Path, node: Node) -> Iterator[DataSet]:
    if node.array is not None:
        yield _data_set(path, node, [], node.attrs.get("_ARRAY_DIMENSIONS") or ())
        return
    scales = (node.attrs.get("ome") or node.attrs).get("multiscales") or ()
    for scale in scales:
        finest = scale["datasets"][0]
        axes = [axis if isinstance(axis, dict) else {"name": axis} for axis in scale.get("axes") or ()]
        steps = [1.0] * len(axes)
        for part in (
            *(finest.get("coordinateTransformations") or ()),
            *(scale.get("coordinateTransformations") or ()),
        ):
            if part.get("type") == "scale":
                steps = [a * b for a, b in zip(steps, part["scale"], strict=True)]
        units = [axis.get("unit") or "" for axis in axes]
        names = [axis.get("name", "") for axis in axes]
        yield _data_set(
            path, node[finest["path"]], list(zip(steps, units, strict=True)), names, scale.get("name")
        )
    for name in () if scales else node:
        yield from _arrays(path, node[name])


def _data_set(
    path: Path, node: Node, axes: list[tuple[float, str]], names: Any, title: Any = None
) -> DataSet:
    array = node.array
    if array is None:
        raise ValueError(f"{node.name} is no array")
    steps, units = ([axis[k] for axis in axes] for k in (0, 1))
    shape, lead = array.shape, 0
    while len(shape) > 2 and shape[0] == 1:
        shape, lead = shape[1:], lead + 1
    return DataSet(
        shape,
        array.dtype,
        functools.partial(_load, path, node.name, shape, array.dtype),
        size_of_axes(steps, units) if len(axes) == len(array.shape) else UNKNOWN,
        title=str(title or node.name),
        units=units[lead:],
    )


def _load(path: Path, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    if len(shape) == 3:
        return lazy_stack(shape, dtype, functools.partial(_frame, path, name, shape))
    return _frame(path, name, shape, None)


def _frame(path: Path, name: str, shape: tuple[int, ...], index: int | None) -> NDArray[Any]:
    """One image, put together of its chunks; those that are missing hold the fill value."""
    array = Node(path, name).array
    if array is None:
        raise ReadError(f"{path}: the array {name} is gone; copy the store again.")
    at = [0] * (len(array.shape) - 2)
    if index is not None:
        at[-1] = index
    out = np.full(array.shape[-2:], array.fill, array.dtype.newbyteorder("="))
    lead = [i // n for i, n in zip(at, array.chunks, strict=False)]
    inside = tuple(i % n for i, n in zip(at, array.chunks, strict=False))
    high, wide = array.chunks[-2:]
    for row, column in itertools.product(
        *(range(-(-n // c)) for n, c in zip(out.shape, (high, wide), strict=True))
    ):
        key = array.prefix + array.separator.join(map(str, (*lead, row, column)))
        raw = _bytes(path, f"{name}/{key}".strip("/"))
        if raw is not None:
            part = out[row * high : (row + 1) * high, column * wide : (column + 1) * wide]
            part[...] = array.decode(raw)[inside][: part.shape[0], : part.shape[1]]
    return out


def _json(path: Path, name: str, document: str) -> Any:
    raw = _bytes(path, f"{name}/{document}".strip("/"))
    return None if raw is None else json.loads(raw)


def _bytes(path: Path, key: str) -> bytes | None:
    if path.is_dir():
        file = path / key
        return file.read_bytes() if file.is_file() else None
    with zipfile.ZipFile(path) as archive:
        return archive.read(key) if key in archive.namelist() else None


def _names(path: Path, name: str) -> list[str]:
    """Names inside a group, sorted."""
    if path.is_dir():
        return sorted(item.name for item in (path / name).iterdir() if item.is_dir())
    start = f"{name}/" if name else ""
    with zipfile.ZipFile(path) as archive:
        keys = [key[len(start) :] for key in archive.namelist() if key.startswith(start)]
    return sorted({key.partition("/")[0] for key in keys if "/" in key})
