"""The quick look: foreign places stand out, clean crystal is level."""

import numpy as np
import pytest

from napari_hrstem_defects.core.best_patch import BestPatch
from napari_hrstem_defects.core.metrics import auroc
from napari_hrstem_defects.core.preprocessing import prepare
from napari_hrstem_defects.core.preview import preview
from napari_hrstem_defects.core.recipe import PreprocessParams

from .helpers import crystal, noisy, vectors

PERIOD = 14.0
SHAPE = (300, 411)
BASIS = vectors("hexagonal", PERIOD, 5.0)
PATCH = BestPatch(63.5, 63.5, 96)


def look(image, patch=PATCH):
    return preview(prepare(image.astype(np.float32), PERIOD, PreprocessParams()), patch)


#: Away from the rim, where no neighbours are known, and from the wall.
INNER = np.s_[40:-40]
LEFT, RIGHT = np.s_[40:-40, 40:170], np.s_[40:-40, 230:-40]


def bicrystal():
    image = crystal(SHAPE, BASIS)
    image[:, 200:] = crystal(SHAPE, vectors("hexagonal", PERIOD, 25.0))[:, 200:]
    return image


@pytest.mark.parametrize("sigma", [0.05, 0.15])
@pytest.mark.parametrize(("x", "own", "other"), [(80.0, LEFT, RIGHT), (320.0, RIGHT, LEFT)])
def test_what_the_patch_does_not_show_stands_out(sigma, x, own, other):
    found = look(noisy(bicrystal(), sigma), BestPatch(150.0, x, 96))
    assert found.shape == SHAPE
    assert found.dtype == np.float32
    values = np.concatenate([found[own].ravel(), found[other].ravel()])
    assert auroc(values, np.arange(values.size) >= found[own].size) > 0.95


def test_clean_crystal_is_level():
    found = look(noisy(crystal(SHAPE, BASIS), 0.3))
    assert np.median(found) == pytest.approx(0, abs=0.02)
    assert found[INNER, INNER].std() < 0.5


def test_rim_of_clean_crystal_is_level():
    found = look(noisy(crystal(SHAPE, BASIS), 0.3))
    assert np.median(found[:6]) < 0.25


def test_gain_and_offset_do_not_matter():
    image = noisy(bicrystal(), 0.2)
    np.testing.assert_allclose(look(200 * image + 1000), look(image), atol=0.02)


@pytest.mark.parametrize("shape", [(96, 96), (64, 200), (131, 97)])
def test_small_images(shape):
    image = noisy(crystal(shape, BASIS), 0.1)
    found = look(image, BestPatch(shape[0] / 2, shape[1] / 2, 48))
    assert found.shape == shape
    assert np.isfinite(found).all()
