"""What a kind of classifier is: what training, model files and predictions rely on, and what most kinds share."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from napari_hrstem_defects.errors import ModelError
from napari_hrstem_defects.models.backend import keras
from napari_hrstem_defects.models.data import PatchSet
from napari_hrstem_defects.models.fitting import Job, fit_network, predict_in_batches
from napari_hrstem_defects.models.options import CancelCheck, TrainingOptions, first_problem
from napari_hrstem_defects.models.preparing import symmetric

if TYPE_CHECKING:
    from napari_hrstem_defects.models.contract import Contract
    from napari_hrstem_defects.models.store import StoredModel

#: An array of the training part and one of the validation part.
Parts = tuple[NDArray[np.float32], NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Fitted:
    """Outcome of :meth:`Kind.fit`.

    Attributes
    ----------
    networks : mapping of str to keras.Model
    preprocessing : mapping
        How patches are made ready, for the contract.
    history : mapping of str to mapping
        For each network the losses and accuracies by epoch.
    stopped : bool
        Whether the caller asked to stop; the networks are the best so far.
    """

    networks: Mapping[str, Any]
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    history: Mapping[str, Any] = field(default_factory=dict)
    stopped: bool = False


class NoSettings(BaseModel):
    """Of a kind that has no settings of its own."""


class Kind(abc.ABC):
    """One kind of classifier.

    Attributes
    ----------
    name : str
    summary : str
        One line for a list.
    patch_px : int
        Usual edge of a patch in px.
    epochs, batch : int
    learning_rate : float
        Used where the options say 0.
    filter : {"none", "log"}
        What is done to a frame before patches are cut from it.
    settings : pydantic.BaseModel
        Settings of this kind only.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    patch_px: ClassVar[int]
    epochs: ClassVar[int]
    batch: ClassVar[int]
    learning_rate: ClassVar[float]
    filter: ClassVar[str] = "none"
    settings: ClassVar[type[BaseModel]] = NoSettings

    @abc.abstractmethod
    def build(self, contract: Contract) -> dict[str, Any]:
        """The networks that a contract describes, not trained."""

    @abc.abstractmethod
    def fit(self, train: PatchSet, validation: PatchSet, options: TrainingOptions, job: Job) -> Fitted:
        """Train one.

        Parameters
        ----------
        train, validation : PatchSet
            Of the same classes, filtered.
        options : TrainingOptions
        job : Job

        Raises
        ------
        Cancelled
            If the caller asked to stop before the first epoch was finished.
        ModelError
            If the options or the patches cannot be used.
        """

    @abc.abstractmethod
    def predict(
        self, model: StoredModel, patches: NDArray[np.float32], *, cancelled: CancelCheck | None = None
    ) -> NDArray[np.float32]:
        """Probabilities ``(n, classes)`` of patches ``(n, patch_px, patch_px)``, 0...1; they need not add up to one."""

    def settings_of(self, extra: Mapping[str, Any]) -> Any:
        """The settings of this kind only, from the ``extra`` of training options; needs no Keras.

        Raises
        ------
        ModelError
            If a key is unknown or a value impossible.
        """
        known = self.settings.model_fields
        for name in extra:
            if name not in known:
                has = ", ".join(known) or "none of its own"
                raise ModelError(f"The kind {self.name} has no setting {name!r}; it has {has}.")
        try:
            return self.settings(**extra)
        except ValidationError as error:
            raise ModelError(f"{first_problem(error)}.") from None

    def check(self, options: TrainingOptions) -> None:
        """Refuse options that a training could not begin with, by a ModelError, before anything costly is done."""
        self.settings_of(options.extra)

    def network_names(self, contract: Contract) -> tuple[str, ...]:
        """Names of the networks in a model file; needs no Keras.

        A ModelError, whose message goes into a sentence, if the contract is none of this kind.
        """
        self.settings_of(contract.training.get("extra", {}))
        return (self.name,)

    def completed(self, options: TrainingOptions) -> TrainingOptions:
        """Options in which no zero stands for what suits the kind."""
        return replace(
            options,
            epochs=options.epochs or self.epochs,
            batch=options.batch or self.batch,
            learning_rate=options.learning_rate or self.learning_rate,
        )


class SoftmaxKind(Kind):
    """A kind of one network, whose outputs are the probabilities of the classes."""

    #: What the contract says about `network_input`.
    preprocessing: ClassVar[Mapping[str, Any]]

    @abc.abstractmethod
    def network(self, patch_px: int, classes: int, settings: Mapping[str, Any]) -> Any:
        """The network; `settings` are fields of the training options."""

    @abc.abstractmethod
    def network_input(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the network is given of patches ``(n, y, x)``."""

    def build(self, contract: Contract) -> dict[str, Any]:
        """The network."""
        settings = {**contract.training, "weights": "none"}
        return {self.name: self.network(contract.patch_px, len(contract.classes), settings)}

    def fit(self, train: PatchSet, validation: PatchSet, options: TrainingOptions, job: Job) -> Fitted:
        """Train one, all classes weighing the same."""
        from sklearn.utils.class_weight import compute_sample_weight

        keras().utils.set_random_seed(options.seed)
        network = self.network(train.edge, len(train.classes), vars(options))
        fitted, inputs = self.trained_part(network, (train.pixels, validation.pixels), options, job)
        identity = np.eye(len(train.classes), dtype=np.float32)
        history = fit_network(
            fitted,
            (inputs[0], identity[train.labels], compute_sample_weight("balanced", train.labels)),
            (inputs[1], identity[validation.labels]),
            self.completed(options),
            job,
            loss="categorical_crossentropy",
            # Patches are turned, and get their channels, batch by batch: all at once would fill the memory.
            prepare=self._prepared if fitted is network else None,
            tag=self.name,
        )
        return Fitted({self.name: network}, self.preprocessing, {self.name: vars(history)}, history.stopped)

    def trained_part(
        self, network: Any, pixels: Parts, options: TrainingOptions, job: Job
    ) -> tuple[Any, Parts]:
        """What is fitted, and its inputs of both parts: the whole network on patches, or some of its last layers."""
        return network, pixels

    def _prepared(self, patches: NDArray[np.float32], rng: np.random.Generator | None) -> NDArray[np.float32]:
        """Patches as the network is given them, for training each turned and mirrored at random."""
        if rng is not None:
            patches = symmetric(patches, rng.integers(8, size=len(patches)))
        return self.network_input(patches)

    def predict(
        self, model: StoredModel, patches: NDArray[np.float32], *, cancelled: CancelCheck | None = None
    ) -> NDArray[np.float32]:
        """Probabilities ``(n, classes)``, which add up to one."""
        return predict_in_batches(model.networks[self.name], patches, self.network_input, cancelled)
