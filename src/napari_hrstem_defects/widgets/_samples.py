"""Micrographs that come with the package, offered under *File → Open Sample*."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from napari_hrstem_defects.widgets._readers import LayerData, read_layers


def sample_folder() -> Path:
    """Folder of the bundled micrographs: in the installed package, else (editable install) in the repository."""
    packaged = Path(str(files("napari_hrstem_defects"))) / "sample_data"
    return packaged if packaged.is_dir() else Path(__file__).parents[3] / "sample_data"


def gaas_twin() -> list[LayerData]:
    """GaAs with a twin boundary."""
    return _layers("gaas_twin")


def si_fault_amorphous() -> list[LayerData]:
    """Silicon with a stacking fault and an amorphous area."""
    return _layers("si_fault_amorphous")


def si_fault_low_dose() -> list[LayerData]:
    """Silicon with a stacking fault, recorded with few electrons."""
    return _layers("si_fault_low_dose")


def si_perfect() -> list[LayerData]:
    """Silicon without a defect."""
    return _layers("si_perfect")


def si_series() -> list[LayerData]:
    """Time series of silicon."""
    return _layers("si_series")


def srtio3_amorphous() -> list[LayerData]:
    """Strontium titanate with an amorphous area."""
    return _layers("srtio3_amorphous")


def _layers(name: str) -> list[LayerData]:
    return read_layers(str(sample_folder() / f"{name}.tif"))
