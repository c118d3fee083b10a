"""Patches from labelled images: turned, mirrored and inverted at random, balanced, by the 1 % / 10 % rule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates, spline_filter

from napari_hrstem_defects.core.errors import Cancelled, ModelError
from napari_hrstem_defects.core.metrics import (
    AMBIVALENT,
    CLEAN_BELOW,
    DEFECTIVE_ABOVE,
    IGNORE,
    PATCH_CLASSES,
)
from napari_hrstem_defects.core.patches import PatchGrid
from napari_hrstem_defects.models.data import LabelledImage, PatchSet, join
from napari_hrstem_defects.models.preparing import filter_frame

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
    turn: bool = True,
    invert: bool = True,
    progress: Callable[[float], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
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
    turn, invert : bool
        Whether to turn and mirror, and to invert.
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
    drawers = [_Drawer(image, patch_px, filter_kind, turn, invert) for image in images]
    pixels = np.empty((2 * per_class, patch_px, patch_px), np.float32)
    source: list[str] = []
    able = [[d for d in drawers if d.has(k)] for k in (0, 1)]
    for k, name in enumerate(PATCH_CLASSES):
        if not able[k]:
            raise nothing_to_draw(name, patch_px)
    for index in range(2 * per_class):
        if cancelled is not None and cancelled():
            raise Cancelled
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


def defect_share(other: Any, lost: Any, secondary: str = "defective") -> Any:
    """Share of a patch that counts as defective.

    Parameters
    ----------
    other, lost : float or float array
        Shares of the labels 1 (another symmetry) and 2 (amorphous, blurred).
    secondary : {"defective", "clean"}
        "defective": their sum, the defect area of the text of [D]. "clean": as the code of [D] has it, a patch wholly
        inside a domain of another symmetry holds no defect, and the share of either symmetry that is smaller counts.

    Returns
    -------
    float or float array

    References
    ----------
    .. [D] Dennler et al., Micron 146 (2021) 103069, training patches, and github.com/nkdnnlr/TEMDefectClassification.
    """
    return np.maximum(lost, np.minimum(other, 1 - other)) if secondary == "clean" else other + lost


def grid_patches(images: Sequence[LabelledImage], patch_px: int, filter_kind: str = "none") -> PatchSet:
    """All patches of the grid that an analysis uses, as they are.

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
        patches = grid.extract(filter_frame(image.pixels, filter_kind)).reshape(-1, patch_px, patch_px)
        labelled, other, lost = (
            grid.extract(part.astype(np.float32)).mean(axis=(2, 3), dtype=np.float64).ravel()
            for part in _parts(image.mask)
        )
        labelled_or_tiny = np.maximum(labelled, 1e-9)
        shares = defect_share(other / labelled_or_tiny, lost / labelled_or_tiny, image.secondary)
        truth = _class_of_share(shares)
        known = labelled >= LABELLED_ABOVE
        source = np.full(len(patches), image.name)
        corners = grid.corners.reshape(-1, 2).astype(np.float64)
        part = PatchSet(patches, truth, PATCH_CLASSES, source, corners, shares)
        sets.append(part.take(known))
    return join(sets)


def _parts(mask: NDArray[np.uint8]) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """Where a mask is labelled, shows another symmetry, and is amorphous or blurred."""
    labelled = mask != IGNORE
    return labelled, labelled & (mask > 0) & (mask != LOST), mask == LOST


def _class_of_share(share: NDArray[np.float64]) -> NDArray[np.int64]:
    """0, 1, or -1 between, by the rule of [D]."""
    return np.where(share < CLEAN_BELOW, 0, np.where(share > DEFECTIVE_ABOVE, 1, AMBIVALENT)).astype(np.int64)


def room(image: LabelledImage, patch_px: int) -> tuple[bool, bool]:
    """Whether non-defective and defective patches of a size can be cut from an image, upright."""
    if min(image.pixels.shape) < patch_px:
        return False, False
    clean, defective = _places(image, patch_px)
    return bool(clean.any()), bool(defective.any())


def _places(image: LabelledImage, patch_px: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Where the top-left corners of upright patches may lie that are non-defective and defective."""
    height, width = (side - patch_px + 1 for side in image.mask.shape)

    def sums(values: NDArray[np.bool_]) -> NDArray[np.float64]:
        total = np.zeros((values.shape[0] + 1, values.shape[1] + 1))
        total[1:, 1:] = values.cumsum(axis=0, dtype=np.float64).cumsum(axis=1)
        boxes: NDArray[np.float64] = (
            total[patch_px:, patch_px:] - total[:-patch_px, patch_px:] - total[patch_px:, :-patch_px]
        ) + total[:-patch_px, :-patch_px]
        return boxes[:height, :width]

    area, other, lost = (sums(part) for part in _parts(image.mask))
    enough = area >= LABELLED_ABOVE * patch_px**2
    area = np.maximum(area, 1)
    classes = _class_of_share(defect_share(other / area, lost / area, image.secondary))
    return enough & (classes == 0), enough & (classes == 1)


class _Drawer:
    """Draws patches from one image."""

    def __init__(self, image: LabelledImage, edge: int, filter_kind: str, turn: bool, invert: bool) -> None:
        self.image = image
        self._edge = edge
        self._turn, self._invert = turn, invert
        self._pixels = filter_frame(image.pixels, filter_kind)
        self._spline = spline_filter(self._pixels, order=_ORDER, output=np.float32) if turn else None
        places = _places(image, edge)
        # By their numbers, row by row: as pairs they would take several times the memory of the image.
        self._corners = [np.flatnonzero(place).astype(np.uint32) for place in places]
        self._row = places[0].shape[1]
        middle = np.arange(edge) - (edge - 1) / 2
        self._y, self._x = np.meshgrid(middle, middle, indexing="ij")

    def has(self, k: int) -> bool:
        """Whether there is any place of a class."""
        return len(self._corners[k]) > 0

    def draw(self, k: int, rng: np.random.Generator) -> NDArray[np.float32] | None:
        """One patch of a class, or None if none was found."""
        for _ in range(_TRIES):
            chosen = int(self._corners[k][rng.integers(len(self._corners[k]))])
            corner = np.array(divmod(chosen, self._row))
            patch = self._cut(k, corner + (self._edge - 1) / 2, rng)
            if patch is not None:
                if self._invert and rng.random() < 0.5:
                    patch = 1 - patch
                return patch
        return None

    def _cut(
        self, k: int, centre: NDArray[np.float64], rng: np.random.Generator
    ) -> NDArray[np.float32] | None:
        if not self._turn:
            y, x = (int(v) for v in np.rint(centre - (self._edge - 1) / 2))
            return self._pixels[y : y + self._edge, x : x + self._edge].copy()
        angle = self._angle(centre, rng)
        mirror = -1.0 if rng.random() < 0.5 else 1.0
        cos, sin = np.cos(angle), np.sin(angle)
        y = centre[0] + cos * self._y - sin * mirror * self._x
        x = centre[1] + sin * self._y + cos * mirror * self._x
        mask = self.image.mask[
            np.clip(np.rint(y).astype(np.intp), 0, self.image.mask.shape[0] - 1),
            np.clip(np.rint(x).astype(np.intp), 0, self.image.mask.shape[1] - 1),
        ]
        # The square was chosen upright; turned it may hold something else.
        if _class_of(mask, self.image.secondary) != k:
            return None
        patch = map_coordinates(self._spline, [y, x], order=_ORDER, prefilter=False, mode="mirror")
        out: NDArray[np.float32] = np.clip(patch, 0, 1).astype(np.float32)
        return out

    def _angle(self, centre: NDArray[np.float64], rng: np.random.Generator) -> float:
        """A random angle by which the square may be turned and still lies inside the image."""
        angle = float(rng.uniform(0, 2 * np.pi))
        half = (self._edge - 1) / 2 * (abs(np.cos(angle)) + abs(np.sin(angle)))
        limits = np.array(self._pixels.shape) - 1
        if (centre >= half - 1e-9).all() and (centre + half <= limits + 1e-9).all():
            return angle
        # Near the rim, or in a small image, only by right angles.
        return float(rng.integers(4) * np.pi / 2)


def _class_of(mask: NDArray[np.uint8], secondary: str) -> int:
    labelled, other, lost = (np.count_nonzero(part) for part in _parts(mask))
    if labelled < LABELLED_ABOVE * mask.size:
        return AMBIVALENT
    return int(_class_of_share(np.asarray(defect_share(other / labelled, lost / labelled, secondary))))


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
