"""Reading micrographs of many formats, writing and reading back results."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_hrstem_defects.io.figure import overview_figure
    from napari_hrstem_defects.io.loading import Result, load
    from napari_hrstem_defects.io.reading import SUFFIXES, data_sets, read
    from napari_hrstem_defects.io.saving import ResultWriter, save

# Public name → module, imported on first use: matplotlib and tifffile take longer than a `--help` may.
_PUBLIC = {
    "SUFFIXES": "reading",
    "data_sets": "reading",
    "Result": "loading",
    "ResultWriter": "saving",
    "load": "loading",
    "overview_figure": "figure",
    "read": "reading",
    "save": "saving",
}

__all__ = ["SUFFIXES", "Result", "ResultWriter", "data_sets", "load", "overview_figure", "read", "save"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
