"""What the patch classifiers are trained on and judged by: simulated images of some lattices, and of quite others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

import napari_hrstem_defects as hd
from napari_hrstem_defects.core import metrics
from napari_hrstem_defects.core.patches import PatchGrid
from napari_hrstem_defects.simulation.crystals import MATERIALS
from napari_hrstem_defects.simulation.presets import crystals_of
from napari_hrstem_defects.simulation.sets import sample
from results_tools import scoring
from results_tools.comparing import RelativeInputs, relative_inputs

#: Structure types and zone axes that no network is trained on, and the structure type that training is stopped by.
LEFT_OUT_STRUCTURES, LEFT_OUT_ZONES, VALIDATION_STRUCTURES = ("perovskite", "honeycomb"), ("112",), ("bcc",)
TRAINING_STRUCTURES = ("diamond", "zincblende", "fcc", "rocksalt", "cscl")
TRAINING_ZONES = ("110", "100", "111")
#: Stretch and shear of half the training images: more kinds of lattices than there are materials.
MOST_STRETCH = 0.25
SHAPE = (512, 512)


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
    warped : bool
        Whether half of them are stretched and sheared.
    """

    seed: int
    count: int
    defects: float
    choices: tuple[tuple[tuple[str, ...] | None, tuple[str, ...] | None], ...]
    warped: bool = False


_KNOWN = ((TRAINING_STRUCTURES, TRAINING_ZONES),)
_UNKNOWN = ((LEFT_OUT_STRUCTURES, None), (None, LEFT_OUT_ZONES))
#: The set of Dennler et al.: 13 images with defects and 28 without, of lattices trained on and of others.
IMAGES, CLEAN_IMAGES = 13, 28
PARTS = {
    "training": Part(3026001, 700, 0.7, _KNOWN, warped=True),
    "validation": Part(3026002, 100, 0.6, ((VALIDATION_STRUCTURES, ("110", "100", "111")),)),
    # Apart, so that both have perfect and defective images.
    "gate, structure types": Part(3026008, 80, 0.5, _UNKNOWN[:1]),
    "gate, zone axis": Part(3026009, 80, 0.5, _UNKNOWN[1:]),
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
    pixels : float32 array (y, x)
    labels : uint8 array (y, x)
        As simulated.
    grid : PatchGrid
    truths : int8 array (views, n)
        Truth of the patches, seen from each grain that may be the reference.
    screen, pipeline : bool array (n,)
        Verdict of the screening by itself, and as the pipeline revises it.
    inputs : RelativeInputs or None
        None where no lattice was found.
    centre : int
        Number of the typical patch.
    """

    name: str
    crystal: str
    pixels: NDArray[np.float32]
    labels: NDArray[np.uint8]
    grid: PatchGrid
    truths: NDArray[np.int8]
    screen: NDArray[np.bool_]
    pipeline: NDArray[np.bool_]
    inputs: RelativeInputs | None
    centre: int

    def training_truth(self) -> NDArray[np.int8]:
        """Truth seen from the grain of the typical patch."""
        clean = [truth for truth in self.truths if truth[self.centre] == 0]
        return clean[0] if clean else self.truths[0]

    def best_truth(self, defective: NDArray[np.bool_]) -> NDArray[np.int8]:
        """Truth of the view that a verdict agrees with best: of two large grains either may be the reference."""
        wrong = [
            np.count_nonzero((truth != metrics.AMBIVALENT) & (truth != defective)) for truth in self.truths
        ]
        return self.truths[int(np.argmin(wrong))]


def one(part: str, index: int, lean: bool = False, **overrides: Any) -> Judged:
    """Image number `index` of a part; `lean`: without its pixels."""
    about = PARTS[part]
    structures, zones = about.choices[index % len(about.choices)]
    # Left out is what has either: a known zone axis of an unknown structure type is unknown, too.
    sim = sample(
        index,
        about.seed,
        about.defects,
        structures=structures,
        zone_axes=zones,
        **{"shape": SHAPE, **overrides},
    )
    pixels = sim.micrograph.frame().pixels
    views = scoring.truths(sim)
    labels = [truth.labels for truth in views]
    if about.warped and index % 2:
        pixels, labels = _warped(pixels, labels, np.random.default_rng([about.seed, index]))
    parameters = sim.description["parameters"]
    return judged(
        sim.micrograph.name, pixels, labels, f"{parameters['material']} {parameters['zone_axis']}", lean
    )


def judged(
    name: str,
    pixels: NDArray[np.float32],
    labels: list[NDArray[np.uint8]],
    crystal: str = "",
    lean: bool = False,
) -> Judged:
    """What the screening and the pipeline say about an image, and the inputs for the comparing network."""
    micrograph = hd.Micrograph(pixels, name=name)
    screened = hd.analyze(micrograph, stop="classify")
    pipeline = hd.analyze(micrograph, previous=screened, start="best_patch", stop="best_patch")
    grid = pipeline.patches.grid
    frame = micrograph.frame().pixels
    found = relative_inputs(frame, grid)
    return Judged(
        name,
        crystal,
        np.zeros((0, 0), np.float32) if lean else frame,
        np.zeros((0, 0), np.uint8) if lean else labels[0],
        grid,
        np.stack([metrics.patch_truth(each, grid, ignore=None).ravel() for each in labels]),
        screened.screened.defective.ravel(),
        pipeline.patches.defective.ravel(),
        None if found is None else found[0],
        0 if found is None else found[1],
    )


def _warped(
    pixels: NDArray[np.float32], labels: list[NDArray[np.uint8]], rng: np.random.Generator
) -> tuple[NDArray[np.float32], list[NDArray[np.uint8]]]:
    """Stretched, sheared and turned; made-up pixels beyond the rims are mirror images, so the middle is kept."""
    matrix = np.eye(2) + rng.uniform(-MOST_STRETCH, MOST_STRETCH, (2, 2))
    matrix /= max(1.0, np.abs(matrix).sum(axis=1).max())  # no point outside the image is asked for
    middle = (np.array(pixels.shape) - 1) / 2
    offset = middle - matrix @ middle
    return (
        ndimage.affine_transform(pixels, matrix, offset, order=3, mode="mirror").astype(np.float32),
        [ndimage.affine_transform(each, matrix, offset, order=0, mode="mirror") for each in labels],
    )


def left_out_crystals() -> list[str]:
    """Names of all materials and zone axes that no network was trained on."""
    return sorted(
        f"{material} {zone}"
        for material, zone in crystals_of()
        if MATERIALS[material].structure in LEFT_OUT_STRUCTURES or zone in LEFT_OUT_ZONES
    )
