"""Write what a scan with an FFT ensemble found: class maps as images, a table of the regions, a record."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_hrstem_defects.core.micrograph import Micrograph
from napari_hrstem_defects.core.regions import Region
from napari_hrstem_defects.io.folders import whole_folder
from napari_hrstem_defects.io.ome import OmeTiffWriter
from napari_hrstem_defects.io.provenance import head, write_record
from napari_hrstem_defects.io.tables import REGION_COLUMNS, Row, region_rows, write_table

#: The record of a scan, and its class map.
SCAN_FILE, CLASS_MAP_FILE = "scan.json", "class_map.tif"
#: Version of the layout of the record.
SCAN_VERSION = 1
#: Value of the class map where no class is likely.
UNCERTAIN = 255
# Columns of the analysis that mean something else here.
_RENAMED = {
    "label": "class_number",
    "kind": "class",
    "mean_severity": "mean_probability",
    "max_severity": "max_probability",
}
_LEFT_OUT = ("to_lattice_deg", "type", "confidence")
REGION_HEAD = tuple(_RENAMED.get(name, name) for name in REGION_COLUMNS if name not in _LEFT_OUT)


def is_scan(folder: Path) -> bool:
    """Whether a folder holds a scan, so that it may be replaced."""
    return (folder / SCAN_FILE).is_file() and (folder / CLASS_MAP_FILE).is_file()


def save_scan(
    frames: Iterable[Any],
    micrograph: Micrograph,
    out_dir: str | os.PathLike[str],
    classes: Sequence[str],
    *,
    record: Mapping[str, Any],
    overwrite: bool = False,
) -> Path:
    """Write a folder with the result of a scan; it is complete or absent.

    ``class_map.tif`` (uint8: number of the class, 0 the clean one, 255 uncertain), for each class
    ``probability_<n>_<class>.tif`` (float32), ``votes_<n>_<class>.tif`` and ``majority_<n>_<class>.tif`` (uint8, 0 or
    1), all OME-TIFF with the pixel size and the shape of the input; ``regions.csv`` and ``scan.json``.

    Parameters
    ----------
    frames : iterable of models.scan.Scan
        One for each frame of the micrograph; taken one at a time, so that a long series need not fit into memory. The
        target folder is checked before the first is taken.
    micrograph : Micrograph
    out_dir : path-like
    classes : sequence of str
    record : mapping
        Model and settings, for scan.json.
    overwrite : bool
        Replace an earlier scan.

    Returns
    -------
    Path
        `out_dir`.

    Raises
    ------
    WriteError
        If the folder exists or cannot be written.
    """
    target = Path(out_dir)
    files = [_files(number, name) for number, name in enumerate(classes)]
    key = micrograph.sha256 + json.dumps(dict(record), sort_keys=True)
    images: dict[str, OmeTiffWriter] = {}
    rows: list[Row] = []
    warnings: dict[str, None] = {}
    pixels = np.zeros(256, np.int64)
    count = 0
    with whole_folder(target, is_scan, overwrite) as folder:
        with contextlib.ExitStack() as stack:
            for found in frames:
                maps = {CLASS_MAP_FILE: found.labels}
                for number, names in enumerate(files):
                    maps |= {name: getattr(found, kind)[number] for kind, name in names.items()}
                for name, values in maps.items():
                    if name not in images:
                        # Truth values are written as 0 and 1.
                        dtype = np.promote_types(values.dtype, np.uint8)
                        image = OmeTiffWriter(
                            folder / name, micrograph.shape, dtype, micrograph.pixel_size_nm, key
                        )
                        images[name] = stack.enter_context(image)
                    images[name].write(values)
                stamp = {"frame": count} if micrograph.is_stack else {}
                rows += [{**stamp, **_row(region)} for region in found.regions]
                warnings.update(dict.fromkeys(found.warnings))
                pixels += np.bincount(found.labels.ravel(), minlength=256)
                count += 1
        if count != len(micrograph):
            raise ValueError(f"{count} scans were given, expected one for each of {len(micrograph)} frames")
        write_table(folder / "regions.csv", (("frame",) if micrograph.is_stack else ()) + REGION_HEAD, rows)
        shares = (pixels / pixels.sum()).tolist()
        info = {
            **head(SCAN_VERSION, micrograph.name, micrograph, micrograph.shape, micrograph.sha256),
            **record,
            "classes": [
                {
                    "name": name,
                    "value": number,
                    "probability": names["probabilities"],
                    "votes": names["votes"],
                    "majority": names["majority"],
                    "fraction": shares[number],
                }
                for number, (name, names) in enumerate(zip(classes, files, strict=True))
            ],
            "uncertain": {"value": UNCERTAIN, "fraction": shares[UNCERTAIN]},
            "regions": len(rows),
            "warnings": list(warnings),
        }
        write_record(folder / SCAN_FILE, info)
    return target


def _files(number: int, name: str) -> dict[str, str]:
    """Field of a scan → name of the file of one class; any name of a class will do."""
    plain = re.sub(r"[^A-Za-z0-9-]+", "_", name).strip("_") or "class"
    kinds = {"probabilities": "probability", "votes": "votes", "majority": "majority"}
    return {field: f"{kind}_{number}_{plain}.tif" for field, kind in kinds.items()}


def _row(region: Region) -> Row:
    """One row of regions.csv: as in an analysis, the class in the place of the kind of defect."""
    row = region_rows([replace(region, label=1)])[0]
    row.update(label=region.label, kind=region.type)
    return {_RENAMED.get(name, name): value for name, value in row.items() if name not in _LEFT_OUT}
