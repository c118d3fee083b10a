"""Networks of one layer: Keras takes seconds for the real ones of each training."""

from typing import Any

from napari_hrstem_defects.models.backend import keras


def tiny_softmax(patch_px: int, classes: int = 2) -> Any:
    """In place of the compact network."""
    layers = keras().layers
    patch = keras().Input((patch_px, patch_px, 1))
    mean = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 5, strides=4, activation="relu")(patch))
    return keras().Model(patch, layers.Dense(classes, activation="softmax")(mean))


def tiny_logit(patch_px: int, branches: str) -> Any:
    """In place of the efficient network of an ensemble, for the branch of the spectrum."""
    layers = keras().layers
    spectrum = keras().Input((patch_px, patch_px, 1))
    return keras().Model(spectrum, layers.Dense(1)(layers.Flatten()(spectrum)))
