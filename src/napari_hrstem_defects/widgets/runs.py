"""Work in the background: a run at a time with progress and Cancel, its layers; regions measured after painting."""

from __future__ import annotations

import dataclasses
import functools
import gc
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer

from napari_hrstem_defects.widgets import layers, tasks
from napari_hrstem_defects.widgets.corrections import (
    ClassMap,
    Labelled,
    changed_frames,
    corrected,
    measured_in,
)
from napari_hrstem_defects.widgets.model import (
    PARTS,
    SHOWN_AS,
    STEP_NAMES,
    Document,
    Inputs,
    first_of,
    outdated,
)
from napari_hrstem_defects.widgets.outputs import Layered, Output, region_output
from napari_hrstem_defects.widgets.roles import Role
from napari_hrstem_defects.widgets.worker import Failure, Monitor, TaskWorker

if TYPE_CHECKING:
    from napari_hrstem_defects.widgets.session import Session

#: Time for the window to draw itself and to answer between two layers.
_PAUSE_MS = 20
#: Layers that are written in less than this, in s, are written together: those that show the same as before.
_TOGETHER_S = 0.004
#: Message without an image.
NO_IMAGE = "Open an image first: drop a file on the window, or take one of File → Open Sample."


@dataclass(eq=False)
class _Job:
    """A run and what it was started for.

    Attributes
    ----------
    document : Document
        The image it is about; the session's empty one if it is about none.
    inputs : Inputs
    frame : int
    steps, kept : frozenset of str
        Whose layers it writes, and whose earlier results still hold beside them; both empty for other tasks (export,
        scan), whose result goes to `done`.
    done : callable or None
    result : Layered or None
        What has come back, as long as its layers are being written.
    left : list of Output
        Layers that are still to be written.
    """

    document: Document
    inputs: Inputs
    frame: int
    steps: frozenset[str] = frozenset()
    kept: frozenset[str] = frozenset()
    done: Callable[[Any], None] | None = None
    result: Layered | None = None
    left: list[Output] = field(default_factory=list)


class Runs:
    """Runs of one session, one at a time, and the regions that are measured beside them.

    Parameters
    ----------
    session : Session
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._job: _Job | None = None
        self._worker: TaskWorker | None = None
        self._again = False
        # By image and frame.
        self._measuring: dict[tuple[str, int], TaskWorker] = {}

    @property
    def running(self) -> bool:
        """Whether a run is under way."""
        return self._job is not None

    def is_running(self, document: Document, step: str) -> bool:
        """Whether a step of an image is being run."""
        return self._job is not None and self._job.document is document and step in self._job.steps

    # Starting and stopping ------------------------------------------------------------------------------------

    def all(self) -> None:
        """Run every step, anew."""
        self._run(STEP_NAMES)

    def step(self, step: str) -> None:
        """Run one step, and before it those earlier ones that are out of date."""
        old, before = self._session.outdated(), STEP_NAMES[: STEP_NAMES.index(step)]
        self._run([*(name for name in before if name in old), step])

    def update(self, *, measure: bool = False) -> None:
        """Run what is out of date, if that is wanted; while a run is under way, as soon as it has ended.

        Parameters
        ----------
        measure : bool
            Whether wanted or not if nothing but the regions is out of date.
        """
        session, document = self._session, self._session.document
        if document.moving:
            return
        if self.running:
            self._again = self._again or measure or session.auto_update
        elif document.analysis is not None:
            steps = session.outdated() & document.shown
            if steps and (session.auto_update or (measure and steps == {STEP_NAMES[-1]})):
                self._run(steps)

    def cancel(self) -> None:
        """Stop the run under way; the layers stay as they are."""
        self._again = False
        job = self._job
        if job is None:
            return
        if job.result is not None:
            # All is computed and partly written: half a result would be neither the old nor the new one.
            while self._job is job:
                self._write(job)
            return
        self._stop()
        self._session.changed.emit()

    def drop(self, document: Document) -> bool:
        """Stop a run about an image that is gone or was replaced; returns whether there was one."""
        if self._job is None or self._job.document is not document:
            return False
        self._again = False
        self._stop()
        return True

    def _stop(self) -> None:
        if self._worker is not None:
            self._worker.quit()
        self._job = self._worker = None
        gc.unfreeze()

    def _request(self) -> tasks.Request | None:
        """What the next run is asked for; the one under way ends. None, with a sentence, where no image is open."""
        session = self._session
        if (layer := session.document.layer) is None:
            session.noticed.emit(NO_IMAGE)
            return None
        self.cancel()
        return session.request(layer, session.shown_frame())

    def _run(self, steps: Collection[str]) -> None:
        session, document = self._session, self._session.document
        if (request := self._request()) is None:
            return
        frame = request.source.frame
        previous = document.analysis if frame == document.frame else None
        old = session.outdated()
        if previous is None:
            # Nothing of another frame holds, and all up to the last step is computed anyway.
            old, steps = frozenset(STEP_NAMES), STEP_NAMES[: 1 + max(map(STEP_NAMES.index, steps))]
        kept, first = frozenset(STEP_NAMES) - old, first_of(steps)
        call = functools.partial(
            tasks.run,
            request=request,
            previous=previous,
            start=PARTS[first][0],
            write=frozenset(steps),
            kept=kept,
        )
        document.failed = None
        self._launch(_Job(document, request.inputs, frame, frozenset(steps), kept), call, first)

    def series(self, *, fixed: bool = False) -> None:
        """Analyse all frames of the chosen time series.

        Parameters
        ----------
        fixed : bool
            The best patch of the frame that is shown serves all frames; else each frame chooses its own, unless it was
            placed by hand.
        """
        document = self._session.document
        if not document.is_stack or (request := self._request()) is None:
            return
        wanted, frame = request.inputs, request.source.frame
        point, best = wanted.point, None if document.analysis is None else document.analysis.best_patch
        if fixed and point is None and best is not None:
            point = best.y, best.x
        inputs = dataclasses.replace(wanted, point=point, patches=None)
        call = functools.partial(tasks.run_series, request=dataclasses.replace(request, inputs=inputs))
        document.failed = None
        self._launch(_Job(document, wanted, frame, frozenset(STEP_NAMES)), call, "frame 1")

    def scan(self, model: Path) -> None:
        """Classify a sliding window over the chosen image; the classes become layers and types of the regions."""
        session, document = self._session, self._session.document
        if (request := self._request()) is None:
            return
        frame = request.source.frame
        known = document.labelled.get(frame)

        def done(scanned: tasks.Scanned) -> None:
            document.class_maps[frame] = scanned.class_map
            layers.remove_parts(session.viewer, document, scanned.scan.classes)
            if document.labelled.get(frame) is known and scanned.known is not None:
                document.labelled[frame] = scanned.known
            elif document.analysis is not None:  # painted meanwhile
                self.measure(document, frame)
            session.finished.emit()
            if scanned.scan.warnings:
                session.noticed.emit(" ".join(scanned.scan.warnings))

        call = functools.partial(tasks.scan_image, request=request, model=model, known=known)
        self.background(call, done, "scanning")

    def background(
        self,
        call: Callable[[Monitor], Any],
        done: Callable[[Any], None],
        stage: str,
        *,
        about_image: bool = True,
    ) -> None:
        """Do something else in the background, with the same progress and Cancel.

        Parameters
        ----------
        call : callable
            Takes a :class:`~napari_hrstem_defects.widgets.worker.Monitor`; runs in a thread.
        done : callable
            Takes its result, in the GUI's thread, once the layers that it brings are written.
        stage : str
            What is shown until the first progress.
        about_image : bool
            Whether it ends when the chosen image is replaced or removed.
        """
        self.cancel()
        document = self._session.document if about_image else self._session.no_image
        self._launch(_Job(document, self._session.inputs(document), document.frame, done=done), call, stage)

    def _launch(self, job: _Job, call: Callable[[Monitor], Any], stage: str) -> None:
        self._job = job
        # A full collection of all that napari has made holds up the window for a tenth of a second or two.
        gc.freeze()
        returned, progressed = (functools.partial(f, job) for f in (self._returned, self._progressed))
        self._worker = TaskWorker(call, returned, progressed)
        self._session.progressed.emit(stage, 0.0)
        self._session.changed.emit()

    # What comes back ------------------------------------------------------------------------------------------

    def _progressed(self, job: _Job, stage: str, fraction: float) -> None:
        if job is self._job:
            self._session.progressed.emit(stage, fraction)

    def _returned(self, job: _Job, result: Any) -> None:
        session, document = self._session, job.document
        if job is not self._job or not session.alive:
            return  # cancelled, or about an image that is gone
        # It holds what it was started with: the pixels, and the analysis before.
        self._worker = None
        if isinstance(result, Failure):
            if job.done is None:
                document.failed = (SHOWN_AS.get(result.during, first_of(job.steps)), result.message)
            self._job = None
            session.failed.emit(result.message)
            self._ended(document)
        elif isinstance(result, Layered):
            job.result, job.left = result, list(result.outputs)
            document.notes = ()
            if job.done is None:
                document.frame = job.frame
            session.arriving.emit()
            QTimer.singleShot(_PAUSE_MS, functools.partial(self._write, job))
        else:
            self._accept(job, result)

    def _write(self, job: _Job) -> None:
        """Write the layers one after another, with pauses: together they would hold up the window."""
        document, result = job.document, job.result
        if job is not self._job or not self._session.alive or document.layer is None or result is None:
            return
        if job.left:
            begin = time.perf_counter()
            while job.left and time.perf_counter() - begin < _TOGETHER_S:
                output = self._latest(document, job, job.left.pop(0))
                self._session.write(output, document, result.provenance)
            QTimer.singleShot(_PAUSE_MS, functools.partial(self._write, job))
        else:
            self._accept(job, result)

    def _latest(self, document: Document, job: _Job, output: Output) -> Output:
        """Labels with what was painted while they were computed; other outputs as they are."""
        found = job.result.labelled if isinstance(job.result, tasks.Result) else {}
        if output.role is not Role.LABELS or not found:
            return output
        layer = document.output(self._session.layers, Role.LABELS)
        if layer is not None:
            self._session.edits.take_up(document, layer)
        # The layer is painted in; what was found stays what it is.
        data = output.data.copy()
        document.rewritten.update(found)
        for frame in changed_frames(document.by_hand.painted, job.inputs.painted):
            if frame in found:
                now = corrected(document.by_hand.painted.get(frame), found[frame].automatic)
                data[frame if data.ndim == 3 else ...] = now
        return dataclasses.replace(output, data=data)

    def _accept(self, job: _Job, result: Any) -> None:
        session, document = self._session, job.document
        self._job = None
        if job.done is not None:
            job.done(result)
        elif isinstance(result, tasks.Result):
            self._take(document, job, result)
            if document.saved and document.labelled:
                session.edits.restore(document)
            session.finished.emit()
        # What was painted while the result was computed.
        for frame in changed_frames(document.by_hand.painted, job.inputs.painted):
            known = document.known(frame)
            if known is None or known.correction is not document.by_hand.painted.get(frame):
                self.measure(document, frame)
        self._ended(document)

    @staticmethod
    def _take(document: Document, job: _Job, result: tasks.Result) -> None:
        before = document.done
        document.analysis, document.done = result.analysis, job.inputs
        if isinstance(result, tasks.SeriesResult):
            document.series = result
        elif before is not None and outdated(before, job.inputs):
            document.series = None  # the other frames were analysed otherwise
        document.written = set(job.kept | job.steps)
        document.shown |= job.steps
        findings, earlier = result.findings, document.findings.get(job.frame)
        if "symmetry" not in job.steps and earlier is not None:
            # The layer is out of date, or still holds; so is its histogram.
            findings = {job.frame: dataclasses.replace(findings[job.frame], histogram=earlier.histogram)}
        whole = document.series is not None
        document.findings = {**(document.findings if whole else {}), **findings}
        if result.labelled:
            document.labelled = {**(document.labelled if whole else {}), **result.labelled}

    def _ended(self, document: Document) -> None:
        gc.unfreeze()
        if document is not self._session.document:  # another image was chosen meanwhile
            self._session.show_chosen()
        self._session.changed.emit()
        again, self._again = self._again, False
        if again:
            self.update(measure=True)

    # Regions of labels that a person changed, so that table and layers follow ----------------------------------

    def measure(self, document: Document, frame: int) -> None:
        """Measure the regions of a frame as it is shown now, at most once at a time.

        They are those of the labels, or of a scan as long as there are no others.
        """
        analysis, known, series = document.analysis, document.labelled.get(frame), document.series
        correction, class_map = document.by_hand.painted.get(frame), document.class_maps.get(frame)
        if analysis is None and class_map is not None:
            self._measure(document, frame, lambda monitor: class_map.measured())
        if analysis is None or known is None or document.layer is None:
            return
        other = series if frame != document.frame else None

        def measure(monitor: Monitor) -> tuple[Labelled, Output]:
            # Types need the pixels of the frame, as in an export.
            own = analysis if other is None else other.analysis_of(monitor, frame)
            found = known.corrected(correction, measured_in(own), class_map)
            return found, region_output(found.numbered, found.regions, frame)

        self._measure(document, frame, measure)

    def _measure(self, document: Document, frame: int, call: Callable[[Monitor], Any]) -> None:
        key = document.source_id, frame
        if key in self._measuring:
            self._measuring[key].quit()
        before = document.labelled.get(frame), document.class_maps.get(frame)

        def returned(result: Any) -> None:
            if worker is not self._measuring.get(key) or not self._session.alive:
                return
            del self._measuring[key]
            if isinstance(result, Failure):
                self._session.failed.emit(result.message)
            # Else the image is gone, or a run has ended meanwhile.
            elif document.layer is not None and before == (
                document.labelled.get(frame),
                document.class_maps.get(frame),
            ):
                self._measured(document, frame, result)

        worker = self._measuring[key] = TaskWorker(call, returned)

    def _measured(self, document: Document, frame: int, result: Any) -> None:
        if isinstance(result, ClassMap):
            document.class_maps[frame] = result
        elif document.analysis is not None:
            document.labelled[frame], output = result
            painted = frame in document.by_hand.painted
            provenance = {**tasks.provenance_of(document.analysis), "corrected_by_hand": painted}
            self._session.write(output, document, provenance)
        self._session.changed.emit()
