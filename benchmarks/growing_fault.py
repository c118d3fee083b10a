"""A simulated in-situ series with known truth: a stacking fault in silicon that grows at one of its ends."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.io import load
from napari_hrstem_defects.simulation.building import build
from napari_hrstem_defects.simulation.exposure import expose
from napari_hrstem_defects.simulation.fields import edge_field
from napari_hrstem_defects.simulation.planar import FAULT_PLANES
from napari_hrstem_defects.simulation.presets import PRESETS, draw


def growing_fault(
    frames: int,
    *,
    rate_nm: float,
    length_nm: float = 2.0,
    drift_nm: tuple[float, float] = (0.0, 0.0),
    edge_px: int = 256,
    pixel_size_nm: float = 0.03,
    dose: float = 400.0,
    seed: int = 0,
) -> Iterator[NDArray[np.uint16]]:
    """Frames of silicon along [110] with an intrinsic stacking fault between two partial dislocations.

    Parameters
    ----------
    frames : int
    rate_nm : float
        Growth of the fault from frame to frame.
    length_nm : float
        Distance of the dislocations in the first frame.
    drift_nm : tuple of float
        Movement ``(y, x)`` of the specimen from frame to frame.
    edge_px, pixel_size_nm, dose, seed
        Of the images: side, pixel size, electrons a pixel, noise.

    Yields
    ------
    uint16 array (y, x)
    """
    parameters = draw(
        "si_perfect",
        dataclasses.replace(PRESETS["si_perfect"], nuisance=0.0),
        seed,
        {
            "shape": (edge_px, edge_px),
            "pixel_size_nm": pixel_size_nm,
            "dose": dose,
            "mode": "haadf",
            "bits": 16,
            "rotation_deg": 20.0,
        },
    )
    for index in range(frames):
        specimen = build(parameters, seed)
        normal = specimen.base.direction(FAULT_PLANES["diamond", "110"][0])
        along = np.array([normal[1], -normal[0]])
        _, _, step = specimen.base.stacking(normal)
        height = specimen.base.cut(normal, 0.0, "narrow")[0]
        # The end that stays is so far from the middle that the whole way of the other one is centred.
        start = -(length_nm + rate_nm * (frames - 1)) / 2
        for sign, end in ((1.0, start), (-1.0, start + length_nm + rate_nm * index)):
            specimen.fields.append(edge_field(height * normal + end * along, sign * step * along, normal))
        offset = (drift_nm[0] * index, drift_nm[1] * index)
        yield expose(specimen, dataclasses.replace(parameters, offset_nm=offset), seed, index)


def main() -> None:
    """Analyse such a series on two processes that are killed at random, go on, and draw what became of the fault."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--frames", type=int, default=500)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("results/growing-fault"))
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    movie, results, size = options.out / "fault.npy", options.out / "analysed", 0.03
    first, last = 1.5, 4.5
    rate = (last - first) / (options.frames - 1)
    drift = (0.4 / options.frames, -0.3 / options.frames)
    frames = growing_fault(
        options.frames, rate_nm=rate, length_nm=first, drift_nm=drift, pixel_size_nm=size, seed=options.seed
    )
    np.save(movie, np.stack(list(frames)))
    run = "from napari_hrstem_defects.cli import main; main()"
    command = [sys.executable, "-c", run, "analyze", str(movie), "--out", str(results), "--jobs", "2"]
    command += ["--pixel-size", str(size)]
    chance = random.Random(options.seed)
    # Killed after a random number of further frames, all processes at once.
    ends = sorted(chance.sample(range(1, options.frames), options.kills))
    done: dict[str, int] = {}
    begin = time.monotonic()
    for end in ends:
        process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL)
        while len(there := _done(results)) < end and process.poll() is None:
            time.sleep(0.05)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        again = [name for name, when in done.items() if there.get(name) != when]
        print(
            f"killed with {len(there)} of {options.frames} frames done, {len(again)} of {len(done)} done twice"
        )
        done = there
    subprocess.run(command, check=True)
    found = load(results / "fault")
    print(f"{time.monotonic() - begin:.0f} s; {len(found.regions)} regions, {len(found.histories)} histories")
    longest = max(found.histories, key=lambda row: row["frames"])
    per_frame = {key: longest[key] for key in longest if key.startswith("length_rate")}
    print(f"put in {rate:.5f} nm per frame; found {longest['frames']} frames, {per_frame}")
    if options.figure is not None:
        _draw(options.figure, np.load(movie, mmap_mode="r"), found, longest["history"], first, rate)


def _done(results: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (results / ".fault.series").glob("*.tif")}


def _draw(path: Path, movie: Any, found: Any, number: int, first: float, rate: float) -> None:
    from matplotlib.figure import Figure

    figure = Figure((12, 3.4), layout="constrained", dpi=110)
    axes = figure.subplots(1, 4, width_ratios=(1, 1, 1, 1.7))
    for panel, frame in zip(axes, np.linspace(0, len(movie) - 1, 3).round().astype(int), strict=False):
        panel.imshow(movie[frame], cmap="gray", vmax=np.quantile(movie[frame], 0.995))
        panel.contour(found.labels[frame] > 0, [0.5], colors="#D55E00", linewidths=1.4)
        panel.set_title(f"frame {frame}", fontsize=10)
        panel.set_axis_off()
    rows = [row for row in found.regions if row["history"] == number]
    frames = np.array([row["frame"] for row in rows])
    axes[3].plot(
        frames, [row["length_nm"] for row in rows], ".", color="#D55E00", markersize=3, label="measured"
    )
    axes[3].plot(frames, first + rate * frames, color="black", linewidth=1, label="distance of the partials")
    axes[3].set_xlabel("frame")
    axes[3].set_ylabel("length of the fault (nm)")
    axes[3].set_ylim(bottom=0)
    axes[3].legend(frameon=False)
    figure.savefig(path, metadata={"Software": None})


if __name__ == "__main__":
    main()
