"""Micrographs that come with the package, offered under *File → Open Sample*, each with its true defects."""

from __future__ import annotations

import functools
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np

from napari_hrstem_defects.widgets._readers import LayerData, read_layers


def sample_folder() -> Path:
    """Folder of the bundled micrographs: in the installed package, else (editable install) in the repository."""
    packaged = Path(str(files("napari_hrstem_defects"))) / "sample_data"
    return packaged if packaged.is_dir() else Path(__file__).parents[3] / "sample_data"


def _layers(name: str) -> list[LayerData]:
    """The micrograph, and below its name what is known to be in it: a layer to compare with, hidden."""
    if "qtpy.QtWidgets" not in sys.modules:
        # No window; there may be no Qt at all.
        return _read(name)
    from napari_hrstem_defects.widgets.opening import busy

    with busy("Opening the sample…"):
        return _read(name)


def _read(name: str) -> list[LayerData]:
    from napari_hrstem_defects.widgets.layers import label_colours
    from napari_hrstem_defects.widgets.outputs import LABEL_CLASSES, LABEL_COLOURS

    image, truth = (read_layers(str(sample_folder() / f"{name}{part}.tif"))[0] for part in ("", "_truth"))
    labels, about, _ = truth
    options = {key: about[key] for key in ("scale", "units", "axis_labels")} | {
        "name": f"True defects · {name}",
        "visible": False,
        "opacity": 0.6,
        "colormap": label_colours(LABEL_COLOURS),
        "features": {"index": list(range(len(LABEL_CLASSES))), "class": list(LABEL_CLASSES)},
    }
    return [image, (np.asarray(labels), options, "labels")]


#: Named in the manifest.
gaas_twin = functools.partial(_layers, "gaas_twin")
si_fault_amorphous = functools.partial(_layers, "si_fault_amorphous")
si_fault_low_dose = functools.partial(_layers, "si_fault_low_dose")
si_perfect = functools.partial(_layers, "si_perfect")
si_series = functools.partial(_layers, "si_series")
srtio3_amorphous = functools.partial(_layers, "srtio3_amorphous")
