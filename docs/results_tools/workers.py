"""Several processes, each with one thread for linear algebra; results come in the order of the tasks."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def run(task: Callable[..., Any], arguments: Iterable[tuple[Any, ...]], processes: int) -> list[Any]:
    """``[task(*each) for each in arguments]``, spread over processes (0: in this one)."""
    todo = list(arguments)
    if not processes:
        return [_reported(i, len(todo), task(*each)) for i, each in enumerate(todo)]
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    try:
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
            futures = [pool.submit(task, *each) for each in todo]
            return [_reported(i, len(todo), future.result()) for i, future in enumerate(futures)]
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _reported(index: int, count: int, result: Any) -> Any:
    if sys.stderr.isatty():
        end = "\n" if index + 1 == count else ""
        print(f"\r{index + 1} of {count} done", end=end, file=sys.stderr, flush=True)
    return result
