"""Lattices of images of which tiles show none: small particles on a support, multiply twinned ones."""

import numpy as np
import pytest

from napari_hrstem_defects import Micrograph, analyze
from napari_hrstem_defects.core.image_lattice import reflection_period

from .helpers import crystal, glass, noisy, vectors

SHAPE = (448, 448)
Y, X = np.indices(SHAPE).astype(float)


def fivefold(period, turn_deg, radius, centre):
    """Five twins that share the columns of their boundaries, and the sector of each pixel, 0 beside them."""
    edge = period / np.sqrt(np.sin(np.radians(72)))
    angle = (np.degrees(np.arctan2(Y - centre[0], X - centre[1])) - turn_deg) % 360
    image, sector = np.zeros(SHAPE), (angle // 72).astype(int) + 1
    for k in range(5):
        first, second = np.radians([turn_deg + 72 * k, turn_deg + 72 * (k + 1)])
        basis = tuple((float(edge * np.sin(t)), float(edge * np.cos(t))) for t in (first, second))
        image[sector == k + 1] = crystal(SHAPE, basis, width=0.2, shift=centre)[sector == k + 1]
    beside = np.hypot(Y - centre[0], X - centre[1]) > radius
    image[beside], sector[beside] = 0, 0
    return image, sector


@pytest.mark.parametrize(("period", "turn", "radius"), [(9.0, 10.0, 120), (14.0, 50.0, 190)])
def test_fivefold_twinned_particle(period, turn, radius):
    image, sector = fivefold(period, turn, radius, (230.0, 210.0))
    support = 0.12 * glass(SHAPE, 0.2 * period, 1)
    found = analyze(Micrograph(noisy(image + support, 0.1)))
    assert found.lattice.period_px == pytest.approx(period, rel=0.03)
    assert len(found.domains.domains) == 5
    assert (found.labels[np.hypot(Y - 230, X - 210) > radius + 2 * period] == 2).mean() > 0.9
    assert (found.labels[np.hypot(Y - 230, X - 210) < radius - 2 * period] == 2).mean() < 0.01
    # One twin is the reference, the others are marked.
    marked = [np.mean(found.labels[sector == k] == 1) for k in range(1, 6)]
    assert sorted(np.round(marked).tolist()) == [0, 1, 1, 1, 1]


@pytest.mark.parametrize("seed", range(2))
def test_particle_of_an_eighth_of_the_side(seed):
    period, distance = 7.5, np.hypot(Y - 170, X - 290)
    particle = crystal(SHAPE, vectors("centred rectangular", period, 30.0), width=0.2)
    particle = np.where(distance < SHAPE[0] / 16, particle - particle.mean(), 0)
    found = analyze(Micrograph(noisy(particle + 0.12 * glass(SHAPE, 0.16 * period, seed), 0.05, seed)))
    assert found.lattice.period_px == pytest.approx(period, rel=0.03)
    assert any("of the image only" in each for each in found.warnings)
    assert (found.labels[distance > SHAPE[0] / 16 + 2 * period] == 2).mean() > 0.95
    assert (found.labels[distance < SHAPE[0] / 16 - 1.5 * period] == 0).mean() > 0.9


@pytest.mark.parametrize("period", [5.0, 12.0, 25.0])
def test_scale_from_reflections_of_a_small_part(period):
    image = glass(SHAPE, 3.0, 2)
    image[200:300, 100:200] += crystal((100, 100), vectors("square", period, 25.0)) / 0.2
    found = reflection_period(noisy(image, 0.3), np.ones(SHAPE, bool))
    assert found == pytest.approx(period, rel=0.15)
    assert reflection_period(np.ones(SHAPE), np.ones(SHAPE, bool)) is None


@pytest.mark.parametrize("noise", [0.3, 0.6])
def test_what_the_image_shows_to_be_no_translation_is_none_in_a_patch(noise):
    """A checkerboard of columns that differ by a third, which a patch alone does not show for certain."""
    y, x = np.indices((512, 512)) / 14
    black = (np.rint(y) + np.rint(x)) % 2
    columns = np.exp(-((y - np.rint(y)) ** 2 + (x - np.rint(x)) ** 2) / 0.08) * (1 + 0.3 * black)
    found = analyze(Micrograph(noisy(columns / columns.std(), noise / columns.std())))
    assert found.lattice.period_px == pytest.approx(14 * 2**0.5, rel=0.01)
