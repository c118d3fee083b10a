"""What a classifier knows about the scale, and what is said about images of another one."""

import numpy as np
import pytest

from napari_hrstem_defects import Micrograph, Recipe, analyze
from napari_hrstem_defects.core.patches import PatchGrid, PatchTable
from napari_hrstem_defects.models import scale
from napari_hrstem_defects.models.contract import Contract
from napari_hrstem_defects.models.data import LabelledImage, PatchSet

CLASSES = ("Bulk", "Vacancy")


def lattice(period, shape, seed=0):
    """A square lattice of spots, its cell `period` px wide, with a little noise."""
    rng = np.random.default_rng(seed)
    y, x = np.indices(shape)
    a, b = rng.uniform(0, period, 2)
    spots = np.cos(2 * np.pi * (y - a) / period) + np.cos(2 * np.pi * (x - b) / period)
    return (0.5 + 0.1 * spots + rng.normal(0, 0.02, shape)).astype(np.float32)


def image(name, period, pixel_size_nm=None):
    pixels = lattice(period, (160, 160))
    return LabelledImage(name, pixels, np.zeros(pixels.shape, np.uint8), pixel_size_nm)


def patches(periods, sources, labels=None):
    pixels = np.stack([lattice(p, (64, 64), k) if p else noise(k) for k, p in enumerate(periods)])
    labels = np.zeros(len(pixels), np.int64) if labels is None else np.array(labels)
    return PatchSet(pixels, labels, CLASSES, np.array(sources))


def noise(seed):
    return np.random.default_rng(seed).uniform(0, 1, (64, 64)).astype(np.float32)


def contract(**known):
    return Contract("compact", "mine", CLASSES, 64, **known)


def test_scale_of_images():
    found = [image("a", 9, 0.02), image("b", 14, 0.03)]
    assert scale.pixel_sizes(found) == (0.02, 0.03)
    assert scale.image_periods(found) == pytest.approx((9, 14), rel=0.02)
    assert scale.pixel_sizes([*found, image("c", 9)]) is None
    blank = LabelledImage("d", noise(0), np.zeros((64, 64), np.uint8))
    assert scale.image_periods([*found, blank]) is None


def test_periods_of_patches():
    # One patch of each source was measured wrongly, and what is defective does not count.
    table = patches([10, 10, 20, 15, 15, 15, 8], [*"aaabbb", "c"], [0, 0, 0, 0, 0, 0, 1])
    assert scale.patch_periods(table, 64) == pytest.approx((10, 15), rel=0.03)
    assert scale.patch_periods(table, 32) == pytest.approx((5, 7.5), rel=0.03)
    # Nobody says which image they are from: the range of most.
    several = patches([10] * 6 + [14] * 6 + [25], [""] * 13)
    assert scale.patch_periods(several, 64) == pytest.approx((10, 14), rel=0.03)
    assert scale.patch_periods(patches([10, 0, 0], [*"aab"]), 64) is None
    assert scale.patch_periods(patches([10], ["a"], [1]), 64) is None


def test_an_image_of_the_same_scale():
    known = contract(pixel_size_nm=(0.02, 0.03), period_px=(10, 14))
    for pixel_size, period in ((0.02, 10.0), (0.02 / 1.29, 14 * 1.29), (None, None), (0.02, None)):
        assert scale.warnings(known, pixel_size, period) == ()
    assert scale.warnings(contract(), 5.0, 100.0) == ()
    # Resampled to twice as many pixels it has the scale of the training images.
    assert scale.warnings(known, 0.05, 6.0, 2.0) == ()


def test_an_image_of_another_scale():
    known = contract(pixel_size_nm=(0.02, 0.02), period_px=(10, 14))
    (sentence,) = scale.warnings(known, 0.1, 7.0)
    assert sentence == (
        "The classifier mine was trained at another scale than this image has (0.1 nm a pixel instead of 0.02, 7.0 px "
        "a lattice period instead of 10.0 to 14.0); do not trust its classes, or resample the image."
    )
    (sentence,) = scale.warnings(known, 0.02, 12.0, 2.0)
    assert "as its patches are resampled (0.01 nm a pixel instead of 0.02, 24.0 px" in sentence


class Known:
    """A classifier that only says what it is asked about."""

    name = "known"

    def __init__(self):
        self.asked = []

    def classify(self, pixels, grid):
        nothing = np.zeros(grid.counts, bool)
        return PatchTable(grid, nothing.astype(np.float32), 0.5, nothing, self.name)

    def warnings(self, grid, pixel_size_nm, period_px):
        self.asked.append((grid.size, pixel_size_nm, period_px))
        return ("Of another scale.",)


def test_an_analysis_says_it_once():
    classifier = Known()
    recipe = Recipe().replace({"classify.classifier": "known", "classify.patch_size": 64})
    found = analyze(Micrograph(lattice(12, (256, 256)), pixel_size_nm=0.05), recipe, classifier=classifier)
    ((size, pixel_size, period),) = classifier.asked
    assert (size, pixel_size) == (64, 0.05)
    assert period == pytest.approx(12, rel=0.02)
    assert found.warnings.count("Of another scale.") == 1


def test_what_a_trained_classifier_is_asked(monkeypatch):
    from napari_hrstem_defects.models.classifier import TrainedClassifier

    classifier = TrainedClassifier.__new__(TrainedClassifier)
    grid = PatchGrid((256, 256), 32)
    classifier.contract = contract(period_px=(10, 14))
    assert classifier.warnings(grid, None, 6.0) == ()  # 12 px in patches of 64
    assert len(classifier.warnings(grid, None, 12.0)) == 1
    classifier.contract = Contract("fft-ensemble", "mine", CLASSES, 64, period_px=(10, 14))
    assert classifier.warnings(grid, None, 12.0) == ()
