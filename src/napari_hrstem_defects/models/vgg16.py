"""VGG16 for patches, as published: convolutional base with ImageNet weights, three dense layers, softmax.

References
----------
.. [D] Dennler et al., Micron 146 (2021) 103069, table B.3.
.. [V] Simonyan and Zisserman, Very deep convolutional networks for large-scale image recognition (2014).
"""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from napari_hrstem_defects.errors import ModelError
from napari_hrstem_defects.models.backend import keras
from napari_hrstem_defects.models.base import Parts, SoftmaxKind
from napari_hrstem_defects.models.files import replacing
from napari_hrstem_defects.models.fitting import Job, predict_in_batches
from napari_hrstem_defects.models.options import TrainingOptions, TrainingProgress

#: Units of the dense layers between base and softmax, and the share of them switched off while training (table B.3).
DENSE = (1024, 1024, 512)
DROPOUT = 0.5
#: Means of the ImageNet colours (blue, green, red) that VGG16 was trained without.
IMAGENET_MEANS = (103.939, 116.779, 123.68)
#: Grey value of white in the published preprocessing.
WHITE = 254.0
#: Smallest patch that is left with anything after five halvings.
LEAST_PX = 32
#: Units of the largest dense layers of VGG16 itself.
MOST_UNITS = 4096
# Name of the weight file that Keras downloads.
_WEIGHT_FILE = "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"


def build_vgg16(
    weights: str | os.PathLike[str] | None = "imagenet",
    *,
    patch_px: int = 128,
    classes: int = 2,
    train_base: bool = False,
    dense: tuple[int, ...] = DENSE,
    dropout: float = DROPOUT,
) -> Any:
    """The network of [D], table B.3; 24 679 746 parameters with the defaults. Not compiled.

    Its layers have the names of the table, ``input_1``, ``block1_conv1``, ..., ``flatten_1``, ``dense_1``, ...,
    ``dense_4``.

    Parameters
    ----------
    weights : "imagenet", None or path-like
        Of the convolutional base: downloaded by Keras, random, or a file of such weights.
    patch_px : int
        Edge of a patch in px, at least 32.
    classes : int
    train_base : bool
        Whether training changes the base as well. The text of [D] does so, the authors' code does not.
    dense : tuple of int
        Units of the dense layers (ReLU), each followed by dropout.
    dropout : float

    Returns
    -------
    keras.Model
        Input ``(n, patch_px, patch_px, 3)``, 0...254 less `IMAGENET_MEANS`, output probabilities ``(n, classes)``.

    Raises
    ------
    ModelError
        If the weights cannot be downloaded or read, or Keras is missing.
    """
    if patch_px < LEAST_PX:
        raise ModelError(f"VGG16 needs patches of at least {LEAST_PX} px, not {patch_px}.")
    library = keras()
    layers = library.layers
    base = _base(weights, patch_px)
    base.trainable = train_base
    x = layers.Flatten(name="flatten_1")(base.output)
    for number, units in enumerate(dense, start=1):
        x = layers.Dense(units, activation="relu", name=f"dense_{number}")(x)
        x = layers.Dropout(dropout, name=f"dropout_{number}")(x)
    outputs = layers.Dense(classes, activation="softmax", name=f"dense_{len(dense) + 1}")(x)
    return library.Model(base.inputs[0], outputs, name="vgg16")


def _base(weights: str | os.PathLike[str] | None, patch_px: int) -> Any:
    library = keras()
    inputs = library.Input((patch_px, patch_px, 3), name="input_1")
    make = library.applications.VGG16
    if weights is None:
        return make(include_top=False, weights=None, input_tensor=inputs)
    if weights == "imagenet":
        try:
            # Keras writes where it downloads from to the standard output, which belongs to results.
            with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
                warnings.simplefilter("ignore")
                return make(include_top=False, weights="imagenet", input_tensor=inputs)
        except Exception as error:  # whatever a failed download raises
            raise ModelError(
                "The ImageNet weights of VGG16 cannot be downloaded; connect to the internet once, name a file of them "
                f"with --weights FILE ({_WEIGHT_FILE}), or start from random ones with --weights none."
            ) from error
    path = Path(weights)
    if not path.is_file():
        raise ModelError(f"{path}: there is no such file of weights; name one, `imagenet` or `none`.")
    base = make(include_top=False, weights=None, input_tensor=inputs)
    try:
        _check_members(path)
        base.load_weights(path)
    except Exception as error:  # Keras raises whatever its parts raise
        reason = " ".join(str(error).split())[:160].rstrip(".")
        raise ModelError(
            f"{path}: these are no weights of the convolutional base of VGG16 ({reason}); use {_WEIGHT_FILE}."
        ) from error
    return base


def _check_members(path: Path) -> None:
    """Refuse an HDF5 file that would make the library read other files: by links, or as storage of its arrays."""
    import h5py

    def elsewhere(name: str, link: Any) -> str | None:
        member = file[name] if isinstance(link, h5py.HardLink) else None
        outside = isinstance(member, h5py.Dataset) and (member.external or member.is_virtual)
        return name if member is None or outside else None

    with h5py.File(path) as file:
        found = file.visititems_links(elsewhere)
    if found is not None:
        raise ValueError(f"its member {found} lies in another place")


class VGG16Settings(BaseModel):
    """Settings of VGG16 only.

    Attributes
    ----------
    dense : tuple of int
        Units of the dense layers.
    """

    dense: Annotated[
        tuple[Annotated[int, Field(ge=1, le=MOST_UNITS, strict=True)], ...], Field(min_length=1)
    ] = DENSE


class VGG16(SoftmaxKind):
    """The kind ``vgg16``, its settings are :class:`VGG16Settings`.

    With a frozen base its features of all patches are computed once and kept in the workspace, and only the dense
    layers are trained on them. Otherwise every patch goes through the whole network, turned and mirrored at random.
    """

    name = "vgg16"
    summary = "VGG16 (Dennler et al. 2021)"
    patch_px, epochs, batch, learning_rate = 128, 60, 8, 1e-5
    filter = "log"
    settings = VGG16Settings
    preprocessing: ClassVar = {"scaling": "vgg16", "white": WHITE, "means": list(IMAGENET_MEANS)}

    def check(self, options: TrainingOptions) -> None:
        """Also fetch or read the weights of the base: what is missing is said before patches are cut."""
        super().check(options)
        if options.weights != "none":
            _base(options.weights, LEAST_PX)

    def network(self, patch_px: int, classes: int, settings: Mapping[str, Any]) -> Any:
        """See :func:`build_vgg16`."""
        weights = settings["weights"]
        return build_vgg16(
            None if weights == "none" else weights,
            patch_px=patch_px,
            classes=classes,
            train_base=settings.get("train_base", False),
            dense=self.settings_of(settings.get("extra", {})).dense,
        )

    def network_input(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """Three equal channels 0...254 less the ImageNet means, as VGG16 expects them."""
        means = np.array(IMAGENET_MEANS, np.float32)
        out: NDArray[np.float32] = patches[..., None] * np.float32(WHITE) - means
        return out

    def trained_part(
        self, network: Any, pixels: Parts, options: TrainingOptions, job: Job
    ) -> tuple[Any, Parts]:
        """The whole network, or with a frozen base the layers after it, on the features of the base."""
        if options.train_base:
            return network, pixels
        library = keras()
        start = network.get_layer("flatten_1")
        base = library.Model(network.input, start.input, name="base")
        # The layers after the base as a network of their own, which shares their weights.
        head = library.Model(start.input, network.output, name="head")
        count = sum(map(len, pixels))

        def features(name: str, patches: NDArray[np.float32], before: int) -> NDArray[np.float32]:
            def report(done: int) -> None:
                if job.progress is not None:
                    share = (before + done) / count
                    job.progress(
                        TrainingProgress(0.0, f"features of the frozen base, {share:.0%}", self.name)
                    )

            cache = job.workspace / f"features_{name}.npy"
            if not cache.exists():
                found = predict_in_batches(base, patches, self.network_input, job.cancelled, progress=report)
                with replacing(cache) as partial:
                    np.save(partial, found)
            kept: NDArray[np.float32] = np.load(cache, allow_pickle=False)
            return kept

        return head, (features("train", pixels[0], 0), features("validation", pixels[1], len(pixels[0])))
