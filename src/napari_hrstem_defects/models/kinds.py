"""The kinds of classifiers: what each brings to the common way of training, judging and using one.

A kind is a module with three functions. ::

    fit(train, validation, options, *, workspace, progress=None, cancelled=None) -> Fitted
    build(contract) -> dict of keras.Model, not trained
    predict(model, patches, *, cancelled=None) -> float32 array (n, classes)

A fourth, ``check(options)``, may refuse options before anything costly is done; a fifth, ``check_settings(extra)``,
knows the settings that only this kind has, and without it there are none. A kind of other than one network has
``network_names(contract)`` as well.

`train` and `validation` are :class:`~.data.PatchSet`; `workspace` is a folder that outlives a kill, for checkpoints.
`model` has ``contract`` and ``networks``; `patches` is a float32 array ``(n, patch_px, patch_px)``, 0...1. The columns
of what `predict` returns are probabilities of the classes; they need not add up to one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any

from napari_hrstem_defects.core.errors import ModelError
from napari_hrstem_defects.models.contract import Contract
from napari_hrstem_defects.models.options import TrainingOptions, refuse_unknown


@dataclass(frozen=True)
class Kind:
    """One kind of classifier.

    Attributes
    ----------
    name : str
    summary : str
        One line for a list.
    module : str
        Where its functions are, below this package.
    patch_px : int
        Usual edge of a patch in px.
    epochs, batch : int
    learning_rate : float
        Used where the options say 0.
    filter : {"none", "log"}
        What is done to a frame before patches are cut from it.
    """

    name: str
    summary: str
    module: str
    patch_px: int
    epochs: int
    batch: int
    learning_rate: float
    filter: str = "none"

    def function(self, name: str) -> Any:
        """Its function of a name."""
        return getattr(self._module, name)

    def completed(self, options: TrainingOptions) -> TrainingOptions:
        """Options in which no zero stands for what suits the kind."""
        return replace(
            options,
            epochs=options.epochs or self.epochs,
            batch=options.batch or self.batch,
            learning_rate=options.learning_rate or self.learning_rate,
        )

    def check_settings(self, extra: Mapping[str, Any]) -> None:
        """Refuse settings that this kind does not have, or values that they cannot have; needs no Keras.

        Raises
        ------
        ModelError
        """
        if hasattr(self._module, "check_settings"):
            self._module.check_settings(extra)
        else:
            refuse_unknown(extra, (), self.name)

    def check(self, options: TrainingOptions) -> None:
        """Refuse options that a training could not begin with.

        Raises
        ------
        ModelError
        """
        self.check_settings(options.extra)
        if hasattr(self._module, "check"):
            self._module.check(options)

    def networks(self, contract: Contract) -> tuple[str, ...]:
        """Names of the networks in a model file; needs no Keras.

        Raises
        ------
        ModelError
            If the contract is none of this kind. The message goes into a sentence.
        """
        extra = contract.training.get("extra", {})
        if not isinstance(extra, Mapping):
            raise ModelError("its settings are no table")
        self.check_settings(extra)
        if not hasattr(self._module, "network_names"):
            return (self.name,)
        names: tuple[str, ...] = self._module.network_names(contract)
        return names

    def build(self, contract: Contract) -> dict[str, Any]:
        """The networks that a contract describes, not trained.

        Raises
        ------
        ModelError
            If there are none of this kind, or Keras is missing.
        """
        networks: dict[str, Any] = self._module.build(contract)
        return networks

    @property
    def _module(self) -> Any:
        return import_module(f"napari_hrstem_defects.models.{self.module}")


@dataclass(frozen=True, eq=False)
class Fitted:
    """What `fit` returns.

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


KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("vgg16", "VGG16 (Dennler et al. 2021)", "vgg16", 128, 60, 8, 1e-5, "log"),
        Kind("compact", "compact (small, needs no GPU)", "compact", 128, 60, 32, 1e-3),
        Kind("fft-ensemble", "FFT ensemble (can scan an image)", "fft_ensemble", 64, 16, 32, 2e-3),
    )
}


def kind_of(name: str) -> Kind:
    """Kind of a name.

    Raises
    ------
    ModelError
        If there is none.
    """
    if name not in KINDS:
        raise ModelError(f"There is no kind of classifier {name!r}; choose {', '.join(KINDS)}.")
    return KINDS[name]
