"""Opens electron micrographs in napari with their pixel size and unit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_hrstem_defects.core.micrograph import Micrograph

LayerData = tuple[Any, dict[str, Any], str]
Paths = str | Sequence[str]


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
    size = micrograph.pixel_size_nm
    frames = 1 if micrograph.is_stack else 0
    options = {
        "name": micrograph.name,
        "axis_labels": ("t",) * frames + ("y", "x"),
        "scale": (1.0,) * frames + (size or 1.0,) * 2,
        "units": ("pixel",) * frames + ("pixel" if size is None else "nm",) * 2,
        "metadata": {"hrstem_defects": {"notices": micrograph.notices}},
    }
    return micrograph.data, options, "image"
