"""Lattice phases on crystals whose displacement is known."""

import numpy as np
import pytest
from scipy import ndimage

from napari_hrstem_defects.core.displacement import across, circuit, lattice_phases
from napari_hrstem_defects.core.lattice import Lattice
from napari_hrstem_defects.core.preprocessing import prepare
from napari_hrstem_defects.core.recipe import PreprocessParams

from .helpers import crystal, fault, noisy, vectors

SHAPE = (240, 240)
PERIOD = 8.0
PATCH = (slice(10, 70), slice(10, 70))
#: Two unequal columns.
POLAR = (((0.0, 0.0), 1.0), ((0.3, 0.22), 0.5))


def lattice(basis) -> Lattice:
    (a, b), (c, d) = basis
    return Lattice((a, b), (c, d), PERIOD, 0.9)


def phases(image, basis):
    found = lattice_phases(prepare(image, PERIOD, PreprocessParams()), lattice(basis), PATCH)
    assert found is not None
    return found


def wall(found, at: int):
    """A band two periods wide around a column of the image, on the samples."""
    x = (np.arange(found.values.shape[2]) + 0.5) * found.step_px - 0.5
    mask = np.zeros(found.values.shape[1:], bool)
    mask[:, np.abs(x - at) < PERIOD] = True
    return mask


def compare(found, mask, blocked=None):
    """Sides of a wall that lies on the whole grid."""
    pieces = ndimage.label(~(mask if blocked is None else blocked))[0]
    return across(found, mask, pieces, np.zeros(mask.shape))


@pytest.mark.parametrize(
    ("kind", "shift"),
    [
        ("square", (0.5, 0.5)),
        ("hexagonal", (1 / 3, 0.0)),
        ("oblique", (0.0, -0.25)),
        ("centred rectangular", (1 / 3, 0.5)),
        ("square", (0.0, 0.0)),
    ],
)
def test_displacement_across_a_wall(kind, shift):
    basis = vectors(kind, PERIOD, 11.0)
    slip = tuple(np.array(shift) @ np.array(basis))
    image = noisy(fault(SHAPE, basis, 120, slip, POLAR), 0.1)
    found = phases(image, basis)
    mask = wall(found, 120)
    result = compare(found, mask)
    assert result is not None
    shift_found, coherence, _ = result
    # Which of two equal sides stands still is a convention.
    differences = [shift_found - sign * np.array(shift) for sign in (1, -1)]
    assert min(np.abs(d - np.rint(d)).max() for d in differences) < 0.05
    assert coherence > 0.9


def test_slope_of_the_phase_is_no_displacement():
    # A lattice 1.5 % larger than the model patch's says.
    basis = vectors("square", PERIOD)
    wide = vectors("square", 1.015 * PERIOD)
    image = np.where(np.arange(240)[None] < 75, crystal(SHAPE, basis), 0)
    image = image + np.where(np.arange(240)[None] < 75, 0, crystal(SHAPE, wide))
    found = phases(noisy(image, 0.05), basis)
    mask = wall(found, 160)
    result = compare(found, mask)
    assert result is not None
    assert np.abs(result[0]).max() < 0.05


def dislocated(basis, burgers):
    """Waves of a square lattice around a screw-like displacement field u = b φ / 2π."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
    angle = np.arctan2(y - 120.3, x - 119.6) / (2 * np.pi)
    reciprocal = np.linalg.inv(np.array(basis)).T
    out = np.zeros(SHAPE)
    for h, k, size in ((1, 0, 1.0), (0, 1, 0.8), (1, 1, 0.5), (1, -1, 0.6)):
        g = h * reciprocal[0] + k * reciprocal[1]
        shift = h * burgers[0] + k * burgers[1]
        out += size * np.cos(2 * np.pi * (g[0] * y + g[1] * x - shift * angle))
    return out


@pytest.mark.parametrize("burgers", [(1, 0), (0, -1), (1, 1), (0, 0)])
def test_burgers_circuit(burgers):
    basis = vectors("square", PERIOD, 20.0)
    found = phases(noisy(dislocated(basis, burgers), 0.3), basis)
    closure, clear = circuit(found, np.array([120.0, 120.0]) / found.step_px, 3 * found.period)
    # The sense of the circuit, from x to y, is that of the angle.
    assert closure == burgers
    assert clear > 0.5
    closure, _ = circuit(found, np.array([60.0, 180.0]) / found.step_px, 3 * found.period)
    assert closure == (0, 0)


def test_a_circuit_must_lie_in_the_image():
    basis = vectors("square", PERIOD)
    found = phases(noisy(crystal(SHAPE, basis), 0.1), basis)
    assert circuit(found, np.array([3.0, 20.0]), 6.0) == ((0, 0), 0.0)


def test_walls_without_a_free_side_are_not_compared():
    basis = vectors("square", PERIOD)
    found = phases(noisy(crystal(SHAPE, basis), 0.1), basis)
    mask = wall(found, 120)
    assert compare(found, mask, np.ones(mask.shape, bool)) is None
    assert compare(found, np.zeros(mask.shape, bool), mask) is None


def test_fringes_have_a_second_direction():
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    found = phases(
        np.cos(2 * np.pi * x / PERIOD) + 0.05 * np.cos(2 * np.pi * y / PERIOD), vectors("square", PERIOD)
    )
    assert np.linalg.det(found.orders[:2]) != 0


def test_no_lattice_no_phases():
    basis = vectors("square", PERIOD)
    prepared = prepare(noisy(np.zeros(SHAPE), 1.0), PERIOD, PreprocessParams())
    tiny = lattice_phases(
        prepare(noisy(crystal((12, 12), basis), 0.1), PERIOD, PreprocessParams()),
        lattice(basis),
        (slice(0, 12), slice(0, 12)),
    )
    assert tiny is None
    # Noise has phases, but none that hold over the patch.
    found = lattice_phases(prepared, lattice(basis), PATCH)
    assert found is None or np.abs(found.values[0]).std() > 0.2
