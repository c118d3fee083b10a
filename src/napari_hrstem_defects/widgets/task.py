"""What a run does in its thread."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from napari_hrstem_defects.core import pipeline
from napari_hrstem_defects.core.errors import Cancelled
from napari_hrstem_defects.core.pipeline import Analysis
from napari_hrstem_defects.widgets.outputs import Histogram, Output, describe, histogram
from napari_hrstem_defects.widgets.source import Source
from napari_hrstem_defects.widgets.steps import Inputs
from napari_hrstem_defects.widgets.worker import Monitor

#: What is shown while a step of the pipeline runs.
STAGES = {
    "preprocess": "lattice and contrast",
    "classify": "patches",
    "best_patch": "best patch",
    "symmetry": "severity",
    "variance": "variance",
    "segment": "labels",
    "regions": "regions",
}


@dataclass(frozen=True, eq=False)
class Result:
    """What a run hands over to the GUI's thread.

    Attributes
    ----------
    analysis : Analysis
    outputs : list of Output
    histogram : Histogram or None
    provenance : dict
        For the metadata of the layers.
    """

    analysis: Analysis
    outputs: list[Output]
    histogram: Histogram | None
    provenance: dict[str, Any]


def run(
    monitor: Monitor,
    source: Source,
    inputs: Inputs,
    previous: Analysis | None,
    start: str | None,
    write: Collection[str],
) -> Result:
    """Analyse a frame from the step `start` on (None: nothing is left to do) and describe the layers."""
    analysis = previous
    if start is not None or analysis is None:
        micrograph = source.micrograph() if previous is None else previous.micrograph
        begin = pipeline.STEPS.index(start) if start else 0

        def progress(step: str, fraction: float) -> None:
            done = pipeline.STEPS.index(step) - begin + fraction
            monitor.progress(step, done / (len(pipeline.STEPS) - begin))

        analysis = pipeline.analyze(
            micrograph,
            inputs.recipe,
            best_patch=inputs.point,
            patch_labels=inputs.patches,
            previous=previous,
            start=start if previous is not None else None,
            progress=progress,
            cancelled=monitor.cancelled,
        )
    outputs = describe(analysis, write)
    if monitor.cancelled():
        raise Cancelled
    return Result(analysis, outputs, histogram(analysis), provenance_of(analysis))


def provenance_of(analysis: Analysis) -> dict[str, Any]:
    """How a layer came about, for its metadata."""
    from napari_hrstem_defects.io.provenance import software

    best = analysis.best_patch
    return {
        "recipe": analysis.recipe.to_dict(),
        "input_sha256": analysis.micrograph.sha256,
        "pixel_size_nm": analysis.micrograph.pixel_size_nm,
        "classifier": analysis.patches.classifier,
        "best_patch": None if best is None else dataclasses.asdict(best),
        "software": dict(software()),
    }
