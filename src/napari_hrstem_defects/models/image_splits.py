"""Split labelled images into parts to train on, to stop by and to judge by, which share no pixel and no copy of one.

A classifier that is judged on pieces of the image it was trained on is judged on its memory. So images are split as a
whole, groups of images of one specimen stay together, and a single image is cut into strips. What shows the same
exposure is recognised, and a split that has it on both sides is refused. Tables of patches: :mod:`.patch_splits`.

References
----------
.. [D] Dennler et al., Micron 146 (2021) 103069, six trainings whose mean scores are table 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import permutations

import numpy as np

from napari_hrstem_defects.core.errors import Cancelled, ModelError
from napari_hrstem_defects.core.metrics import PATCH_CLASSES
from napari_hrstem_defects.models import near_copies
from napari_hrstem_defects.models.data import LabelledImage
from napari_hrstem_defects.models.sampling import nothing_to_draw, room

#: Fewer images with defects than this in the training part: the validation part is cut off from them instead.
ENOUGH_IMAGES = 4
#: Share of the images with defects that test in the protocol of [D]: three of thirteen.
PUBLISHED_TEST_SHARE = 3 / 13
#: More pairs of images than this (of a hundred images) are not compared turned and mirrored as well.
_MANY_PAIRS = 5000
# Places along each axis where a strip inside an image is tried.
_PLACES = 9


@dataclass(frozen=True, eq=False)
class ImageSplit:
    """Images to train on, to stop by and to judge by.

    Attributes
    ----------
    train, validation, test : tuple of LabelledImage
    how : str
        One sentence for the report.
    shared : str
        Empty, or what the parts share although they should not.
    """

    train: tuple[LabelledImage, ...]
    validation: tuple[LabelledImage, ...]
    test: tuple[LabelledImage, ...]
    how: str
    shared: str = ""


def split_images(
    images: Sequence[LabelledImage],
    patch_px: int,
    *,
    test_share: float = 0.25,
    validation_share: float = 0.15,
    test_images: int = 0,
    repeats: int = 1,
    seed: int = 0,
    force: bool = False,
    protocol: str = "",
    cancelled: Callable[[], bool] | None = None,
) -> list[ImageSplit]:
    """Split images, repeatedly at random; images with defects and without are spread alike.

    Parameters
    ----------
    images : sequence of LabelledImage
    patch_px : int
        Parts cut off from images must have room for patches of this edge.
    test_share, validation_share : float
    test_images : int
        How many images with defects to hold out for the test; 0: by `test_share`.
    repeats : int
        How many splits.
    seed : int
    force : bool
        Allow parts that share pixels; the split then says so.
    protocol : {"", "dennler2021"}
        "dennler2021": of the images with defects three of thirteen, or as many as `test_images` says, only test and the
        others only train; all images without defects only test; nothing is kept for stopping early.
    cancelled : callable, optional

    Returns
    -------
    list of ImageSplit

    Raises
    ------
    ModelError
        If there are too few images, or parts share pixels.
    """
    if not any(image.has_defects for image in images):
        raise ModelError("No defect is marked in any of the images; mark some, or add images with defects.")
    groups = _grouped(images)
    shared = _copies_of_images(groups, cancelled)
    if shared and not force:
        raise ModelError(
            f"{shared}; a test on copies of what was trained on measures memory, so leave one of them out, or force "
            "it (the report will then say so)."
        )
    # A vacancy in a large patch is too little to make it defective; such images have clean patches only.
    with_defects: list[list[LabelledImage]] = []
    without: list[list[LabelledImage]] = []
    for group in groups:
        some = any(room(image, patch_px)[1] for image in group)
        (with_defects if some else without).append(group)
    if not with_defects:
        raise nothing_to_draw(PATCH_CLASSES[1], patch_px)
    if not any(room(image, patch_px)[0] for image in images):
        raise nothing_to_draw(PATCH_CLASSES[0], patch_px)
    out = []
    for number in range(repeats):
        rng = np.random.default_rng([seed, 1, number])
        if protocol:
            split = _split_published(with_defects, without, test_images, rng)
        elif len(with_defects) == 1:
            split = _split_one(with_defects[0], without, patch_px, test_share, validation_share, rng)
        else:
            split = _split_many(
                with_defects, without, patch_px, test_share, validation_share, test_images, rng
            )
        out.append(replace(split, shared=shared))
    return out


def _split_published(
    with_defects: list[list[LabelledImage]],
    without: list[list[LabelledImage]],
    test_images: int,
    rng: np.random.Generator,
) -> ImageSplit:
    """The protocol of [D]."""
    count = len(with_defects)
    held = test_images or max(1, round(PUBLISHED_TEST_SHARE * count))
    if held >= count:
        raise ModelError(
            f"The protocol holds {held} image{'s' if held > 1 else ''} with defects out and trains on the others, but "
            f"there {'are' if count > 1 else 'is'} only {count}; add images with defects."
        )
    order = [with_defects[i] for i in rng.permutation(count)]
    how = (
        f"by the protocol of Dennler et al. (2021), {count - held} of {count} images with defects to train on and "
        f"{held} to test, all {len(without)} without defects only tested"
    )
    return ImageSplit(tuple(_flat(order[held:])), (), (*_flat(order[:held]), *_flat(without)), how)


def _grouped(images: Sequence[LabelledImage]) -> list[list[LabelledImage]]:
    groups: dict[str, list[LabelledImage]] = {}
    for image in images:
        groups.setdefault(image.group, []).append(image)
    return list(groups.values())


def _copies_of_images(groups: Sequence[Sequence[LabelledImage]], cancelled: Callable[[], bool] | None) -> str:
    # Simulated images were drawn independently, and there may be many.
    pairs = [
        (a, b)
        for k, first in enumerate(groups)
        for a in first
        for second in groups[k + 1 :]
        for b in second
        if not (a.simulated and b.simulated)
    ]
    images = list({id(image): image for pair in pairs for image in pair}.values())
    number = {id(image): k for k, image in enumerate(images)}
    comparison = near_copies.Comparison([image.pixels for image in images])
    for a, b in pairs:
        if cancelled is not None and cancelled():
            raise Cancelled
        if a.sha256 == b.sha256:
            return f"{a.name} and {b.name} are the same image"
        found = comparison.peak(number[id(a)], number[id(b)], turned=len(pairs) <= _MANY_PAIRS)
        if found > near_copies.IMAGE_COPY_PEAK:
            return f"{a.name} and {b.name} show the same exposure, whole or in part"
    return ""


def _split_many(
    with_defects: list[list[LabelledImage]],
    without: list[list[LabelledImage]],
    patch_px: int,
    test_share: float,
    validation_share: float,
    test_images: int,
    rng: np.random.Generator,
) -> ImageSplit:
    if test_images >= len(with_defects):
        raise ModelError(
            f"{test_images} images with defects are to be held out, but there are only {len(with_defects)}; hold out "
            "fewer."
        )
    train: list[LabelledImage] = []
    validation: list[LabelledImage] = []
    test: list[LabelledImage] = []
    for groups in (with_defects, without):
        order = [groups[i] for i in rng.permutation(len(groups))]
        count = round(test_share * len(groups))
        keep = max(1, round(validation_share * len(groups)))
        if groups is with_defects:
            count = min(max(test_images or count, 1), len(groups) - 1)
            keep = 0 if len(groups) - count < ENOUGH_IMAGES else keep
        elif len(groups) - count <= keep:
            keep = 0
        test += _flat(order[:count])
        validation += _flat(order[count : count + keep])
        train += _flat(order[count + keep :])
    how = f"{len(with_defects) + len(without)} images split as a whole"
    if not _both_classes(validation, patch_px):
        whole = train + validation
        train, validation = _strips(whole, validation_share, patch_px, rng)
        if not _both_classes(validation, patch_px):
            # What is marked lies in the middle of the images.
            train, validation = _inner_strips(whole, validation_share, patch_px, rng)
        how += ", strips of the training images kept for stopping early"
        if not _both_classes(validation, patch_px):
            raise ModelError(
                "The training images have no clean and defective places to spare for stopping early; add images, mark "
                "more, or use smaller patches."
            )
    return ImageSplit(tuple(train), tuple(validation), tuple(test), how)


def _both_classes(images: Sequence[LabelledImage], patch_px: int) -> bool:
    rooms = [room(image, patch_px) for image in images]
    return any(clean for clean, _ in rooms) and any(defective for _, defective in rooms)


def _strips(
    images: Sequence[LabelledImage], share: float, patch_px: int, rng: np.random.Generator
) -> tuple[list[LabelledImage], list[LabelledImage]]:
    """Cut a strip off each image that can spare one."""
    kept: list[LabelledImage] = []
    cut_off: list[LabelledImage] = []
    for image in images:
        pieces = _cut(image, (1 - share, share), patch_px, rng)
        kept.append(image if pieces is None else pieces[0])
        cut_off += [] if pieces is None else [pieces[1]]
    return kept, cut_off


def _inner_strips(
    images: Sequence[LabelledImage], share: float, patch_px: int, rng: np.random.Generator
) -> tuple[list[LabelledImage], list[LabelledImage]]:
    """Cut a strip out of each image, where it holds most classes; what lies on either side of it is kept."""
    kept: list[LabelledImage] = []
    cut_out: list[LabelledImage] = []
    for image in images:
        ways: list[tuple[int, int, float, list[LabelledImage], LabelledImage]] = []
        for axis, length in enumerate(image.pixels.shape):
            width = max(patch_px, round(share * length))
            for start in np.linspace(0, length - width, _PLACES).astype(int) if length > width else ():
                edges = (0, int(start), int(start) + width, length)
                before, strip, after = (_piece(image, axis, *edges[k : k + 2]) for k in range(3))
                sides = [side for side in (before, after) if side.pixels.shape[axis] >= patch_px]
                left = [
                    any(classes) for classes in zip(*(room(side, patch_px) for side in sides), strict=True)
                ]
                if all(left) and sides:
                    ways.append((sum(room(strip, patch_px)), len(sides), float(rng.random()), sides, strip))
        if ways:
            *_, sides, strip = max(ways, key=lambda way: way[:3])
            kept += sides
            cut_out.append(strip)
        else:
            kept.append(image)
    return kept, cut_out


def _piece(image: LabelledImage, axis: int, start: int, stop: int) -> LabelledImage:
    """Part of an image between two lines."""
    part = [slice(None), slice(None)]
    part[axis] = slice(start, stop)
    return replace(
        image,
        name=f"{image.name} ({'yx'[axis]} {start}–{stop})",
        pixels=image.pixels[tuple(part)],
        mask=image.mask[tuple(part)],
        origin=image.sha256,
    )


def _split_one(
    group: list[LabelledImage],
    without: list[list[LabelledImage]],
    patch_px: int,
    test_share: float,
    validation_share: float,
    rng: np.random.Generator,
) -> ImageSplit:
    """With a single image that has defects: strips of it; the others go to training and test."""
    train: list[LabelledImage] = []
    validation: list[LabelledImage] = []
    test: list[LabelledImage] = []
    shares = (1 - test_share - validation_share, validation_share, test_share)
    if min(shares) <= 0:
        raise ModelError("The shares for test and validation leave nothing to train on; make them smaller.")
    for image in group:
        pieces = _cut(image, shares, patch_px, rng)
        if pieces is None:
            raise ModelError(
                f"{image.name}: it is the only image with defects, and too small to be cut into parts for training and "
                f"test (each must be {patch_px} px wide); add images, or use smaller patches."
            )
        train.append(pieces[0])
        validation.append(pieces[1])
        test.append(pieces[2])
    if not _both_classes(train, patch_px) or not _both_classes(validation, patch_px):
        raise ModelError(
            f"{group[0].group}: it is the only image with defects, and they cannot be divided among a part for "
            "training and one for stopping early; add images with defects, or use smaller patches."
        )
    order = _flat([without[i] for i in rng.permutation(len(without))])
    held = max(1, round(test_share * len(order))) if len(order) > 1 else 0
    return ImageSplit(
        (*train, *order[held:]),
        tuple(validation),
        (*test, *order[:held]),
        "strips of a single image, so the test says little about other images",
    )


def _flat(groups: Sequence[Sequence[LabelledImage]]) -> list[LabelledImage]:
    return [image for group in groups for image in group]


def _cut(
    image: LabelledImage, shares: Sequence[float], patch_px: int, rng: np.random.Generator
) -> list[LabelledImage] | None:
    """Cut an image into strips of about these shares, at least one patch wide; the best of all ways.

    Best is the way in which most strips hold both classes, the first ones first; of equal ones a random one.
    """
    ways: list[tuple[tuple[int, ...], float, list[LabelledImage]]] = []
    for axis in (0, 1):
        length = image.pixels.shape[axis]
        widths = [max(patch_px, round(share * length)) for share in shares]
        widths[0] = length - sum(widths[1:])
        if widths[0] < patch_px:
            continue
        for order in permutations(range(len(shares))):
            edges = np.cumsum([0, *(widths[k] for k in order)])
            pieces: list[LabelledImage | None] = [None] * len(shares)
            for place, k in enumerate(order):
                pieces[k] = _piece(image, axis, int(edges[place]), int(edges[place + 1]))
            strips = [piece for piece in pieces if piece is not None]
            score = tuple(sum(room(piece, patch_px)) for piece in strips)
            ways.append((score, float(rng.random()), strips))
    return max(ways, key=lambda way: (sum(way[0]), way[0], way[1]))[2] if ways else None
