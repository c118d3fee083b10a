"""What is written of one frame, and a file that keeps it until all frames of a series are there."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_hrstem_defects.core.micrograph import Micrograph
from napari_hrstem_defects.core.pipeline import Analysis
from napari_hrstem_defects.core.recipe import Recipe
from napari_hrstem_defects.core.regions import Region
from napari_hrstem_defects.io import provenance
from napari_hrstem_defects.io.domains import domain_image, domain_rows, wall_image
from napari_hrstem_defects.io.folders import whole_file
from napari_hrstem_defects.io.ome import ZLIB_LEVEL, Page
from napari_hrstem_defects.io.tables import Row, patch_rows

#: Map → type on disk; boundaries only where the recipe asks for it.
MAPS = {
    "labels": np.uint8,
    "severity": np.float32,
    "variance": np.float32,
    "domains": np.uint8,
    "walls": np.uint8,
    "boundaries": np.float32,
}


@dataclass(frozen=True, eq=False)
class FrameResult:
    """What is written of the analysis of one frame.

    Attributes
    ----------
    micrograph : Micrograph
        The frame.
    recipe : Recipe
    maps : mapping of str to array or Page
        See `MAPS`.
    labels : uint8 array (y, x)
    valid_mask : bool array (y, x) or Page
    patches, domains : sequence of dict
        Rows of the tables.
    regions : sequence of Region
    record : mapping
        Its entry in analysis.json.
    classifier : (str, str or None)
        Name and SHA-256.
    drift_px : (float, float)
        Movement ``(y, x)`` of the specimen since the frame before.
    area_periods : float
        Area that was assessed, in squared lattice periods.
    shown : FrameResult or None
        What the overview shows instead, a reduced copy of a large image.
    """

    micrograph: Micrograph
    recipe: Recipe
    maps: Mapping[str, NDArray[Any] | Page]
    labels: NDArray[np.uint8]
    valid_mask: NDArray[np.bool_] | Page
    patches: Sequence[Row]
    regions: Sequence[Region]
    domains: Sequence[Row]
    record: Mapping[str, Any]
    classifier: tuple[str, str | None]
    drift_px: tuple[float, float] = (0.0, 0.0)
    area_periods: float = 0.0
    shown: FrameResult | None = None

    @classmethod
    def of(
        cls, analysis: Analysis, drift_px: tuple[float, float] = (0.0, 0.0), *, domains: bool = True
    ) -> FrameResult:
        """Of an analysis, with or without its domains."""
        maps: dict[str, NDArray[Any]] = {
            "labels": analysis.labels,
            "severity": analysis.severity,
            "variance": analysis.variance,
        }
        if domains:
            maps |= {"domains": domain_image(analysis), "walls": wall_image(analysis)}
        if analysis.recipe.domains.boundary_map:
            found = analysis.boundaries
            maps["boundaries"] = np.zeros(analysis.labels.shape, np.float32) if found is None else found
        return cls(
            analysis.micrograph,
            analysis.recipe,
            maps,
            analysis.labels,
            analysis.valid_mask,
            patch_rows(analysis.patches),
            analysis.regions,
            domain_rows(analysis) if domains else (),
            provenance.frame_record(analysis),
            (analysis.patches.classifier, analysis.patches.classifier_sha256),
            drift_px,
            analysis.area_periods,
        )

    def pixels(self, name: str) -> NDArray[Any]:
        """A map, or ``valid_mask``, as an array."""
        found = self.valid_mask if name == "valid_mask" else self.maps[name]
        return found.pixels() if isinstance(found, Page) else found

    @functools.cached_property
    def defect_area(self) -> int:
        """Number of marked pixels."""
        return int(np.count_nonzero(self.labels))

    def save(self, path: Path, *, level: int = ZLIB_LEVEL) -> None:
        """Write a file that is complete or absent: a TIFF with a page for each map, everything else in its description.

        Parameters
        ----------
        path : Path
        level : int
            Of zlib for maps of real numbers, which are noise: 0 where they do not go into another file as they are.

        Raises
        ------
        OSError
        """
        kept = {
            "input_sha256": self.micrograph.sha256,
            "maps": list(self.maps),
            "patches": self.patches,
            "regions": [dataclasses.asdict(region) for region in self.regions],
            "domains": self.domains,
            "record": self.record,
            "classifier": self.classifier,
            "drift_px": self.drift_px,
            "area_periods": self.area_periods,
        }
        pages = [np.ascontiguousarray(pixels, MAPS[name]) for name, pixels in self.maps.items()]
        with whole_file(path) as aside, tifffile.TiffWriter(aside) as writer:
            text: str | None = json.dumps(kept)
            for pixels in (*pages, np.asarray(self.valid_mask, np.uint8)):
                writer.write(
                    pixels,
                    photometric="minisblack",
                    compression="zlib",
                    compressionargs={"level": level if pixels.dtype.kind == "f" else ZLIB_LEVEL},
                    description=text,
                    metadata=None,
                )
                text = None

    @classmethod
    def load(cls, path: Path, micrograph: Micrograph, recipe: Recipe) -> FrameResult | None:
        """Read such a file; None if it is damaged or of other pixels than those of `micrograph`."""
        try:
            with tifffile.TiffFile(path) as tif:
                kept = json.loads(tif.pages.first.description)
                if kept["input_sha256"] != micrograph.sha256:
                    return None
                *pages, valid_mask = map(Page.of, tif.pages)
                maps = dict(zip(kept["maps"], pages, strict=True))
                labels = tif.pages.first.asarray()
            regions = [
                Region(**{**row, "centroid": tuple(row["centroid"]), "bbox": tuple(row["bbox"])})
                for row in kept["regions"]
            ]
            y, x = kept["drift_px"]
            name, sha256 = kept["classifier"]
            if provenance.sha256_of(labels) != kept["record"]["labels_sha256"]:
                return None
            return cls(
                micrograph,
                recipe,
                maps,
                labels,
                valid_mask,
                kept["patches"],
                regions,
                kept["domains"],
                kept["record"],
                (name, sha256),
                (y, x),
                kept["area_periods"],
            )
        except (*provenance.DAMAGE, MemoryError):  # of a size that is wrong
            return None
