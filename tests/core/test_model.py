"""One model patch with what follows from it."""

import numpy as np
import pytest

from napari_hrstem_defects.core.errors import Cancelled
from napari_hrstem_defects.core.metrics import auroc
from napari_hrstem_defects.core.model import fit_model
from napari_hrstem_defects.core.preprocessing import prepare
from napari_hrstem_defects.core.recipe import PreprocessParams, SymmetryParams
from napari_hrstem_defects.core.symmetry import rim_px

from .helpers import crystal, noisy, vectors

PERIOD = 12.0
SHAPE = (288, 432)
BASIS = vectors("oblique", PERIOD, 8.0)
PRE, SYM = PreprocessParams(), SymmetryParams()
PATCH = np.s_[8:80, 8:80]


def model_of(image, patch=PATCH):
    prepared = prepare(image, PERIOD, PRE)
    return prepared, fit_model(prepared, patch, PRE, SYM)


def test_perfect_crystal_is_standard_normal():
    prepared, model = model_of(noisy(crystal(SHAPE, BASIS), 0.2))
    severity = model.severity[model.judged(prepared)]
    assert np.median(severity) == pytest.approx(0, abs=0.5)
    assert 0.5 < severity.std() < 1.5
    assert severity.max() < 7
    assert model.patch == PATCH


def test_severity_is_the_standardised_distance():
    _, model = model_of(noisy(crystal(SHAPE, BASIS), 0.2))
    expected = (model.distances - model.null.mode) / model.null.sigma
    np.testing.assert_allclose(model.severity, expected, atol=1e-4)


def test_a_foreign_inset_stands_out():
    image = crystal(SHAPE, BASIS)
    image[100:200, 250:350] = crystal(SHAPE, vectors("square", PERIOD, 30.0))[100:200, 250:350]
    truth = np.zeros(SHAPE, bool)
    truth[100:200, 250:350] = True
    prepared, model = model_of(noisy(image, 0.15))
    severity = prepared.to_frame(model.severity)
    judged = np.zeros(prepared.values.shape, np.float32)
    judged[model.judged(prepared)] = 1
    # Half a kernel around the edge belongs to both.
    edge = np.zeros(SHAPE, bool)
    edge[88:212, 238:362] = True
    edge[112:188, 262:338] = False
    keep = (prepared.to_frame(judged) > 0.5) & ~edge
    assert auroc(severity[keep], truth[keep]) > 0.999
    assert np.median(severity[truth]) > 7


def test_energies_of_two_models_compete():
    """Each crystal leaves the least energy under its own model."""
    image = crystal(SHAPE, BASIS)
    image[:, 216:] = crystal(SHAPE, vectors("oblique", PERIOD, 35.0))[:, 216:]
    prepared, left = model_of(noisy(image, 0.2))
    right = fit_model(prepared, np.s_[8:80, 200:272], PRE, SYM)
    won = right.energies < left.energies
    assert won[:, 160:].mean() > 0.99
    assert won[:, :128].mean() < 0.01


def test_judged_leaves_out_the_rim():
    prepared, model = model_of(noisy(crystal(SHAPE, BASIS), 0.2))
    rim = rim_px(model.bank.kernel_px, prepared.period_px, prepared.values.shape)
    rows, columns = model.judged(prepared)
    assert (rows.start, columns.start) == (rim, rim)
    assert rows.stop == prepared.values.shape[0] - rim
    assert columns.stop == prepared.values.shape[1] - rim


def test_cancel():
    prepared = prepare(noisy(crystal(SHAPE, BASIS), 0.2), PERIOD, PRE)
    with pytest.raises(Cancelled):
        fit_model(prepared, PATCH, PRE, SYM, cancelled=lambda: True)
