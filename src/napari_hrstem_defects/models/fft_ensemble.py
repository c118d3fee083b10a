"""The FFT ensemble: one binary network for each class, each against all others.

The networks share no weights. They are trained side by side, on the same variants of the same patches, which costs one
augmentation instead of many and lets all of them be stopped, or taken up again, together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from scipy.special import expit

from napari_hrstem_defects.errors import ModelError
from napari_hrstem_defects.models.backend import keras
from napari_hrstem_defects.models.base import Fitted, Kind
from napari_hrstem_defects.models.data import PatchSet, join
from napari_hrstem_defects.models.ensemble_networks import MOMENTUM, build_efficient, build_published
from napari_hrstem_defects.models.fft_features import (
    BLUR_PX,
    THRESHOLD,
    equalise,
    log_spectra,
    standardised,
    varied,
)
from napari_hrstem_defects.models.fitting import Job, fit_network, predict_in_batches
from napari_hrstem_defects.models.options import CancelCheck, TrainingOptions
from napari_hrstem_defects.models.preparing import symmetries

if TYPE_CHECKING:
    from napari_hrstem_defects.models.contract import Contract
    from napari_hrstem_defects.models.store import StoredModel

#: Patches of each class shown in one epoch: as many as the largest class has, within these limits.
LEAST_PER_EPOCH, MOST_PER_EPOCH = 192, 4000
#: Held-out patches of each class that decide when to stop.
PER_VALIDATION_CLASS = 64
#: Of Adam, for the published network where nothing else is asked for. Its last layer adds up 25 088 values: with ten
#: times as much the first steps move its outputs so far that a hundred more are needed to bring them back.
PUBLISHED_RATE = 1e-4
#: Step between the windows of a scan in px: an eighth of the published window, twice the published step.
STRIDE_PX = 8
#: Windows that go through the networks at once.
BATCH = 128
#: Fewer held-out patches of a class, or of the rest, than this say nothing about its calibration.
FEWEST = 5

_Length = Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)]


class EnsembleSettings(BaseModel):
    """Options of the ensemble only, the ``extra`` of the training options.

    Attributes
    ----------
    architecture : {"efficient", "published"}
    branches : {"raw+fft", "raw", "fft"}
        Input of the efficient networks; the published one takes the spectrum only. With the spectrum beside the
        patch both materials that were tried came out better (docs/ensemble.md).
    augmentation : {"full", "turns"}
        Symmetry, zoom, grey scale, brightness, noise, drawn anew in each epoch; or each patch in its four quarter turns
        in each epoch, as published.
    balance : bool
        Show all classes equally often and let each class weigh as much as its rest.
    calibrate : bool
        Calibrate the probabilities on the validation part.
    threshold : float
        Of the log spectra.
    momentum : float
        Of the published network's batch normalisation.
    stride : int
        Step of a scan in px where nothing else is asked for.
    class_epochs : mapping of str to int
        Epochs of the networks of single classes, instead of those of all; needs a training that does not stop early.
    """

    model_config = ConfigDict(frozen=True)

    architecture: Literal["efficient", "published"] = "efficient"
    branches: Literal["raw+fft", "raw", "fft"] = "raw+fft"
    augmentation: Literal["full", "turns"] = "full"
    balance: bool = True
    calibrate: bool = True
    threshold: _Length = THRESHOLD
    momentum: Annotated[float, Field(ge=0, lt=1, strict=True)] = MOMENTUM
    stride: Annotated[int, Field(ge=1, strict=True)] = STRIDE_PX
    class_epochs: Mapping[str, Annotated[int, Field(ge=1, strict=True)]] = {}

    def preprocessing(self) -> dict[str, Any]:
        """What the contract must say to make patches ready again."""
        published = self.architecture == "published"
        return {
            "architecture": self.architecture,
            "branches": "fft" if published else self.branches,
            "equalise": not published,
            "threshold": float(self.threshold),
            "blur_px": BLUR_PX,
            "stride_px": self.stride,
            # Single patches are classified in all orientations; in a scan many windows cover each place.
            "views": 8 if self.augmentation == "full" else 1,
        }


class _Line(BaseModel):
    """Calibration of each class."""

    slope: list[float]
    offset: list[float]


class _Preprocessing(BaseModel):
    """Required entries of a contract; others are ignored."""

    architecture: Literal["efficient", "published"]
    branches: Literal["raw+fft", "raw", "fft"]
    equalise: Annotated[bool, Field(strict=True)]
    views: Literal[1, 8]
    threshold: _Length
    blur_px: _Length
    calibration: dict[str, _Line] | None = None


class FFTEnsemble(Kind):
    """The kind ``fft-ensemble``: its settings are :class:`EnsembleSettings`."""

    name = "fft-ensemble"
    summary = "FFT ensemble (can scan an image)"
    patch_px, epochs, batch, learning_rate = 64, 16, 32, 2e-3
    settings = EnsembleSettings

    def network_names(self, contract: Contract) -> tuple[str, ...]:
        """One for each class."""
        super().network_names(contract)
        wrong = ModelError("its preprocessing is not that of an FFT ensemble")
        try:
            known = _Preprocessing.model_validate(contract.preprocessing)
        except ValidationError:
            raise wrong from None
        lines = (known.calibration or {}).values()
        if any(
            len(column) != len(contract.classes) for line in lines for column in (line.slope, line.offset)
        ):
            raise wrong
        return _names(contract.classes)

    def build(self, contract: Contract) -> dict[str, Any]:
        """One network for each class."""
        known = contract.preprocessing
        settings = EnsembleSettings(architecture=known["architecture"], branches=known["branches"])
        return {name: build_network(settings, contract.patch_px) for name in _names(contract.classes)}

    def fit(self, train: PatchSet, validation: PatchSet, options: TrainingOptions, job: Job) -> Fitted:
        """Train an ensemble, see :meth:`.Kind.fit`.

        A class that the validation part lacks takes part in early stopping with training patches, and its calibration
        is taken from the others; an empty validation part leaves the probabilities as they are.
        """
        settings = self.settings_of(options.extra)
        missing = [name for name, count in train.counts.items() if count == 0]
        if missing:
            raise ModelError(
                f"There are no training patches of {', '.join(missing)}; label some or leave it out."
            )
        if options.patience and settings.class_epochs:
            raise ModelError("class_epochs needs a training that does not stop early; set --patience 0.")
        if settings.architecture == "published":
            options = replace(options, learning_rate=options.learning_rate or PUBLISHED_RATE)
        options = self.completed(options)
        each = [settings.class_epochs.get(name, options.epochs) for name in train.classes]
        options = replace(options, epochs=max(each))
        library = keras()
        library.utils.set_random_seed(options.seed)
        networks = {name: build_network(settings, train.edge) for name in _names(train.classes)}
        whole = side_by_side(tuple(networks.values()))
        # The networks share no weights: each is kept as it is after its own epochs.
        epochs = {
            id(v): n for network, n in zip(networks.values(), each, strict=True) for v in network.weights
        }
        preprocessing = settings.preprocessing()
        lacking = train.take(~np.isin(train.labels, validation.labels))
        stopping = _balanced(join([validation, lacking]), PER_VALIDATION_CLASS, options.seed)
        if settings.balance:
            count = int(np.clip(max(train.counts.values()), LEAST_PER_EPOCH, MOST_PER_EPOCH))
            train = _balanced(train, count, options.seed)
        identity = np.eye(len(train.classes), dtype=np.float32)
        pixels, targets = train.pixels, identity[train.labels]
        full = settings.augmentation == "full"
        if not full:
            pixels, targets = np.concatenate(symmetries(pixels)[:4]), np.tile(targets, (4, 1))

        def prepare(patches: NDArray[np.float32], rng: np.random.Generator | None) -> Any:
            if full and rng is not None:
                return _inputs(varied(patches, rng), preprocessing, equal=True)
            return _inputs(patches, preprocessing)

        rate = None
        if settings.architecture == "efficient":
            steps = options.epochs * -(-len(pixels) // options.batch)
            rate = library.optimizers.schedules.CosineDecay(options.learning_rate, steps, alpha=0.02)
        history = fit_network(
            whole,
            (pixels, targets),
            (stopping.pixels, identity[stopping.labels]),
            options,
            job,
            loss=balanced_loss(len(train.classes))
            if settings.balance
            else library.losses.BinaryCrossentropy(from_logits=True),
            prepare=prepare,
            learning_rate=rate,
            kept_after=[epochs[id(v)] for v in whole.weights],
            tag="ensemble",
        )
        calibration: dict[str, Any] = {}
        if settings.calibrate and len(validation):
            for views in sorted({1, preprocessing["views"]}):
                logits = _mean_logits(whole, validation.pixels, preprocessing, views)
                calibration[str(views)] = calibrate(logits, validation.labels)
        preprocessing["calibration"] = calibration
        return Fitted(networks, preprocessing, {"ensemble": vars(history)}, history.stopped)

    def predict(
        self,
        model: StoredModel,
        patches: NDArray[np.float32],
        *,
        views: int = 0,
        cancelled: CancelCheck | None = None,
    ) -> NDArray[np.float32]:
        """Calibrated probability of each class for each patch.

        Parameters
        ----------
        model : StoredModel
            An ensemble, its networks ``class-0`` and so on in the order of the classes.
        patches : float32 array (n, patch_px, patch_px)
            0...1.
        views : {0, 1, 8}
            8: average over the turned and mirrored copies of each patch, 1: as it is, 0: what the model was made for.
        cancelled : callable, optional

        Returns
        -------
        float32 array (n, classes)
            Each class against the rest; a row need not add up to one.

        Raises
        ------
        ModelError
            If the model is no FFT ensemble.
        Cancelled
            If the caller asked to stop.
        """
        contract, settings = model.contract, model.contract.preprocessing
        if contract.kind != self.name:
            raise ModelError(
                f"{contract.name} is no FFT ensemble; train one with --model fft-ensemble, or name its file."
            )
        whole = side_by_side(tuple(model.networks[name] for name in _names(contract.classes)))
        number = views or int(settings["views"])
        mean = _mean_logits(whole, patches, settings, number, cancelled)
        return calibrated(mean, (settings.get("calibration") or {}).get(str(number)))


def calibrate(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> dict[str, list[Any]]:
    """Platt scaling of each class on held-out patches, positives and the rest with equal weight.

    Parameters
    ----------
    logits : float array (n, classes)
        What the networks say before their sigmoids.
    labels : int array (n,)
        Number of the class.

    Returns
    -------
    dict
        ``slope`` and ``offset`` of the line through the logits, for each class, and ``fitted``: whether there were
        enough patches. A class without them gets the mean slope of the others and no offset.

    References
    ----------
    .. Platt, Advances in Large Margin Classifiers (1999) 61; Guo et al., ICML 2017.
    """
    from sklearn.linear_model import LogisticRegression

    values: NDArray[np.float64] = np.asarray(logits, np.float64)
    count = values.shape[1]
    slopes, offsets, fitted = np.ones(count), np.zeros(count), np.zeros(count, bool)
    for k in range(count):
        positive = labels == k
        if min(np.count_nonzero(positive), np.count_nonzero(~positive)) >= FEWEST:
            line = LogisticRegression(class_weight="balanced").fit(values[:, [k]], positive)
            slopes[k], offsets[k] = line.coef_[0, 0], line.intercept_[0]
            fitted[k] = True
    if fitted.any():
        slopes[~fitted] = slopes[fitted].mean()
    return {"slope": slopes.tolist(), "offset": offsets.tolist(), "fitted": fitted.tolist()}


def calibrated(logits: NDArray[np.floating], calibration: Any) -> NDArray[np.float32]:
    """Calibrated probabilities (n, classes); an empty calibration leaves those of the networks."""
    values: NDArray[np.float64] = np.asarray(logits, np.float64)
    if calibration:
        values = np.asarray(calibration["slope"]) * values + np.asarray(calibration["offset"])
    out: NDArray[np.float32] = expit(values).astype(np.float32)
    return out


def _names(classes: tuple[str, ...]) -> tuple[str, ...]:
    # The names of the classes may be anything; those of members of a file may not.
    return tuple(f"class-{k}" for k in range(len(classes)))


def build_network(settings: EnsembleSettings, edge: int) -> Any:
    """The network of one class."""
    if settings.architecture == "published":
        return build_published(edge, settings.momentum)
    return build_efficient(edge, settings.branches)


# What runs was compiled when it first ran, which takes seconds: the frames of a series share it.
@lru_cache(maxsize=2)
def side_by_side(networks: tuple[Any, ...]) -> Any:
    """One model with the inputs that all networks share and one column of logits for each."""
    library = keras()
    inputs = [library.Input(tensor.shape[1:]) for tensor in networks[0].inputs]
    outputs = [network(inputs if len(inputs) > 1 else inputs[0]) for network in networks]
    return library.Model(inputs, library.layers.Concatenate()(outputs))


def _inputs(patches: NDArray[np.float32], preprocessing: Mapping[str, Any], *, equal: bool = False) -> Any:
    """What the networks take; `equal`: the patches are equalised already."""
    if preprocessing["equalise"] and not equal:
        patches = equalise(patches)
    branches = preprocessing["branches"]
    parts = []
    if "raw" in branches:
        parts.append(standardised(patches)[..., None])
    if "fft" in branches:
        spectra = log_spectra(patches, threshold=preprocessing["threshold"], blur_px=preprocessing["blur_px"])
        parts.append(spectra[..., None])
    return tuple(parts) if len(parts) > 1 else parts[0]


def _mean_logits(
    whole: Any,
    patches: NDArray[np.float32],
    preprocessing: Mapping[str, Any],
    views: int,
    cancelled: CancelCheck | None = None,
) -> NDArray[np.float32]:
    """Logits (n, classes), for eight views their mean."""

    def prepare(part: NDArray[np.float32]) -> Any:
        return _inputs(part, preprocessing)

    copies = [patches] if views == 1 else symmetries(patches)
    found = [predict_in_batches(whole, copy, prepare, cancelled, batch=BATCH) for copy in copies]
    mean: NDArray[np.float32] = np.mean(found, axis=0)
    return mean


def _balanced(patches: PatchSet, count: int, seed: int) -> PatchSet:
    """As many patches of each class, at random; those of a rare class several times."""
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(patches.labels == k) for k in range(len(patches.classes))]
    return patches.take(np.concatenate([np.resize(rng.permutation(own), count) for own in members]))


def balanced_loss(classes: int) -> Any:
    """Binary cross-entropy in which a class weighs as much as its rest, all classes being equally frequent."""
    library = keras()
    positive, negative = classes / 2, classes / (2 * (classes - 1))

    def loss(targets: Any, logits: Any) -> Any:
        ops = library.ops
        return ops.mean(
            positive * targets * ops.softplus(-logits) + negative * (1 - targets) * ops.softplus(logits),
            axis=-1,
        )

    return loss
