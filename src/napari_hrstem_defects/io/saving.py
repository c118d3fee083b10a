"""Write the result of an analysis as a folder that is complete or absent."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.core.errors import Cancelled, WriteError
from napari_hrstem_defects.core.pipeline import Analysis
from napari_hrstem_defects.io import provenance
from napari_hrstem_defects.io.domains import DOMAIN_COLUMNS, domain_image, domain_rows, wall_image
from napari_hrstem_defects.io.folders import check_target, unwritable
from napari_hrstem_defects.io.folders import move_into_place as _move_into_place
from napari_hrstem_defects.io.ome import OmeTiffWriter
from napari_hrstem_defects.io.tables import (
    PATCH_COLUMNS,
    REGION_COLUMNS,
    Row,
    patch_rows,
    region_rows,
    write_table,
)

#: File of a result that holds everything but pixels and tables.
INFO_FILE = "analysis.json"
#: Files of every result; where several lattices were found there are also domains.tif, walls.tif and domains.csv, and
#: boundaries.tif where the recipe asks for it.
FILES = (
    "labels.tif",
    "severity.tif",
    "variance.tif",
    "patches.csv",
    "regions.csv",
    "overview.png",
    INFO_FILE,
)

# Map → type on disk.
_MAPS = {
    "labels": np.uint8,
    "severity": np.float32,
    "variance": np.float32,
    "domains": np.uint8,
    "walls": np.uint8,
    "boundaries": np.float32,
}


def save(
    analysis: Analysis | Sequence[Analysis], out_dir: str | os.PathLike[str], *, overwrite: bool = False
) -> Path:
    """Write a result folder.

    ``labels.tif``, ``severity.tif`` and ``variance.tif`` (OME-TIFF with the pixel size and the shape of the input),
    ``patches.csv``, ``regions.csv``, ``overview.png`` and ``analysis.json``; where several lattices were found also
    ``domains.tif``, ``walls.tif`` (1 wall of a domain that counts as a defect, 2 interface of intact ones) and
    ``domains.csv``; where the recipe asks for it, ``boundaries.tif``. The folder appears when all of it is written; if
    anything fails nothing is left behind.

    Parameters
    ----------
    analysis : Analysis or sequence of Analysis
        A sequence is a time series: the images get a time axis, the tables a column ``frame``.
    out_dir : path-like
        The folder to make; missing parents are made too.
    overwrite : bool
        Replace a result that is already there. Folders that hold anything else are never replaced.

    Returns
    -------
    Path
        `out_dir`.

    Raises
    ------
    WriteError
        If the folder exists or cannot be written.
    """
    if isinstance(analysis, Analysis):
        with ResultWriter(out_dir, overwrite=overwrite) as writer:
            writer.add(analysis)
    else:
        if not analysis:
            raise WriteError(f"{out_dir}: there are no frames to write; analyse at least one.")
        with ResultWriter(out_dir, frames=len(analysis), overwrite=overwrite) as writer:
            for frame in analysis:
                writer.add(frame)
    return Path(out_dir)


class ResultWriter:
    """Writes a result folder frame by frame, so that long series need not fit into memory.

    Use it as a context manager; the folder appears at the end of the block, and not at all if the block raises.

    Parameters
    ----------
    out_dir : path-like
        The folder to make.
    frames : int, optional
        Length of the series; None for a single image.
    overwrite : bool
        Replace a result that is already there.
    best_patch : tuple of float, optional
        Where the caller placed the best patch of all frames, ``(y, x)`` in pixels.
    cancelled : callable, optional
        Asked before the folder appears; if it returns True nothing is left behind.

    Raises
    ------
    WriteError
        If the folder exists or cannot be written.
    Cancelled
        If `cancelled` returned True.
    """

    def __init__(
        self,
        out_dir: str | os.PathLike[str],
        *,
        frames: int | None = None,
        overwrite: bool = False,
        best_patch: tuple[float, float] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> None:
        self._target = Path(out_dir)
        self._cancelled = cancelled
        self._frames = frames
        self._overwrite = overwrite
        self._asked = best_patch
        self._count = 0
        self._stack = contextlib.ExitStack()
        self._images: dict[str, OmeTiffWriter] = {}
        self._records: list[dict[str, Any]] = []
        self._patches: list[Row] = []
        self._regions: list[Row] = []
        self._domains: list[Row] = []
        self._digest = hashlib.sha256()
        self._first: Analysis
        self._shown: tuple[int, Analysis]

    def __enter__(self) -> ResultWriter:
        check_target(self._target, is_result, self._overwrite)
        try:
            self._target.parent.mkdir(parents=True, exist_ok=True)
            folder = tempfile.mkdtemp(
                prefix=f".{self._target.name}.", suffix=".partial", dir=self._target.parent
            )
        except OSError as error:
            raise unwritable(self._target, error) from error
        self._folder = Path(folder)
        return self

    def add(self, analysis: Analysis) -> None:
        """Append a frame (or the one image)."""
        if not analysis.is_complete:
            raise WriteError(
                f"{analysis.micrograph.name}: the analysis was stopped after the step {analysis.steps[-1]}; run it "
                "to its end before it is saved."
            )
        try:
            if self._count == 0:
                self._begin(analysis)
            for name, image in self._images.items():
                image.write(_map(analysis, name))
        except OSError as error:
            raise unwritable(self._target, error) from error
        series = self._frames is not None
        stamp = {"frame": self._count} if series else {}
        self._patches += ({**stamp, **row} for row in patch_rows(analysis.patches))
        self._regions += ({**stamp, **row} for row in region_rows(analysis.regions))
        self._domains += ({**stamp, **row} for row in domain_rows(analysis))
        record = {**stamp, **provenance.frame_record(analysis)}
        if series:
            self._digest.update(np.ascontiguousarray(analysis.micrograph.data).data)
        # The overview of a series shows the frame with the largest defects.
        if self._count == 0 or _defect_area(analysis) > _defect_area(self._shown[1]):
            self._shown = self._count, analysis
        self._records.append(record)
        self._count += 1

    def _begin(self, analysis: Analysis) -> None:
        self._first = analysis
        self._shape: tuple[int, ...] = analysis.labels.shape
        if self._frames is not None:
            self._shape = (self._frames, *self._shape)
            dtype = np.dtype(analysis.micrograph.data.dtype)
            # As Micrograph.sha256 of the whole series, without a second look at its pixels.
            self._digest.update(f"{dtype.str}{self._shape}".encode())
        for name, dtype in _MAPS.items():
            if name == "boundaries" and not analysis.recipe.domains.boundary_map:
                continue
            writer = OmeTiffWriter(
                self._folder / f"{name}.tif",
                self._shape,
                dtype,
                analysis.micrograph.pixel_size_nm,
                analysis.micrograph.sha256 + analysis.recipe.to_json(),
            )
            self._images[name] = self._stack.enter_context(writer)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._stack.close()
            if kind is None:
                if self._count != (self._frames or 1):
                    raise ValueError(f"{self._count} frames were added, expected {self._frames or 1}")
                self._finish()
                if self._cancelled is not None and self._cancelled():
                    raise Cancelled
                _move_into_place(self._folder, self._target)
        except OSError as failure:
            raise unwritable(self._target, failure) from failure
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _finish(self) -> None:
        from napari_hrstem_defects.io.figure import save_overview

        leading = () if self._frames is None else ("frame",)
        write_table(self._folder / "patches.csv", (*leading, *PATCH_COLUMNS), self._patches)
        write_table(self._folder / "regions.csv", (*leading, *REGION_COLUMNS), self._regions)
        if any(row["domain"] > 0 for row in self._domains):
            write_table(self._folder / "domains.csv", (*leading, *DOMAIN_COLUMNS), self._domains)
        else:
            for name in ("domains", "walls"):
                (self._folder / f"{name}.tif").unlink()
        index, shown = self._shown
        areas = None if self._frames is None else [record["fractions"] for record in self._records]
        save_overview(self._folder / "overview.png", shown, frame=index, series=areas)
        provenance.write_record(self._folder / INFO_FILE, self._info())

    def _info(self) -> dict[str, Any]:
        first = self._first
        series = self._frames is not None
        sha256 = self._digest.hexdigest() if series else first.micrograph.sha256
        asked = self._asked
        if (
            asked is None
            and not series
            and first.best_patch is not None
            and first.best_patch.placed == "hand"
        ):
            asked = first.best_patch.y, first.best_patch.x
        info = {
            "layout": provenance.RESULT_VERSION,
            "name": first.micrograph.name.removesuffix("[0]") if series else first.micrograph.name,
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "software": dict(provenance.software()),
            "input": provenance.input_record(first.micrograph, self._shape, sha256),
            "recipe": first.recipe.to_dict(),
            "classifier": {
                "name": first.patches.classifier,
                "sha256": first.patches.classifier_sha256,
            },
            "best_patch_by_hand": None if asked is None else [float(asked[0]), float(asked[1])],
        }
        if not series:
            return {**info, **self._records[0]}
        timings: Counter[str] = Counter()
        for record in self._records:
            timings.update(record["timings"])
        counts = Counter(warning for record in self._records for warning in record["warnings"])
        return {
            **info,
            # A series is defective if one of its frames is.
            "verdict": min(filter(None, (record["verdict"] for record in self._records)), default=""),
            "regions": sum(record["regions"] for record in self._records),
            "fractions": {
                key: float(np.mean([record["fractions"][key] for record in self._records]))
                for key in self._records[0]["fractions"]
            },
            "warnings": [f"{text} ({count} of {self._frames} frames)" for text, count in counts.items()],
            "timings": {step: round(seconds, 4) for step, seconds in timings.items()},
            "frames": self._records,
        }


def _map(analysis: Analysis, name: str) -> NDArray[np.generic]:
    """Pixels of one of `_MAPS`."""
    if name == "domains":
        return domain_image(analysis)
    if name == "walls":
        return wall_image(analysis)
    if name == "boundaries" and analysis.boundaries is None:
        return np.zeros(analysis.labels.shape, np.float32)
    pixels: NDArray[np.generic] = getattr(analysis, name)
    return pixels


def _defect_area(analysis: Analysis) -> int:
    return int(np.count_nonzero(analysis.labels))


def is_result(folder: Path) -> bool:
    """Whether a folder is a result of ours (so that it may be replaced)."""
    return (folder / INFO_FILE).is_file() and (folder / "labels.tif").is_file()
