"""Contents of analysis.json: how a result was made and from what."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import hashlib
import json
import platform
import re
import struct
import zlib
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import napari_hrstem_defects
from napari_hrstem_defects.core.micrograph import Micrograph
from napari_hrstem_defects.core.pipeline import Analysis

#: Version of the layout of analysis.json.
RESULT_VERSION = 1
#: What readers raise on damaged files of ours; RuntimeError is that of the decoders.
DAMAGE = (
    OSError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    RuntimeError,
    struct.error,
    zlib.error,
)
#: Packages whose version can change a number of the result.
_PACKAGES = ("numpy", "scipy", "scikit-image", "networkx", "tifffile")


@functools.cache
def software() -> Mapping[str, str]:
    """Versions of this package, of Python and of the packages that the numbers depend on."""
    versions = {
        "napari-hrstem-defects": napari_hrstem_defects.__version__,
        "python": platform.python_version(),
    }
    return {**versions, **{name: metadata.version(name) for name in _PACKAGES}}


def sha256_of(array: NDArray[Any]) -> str:
    """SHA-256 of the bytes of an array, row-major."""
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


def frame_record(analysis: Analysis) -> dict[str, Any]:
    """What was found out about one frame, without the arrays and tables."""
    best, lattice, typical = analysis.best_patch, analysis.lattice, analysis.typical
    marked = {"symmetry_defect": analysis.labels == 1, "amorphous": analysis.labels == 2}
    areas = {**marked, "not_assessed": ~analysis.valid_mask}
    return {
        "best_patch": None if best is None else dataclasses.asdict(best),
        "lattice": None if lattice is None else dataclasses.asdict(lattice),
        "typical_lattice": None if typical is None else dataclasses.asdict(typical),
        "threshold": analysis.threshold,
        "patch_size": analysis.patches.grid.size,
        "defective_patches": int(np.count_nonzero(analysis.patches.defective)),
        "verdict": analysis.verdict,
        "regions": len(analysis.regions),
        "fractions": {name: float(np.count_nonzero(area) / area.size) for name, area in areas.items()},
        "warnings": list(analysis.warnings),
        "timings": {step: round(float(seconds), 4) for step, seconds in analysis.timings.items()},
        "labels_sha256": sha256_of(analysis.labels),
    }


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write JSON (UTF-8); bytes of file names that are no text become escapes, which read back as the same name."""
    text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    escaped = re.sub("[\ud800-\udfff]", lambda match: f"\\u{ord(match[0]):04x}", text)
    path.write_text(escaped, encoding="utf-8")


def head(layout: int, name: str, micrograph: Micrograph, shape: Sequence[int], sha256: str) -> dict[str, Any]:
    """What every record begins with: when and by what it was made, and where the pixels came from."""
    return {
        "layout": layout,
        "name": name,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "software": dict(software()),
        "input": {
            "path": micrograph.metadata.get("path"),
            "sha256": sha256,
            "shape": list(shape),
            "dtype": str(np.dtype(micrograph.data.dtype)),
            "pixel_size_nm": micrograph.pixel_size_nm,
            # "hand" or "file"; what was stated differs from what was used where it is implausible for the lattice.
            "pixel_size_from": micrograph.metadata.get("pixel_size_from"),
            "pixel_size_stated_nm": micrograph.metadata.get("pixel_size_stated_nm"),
            "select": micrograph.metadata.get("select"),
            "notices": list(micrograph.notices),
        },
    }
