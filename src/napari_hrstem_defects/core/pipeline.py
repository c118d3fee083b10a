"""The steps as one graph: run all, run from a step, progress, cancel."""

from __future__ import annotations

from collections.abc import Callable

from numpy.typing import ArrayLike

from napari_hrstem_defects.core.analysis import STEPS, Analysis
from napari_hrstem_defects.core.best_patch import BestPatch
from napari_hrstem_defects.core.errors import MicrographError, RecipeError
from napari_hrstem_defects.core.micrograph import Micrograph
from napari_hrstem_defects.core.patches import PatchClassifier
from napari_hrstem_defects.core.recipe import Recipe
from napari_hrstem_defects.core.run import Progress
from napari_hrstem_defects.core.steps import Steps
from napari_hrstem_defects.core.threads import own_threads

__all__ = ["STEPS", "Analysis", "Progress", "analyze"]


def analyze(
    micrograph: Micrograph,
    recipe: Recipe | None = None,
    *,
    best_patch: BestPatch | tuple[float, float] | None = None,
    classifier: PatchClassifier | None = None,
    patch_labels: ArrayLike | None = None,
    previous: Analysis | None = None,
    start: str | None = None,
    stop: str | None = None,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Analysis:
    """Find the defects of one frame.

    Parameters
    ----------
    micrograph : Micrograph
        One frame ``(y, x)``.
    recipe : Recipe, optional
        Default: the lattice-aware mode.
    best_patch : BestPatch or (y, x), optional
        Centre of the model patch in pixels, placed by hand; default: chosen automatically.
    classifier : PatchClassifier, optional
        Judges the patches instead of the training-free screening.
    patch_labels : bool array (n_y, n_x), optional
        Patches judged by hand (True: defective) instead of by any classifier.
    previous : Analysis, optional
        An earlier result for the same micrograph whose steps before `start` are taken over.
    start : {"preprocess", "classify", "best_patch", "domains", "symmetry", "variance", "segment", "regions"}, optional
        First step to run; needs `previous`. What changed before it in `recipe` is not looked at. A best patch or
        patches given by hand are always looked at. Steps before it that `previous` lacks are run, too.
    stop : str, optional
        Last step to run, one of those above; what the later ones would find stays empty. Default: all are run.
    progress : callable, optional
        Called as ``progress(step, fraction)``, fractions 0...1 within the step.
    cancelled : callable, optional
        Asked often; as soon as it returns True the analysis stops.

    Returns
    -------
    Analysis

    Raises
    ------
    MicrographError
        If the pixels cannot be analysed.
    RecipeError
        If the recipe asks for something that was not given or does not fit together.
    Cancelled
        If `cancelled` returned True.
    """
    recipe = Recipe() if recipe is None else recipe
    if micrograph.is_stack:
        raise MicrographError(
            f"{micrograph.name}: this is a time series of {len(micrograph)} frames; analyse one frame at a time "
            "(iterate over it)."
        )
    for name, wanted in (("start", start), ("stop", stop)):
        if wanted is not None and wanted not in STEPS:
            raise RecipeError(f"{name} is {wanted!r}, expected one of {', '.join(STEPS)}.")
    if start not in (None, STEPS[0]) and previous is None:
        raise RecipeError(f"Starting at the step {start} needs an earlier analysis, given as `previous`.")
    run = Steps(micrograph, recipe, classifier, patch_labels, best_patch, progress, cancelled)
    first = STEPS.index(start) if start else 0
    if best_patch is not None:
        first = min(first, STEPS.index("best_patch"))
    if patch_labels is not None:
        first = min(first, STEPS.index("classify"))
    last = STEPS.index(stop) + 1 if stop else len(STEPS)
    if previous is not None:
        first = min([first, *(i for i, step in enumerate(STEPS) if step not in previous.steps)])
        run.take_over(previous, STEPS[: min(first, last)])
    with own_threads():
        for step in STEPS[first:last]:
            run.step(step)
    return run.result()
