"""Processor time per pixel and peak memory of large images, which are analysed in tiles."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy.run import record
from benchmarks.accuracy.tables import write_csv
from napari_hrstem_defects.simulation import simulate

#: Period of the lattice, px, and largest edge of the simulated image that large ones are composed of.
PERIOD_PX, UNIT_PX = 16.0, 2048

# What is loaded on first use is paid for by a small image before. The peak is that of the process with its imports.
_RUN = """
import json, os, pathlib, resource, sys, time
from napari_hrstem_defects.batch import analyze_files

small, image, out = map(pathlib.Path, sys.argv[1:])
analyze_files([small], out)
before, begin = sum(os.times()[:4]), time.perf_counter()
(row,) = analyze_files([image], out)
spent, seconds = sum(os.times()[:4]) - before, time.perf_counter() - begin
assert row.status == "done", row.message
status = pathlib.Path("/proc/self/status").read_text().splitlines()
own = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(json.dumps({"cpu_s": spent, "wall_s": seconds, "peak": max(own, children) * 1024}))
"""


def write_image(path: Path, unit: NDArray[Any], side: int) -> None:
    """Write copies of an image beside each other as a square npy file, without holding it in memory."""
    image = np.lib.format.open_memmap(path, "w+", unit.dtype, (side, side))
    for y in range(0, side, len(unit)):
        for x in range(0, side, len(unit)):
            part = image[y : y + len(unit), x : x + len(unit)]
            part[...] = unit[: part.shape[0], : part.shape[1]]
    image.flush()


def measure(folder: Path, unit: NDArray[Any], side: int) -> dict[str, Any]:
    """Processor seconds (user and system) and peak of resident memory of one image, in a process of its own."""
    small, image = folder / "small.npy", folder / f"image{side}.npy"
    write_image(small, unit, 256)
    write_image(image, unit, side)
    command = [sys.executable, "-c", _RUN, small, image, folder / f"out{side}"]
    done = subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE, text=True)
    image.unlink()
    found = json.loads(done.stdout.splitlines()[-1])
    return {
        "side_px": side,
        "dtype": str(unit.dtype),
        "input_gb": round(side**2 * unit.itemsize / 1e9, 3),
        "cpu_s": round(found["cpu_s"], 1),
        "us_per_px": round(1e6 * found["cpu_s"] / side**2, 3),
        "peak_gb": round(found["peak"] / 1e9, 3),
    }


def main() -> None:
    """Write a table: side, type, size of the input, processor time, peak memory, time per pixel by the first's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sides", type=int, nargs="+", default=[2048, 16384])
    parser.add_argument("--dtypes", nargs="+", default=["float32", "uint16"])
    parser.add_argument("--out", type=Path, default=Path("docs/results"), help="folder of the table")
    options = parser.parse_args()
    edge = min(UNIT_PX, *options.sides)
    made = simulate("si_demo", seed=11, px_per_period=PERIOD_PX, shape=(edge, edge)).micrograph
    pixels = np.asarray(made.data, np.float32)
    rows: list[dict[str, Any]] = []
    for dtype in options.dtypes:
        scaled = pixels if dtype == "float32" else (pixels - pixels.min()) * (60000 / np.ptp(pixels))
        first = None
        for side in options.sides:
            with tempfile.TemporaryDirectory() as folder:
                row = measure(Path(folder), scaled.astype(dtype), side)
            first = first or row["us_per_px"]
            rows.append({**row, "ratio": round(row["us_per_px"] / first, 3)})
            print(rows[-1], flush=True)
    write_csv(options.out / "large.csv", rows)
    record(options.out, "large")


if __name__ == "__main__":
    main()
