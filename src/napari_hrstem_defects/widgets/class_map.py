"""What an ensemble found in a frame, as far as the regions of an analysis carry it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.core.analysis import Analysis
from napari_hrstem_defects.core.regions import Region, label_regions
from napari_hrstem_defects.models.scan import UNCERTAIN, ClassRegion, Scan, class_regions
from napari_hrstem_defects.widgets.outputs import class_colour


@dataclass(frozen=True, eq=False)
class ClassMap:
    """Class of each pixel.

    Attributes
    ----------
    labels : uint8 array (y, x)
        Number of the class; others than those of `classes` say nothing.
    classes : tuple of str
        The first is the clean one.
    classifier : str
        Name of the ensemble.
    regions : tuple of Region
        Areas of all classes but the clean one, which stand for themselves where nothing else was found yet: without a
        label, the class as type, and probabilities in the place of severities.
    probabilities : float32 array (classes, y, x)
    window_px : int
        Edge of the windows that were looked at.
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
        return cls(
            scan.labels,
            scan.classes,
            classifier,
            _regions(scan.regions),
            scan.probabilities,
            window_px,
            pixel_size_nm,
        )

    def measured(self) -> ClassMap:
        """With the regions of the labels as they are now: a person may have painted them."""
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
        if labels.shape != self.labels.shape:
            return tuple(regions)
        numbered = label_regions(labels)
        out = []
        for region in regions:
            y0, x0, y1, x1 = region.bbox
            inside = numbered[y0:y1, x0:x1] == region.id
            counts = np.bincount(self.labels[y0:y1, x0:x1][inside], minlength=256)
            # Neither the clean class nor "uncertain" says what a defect is.
            known = counts[1 : len(self.classes)]
            if known.size and known.any():
                best = int(known.argmax())
                share = float(known[best] / counts.sum())
                if region.type == "unknown" or share > region.confidence:
                    region = replace(region, type=self.classes[best + 1], confidence=share)
            out.append(region)
        return tuple(out)

    def typed(self, analysis: Analysis) -> Analysis:
        """An analysis whose regions have these types."""
        return analysis.with_labels(analysis.labels, self.types(analysis.regions, analysis.labels))

    def noted(self, analysis: Analysis) -> Analysis:
        """An analysis that says, wherever it is written, where the types of its regions come from."""
        note = f"Where the scan with “{self.classifier}” found a class, it is the type of the region."
        return analysis.with_labels(analysis.labels, analysis.regions, note)


def _regions(parts: Iterable[ClassRegion]) -> tuple[Region, ...]:
    """Without a label, the class as type, how probable it is as confidence."""
    return tuple(
        replace(part.region, label=0, type=part.name, confidence=part.region.mean_severity) for part in parts
    )
