"""The command ``train``."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import typer

from napari_hrstem_defects.batch import reports
from napari_hrstem_defects.batch.labelled import read_labelled, read_patches, simulated
from napari_hrstem_defects.cli.console import (
    FAILED,
    USAGE,
    Reporter,
    complain,
    errors_as_lines,
    show_table,
    stop_signals,
)
from napari_hrstem_defects.errors import Cancelled, HrstemDefectsError, ModelError
from napari_hrstem_defects.models import evaluation, registry
from napari_hrstem_defects.models.backend import check_installed
from napari_hrstem_defects.models.data import LabelledImage, PatchSet
from napari_hrstem_defects.models.kinds import kind_of
from napari_hrstem_defects.models.options import RECIPES, TrainingOptions, TrainingProgress, with_recipe
from napari_hrstem_defects.models.store import SUFFIX, file_sha256
from napari_hrstem_defects.models.training import TrainingReport, train, unfinished

#: Names of the rows of the table of metrics.
ROWS = {
    "train": "train",
    "test": "test",
    "train_with_ambivalent": "train with ambivalent",
    "test_with_ambivalent": "test with ambivalent",
    "defect_free": "defect-free",
}
#: What --protocol and --preset may name.
PUBLISHED = ("dennler2021", "marvin2025")
# Share of the bar that reading takes.
_READING = 0.05


# Options of the command that are fields of TrainingOptions of the same name; the protocol is that of a recipe.
_FIELDS = {field.name for field in fields(TrainingOptions)} - {"protocol"}


def run(**given: Any) -> None:
    """Train a classifier; see :func:`napari_hrstem_defects.models.training.train`.

    Parameters
    ----------
    **given
        The options of the command by their names.
    """
    arguments = SimpleNamespace(**given)
    with errors_as_lines(USAGE):
        name, recipe = _kind(arguments)
        kind = kind_of(name)
        check_data(given, ("images", "patches", "simulated"), "train on")
        for option, default in (("weights", "imagenet"), ("train_base", False)):
            refuse_unless(name == "vgg16", option, given[option], default, "--model vgg16")
        if arguments.out.suffix != SUFFIX:
            raise HrstemDefectsError(f"{arguments.out}: the name of a model file ends with {SUFFIX}.")
        chosen = {key: value for key, value in given.items() if key in _FIELDS}
        chosen |= {
            "name": arguments.name or arguments.out.stem,
            "extra": _extra(arguments.settings or ()),
        }
        options = with_recipe(recipe, chosen)
        kind.settings_of(options.extra)
        check_installed()
        replace = arguments.overwrite or (arguments.resume and _installed_before(arguments.out, options.name))
        if arguments.install:
            # Not only after hours of training.
            registry.check_free(options.name, overwrite=replace)
    with errors_as_lines(USAGE), stop_signals() as stop, Reporter(arguments.quiet) as reporter:
        try:
            data = _data(arguments, options, reporter, stop.is_set)
            reporter.say(_what(data))
            report = train(
                name,
                data,
                arguments.out,
                options,
                resume=arguments.resume,
                overwrite=arguments.overwrite,
                progress=_Teller(reporter).tell,
                cancelled=stop.is_set,
            )
        except Cancelled:
            goes_on = unfinished(arguments.out)
            complain(
                "Interrupted before there was a model to keep"
                + ("; the same command with --resume continues from there." if goes_on else ".")
            )
            raise typer.Exit(FAILED) from None
    if arguments.report is not None:
        with errors_as_lines(USAGE):
            reports.of_training(report.metrics).write(arguments.report)
    if not arguments.quiet:
        show(report, arguments.install)
    if arguments.install:
        with errors_as_lines(USAGE):
            registry.add(report.path, options.name, overwrite=replace)
    if report.stopped:
        complain(
            f"Interrupted; the best network so far is in {report.path}, and the same command with --resume continues."
        )
        raise typer.Exit(FAILED)


def _kind(arguments: SimpleNamespace) -> tuple[str, str]:
    """Kind of classifier and published way to train it, empty for none."""
    published = {"--protocol": arguments.protocol, "--preset": arguments.preset}
    for (option, name), known in zip(published.items(), PUBLISHED, strict=True):
        if name is not None and name != known:
            raise HrstemDefectsError(f"{option} must be {known}, not {name}.")
    chosen = [name for name in published.values() if name is not None]
    if len(chosen) + (arguments.model is not None) != 1:
        raise HrstemDefectsError("Name one of --model, --protocol and --preset.")
    return (RECIPES[chosen[0]].kind, chosen[0]) if chosen else (arguments.model, "")


def _installed_before(out: Path, name: str) -> bool:
    """Whether the classifier of a name is what an interrupted training left, which may be replaced by the rest."""
    try:
        return file_sha256(out) == file_sha256(registry.find(name))
    except ModelError:
        return False


def check_data(arguments: Mapping[str, Any], sources: Sequence[str], purpose: str) -> None:
    """Refuse none or several of the `sources` of labelled data, and options that do not belong to the one given.

    Parameters
    ----------
    arguments : mapping
        Options by their names, at least those of the sources.
    sources : sequence of str
        Names of options.
    purpose : str
        For the message.

    Raises
    ------
    HrstemDefectsError
    """
    given = [f"--{name}" for name in sources if arguments[name] is not None]
    if len(given) != 1:
        *others, last = (f"--{name}" for name in sources)
        raise HrstemDefectsError(
            f"Name the data to {purpose} by one of {', '.join(others)} and {last}, not {' and '.join(given) or 'none'}."
        )
    images, table = arguments["images"] is not None, arguments["patches"] is not None
    for name, default, partner, there in (
        ("labels", None, "--images", images),
        ("test_images", None, "--images or --simulated", not table),
        ("secondary", "defective", "--images or --simulated", not table),
        ("clean", None, "--patches", table),
        ("only", None, "--patches", table),
        ("split", "auto", "--patches", table),
    ):
        refuse_unless(there, name, arguments.get(name) or default, default, partner)


def refuse_unless(there: bool, name: str, value: Any, default: Any, partner: str) -> None:
    """Refuse an option that is set without the one that it belongs to.

    Raises
    ------
    HrstemDefectsError
    """
    if value != default and not there:
        raise HrstemDefectsError(f"--{name.replace('_', '-')} goes with {partner}; leave it out.")


def _extra(settings: Sequence[str]) -> dict[str, Any]:
    extra: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key.strip():
            raise HrstemDefectsError(f"--set {setting}: write it as key=value.")
        try:
            extra[key.strip()] = json.loads(value)
        except ValueError:
            extra[key.strip()] = value.strip()
    return extra


def split_pair(text: str | None, option: str) -> tuple[str, str] | None:
    """``COLUMN=VALUE`` as two texts."""
    if text is None:
        return None
    column, equals, value = text.partition("=")
    if not equals:
        raise HrstemDefectsError(f"{option} {text}: write it as column=value, for example material=CdTe.")
    return column.strip(), value.strip()


def _data(
    arguments: SimpleNamespace,
    options: TrainingOptions,
    reporter: Reporter,
    cancelled: Callable[[], bool],
) -> Sequence[LabelledImage] | PatchSet:
    def read(fraction: float, text: str) -> None:
        reporter.progress(_READING * fraction, text)

    if arguments.patches is not None:
        reporter.progress(0.0, f"reading {arguments.patches.name}")
        return read_patches(arguments.patches, clean=options.clean, only=split_pair(arguments.only, "--only"))
    if arguments.simulated is not None:
        return simulated(arguments.simulated, options.seed, progress=read, cancelled=cancelled)
    assert arguments.images is not None
    images, left_out = read_labelled(arguments.images, arguments.labels, progress=read, cancelled=cancelled)
    for line in left_out:
        reporter.complain(line)
    return images


def _what(data: Sequence[LabelledImage] | PatchSet) -> str:
    if isinstance(data, PatchSet):
        parts = ", ".join(f"{name} {count}" for name, count in data.counts.items())
        return f"{len(data)} patches of {data.edge} px: {parts}"
    defects = sum(image.has_defects for image in data)
    return f"{len(data)} image{'s' if len(data) != 1 else ''}, {defects} with defects"


class _Teller:
    """Turns reports of the training into a bar, or into a line an epoch where there is no bar."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._last = ""
        self._line = ""

    def tell(self, report: TrainingProgress) -> None:
        text = report.text
        if report.repeats > 1:
            text = f"split {report.repeat} of {report.repeats}, {text}"
        if report.network:
            text = f"{report.network}, {text}"
        if report.loss is not None:
            text += f", loss {report.loss:.3f}"
        if report.accuracy is not None:
            text += f", accuracy {report.accuracy:.3f}"
        if report.validation_loss is not None:
            self._last = f", validation {report.validation_loss:.3f}"
            if report.validation_accuracy is not None:
                self._last += f" / {report.validation_accuracy:.3f}"
        elif report.epoch == 0:
            self._last = ""
        ended = report.validation_loss is not None
        if self._reporter.has_bar:
            fraction = _READING + (1 - _READING) * report.fraction
            self._reporter.progress(fraction, text + self._last)
        elif ended or (report.loss is None and text != self._line):
            # Repeated lines are printed once.
            self._line = text
            self._reporter.say(text + (self._last if ended else ""))


def show(report: TrainingReport, installed: bool) -> None:
    """The metrics on held-out data in the published layout, and warnings about them."""
    metrics = report.metrics
    title = f"% (mean ± standard deviation of {metrics['repeats']})"
    found = reports.of_training(metrics)
    show_table(evaluation.table(found.table_1), title)
    left_out = {
        f"{name}, without ambivalent": metrics[name]
        for name in ("train", "test")
        if f"{name}_with_ambivalent" in metrics
    }
    if left_out:
        show_table(evaluation.table(left_out), title)
    for heading, rows in found.tables():
        show_table(rows, heading)
    typer.echo(f"Held out: {metrics['split']}.")
    if "images" in report.contract.training:
        counted = "non-defective" if report.contract.training["secondary"] == "clean" else "defective"
        typer.echo(f"Patches wholly inside a domain of another symmetry counted as {counted}.")
    for line in remarks(metrics):
        typer.echo(line)
    typer.echo(f"{report.path} (SHA-256 {file_sha256(report.path)})")
    use = shlex.quote(str(report.contract.name if installed else report.path))
    typer.echo(f"Use it with: hrstem-defects analyze IMAGE --out DIR --classifier {use}")


def remarks(metrics: Mapping[str, Any]) -> list[str]:
    """Warnings about the metrics of a training, in sentences."""
    lines = []
    if metrics.get("shared"):
        lines.append(
            f"Train/test overlap, the split was forced: {metrics['shared']}; the test scores are too high."
        )
    if metrics.get("untested"):
        names = ", ".join(map(str, metrics["untested"]))
        lines.append(f"Not tested, because all their patches overlap each other or the rest: {names}.")
    if metrics.get("dropped"):
        lines.append(
            f"{metrics['dropped']} patches were left out, because they overlap with others across the split."
        )
    if "test" not in metrics:
        lines.append("Nothing was left to test on.")
    return lines
