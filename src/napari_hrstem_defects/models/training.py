"""Train a classifier of any kind: split, sample, fit, test, write the model file."""

from __future__ import annotations

import contextlib
import datetime
import os
import platform
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

import napari_hrstem_defects
from napari_hrstem_defects.core.metrics import PATCH_CLASSES
from napari_hrstem_defects.errors import Cancelled, ModelError
from napari_hrstem_defects.models import evaluation, scale
from napari_hrstem_defects.models.backend import keras
from napari_hrstem_defects.models.base import Kind
from napari_hrstem_defects.models.contract import Contract
from napari_hrstem_defects.models.data import LabelledImage, PatchSet, images_sha256
from napari_hrstem_defects.models.fitting import Job
from napari_hrstem_defects.models.kinds import kind_of
from napari_hrstem_defects.models.options import CancelCheck, Progress, TrainingOptions, TrainingProgress
from napari_hrstem_defects.models.preparing import filter_patches, resize
from napari_hrstem_defects.models.sampling import sample_patches
from napari_hrstem_defects.models.splits import Split, split_images, split_patches
from napari_hrstem_defects.models.store import StoredModel, load_model, save_model
from napari_hrstem_defects.models.workspace import (
    explained,
    finished_result,
    open_workspace,
    split_folder,
    unfinished,
    write_result,
)

#: Fewest patches of the validation part for each class.
_LEAST_VALIDATION = 20
_MODEL = "model.hrstem"
# What each split costs of the bar besides fitting.
_PREPARING, _TESTING = 0.05, 0.05
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
    cancelled: CancelCheck | None = None,
) -> TrainingReport:
    """Train a classifier and evaluate it on held-out data.

    Parameters
    ----------
    kind_name : str
        One of :data:`~.kinds.KINDS`.
    data : sequence of LabelledImage, or PatchSet
    out : path-like
        The model file. An unfinished training lies in a folder beside it, see :mod:`.workspace`.
    options : TrainingOptions, optional
    resume : bool
        Go on with an unfinished training.
    overwrite : bool
        Replace an unfinished training or a finished model.
    progress : callable, optional
        Called with a :class:`~.options.TrainingProgress`.
    cancelled : callable, optional
        Asked often. If it returns True the best network so far is tested and written, and the report says so; an
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
    options = replace(options, patch_px=patch_px)
    known: _Images | _Patches
    if isinstance(data, PatchSet):
        known = _Patches(data, options)
    else:
        known = _Images([replace(image, secondary=options.secondary) for image in data], options)
    plan = {"kind": kind.name, "options": asdict(options), "data_sha256": known.sha256}
    workspace = open_workspace(path, plan, resume=resume, overwrite=overwrite)
    with explained(workspace):
        return _Training(kind, options, known, progress, cancelled).run(path, workspace)


@dataclass(frozen=True, eq=False)
class _Images:
    """Labelled images to train on."""

    images: Sequence[LabelledImage]
    options: TrainingOptions
    #: What the filter of the kind is applied to.
    scope: ClassVar[str] = "frame"

    @cached_property
    def sha256(self) -> str:
        return images_sha256(self.images)

    @cached_property
    def about(self) -> dict[str, Any]:
        """Fields of the contract that describe the data."""
        return {
            "classes": PATCH_CLASSES,
            "pixel_size_nm": scale.pixel_sizes(self.images),
            "period_px": scale.image_periods(self.images),
        }

    def splits(self, cancelled: CancelCheck | None) -> list[Split]:
        """As many as there are repetitions."""
        return split_images(self.images, self.options, cancelled)

    def parts(
        self,
        split: Split,
        seed: int,
        kind: Kind,
        progress: Callable[[float], None],
        cancelled: CancelCheck | None,
    ) -> tuple[PatchSet, PatchSet]:
        """Patches to train on and to stop by, filtered."""
        options = self.options
        wanted = max(_LEAST_VALIDATION, round(options.per_class * options.validation_share))
        draw = partial(sample_patches, filter_kind=kind.filter, cancelled=cancelled)
        train = draw(split.train, options.patch_px, options.per_class, seed=seed, progress=progress)
        # By the published protocol patches are set aside from the training images.
        images = split.validation or split.train
        return train, draw(images, options.patch_px, wanted, seed=seed + 1)

    def scores(self, model: StoredModel, split: Split) -> dict[str, Any]:
        """Scores of each set of data that there is."""
        sets = {
            "train": [image for image in split.train if image.has_defects],
            "test": [image for image in split.test if image.has_defects],
            "defect_free": [image for image in split.test if not image.has_defects],
        }
        return {
            part: evaluation.classify_images(model, images).scores()
            for part, images in sets.items()
            if images
        }

    def provenance(self, split: Split) -> dict[str, list[Any]]:
        """Which image went where, so that an evaluation recognises the training data."""
        return {
            "images": [
                {"name": image.name, "sha256": image.sha256, "part": part}
                for part in ("train", "validation", "test")
                for image in getattr(split, part)
            ]
        }


@dataclass(frozen=True, eq=False)
class _Patches:
    """A table of patches to train on; see :class:`_Images`."""

    patches: PatchSet
    options: TrainingOptions
    scope: ClassVar[str] = "patch"

    @property
    def sha256(self) -> str:
        return self.patches.sha256

    @cached_property
    def about(self) -> dict[str, Any]:
        periods = scale.patch_periods(self.patches, self.options.patch_px)
        return {"classes": self.patches.classes, "period_px": periods}

    def splits(self, cancelled: CancelCheck | None) -> list[Split]:
        return split_patches(self.patches, self.options, cancelled)

    def parts(self, split: Split, seed: int, kind: Kind, *_: Any) -> tuple[PatchSet, PatchSet]:
        edge = self.options.patch_px
        pixels = resize(self.patches.pixels, (len(self.patches), edge, edge))
        data = replace(self.patches, pixels=filter_patches(pixels, kind.filter))
        return data.take(split.train), data.take(split.validation)

    def scores(self, model: StoredModel, split: Split) -> dict[str, Any]:
        return {
            part: evaluation.classify_patches(model, self.patches.take(getattr(split, part))).scores()
            for part in ("train", "test")
        }

    def provenance(self, split: Split) -> dict[str, list[Any]]:
        return {"patches": self.patches.take(np.union1d(split.train, split.validation)).marks}


@dataclass(frozen=True, eq=False)
class _Training:
    """A training under way."""

    kind: Kind
    options: TrainingOptions
    data: _Images | _Patches
    progress: Progress | None
    cancelled: CancelCheck | None

    def run(self, path: Path, workspace: Path) -> TrainingReport:
        """Fit and test on every split, and write the best model."""
        self.report_progress(0.0, "splitting the data")
        splits = self.data.splits(self.cancelled)
        done: list[dict[str, Any]] = []
        stopped = False
        for number, split in enumerate(splits):
            folder = split_folder(workspace, number)
            try:
                done.append(finished_result(folder) or self.fit(split, number, folder))
            except Cancelled:
                if not done:
                    raise
                stopped = True
            stopped = stopped or done[-1]["stopped"]
            if stopped:
                break
        best = max(range(len(done)), key=lambda k: _merit(done[k], self.options.protocol))
        stored = load_model(split_folder(workspace, best) / _MODEL)
        metrics = evaluation.plain(_summary(done, best, splits, stopped))
        contract = replace(stored.contract, metrics=metrics, seed=self.options.seed)
        save_model(path, contract, stored.networks)
        if not stopped:
            shutil.rmtree(workspace, ignore_errors=True)
        self.report_progress(self.options.repeats, "stopped" if stopped else "done")
        return TrainingReport(path, contract, stopped)

    def fit(self, split: Split, number: int, folder: Path) -> dict[str, Any]:
        """Fit and test on one split; its scores and course, which are also written to its folder."""
        folder.mkdir(parents=True, exist_ok=True)
        options = replace(self.options, seed=self.options.seed + number)

        def sampled(share: float) -> None:
            self.report_progress(number + _PREPARING * share, "cutting patches", number)

        def fitting(report: TrainingProgress) -> None:
            share = _PREPARING + (1 - _PREPARING - _TESTING) * report.fraction
            self.report_progress(number + share, report.text, number, report)

        train, validation = self.data.parts(split, options.seed, self.kind, sampled, self.cancelled)
        fitted = self.kind.fit(train, validation, options, Job(folder, fitting, self.cancelled))
        self.report_progress(number + 1 - _TESTING, "testing", number)
        settings = {**vars(options), "extra": dict(options.extra)}
        contract = Contract(
            kind=self.kind.name,
            name=settings.pop("name"),
            patch_px=options.patch_px,
            preprocessing={"filter": self.kind.filter, "scope": self.data.scope, **fitted.preprocessing},
            data_sha256=self.data.sha256,
            seed=settings.pop("seed"),
            training={**settings, **self.data.provenance(split)},
            software=software(),
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            **self.data.about,
        )
        model = StoredModel(folder / _MODEL, "", contract, fitted.networks)
        # A stopped training is evaluated, too: a classifier without scores is of no use.
        result: dict[str, Any] = evaluation.plain(
            {
                **self.data.scores(model, split),
                "validation": evaluation.classify_patches(model, validation, filtered=True).scores(),
                "stopped": fitted.stopped,
                "history": dict(fitted.history),
                "counts": {"train": train.counts, "validation": validation.counts},
            }
        )
        save_model(folder / _MODEL, contract, fitted.networks)
        write_result(folder, result)
        return result

    def report_progress(
        self, done: float, text: str, number: int = 0, report: TrainingProgress | None = None
    ) -> None:
        """Report how far it is; `done` counts splits, so that 1 is the end of the first."""
        if self.progress is not None:
            repeats = self.options.repeats
            report = TrainingProgress(0.0, text) if report is None else report
            self.progress(replace(report, fraction=done / repeats, repeat=number + 1, repeats=repeats))


def _merit(result: Mapping[str, Any], protocol: str) -> float:
    """What the repetition that is kept has most of: as published the recall of the test."""
    if protocol:
        return result["test"]["with_ambivalent"]["recall"] or 0.0
    return result["validation"]["balanced_accuracy"] or 0.0


def software() -> dict[str, str]:
    """Versions of this package and of those that the training depends on."""
    versions = {
        "napari-hrstem-defects": napari_hrstem_defects.__version__,
        "python": platform.python_version(),
    }
    for name in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def _summary(
    done: Sequence[Mapping[str, Any]],
    best: int,
    splits: Sequence[Split],
    stopped: bool,
) -> dict[str, Any]:
    """What the model file says about all repetitions."""
    out: dict[str, Any] = {}
    for part in ("train", "test", "defect_free"):
        scores = [item[part] for item in done if part in item]
        if len(scores) < len(done):
            continue
        out[part] = evaluation.spread(scores)
        if part != "defect_free" and "with_ambivalent" in scores[0]:
            both = [item["with_ambivalent"] for item in scores]
            out[f"{part}_with_ambivalent"] = evaluation.spread(both)
    first = splits[0]
    # A class counts as tested if every repetition had some of it.
    untested = {name for split in splits[: len(done)] for name in split.untested}
    if "test" in out:
        tests = [item["test"] for item in done]
        out["confusion"] = evaluation.added([test["confusion"] for test in tests])
        if "binary" in tests[0]:
            out["binary"] = {
                name: evaluation.added([test["binary"][name] for test in tests])
                for name in tests[0]["binary"]
            }
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


__all__ = ["TrainingReport", "software", "train", "unfinished"]
