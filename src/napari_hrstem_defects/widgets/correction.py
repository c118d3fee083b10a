"""What a person painted over the automatic labels: a record of its own, laid over whatever these are now."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.core.analysis import Analysis
from napari_hrstem_defects.core.defect_types import type_judge
from napari_hrstem_defects.core.regions import Region, find_regions, label_regions

if TYPE_CHECKING:
    from napari_hrstem_defects.widgets.class_map import ClassMap

#: Warning in results whose labels are not the program's alone.
PAINTED = "The labels were corrected by hand."
#: Largest label that can be painted.
LARGEST_LABEL = 2


@dataclass(frozen=True, eq=False)
class Correction:
    """Pixels of one frame that a person painted or erased.

    Attributes
    ----------
    pixels : int array (n,)
        Their places in the flat image, ascending.
    labels : uint8 array (n,)
        Label of each: 0 crystal (erased), 1 symmetry defect, 2 amorphous or blurred.
    """

    pixels: NDArray[np.intp]
    labels: NDArray[np.uint8]

    def apply(self, automatic: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A copy of labels ``(y, x)`` with the corrections laid over them."""
        corrected = automatic.copy()
        corrected.flat[self.pixels] = self.labels
        return corrected


def corrected(correction: Correction | None, automatic: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Labels as they are shown: the automatic ones themselves where nothing was painted."""
    return automatic if correction is None else correction.apply(automatic)


def changed_frames(painted: Mapping[int, Correction], before: Mapping[int, Correction]) -> list[int]:
    """Frames whose corrections are others than before."""
    return [frame for frame in {*painted, *before} if painted.get(frame) is not before.get(frame)]


def after_stroke(
    correction: Correction | None,
    before: NDArray[np.uint8],
    after: NDArray[np.uint8],
    automatic: NDArray[np.uint8],
    *,
    taken_back: bool = False,
) -> Correction | None:
    """The corrections after labels that were shown have changed by hand.

    Parameters
    ----------
    correction : Correction or None
        Those until now.
    before, after : uint8 array (y, x)
        Labels shown before and after the change.
    automatic : uint8 array (y, x)
        A pixel that is as found again counts as not painted.
    taken_back : bool
        Painted pixels that changed count as not painted whatever they hold: a stroke was undone that is older than the
        automatic labels, so what lay beneath it is out of date.

    Returns
    -------
    Correction or None
        None where nothing is painted any more.
    """
    painted = np.zeros(after.shape, bool)
    if correction is not None:
        painted.flat[correction.pixels] = True
    changed = before != after
    kept = changed & (after != automatic)
    if taken_back:
        kept &= ~painted
    painted = (painted & ~changed) | kept
    pixels = np.flatnonzero(painted)
    return Correction(pixels, after.flat[pixels]) if pixels.size else None


@dataclass(frozen=True, eq=False)
class Labelled:
    """Labels and regions of one frame, as found and as shown.

    Attributes
    ----------
    automatic : uint8 array (y, x)
        As found.
    found : tuple of Region
        Regions of `automatic`.
    shown : uint8 array (y, x)
        With what was painted; `automatic` itself where nothing was.
    regions : tuple of Region
        Regions of `shown`, with the classes of a scan as types.
    correction : Correction or None
        What was painted.
    painted : frozenset of int
        Numbers of the regions in which a person painted.
    """

    automatic: NDArray[np.uint8]
    found: tuple[Region, ...]
    shown: NDArray[np.uint8]
    regions: tuple[Region, ...]
    correction: Correction | None = None
    painted: frozenset[int] = frozenset()

    def corrected(
        self, correction: Correction | None, measure: Measure, class_map: ClassMap | None
    ) -> Labelled:
        """The same automatic labels with other corrections and classes, measured anew; takes a while."""
        shown, regions, numbers = self.automatic, self.found, frozenset[int]()
        if correction is not None:
            shown = correction.apply(self.automatic)
            regions = measure(shown)
            inside = label_regions(shown).flat[correction.pixels]
            numbers = frozenset(np.unique(inside[inside > 0]).tolist())
        if class_map is not None:
            regions = class_map.types(regions, shown)
        return replace(self, shown=shown, regions=regions, correction=correction, painted=numbers)

    @functools.cached_property
    def areas(self) -> dict[str, float]:
        """Shares of the pixels."""
        return {
            "symmetry_defect": float(np.mean(self.shown == 1)),
            "amorphous": float(np.mean(self.shown == 2)),
        }


#: Measures the regions of labels ``(y, x)``.
Measure = Callable[[NDArray[np.uint8]], tuple[Region, ...]]


def measured_in(analysis: Analysis, severity: NDArray[np.float32] | None = None) -> Measure:
    """Measures regions as the analysis did.

    Parameters
    ----------
    analysis : Analysis
    severity : float32 array (y, x), optional
        Of another frame of the series; types need the pixels of the frame that was analysed, so there are none then.
    """

    def measure(labels: NDArray[np.uint8]) -> tuple[Region, ...]:
        judge = None
        if severity is None:
            judge = type_judge(
                labels,
                analysis.prepared,
                analysis.lattice,
                analysis.best_patch,
                analysis.domains,
                analysis.field,
            )
        return find_regions(
            labels,
            analysis.severity if severity is None else severity,
            pixel_size_nm=analysis.micrograph.pixel_size_nm,
            lattice=analysis.lattice,
            judge=judge,
            judged=analysis.judged | (labels > 0),
        )

    return measure


def labelled(analysis: Analysis, correction: Correction | None, class_map: ClassMap | None) -> Labelled:
    """Labels and regions of an analysis, with what was painted and scanned."""
    automatic = Labelled(analysis.labels, analysis.regions, analysis.labels, analysis.regions)
    return automatic.corrected(correction, measured_in(analysis), class_map)
