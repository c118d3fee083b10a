"""Trained patch classifiers. The only code that uses Keras, all of it through :mod:`.backend`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_hrstem_defects.core.recipe import Recipe
    from napari_hrstem_defects.models.classifier import TrainedClassifier
    from napari_hrstem_defects.models.options import CancelCheck
    from napari_hrstem_defects.models.process import KerasProcess

#: Name of the training-free classifier, which needs no file and nothing that takes long to import.
SCREENING = "screening"


def for_recipe(
    recipe: Recipe,
    *,
    process: KerasProcess | None = None,
    cancelled: CancelCheck | None = None,
) -> TrainedClassifier | None:
    """The trained classifier that a recipe asks for; None if it asks for the screening.

    A ModelError if there is none of the name, the file cannot be used, or Keras is not installed.
    """
    params = recipe.classify
    if params.classifier == SCREENING:
        return None
    from napari_hrstem_defects.models.backend import check_installed
    from napari_hrstem_defects.models.classifier import TrainedClassifier

    found = TrainedClassifier(
        params.classifier, threshold=params.probability, process=process, cancelled=cancelled
    )
    check_installed()
    return found
