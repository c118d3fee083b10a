"""Images that are too large to be analysed at once: in tiles that overlap, with the maps on disk."""

from __future__ import annotations

import itertools
import math
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import block_reduce

from napari_hrstem_defects.batch.series import plausible, share_of_all, unsized
from napari_hrstem_defects.core import pipeline
from napari_hrstem_defects.core.calibration import severity_of
from napari_hrstem_defects.core.errors import RecipeError
from napari_hrstem_defects.core.lattice import Lattice
from napari_hrstem_defects.core.micrograph import Micrograph
from napari_hrstem_defects.core.pipeline import Analysis
from napari_hrstem_defects.core.recipe import Recipe
from napari_hrstem_defects.core.regions import Region, find_regions, label_regions
from napari_hrstem_defects.io import provenance
from napari_hrstem_defects.io.frames import FrameResult
from napari_hrstem_defects.io.ome import ZLIB_LEVEL, Page
from napari_hrstem_defects.io.tables import Row, patch_rows
from napari_hrstem_defects.models.classifier import TrainedClassifier

#: Images with a longer side than this are done in tiles of this edge, px.
LONGEST_PX, TILE_PX = 8192, 3072
#: How far a tile reaches beyond what is taken from it, px: more than filters and templates do at the usual sampling.
MARGIN_PX = 192
# Rows of a strip in the files, and reduction for the overview and for finding what touches a seam.
_STRIP_ROWS, _COARSE = 64, 8
# Flags beside the labels in one image: regions that touch no seam, pixels that are judged.
_KEPT, _JUDGED = np.uint8(128), np.uint8(64)
# Label by value of that image: of all regions, and of those at seams.
_LABELS = np.arange(256, dtype=np.uint8) & np.uint8(3)
_AT_SEAMS = np.where(np.arange(256) < _KEPT, _LABELS, np.uint8(0))
_MAPS = {"severity": np.float32, "variance": np.float32}


# Record of one tile, its best patch in pixels of the whole image, and its classifier.
_Reference = tuple[dict[str, Any], tuple[str, str | None]]


class Tile(NamedTuple):
    """Rows and columns that are analysed, and those that are taken from it."""

    outer: tuple[slice, slice]
    inner: tuple[slice, slice]

    @property
    def within(self) -> tuple[slice, slice]:
        """The inner part in pixels of the outer one."""
        y, x = (
            slice(i.start - o.start, i.stop - o.start) for i, o in zip(self.inner, self.outer, strict=True)
        )
        return y, x

    @property
    def corner(self) -> tuple[int, int]:
        """First row and column that are analysed."""
        return self.outer[0].start, self.outer[1].start

    def holds(self, y: float, x: float) -> bool:
        """Whether a point of the image is taken from this tile."""
        return all(s.start <= v < s.stop for s, v in zip(self.inner, (y, x), strict=True))


def tile_edge(micrograph: Micrograph, recipe: Recipe, tile_px: int | None) -> int:
    """Edge of the tiles that an image is done in, px; 0 for none.

    Parameters
    ----------
    micrograph : Micrograph
    recipe : Recipe
        The published pipeline refers to the whole image: it knows no tiles.
    tile_px : int or None
        As asked for; None: `TILE_PX` where a side is longer than `LONGEST_PX`.
    """
    edge = (TILE_PX if max(micrograph.frame_shape) > LONGEST_PX else 0) if tile_px is None else tile_px
    return edge if recipe.mode == "lattice" and max(micrograph.frame_shape) > edge else 0


def tiles_of(shape: tuple[int, int], edge_px: int, margin_px: int = MARGIN_PX) -> list[Tile]:
    """Tiles of about equal size, row by row.

    Examples
    --------
    >>> [tile.inner[1] for tile in tiles_of((100, 250), 120, 10)]
    [slice(0, 83, None), slice(83, 166, None), slice(166, 250, None)]
    """
    sides = []
    for length in shape:
        count = 1 if length <= edge_px else -(-length // max(edge_px - 2 * margin_px, 1))
        ends = [length * i // count for i in range(count + 1)]
        sides.append(
            [
                (slice(max(a - margin_px, 0), min(b + margin_px, length)), slice(a, b))
                for a, b in itertools.pairwise(ends)
            ]
        )
    return [Tile((y[0], x[0]), (y[1], x[1])) for y, x in itertools.product(*sides)]


def analyze_in_tiles(
    micrograph: Micrograph,
    recipe: Recipe,
    scratch: Path,
    *,
    edge_px: int = TILE_PX,
    best_patch: tuple[float, float] | None = None,
    classifier: TrainedClassifier | None = None,
    progress: Callable[[str, float], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> FrameResult:
    """Find the defects of a large image; every tile has a best patch and statistics of its own.

    Parameters
    ----------
    micrograph : Micrograph
        One frame ``(y, x)``.
    recipe : Recipe
        Its false marks are those of the whole image.
    scratch : Path
        Folder for the maps; what is returned reads them.
    edge_px : int
        Largest edge of a tile, with its margin.
    best_patch : tuple of float, optional
        ``(y, x)`` in px; counts in the tile that it lies in.
    classifier, progress, cancelled
        As for :func:`napari_hrstem_defects.analyze`.

    Returns
    -------
    FrameResult
        With the whole image's labels and regions; ``domains`` are not numbered across tiles and left out. Its
        ``analysis`` is reduced `_COARSE` times, for the overview.

    Raises
    ------
    RecipeError
        If the best patch lies outside the image.
    """
    shape = micrograph.frame_shape
    if best_patch is not None and not all(
        -0.5 <= v <= n - 0.5 for v, n in zip(best_patch, shape, strict=True)
    ):
        raise RecipeError(
            "The best patch at y = {:g}, x = {:g} lies outside the image; place it on it.".format(*best_patch)
        )
    todo = tiles_of(shape, edge_px)
    whole = _Mosaic(micrograph, recipe, scratch)
    for index, tile in enumerate(todo):
        crop = np.ascontiguousarray(np.asarray(micrograph.data[tile.outer]))
        false_marks = recipe.segment.false_marks * crop.size / micrograph.data.size
        place = None
        if best_patch is not None and tile.holds(*np.clip(best_patch, 0, np.array(shape) - 1)):
            place = best_patch[0] - tile.corner[0], best_patch[1] - tile.corner[1]
        whole.add(
            tile,
            plausible(
                pipeline.analyze(
                    replace(whole.micrograph, data=crop),
                    recipe.replace({"segment.false_marks": false_marks}),
                    best_patch=place,
                    classifier=classifier,
                    progress=None if progress is None else _of_all(progress, index, len(todo)),
                    cancelled=cancelled,
                )
            ),
            preferred=place is not None,
        )
    whole.warnings[f"The image was analysed in {len(todo)} tiles, each with a best patch of its own."] = None
    return whole.result(edge_px)


class _Mosaic:
    """What the tiles of an image add up to.

    Attributes
    ----------
    micrograph : Micrograph
        The whole image, without an implausible pixel size.
    warnings : dict
        As keys, in the order of their first tile.
    """

    def __init__(self, micrograph: Micrograph, recipe: Recipe, scratch: Path) -> None:
        self.micrograph, self._recipe = micrograph, recipe
        self.warnings: dict[str, None] = {}
        self._shape = micrograph.frame_shape
        self._marks = np.zeros(self._shape, np.uint8)
        self._files = {name: scratch / f"{name}.raw" for name in _MAPS}
        for path in self._files.values():
            path.unlink(missing_ok=True)
        reduced = [-(-n // _COARSE) for n in self._shape]
        self._coarse = {name: np.zeros(reduced, np.float32) for name in ("pixels", "severity")}
        self._regions: list[Region] = []
        self._at_seams: list[Region] = []
        self._patches: list[Row] = []
        self._timings: Counter[str] = Counter()
        self._area_periods = 0.0
        self._reference: _Reference | None = None

    def add(self, tile: Tile, analysis: Analysis, *, preferred: bool) -> None:
        """Take over a tile; a `preferred` one is the reference of the whole image."""
        found = analysis.micrograph
        if found.pixel_size_nm is None and self.micrograph.pixel_size_nm is not None:
            self.micrograph = unsized(self.micrograph, found.notices[-1])
        for name, path in self._files.items():
            part = getattr(analysis, name)[tile.within].astype(_MAPS[name])
            _write_part(path, self._shape, tile.inner, part)
        for name, values in (("pixels", found.data), ("severity", analysis.severity)):
            _reduce_into(self._coarse[name], tile.inner, values[tile.within])
        flags = np.zeros(len(analysis.regions) + 1, np.uint8)
        y, x = tile.corner
        for region in analysis.regions:
            moved = _moved(region, tile.corner)
            if _inside(moved, tile.inner, self._shape):
                flags[region.id] = _KEPT
                self._regions.append(moved)
            else:
                self._at_seams.append(moved)
        self._marks[tile.inner] = (
            analysis.labels[tile.within]
            | _JUDGED * analysis.judged[tile.within]
            | flags[label_regions(analysis.labels)[tile.within]]
        )
        rows = ({**row, "y": row["y"] + y, "x": row["x"] + x} for row in patch_rows(analysis.patches))
        self._patches += (row for row in rows if tile.holds(row["y"], row["x"]))
        self.warnings.update(dict.fromkeys(analysis.warnings))
        self._timings.update(analysis.timings)
        self._area_periods += analysis.area_periods * self._marks[tile.inner].size / analysis.labels.size
        # The reference of the image: the first tile with a crystal, or the preferred one.
        first = self._reference is None or (
            self._reference[0]["best_patch"] is None and analysis.best_patch is not None
        )
        if preferred or first:
            record, best = provenance.frame_record(analysis), analysis.best_patch
            record["best_patch"] = best and asdict(replace(best, y=best.y + y, x=best.x + x))
            names = analysis.patches.classifier, analysis.patches.classifier_sha256
            self._reference = record, names

    def result(self, edge_px: int) -> FrameResult:
        """All tiles together."""
        marks, size = self._marks, self.micrograph.pixel_size_nm
        assert self._reference is not None
        reference, classifier = self._reference
        lattice = reference["lattice"] and Lattice(**reference["lattice"])
        found = self._regions + _across_seams(
            marks, self._files["severity"], size, lattice, self._at_seams, edge_px
        )
        found.sort(key=lambda region: (-region.area_px, region.label, region.bbox))
        regions = tuple(replace(region, id=number) for number, region in enumerate(found, 1))
        counts = np.zeros(256)
        for strip in _in_strips(marks):
            counts += np.bincount(strip.ravel(), minlength=256) / marks.size
        marked, judged = _largest(marks, _LABELS), marks[::_COARSE, ::_COARSE] & _JUDGED > 0
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
                "not_judged": float(counts[np.arange(256) & _JUDGED == 0].sum()),
            },
            "warnings": list(self.warnings),
            "timings": {step: round(seconds, 4) for step, seconds in self._timings.items()},
            "labels_sha256": provenance.sha256_of(labels),
        }
        maps: dict[str, Any] = {"labels": labels}
        for name, path in self._files.items():
            strips = _strips(path, self._shape, _MAPS[name])
            maps[name] = Page(self._shape, np.dtype(_MAPS[name]), _STRIP_ROWS, strips)
        whole = FrameResult(
            self.micrograph,
            self._recipe,
            maps,
            labels,
            judged,
            self._patches,
            regions,
            (),
            record,
            classifier,
        )
        return replace(whole, shown=self._reduced(whole, marked))

    def _reduced(self, whole: FrameResult, marked: NDArray[np.uint8]) -> FrameResult:
        """The result as the overview shows it: every `_COARSE`-th pixel."""
        size, factor, record = self.micrograph.pixel_size_nm, _COARSE, dict(whole.record)
        small = Micrograph(
            self._coarse["pixels"],
            None if size is None else size * factor,
            f"{self.micrograph.name}, every {factor}th pixel",
            self.micrograph.metadata,
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


def _of_all(progress: Callable[[str, float], None], index: int, count: int) -> Callable[[str, float], None]:
    steps = pipeline.STEPS

    def report(step: str, fraction: float) -> None:
        share = (index + share_of_all(step, fraction)) / count * len(steps)
        number = min(int(share), len(steps) - 1)
        progress(steps[number], share - number)

    return report


def _write_part(
    path: Path, shape: tuple[int, int], window: tuple[slice, slice], values: NDArray[Any]
) -> None:
    """Put a window of a map into a file of raw pixels."""
    rows, columns = window
    with path.open("r+b" if path.exists() else "w+b") as file:
        for y, line in zip(range(rows.start, rows.stop), values, strict=True):
            file.seek((y * shape[1] + columns.start) * values.itemsize)
            file.write(np.ascontiguousarray(line).data)


def _read_part(path: Path, shape: tuple[int, int], window: tuple[slice, slice], dtype: Any) -> NDArray[Any]:
    rows, columns = window
    bytes_ = np.dtype(dtype).itemsize
    width = columns.stop - columns.start
    lines = [
        np.fromfile(path, dtype, width, offset=(y * shape[1] + columns.start) * bytes_)[:: columns.step]
        for y in range(rows.start, rows.stop, rows.step or 1)
    ]
    return np.stack(lines)


def _strips(path: Path, shape: tuple[int, int], dtype: Any) -> Iterator[bytes]:
    for y in range(0, shape[0], _STRIP_ROWS):
        window = slice(y, min(y + _STRIP_ROWS, shape[0])), slice(0, shape[1])
        yield zlib.compress(_read_part(path, shape, window, dtype).data, ZLIB_LEVEL)


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
        values = _read_part(severity, marks.shape, (window[0], window[1]), np.float32)
        known = (part & _JUDGED > 0) | (own > 0)
        nm = None if size is None else size * step
        for region in find_regions(own, values, pixel_size_nm=nm, lattice=lattice, judged=known):
            moved = _moved(region, (window[0].start, window[1].start), step)
            like = [part for part in parts if part.label == moved.label and _touch(part.bbox, moved.bbox)]
            if like:
                largest = max(like, key=lambda part: part.area_px)
                moved = replace(moved, type=largest.type, confidence=largest.confidence)
            found.append(moved)
    return found


def _touch(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return all(one[k] <= other[k + 2] and other[k] <= one[k + 2] for k in (0, 1))
