"""One scale for what is lost, what is turned and what is in the cell: how often chance exceeds it, and what it sees."""

import numpy as np
import pytest
from scipy import ndimage

import napari_hrstem_defects as hd
from napari_hrstem_defects.core.calibration import false_marks_of
from napari_hrstem_defects.core.errors import Cancelled, RecipeError
from napari_hrstem_defects.core.preprocessing import prepare
from napari_hrstem_defects.core.recipe import PreprocessParams, SymmetryParams
from napari_hrstem_defects.core.severity import Model, severity_grid

from .helpers import crystal, fault, glass, noisy, vectors

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
    for seed, (kind, sigma) in enumerate(
        [
            ("oblique", 0.1),
            ("square", 0.2),
            ("hexagonal", 0.3),
            ("oblique", 0.4),
            ("centred rectangular", 0.15),
        ]
    ):
        analysis = analyzed(noisy(crystal((384, 384), vectors(kind, 12.0, 7.0 * seed)), sigma, seed))
        assert not analysis.labels.any()
        found += ndimage.label((analysis.severity > z) & analysis.judged, np.ones((3, 3)))[1]
        expected += false_marks_of(z, analysis.area_periods)
    assert 0 < found < expected


def test_clean_crystal_has_unit_severity():
    analysis = analyzed(noisy(crystal(SHAPE, BASIS), 0.15))
    inside = analysis.severity[analysis.judged]
    # The largest of four standardised maps: a bit above 0, hardly above 3.
    assert 0 < np.median(inside) < 1.3
    assert np.quantile(inside, 0.99) < 3.5
    assert analysis.severity.max() < analysis.threshold
    assert len(analysis.banks) == 2


@pytest.mark.parametrize("sigma", [0.05, 0.2])
def test_a_fault_stands_out_and_all_else_does_not(sigma):
    analysis = analyzed(noisy(fault(SHAPE, BASIS, 180, (6.0, 1.0)), sigma))
    judged = analysis.judged
    assert np.median(analysis.severity[(np.abs(X - 180) < 3) & judged]) > 2 * analysis.threshold
    assert analysis.severity[(np.abs(X - 180) > 40) & judged].max() < analysis.threshold


@pytest.mark.parametrize("weight", [0.0, 2.0])
def test_one_column_stands_out(weight):
    """A vacancy or a heavy column, in its own place and nowhere else."""
    image = crystal(SHAPE, BASIS)
    place = np.array(BASIS[0]) * 12 + np.array(BASIS[1]) * 11
    image += (weight - 1) * np.exp(-((Y - place[0]) ** 2 + (X - place[1]) ** 2) / 2 / (0.16 * 12) ** 2)
    analysis = analyzed(noisy(image, 0.05))
    peak = np.unravel_index(np.where(analysis.judged, analysis.severity, 0).argmax(), SHAPE)
    assert np.hypot(*(np.array(peak) - place)) < 9
    assert analysis.severity.max() > analysis.threshold
    assert len(analysis.regions) == 1
    assert np.hypot(*(np.array(analysis.regions[0].centroid) - place)) < 4


def test_severity_is_defined_everywhere_and_nothing_marked_where_not_judged():
    image = noisy(fault(SHAPE, BASIS, 180, (6.0, 1.0)), 0.1)
    image[40:70, 60:100] = np.nan
    analysis = analyzed(image)
    assert np.isfinite(analysis.severity).all()
    assert not analysis.judged[40:70, 60:100].any()
    assert not analysis.labels[~analysis.judged].any()
    rim = ~analysis.judged
    rim[8:-8, 8:-8] = False
    assert rim.sum() == analysis.judged.size - (SHAPE[0] - 16) * (SHAPE[1] - 16)
    # Not much beyond the hole and the rim is given up.
    assert analysis.judged[30:-30, 150:-30].all()


def test_gain_per_level_has_its_own_null():
    """A weaker, noisier substrate under a film is as clean as the film."""
    image = crystal(SHAPE, BASIS)
    image[150:] = 0.4 * image[150:] + 0.3
    analysis = analyzed(noisy(image, 0.08))
    assert not analysis.labels.any()
    assert not analysis.warnings


def test_domain_counts_for_itself():
    """Where another grain is intact it is compared with itself."""
    image = np.where(X < 160, crystal(SHAPE, BASIS), crystal(SHAPE, vectors("oblique", 12.0, 33.0)))
    image = noisy(image, 0.1)
    alone, both = analyzed(image), analyzed(image, domains__crystal="all")
    other = (X > 200) if alone.best_patch.x < 160 else (X < 120)
    inner = other & both.judged
    assert len(both.banks) == 2 * len(alone.banks) == 4
    assert np.median(alone.severity[inner]) > 2 * alone.threshold
    assert np.median(both.severity[inner]) < 1.5
    assert both.area_periods == pytest.approx(alone.area_periods)


def test_model_needs_a_patch_of_some_periods():
    prepared = prepare(noisy(crystal(SHAPE, BASIS), 0.1), 12.0, PreprocessParams())
    with pytest.raises(RecipeError, match="too few to learn the crystal") as caught:
        _ = Model(prepared, (slice(0, 4), slice(0, 4)), SymmetryParams()).wide
    assert str(caught.value).endswith(".")
    model = Model(prepared, (slice(20, 90), slice(30, 100)), SymmetryParams())
    banks, distances = zip(model.wide, model.narrow, strict=True)
    # 1.5 periods, and half of that for what sits in the cell.
    assert [bank.kernel_px for bank in banks] == [13, 7]
    assert {d.shape for d in distances} == {tuple(-(-n // 2) for n in prepared.values.shape)}
    with pytest.raises(Cancelled):
        _ = Model(prepared, (slice(20, 90), slice(30, 100)), SymmetryParams(), cancelled=lambda: True).wide


def test_grid_knows_interfaces_of_intact_lattices_only():
    image = np.where(X < 160, crystal(SHAPE, BASIS), crystal(SHAPE, vectors("oblique", 12.0, 33.0)))
    for crystal_, known in (("all", True), ("reference", False)):
        analysis = analyzed(noisy(image, 0.1), domains__crystal=crystal_)
        grid = severity_grid(
            analysis.field, analysis.prepared, analysis.domains, analysis.results["preprocess"].level, 13
        )
        assert (grid.interface is not None) == known
        if known:
            # In periods, 0 at the border.
            scale = analysis.prepared.scale[1] / 2
            columns = grid.interface[40]
            assert columns.argmin() == pytest.approx(160 * scale, abs=8)
            assert columns[int(40 * scale)] == pytest.approx(10, abs=1.2)


def test_glass_has_no_severity():
    analysis = analyzed(glass(SHAPE, 1.0).astype(np.float32))
    assert not analysis.severity.any()
    assert analysis.threshold is None
