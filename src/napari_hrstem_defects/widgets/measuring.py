"""Regions of labels that a person changed, measured in the background so that table and layers follow."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from napari_hrstem_defects.widgets.corrections import ClassMap, Labelled, measured_in
from napari_hrstem_defects.widgets.model import Document
from napari_hrstem_defects.widgets.outputs import Output, region_outputs
from napari_hrstem_defects.widgets.source import Source
from napari_hrstem_defects.widgets.tasks import provenance_of
from napari_hrstem_defects.widgets.worker import Failure, Monitor, TaskWorker

if TYPE_CHECKING:
    from napari_hrstem_defects.widgets.session import Session


class Measuring:
    """Measures the regions of a session, of each frame at most once at a time.

    Parameters
    ----------
    session : Session
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        # By image and frame.
        self._workers: dict[tuple[str, int], TaskWorker] = {}

    def classes_painted(self, document: Document) -> None:
        """Give the regions shown their classes anew: the map of the classes was painted."""
        frame = self._session.shown_frame() or 0
        known = document.class_maps.get(frame)
        if document.analysis is not None:
            self.start(document, frame)
        elif known is not None:  # the regions of a scan, as long as there are no others
            self._launch(document, frame, lambda monitor: known.measured())

    def start(self, document: Document, frame: int) -> None:
        """Measure the regions of the labels of a frame as they are shown now, so that the table follows."""
        analysis, known, series = document.analysis, document.labelled.get(frame), document.series
        if analysis is None or known is None or document.layer is None:
            return
        correction, class_map = document.by_hand.painted.get(frame), document.class_maps.get(frame)
        source, process, other = (
            Source.of(document.layer, frame),
            self._session.keras,
            frame != document.frame,
        )

        def measure(monitor: Monitor) -> tuple[Labelled, Output]:
            # Types need the pixels of the frame, as in an export.
            own = series.analysis_of(monitor, source, process) if other and series is not None else analysis
            found = known.corrected(correction, measured_in(own), class_map)
            return found, region_outputs(found.shown, found.regions)

        self._launch(document, frame, measure)

    def _launch(self, document: Document, frame: int, call: Callable[[Monitor], Any]) -> None:
        key = document.source_id, frame
        if key in self._workers:
            self._workers[key].quit()
        worker = self._workers[key] = TaskWorker(call)
        before = document.labelled.get(frame), document.class_maps.get(frame)
        worker.returned.connect(functools.partial(self._measured, worker, document, frame, before))
        worker.start()

    def _measured(
        self, worker: TaskWorker, document: Document, frame: int, before: tuple[Any, Any], result: Any
    ) -> None:
        session, key = self._session, (document.source_id, frame)
        if worker is not self._workers.get(key) or not session.alive:
            return
        del self._workers[key]
        if document.layer is None or before != (
            document.labelled.get(frame),
            document.class_maps.get(frame),
        ):
            return  # a run has ended meanwhile
        if isinstance(result, Failure):
            session.failed.emit(result.message)
            return
        if isinstance(result, ClassMap):
            document.class_maps[frame] = result
        elif document.analysis is not None:
            document.labelled[frame], output = result
            if document.series is None:
                painted = frame in document.by_hand.painted
                provenance = {**provenance_of(document.analysis), "corrected_by_hand": painted}
                session.write(document, output, provenance)
        session.changed.emit()
