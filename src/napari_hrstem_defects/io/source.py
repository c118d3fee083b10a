"""What a format's reader hands over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Source:
    """Pixels of a file and what it says about them.

    Attributes
    ----------
    data : array (y, x), (t, y, x) or with a last axis of colour channels
        numpy, or dask where a series stays on disk.
    pixel_size_nm : float or None
    notices : tuple of str
    metadata : mapping
    """

    data: Any
    pixel_size_nm: float | None = None
    notices: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)


class LazyFrames:
    """Array-like series ``(t, y, x, ...)`` that reads one frame at a time from a file.

    Parameters
    ----------
    shape : tuple of int
    dtype : numpy.dtype
    load : callable
        ``load(index)`` returns one frame; picklable if the array is to travel to other processes.
    """

    def __init__(self, shape: tuple[int, ...], dtype: Any, load: Callable[[int], NDArray[Any]]) -> None:
        self.shape = shape
        self.dtype = np.dtype(dtype).newbyteorder("=")
        self.ndim = len(shape)
        self._load = load

    def __getitem__(self, key: Any) -> NDArray[Any]:
        frames, *rest = key if isinstance(key, tuple) else (key,)
        indices = range(self.shape[0])[frames]
        if isinstance(indices, int):
            return self._load(indices).astype(self.dtype, copy=False)[tuple(rest)]
        stack = np.stack([self._load(index) for index in indices]).astype(self.dtype, copy=False)
        return stack[(slice(None), *rest)]


def lazy_stack(shape: tuple[int, ...], dtype: Any, load: Callable[[int], NDArray[Any]]) -> Any:
    """Dask array of a series, one chunk a frame, loaded when asked for."""
    import dask.array as da

    frames = LazyFrames(shape, dtype, load)
    # A name of its own: dask would otherwise hash the object to find one.
    return da.from_array(
        frames,
        chunks=(1, *shape[1:]),
        name=False,
        asarray=False,
        meta=np.empty((0,) * len(shape), frames.dtype),
    )


def frames_here(data: Any) -> Any:
    """Array-like series whose frames are loaded in this thread, one at a time.

    A dask array asks the scheduler that happens to be the current one; in a task of a cluster that would be the
    cluster itself, and open files cannot travel there.
    """
    if not hasattr(data, "compute"):
        return data
    return LazyFrames(data.shape, data.dtype, lambda t: np.asarray(data[t].compute(scheduler="synchronous")))
