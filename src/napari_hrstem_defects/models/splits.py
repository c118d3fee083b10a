"""Split labelled data into parts to train on, to stop by and to judge by, which share no pixel and no copy of one.

A classifier that is judged on pieces of the image it was trained on is judged on its memory: overlapping crops of
one image give 99 % whatever was learnt. So images are split as a whole, a single image into strips, patches by their
positions, and where positions are unknown by what they show. A split that does share pixels is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, permutations

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.core.errors import Cancelled, ModelError
from napari_hrstem_defects.core.metrics import PATCH_CLASSES
from napari_hrstem_defects.models import near_copies
from napari_hrstem_defects.models.data import LabelledImage, PatchSet
from napari_hrstem_defects.models.sampling import nothing_to_draw, room

#: Fewer images with defects than this in the training part: the validation part is cut off from them instead.
ENOUGH_IMAGES = 4
#: More pairs of images than this are not compared turned and mirrored as well.
_MANY_PAIRS = 500
#: Share of the expected training patches that must be left by a validation part that shares no pixel with them.
ENOUGH_TRAIN = 0.6
#: Random cuts through a patch table that are tried.
_CUTS = 64


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


@dataclass(frozen=True, eq=False)
class PatchSplit:
    """Numbers of the patches to train on, to stop by and to judge by.

    Attributes
    ----------
    train, validation, test : int arrays
    how : str
        One sentence for the report.
    dropped : int
        Patches left out, for they would be shared.
    untested : tuple of str
        Classes without a test patch.
    shared : str
        Empty, or what the parts share although they should not.
    """

    train: NDArray[np.intp]
    validation: NDArray[np.intp]
    test: NDArray[np.intp]
    how: str
    dropped: int = 0
    untested: tuple[str, ...] = ()
    shared: str = ""


# -- images --------------------------------------------------------------------------------------------------


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
    out = []
    for number in range(repeats):
        rng = np.random.default_rng([seed, 1, number])
        if len(with_defects) == 1:
            split = _split_one(with_defects[0], without, patch_px, test_share, validation_share, rng)
        else:
            split = _split_many(
                with_defects, without, patch_px, test_share, validation_share, test_images, rng
            )
        out.append(replace(split, shared=shared))
    return out


def _grouped(images: Sequence[LabelledImage]) -> list[list[LabelledImage]]:
    groups: dict[str, list[LabelledImage]] = {}
    for image in images:
        groups.setdefault(image.group, []).append(image)
    return list(groups.values())


def _copies_of_images(groups: Sequence[Sequence[LabelledImage]], cancelled: Callable[[], bool] | None) -> str:
    # Simulated images were drawn independently, and there may be many.
    pairs = [
        (a, b)
        for first, second in combinations(groups, 2)
        for a in first
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
        train, validation = _strips(train + validation, validation_share, patch_px, rng)
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
                part = [slice(None), slice(None)]
                part[axis] = slice(int(edges[place]), int(edges[place + 1]))
                pieces[k] = replace(
                    image,
                    name=f"{image.name} ({'yx'[axis]} {edges[place]}–{edges[place + 1]})",
                    pixels=image.pixels[tuple(part)],
                    mask=image.mask[tuple(part)],
                    origin=image.sha256,
                )
            strips = [piece for piece in pieces if piece is not None]
            score = tuple(sum(room(piece, patch_px)) for piece in strips)
            ways.append((score, float(rng.random()), strips))
    return max(ways, key=lambda way: (sum(way[0]), way[0], way[1]))[2] if ways else None


# -- patches -------------------------------------------------------------------------------------------------


def split_patches(
    patches: PatchSet,
    *,
    test_share: float = 0.25,
    validation_share: float = 0.15,
    repeats: int = 1,
    seed: int = 0,
    at_random: bool = False,
    force: bool = False,
    cancelled: Callable[[], bool] | None = None,
) -> list[PatchSplit]:
    """Split patches so that the parts share no pixel, repeatedly at random.

    Where there are several sources, by source. Where positions in a source are known, by cuts between which patches
    are left out that would overlap with another part. Else groups of patches that show the same pixels are kept
    together. Classes all of whose patches overlap each other cannot be held out: they are trained on and not tested.

    Parameters
    ----------
    patches : PatchSet
    test_share, validation_share : float
    repeats : int
    seed : int
    at_random : bool
        Ignore positions and contents.
    force : bool
        Allow parts that share pixels; the split then says so.
    cancelled : callable, optional

    Returns
    -------
    list of PatchSplit

    Raises
    ------
    ModelError
        If there is no split that shares nothing, or a random one does.
    """
    groups = None if at_random else _groups(patches, cancelled)
    out = []
    for number in range(repeats):
        rng = np.random.default_rng([seed, 2, number])
        if at_random:
            split = _random_split(patches, test_share, validation_share, rng)
        elif groups is not None:
            split = _group_split(patches, groups, test_share, validation_share, rng)
        else:
            split = _positional_split(patches, test_share, validation_share, rng)
        shared = shared_between(patches.take(split.train), patches.take(split.test), cancelled)
        if shared and not force:
            raise ModelError(
                f"{shared}; a test on what was trained on measures memory, so split by position or by image, or force "
                "it (the report will then say so)."
            )
        tested = [bool((patches.labels[split.test] == k).any()) for k in range(len(patches.classes))]
        if sum(tested) < 2:
            raise ModelError(
                "All patches of a class overlap each other, or those of other classes, so no test without shared "
                "pixels is possible; add patches from other places or images."
            )
        untested = tuple(name for name, some in zip(patches.classes, tested, strict=True) if not some)
        out.append(replace(split, shared=shared, untested=untested))
    return out


def shared_between(train: PatchSet, test: PatchSet, cancelled: Callable[[], bool] | None = None) -> str:
    """What two sets of patches share, in words; empty if nothing.

    Where positions in the same source are known they decide; contents are compared in any case, for the same pixels
    may be there under two names.
    """
    if train.corners is not None and test.corners is not None:
        hit = overlapping(test, train)
        if hit.any():
            return (
                f"{np.count_nonzero(hit)} of the {len(test)} test patches share pixels with training patches"
            )
    copies = list(near_copies.copies_between(test.pixels, train.pixels, turned=False, cancelled=cancelled))
    if copies:
        return f"{len(copies)} of the {len(test)} test patches are near-copies of training patches"
    return ""


def overlapping(some: PatchSet, others: PatchSet) -> NDArray[np.bool_]:
    """Which of `some` share a pixel of their source with any of `others`; positions must be known."""
    out = np.zeros(len(some), bool)
    for source in np.unique(some.source):
        mine, theirs = some.source == source, others.source == source
        if theirs.any():
            out[mine] = (_gaps(some, others)[np.ix_(mine, theirs)] < (some.edge + others.edge) / 2).any(
                axis=1
            )
    return out


def _gaps(some: PatchSet, others: PatchSet) -> NDArray[np.float64]:
    """Distances of the centres along the axis along which they are farther apart, in px."""
    if some.corners is None or others.corners is None:
        raise ValueError("corners is None, expected known positions")
    first, second = some.corners + some.edge / 2, others.corners + others.edge / 2
    out: NDArray[np.float64] = np.abs(first[:, None] - second[None]).max(axis=2)
    return out


def _groups(patches: PatchSet, cancelled: Callable[[], bool] | None) -> NDArray[np.intp] | None:
    """Groups to be kept together; None where positions tell more."""
    sources, by_source = np.unique(patches.source, return_inverse=True)
    spread = min(
        len(np.unique(by_source[patches.labels == k]))
        for k in range(len(patches.classes))
        if (patches.labels == k).any()
    )
    if len(sources) >= ENOUGH_IMAGES and spread >= 2:
        return by_source.astype(np.intp)
    return near_copies.clusters(patches.pixels, cancelled) if patches.corners is None else None


def _random_split(
    patches: PatchSet, test_share: float, validation_share: float, rng: np.random.Generator
) -> PatchSplit:
    parts: list[list[int]] = [[], [], []]
    for k in range(len(patches.classes)):
        order = rng.permutation(np.flatnonzero(patches.labels == k))
        test, validation = (round(share * len(order)) for share in (test_share, validation_share))
        pieces = np.split(order, [len(order) - test - validation, len(order) - test])
        for part, chosen in zip(parts, pieces, strict=True):
            part += chosen.tolist()
    train, held, tested = (np.sort(np.array(part, np.intp)) for part in parts)
    return PatchSplit(train, held, tested, "patches split at random")


def _group_split(
    patches: PatchSet,
    group: NDArray[np.intp],
    test_share: float,
    validation_share: float,
    rng: np.random.Generator,
) -> PatchSplit:
    """Whole groups into the parts, so that each class comes as near to its shares as can be."""
    numbers = np.unique(group)
    counts = np.array(
        [
            [np.count_nonzero((group == g) & (patches.labels == k)) for k in range(len(patches.classes))]
            for g in numbers
        ]
    )
    # First the training part, then the test, then what stops early gets its share.
    shares = np.array([1 - test_share - validation_share, test_share, validation_share])
    wanted = np.maximum(shares[:, None] * counts.sum(axis=0), 1e-9)
    held = np.zeros_like(wanted)
    part = np.empty(len(group), np.intp)
    # Large groups first, for they are the hardest to place; among equals at random.
    for i in sorted(range(len(numbers)), key=lambda i: (-int(counts[i].sum()), float(rng.random()))):
        need = np.where(counts[i] > 0, (wanted - held) / wanted, -np.inf).max(axis=1)
        chosen = int(np.argmax(need))
        held[chosen] += counts[i]
        part[group == numbers[i]] = chosen
    train, test, validation = (np.flatnonzero(part == k) for k in range(3))
    what = "sources" if len(numbers) == len(np.unique(patches.source)) else "groups that share no pixels"
    return PatchSplit(train, validation, test, f"patches split by {len(numbers)} {what}")


def _positional_split(
    patches: PatchSet, test_share: float, validation_share: float, rng: np.random.Generator
) -> PatchSplit:
    """Of many random cuts the one that keeps most of every class on both sides, once for each held-out part."""
    everything = np.arange(len(patches))
    inseparable = _inseparable(patches)
    # What cannot be tested is trained on, and what overlaps with it can be trained on only.
    free = everything[~inseparable]
    bound = np.zeros(len(patches), bool)
    if inseparable.any():
        bound[free] = overlapping(patches.take(free), patches.take(inseparable))
    test, pool = _best_cut(patches, free, bound, test_share, rng)
    share = validation_share / (1 - test_share)
    validation, train = _best_cut(patches, pool, bound, share, rng)
    how = "patches split by position, no pixel shared"
    if not len(validation) or len(train) < ENOUGH_TRAIN * (1 - share) * len(pool):
        # What only stops the training may resemble it rather than leave too little of it; the test never does.
        order = rng.permutation(pool)
        count = max(1, round(share * len(pool)))
        validation, train = np.sort(order[:count]), np.sort(order[count:])
        how += (
            " between training and test (those that stop the training early lie among the training patches)"
        )
    train = np.union1d(train, everything[inseparable])
    dropped = len(patches) - len(train) - len(validation) - len(test)
    return PatchSplit(train, validation, test, how, dropped)


def _best_cut(
    patches: PatchSet,
    among: NDArray[np.intp],
    bound: NDArray[np.bool_],
    share: float,
    rng: np.random.Generator,
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """What is held out, and what is left."""
    whole = np.bincount(patches.labels[among], minlength=len(patches.classes))
    best: tuple[float, NDArray[np.intp], NDArray[np.intp]] | None = None
    for number in range(_CUTS):
        held, left = (_cut_by_line, _cut_by_ends)[number % 2](patches, among, share, rng)
        held = held[~bound[held]]
        near = [
            min(1.0, kept / (1 - share) / n, out / share / n)
            for n, kept, out in zip(
                whole,
                np.bincount(patches.labels[left], minlength=len(whole)),
                np.bincount(patches.labels[held], minlength=len(whole)),
                strict=True,
            )
            if n
        ]
        score = min(near, default=0.0) + 0.2 * float(np.mean(near or [0.0]))
        if best is None or score > best[0]:
            best = score, held, left
    assert best is not None
    return best[1], best[2]


def _inseparable(patches: PatchSet) -> NDArray[np.bool_]:
    """Patches of classes of which every two overlap."""
    out = np.zeros(len(patches), bool)
    for k in range(len(patches.classes)):
        own = patches.labels == k
        several = len(np.unique(patches.source[own])) > 1
        part = patches.take(own)
        if own.any() and not several and (_gaps(part, part) < patches.edge).all():
            out |= own
    return out


def _cut_by_line(
    patches: PatchSet, among: NDArray[np.intp], share: float, rng: np.random.Generator
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """What lies wholly beyond a straight line through each source, and what wholly before it."""
    assert patches.corners is not None
    # Along an axis squares can be separated with least loss.
    angle = rng.integers(4) * np.pi / 2 if rng.random() < 0.7 else rng.uniform(0, 2 * np.pi)
    way = np.array([np.sin(angle), np.cos(angle)])
    near = patches.corners[among] @ way + patches.edge * np.minimum(way, 0).sum()
    far = near + patches.edge * np.abs(way).sum()
    beyond, before = np.zeros(len(among), bool), np.zeros(len(among), bool)
    for source in np.unique(patches.source[among]):
        own = patches.source[among] == source
        line = np.quantile(near[own], np.clip(1 - share * rng.uniform(0.7, 1.6), 0, 1))
        beyond |= own & (near >= line - 1e-6)
        before |= own & (far <= line + 1e-6)
    return among[beyond], among[before & ~beyond]


def _cut_by_ends(
    patches: PatchSet, among: NDArray[np.intp], share: float, rng: np.random.Generator
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Of each class and source the patches at one end, and what does not overlap with them."""
    assert patches.corners is not None
    angle = rng.uniform(0, 2 * np.pi)
    along = patches.corners[among] @ np.array([np.sin(angle), np.cos(angle)])
    ends: list[NDArray[np.intp]] = [np.empty(0, np.intp)]
    for k in range(len(patches.classes)):
        for source in np.unique(patches.source[among]):
            own = np.flatnonzero((patches.labels[among] == k) & (patches.source[among] == source))
            count = min(len(own), max(1, round(share * len(own))))
            ends.append(own[np.argsort(along[own], kind="stable")[len(own) - count :]])
    far = np.sort(among[np.concatenate(ends)])
    rest = np.setdiff1d(among, far)
    return far, rest[~overlapping(patches.take(rest), patches.take(far))]
