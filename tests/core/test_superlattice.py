"""Antiphase boundaries that only the phase of a weak superlattice shows."""

from __future__ import annotations

import numpy as np
import pytest

from napari_hrstem_defects.core.lattice import Lattice
from napari_hrstem_defects.core.preprocessing import Prepared
from napari_hrstem_defects.core.superlattice import antiphase_significance

PERIOD = 8.0
TURN = np.deg2rad(17.0)


def crystal(order: float, noise: float, shape=(300, 340), *, boundary: bool = True, bend: float = 0.0):
    """A square lattice whose columns alternate by `order`, with the alternation reversed right of the middle."""
    y, x = np.indices(shape)
    u = (x * np.cos(TURN) + y * np.sin(TURN)) / PERIOD + bend * np.sin(2 * np.pi * y / 400)
    v = (-x * np.sin(TURN) + y * np.cos(TURN)) / PERIOD
    sign = np.where(boundary & (x > shape[1] / 2), -1.0, 1.0)
    image = np.cos(2 * np.pi * u) + np.cos(2 * np.pi * v) + sign * order * np.cos(np.pi * (u + v))
    values = (image + noise * np.random.default_rng(5).standard_normal(shape)).astype(np.float32)
    lattice = Lattice(
        (PERIOD * np.sin(TURN), PERIOD * np.cos(TURN)),
        (PERIOD * np.cos(TURN), -PERIOD * np.sin(TURN)),
        PERIOD,
        0.9,
    )
    return Prepared(values, values, values, shape, PERIOD), lattice


def significance(*args, **kwargs):
    prepared, lattice = crystal(*args, **kwargs)
    return antiphase_significance(prepared, lattice, np.ones(prepared.values.shape, bool))


@pytest.mark.parametrize(("order", "noise", "bend"), [(0.3, 0.1, 0.0), (0.15, 0.5, 0.0), (0.2, 0.3, 0.4)])
def test_opposite_phases_are_found_where_they_meet(order, noise, bend):
    found = significance(order, noise, bend=bend)
    rows = slice(40, -40)
    middle = found.shape[1] // 2
    near = slice(middle - round(PERIOD), middle + round(PERIOD))
    ridge = found[rows, near].max(axis=1)
    assert ridge.min() > 2.3
    assert np.median(ridge) > 3.9
    away = np.abs(np.arange(found.shape[1]) - middle) > 3 * PERIOD
    assert found[:, away].max() < 4


def test_nothing_is_found_without_boundary_order_or_crystal():
    assert significance(0.3, 0.1, boundary=False).max() < 1
    assert significance(0.0, 0.5).max() == 0
    prepared, lattice = crystal(0.3, 0.1)
    assert antiphase_significance(prepared, lattice, np.zeros(prepared.values.shape, bool)).max() == 0


def test_both_sides_must_be_crystal():
    prepared, lattice = crystal(0.3, 0.1)
    left = np.zeros(prepared.values.shape, bool)
    left[:, : left.shape[1] // 2 - 4] = True
    assert antiphase_significance(prepared, lattice, left).max() == 0


def test_jittering_scan_lines_are_no_superlattice():
    shape = (320, 320)
    shift = 0.5 * np.random.default_rng(3).standard_normal(shape[0])[:, None]
    y, x = np.indices(shape)
    values = np.cos(2 * np.pi * (x + shift) / PERIOD) + np.cos(2 * np.pi * y / PERIOD)
    values = values.astype(np.float32)
    prepared = Prepared(values, values, values, shape, PERIOD)
    lattice = Lattice((0.0, PERIOD), (PERIOD, 0.0), PERIOD, 0.9)
    assert antiphase_significance(prepared, lattice, np.ones(shape, bool)).max() < 2


def test_nothing_is_said_at_the_rim():
    # The transform is periodic: what a window sees there is partly the opposite rim, in whatever phase.
    found = significance(0.3, 0.1)
    rim = round(1.5 * PERIOD)
    inside = np.zeros(found.shape, bool)
    inside[rim:-rim, rim:-rim] = True
    assert found[inside].max() > 4
    assert found[~inside].max() == 0
