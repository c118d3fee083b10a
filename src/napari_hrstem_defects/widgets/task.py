"""What a run does in its thread."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from napari_hrstem_defects.core import pipeline
from napari_hrstem_defects.core.errors import Cancelled
from napari_hrstem_defects.core.pipeline import Analysis
from napari_hrstem_defects.core.recipe import Recipe
from napari_hrstem_defects.widgets.outputs import Histogram, Output, describe, histogram
from napari_hrstem_defects.widgets.roles import Role
from napari_hrstem_defects.widgets.source import Source
from napari_hrstem_defects.widgets.steps import BEGINS, Inputs
from napari_hrstem_defects.widgets.worker import Monitor

#: What is shown while a step of the pipeline runs.
STAGES = {
    "preprocess": "lattice and contrast",
    "classify": "patches",
    "best_patch": "best patch",
    "domains": "other lattices",
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
    import_early()
    analysis = previous
    if start is not None or analysis is None:
        micrograph = source.micrograph() if previous is None else previous.micrograph
        if micrograph.pixel_size_nm != source.pixel_size:
            micrograph = dataclasses.replace(micrograph, pixel_size_nm=source.pixel_size)
        first = pipeline.STEPS[0] if start is None or previous is None else BEGINS[start]
        begin = pipeline.STEPS.index(first)

        def progress(step: str, fraction: float) -> None:
            done = pipeline.STEPS.index(step) - begin + fraction
            monitor.progress(step, done / (len(pipeline.STEPS) - begin))

        analysis = pipeline.analyze(
            micrograph,
            inputs.recipe,
            # Given again they would be run again: what was found with them is in `previous`.
            best_patch=inputs.point if begin <= pipeline.STEPS.index("best_patch") else None,
            patch_labels=inputs.patches if begin <= pipeline.STEPS.index("classify") else None,
            previous=previous,
            start=first,
            progress=progress,
            cancelled=monitor.cancelled,
        )
    outputs = describe(analysis, write)
    if monitor.cancelled():
        raise Cancelled
    return Result(analysis, outputs, histogram(analysis), provenance_of(analysis))


def preview(monitor: Monitor, recipe: Recipe, previous: Analysis) -> Result:
    """Labels of an analysis at other thresholds, with the severity as it was."""
    analysis = pipeline.analyze(
        previous.micrograph, recipe, previous=previous, start="segment", cancelled=monitor.cancelled
    )
    labels = [output for output in describe(analysis, ("segment",)) if output.role is Role.LABELS]
    return Result(analysis, labels, None, provenance_of(analysis))


def import_early() -> None:
    """Import here what napari would import in the GUI's thread at the first table of a layer: a second or so."""
    with contextlib.suppress(ImportError):
        importlib.import_module("pandas")


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
