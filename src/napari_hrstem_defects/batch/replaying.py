"""Repeat an analysis from its analysis.json and compare."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_hrstem_defects.batch.options import FromFrame, Options
from napari_hrstem_defects.batch.task import divided
from napari_hrstem_defects.core.recipe import Recipe
from napari_hrstem_defects.errors import ReadError
from napari_hrstem_defects.io.loading import load_info
from napari_hrstem_defects.io.provenance import software
from napari_hrstem_defects.io.reading import read
from napari_hrstem_defects.io.saving import INFO_FILE
from napari_hrstem_defects.models.classifier import TrainedClassifier
from napari_hrstem_defects.models.registry import find_by_hash


@dataclass(frozen=True)
class Replay:
    """Outcome of a repetition.

    Attributes
    ----------
    folder : Path
        The new result.
    differing : tuple of int
        Frames whose labels are not bit for bit those of the first run.
    changed : tuple of str
        Packages whose version is another one now, ``name then → now``.
    """

    folder: Path
    differing: tuple[int, ...]
    changed: tuple[str, ...]


def replay(
    record: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    image: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    progress: Callable[[float, str], None] | None = None,
) -> Replay:
    """Repeat an analysis: the same pixels, recipe and hand-placed best patches.

    Parameters
    ----------
    record : path-like
        The analysis.json.
    out : path-like
        The result goes to a folder in it, named as the first one.
    image : path-like, optional
        Where the image is now, if it was moved.
    overwrite : bool
        Replace a result that is there already.
    progress : callable, optional
        Called as ``progress(fraction, text)``.

    Raises
    ------
    ModelError
        If a trained classifier was used and its file is not found any more.
    ReadError
        If the record or the image cannot be read, or the pixels are not those that were analysed.
    WriteError
        If the result cannot be written.
    """
    record = Path(record)
    info = load_info(record)
    source = info["input"]["path"] if image is None else image
    if source is None:
        raise ReadError(f"{record}: the analysed pixels did not come from a file; name the image to use.")
    micrograph = read(source, select=info["input"].get("select"), as_dask=False)
    known = {key: info["input"].get(key) for key in ("pixel_size_from", "pixel_size_stated_nm")}
    micrograph = dataclasses.replace(
        micrograph,
        pixel_size_nm=info["input"]["pixel_size_nm"],
        metadata={**micrograph.metadata, **known},
    )
    if micrograph.sha256 != info["input"]["sha256"]:
        raise ReadError(
            f"{source}: the pixels are not those that were analysed (other SHA-256); name the original image."
        )
    recipe = Recipe.from_dict(info["recipe"])
    records = info.get("frames", [info])
    by_hand, chosen = info["best_patch_by_hand"], info.get("best_patch_from")
    point = None if by_hand is None else (by_hand[0], by_hand[1])
    options = Options(
        best_patch=FromFrame(**chosen, point=point) if chosen else point,
        frame_time_s=info.get("frame_time_s"),
        tile_px=info.get("tile_px") or 0,
        image_format=info.get("image_format", "ome-tiff"),
    )
    folder = Path(out) / record.absolute().parent.name
    with tempfile.TemporaryDirectory() as scratch:
        parts = divided(
            Path(scratch, "image"), micrograph, recipe, options, _classifier(info, recipe), progress
        )
        parts.folder.mkdir()
        # An automatic best patch follows from the pixels and the recipe.
        best = [was["best_patch"] for was in records]
        placed = [patch if patch and patch["placed"] != "automatic" else None for patch in best]
        parts.planned = {"patches": placed, "notice": None}
        parts.finish(folder, overwrite=overwrite)
    made = load_info(folder / INFO_FILE)
    differing = [
        index
        for index, (was, now) in enumerate(zip(records, made.get("frames", [made]), strict=True))
        if was["labels_sha256"] != now["labels_sha256"]
    ]
    then, now = info["software"], software()
    changed = tuple(
        f"{name} {then.get(name, '?')} → {now[name]}" for name in now if then.get(name) != now[name]
    )
    return Replay(folder, tuple(differing), changed)


def _classifier(info: dict[str, Any], recipe: Recipe) -> TrainedClassifier | None:
    """The trained classifier that was used, found by its name or its hash."""
    used = info["classifier"]
    if used["sha256"] is None:
        return None
    path = find_by_hash(used["sha256"], used["name"])
    return TrainedClassifier(path, name=used["name"], threshold=recipe.classify.probability)
