"""The table of domains: lattice vectors, orientation, misorientation, twin and coincidence relations."""

import numpy as np
import pytest

from napari_hrstem_defects.core.best_patch import BestPatch
from napari_hrstem_defects.core.domains import Domain, DomainMap, misorientation
from napari_hrstem_defects.core.lattice import Lattice
from napari_hrstem_defects.io.domains import domain_rows, orientation

#: Face-centred cubic along [110], edge of the cube 1: a centred rectangle of 1/√2 by 1.
SEEN_110 = np.array([(0.5, 8**-0.5), (0.5, -(8**-0.5))])


def lattice(degrees: float, scale: float = 20.0) -> Lattice:
    """Turned counter-clockwise as seen on screen."""
    t = np.radians(degrees)
    # (y, x) with y downwards.
    turned = scale * SEEN_110 @ np.array([[np.cos(t), np.sin(t)], [-np.sin(t), np.cos(t)]])
    (a, b), (c, d) = turned.tolist()
    return Lattice((a, b), (c, d), float(np.sqrt(abs(np.linalg.det(turned)))), 0.9)


@pytest.fixture
def bicrystal(make_analysis, change):
    index = np.zeros((48, 64), np.uint8)
    index[:, 48:] = 1
    patch = BestPatch(40.0, 50.0, 32)
    domains = tuple(
        Domain(patch, of, relation, crystal, np.zeros(3), distance, angle)
        for of, relation, crystal, distance, angle in (
            (lattice(0.0), "reference", True, 0.0, None),
            (lattice(70.53), "rotated", False, 0.8, misorientation(lattice(0.0), lattice(70.53))),
        )
    )
    return change(make_analysis(), domains=DomainMap(domains, index))


def test_rows(bicrystal):
    first, second = domain_rows(bicrystal)
    assert tuple(first) == tuple(second)
    assert (first["zone_axis"], first["coincidence"], first["misorientation_deg"]) == (None, None, None)
    assert (second["zone_axis"], second["coincidence"]) == ("[110]", "twin (Σ3)")
    # Both lattices share a vector, but all of one is turned against all of the other.
    assert second["misorientation_deg"] == pytest.approx(70.53, abs=0.01)
    assert (first["distance"], second["distance"]) == (None, 0.8)
    assert second["area_px"] == pytest.approx(0.25 * 96 * 128)
    assert second["area_nm2"] == pytest.approx(0.25 * 96 * 128 * 0.02**2)
    assert (first["v1_y_px"], first["v1_x_px"]) == pytest.approx((10.0, 20 * 8**-0.5))
    assert (first["v2_y_nm"], first["v2_x_nm"]) == pytest.approx((0.2, -0.4 * 8**-0.5))


def test_unknown_lattice_and_pixel_size(make_analysis, make_micrograph, change):
    patch, index = BestPatch(40.0, 50.0, 32), np.zeros((8, 8), np.uint8)
    domains = (
        Domain(patch, None, "reference", True, np.zeros(3), 0.0),
        Domain(patch, lattice(0.0), "rotated", False, np.zeros(3), 0.5, 12.5),
    )
    analysis = change(make_analysis(make_micrograph(pixel_size_nm=None)), domains=DomainMap(domains, index))
    first, second = domain_rows(analysis)
    assert first["v1_y_px"] is first["orientation_deg"] is first["area_nm2"] is None
    assert (second["misorientation_deg"], second["coincidence"], second["v1_y_nm"]) == (12.5, None, None)
    assert domain_rows(make_analysis()) == []


@pytest.mark.parametrize("degrees", [-25.0, 0.0, 10.0, 30.0])
def test_orientation(degrees):
    # Of two equally short vectors at ±54.74° to the x axis the one nearer to it counts.
    upper, lower = degrees + 54.74, degrees - 54.74
    upper, lower = (90 - (90 - angle) % 180 for angle in (upper, lower))
    expected = min(upper, lower, key=abs)
    if abs(abs(upper) - abs(lower)) > 1e-6:
        assert orientation(lattice(degrees)) == pytest.approx(expected, abs=0.01)
    else:
        assert abs(orientation(lattice(degrees))) == pytest.approx(54.74, abs=0.01)
    assert -90 < orientation(lattice(degrees)) <= 90
