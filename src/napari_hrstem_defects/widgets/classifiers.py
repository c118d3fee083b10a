"""Trained classifiers in napari; Keras runs in a process of its own.

TensorFlow in the process of the viewer crashes both on many Linux desktops, and would block the window.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_hrstem_defects.errors import Cancelled, ModelError
from napari_hrstem_defects.models.options import TrainingOptions, TrainingProgress
from napari_hrstem_defects.models.process import GRACE_S, KerasProcess
from napari_hrstem_defects.widgets.source import Source
from napari_hrstem_defects.widgets.worker import Monitor

if TYPE_CHECKING:
    from napari_hrstem_defects.models.data import LabelledImage
    from napari_hrstem_defects.models.registry import Entry
    from napari_hrstem_defects.models.training import TrainingReport

#: Time (s) for a stopped training to test and write its best network; without one it ends at once.
_GRACE_S = 120.0
#: Kind of model that scans.
ENSEMBLE = "fft-ensemble"
#: Sets that metrics are given for, as the panel calls them.
_SETS = {
    "train": "trained on",
    "test": "held out",
    "test_with_ambivalent": "held out, with ambivalent patches",
    "defect_free": "held out, without defects",
}
#: Name that is offered first.
_NAME = "my classifier"


def names() -> list[str]:
    """What can be chosen: the screening, and the trained classifiers that can be used."""
    from napari_hrstem_defects.models import SCREENING, registry

    return [SCREENING, *(entry.name for entry in registry.entries() if entry.contract is not None)]


def ensembles() -> list[Entry]:
    """The trained classifiers that can scan an image."""
    from napari_hrstem_defects.models import registry

    return [entry for entry in registry.entries() if entry.contract and entry.contract.kind == ENSEMBLE]


@dataclass(frozen=True, eq=False)
class Example:
    """An open image and the layer in which its defects are marked.

    Attributes
    ----------
    source : Source
    labels : array (y, x) or (t, y, x)
        0 crystal, 255 not assessed, anything else a defect, as on the command line; not copied.
    """

    source: Source
    labels: Any

    def images(self) -> list[LabelledImage]:
        """The frames used for training.

        Raises
        ------
        MicrographError
            If the pixels cannot be used.
        ModelError
            If the labels cannot, or no defects are marked in a series.
        """
        whole = self.source.series()
        if not whole.is_stack:
            return [self._frame(None, self.labels)]
        # Of a series only the frames that were painted are known.
        frames = [self._frame(t, frame) for t, frame in enumerate(self.labels) if np.any(frame)]
        if not frames:
            raise ModelError(
                f"{self.source.name}: no defects are marked in any frame; only frames with marks are used for training."
            )
        return frames

    def _frame(self, index: int | None, labels: Any) -> LabelledImage:
        from napari_hrstem_defects.models.data import LabelledImage, mask_of_labels

        micrograph = self.source.micrograph(index)
        pixels = micrograph.frame().pixels
        height, width = pixels.shape
        mask = mask_of_labels(labels, (height, width), micrograph.name)
        # Frames of one file belong together; two files may have the same name.
        group = self.source.metadata.get("path", self.source.name)
        return LabelledImage(micrograph.name, pixels, mask, micrograph.pixel_size_nm, group)


def labelled_images(examples: Sequence[Example], monitor: Monitor) -> list[LabelledImage]:
    """All images of the examples.

    Raises
    ------
    ModelError, MicrographError
        If one of them cannot be used.
    Cancelled
    """
    found: list[LabelledImage] = []
    for example in examples:
        if monitor.cancelled():
            raise Cancelled
        found += example.images()
    return found


@dataclass(frozen=True)
class Counted:
    """A sentence on the number of patches for training, and whether there are enough."""

    text: str
    trainable: bool


def count_patches(monitor: Monitor, examples: Sequence[Example], patch_px: int, secondary: str) -> Counted:
    """Count the patches of each class on the grid of the images; `secondary` as in the training options.

    Raises
    ------
    ModelError
        If an image is smaller than a patch, or its labels cannot be used.
    MicrographError
        If its pixels cannot be used.
    Cancelled
    """
    from napari_hrstem_defects.core.metrics import IGNORE
    from napari_hrstem_defects.models.sampling import grid_patches, nothing_to_draw, room

    images = [replace(image, secondary=secondary) for image in labelled_images(examples, monitor)]
    patches = grid_patches(images, patch_px)
    counts = ", ".join(f"{count} {name}" for name, count in patches.counts.items())
    ambivalent = np.count_nonzero(patches.labels < 0)
    parts = [f"Patches of {patch_px} px: {counts}, {ambivalent} ambivalent (not used)."]
    if any(len({*np.unique(np.asarray(e.labels)).tolist()} - {0, IGNORE}) > 1 for e in examples):
        parts.append("All labels but 0 count as one class, defective.")
    # A patch that is drawn lies anywhere, not on the grid only.
    missing = [
        name
        for k, name in enumerate(patches.classes)
        if not (patches.labels == k).any() and not any(room(image, patch_px)[k] for image in images)
    ]
    if missing:
        parts.append(str(nothing_to_draw(missing[-1], patch_px)))
    return Counted(" ".join(parts), not missing)


def train_and_add(
    monitor: Monitor,
    kind: str,
    examples: Sequence[Example],
    options: TrainingOptions,
    stopped: Callable[[], bool],
) -> TrainingReport:
    """Train in a process of its own, and add what came out to the list of classifiers.

    Parameters
    ----------
    monitor : Monitor
        Also takes each report of the training.
    kind : str
        One of :data:`~napari_hrstem_defects.models.kinds.KINDS`.
    examples : sequence of Example
    options : TrainingOptions
    stopped : callable
        Whether to stop; the best network so far is then tested and kept.

    Raises
    ------
    ModelError
        If there are too few patches, or the name is taken.
    Cancelled
        If there was nothing to keep yet.
    """
    from napari_hrstem_defects.models import registry
    from napari_hrstem_defects.models.store import SUFFIX
    from napari_hrstem_defects.models.training import TrainingReport, train

    kept = False

    def progress(reported: TrainingProgress) -> None:
        nonlocal kept
        kept = kept or (reported.loss is not None and reported.validation_loss is not None)
        monitor.progress(reported.text, reported.fraction)
        monitor.report(reported)

    monitor.progress("reading the images", 0.0)
    images = labelled_images(examples, monitor)
    with TemporaryDirectory(prefix="hrstem-training-") as folder, KerasProcess() as process:
        path = Path(folder) / f"model{SUFFIX}"
        trained: TrainingReport = process.call(
            train,
            kind,
            images,
            path,
            options,
            progress=progress,
            cancelled=stopped,
            grace_s=lambda: _GRACE_S if kept else GRACE_S,
        )
        added = registry.add(trained.path, options.name, overwrite=True)
    return TrainingReport(added.path, trained.contract, trained.stopped)


def free_name() -> str:
    """A name that no classifier has yet."""
    from napari_hrstem_defects.models import registry

    taken = {entry.name for entry in registry.entries()}
    offered = itertools.chain([_NAME], (f"{_NAME} {number}" for number in itertools.count(2)))
    return next(name for name in offered if name not in taken)


def outcome(report: TrainingReport) -> str:
    """The metrics, in the layout of the published table, the split and warnings."""
    from napari_hrstem_defects.models import evaluation

    metrics: Mapping[str, Any] = report.metrics
    rows = evaluation.table({title: metrics[key] for key, title in _SETS.items() if key in metrics})
    cells = "".join(
        "<tr>" + "".join(f"<td style='padding-right:10px'>{escape(cell)}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    lines = [f"“{report.contract.name}” is in the list of classifiers. Split: {metrics['split']}."]
    if report.stopped:
        lines.append("Training was stopped early.")
    if metrics.get("shared"):
        lines.append(f"Train/test overlap: {metrics['shared']}.")
    if "test" not in metrics:
        lines.append("No patches were left for a test, so its accuracy is unknown.")
    return f"<qt>{escape(' '.join(lines))}<table>{cells}</table>(in percent)</qt>"
