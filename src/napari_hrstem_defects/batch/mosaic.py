"""A large image put together from its tiles, with the maps on disk."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import block_reduce

from napari_hrstem_defects.batch.parts import implausible_size, unsized
from napari_hrstem_defects.batch.tiles import Tile
from napari_hrstem_defects.core.calibration import severity_of
from napari_hrstem_defects.core.lattice import Lattice
from napari_hrstem_defects.core.micrograph import Micrograph
from napari_hrstem_defects.core.recipe import Recipe
from napari_hrstem_defects.core.regions import Region, find_regions, label_regions
from napari_hrstem_defects.io import provenance
from napari_hrstem_defects.io.frames import FrameResult
from napari_hrstem_defects.io.ome import Page, compressed
from napari_hrstem_defects.io.tables import Row

# Rows of a strip in the files, and reduction for the overview and for finding what touches a seam.
_STRIP_ROWS, _COARSE = 64, 8
# Flags beside the labels in one image: regions that touch no seam, pixels that are assessed.
_KEPT, _VALID = np.uint8(128), np.uint8(64)
# Label by value of that image: of all regions, and of those at seams.
_LABELS = np.arange(256, dtype=np.uint8) & np.uint8(3)
_AT_SEAMS = np.where(np.arange(256) < _KEPT, _LABELS, np.uint8(0))
_MAPS = {"severity": np.float32, "variance": np.float32}
# What is kept in files: labels and flags as well, as there is no memory to spare while tiles are analysed.
_KEPT_IN_FILES = {**_MAPS, "marks": np.uint8}


class Mosaic:
    """What the tiles of an image add up to; domains are not numbered across tiles and left out.

    Parameters
    ----------
    micrograph : Micrograph
        The whole image.
    recipe : Recipe
        Its false marks are those of the whole image.
    scratch : Path
        Folder for the maps; the result reads them.
    """

    def __init__(self, micrograph: Micrograph, recipe: Recipe, scratch: Path) -> None:
        self._micrograph, self._recipe = micrograph, recipe
        self._shape = micrograph.frame_shape
        self._files = {name: scratch / f"{name}.raw" for name in _KEPT_IN_FILES}
        for name, path in self._files.items():
            _allocate(path, math.prod(self._shape) * np.dtype(_KEPT_IN_FILES[name]).itemsize)
        reduced = [-(-n // _COARSE) for n in self._shape]
        self._coarse = {name: np.zeros(reduced, np.float32) for name in ("pixels", "severity")}
        self._regions: list[Region] = []
        self._at_seams: list[Region] = []
        self._patches: list[Row] = []
        self._timings: Counter[str] = Counter()
        # As keys, in the order of their first tile.
        self._warnings: dict[str, None] = {}
        self._count = 0
        self._area_periods = 0.0
        self._reference: FrameResult | None = None

    def add(self, tile: Tile, found: FrameResult, *, preferred: bool) -> None:
        """Take over a tile; a `preferred` one is the reference of the whole image."""
        self._count += 1
        for name in _MAPS:
            self._keep(name, tile, found.pixels(name)[tile.within])
        for name, values in (("pixels", found.micrograph.data), ("severity", found.pixels("severity"))):
            _reduce_into(self._coarse[name], tile.inner, values[tile.within])
        flags = np.zeros(len(found.regions) + 1, np.uint8)
        y, x = tile.corner
        for region in found.regions:
            moved = _moved(region, tile.corner)
            if _inside(moved, tile.inner, self._shape):
                flags[region.id] = _KEPT
                self._regions.append(moved)
            else:
                self._at_seams.append(moved)
        marks = found.labels | _VALID * found.pixels("valid_mask") | flags[label_regions(found.labels)]
        self._keep("marks", tile, marks[tile.within])
        rows = ({**row, "y": row["y"] + y, "x": row["x"] + x} for row in found.patches)
        self._patches += (row for row in rows if tile.holds(row["y"], row["x"]))
        self._warnings.update(dict.fromkeys(found.record["warnings"]))
        self._timings.update(found.record["timings"])
        self._area_periods += found.area_periods * marks[tile.within].size / found.labels.size
        # The reference of the image: the first tile with a crystal, or the preferred one.
        best = found.record["best_patch"]
        first = self._reference is None or (self._reference.record["best_patch"] is None and best is not None)
        if preferred or first:
            moved_patch = best and {**best, "y": best["y"] + y, "x": best["x"] + x}
            # Only what is said about the tile.
            self._reference = replace(found, maps={}, record={**found.record, "best_patch": moved_patch})

    def _keep(self, name: str, tile: Tile, values: NDArray[Any]) -> None:
        # Opened for each tile: what is mapped counts as memory of the process.
        np.memmap(self._files[name], _KEPT_IN_FILES[name], "r+", shape=self._shape)[tile.inner] = values

    def _without_wrong_size(self, record: Mapping[str, Any]) -> None:
        """Forget the pixel size and all lengths where no crystal has the lattice that they make of the reference."""
        lattice, micrograph = record["lattice"] or record["typical_lattice"], self._micrograph
        notice = implausible_size(micrograph, lattice and Lattice(**lattice))
        if notice is None:
            return
        self._micrograph = unsized(micrograph, notice)
        self._warnings[notice] = None
        self._regions = [
            replace(region, area_nm2=None, length_nm=None, width_nm=None) for region in self._regions
        ]

    def result(self, edge_px: int) -> FrameResult:
        """All tiles together; regions over several are measured anew, in windows of about `edge_px` at most."""
        assert self._reference is not None
        reference = self._reference.record
        self._without_wrong_size(reference)
        self._warnings[
            f"The image was analysed in {self._count} tiles, each with a best patch of its own."
        ] = None
        marks = np.fromfile(self._files["marks"], np.uint8).reshape(self._shape)
        size = self._micrograph.pixel_size_nm
        lattice = reference["lattice"] and Lattice(**reference["lattice"])
        found = self._regions + _across_seams(
            marks, self._files["severity"], size, lattice, self._at_seams, edge_px
        )
        found.sort(key=lambda region: (-region.area_px, region.label, region.bbox))
        regions = tuple(replace(region, id=number) for number, region in enumerate(found, 1))
        counts = np.zeros(256)
        for strip in _in_strips(marks):
            counts += np.bincount(strip.ravel(), minlength=256) / marks.size
        marked, valid_mask = _largest(marks, _LABELS), marks[::_COARSE, ::_COARSE] & _VALID > 0
        labels = np.bitwise_and(marks, 3, out=marks)
        area, shares = self._area_periods, {k: float(counts[k == _LABELS].sum()) for k in (1, 2)}
        sound = reference["verdict"] and "non-defective"
        record = {
            **reference,
            "threshold": severity_of(self._recipe.segment.false_marks, area) if area else None,
            "defective_patches": sum(row["label"] == "defective" for row in self._patches),
            "verdict": "defective" if any(shares.values()) else sound,
            "regions": len(regions),
            "fractions": {
                "symmetry_defect": shares[1],
                "amorphous": shares[2],
                "not_assessed": float(counts[np.arange(256) & _VALID == 0].sum()),
            },
            "warnings": list(self._warnings),
            "timings": {step: round(seconds, 4) for step, seconds in self._timings.items()},
            "labels_sha256": provenance.sha256_of(labels),
        }
        maps: dict[str, Any] = {"labels": labels}
        for name in _MAPS:
            strips = _strips(self._files[name], self._shape, _MAPS[name])
            maps[name] = Page(self._shape, np.dtype(_MAPS[name]), _STRIP_ROWS, strips)
        whole = FrameResult(
            self._micrograph,
            self._recipe,
            maps,
            labels,
            valid_mask,
            self._patches,
            regions,
            (),
            record,
            self._reference.classifier,
        )
        return replace(whole, shown=self._reduced(whole, marked))

    def _reduced(self, whole: FrameResult, marked: NDArray[np.uint8]) -> FrameResult:
        """The result as the overview shows it: every `_COARSE`-th pixel."""
        size, factor, record = self._micrograph.pixel_size_nm, _COARSE, dict(whole.record)
        small = Micrograph(
            self._coarse["pixels"],
            None if size is None else size * factor,
            f"{self._micrograph.name}, every {factor}th pixel",
            self._micrograph.metadata,
        )
        if best := record["best_patch"]:
            edge = max(best["size"] // factor, 1)
            record["best_patch"] = {**best, "y": best["y"] / factor, "x": best["x"] / factor, "size": edge}
        for name in ("lattice", "typical_lattice"):
            record[name] = record[name] and asdict(Lattice(**record[name]).scaled(1 / factor))
        maps: dict[str, Any] = {
            "severity": self._coarse["severity"],
            "domains": np.zeros(marked.shape, np.uint8),
        }
        regions = tuple(
            replace(
                region,
                centroid=(region.centroid[0] / factor, region.centroid[1] / factor),
                bbox=tuple(v // factor for v in region.bbox),  # type: ignore[arg-type]
            )
            for region in whole.regions
        )
        return replace(whole, micrograph=small, maps=maps, labels=marked, regions=regions, record=record)


def _allocate(path: Path, size: int) -> None:
    """Make a file of this size: writing into one that is mapped ends the process where the disk is full."""
    with path.open("wb") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)


def _strips(path: Path, shape: tuple[int, int], dtype: Any) -> Iterator[bytes]:
    for y in range(0, shape[0], _STRIP_ROWS):
        rows = np.array(np.memmap(path, dtype, "r", shape=shape)[y : y + _STRIP_ROWS])
        yield compressed(rows)


def _reduce_into(coarse: NDArray[np.float32], window: tuple[slice, slice], values: NDArray[Any]) -> None:
    """Every `_COARSE`-th pixel for the overview."""
    low = [-(-s.start // _COARSE) for s in window]
    first = [c * _COARSE - s.start for c, s in zip(low, window, strict=True)]
    part = values[first[0] :: _COARSE, first[1] :: _COARSE]
    coarse[low[0] : low[0] + part.shape[0], low[1] : low[1] + part.shape[1]] = part


def _in_strips(image: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """Strips of rows: what is computed of a whole image would be as large as that."""
    return (image[y : y + _STRIP_ROWS] for y in range(0, len(image), _STRIP_ROWS))


def _largest(marks: NDArray[np.uint8], labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Largest of the `labels` of the values in each block of `_COARSE` pixels."""
    strips = (block_reduce(labels[strip], _COARSE, np.max) for strip in _in_strips(marks))
    return np.concatenate(list(strips))


def _moved(region: Region, corner: tuple[int, int], step: int = 1) -> Region:
    """A region of a window in pixels of the image; of every `step`-th pixel only what is in nm is right already."""
    (y, x), (y0, x0, y1, x1), (dy, dx) = region.centroid, region.bbox, corner
    return replace(
        region,
        centroid=(y * step + dy, x * step + dx),
        bbox=(y0 * step + dy, x0 * step + dx, y1 * step + dy, x1 * step + dx),
        area_px=region.area_px * step**2,
        length_px=region.length_px * step,
        width_px=region.width_px * step,
    )


def _inside(region: Region, inner: tuple[slice, slice], shape: tuple[int, int]) -> bool:
    """Whether a region touches no seam of the part of its tile that counts."""
    y0, x0, y1, x1 = region.bbox
    return all(
        (low > part.start or part.start == 0)
        and (high < part.stop or part.stop == length)
        and low >= part.start
        and high <= part.stop
        for low, high, part, length in ((y0, y1, inner[0], shape[0]), (x0, x1, inner[1], shape[1]))
    )


def _across_seams(
    marks: NDArray[np.uint8],
    severity: Path,
    size: float | None,
    lattice: Lattice | None,
    parts: list[Region],
    edge_px: int,
) -> list[Region]:
    """Regions that several tiles have parts of; of the largest part comes the type."""
    coarse, _ = ndimage.label(_largest(marks, _AT_SEAMS), np.ones((3, 3)))
    found = []
    for number, place in enumerate(ndimage.find_objects(coarse), 1):
        window = tuple(
            slice(max(s.start * _COARSE - 1, 0), min(s.stop * _COARSE + 1, n))
            for s, n in zip(place, marks.shape, strict=True)
        )
        # What spans much more than a tile is measured on every second, third, ... pixel.
        step = math.ceil(math.sqrt(math.prod(s.stop - s.start for s in window) / edge_px**2))
        window = tuple(slice(s.start, s.stop, step) for s in window)
        rows, columns = (np.arange(s.start, s.stop, step) // _COARSE for s in window)
        part = marks[window]
        own = np.where(coarse[np.ix_(rows, columns)] == number, _AT_SEAMS[part], 0)
        values = np.array(np.memmap(severity, np.float32, "r", shape=marks.shape)[window])
        known = (part & _VALID > 0) | (own > 0)
        nm = None if size is None else size * step
        for region in find_regions(own, values, pixel_size_nm=nm, lattice=lattice, valid_mask=known):
            moved = _moved(region, (window[0].start, window[1].start), step)
            like = [part for part in parts if part.label == moved.label and _touch(part.bbox, moved.bbox)]
            if like:
                largest = max(like, key=lambda part: part.area_px)
                moved = replace(moved, type=largest.type, confidence=largest.confidence)
            found.append(moved)
    return found


def _touch(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return all(one[k] <= other[k + 2] and other[k] <= one[k + 2] for k in (0, 1))
