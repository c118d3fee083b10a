"""Micrographs that come with the package, offered under *File → Open Sample*."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path


def sample_folder() -> Path:
    """Folder of the bundled micrographs: in the installed package, else (editable install) in the repository."""
    packaged = Path(str(files("napari_hrstem_defects"))) / "sample_data"
    return packaged if packaged.is_dir() else Path(__file__).parents[3] / "sample_data"
