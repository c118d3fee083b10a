"""What the patch classifiers are trained on and judged by: simulated images of some lattices, and of quite others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

import napari_hrstem_defects as hd
from napari_hrstem_defects.core import metrics
from napari_hrstem_defects.core.patches import PatchClassifier, PatchGrid
from napari_hrstem_defects.simulation.crystals import MATERIALS
from napari_hrstem_defects.simulation.presets import crystals_of
from napari_hrstem_defects.simulation.sets import sample
from results_tools import scoring
from results_tools.comparing_classifier import ComparingClassifier

#: Structure types and zone axes that no network is trained on, and the structure type that one is chosen on.
LEFT_OUT_STRUCTURES, LEFT_OUT_ZONES, VALIDATION_STRUCTURES = ("perovskite", "honeycomb"), ("112",), ("bcc",)
TRAINING_STRUCTURES = ("diamond", "zincblende", "fcc", "rocksalt", "cscl")
TRAINING_ZONES = ("110", "100", "111")
SHAPE = (512, 512)
#: Names of classifiers in the tables, and what is added where the pipeline has revised the verdict.
SCREENING, COMPARING, REVISED = "screening", "comparing network", ", revised by the pipeline"


@dataclass(frozen=True)
class Part:
    """A set of simulated images.

    Attributes
    ----------
    seed, count : int
    defects : float
        Share of the images that have any.
    choices : tuple of (structures or None, zone axes or None)
        Images are drawn from each in turn.
    content : tuple of tuple of str or None
        What those with defects hold, in turn; None: the usual defects.
    """

    seed: int
    count: int
    defects: float
    choices: tuple[tuple[tuple[str, ...] | None, tuple[str, ...] | None], ...]
    content: tuple[tuple[str, ...], ...] | None = None


_KNOWN = ((TRAINING_STRUCTURES, TRAINING_ZONES),)
_UNKNOWN = ((LEFT_OUT_STRUCTURES, None), (None, LEFT_OUT_ZONES))
#: The set of Dennler et al.: 13 images with defects and 28 without, of lattices trained on and of others.
IMAGES, CLEAN_IMAGES = 13, 28
PARTS = {
    # Apart, so that all have perfect and defective images; a coherent film is no defect.
    "gate, structure types": Part(4026011, 120, 0.5, _UNKNOWN[:1]),
    "gate, zone axis": Part(4026012, 120, 0.5, _UNKNOWN[1:]),
    "gate, films": Part(4026013, 40, 1.0, ((("perovskite",), None),), (("film",),)),
    "pool for compact": Part(4026014, 250, 0.6, _KNOWN),
    "known": Part(3026004, IMAGES, 1.0, _KNOWN),
    "known clean": Part(3026005, CLEAN_IMAGES, 0.0, _KNOWN),
    "left out": Part(3026006, IMAGES, 1.0, _UNKNOWN),
    "left out clean": Part(3026007, CLEAN_IMAGES, 0.0, _UNKNOWN),
}


@dataclass(frozen=True, eq=False)
class Judged:
    """An image, its patches, their truth and what the screening says.

    Attributes
    ----------
    name, crystal : str
    part, index : str, int
        Which image of which part it is.
    pixels : float32 array (y, x)
    labels : uint8 array (y, x)
        As simulated.
    grid : PatchGrid
    truths : int8 array (views, n)
        Truth of the patches, seen from each grain that may be the reference.
    verdicts : mapping of str to bool array (n,)
        Of the classifiers that are not trained here: by themselves, and as the pipeline revises them.
    """

    name: str
    crystal: str
    pixels: NDArray[np.float32]
    labels: NDArray[np.uint8]
    grid: PatchGrid
    truths: NDArray[np.int8]
    verdicts: Mapping[str, NDArray[np.bool_]]
    part: str = ""
    index: int = 0

    def best_truth(self, defective: NDArray[np.bool_]) -> NDArray[np.int8]:
        """Truth of the view that a verdict agrees with best: of two large grains either may be the reference."""
        wrong = [
            np.count_nonzero((truth != metrics.AMBIVALENT) & (truth != defective)) for truth in self.truths
        ]
        return self.truths[int(np.argmin(wrong))]


def one(part: str, index: int, classifiers: tuple[str, ...], lean: bool = False, **overrides: Any) -> Judged:
    """Image number `index` of a part, with the verdicts of some classifiers; `lean`: without its pixels."""
    about = PARTS[part]
    structures, zones = about.choices[index % len(about.choices)]
    if about.content is not None:
        overrides["defects"] = about.content
    # Left out is what has either: a known zone axis of an unknown structure type is unknown, too.
    sim = sample(
        index,
        about.seed,
        about.defects,
        structures=structures,
        zone_axes=zones,
        **{"shape": SHAPE, **overrides},
    )
    parameters = sim.description["parameters"]
    image = judged(
        sim.micrograph.name,
        sim.micrograph.frame().pixels,
        [truth.labels for truth in scoring.truths(sim)],
        classifiers,
        f"{parameters['material']} {parameters['zone_axis']}",
        lean,
    )
    return replace(image, part=part, index=index)


def judged(
    name: str,
    pixels: NDArray[np.float32],
    labels: list[NDArray[np.uint8]],
    classifiers: tuple[str, ...],
    crystal: str = "",
    lean: bool = False,
) -> Judged:
    """An image with what some classifiers say, by themselves and as the pipeline revises them.

    `classifiers` holds `SCREENING`, `COMPARING` or both.
    """
    micrograph = hd.Micrograph(pixels, name=name)
    frame = micrograph.frame().pixels
    verdicts = {}
    for classifier in classifiers:
        judge: PatchClassifier | None = ComparingClassifier() if classifier == COMPARING else None
        found = hd.analyze(micrograph, classifier=judge, stop="best_patch")
        verdicts[classifier] = found.screened.defective.ravel()
        verdicts[classifier + REVISED] = found.patches.defective.ravel()
    grid = found.patches.grid
    return Judged(
        name,
        crystal,
        np.zeros((0, 0), np.float32) if lean else frame,
        np.zeros((0, 0), np.uint8) if lean else labels[0],
        grid,
        np.stack([metrics.patch_truth(each, grid, ignore=None).ravel() for each in labels]),
        verdicts,
    )


def left_out_crystals() -> list[str]:
    """Names of all materials and zone axes that no network was trained on."""
    return sorted(
        f"{material} {zone}"
        for material, zone in crystals_of()
        if MATERIALS[material].structure in LEFT_OUT_STRUCTURES or zone in LEFT_OUT_ZONES
    )
