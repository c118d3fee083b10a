"""Frames per second of series on one and on several processes, of whole commands."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.accuracy.run import record
from benchmarks.accuracy.tables import write_csv
from napari_hrstem_defects.simulation import simulate

_COMMAND = "from napari_hrstem_defects.cli import main; main()"


def seconds(movie: Path, out: Path, jobs: int) -> float:
    """Wall time of the command, with its start."""
    begin = time.perf_counter()
    options = ["analyze", str(movie), "--out", str(out), "--jobs", str(jobs), "--quiet"]
    subprocess.run([sys.executable, "-c", _COMMAND, *options], check=True)
    return time.perf_counter() - begin


def main() -> None:
    """Write a table: side, frames, jobs, seconds, frames per second, efficiency relative to one job."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=120)
    parser.add_argument("--sides", type=int, nargs="+", default=[512, 1024])
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--out", type=Path, default=Path("docs/results"), help="folder of the table")
    options = parser.parse_args()
    rows = []
    for side in options.sides:
        made = simulate("si_demo", seed=11, px_per_period=16.0, shape=(side, side)).micrograph
        pixels = np.asarray(made.data)
        with tempfile.TemporaryDirectory() as folder:
            movie = Path(folder) / "series.npy"
            # Noise of its own in each frame, so that no two are equal.
            noise = np.random.default_rng(0)
            spread = 0.02 * float(np.ptp(pixels))
            frames = [pixels + noise.normal(0, spread, pixels.shape) for _ in range(options.frames)]
            np.save(movie, np.stack(frames).astype(np.float32))
            alone = None
            for jobs in options.jobs:
                spent = seconds(movie, Path(folder) / f"out{jobs}", jobs)
                rate = options.frames / spent
                alone = rate / jobs if alone is None else alone
                rows.append(
                    {
                        "side_px": side,
                        "frames": options.frames,
                        "jobs": jobs,
                        "seconds": round(spent, 1),
                        "frames_per_s": round(rate, 3),
                        "efficiency": round(rate / (jobs * alone), 3),
                    }
                )
                print(rows[-1], flush=True)
    write_csv(options.out / "throughput.csv", rows)
    record(options.out, "throughput")


if __name__ == "__main__":
    main()
