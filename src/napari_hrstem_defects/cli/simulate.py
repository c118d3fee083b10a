"""The command ``simulate``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from napari_hrstem_defects.batch.run import make_folder
from napari_hrstem_defects.cli.console import USAGE, Reporter, errors_as_lines
from napari_hrstem_defects.core.errors import WriteError
from napari_hrstem_defects.core.metrics import IGNORE
from napari_hrstem_defects.io.ome import OmeTiffWriter
from napari_hrstem_defects.simulation import SimulatedMicrograph, sample_set, simulate


def run(out: Path, count: int, seed: int, preset: str | None, quiet: bool) -> None:
    """Write simulated micrographs, their masks and how to make them again."""
    with errors_as_lines(USAGE), Reporter(quiet) as reporter:
        made = _micrographs(count, seed, preset)
        descriptions = {}
        for index, simulated in enumerate(made):
            make_folder(out)
            name = simulated.micrograph.name
            try:
                _write(out, name, simulated)
                descriptions[name] = simulated.description
                text = json.dumps(descriptions, indent=2) + "\n"
                (out / "simulation.json").write_text(text, encoding="utf-8")
            except OSError as error:
                raise WriteError(
                    f"{out}: the images cannot be written ({error.strerror}); choose a folder with space and access."
                ) from error
            kinds = ", ".join(dict.fromkeys(defect.kind for defect in simulated.defects)) or "no defect"
            reporter.progress((index + 1) / count, name)
            reporter.say(f"{out / name}.tif: {kinds}")


def _micrographs(count: int, seed: int, preset: str | None) -> Iterator[SimulatedMicrograph]:
    if preset is None:
        return iter(sample_set(count, seed))
    return (simulate(preset, seed + index) for index in range(count))


def _write(out: Path, name: str, simulated: SimulatedMicrograph) -> None:
    from PIL import Image

    pixels = np.asarray(simulated.micrograph.data)
    size = simulated.micrograph.pixel_size_nm
    with OmeTiffWriter(
        out / f"{name}.tif", pixels.shape, pixels.dtype, size, simulated.micrograph.sha256
    ) as image:
        image.write(pixels)
    mask = np.where(simulated.ignore, IGNORE, simulated.labels).astype(np.uint8)
    Image.fromarray(mask).save(out / f"{name}_mask.png")
