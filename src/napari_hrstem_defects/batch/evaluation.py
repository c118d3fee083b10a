"""Compare label images with the truth."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.batch.inputs import MASK_ENDINGS
from napari_hrstem_defects.core import metrics
from napari_hrstem_defects.core.patches import PatchGrid, TouchingGrid
from napari_hrstem_defects.core.regions import LABEL_NAMES
from napari_hrstem_defects.errors import HrstemDefectsError, ReadError
from napari_hrstem_defects.io.loading import load_info
from napari_hrstem_defects.io.ome import image_file, open_image
from napari_hrstem_defects.io.saving import INFO_FILE
from napari_hrstem_defects.io.tables import read_table
from napari_hrstem_defects.models.evaluation import plain

#: Names of the labels 0, 1, 2.
CLASSES = ("crystal", *(LABEL_NAMES[value] for value in (1, 2)))

_SUFFIXES = (".tif", ".tiff", ".png", ".npy")
#: What is averaged over the images.
_SCORES = ("accuracy", "precision", "specificity", "recall", "balanced_accuracy")


@dataclass(frozen=True)
class Labelled:
    """A label image and its companions.

    Attributes
    ----------
    labels : Path
    severity : Path or None
    folder : Path or None
        The result folder, if it is one.
    """

    labels: Path
    severity: Path | None = None
    folder: Path | None = None


def find_labels(
    folder: str | os.PathLike[str], *, polygons: bool = False, images: Collection[Path] = ()
) -> dict[str, Labelled]:
    """Label images in a folder, by stem.

    ``<stem>/labels.tif`` (a result folder), ``<stem>_mask.png`` (also ``_labels``, ``_truth``) or ``<stem>.tif``, in
    this order where there are several; TIFF, PNG or npy. With `polygons` also those of labelme, ``<stem>.json``, where
    there is no image. Of files that are `images` none is a label image.

    Raises
    ------
    ReadError
        If the folder is missing or holds none.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ReadError(f"{folder}: there is no such folder; name the one with the label images.")
    others = {path.absolute() for path in images}
    kinds: list[dict[str, Labelled]] = [{}, {}, {}, {}]
    drawn, plain, masks, results = kinds
    for path in sorted(folder.iterdir()):
        if (labels := image_file(path, "labels")) is not None:
            results[path.name] = Labelled(labels, image_file(path, "severity"), path)
        elif path.suffix.lower() in _SUFFIXES and path.is_file() and path.absolute() not in others:
            ending = next((end for end in MASK_ENDINGS if path.stem.lower().endswith(end)), None)
            if ending is None:
                plain[path.stem] = Labelled(path)
            else:
                masks[path.stem[: -len(ending)]] = Labelled(path)
        elif polygons and path.suffix == ".json":
            drawn[path.stem] = Labelled(path)
    found = {stem: label for kind in kinds for stem, label in kind.items()}
    if not found:
        raise ReadError(
            f"{folder}: there are no label images (<stem>/labels.tif, <stem>.tif, <stem>.png) in this folder."
        )
    return found


def evaluate_folders(predicted: str | os.PathLike[str], truth: str | os.PathLike[str]) -> dict[str, Any]:
    """Score the label images of one folder against those of another.

    Labels are 0 crystal, 1 symmetry defect, 2 amorphous; truth pixels of 255 are not scored. Images are paired by
    stem, see :func:`find_labels`.

    Parameters
    ----------
    predicted, truth : path-like

    Returns
    -------
    dict
        Over all pixels of all images: ``accuracy`` (of the three labels), ``precision``, ``specificity`` and
        ``recall`` (of any defect against crystal), ``balanced_accuracy`` (mean recall of the labels that occur),
        ``confusion`` (``classes`` and ``counts``, rows the truth). ``images``: the same of each image, with
        ``dice`` of each defect label and ``auroc`` of the severity (any defect against crystal), None where
        undefined. ``mean``: means over the images for which they are defined. ``image_recall``,
        ``image_specificity``. ``patches``: the patch classification with the 1 % / 10 % rule of Dennler et al., if
        the predictions are result folders. ``failed``: stem and sentence of each pair that cannot be compared.
        ``unpaired``: stems found in one folder only.

    Raises
    ------
    ReadError
        If a folder is missing or holds no label images, or no image is in both.
    """
    found, true = find_labels(predicted), find_labels(truth)
    common = [stem for stem in true if stem in found]
    if not common:
        raise ReadError(
            f"{truth}: no label image there has the stem of one in {predicted} ({_some(true)} against {_some(found)}); "
            "name files alike."
        )
    confusion = np.zeros((3, 3), np.int64)
    images: dict[str, Any] = {}
    failed: dict[str, str] = {}
    marked: list[tuple[bool, bool]] = []
    patches: list[tuple[NDArray[Any], NDArray[Any]]] = []
    for stem in common:
        try:
            labels, reference = _pair(found[stem].labels, true[stem].labels)
            scored = reference != metrics.IGNORE
            counts = _confusion(reference[scored], labels[scored])
            images[stem] = {
                **_scores(counts),
                "dice": {LABEL_NAMES[k]: metrics.dice(labels, reference, k, metrics.IGNORE) for k in (1, 2)},
                "auroc": _auroc(found[stem].severity, reference, scored),
            }
            patches += _patches(found[stem].folder, reference)
        except HrstemDefectsError as error:
            failed[stem] = str(error)
            continue
        confusion += counts
        marked.append((bool((labels[scored] > 0).any()), bool((reference[scored] > 0).any())))
    out: dict[str, Any] = {
        **_scores(confusion),
        "confusion": {"classes": list(CLASSES), "counts": confusion.tolist()},
        "mean": _means(list(images.values())),
        "images": images,
        "failed": failed,
        "unpaired": sorted(set(found) ^ set(true)),
    }
    if marked:
        out.update(metrics.image_level(*zip(*marked, strict=True)))
    if patches:
        out["patches"] = metrics.classification(
            *(np.concatenate(part) for part in zip(*patches, strict=True))
        )
    return dict(plain(out))


def _some(found: Mapping[str, Labelled]) -> str:
    names = list(found)
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _pair(found: Path, true: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    labels, reference = _read_labels(found), _read_labels(true)
    if labels.shape != reference.shape:
        raise ReadError(
            f"{found}: the labels have shape {labels.shape}, but the truth {true.name} has {reference.shape}; "
            "compare images of the same field of view."
        )
    return labels, reference


def _read_labels(path: Path) -> NDArray[np.uint8]:
    data = read_integers(path)
    if data.ndim == 3 and data.shape[-1] in (3, 4):  # masks saved as pictures
        data = data[..., 0]
    data = data.squeeze()
    values = set(np.unique(data).tolist())
    if data.dtype.kind not in "biu" or not values <= {0, 1, 2, metrics.IGNORE}:
        raise ReadError(
            f"{path}: a label image holds whole numbers 0 (crystal), 1 (symmetry defect), 2 (amorphous) and "
            f"{metrics.IGNORE} (ignore), not {data.dtype} up to {max(values):g}; check that it is the mask."
        )
    return data.astype(np.uint8)


def read_integers(path: Path) -> NDArray[Any]:
    """Pixels of a label image as they are stored.

    Raises
    ------
    ReadError
        If it cannot be read.
    """
    suffix = path.suffix.lower()
    try:
        if suffix == ".npy":
            return np.asarray(np.load(path, allow_pickle=False))
        if suffix == ".png":
            from PIL import Image

            with Image.open(path) as picture:  # of a palette the indices: they are the labels
                return np.asarray(picture)
        if suffix == ".zarr":
            with open_image(path) as frames:
                return frames[:]
        import tifffile

        return np.asarray(tifffile.imread(path))
    except Exception as error:  # parsers raise any error at a damaged byte
        raise ReadError(f"{path}: the label image cannot be read ({error}); export it again.") from error


def _confusion(true: NDArray[np.uint8], found: NDArray[np.uint8]) -> NDArray[np.int64]:
    found = np.where(found == metrics.IGNORE, 0, found)
    return np.bincount(true.astype(np.intp) * 3 + found, minlength=9).reshape(3, 3)


def _scores(counts: NDArray[np.int64]) -> dict[str, float]:
    """Of a confusion matrix of the three labels, rows the truth."""
    hits, missed = counts[1:, 1:].sum(), counts[1:, 0].sum()
    alarms, quiet = counts[0, 1:].sum(), counts[0, 0]
    totals = counts.sum(axis=1)
    occurring = totals > 0
    recalls = np.diag(counts)[occurring] / totals[occurring]
    return {
        "accuracy": _ratio(np.trace(counts), counts.sum()),
        "precision": _ratio(hits, hits + alarms),
        "specificity": _ratio(quiet, quiet + alarms),
        "recall": _ratio(hits, hits + missed),
        "balanced_accuracy": float(recalls.mean()) if len(recalls) > 1 else math.nan,
    }


def _ratio(part: Any, whole: Any) -> float:
    return float(part / whole) if whole else math.nan


def _auroc(path: Path | None, reference: NDArray[np.uint8], scored: NDArray[np.bool_]) -> float:
    if path is None:
        return math.nan
    try:
        with open_image(path) as frames:
            severity = frames[:].reshape(reference.shape)
    except Exception as error:  # as above
        raise ReadError(f"{path}: the severity cannot be read ({error}); analyse the image again.") from error
    return metrics.auroc(severity, reference > 0, ~scored | np.isnan(severity))


def _patches(folder: Path | None, reference: NDArray[np.uint8]) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    """Truth and verdict of the patches of a result, frame by frame."""
    if folder is None or not (folder / INFO_FILE).is_file():
        return []
    info = load_info(folder / INFO_FILE)
    rows = read_table(folder / "patches.csv")
    pairs = []
    frames = reference.reshape(-1, *reference.shape[-2:])
    for index, (mask, record) in enumerate(zip(frames, info.get("frames", [info]), strict=True)):
        kind = TouchingGrid if info["recipe"]["mode"] == "published" else PatchGrid
        grid = kind((mask.shape[0], mask.shape[1]), record["patch_size"])
        truth = metrics.patch_truth(mask, grid).ravel()
        verdicts = [row["label"] == "defective" for row in rows if row.get("frame", 0) == index]
        pairs.append((truth, np.array(verdicts, np.int8)))
    return pairs


def _means(images: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    def mean(values: Sequence[float]) -> float:
        defined = [value for value in values if not math.isnan(value)]
        return sum(defined) / len(defined) if defined else math.nan

    return {
        **{key: mean([image[key] for image in images]) for key in (*_SCORES, "auroc")},
        "dice": {name: mean([image["dice"][name] for image in images]) for name in LABEL_NAMES.values()},
    }
