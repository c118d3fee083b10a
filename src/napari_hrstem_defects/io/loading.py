"""Read a result folder back."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, ValidationError

from napari_hrstem_defects.core.best_patch import BestPatch
from napari_hrstem_defects.core.recipe import Recipe
from napari_hrstem_defects.errors import HrstemDefectsError, ReadError
from napari_hrstem_defects.io.ome import image_file, open_image
from napari_hrstem_defects.io.provenance import DAMAGE, RESULT_VERSION, sha256_of
from napari_hrstem_defects.io.saving import HISTORY_FILES, INFO_FILE
from napari_hrstem_defects.io.tables import Row, read_table


class _Frame(BaseModel):
    """What is recorded of a frame."""

    best_patch: BestPatch | None
    labels_sha256: str


class _Input(BaseModel):
    path: str | None
    sha256: str
    shape: list[int] = Field(min_length=2, max_length=3)
    pixel_size_nm: float | None = Field(gt=0, allow_inf_nan=False)
    pixel_size_from: str | None = None
    pixel_size_stated_nm: float | None = None
    select: str | int | None = None


class _Classifier(BaseModel):
    name: str
    sha256: str | None


class _Chosen(BaseModel):
    frame: int = Field(ge=0)
    tracked: bool


class _Record(BaseModel):
    """What must stand in an analysis.json to use it; there is more."""

    layout: int
    software: dict[str, str]
    input: _Input
    recipe: dict[str, Any]
    classifier: _Classifier
    best_patch_by_hand: tuple[float, float] | None
    best_patch_from: _Chosen | None = None
    frame_time_s: float | None = None
    tile_px: int | None = None
    image_format: Literal["ome-tiff", "ome-zarr"] = "ome-tiff"
    regions: int
    fractions: dict[str, float]
    warnings: list[str]
    frames: list[_Frame] | None = None


@dataclass(frozen=True, eq=False)
class Result:
    """A result folder.

    Attributes
    ----------
    folder : Path
    labels : uint8 array (y, x) or (t, y, x)
    severity, variance : float32 arrays of the same shape
    patches, regions : tuple of dict
        Table rows: column → number, text or None. Time series have the column ``frame``.
    info : mapping
        Contents of analysis.json.
    domains : uint8 array of the same shape or None
        Number of each pixel's domain, 0 the reference; None where only one lattice was found.
    domain_table : tuple of dict
        Table rows, one a domain.
    histories : tuple of dict
        Table rows, one a defect of a series; empty for a single image.
    """

    folder: Path
    labels: NDArray[np.uint8]
    severity: NDArray[np.float32]
    variance: NDArray[np.float32]
    patches: tuple[Row, ...]
    regions: tuple[Row, ...]
    info: Mapping[str, Any]
    domains: NDArray[np.uint8] | None
    domain_table: tuple[Row, ...]
    histories: tuple[Row, ...] = ()

    @property
    def recipe(self) -> Recipe:
        """The recipe that made it."""
        return Recipe.from_dict(self.info["recipe"])

    @property
    def pixel_size_nm(self) -> float | None:
        """Edge of a pixel in nm."""
        size = self.info["input"]["pixel_size_nm"]
        return None if size is None else float(size)

    @property
    def frames(self) -> tuple[Mapping[str, Any], ...]:
        """What was recorded of each frame (one for a single image)."""
        return tuple(self.info.get("frames", (self.info,)))

    @property
    def threshold(self) -> float | None:
        """Severity that a defect exceeds somewhere (first frame); None in the published mode and older results."""
        return self.frames[0].get("threshold")

    @property
    def best_patches(self) -> tuple[BestPatch | None, ...]:
        """Best patch of each frame; None where no lattice was found."""
        found = (frame["best_patch"] for frame in self.frames)
        return tuple(None if values is None else BestPatch(**values) for values in found)


def load(folder: str | os.PathLike[str]) -> Result:
    """Read a result folder that :func:`save` wrote.

    Raises
    ------
    ReadError
        If it is no result folder, or a file of it is missing or damaged.
    """
    folder = Path(folder)
    info = load_info(folder / INFO_FILE)
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what stops us is raised
    try:
        shape = tuple(info["input"]["shape"])
        labels, severity, variance = (
            _map(folder, name, shape) for name in ("labels", "severity", "variance")
        )
        several = image_file(folder, "domains") is not None
        return Result(
            folder,
            labels,
            severity,
            variance,
            patches=read_table(folder / "patches.csv"),
            regions=read_table(folder / "regions.csv"),
            info=info,
            domains=_map(folder, "domains", shape) if several else None,
            domain_table=read_table(folder / "domains.csv") if several else (),
            histories=read_table(folder / HISTORY_FILES[0]) if "frames" in info else (),
        )
    except DAMAGE as error:
        raise ReadError(
            f"{folder}: the result is incomplete or damaged ({error}); analyse the image again."
        ) from error


def _map(folder: Path, name: str, shape: tuple[int, ...]) -> NDArray[Any]:
    path = image_file(folder, name)
    if path is None:
        raise FileNotFoundError(f"there is no image {name}")
    with open_image(path) as frames:
        # Before memory is taken for what a damaged file declares.
        if (stated := math.prod(frames.shape)) != math.prod(shape):
            raise ValueError(f"{path.name} has {stated} pixels, not those of {shape}")
        return frames[:].reshape(shape) if len(shape) == 3 else frames[0].reshape(shape)


def labels_sha256(folder: Path) -> list[str]:
    """SHA-256 of the labels of each frame of a result; empty if they cannot be read."""
    try:
        with open_image(image_file(folder, "labels") or folder) as frames:
            return [sha256_of(frames[t]) for t in range(len(frames))]
    except (*DAMAGE, HrstemDefectsError, MemoryError):  # of a size that is wrong
        return []


def load_info(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Contents of an analysis.json.

    Raises
    ------
    ReadError
        If the file is missing, no JSON, or not one of ours.
    """
    foreign = f"{path}: this is not the analysis.json of a result; name one that `analyze` wrote."
    try:
        info = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ReadError(
            f"{path}: the file cannot be read ({error.strerror}); name the analysis.json of a result."
        ) from error
    except (ValueError, RecursionError) as error:
        raise ReadError(foreign) from error
    if not isinstance(info, dict) or not {"layout", "input", "recipe", "software"} <= info.keys():
        raise ReadError(foreign)
    if info["layout"] != RESULT_VERSION:
        raise ReadError(
            f"{path}: the result has layout version {info['layout']!r}, this program reads {RESULT_VERSION}; "
            "update the program or analyse the image again."
        )
    try:
        record = _Record.model_validate(info)
        if record.frames is None:
            _Frame.model_validate(info)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ReadError(
            f"{path}: the record of the result is damaged ({where}: {first['msg']}); analyse the image again."
        ) from error
    return info
