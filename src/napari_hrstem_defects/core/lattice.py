"""Lattice period and cell of an image, of a patch and of an area, from averaged autocorrelations of tiles.

The autocorrelation of a crystal has a peak of nearly its central height at every translation of the lattice, and lower
peaks where only some columns coincide. Averaged over tiles that show the same lattice it is nearly free of noise, so
that true translations are told from false ones by the significance of the difference.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_hrstem_defects.core.cell import (
    MIN_PERIOD_PX,
    MIN_STRENGTH,
    Lattice,
    cell_of,
    fitted,
    lattice_of,
    repetition,
)
from napari_hrstem_defects.core.threads import side_by_side
from napari_hrstem_defects.core.tile_correlation import (
    NOISE_BANDS,
    Autocorrelation,
    Floats,
    Tile,
    autocorrelation,
    tile_of,
)

Doubles = NDArray[np.float64]

__all__ = [
    "Lattice",
    "LatticeEstimate",
    "agreement",
    "find_lattice",
    "lattice_in",
    "typical_lattice",
]

#: Edge of the smallest tiles in px, and the most tiles looked at: the mean over 24 has a fifth of the noise of one.
TILE_PX = 128
MOST_TILES = 24
#: Cells in a tile that are needed to trust its lattice: 3.5 periods each way.
MIN_CELLS = 12.0
#: Tiles show the same lattice from this share of the best likeness on (white noise lowers all alike).
SAME_TILE = 0.9
#: Share of the autocorrelation that repeating the cell must explain: out to three periods for the cell to be right, out
#: to six for the lattice to be a crystal's, and out to three to be one at all. Crystals 0.90 to 1; quasicrystals,
#: moirés and fringes below 0.8; speckles in few tiles up to 0.4.
REPEATS, REPEATS_FAR, REPEATS_LEAST = 0.95, 0.86, 0.5
#: Share of the tiles up to which a lattice is called one of a part of the image: it may be none that matters.
#: A lattice of this share of the mean's period is finer than the mean's: below 1/√2 with a tolerance.
FINER = 0.8
MIN_SHARE = 0.25
NOT_A_CRYSTAL = (
    "The pattern does not repeat as a crystal does: a quasicrystal, a moiré, curved fringes, a diffraction pattern? "
    "Do not trust the lattice."
)
#: Lattices agree up to this turn in degrees, this stretch, and this ratio of the areas of their cells.
SAME_ANGLE_DEG = 3.0
SAME_STRETCH = 1.1
MOST_CELLS = 2.3


@dataclass(frozen=True)
class LatticeEstimate:
    """Lattice of an image and how far to trust it.

    Attributes
    ----------
    lattice : Lattice or None
    tile_px : int
        Edge of the tiles it was seen with (of strips: the longer one).
    share : float
        Share of the tiles that show it.
    repetition : float
        How much of the autocorrelation beyond the cell is explained by repeating the cell, 0...1.
    warnings : tuple of str
        Why there is none, or why it may not be a crystal's.
    """

    lattice: Lattice | None
    tile_px: int
    share: float = 0.0
    repetition: float = 0.0
    warnings: tuple[str, ...] = ()


def find_lattice(pixels: NDArray[np.floating]) -> Lattice | None:
    """Lattice of a patch, None if it is not periodic in two directions.

    Parameters
    ----------
    pixels : array (y, x)
        Raw or prepared pixels.
    """
    found = _of_tiles([tile_of(pixels)], None, weak=True)
    return None if found is None else found[0]


def agreement(a: Lattice | None, b: Lattice | None) -> tuple[int, float] | None:
    """How two lattices differ that agree but for a small turn and stretch, a cell twice or half as large included.

    Returns
    -------
    cells : int
        Ratio of the areas of their cells, 1 or 2.
    stretch : float
        Largest stretch, as a natural logarithm.
    None
        If they do not agree, or one is None.
    """
    if a is None or b is None:
        return None
    small, large = (a, b) if a.period_px <= b.period_px else (b, a)
    if (large.period_px / small.period_px) ** 2 > MOST_CELLS:
        return None
    basis, target = np.array([small.v1, small.v2]).T, np.array([large.v1, large.v2]).T
    multiple = np.rint(np.linalg.solve(basis, target))
    cells = abs(round(float(np.linalg.det(multiple))))
    if cells == 0:
        return None
    # target = rotation · stretch · (basis · multiple)
    u, stretches, vt = np.linalg.svd(target @ np.linalg.inv(basis @ multiple))
    rotation = u @ vt
    angle = np.degrees(np.arctan2(rotation[1, 0] - rotation[0, 1], rotation[0, 0] + rotation[1, 1]))
    stretch = float(np.abs(np.log(stretches)).max())
    if abs(angle) >= SAME_ANGLE_DEG or stretch >= np.log(SAME_STRETCH):
        return None
    return cells, stretch


def _of_tiles(
    tiles: list[Tile], single: Floats | None, *, weak: bool = False
) -> tuple[Lattice, Autocorrelation] | None:
    """Lattice of the mean of tiles; white noise is looked for in lower and lower bands."""
    first = None
    bands = NOISE_BANDS if min(tiles[0].edges) >= TILE_PX // 2 else NOISE_BANDS[:1]
    for band in bands:
        narrow = band < NOISE_BANDS[0]
        acf = autocorrelation(tiles, band)
        lattice = cell_of(acf, single, both=narrow)
        if lattice is not None:
            if lattice.strength >= MIN_STRENGTH:
                return lattice, acf
            first = first if narrow else (lattice, acf)
    return first if weak else None


def typical_lattice(pixels: NDArray[np.floating], valid: NDArray[np.bool_] | None = None) -> LatticeEstimate:
    """Lattice that most of an image shows.

    The autocorrelations of the tiles that show the same lattice are averaged. Tiles of growing size are tried: small
    ones keep grains apart, large ones see large cells; images of less than about 200 px are cut into smaller ones last.

    Parameters
    ----------
    pixels : array (y, x)
    valid : bool array (y, x), optional
        False where there is no image: borders of an alignment, scale bars, saturated blocks.

    Returns
    -------
    LatticeEstimate
        Its lattice is None where no tile size shows one; the first warning then says why.
    """
    best: LatticeEstimate | None = None
    short: Lattice | None = None
    longest = max(pixels.shape)
    for size, bin_px in _SCALES:
        if bin_px > 1 and size * bin_px > 1.5 * longest:
            continue
        found = _seen(pixels, valid, size, bin_px)
        if found is None or found.lattice is None:
            continue
        held = found.tile_px * min(found.tile_px, *pixels.shape) / found.lattice.period_px**2
        if found.repetition >= REPEATS and held >= MIN_CELLS:
            return _doubted(found, pixels, valid)
        if pixels.size / found.lattice.period_px**2 < MIN_CELLS:
            short = short or found.lattice
        elif found.repetition >= REPEATS_LEAST and (best is None or found.repetition > best.repetition):
            best = found
    if best is not None:
        return _doubted(best, pixels, valid)
    return LatticeEstimate(None, min(TILE_PX, longest), warnings=(_reason(short, pixels.shape),))


def lattice_in(
    pixels: NDArray[np.floating], mask: NDArray[np.bool_], tile_px: int = TILE_PX
) -> Lattice | None:
    """Lattice of an area, e.g. of a domain: the mean over the tiles in it.

    Parameters
    ----------
    pixels, mask : array (y, x)
        Only pixels in the mask count.
    tile_px : int
        Edge of the tiles in pixels, best that of :func:`typical_lattice`.

    Returns
    -------
    Lattice or None
        None where the area is smaller than half a tile or shows no lattice.
    """
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if len(rows) == 0:
        return None
    box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    bin_px = max(1, tile_px // (2 * TILE_PX))
    image, known = _binned(pixels[box], mask[box], bin_px)
    edges = (min(tile_px // bin_px, image.shape[0]), min(tile_px // bin_px, image.shape[1]))
    tiles = _tiles(image, known, edges)
    maps = None if len(tiles) < 2 else np.stack([autocorrelation([tile]).values for tile in tiles])
    found = _of_tiles(tiles, maps) if tiles else None
    return None if found is None else found[0].scaled(bin_px)


def _seen(
    pixels: NDArray[np.floating], valid: NDArray[np.bool_] | None, size: int, bin_px: int
) -> LatticeEstimate | None:
    """What tiles of one size show; the lattice is not in doubt yet."""
    image, known = _binned(pixels, valid, bin_px)
    edges = (min(size, image.shape[0]), min(size, image.shape[1]))
    tiles = _tiles(image, known, edges)
    for group, single in _groups(tiles) if tiles else []:
        chosen = [tiles[i] for i in group]
        found = _of_tiles(chosen, single)
        if found is not None:
            alike = _alike(chosen, found[0])
            if len(alike) < len(chosen):
                part = None if single is None else single[alike]
                found = _of_tiles([chosen[i] for i in alike], part) or found
        if found is not None:
            lattice, acf = found
            repeats, share = repetition(acf, lattice, 3.0), len(group) / len(tiles)
            return LatticeEstimate(lattice.scaled(bin_px), max(edges) * bin_px, share, repeats)
    return None


def _alike(tiles: list[Tile], lattice: Lattice) -> list[int]:
    """Tiles of the most frequent lattice where single tiles show different ones, each finer than their mean.

    Two twins share a coarser coincidence lattice, which is what their mean autocorrelation shows. A superlattice that
    is too weak for a single tile is not affected: there all tiles show the same finer lattice.
    """
    everything = list(range(len(tiles)))
    some = everything[:: max(1, len(tiles) // 4)]
    finer = [found[0] for i in some if (found := _of_tiles([tiles[i]], None)) is not None]
    if not any(each.period_px < FINER * lattice.period_px for each in finer):
        return everything
    seen = {i: found[0] for i in everything if (found := _of_tiles([tiles[i]], None)) is not None}
    classes: list[list[int]] = []
    for i, each in seen.items():
        home = next((c for c in classes if agreement(seen[c[0]], each) is not None), None)
        if home is None:
            classes.append([i])
        else:
            home.append(i)
    classes.sort(key=len, reverse=True)
    # A single odd tile is chance.
    return classes[0] if len(classes) > 1 and len(classes[1]) > 1 else everything


def _doubted(
    found: LatticeEstimate, pixels: NDArray[np.floating], valid: NDArray[np.bool_] | None
) -> LatticeEstimate:
    """With the repetition out to six periods, in tiles twice as large, and a warning where it is low."""
    lattice, repeats = found.lattice, found.repetition
    if lattice is not None and min(pixels.shape) > 2 * found.tile_px:
        bin_px = 2 if lattice.period_px > 3 * MIN_PERIOD_PX else 1
        image, known = _binned(pixels, valid, bin_px)
        size = int(min(2 * found.tile_px, 16 * lattice.period_px)) // bin_px
        edges = (min(size, image.shape[0]), min(size, image.shape[1]))
        tiles = _tiles(image, known, edges, MOST_TILES // 4)
        group, single = _groups(tiles)[0] if tiles else ([], None)
        if group:
            acf = autocorrelation([tiles[i] for i in group])
            repeats = min(repeats, _repeats_far(acf, single, lattice.scaled(1 / bin_px)))
    warnings: tuple[str, ...] = (NOT_A_CRYSTAL,) if repeats < REPEATS_FAR else ()
    if found.share <= MIN_SHARE:
        warnings += (f"The lattice is seen in {found.share:.0%} of the image only.",)
    return dataclasses.replace(found, repetition=repeats, warnings=warnings)


def _repeats_far(acf: Autocorrelation, single: Floats | None, lattice: Lattice) -> float:
    """Repetition out to six periods: of the lattice found, and of that of another grain."""
    centre = np.array(acf.values.shape) // 2
    smooth = ndimage.gaussian_filter(acf.denoised, 1.0)
    tried = [lattice_of(fitted(smooth, centre, np.array([lattice.v1, lattice.v2])), 1.0)]
    again = cell_of(acf, single)
    if again is not None and abs(again.period_px / lattice.period_px - 1) < 0.05:
        tried.append(again)
    return max(repetition(acf, one, 6.0) for one in tried)


#: Edges of tiles and by how much the image is binned: large cells need no fine pixels.
_SCALES = ((128, 1), (192, 1), (128, 2), (192, 2), (128, 4), (192, 4), (64, 1))


def _binned(
    pixels: NDArray[np.floating], valid: NDArray[np.bool_] | None, bin_px: int
) -> tuple[NDArray[np.floating], NDArray[np.bool_] | None]:
    if bin_px == 1:
        return pixels, valid
    rows, columns = (n // bin_px for n in pixels.shape)
    inner = (slice(rows * bin_px), slice(columns * bin_px))
    blocks = (rows, bin_px, columns, bin_px)
    image: Floats = pixels[inner].astype(np.float32).reshape(blocks).mean((1, 3))
    if valid is None:
        return image, None
    return image, np.asarray(valid[inner].reshape(blocks).all((1, 3)), bool)


def _reason(few: Lattice | None, shape: tuple[int, ...]) -> str:
    if few is None:
        return "No lattice was found."
    cells = shape[0] * shape[1] / few.period_px**2
    return (
        f"The image holds about {cells:.0f} cells of {few.period_px:.0f} px to a side; {MIN_CELLS:.0f} are needed. "
        "Take an image of a larger field."
    )


def _groups(tiles: list[Tile]) -> list[tuple[list[int], Floats | None]]:
    """Tiles that show the same lattice, then all of them."""
    if len(tiles) == 1:
        return [([0], None)]
    maps = np.stack([autocorrelation([tile]).values for tile in tiles])
    flat = _anisotropy(maps)
    norms = np.sqrt((flat**2).sum(axis=1))
    seen = norms > 0
    unit = flat / np.where(seen, norms, 1)[:, None]
    alike = unit @ unit.T
    np.fill_diagonal(alike, 0)
    every = [i for i in range(len(tiles)) if seen[i]]
    if not every:
        return []
    middle = int(np.argmax(alike.sum(axis=1)))
    group = [
        i
        for i in every
        if i == middle or alike[middle, i] >= _limit(_typical(np.delete(alike[middle], middle)))
    ]
    mean = unit[group].mean(axis=0)
    close = unit @ mean / max(float(np.sqrt((mean**2).sum())), 1e-6)
    group = [i for i in every if close[i] >= _limit(float(np.median(close[group])))]
    out: list[tuple[list[int], Floats | None]] = [(group, maps[group])] if group else []
    if len(group) < len(every):
        out.append((every, maps[every]))
    return out


def _limit(typical: float) -> float:
    """Least likeness: noise lowers and scatters that of all tiles."""
    return typical * (0.5 + (SAME_TILE - 0.5) * typical)


def _typical(likeness: Doubles | Floats) -> float:
    """Likeness of tiles that show the same, whatever the others show."""
    return float(np.quantile(likeness, 0.9))


def _anisotropy(maps: Floats) -> Floats:
    """Autocorrelations (n, samples) at shifts up to 0.3 of a tile less the mean of the ring: glass has none left."""
    _, height, width = maps.shape
    y, x = (np.arange(k) - k // 2 for k in (height, width))
    radius = np.hypot(y[:, None], x[None])
    inside = (radius >= MIN_PERIOD_PX) & (radius <= 0.66 * max(height // 2, width // 2))
    inside &= (y[:, None] > 0) | ((y[:, None] == 0) & (x[None] > 0))
    ring = np.rint(radius[inside]).astype(int)
    flat = maps[:, inside]
    order = np.argsort(ring, kind="stable")
    counts = np.bincount(ring)
    present = counts[counts > 0]
    starts = np.concatenate(([0], np.cumsum(present)[:-1]))
    flat = flat[:, order]
    means = np.add.reduceat(flat, starts, axis=1) / present
    return flat - np.repeat(means, present, axis=1)


def _tiles(
    pixels: NDArray[np.floating],
    valid: NDArray[np.bool_] | None,
    edges: tuple[int, int],
    most: int = MOST_TILES,
) -> list[Tile]:
    """At most `most` tiles spread evenly over the image, at least half of each valid."""
    # Half overlapping where there are few.
    counts = [max(1, -(-2 * n // e) - 1) for n, e in zip(pixels.shape, edges, strict=True)]
    while np.prod(counts) > most:
        counts[int(np.argmax(counts))] -= 1
    ys, xs = (
        np.rint(np.linspace(0, n - e, c)).astype(int)
        for n, e, c in zip(pixels.shape, edges, counts, strict=True)
    )
    places = [(slice(y, y + edges[0]), slice(x, x + edges[1])) for y in ys for x in xs]
    if valid is not None:
        places = [place for place in places if np.mean(valid[place]) >= 0.5]
    return list(
        side_by_side(
            lambda place: tile_of(pixels[place], None if valid is None else valid[place]),
            places,
            pixels=4 * edges[0] * edges[1],
        )
    )
