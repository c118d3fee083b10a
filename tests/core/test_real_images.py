"""Experimental micrographs as other people might send them: cropped, turned, enlarged, shaded."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

import napari_hrstem_defects as hd
from napari_hrstem_defects.core.metrics import IGNORE, dice

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "real"

pytestmark = pytest.mark.skipif(not REAL.is_dir(), reason="no real images here")


def read(name):
    """Pixels and truth: 0 and 2 the two grains, 1 defect."""
    with Image.open(REAL / f"{name}_mask.png") as picture:
        truth = np.asarray(picture.convert("L"), np.uint8)
    return hd.read(REAL / f"{name}.tif").frame().pixels, truth


def turned(image, angle, order):
    """The square in the middle that holds no corner of the turned image."""
    whole = ndimage.rotate(image, angle, reshape=False, order=order, mode="mirror")
    edge = int(min(image.shape) / np.sqrt(2))
    start = (min(image.shape) - edge) // 2
    return whole[start : start + edge, start : start + edge]


def enlarged(image, factor, order):
    return ndimage.zoom(image, factor, order=order)


def better_dice(analysis, truth):
    """Either grain may be the reference."""
    ignored = truth == IGNORE
    return max(dice(analysis.labels > 0, truth != reference, True, ignored) for reference in (0, 2))


@pytest.mark.parametrize(
    "change",
    [
        lambda image, order: turned(image, 20, order),
        lambda image, order: enlarged(image, 1.5, order),
        lambda image, order: enlarged(image, 0.7, order),
        lambda image, order: image[74:458, 57:441],
    ],
    ids=["turned", "enlarged", "reduced", "cropped"],
)
def test_grains_at_a_very_low_dose(change):
    """Noise that is no longer white, and patches in the middle in which the grains meet."""
    pixels, truth = read("graphene_gb_4nm")
    found = hd.analyze(hd.Micrograph(np.ascontiguousarray(change(pixels, 3), np.float32)))
    assert better_dice(found, change(truth, 0)) > 0.94


def test_fault_that_is_faint_everywhere():
    pixels, truth = read("fcc_esf_image2_2")
    pixels, truth = pixels[:, 256:], truth[:, 256:]
    found = hd.analyze(hd.Micrograph(np.ascontiguousarray(pixels)))
    assert dice(found.labels > 0, truth == 1, True, truth == IGNORE) > 0.7


def test_layers_no_higher_than_a_patch_are_phases():
    """Neither is a defect, and neither is hidden in a best patch that holds some of both."""
    pixels, _ = read("pto_sro")
    found = hd.analyze(hd.Micrograph(pixels))
    assert {domain.relation for domain in found.domains.domains} <= {"reference", "second phase"}
    assert not found.labels.any()
    assert not found.warnings
