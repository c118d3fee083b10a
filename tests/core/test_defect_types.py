"""Probable types of regions, on hand-made crystals and in whole analyses."""

import numpy as np
import pytest

import napari_hrstem_defects as hd
from napari_hrstem_defects.core.best_patch import BestPatch
from napari_hrstem_defects.core.defect_types import FEATURES, region_classifier
from napari_hrstem_defects.core.lattice import Lattice, column_sense
from napari_hrstem_defects.core.preprocessing import prepare
from napari_hrstem_defects.core.recipe import PreprocessParams
from napari_hrstem_defects.core.regions import Region, find_regions
from napari_hrstem_defects.core.type_classifier import CONFIDENT, TYPES, UNKNOWN, default_classifier
from napari_hrstem_defects.simulation import simulate

from .helpers import crystal, glass, noisy, vectors

SHAPE = (256, 256)
PERIOD = 9.0
PATCH = BestPatch(40.0, 40.0, 60)
Y, X = np.mgrid[: SHAPE[0], : SHAPE[1]]
POLAR = (((0.0, 0.0), 1.0), ((0.3, 0.22), 0.5))
SQUARE = vectors("square", PERIOD, 8.0)


def seen(image, basis, mask, label=1):
    """Prepared image, lattice and labels of one region."""
    (a, b), (c, d) = basis
    lattice = Lattice((a, b), (c, d), PERIOD, 0.9)
    labels = mask.astype(np.uint8) * np.uint8(label)
    return labels, prepare(image.astype(np.float32), PERIOD, PreprocessParams()), lattice, PATCH, None


def classified(image, basis, mask, label=1) -> Region:
    """The one region that a mask makes, with its type."""
    inputs = seen(image, basis, mask, label)
    (region,) = find_regions(
        inputs[0], np.zeros(SHAPE, np.float32), lattice=inputs[2], classify=region_classifier(*inputs)
    )
    assert region.type in TYPES
    assert 0 <= region.confidence <= 1
    return region


def features(image, basis, mask, label=1) -> dict[str, float]:
    """Features of the one region that a mask makes."""
    inputs = seen(image, basis, mask, label)
    known = region_classifier(*inputs)
    found = []
    find_regions(
        inputs[0],
        np.zeros(SHAPE, np.float32),
        lattice=inputs[2],
        classify=lambda region, part: found.append(known.features(region)) or UNKNOWN,
    )
    assert set(found[0]) == set(FEATURES)
    assert np.isfinite(list(found[0].values())).all()
    return found[0]


def column(basis, place=(0.0, 0.0)):
    """Point of the frame near (150, 140) at a place in the cell."""
    node = np.round(np.linalg.solve(np.array(basis).T, np.array([150, 140]))) @ np.array(basis)
    return node + np.array(place) @ np.array(basis)


def spot(at, size):
    return size * np.exp(-0.5 * ((Y - at[0]) ** 2 + (X - at[1]) ** 2) / (0.16 * PERIOD) ** 2)


# Features ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dark_columns", [False, True])
@pytest.mark.parametrize(("place", "size"), [((0, 0), -1.0), ((0, 0), 1.0), ((0.5, 0.5), 0.8)])
def test_sign_of_a_point_follows_the_sense_of_the_columns(place, size, dark_columns):
    at = column(SQUARE, place)
    image = crystal(SHAPE, SQUARE) + spot(at, size)
    image = noisy(1 - image if dark_columns else image, 0.1)
    found = features(image, SQUARE, np.hypot(Y - at[0], X - at[1]) < 1.2 * PERIOD)
    assert found["spot_brighter"] * size > 0.5
    assert (found["spot_excess"] > 0.3) == (place == (0, 0) and size > 0)


HEXAGONAL = vectors("hexagonal", PERIOD, 5.0)
TRIANGULAR = (((0.0, 0.0), 1.0),)
HONEYCOMB = (((1 / 3, 1 / 3), 1.0), ((2 / 3, 2 / 3), 1.0))


@pytest.mark.parametrize("sense", [1, -1])
@pytest.mark.parametrize("columns", [TRIANGULAR, HONEYCOMB])
def test_columns_are_told_from_the_hollows_between_them(columns, sense):
    image = noisy(sense * crystal(SHAPE, HEXAGONAL, columns), 0.3)
    assert sense * column_sense(image[:100, :100] - image[:100, :100].mean(), np.array(HEXAGONAL)) > 0.9


@pytest.mark.parametrize("sense", [1, -1])
def test_sense_of_three_waves_is_unknown(sense):
    basis = np.array(HEXAGONAL)
    waves = np.array([(1, 0), (0, 1), (1, 1), (1, -1)]) @ np.linalg.inv(basis).T
    waves = waves[np.argsort(np.hypot(*waves.T))[:3]]
    # Columns, or six of the other sense around each place between them: the image does not tell.
    image = sense * np.cos(2 * np.pi * (waves[:, :1, None] * Y + waves[:, 1:, None] * X)).sum(axis=0)
    at = column(basis, (0.0, 0.0) if sense < 0 else (1 / 3, 1 / 3))
    image = noisy(image + spot(at, 3.0), 0.1)
    mask = np.hypot(Y - at[0], X - at[1]) < 1.2 * PERIOD
    found = features(image, basis, mask)
    assert found["spot_contrast"] > 0.5
    assert abs(found["spot_brighter"]) < 0.2
    assert classified(image, basis, mask).type not in ("vacancy-like", "interstitial-like")


# Types ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "wrong"), [(-1.0, "interstitial-like"), (1.0, "vacancy-like"), (2.5, "vacancy-like")]
)
def test_bright_points_are_no_vacancies(size, wrong):
    at = column(SQUARE)
    image = noisy(crystal(SHAPE, SQUARE) + spot(at, size), 0.1)
    region = classified(image, SQUARE, np.hypot(Y - at[0], X - at[1]) < 1.2 * PERIOD)
    assert region.type != wrong
    assert region.type in ("interstitial-like" if size > 0 else "vacancy-like", "unknown")


def test_areas():
    inside = np.hypot(Y - 150, X - 150) < 55
    own = crystal(SHAPE, SQUARE, POLAR)
    lost = noisy(np.where(inside, 0.2 * glass(SHAPE, 2.0), own), 0.1)
    assert classified(lost, SQUARE, inside, label=2).type == "amorphous"
    # Ordered crystal is not amorphous, whatever its label says.
    turned = noisy(np.where(inside, crystal(SHAPE, vectors("square", PERIOD, 30.0), POLAR), own), 0.1)
    assert classified(turned, SQUARE, inside, label=2).type != "amorphous"


def test_what_is_unlike_all_simulations_is_unknown():
    classifier = default_classifier()
    for name, centre in zip(classifier.types, classifier.centres, strict=True):
        middle = classifier.mean + centre * classifier.scale
        typical = dict(zip(classifier.features, middle.tolist(), strict=True))
        signs = (-1.0) ** np.arange(len(middle))
        far = dict(zip(classifier.features, (middle + 4 * signs * classifier.scale).tolist(), strict=True))
        assert classifier.familiarity(typical, name) == 1
        assert classifier.familiarity(far, name) < CONFIDENT
        assert classifier.classify(far) == UNKNOWN


def test_probabilities_and_confidence():
    classifier = default_classifier()
    assert set(classifier.types) <= set(TYPES)
    assert set(classifier.features) == set(FEATURES)
    for name, centre in zip(classifier.types, classifier.centres, strict=True):
        values = dict(
            zip(classifier.features, (classifier.mean + centre * classifier.scale).tolist(), strict=True)
        )
        found = classifier.probabilities(values)
        assert sum(found.values()) == pytest.approx(1)
        kind, confidence = classifier.classify(values)
        assert kind == name
        assert confidence == 0 if name == "unknown" else confidence >= CONFIDENT


def test_without_a_lattice_nothing_is_said():
    labels = np.ones((8, 8), np.uint8)
    assert region_classifier(labels, None, None, None, None) is None
    region = find_regions(labels, np.zeros((8, 8)), classify=None)[0]
    assert (region.type, region.confidence) == UNKNOWN


@pytest.mark.parametrize(
    ("preset", "seed", "name"),
    [
        ("si_stacking_fault", 905, "intrinsic stacking fault"),
        ("si_extrinsic_fault", 906, "extrinsic stacking fault"),
        ("twin_lamella", 907, "twin lamella"),
        ("twin", 908, "second grain"),
        ("inversion_domain", 907, "inversion domain"),
        ("antiphase_boundary", 907, "antiphase domain"),
        ("dislocation", 906, "dislocation core"),
        ("amorphous", 905, "amorphous"),
    ],
)
def test_whole_analyses(preset, seed, name):
    options = {"shape": (512, 512), "px_per_period": 14.0, "dose": 600.0, "mode": "haadf"}
    analysis = hd.analyze(simulate(preset, seed, **options).micrograph)
    assert analysis.regions
    largest = analysis.regions[0]
    assert largest.type == name
    assert largest.confidence > 0.5
