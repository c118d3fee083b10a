"""Steps of contrast in one lattice: no defects, and no place for defects to hide in."""

from __future__ import annotations

import numpy as np
import pytest

import napari_hrstem_defects as hd
from napari_hrstem_defects.core import domain_severity
from napari_hrstem_defects.core.interfaces import Band, phase_bands, step_bands
from napari_hrstem_defects.core.preprocessing import prepare
from napari_hrstem_defects.core.recipe import PreprocessParams

from .helpers import counted, crystal, fault, vectors

PERIOD = 12.0
SHAPE = (400, 420)
BASIS = vectors("square", PERIOD, 9.0)
X = np.arange(SHAPE[1])[None, :] * np.ones((SHAPE[0], 1))
Y = np.arange(SHAPE[0])[:, None] * np.ones((1, SHAPE[1]))
PAIR = (((0.0, 0.0), 1.0), ((0.35, 0.4), 0.5))
#: A straight interface across the image.
RIGHT = X > 210 + 0.15 * (Y - 200)


def film(lattice, bright=2.5, where=RIGHT, dose=300.0):
    """The same lattice brighter on one side."""
    return counted((0.15 + lattice) * np.where(where, bright, 1.0), dose)


def analyzed(image):
    return hd.analyze(hd.Micrograph(image))


@pytest.mark.parametrize("columns", [(((0.0, 0.0), 1.0),), PAIR])
@pytest.mark.parametrize("bright", [1.7, 2.5, 4.0])
def test_a_step_of_brightness_is_no_defect(columns, bright):
    analysis = analyzed(film(crystal(SHAPE, BASIS, columns), bright))
    assert not analysis.labels.any()


def test_the_step_alone_would_be_marked(monkeypatch):
    monkeypatch.setattr(domain_severity, "step_bands", lambda *_: [])
    assert (analyzed(film(crystal(SHAPE, BASIS, PAIR))).labels == 1).mean() > 0.05


def test_a_hole_at_the_step_is_found():
    lattice = crystal(SHAPE, BASIS)
    places = np.array([i * np.array(BASIS[0]) + j * np.array(BASIS[1]) for i in range(35) for j in range(35)])
    # The column of the interface that is nearest to the middle.
    at_step = np.abs(places[:, 1] - 210 - 0.15 * (places[:, 0] - 200))
    y, x = min(places[at_step < 0.7 * PERIOD], key=lambda place: abs(place[0] - 200))
    lattice *= 1 - np.exp(-((Y - y) ** 2 + (X - x) ** 2) / (2 * (0.7 * PERIOD) ** 2))
    analysis = analyzed(film(lattice, 1.45))
    marked = analysis.labels == 1
    assert marked[round(y) - 6 : round(y) + 7, round(x) - 6 : round(x) + 7].any()
    assert not marked[np.hypot(Y - y, X - x) > 5 * PERIOD].any()


def test_a_fault_across_the_step_is_found():
    slip = tuple(0.4 * np.array(BASIS[0]))
    lattice = fault((SHAPE[1], SHAPE[0]), BASIS, 200, slip).T
    analysis = analyzed(film(np.ascontiguousarray(lattice)))
    marked = (analysis.labels == 1)[195:206].any(axis=0)
    assert marked.mean() > 0.9
    assert not (analysis.labels == 1)[np.abs(Y - 200) > 5 * PERIOD].any()


def test_the_wall_of_a_brighter_grain_is_found():
    other = crystal(SHAPE, vectors("square", PERIOD, 31.0))
    image = counted(np.where(RIGHT, 2.5 * (0.15 + other), 0.15 + crystal(SHAPE, BASIS)), 300.0)
    analysis = analyzed(image)
    inside = np.abs(X - 210 - 0.15 * (Y - 200)) < 0.25 * PERIOD
    assert (analysis.labels == 1)[inside].mean() > 0.95


def prepared(image):
    return prepare(image, PERIOD, PreprocessParams())


def covered(bands, shape):
    out = np.zeros(shape, bool)
    for band in bands:
        out[band.rows, band.columns] = True
    return out


def test_only_sharp_steps():
    lattice = crystal(SHAPE, BASIS)
    for image, expected in (
        (film(lattice), 1),
        (counted((0.15 + lattice) * np.exp(X / 150), 300.0), 0),
        (counted(0.15 + lattice, 300.0), 0),
    ):
        view = prepared(image)
        severity = np.ones(view.values.shape, np.float32)
        found = step_bands(severity, view, 13, np.ones(severity.shape, bool))
        assert len(found) == expected


def test_band_of_a_step():
    view = prepared(film(crystal(SHAPE, BASIS)))
    shape = view.values.shape
    (band,) = step_bands(np.zeros(shape, np.float32), view, 13, np.ones(shape, bool))
    scale = view.scale.mean()
    distance = (X - 210 - 0.15 * (Y - 200)) * scale / np.hypot(1, 0.15)
    rows, columns = (np.rint((axis + 0.5) / scale - 0.5).astype(int) for axis in (band.rows, band.columns))
    expected = distance[np.minimum(rows, SHAPE[0] - 1), np.minimum(columns, SHAPE[1] - 1)]
    # The middle of the logarithm lies on the fainter side.
    assert 0 < np.median(band.distances - expected) < 1.1 * view.period_px
    assert (np.sign(expected) == np.sign(band.distances))[np.abs(expected) > 10].mean() > 0.99
    assert np.abs(band.distances).max() == pytest.approx(13 / 2 + 3.5 * view.period_px, abs=1)


def test_both_sides_must_be_intact():
    view = prepared(film(crystal(SHAPE, BASIS)))
    columns = np.arange(view.values.shape[1])[None, :] * np.ones((view.values.shape[0], 1))
    severity = np.where(columns > 140, 9.0, 0.0).astype(np.float32)
    assert not step_bands(severity, view, 13, np.ones(severity.shape, bool))


def test_steps_are_looked_for_where_asked():
    view = prepared(film(crystal(SHAPE, BASIS)))
    where = np.zeros(view.values.shape, bool)
    where[:, :100] = True
    assert not step_bands(np.zeros(where.shape, np.float32), view, 13, where)


def test_phases_are_levelled_by_distance():
    index = np.zeros((100, 120), np.uint8)
    index[:, 60:] = 1
    distance = np.abs(np.arange(120) - 59.5)
    severity = np.tile(np.maximum(20 - distance, 0).astype(np.float32), (100, 1))
    severity[48:52, 57:63] += 15
    bands = phase_bands(index, np.ones(index.shape, bool), 5, 8.0)
    assert len(bands) == 2
    found = covered(bands, index.shape)
    reach = 5 / 2 + 3.5 * 8.0
    assert found[:, distance < reach - 1].all()
    assert not found[:, distance > reach + 1].any()
    for band in bands:
        band.level(severity)
    spot = np.zeros(index.shape, bool)
    spot[48:52, 57:63] = True
    assert severity[spot].min() > 10
    assert np.abs(severity[~spot]).max() < 1


def test_no_interface_without_a_second_intact_domain():
    index = np.zeros((50, 60), np.uint8)
    index[:, 30:] = 1
    assert not phase_bands(index, index == 0, 5, 8.0)


def test_no_interface_between_domains_that_do_not_meet():
    index = np.zeros((60, 200), np.uint8)
    index[:, 80:120], index[:, 120:] = 2, 1
    assert not phase_bands(index, index != 2, 5, 8.0)
    # Nearer than the filters reach they do.
    assert len(phase_bands(index, index != 2, 5, 16.0)) == 2


def test_distances_that_do_not_stand_out_stay():
    values = np.array([[-2.0, -1.0, -3.0, 50.0, 60.0, 70.0, 9.0]], np.float32)
    places = np.arange(6)
    Band(0 * places, places, np.array([0, 0, 0, -1, -1, -1])).level(values)
    assert np.array_equal(values[0, :3], [-2.0, -1.0, -3.0])
    assert values[0, 3:6] == pytest.approx([-0.6745, 0, 0.6745], abs=0.01)
    assert values[0, 6] == 9
