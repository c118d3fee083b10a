"""Labels that a person painted, measured anew."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.core.analysis import Analysis
from napari_hrstem_defects.core.regions import Region

#: Warning in results whose labels are not the program's alone.
PAINTED = "The labels were corrected by hand."


@dataclass(frozen=True)
class Correction:
    """Labels of one frame as a person painted them.

    Attributes
    ----------
    labels : uint8 array (y, x)
    regions : tuple of Region
    """

    labels: NDArray[np.uint8]
    regions: tuple[Region, ...]

    def of(self, analysis: Analysis) -> Analysis:
        """An analysis with these labels; a warning says so wherever it is written."""
        return analysis.with_labels(self.labels, self.regions, PAINTED)
