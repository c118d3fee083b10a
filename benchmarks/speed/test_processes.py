"""What needs a process of its own: imports, the command line, peak memory."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

#: The large image may take this many times as long as one of 1024².
MOST_TIMES = 18.0
MOST_GIGABYTES = 1.2

_IMPORT = """
import numpy, time
begin = time.perf_counter()
import napari_hrstem_defects
print(time.perf_counter() - begin)
"""

# The peak counts from after the imports. The small image comes first: it pays for what is loaded on first use.
_LARGE = """
import json, pathlib, sys, time
import numpy as np
import napari_hrstem_defects as hd
from resource import RUSAGE_SELF, getrusage

hd.analyze, hd.Micrograph  # imports everything
def peak():
    status = pathlib.Path("/proc/self/status")
    if status.exists():  # Linux: ru_maxrss would be that of the process that started this one
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return getrusage(RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
before = peak()

def seconds(image):
    begin = time.perf_counter()
    hd.analyze(image)
    return time.perf_counter() - begin

large = hd.Micrograph(np.load(sys.argv[1]))
small = hd.Micrograph(np.ascontiguousarray(np.load(sys.argv[1], mmap_mode="r")[:1024, :1024]))
out = {"small_s": min(seconds(small) for _ in range(6)), "large_s": min(seconds(large) for _ in range(2))}
print(json.dumps({**out, "peak_bytes": peak() - before}))
"""


def _python(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout


def test_import(benchmark: Any, about: Callable[..., None]) -> None:
    found = benchmark.pedantic(lambda: [float(_python(_IMPORT)) for _ in range(7)], rounds=1, iterations=1)
    about("import napari_hrstem_defects after import numpy", 0.1, value=statistics.median(found))


def test_help(benchmark: Any, about: Callable[..., None]) -> None:
    command = [str(Path(sys.executable).with_name("hrstem-defects")), "--help"]
    about("hrstem-defects --help", 0.6)
    benchmark.pedantic(
        lambda: subprocess.run(command, check=True, capture_output=True), rounds=7, warmup_rounds=1
    )


@pytest.fixture(scope="module")
def large(large_file: Path) -> dict[str, float]:
    """Seconds of 1024² and 4096² and the peak, measured once."""
    return dict(json.loads(_python(_LARGE, str(large_file))))


def test_large_image_time(benchmark: Any, about: Callable[..., None], large: dict[str, float]) -> None:
    benchmark.pedantic(lambda: None, rounds=1)
    about("whole default analysis of 4096², period 16 px", value=large["large_s"])


def test_large_image_ratio(benchmark: Any, about: Callable[..., None], large: dict[str, float]) -> None:
    benchmark.pedantic(lambda: None, rounds=1)
    about("4096² against 1024²", MOST_TIMES, "×", large["large_s"] / large["small_s"])


def test_large_image_memory(benchmark: Any, about: Callable[..., None], large: dict[str, float]) -> None:
    benchmark.pedantic(lambda: None, rounds=1)
    about("peak memory of 4096², image included", MOST_GIGABYTES, "GB", large["peak_bytes"] / 1e9)
