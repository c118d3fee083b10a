"""Simulated lattice images with exact truth, for samples, training and tests.

>>> from napari_hrstem_defects.simulation import simulate
>>> sim = simulate("si_stacking_fault", seed=3, shape=(256, 256))
>>> sim.labels.shape, sim.defects[0].kind
((256, 256), 'intrinsic stacking fault')
"""

from napari_hrstem_defects.simulation.building import BUILDERS
from napari_hrstem_defects.simulation.crystals import MATERIALS, STRUCTURES, SimulationError, project
from napari_hrstem_defects.simulation.parameters import Parameters
from napari_hrstem_defects.simulation.presets import PRESETS, Preset
from napari_hrstem_defects.simulation.sets import sample_set
from napari_hrstem_defects.simulation.simulate import SimulatedMicrograph, simulate, simulate_series
from napari_hrstem_defects.simulation.truth import Defect

__all__ = [
    "BUILDERS",
    "MATERIALS",
    "PRESETS",
    "STRUCTURES",
    "Defect",
    "Parameters",
    "Preset",
    "SimulatedMicrograph",
    "SimulationError",
    "project",
    "sample_set",
    "simulate",
    "simulate_series",
]
