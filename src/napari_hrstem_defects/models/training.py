"""Train a classifier of any kind: split, sample, fit, judge, write the model file."""

from __future__ import annotations

import abc
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
from napari_hrstem_defects.models.base import Fitted, Kind
from napari_hrstem_defects.models.contract import Contract
from napari_hrstem_defects.models.data import LabelledImage, PatchSet, images_sha256
from napari_hrstem_defects.models.fitting import CHECKPOINT, Job
from napari_hrstem_defects.models.kinds import kind_of
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
    """Train a classifier and evaluate it on held-out data.

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
        If the data hold too little or cannot be split without train/test overlap, a model to go on with does not fit, a
        model is there already, or Keras is missing.
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
    sort = _PatchTraining if isinstance(data, PatchSet) else _ImageTraining
    training = sort(kind, data, options, workspace, digest, progress, cancelled)
    with _explained(workspace):
        return training.run(path)


@contextlib.contextmanager
def _explained(workspace: Path) -> Iterator[None]:
    """Leave nothing behind after data or options that cannot be used; say when disk or memory is too small."""
    try:
        try:
            yield
        except Exception as error:
            # TensorFlow has an error of its own for want of memory, which cannot be named without importing it.
            if not isinstance(error, MemoryError) and type(error).__name__ != "ResourceExhaustedError":
                raise
            raise ModelError(
                "The training does not fit into the memory; use fewer or smaller patches, or fewer of them in a step."
            ) from error
    except ModelError:
        if not any(workspace.rglob(f"*{CHECKPOINT}")) and not any(workspace.rglob(_RESULT)):
            shutil.rmtree(workspace, ignore_errors=True)
        raise
    except OSError as error:
        raise WriteError(
            f"{workspace}: the training cannot be written there ({error.strerror or error}); make room and go on with "
            "--resume."
        ) from error


@dataclass(frozen=True, eq=False)
class _Training(abc.ABC):
    """A training under way; what depends on the sort of the data is in the two classes below."""

    kind: Kind
    data: Any
    options: TrainingOptions
    workspace: Path
    digest: str
    progress: Progress | None
    cancelled: Callable[[], bool] | None

    @abc.abstractmethod
    def splits(self) -> list[Split]:
        """As many as there are repetitions."""

    @abc.abstractmethod
    def parts(self, split: Split, seed: int, progress: Callable[[float], None]) -> tuple[PatchSet, PatchSet]:
        """Patches to train on and to stop by, filtered."""

    @abc.abstractmethod
    def scores(self, model: StoredModel, split: Split) -> dict[str, Any]:
        """Scores of each set of data that there is."""

    @abc.abstractmethod
    def about(self) -> dict[str, Any]:
        """Fields of the contract that describe the data."""

    @abc.abstractmethod
    def provenance(self, split: Split) -> dict[str, list[Any]]:
        """Which image or patch went where, so that an evaluation recognises the training data."""

    def run(self, path: Path) -> TrainingReport:
        """Fit and judge on every split, and write the best model."""
        self.tell(0.0, "splitting the data")
        splits = self.splits()
        done: list[dict[str, Any]] = []
        stopped = False
        for number, split in enumerate(splits):
            folder = self.workspace / f"{_SPLIT}{number + 1}"
            if not _finished(folder):
                try:
                    stopped = self.fit(split, number, folder)
                except Cancelled:
                    if not done:
                        raise
                    stopped = True
                    break
            done.append(json.loads((folder / _RESULT).read_text(encoding="utf-8")))
            if stopped:
                break
        best = max(range(len(done)), key=lambda k: _merit(done[k], self.options.protocol))
        stored = load_model(self.workspace / f"{_SPLIT}{best + 1}" / _MODEL)
        metrics = evaluation.plain(_summary(done, best, splits, stopped))
        contract = dataclasses.replace(stored.contract, metrics=metrics, seed=self.options.seed)
        save_model(path, contract, stored.networks)
        if not stopped:
            shutil.rmtree(self.workspace, ignore_errors=True)
        self.tell(self.options.repeats, "stopped" if stopped else "done")
        return TrainingReport(path, contract, stopped)

    def fit(self, split: Split, number: int, folder: Path) -> bool:
        """Fit and judge on one split; True if the caller asked to stop."""
        folder.mkdir(parents=True, exist_ok=True)
        options = dataclasses.replace(self.options, seed=self.options.seed + number)

        def sampled(share: float) -> None:
            self.tell(number + _PREPARING * share, "cutting patches", number)

        def fitting(report: TrainingProgress) -> None:
            share = _PREPARING + (1 - _PREPARING - _JUDGING) * report.fraction
            self.tell(number + share, report.text, number, report)

        train, validation = self.parts(split, options.seed, sampled)
        fitted = self.kind.fit(train, validation, options, Job(folder, fitting, self.cancelled))
        self.tell(number + 1 - _JUDGING, "testing", number)
        contract = self.contract(options, fitted, split)
        model = StoredModel(folder / _MODEL, "", contract, fitted.networks)
        # A stopped training is evaluated, too: a classifier without scores is of no use.
        result = {
            **self.scores(model, split),
            "validation": evaluation.judge_patches(model, validation, filtered=True),
            "stopped": fitted.stopped,
            "history": dict(fitted.history),
            "counts": {"train": train.counts, "validation": validation.counts},
        }
        save_model(folder / _MODEL, contract, fitted.networks)
        aside = folder / (_RESULT + ".partial")
        aside.write_text(json.dumps(evaluation.plain(result)), encoding="utf-8")
        os.replace(aside, folder / _RESULT)
        return fitted.stopped

    def contract(self, options: TrainingOptions, fitted: Fitted, split: Split) -> Contract:
        """What the model file says, before the metrics are known."""
        settings = {**vars(options), "extra": dict(options.extra)}
        about = self.about()
        preprocessing = {"filter": self.kind.filter, "scope": about.pop("scope"), **fitted.preprocessing}
        return Contract(
            kind=self.kind.name,
            name=settings.pop("name"),
            patch_px=options.patch_px,
            preprocessing=preprocessing,
            data_sha256=self.digest,
            seed=settings.pop("seed"),
            training={**settings, **self.provenance(split)},
            software=software(),
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            **about,
        )

    def tell(self, done: float, text: str, number: int = 0, report: TrainingProgress | None = None) -> None:
        """Report how far it is; `done` counts splits, so that 1 is the end of the first."""
        if self.progress is not None:
            repeats = self.options.repeats
            report = TrainingProgress(0.0, text) if report is None else report
            self.progress(
                dataclasses.replace(report, fraction=done / repeats, repeat=number + 1, repeats=repeats)
            )


class _ImageTraining(_Training):
    """On labelled images."""

    def splits(self) -> list[Split]:
        return split_images(self.data, self.options, self.cancelled)

    def parts(self, split: Split, seed: int, progress: Callable[[float], None]) -> tuple[PatchSet, PatchSet]:
        options = self.options
        common: dict[str, Any] = {"filter_kind": self.kind.filter, "cancelled": self.cancelled}
        train = sample_patches(
            split.train, options.patch_px, options.per_class, seed=seed, progress=progress, **common
        )
        wanted = max(_LEAST_VALIDATION, round(options.per_class * options.validation_share))
        # By the published protocol patches are set aside from the training images.
        images = split.validation or split.train
        return train, sample_patches(images, options.patch_px, wanted, seed=seed + 1, **common)

    def scores(self, model: StoredModel, split: Split) -> dict[str, Any]:
        sets = {
            "train": [image for image in split.train if image.has_defects],
            "test": [image for image in split.test if image.has_defects],
            "defect_free": [image for image in split.test if not image.has_defects],
        }
        return {part: evaluation.judge_images(model, images) for part, images in sets.items() if images}

    def about(self) -> dict[str, Any]:
        return {
            "scope": "frame",
            "classes": PATCH_CLASSES,
            "pixel_size_nm": scale.pixel_sizes(self.data),
            "period_px": scale.image_periods(self.data),
        }

    def provenance(self, split: Split) -> dict[str, list[Any]]:
        return {
            "images": [
                {"name": image.name, "sha256": image.sha256, "part": part}
                for part in ("train", "validation", "test")
                for image in getattr(split, part)
            ]
        }


class _PatchTraining(_Training):
    """On a table of patches."""

    def splits(self) -> list[Split]:
        return split_patches(self.data, self.options, self.cancelled)

    def parts(self, split: Split, seed: int, progress: Callable[[float], None]) -> tuple[PatchSet, PatchSet]:
        edge = self.options.patch_px
        pixels = filter_patches(resize(self.data.pixels, (len(self.data), edge, edge)), self.kind.filter)
        data = dataclasses.replace(self.data, pixels=pixels)
        return data.take(split.train), data.take(split.validation)

    def scores(self, model: StoredModel, split: Split) -> dict[str, Any]:
        return {
            part: evaluation.judge_patches(model, self.data.take(getattr(split, part)))
            for part in ("train", "test")
        }

    def about(self) -> dict[str, Any]:
        periods = scale.patch_periods(self.data, self.options.patch_px)
        return {"scope": "patch", "classes": self.data.classes, "period_px": periods}

    def provenance(self, split: Split) -> dict[str, list[Any]]:
        return {"patches": self.data.take(np.union1d(split.train, split.validation)).marks}


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


def unfinished(path: str | os.PathLike[str]) -> bool:
    """Whether an unfinished training lies beside a model file."""
    path = Path(path)
    return (path.with_name(path.name + WORKSPACE_SUFFIX) / _PLAN).is_file()


__all__ = ["WORKSPACE_SUFFIX", "TrainingReport", "software", "train", "unfinished"]
