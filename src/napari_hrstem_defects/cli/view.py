"""The command ``view``."""

from __future__ import annotations

from pathlib import Path

import typer

from napari_hrstem_defects.cli.console import FAILED, complain, errors_as_lines

_SAMPLE = "gaas_twin.tif"
_NEEDED = (
    'The viewer needs napari with a Qt binding; install them with pip install "napari-hrstem-defects[qt]".'
)


def run(image: Path | None) -> None:
    """Open napari with a micrograph and its analysis (of a series, that of the first frame)."""
    try:
        from napari_hrstem_defects.widgets._results import show
        from napari_hrstem_defects.widgets._samples import sample_folder
    except (ImportError, RuntimeError):
        complain(_NEEDED)
        raise typer.Exit(FAILED) from None
    from napari_hrstem_defects.core.pipeline import analyze
    from napari_hrstem_defects.io import read

    with errors_as_lines(FAILED):
        micrograph = read(sample_folder() / _SAMPLE if image is None else image)
        analysis = analyze(next(iter(micrograph)))
        for warning in analysis.warnings:
            complain(warning)
        show(micrograph, analysis)
