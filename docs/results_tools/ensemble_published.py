"""The published recipe of the FFT ensemble, its networks trained in half the time by computing the same with less.

What Keras computes layer by layer is put together where that changes nothing: batch normalisation of a convolution of
one channel to 64 by a single pixel needs the mean and the variance of that channel only; biases before a batch
normalisation cancel; maxima are taken before the last SELU, which grows everywhere; half turns leave a spectrum as it
is. Products are made in bfloat16, sums in single precision. In the end the weights are put into the network as it is
published, and that one is judged.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.models.backend import keras
from napari_hrstem_defects.models.data import PatchSet
from napari_hrstem_defects.models.ensemble_networks import build_published, logits
from napari_hrstem_defects.models.fft_ensemble import PUBLISHED_RATE
from napari_hrstem_defects.models.fft_features import log_spectra

#: Passes over all patches in all four quarter turns (theirs: 3 for Bulk to 9 for SF1), and more where there are few
#: patches, so that as many steps are made as it takes to learn the training patches by heart.
PASSES, LEAST_STEPS = 3, 100
BATCH = 32
_EPSILON, _MOMENTUM = 1e-3, 0.9  # of the batch normalisation, as in the published network


def train(patches: PatchSet, seed: int, passes: int = 0, learning_rate: float = 0.0) -> dict[str, Any]:
    """One published network for each class, against all others; as `fft_ensemble.fit` names them."""
    turned = [log_spectra(np.ascontiguousarray(np.rot90(patches.pixels, k, (1, 2)))) for k in (0, 1)]
    spectra = np.stack(turned, axis=1)[..., None]
    library = keras()
    out = {}
    for k in range(len(patches.classes)):
        library.utils.set_random_seed(1000 * seed + k)
        network = build_published(patches.edge)
        trainer = Trainer(network, learning_rate or PUBLISHED_RATE)
        targets = (patches.labels == k).astype(np.float32)[:, None]
        for number in range(passes or needed_passes(len(patches))):
            rng = np.random.default_rng([seed, number])
            order = rng.permutation(np.tile(np.arange(len(patches)), 4))
            turn = rng.integers(0, 2, len(order))
            for start in range(0, len(order), BATCH):
                some = slice(start, start + BATCH)
                trainer.step(spectra[order[some], turn[some]], targets[order[some]])
        trainer.write()
        out[f"class-{k}"] = network
    return out


def needed_passes(patches: int) -> int:
    """How many passes are made over a number of patches."""
    return max(PASSES, -(-LEAST_STEPS // -(-4 * patches // BATCH)))


class Trainer:
    """Trains one published network.

    Parameters
    ----------
    network : keras.Model
        Of :func:`~.ensemble_networks.build_published`; where it starts, and what :meth:`write` changes.
    learning_rate : float
    """

    def __init__(self, network: Any, learning_rate: float) -> None:
        import tensorflow as tf

        self._tf, self._network = tf, network
        layers = [layer for layer in network.layers if layer.weights]
        self._layers = layers
        first, norm1, middle, norm2, last, norm3, dense, out = layers
        self.parameters = [
            tf.Variable(np.asarray(values))
            for values in (
                np.asarray(first.kernel)[0, 0, 0],
                norm1.gamma,
                norm1.beta,
                middle.kernel,
                norm2.gamma,
                norm2.beta,
                last.kernel,
                norm3.gamma,
                norm3.beta,
                *dense.weights,
                *out.weights,
            )
        ]
        channels = int(middle.kernel.shape[-1])
        self.statistics = [
            tf.Variable(np.full(n, v, np.float32)) for n in ((), channels, channels) for v in (0, 1)
        ]
        self._optimizer = keras().optimizers.Adam(learning_rate)
        self._optimizer.build(self.parameters)
        self.step = tf.function(self._step)

    def logits(self, spectra: Any, training: bool) -> tuple[Any, list[Any]]:
        """What the network says before its sigmoid, (n, 1), and the statistics of the batch, means and variances."""
        tf, (kernel, gamma, beta, *rest) = self._tf, self.parameters
        mean, variance = tf.nn.moments(spectra, [0, 1, 2, 3]) if training else self.statistics[:2]
        scale = gamma * kernel * tf.math.rsqrt(kernel**2 * variance + _EPSILON)
        values = tf.nn.selu((spectra - mean) * scale + beta)
        found = [mean, variance]
        for index in (0, 3):
            weights, gamma, beta = rest[index : index + 3]
            values = tf.nn.conv2d(tf.cast(values, tf.bfloat16), tf.cast(weights, tf.bfloat16), 1, "VALID")
            given = () if training else self.statistics[len(found) : len(found) + 2]
            values, *own = tf.compat.v1.nn.fused_batch_norm(
                tf.cast(values, tf.float32), gamma, beta, *given, epsilon=_EPSILON, is_training=training
            )
            found += own[:2]
            values = values if index else tf.nn.selu(values)
        values = tf.nn.selu(tf.nn.max_pool2d(values, 2, 2, "VALID"))
        values = tf.nn.selu(tf.tensordot(values, rest[6], 1) + rest[7])
        return tf.matmul(tf.reshape(values, (tf.shape(values)[0], -1)), rest[8]) + rest[9], found

    def _step(self, spectra: Any, targets: Any) -> Any:
        tf = self._tf
        with tf.GradientTape() as tape:
            said, found = self.logits(spectra, True)
            loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(targets, said))
        gradients = tape.gradient(loss, self.parameters)
        self._optimizer.apply_gradients(zip(gradients, self.parameters, strict=True))
        for kept, new in zip(self.statistics, found, strict=True):
            kept.assign(_MOMENTUM * kept + (1 - _MOMENTUM) * new)
        return loss

    def write(self) -> None:
        """Put the weights into the network."""
        kernel, *norm1 = (value.numpy() for value in self.parameters[:3])
        values = [value.numpy() for value in self.parameters[3:]]
        statistics = [value.numpy() for value in self.statistics]
        nothing = np.zeros(len(kernel), np.float32)
        first, norm_a, middle, norm_b, last, norm_c, dense, out = self._layers
        first.set_weights([kernel[None, None, None], nothing])
        norm_a.set_weights([*norm1, kernel * statistics[0], kernel**2 * statistics[1]])
        middle.set_weights([values[0], nothing])
        norm_b.set_weights([*values[1:3], *statistics[2:4]])
        last.set_weights([values[3], nothing])
        norm_c.set_weights([*values[4:6], *statistics[4:6]])
        dense.set_weights(values[6:8])
        out.set_weights(values[8:10])


def said(networks: dict[str, Any], pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logits (n, classes) of the networks as published."""
    spectra = log_spectra(pixels)[..., None]
    parts = [logits(network) for network in networks.values()]
    return np.concatenate(
        [
            np.concatenate(
                [
                    np.asarray(part.predict_on_batch(spectra[k : k + BATCH]))
                    for k in range(0, len(pixels), BATCH)
                ]
            )
            for part in parts
        ],
        axis=1,
    )
