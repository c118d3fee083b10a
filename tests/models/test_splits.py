"""Splits share no pixel, and copies are recognised."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from napari_hrstem_defects.errors import Cancelled, ModelError
from napari_hrstem_defects.models import near_copies
from napari_hrstem_defects.models.data import LabelledImage, PatchSet
from napari_hrstem_defects.models.near_copies import (
    COPY_PEAK,
    IMAGE_COPY_PEAK,
    clusters,
    copied,
    overlapping,
    shared_between,
)
from napari_hrstem_defects.models.options import TrainingOptions
from napari_hrstem_defects.models.sampling import room
from napari_hrstem_defects.models.splits import split_images, split_patches

EDGE = 32


def micrograph(seed, shape=(128, 128), noise=0.5):
    """A lattice with noise of its own."""
    y, x = np.indices(shape)
    lattice = np.cos(2 * np.pi * y / 9) + np.cos(2 * np.pi * (x + 0.3 * y) / 9)
    values = lattice + noise * np.random.default_rng(seed).normal(size=shape)
    return ((values - values.min()) / np.ptp(values)).astype(np.float32)


def labelled(name, seed, *, defects=True, pixels=None, shape=(128, 128), group=""):
    pixels = micrograph(seed, shape) if pixels is None else pixels
    mask = np.zeros(pixels.shape, np.uint8)
    if defects:
        mask[:, pixels.shape[1] // 2 - 12 : pixels.shape[1] // 2 + 12] = 1
    return LabelledImage(name, pixels, mask, group=group)


def options(**values):
    return TrainingOptions(patch_px=EDGE, **values)


def names(images):
    return {image.name.partition(" (")[0] for image in images}


# -- copies


def peak(first, second, **options):
    return near_copies.Comparison([first, second]).peak(0, 1, **options)


def test_the_peak_is_about_the_common_area():
    image = micrograph(0, (128, 128))
    assert peak(image, image) == pytest.approx(1, abs=1e-3)
    assert peak(image, np.rot90(image[:, ::-1])) == pytest.approx(1, abs=1e-3)
    assert peak(image, 0.3 * image**1.3 + 0.5) > 0.8  # other brightness, contrast and gamma
    assert 0.3 < peak(image[:96], image[32:]) < 0.8  # two thirds are common
    retouched = image.copy()
    retouched[40:60, 40:60] = gaussian_filter(image, 5)[40:60, 40:60]
    assert peak(image, retouched) > 0.5


@pytest.mark.parametrize("noise", [0.2, 1.0])
def test_two_images_of_one_crystal_are_no_copies(noise):
    assert peak(micrograph(0, noise=noise), micrograph(1, noise=noise)) < IMAGE_COPY_PEAK / 2 + 0.03


@pytest.mark.parametrize("slope", [0.005, 0.1])
def test_pieces_without_noise_are_no_copies_because_of_their_borders(slope):
    y, x = np.mgrid[:64, :96].astype(float)

    def crystal(angle, period, seed):
        across, along = np.cos(angle) * y + np.sin(angle) * x, np.cos(angle) * x - np.sin(angle) * y
        lattice = 0.1 * (np.cos(2 * np.pi / period * across) + np.cos(2 * np.pi / period * along))
        noise = np.random.default_rng(seed).normal(0, 0.001, y.shape)
        return (lattice + slope * (x + y) + noise).astype(np.float32)

    first, second = crystal(0.2, 14, 0), crystal(0.7, 16, 1)
    assert peak(first[:, :64], second[:, :64], turned=False) < 0.1
    assert peak(first[:, :64], first[:, 32:], turned=False) > COPY_PEAK


def test_copies_among_patches():
    first = np.stack([micrograph(seed, (EDGE, EDGE)) for seed in range(6)])
    second = 0.5 * np.stack([micrograph(seed, (EDGE, EDGE)) for seed in range(4, 12)])
    assert copied(first, second).tolist() == [False] * 4 + [True] * 2


def test_exact_turned_copies_among_patches():
    """As those that somebody made to have more patches."""
    first = np.stack([micrograph(seed, (EDGE, EDGE)) for seed in range(4)])
    second = np.stack([np.rot90(first[1]), first[3][:, ::-1], micrograph(9, (EDGE, EDGE))])
    assert copied(first, second).tolist() == [False, True, False, True]
    groups = clusters(np.concatenate([first, second]))
    assert groups[[1, 3]].tolist() == groups[[4, 5]].tolist()
    assert len(set(groups.tolist())) == 5
    # Flat patches show nothing in common.
    flat = np.zeros((2, EDGE, EDGE), np.float32)
    assert not copied(flat, flat).any()
    assert len(set(clusters(flat).tolist())) == 2


def test_groups_of_patches():
    image = micrograph(0, (64, 200))
    corners = [0, 8, 16, 100, 108, 160]
    patches = np.stack([image[:EDGE, x : x + EDGE] for x in corners])
    assert clusters(patches).tolist() == [0, 0, 0, 1, 1, 2]


# -- images


def test_images_are_split_as_a_whole():
    images = [labelled(f"d{k}", k) for k in range(8)]
    images += [labelled(f"c{k}", 20 + k, defects=False) for k in range(4)]
    splits = split_images(images, options(test_images=3, repeats=4, seed=1))
    for split in splits:
        parts = [names(part) for part in (split.train, split.validation, split.test)]
        assert sum(len(part) for part in parts) == 12
        assert parts[0] | parts[1] | parts[2] == names(images)
        assert len([image for image in split.test if image.has_defects]) == 3
        assert any(not image.has_defects for image in split.test)
        assert split.shared == ""
    assert len({frozenset(names(split.test)) for split in splits}) > 1
    again = split_images(images, options(test_images=3, repeats=4, seed=1))
    assert [names(split.test) for split in again] == [names(split.test) for split in splits]


@pytest.mark.parametrize(
    ("defects", "clean", "asked", "held"), [(13, 28, 0, 3), (13, 5, 4, 4), (4, 0, 0, 1), (2, 3, 0, 1)]
)
def test_published_protocol(defects, clean, asked, held):
    """Three of thirteen images with defects test, the others train; all images without defects only test."""
    images = [replace(labelled(f"d{k}", k), simulated=True) for k in range(defects)]
    images += [replace(labelled(f"c{k}", 100 + k, defects=False), simulated=True) for k in range(clean)]
    splits = split_images(images, options(protocol="dennler2021", test_images=asked, repeats=6, seed=1))
    assert len(splits) == 6
    for split in splits:
        assert split.validation == ()
        assert len(split.train) == defects - held
        assert all(image.has_defects for image in split.train)
        tested = Counter(image.has_defects for image in split.test)
        assert (tested[True], tested[False]) == (held, clean)
        assert not names(split.train) & names(split.test)
        assert (
            f"{defects - held} of {defects} images with defects to train on and {held} to test" in split.how
        )
        assert f"all {clean} without defects only tested" in split.how
    assert len({frozenset(names(split.train)) for split in splits}) > 1


def test_published_protocol_needs_two_images():
    with pytest.raises(ModelError, match=r"holds 1 image with defects out .* there is only 1"):
        split_images([labelled("a", 0)], options(protocol="dennler2021"))
    with pytest.raises(ModelError, match=r"holds 2 images with defects out .* there are only 2"):
        split_images([labelled("a", 0), labelled("b", 1)], options(protocol="dennler2021", test_images=2))


def inside(name, seed, size=40):
    """Marked in the middle, where no strip at the rim has any of it."""
    image = labelled(name, seed, defects=False, shape=(160, 160))
    image.mask[80 - size // 2 : 80 + size // 2, 80 - size // 2 : 80 + size // 2] = 1
    return image


def test_defects_in_the_middle_of_three_images_are_enough():
    images = [inside(f"d{k}", k) for k in range(3)]
    (split,) = split_images(images, options())
    assert len(split.test) == 1
    assert names(split.train) == names(split.validation)
    assert names(split.train) & names(split.test) == set()
    assert any(room(image, EDGE)[1] for image in split.validation)
    assert any(room(image, EDGE)[1] for image in split.train)
    assert "strips of the training images" in split.how
    for strip in split.validation:
        whole = next(image for image in images if image.sha256 == strip.sha256)
        parts = [part for part in split.train if part.sha256 == strip.sha256]
        # Nothing twice: what is cut out is in no part that is kept.
        assert sum(part.pixels.size for part in (*parts, strip)) <= whole.pixels.size
        held = Counter(value for part in (*parts, strip) for value in part.pixels.ravel().tolist())
        assert held <= Counter(whole.pixels.ravel().tolist())


def test_a_single_image_is_cut_into_strips():
    (split,) = split_images([labelled("d", 0, shape=(128, 256))], options())
    whole = micrograph(0, (128, 256))
    parts = (*split.train, *split.validation, *split.test)
    assert sum(part.pixels.size for part in parts) == whole.size
    assert sorted(np.concatenate([part.pixels.ravel() for part in parts])) == sorted(whole.ravel())
    assert all(part.has_defects for part in parts)
    assert "single image" in split.how


def test_frames_of_a_series_stay_together():
    images = [labelled(f"s[{k}]", k, group="s") for k in range(4)] + [labelled("t", 9), labelled("u", 10)]
    for split in split_images(images, options(repeats=5)):
        parts = [{image.group for image in part} for part in (split.train, split.test)]
        assert parts[0] & parts[1] == set()


@pytest.mark.parametrize(
    ("copy", "message"),
    [
        (lambda pixels: pixels, "a and b are the same image"),
        (lambda pixels: np.rot90(pixels[:, ::-1]).copy(), "a and b show the same exposure, whole or in part"),
        (lambda pixels: pixels[20:, 30:] ** 1.2, "a and b show the same exposure, whole or in part"),
    ],
)
def test_copies_are_refused_unless_forced(copy, message):
    pixels = micrograph(0)
    images = [labelled("a", 0, pixels=pixels), labelled("b", 0, pixels=copy(pixels)), labelled("c", 1)]
    with pytest.raises(ModelError, match=f"{message}; scores on copies .* too high"):
        split_images(images, options())
    (split,) = split_images(images, options(force=True))
    assert split.shared == message


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([labelled("a", 0, defects=False)], "No defect is marked in any of the images"),
        ([labelled("a", 0, shape=(40, 90))], "too small to be cut into parts for training and test"),
        ([inside("a", 0, size=12)], "a: it is the only image with defects, and they cannot be divided"),
        (
            [replace(labelled(name, k), mask=np.ones((128, 128), np.uint8)) for k, name in enumerate("ab")],
            "No labelled image has a clean place of 32 × 32 px",
        ),
    ],
)
def test_too_little(images, message):
    with pytest.raises(ModelError, match=message):
        split_images(images, options())


def test_cancelling():
    """Comparing images or patches with each other takes long."""
    for split, data in (
        (split_images, [labelled("a", 0), labelled("b", 1)]),
        (split_patches, patch_set([(0, 0), (0, 99), (99, 0), (99, 99)], [0, 1, 0, 1], known=False)),
    ):
        with pytest.raises(Cancelled):
            split(data, options(), lambda: True)


def test_too_many_test_images():
    with pytest.raises(ModelError, match="3 images with defects are to be held out, but there are only 3"):
        split_images([labelled(f"d{k}", k) for k in range(3)], options(test_images=3))


# -- patches


def patch_set(corners, labels, sources=None, *, known=True):
    """Patches of large images at given corners."""
    sources = np.array(["a"] * len(corners) if sources is None else sources)
    images = {name: micrograph(hash_of(name), (400, 400)) for name in np.unique(sources)}
    cut = np.stack(
        [images[s][y : y + EDGE, x : x + EDGE] for s, (y, x) in zip(sources, corners, strict=True)]
    )
    classes = ("Bulk", "Vacancy", "Fault")[: max(labels) + 1]
    at = np.array(corners, float) if known else None
    return PatchSet(cut, np.array(labels), classes, sources, at)


def hash_of(name):
    return sum(ord(letter) for letter in name)


def field(known=True):
    corners = [(y, x) for y in range(0, 360, 24) for x in range(0, 360, 24)]
    return patch_set(corners, [(y // 24 + x // 24) % 2 for y, x in corners], known=known)


def disjoint(patches, first, second):
    a, b = patches.corners[first], patches.corners[second]
    return (np.abs(a[:, None] - b[None]).max(axis=2) >= EDGE).all()


def test_positions_decide():
    patches = field()
    splits = split_patches(patches, options(repeats=3, seed=2))
    for split in splits:
        assert disjoint(patches, split.train, split.test)
        assert disjoint(patches, split.validation, split.test)
        parts = np.concatenate([split.train, split.validation, split.test])
        assert len(parts) == len(set(parts)) == len(patches) - split.dropped
        assert len(split.train) > 0.4 * len(patches)
        assert len(split.test) > 0.1 * len(patches)
        assert set(patches.labels[split.test]) == {0, 1}
    assert not np.array_equal(splits[0].test, splits[1].test)


def test_classes_of_one_place_are_trained_on_and_not_tested():
    patches = field()
    heap = patch_set([(y, x) for y in (4, 8, 12) for x in (5, 9)], [2] * 6)
    joined = replace(
        patches,
        pixels=np.concatenate([patches.pixels, heap.pixels]),
        labels=np.concatenate([patches.labels, heap.labels]),
        classes=heap.classes,
        source=np.concatenate([patches.source, heap.source]),
        corners=np.concatenate([patches.corners, heap.corners]),
    )
    (split,) = split_patches(joined, options())
    assert split.untested == ("Fault",)
    assert np.count_nonzero(joined.labels[split.train] == 2) == 6
    assert disjoint(joined, split.train, split.test)


def test_random_splits_of_overlapping_patches_are_refused_unless_forced():
    patches = field()
    with pytest.raises(
        ModelError, match="test patches share pixels with training patches; scores on training"
    ):
        split_patches(patches, options(split="random"))
    (split,) = split_patches(patches, options(split="random", force=True))
    assert "test patches share pixels with training patches" in split.shared


def test_contents_decide_where_positions_are_unknown():
    corners = [(y, x + d) for y in range(0, 360, 70) for x in range(0, 360, 70) for d in (0, 6)]
    labels = [k // 2 % 2 for k in range(len(corners))]
    known, patches = patch_set(corners, labels), patch_set(corners, labels, known=False)
    (split,) = split_patches(patches, options())
    assert disjoint(known, split.train, split.test)
    assert "groups that show no common pixels" in split.how
    with pytest.raises(ModelError, match="near-copies of training patches"):
        split_patches(patches, options(split="random"))


def test_several_images_are_split_by_image():
    sources = [name for name in "abcdef" for _ in range(8)]
    patches = patch_set([(40 * (k % 8), 0) for k in range(48)], [k % 2 for k in range(48)], sources)
    (split,) = split_patches(patches, options())
    assert set(patches.source[split.train]) & set(patches.source[split.test]) == set()
    assert "6 sources" in split.how


def test_every_class_of_two_sources_is_tested():
    """Each source shows one class, as in simulated tables: a quarter of the sources holds half of the classes."""
    corners = [(40 * (k % 6), 0) for k in range(36)]
    patches = patch_set(corners, [k // 12 for k in range(36)], [name for name in "abcdef" for _ in range(6)])
    for split in split_patches(patches, options(repeats=4)):
        assert split.untested == ()
        for part in (split.train, split.test):
            assert set(patches.labels[part]) == {0, 1, 2}
        assert set(patches.source[split.train]) & set(patches.source[split.test]) == set()


def test_patches_of_one_place_cannot_be_split():
    patches = patch_set([(k, k) for k in range(20)], [k % 2 for k in range(20)])
    for some in (patches, replace(patches, corners=None)):
        with pytest.raises(ModelError, match="no test without shared pixels is possible"):
            split_patches(some, options())


def test_overlap_is_that_of_the_squares():
    rng = np.random.default_rng(0)
    at = rng.integers(0, 300, (80, 2))
    first, second = (
        patch_set([tuple(p) for p in part], [0, 1] * 20, [*"ab"] * 20) for part in (at[:40], at[40:])
    )
    near = np.abs(first.corners[:, None] - second.corners[None]).max(axis=2) < EDGE
    expected = (near & (first.source[:, None] == second.source[None])).any(axis=1)
    assert 5 < expected.sum() < 35
    np.testing.assert_array_equal(overlapping(first, second), expected)


def test_the_same_pixels_under_two_names_are_found():
    first = patch_set([(0, 0), (100, 100)], [0, 1])
    renamed = replace(first, source=np.array(["b", "b"]))
    assert shared_between(first, renamed) == "2 of the 2 test patches are near-copies of training patches"
