"""The published ways to train a classifier, each by one word.

References
----------
.. [D] Dennler et al., Micron 146 (2021) 103069: ten of thirteen images with defects train and three test, six times
   over; all images without defects only test; 2500 patches of each class; the whole network is trained, for 60 passes
   in the authors' code, github.com/nkdnnlr/TEMDefectClassification; the production model is the one of best recall.
.. [M] Marvin, Holt et al., code github.com/NoHolt/ML-Hackathon-2025: one network a class on log spectra, quarter turns,
   Adam at Keras' usual rate and batch normalisation at its usual momentum, 3 passes (9 for SF1), steps of 4 px.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from napari_hrstem_defects.core.errors import ModelError
from napari_hrstem_defects.models.options import TrainingOptions


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
