"""Patches from labelled images: turned, mirrored and inverted at random, balanced, by the 1 % / 10 % rule."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates, spline_filter

from napari_hrstem_defects.core.metrics import (
    AMBIVALENT,
    CLEAN_BELOW,
    DEFECTIVE_ABOVE,
    IGNORE,
    PATCH_CLASSES,
)
from napari_hrstem_defects.core.patches import PatchGrid
from napari_hrstem_defects.errors import ModelError
from napari_hrstem_defects.models.data import LabelledImage, PatchSet, join
from napari_hrstem_defects.models.options import CancelCheck, stop_if
from napari_hrstem_defects.models.preparing import cut_patches, filter_frame

#: Label of amorphous and blurred areas.
LOST = 2
#: Share of a patch that must be labelled.
LABELLED_ABOVE = 0.75
#: Order of the splines that turned patches are read with; they keep fine detail that straight lines would blur.
_ORDER = 3
#: Places tried for each patch that is wanted before an image is taken to have no more.
_TRIES = 40


def sample_patches(
    images: Sequence[LabelledImage],
    patch_px: int,
    per_class: int,
    *,
    seed: int = 0,
    filter_kind: str = "none",
    progress: Callable[[float], None] | None = None,
    cancelled: CancelCheck | None = None,
) -> PatchSet:
    """Draw patches of both classes, equally many, from labelled images.

    A patch is cut at a random place, turned by a random angle, mirrored with probability ½ and inverted in
    intensity with probability ½. It lies wholly inside the image, corners of the turned square included, so that it
    holds no made-up pixels. By the rule of [D] it is non-defective with less than 1 % defect area, defective with
    more than 10 %, and not used between. Images contribute equally where they can.

    Parameters
    ----------
    images : sequence of LabelledImage
    patch_px : int
        Edge of a patch in px.
    per_class : int
        Patches of each class.
    seed : int
        The same seed gives the same patches.
    filter_kind : str
        Filter applied to each image first, see :func:`~.preparing.filter_frame`.
    progress : callable, optional
        Called with 0...1.
    cancelled : callable, optional

    Returns
    -------
    PatchSet
        Pixels 0...1 of the (filtered) image; the classes alternate.

    Raises
    ------
    ModelError
        If an image is smaller than a patch, or no image has room for patches of a class.
    Cancelled

    References
    ----------
    .. [D] Dennler et al., Micron 146 (2021) 103069, training patches.
    """
    _check_sizes(images, patch_px)
    rng = np.random.default_rng(seed)
    drawers = [_Drawer(image, patch_px, filter_kind) for image in images]
    able = [[drawer for drawer in drawers if len(drawer.corners[k])] for k in (0, 1)]
    pixels = np.empty((2 * per_class, patch_px, patch_px), np.float32)
    source: list[str] = []
    for index in range(2 * per_class):
        stop_if(cancelled)
        k = index % 2
        patch = None
        while patch is None:
            if not able[k]:
                raise nothing_to_draw(PATCH_CLASSES[k], patch_px)
            # In turn, so that a large image or a large defect does not drown the others.
            drawer = able[k][(index // 2) % len(able[k])]
            patch = drawer.draw(k, rng)
            if patch is None:
                able[k].remove(drawer)
        pixels[index] = patch
        source.append(drawer.image.name)
        if progress is not None and index % 100 == 0:
            progress(index / (2 * per_class))
    labels = np.arange(2 * per_class, dtype=np.int64) % 2
    return PatchSet(pixels, labels, PATCH_CLASSES, np.array(source))


def grid_patches(
    images: Sequence[LabelledImage], patch_px: int, preprocessing: Mapping[str, Any] | None = None
) -> PatchSet:
    """All patches of the grid that an analysis uses, as it gives them to a classifier.

    Parameters
    ----------
    images : sequence of LabelledImage
    patch_px : int
        Edge of a patch in px.
    preprocessing : mapping, optional
        Of the contract, see :func:`~.preparing.cut_patches`.

    Returns
    -------
    PatchSet
        Ambivalent patches have the label -1; those that are mostly unlabelled are left out.

    Raises
    ------
    ModelError
        If an image is smaller than a patch.
    """
    _check_sizes(images, patch_px)
    sets = []
    for image in images:
        grid = PatchGrid((image.pixels.shape[0], image.pixels.shape[1]), patch_px)
        patches = cut_patches(image.pixels, grid, patch_px, preprocessing or {})
        areas = [
            grid.extract(part.astype(np.float32)).sum(axis=(2, 3)).ravel() for part in _parts(image.mask)
        ]
        labels, shares = _classes(areas, patch_px, image.secondary)
        source = np.full(len(patches), image.name)
        corners = grid.corners.reshape(-1, 2).astype(np.float64)
        part = PatchSet(patches, labels, PATCH_CLASSES, source, corners, shares)
        sets.append(part.take(np.isfinite(shares)))
    return join(sets)


def room(image: LabelledImage, patch_px: int) -> tuple[bool, bool]:
    """Whether non-defective and defective patches of a size can be cut from an image, upright."""
    classes = upright_classes(image, patch_px)
    return bool((classes == 0).any()), bool((classes == 1).any())


def _parts(mask: NDArray[np.uint8]) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """Where a mask is labelled, shows another symmetry, and is amorphous or blurred."""
    labelled = mask != IGNORE
    return labelled, labelled & (mask > 0) & (mask != LOST), mask == LOST


def _classes(
    areas: Iterable[Any], patch_px: int, secondary: str
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Class of patches by the rule of [D], 0, 1 or -1 between, and the share of each that counts as defective.

    Parameters
    ----------
    areas : three arrays
        Pixels of each patch that :func:`_parts` finds. Where too few are labelled the class is -1, the share NaN.
    patch_px : int
    secondary : {"defective", "clean"}
        "defective": all that is marked, the defect area of the text of [D]. "clean": as the code of [D] has it, a
        patch wholly inside a domain of another symmetry holds no defect, and the share of either symmetry that is
        smaller counts.

    References
    ----------
    .. [D] Dennler et al., Micron 146 (2021) 103069, training patches, and github.com/nkdnnlr/TEMDefectClassification.
    """
    labelled, other, lost = areas
    area = np.where(labelled >= LABELLED_ABOVE * patch_px**2, labelled, np.nan)
    other, lost = other / area, lost / area
    shares = np.maximum(lost, np.minimum(other, 1 - other)) if secondary == "clean" else other + lost
    classes = np.where(shares < CLEAN_BELOW, 0, np.where(shares > DEFECTIVE_ABOVE, 1, AMBIVALENT))
    return classes.astype(np.int64), shares


def upright_classes(image: LabelledImage, patch_px: int) -> NDArray[np.int64]:
    """Class of the upright patch with its top-left corner at each pixel, see :func:`_classes`; empty if none fits."""

    def sums(values: NDArray[np.bool_]) -> NDArray[np.float64]:
        total = np.pad(values.cumsum(axis=0, dtype=np.float64).cumsum(axis=1), ((1, 0), (1, 0)))
        rows = total[patch_px:] - total[:-patch_px]
        out: NDArray[np.float64] = rows[:, patch_px:] - rows[:, :-patch_px]
        return out

    return _classes(map(sums, _parts(image.mask)), patch_px, image.secondary)[0]


class _Drawer:
    """Draws patches from one image; `corners` are the places of each class, numbered row by row."""

    def __init__(self, image: LabelledImage, edge: int, filter_kind: str) -> None:
        self.image = image
        self._edge = edge
        pixels = filter_frame(image.pixels, filter_kind)
        self._spline = spline_filter(pixels, order=_ORDER, output=np.float32)
        classes = upright_classes(image, edge)
        # As pairs they would take several times the memory of the image.
        self.corners = [np.flatnonzero(classes == k).astype(np.uint32) for k in (0, 1)]
        self._row = classes.shape[1]
        middle = np.arange(edge) - (edge - 1) / 2
        self._y, self._x = np.meshgrid(middle, middle, indexing="ij")

    def draw(self, k: int, rng: np.random.Generator) -> NDArray[np.float32] | None:
        """One patch of a class, or None if none was found."""
        for _ in range(_TRIES):
            chosen = int(self.corners[k][rng.integers(len(self.corners[k]))])
            patch = self._cut(k, np.array(divmod(chosen, self._row)) + (self._edge - 1) / 2, rng)
            if patch is not None:
                return 1 - patch if rng.random() < 0.5 else patch
        return None

    def _cut(
        self, k: int, centre: NDArray[np.float64], rng: np.random.Generator
    ) -> NDArray[np.float32] | None:
        """A patch turned and mirrored at random, if it still is of the class."""
        angle = self._angle(centre, rng)
        mirror = -1.0 if rng.random() < 0.5 else 1.0
        cos, sin = np.cos(angle), np.sin(angle)
        y = centre[0] + cos * self._y - sin * mirror * self._x
        x = centre[1] + sin * self._y + cos * mirror * self._x
        places = (
            np.clip(np.rint(at).astype(np.intp), 0, side - 1)
            for at, side in zip((y, x), self.image.mask.shape, strict=True)
        )
        areas = (part.sum() for part in _parts(self.image.mask[tuple(places)]))
        # The square was chosen upright; turned it may hold something else.
        if _classes(areas, self._edge, self.image.secondary)[0] != k:
            return None
        patch = map_coordinates(self._spline, [y, x], order=_ORDER, prefilter=False, mode="mirror")
        out: NDArray[np.float32] = np.clip(patch, 0, 1).astype(np.float32)
        return out

    def _angle(self, centre: NDArray[np.float64], rng: np.random.Generator) -> float:
        """A random angle by which the square may be turned and still lies inside the image."""
        angle = float(rng.uniform(0, 2 * np.pi))
        half = (self._edge - 1) / 2 * (abs(np.cos(angle)) + abs(np.sin(angle)))
        limits = np.array(self.image.pixels.shape) - 1
        if (centre >= half - 1e-9).all() and (centre + half <= limits + 1e-9).all():
            return angle
        # Near the rim, or in a small image, only by right angles.
        return float(rng.integers(4) * np.pi / 2)


def _check_sizes(images: Sequence[LabelledImage], patch_px: int) -> None:
    for image in images:
        if min(image.pixels.shape) < patch_px:
            height, width = image.pixels.shape
            raise ModelError(
                f"{image.name}: the image is {height} × {width} px, less than a patch of {patch_px} px; use smaller "
                "patches or larger images."
            )


def nothing_to_draw(name: str, patch_px: int) -> ModelError:
    """What to say when no image has patches of a class."""
    if name == PATCH_CLASSES[0]:
        return ModelError(
            f"No labelled image has a clean place of {patch_px} × {patch_px} px (less than 1 % marked); add an image "
            "with more undisturbed crystal, or use smaller patches."
        )
    return ModelError(
        f"No labelled image has a place of {patch_px} × {patch_px} px with more than 10 % marked as defect; mark "
        "defects with their surroundings, or use smaller patches."
    )
