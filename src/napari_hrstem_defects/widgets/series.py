"""All frames of a time series, one after another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.core import pipeline
from napari_hrstem_defects.core.pipeline import Analysis
from napari_hrstem_defects.models.process import KerasProcess
from napari_hrstem_defects.widgets.class_map import ClassMap
from napari_hrstem_defects.widgets.classifiers import classifier_for
from napari_hrstem_defects.widgets.correction import Labelled, labelled
from napari_hrstem_defects.widgets.outputs import Histogram, Output, describe, histogram
from napari_hrstem_defects.widgets.roles import Role
from napari_hrstem_defects.widgets.source import Source
from napari_hrstem_defects.widgets.steps import Inputs
from napari_hrstem_defects.widgets.task import provenance_of
from napari_hrstem_defects.widgets.worker import Monitor

#: The severity of a series is kept if it needs no more memory than this, in bytes; the labels always are.
SEVERITY_BYTES = 2 * 2**30


@dataclass(frozen=True, eq=False)
class SeriesResult:
    """What was found in a time series.

    Attributes
    ----------
    labelled : dict
        Frame → its labels and regions, with what was painted and scanned.
    severity : float32 array (t, y, x) or None
        None where it would need too much memory.
    warnings : tuple of str
        Each with the number of frames it was raised for.
    analysis : Analysis
        Of the frame that was shown.
    outputs : list of Output
    histogram : Histogram or None
        Of the severity of that frame.
    provenance : dict
    inputs : Inputs
        What it was asked for; its best patch may be that of the frame shown.
    """

    labelled: dict[int, Labelled]
    severity: NDArray[np.float32] | None
    warnings: tuple[str, ...]
    analysis: Analysis
    outputs: list[Output]
    histogram: Histogram | None
    provenance: dict[str, Any]
    inputs: Inputs


def run_series(
    monitor: Monitor,
    source: Source,
    inputs: Inputs,
    shown: int,
    process: KerasProcess,
    class_maps: Mapping[int, ClassMap],
) -> SeriesResult:
    """Analyse every frame; only one at a time is loaded. Frames that were scanned have classes for types."""
    whole = source.series()
    frames = len(whole)
    classifier = classifier_for(inputs.recipe, process, monitor)
    labels: NDArray[np.uint8] = np.zeros(whole.shape, np.uint8)
    known: dict[int, Labelled] = {}
    severity = np.zeros(whole.shape, np.float32) if labels.size * 4 <= SEVERITY_BYTES else None
    counts: dict[str, int] = {}
    kept: Analysis | None = None
    for index in range(frames):
        analysis = pipeline.analyze(
            source.micrograph(index),
            inputs.recipe,
            classifier=classifier,
            best_patch=inputs.point,
            progress=_progress(monitor, index, frames),
            cancelled=monitor.cancelled,
        )
        known[index] = labelled(analysis, inputs.painted.get(index), class_maps.get(index))
        labels[index] = known[index].shown
        if severity is not None:
            severity[index] = analysis.severity
        for text in analysis.warnings:
            counts[text] = counts.get(text, 0) + 1
        if kept is None or index == shown:
            kept = analysis
    assert kept is not None
    warnings = tuple(f"{text} ({count} of {frames} frames)" for text, count in counts.items())
    outputs = []
    for output in describe(kept, ("best_patch", "symmetry", "segment")):
        whole_data = {Role.LABELS: labels, Role.SEVERITY: severity, Role.BEST_PATCH: output.data}.get(
            output.role
        )
        if whole_data is not None:
            outputs.append(
                Output(
                    output.role,
                    output.kind,
                    whole_data,
                    output.options,
                    output.kept_up,
                    features=output.features,
                    frame=shown,
                )
            )
    return SeriesResult(
        known, severity, warnings, kept, outputs, histogram(kept), provenance_of(kept), inputs
    )


def _progress(monitor: Monitor, index: int, frames: int) -> pipeline.Progress:
    def report(step: str, fraction: float) -> None:
        done = (pipeline.STEPS.index(step) + fraction) / len(pipeline.STEPS)
        monitor.progress(f"frame {index + 1} of {frames}", (index + done) / frames)

    return report
