"""Manual corrections and classes of a scan, applied to the current automatic labels."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.core.recipe import Recipe, points_of, points_text
from napari_hrstem_defects.widgets.outputs import class_colour

if TYPE_CHECKING:
    from napari_hrstem_defects.core.analysis import Analysis
    from napari_hrstem_defects.core.regions import Region
    from napari_hrstem_defects.models.scan import Scan

Point = tuple[float, float]

#: Warning in results whose labels are not the program's alone.
PAINTED = "The labels were corrected by hand."
#: Largest label that can be painted.
LARGEST_LABEL = 2
#: Measures the regions of labels ``(y, x)``.
Measure = Callable[[NDArray[np.uint8]], "tuple[Region, ...]"]


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


def place_of(numbered: NDArray[np.integer[Any]], number: int) -> tuple[int, int]:
    """The pixel of a region nearest to its centre, which most likely stays in it when the threshold is moved."""
    pixels = np.argwhere(numbered == number)
    y, x = pixels[np.argmin(((pixels - pixels.mean(axis=0)) ** 2).sum(axis=1))].tolist()
    return y, x


def corrected(correction: Correction | None, automatic: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Labels shown: the automatic ones themselves where nothing was painted."""
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
    """The corrections after labels that were shown have changed by hand; None where nothing is painted any more.

    Parameters
    ----------
    correction : Correction or None
        Those until now.
    before, after : uint8 array (y, x)
        Labels shown before and after the change.
    automatic : uint8 array (y, x)
        A pixel that is as found again counts as not painted.
    taken_back : bool
        Painted pixels that changed count as not painted: the stroke that was undone is older than the automatic
        labels, so the labels it restores are out of date.
    """
    painted = np.zeros(after.shape, bool)
    if correction is not None:
        painted.flat[correction.pixels] = True
    changed = before != after
    kept = changed & (after != automatic)
    if taken_back:
        kept &= ~painted
    pixels = np.flatnonzero((painted & ~changed) | kept)
    return Correction(pixels, after.flat[pixels]) if pixels.size else None


@dataclass(frozen=True)
class ByHand:
    """Manual changes of one image; points ``(y, x)`` in pixels.

    Attributes
    ----------
    point : tuple of float or None
        Centre of the best patch; None: chosen automatically.
    lattices : tuple of tuple of float
        Centres of the model patches of further lattices.
    intact, defective : tuple of tuple of float
        Points in lattices that count as intact or as defects.
    painted : mapping of int to Correction
        Frame (0 for a single image) → what was painted over its labels.
    reviewed : mapping of tuple to bool
        Frame and pixel ``(frame, y, x)`` → whether the region there was accepted, else it was rejected.
    """

    point: Point | None = None
    lattices: tuple[Point, ...] = ()
    intact: tuple[Point, ...] = ()
    defective: tuple[Point, ...] = ()
    painted: Mapping[int, Correction] = field(default_factory=dict)
    reviewed: Mapping[tuple[int, int, int], bool] = field(default_factory=dict)

    def with_correction(self, frame: int, correction: Correction | None) -> ByHand:
        """With other corrections of a frame; None: without any."""
        painted = {**self.painted, frame: correction}
        return replace(self, painted={known: kept for known, kept in painted.items() if kept is not None})

    def in_recipe(self, recipe: Recipe) -> Recipe:
        """A recipe with the settings for the lattices; the best patch is no part of a recipe."""
        return recipe.replace(
            {f"domains.{key}": points_text(getattr(self, name)) for key, name in _IN_RECIPE.items()}
        )

    def from_recipe(self, recipe: Recipe) -> ByHand:
        """With the settings for the lattices of a recipe instead."""
        points: dict[str, Any] = {
            name: points_of(getattr(recipe.domains, key)) for key, name in _IN_RECIPE.items()
        }
        return replace(self, **points)


#: Parameter of the step domains → what it is called here.
_IN_RECIPE = {"given": "lattices", "intact_at": "intact", "defective_at": "defective"}


@dataclass(frozen=True, eq=False)
class ClassMap:
    """Class of each pixel of a frame, as an ensemble found it.

    Attributes
    ----------
    labels : uint8 array (y, x)
        Number of the class; numbers beyond `classes` are unclassified.
    classes : tuple of str
        The first is the clean one.
    classifier : str
        Name of the ensemble.
    regions : tuple of Region
        Areas of all classes but the clean one, which stand for themselves where nothing else was found yet: without a
        label, the class as type, and probabilities in the place of severities.
    probabilities : float32 array (classes, y, x)
    window_px : int
        Edge of the sliding window.
    pixel_size_nm : float or None
    """

    labels: NDArray[np.uint8]
    classes: tuple[str, ...]
    classifier: str
    regions: tuple[Region, ...]
    probabilities: NDArray[np.float32]
    window_px: int
    pixel_size_nm: float | None

    @classmethod
    def of(cls, scan: Scan, classifier: str, window_px: int, pixel_size_nm: float | None) -> ClassMap:
        """What is kept of a scan; no pixels are copied."""
        regions = _regions(scan.regions)
        known = scan.labels, scan.classes, classifier, regions, scan.probabilities
        return cls(*known, window_px, pixel_size_nm)

    def measured(self) -> ClassMap:
        """With the regions of the labels as they are now: a person may have painted them."""
        from napari_hrstem_defects.models.scan import UNCERTAIN, class_regions

        known = np.where(self.labels < len(self.classes), self.labels, UNCERTAIN).astype(np.uint8)
        found = class_regions(known, self.probabilities, self.classes, self.window_px, self.pixel_size_nm)
        return replace(self, regions=_regions(found))

    @property
    def colours(self) -> dict[str, str]:
        """Colour of each class in the map of the classes, but of the clean one, which has none."""
        return {name: class_colour(number) for number, name in enumerate(self.classes) if number}

    def types(self, regions: Sequence[Region], labels: NDArray[np.uint8]) -> tuple[Region, ...]:
        """Regions with the class that most of each was given as their type; its share is the confidence.

        A type that is known with more confidence stays.

        Parameters
        ----------
        regions : sequence of Region
        labels : uint8 array (y, x)
            The labels that the regions were measured in.
        """
        from napari_hrstem_defects.core.regions import label_regions

        if labels.shape != self.labels.shape:
            return tuple(regions)
        numbered = label_regions(labels)
        out = []
        for region in regions:
            y0, x0, y1, x1 = region.bbox
            inside = numbered[y0:y1, x0:x1] == region.id
            counts = np.bincount(self.labels[y0:y1, x0:x1][inside], minlength=256)
            # Neither the clean class nor "uncertain" is a type of defect.
            known = counts[1 : len(self.classes)]
            if known.size and known.any():
                best = int(known.argmax())
                share = float(known[best] / counts.sum())
                if region.type == "unknown" or share > region.confidence:
                    region = replace(region, type=self.classes[best + 1], confidence=share)
            out.append(region)
        return tuple(out)


def _regions(found: Iterable[Region]) -> tuple[Region, ...]:
    """Without a label, for the class is the type."""
    return tuple(replace(region, label=0) for region in found)


@dataclass(frozen=True, eq=False)
class Labelled:
    """Labels and regions of one frame, as found and as shown.

    Attributes
    ----------
    automatic, found : uint8 array (y, x) and tuple of Region
        Labels and regions as found.
    correction : Correction or None
        What was painted.
    class_map : ClassMap or None
        What a scan found.
    measured : tuple of Region or None
        Regions of the labels with what was painted; None where nothing was.
    """

    automatic: NDArray[np.uint8]
    found: tuple[Region, ...]
    correction: Correction | None = None
    class_map: ClassMap | None = None
    measured: tuple[Region, ...] | None = None

    def corrected(
        self, correction: Correction | None, measure: Measure, class_map: ClassMap | None
    ) -> Labelled:
        """The same automatic labels with other corrections and classes, measured anew; takes a while."""
        measured = None if correction is None else measure(correction.apply(self.automatic))
        return replace(self, correction=correction, measured=measured).classified(class_map)

    def classified(self, class_map: ClassMap | None) -> Labelled:
        """The same regions with the classes of another scan, or of none."""
        made = replace(self, class_map=class_map)
        _ = made.regions, made.painted  # computed here, and not when the GUI asks for them
        return made

    @functools.cached_property
    def shown(self) -> NDArray[np.uint8]:
        """Labels with what was painted; `automatic` itself where nothing was."""
        return corrected(self.correction, self.automatic)

    @functools.cached_property
    def regions(self) -> tuple[Region, ...]:
        """Regions of the labels shown, with the classes of a scan as types."""
        regions = self.found if self.measured is None else self.measured
        return regions if self.class_map is None else self.class_map.types(regions, self.shown)

    @functools.cached_property
    def numbered(self) -> NDArray[np.int32]:
        """Number of the region at each pixel, 0 where there is none."""
        from napari_hrstem_defects.core.regions import label_regions

        return label_regions(self.shown)

    @functools.cached_property
    def painted(self) -> frozenset[int]:
        """Numbers of the regions in which a person painted."""
        inside = () if self.correction is None else np.unique(self.numbered.flat[self.correction.pixels])
        return frozenset(int(number) for number in inside if number)

    def places(self, numbers: Collection[int]) -> list[tuple[int, int]]:
        """A pixel ``(y, x)`` in each of some regions, by which they are found again when the labels have changed."""
        found = []
        for region in self.regions:
            if region.id in numbers:
                y0, x0, y1, x1 = region.bbox
                y, x = place_of(self.numbered[y0:y1, x0:x1], region.id)
                found.append((y0 + y, x0 + x))
        return found

    def reviewed(self, frame: int, verdicts: Mapping[tuple[int, int, int], bool]) -> dict[int, str]:
        """Region → "accepted" or "rejected", of verdicts about pixels ``(frame, y, x)``."""
        here = {(y, x): accepted for (t, y, x), accepted in verdicts.items() if t == frame}
        found = {int(self.numbered[pixel]): accepted for pixel, accepted in here.items()}
        return {number: "accepted" if kept else "rejected" for number, kept in found.items() if number}

    @functools.cached_property
    def areas(self) -> dict[str, float]:
        """Shares of the pixels."""
        return _shares(self.shown)

    @functools.cached_property
    def areas_before(self) -> dict[str, float]:
        """Shares of the pixels before corrections."""
        return _shares(self.automatic)

    def in_analysis(self, analysis: Analysis) -> Analysis:
        """The analysis with these labels and regions, and warnings that name their origin."""
        note = None if self.correction is None else PAINTED
        analysis = analysis.with_labels(self.shown, self.regions, note)
        if self.class_map is None:
            return analysis
        note = (
            f"Where the scan with “{self.class_map.classifier}” found a class, it is the type of the region."
        )
        return analysis.with_labels(self.shown, self.regions, note)


def _shares(labels: NDArray[np.uint8]) -> dict[str, float]:
    return {name: float(np.mean(labels == k)) for k, name in enumerate(("symmetry_defect", "amorphous"), 1)}


def measured_in(analysis: Analysis) -> Measure:
    """Measures regions as the analysis did."""
    from napari_hrstem_defects.core.defect_types import typed_regions

    def measure(labels: NDArray[np.uint8]) -> tuple[Region, ...]:
        return typed_regions(
            labels,
            analysis.severity,
            prepared=analysis.prepared,
            lattice=analysis.lattice,
            best_patch=analysis.best_patch,
            domains=analysis.domains,
            field=analysis.field,
            pixel_size_nm=analysis.micrograph.pixel_size_nm,
            valid_mask=analysis.valid_mask,
        )

    return measure


def labelled(analysis: Analysis, correction: Correction | None, class_map: ClassMap | None) -> Labelled:
    """Labels and regions of an analysis, with what was painted and scanned."""
    automatic = Labelled(analysis.labels, analysis.regions)
    return automatic.corrected(correction, measured_in(analysis), class_map)
