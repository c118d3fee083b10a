"""Find lattice defects in atomic-resolution HR(S)TEM micrographs."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_hrstem_defects.core.errors import HrstemDefectsError
    from napari_hrstem_defects.core.micrograph import Micrograph
    from napari_hrstem_defects.core.pipeline import Analysis, analyze
    from napari_hrstem_defects.core.recipe import Recipe
    from napari_hrstem_defects.io import read, save
    from napari_hrstem_defects.simulation import simulate

__version__ = "0.1.0"

# Public name → module, imported on first use: importing the package must cost next to nothing.
_PUBLIC = {
    "Analysis": "core.pipeline",
    "HrstemDefectsError": "core.errors",
    "Micrograph": "core.micrograph",
    "Recipe": "core.recipe",
    "analyze": "core.pipeline",
    "read": "io",
    "save": "io",
    "simulate": "simulation",
}

__all__ = [
    "Analysis",
    "HrstemDefectsError",
    "Micrograph",
    "Recipe",
    "__version__",
    "analyze",
    "read",
    "save",
    "simulate",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return __all__
