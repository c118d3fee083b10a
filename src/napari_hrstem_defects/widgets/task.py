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
from napari_hrstem_defects.models.process import KerasProcess
from napari_hrstem_defects.widgets.class_map import ClassMap
from napari_hrstem_defects.widgets.classifiers import classifier_for
from napari_hrstem_defects.widgets.correction import Labelled, labelled
from napari_hrstem_defects.widgets.outputs import Histogram, Output, describe, histogram
from napari_hrstem_defects.widgets.source import Source
from napari_hrstem_defects.widgets.steps import PARTS, Inputs
from napari_hrstem_defects.widgets.worker import Monitor

#: What is shown while a step of the pipeline runs.
STAGES = {
    "preprocess": "lattice and contrast",
    "domains": "lattices",
    "classify": "patches",
    "best_patch": "best patch",
    "variance": "variance",
    "symmetry": "severity",
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
    labelled : dict
        Frame → its labels and regions, with what was painted and scanned; empty unless they were asked for.
    """

    analysis: Analysis
    outputs: list[Output]
    histogram: Histogram | None
    provenance: dict[str, Any]
    labelled: dict[int, Labelled]


def run(
    monitor: Monitor,
    source: Source,
    inputs: Inputs,
    previous: Analysis | None,
    start: str,
    write: Collection[str],
    kept: Collection[str],
    process: KerasProcess,
    class_map: ClassMap | None = None,
) -> Result:
    """Analyse a frame, no further than what is to be written needs, and describe the layers.

    Parameters
    ----------
    monitor : Monitor
    source : Source
    inputs : Inputs
    previous : Analysis or None
        An earlier result for the same frame.
    start : str
        Step of the pipeline to begin with.
    write : collection of str
        Steps of the panel whose layers are wanted.
    kept : collection of str
        Steps of the panel whose earlier results still hold.
    process : KerasProcess
        Where trained classifiers run.
    class_map : ClassMap, optional
        What an ensemble found in the frame.
    """
    import_early()
    micrograph = source.micrograph() if previous is None else previous.micrograph
    if micrograph.pixel_size_nm != source.pixel_size:
        micrograph = dataclasses.replace(micrograph, pixel_size_nm=source.pixel_size)
    begin = 0 if previous is None else pipeline.STEPS.index(start)
    end = max(pipeline.STEPS.index(part) for step in write for part in PARTS[step])

    def progress(step: str, fraction: float) -> None:
        done = pipeline.STEPS.index(step) - begin + fraction
        monitor.progress(step, max(done, 0.0) / max(end + 1 - begin, 1))

    classifier = None
    if begin <= pipeline.STEPS.index("classify") <= end and inputs.patches is None:
        classifier = classifier_for(inputs.recipe, process, monitor)
    analysis = pipeline.analyze(
        micrograph,
        inputs.recipe,
        classifier=classifier,
        # Given again they would be run again: what was found with them is in `previous`.
        best_patch=inputs.point if begin <= pipeline.STEPS.index("best_patch") else None,
        patch_labels=inputs.patches if begin <= pipeline.STEPS.index("classify") else None,
        previous=previous,
        start=pipeline.STEPS[begin],
        stop=pipeline.STEPS[end],
        progress=progress,
        cancelled=monitor.cancelled,
    )
    if previous is not None:
        analysis = analysis.taking_over(previous, tuple(part for step in kept for part in PARTS[step]))
    known, shown, frame = {}, analysis, source.frame or 0
    if "segment" in write:
        found = known[frame] = labelled(analysis, inputs.painted.get(frame), class_map)
        shown = analysis.with_labels(found.shown, found.regions)
    outputs = describe(shown, write)
    if monitor.cancelled():
        raise Cancelled
    return Result(analysis, outputs, histogram(analysis), provenance_of(analysis), known)


def import_early() -> None:
    """Do here what napari would do in the GUI's thread at the first layers: it takes a second or so."""
    # Tables of points, colours of labels.
    for name in ("pandas", "skimage.color.colorconv"):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    # The dashes of lines, which napari's label layers can draw; they are kept once they are made.
    with contextlib.suppress(ImportError, AttributeError):
        importlib.import_module("vispy.visuals.line.dash_atlas").DashAtlas()


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
