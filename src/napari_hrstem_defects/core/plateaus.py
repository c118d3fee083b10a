"""Areas of one lattice each: plateaus of the direction of the field of local autocorrelations.

Basins between its steps are merged by the distance of their mean directions, which is nearly free of noise; what is
thick enough and as strong as the main crystal is a lattice of its own. Phases inside one lattice differ in contrast.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_hrstem_defects.core.autocorrelation import MIN_SHARE, WINDOW_PERIODS, Field
from napari_hrstem_defects.core.calibration import LEVEL_WINDOW
from napari_hrstem_defects.core.recipe import CRYSTAL_SHARE, DomainParams

#: Strength of the field of white noise, 8 px per period: below twice this a crystal is not distinguished from it.
NOISE_STRENGTH = 0.08
CRYSTAL_STRENGTH = 2 * NOISE_STRENGTH
#: Steps of the direction are looked for across this many periods; seeds of basins are as far apart.
STEP_PERIODS = 2.0
#: Directions in the image in which that is done.
STEP_DIRECTIONS = 8
#: Two areas differ if what distinguishes them is so many of its standard deviations apart. The halves of one normal
#: distribution are 2.5 apart, those of a gradual change 2.9.
APART = 4.5
#: Two areas of one lattice are phases if their contrast, or how far they are from the best patch's model, differs by
#: this (logarithm of a square).
PHASE_STEP = 0.3
#: Degrees of the polynomial in y and x that both sides of a step share.
PHASE_DEGREES = (1, 3)
#: Rounds of fitting.
PHASE_ROUNDS = 4


@dataclass(frozen=True, eq=False)
class Plateaus:
    """Areas of one lattice each, on the grid of the field.

    Attributes
    ----------
    index : uint8 array (y'', x'')
        Which plateau each sample belongs to: the one whose direction it is nearest to, and the phase of that.
    directions : float64 array (n, shifts)
        Mean directions, unit length, by decreasing area; phases of one lattice have the same.
    step : float32 array (y'', x'')
        Largest change of the direction across `STEP_PERIODS`: where lattices meet.
    amplitudes : float64 array (n,)
        Of their lattices, see :func:`lattice_amplitude`.
    given : tuple of int
        Those at the points given by hand, in their order.
    """

    index: NDArray[np.uint8]
    directions: NDArray[np.float64]
    step: NDArray[np.float32]
    amplitudes: NDArray[np.float64]
    given: tuple[int, ...] = ()


def direction_step(field: Field) -> NDArray[np.float32]:
    """Largest change of the direction between two points `STEP_PERIODS` apart, over all orientations.

    Returns
    -------
    float32 array (y'', x'')
        Euclidean distance of unit vectors, 0 to √2, smoothed by a quarter of a period.
    """
    reach = max(1, round(STEP_PERIODS / 2 * field.period))
    rows, columns = field.shape
    padded = np.pad(field.components, ((0, 0), (reach, reach), (reach, reach)), mode="edge")
    best = np.zeros(field.shape, np.float32)
    for angle in np.arange(STEP_DIRECTIONS) * np.pi / STEP_DIRECTIONS:
        y, x = round(reach * float(np.sin(angle))), round(reach * float(np.cos(angle)))
        change = (
            padded[:, reach + y : reach + y + rows, reach + x : reach + x + columns]
            - padded[:, reach - y : reach - y + rows, reach - x : reach - x + columns]
        )
        np.maximum(best, np.einsum("nyx,nyx->yx", change, change), out=best)
    return np.asarray(ndimage.gaussian_filter(np.sqrt(best), 0.25 * field.period), np.float32)


def find_plateaus(
    field: Field,
    valid: NDArray[np.bool_],
    level: NDArray[np.floating],
    params: DomainParams,
    given: tuple[NDArray[np.bool_], ...] = (),
) -> Plateaus:
    """Areas of one lattice each.

    Parameters
    ----------
    field : Field
    valid : bool array (y'', x'')
        Samples that rest on an image.
    level : float array (y'', x'')
        Logarithm of the local contrast, see :func:`~.calibration.contrast_level`.
    params : DomainParams
        ``max_domains``, ``merge`` and ``thickness`` are used.
    given : tuple of bool array (y'', x'')
        Places that hold a lattice of their own, given by hand.

    Returns
    -------
    Plateaus
        Without a single plateau where no area is crystalline.
    """
    step = direction_step(field)
    areas = crystalline_areas(field, step, valid, params) if params.max_domains > 1 and valid.any() else []
    found = [direction for direction, _ in areas]
    every = lattice_amplitude(field.strength)
    sources = [area for _, area in areas]
    if not found:
        # Nothing stands out of the noise by itself: all of it is taken for one lattice.
        found = [_unit(field.mean_direction(valid) if valid.any() else field.mean.astype(np.float64))]
        sources = [valid]
    numbers = []
    for place in given:
        direction = _unit(field.mean_direction(place))
        gaps = [1 - float(direction @ other) for other in found]
        if min(gaps) < params.merge / 2:
            numbers.append(int(np.argmin(gaps)))
        else:
            numbers.append(len(found))
            found.append(direction)
            sources.append(place)
    index = np.zeros(field.shape, np.uint8)
    if len(found) > 1:
        index = np.argmin([field.distance(v) for v in found], axis=0).astype(np.uint8)
    for number in range(len(found)):
        if len(found) == params.max_domains:
            break
        second = second_phase(field, level, (index == number) & valid)
        if second is not None:
            index[second] = len(found)
            found.append(found[number])
            sources[number] = sources[number] & ~second
            sources.append(second)
    amplitudes = [crystal_amplitude(every[area], CRYSTAL_SHARE) if area.any() else 0.0 for area in sources]
    return Plateaus(index, np.array(found), step, np.array(amplitudes), tuple(numbers))


def second_phase(
    field: Field, level: NDArray[np.floating], own: NDArray[np.bool_]
) -> NDArray[np.bool_] | None:
    """The smaller of two areas of one lattice that differ as film and substrate do; None if none do.

    A step is distinguished from a gradual change of thickness by a smooth surface that both sides share.

    Parameters
    ----------
    field : Field
    level : float array (y'', x'')
        Logarithm of the contrast, or of the distance to a model, smoothed over a few periods.
    own : bool array (y'', x'')
        Area of the lattice; what is hardly crystalline in it is left out.
    """
    from skimage.filters import threshold_otsu

    if own.any():
        amplitude = lattice_amplitude(field.strength)
        own = own & (amplitude > CRYSTAL_SHARE * crystal_amplitude(amplitude[own], CRYSTAL_SHARE))
    every = level[own].astype(np.float64)
    # What is thinner than the window of the level may be a defect.
    if not every.size or np.ptp(every) < PHASE_STEP or _thickness(own, field) <= LEVEL_WINDOW:
        return None
    places = np.nonzero(own)
    # Neighbours are half a period apart, and the level is smooth over a few periods.
    some = (places[0] % 2 == 0) & (places[1] % 2 == 0)
    values = every[some]
    rows, columns = (2 * at / n - 1 for at, n in zip(places, own.shape, strict=True))
    best: tuple[float, float, NDArray[np.bool_]] | None = None
    for degree in PHASE_DEGREES:
        exponents = [(i, j) for i in range(degree + 1) for j in range(degree + 1 - i)]
        powers = np.stack([rows**i * columns**j for i, j in exponents], axis=1)
        surface, triangle = np.linalg.qr(powers[some])
        for flat in (values, values - surface @ (surface.T @ values)):
            side = flat > threshold_otsu(flat)
            for _ in range(PHASE_ROUNDS):
                # Least squares of surface and step together: the step is what the surface cannot follow.
                left = side - surface @ (surface.T @ side)
                height = left @ values / max(left @ left, 1e-12)
                shape = surface.T @ (values - height * side)
                rest = values - surface @ shape
                limit = threshold_otsu(rest)
                side = rest > limit
            step, deviations = _step(rest[~side], rest[side])
            if best is None or deviations > best[0]:
                best = deviations, step, every - powers @ np.linalg.solve(triangle, shape) > limit
    assert best is not None
    if best[0] < APART or best[1] < PHASE_STEP:
        return None
    smaller = np.zeros(own.shape, bool)
    smaller[own] = best[2] if np.mean(best[2]) < 0.5 else ~best[2]
    parts, _ = ndimage.label(smaller)
    smaller = parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])
    if min(_thickness(area, field) for area in (smaller, own & ~smaller)) <= LEVEL_WINDOW:
        return None
    return smaller


def crystalline_areas(
    field: Field, step: NDArray[np.float32], valid: NDArray[np.bool_], params: DomainParams
) -> list[tuple[NDArray[np.float64], NDArray[np.bool_]]]:
    """Areas that show one lattice each, by decreasing size.

    Parameters
    ----------
    field : Field
    step : float32 array (y'', x'')
        See :func:`direction_step`.
    valid : bool array (y'', x'')
        Samples that are looked at.
    params : DomainParams
        ``max_domains``, ``merge`` and ``thickness`` are used.

    Returns
    -------
    list of (float64 array (n,), bool array (y'', x''))
        Mean direction, of unit length, and area.
    """
    from skimage.segmentation import watershed

    size = round(STEP_PERIODS * field.period) | 1
    # What lies around a crystal and shows none would blur its direction.
    solid = valid & (field.strength >= CRYSTAL_STRENGTH)
    seeds, _ = ndimage.label((step <= ndimage.minimum_filter(step, size)) & solid)
    basins = watershed(step, seeds, mask=solid)
    count = int(basins.max())
    areas = np.bincount(basins.ravel(), minlength=count + 1)[1:].astype(float)
    flat = np.stack([np.bincount(basins.ravel(), c.ravel(), count + 1)[1:] for c in field.components], axis=1)
    means = field.mean + (flat / areas[:, None]) @ field.basis
    # The direction has unit length, its mean over n independent windows is shorter by its variance over n.
    window = np.pi * (2 * WINDOW_PERIODS * field.period) ** 2

    def length(mean: NDArray[np.float64], area: NDArray[np.float64]) -> NDArray[np.float64]:
        square = np.sum(mean**2, axis=-1)
        noise = (1 - square) / np.maximum(area / window, 1)
        return np.asarray(np.sqrt(np.maximum(square - noise, MIN_SHARE * square)))

    # Basins that are next to alike first: what is left to compare with each other are a few dozen.
    member = np.zeros(count, np.intp)
    leaders, sizes, norms = np.zeros((0, means.shape[1])), np.zeros(0), np.zeros(0)
    lengths = length(means, areas)
    for i in np.argsort(-areas, kind="stable").tolist():
        norm = lengths[i]
        gaps = 1 - (leaders @ means[i]) / (norms * norm)
        nearest = int(gaps.argmin()) if len(gaps) else -1
        if nearest >= 0 and gaps[nearest] < params.merge / 2:
            total = sizes[nearest] + areas[i]
            leaders[nearest] = (sizes[nearest] * leaders[nearest] + areas[i] * means[i]) / total
            sizes[nearest], norms[nearest] = total, length(leaders[nearest], total)
            member[i] = nearest
        else:
            member[i] = len(leaders)
            leaders, sizes = np.vstack([leaders, means[i]]), np.append(sizes, areas[i])
            norms = np.append(norms, norm)
    means, areas, lengths, count = leaders, sizes, norms, len(leaders)
    distances = 1 - (means @ means.T) / np.outer(lengths, lengths)
    np.fill_diagonal(distances, np.inf)
    alive = np.ones(count, bool)
    while alive.sum() > 1:
        i, j = divmod(int(distances.argmin()), count)
        if distances[i, j] > params.merge:
            break
        means[i] = (areas[i] * means[i] + areas[j] * means[j]) / (areas[i] + areas[j])
        areas[i] += areas[j]
        lengths[i] = length(means[i], areas[i])
        member[member == j] = i
        alive[j] = False
        row = 1 - (means @ means[i]) / (lengths * lengths[i])
        row[~alive] = np.inf
        row[i] = np.inf
        distances[i] = distances[:, i] = row
        distances[j] = distances[:, j] = np.inf
    owner = np.concatenate([[-1], member])[basins]
    candidates = sorted(np.flatnonzero(alive).tolist(), key=lambda i: -areas[i])
    thick = min(params.thickness, min(field.shape) / field.period / 2)
    found: list[NDArray[np.float64]] = []
    accepted: list[NDArray[np.bool_]] = []
    amplitude, every = 0.0, lattice_amplitude(field.strength)
    for i in candidates:
        # A circle of that thickness covers more than half of a square of it.
        if len(found) == params.max_domains or 2 * areas[i] < (thick * field.period) ** 2:
            break
        inside = owner == i
        # Glass is as strong as a dim crystal, but every window of it shows another direction.
        strength = float(np.median(field.strength[inside])) * float(lengths[i])
        own = lattice_amplitude(np.float64(strength))
        if strength < CRYSTAL_STRENGTH or own < CRYSTAL_SHARE * amplitude:
            continue
        # Vacuum beside it takes nothing from a window.
        near = ndimage.distance_transform_edt(~inside) <= WINDOW_PERIODS * field.period
        if _thickness(inside | (near & ~valid), field) < thick:
            continue
        direction = _unit(means[i])
        solid = every >= CRYSTAL_SHARE * amplitude
        if all(
            _meet_in_a_step(field, step, direction - other, whole & solid, inside & solid, thick)
            for other, whole in zip(found, accepted, strict=True)
        ):
            amplitude = amplitude or float(own)
            found.append(direction)
            accepted.append(inside)
    return [*zip(found, accepted, strict=True)]


def _meet_in_a_step(
    field: Field,
    step: NDArray[np.float32],
    between: NDArray[np.float64],
    first: NDArray[np.bool_],
    second: NDArray[np.bool_],
    thick: float,
) -> bool:
    """Whether two areas are lattices, not the ends of one crystal whose direction noise, drift or a bend turns.

    Noise makes the scatter of either as wide as what is `between` their directions. Of a gradual change little occurs
    where they meet, across a boundary most of it does; areas that meet in less than `thick` periods are apart.
    """
    along = field.along(between)
    change, deviations = _step(along[first], along[second])
    if deviations <= APART:
        return False
    both, above = first | second, along > np.median(along[second]) - change / 2
    border = both & above & ndimage.binary_dilation(both & ~above)
    if np.count_nonzero(border) < thick * field.period:
        return True
    clearest = np.quantile(step[border], 1 - MIN_SHARE)
    return bool(2 * clearest > np.linalg.norm(between))


def _step(low: NDArray[np.floating], high: NDArray[np.floating]) -> tuple[float, float]:
    """Difference of the medians of two samples, and how many standard deviations of the wider one it is."""
    step = float(np.median(high) - np.median(low))
    spread = max(float(np.subtract(*np.quantile(part, (0.84, 0.16)))) / 2 for part in (low, high))
    return step, step / max(spread, 1e-12)


def lattice_amplitude(strength: NDArray[np.floating] | np.floating) -> NDArray[np.float64]:
    """Strength of the field that exceeds that of white noise."""
    return np.asarray(np.sqrt(np.maximum(np.square(strength, dtype=np.float64) - NOISE_STRENGTH**2, 0)))


def crystal_amplitude(amplitude: NDArray[np.floating], share: float) -> float:
    """Amplitude of the crystal among samples that may be vacuum or support for the most part.

    Parameters
    ----------
    amplitude : float array (n,)
    share : float
        What is weaker than this share of the crystal is none.
    """
    return float(np.median(amplitude[amplitude >= share * np.quantile(amplitude, 0.9)]))


def _thickness(area: NDArray[np.bool_], field: Field) -> float:
    """Diameter of the largest circle in an area, in periods."""
    return 2 * float(ndimage.distance_transform_edt(np.pad(area, 1)).max()) / field.period


def _unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    return vector / max(float(np.linalg.norm(vector)), 1e-12)
