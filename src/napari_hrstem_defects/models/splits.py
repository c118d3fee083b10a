"""Split labelled images into training, validation and test parts that share no pixel and no copy of one.

Images are split by group (the frames of a series, the parts of an image), a single image is cut into strips. A split
with the same pixels on both sides is refused unless it is forced.

References
----------
.. [D] Dennler et al., Micron 146 (2021) 103069, six trainings whose mean scores are table 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from typing import Any

import numpy as np

from napari_hrstem_defects.core.errors import ModelError
from napari_hrstem_defects.core.metrics import PATCH_CLASSES
from napari_hrstem_defects.models import near_copies
from napari_hrstem_defects.models.data import LabelledImage
from napari_hrstem_defects.models.options import CancelCheck, TrainingOptions, stop_if
from napari_hrstem_defects.models.sampling import nothing_to_draw, room

#: Fewer groups with defects than this in the training part: the validation part is cut off from them instead.
ENOUGH_IMAGES = 4
#: Share of the images with defects that test in the protocol of [D]: three of thirteen.
PUBLISHED_TEST_SHARE = 3 / 13
#: More pairs of images than this (of a hundred images) are not compared turned and mirrored as well.
_MANY_PAIRS = 5000
# Places along an axis where a strip of an image is tried.
_PLACES = 9


@dataclass(frozen=True, eq=False)
class Split:
    """Training, validation and test part.

    Attributes
    ----------
    train, validation, test : tuple of LabelledImage, or int arrays
        Images, or the numbers of patches.
    how : str
        One sentence for the report.
    shared : str
        Empty, or what training and test share although they must not.
    dropped : int
        Patches left out because they overlap with the test.
    untested : tuple of str
        Classes without a test patch.
    """

    train: Any
    validation: Any
    test: Any
    how: str
    shared: str = ""
    dropped: int = 0
    untested: tuple[str, ...] = ()


def split_images(
    images: Sequence[LabelledImage],
    options: TrainingOptions,
    cancelled: CancelCheck | None = None,
) -> list[Split]:
    """Split images, repeatedly at random, with equal shares of those with and without defects.

    Parameters
    ----------
    images : sequence of LabelledImage
    options : TrainingOptions
        Parts cut from an image have room for patches of ``patch_px``. With the protocol "dennler2021" three of
        thirteen of the images with defects, or ``test_images`` of them, and all images without defects only test, and
        there is no validation part.
    cancelled : callable, optional

    Returns
    -------
    list of Split

    Raises
    ------
    ModelError
        If there are too few images, or two groups show the same exposure and ``force`` is not set.
    Cancelled
    """
    patch_px = options.patch_px
    if not any(image.has_defects for image in images):
        raise ModelError("No defect is marked in any of the images; mark some, or add images with defects.")
    shared = _copies_of_images(images, cancelled)
    if shared and not options.force:
        raise ModelError(
            f"{shared}; scores on copies of training data are too high, so leave one of them out, or force "
            "it (the report will then say so)."
        )
    # A vacancy in a large patch is too little to make it defective; such images have clean patches only.
    groups = {image.group for image in images if room(image, patch_px)[1]}
    if not groups:
        raise nothing_to_draw(PATCH_CLASSES[1], patch_px)
    if not any(room(image, patch_px)[0] for image in images):
        raise nothing_to_draw(PATCH_CLASSES[0], patch_px)
    defective = [image for image in images if image.group in groups]
    clean = [image for image in images if image.group not in groups]
    split = _split_published if options.protocol else _split_images
    rngs = (np.random.default_rng([options.seed, 1, number]) for number in range(options.repeats))
    return [replace(split(defective, clean, options, rng), shared=shared) for rng in rngs]


def _split_published(
    defective: Sequence[LabelledImage],
    clean: Sequence[LabelledImage],
    options: TrainingOptions,
    rng: np.random.Generator,
) -> Split:
    """The protocol of [D]."""
    count = len({image.group for image in defective})
    held = options.test_images or max(1, round(PUBLISHED_TEST_SHARE * count))
    if held >= count:
        raise ModelError(
            f"The protocol holds {held} image{'s' if held > 1 else ''} with defects out and trains on the others, but "
            f"there {'are' if count > 1 else 'is'} only {count}; add images with defects."
        )
    train, test = _hold_out(defective, held, rng)
    how = (
        f"by the protocol of Dennler et al. (2021), {count - held} of {count} images with defects to train on and "
        f"{held} to test, all {len(clean)} without defects only tested"
    )
    return Split(tuple(train), (), (*test, *clean), how)


def _split_images(
    defective: Sequence[LabelledImage],
    clean: Sequence[LabelledImage],
    options: TrainingOptions,
    rng: np.random.Generator,
) -> Split:
    patch_px = options.patch_px
    count, others = (len({image.group for image in part}) for part in (defective, clean))
    if options.test_images >= max(count, 2):
        raise ModelError(
            f"{options.test_images} images with defects are to be held out, but there are only {count}; hold out fewer."
        )
    rest, clean_test = _hold_out(clean, max(1, round(options.test_share * others)), rng)
    validation_share = options.validation_share
    if count == 1:
        train, validation = _strips(defective, validation_share, patch_px, rng, needed=True)
        # Last: without both classes in the test a classifier can still be trained.
        train, test = _strips(train, options.test_share / (1 - validation_share), patch_px, rng, needed=True)
        train += rest
        how = "strips of a single image, so the test says little about other images"
    else:
        held = min(options.test_images or max(1, round(options.test_share * count)), count - 1)
        train, test = _hold_out(defective, held, rng)
        how = f"{count + others} images split as a whole"
        whole, validation = [*train, *rest], []
        if count - held >= ENOUGH_IMAGES:
            train, validation = _hold_out(train, max(1, round(validation_share * count)), rng)
            rest, more = _hold_out(rest, max(1, round(validation_share * others)), rng)
            train, validation = train + rest, validation + more
        if not _both_classes(validation, patch_px):
            train, validation = _strips(whole, validation_share, patch_px, rng)
            how += ", strips of the training images kept for stopping early"
    if not _both_classes(validation, patch_px) or not _both_classes(train, patch_px):
        raise ModelError(
            f"{defective[0].group}: it is the only image with defects, and they cannot be divided among a part for "
            "training and one for stopping early; add images with defects, or use smaller patches."
            if count == 1
            else "The training images have no clean and defective places to spare for stopping early; add images, "
            "mark more, or use smaller patches."
        )
    return Split(tuple(train), tuple(validation), (*test, *clean_test), how)


def _hold_out(
    images: Sequence[LabelledImage], count: int, rng: np.random.Generator
) -> tuple[list[LabelledImage], list[LabelledImage]]:
    """All but `count` groups of images, and those; nothing is held out where nothing would be left."""
    from sklearn.model_selection import GroupShuffleSplit

    groups = [image.group for image in images]
    if len(set(groups)) <= count:
        return list(images), []
    splitter = GroupShuffleSplit(1, test_size=count, random_state=int(rng.integers(2**31)))
    kept, held = next(splitter.split(groups, groups=groups))
    return [images[i] for i in kept], [images[i] for i in held]


def _copies_of_images(images: Sequence[LabelledImage], cancelled: CancelCheck | None) -> str:
    pairs = [
        (i, j)
        for (i, a), (j, b) in combinations(enumerate(images), 2)
        # Simulated images were drawn independently, and there may be many.
        if a.group != b.group and not (a.simulated and b.simulated)
    ]
    comparison = near_copies.Comparison([image.pixels for image in images])
    for i, j in pairs:
        stop_if(cancelled)
        names = f"{images[i].name} and {images[j].name}"
        if images[i].sha256 == images[j].sha256:
            return f"{names} are the same image"
        if comparison.peak(i, j, turned=len(pairs) <= _MANY_PAIRS) > near_copies.IMAGE_COPY_PEAK:
            return f"{names} show the same exposure, whole or in part"
    return ""


def _both_classes(images: Sequence[LabelledImage], patch_px: int) -> bool:
    rooms = [room(image, patch_px) for image in images]
    return any(clean for clean, _ in rooms) and any(defective for _, defective in rooms)


def _strips(
    images: Sequence[LabelledImage],
    share: float,
    patch_px: int,
    rng: np.random.Generator,
    *,
    needed: bool = False,
) -> tuple[list[LabelledImage], list[LabelledImage]]:
    """Cut a strip out of each image that is large enough; what lies on either side of it is kept.

    Of all ways the one with most classes in both, then in what is kept, then at the rim, then with most of the area.
    With `needed` some image must be large enough.
    """

    def score(way: tuple[list[LabelledImage], LabelledImage]) -> tuple[float, ...]:
        sides, strip = way
        left = sum(any(each) for each in zip(*(room(side, patch_px) for side in sides), strict=True))
        area = sum(side.pixels.size for side in sides)
        return left + sum(room(strip, patch_px)), left, -len(sides), area, rng.random()

    kept: list[LabelledImage] = []
    strips: list[LabelledImage] = []
    for image in images:
        ways = list(_ways_to_cut(image, share, patch_px))
        if ways:
            sides, strip = max(ways, key=score)
            kept += sides
            strips.append(strip)
        else:
            kept.append(image)
    if needed and not strips:
        raise ModelError(
            f"{images[0].group}: it is the only image with defects, and too small to be cut into parts for training "
            f"and test (each must be {patch_px} px wide); add images, or use smaller patches."
        )
    return kept, strips


def _ways_to_cut(
    image: LabelledImage, share: float, patch_px: int
) -> Iterator[tuple[list[LabelledImage], LabelledImage]]:
    """What a cut leaves on either side, and the strip."""
    for axis, length in enumerate(image.pixels.shape):
        width = min(max(patch_px, round(share * length)), length)
        for start in np.linspace(0, length - width, _PLACES).astype(int).tolist():
            ends = [0, start, start + width, length]
            before, strip, after = (_piece(image, axis, *pair) for pair in pairwise(ends))
            sides = [side for side in (before, after) if side.pixels.shape[axis] >= patch_px]
            if sides:
                yield sides, strip


def _piece(image: LabelledImage, axis: int, start: int, stop: int) -> LabelledImage:
    """Part of an image between two lines."""
    part = (slice(None),) * axis + (slice(start, stop),)
    name = f"{image.name} ({'yx'[axis]} {start}–{stop})"
    return replace(image, name=name, pixels=image.pixels[part], mask=image.mask[part], origin=image.sha256)
