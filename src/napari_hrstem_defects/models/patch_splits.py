"""Split tables of patches into training, validation and test parts that share no pixel and no copy of one.

They are split by source where there are several, by position in it, and where positions are unknown by groups of near
copies. A split with the same pixels on both sides is refused unless it is forced.
"""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from napari_hrstem_defects.core.errors import ModelError
from napari_hrstem_defects.models import near_copies
from napari_hrstem_defects.models.data import PatchSet
from napari_hrstem_defects.models.options import CancelCheck, TrainingOptions
from napari_hrstem_defects.models.splits import Split

#: Patches of at least so many images, each class from two or more, are split by image.
ENOUGH_SOURCES = 4
#: Share of the expected training patches that must be left by a validation part that shares no pixel with them.
ENOUGH_TRAIN = 0.6
# Random cuts through a table of patches that are tried.
_CUTS = 32


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
    out = []
    for number in range(options.repeats):
        rng = np.random.default_rng([options.seed, 2, number])
        if group is None:
            split = _split_by_position(patches, options, rng)
        else:
            pool, test = _group_fold(patches, np.arange(len(patches)), group, options.test_share, rng)
            share = options.validation_share / (1 - options.test_share)
            split = Split(*_group_fold(patches, pool, group, share, rng), test, how)
        shared = shared_between(patches.take(split.train), patches.take(split.test), cancelled)
        if shared and not options.force:
            raise ModelError(
                f"{shared}; scores on training data are too high, so split by position or by image, or force "
                "it (the report will then say so)."
            )
        tested = set(patches.labels[split.test].tolist())
        if len(tested) < 2:
            raise ModelError(
                "All patches of a class overlap each other, or those of other classes, so no test without shared "
                "pixels is possible; add patches from other places or images."
            )
        untested = tuple(name for k, name in enumerate(patches.classes) if k not in tested)
        out.append(replace(split, shared=shared, untested=untested))
    return out


def shared_between(train: PatchSet, test: PatchSet, cancelled: CancelCheck | None = None) -> str:
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
        return None, ""
    group = near_copies.clusters(patches.pixels, cancelled)
    return group, f"patches split by {len(np.unique(group))} groups that show no common pixels"


def _group_fold(
    patches: PatchSet,
    among: NDArray[np.intp],
    group: NDArray[np.intp],
    share: float,
    rng: np.random.Generator,
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """What is left and what is held out: of the folds the one that divides the classes best."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    labels = patches.labels[among]
    groups = len(np.unique(group[among]))
    folds = min(max(2, round(1 / share)), groups, int(np.bincount(labels).max()))
    if folds < 2:
        return among, among[:0]
    # Without groups it would do the same, but slowly.
    kind = StratifiedGroupKFold if groups < len(among) else StratifiedKFold
    splitter = kind(folds, shuffle=True, random_state=int(rng.integers(2**31)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes with fewer patches than there are folds
        ways = [(among[left], among[held]) for left, held in splitter.split(among, labels, group[among])]
    return max(ways, key=lambda way: _balance(patches, among, way[0], way[1], share))


def _split_by_position(patches: PatchSet, options: TrainingOptions, rng: np.random.Generator) -> Split:
    everything = np.arange(len(patches))
    inseparable = _inseparable(patches)
    # What cannot be tested is trained on, and what overlaps with it can be trained on only.
    free = everything[~inseparable]
    bound = np.zeros(len(patches), bool)
    if inseparable.any():
        bound[free] = overlapping(patches.take(free), patches.take(inseparable))
    pool, test = _best_cut(patches, free, bound, options.test_share, rng)
    share = options.validation_share / (1 - options.test_share)
    train, validation = _best_cut(patches, pool, bound, share, rng)
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
    return Split(train, validation, test, how, dropped=dropped)


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
    among: NDArray[np.intp],
    bound: NDArray[np.bool_],
    share: float,
    rng: np.random.Generator,
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """What is left and what is held out: of many random cuts the one that keeps most of every class on both sides."""
    ways = []
    for _ in range(_CUTS):
        held = _one_end(patches, among, share, rng)
        held = held[~bound[held]]
        left = np.setdiff1d(among, held)
        ways.append((left[~overlapping(patches.take(left), patches.take(held))], held))
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
