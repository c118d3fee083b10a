"""Write the result of an analysis as a folder that is complete or absent."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from napari_hrstem_defects.core.pipeline import Analysis
from napari_hrstem_defects.errors import Cancelled, WriteError
from napari_hrstem_defects.io import provenance
from napari_hrstem_defects.io.folders import whole_folder
from napari_hrstem_defects.io.frames import MAPS, FrameResult
from napari_hrstem_defects.io.histories import Linker
from napari_hrstem_defects.io.ome import (
    IMAGE_FORMATS,
    OmeTiffWriter,
    OmeZarrWriter,
    check_image_format,
    image_file,
)
from napari_hrstem_defects.io.tables import (
    HISTORY_COLUMNS,
    REGION_COLUMNS,
    Table,
    history_rows,
    region_rows,
    write_table,
)

#: File of a result that holds everything but pixels and tables.
INFO_FILE = "analysis.json"
#: Tables and plot of the defects of a series.
HISTORY_FILES = ("histories.csv", "histories.png")
# Images and other files of every result; where several lattices were found there are also domains.tif, walls.tif and
# domains.csv, boundaries.tif where the recipe asks for it, and `HISTORY_FILES` of a series.
_IMAGES = ("labels", "severity", "variance")
_FILES = ("patches.csv", "regions.csv", "overview.png", INFO_FILE)


def save(
    analysis: Analysis | Sequence[Analysis],
    out_dir: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    image_format: str = "ome-tiff",
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
        A sequence is a time series: the images get a time axis, the tables a column ``frame``, and there are
        ``histories.csv`` and ``histories.png`` of its defects.
    out_dir : path-like
        The folder to make; missing parents are made too.
    overwrite : bool
        Replace a result that is already there. Folders that hold anything else are never replaced.
    image_format : {"ome-tiff", "ome-zarr"}
        The latter (OME-NGFF 0.5, ``labels.ome.zarr`` and so on) needs the extra ``formats``.

    Returns
    -------
    Path
        `out_dir`.

    Raises
    ------
    WriteError
        If the folder exists or cannot be written, or the format is not available.

    Examples
    --------
    >>> import tempfile, numpy as np, napari_hrstem_defects as hd
    >>> y, x = np.mgrid[:128, :128]
    >>> image = np.cos(2 * np.pi * x / 8) + np.cos(2 * np.pi * y / 8)
    >>> folder = hd.save(hd.analyze(hd.Micrograph(image)), Path(tempfile.mkdtemp()) / "result")
    >>> sorted(path.name for path in folder.glob("*.tif"))
    ['labels.tif', 'severity.tif', 'variance.tif']
    """
    if isinstance(analysis, Analysis):
        with ResultWriter(out_dir, overwrite=overwrite, image_format=image_format) as writer:
            writer.add(analysis)
    else:
        if not analysis:
            raise WriteError(f"{out_dir}: there are no frames to write; analyse at least one.")
        options: Any = {"overwrite": overwrite, "image_format": image_format}
        with ResultWriter(out_dir, frames=len(analysis), **options) as writer:
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
    facts : mapping, optional
        More to be said in analysis.json.
    frame_time_s : float, optional
        Time from frame to frame in s.
    image_format : {"ome-tiff", "ome-zarr"}

    Raises
    ------
    WriteError
        If the folder exists or cannot be written, or the format is not available.
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
        facts: Mapping[str, Any] | None = None,
        frame_time_s: float | None = None,
        image_format: str = "ome-tiff",
    ) -> None:
        check_image_format(image_format)
        self._format = image_format
        self._target, self._overwrite = Path(out_dir), overwrite
        self._cancelled = cancelled
        self._frames = frames
        self._asked = best_patch
        self._facts = dict(facts or {})
        self._frame_time_s = frame_time_s
        self._count = 0
        self._whole, self._files = contextlib.ExitStack(), contextlib.ExitStack()
        self._images: dict[str, OmeTiffWriter | OmeZarrWriter] = {}
        self._tables: dict[str, Table] = {}
        self._records: list[dict[str, Any]] = []
        self._domains = False
        self._linker = Linker()
        self._digest = hashlib.sha256()
        self._first: FrameResult
        self._shown: tuple[int, FrameResult]

    def __enter__(self) -> ResultWriter:
        folder = whole_folder(self._target, is_result, self._overwrite)
        self._folder = self._whole.enter_context(folder)
        return self

    def add(self, found: Analysis | FrameResult) -> None:
        """Append a frame (or the one image)."""
        if isinstance(found, Analysis) and not found.is_complete:
            raise WriteError(
                f"{found.micrograph.name}: the analysis was stopped after the step {found.steps[-1]}; run it "
                "to its end before it is saved."
            )
        frame = FrameResult.of(found) if isinstance(found, Analysis) else found
        series = self._frames is not None
        stamp = {"frame": self._count} if series else {}
        regions = [{**stamp, **row} for row in region_rows(frame.regions)]
        if series:
            numbers = self._linker.add(frame.labels, frame.regions, frame.drift_px)
            for row, number in zip(regions, numbers, strict=True):
                row["history"] = number
        if self._count == 0:
            self._begin(frame)
        for name, image in self._images.items():
            image.write(frame.maps[name])
        self._tables["patches"].add({**stamp, **row} for row in frame.patches)
        self._tables["regions"].add(regions)
        self._tables["domains"].add({**stamp, **row} for row in frame.domains)
        self._domains |= any(row["domain"] > 0 for row in frame.domains)
        # The overview of a series shows the frame with the largest defects.
        if self._count == 0 or frame.defect_area > self._shown[1].defect_area:
            self._shown = self._count, frame
        record = {**stamp, **frame.record}
        if series:
            record["drift_px"] = [round(d, 3) for d in frame.drift_px]
            self._digest.update(np.ascontiguousarray(frame.micrograph.data).data)
        self._records.append(record)
        self._count += 1

    def _begin(self, frame: FrameResult) -> None:
        self._first = frame
        self._shape: tuple[int, ...] = frame.labels.shape
        leading: tuple[str, ...] = ()
        last: tuple[str, ...] = ()
        if self._frames is not None:
            leading, last = ("frame",), ("history",)
            self._shape = (self._frames, *self._shape)
            # As Micrograph.sha256 of the whole series, without a second look at its pixels.
            self._digest.update(f"{np.dtype(frame.micrograph.data.dtype).str}{self._shape}".encode())
        for name in frame.maps:
            path = self._folder / f"{name}{IMAGE_FORMATS[self._format]}"
            common = path, self._shape, MAPS[name], frame.micrograph.pixel_size_nm
            key = frame.micrograph.sha256 + frame.recipe.to_json()
            if self._format == "ome-zarr":
                self._images[name] = OmeZarrWriter(*common, self._frame_time_s)
            else:
                self._images[name] = self._files.enter_context(OmeTiffWriter(*common, key))
        # There may be no regions.
        for name, columns in (
            ("patches", ()),
            ("regions", (*leading, *REGION_COLUMNS, *last)),
            ("domains", ()),
        ):
            table = Table(self._folder / f"{name}.csv", columns)
            self._tables[name] = self._files.enter_context(table)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._whole:
            self._files.close()
            if error is not None:
                raise error
            if self._count != (self._frames or 1):
                raise ValueError(f"{self._count} frames were added, expected {self._frames or 1}")
            self._finish()
            if self._cancelled is not None and self._cancelled():
                raise Cancelled

    def _finish(self) -> None:
        from napari_hrstem_defects.io.charts import save_histories
        from napari_hrstem_defects.io.figure import save_overview

        if not self._domains:
            (self._folder / "domains.csv").unlink(missing_ok=True)
            for path in filter(None, (image_file(self._folder, name) for name in ("domains", "walls"))):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        if self._frames is not None:
            found, step = self._linker.histories, self._frame_time_s
            table, plot = (self._folder / name for name in HISTORY_FILES)
            write_table(table, HISTORY_COLUMNS, history_rows(found, step))
            save_histories(plot, found, frames=self._frames, frame_time_s=step)
        index, frame = self._shown
        areas = None if self._frames is None else [record["fractions"] for record in self._records]
        save_overview(self._folder / "overview.png", frame.shown or frame, frame=index, series=areas)
        provenance.write_record(self._folder / INFO_FILE, self._info())

    def _info(self) -> dict[str, Any]:
        first = self._first
        micrograph, series = first.micrograph, self._frames is not None
        sha256 = self._digest.hexdigest() if series else micrograph.sha256
        name = micrograph.name.removesuffix("[0]") if series else micrograph.name
        asked, best = self._asked, first.record["best_patch"]
        if asked is None and not series and best is not None and best["placed"] == "hand":
            asked = best["y"], best["x"]
        info = {
            **provenance.head(provenance.RESULT_VERSION, name, micrograph, self._shape, sha256),
            "recipe": first.recipe.to_dict(),
            "classifier": dict(zip(("name", "sha256"), first.classifier, strict=True)),
            "best_patch_by_hand": None if asked is None else [float(asked[0]), float(asked[1])],
            **self._facts,
        }
        if self._format != "ome-tiff":
            info["image_format"] = self._format
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
            "histories": len(self._linker.histories),
            "fractions": {
                key: float(np.mean([record["fractions"][key] for record in self._records]))
                for key in self._records[0]["fractions"]
            },
            "warnings": [f"{text} ({count} of {self._frames} frames)" for text, count in counts.items()],
            "timings": {step: round(seconds, 4) for step, seconds in timings.items()},
            "frames": self._records,
        }


def is_result(folder: Path) -> bool:
    """Whether a folder is a result of ours (so that it may be replaced)."""
    return (folder / INFO_FILE).is_file() and image_file(folder, "labels") is not None


def is_whole(folder: Path) -> bool:
    """Whether a folder holds every file of a result, none of them empty."""
    try:
        paths = [*(image_file(folder, name) for name in _IMAGES), *(folder / name for name in _FILES)]
        return all(path is not None and path.stat().st_size for path in paths)
    except OSError:
        return False
