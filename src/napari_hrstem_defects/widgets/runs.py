"""The run under way: started, followed, cancelled, and its result written layer by layer."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gc
import inspect
from collections.abc import Callable, Collection, Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer

from napari_hrstem_defects.widgets import placing, series, task
from napari_hrstem_defects.widgets.correction import changed_frames, corrected
from napari_hrstem_defects.widgets.document import Document
from napari_hrstem_defects.widgets.of_session import OfSession
from napari_hrstem_defects.widgets.outputs import Layered, Output
from napari_hrstem_defects.widgets.roles import Role
from napari_hrstem_defects.widgets.source import Source
from napari_hrstem_defects.widgets.steps import PARTS, SHOWN_AS, STEP_NAMES, Inputs, first_of, outdated
from napari_hrstem_defects.widgets.worker import Failure, Monitor, TaskWorker

if TYPE_CHECKING:
    from napari_hrstem_defects.widgets.series import SeriesResult
    from napari_hrstem_defects.widgets.session import Session

#: Time for the window to draw itself and to answer between two layers.
_PAUSE_MS = 20
#: Said when there is nothing to run on.
NO_IMAGE = "Open an image first: drop a file on the window, or take one of File → Open Sample."


@dataclass(eq=False)
class _Job:
    """A run and what it was started for.

    Attributes
    ----------
    document : Document or None
        The image it is about; None if it is about none.
    steps : frozenset of str
        Whose layers it writes; empty for other tasks (export, series), whose result goes to `done`.
    begin : str
        Step that is blamed if nothing was reported before it failed.
    kept : frozenset of str
        Steps whose earlier results still hold beside them.
    left : list of Output
        Layers that are still to be written, once it has ended.
    writing : generator or None
        Goes on with the layer that is being written.
    """

    document: Document | None
    worker: TaskWorker
    inputs: Inputs
    frame: int
    steps: frozenset[str] = frozenset()
    begin: str = STEP_NAMES[0]
    done: Callable[[Any], None] | None = None
    kept: frozenset[str] = frozenset()
    result: Layered | None = None
    left: list[Output] = field(default_factory=list)
    writing: Generator[None, None, None] | None = None


class Runs(OfSession):
    """Runs of one session, one at a time."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._job: _Job | None = None
        self._again = False

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
        self._start(STEP_NAMES)

    def step(self, step: str) -> None:
        """Run one step, and before it whatever it needs that is not up to date."""
        session = self._session()
        if session is not None:
            old = session.outdated()
            before = STEP_NAMES[: STEP_NAMES.index(step)]
            self._start([*(name for name in before if name in old), step])

    def update(self, *, measure: bool = False) -> None:
        """Run what is out of date, if that is wanted; while a run is under way, as soon as it has ended.

        Parameters
        ----------
        measure : bool
            Whether wanted or not if nothing but the regions is out of date.
        """
        session = self._session()
        document = None if session is None else session.document
        if session is None or document is None or document.analysis is None:
            return
        steps = session.outdated() & document.shown
        if document.moving or not (session.auto_update or (measure and steps == {STEP_NAMES[-1]})):
            return
        if self.running:
            self._again = True
        elif steps:
            self._start(steps)

    def cancel(self) -> None:
        """Stop the run under way; the layers stay as they are."""
        self._again = False
        job = self._job
        session = self._session()
        if job is None or session is None:
            return
        if job.result is not None:
            # All is computed and partly written: half a result would be neither the old nor the new one.
            while self._job is job:
                self._place(job)
            return
        self._job = None
        job.worker.quit()
        gc.unfreeze()
        session.changed.emit()

    def drop(self, document: Document) -> bool:
        """Stop a run about an image that is gone or was replaced; tells whether there was one."""
        job = self._job
        if job is None or job.document is not document:
            return False
        self._job, self._again = None, False
        job.worker.quit()
        if job.writing is not None and inspect.getgeneratorstate(job.writing) != inspect.GEN_RUNNING:
            job.writing.close()  # a layer begun is left whole
        gc.unfreeze()
        return True

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
            Takes a :class:`Monitor`; runs in a thread.
        done : callable
            Takes its result, in the GUI's thread, once the layers that it brings are written.
        stage : str
            What is shown until the first progress.
        about_image : bool
            Whether it ends when the chosen image is replaced or removed.
        """
        session = self._session()
        if session is None:
            return
        document = session.document if about_image else None
        self.cancel()
        inputs = Inputs(session.recipe) if document is None else session.inputs(document)
        frame = 0 if document is None else document.frame
        self._launch(_Job(document, TaskWorker(call), inputs, frame, done=done), stage)

    def _start(self, steps: Collection[str]) -> None:
        session = self._session()
        if session is None:
            return
        document = session.document
        layer = None if document is None else document.layer
        if document is None or layer is None:
            session.noticed.emit(NO_IMAGE)
            return
        self.cancel()
        shown = session.shown_frame(document)
        frame = shown or 0
        inputs = session.inputs(document)
        previous = document.analysis if frame == document.frame else None
        old = session.outdated() if previous is not None else frozenset(STEP_NAMES)
        first = first_of(steps) or STEP_NAMES[0]
        kept = frozenset(STEP_NAMES) - old
        call = functools.partial(
            task.run,
            source=Source.of(layer, shown),
            inputs=inputs,
            previous=previous,
            start=PARTS[first][0],
            write=frozenset(steps),
            kept=kept,
            process=session.keras,
            class_map=document.class_maps.get(frame),
        )
        document.failed = None
        job = _Job(document, TaskWorker(call), inputs, frame, frozenset(steps), first, kept=kept)
        self._launch(job, first)

    def _launch(self, job: _Job, stage: str) -> None:
        session = self._session()
        assert session is not None
        self._job = job
        # A full collection of all that napari has made holds up the window for a tenth of a second or two.
        gc.freeze()
        job.worker.progressed.connect(functools.partial(self._progressed, job))
        job.worker.returned.connect(functools.partial(self._returned, job))
        job.worker.start()
        session.progressed.emit(stage, 0.0)
        session.changed.emit()

    # What comes back ------------------------------------------------------------------------------------------

    def _progressed(self, job: _Job, stage: str, fraction: float) -> None:
        session = self._session()
        if job is self._job and session is not None:
            session.progressed.emit(stage, fraction)

    def _returned(self, job: _Job, result: Any) -> None:
        session = self._session()
        if job is not self._job or session is None:
            return  # cancelled, or about an image that is gone
        if isinstance(result, Layered) and job.document is not None:
            job.result, job.left = result, list(result.outputs)
            job.document.notes = ()
            if job.done is None:
                job.document.frame = job.frame
            session.arriving.emit()
            QTimer.singleShot(_PAUSE_MS, functools.partial(self._place, job))
            return
        if isinstance(result, Failure):
            self._job = None
            if job.done is None and job.document is not None:
                step = SHOWN_AS.get(result.during, job.begin)
                job.document.failed = (step, result.message)
            session.failed.emit(result.message)
            self._ended(session)
        else:
            self._accept(session, job, result)

    def _place(self, job: _Job) -> None:
        """Write the layers bit by bit: together they would hold up the window."""
        session, document, result = self._session(), job.document, job.result
        if job is not self._job or session is None or session.viewer is None:
            return
        if document is None or document.layer is None or result is None:
            return
        if job.writing is None and job.left:
            output = self._latest(session, document, job, job.left.pop(0))
            job.writing = self._writing(session, document, output, result.provenance)
        if job.writing is not None:
            if next(job.writing, True):
                job.writing = None
            QTimer.singleShot(_PAUSE_MS, functools.partial(self._place, job))
            return
        self._accept(session, job, result)

    @staticmethod
    def _latest(session: Session, document: Document, job: _Job, output: Output) -> Output:
        """Labels with what was painted while they were computed; other outputs as they are."""
        found = getattr(job.result, "labelled", {})
        if output.role is not Role.LABELS or session.viewer is None or not found:
            return output
        layer = document.output(session.viewer.layers, Role.LABELS)
        if layer is not None:
            session.edits.take_up(document, layer)
        # The layer is painted in; what was found stays what it is.
        data = output.data.copy()
        document.rewritten.update(found)
        for frame in changed_frames(document.by_hand.painted, job.inputs.painted):
            if frame in found:
                now = corrected(document.by_hand.painted.get(frame), found[frame].automatic)
                data[frame if data.ndim == 3 else ...] = now
        return dataclasses.replace(output, data=data)

    def write(self, session: Session, document: Document, output: Output, provenance: dict[str, Any]) -> None:
        """Show an output at once, and watch what a person does to its layer."""
        for _ in self._writing(session, document, output, provenance):
            pass

    @staticmethod
    def _writing(
        session: Session, document: Document, output: Output, provenance: dict[str, Any]
    ) -> Generator[None, None, None]:
        viewer = session.viewer
        assert viewer is not None
        writing = placing.write(viewer, document, output, provenance)
        with contextlib.closing(writing):
            while True:
                with session.edits.ignored():
                    try:
                        next(writing)
                    except StopIteration as end:
                        made, note = end.value
                        break
                yield
        if made is not None:
            session.edits.watch(made)
        if note is not None:
            document.notes = (*document.notes, note)

    def _accept(self, session: Session, job: _Job, result: Any) -> None:
        self._job = None
        if job.done is not None:
            job.done(result)
            self._measure_painted(session, job)
        elif job.document is not None and isinstance(result, task.Result):
            self._take(job.document, job, result)
            session.finished.emit()
            self._measure_painted(session, job)
        self._ended(session)

    @staticmethod
    def _measure_painted(session: Session, job: _Job) -> None:
        """Measure what was painted while the result was computed, or in a result folder."""
        if job.document is not None:
            if job.document.saved and job.document.labelled:
                session.edits.restore(session, job.document)
            for frame in changed_frames(job.document.by_hand.painted, job.inputs.painted):
                session.edits.measure(job.document, frame)

    @staticmethod
    def _take(document: Document, job: _Job, result: task.Result) -> None:
        before = document.done
        document.analysis, document.done = result.analysis, job.inputs
        if before is not None and outdated(before, job.inputs):
            document.series = None  # the other frames were analysed otherwise
        document.written = set(job.kept | job.steps)
        document.shown |= job.steps
        if "symmetry" in job.steps:
            document.histogram = result.histogram
        if result.labelled:
            others = {} if document.series is None else document.labelled
            document.labelled = {**others, **result.labelled}

    def series(self, *, fixed: bool = False) -> None:
        """Analyse all frames of the chosen time series.

        Parameters
        ----------
        fixed : bool
            The best patch of the frame that is shown serves all frames; else each frame chooses its own, unless it was
            placed by hand.
        """
        session = self._session()
        document = None if session is None else session.document
        if session is None or document is None or document.layer is None or not document.is_stack:
            return
        inputs = dataclasses.replace(session.inputs(document), patches=None)
        best = None if document.analysis is None else document.analysis.best_patch
        if fixed and inputs.point is None and best is not None:
            inputs = dataclasses.replace(inputs, point=(best.y, best.x))
        shown = session.shown_frame(document) or 0
        call = functools.partial(
            series.run_series,
            source=Source.of(document.layer, shown),
            inputs=inputs,
            shown=shown,
            process=session.keras,
            class_maps=dict(document.class_maps),
        )
        self.background(call, functools.partial(self.accept_series, document, shown), "frame 1")

    def accept_series(self, document: Document, shown: int, result: SeriesResult) -> None:
        """Take over what was found in a whole time series."""
        session = self._session()
        if session is None or session.viewer is None or document.layer is None:
            return
        document.analysis, document.frame = result.analysis, shown
        document.done = dataclasses.replace(session.inputs(document), recipe=result.analysis.recipe)
        document.series, document.labelled = result, dict(result.labelled)
        document.histogram = result.histogram
        document.written = set(STEP_NAMES)
        document.shown = set(STEP_NAMES)
        session.finished.emit()

    def _ended(self, session: Session) -> None:
        gc.unfreeze()
        session.show_chosen()  # the result may be of another image
        session.changed.emit()
        again, self._again = self._again, False
        if again:
            self.update(measure=True)
