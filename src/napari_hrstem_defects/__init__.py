"""Find lattice defects in atomic-resolution HR(S)TEM micrographs.

What is named here is the public interface; other modules and names are internal and may change without notice.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_hrstem_defects.core.analysis import Analysis
    from napari_hrstem_defects.core.autocorrelation import autocorrelation_field
    from napari_hrstem_defects.core.best_patch import BestPatch
    from napari_hrstem_defects.core.best_patch import choose as choose_best_patch
    from napari_hrstem_defects.core.best_patch import weights as patch_weights
    from napari_hrstem_defects.core.calibration import severity_of, standardise
    from napari_hrstem_defects.core.displacement import lattice_phases
    from napari_hrstem_defects.core.domains import coincidence
    from napari_hrstem_defects.core.eigenfilters import Bank, fit_bank, log_distances
    from napari_hrstem_defects.core.lattice import Lattice, find_lattice
    from napari_hrstem_defects.core.metrics import auroc, classification, dice, patch_truth
    from napari_hrstem_defects.core.micrograph import Micrograph
    from napari_hrstem_defects.core.patches import PatchGrid, PatchTable
    from napari_hrstem_defects.core.pipeline import analyze
    from napari_hrstem_defects.core.preprocessing import Prepared, prepare
    from napari_hrstem_defects.core.published import (
        difference_of_gaussians,
        eigenfilter_severity,
        eigenfilters,
        log_gaussian,
        published_maps,
        triangle_binarise,
    )
    from napari_hrstem_defects.core.published import fuse as fuse_masks
    from napari_hrstem_defects.core.recipe import Recipe
    from napari_hrstem_defects.core.regions import Region, find_regions
    from napari_hrstem_defects.core.segmentation import hysteresis
    from napari_hrstem_defects.core.variance import local_variance
    from napari_hrstem_defects.errors import HrstemDefectsError
    from napari_hrstem_defects.io import read, save
    from napari_hrstem_defects.simulation import simulate

__version__ = "0.1.0"

# Public name → module, and the name there if it is another; imported on first use: importing the package must cost
# next to nothing.
_PUBLIC = {
    "Analysis": "core.analysis",
    "Bank": "core.eigenfilters",
    "BestPatch": "core.best_patch",
    "HrstemDefectsError": "errors",
    "Lattice": "core.lattice",
    "Micrograph": "core.micrograph",
    "PatchGrid": "core.patches",
    "PatchTable": "core.patches",
    "Prepared": "core.preprocessing",
    "Recipe": "core.recipe",
    "Region": "core.regions",
    "analyze": "core.pipeline",
    "auroc": "core.metrics",
    "autocorrelation_field": "core.autocorrelation",
    "choose_best_patch": "core.best_patch:choose",
    "classification": "core.metrics",
    "coincidence": "core.domains",
    "dice": "core.metrics",
    "difference_of_gaussians": "core.published",
    "eigenfilter_severity": "core.published",
    "eigenfilters": "core.published",
    "find_lattice": "core.lattice",
    "find_regions": "core.regions",
    "fit_bank": "core.eigenfilters",
    "fuse_masks": "core.published:fuse",
    "hysteresis": "core.segmentation",
    "lattice_phases": "core.displacement",
    "local_variance": "core.variance",
    "log_distances": "core.eigenfilters",
    "log_gaussian": "core.published",
    "patch_truth": "core.metrics",
    "patch_weights": "core.best_patch:weights",
    "prepare": "core.preprocessing",
    "published_maps": "core.published",
    "read": "io",
    "save": "io",
    "severity_of": "core.calibration",
    "simulate": "simulation",
    "standardise": "core.calibration",
    "triangle_binarise": "core.published",
}

__all__ = [
    "Analysis",
    "Bank",
    "BestPatch",
    "HrstemDefectsError",
    "Lattice",
    "Micrograph",
    "PatchGrid",
    "PatchTable",
    "Prepared",
    "Recipe",
    "Region",
    "__version__",
    "analyze",
    "auroc",
    "autocorrelation_field",
    "choose_best_patch",
    "classification",
    "coincidence",
    "dice",
    "difference_of_gaussians",
    "eigenfilter_severity",
    "eigenfilters",
    "find_lattice",
    "find_regions",
    "fit_bank",
    "fuse_masks",
    "hysteresis",
    "lattice_phases",
    "local_variance",
    "log_distances",
    "log_gaussian",
    "patch_truth",
    "patch_weights",
    "prepare",
    "published_maps",
    "read",
    "save",
    "severity_of",
    "simulate",
    "standardise",
    "triangle_binarise",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, own = _PUBLIC[name].partition(":")
    return getattr(import_module(f"{__name__}.{module}"), own or name)


def __dir__() -> list[str]:
    return __all__
