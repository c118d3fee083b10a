"""Repeat an analysis from its analysis.json and compare."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_hrstem_defects.batch.tiles import Tiles
from napari_hrstem_defects.core import pipeline
from napari_hrstem_defects.core.best_patch import BestPatch
from napari_hrstem_defects.core.errors import ReadError
from napari_hrstem_defects.core.recipe import Recipe
from napari_hrstem_defects.io.frames import FrameResult
from napari_hrstem_defects.io.loading import load_info
from napari_hrstem_defects.io.provenance import sha256_of, software
from napari_hrstem_defects.io.reading import read
from napari_hrstem_defects.io.saving import ResultWriter
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
    classifier = _classifier(info, recipe)
    records = info.get("frames", [info])
    folder = Path(out) / record.absolute().parent.name
    asked = info["best_patch_by_hand"]
    differing = []
    edge = info.get("tile_px") or 0
    with (
        tempfile.TemporaryDirectory() as scratch,
        ResultWriter(
            folder,
            frames=len(records) if micrograph.is_stack else None,
            overwrite=overwrite,
            best_patch=None if asked is None else (asked[0], asked[1]),
            facts={key: info[key] for key in ("best_patch_from", "frame_time_s", "tile_px") if key in info},
            frame_time_s=info.get("frame_time_s"),
            image_format=info.get("image_format", "ome-tiff"),
        ) as writer,
    ):
        for index, (frame, was) in enumerate(zip(micrograph, records, strict=True)):
            best = was["best_patch"]
            # An automatic one follows from the pixels and the recipe.
            placed = BestPatch(**best) if best and best["placed"] != "automatic" else None
            if edge:
                point = None if asked is None else (asked[0], asked[1])
                found = Tiles(Path(scratch), frame, recipe, point, classifier, edge_px=edge).whole()
            else:
                analysis = pipeline.analyze(frame, recipe, best_patch=placed, classifier=classifier)
                y, x = was.get("drift_px", (0.0, 0.0))
                found = FrameResult.of(analysis, (y, x))
            writer.add(found)
            if sha256_of(found.labels) != was["labels_sha256"]:
                differing.append(index)
            if progress is not None:
                progress((index + 1) / len(records), f"frame {index + 1} of {len(records)}")
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
