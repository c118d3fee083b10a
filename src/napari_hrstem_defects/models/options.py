"""Settings of a training, the published ones by one word, and what a training reports while it runs.

References
----------
.. [D] Dennler et al., Micron 146 (2021) 103069: ten of thirteen images with defects train and three test, six times
   over; all images without defects only test; 2500 patches of each class; the whole network is trained, for 60 epochs
   in the authors' code, github.com/nkdnnlr/TEMDefectClassification; the production model is the one of best recall.
.. [M] Marvin, Holt et al., code github.com/NoHolt/ML-Hackathon-2025: one network a class on log spectra, quarter turns,
   Adam at Keras' usual rate and batch normalisation at its usual momentum, 3 epochs (9 for SF1), steps of 4 px.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from napari_hrstem_defects.errors import Cancelled, ModelError

if TYPE_CHECKING:
    from pydantic import ValidationError

#: Edges of patches that make sense, in px.
LEAST_PATCH_PX, MOST_PATCH_PX = 16, 512
# Characters of a wrong value in a message.
_MOST_SHOWN = 60


def _setting(
    default: Any,
    about: str,
    metavar: str = "",
    *,
    least: float | None = None,
    choices: tuple[str, ...] = (),
    option: str = "",
) -> Any:
    """A field and what it means; the command line shows those with a `metavar`, or with an `option` of their own."""
    metadata = {"about": about, "metavar": metavar, "least": least, "choices": choices, "option": option}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class TrainingOptions:
    """Settings of a training, checked when constructed; a zero stands for what suits the kind of classifier.

    What a field means stands beside it, with its least value and its choices; the command line shows the same. `extra`
    holds the settings of one kind only, e.g. :class:`~.fft_ensemble.EnsembleSettings`.

    Raises
    ------
    ModelError
        If a value is impossible.
    """

    name: str = _setting("classifier", "Name of the classifier.")
    weights: str = _setting("imagenet", "VGG16: weights of its base, imagenet, none or a file.", "FILE")
    train_base: bool = _setting(
        False, "VGG16: train the convolutional base as well.", option="--train-base/--freeze"
    )
    secondary: str = _setting(
        "defective",
        "A patch wholly inside another symmetry: defective, or clean as in the code of Dennler et al.",
        "CLASS",
        choices=("defective", "clean"),
    )
    epochs: int = _setting(0, "Most epochs; 0: as the kind needs.", "N", least=0)
    patience: int = _setting(
        10,
        "Epochs without a lower validation loss after which it stops; 0: never, and the last weights are kept.",
        "N",
        least=0,
    )
    batch: int = _setting(0, "Patches a step; 0: as the kind needs.", "N", least=0)
    learning_rate: float = _setting(0.0, "Of Adam; 0: as the kind needs.", "RATE", least=0)
    patch_px: int = _setting(
        0, "Edge of a patch; 0: as the kind needs.", "PX", least=0, option="--patch-size"
    )
    per_class: int = _setting(2500, "Patches of each class drawn from the images.", "N", least=1)
    repeats: int = _setting(1, "Trainings on different splits, for the scatter.", "N", least=1)
    test_share: float = _setting(0.25, "Share of the images, or of the patches of a table, that test.")
    validation_share: float = _setting(0.15, "Share of them that decides when to stop.")
    test_images: int = _setting(0, "Images with defects held out; 0: a quarter.", "N", least=0)
    protocol: str = _setting(
        "", "How images are split and which repetition is kept.", choices=("", "dennler2021")
    )
    clean: str | None = _setting(
        None, "Name of the clean class of a table, where it does not follow from the names."
    )
    split: str = _setting(
        "auto", "Patch tables: auto (nothing is shared) or random.", "HOW", choices=("auto", "random")
    )
    seed: int = _setting(0, "The same seed gives the same patches.", "S", least=0)
    force: bool = _setting(
        False, "Train even if test and training share pixels; the report says so.", option="--force"
    )
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.name.strip() or not self.name.isprintable():
            raise ModelError("A classifier needs a name without control characters; give it one.")
        for item in fields(self):
            value = getattr(self, item.name)
            least, choices = item.metadata.get("least"), item.metadata.get("choices")
            if least is not None and value < least:
                raise ModelError(f"{item.name} must be at least {least}, not {value:g}.")
            if choices and value not in choices:
                raise ModelError(f"{item.name} must be {' or '.join(filter(None, choices))}, not {value!r}.")
        if self.patch_px != 0 and not LEAST_PATCH_PX <= self.patch_px <= MOST_PATCH_PX:
            raise ModelError(
                f"The patch size must be {LEAST_PATCH_PX} to {MOST_PATCH_PX} px, not {self.patch_px}."
            )
        for name in ("test_share", "validation_share"):
            if not 0 < getattr(self, name) < 0.9:
                raise ModelError(f"{name} must be between 0 and 0.9, not {getattr(self, name):g}.")
        if self.test_share + self.validation_share >= 1:
            raise ModelError(
                "The shares for test and validation leave nothing to train on; make them smaller."
            )


def first_problem(error: ValidationError) -> str:
    """What a validation found first, for a sentence: ``"momentum must be less than 1, not 1.0"``."""
    first = error.errors()[0]
    parts = (f"item {part + 1}" if isinstance(part, int) else part for part in reversed(first["loc"]))
    name = " of ".join(parts)
    if first["type"] == "missing":
        return f"{name} is missing"
    if first["type"] == "unexpected_keyword_argument":
        return f"{name} is unknown"
    allowed = first["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    if first["type"].startswith("bool"):
        allowed = "on or off"
    came = repr(first["input"])
    return f"{name} must be {allowed}, not {came if len(came) < _MOST_SHOWN else came[:_MOST_SHOWN] + '...'}"


@dataclass(frozen=True)
class TrainingRecipe:
    """A published way to train.

    Attributes
    ----------
    kind : str
        Of classifier.
    summary : str
        One line for a list.
    options : mapping
        Fields of TrainingOptions that it sets.
    """

    kind: str
    summary: str
    options: Mapping[str, Any]


RECIPES: Mapping[str, TrainingRecipe] = {
    "dennler2021": TrainingRecipe(
        "vgg16",
        "VGG16, trained as by Dennler et al. 2021",
        {"protocol": "dennler2021", "repeats": 6, "train_base": True, "epochs": 60, "patience": 0},
    ),
    "marvin2025": TrainingRecipe(
        "fft-ensemble",
        "FFT ensemble as by Marvin, Holt et al. 2025",
        {
            "epochs": 3,
            "patience": 0,
            "learning_rate": 1e-3,
            "extra": {
                "architecture": "published",
                "branches": "fft",
                "augmentation": "turns",
                "balance": False,
                "calibrate": False,
                "momentum": 0.99,
                "stride": 4,
                "class_epochs": {"SF1": 9},
            },
        },
    ),
}


def with_recipe(name: str, given: Mapping[str, Any]) -> TrainingOptions:
    """Options of a recipe; what is given and is not the usual value stands above it.

    Parameters
    ----------
    name : str
        One of `RECIPES`, or empty for none.
    given : mapping
        Fields of TrainingOptions.

    Raises
    ------
    ModelError
        If there is no such recipe or a value is impossible.
    """
    if not name:
        return TrainingOptions(**given)
    if name not in RECIPES:
        raise ModelError(f"There is no published way to train {name!r}; choose {', '.join(RECIPES)}.")
    usual, options = TrainingOptions(), RECIPES[name].options
    changed = {key: value for key, value in given.items() if key == "name" or value != getattr(usual, key)}
    extra = {**options.get("extra", {}), **given.get("extra", {})}
    return TrainingOptions(**{**options, **changed, "extra": extra})


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
        Finished epochs, and the most there can be.
    loss, accuracy : float or None
        On the training part, in the last finished epoch or so far in this one.
    validation_loss, validation_accuracy : float or None
        On the validation part, None until an epoch is finished; set only by the report that ends one.
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
#: Whether the caller asked to stop.
CancelCheck = Callable[[], bool]


def stop_if(cancelled: CancelCheck | None) -> None:
    """Raise Cancelled if the caller asked to stop."""
    if cancelled is not None and cancelled():
        raise Cancelled
