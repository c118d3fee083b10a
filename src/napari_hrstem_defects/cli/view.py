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
    try:
        from napari_hrstem_defects.widgets.opening import view
    except (ImportError, RuntimeError) as error:  # without napari, without a Qt binding
        complain(_NEEDED)
        raise typer.Exit(FAILED) from error
    from napari_hrstem_defects.io import read
    from napari_hrstem_defects.widgets.contributions import sample_folder

    with errors_as_lines(FAILED):
        micrograph = read(sample_folder() / _SAMPLE) if image is None else read(image, select=select)
        view(micrograph)
