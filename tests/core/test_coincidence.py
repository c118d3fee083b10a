"""Twin and coincidence relations against the tabulated angles and axes."""

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_hrstem_defects.core.domains import coincidence, misorientation, zone_axis
from napari_hrstem_defects.core.lattice import Lattice

#: Shortest vectors ``(y, x)`` of cubic lattices of edge 1 seen along a zone axis, worked out by hand.
SEEN = {
    # Face centred: squares of a/2.
    (0, 0, 1): ((0.0, 0.5), (0.5, 0.0)),
    # Face centred: a centred rectangle of a/√2 by a.
    (1, 1, 0): ((0.5, 8**-0.5), (0.5, -(8**-0.5))),
    # Body centred: equilateral triangles of edge a·√(2/3).
    (1, 1, 1): ((0.0, (2 / 3) ** 0.5), (0.5**0.5, (1 / 6) ** 0.5)),
    # Face centred: rectangles of a/√8 by a/√3.
    (1, 1, 2): ((0.0, 8**-0.5), (3**-0.5, 0.0)),
}
# Grimmer, Bollmann & Warrington, Acta Cryst. A30 (1974) 197, and other common tables.
TABULATED = [
    ((0, 0, 1), 5, 36.87),
    ((0, 0, 1), 13, 22.62),
    ((0, 0, 1), 17, 28.07),
    ((0, 0, 1), 25, 16.26),
    ((0, 0, 1), 29, 43.60),
    ((1, 1, 0), 3, 70.53),
    ((1, 1, 0), 9, 38.94),
    ((1, 1, 0), 11, 50.48),
    ((1, 1, 0), 19, 26.53),
    ((1, 1, 0), 27, 31.59),
    ((1, 1, 1), 7, 38.21),
    ((1, 1, 1), 13, 27.80),
    ((1, 1, 1), 19, 46.83),
    ((1, 1, 2), 11, 62.96),
]


def turned(basis: object, degrees: float, scale: float = 20.0) -> Lattice:
    t = np.radians(degrees)
    matrix = scale * np.array(basis) @ np.array([[np.cos(t), np.sin(t)], [-np.sin(t), np.cos(t)]])
    return lattice(matrix)


def lattice(matrix: NDArray[np.float64]) -> Lattice:
    (a, b), (c, d) = matrix.tolist()
    return Lattice((a, b), (c, d), float(np.sqrt(abs(np.linalg.det(matrix)))), 0.9)


@pytest.mark.parametrize("axis", SEEN)
def test_zone_axes(axis):
    assert zone_axis(turned(SEEN[axis], 12.3)) == axis
    # Another choice of basis vectors.
    v1, v2 = np.array(SEEN[axis])
    assert zone_axis(turned((v1, v2 + v1), 40.0)) == axis
    # Sheared by 3 % by drift.
    assert zone_axis(lattice(20 * np.array(SEEN[axis]) @ np.array([[1.0, 0.03], [0.0, 1.0]]))) == axis


@pytest.mark.parametrize(
    "basis", [((0.0, 1.0), (1.8, 0.0)), ((0.0, 1.0), (1.0, 0.3)), ((0.0, 1.0), (1.12, 0.0))]
)
def test_other_cells_have_none(basis):
    assert zone_axis(turned(basis, 5.0)) is None
    assert coincidence(turned(basis, 5.0), turned(basis, 50.0)) is None


@pytest.mark.parametrize(("axis", "sigma", "degrees"), TABULATED)
def test_tabulated_relations(axis, sigma, degrees):
    for start, sense in ((0.0, 1.0), (77.0, -1.0)):
        found = coincidence(turned(SEEN[axis], start), turned(SEEN[axis], start + sense * degrees))
        assert found is not None
        # Seen along [111] a cubic crystal is not told from a hexagonal sheet such as graphene.
        assert (found.zone_axis, found.sigma) == (None if axis == (1, 1, 1) else axis, sigma)
        # About [111] the lattice of the image repeats every 60° and may be turned the other way round.
        expected = min(degrees, 60 - degrees) if axis == (1, 1, 1) else degrees
        assert found.misorientation_deg == pytest.approx(expected, abs=0.01)
        assert found.ideal_deg == pytest.approx(expected, abs=0.01)
        assert found.name == ("twin (Σ3)" if sigma == 3 else f"Σ{sigma}")
    # Brandon's criterion.
    limit = 15.0 / np.sqrt(sigma)
    for share, found in ((-0.4, True), (-1.05, False)):
        relation = coincidence(turned(SEEN[axis], 0.0), turned(SEEN[axis], degrees + share * limit))
        assert relation is not None
        # Beyond its window the relation is another or none; within it a nearer one may win.
        if not found:
            assert relation.sigma != sigma or relation.ideal_deg != pytest.approx(degrees, abs=0.01)
        elif sigma <= 11:
            assert relation.sigma == sigma


def test_a_mirrored_lattice_is_a_twin():
    # Reflection across the (111) plane seen edge-on along [110]: the plane runs along one of the vectors.
    basis = np.array(SEEN[1, 1, 0])
    along = basis[0] / np.hypot(*basis[0])
    mirrored = basis @ (2 * np.outer(along, along) - np.eye(2))
    found = coincidence(lattice(20 * basis), lattice(20 * mirrored))
    assert found is not None
    assert found.name == "twin (Σ3)"


def test_low_angles_and_general_ones():
    square = SEEN[0, 0, 1]
    low = coincidence(turned(square, 0.0), turned(square, 7.0))
    assert low is not None
    assert (low.sigma, low.name) == (1, "low angle")
    # 20° about [001]: 2.6° from Σ13, whose window is 4.2°; about [110] nothing up to Σ29 is near 62°.
    assert coincidence(turned(square, 0.0), turned(square, 20.0)).name == "Σ13"
    general = coincidence(turned(SEEN[1, 1, 0], 0.0), turned(SEEN[1, 1, 0], 58.0))
    assert general is not None
    assert (general.sigma, general.ideal_deg, general.name) == (None, None, "general")


def test_different_zone_axes_or_sizes_have_no_relation():
    assert coincidence(turned(SEEN[0, 0, 1], 0.0), turned(SEEN[1, 1, 0], 0.0)) is None
    assert coincidence(turned(SEEN[0, 0, 1], 0.0), turned(SEEN[0, 0, 1], 30.0, scale=24.0)) is None
    assert coincidence(None, turned(SEEN[0, 0, 1], 0.0)) is None


def test_misorientation_of_any_lattices():
    oblique, square = ((0.0, 1.0), (1.3, 0.35)), ((0.0, 1.0), (1.0, 0.0))
    for basis, turn, expected in ((oblique, 33, 33), (oblique, 180, 0), (oblique, -11, 11), (square, 80, 10)):
        found = misorientation(turned(basis, 10.0), turned(basis, 10.0 + turn))
        assert found == pytest.approx(expected, abs=1e-5)
    # Cells of two kinds: by a vector that both have; none, where no vector of one is as long as one of the other.
    long = ((0.0, 1.0), (1.9, 0.35))
    assert misorientation(turned(long, 0.0), turned(square, 25.0)) == pytest.approx(25.0, abs=1e-6)
    assert misorientation(turned(square, 0.0), turned(square, 0.0, scale=60.0)) is None
    assert misorientation(turned(square, 0.0), None) is None
