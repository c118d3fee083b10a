"""Probable types of regions, on hand-made crystals and in whole analyses."""

import numpy as np
import pytest

import napari_hrstem_defects as hd
from napari_hrstem_defects.core.best_patch import BestPatch
from napari_hrstem_defects.core.defect_types import TYPES, type_judge
from napari_hrstem_defects.core.domains import Domain, DomainMap
from napari_hrstem_defects.core.lattice import Lattice
from napari_hrstem_defects.core.preprocessing import prepare
from napari_hrstem_defects.core.recipe import PreprocessParams
from napari_hrstem_defects.core.regions import Region, find_regions
from napari_hrstem_defects.simulation import simulate

from .helpers import crystal, fault, glass, noisy, vectors

SHAPE = (256, 256)
PERIOD = 9.0
PATCH = BestPatch(40.0, 40.0, 60)
Y, X = np.mgrid[: SHAPE[0], : SHAPE[1]]
POLAR = (((0.0, 0.0), 1.0), ((0.3, 0.22), 0.5))


def judged(image, basis, mask, label=1, domains=None) -> Region:
    """The one region that a mask makes, with its type."""
    (a, b), (c, d) = basis
    lattice = Lattice((a, b), (c, d), PERIOD, 0.9)
    labels = mask.astype(np.uint8) * np.uint8(label)
    prepared = prepare(image.astype(np.float32), PERIOD, PreprocessParams())
    judge = type_judge(labels, prepared, lattice, PATCH, domains)
    (region,) = find_regions(labels, np.zeros(SHAPE, np.float32), judge=judge)
    assert region.type in TYPES
    assert 0 <= region.confidence <= 1
    return region


def spot(at, size):
    return size * np.exp(-0.5 * ((Y - at[0]) ** 2 + (X - at[1]) ** 2) / (0.16 * PERIOD) ** 2)


@pytest.mark.parametrize("dark_columns", [False, True])
@pytest.mark.parametrize(
    ("place", "size", "name"),
    [
        ((0, 0), -1.0, "vacancy-like"),
        ((0, 0), 1.0, "interstitial-like"),
        ((0.5, 0.5), 0.8, "interstitial-like"),
    ],
)
def test_point_defects(place, size, name, dark_columns):
    basis = vectors("square", PERIOD, 10.0)
    node = np.array([13, 15]) @ np.array(basis)
    node += np.round(np.linalg.solve(np.array(basis).T, np.array([150, 140]) - node)) @ np.array(basis)
    at = node + np.array(place) @ np.array(basis)
    image = crystal(SHAPE, basis) + spot(at, size)
    image = noisy(1 - image if dark_columns else image, 0.1)
    region = judged(image, basis, np.hypot(Y - at[0], X - at[1]) < 1.2 * PERIOD)
    assert region.type == name
    assert region.confidence > 0.8


def test_dislocation_core():
    basis = vectors("square", PERIOD, 20.0)
    angle = np.arctan2(Y - 150.3, X - 139.6) / (2 * np.pi)
    reciprocal = np.linalg.inv(np.array(basis)).T
    image = np.zeros(SHAPE)
    for h, k, size in ((1, 0, 1.0), (0, 1, 0.8), (1, 1, 0.5), (1, -1, 0.6)):
        g = h * reciprocal[0] + k * reciprocal[1]
        image += size * np.cos(2 * np.pi * (g[0] * Y + g[1] * X - h * angle))
    region = judged(noisy(image, 0.3), basis, np.hypot(Y - 150, X - 140) < 2 * PERIOD)
    assert region.type == "dislocation core"
    # The same mask on the undisturbed crystal.
    region = judged(noisy(crystal(SHAPE, basis), 0.1), basis, np.hypot(Y - 150, X - 140) < 2 * PERIOD)
    assert (region.type, region.confidence) == ("unknown", 0.0)


def band(at=160, half=1.2 * PERIOD):
    return np.abs(X - at) < half


def test_antiphase_wall():
    basis = vectors("square", PERIOD, 8.0)
    slip = tuple(0.5 * np.array(basis[0]) + 0.5 * np.array(basis[1]))
    region = judged(noisy(fault(SHAPE, basis, 160, slip, POLAR), 0.1), basis, band())
    assert region.type == "antiphase domain"


def test_walls_of_other_lattices():
    basis = vectors("square", PERIOD, 8.0)
    left = crystal(SHAPE, basis)
    for degrees in (6.0, 30.0):
        turned = crystal(SHAPE, vectors("square", PERIOD, 8.0 + degrees))
        region = judged(noisy(np.where(X < 160, left, turned), 0.1), basis, band())
        assert region.type == "grain boundary"
    # The same lattice, twice the contrast.
    region = judged(noisy(np.where(X < 160, left, 2.2 * left), 0.05), basis, band())
    assert region.type == "interface"


def test_areas():
    basis = vectors("square", PERIOD, 8.0)
    inside = np.hypot(Y - 150, X - 150) < 55
    left = crystal(SHAPE, basis, POLAR)
    turned = crystal(SHAPE, vectors("square", PERIOD, 30.0), POLAR)
    assert judged(noisy(np.where(inside, turned, left), 0.1), basis, inside).type == "second grain"
    lost = np.where(inside, 0.2 * glass(SHAPE, 2.0), left)
    assert judged(noisy(lost, 0.1), basis, inside).type == "amorphous"
    region = judged(noisy(lost, 0.1), basis, inside, label=2)
    assert region.type == "amorphous"
    assert region.confidence > 0.9


@pytest.mark.parametrize(
    ("relation", "name"),
    [
        ("rotated", "second grain"),
        ("inverted", "inversion domain"),
        ("shifted", "antiphase domain"),
        ("second phase", "second phase"),
    ],
)
def test_domains(relation, name):
    basis = vectors("square", PERIOD, 8.0)
    image = noisy(crystal(SHAPE, basis), 0.1)
    shape = prepare(image, PERIOD, PreprocessParams()).values.shape
    index = np.zeros(shape, np.uint8)
    index[:, shape[1] // 2 :] = 1
    domains = DomainMap(
        (
            Domain(PATCH, None, None, "reference", True, np.inf),
            Domain(PATCH, None, None, relation, False, 0.8),
        ),
        index,
    )
    mask = SHAPE[1] // 2 - 6 < X
    assert judged(image, basis, mask, domains=domains).type == name


def test_without_a_lattice_nothing_is_said():
    labels = np.ones((8, 8), np.uint8)
    assert type_judge(labels, None, None, None, None) is None
    region = find_regions(labels, np.zeros((8, 8)), judge=None)[0]
    assert (region.type, region.confidence) == ("unknown", 0.0)


@pytest.mark.parametrize(
    ("preset", "seed", "name"),
    [
        ("si_stacking_fault", 905, "intrinsic stacking fault"),
        ("si_extrinsic_fault", 906, "extrinsic stacking fault"),
        ("twin_lamella", 907, "twin lamella"),
        ("twin", 908, "second grain"),
    ],
)
def test_whole_analyses(preset, seed, name):
    options = {"shape": (512, 512), "px_per_period": 14.0, "dose": 600.0, "mode": "haadf"}
    analysis = hd.analyze(simulate(preset, seed, **options).micrograph)
    assert analysis.regions
    largest = analysis.regions[0]
    assert largest.type == name
    assert largest.confidence > 0.5
