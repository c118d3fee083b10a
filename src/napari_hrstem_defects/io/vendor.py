"""Readers of the microscope makers' formats, by RosettaSciIO (optional, GPL-3, imported only here)."""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_hrstem_defects.core.errors import ReadError
from napari_hrstem_defects.core.micrograph import MIN_SIDE_PX
from napari_hrstem_defects.io.calibration import pixel_size
from napari_hrstem_defects.io.source import Source

#: Suffix → RosettaSciIO module.
PLUGINS = {
    ".dm3": "digitalmicrograph",
    ".dm4": "digitalmicrograph",
    ".emd": "emd",
    ".ser": "tia",
    ".mrc": "mrc",
    ".hspy": "hspy",
}

#: Units of axes along which there is a spectrum, not an image.
_SPECTRAL_UNITS = ("ev", "kev", "mev")


def read(path: Path) -> Source:
    """First image or series of images of the file."""
    signals = _signals(path)
    images = [signal for signal in signals if _is_image(signal)]
    if not images:
        kinds = ", ".join(dict.fromkeys(_kind(signal) for signal in signals))
        only = f", only {kinds}" if kinds else ""
        raise ReadError(f"{path}: there is no image in the file{only}; open the file of the image itself.")
    signal = images[0]
    title = _title(signal)
    notices: list[str] = []
    if len(signals) > 1:
        others = len(signals) - 1
        notices.append(
            f"The file holds {len(signals)} data sets; the first image{f' ({title})' if title else ''} was used, "
            f"the other {others if others > 1 else 'one'} left out."
        )
    axes = signal["axes"]
    size, remarks = pixel_size(axes[-2]["scale"], axes[-1]["scale"], axes[-2]["units"], axes[-1]["units"])
    unit = axes[-1]["units"]
    if isinstance(unit, str) and "/" in unit:
        notices.append(f"The pixels are in {unit}: this looks like a diffraction pattern, not an image.")
    data = signal["data"]
    if data.ndim == 2:
        data = np.asarray(data)
    metadata = {"title": title, "format": signal.get("metadata", {})}
    return Source(data, size, (*notices, *remarks), metadata)


def _signals(path: Path) -> Sequence[Mapping[str, Any]]:
    suffix = path.suffix.lower()
    plugin = PLUGINS[suffix]
    try:
        # Without its HDF5 or MRC helper the module itself cannot be imported.
        module = importlib.import_module(f"rsciio.{plugin}")
    except ImportError as error:
        raise ReadError(
            f"{path}: reading {suffix} files needs RosettaSciIO; install it with "
            'pip install "napari-hrstem-defects[formats]".'
        ) from error
    options: dict[str, Any] = {"lazy": True}
    if plugin == "emd":
        options["select_type"] = (
            "images"  # Velox: leave the spectrum streams alone, decoding them takes minutes
        )
    logging.getLogger("rsciio").setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # remarks on metadata that nobody here reads
        signals: Sequence[Mapping[str, Any]] = module.file_reader(str(path), **options)
    return signals


def _is_image(signal: Mapping[str, Any]) -> bool:
    shape = signal["data"].shape
    kind = np.dtype(signal["data"].dtype).kind
    return (
        _kind(signal) == "an image"
        and kind in "iufb"
        and len(shape) in (2, 3)
        and min(shape[-2:]) >= MIN_SIDE_PX
    )


def _kind(signal: Mapping[str, Any]) -> str:
    """What a data set is, in words."""
    axes = signal["axes"]
    spectral = [axis for axis in axes if str(axis.get("units", "")).lower() in _SPECTRAL_UNITS]
    shown = sum(not axis.get("navigate", False) for axis in axes)
    if spectral or shown == 1:
        return "a spectrum" if len(axes) == 1 else "a spectrum image"
    if len(axes) >= 4:
        return f"a {len(axes)}-dimensional data set (4D-STEM?)"
    if np.dtype(signal["data"].dtype).kind == "c":
        return "complex numbers (a Fourier transform?)"
    if np.dtype(signal["data"].dtype).names:
        return "a colour picture"
    if len(axes) in (2, 3):
        small = min(signal["data"].shape[-2:]) < MIN_SIDE_PX
        return f"a picture of less than {MIN_SIDE_PX} px" if small else "an image"
    return "a table of numbers"


def _title(signal: Mapping[str, Any]) -> str:
    general = signal.get("metadata", {}).get("General", {})
    return str(general.get("title") or "")
