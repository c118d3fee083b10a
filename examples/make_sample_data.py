"""Make the micrographs of sample_data, with their truth masks, bit for bit as they are in the repository.

Run it as ``python examples/make_sample_data.py [FOLDER]``; without a folder the files in ``sample_data`` are replaced.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import numpy as np
import tifffile

from napari_hrstem_defects.simulation import SimulatedMicrograph, simulate, simulate_series

SHAPE = (512, 512)
SAMPLES = {
    "si_fault_amorphous": {
        "preset": "si_demo",
        "seed": 10,
        "shape": (768, 768),
        "px_per_period": 19.0,
        "dose": 600.0,
        "mode": "haadf",
    },
    "si_perfect": {
        "preset": "si_perfect",
        "seed": 4,
        "shape": SHAPE,
        "px_per_period": 17.0,
        "mode": "haadf",
        "dose": 500.0,
    },
    "gaas_twin": {
        "preset": "twin",
        "seed": 3,
        "shape": SHAPE,
        "material": "gaas",
        "px_per_period": 18.0,
        "mode": "haadf",
        "dose": 400.0,
    },
    "si_fault_low_dose": {
        "preset": "si_stacking_fault",
        "seed": 2,
        "shape": SHAPE,
        "px_per_period": 16.0,
        "dose": 30.0,
        "mode": "haadf",
        "background": 0.65,
    },
    "srtio3_amorphous": {
        "preset": "amorphous",
        "seed": 5,
        "shape": SHAPE,
        "material": "srtio3",
        "zone_axis": "100",
        "px_per_period": 22.0,
        "dose": 200.0,
        "mode": "haadf",
    },
}
SERIES = {
    "preset": "amorphous",
    "seed": 8,
    "frames": 5,
    "growth": 1.15,
    "shape": (288, 288),
    "material": "si",
    "zone_axis": "110",
    "px_per_period": 15.0,
    "dose": 150.0,
    "mode": "haadf",
}


def write(path: Path, pixels: np.ndarray, pixel_size_nm: float, name: str) -> None:
    """Write an uncompressed OME-TIFF with the pixel size; no date or random identifier, so that it can be repeated."""
    metadata = {
        "axes": "TYX" if pixels.ndim == 3 else "YX",
        "Name": name,
        "PhysicalSizeX": round(pixel_size_nm, 8),
        "PhysicalSizeXUnit": "nm",
        "PhysicalSizeY": round(pixel_size_nm, 8),
        "PhysicalSizeYUnit": "nm",
        "UUID": "urn:uuid:00000000-0000-0000-0000-000000000000",
    }
    tifffile.imwrite(
        path, pixels, ome=True, metadata=metadata, photometric="minisblack", software="hrstem-defects"
    )


def write_sample(folder: Path, name: str, frames: list[SimulatedMicrograph]) -> None:
    """Write ``<name>.tif`` and ``<name>_truth.tif`` of one micrograph or a series."""
    size = frames[0].micrograph.pixel_size_nm
    assert size is not None
    images = np.stack([np.asarray(frame.micrograph.data) for frame in frames])
    truth = np.stack([frame.labels for frame in frames])
    write(folder / f"{name}.tif", images if len(frames) > 1 else images[0], size, name)
    write(folder / f"{name}_truth.tif", truth if len(frames) > 1 else truth[0], size, f"{name} truth")


def make(folder: Path) -> list[Path]:
    """Write all samples and their checksums; return the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, arguments in SAMPLES.items():
        write_sample(folder, name, [simulate(**arguments, bits=8)])
    write_sample(folder, "si_series", simulate_series(**SERIES, bits=8))
    paths = sorted(folder.glob("*.tif"))
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in paths]
    (folder / "SHA256SUMS").write_text("".join(lines), encoding="utf-8", newline="\n")
    return paths


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).parents[1] / "sample_data")
    for made in make(parser.parse_args().folder):
        print(made)
