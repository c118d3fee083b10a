"""One scale for what is lost, what is turned and what is in the cell: how often chance exceeds it, and what it sees."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import ndimage

import napari_hrstem_defects as hd
from napari_hrstem_defects.core.calibration import false_marks_of, severity_of
from napari_hrstem_defects.core.severity import Grid, domain_severity, inverted_areas

from .helpers import crystal, fault, noisy, prepared_of, vectors

SHAPE = (288, 320)
BASIS = vectors("oblique", 12.0, 8.0)
Y, X = np.indices(SHAPE)


def analyzed(image, **params):
    recipe = hd.Recipe().replace({name.replace("__", "."): value for name, value in params.items()})
    return hd.analyze(hd.Micrograph(image), recipe)


@pytest.mark.slow
def test_no_more_false_marks_than_expected():
    """In clean crystals of several kinds and noises, peaks above a severity are at most as many as it says."""
    found, expected, z = 0, 0.0, 3.0
    kinds = (
        ("oblique", 0.1),
        ("square", 0.2),
        ("hexagonal", 0.3),
        ("oblique", 0.4),
        ("centred rectangular", 0.15),
    )
    for seed, (kind, sigma) in enumerate(kinds):
        analysis = analyzed(noisy(crystal((384, 384), vectors(kind, 12.0, 7.0 * seed)), sigma, seed))
        assert not analysis.labels.any()
        found += ndimage.label((analysis.severity > z) & analysis.valid_mask, np.ones((3, 3)))[1]
        expected += false_marks_of(z, analysis.area_periods)
    assert 0 < found < expected


def test_clean_crystal_has_unit_severity():
    analysis = analyzed(noisy(crystal(SHAPE, BASIS), 0.15))
    inside = analysis.severity[analysis.valid_mask]
    # The largest of four standardised maps: a bit above 0, hardly above 3.
    assert 0 < np.median(inside) < 1.3
    assert np.quantile(inside, 0.99) < 3.5
    assert analysis.severity.max() < analysis.threshold
    assert len(analysis.banks) == 2


@pytest.mark.parametrize("weight", [0.0, 2.0, 4.0])
def test_one_column_stands_out(weight):
    """A vacancy or a heavy column, in its own place and nowhere else."""
    image = crystal(SHAPE, BASIS)
    place = np.array(BASIS[0]) * 12 + np.array(BASIS[1]) * 11
    image += (weight - 1) * np.exp(-((Y - place[0]) ** 2 + (X - place[1]) ** 2) / 2 / (0.16 * 12) ** 2)
    analysis = analyzed(noisy(image, 0.05))
    peak = np.unravel_index(np.where(analysis.valid_mask, analysis.severity, 0).argmax(), SHAPE)
    assert np.hypot(*(np.array(peak) - place)) < 9
    assert analysis.severity.max() > analysis.threshold
    assert not analysis.amorphous.any()
    assert len(analysis.regions) == 1
    assert np.hypot(*(np.array(analysis.regions[0].centroid) - place)) < 4


def test_severity_is_defined_everywhere_and_nothing_marked_where_not_judged():
    image = noisy(fault(SHAPE, BASIS, 180, (6.0, 1.0)), 0.1)
    image[40:70, 60:100] = np.nan
    analysis = analyzed(image)
    assert any("1200 pixels" in text for text in analysis.warnings)
    assert np.isfinite(analysis.severity).all()
    assert not analysis.valid_mask[40:70, 60:100].any()
    assert not analysis.labels[~analysis.valid_mask].any()
    rim = ~analysis.valid_mask
    rim[8:-8, 8:-8] = False
    assert rim.sum() == analysis.valid_mask.size - (SHAPE[0] - 16) * (SHAPE[1] - 16)
    # Not much beyond the hole and the rim is given up.
    assert analysis.valid_mask[30:-30, 150:-30].all()


@pytest.mark.parametrize(("period", "sigma"), [(32.0, 0.15), (45.0, 0.3)])
def test_small_hole_is_no_crystal_of_its_own_contrast(period, sigma):
    """Four periods across, in an image of eleven: half of what shows so little contrast is the hole itself."""
    size = round(11.5 * period)
    y, x = np.indices((size, size)) - 0.55 * size
    image = -crystal((size, size), vectors("hexagonal", period, 8.0), width=0.17)
    hole = np.hypot(y, x) < 2 * period
    found = analyzed(noisy(np.where(hole, image.max(), image), sigma))
    assert (found.labels[hole] > 0).mean() > 0.95
    assert not found.labels[np.hypot(y, x) > 3.5 * period].any()


def test_template_distances_of_a_crystal_that_is_mostly_disturbed_stand_out():
    """Boundaries on three quarters of it: the lower quantiles hold them, too, and look like a wide null."""
    shape = (80, 80)
    distances = np.random.default_rng(0).normal(0, 0.1, shape).astype(np.float32)
    distances[:, 20:] += np.linspace(0, 3, 60, dtype=np.float32)
    flat, everywhere = np.zeros(shape, np.float32), np.ones(shape, bool)
    grid = Grid(flat, flat + 1, flat.astype(np.uint8), flat, None, everywhere, 4.0)
    model = SimpleNamespace(wide=(None, distances), narrow=(None, flat))
    severity, _ = domain_severity(grid, model, everywhere, ~everywhere)
    assert np.median(severity[:, 70:]) > severity_of(0.05, 400) > severity[:, :20].max()


@pytest.mark.parametrize(("elsewhere", "usual", "there"), [(1.0, 0.0, 1), (0.1, 0.0, 0), (1.0, 2.0, 0)])
def test_what_fits_better_when_turned_is_inverted_only_where_all_else_fits_worse(elsewhere, usual, there):
    """A defect in the model patch makes the turned model fit the patch worse, but not the crystal.

    And where the crystal is further from the patch than the polarities are from each other, neither is known.
    """
    area = np.zeros((80, 80), bool)
    area[20:50, 20:60] = True
    direct = np.full(area.shape, usual, np.float32)
    turned = direct + np.where(area, -0.9, elsewhere).astype(np.float32)
    model = SimpleNamespace(wide=(None, direct), inverse=(0.0, 1.0, turned), prepared=prepared_of(area))
    found = inverted_areas(model, np.ones(area.shape, bool), 4.0)
    assert found.any() == there
    assert not found[~ndimage.binary_dilation(area, iterations=6)].any()
