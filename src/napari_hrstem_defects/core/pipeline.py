"""The steps as one graph: run all, run from a step, progress, cancel."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from numpy.typing import ArrayLike

from napari_hrstem_defects.core import segmentation, steps
from napari_hrstem_defects.core.analysis import STEPS, Analysis, Inputs, Result
from napari_hrstem_defects.core.best_patch import BestPatch, frame_slices
from napari_hrstem_defects.core.micrograph import Micrograph
from napari_hrstem_defects.core.patches import PatchClassifier
from napari_hrstem_defects.core.published import NON_DEFECTIVE, PublishedMaps, published_maps
from napari_hrstem_defects.core.recipe import Recipe
from napari_hrstem_defects.core.severity import Models
from napari_hrstem_defects.errors import Cancelled, MicrographError, RecipeError
from napari_hrstem_defects.threads import own_threads

__all__ = ["STEPS", "Analysis", "Progress", "analyze"]

Progress = Callable[[str, float], None]


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
        Classifies the patches instead of the training-free screening.
    patch_labels : bool array (n_y, n_x), optional
        Patches classified by hand (True: defective) instead of by any classifier.
    previous : Analysis, optional
        An earlier result for the same micrograph whose steps before `start` are taken over.
    start : str, optional
        First step to run, one of `STEPS`; needs `previous`. What changed before it in `recipe` has no effect. A best
        patch or patches given by hand always have. Steps before it that `previous` lacks are run, too.
    stop : str, optional
        Last step to run, one of `STEPS`; what the later ones would find stays empty. Default: all are run.
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

    Examples
    --------
    Columns 10 px apart with noise, of which that at (65, 65) is missing:

    >>> import numpy as np, napari_hrstem_defects as hd
    >>> y, x = np.mgrid[:160, :160]
    >>> image = np.exp(-((x % 10 - 5) ** 2 + (y % 10 - 5) ** 2) / 4)
    >>> image[60:70, 60:70] = 0
    >>> image += np.random.default_rng(0).normal(0, 0.1, image.shape)
    >>> analysis = hd.analyze(hd.Micrograph(image, pixel_size_nm=0.02))
    >>> (region,) = analysis.regions
    >>> region.type, bool(np.hypot(*np.subtract(region.centroid, 65)) < 2)
    ('vacancy-like', True)
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
    first = STEPS.index(start) if start else 0
    if best_patch is not None:
        first = min(first, STEPS.index("best_patch"))
    if patch_labels is not None:
        first = min(first, STEPS.index("classify"))
    last = STEPS.index(stop) + 1 if stop else len(STEPS)
    if previous is not None:
        if previous.micrograph.frame_shape != micrograph.frame_shape:
            raise RecipeError(
                f"The earlier analysis is of an image of {previous.micrograph.frame_shape} px, this one has "
                f"{micrograph.frame_shape}; analyse it anew."
            )
        first = min([first, *(i for i, step in enumerate(STEPS) if step not in previous.results)])
    frame = micrograph.frame()
    inputs = Inputs(micrograph, frame, recipe, classifier, patch_labels, best_patch, cancelled)
    run = _Run(inputs, progress)
    if previous is not None:
        run.take_over(previous, STEPS[: min(first, last)])
    with own_threads():
        for step in STEPS[first:last]:
            run.step(step)
    return Analysis(micrograph, recipe, run.results, run.timings, run.warnings, run.maps)


class _Run:
    """One analysis under way."""

    def __init__(self, inputs: Inputs, progress: Progress | None) -> None:
        self.inputs = inputs
        self.progress = progress
        self.results: dict[str, Any] = {}
        self.timings: dict[str, float] = {}
        self.warnings: dict[str, tuple[str, ...]] = {"preprocess": inputs.frame.notices}
        self.models = Models(inputs.recipe.symmetry, inputs.cancelled)
        self.maps: PublishedMaps | None = None

    def take_over(self, previous: Analysis, names: tuple[str, ...]) -> None:
        """Use what an earlier analysis found in some steps."""
        for name in names:
            self.results[name] = previous.results[name]
            self.timings[name] = previous.timings[name]
            self.warnings[name] = previous.warnings_by_step.get(name, ())
        if "variance" in names and self.inputs.recipe.mode == "published":
            self.maps = previous.maps

    def step(self, name: str) -> None:
        """Run one step, timed."""
        self._report(name, 0.0)
        begin = time.perf_counter()
        self.results[name] = self._result(name)
        self.timings[name] = time.perf_counter() - begin
        self._report(name, 1.0)

    def _report(self, name: str, fraction: float) -> None:
        if self.inputs.cancelled is not None and self.inputs.cancelled():
            raise Cancelled
        if self.progress is not None:
            self.progress(name, fraction)

    def _result(self, name: str) -> Result:
        inputs, done = self.inputs, self.results

        def warn(text: str) -> None:
            self.warnings[name] = (*self.warnings.get(name, ()), text)

        match name:
            case "preprocess":
                return steps.preprocess(inputs, warn)
            case "domains":
                return steps.divide(inputs, done["preprocess"], warn)
            case "classify":
                return steps.classify(inputs, done["preprocess"], done["domains"], warn)
            case "best_patch":
                return steps.choose_best_patch(
                    inputs, done["preprocess"], done["domains"], done["classify"], self.models, warn
                )
            case "variance":
                if inputs.recipe.mode == "published":
                    params, patch = inputs.recipe.as_published, done["best_patch"].best_patch
                    # Without a lattice the screening has classified nothing.
                    table, typical = done["classify"].screened, done["preprocess"].typical
                    unknown = typical is None and table.classifier == "screening"
                    defective = unknown or bool(table.defective.any())
                    if not defective:
                        warn(NON_DEFECTIVE)
                    place = None if patch is None else frame_slices(patch, inputs.shape)
                    self.maps = published_maps(inputs.frame.pixels, place, params, defective=defective)
                return steps.vary(inputs, done["preprocess"], done["domains"], self.maps)
            case "symmetry":
                before = [done[step] for step in ("preprocess", "domains", "best_patch", "variance")]
                return steps.compare(inputs, *before, models=self.models, maps=self.maps, warn=warn)
            case "segment":
                before = [done[step] for step in ("preprocess", "classify", "variance", "symmetry")]
                return segmentation.segment(inputs, *before, maps=self.maps)
        return steps.list_regions(
            inputs, *(done[step] for step in ("preprocess", "best_patch", "symmetry", "segment"))
        )
