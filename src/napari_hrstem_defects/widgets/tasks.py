"""What is done in a thread: a run, a time series, a scan, an export, a folder. Neither Qt nor the viewer's layers."""

from __future__ import annotations

import dataclasses
import importlib
import io
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.errors import Cancelled
from napari_hrstem_defects.models.process import KerasProcess
from napari_hrstem_defects.widgets.corrections import ClassMap, Labelled, after_stroke, labelled
from napari_hrstem_defects.widgets.model import PARTS, Inputs
from napari_hrstem_defects.widgets.outputs import (
    Findings,
    Layered,
    best_patches_of_series,
    describe,
    hatched,
    region_output,
    scan_outputs,
)
from napari_hrstem_defects.widgets.roles import Role
from napari_hrstem_defects.widgets.source import Source
from napari_hrstem_defects.widgets.worker import Monitor

if TYPE_CHECKING:
    from napari_hrstem_defects.core.analysis import Analysis
    from napari_hrstem_defects.models.scan import Scan

#: The severity of a series is kept if it needs no more memory than this, in bytes; the labels always are.
SEVERITY_BYTES = 2 * 2**30


@dataclass(frozen=True, eq=False)
class Request:
    """An image and what is wanted of it.

    Attributes
    ----------
    source : Source
    inputs : Inputs
    process : KerasProcess
        Where trained classifiers run.
    class_maps : mapping of int to ClassMap
        Frame → what an ensemble found in it.
    saved : mapping of int to uint8 array (y, x)
        Frame → labels of a result folder; where they differ from the automatic ones they were painted.
    """

    source: Source
    inputs: Inputs
    process: KerasProcess
    class_maps: Mapping[int, ClassMap]
    saved: Mapping[int, NDArray[np.uint8]]

    def labelled(self, frame: int, analysis: Analysis) -> Labelled:
        """Labels and regions of the analysis of a frame, with what was painted and scanned."""
        painted, saved = self.inputs.painted.get(frame), self.saved.get(frame)
        if saved is not None and saved.shape == analysis.labels.shape:
            painted = after_stroke(None, analysis.labels, saved, analysis.labels)
        return labelled(analysis, painted, self.class_maps.get(frame))


@dataclass(frozen=True, eq=False)
class Result(Layered):
    """What a run hands over to the GUI's thread.

    Attributes
    ----------
    analysis : Analysis
    findings : dict
        Frame → what the panel says about it.
    labelled : dict
        Frame → its labels and regions, with what was painted and scanned; empty unless they were asked for.
    """

    analysis: Analysis
    findings: dict[int, Findings]
    labelled: dict[int, Labelled]


@dataclass(frozen=True, eq=False)
class SeriesResult(Result):
    """What was found in a time series; its `analysis` is that of the frame that was shown.

    Attributes
    ----------
    warnings : dict
        Sentence → frames that it was raised for.
    request : Request
        What it was asked for; its best patch may be that of the frame shown.
    again : dict
        Frame that was analysed again last → its analysis.
    """

    warnings: dict[str, list[int]]
    request: Request
    again: dict[int, Analysis] = field(default_factory=dict)

    def analysis_of(self, monitor: Monitor, frame: int) -> Analysis:
        """The analysis of a frame, made again: one at a time is kept, for they need much memory."""
        if (known := self.again.get(frame)) is None:
            ((_, known),) = _analyses(monitor, self.request, [frame])
            self.again.clear()
            self.again[frame] = known
        return known


def run(
    monitor: Monitor,
    request: Request,
    previous: Analysis | None,
    start: str,
    write: Collection[str],
    kept: Collection[str],
) -> Result:
    """Analyse a frame, no further than what is to be written needs, and describe the layers.

    Parameters
    ----------
    monitor : Monitor
    request : Request
    previous : Analysis or None
        An earlier result for the same frame.
    start : str
        Step of the pipeline to begin with.
    write, kept : collection of str
        Steps of the panel whose layers are wanted, and those whose earlier results still hold.
    """
    from napari_hrstem_defects.core import pipeline
    from napari_hrstem_defects.models import for_recipe

    import_early()
    source, inputs = request.source, request.inputs
    micrograph = source.micrograph() if previous is None else previous.micrograph
    if micrograph.pixel_size_nm != source.pixel_size:
        micrograph = dataclasses.replace(micrograph, pixel_size_nm=source.pixel_size)
    steps = pipeline.STEPS
    begin = 0 if previous is None else steps.index(start)
    end = max(steps.index(part) for step in write for part in PARTS[step])

    def progress(step: str, fraction: float) -> None:
        done = steps.index(step) - begin + fraction
        monitor.progress(step, max(done, 0.0) / max(end + 1 - begin, 1))

    classifier = None
    if begin <= steps.index("classify") <= end and inputs.patches is None:
        classifier = for_recipe(inputs.recipe, process=request.process, cancelled=monitor.cancelled)
    analysis = pipeline.analyze(
        micrograph,
        inputs.recipe,
        classifier=classifier,
        # Given again they would be run again: what was found with them is in `previous`.
        best_patch=inputs.point if begin <= steps.index("best_patch") else None,
        patch_labels=inputs.patches if begin <= steps.index("classify") else None,
        previous=previous,
        start=steps[begin],
        stop=steps[end],
        progress=progress,
        cancelled=monitor.cancelled,
    )
    if previous is not None:
        analysis = analysis.taking_over(previous, tuple(part for step in kept for part in PARTS[step]))
    known, shown, frame = {}, analysis, source.frame
    if "segment" in write:
        found = known[frame] = request.labelled(frame, analysis)
        shown = analysis.with_labels(found.shown, found.regions)
    outputs = describe(shown, write)
    outputs += [region_output(found.numbered, found.regions, frame) for found in known.values()]
    if monitor.cancelled():
        raise Cancelled
    return Result(outputs, provenance_of(analysis), analysis, {frame: Findings.of(analysis)}, known)


def import_early() -> None:
    """Import here what napari and the panel import at the first result: it takes a second or so."""
    # Tables of points, colours of labels; plots; types of painted regions.
    for name in (
        "pandas",
        "skimage.color.colorconv",
        "matplotlib.backends.backend_qtagg",
        "matplotlib.figure",
        "napari_hrstem_defects.io.tables",
    ):
        importlib.import_module(name)


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


def run_series(monitor: Monitor, request: Request) -> SeriesResult:
    """Analyse every frame; only one at a time is loaded. Frames that were scanned have classes for types."""
    whole, shown = request.source.series(), request.source.frame
    frames = len(whole)
    labels, rest = (np.zeros(whole.shape, np.uint8) for _ in range(2))
    known: dict[int, Labelled] = {}
    findings: dict[int, Findings] = {}
    severity = np.zeros(whole.shape, np.float32) if labels.size * 4 <= SEVERITY_BYTES else None
    warned: dict[str, list[int]] = {}
    kept: Analysis | None = None
    for index, analysis in _analyses(monitor, request, range(frames)):
        known[index], findings[index] = request.labelled(index, analysis), Findings.of(analysis)
        labels[index], rest[index] = known[index].shown, hatched(analysis)
        if severity is not None:
            severity[index] = analysis.severity
        for text in analysis.warnings:
            warned.setdefault(text, []).append(index)
        if kept is None or index == shown:
            kept = analysis
    assert kept is not None
    whole_data = {Role.LABELS: labels, Role.SEVERITY: severity, Role.NOT_ASSESSED: rest}
    outputs = [
        dataclasses.replace(output, data=data, frame=shown, if_there=output.if_there and not data.any())
        for output in describe(kept, ("symmetry", "segment"))
        if (data := whole_data.get(output.role)) is not None
    ]
    outputs += best_patches_of_series({index: found.best_patch for index, found in findings.items()})
    found = provenance_of(kept), kept, findings, known
    return SeriesResult(outputs, *found, warned, request)


def _analyses(
    monitor: Monitor, request: Request, frames: Sequence[int], doing: str = "frame"
) -> Iterator[tuple[int, Analysis]]:
    """Analyse frames of a series one after another, each with its number."""
    from napari_hrstem_defects.core import pipeline
    from napari_hrstem_defects.models import for_recipe

    import_early()
    inputs = request.inputs
    classifier = for_recipe(inputs.recipe, process=request.process, cancelled=monitor.cancelled)
    for number, index in enumerate(frames):

        def progress(step: str, fraction: float, index: int = index, number: int = number) -> None:
            done = (pipeline.STEPS.index(step) + fraction) / len(pipeline.STEPS)
            monitor.progress(f"{doing} {index + 1} of {len(frames)}", (number + done) / len(frames))

        yield (
            index,
            pipeline.analyze(
                request.source.micrograph(index),
                inputs.recipe,
                classifier=classifier,
                best_patch=inputs.point,
                progress=progress,
                cancelled=monitor.cancelled,
            ),
        )


@dataclass(frozen=True, eq=False)
class Scanned(Layered):
    """What a scan gives the panel.

    Attributes
    ----------
    scan : Scan
    class_map : ClassMap
    known : Labelled or None
        That given, its regions with their class.
    """

    scan: Scan
    class_map: ClassMap
    known: Labelled | None


def scan_image(monitor: Monitor, request: Request, model: Path, known: Labelled | None) -> Scanned:
    """Slide an ensemble over an image, in the other process, and describe the layers.

    Parameters
    ----------
    monitor : Monitor
    request : Request
    model : Path
    known : Labelled or None
        Labels and regions of the frame, if there are any already.

    Raises
    ------
    ModelError
        If the model is no ensemble, or the image is smaller than its window.
    Cancelled
    """
    from napari_hrstem_defects.models.scan import scan_file
    from napari_hrstem_defects.models.store import file_sha256, read_contract

    micrograph = request.source.micrograph()
    found: Scan = request.process.call(
        scan_file,
        model,
        micrograph.frame().pixels,
        pixel_size_nm=micrograph.pixel_size_nm,
        progress=lambda fraction, text: monitor.progress(text, fraction),
        cancelled=monitor.cancelled,
    )
    contract = read_contract(model)
    provenance = {
        "classifier": contract.name,
        "classifier_sha256": file_sha256(model),
        "input_sha256": micrograph.sha256,
        "stride_px": found.stride_px,
    }
    class_map = ClassMap.of(found, contract.name, contract.patch_px, micrograph.pixel_size_nm)
    outputs = scan_outputs(found, request.source.frame)
    if known is not None:
        known = known.classified(class_map)
        outputs.append(region_output(known.numbered, known.regions, request.source.frame))
    return Scanned(outputs, provenance, found, class_map, known)


def export_image(
    monitor: Monitor, analysis: Analysis, reviewed: Mapping[int, str], folder: Path, overwrite: bool
) -> Path:
    """Write the result of one image or frame into `folder`; `reviewed` says which regions were accepted.

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
    _add_reviews(folder, {0: reviewed})
    return folder


def _add_reviews(folder: Path, reviewed: Mapping[int, Mapping[int, str]]) -> None:
    """Give the written table of regions a column ``reviewed``, where any region was accepted or rejected."""
    from napari_hrstem_defects.io.tables import read_table, write_table

    if any(reviewed.values()):
        path = folder / "regions.csv"
        rows = [
            {**row, "reviewed": reviewed.get(row.get("frame", 0), {}).get(row["id"], "")}
            for row in read_table(path, text=("kind", "type"))
        ]
        write_table(path.with_suffix(".partial"), list(rows[0]), rows)
        path.with_suffix(".partial").replace(path)


def export_series(
    monitor: Monitor,
    request: Request,
    verdicts: Mapping[tuple[int, int, int], bool],
    folder: Path,
    overwrite: bool,
) -> Path:
    """Analyse and write every frame of a time series, one at a time, with what was painted, scanned and reviewed.

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

    frames = len(request.source.series())
    options: dict[str, Any] = {"best_patch": request.inputs.point, "cancelled": monitor.cancelled}
    reviewed = {}
    with ResultWriter(folder, frames=frames, overwrite=overwrite, **options) as writer:
        for index, analysis in _analyses(monitor, request, range(frames), "writing frame"):
            found = request.labelled(index, analysis)
            writer.add(found.in_analysis(analysis))
            reviewed[index] = found.reviewed(index, verdicts)
    _add_reviews(folder, reviewed)
    return folder


def overview_png(monitor: Monitor, analysis: Analysis) -> bytes:
    """The figure of an export, ``overview.png``, as a PNG image."""
    from napari_hrstem_defects.io.figure import overview_figure

    monitor.progress("drawing the figure", 0.3)
    buffer = io.BytesIO()
    overview_figure(analysis).savefig(buffer, format="png", dpi=150)
    return buffer.getvalue()


def folder_in(parent: Path, source: Source) -> Path:
    """Folder of the result of an image: named like it, without its suffix."""
    from napari_hrstem_defects.batch.inputs import folder_name
    from napari_hrstem_defects.io import SUFFIXES

    name = Path(source.name)
    return parent / folder_name(name.stem if name.suffix.lower() in SUFFIXES else source.name)
