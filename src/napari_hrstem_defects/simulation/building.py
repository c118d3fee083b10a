"""Build the specimen that a set of parameters describes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from napari_hrstem_defects.simulation import areas, planar, points
from napari_hrstem_defects.simulation.crystals import SimulationError, project, rotation
from napari_hrstem_defects.simulation.optics import EXPONENTS
from napari_hrstem_defects.simulation.parameters import Parameters
from napari_hrstem_defects.simulation.presets import stream
from napari_hrstem_defects.simulation.regions import pair
from napari_hrstem_defects.simulation.specimen import Grain, Specimen

#: Defect name → function that builds it into a specimen.
BUILDERS: dict[str, Callable[[Specimen, np.random.Generator], None]] = {
    "intrinsic stacking fault": partial(planar.stacking_fault, kind="intrinsic stacking fault"),
    "extrinsic stacking fault": partial(planar.stacking_fault, kind="extrinsic stacking fault"),
    "finite stacking fault": partial(planar.stacking_fault, kind="intrinsic stacking fault", finite=True),
    "stacking fault lamella": partial(planar.stacking_fault, kind="stacking fault lamella"),
    "twin lamella": partial(planar.stacking_fault, kind="twin lamella"),
    "twin": planar.twin,
    "grain boundary": planar.grain_boundary,
    "inversion domain": planar.inversion_domain,
    "antiphase boundary": planar.antiphase_boundary,
    "film": planar.film,
    "dislocation": points.dislocations,
    "vacancy": points.vacancies,
    "interstitial": points.interstitials,
    "substitution": points.substitutions,
    "amorphous": areas.amorphous,
    "beam damage": areas.beam_damage,
    "vacuum": areas.vacuum,
}


def build(parameters: Parameters, seed: int) -> Specimen:
    """Specimen with its defects; their places are drawn from the seed."""
    crystal = project(parameters.material, parameters.zone_axis)
    origin = stream(seed, "origin").uniform(0, 1, 2) @ crystal.cell
    half = [n * parameters.pixel_size_nm / 2 for n in parameters.shape]
    grain = Grain(crystal, rotation(parameters.rotation_deg), origin)
    specimen = Specimen(grain, pair(half), EXPONENTS[parameters.mode])
    for index, defect in enumerate(parameters.defects):
        if defect not in BUILDERS:
            raise SimulationError(f"There is no defect {defect!r}; there are {', '.join(BUILDERS)}.")
        BUILDERS[defect](specimen, stream(seed, "defect", index, defect))
    return specimen
