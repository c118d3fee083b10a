"""Images that are too large to be analysed at once: in tiles that overlap."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from napari_hrstem_defects.batch.parts import Parts
from napari_hrstem_defects.core import pipeline
from napari_hrstem_defects.core.micrograph import Micrograph
from napari_hrstem_defects.core.recipe import Recipe
from napari_hrstem_defects.errors import RecipeError
from napari_hrstem_defects.io.frames import FrameResult
from napari_hrstem_defects.io.saving import ResultWriter

#: Images with a longer side than this are done in tiles of this edge, px.
LONGEST_PX, TILE_PX = 8192, 3072
#: How far a tile reaches beyond what is taken from it, px: more than filters and templates do at the usual sampling.
#: At 8 to 40 px a period 192 and 256 px bring the labels no closer to those of the whole image; 64 px are too few.
MARGIN_PX = 128


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


@dataclass
class Tiles(Parts):
    """A large image under way; every tile has a best patch and statistics of its own."""

    part, suffix = "tile", "tiles"
    level = 0

    def __len__(self) -> int:
        return len(self._tiles)

    @property
    def edge_px(self) -> int:
        """Largest edge of a tile, with its margin."""
        return tile_edge(self.micrograph, self.recipe, self.options.tile_px)

    @cached_property
    def _tiles(self) -> list[Tile]:
        return tiles_of(self.micrograph.frame_shape, self.edge_px)

    def plan(self) -> dict[str, Any]:
        """Nothing; the best patch placed by hand is checked.

        Raises
        ------
        RecipeError
            If it lies outside the image.
        """
        point, shape = self.options.point, self.micrograph.frame_shape
        if point is not None and not all(-0.5 <= v <= n - 0.5 for v, n in zip(point, shape, strict=True)):
            raise RecipeError(
                "The best patch at y = {:g}, x = {:g} lies outside the image; place it on it.".format(*point)
            )
        return {}

    def pixels(self, index: int) -> Micrograph:
        """What is analysed as a tile, with its margin."""
        crop = np.ascontiguousarray(np.asarray(self.micrograph.data[self._tiles[index].outer]))
        return replace(self.micrograph, data=crop)

    def _point(self, tile: Tile) -> tuple[float, float] | None:
        """The best patch placed by hand, in pixels of the tile that it lies in."""
        point = self.options.point
        if point is None or not tile.holds(*np.clip(point, 0, np.array(self.micrograph.frame_shape) - 1)):
            return None
        return point[0] - tile.corner[0], point[1] - tile.corner[1]

    def analyze(self, index: int) -> FrameResult:
        """Analyse one tile; the false marks of the recipe are those of the whole image."""
        tile = self.pixels(index)
        false_marks = self.recipe.segment.false_marks * tile.data.size / self.micrograph.data.size
        return FrameResult.of(
            pipeline.analyze(
                tile,
                self.recipe.replace({"segment.false_marks": false_marks}),
                best_patch=self._point(self._tiles[index]),
                classifier=self.classifier,
                progress=self.reporter(index),
                cancelled=self.cancelled,
            ),
            domains=False,
        )

    def facts(self) -> dict[str, Any]:
        """Edge of the tiles."""
        return {"tile_px": self.edge_px}

    def whole(self) -> FrameResult:
        """The tiles together, with maps that are read from files in `folder`."""
        # Here, because it takes long to import and is used at the end of an image only.
        from napari_hrstem_defects.batch.mosaic import Mosaic

        mosaic = Mosaic(self.micrograph, self.recipe, self.folder)
        for tile, found in zip(self._tiles, self.results(), strict=True):
            mosaic.add(tile, found, preferred=self._point(tile) is not None)
        return mosaic.result(self.edge_px)

    def write(self, writer: ResultWriter) -> None:
        """Write the whole image."""
        writer.add(self.whole())
