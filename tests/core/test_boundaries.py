"""Boundaries of hand-made bicrystals: where they are, how high by the formula, and nothing where there are none."""

from math import erf, sqrt
from pathlib import Path

import numpy as np
import pytest

from napari_hrstem_defects.core.boundaries import POWER_FLOOR, REACH_PERIODS, WINDOW_PERIODS, boundary_map
from napari_hrstem_defects.core.errors import Cancelled
from napari_hrstem_defects.core.lattice import typical_lattice
from napari_hrstem_defects.core.metrics import auroc
from napari_hrstem_defects.core.preprocessing import Prepared, prepare
from napari_hrstem_defects.core.recipe import PreprocessParams

from .helpers import crystal, fault, noisy, vectors

PERIOD = 9.0
SHAPE = (230, 250)
REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "real"


def mapped(image, period=PERIOD):
    return boundary_map(prepare(np.asarray(image, np.float32), period, PreprocessParams()))


def side(angle_deg, shape=SHAPE):
    """Distance from a line through the middle along (sin, cos) of the angle, in px."""
    t = np.radians(angle_deg)
    y, x = np.indices(shape) - (np.array(shape)[:, None, None] - 1) / 2
    return y * np.cos(t) - x * np.sin(t)


def mirrored(kind, period=PERIOD):
    """Basis vectors of the crystal mirrored at a vertical plane: its twin."""
    return tuple((y, -x) for y, x in vectors(kind, period, 20))


#: What lies beyond the boundary of a crystal of ("oblique", 20°).
NEIGHBOURS = {
    "turned": vectors("oblique", PERIOD, 38),
    "twin": mirrored("oblique"),
    "other cell": vectors("square", PERIOD, 20),
    "finer": vectors("oblique", 0.75 * PERIOD, 20),
}


def bicrystal(neighbour, angle, noise=0.3, seed=0):
    one, other = crystal(SHAPE, vectors("oblique", PERIOD, 20)), crystal(SHAPE, NEIGHBOURS[neighbour])
    return noisy(np.where(side(angle) < 0, one, other), noise, seed)


@pytest.mark.parametrize("neighbour", NEIGHBOURS)
@pytest.mark.parametrize("angle", [0, 27, 90, 135])
def test_boundary_is_found_in_its_place(neighbour, angle):
    found = mapped(bicrystal(neighbour, angle))
    assert found.shape == SHAPE
    assert found.dtype == np.float32
    distance = np.abs(side(angle))
    assert auroc(found, distance < 0.7 * PERIOD) > 0.96
    # Highest on the boundary: where it is compared across straight ahead, within what blocks resolve.
    assert np.median(distance[found > np.quantile(found, 0.995)]) < PERIOD
    assert np.median(found[distance < 0.3 * PERIOD]) > 2.5 * np.median(found[distance > 4 * PERIOD])


@pytest.mark.parametrize("angles", [(0, 90), (10, 75), (30, -20)])
def test_height_between_two_waves_follows_from_the_formula(angles):
    """√2 cos(k·r) has the power 1 and the autocorrelation cos(k·s); the window mixes both sides like an erf."""
    period, shape = 8.0, (200, 200)
    y, x = np.indices(shape)
    waves = [(np.sin(np.radians(a)) / period, np.cos(np.radians(a)) / period) for a in angles]
    one, other = (sqrt(2) * np.cos(2 * np.pi * (ky * y + kx * x)) for ky, kx in waves)
    values = np.where(side(0, shape) < 0, one, other).astype(np.float32)
    found = boundary_map(Prepared(values, values, np.ones_like(values), shape, period))
    # Mean over all shifts of the ring, by quadrature.
    r = np.sqrt(np.linspace(0.4**2, 1.5**2, 400))[:, None] * period
    t = np.linspace(0, 2 * np.pi, 400, endpoint=False)[None]
    one, other = (np.cos(2 * np.pi * r * (ky * np.sin(t) + kx * np.cos(t))) for ky, kx in waves)
    mixing = np.prod([erf(reach / WINDOW_PERIODS / sqrt(2)) for reach in REACH_PERIODS])
    expected = sqrt(np.mean((one - other) ** 2) * mixing) / (1 + POWER_FLOOR)
    height = found[60:140, 40:160].max(axis=0)
    assert np.median(height) == pytest.approx(expected, rel=0.15)
    assert found[:60].max() < 0.25 * expected


@pytest.mark.parametrize("kind", ["square", "hexagonal", "oblique", "centred rectangular"])
@pytest.mark.parametrize("angle", [0, 13, 45])
def test_one_crystal_has_no_boundary(kind, angle):
    """Its rims neither, where filters that mirror the image would see its twin."""
    found = mapped(noisy(crystal(SHAPE, vectors(kind, PERIOD, angle)), 0.1))
    # Boundaries of the same noise reach 0.25...0.45.
    assert found.max() < 0.13
    assert np.median(found) < 0.05


def test_fault_between_equal_halves_is_no_boundary():
    basis = vectors("square", PERIOD, 0)
    found = mapped(noisy(fault(SHAPE, basis, 125, (0.5 * PERIOD, 0.0)), 0.1))
    turned = np.where(
        np.indices(SHAPE)[1] < 125, crystal(SHAPE, basis), crystal(SHAPE, vectors("square", PERIOD, 30))
    )
    assert found[40:-40].max() < 0.5 * np.median(mapped(noisy(turned, 0.1))[40:-40, 125])


def test_brightness_and_contrast_do_not_matter():
    image = bicrystal("turned", 27)
    np.testing.assert_allclose(mapped(50 - 3 * image), mapped(image), atol=2e-3)
    # A step of thickness within one crystal is none of its boundaries.
    one = crystal(SHAPE, vectors("oblique", PERIOD, 20))
    stepped = noisy(np.where(side(60) < 0, one, 0.3 + 1.5 * one), 0.05)
    assert (
        mapped(stepped)[np.abs(side(60)) > PERIOD].max() < 0.3 * mapped(bicrystal("turned", 60, 0.05)).max()
    )


def test_turned_image_gives_turned_map():
    image = bicrystal("twin", 27)
    found = mapped(image)
    for turned, back in ((image.T, lambda m: m.T), (image[::-1, ::-1], lambda m: m[::-1, ::-1])):
        again = back(mapped(np.ascontiguousarray(turned)))
        assert np.corrcoef(found.ravel(), again.ravel())[0, 1] > 0.97


def test_same_every_time_and_input_untouched():
    prepared = prepare(bicrystal("finer", 90), PERIOD, PreprocessParams())
    before = prepared.values.copy()
    np.testing.assert_array_equal(boundary_map(prepared), boundary_map(prepared))
    np.testing.assert_array_equal(prepared.values, before)


@pytest.mark.parametrize("shape", [(30, 200), (200, 24), (8, 8), (39, 41)])
def test_small_images(shape):
    found = mapped(noisy(crystal(shape, vectors("square", PERIOD)), 0.1))
    assert found.shape == shape
    assert np.isfinite(found).all()
    if min(shape) < 3 * PERIOD:
        assert not found.any()


def test_cancelling():
    prepared = prepare(bicrystal("twin", 0), PERIOD, PreprocessParams())
    with pytest.raises(Cancelled):
        boundary_map(prepared, cancelled=lambda: True)


@pytest.mark.parametrize(
    ("name", "least"),
    [("cdte_twin_haadf26", 0.95), ("au_gb", 0.95), ("graphene_gb_4nm", 0.95), ("ni_m3b2_haadf91", 0.93)],
)
def test_boundaries_of_real_bicrystals(name, least):
    """Boundary band against both grains, one setting for all."""
    tifffile = pytest.importorskip("tifffile")
    image_module = pytest.importorskip("PIL.Image")
    path = REAL / f"{name}.tif"
    if not path.exists():
        pytest.skip("the real images are not here")
    pixels = tifffile.imread(path).astype(np.float32)
    with image_module.open(REAL / f"{name}_mask.png") as file:
        mask = np.array(file)
    lattice, _ = typical_lattice(pixels)
    found = mapped(pixels, lattice.period_px)
    assert auroc(found, mask == 1, mask == 255) > least
