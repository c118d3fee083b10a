"""Split labelled images, or tables of patches, into parts for training, validation and test that share no pixel.

Images are split by group (the frames of a series, the parts of an image), a single image is cut into strips. Patches
are split by source where there are several, by position in it, and where positions are unknown by groups of near
copies. A split with the same pixels on both sides, or copies of them, is refused unless it is forced.

References
----------
.. [D] Dennler et al., Micron 146 (2021) 103069, six trainings whose mean scores are table 1.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.core.metrics import PATCH_CLASSES
from napari_hrstem_defects.errors import ModelError
from napari_hrstem_defects.models import near_copies
from napari_hrstem_defects.models.data import LabelledImage, PatchSet
from napari_hrstem_defects.models.options import CancelCheck, TrainingOptions
from napari_hrstem_defects.models.sampling import nothing_to_draw, room, upright_classes

#: Fewer groups with defects than this in the training part: the validation part is cut off from them instead.
ENOUGH_IMAGES = 4
#: Share of the images with defects that test in the protocol of [D]: three of thirteen.
PUBLISHED_TEST_SHARE = 3 / 13
#: Patches of at least so many images, each class from two or more, are split by image.
ENOUGH_SOURCES = 4
#: Share of the expected training patches that must be left by a validation part that shares no pixel with them.
ENOUGH_TRAIN = 0.6
# Places along an axis where a strip of an image is tried, and random cuts through a table of patches.
_PLACES, _CUTS = 9, 32
_AMONG = (
    " between training and test (those that stop the training early, and calibrate an ensemble, lie among the training "
    "patches)"
)


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
    shared = near_copies.between_images(images, cancelled)
    _refuse(shared, options, "scores on copies of training data are too high, so leave one of them out")
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


def _refuse(shared: str, options: TrainingOptions, advice: str) -> None:
    """Refuse a split by what its parts share, unless it is forced."""
    if shared and not options.force:
        raise ModelError(f"{shared}; {advice}, or force it (the report will then say so).")


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
    """Cut a strip out of each image that is large enough, with `needed` at least one; what is left, and the strips."""
    kept: list[LabelledImage] = []
    strips: list[LabelledImage] = []
    for image in images:
        sides, strip = _cut_strip(image, share, patch_px, rng)
        kept += sides
        strips += strip
    if needed and not strips:
        raise ModelError(
            f"{images[0].group}: it is the only image with defects, and too small to be cut into parts for training "
            f"and test (each must be {patch_px} px wide); add images, or use smaller patches."
        )
    return kept, strips


def _cut_strip(
    image: LabelledImage, share: float, patch_px: int, rng: np.random.Generator
) -> tuple[list[LabelledImage], list[LabelledImage]]:
    """What lies on either side of a strip of an image, and the strip; no strip where the image is too small.

    Of all ways the one with most classes in both, then in what is kept, then at the rim, then with most of the area.
    """
    classes = upright_classes(image, patch_px)

    def room_in(axis: int, spans: Sequence[tuple[int, int]]) -> int:
        """How many of the two classes have patches between the lines of one of the spans."""
        parts = [classes[_between(axis, start, stop - patch_px + 1)] for start, stop in spans]
        return sum(any((part == k).any() for part in parts) for k in (0, 1))

    ways = []
    for axis, length in enumerate(image.pixels.shape):
        width = min(max(patch_px, round(share * length)), length)
        for start in np.linspace(0, length - width, _PLACES).astype(int).tolist():
            strip, sides = (start, start + width), [(0, start), (start + width, length)]
            sides = [side for side in sides if side[1] - side[0] >= patch_px]
            if sides:
                left = room_in(axis, sides)
                area = sum(b - a for a, b in sides) * image.pixels.shape[1 - axis]
                worth = left + room_in(axis, [strip]), left, -len(sides), area, rng.random()
                ways.append((worth, axis, strip, sides))
    if not ways:
        return [image], []
    _, axis, strip, sides = max(ways)
    return [_piece(image, axis, *side) for side in sides], [_piece(image, axis, *strip)]


def _between(axis: int, start: int, stop: int) -> tuple[slice, ...]:
    return (slice(None),) * axis + (slice(start, stop),)


def _piece(image: LabelledImage, axis: int, start: int, stop: int) -> LabelledImage:
    """Part of an image between two lines."""
    part = _between(axis, start, stop)
    name = f"{image.name} ({'yx'[axis]} {start}–{stop})"
    return replace(image, name=name, pixels=image.pixels[part], mask=image.mask[part], origin=image.sha256)


# -- tables of patches


def split_patches(
    patches: PatchSet, options: TrainingOptions, cancelled: CancelCheck | None = None
) -> list[Split]:
    """Split patches so that the parts share no pixel, repeatedly at random.

    Where there are several sources, by source. Where positions in a source are known, by cuts, and patches that overlap
    with the test are left out. Else groups of patches that show the same pixels are kept together. Classes all of whose
    patches overlap each other cannot be held out: they are trained on and not tested.

    Parameters
    ----------
    patches : PatchSet
    options : TrainingOptions
        ``split="random"`` ignores positions and contents.
    cancelled : callable, optional

    Returns
    -------
    list of Split

    Raises
    ------
    ModelError
        If there is no split that shares nothing, or the split shares pixels and ``force`` is not set.
    Cancelled
    """
    group, how = _groups(patches, options.split == "random", cancelled)
    # Classes that cannot be held out are trained on, and what overlaps with them can be trained on only.
    fixed = _inseparable(patches) if group is None else np.zeros(len(patches), bool)
    free = np.flatnonzero(~fixed)
    if group is None:
        bound = np.zeros(len(patches), bool)
        bound[free] = near_copies.overlapping(patches.take(free), patches.take(fixed))
        hold_out = partial(_best_cut, patches, bound)
    else:
        hold_out = partial(_best_fold, patches, group)
    share = options.validation_share / (1 - options.test_share)
    out = []
    for number in range(options.repeats):
        rng = np.random.default_rng([options.seed, 2, number])
        pool, test = hold_out(free, options.test_share, rng)
        train, validation = hold_out(pool, share, rng)
        complete = np.isin(patches.labels[pool], patches.labels[train]).all()
        apart = len(validation) and complete and len(train) >= ENOUGH_TRAIN * (1 - share) * len(pool)
        if not apart:
            # What only stops the training may resemble it rather than leave too little of it; the test never does.
            order = rng.permutation(pool)
            count = max(1, round(share * len(pool)))
            train, validation = np.sort(order[count:]), np.sort(order[:count])
        train = np.union1d(train, np.flatnonzero(fixed))
        shared = near_copies.shared_between(patches.take(train), patches.take(test), cancelled)
        _refuse(shared, options, "scores on training data are too high, so split by position or by image")
        tested = set(patches.labels[test].tolist())
        if len(tested) < 2:
            raise ModelError(
                "All patches of a class overlap each other, or those of other classes, so no test without shared "
                "pixels is possible; add patches from other places or images."
            )
        untested = tuple(name for k, name in enumerate(patches.classes) if k not in tested)
        dropped = len(patches) - len(train) - len(validation) - len(test)
        out.append(Split(train, validation, test, how + ("" if apart else _AMONG), shared, dropped, untested))
    return out


def _groups(
    patches: PatchSet, at_random: bool, cancelled: CancelCheck | None
) -> tuple[NDArray[np.intp] | None, str]:
    """Number of the group of each patch that is split as a whole, None where positions decide; and how it is split."""
    if at_random:
        return np.arange(len(patches)), "patches split at random"
    sources, by_source = np.unique(patches.source, return_inverse=True)
    spread = min(len(np.unique(by_source[patches.labels == k])) for k in np.unique(patches.labels))
    if len(sources) >= ENOUGH_SOURCES and spread >= 2:
        return by_source.astype(np.intp), f"patches split by {len(sources)} sources"
    if patches.corners is not None:
        return None, "patches split by position, no pixel shared"
    group = near_copies.clusters(patches.pixels, cancelled)
    return group, f"patches split by {len(np.unique(group))} groups that show no common pixels"


def _best_fold(
    patches: PatchSet,
    group: NDArray[np.intp],
    among: NDArray[np.intp],
    share: float,
    rng: np.random.Generator,
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """What is left and what is held out: of the folds the one that divides the classes best.

    Where no fold has a part of every class there are fewer folds, if that helps: each class is to be tested.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    labels = patches.labels[among]
    groups = len(np.unique(group[among]))
    most = min(max(2, round(1 / share)), groups, int(np.bincount(labels).max()))
    # Without groups it would do the same, but slowly.
    kind = StratifiedGroupKFold if groups < len(among) else StratifiedKFold
    seed = int(rng.integers(2**31))
    first: tuple[NDArray[np.intp], NDArray[np.intp]] | None = None
    for folds in range(most, 1, -1):
        splitter = kind(folds, shuffle=True, random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of classes with fewer patches than there are folds
            ways = [(among[left], among[held]) for left, held in splitter.split(among, labels, group[among])]
        best = max(ways, key=lambda way: _balance(patches, among, way[0], way[1], share))
        if all(np.isin(labels, patches.labels[part]).all() for part in best):
            return best
        first = first or best
    return first or (among, among[:0])


def _inseparable(patches: PatchSet) -> NDArray[np.bool_]:
    """Patches of classes of which every two overlap."""
    assert patches.corners is not None
    out = np.zeros(len(patches), bool)
    for k in np.unique(patches.labels):
        own = patches.labels == k
        one_source = len(np.unique(patches.source[own])) == 1
        out |= own & (one_source and np.ptp(patches.corners[own], axis=0).max() < patches.edge)
    return out


def _best_cut(
    patches: PatchSet,
    bound: NDArray[np.bool_],
    among: NDArray[np.intp],
    share: float,
    rng: np.random.Generator,
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """What is left and what is held out: of many random cuts the one that keeps most of every class on both sides."""
    ways = []
    for _ in range(_CUTS):
        held = _one_end(patches, among, share, rng)
        held = held[~bound[held]]
        left = np.setdiff1d(among, held)
        ways.append((left[~near_copies.overlapping(patches.take(left), patches.take(held))], held))
    return max(ways, key=lambda way: _balance(patches, among, way[0], way[1], share))


def _one_end(
    patches: PatchSet, among: NDArray[np.intp], share: float, rng: np.random.Generator
) -> NDArray[np.intp]:
    """Of each class and source about a share of the patches, those that lie farthest in a random direction."""
    assert patches.corners is not None
    # Along an axis squares can be separated with least loss.
    angle = rng.integers(4) * np.pi / 2 if rng.random() < 0.5 else rng.uniform(0, 2 * np.pi)
    along = patches.corners @ np.array([np.sin(angle), np.cos(angle)])
    share *= rng.uniform(0.7, 1.6)
    ends = [among[:0]]
    for source, k in np.unique([patches.source[among], patches.labels[among].astype(str)], axis=1).T:
        own = among[(patches.source[among] == source) & (patches.labels[among] == int(k))]
        count = min(len(own), max(1, round(share * len(own))))
        ends.append(own[np.argsort(along[own], kind="stable")[len(own) - count :]])
    return np.sort(np.concatenate(ends))


def _balance(
    patches: PatchSet,
    among: NDArray[np.intp],
    left: NDArray[np.intp],
    held: NDArray[np.intp],
    share: float,
) -> float:
    """How near the classes come to their shares in both parts; the worst of them counts most."""
    whole, kept, out = (
        np.bincount(patches.labels[part], minlength=len(patches.classes)) for part in (among, left, held)
    )
    near = np.minimum(1, np.minimum(kept / (1 - share), out / share)[whole > 0] / whole[whole > 0])
    return float(near.min() + 0.2 * near.mean()) if near.size else 0.0
