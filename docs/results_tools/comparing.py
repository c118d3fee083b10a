"""The comparing network with Keras: built, fitted, and its weights handed over to numpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.models.backend import keras
from results_tools.comparing_inputs import (
    CORRELATION_PX,
    PIECE_PX,
    SEVERITY_PX,
    STATISTICS,
    RelativeInputs,
)
from results_tools.examples import Examples

#: Filters of the convolutions, all of stride 2: of patch and typical patch, of autocorrelations, of severity maps.
TRUNK, CORRELATION, SEVERITY = (12, 24, 48), (16, 24, 32), (16, 32)
DROPOUT = 0.3
#: Patches a step, and most patches of an image that a pass takes: perfect images are much the same all over.
BATCH, MOST_PER_IMAGE = 64, 14
#: Rate of learning at its highest, steps that it takes to rise, and decay of the weights.
LEARNING_RATE, WARM_UP, WEIGHT_DECAY = 1.5e-3, 200, 1e-3
LABEL_SMOOTHING = 0.02
#: Probability of inverted contrast and of noise, noise of the pictures and of the numbers.
INVERTED, NOISY, PICTURE_NOISE, NUMBER_NOISE = 0.3, 0.2, 0.2, 0.03


def build_comparing() -> Any:
    """The network, not compiled.

    Returns
    -------
    keras.Model
        Inputs as ``RelativeInputs.arrays``; output ``(n, 2)``: probabilities of clean and defective.
    """
    library = keras()
    layers = library.layers
    piece = library.Input((PIECE_PX, PIECE_PX, 1))
    trunk = library.Model(piece, _convolved(piece, TRUNK, "trunk"), name="trunk")
    patch = library.Input((PIECE_PX, PIECE_PX, 1), name="patch")
    reference = library.Input((PIECE_PX, PIECE_PX, 1), name="reference")
    own, usual = trunk(patch), trunk(reference)
    mean_own = layers.GlobalAveragePooling2D()(own)
    mean_usual = layers.GlobalAveragePooling2D()(usual)
    difference = layers.Subtract()([mean_own, mean_usual])
    # Place by place as well, so that a defect that is small beside the patch shows.
    local = layers.Subtract()([own, layers.Reshape((1, 1, TRUNK[-1]))(mean_usual)])
    local = layers.Multiply()([local, local])
    seen = [
        layers.Multiply()([difference, difference]),
        layers.Multiply()([mean_own, mean_usual]),
        layers.GlobalMaxPooling2D()(local),
        layers.GlobalAveragePooling2D()(local),
    ]
    correlation = library.Input((CORRELATION_PX, CORRELATION_PX, 2), name="correlations")
    severity = library.Input((SEVERITY_PX, SEVERITY_PX, 2), name="severities")
    for maps in (
        _convolved(correlation, CORRELATION, "correlation"),
        _convolved(severity, SEVERITY, "severity"),
    ):
        seen += [layers.GlobalAveragePooling2D()(maps), layers.GlobalMaxPooling2D()(maps)]
    statistics = library.Input((len(STATISTICS),), name="statistics")
    pictures = layers.Dropout(DROPOUT)(layers.Concatenate()(seen))
    pictures = layers.Dense(48, activation="relu", name="pictures")(pictures)
    numbers = layers.BatchNormalization(momentum=0.95, name="numbers_norm")(statistics)
    numbers = layers.Dense(48, activation="relu", name="numbers")(numbers)
    x = layers.Dropout(DROPOUT)(layers.Concatenate()([pictures, numbers]))
    x = layers.Dense(32, activation="relu", name="both")(x)
    out = layers.Dense(2, activation="softmax", name="classes")(x)
    return library.Model([patch, reference, correlation, severity, statistics], out, name="comparing")


def _convolved(x: Any, filters: tuple[int, ...], name: str) -> Any:
    layers = keras().layers
    for number, count in enumerate(filters):
        edge = 5 if number == 0 and name != "severity" else 3
        x = layers.Conv2D(
            count,
            edge,
            2,
            "same",
            use_bias=False,
            kernel_initializer="he_normal",
            name=f"{name}_{number}",
        )(x)
        x = layers.BatchNormalization(momentum=0.95, name=f"{name}_{number}_norm")(x)
        x = layers.ReLU()(x)
    return x


def plain_weights(network: Any) -> dict[str, NDArray[np.float32]]:
    """Weights for :mod:`.comparing_network`, the normalisations folded into the layers."""
    trunk = network.get_layer("trunk")
    out = {}
    for name, owner, count in (
        ("trunk", trunk, len(TRUNK)),
        ("correlation", network, len(CORRELATION)),
        ("severity", network, len(SEVERITY)),
    ):
        for number in range(count):
            gain, shift = _normalisation(owner.get_layer(f"{name}_{number}_norm"))
            kernel = np.asarray(owner.get_layer(f"{name}_{number}").kernel)
            out[f"{name}/{number}/kernel"] = (kernel * gain).astype(np.float32)
            out[f"{name}/{number}/bias"] = shift.astype(np.float32)
    for name in ("pictures", "numbers", "both", "classes"):
        kernel, bias = (np.asarray(v) for v in network.get_layer(name).get_weights())
        if name == "numbers":
            gain, shift = _normalisation(network.get_layer("numbers_norm"))
            kernel, bias = kernel * gain[:, None], bias + shift @ kernel
        out[f"{name}/kernel"] = kernel.astype(np.float32)
        out[f"{name}/bias"] = bias.astype(np.float32)
    return out


def _normalisation(layer: Any) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Factor and shift of a trained batch normalisation."""
    gamma, beta, mean, variance = (np.asarray(value, np.float64) for value in layer.get_weights())
    gain = gamma / np.sqrt(variance + layer.epsilon)
    return gain, beta - gain * mean


def augmented(inputs: RelativeInputs, rng: np.random.Generator) -> RelativeInputs:
    """A batch with each patch and all pictures of it turned and mirrored alike, some inverted or noisy, at random."""
    *pictures, statistics = inputs.arrays
    count = len(inputs)
    turned = [np.empty_like(part) for part in pictures]
    turns, mirrors = rng.integers(4, size=count), rng.random(count) < 0.5
    for index, (quarter, mirrored) in enumerate(zip(turns, mirrors, strict=True)):
        for old, new in zip(pictures, turned, strict=True):
            piece = old[index, :, ::-1] if mirrored else old[index]
            new[index] = np.rot90(piece, quarter)
    patch, reference, correlation, severity = turned
    # Dark atoms are as good as bright ones; autocorrelations and severities do not know the difference.
    sign = np.where(rng.random(count) < INVERTED, np.float32(-1), np.float32(1))[:, None, None, None]
    noise = (
        PICTURE_NOISE * (rng.random(count) < NOISY)[:, None, None, None] * rng.standard_normal(patch.shape)
    )
    statistics = statistics + NUMBER_NOISE * rng.standard_normal(statistics.shape)
    return RelativeInputs(
        sign * patch + noise.astype(np.float32),
        sign * reference,
        correlation,
        severity,
        statistics.astype(np.float32),
    )


def fit_comparing(
    network: Any, examples: Examples, *, epochs: int, seed: int, tell: Callable[[str], None] = print
) -> list[float]:
    """Fit :func:`build_comparing` by AdamW at a rate that rises and then falls as a cosine.

    Parameters
    ----------
    network : keras.Model
    examples : Examples
    epochs : int
        Passes; each takes at most `MOST_PER_IMAGE` patches of an image, others in each pass.
    seed : int
        Order of the patches and augmentation.
    tell : callable
        Told the loss of each pass.

    Returns
    -------
    list of float
        Loss of each pass.
    """
    library = keras()
    rng = np.random.default_rng(seed)
    steps = max(1, len(_chosen(examples, rng)) // BATCH)
    total = epochs * steps
    warm = min(WARM_UP, total // 4)
    rate = library.optimizers.schedules.CosineDecay(
        1e-5, total - warm, alpha=0.01, warmup_target=LEARNING_RATE, warmup_steps=warm
    )
    network.compile(
        library.optimizers.AdamW(rate, weight_decay=WEIGHT_DECAY),
        library.losses.CategoricalCrossentropy(label_smoothing=LABEL_SMOOTHING),
        jit_compile=False,
    )
    targets = np.eye(2, dtype=np.float32)[examples.labels]
    losses = []
    for epoch in range(epochs):
        order = _chosen(examples, rng)
        sum_ = 0.0
        for step in range(steps):
            batch = np.sort(order[step * BATCH : (step + 1) * BATCH])
            sum_ += float(
                network.train_on_batch(augmented(examples.inputs(batch), rng).arrays, targets[batch])
            )
        losses.append(sum_ / steps)
        tell(f"pass {epoch + 1} of {epochs}: loss {losses[-1]:.4f}")
    return losses


def _chosen(examples: Examples, rng: np.random.Generator) -> NDArray[np.intp]:
    """Patches of one pass, in random order."""
    order = np.lexsort((rng.random(len(examples)), examples.images))
    images = examples.images[order]
    begins = np.flatnonzero(np.r_[True, np.diff(images) > 0])
    rank = np.arange(len(order)) - np.repeat(begins, np.diff(np.r_[begins, len(order)]))
    return rng.permutation(order[rank < MOST_PER_IMAGE])


def defect_probabilities(network: Any, examples: Examples, batch: int = 256) -> NDArray[np.float32]:
    """Probability of each patch to be defective, as Keras computes it, shape ``(n,)``."""
    parts = []
    for start in range(0, len(examples), batch):
        some = examples.inputs(np.arange(start, min(start + batch, len(examples))))
        parts.append(np.asarray(network.predict_on_batch(list(some.arrays)))[:, 1])
    return np.concatenate(parts).astype(np.float32) if parts else np.zeros(0, np.float32)
