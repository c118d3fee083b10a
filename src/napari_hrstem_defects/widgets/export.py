"""Export of what the panel shows: the files that the command line writes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from napari_hrstem_defects.core import pipeline
from napari_hrstem_defects.core.pipeline import Analysis
from napari_hrstem_defects.models.process import KerasProcess
from napari_hrstem_defects.widgets.class_map import ClassMap
from napari_hrstem_defects.widgets.classifiers import classifier_for
from napari_hrstem_defects.widgets.correction import PAINTED, labelled
from napari_hrstem_defects.widgets.source import Source
from napari_hrstem_defects.widgets.steps import Inputs
from napari_hrstem_defects.widgets.worker import Monitor


def export_image(monitor: Monitor, analysis: Analysis, folder: Path, overwrite: bool) -> Path:
    """Write the result of one image or frame into `folder`.

    Raises
    ------
    WriteError
        If the folder exists or cannot be written.
    Cancelled
        Nothing is left behind then.
    """
    from napari_hrstem_defects.io import ResultWriter

    monitor.progress("writing", 0.3)
    with ResultWriter(folder, overwrite=overwrite, cancelled=monitor.cancelled) as writer:
        writer.add(analysis)
    return folder


def export_series(
    monitor: Monitor,
    source: Source,
    inputs: Inputs,
    folder: Path,
    overwrite: bool,
    class_maps: Mapping[int, ClassMap],
    process: KerasProcess,
) -> Path:
    """Analyse and write every frame of a time series, one at a time, with what was painted and scanned.

    Raises
    ------
    WriteError
        If the folder exists or cannot be written.
    MicrographError
        If a frame cannot be analysed.
    Cancelled
        Nothing is left behind then.
    """
    from napari_hrstem_defects.io import ResultWriter

    frames = len(source.series())
    classifier = classifier_for(inputs.recipe, process, monitor)
    with ResultWriter(
        folder, frames=frames, overwrite=overwrite, best_patch=inputs.point, cancelled=monitor.cancelled
    ) as writer:
        for index in range(frames):
            monitor.progress(f"writing frame {index + 1} of {frames}", index / frames)
            analysis = pipeline.analyze(
                source.micrograph(index),
                inputs.recipe,
                classifier=classifier,
                best_patch=inputs.point,
                cancelled=monitor.cancelled,
            )
            found = labelled(analysis, inputs.painted.get(index), class_maps.get(index))
            note = PAINTED if index in inputs.painted else None
            analysis = analysis.with_labels(found.shown, found.regions, note)
            if index in class_maps:
                analysis = class_maps[index].noted(analysis)
            writer.add(analysis)
    return folder


def folder_name(name: str) -> str:
    """Name of the result's folder: the image's, without its suffix."""
    from napari_hrstem_defects.io import SUFFIXES

    stem = Path(name).stem if Path(name).suffix.lower() in SUFFIXES else name
    return "".join("_" if letter in '/\\:*?"<>|' else letter for letter in stem).strip() or "result"
