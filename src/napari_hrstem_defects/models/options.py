"""Settings of a training and what it reports while it runs; both travel between processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from napari_hrstem_defects.core.errors import ModelError

#: What a patch wholly inside a domain of another symmetry may count as.
SECONDARY = ("defective", "clean")
#: Protocols of training; empty: ours.
PROTOCOLS = ("", "dennler2021")


@dataclass(frozen=True)
class TrainingOptions:
    """Settings of a training. A zero stands for what suits the kind of classifier.

    Attributes
    ----------
    name : str
        Of the classifier.
    patch_px : int
        Edge of a patch in px.
    per_class : int
        Patches drawn from the labelled images for each class.
    epochs : int
        Most passes over the data.
    patience : int
        Passes without a lower loss on the validation part after which it stops; 0: it never does, and the last
        network is kept instead of the best one.
    batch : int
        Patches a step.
    learning_rate : float
    repeats : int
        Trainings on different splits; the reported metrics are means over them.
    test_share, validation_share : float
        Shares of the images (or of the area, for patch tables) held out for the metrics, and for stopping early.
    test_images : int
        How many images to hold out, instead of a share.
    protocol : {"", "dennler2021"}
        How images are split and which repetition is kept, see :mod:`.recipes`.
    weights : str
        ``"imagenet"``, ``"none"`` or a file (VGG16).
    train_base : bool
        Train the convolutional base as well (VGG16).
    secondary : {"defective", "clean"}
        What a patch wholly inside a domain of another symmetry counts as: as the text of Dennler et al. (2021) says,
        or as their code does.
    clean : str or None
        Name of the clean class where it cannot be told.
    split : {"auto", "random"}
        How patch tables are split: so that nothing is shared, or at random.
    force : bool
        Train even if parts of the data that must not share anything do.
    seed : int
    extra : mapping
        Settings that only one kind knows.
    """

    name: str = "classifier"
    patch_px: int = 0
    per_class: int = 2500
    epochs: int = 0
    patience: int = 10
    batch: int = 0
    learning_rate: float = 0.0
    repeats: int = 1
    test_share: float = 0.25
    validation_share: float = 0.15
    test_images: int = 0
    protocol: str = ""
    weights: str = "imagenet"
    train_base: bool = False
    secondary: str = "defective"
    clean: str | None = None
    split: str = "auto"
    force: bool = False
    seed: int = 0
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise ModelError("A classifier needs a name; give it one.")
        for name, least in (
            ("per_class", 1),
            ("epochs", 0),
            ("patience", 0),
            ("batch", 0),
            ("repeats", 1),
            ("seed", 0),
            ("test_images", 0),
        ):
            if getattr(self, name) < least:
                raise ModelError(f"{name} must be at least {least}, not {getattr(self, name)}.")
        if self.patch_px != 0 and not 16 <= self.patch_px <= 512:
            raise ModelError(f"The patch size must be 16 to 512 px, not {self.patch_px}.")
        if self.split not in ("auto", "random"):
            raise ModelError(f"The split must be auto or random, not {self.split!r}.")
        if self.protocol not in PROTOCOLS:
            raise ModelError(
                f"The protocol must be one of {', '.join(filter(None, PROTOCOLS))}, not {self.protocol!r}."
            )
        if self.secondary not in SECONDARY:
            raise ModelError(f"secondary must be {' or '.join(SECONDARY)}, not {self.secondary!r}.")
        if self.learning_rate < 0:
            raise ModelError(f"The learning rate must be positive, not {self.learning_rate:g}.")
        for name in ("test_share", "validation_share"):
            if not 0 < getattr(self, name) < 0.9:
                raise ModelError(f"{name} must be between 0 and 0.9, not {getattr(self, name):g}.")
        if self.test_share + self.validation_share >= 1:
            raise ModelError(
                "The shares for test and validation leave nothing to train on; make them smaller."
            )


def refuse_unknown(extra: Mapping[str, Any], known: Sequence[str], kind: str) -> None:
    """Refuse settings that a kind of classifier does not have.

    Raises
    ------
    ModelError
    """
    unknown = [name for name in extra if name not in known]
    if unknown:
        raise ModelError(
            f"The kind {kind} has no setting {unknown[0]!r}; it has {', '.join(known) or 'none of its own'}."
        )


@dataclass(frozen=True)
class TrainingProgress:
    """How far a training is.

    Attributes
    ----------
    fraction : float
        0...1 of all.
    text : str
        What is going on.
    network : str
        Which network is trained; empty before the first.
    epoch, epochs : int
        Finished passes, and the most there can be.
    loss, accuracy : float or None
        On the training part, in the last finished pass or so far in this one.
    validation_loss, validation_accuracy : float or None
        On the validation part, None until a pass is finished; set only by the report that ends a pass.
    repeat, repeats : int
        Which of the trainings on different splits it is, from 1.
    """

    fraction: float
    text: str
    network: str = ""
    epoch: int = 0
    epochs: int = 0
    loss: float | None = None
    accuracy: float | None = None
    validation_loss: float | None = None
    validation_accuracy: float | None = None
    repeat: int = 1
    repeats: int = 1


Progress = Callable[[TrainingProgress], None]
Cancelled = Callable[[], bool]
