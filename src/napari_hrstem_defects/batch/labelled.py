"""Data to train and evaluate classifiers on: images with labels, tables of patches, simulated images."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.batch.evaluation import Labelled, find_labels, read_integers
from napari_hrstem_defects.batch.inputs import find_inputs
from napari_hrstem_defects.core.metrics import IGNORE
from napari_hrstem_defects.errors import Cancelled, ModelError, ReadError
from napari_hrstem_defects.io.reading import read
from napari_hrstem_defects.io.tables import read_texts
from napari_hrstem_defects.models.data import (
    LabelledImage,
    PatchSet,
    mask_of_labels,
    mask_of_polygons,
    ordered_classes,
)
from napari_hrstem_defects.simulation import sample_set

#: Folders of the published data set, each with ``images`` and ``labels`` or ``json``; True: with defects.
PUBLISHED_FOLDERS = {"defective": True, "non_defective": False}
#: Grey values of its label images and what they mean in a mask: crystal, another symmetry, blurred.
PUBLISHED_LABELS = {0: 0, 127: 1, 255: 2}
#: Edge in px, and share with defects, of simulated training images.
SIMULATED_PX = 512
SIMULATED_DEFECTIVE = 0.75

_POSITION = ("source", "y", "x")


def read_labelled(
    images: str | os.PathLike[str],
    labels: str | os.PathLike[str] | None = None,
    *,
    progress: Callable[[float, str], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> tuple[list[LabelledImage], list[str]]:
    """Images and their labels, paired by stem.

    Parameters
    ----------
    images : path-like
        A folder, file or pattern; or the folder of the data set of Dennler et al. (Zenodo, doi
        10.5281/zenodo.5792917), which holds ``defective`` and ``non_defective`` with ``images``, and ``json`` or
        ``labels``, in each.
    labels : path-like, optional
        Folder with label images (see :func:`~.evaluation.find_labels`; result folders, as napari exports them, too)
        or labelme polygons ``<stem>.json``. Default: in the folder of the images.
    progress : callable, optional
        Called as ``progress(fraction, text)``.
    cancelled : callable, optional

    Returns
    -------
    list of LabelledImage, list of str
        The images, each frame of a time series by itself; and a sentence about each that was left out.

    Raises
    ------
    HrstemDefectsError
        If there is nothing to read, or a file is damaged or does not fit.
    """
    root = Path(images)
    published = any((root / name / "images").is_dir() for name in PUBLISHED_FOLDERS)
    if published and labels is not None:
        raise ReadError(
            f"{images}: this folder has the layout of the published data set, which holds its labels; leave out "
            "--labels."
        )
    pairs: list[tuple[Path, Path | None]] = []
    left_out: list[str] = []
    for path, label, clean in _published(root) if published else _paired(root, labels):
        if label is None and not clean:
            left_out.append(f"{path}: it has no labels, so it was left out.")
        else:
            pairs.append((path, label))
    if not pairs:
        raise ReadError(
            f"{images}: no image there has labels; name them alike (<stem>.tif and <stem>_mask.png, <stem>.tif or "
            "<stem>.json in the folder of the labels)."
        )
    found: list[LabelledImage] = []
    for index, (path, label) in enumerate(pairs):
        if cancelled is not None and cancelled():
            raise Cancelled
        name = _free_name(path.stem, {image.group for image in found})
        found += _labelled(path, label, name, PUBLISHED_LABELS if published else {})
        if progress is not None:
            progress((index + 1) / len(pairs), f"reading {path.name}")
    return found, left_out


def read_patches(
    table: str | os.PathLike[str], *, clean: str | None = None, only: tuple[str, str] | None = None
) -> PatchSet:
    """Patches listed in a CSV file.

    Parameters
    ----------
    table : path-like
        Columns ``file`` (relative to the table) and ``label``; where known ``source`` (the image a patch was cut
        from), ``y`` and ``x`` (its top-left corner there, in px).
    clean : str, optional
        Name of the clean class, where it does not follow from the names.
    only : (column, value), optional
        Take only rows with this value.

    Raises
    ------
    HrstemDefectsError
        If the table or a file in it cannot be used.
    """
    table = Path(table)
    rows = _rows(table)
    if only is not None:
        column, value = only
        if column not in rows[0]:
            raise ReadError(f"{table}: it has no column {column!r}; there are {', '.join(rows[0])}.")
        rows = [row for row in rows if row[column] == value]
        if not rows:
            raise ReadError(f"{table}: no row has {column} = {value}.")
    pixels: list[NDArray[np.float32]] = []
    for row in rows:
        data = np.asarray(read(table.parent / row["file"]).data)
        if data.ndim != 2 or data.shape[0] != data.shape[1]:
            raise ModelError(f"{row['file']}: a patch must be a square image, not {data.shape}.")
        if pixels and data.shape != pixels[0].shape:
            raise ModelError(
                f"{row['file']}: all patches must have one size; this one has {data.shape[0]} px, the first "
                f"{pixels[0].shape[0]} px."
            )
        if not np.isfinite(data).all():
            raise ModelError(f"{row['file']}: the patch has missing pixels (NaN or infinite); leave it out.")
        pixels.append(_grey(data))
    classes = ordered_classes([row["label"] for row in rows], clean)
    placed = [all(row.get(name) for name in _POSITION) for row in rows]
    known = all(placed)
    if any(placed) and not known:
        raise ReadError(
            f"{table}: {rows[placed.index(False)]['file']} has no position (source, y, x), but others have; complete "
            "it, or leave these columns out of the table."
        )
    corners = (
        np.array([[_number(row, "y", table), _number(row, "x", table)] for row in rows]) if known else None
    )
    named = all(row.get("source") for row in rows)
    return PatchSet(
        np.stack(pixels),
        np.array([classes.index(row["label"]) for row in rows], np.int64),
        classes,
        np.array([row["source"] if named else "" for row in rows]),
        corners,
    )


def simulated(
    count: int,
    seed: int,
    *,
    progress: Callable[[float, str], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
    **overrides: Any,
) -> list[LabelledImage]:
    """Simulated images of all materials and defects, with their truth.

    Parameters
    ----------
    count : int
    seed : int
    progress : callable, optional
        Called as ``progress(fraction, text)``.
    cancelled : callable, optional
    **overrides
        See :func:`napari_hrstem_defects.simulation.sample_set`.
    """
    arguments = {"shape": (SIMULATED_PX, SIMULATED_PX), "defect_fraction": SIMULATED_DEFECTIVE, **overrides}
    found = []
    for index, made in enumerate(sample_set(count, seed, **arguments)):
        if cancelled is not None and cancelled():
            raise Cancelled
        mask = np.where(made.ignore, IGNORE, made.labels).astype(np.uint8)
        image = made.micrograph
        found.append(
            LabelledImage(image.name, image.frame().pixels, mask, image.pixel_size_nm, simulated=True)
        )
        if progress is not None:
            progress((index + 1) / count, f"simulating {index + 1} of {count}")
    return found


def _files(named: Path) -> list[Path]:
    inputs = find_inputs([named])
    for item in inputs:
        if item.error is not None:
            raise ReadError(item.error)
        if not item.path.exists():
            raise ReadError(f"{item.path}: there is no such file or folder; check the name.")
    return [item.path for item in inputs]


def _paired(root: Path, labels: str | os.PathLike[str] | None) -> Iterator[tuple[Path, Path | None, bool]]:
    """Images with their labels, by default beside them; none is known to be clean without."""
    files = _files(root)
    where = Path(labels) if labels is not None else (root if root.is_dir() else root.parent)
    known = find_labels(where, polygons=True, images=files)
    for path in files:
        yield path, known[path.stem].labels if path.stem in known else None, False


def _published(root: Path) -> Iterator[tuple[Path, Path | None, bool]]:
    """Images of the published data set, their labels, and whether they are clean without."""
    for name, defective in PUBLISHED_FOLDERS.items():
        known: dict[str, Labelled] = {}
        # Polygons carry their class; label images are drawn from them.
        for kind in ("labels", "json"):
            with contextlib.suppress(ReadError):  # there are none of this kind
                known |= find_labels(root / name / kind, polygons=True)
        for path in _files(root / name / "images") if (root / name / "images").is_dir() else ():
            yield path, known[path.stem].labels if path.stem in known else None, not defective


def _free_name(stem: str, taken: Collection[str]) -> str:
    """The stem, numbered if another file has it already."""
    names = itertools.chain([stem], (f"{stem} ({number})" for number in itertools.count(2)))
    return next(name for name in names if name not in taken)


def _labelled(path: Path, label: Path | None, name: str, meanings: Mapping[int, int]) -> list[LabelledImage]:
    """The frames of a file, all of the group `name`; `meanings` of the values of its label image, if not the usual."""
    micrograph = read(path)
    shape = micrograph.frame_shape
    count = len(micrograph)
    if label is None:
        masks = [np.zeros(shape, np.uint8)] * count
    elif label.suffix.lower() == ".json":
        mask = mask_of_polygons(_json(label), shape, str(label))
        if count > 1:
            raise ModelError(
                f"{label}: polygons mark one image, but {path.name} is a series; use label images."
            )
        masks = [mask]
    else:
        array = read_integers(label)
        if meanings and set(np.unique(array).tolist()) <= meanings.keys():
            array = np.array([meanings.get(value, 0) for value in range(256)], np.uint8)[array]
        frames = list(array) if micrograph.is_stack and array.shape[:1] == (count,) else [array]
        if len(frames) != count:
            raise ModelError(
                f"{label}: it has labels for {len(frames)} frames, {path.name} has {count}; label the same series."
            )
        masks = [mask_of_labels(frame, shape, str(label)) for frame in frames]
    found = []
    for index, (frame, mask) in enumerate(zip(micrograph, masks, strict=True)):
        own = name if count == 1 else f"{name}[{index}]"
        checked = frame.frame()
        mask = np.where(checked.valid, mask, np.uint8(IGNORE))
        found.append(LabelledImage(own, checked.pixels, mask, micrograph.pixel_size_nm, group=name))
    return found


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ReadError(
            f"{path}: these are no labelme polygons (not readable as JSON); export them again."
        ) from error


def _rows(table: Path) -> list[dict[str, str]]:
    rows = read_texts(table, "table of patches", ("file", "label"))
    if not rows:
        raise ReadError(f"{table}: the table of patches has no rows.")
    for number, row in enumerate(rows, start=2):
        if not row["file"] or not row["label"]:
            raise ReadError(f"{table}: line {number} has no file or no label; complete it or leave it out.")
    return rows


def _number(row: dict[str, str], name: str, table: Path) -> float:
    try:
        value = float(row[name])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ReadError(f"{table}: {name} of {row['file']} is {row[name]!r}, not a number; correct it.")
    return value


def _grey(data: NDArray[Any]) -> NDArray[np.float32]:
    """Grey values 0...1: of pictures of 8 and 16 bit by the range of their type, so that patches keep their brightness.

    Wider types hardly use their range; such patches are scaled by their own.
    """
    if data.dtype.kind in "iu" and data.dtype.itemsize <= 2:
        limits = np.iinfo(data.dtype)
        return ((data.astype(np.float64) - limits.min) / (limits.max - limits.min)).astype(np.float32)
    low, high = float(data.min()), float(data.max())
    if low >= 0 and high <= 1:
        return data.astype(np.float32)
    return ((data.astype(np.float64) - low) / (high - low if high > low else 1.0)).astype(np.float32)
