"""The commands about trained classifiers and their options; what they do is in modules of their own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from napari_hrstem_defects.cli.commands import app
from napari_hrstem_defects.cli.options import Out, PixelSize, Quiet, Select, flag, option
from napari_hrstem_defects.models.options import TrainingOptions

_Images = Annotated[Path | None, option("DIR", "Labelled images, or the folder of the published data set.")]
_Labels = Annotated[
    Path | None,
    option(
        "DIR",
        "Their labels by stem: label images (0 crystal, 255 ignore) or labelme polygons; default: same folder.",
    ),
]
_Patches = Annotated[
    Path | None, option("CSV", "Patches: columns file and label; where known also source, y, x.")
]
_Clean = Annotated[str | None, option("CLASS", "The clean class, where its name does not show it.")]
_Report = Annotated[
    Path | None,
    option(
        "DIR",
        "Write table_1.csv (as in Dennler et al.), report.txt and report.json (each class), confusion.png there.",
    ),
]
_Only = Annotated[str | None, option("COLUMN=VALUE", "Only the rows of the table with this value.")]


def _with_training_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command, in place of ``**options``, the settings of a training that have a metavar or an option."""
    signature = inspect.signature(command, eval_str=True)
    parameters = list(signature.parameters.values())[:-1]
    for item in fields(TrainingOptions):
        about, types = item.metadata, {"str": str, "int": int, "float": float, "bool": bool}
        if about.get("metavar") or about.get("option"):
            made = typer.Option(
                *filter(None, [about["option"]]),
                metavar=about["metavar"] or None,
                min=about["least"],
                help=about["about"],
            )
            parameters.append(
                inspect.Parameter(
                    item.name,
                    inspect.Parameter.KEYWORD_ONLY,
                    default=item.default,
                    annotation=Annotated[types[str(item.type)], made],
                )
            )
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return command


@app.command()
@_with_training_options
def train(
    out: Annotated[Path, option("FILE", "The model file to write (.hrstem).")],
    model: Annotated[str | None, option("KIND", "vgg16, compact or fft-ensemble; not with a preset.")] = None,
    protocol: Annotated[
        str | None, option("NAME", "dennler2021: VGG16, split, trained and chosen as published.")
    ] = None,
    preset: Annotated[str | None, option("NAME", "marvin2025: the FFT ensemble as published.")] = None,
    images: _Images = None,
    labels: _Labels = None,
    patches: _Patches = None,
    simulated: Annotated[int | None, option("N", "Train on N simulated images instead.", min=1)] = None,
    name: Annotated[str | None, option("NAME", "Name of the classifier; default: the file's.")] = None,
    clean: _Clean = None,
    only: _Only = None,
    settings: Annotated[
        list[str] | None,
        option(
            "KEY=VALUE",
            "A setting of one kind only; repeatable. fft-ensemble: architecture, branches, augmentation, balance, "
            "calibrate, threshold, momentum, stride, class_epochs. vgg16: dense.",
            name="--set",
        ),
    ] = None,
    install: Annotated[
        bool, flag("--install", "Also add it to the list of classifiers, under its name.")
    ] = False,
    resume: Annotated[bool, flag("--resume", "Continue an unfinished training.")] = False,
    overwrite: Annotated[
        bool, flag("--overwrite", "Replace a model, or start an unfinished training anew.")
    ] = False,
    report: _Report = None,
    quiet: Quiet = False,
    **options: Any,
) -> None:
    """Train a patch classifier on labelled images, a table of patches, or simulated images.

    Parts of the data are held out, and what the classifier scores on them is written into the model file. Exit
    status: 0 done, 1 interrupted (the best so far is kept, --resume continues), 2 wrong usage or data.
    """
    given = dict(locals())
    from napari_hrstem_defects.cli.train import run

    run(**given.pop("options"), **given)


@app.command()
def evaluate(
    pred: Annotated[Path | None, option("DIR", "Results of analyze, or label images.")] = None,
    truth: Annotated[
        Path | None, option("DIR", "Label images: 0 crystal, 1 symmetry defect, 2 amorphous, 255 ignore.")
    ] = None,
    model: Annotated[str | None, option("FILE", "A trained classifier instead, by file or name.")] = None,
    images: _Images = None,
    labels: _Labels = None,
    patches: _Patches = None,
    clean: _Clean = None,
    only: _Only = None,
    ratings: Annotated[Path | None, option("CSV", "Count the ratings given in the panel instead.")] = None,
    json: Annotated[Path | None, option("FILE", "Write all numbers to this file.")] = None,
    report: _Report = None,
) -> None:
    """Compare label images with masks (--pred, --truth), or evaluate a trained classifier (--model) on labelled data.

    Give either --pred and --truth, or --model with --images or --patches, or --ratings.
    """
    given = dict(locals())
    from napari_hrstem_defects.cli.evaluate import run

    run(**given)


@app.command()
def scan(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="A micrograph or a series.")],
    model: Annotated[str, option("NAME|FILE", "An FFT ensemble: of the registry, or a file.")],
    out: Out,
    stride: Annotated[
        int | None, option("N", "Step between windows in px; default 8, 4 as published.", min=1)
    ] = None,
    least_probability: Annotated[
        float | None, option("P", "Below this no class is named; default 0.5.", min=0, max=1)
    ] = None,
    pixel_size: PixelSize = None,
    select: Select = None,
    overwrite: Annotated[bool, flag("--overwrite", "Replace an earlier scan.")] = False,
    quiet: Quiet = False,
) -> None:
    """Slide an FFT ensemble over an image; writes DIR/<stem>/ with a map for each class, a class map, its regions."""
    from collections import Counter

    from napari_hrstem_defects.cli.analyze import check_positive
    from napari_hrstem_defects.cli.console import USAGE, Reporter, errors_as_lines
    from napari_hrstem_defects.io.reading import read
    from napari_hrstem_defects.io.scans import save_scan
    from napari_hrstem_defects.models import scan as scanning
    from napari_hrstem_defects.models.registry import find
    from napari_hrstem_defects.models.store import load_model

    with errors_as_lines(USAGE), Reporter(quiet) as reporter:
        check_positive("--pixel-size", pixel_size, "length in nm")
        micrograph = read(image, pixel_size_nm=pixel_size, select=select)
        stored = load_model(find(model))
        step = scanning.usual_stride(stored.contract) if stride is None else stride
        least = scanning.LEAST_PROBABILITY if least_probability is None else least_probability
        counts: Counter[str] = Counter()
        warnings: dict[str, None] = {}
        record = {
            "model": {"name": stored.contract.name, "file": stored.path.name, "sha256": stored.sha256},
            "window_px": stored.contract.patch_px,
            "stride_px": step,
            "least_probability": least,
        }

        def scans() -> Iterator[scanning.Scan]:
            for index in range(len(micrograph)):
                found = scanning.scan(
                    stored,
                    micrograph.frame(index).pixels,
                    stride_px=step,
                    pixel_size_nm=micrograph.pixel_size_nm,
                    least_probability=least,
                    progress=lambda share, text, index=index: reporter.progress(  # type: ignore[misc]
                        (index + share) / len(micrograph), text
                    ),
                )
                counts.update(region.type for region in found.regions)
                warnings.update(dict.fromkeys(found.warnings))
                yield found

        classes = stored.contract.classes
        folder = save_scan(scans(), micrograph, out / image.stem, classes, record=record, overwrite=overwrite)
        for warning in warnings:
            reporter.complain(f"{image}: {warning}")
        kinds = ", ".join(f"{counts[name]} {name}" for name in classes if counts[name])
        reporter.say(f"{folder}: {kinds or 'no defect'}")


@app.command()
def models(
    add: Annotated[Path | None, option("FILE", "Add a model file, so that it is found by its name.")] = None,
    name: Annotated[str | None, option("NAME", "What to call it; default: as it calls itself.")] = None,
    remove: Annotated[str | None, option("NAME", "Delete the classifier of this name.")] = None,
    overwrite: Annotated[bool, flag("--overwrite", "With --add: replace the one of the same name.")] = False,
) -> None:
    """List the trained classifiers that are installed: kind, classes, what they expect, how good they were.

    Exit status: 0 done, 1 some model file in the folder cannot be used, 2 wrong usage.
    """
    from napari_hrstem_defects.cli.models import run

    run(add, name, remove, overwrite)
