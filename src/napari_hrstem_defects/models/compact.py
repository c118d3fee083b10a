"""A small network of the same kind as VGG16: one channel, under half a million parameters, trained from nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.models.backend import keras
from napari_hrstem_defects.models.base import SoftmaxKind

#: Channels of the blocks; each but the first halves the resolution once more.
CHANNELS = (16, 32, 64, 96, 128)
#: Momentum of the batch normalisation: with Keras' 0.99 the statistics of a small training set lag behind for epochs.
NORM_MOMENTUM = 0.9
#: Patches of less contrast than this, of a range of 0...1, are not stretched any further.
LEAST_CONTRAST = 1e-4


def build_compact(
    patch_px: int = 128, classes: int = 2, channels: tuple[int, ...] = CHANNELS, dropout: float = 0.3
) -> Any:
    """The network, not compiled.

    Parameters
    ----------
    patch_px : int
        Edge of a patch in px.
    classes : int
    channels : tuple of int
        Of the blocks. The first is a 5 × 5 convolution of stride 2, each other two 3 × 3 convolutions and max pooling;
        all with batch normalisation and ReLU. The mean over the patch, a dense layer of 64 and softmax follow.
    dropout : float
        Before the two dense layers.

    Returns
    -------
    keras.Model
        Input ``(n, patch_px, patch_px, 1)``, output probabilities ``(n, classes)``; 476 818 parameters with the
        default channels and two classes.
    """
    library = keras()
    layers = library.layers
    inputs = library.Input((patch_px, patch_px, 1), name="patch")
    x = inputs
    for index, width in enumerate(channels):
        for part in range(1 if index == 0 else 2):
            x = layers.Conv2D(
                width,
                5 if index == 0 else 3,
                strides=2 if index == 0 else 1,
                padding="same",
                use_bias=False,
                kernel_initializer="he_normal",
                name=f"block{index}_conv{part}",
            )(x)
            x = layers.BatchNormalization(momentum=NORM_MOMENTUM, name=f"block{index}_norm{part}")(x)
            x = layers.ReLU(name=f"block{index}_relu{part}")(x)
        if index > 0:
            # So that something is left of the smallest patches.
            x = layers.MaxPooling2D(padding="same", name=f"block{index}_pool")(x)
    x = layers.GlobalAveragePooling2D(name="mean")(x)
    x = layers.Dropout(dropout, name="dropout0")(x)
    x = layers.Dense(64, activation="relu", name="dense")(x)
    x = layers.Dropout(dropout, name="dropout1")(x)
    return library.Model(
        inputs, layers.Dense(classes, activation="softmax", name="classes")(x), name="compact"
    )


class Compact(SoftmaxKind):
    """The kind ``compact``."""

    name = "compact"
    summary = "compact (small, needs no GPU)"
    patch_px, epochs, batch, learning_rate = 128, 60, 32, 1e-3
    preprocessing: ClassVar = {"scaling": "standard"}

    def network(self, patch_px: int, classes: int, settings: Mapping[str, Any]) -> Any:
        """See :func:`build_compact`."""
        return build_compact(patch_px, classes)

    def network_input(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """Each patch with mean 0 and standard deviation 1, with a channel axis."""
        mean = patches.mean(axis=(1, 2), keepdims=True)
        contrast = np.maximum(patches.std(axis=(1, 2), keepdims=True), LEAST_CONTRAST)
        out: NDArray[np.float32] = ((patches - mean) / contrast)[..., None].astype(np.float32)
        return out
