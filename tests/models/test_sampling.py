"""Patches from labelled images."""

import dataclasses

import numpy as np
import pytest

from napari_hrstem_defects.errors import Cancelled, ModelError
from napari_hrstem_defects.models.data import LabelledImage
from napari_hrstem_defects.models.sampling import grid_patches, room, sample_patches

EDGE = 32


def image(name="one", shape=(160, 200), seed=0, defect=(slice(60, 100), slice(80, 130)), pixels=None):
    rng = np.random.default_rng(seed)
    mask = np.zeros(shape, np.uint8)
    if defect is not None:
        mask[defect] = 1
    pixels = rng.random(shape).astype(np.float32) if pixels is None else pixels.astype(np.float32)
    return LabelledImage(name, pixels, mask)


def shown_area(patches):
    """Share of each patch that is bright, or dark where it was inverted; it must be less than half."""
    bright = (patches.pixels > 0.5).mean(axis=(1, 2))
    return np.minimum(bright, 1 - bright)


def test_balanced_and_seeded():
    images = [image("one"), image("two", seed=1)]
    first = sample_patches(images, EDGE, 30, seed=5)
    assert first.counts == {"non-defective": 30, "defective": 30}
    assert first.pixels.shape == (60, EDGE, EDGE)
    assert first.pixels.dtype == np.float32
    assert {name: int((first.source == name).sum()) for name in ("one", "two")} == {"one": 30, "two": 30}
    again, other = sample_patches(images, EDGE, 30, seed=5), sample_patches(images, EDGE, 30, seed=6)
    np.testing.assert_array_equal(first.pixels, again.pixels)
    assert not np.array_equal(first.pixels, other.pixels)


def test_the_one_and_ten_per_cent_rule():
    """The mask is the image, so a patch shows its own defect area."""
    defect = (slice(60, 80), slice(80, 104))
    shown = image(defect=defect, pixels=image(defect=defect).mask)
    patches = sample_patches([shown], EDGE, 60, seed=1)
    areas = shown_area(patches)
    assert (areas[patches.labels == 0] < 0.012).all()
    assert (areas[patches.labels == 1] > 0.098).all()


@pytest.mark.parametrize(
    ("other", "lost", "text", "code"),
    [
        # Shares of the patch in another symmetry and amorphous; class by the text and by the code of Dennler et al.
        (0.0, 0.0, 0, 0),
        (0.5, 0.0, 1, 1),
        (0.05, 0.0, -1, -1),
        (1.0, 0.0, 1, 0),
        (0.995, 0.0, 1, 0),
        (0.95, 0.0, 1, -1),
        (0.85, 0.0, 1, 1),
        (0.8, 0.2, 1, 1),
        (0.97, 0.03, 1, -1),
        (0.0, 1.0, 1, 1),
        (0.06, 0.06, 1, -1),
    ],
)
def test_a_patch_inside_another_symmetry(other, lost, text, code):
    mask = np.zeros(100 * 100, np.uint8)
    mask[: round(other * mask.size)] = 1
    mask[mask.size - round(lost * mask.size) :] = 2
    pixels = np.random.default_rng(0).random((100, 100), dtype=np.float32)
    one = LabelledImage("a", pixels, mask.reshape(100, 100))
    for image_, expected in ((one, text), (dataclasses.replace(one, secondary="clean"), code)):
        assert grid_patches([image_], 100).labels.tolist() == [expected]
        assert room(image_, 100) == (expected == 0, expected == 1)
    if (text, code) == (1, 0):
        clean = dataclasses.replace(one, name="b", mask=np.zeros_like(one.mask))
        half = dataclasses.replace(one, name="c", mask=(np.indices((100, 100))[0] > 50).astype(np.uint8))
        images = [dataclasses.replace(i, secondary="clean") for i in (one, half)]
        found = sample_patches(images, 100, 4)
        assert set(found.source[found.labels == 0]) == {"a"}
        assert set(sample_patches([one, half, clean], 100, 4).source[::2]) == {"b"}


def test_nothing_beyond_the_border_is_made_up():
    """A plane stays a plane when it is turned; mirrored or repeated pixels would bend it."""
    y, x = np.mgrid[:160, :200]
    plane = image(pixels=(y + 2 * x) / 560)
    patches = sample_patches([plane], 64, 40, seed=2)
    rows, columns = np.mgrid[:64, :64]
    design = np.column_stack([rows.ravel(), columns.ravel(), np.ones(64 * 64)])
    slopes = set()
    for patch in patches.pixels:
        coefficients, *_ = np.linalg.lstsq(design, patch.ravel(), rcond=None)
        # A step of the plane is 2e-3 to 4e-3; splines bend by a tenth of that at the rim of the image.
        assert np.abs(design @ coefficients - patch.ravel()).max() < 8e-4
        assert np.hypot(*coefficients[:2]) == pytest.approx(np.sqrt(5) / 560, rel=1e-3)
        slopes.add(round(float(np.degrees(np.arctan2(*coefficients[:2])))))
    assert len(slopes) > 30  # any angle, not right ones only


def test_inversion_of_intensity():
    bright = image(pixels=np.full((160, 200), 0.9) + 0.01 * image().pixels)
    means = sample_patches([bright], EDGE, 40, seed=3).pixels.mean(axis=(1, 2))
    assert 0.2 < (means < 0.5).mean() < 0.8
    np.testing.assert_allclose(np.where(means < 0.5, 1 - means, means), 0.905, atol=2e-3)


def test_unlabelled_areas_are_not_used():
    source = image()
    source.mask[:, :70] = 255
    shown = LabelledImage("x", (source.mask == 255).astype(np.float32), source.mask)
    patches = sample_patches([shown], EDGE, 40, seed=0)
    assert (shown_area(patches) < 0.27).all()


def test_small_images_give_patches_turned_by_right_angles():
    small = image(shape=(EDGE, 120), defect=(slice(0, 32), slice(60, 90)))
    patches = sample_patches([small], EDGE, 12, seed=0)
    windows = np.lib.stride_tricks.sliding_window_view(small.pixels, (EDGE, EDGE))
    for patch in patches.pixels:
        turned = [np.rot90(p, k) for p in (patch, patch[:, ::-1]) for k in range(4)]
        assert any(
            np.abs(windows - t).max(axis=(2, 3)).min() < 1e-3 for t in (*turned, *(1 - t for t in turned))
        )


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([image(defect=None)], "No labelled image has a place of 32 × 32 px with more than 10 % marked"),
        ([image(defect=(slice(None), slice(None)))], "No labelled image has a clean place of 32 × 32 px"),
        ([image(shape=(30, 200))], "one: the image is 30 × 200 px, less than a patch of 32 px"),
    ],
)
def test_what_cannot_be_sampled(images, message):
    with pytest.raises(ModelError, match=message):
        sample_patches(images, EDGE, 5)


def test_cancelling():
    with pytest.raises(Cancelled):
        sample_patches([image()], EDGE, 5, cancelled=lambda: True)


def test_masks_must_fit():
    with pytest.raises(ModelError, match="the labels have shape"):
        LabelledImage("x", np.zeros((4, 4), np.float32), np.zeros((4, 5), np.uint8))


def test_grid_of_an_analysis():
    source = image(shape=(64, 96), defect=(slice(0, 2), slice(0, 32)))
    source.mask[32:, 64:] = 255
    patches = grid_patches([source], EDGE)
    # 2 × 32 of 32 × 32 px is 6 %: neither clean nor defective; the last patch is not labelled.
    assert patches.labels.tolist() == [-1, 0, 0, 0, 0]
    assert patches.shares is not None
    assert patches.shares[0] == pytest.approx(2 / 32)
    np.testing.assert_array_equal(patches.pixels[1], source.pixels[:32, 32:64])
    assert patches.corners is not None
    assert patches.corners[1].tolist() == [0, 32]


def test_room():
    assert room(image(), EDGE) == (True, True)
    assert room(image(defect=None), EDGE) == (True, False)
    assert room(image(defect=(slice(None), slice(None))), EDGE) == (False, True)
    assert room(image(shape=(20, 20), defect=None), EDGE) == (False, False)
