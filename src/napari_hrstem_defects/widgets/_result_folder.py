"""Opens a result folder, as the panel and the command line write it, in napari."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_hrstem_defects.widgets._readers import LayerData, Paths, image_layer, place
from napari_hrstem_defects.widgets.roles import KEY, Role, name_of

if TYPE_CHECKING:
    from napari_hrstem_defects.io import Result


def get_reader(path: Paths) -> Callable[[Paths], list[LayerData]] | None:
    """Answer napari's question for a reader: None unless it is a result folder or its analysis.json."""
    return None if _folder(path) is None else read_result


def read_result(path: Paths) -> list[LayerData]:
    """Read a result folder as layers; the micrograph comes first if it is still where it was.

    Raises
    ------
    ReadError
        If a file of the result is missing or damaged.
    """
    from napari_hrstem_defects.core.errors import HrstemDefectsError
    from napari_hrstem_defects.io import load, read

    folder = _folder(path)
    assert folder is not None
    result = load(folder)
    layers: list[LayerData] = []
    source = result.info["input"].get("path")
    if source and Path(source).is_file():
        try:
            micrograph = read(source, pixel_size_nm=result.pixel_size_nm)
            if micrograph.shape == result.labels.shape:
                pixels, options, kind = image_layer(micrograph)
                options["metadata"][KEY]["folder"] = str(result.folder)
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
    from napari_hrstem_defects.io.display import BEST_PATCH_COLOUR, severity_range
    from napari_hrstem_defects.widgets.layers import label_colours
    from napari_hrstem_defects.widgets.outputs import (
        LABEL_CLASSES,
        LABEL_COLOURS,
        SEVERITY_OPTIONS,
        frame_options,
        lattice_colours,
    )

    name = str(result.info["name"])
    limits = severity_range(result.severity[..., ::4, ::4], result.threshold)
    severity = {**SEVERITY_OPTIONS, "contrast_limits": limits}
    labels = {
        "colormap": label_colours(LABEL_COLOURS),
        "opacity": 0.5,
        "features": {"index": [0, 1, 2], "class": list(LABEL_CLASSES)},
    }
    found: list[tuple[Role, Any, dict[str, Any], str]] = [
        (Role.VARIANCE, result.variance, {"visible": False, "colormap": "viridis"}, "image"),
        (Role.SEVERITY, result.severity, severity, "image"),
        (Role.LABELS, result.labels, labels, "labels"),
    ]
    if result.domains is not None:
        colours = {"visible": False, "opacity": 0.4, "colormap": label_colours(lattice_colours())}
        found.append((Role.LATTICES, result.domains, colours, "labels"))
    patches = [(t, best) for t, best in enumerate(result.best_patches) if best is not None]
    if patches:
        series = result.labels.ndim == 3
        points = [(*((t,) if series else ()), best.y, best.x) for t, best in patches]
        options = {**frame_options(patches[0][1].size), "border_color": BEST_PATCH_COLOUR}
        found.append((Role.BEST_PATCH, np.array(points, dtype=float), options, "points"))
    placed = place(result.pixel_size_nm, result.labels.ndim)
    provenance = {key: result.info[key] for key in ("recipe", "input", "software", "best_patch_by_hand")}
    about = {"provenance": provenance, "folder": str(result.folder), "reviewed": _verdicts(result)}
    return [
        (
            data,
            {
                "name": f"{name_of(role)} · {name}",
                "metadata": {KEY: {"role": role.value, **about}},
                **placed,
                **options,
            },
            kind,
        )
        for role, data, options, kind in found
    ]


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
            if row.get("frame", 0) == frame and (place := place_of(numbered, row["id"])) is not None:
                found[frame, *place] = row["reviewed"] == "accepted"
    return found
