"""How many threads the numerics use, and how they share the machine with those of other libraries."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from typing import TypeVar

from scipy import fft
from threadpoolctl import ThreadpoolController

#: More threads than this gain nothing at the sizes of micrographs.
MOST_THREADS = 8

Item = TypeVar("Item")
Result = TypeVar("Result")


def thread_count() -> int:
    """Threads to use: ``OMP_NUM_THREADS`` where it is set, else the processors this process may run on."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdigit() and int(wanted) > 0:
        return min(int(wanted), MOST_THREADS)
    if hasattr(os, "sched_getaffinity"):
        return max(1, min(len(os.sched_getaffinity(0)), MOST_THREADS))
    return max(1, min(os.cpu_count() or 1, MOST_THREADS))


@lru_cache(maxsize=1)
def _controller() -> ThreadpoolController:
    return ThreadpoolController()


@contextmanager
def own_threads() -> Iterator[None]:
    """Use `thread_count` threads for transforms and none for linear algebra, whose would only get in the way."""
    with _controller().limit(limits=1, user_api="blas"), fft.set_workers(thread_count()):
        yield


def side_by_side(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Like ``map``, several items at a time; transforms inside use one thread each."""
    items = list(items)
    count = min(thread_count(), len(items))
    if count < 2:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(count) as pool:
        yield from pool.map(function, items)
