"""What the classifiers with one network and a softmax at its end have in common: how they are fitted and asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.core.errors import Cancelled
from napari_hrstem_defects.models.data import PatchSet
from napari_hrstem_defects.models.fitting import Augment, History, fit_network
from napari_hrstem_defects.models.kinds import kind_of
from napari_hrstem_defects.models.options import Progress, TrainingOptions

# Patches given to a network at once.
_BATCH = 64


def fit_softmax(
    name: str,
    network: Any,
    inputs: tuple[NDArray[np.float32], NDArray[np.float32]],
    parts: tuple[PatchSet, PatchSet],
    options: TrainingOptions,
    *,
    workspace: Path,
    augment: Augment | None = None,
    prepare: Callable[[Any], Any] | None = None,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> History:
    """Fit a network whose outputs are the probabilities of the classes, all classes weighing the same.

    Parameters
    ----------
    name : str
        The kind of classifier, and the name of its network.
    network : keras.Model
    inputs : (float32 array, float32 array)
        What the network is given of the training and the validation part.
    parts : (PatchSet, PatchSet)
        Those parts; only their labels are used.
    options : TrainingOptions
    workspace, augment, prepare, progress, cancelled
        See :func:`~.fitting.fit_network`.

    Returns
    -------
    History
    """
    kind = kind_of(name)
    train, validation = parts
    identity = np.eye(len(train.classes), dtype=np.float32)
    return fit_network(
        network,
        (inputs[0], identity[train.labels]),
        (inputs[1], identity[validation.labels]),
        loss="categorical_crossentropy",
        learning_rate=options.learning_rate or kind.learning_rate,
        batch=options.batch or kind.batch,
        epochs=options.epochs or kind.epochs,
        patience=options.patience,
        seed=options.seed,
        workspace=workspace,
        tag=name,
        augment=augment,
        prepare=prepare,
        class_weight=class_weights(train),
        progress=progress,
        cancelled=cancelled,
    )


def turned(inputs: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Each patch of a batch turned by a random right angle and mirrored with probability ½.

    `inputs` has the shape ``(n, y, x)`` or ``(n, y, x, channels)``.
    """
    out = np.empty_like(inputs)
    for index, (patch, quarter, mirrored) in enumerate(
        zip(inputs, rng.integers(4, size=len(inputs)), rng.random(len(inputs)) < 0.5, strict=True)
    ):
        out[index] = np.rot90(patch[:, ::-1] if mirrored else patch, quarter)
    return out


def class_weights(patches: PatchSet) -> dict[int, float] | None:
    """Weights that make all classes count alike; None where they have equally many patches."""
    counts = np.bincount(patches.labels, minlength=len(patches.classes))
    if counts.min() == counts.max():
        return None
    present = np.count_nonzero(counts)
    return {k: len(patches) / (present * int(count)) if count else 0.0 for k, count in enumerate(counts)}


def in_batches(
    network: Any,
    patches: NDArray[np.float32],
    prepare: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    cancelled: Callable[[], bool] | None = None,
) -> NDArray[np.float32]:
    """Output of a network for many patches, a few at a time.

    All batches have the same length (the last is filled up), so that Keras compiles one program.
    """
    # Powers of two: few different lengths, whatever the images.
    size = min(_BATCH, 1 << max(0, len(patches) - 1).bit_length())
    parts: list[NDArray[np.float32]] = []
    for start in range(0, len(patches), size):
        if cancelled is not None and cancelled():
            raise Cancelled
        some = prepare(patches[start : start + size])
        filled = np.concatenate([some, np.repeat(some[-1:], size - len(some), axis=0)])
        parts.append(np.asarray(network.predict_on_batch(filled), np.float32)[: len(some)])
    if not parts:
        return np.empty((0, int(network.outputs[0].shape[-1])), np.float32)
    return np.concatenate(parts)
