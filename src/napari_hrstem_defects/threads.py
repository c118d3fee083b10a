"""How many threads the numerics use, and how they share the machine with those of other libraries."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from typing import TypeVar

from threadpoolctl import ThreadpoolController

#: More threads than this gain nothing at the sizes of micrographs.
MOST_THREADS = 8
#: Operations on fewer pixels do not pay for a thread.
WORTHWHILE_PX = 1 << 15

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


def threads_for(pixels: int) -> int:
    """Threads for work whose single array operations are on so many pixels: one, if they are small.

    Threads of Python hand over to each other after every operation. Where one takes a fraction of a millisecond the
    handing over costs more than is gained, and far more on a virtual machine.
    """
    return thread_count() if pixels >= WORTHWHILE_PX else 1


_lock = threading.Lock()
_limit = ExitStack()
_inside = 0


@contextmanager
def own_threads() -> Iterator[None]:
    """Use no threads for linear algebra: its matrices are small here.

    The number of threads is that of the whole process: where several threads are inside at a time it stays one until
    the last of them leaves. The same image gives the same bits then, whatever is analysed beside it.
    """
    global _inside
    with _lock:
        if _inside == 0:
            _limit.enter_context(_controller().limit(limits=1, user_api="blas"))
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _limit.close()


def side_by_side(
    function: Callable[[Item], Result], items: Iterable[Item], *, pixels: int
) -> Iterator[Result]:
    """Like ``map``, several items at a time where one array operation of an item is on so many `pixels`."""
    items = list(items)
    count = min(threads_for(pixels), len(items))
    if count < 2:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(count) as pool:
        yield from pool.map(function, items)
