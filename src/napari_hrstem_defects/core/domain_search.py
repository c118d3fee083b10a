"""Further lattices of an image: model patches found by competition, grains told from phases."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_hrstem_defects.core.best_patch import BestPatch, choose
from napari_hrstem_defects.core.domains import (
    SLIGHT_TURN,
    UNSURE,
    Domain,
    DomainMap,
    misorientation,
    with_verdicts,
)
from napari_hrstem_defects.core.geometry import frame_slices, patch_edge, patch_means
from napari_hrstem_defects.core.lattice import Lattice, agreement, find_lattice
from napari_hrstem_defects.core.model import Model
from napari_hrstem_defects.core.preprocessing import Prepared
from napari_hrstem_defects.core.recipe import DomainParams, SymmetryParams, points_of
from napari_hrstem_defects.core.symmetry import Bank, fit_bank, log_distances, rim_px

#: A patch may belong to no known model where the severity, averaged around each place, exceeds `FAR` in this share of
#: it; competition decides.
FAR = 1.7
FAR_SHARE = 0.9
#: Least thickness of a domain beyond its model patch, in periods.
THINNEST_PERIODS = 6.0
#: Candidates are looked for on a grid finer than the patches by this factor: a domain need not fit the patch grid.
STEPS_PER_PATCH = 2
#: Candidates tried per domain found.
TRIES = 2
#: A candidate's lattice must be at least this strong compared with the reference's.
STRENGTH_SHARE = 0.5
#: Least variance of a quarter of a candidate patch compared with its best one: below, it straddles an edge.
EVEN_SHARE = 0.3
#: Edge of the box in which evidence is averaged before the models compete, in periods.
EVIDENCE_PERIODS = 2.5
#: An inversion domain: the reference turned by 180° closes this share of the gap to the domain's own model.
TURNED_SHARE = 0.5
#: A domain that gains this share of what is asked for is reported, and nothing is concluded from it.
UNSURE_SHARE = 0.6
#: The same of a lattice that is turned a little: its columns lie apart only far from where they coincide.
TURNED_GAIN = 0.2
#: Gain that is asked of a domain whose model patch a person placed: less is one crystal cut in two by chance.
GIVEN_GAIN = 0.1
#: Lattices are measured in squares of up to this many patches to a side.
WIDEST = 2.0
#: A crystal stretched by more than this, or with another cell, is another phase even if it is as bright.
STRAINED = 0.015


def find_domains(
    pixels: NDArray[np.float32],
    prepared: Prepared,
    reference: Domain,
    unlike: NDArray[np.bool_],
    lost: Callable[[], NDArray[np.bool_]],
    fit: Callable[[tuple[slice, slice]], Model],
    params: DomainParams,
    symmetry: SymmetryParams,
) -> DomainMap:
    """Find further lattices by competition with the reference.

    Where a crystalline patch lies far from all known models, a model is fitted to it, and every pixel goes to the
    model that leaves the least residual energy. The newcomer is accepted if each side is explained clearly better
    by its own model: no absolute threshold on noise or contrast is needed.

    Parameters
    ----------
    pixels : float32 array (y, x)
        The frame.
    prepared : Prepared
    reference : Domain
        The best patch's.
    unlike : bool array (y', x')
        Patches that the screening found unlike the typical one.
    lost : callable
        Returns the amorphous areas, bool array (y', x'); no candidate may touch them. Asked only if needed.
    fit : callable
        Returns the model of a patch of the prepared image.
    params : DomainParams
    symmetry : SymmetryParams
    """
    edge = patch_edge(prepared, reference.patch.size)
    domains, index = _given(pixels, prepared, reference, fit, params, symmetry)
    corners = _fine_grid(prepared.values.shape, edge)
    usable = np.ones(corners.shape[:2], bool)
    unsure: list[tuple[Domain, NDArray[np.uint8]]] = []
    far = (_around(reference.model.severity, prepared.period_px) > FAR) & (index == 0)
    other = unlike & (index == 0)
    # Unlike the rest by its autocorrelation, and not fitted too well by the reference either.
    distant = patch_means(reference.model.severity, corners, edge) > FAR
    while len(domains) < params.most:
        candidates = usable & (
            (patch_means(far, corners, edge) > FAR_SHARE)
            | ((patch_means(other, corners, edge) > FAR_SHARE) & distant)
        )
        if candidates.any():
            candidates &= patch_means(lost(), corners, edge) == 0
        found = None
        for _ in range(TRIES):
            candidates = _crystalline(candidates, pixels, prepared, corners, edge, reference)
            if not candidates.any():
                break
            row, column = choose(candidates).index
            y, x = (int(v) for v in corners[row, column])
            patch = (slice(y, y + edge), slice(x, x + edge))
            if _promising(prepared, patch, domains, params, symmetry):
                found = _compete(pixels, prepared, fit(patch), domains, index, params, symmetry)
            if found is not None and found[0].relation == UNSURE:
                unsure.append(found)
                found = None
            around = (slice(max(row - 1, 0), row + 2), slice(max(column - 1, 0), column + 2))
            candidates[around] = usable[around] = False
            if found is not None:
                break
        if found is None:
            break
        domain, index = found
        domains.append(domain)
        far &= index == 0
        other &= index == 0
    for domain, claimed in unsure:
        # What no other domain has won.
        left = (claimed > 0) & (index == 0)
        if len(domains) < params.most and left.mean() >= params.grain_area:
            index = np.where(left, np.uint8(len(domains)), index)
            domains.append(domain)
    if len(domains) > 1:
        lattice = _lattice_within(index == 0, pixels, prepared, reference.patch.size)
        domains[0] = replace(reference, lattice=lattice or reference.lattice)
    return with_verdicts(DomainMap(tuple(domains), index), prepared, params)


def _given(
    pixels: NDArray[np.float32],
    prepared: Prepared,
    reference: Domain,
    fit: Callable[[tuple[slice, slice]], Model],
    params: DomainParams,
    symmetry: SymmetryParams,
) -> tuple[list[Domain], NDArray[np.uint8]]:
    """The reference and the domains whose model patches a person placed, and which pixel belongs to which."""
    domains, index = [reference], np.zeros(prepared.values.shape, np.uint8)
    edge = patch_edge(prepared, reference.patch.size)
    for point in points_of(params.given):
        corner = np.rint(prepared.from_frame(np.array(point)) - (edge - 1) / 2).astype(np.intp)
        y, x = (int(v) for v in np.clip(corner, 0, np.array(index.shape) - edge))
        model = fit((slice(y, y + edge), slice(x, x + edge)))
        found = _compete(pixels, prepared, model, domains, index, params, symmetry, by_hand=True)
        if found is not None:
            domains.append(found[0])
            index = found[1]
    return domains, index


def _promising(
    prepared: Prepared,
    patch: tuple[slice, slice],
    domains: Sequence[Domain],
    params: DomainParams,
    symmetry: SymmetryParams,
) -> bool:
    """Whether a patch's model can win a domain: tried around the patch before it is fitted to the whole image.

    It must be worse than the reference in the reference's patch, and better than all models around its own.
    """
    least = min(params.grain_gain, params.phase_gain, params.same_lattice_gain)
    home = domains[0].model
    kernel = home.bank.kernel_px
    bank = fit_bank(prepared.values[patch], kernel, symmetry)
    if float(np.median(_energies(prepared, home.patch, bank, symmetry) - home.energies[home.patch])) < least:
        return False
    # Far enough for what it wins around it to be as thick as a domain must be, be the patch ever so small.
    reach = max((patch[0].stop - patch[0].start) // 2, math.ceil(0.5 * THINNEST_PERIODS * prepared.period_px))
    shape = prepared.values.shape
    near = _widened(patch, reach, shape)
    wide = _widened(near, rim_px(kernel, prepared.period_px, shape), shape)
    best = np.minimum.reduce([domain.model.energies[near] for domain in domains])
    advantage = best - _energies(prepared, wide, bank, symmetry)[_within(near, wide)]
    outside = _around(advantage, prepared.period_px) > 0
    # A model fits its own patch in any case.
    outside[_within(patch, near)] = False
    return _wide_enough(outside, prepared.period_px) and float(np.median(advantage[outside])) > least


def _energies(
    prepared: Prepared, window: tuple[slice, slice], bank: Bank, symmetry: SymmetryParams
) -> NDArray[np.float32]:
    """Log residual energies that a model leaves in part of the image."""
    values = prepared.values[window]
    cut = Prepared(values, values, values, (values.shape[0], values.shape[1]), prepared.period_px)
    out: NDArray[np.float32] = log_distances(cut, [bank], symmetry)[0] + np.float32(np.log(bank.noise))
    return out


def _widened(window: tuple[slice, slice], reach: int, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """A window grown to all sides, as far as the image goes."""
    rows, columns = (
        slice(max(s.start - reach, 0), min(s.stop + reach, n)) for s, n in zip(window, shape, strict=True)
    )
    return rows, columns


def _within(inner: tuple[slice, slice], outer: tuple[slice, slice]) -> tuple[slice, slice]:
    """Rows and columns of a window counted from the corner of one that holds it."""
    rows, columns = (slice(a.start - b.start, a.stop - b.start) for a, b in zip(inner, outer, strict=True))
    return rows, columns


def _around(values: NDArray[np.float32], period_px: float) -> NDArray[np.float32]:
    """Mean around each pixel."""
    out: NDArray[np.float32] = ndimage.uniform_filter(values, max(1, round(EVIDENCE_PERIODS * period_px)))
    return out


def _wide_enough(area: NDArray[np.bool_], period_px: float) -> bool:
    """Whether an area is anywhere as thick as a domain must be."""
    # Half the resolution tells as well.
    return bool(
        2 * ndimage.distance_transform_edt(area[::2, ::2]).max() >= 0.5 * THINNEST_PERIODS * period_px
    )


def _compete(
    pixels: NDArray[np.float32],
    prepared: Prepared,
    model: Model,
    domains: Sequence[Domain],
    index: NDArray[np.uint8],
    params: DomainParams,
    symmetry: SymmetryParams,
    *,
    by_hand: bool = False,
) -> tuple[Domain, NDArray[np.uint8]] | None:
    """The domain that a model wins and the new map, or None if it wins nothing worth a name.

    Where the patch was placed by hand only `GIVEN_GAIN` and a few pixels are asked for.
    """
    reference = domains[0]
    best = np.minimum.reduce([domain.model.energies for domain in domains])
    advantage = best - model.energies
    won = _around(advantage, prepared.period_px) > 0
    outside = won.copy()
    # A model fits its own patch in any case.
    outside[model.patch] = False
    area = float(won.mean())
    rest = ~won
    rest[reference.model.patch] = False
    if not outside.any() or not rest.any() or (area < params.grain_area and not by_hand):
        return None
    # A patch on a fault wins the fault: a band no wider than what its neighbourhoods reach.
    if not by_hand and not _wide_enough(outside, prepared.period_px):
        return None
    gain = min(float(np.median(advantage[outside])), -float(np.median(advantage[rest])))
    rows, columns = model.patch
    place = _place(prepared, rows.start, columns.start, rows.stop - rows.start, reference.patch.size)
    own, other = (pixels[frame_slices(p, pixels.shape)] for p in (place, reference.patch))
    lattice = _lattice_within(won, pixels, prepared, place.size) or find_lattice(own)
    home = _lattice_within((index == 0) & ~won, pixels, prepared, place.size) or reference.lattice
    angle = misorientation(home, lattice)
    relation = None
    compared = agreement(lattice, home)
    if compared is not None:
        cells, stretch = compared
        # Brightness is measured from the darkest pixel: the detector's zero is unknown.
        brightness = abs(np.log(max(float(own.mean()), 1e-6) / max(float(other.mean()), 1e-6)))
        contrast = abs(
            np.log(_power(prepared, model.patch) / max(_power(prepared, reference.model.patch), 1e-12))
        )
        least = GIVEN_GAIN if by_hand else params.inverted_gain
        if gain > least and _turned_gain(prepared, model, reference, symmetry) > TURNED_SHARE:
            relation = "inverted"
        elif (
            gain > params.phase_gain
            and area > params.phase_area
            and (max(brightness, contrast) > params.phase_contrast or cells > 1 or stretch > STRAINED)
        ):
            relation = "second phase"
        else:
            relation = _by_gain(gain, "shifted", GIVEN_GAIN if by_hand else params.same_lattice_gain)
    else:
        relation = _by_gain(gain, "rotated", GIVEN_GAIN if by_hand else params.grain_gain)
    if relation is None and angle is not None and SLIGHT_TURN[0] < angle < SLIGHT_TURN[1]:
        relation = UNSURE if gain > TURNED_GAIN else None
    if relation is None:
        return None
    if by_hand:
        place = replace(place, placed="hand")
    domain = Domain(place, model, lattice, relation, False, gain, angle)
    return domain, np.where(won, np.uint8(len(domains)), index)


def _lattice_within(
    area: NDArray[np.bool_], pixels: NDArray[np.float32], prepared: Prepared, size: int
) -> Lattice | None:
    """Lattice of the largest square inside an area, up to `WIDEST` patches of `size` px of the frame wide.

    At a low dose one patch shows a lattice poorly or not at all.
    """
    # Beyond the rim of the image there is no area; half the resolution tells as well.
    depth = ndimage.distance_transform_cdt(np.pad(area[::2, ::2], 1), metric="chessboard")[1:-1, 1:-1]
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    centre = prepared.to_frame_points(2.0 * np.array([y, x]))
    inside = int(4 * depth[y, x] / float(prepared.scale.mean()))
    edge = min(inside, round(WIDEST * size), *pixels.shape)
    if edge < size:
        return None
    return find_lattice(
        pixels[frame_slices(BestPatch(float(centre[0]), float(centre[1]), edge), pixels.shape)]
    )


def _by_gain(gain: float, relation: str, needed: float) -> str | None:
    """What a gain is enough for."""
    if gain > needed:
        return relation
    return UNSURE if gain > UNSURE_SHARE * needed else None


def _place(prepared: Prepared, y: int, x: int, edge: int, size: int) -> BestPatch:
    """Patch of the frame for a patch of the prepared image."""
    centre = prepared.to_frame_points(np.array([y, x]) + (edge - 1) / 2)
    return BestPatch(float(centre[0]), float(centre[1]), size)


def _turned_gain(prepared: Prepared, model: Model, reference: Domain, symmetry: SymmetryParams) -> float:
    """Share of the gap between two models that the reference closes in the other's patch when turned by 180°."""
    own = prepared.values[reference.model.patch]
    turned = fit_bank(np.ascontiguousarray(own[::-1, ::-1]), reference.model.bank.kernel_px, symmetry)
    energies = _energies(prepared, model.patch, turned, symmetry)
    before = reference.model.energies[model.patch]
    gap = float(np.median(before - model.energies[model.patch]))
    return float(np.median(before - energies)) / gap if gap > 0 else 0.0


def _crystalline(
    candidates: NDArray[np.bool_],
    pixels: NDArray[np.float32],
    prepared: Prepared,
    corners: NDArray[np.intp],
    edge: int,
    reference: Domain,
) -> NDArray[np.bool_]:
    """Candidates with a lattice of their own throughout, checked from the most interior one outwards."""
    out = candidates.copy()
    least = STRENGTH_SHARE * (reference.lattice.strength if reference.lattice else 1.0)
    while out.any():
        row, column = choose(out).index
        y, x = (int(v) for v in corners[row, column])
        half = edge // 2
        quarters = [
            _power(prepared, (slice(y + i, y + i + half), slice(x + j, x + j + half)))
            for i in (0, half)
            for j in (0, half)
        ]
        if min(quarters) >= EVEN_SHARE * max(quarters):
            place = _place(prepared, y, x, edge, reference.patch.size)
            lattice = find_lattice(pixels[frame_slices(place, pixels.shape)])
            if lattice is not None and lattice.strength >= least:
                break
        out[row, column] = False
    return out


def _fine_grid(shape: tuple[int, ...], edge: int) -> NDArray[np.intp]:
    axes = []
    for n in shape:
        count = max(1, -(-STEPS_PER_PATCH * (n - edge) // edge) + 1)
        axes.append(np.rint(np.linspace(0, n - edge, count)).astype(np.intp))
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)


def _power(prepared: Prepared, patch: tuple[slice, slice]) -> float:
    return float(np.mean(prepared.band[patch] ** 2))
