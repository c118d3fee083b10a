"""Fit one network, with early stopping, checkpoints, progress and cancelling, and ask it for predictions."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.errors import Cancelled, ModelError
from napari_hrstem_defects.models.backend import keras
from napari_hrstem_defects.models.files import replacing
from napari_hrstem_defects.models.options import (
    CancelCheck,
    Progress,
    TrainingOptions,
    TrainingProgress,
    stop_if,
)

#: Ending of the checkpoint of a network in its workspace.
CHECKPOINT = ".checkpoint.npz"
# Reports in an epoch: often enough for a bar, seldom enough to cost nothing.
_REPORTS_PER_EPOCH = 50
# Patches of the validation part given to the network at once, at least.
_VALIDATED_AT_ONCE = 32


class Job(NamedTuple):
    """A training under way.

    Attributes
    ----------
    workspace : Path
        Folder for checkpoints, which outlives a kill.
    progress : callable or None
        Called with a :class:`~.options.TrainingProgress`.
    cancelled : callable or None
        Asked whether to stop.
    """

    workspace: Path
    progress: Progress | None = None
    cancelled: CancelCheck | None = None


#: Inputs and targets of a network, and perhaps weights of the patches in the loss; the first axes count patches.
Samples = tuple[NDArray[Any], ...]


@dataclass
class History:
    """Course of a fit.

    Attributes
    ----------
    loss, accuracy, validation_loss, validation_accuracy : list of float
        One value an epoch.
    best_epoch : int
        Epoch (from 0) whose weights the network has in the end; -1 if none was finished.
    stopped : bool
        Whether the caller asked to stop.
    """

    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    validation_loss: list[float] = field(default_factory=list)
    validation_accuracy: list[float] = field(default_factory=list)
    best_epoch: int = -1
    stopped: bool = False

    @property
    def epochs(self) -> int:
        """Finished epochs."""
        return len(self.loss)

    def ended(self, options: TrainingOptions) -> bool:
        """Whether all epochs were made, or enough without a better one."""
        waited = self.epochs - 1 - self.best_epoch
        return self.epochs >= options.epochs or 0 < options.patience <= waited


def fit_network(
    network: Any,
    train: Samples,
    validation: Samples,
    options: TrainingOptions,
    job: Job,
    *,
    loss: Any,
    prepare: Callable[[Any, np.random.Generator | None], Any] | None = None,
    learning_rate: Any = None,
    kept_after: Sequence[int] | None = None,
    tag: str = "network",
) -> History:
    """Fit a network with Adam; in the end it has the weights of its lowest loss on the validation part, or the last.

    After every epoch all that is needed to go on is written to the workspace; called again with the same arguments the
    fit goes on from there and ends with the same weights as one that was never interrupted.

    Parameters
    ----------
    network : keras.Model
        Compiled here.
    train, validation : tuple of arrays
        Inputs and targets (one-hot for ``categorical_crossentropy``, else 0 or 1 for each output), of the training part
        perhaps the weight of each patch in the loss.
    options : TrainingOptions
        ``epochs``, ``batch``, ``patience``, ``seed`` and ``learning_rate`` are used, of which only `patience` and
        `seed` may be 0; with `patience` 0 it does not stop early, and the last weights are kept.
    job : Job
        Asked before every step whether to stop; then the best weights so far are kept and the history says so.
    loss : str, or a loss of Keras
    prepare : callable, optional
        ``prepare(inputs, rng)`` makes the inputs of the network, from a batch of the training part with a random
        variant of each patch, from the whole validation part with ``None``.
    learning_rate : schedule of Keras, optional
        Instead of that of the options.
    kept_after : sequence of int, optional
        With `patience` 0: of each array of weights the epochs after which it is kept as it is then; default: the last.
    tag : str
        Name of the network in reports and of its checkpoints.

    Returns
    -------
    History

    Raises
    ------
    Cancelled
        If the caller asked to stop before the first epoch was finished.
    ModelError
        If the loss is not a finite number any more.
    """
    library = keras()
    network.compile(
        optimizer=library.optimizers.Adam(learning_rate or options.learning_rate),
        loss=loss,
        # By its name it would be made inside the first step, which TensorFlow then traces a second time.
        metrics=[library.metrics.CategoricalAccuracy(name="accuracy")],
        jit_compile=False,
    )
    network.optimizer.build(network.trainable_variables)
    steps = -(-len(train[0]) // options.batch)
    often = max(1, steps // _REPORTS_PER_EPOCH)
    checkpoint = job.workspace / (tag + CHECKPOINT)
    history, best = History(), network.get_weights()
    if checkpoint.exists():
        history, best = _load(checkpoint, network)
    history.stopped = False

    def report(number: int, done: float, logs: dict[str, float]) -> None:
        """Report the losses of an epoch, and how many are done."""
        if job.progress is not None:
            values = logs["loss"], logs["accuracy"], logs.get("val_loss"), logs.get("val_accuracy")
            epochs, text = options.epochs, f"epoch {number} of {options.epochs}"
            job.progress(TrainingProgress(done / epochs, text, tag, int(done), epochs, *values))

    def step_ended(step: int, logs: dict[str, float]) -> None:
        if step % often == 0 and step + 1 < steps:
            report(history.epochs + 1, history.epochs + step / steps, logs)

    def epoch_ended(epoch: int, logs: dict[str, float]) -> None:
        nonlocal best
        if not np.isfinite(logs["loss"]) or np.isnan(logs["val_loss"]):
            raise ModelError(
                "The training went astray (the loss is no number any more); use a smaller learning rate."
            )
        history.loss.append(logs["loss"])
        history.accuracy.append(logs["accuracy"])
        history.validation_loss.append(logs["val_loss"])
        history.validation_accuracy.append(logs["val_accuracy"])
        if not options.patience:
            last = kept_after or [options.epochs] * len(best)
            weights = zip(network.get_weights(), best, last, strict=True)
            best = [new if epoch < end else old for new, old, end in weights]
            history.best_epoch = epoch
        elif logs["val_loss"] <= min(history.validation_loss):
            history.best_epoch, best = epoch, network.get_weights()
        _save(checkpoint, network, best, history)
        report(epoch + 1, epoch + 1, logs)
        network.stop_training = history.ended(options)

    if not history.ended(options):
        held_out = validation[0] if prepare is None else prepare(validation[0], None)
        callback = library.callbacks.LambdaCallback(
            on_train_batch_begin=lambda step, logs: stop_if(job.cancelled),
            on_train_batch_end=step_ended,
            on_epoch_end=epoch_ended,
        )
        try:
            network.fit(
                _batches(train, options, history.epochs, prepare),
                steps_per_epoch=steps,
                initial_epoch=history.epochs,
                epochs=options.epochs,
                validation_data=(held_out, validation[1]),
                validation_batch_size=max(options.batch, _VALIDATED_AT_ONCE),
                callbacks=[callback],
                shuffle=False,
                verbose=0,
            )
        except Cancelled:
            history.stopped = True
    if history.best_epoch < 0:
        raise Cancelled
    network.set_weights(best)
    return history


def _batches(
    train: Samples,
    options: TrainingOptions,
    epoch: int,
    prepare: Callable[[Any, np.random.Generator | None], Any] | None,
) -> Iterator[tuple[Any, ...]]:
    """Batches of one epoch after the other, without end."""
    for number in count(epoch):
        # A stream of its own for each epoch: where it goes on does not depend on where it was interrupted.
        rng = np.random.default_rng([options.seed, number])
        order = rng.permutation(len(train[0]))
        for start in range(0, len(order), options.batch):
            chosen = order[start : start + options.batch]
            inputs, *others = (part[chosen] for part in train)
            yield (inputs if prepare is None else prepare(inputs, rng), *others)


def predict_in_batches(
    network: Any,
    patches: NDArray[np.float32],
    prepare: Callable[[NDArray[np.float32]], Any],
    cancelled: CancelCheck | None = None,
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
        stop_if(cancelled)
        part = patches[start : start + size]
        filled = np.resize(part, (size, *part.shape[1:]))
        out[start : start + len(part)] = network.predict_on_batch(prepare(filled))[: len(part)]
        if progress is not None:
            progress(start + len(part))
    return out


def _save(path: Path, network: Any, best: list[NDArray[Any]], history: History) -> None:
    """Write the state of a fit: weights, state of the optimizer and of the random layers, best weights, history."""
    arrays = {f"state{i:04d}": np.asarray(value) for i, value in enumerate(_variables(network))}
    arrays |= {f"best{i:04d}": value for i, value in enumerate(best)}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        np.savez(partial, history=np.array(json.dumps(asdict(history))), allow_pickle=False, **arrays)


def _load(path: Path, network: Any) -> tuple[History, list[NDArray[Any]]]:
    """Put the network into the state of a checkpoint; its history and the best weights."""
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in sorted(stored.files)}
        history = History(**json.loads(str(arrays.pop("history"))))
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise ModelError(f"{path}: the checkpoint is damaged; train anew.") from error
    state = [value for name, value in arrays.items() if name.startswith("state")]
    variables = _variables(network)
    if [v.shape for v in state] != [tuple(v.shape) for v in variables]:
        raise ModelError(f"{path}: the checkpoint is of another network; train anew.")
    for variable, value in zip(variables, state, strict=True):
        variable.assign(value)
    return history, [value for name, value in arrays.items() if name.startswith("best")]


def _variables(network: Any) -> list[Any]:
    # Beside the weights the seeds of the random layers; metrics are left out, they start anew with every epoch.
    seen = {id(variable) for variable in network.metrics_variables}
    own = [variable for variable in network.variables if id(variable) not in seen]
    return [*own, *network.optimizer.variables]
