"""Split patches that are cut out already into parts to train on, to stop by and to judge by, which share no pixel.

Overlapping crops of one image give 99 % whatever was learnt. So patches are split by the image they are from, where
there are several, by their positions in it, and where those are unknown by what they show. A split that does share
pixels is refused. Labelled images: :mod:`.image_splits`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from napari_hrstem_defects.core.errors import ModelError
from napari_hrstem_defects.models import near_copies
from napari_hrstem_defects.models.data import PatchSet

#: Patches of at least so many images, each class from two or more, are split by image.
ENOUGH_SOURCES = 4
#: Share of the expected training patches that must be left by a validation part that shares no pixel with them.
ENOUGH_TRAIN = 0.6
#: Random cuts through a patch table that are tried.
_CUTS = 64


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
    copies = np.count_nonzero(near_copies.copied(test.pixels, train.pixels, cancelled))
    return f"{copies} of the {len(test)} test patches are near-copies of training patches" if copies else ""


def overlapping(some: PatchSet, others: PatchSet) -> NDArray[np.bool_]:
    """Which of `some` share a pixel of their source with any of `others`; positions must be known."""
    if some.corners is None or others.corners is None:
        raise ValueError("corners is None, expected known positions")
    first, second = some.corners + some.edge / 2, others.corners + others.edge / 2
    out = np.zeros(len(some), bool)
    for source in np.unique(some.source):
        mine, theirs = some.source == source, others.source == source
        if theirs.any():
            # Squares overlap whose centres are closer than an edge along both axes. A tree needs no table of all pairs.
            nearest, _ = KDTree(second[theirs]).query(first[mine], p=np.inf)
            out[mine] = nearest < (some.edge + others.edge) / 2
    return out


def _groups(patches: PatchSet, cancelled: Callable[[], bool] | None) -> NDArray[np.intp] | None:
    """Groups to be kept together; None where positions tell more."""
    sources, by_source = np.unique(patches.source, return_inverse=True)
    spread = min(
        len(np.unique(by_source[patches.labels == k]))
        for k in range(len(patches.classes))
        if (patches.labels == k).any()
    )
    if len(sources) >= ENOUGH_SOURCES and spread >= 2:
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
    pool, test = _group_fold(patches, np.arange(len(patches)), group, test_share, rng)
    train, validation = _group_fold(patches, pool, group, validation_share / (1 - test_share), rng)
    count = len(np.unique(group))
    what = "sources" if count == len(np.unique(patches.source)) else "groups that show no common pixels"
    return PatchSplit(train, validation, test, f"patches split by {count} {what}")


def _group_fold(
    patches: PatchSet,
    among: NDArray[np.intp],
    group: NDArray[np.intp],
    share: float,
    rng: np.random.Generator,
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """What is left and what is held out: of the folds the one that divides the classes best."""
    from sklearn.model_selection import StratifiedGroupKFold

    labels = patches.labels[among]
    folds = min(max(2, round(1 / share)), len(np.unique(group[among])), int(np.bincount(labels).max()))
    if folds < 2:
        return among, among[:0]
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=int(rng.integers(2**31)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes with fewer patches than there are folds
        ways = [(among[left], among[held]) for left, held in splitter.split(among, labels, group[among])]
    return max(ways, key=lambda way: _balance(patches, among, way[0], way[1], share))


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
            " between training and test (those that stop the training early, and calibrate an ensemble, lie among the "
            "training patches)"
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
    best: tuple[float, NDArray[np.intp], NDArray[np.intp]] | None = None
    for number in range(_CUTS):
        held, left = (_cut_by_line, _cut_by_ends)[number % 2](patches, among, share, rng)
        held = held[~bound[held]]
        score = _balance(patches, among, left, held, share)
        if best is None or score > best[0]:
            best = score, held, left
    assert best is not None
    return best[1], best[2]


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


def _inseparable(patches: PatchSet) -> NDArray[np.bool_]:
    """Patches of classes of which every two overlap."""
    assert patches.corners is not None
    out = np.zeros(len(patches), bool)
    for k in range(len(patches.classes)):
        own = patches.labels == k
        several = len(np.unique(patches.source[own])) > 1
        if own.any() and not several and np.ptp(patches.corners[own], axis=0).max() < patches.edge:
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
