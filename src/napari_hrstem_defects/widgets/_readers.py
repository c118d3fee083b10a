"""Opens electron micrographs in napari with their pixel size and unit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from napari_hrstem_defects.widgets.roles import KEY

if TYPE_CHECKING:
    from napari_hrstem_defects.core.micrograph import Micrograph

#: Name of the plugin in napari's menus.
PLUGIN = "napari-hrstem-defects"

LayerData = tuple[Any, dict[str, Any], str]
Paths = str | Sequence[str]


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
        Takes the path or paths and gives one image layer for each.
    """
    return read_layers


def read_layers(path: Paths) -> list[LayerData]:
    """Read micrographs as napari image layers.

    Raises
    ------
    ReadError, MicrographError
        If a file cannot be read or holds no micrograph; napari shows the message.
    """
    from napari_hrstem_defects.io import read

    paths = [path] if isinstance(path, str) else path
    return [image_layer(read(item)) for item in paths]


def image_layer(micrograph: Micrograph) -> LayerData:
    """Image layer of a micrograph: scale and unit in nanometres where known, else in pixels.

    Notices about what was changed on reading are kept in ``metadata["hrstem_defects"]["notices"]``.
    """
    options = {
        "name": micrograph.name,
        **place(micrograph.pixel_size_nm, len(micrograph.shape)),
        "metadata": {KEY: {"notices": micrograph.notices}},
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
