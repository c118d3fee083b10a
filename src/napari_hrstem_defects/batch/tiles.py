"""Images that are too large to be analysed at once: in tiles that overlap, with the maps on disk."""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import block_reduce

from napari_hrstem_defects.batch.series import plausible, unsized
from napari_hrstem_defects.core import pipeline
from napari_hrstem_defects.core.analysis import (
    Chosen,
    Classified,
    Compared,
    Divided,
    Listed,
    Preprocessed,
    Segmented,
    Varied,
)
from napari_hrstem_defects.core.best_patch import BestPatch
from napari_hrstem_defects.core.lattice import Lattice
from napari_hrstem_defects.core.micrograph import Micrograph
from napari_hrstem_defects.core.patches import PatchGrid, PatchTable
from napari_hrstem_defects.core.pipeline import Analysis
from napari_hrstem_defects.core.recipe import Recipe
from napari_hrstem_defects.core.regions import Region, find_regions, label_regions
from napari_hrstem_defects.io import provenance
from napari_hrstem_defects.io.frames import FrameResult
from napari_hrstem_defects.io.ome import Page
from napari_hrstem_defects.io.tables import Row, patch_rows
from napari_hrstem_defects.models.classifier import TrainedClassifier

#: Images with a longer side than this are done in tiles of this edge, px.
LONGEST_PX, TILE_PX = 8192, 4096
#: How far a tile reaches beyond what is taken from it, px: more than filters and templates do at the usual sampling.
MARGIN_PX = 192
# Rows of a strip in the files, and reduction for the overview and for finding what touches a seam.
_STRIP_ROWS, _COARSE = 64, 8
# Added to the labels of regions that touch no seam.
_KEPT = 128
_MAPS = {"severity": np.float32, "variance": np.float32}


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
    """
    shape, size = micrograph.frame_shape, micrograph.pixel_size_nm
    labels, judged = np.zeros(shape, np.uint8), np.zeros(shape, bool)
    files = {name: scratch / f"{name}.raw" for name in _MAPS}
    coarse = {
        name: np.zeros([-(-n // _COARSE) for n in shape], np.float32) for name in ("pixels", "severity")
    }
    kept: list[Region] = []
    parts: list[Region] = []
    patches: list[Row] = []
    warnings: dict[str, None] = {}
    timings = dict.fromkeys(pipeline.STEPS, 0.0)
    area, reference = 0.0, None
    todo = tiles_of(shape, edge_px)
    for path in files.values():
        path.unlink(missing_ok=True)
    for index, tile in enumerate(todo):
        crop = np.ascontiguousarray(np.asarray(micrograph.data[tile.outer]))
        corner = np.array([s.start for s in tile.outer])
        marks = recipe.segment.false_marks * crop.size / micrograph.data.size
        here = None if best_patch is None else tuple(float(v) for v in np.array(best_patch) - corner)
        ours = best_patch is not None and all(
            s.start <= round(v) < s.stop for s, v in zip(tile.inner, best_patch, strict=True)
        )
        analysis = pipeline.analyze(
            Micrograph(crop, size, micrograph.name, micrograph.metadata, micrograph.notices),
            recipe.replace({"segment.false_marks": marks}),
            best_patch=(here[0], here[1]) if here is not None and ours else None,
            classifier=classifier,
            progress=None if progress is None else _of_all(progress, index, len(todo)),
            cancelled=cancelled,
        )
        analysis = plausible(analysis)
        if size is not None and analysis.micrograph.pixel_size_nm is None:
            micrograph, size = unsized(micrograph, analysis.micrograph.notices[-1]), None
        labels[tile.inner] = analysis.labels[tile.within]
        judged[tile.inner] = analysis.judged[tile.within]
        for name, path in files.items():
            _write_part(path, shape, tile.inner, getattr(analysis, name)[tile.within].astype(_MAPS[name]))
        for name, values in (("pixels", crop), ("severity", analysis.severity)):
            _reduce_into(coarse[name], tile.inner, values[tile.within])
        numbers = label_regions(analysis.labels)
        for region in analysis.regions:
            moved = _moved(region, corner)
            if _inside(moved, tile.inner, shape):
                labels[tile.outer][numbers == region.id] |= _KEPT
                kept.append(moved)
            else:
                parts.append(moved)
        patches += (
            {**row, "y": row["y"] + corner[0], "x": row["x"] + corner[1]}
            for row in patch_rows(analysis.patches)
            if all(s.start <= row[k] + c < s.stop for s, k, c in zip(tile.inner, "yx", corner, strict=True))
        )
        warnings.update(dict.fromkeys(analysis.warnings))
        timings = {step: seconds + analysis.timings[step] for step, seconds in timings.items()}
        area += analysis.area_periods * _size(tile.inner) / crop.size
        # The tile whose crystal speaks for the image: the first with one, or that with the patch placed by hand.
        if reference is None or ours or (reference.best_patch is None and analysis.best_patch is not None):
            reference = _Reference.of(analysis, corner)
        del analysis, numbers  # before the next tile needs the memory
    assert reference is not None
    kept += _across_seams(labels, judged, files["severity"], size, reference.lattice, parts, edge_px)
    labels &= _KEPT - 1
    kept.sort(key=lambda region: (-region.area_px, region.label, region.bbox))
    regions = tuple(replace(region, id=number) for number, region in enumerate(kept, 1))
    warnings[f"The image was analysed in {len(todo)} tiles, each with a best patch of its own."] = None
    shown = _reduced(micrograph, recipe, reference, coarse, labels, judged, regions, area, tuple(warnings))
    record = {
        **reference.record,
        "threshold": shown.threshold,
        "defective_patches": sum(row["label"] == "defective" for row in patches),
        "verdict": "defective" if regions else shown.verdict,
        "regions": len(regions),
        "fractions": {
            "symmetry_defect": float(np.count_nonzero(labels == 1) / labels.size),
            "amorphous": float(np.count_nonzero(labels == 2) / labels.size),
            "not_judged": float(1 - np.count_nonzero(judged) / labels.size),
        },
        "warnings": list(warnings),
        "timings": {step: round(seconds, 4) for step, seconds in timings.items()},
        "labels_sha256": provenance.sha256_of(labels),
    }
    maps: dict[str, Any] = {"labels": labels}
    maps |= {
        name: Page(shape, np.dtype(_MAPS[name]), _STRIP_ROWS, _strips(path, shape, _MAPS[name]))
        for name, path in files.items()
    }
    return FrameResult(
        micrograph,
        recipe,
        maps,
        labels,
        patches,
        regions,
        (),
        record,
        reference.classifier,
        analysis=shown,
    )


class _Reference(NamedTuple):
    """What one tile says about the whole image, in pixels of that; without its maps."""

    record: dict[str, Any]
    best_patch: BestPatch | None
    lattice: Lattice | None
    typical: Lattice | None
    classifier: tuple[str, str | None]

    @classmethod
    def of(cls, analysis: Analysis, corner: NDArray[np.intp]) -> _Reference:
        best, table = analysis.best_patch, analysis.patches
        if best is not None:
            best = replace(best, y=best.y + float(corner[0]), x=best.x + float(corner[1]))
        record = provenance.frame_record(analysis)
        record["best_patch"] = None if best is None else asdict(best)
        names = table.classifier, table.classifier_sha256
        return cls(record, best, analysis.lattice, analysis.typical, names)


def _size(window: tuple[slice, slice]) -> int:
    return (window[0].stop - window[0].start) * (window[1].stop - window[1].start)


def _of_all(progress: Callable[[str, float], None], index: int, count: int) -> Callable[[str, float], None]:
    steps = pipeline.STEPS

    def report(step: str, fraction: float) -> None:
        share = (index + (steps.index(step) + fraction) / len(steps)) / count * len(steps)
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
        yield zlib.compress(_read_part(path, shape, window, dtype).data)


def _reduce_into(coarse: NDArray[np.float32], window: tuple[slice, slice], values: NDArray[Any]) -> None:
    """Every `_COARSE`-th pixel for the overview."""
    low = [-(-s.start // _COARSE) for s in window]
    first = [c * _COARSE - s.start for c, s in zip(low, window, strict=True)]
    part = values[first[0] :: _COARSE, first[1] :: _COARSE]
    coarse[low[0] : low[0] + part.shape[0], low[1] : low[1] + part.shape[1]] = part


def _moved(region: Region, corner: NDArray[np.intp]) -> Region:
    (y, x), (y0, x0, y1, x1), (dy, dx) = region.centroid, region.bbox, corner.tolist()
    return replace(region, centroid=(y + dy, x + dx), bbox=(y0 + dy, x0 + dx, y1 + dy, x1 + dx))


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
    labels: NDArray[np.uint8],
    judged: NDArray[np.bool_],
    severity: Path,
    size: float | None,
    lattice: Lattice | None,
    parts: list[Region],
    edge_px: int,
) -> list[Region]:
    """Regions that several tiles have parts of; of the largest part comes the type."""
    seams = np.where(labels < _KEPT, labels, np.uint8(0))
    coarse, _ = ndimage.label(block_reduce(seams, _COARSE, np.max) > 0, np.ones((3, 3)))
    found = []
    for number, place in enumerate(ndimage.find_objects(coarse), 1):
        window = tuple(
            slice(max(s.start * _COARSE - 1, 0), min(s.stop * _COARSE + 1, n))
            for s, n in zip(place, seams.shape, strict=True)
        )
        # What spans much more than a tile is measured on every second, third, ... pixel.
        step = math.ceil(math.sqrt(math.prod(s.stop - s.start for s in window) / edge_px**2))
        window = tuple(slice(s.start, s.stop, step) for s in window)
        rows, columns = (np.arange(s.start, s.stop, step) // _COARSE for s in window)
        own = np.where(coarse[np.ix_(rows, columns)] == number, seams[window], 0)
        values = _read_part(severity, seams.shape, (window[0], window[1]), np.float32)
        known = judged[window] | (own > 0)
        nm = None if size is None else size * step
        for region in find_regions(own, values, pixel_size_nm=nm, lattice=lattice, judged=known):
            moved = _moved(_enlarged(region, step), np.array([s.start for s in window]))
            like = [part for part in parts if part.label == moved.label and _touch(part.bbox, moved.bbox)]
            if like:
                largest = max(like, key=lambda part: part.area_px)
                moved = replace(moved, type=largest.type, confidence=largest.confidence)
            found.append(moved)
    return found


def _enlarged(region: Region, step: int) -> Region:
    """A region that was measured on every `step`-th pixel, in pixels; what is in nm is so already."""
    y0, x0, y1, x1 = (v * step for v in region.bbox)
    return replace(
        region,
        centroid=(region.centroid[0] * step, region.centroid[1] * step),
        bbox=(y0, x0, y1, x1),
        area_px=region.area_px * step**2,
        length_px=region.length_px * step,
        width_px=region.width_px * step,
    )


def _touch(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return all(one[k] <= other[k + 2] and other[k] <= one[k + 2] for k in (0, 1))


def _reduced(
    micrograph: Micrograph,
    recipe: Recipe,
    reference: _Reference,
    coarse: dict[str, NDArray[np.float32]],
    labels: NDArray[np.uint8],
    judged: NDArray[np.bool_],
    regions: tuple[Region, ...],
    area: float,
    warnings: tuple[str, ...],
) -> Analysis:
    """The analysis as the overview shows it: every `_COARSE`-th pixel."""
    size, factor = micrograph.pixel_size_nm, _COARSE
    small = Micrograph(
        coarse["pixels"],
        None if size is None else size * factor,
        f"{micrograph.name}, every {factor}th pixel",
        micrograph.metadata,
    )
    best = reference.best_patch
    if best is not None:
        best = replace(best, y=best.y / factor, x=best.x / factor, size=max(best.size // factor, 1))
    marked = block_reduce(labels, factor, np.max)
    table = PatchTable(
        PatchGrid(small.frame_shape, min(small.frame_shape)),
        np.zeros((1, 1), np.float32),
        0.5,
        np.zeros((1, 1), bool),
        *reference.classifier,
    )
    scaled = tuple(
        replace(
            region,
            centroid=(region.centroid[0] / factor, region.centroid[1] / factor),
            bbox=tuple(v // factor for v in region.bbox),  # type: ignore[arg-type]
        )
        for region in regions
    )
    typical = reference.typical
    if typical is not None:
        typical = typical.scaled(1 / factor)
    results: dict[str, Any] = {
        "preprocess": Preprocessed(typical),
        "domains": Divided(),
        "variance": Varied(np.zeros(marked.shape, np.float32), marked == 2),
        "classify": Classified(table),
        "best_patch": Chosen(best),
        "symmetry": Compared(coarse["severity"], judged[::factor, ::factor], area_periods=area),
        "segment": Segmented(marked, table),
        "regions": Listed(scaled),
    }
    return Analysis(small, recipe, results, warnings_by_step={"regions": warnings})
