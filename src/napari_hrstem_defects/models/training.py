"""Train a classifier of any kind: split, sample, fit, judge, write the model file."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import os
import platform
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

import napari_hrstem_defects
from napari_hrstem_defects.core.errors import Cancelled, ModelError, WriteError
from napari_hrstem_defects.core.metrics import PATCH_CLASSES
from napari_hrstem_defects.models import evaluation, scale
from napari_hrstem_defects.models.backend import keras
from napari_hrstem_defects.models.contract import Contract
from napari_hrstem_defects.models.data import LabelledImage, PatchSet, images_sha256
from napari_hrstem_defects.models.kinds import Fitted, Kind, kind_of
from napari_hrstem_defects.models.options import Progress, TrainingOptions, TrainingProgress
from napari_hrstem_defects.models.preparing import filter_patches, resize
from napari_hrstem_defects.models.sampling import sample_patches
from napari_hrstem_defects.models.splits import Split, split_images, split_patches
from napari_hrstem_defects.models.store import StoredModel, load_model, save_model

#: Ending of the folder beside the model file in which an unfinished training lies.
WORKSPACE_SUFFIX = ".training"
#: Fewest patches of the validation part for each class.
_LEAST_VALIDATION = 20
_PLAN, _RESULT, _MODEL = "plan.json", "result.json", "model.hrstem"
_SPLIT = "split"
# What each split costs of the bar besides fitting.
_PREPARING, _JUDGING = 0.05, 0.05
_PACKAGES = ("tensorflow", "tensorflow-cpu", "keras", "numpy", "scipy", "scikit-image")


@dataclass(frozen=True)
class TrainingReport:
    """Outcome of a training.

    Attributes
    ----------
    path : Path
        The model file.
    contract : Contract
    stopped : bool
        Whether the caller asked to stop; the model is the best so far.
    """

    path: Path
    contract: Contract
    stopped: bool

    @property
    def metrics(self) -> Mapping[str, Any]:
        """What it scored on held-out data."""
        return self.contract.metrics


@dataclass(frozen=True, eq=False)
class _Parts:
    """Data of one repetition."""

    train: PatchSet
    validation: PatchSet
    split: Split


def train(
    kind_name: str,
    data: Sequence[LabelledImage] | PatchSet,
    out: str | os.PathLike[str],
    options: TrainingOptions | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> TrainingReport:
    """Train a classifier and judge it on data it has not seen.

    Parameters
    ----------
    kind_name : str
        One of :data:`~.kinds.KINDS`.
    data : sequence of LabelledImage, or PatchSet
    out : path-like
        The model file. An unfinished training lies in a folder of the same name with `WORKSPACE_SUFFIX`.
    options : TrainingOptions, optional
    resume : bool
        Go on with an unfinished training.
    overwrite : bool
        Replace an unfinished training or a finished model.
    progress : callable, optional
        Called with a :class:`~.options.TrainingProgress`.
    cancelled : callable, optional
        Asked often. If it returns True the best network so far is judged and written, and the report says so; an
        unfinished training is kept as well, so that it can be gone on with.

    Returns
    -------
    TrainingReport

    Raises
    ------
    ModelError
        If the data cannot be split honestly or hold too little, something to go on with does not fit, a model is
        there already, or Keras is missing.
    Cancelled
        If the caller asked to stop before there was any network to keep.
    WriteError
    """
    options = TrainingOptions() if options is None else options
    kind, path = kind_of(kind_name), Path(out)
    keras()  # before anything is computed
    kind.check(options)
    if options.protocol and isinstance(data, PatchSet):
        raise ModelError(
            "The published protocol splits images; train on labelled images, not on a table of patches."
        )
    patch_px = options.patch_px or (data.edge if isinstance(data, PatchSet) else kind.patch_px)
    # No ambiguity from here on: the network sees what the contract says.
    options = dataclasses.replace(options, patch_px=patch_px)
    digest = data.sha256 if isinstance(data, PatchSet) else images_sha256(data)
    if not isinstance(data, PatchSet):
        data = [dataclasses.replace(image, secondary=options.secondary) for image in data]
    workspace = _workspace(path, kind, options, digest, resume, overwrite)
    _tell(progress, 0.0, "splitting the data", options)
    with _kept_if_begun(workspace), _in_words(workspace):
        return _trained(kind, data, path, options, workspace, digest, progress, cancelled)


@contextlib.contextmanager
def _kept_if_begun(workspace: Path) -> Iterator[None]:
    """After data or options that cannot be used nothing is left in the way of better ones."""
    try:
        yield
    except ModelError:
        if not any(workspace.rglob("*.checkpoint.npz")) and not any(workspace.rglob(_RESULT)):
            shutil.rmtree(workspace, ignore_errors=True)
        raise


@contextlib.contextmanager
def _in_words(workspace: Path) -> Iterator[None]:
    """Say what a machine that is too small for a training means for it."""
    try:
        yield
    except OSError as error:
        raise WriteError(
            f"{workspace}: the training cannot be written there ({error.strerror or error}); make room and go on with "
            "--resume."
        ) from error
    except Exception as error:
        # TensorFlow has an error of its own for want of memory, which cannot be named without importing it.
        if not isinstance(error, MemoryError) and type(error).__name__ != "ResourceExhaustedError":
            raise
        raise ModelError(
            "The training does not fit into the memory; use fewer or smaller patches, or fewer of them in a step."
        ) from error


def _trained(
    kind: Kind,
    data: Sequence[LabelledImage] | PatchSet,
    path: Path,
    options: TrainingOptions,
    workspace: Path,
    digest: str,
    progress: Progress | None,
    cancelled: Callable[[], bool] | None,
) -> TrainingReport:
    splits = (
        split_patches(data, options, cancelled)
        if isinstance(data, PatchSet)
        else split_images(data, options, cancelled)
    )
    done: list[dict[str, Any]] = []
    stopped = False
    for number, split in enumerate(splits):
        folder = workspace / f"{_SPLIT}{number + 1}"
        if not _finished(folder):
            try:
                stopped = _one(kind, data, split, options, number, folder, digest, progress, cancelled)
            except Cancelled:
                if not done:
                    raise
                stopped = True
                break
        done.append(json.loads((folder / _RESULT).read_text(encoding="utf-8")))
        if stopped:
            break
    best = max(range(len(done)), key=lambda k: _merit(done[k], options.protocol))
    stored = load_model(workspace / f"{_SPLIT}{best + 1}" / _MODEL)
    contract = dataclasses.replace(
        stored.contract,
        metrics=evaluation.plain(_summary(done, best, splits, stopped)),
        seed=options.seed,
    )
    save_model(path, contract, stored.networks)
    if not stopped:
        shutil.rmtree(workspace, ignore_errors=True)
    _tell(progress, 1.0, "stopped" if stopped else "done", options)
    return TrainingReport(path, contract, stopped)


def _merit(result: Mapping[str, Any], protocol: str) -> float:
    """What the repetition that is kept has most of: as published the recall of the test."""
    if protocol:
        return result["test"]["with_ambivalent"]["recall"] or 0.0
    return result["validation"]["balanced_accuracy"] or 0.0


def _finished(folder: Path) -> bool:
    """Whether a repetition came to its end; one that was stopped goes on."""
    result = folder / _RESULT
    return result.exists() and not json.loads(result.read_text(encoding="utf-8"))["stopped"]


def _workspace(
    path: Path, kind: Kind, options: TrainingOptions, digest: str, resume: bool, overwrite: bool
) -> Path:
    """Folder of the unfinished training, new or found."""
    if path.is_dir():
        raise ModelError(f"{path}: this is a folder, not a model file; choose another name.")
    folder = path.with_name(path.name + WORKSPACE_SUFFIX)
    plan = {
        "kind": kind.name,
        "options": json.loads(json.dumps(dataclasses.asdict(options))),
        "data_sha256": digest,
        "version": napari_hrstem_defects.__version__,
    }
    begun = folder / _PLAN
    if resume:
        if not begun.exists():
            raise ModelError(f"{path}: there is no unfinished training to go on with; leave out --resume.")
        try:
            was = dict(json.loads(begun.read_text(encoding="utf-8")))
        except (OSError, TypeError, ValueError) as error:
            raise ModelError(
                f"{folder}: the unfinished training is damaged; start anew with --overwrite."
            ) from error
        if was != plan:
            changed = [key for key in plan if was.get(key) != plan[key]]
            raise ModelError(
                f"{path}: the unfinished training has other {' and '.join(changed).replace('_sha256', '')}; repeat the "
                "command as it was, or start anew with --overwrite."
            )
        return folder
    if not overwrite:
        if begun.exists():
            raise ModelError(
                f"{path}: an unfinished training lies beside it; go on with --resume or start anew with --overwrite."
            )
        if path.exists():
            raise ModelError(f"{path}: there is a model already; choose another name or allow --overwrite.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # What an earlier training left, also if it was killed while it cleared up and nothing says what it was.
        for left in folder.glob(f"{_SPLIT}*"):
            shutil.rmtree(left)
        begun.write_text(json.dumps(plan), encoding="utf-8")
    except OSError as error:
        raise WriteError(
            f"{folder}: it cannot be written there ({error.strerror}); choose a folder with space and write access."
        ) from error
    return folder


def _one(
    kind: Kind,
    data: Sequence[LabelledImage] | PatchSet,
    split: Split,
    options: TrainingOptions,
    number: int,
    folder: Path,
    digest: str,
    progress: Progress | None,
    cancelled: Callable[[], bool] | None,
) -> bool:
    """Fit and judge on one split; True if the caller asked to stop."""
    folder.mkdir(parents=True, exist_ok=True)
    own = dataclasses.replace(options, seed=options.seed + number)

    def told(report: TrainingProgress) -> None:
        if progress is not None:
            inside = _PREPARING + (1 - _PREPARING - _JUDGING) * report.fraction
            progress(
                dataclasses.replace(
                    report,
                    fraction=(number + inside) / options.repeats,
                    repeat=number + 1,
                    repeats=options.repeats,
                )
            )

    def sampled(share: float) -> None:
        _tell(progress, (number + _PREPARING * share) / options.repeats, "cutting patches", options, number)

    parts = _parts(data, split, own, kind, sampled, cancelled)
    fit = kind.function("fit")
    fitted: Fitted = fit(
        parts.train, parts.validation, own, workspace=folder, progress=told, cancelled=cancelled
    )
    _tell(progress, (number + 1 - _JUDGING) / options.repeats, "testing", options, number)
    contract = _contract(kind, data, parts, own, fitted, digest)
    model = StoredModel(folder / _MODEL, "", contract, fitted.networks)
    # Asked to stop or not, what is kept is judged: nobody can use a classifier that nothing is known about.
    result = {**_judged(model, data, parts), "stopped": fitted.stopped, "history": dict(fitted.history)}
    result["counts"] = {"train": parts.train.counts, "validation": parts.validation.counts}
    save_model(folder / _MODEL, contract, fitted.networks)
    aside = folder / (_RESULT + ".partial")
    aside.write_text(json.dumps(evaluation.plain(result)), encoding="utf-8")
    os.replace(aside, folder / _RESULT)
    return fitted.stopped


def _parts(
    data: Sequence[LabelledImage] | PatchSet,
    split: Split,
    options: TrainingOptions,
    kind: Kind,
    progress: Callable[[float], None],
    cancelled: Callable[[], bool] | None,
) -> _Parts:
    if isinstance(data, PatchSet):
        pixels = resize(data.pixels, (len(data), options.patch_px, options.patch_px))
        data = dataclasses.replace(data, pixels=filter_patches(pixels, kind.filter))
        return _Parts(data.take(split.train), data.take(split.validation), split)
    common: dict[str, Any] = {"filter_kind": kind.filter, "cancelled": cancelled}
    wanted = max(_LEAST_VALIDATION, round(options.per_class * options.validation_share))
    return _Parts(
        sample_patches(
            split.train, options.patch_px, options.per_class, seed=options.seed, progress=progress, **common
        ),
        # By the published protocol patches are set aside from the training images.
        sample_patches(
            split.validation or split.train, options.patch_px, wanted, seed=options.seed + 1, **common
        ),
        split,
    )


def _contract(
    kind: Kind,
    data: Sequence[LabelledImage] | PatchSet,
    parts: _Parts,
    options: TrainingOptions,
    fitted: Fitted,
    digest: str,
) -> Contract:
    settings = {
        item.name: getattr(options, item.name)
        for item in dataclasses.fields(options)
        if item.name not in ("name", "extra", "seed")
    }
    scope = "patch" if isinstance(data, PatchSet) else "frame"
    return Contract(
        kind=kind.name,
        name=options.name,
        classes=data.classes if isinstance(data, PatchSet) else PATCH_CLASSES,
        patch_px=options.patch_px,
        preprocessing={"filter": kind.filter, "scope": scope, **fitted.preprocessing},
        pixel_size_nm=None if isinstance(data, PatchSet) else scale.pixel_sizes(data),
        period_px=(
            scale.patch_periods(data, options.patch_px)
            if isinstance(data, PatchSet)
            else scale.image_periods(data)
        ),
        data_sha256=digest,
        training={**settings, "extra": dict(options.extra), **_provenance(data, parts.split)},
        seed=options.seed,
        software=software(),
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )


def _provenance(data: Sequence[LabelledImage] | PatchSet, split: Split) -> dict[str, list[Any]]:
    """Which image or patch went where, so that an evaluation recognises what the classifier has seen."""
    if isinstance(data, PatchSet):
        return {"patches": data.take(np.union1d(split.train, split.validation)).marks}
    return {
        "images": [
            {"name": image.name, "sha256": image.sha256, "part": part}
            for part in ("train", "validation", "test")
            for image in getattr(split, part)
        ]
    }


def software() -> dict[str, str]:
    """Versions of this package and of those that the training depends on."""
    versions = {
        "napari-hrstem-defects": napari_hrstem_defects.__version__,
        "python": platform.python_version(),
    }
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _judged(model: StoredModel, data: Sequence[LabelledImage] | PatchSet, parts: _Parts) -> dict[str, Any]:
    split = parts.split
    out: dict[str, Any] = {"validation": _fitted_scores(model, parts.validation)}
    if isinstance(data, PatchSet):
        out["train"] = evaluation.judge_patches(model, data.take(split.train))
        out["test"] = evaluation.judge_patches(model, data.take(split.test))
        return out
    defective = [image for image in split.test if image.has_defects]
    clean = [image for image in split.test if not image.has_defects]
    out["train"] = evaluation.judge_images(model, [image for image in split.train if image.has_defects])
    if defective:
        out["test"] = evaluation.judge_images(model, defective)
    if clean:
        out["defect_free"] = evaluation.judge_images(model, clean)
    return out


def _fitted_scores(model: StoredModel, patches: PatchSet) -> dict[str, Any]:
    """Scores on patches that are filtered already."""
    plain = dataclasses.replace(
        model.contract, preprocessing={**model.contract.preprocessing, "filter": "none"}
    )
    return evaluation.judge_patches(dataclasses.replace(model, contract=plain), patches)


def _summary(
    done: Sequence[Mapping[str, Any]],
    best: int,
    splits: Sequence[Split],
    stopped: bool,
) -> dict[str, Any]:
    """What the model file says about all repetitions."""
    out: dict[str, Any] = {
        part: evaluation.spread([item[part] for item in done])
        for part in ("train", "test", "defect_free")
        if all(part in item for item in done)
    }
    for part in ("train", "test"):
        with_both = [
            item[part]["with_ambivalent"] for item in done if "with_ambivalent" in item.get(part, {})
        ]
        if with_both:
            out[f"{part}_with_ambivalent"] = evaluation.spread(with_both)
    first = splits[0]
    # A class counts as tested if every repetition had some of it.
    untested = {name for split in splits[: len(done)] for name in split.untested}
    if all("test" in item for item in done):
        pooled = evaluation.pooled([item["test"] for item in done])
        out |= {name: pooled[name] for name in ("confusion", "binary") if name in pooled}
        out["test_patches"] = [item["test"]["count"] for item in done]
    return {
        **out,
        "repeats": len(done),
        "kept": best + 1,
        "stopped": stopped,
        "split": first.how,
        "shared": first.shared,
        "dropped": first.dropped,
        "untested": sorted(untested),
        "counts": [item["counts"] for item in done],
        "history": done[best]["history"],
    }


def _tell(
    progress: Progress | None, fraction: float, text: str, options: TrainingOptions, number: int = 0
) -> None:
    if progress is not None:
        progress(TrainingProgress(fraction, text, repeat=number + 1, repeats=options.repeats))


def unfinished(path: str | os.PathLike[str]) -> bool:
    """Whether an unfinished training lies beside a model file."""
    path = Path(path)
    return (path.with_name(path.name + WORKSPACE_SUFFIX) / _PLAN).is_file()


__all__ = ["WORKSPACE_SUFFIX", "TrainingReport", "software", "train", "unfinished"]
