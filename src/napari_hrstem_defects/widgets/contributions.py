"""What the manifest offers: readers, samples, the writer. Neither Qt nor anything slow is imported before its use."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.errors import HrstemDefectsError, ReadError, WriteError
from napari_hrstem_defects.widgets.roles import KEY, Role

if TYPE_CHECKING:
    from napari_hrstem_defects.core.micrograph import Micrograph
    from napari_hrstem_defects.io import Result

#: Name of the plugin in napari's menus.
PLUGIN = "napari-hrstem-defects"
#: Types that OME-TIFF knows; others are converted to the next wider one, if that loses nothing.
_TYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")

LayerData = tuple[Any, dict[str, Any], str]
Paths = str | Sequence[str]

# Micrographs ------------------------------------------------------------------------------------------------


def available_samples() -> list[tuple[str, str]]:
    """Key and title of the micrographs that come with the plugin."""
    from npe2 import PluginManager

    found = PluginManager.instance().get_manifest(PLUGIN).contributions.sample_data or ()
    return [(sample.key, sample.display_name) for sample in found]


def is_ours(path: str) -> bool:
    """Whether the plugin has a reader of its own for a file."""
    from npe2 import PluginManager

    return any(
        reader.plugin_name == PLUGIN for reader in PluginManager.instance().iter_compatible_readers([path])
    )


def get_reader(path: Paths) -> Callable[[Paths], list[LayerData]]:
    """Answer napari's question for a reader; the manifest has chosen the file by its name.

    Parameters
    ----------
    path : str or sequence of str
        The files to be opened.

    Returns
    -------
    callable
        Takes the path or paths and gives one image layer for each. In a window a file that cannot be read is answered
        with its sentence; napari would show a traceback around it.
    """
    return functools.partial(_in_window, read_layers)


def _in_window(read: Callable[[Paths], list[LayerData]], path: Paths) -> list[Any]:
    try:
        return read(path)
    except HrstemDefectsError as error:
        import napari
        from napari.utils.notifications import show_error

        if napari.current_viewer() is None:
            raise
        show_error(str(error))
        return [(None,)]  # napari's sign for: nothing to add


def read_layers(path: Paths) -> list[LayerData]:
    """Read micrographs as napari image layers.

    Raises
    ------
    ReadError, MicrographError
        If a file cannot be read or holds no micrograph.
    """
    from napari_hrstem_defects.io import read

    paths = [path] if isinstance(path, str) else path
    return [image_layer(read(item)) for item in paths]


def image_layer(micrograph: Micrograph) -> LayerData:
    """Image layer of a micrograph: scale and unit in nanometres where known, else in pixels.

    The file, the data set that was selected in it, and notices about what was changed on reading, are kept in
    ``metadata["hrstem_defects"]``.
    """
    known = {key: micrograph.metadata.get(key) for key in ("path", "select")}
    options = {
        "name": micrograph.name,
        **place(micrograph.pixel_size_nm, len(micrograph.shape)),
        "metadata": {KEY: {**known, "notices": micrograph.notices}},
    }
    return micrograph.data, options, "image"


def place(size_nm: float | None, ndim: int) -> dict[str, Any]:
    """Scale, units and axes of a layer ``(y, x)`` or ``(t, y, x)`` whose pixels have an edge of `size_nm`."""
    frames = ndim - 2
    return {
        "axis_labels": ("t",) * frames + ("y", "x"),
        "scale": (1.0,) * frames + (size_nm or 1.0,) * 2,
        "units": ("pixel",) * frames + ("pixel" if size_nm is None else "nm",) * 2,
    }


# Result folders ---------------------------------------------------------------------------------------------


def get_result_reader(path: Paths) -> Callable[[Paths], list[LayerData]] | None:
    """Answer napari's question for a reader: None unless it is a result folder or its analysis.json.

    In a window a person chose this reader for the folder: whatever is wrong with it is answered with a sentence.
    """
    import napari

    if _folder(path) is None and napari.current_viewer() is None:
        return None
    return functools.partial(_in_window, read_result)


def read_result(path: Paths) -> list[LayerData]:
    """Read a result folder as layers; the micrograph comes first if it is still where it was.

    Raises
    ------
    ReadError
        If it is no result folder, or a file of the result is missing or damaged.
    """
    from napari_hrstem_defects.io import load, read

    folder = _folder(path)
    if folder is None:
        raise ReadError(
            f"{path if isinstance(path, str) else ', '.join(path)} is not a result folder of HRSTEM defects;"
            " choose one folder with an analysis.json in it, or another reader."
        )
    result = load(folder)
    layers: list[LayerData] = []
    known = result.info["input"]
    source = known.get("path")
    if source and Path(source).exists():
        try:
            micrograph = read(source, pixel_size_nm=result.pixel_size_nm, select=known.get("select"))
            if micrograph.shape == result.labels.shape:
                pixels, options, kind = image_layer(micrograph)
                by_hand = known.get("pixel_size_from") == "hand"
                options["metadata"][KEY] |= {"folder": str(result.folder), "calibrated_by_hand": by_hand}
                layers.append((pixels, options, kind))
        except HrstemDefectsError:
            pass  # the result is of use without it
    return [*layers, *_layers(result)]


def _folder(path: Paths) -> Path | None:
    from napari_hrstem_defects.io.saving import INFO_FILE, is_result

    if not isinstance(path, str):
        if len(path) != 1:
            return None
        path = path[0]
    chosen = Path(path)
    folder = chosen.parent if chosen.name == INFO_FILE else chosen
    return folder if is_result(folder) else None


def _layers(result: Result) -> list[LayerData]:
    from napari_hrstem_defects.io.display import severity_range
    from napari_hrstem_defects.widgets.layers import layer_data
    from napari_hrstem_defects.widgets.outputs import Output, best_patches_of_series

    limits = severity_range(result.severity[..., ::4, ::4], result.threshold)
    outputs = [
        Output(Role.VARIANCE, result.variance),
        Output(Role.SEVERITY, result.severity, {"contrast_limits": limits}),
        Output(Role.LABELS, result.labels),
    ]
    if result.domains is not None:
        outputs.append(Output(Role.LATTICES, result.domains))
    ndim = result.labels.ndim
    for patches in best_patches_of_series(dict(enumerate(result.best_patches))):
        outputs.append(replace(patches, data=patches.data[:, -ndim:]))
    placed = place(result.pixel_size_nm, ndim)
    provenance = {key: result.info[key] for key in ("recipe", "input", "software", "best_patch_by_hand")}
    about = {"provenance": provenance, "folder": str(result.folder), "reviewed": _verdicts(result)}
    name = result.info["name"]
    return [layer_data(output, name, placed, {"role": output.role.value, **about}) for output in outputs]


def _verdicts(result: Result) -> dict[tuple[int, int, int], bool]:
    """Frame and pixel → whether the region there was accepted, else it was rejected."""
    from napari_hrstem_defects.core.regions import label_regions
    from napari_hrstem_defects.widgets.corrections import place_of

    found = {}
    frames = result.labels if result.labels.ndim == 3 else result.labels[np.newaxis]
    rows = [row for row in result.regions if row.get("reviewed") in ("accepted", "rejected")]
    for frame in sorted({row.get("frame", 0) for row in rows} & set(range(len(frames)))):
        numbered = label_regions(frames[frame])
        for row in rows:
            if row.get("frame", 0) == frame and np.isin(row["id"], numbered):
                found[frame, *place_of(numbered, row["id"])] = row["reviewed"] == "accepted"
    return found


# Samples ----------------------------------------------------------------------------------------------------


def sample_folder() -> Path:
    """Folder of the bundled micrographs: in the installed package, else (editable install) in the repository."""
    packaged = Path(str(files("napari_hrstem_defects"))) / "sample_data"
    return packaged if packaged.is_dir() else Path(__file__).parents[3] / "sample_data"


def _sample(name: str) -> list[LayerData]:
    """The micrograph, and below its name what is known to be in it: a layer to compare with, hidden."""
    waiting: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
    if "qtpy.QtWidgets" in sys.modules:  # else there is no window, and maybe no Qt at all
        from napari_hrstem_defects.widgets.opening import busy

        waiting = busy("Opening the sample…")
    with waiting:
        from napari_hrstem_defects.widgets.layers import layer_data
        from napari_hrstem_defects.widgets.outputs import Output

        image, truth = (read_layers(str(sample_folder() / f"{name}{part}.tif"))[0] for part in ("", "_truth"))
        placed = {key: truth[1][key] for key in ("scale", "units", "axis_labels")}
        labels, options, kind = layer_data(Output(Role.LABELS, np.asarray(truth[0])), name, placed, {})
        return [image, (labels, {**options, "name": f"True defects · {name}", "visible": False}, kind)]


#: Named in the manifest.
gaas_twin = functools.partial(_sample, "gaas_twin")
si_fault_amorphous = functools.partial(_sample, "si_fault_amorphous")
si_fault_low_dose = functools.partial(_sample, "si_fault_low_dose")
si_perfect = functools.partial(_sample, "si_perfect")
si_series = functools.partial(_sample, "si_series")
srtio3_amorphous = functools.partial(_sample, "srtio3_amorphous")


# Writer -----------------------------------------------------------------------------------------------------


def write_layer(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write one image or label layer.

    Parameters
    ----------
    path : str
    data : array (y, x) or (t, y, x)
    meta : dict
        Options of the layer; ``scale`` and ``units`` give the pixel size.

    Returns
    -------
    list of str
        The path, as npe2 wants it.

    Raises
    ------
    WriteError
        If the layer has other dimensions or the file cannot be written.
    """
    from napari_hrstem_defects.io.ome import OmeTiffWriter
    from napari_hrstem_defects.widgets.source import size_in_nm

    if meta.get("rgb") or getattr(data, "ndim", 0) not in (2, 3):
        raise WriteError(
            f"{path}: only images (y, x) and time series (t, y, x) are written, not data of shape {np.shape(data)}."
        )
    scale, units = meta.get("scale"), meta.get("units")
    size = None if scale is None or units is None else size_in_nm(scale, units)
    frames = [data] if data.ndim == 2 else [data[t] for t in range(data.shape[0])]
    dtype = _ome_type(np.dtype(data.dtype), data)
    shape = tuple(int(n) for n in data.shape)
    try:
        with OmeTiffWriter(Path(path), shape, dtype, size, f"{meta.get('name', '')} {path}") as writer:
            for frame in frames:
                writer.write(np.asarray(frame).astype(dtype))
    except OSError as error:
        raise WriteError(
            f"{path}: the file cannot be written ({error.strerror or error}); choose another folder."
        ) from error
    return [path]


def _ome_type(dtype: np.dtype[Any], data: Any) -> np.dtype[Any]:
    if dtype.name in _TYPES:
        return dtype
    if dtype == np.bool_:
        return np.dtype(np.uint8)
    if dtype.kind in "iu":
        values: NDArray[Any] = np.asarray(data)
        return np.dtype(np.int32 if values.size == 0 or abs(values).max() < 2**31 else np.float64)
    return np.dtype(np.float32 if dtype.itemsize < 4 else np.float64)
