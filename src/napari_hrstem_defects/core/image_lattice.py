"""Lattice of an image: that of most of its tiles, or else that of a part of it that is one crystal.

Tiles are the wrong windows for a small particle on a support and for a multiply twinned one: most show no crystal, or
several that share a direction. There the scale is taken from the reflections, which are sharp in whatever direction
they lie, the parts from the field of local autocorrelations at that scale, and the lattice from a part by itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from napari_hrstem_defects.core.autocorrelation import (
    ALIKE,
    MIN_SHARE,
    RING,
    SIGNIFICANT,
    TILE,
    TINY,
    Products,
    autocorrelation_field,
    tile_products,
)
from napari_hrstem_defects.core.lattice import (
    LEAST_TILE,
    MIN_CELLS,
    MIN_PERIOD_PX,
    MIN_STRENGTH,
    SAME_SHAPE,
    Lattice,
    Mask,
    cell_of,
    mean_autocorrelation,
    repetition,
)
from napari_hrstem_defects.core.plateaus import CRYSTAL_STRENGTH, crystalline_areas, direction_step
from napari_hrstem_defects.core.preprocessing import binned, prepare
from napari_hrstem_defects.core.recipe import CRYSTAL_SHARE, DomainParams, PreprocessParams
from napari_hrstem_defects.core.severity import field_valid
from napari_hrstem_defects.core.variance import empty_areas
from napari_hrstem_defects.threads import side_by_side

#: Most tiles of an image.
MOST_TILES = 24
#: Tiles whose products are computed together.
TILES_AT_ONCE = 6
NOT_A_CRYSTAL = (
    "The pattern does not repeat as a crystal does: a quasicrystal, a moiré, curved fringes, a diffraction pattern? "
    "Do not trust the lattice."
)
SEEN_IN = "The lattice is seen in {:.0%} of the image only."


@dataclass(frozen=True)
class LatticeEstimate:
    """Lattice of an image, edge of the tiles it was seen with in px, and how far to trust it.

    Attributes
    ----------
    share : float
        Share of the tiles that show it.
    repetition : float
        How much of the autocorrelation beyond the cell is explained by repeating the cell, 0...1.
    warnings : tuple of str
        Why there is none, or why it may not be a crystal's.
    """

    lattice: Lattice | None
    tile_px: int
    share: float
    repetition: float
    warnings: tuple[str, ...] = ()


def lattice_of_image(
    pixels: NDArray[np.floating],
    valid: Mask,
    params: PreprocessParams,
    *,
    cancelled: Callable[[], bool] | None = None,
) -> tuple[LatticeEstimate, NDArray[np.floating], Mask]:
    """Lattice of an image and its vacuum.

    Parameters
    ----------
    pixels : float array (y, x)
    valid : bool array (y, x)
        Pixels that hold an image.
    params : PreprocessParams
    cancelled : callable, optional
        Asked often; as soon as it returns True the work stops.

    Returns
    -------
    estimate : LatticeEstimate
    pixels : float array (y, x)
        With the mean of the rest in vacuum.
    empty : bool array (y, x)
        Vacuum, see :func:`~.variance.empty_areas`; nothing where there is no lattice.

    Raises
    ------
    Cancelled
        If `cancelled` returned True.
    """
    estimate, empty = typical_lattice(pixels, valid), np.zeros(valid.shape, bool)
    if estimate.lattice is None:
        estimate = lattice_of_parts(pixels, valid, params, cancelled=cancelled) or estimate
    if estimate.lattice is not None:
        empty = empty_areas(pixels, valid, estimate.lattice, params)
        again = estimate
        if empty.any():
            # The edge of a hole is stronger than any lattice.
            valid = valid & ~empty
            pixels = np.where(valid, pixels, np.float32(pixels[valid].mean()))
            again = typical_lattice(pixels, valid) if estimate.warnings else estimate
        if again.warnings:
            # Tiles that show several crystals show what these have in common, a larger cell.
            part = lattice_of_parts(pixels, valid, params, cancelled=cancelled)
            if part is not None and (again.lattice is None or _finer(part.lattice, again.lattice)):
                again = part
            elif part is not None and part.lattice is not None and not _finer(again.lattice, part.lattice):
                again = replace(again, share=part.share, warnings=part.warnings)
        estimate = estimate if again.lattice is None else again
    return estimate, pixels, empty


def _finer(lattice: Lattice | None, other: Lattice) -> bool:
    """Whether the period is smaller by more than distortion makes it."""
    return lattice is not None and (1 + SAME_SHAPE) * lattice.period_px < other.period_px


def typical_lattice(
    pixels: NDArray[np.floating], valid: Mask | None = None, largest: int | None = None
) -> LatticeEstimate:
    """Lattice that most of an image shows.

    The autocorrelations of the tiles that show the same lattice are averaged. Tiles of growing size are tried: small
    ones keep grains apart, large ones see large cells; images of less than about 200 px are cut into smaller ones last.

    Parameters
    ----------
    pixels : array (y, x)
    valid : bool array (y, x), optional
        False where there is no image: borders of an alignment, scale bars, saturated blocks.
    largest : int, optional
        Edge of the largest tiles in px; default: four times the smallest.
    """
    seen = np.ones(pixels.shape, bool) if valid is None else valid
    best = LatticeEstimate(None, min(TILE, max(pixels.shape)), 0, 0)
    reason = "No lattice was found."
    sizes = [TILE, 2 * TILE, 2 * 2 * TILE, *((TILE // 2,) if min(pixels.shape) < 2 * TILE else ())]
    for tile_px in (size for size in sizes if largest is None or size <= largest):
        # Large cells need no fine pixels.
        found = _seen(pixels, seen, tile_px, max(1, tile_px // TILE))
        if found.lattice is None:
            continue
        period = found.lattice.period_px
        held = found.tile_px * min(found.tile_px, *pixels.shape) / period**2
        cells = np.count_nonzero(seen) / period**2
        if cells < MIN_CELLS:
            reason = (
                f"The image holds about {cells:.0f} cells of {period:.0f} px to a side; "
                f"{MIN_CELLS:.0f} are needed. Take an image of a larger field."
            )
        elif held > MIN_CELLS / 2 and found.repetition > max(best.repetition, 0.5):
            best = found
            if found.repetition >= ALIKE and held >= MIN_CELLS:
                break
    if best.lattice is None:
        return replace(best, warnings=(reason,))
    repeats = best.repetition
    if min(pixels.shape) > 2 * best.tile_px:
        bin_px = 1 if best.lattice.period_px < 2 * MIN_PERIOD_PX else 2
        repeats = min(repeats, _seen(pixels, seen, 2 * best.tile_px, bin_px, MOST_TILES // 2).repetition)
    warnings: tuple[str, ...] = () if repeats >= ALIKE else (NOT_A_CRYSTAL,)
    if best.share <= MIN_SHARE:
        warnings += (SEEN_IN.format(best.share),)
    return replace(best, repetition=repeats, warnings=warnings)


def _seen(
    pixels: NDArray[np.floating], valid: Mask, tile_px: int, bin_px: int, most: int = MOST_TILES
) -> LatticeEstimate:
    """What tiles of one size show, in an image binned so many times.

    Beside a lattice of more than twice the period the finer one counts, since its period lets both be resolved.
    """
    pixels, valid = binned(pixels, valid, bin_px)
    edges = tuple(min(tile_px // bin_px, n) for n in pixels.shape)
    found = LatticeEstimate(None, max(edges) * bin_px, 0, 0)
    if min(edges) < LEAST_TILE:
        return found
    tiles = tiles_of(pixels, valid, edges, most)
    every = set(range(len(tiles)))
    main = alike(tiles, every)
    rest = alike(tiles, every - main)
    for group in (main, rest, every):
        share, before = len(group) / max(len(tiles), 1), found.lattice
        if not group or (group is every and before) or (group is rest and (not before or share <= MIN_SHARE)):
            continue
        acf = mean_autocorrelation([tiles[i] for i in group])
        lattice = cell_of(acf)
        if acf is None or lattice is None or lattice.strength < MIN_STRENGTH * acf.ordered:
            continue
        if before is None or 2 * bin_px * lattice.period_px < before.period_px:
            repeats = repetition(acf, lattice)
            if before is None or repeats >= ALIKE:
                found = LatticeEstimate(lattice.scaled(bin_px), found.tile_px, share, repeats)
    return found


def places_of(valid: Mask, edges: tuple[int, ...], most: int | None = None) -> list[tuple[slice, slice]]:
    """Tiles, half overlapping, that are at least half valid; of all of them at most `most`."""
    counts = [max(1, -(-2 * n // e) - 1) for n, e in zip(valid.shape, edges, strict=True)]
    while most is not None and math.prod(counts) > most:
        counts[int(np.argmax(counts))] -= 1
    starts = (np.linspace(0, n - e, c) for n, e, c in zip(valid.shape, edges, counts, strict=True))
    corners = product(*(np.rint(each).astype(int) for each in starts))
    places = [np.s_[y : y + edges[0], x : x + edges[1]] for y, x in corners]
    return [place for place in places if np.mean(valid[place]) >= 0.5]


def tiles_of(
    image: NDArray[np.floating], valid: NDArray[np.bool_], edges: tuple[int, ...], most: int
) -> list[Products]:
    """Products of at most `most` tiles, half overlapping, that are at least half valid."""
    places = places_of(valid, edges, most)

    def some(start: int) -> list[Products]:
        batch = places[start : start + TILES_AT_ONCE]
        return tile_products(*(np.stack([each[place] for place in batch]) for each in (image, valid)))

    starts = range(0, len(places), TILES_AT_ONCE)
    pixels = TILES_AT_ONCE * math.prod(edges)
    return [tile for tiles in side_by_side(some, starts, pixels=pixels) for tile in tiles]


def alike(tiles: Sequence[Products], some: set[int]) -> set[int]:
    """Those of some tiles that show the same lattice."""
    among = sorted(some)
    if len(among) < 2:
        return some
    y, x = np.indices(tiles[0].values.shape)
    ring = np.rint(np.hypot(y - y.max() / 2, x - x.max() / 2)).astype(int).ravel()
    # Less its mean over rings an autocorrelation shows directions; glass has none.
    unit = np.array([tiles[i].values.ravel() for i in among])
    count = np.bincount(ring)
    for row in unit:
        row -= (np.bincount(ring, row) / count).astype(np.float32)[ring]
    unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), np.float32(TINY))
    like = unit @ unit.T
    np.fill_diagonal(like, 0)
    # Noise lowers the likeness of a tile to all others, to the typical one of those that show the same.
    typical = np.sqrt(np.maximum(np.quantile(like, 1 - MIN_SHARE, axis=1), TINY))
    same = like >= ALIKE * np.outer(typical, typical)
    group = same[int((same * like).sum(axis=1).argmax())]
    mean = unit[group].mean(axis=0) if group.any() else unit[0]
    close = unit @ mean / max(float(np.linalg.norm(mean)), TINY)
    likely = np.median(close[group]) if group.any() else 1.0
    limit = likely * (1 + (2 * ALIKE - 1) * likely) / 2
    return {i for i, each in zip(among, close, strict=True) if each >= limit}


def lattice_of_parts(
    pixels: NDArray[np.floating],
    valid: Mask,
    params: PreprocessParams,
    *,
    cancelled: Callable[[], bool] | None = None,
) -> LatticeEstimate | None:
    """Lattice of the largest part of an image that is one crystal; None if there is none.

    Parameters
    ----------
    pixels : float array (y, x)
    valid : bool array (y, x)
        Pixels that hold an image.
    params : PreprocessParams
    cancelled : callable, optional

    Returns
    -------
    LatticeEstimate or None
        ``share`` is that of all parts. With a warning where much that repeats lies in none of them, or most parts show
        no lattice.
    """
    for bin_px in (1, 2, 2 * 2):
        # In the binned image only for what is too large in the one before.
        shortest = MIN_PERIOD_PX if bin_px == 1 else TILE / RING
        period = reflection_period(*binned(pixels, valid, bin_px), shortest)
        if period is None:
            continue
        prepared = prepare(pixels, period * bin_px, params, valid)
        field = autocorrelation_field(prepared, prepared.valid, cancelled=cancelled)
        seen = field_valid(field, prepared)
        most = float(field.strength.max(where=seen, initial=0))
        strong = seen & (field.strength >= max(CRYSTAL_STRENGTH, CRYSTAL_SHARE * most))
        # The scale of all steps does not depend on the parameters of a later one.
        areas = crystalline_areas(field, direction_step(field), strong, DomainParams())
        every, shown, best = 0, 0, None
        for _, area in areas:
            pieces, _ = ndimage.label(area)
            largest = pieces == 1 + np.argmax(np.bincount(pieces.ravel())[1:])
            part = valid & (field.to_frame(largest.astype(np.float32), prepared) > 0.5)
            every += int(np.count_nonzero(area))
            for box in ndimage.find_objects(part.astype(np.uint8)):
                found = typical_lattice(pixels[box], part[box], bin_px * TILE)
                if not found.warnings:
                    best = best or found
                    shown += int(np.count_nonzero(area))
        if best is not None:
            share = every / np.count_nonzero(seen)
            # Of a moiré much is as strong as the part that shows one lattice, and belongs to none.
            rest = np.count_nonzero(strong) / np.count_nonzero(seen) - share
            crystalline = rest <= MIN_SHARE and 2 * shown > every
            warnings: tuple[str, ...] = () if crystalline else (NOT_A_CRYSTAL,)
            if share <= MIN_SHARE:
                warnings += (SEEN_IN.format(share),)
            return replace(best, share=share, warnings=warnings)
    return None


def reflection_period(
    pixels: NDArray[np.floating], valid: Mask, shortest: float = MIN_PERIOD_PX
) -> float | None:
    """Spacing of the strongest reflections that any tile shows, in px; None if there are none.

    A reflection stands out of the median of its ring of spatial frequencies as neither noise nor speckle does. Its
    power counts by its frequency, since the outline of a particle has the spectrum of an edge.

    Parameters
    ----------
    pixels : float array (y, x)
    valid : bool array (y, x)
    shortest : float
        Spacing in px that counts.
    """
    edge = min(TILE, *pixels.shape)
    # Those that are not next to the background.
    rings = np.arange(2 * 2, int(edge / shortest))
    places = places_of(valid, (edge, edge)) if len(rings) else []
    if not places:
        return None
    window = np.hanning(edge + 2)[1:-1].astype(np.float32)
    radius = np.rint(np.hypot(fft.fftfreq(edge)[:, None], fft.rfftfreq(edge)) * edge).astype(np.intp).ravel()
    order = np.argsort(radius, kind="stable")
    first = np.searchsorted(radius[order], np.arange(edge // 2 + 1))

    def powers(place: tuple[slice, slice]) -> NDArray[np.float32]:
        """Share of the power of a tile that is in reflections of each ring, by its frequency."""
        seen = valid[place]
        tile = np.where(seen, pixels[place] - np.mean(pixels[place], where=seen), 0).astype(np.float32)
        spectrum = fft.rfft2(tile * window * window[:, None]).ravel()[order]
        power = spectrum.real**2 + spectrum.imag**2
        out = np.empty(len(rings), np.float32)
        for i, ring in enumerate(rings):
            noise = np.median(power[first[ring - 2] : first[ring + 3]]) / np.log(2)
            own = power[first[ring] : first[ring + 1]]
            out[i] = ring * own[own > SIGNIFICANT * noise].sum()
        return out / max(float(power[first[rings[0]] :].sum()), TINY)

    found = np.array([*side_by_side(powers, places, pixels=edge * edge)]).max(axis=0)
    return float(edge / rings[found.argmax()]) if found.any() else None
