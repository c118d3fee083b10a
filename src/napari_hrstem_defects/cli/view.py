"""The command ``view``."""

from __future__ import annotations

from pathlib import Path

import typer

from napari_hrstem_defects.cli.console import FAILED, complain, errors_as_lines

_SAMPLE = "si_fault_amorphous.tif"
_NEEDED = (
    'The viewer needs napari with a Qt binding; install them with pip install "napari-hrstem-defects[qt]".'
)


def run(image: Path | None, select: str | None) -> None:
    """Open napari with a micrograph and the panel, and analyse what is shown."""
    from napari_hrstem_defects.widgets import _view

    if not _view.available():
        complain(_NEEDED)
        raise typer.Exit(FAILED)
    from napari_hrstem_defects.io import read
    from napari_hrstem_defects.widgets._samples import sample_folder

    with errors_as_lines(FAILED):
        micrograph = read(sample_folder() / _SAMPLE) if image is None else read(image, select=select)
        _view.open_panel(micrograph)
        _view.wait()
