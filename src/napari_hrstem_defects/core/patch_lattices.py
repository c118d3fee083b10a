"""What lattice single patches of an image show."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.core.best_patch import BestPatch
from napari_hrstem_defects.core.geometry import frame_slices
from napari_hrstem_defects.core.lattice import Lattice, find_lattice
from napari_hrstem_defects.core.patches import PatchGrid

#: Ratios of the periods of a patch and of the image between which two lattices may meet in it: a cell about twice or
#: half as large. A smaller ratio is none, a larger one is another phase.
ANOTHER_PERIOD = (1.15, 1.6)
#: About so many patches tell whether patches show a lattice at all.
FEW_PATCHES = 9


class PatchLattices:
    """The lattices of the patches of a grid, each looked for once, when it is asked for.

    Parameters
    ----------
    pixels : float32 array (y, x)
        The frame, 0...1.
    grid : PatchGrid
    typical : Lattice or None
        What the image shows as a whole.
    """

    def __init__(self, pixels: NDArray[np.float32], grid: PatchGrid, typical: Lattice | None) -> None:
        self.pixels = pixels
        self.grid = grid
        self.typical = typical
        self._found: dict[tuple[int, ...], Lattice | None] = {}

    def seen_in(self, index: tuple[int, ...]) -> Lattice | None:
        """Lattice of the patch in ``(row, column)`` of the grid; None where it shows none."""
        if index not in self._found:
            y, x = self.grid.centres[index]
            place = BestPatch(float(y), float(x), self.grid.size)
            self._found[index] = find_lattice(self.pixels[frame_slices(place, self.grid.shape)])
        return self._found[index]

    def has_another_cell(self, index: tuple[int, ...]) -> bool:
        """Whether lattices may meet in a patch: its cell is larger or smaller than the image's, or none is seen."""
        own = self.seen_in(index)
        if self.typical is None:
            return False
        if own is None:
            every = max(1, self.grid.counts[0] * self.grid.counts[1] // FEW_PATCHES)
            some = list(np.ndindex(self.grid.counts))[::every]
            return sum(self.seen_in(each) is not None for each in some) > len(some) / 2
        ratio = max(own.period_px / self.typical.period_px, self.typical.period_px / own.period_px)
        return ANOTHER_PERIOD[0] < ratio < ANOTHER_PERIOD[1]
