"""The binary networks of the FFT ensemble: the published one and a far cheaper one with a raw-image branch.

They give logits, without a sigmoid: beyond 17 it is one in single precision, beyond 6 in bfloat16, where a
loss of it has no slope any more and the answers of several networks are equal. The published network is there after its
first step, as its last layer adds up 25 088 values.
"""

from __future__ import annotations

from typing import Any

from napari_hrstem_defects.models.backend import keras

#: Edge of a patch in px that the published network is made for.
PUBLISHED_PATCH_PX = 64

# Channels of the efficient network's convolutions.
_RAW_CHANNELS = (12, 16, 24, 32)
_FFT_CHANNELS = (8, 12, 16)
_FFT_OUT_CHANNELS = 4
_HIDDEN = 24
_DROPOUT, _FFT_DROPOUT = 0.3, 0.5
#: The statistics of the batches are followed within a few tens of steps, all that a small training set gives in a few
#: epochs; with the usual 0.99 the network that is used would be another than the one that was trained.
MOMENTUM = 0.9


def build_published(patch_px: int = PUBLISHED_PATCH_PX, momentum: float = MOMENTUM) -> Any:
    """The network of [M]: convolutions 1×1, 8×8 and 1×1 of 64 channels on the log spectrum, one network a class.

    Parameters
    ----------
    patch_px : int
        Edge of a patch; 64 gives the published 294 433 parameters.
    momentum : float
        Of the batch normalisation's running statistics; published is Keras' 0.99.

    Returns
    -------
    keras.Model
        One input ``(patch_px, patch_px, 1)``, one logit.

    References
    ----------
    .. [M] Marvin, Holt et al., automated defect detection in STEM images. The text fixes no sizes; they are those of
       the code, github.com/NoHolt/ML-Hackathon-2025.
    """
    library = keras()
    layers = library.layers
    spectrum = library.Input((patch_px, patch_px, 1), name="spectrum")
    values = spectrum
    for edge in (1, 8, 1):
        values = layers.Conv2D(64, edge, kernel_initializer="he_normal")(values)
        values = layers.BatchNormalization(momentum=momentum)(values)
        values = layers.Activation("selu")(values)
    values = layers.MaxPooling2D(2)(values)
    values = layers.Dense(32, activation="selu")(values)
    return library.Model(spectrum, layers.Dense(1)(layers.Flatten()(values)))


def build_efficient(patch_px: int = PUBLISHED_PATCH_PX, branches: str = "raw+fft") -> Any:
    """A small network for the equalised patch, its log spectrum, or both.

    The spectrum knows nothing about places and phases: it is the same for a crystal and its 180° copy and hardly
    changes with one missing column. The raw branch sees those; its maxima over the patch say whether a defect is
    somewhere in it, its means how much of one.

    Parameters
    ----------
    patch_px : int
    branches : {"raw+fft", "raw", "fft"}

    Returns
    -------
    keras.Model
        Inputs ``(patch_px, patch_px, 1)``, the raw one first; one logit.
    """
    library = keras()
    layers = library.layers
    inputs, parts = [], []
    if "raw" in branches:
        raw = library.Input((patch_px, patch_px, 1), name="raw")
        inputs.append(raw)
        values = _convolution(raw, _RAW_CHANNELS[0], edge=5, stride=2)
        values = _convolution(values, _RAW_CHANNELS[1])
        values = layers.MaxPooling2D(2)(values)
        values = _convolution(values, _RAW_CHANNELS[2])
        values = layers.MaxPooling2D(2)(values)
        values = _convolution(values, _RAW_CHANNELS[3])
        parts += [layers.GlobalMaxPooling2D()(values), layers.GlobalAveragePooling2D()(values)]
    if "fft" in branches:
        spectrum = library.Input((patch_px, patch_px, 1), name="spectrum")
        inputs.append(spectrum)
        values = spectrum
        for channels in _FFT_CHANNELS:
            values = _convolution(values, channels, stride=2)
        values = layers.Conv2D(_FFT_OUT_CHANNELS, 1, activation="selu", kernel_initializer="he_normal")(
            values
        )
        # Networks overfit spectra easily, and then the raw branch learns nothing.
        parts.append(layers.Dropout(_FFT_DROPOUT)(layers.Flatten()(values)))
    values = layers.Concatenate()(parts) if len(parts) > 1 else parts[0]
    values = layers.Dropout(_DROPOUT)(values)
    values = layers.Dense(_HIDDEN, activation="selu", kernel_initializer="he_normal")(values)
    return library.Model(inputs, layers.Dense(1)(values))


def _convolution(values: Any, channels: int, edge: int = 3, stride: int = 1) -> Any:
    layers = keras().layers
    values = layers.Conv2D(
        channels,
        edge,
        strides=stride,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
    )(values)
    values = layers.BatchNormalization(momentum=MOMENTUM)(values)
    return layers.Activation("selu")(values)
