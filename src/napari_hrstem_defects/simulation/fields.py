"""Displacement fields: rigid slips and the edge dislocation."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from napari_hrstem_defects.simulation.crystals import Array
from napari_hrstem_defects.simulation.regions import tangent

#: Poisson ratio of the elastic fields; 0.2 to 0.4 in the crystals offered, and the image hardly depends on it.
POISSON = 0.3
#: Within this share of the Burgers vector from the core linear elasticity means nothing; the field is held there.
_CORE = 0.5


def slip_field(normal: Array, heights: Sequence[float], step: float) -> Callable[[Array], Array]:
    """Slip by `step` nm along ``(normal_x, −normal_y)`` above each of the planes at `heights`.

    Parameters
    ----------
    normal : float array (2,)
        Unit normal of the planes.
    heights : sequence of float
        Where they are, in nm along the normal, ascending.
    step : float
        Slip at each, in nm; three slips of a third of a period make none and are left out.
    """
    along = tangent(normal)

    def field(points: Array) -> Array:
        count = np.searchsorted(np.asarray(heights), points @ normal)
        return np.asarray(((count + 1) % 3 - 1)[:, None] * step * along)

    return field


def edge_field(core: Array, burgers: Array, normal: Array) -> Callable[[Array], Array]:
    """Displacements of an edge dislocation in an isotropic medium.

    The cut runs from the core along ``+(normal_x, −normal_y)``; there the side that the normal points to is displaced
    by `burgers` relative to the other one.

    Parameters
    ----------
    core : float array (2,)
        Place of the core in nm.
    burgers : float array (2,)
        Burgers vector in nm, in the slip plane.
    normal : float array (2,)
        Unit normal of the slip plane.

    References
    ----------
    Hirth & Lothe, *Theory of Dislocations*, eqs. 3-45 and 3-46.
    """
    along = tangent(normal)
    size = -float(burgers @ along)

    def field(points: Array) -> Array:
        x, y = (points - core) @ along, (points - core) @ normal
        r2 = np.maximum(x * x + y * y, (_CORE * size) ** 2)
        angle = np.arctan2(y, x) % (2 * np.pi)
        u = angle + x * y / (2 * (1 - POISSON) * r2)
        v = -(
            (1 - 2 * POISSON) / (4 * (1 - POISSON)) * np.log(r2) + (x * x - y * y) / (4 * (1 - POISSON) * r2)
        )
        # The mean of the angle is taken off, so that the crystal around the core stays where it was.
        return np.asarray(size / (2 * np.pi) * ((u - np.pi)[:, None] * along + v[:, None] * normal))

    return field
