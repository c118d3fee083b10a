"""Fit one network, with early stopping, checkpoints, progress and cancelling, and ask it for predictions."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.core.errors import Cancelled, ModelError
from napari_hrstem_defects.models.backend import keras
from napari_hrstem_defects.models.data import PatchSet
from napari_hrstem_defects.models.kinds import kind_of
from napari_hrstem_defects.models.options import Progress, TrainingOptions, TrainingProgress

#: ``augment(inputs, rng) -> inputs``, applied to each batch.
Augment = Callable[[Any, np.random.Generator], Any]
#: Inputs of a network: an array, or several for several inputs; the first axis counts patches.
Inputs = NDArray[np.float32] | tuple[NDArray[np.float32], ...]

# Reports in a pass: often enough for a bar, seldom enough to cost nothing.
_REPORTS_PER_EPOCH = 50
# Patches of the validation part given to the network at once, at least.
_JUDGED_AT_ONCE = 32


@dataclass
class History:
    """Course of a fit.

    Attributes
    ----------
    loss, accuracy, validation_loss, validation_accuracy : list of float
        One value a pass.
    best_epoch : int
        Pass (from 0) whose weights the network has in the end; -1 if none was finished.
    waited : int
        Passes since then.
    stopped : bool
        Whether the caller asked to stop.
    """

    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    validation_loss: list[float] = field(default_factory=list)
    validation_accuracy: list[float] = field(default_factory=list)
    best_epoch: int = -1
    waited: int = 0
    stopped: bool = False

    @property
    def epochs(self) -> int:
        """Finished passes."""
        return len(self.loss)


def fit_network(
    network: Any,
    train: tuple[Inputs, NDArray[Any]],
    validation: tuple[Inputs, NDArray[Any]],
    options: TrainingOptions,
    *,
    loss: Any,
    learning_rate: Any = None,
    passes: Sequence[int] | None = None,
    workspace: Path | None = None,
    tag: str = "network",
    augment: Augment | None = None,
    prepare: Callable[[Any], Any] | None = None,
    class_weight: dict[int, float] | None = None,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> History:
    """Fit a network with Adam; in the end it has the weights of its lowest loss on the validation part, or the last.

    After every pass all that is needed to go on is written to `workspace`; called again with the same arguments the
    fit goes on from there and ends with the same weights as one that was never interrupted.

    Parameters
    ----------
    network : keras.Model
        Compiled here.
    train, validation : tuple
        Inputs and targets (one-hot for ``categorical_crossentropy``, 0 or 1 for ``binary_crossentropy``). The inputs
        are an array or a tuple of arrays.
    options : TrainingOptions
        ``epochs``, ``batch``, ``patience``, ``seed`` and ``learning_rate`` are used, of which only `patience` and
        `seed` may be 0; with `patience` 0 it does not stop early, and the last weights are kept.
    loss : str, or a loss of Keras
    learning_rate : schedule of Keras, optional
        Instead of that of the options.
    passes : sequence of int, optional
        With `patience` 0: of each array of weights the pass after which it is kept as it is then; default: the last.
    workspace : Path, optional
        Folder for checkpoints; None: none are written.
    tag : str
        Name of the network in reports and of its checkpoints.
    augment : callable, optional
        ``augment(inputs, rng)``, applied to each batch of the training part.
    prepare : callable, optional
        ``prepare(inputs)``, applied last to each batch of both parts, where doing so beforehand would cost too much
        memory.
    class_weight : dict, optional
        Weight of each class in the loss.
    progress : callable, optional
    cancelled : callable, optional
        Asked before every step. If it returns True the best weights so far are kept and the history says so.

    Returns
    -------
    History

    Raises
    ------
    Cancelled
        If the caller asked to stop before the first pass was finished.
    ModelError
        If the loss is not a finite number any more.
    """
    library = keras()
    single = network.outputs[0].shape[-1] == 1
    accuracy = library.metrics.BinaryAccuracy if single else library.metrics.CategoricalAccuracy
    network.compile(
        optimizer=library.optimizers.Adam(learning_rate or options.learning_rate),
        loss=loss,
        # By its name it would be made inside the first step, which TensorFlow then traces a second time.
        metrics=[accuracy(name="accuracy")],
        jit_compile=False,
    )
    network.optimizer.build(network.trainable_variables)
    inputs, targets = train
    count, batch, epochs, patience = len(targets), options.batch, options.epochs, options.patience
    checkpoint = None if workspace is None else _Checkpoint(workspace, tag)
    history, best = History(), network.get_weights()
    if checkpoint is not None:
        history, best = checkpoint.load(network, best)
    steps = -(-count // batch)
    often = max(1, steps // _REPORTS_PER_EPOCH)
    history.stopped = False

    def tell(epoch: int, done: float, values: dict[str, float], ended: bool) -> None:
        if progress is not None:
            progress(
                TrainingProgress(
                    (epoch + done) / epochs,
                    f"epoch {min(epoch + (not ended), epochs)} of {epochs}",
                    tag,
                    epoch,
                    epochs,
                    values.get("loss"),
                    values.get("accuracy"),
                    values.get("validation_loss"),
                    values.get("validation_accuracy"),
                )
            )

    while history.epochs < epochs and (not patience or history.waited < patience) and not history.stopped:
        epoch = history.epochs
        # A stream of its own for each pass: where it goes on does not depend on where it was interrupted.
        rng = np.random.default_rng([options.seed, epoch])
        order = rng.permutation(count)
        found: list[tuple[Any, int]] = []
        for step in range(steps):
            if cancelled is not None and cancelled():
                history.stopped = True
                break
            chosen = order[step * batch : (step + 1) * batch]
            part = _take(inputs, chosen)
            if augment is not None:
                part = augment(part, rng)
            if prepare is not None:
                part = prepare(part)
            values = network.train_on_batch(
                part, targets[chosen], class_weight=class_weight, return_dict=True
            )
            found.append((values, len(chosen)))
            if step % often == 0 and step + 1 < steps:
                tell(epoch, step / steps, _mean(found), False)
        if history.stopped:
            break
        values = _mean(found)
        scores = _judge(network, *validation, max(batch, _JUDGED_AT_ONCE), prepare)
        if not np.isfinite(values["loss"]) or np.isnan(scores["loss"]):
            raise ModelError(
                "The training went astray (the loss is no number any more); use a smaller learning rate."
            )
        history.loss.append(values["loss"])
        history.accuracy.append(values["accuracy"])
        history.validation_loss.append(scores["loss"])
        history.validation_accuracy.append(scores["accuracy"])
        history.waited += 1
        if not patience:
            weights, ends = network.get_weights(), passes or [epochs] * len(best)
            best = [new if epoch < end else old for new, old, end in zip(weights, best, ends, strict=True)]
            history.best_epoch, history.waited = epoch, 0
        elif scores["loss"] <= min(history.validation_loss):
            history.best_epoch, history.waited, best = epoch, 0, network.get_weights()
        if checkpoint is not None:
            checkpoint.save(network, best, history)
        tell(
            epoch + 1,
            0.0,
            {**values, "validation_loss": scores["loss"], "validation_accuracy": scores["accuracy"]},
            True,
        )
    if history.best_epoch < 0:
        raise Cancelled
    network.set_weights(best)
    return history


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
        See :func:`fit_network`.
    """
    train, validation = parts
    identity = np.eye(len(train.classes), dtype=np.float32)
    return fit_network(
        network,
        (inputs[0], identity[train.labels]),
        (inputs[1], identity[validation.labels]),
        kind_of(name).completed(options),
        loss="categorical_crossentropy",
        workspace=workspace,
        tag=name,
        augment=augment,
        prepare=prepare,
        class_weight=_class_weights(train),
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


def _class_weights(patches: PatchSet) -> dict[int, float]:
    """Weights that make all classes that occur count alike."""
    from sklearn.utils.class_weight import compute_class_weight

    found = np.unique(patches.labels)
    weights = compute_class_weight("balanced", classes=found, y=patches.labels)
    return {
        **dict.fromkeys(range(len(patches.classes)), 0.0),
        **dict(zip(found.tolist(), weights, strict=True)),
    }


def predict_in_batches(
    network: Any,
    patches: NDArray[np.float32],
    prepare: Callable[[NDArray[np.float32]], Any],
    cancelled: Callable[[], bool] | None = None,
    *,
    batch: int = 64,
    progress: Callable[[int], None] | None = None,
) -> NDArray[np.float32]:
    """Output of a network for many patches, at most `batch` at a time; `progress` is called with their number so far.

    All batches have the same length (the last is filled up), so that Keras compiles one program.
    """
    # Powers of two: few different lengths, whatever the images.
    size = min(batch, 1 << max(0, len(patches) - 1).bit_length())
    out = np.empty((len(patches), *network.outputs[0].shape[1:]), np.float32)
    for start in range(0, len(patches), size):
        if cancelled is not None and cancelled():
            raise Cancelled
        part = patches[start : start + size]
        filled = np.resize(part, (size, *part.shape[1:]))
        out[start : start + len(part)] = network.predict_on_batch(prepare(filled))[: len(part)]
        if progress is not None:
            progress(start + len(part))
    return out


def _take(inputs: Inputs, chosen: NDArray[np.intp]) -> Any:
    return tuple(part[chosen] for part in inputs) if isinstance(inputs, tuple) else inputs[chosen]


def _judge(
    network: Any,
    inputs: Inputs,
    targets: NDArray[Any],
    batch: int,
    prepare: Callable[[Any], Any] | None,
) -> dict[str, float]:
    found = []
    for start in range(0, len(targets), batch):
        chosen = np.arange(start, min(start + batch, len(targets)))
        part = _take(inputs, chosen)
        part = part if prepare is None else prepare(part)
        found.append((network.test_on_batch(part, targets[chosen], return_dict=True), len(chosen)))
    return _mean(found)


def _mean(found: Sequence[tuple[Any, int]]) -> dict[str, float]:
    """Means of the values of several batches, weighted by their numbers of patches."""
    total = sum(count for _, count in found)
    return {name: sum(count * float(values[name]) for values, count in found) / total for name in found[0][0]}


class _Checkpoint:
    """State of a fit on disk: weights, state of the optimizer and of the random layers, best weights, history."""

    def __init__(self, folder: Path, tag: str) -> None:
        self._path = folder / f"{tag}.checkpoint.npz"

    def save(self, network: Any, best: list[NDArray[Any]], history: History) -> None:
        arrays = {f"state{i:04d}": np.asarray(value) for i, value in enumerate(_variables(network))}
        arrays.update({f"best{i:04d}": value for i, value in enumerate(best)})
        text = json.dumps(asdict(history))
        self._path.parent.mkdir(parents=True, exist_ok=True)
        aside = self._path.with_suffix(".partial")
        with open(aside, "wb") as file:
            np.savez(file, history=np.array(text), allow_pickle=False, **arrays)
        os.replace(aside, self._path)

    def load(self, network: Any, best: list[NDArray[Any]]) -> tuple[History, list[NDArray[Any]]]:
        if not self._path.exists():
            return History(), best
        try:
            with open(self._path, "rb") as file, np.load(file, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
            history = History(**json.loads(str(arrays.pop("history"))))
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise ModelError(f"{self._path}: the checkpoint is damaged; train anew.") from error
        state = [arrays[name] for name in sorted(arrays) if name.startswith("state")]
        variables = _variables(network)
        if [v.shape for v in state] != [tuple(v.shape) for v in variables]:
            raise ModelError(f"{self._path}: the checkpoint is of another network; train anew.")
        for variable, value in zip(variables, state, strict=True):
            variable.assign(value)
        return history, [arrays[name] for name in sorted(arrays) if name.startswith("best")]


def _variables(network: Any) -> list[Any]:
    # Beside the weights the seeds of the random layers; metrics are left out, they start anew with every pass.
    seen = {id(variable) for variable in network.metrics_variables}
    own = [variable for variable in network.variables if id(variable) not in seen]
    return [*own, *network.optimizer.variables]
