"""Many images and time series: one after another, in local processes, or on a dask cluster."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_hrstem_defects.batch.evaluation import evaluate_folders
    from napari_hrstem_defects.batch.inputs import Input, find_inputs
    from napari_hrstem_defects.batch.replaying import replay
    from napari_hrstem_defects.batch.run import analyze_files
    from napari_hrstem_defects.batch.summary import Row

# Public name → module, imported on first use. A worker process limits its threads before numpy is imported, so
# that importing this package must not do that.
_PUBLIC = {
    "Input": "inputs",
    "Row": "summary",
    "analyze_files": "run",
    "evaluate_folders": "evaluation",
    "find_inputs": "inputs",
    "replay": "replaying",
}

__all__ = ["Input", "Row", "analyze_files", "evaluate_folders", "find_inputs", "replay"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
