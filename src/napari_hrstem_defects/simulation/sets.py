"""Sets of micrographs for tests, training and benchmarks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from napari_hrstem_defects.simulation.crystals import MATERIALS, STRUCTURES, SimulationError, material_of
from napari_hrstem_defects.simulation.presets import can_have, crystals_of, stream
from napari_hrstem_defects.simulation.regions import pick
from napari_hrstem_defects.simulation.simulate import SimulatedMicrograph, simulate

#: What a set's defective micrographs hold, each about as often as the others.
SET_DEFECTS: tuple[tuple[str, ...], ...] = (
    ("intrinsic stacking fault",),
    ("amorphous",),
    ("grain boundary",),
    ("extrinsic stacking fault",),
    ("twin",),
    ("dislocation",),
    ("intrinsic stacking fault", "amorphous"),
    ("twin lamella",),
    ("vacuum",),
    ("inversion domain",),
    ("finite stacking fault",),
    ("vacancy",),
    ("beam damage",),
    ("stacking fault lamella",),
    ("antiphase boundary",),
    ("interstitial",),
    ("substitution",),
    ("grain boundary", "amorphous"),
)


def sample_set(
    count: int, seed: int = 0, defect_fraction: float = 1 / 3, **settings: Any
) -> Iterator[SimulatedMicrograph]:
    """Micrographs like the set of Dennler et al. (2021): a share with defects of all kinds, the rest perfect.

    Lazy; the micrograph of an index follows from `seed` and the index alone, whatever `count` is.

    Parameters
    ----------
    count : int
        How many.
    seed, defect_fraction, **settings
        See :func:`sample`.

    Yields
    ------
    SimulatedMicrograph

    Raises
    ------
    SimulationError
        If no crystal fits.
    """
    for index in range(count):
        yield sample(index, seed, defect_fraction, **settings)


def sample(
    index: int,
    seed: int = 0,
    defect_fraction: float = 1 / 3,
    *,
    materials: Sequence[str] | None = None,
    zone_axes: Sequence[str] | None = None,
    structures: Sequence[str] | None = None,
    defects: Sequence[tuple[str, ...]] = SET_DEFECTS,
    films: bool = False,
    **overrides: object,
) -> SimulatedMicrograph:
    """Micrograph number `index` of :func:`sample_set`.

    Parameters
    ----------
    index : int
    seed : int
        Which set.
    defect_fraction : float
        Share with defects, 0 to 1; they are spread evenly.
    materials, zone_axes, structures : sequence of str, optional
        Only these (structures: structure types, ``"fcc"``, ...), so that others can be held out; None: all.
    defects : sequence of tuple of str
        What the defective ones hold, in turn.
    films : bool
        Some of the perfect micrographs (one in five, where possible) show a coherent film on a substrate.
    **overrides
        Parameters that are the same for all (dose, shape, mode, ...), see :func:`simulate`.

    Raises
    ------
    SimulationError
        If no crystal fits.
    """
    if not 0 <= defect_fraction <= 1:
        raise SimulationError(f"The share of defective micrographs must be 0 to 1, not {defect_fraction}.")
    crystals = _crystals(materials, zone_axes, structures)
    before = math.floor(index * defect_fraction + 1e-9)
    defective = math.floor((index + 1) * defect_fraction + 1e-9) > before
    rng = stream(seed, "set", index)
    content: tuple[str, ...] = ()
    if defective:
        possible = [d for d in defects if any(_fits(d, c) for c in crystals)]
        if not possible:
            raise SimulationError("None of the defects can be seen in these materials along these zone axes.")
        # Each round of the defects is shuffled anew: all kinds come equally often, in no fixed order.
        turn = stream(seed, "order", before // len(possible)).permutation(len(possible))
        content = possible[int(turn[before % len(possible)])]
    elif films and rng.random() < 0.2 and any(_fits(("film",), c) for c in crystals):
        content = ("film",)
    crystals = [c for c in crystals if _fits(content, c)]
    # Choose the structure type first, then the crystal: there are many zinc blendes.
    kinds = sorted({MATERIALS[c[0]].structure for c in crystals})
    structure = pick(rng, kinds)
    crystals = [c for c in crystals if MATERIALS[c[0]].structure == structure]
    material, zone_axis = pick(rng, crystals)
    points = {"vacancy", "interstitial", "substitution", "inversion domain"}
    preset = "set_fine" if points & set(content) else "set"
    draw_seed = int(rng.integers(2**31))
    arguments = {"material": material, "zone_axis": zone_axis, "defects": content, **overrides}
    kind = "-".join(word.replace(" ", "_") for word in content) or "perfect"
    return simulate(preset, draw_seed, name=f"{index:04d}-{material}-{zone_axis}-{kind}", **arguments)


def _fits(content: tuple[str, ...], crystal: tuple[str, str]) -> bool:
    return all(can_have(defect, *crystal) for defect in content)


def _crystals(
    materials: Sequence[str] | None, zone_axes: Sequence[str] | None, structures: Sequence[str] | None
) -> list[tuple[str, str]]:
    for name in materials or ():
        material_of(name)
    for name in structures or ():
        if name not in STRUCTURES:
            raise SimulationError(f"There is no structure type {name!r}; there are {', '.join(STRUCTURES)}.")
    if zone_axes is not None and "001" in zone_axes:
        zone_axes = (*zone_axes, "100")
    found = [c for c in crystals_of(structures, zone_axes) if materials is None or c[0] in materials]
    if not found:
        raise SimulationError("None of these materials is offered along any of these zone axes.")
    return found
