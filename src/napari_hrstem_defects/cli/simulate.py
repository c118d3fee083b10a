"""The command ``simulate``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from napari_hrstem_defects.cli.console import USAGE, Reporter, errors_as_lines
from napari_hrstem_defects.core.metrics import IGNORE
from napari_hrstem_defects.io.folders import make_folder, unwritable
from napari_hrstem_defects.io.ome import OmeTiffWriter
from napari_hrstem_defects.io.tables import write_table
from napari_hrstem_defects.simulation import SimulatedMicrograph, sample_set, simulate
from napari_hrstem_defects.simulation.class_patches import SCHEMES, class_images, class_patches

#: Presets that make patches of the classes of Marvin, Holt et al.: name → scheme.
CLASS_PRESETS = {"cdte-defects": "CdTe", "sto-defects": "STO"}
# Share of the bar that cutting patches takes.
_PATCHES_SHARE = 0.8


def run(out: Path, count: int, seed: int, preset: str | None, quiet: bool) -> None:
    """Write simulated micrographs, their masks and how to make them again."""
    with errors_as_lines(USAGE), Reporter(quiet) as reporter:
        if preset in CLASS_PRESETS:
            _write_classes(out, count, seed, preset, reporter)
            return
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
                raise unwritable(out, error) from error
            kinds = ", ".join(dict.fromkeys(defect.kind for defect in simulated.defects)) or "no defect"
            reporter.progress((index + 1) / count, name)
            reporter.say(f"{out / name}.tif: {kinds}")


def _write_classes(out: Path, count: int, seed: int, preset: str, reporter: Reporter) -> None:
    """Patches of each class with their table, and a whole image of each with the mask of its classes."""
    from PIL import Image

    scheme = SCHEMES[CLASS_PRESETS[preset]]
    made = class_patches(
        scheme, count, seed, progress=lambda share, name: reporter.progress(_PATCHES_SHARE * share, name)
    )
    rows = []
    try:
        for folder in (out, out / "patches", out / "images"):
            make_folder(folder)
        for number, (pixels, label, source, corner) in enumerate(
            zip(made.pixels, made.labels, made.source, made.corners, strict=True)
        ):
            name = f"patches/{made.classes[label]}_{number}.png"
            Image.fromarray(np.rint(255 * np.clip(pixels, 0, 1)).astype(np.uint8)).save(out / name)
            rows.append(
                {"file": name, "label": made.classes[label], "source": source, "y": corner[0], "x": corner[1]}
            )
        write_table(out / "patches.csv", ("file", "label", "source", "y", "x"), rows)
        descriptions = {}
        for image, classes in class_images(scheme, seed):
            name = image.micrograph.name
            _write(out / "images", name, image)
            Image.fromarray(classes).save(out / "images" / f"{name}_classes.png")
            descriptions[name] = image.description
            reporter.say(f"{out / 'images' / name}.tif")
        text = json.dumps({"classes": made.classes, "images": descriptions}, indent=2) + "\n"
        (out / "simulation.json").write_text(text, encoding="utf-8")
    except OSError as error:
        raise unwritable(out, error) from error
    counts = np.bincount(made.labels).tolist()
    numbers = ", ".join(f"{name} {n}" for name, n in zip(made.classes, counts, strict=True))
    reporter.say(f"{out / 'patches.csv'}: {numbers}")


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
