"""The commands and their options; what they do is in modules of their own, imported when they run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import napari_hrstem_defects

app = typer.Typer(
    help="Find lattice defects in atomic-resolution HR(S)TEM micrographs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_Out = Annotated[Path, typer.Option(metavar="DIR", help="Folder for the results; made if missing.")]
_Quiet = Annotated[bool, typer.Option("--quiet", help="Say nothing but what went wrong.")]


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"hrstem-defects {napari_hrstem_defects.__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    pass


@app.command()
def analyze(
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH...", help="Files, folders and patterns, mixed.")
    ],
    out: _Out,
    recipe: Annotated[
        str, typer.Option(metavar="FILE", help="Recipe as JSON, or one of the built-in: default, published.")
    ] = "default",
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="STEP.KEY=VALUE", help="Change one parameter of the recipe; repeatable."
        ),
    ] = None,
    classifier: Annotated[
        str | None, typer.Option(metavar="NAME|FILE", help="Patch classifier, instead of the recipe's.")
    ] = None,
    best_patch: Annotated[
        str | None, typer.Option(metavar="Y,X", help="Centre of the best patch in px, for all images.")
    ] = None,
    pixel_size: Annotated[
        float | None, typer.Option(metavar="NM", help="Pixel size in nm, instead of what the files say.")
    ] = None,
    jobs: Annotated[int, typer.Option(metavar="N", min=1, help="Local processes.")] = 1,
    scheduler: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="A running dask cluster that sees the same files.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Analyse again even where the result is up to date.")
    ] = False,
    quiet: _Quiet = False,
) -> None:
    """Find defects; writes DIR/<stem>/ for each image and DIR/summary.csv.

    A result made from the same image with the same recipe is not made again, so that an interrupted run can be
    started once more. Exit status: 0 all done, 1 some image failed, 2 wrong usage.
    """
    from napari_hrstem_defects.cli.analyze import run

    run(
        paths,
        out,
        recipe,
        settings or [],
        classifier,
        best_patch,
        pixel_size,
        jobs,
        scheduler,
        overwrite,
        quiet,
    )


@app.command()
def replay(
    record: Annotated[Path, typer.Argument(metavar="analysis.json", help="Record of the result to repeat.")],
    out: _Out,
    image: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where the image is now, if it was moved.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier repetition.")] = False,
    quiet: _Quiet = False,
) -> None:
    """Repeat a result from its analysis.json and check that the labels are the same, bit for bit."""
    from napari_hrstem_defects.cli.analyze import run_replay

    run_replay(record, out, image, overwrite, quiet)


@app.command()
def evaluate(
    pred: Annotated[Path, typer.Option(metavar="DIR", help="Results of analyze, or label images.")],
    truth: Annotated[
        Path,
        typer.Option(
            metavar="DIR", help="Label images: 0 crystal, 1 symmetry defect, 2 amorphous, 255 ignore."
        ),
    ],
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write all numbers to this file.")] = None,
) -> None:
    """Compare label images with masks drawn by hand or simulated, paired by stem."""
    from napari_hrstem_defects.cli.evaluate import run

    run(pred, truth, json)


@app.command()
def scan(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="A micrograph or a series.")],
    model: Annotated[Path, typer.Option(metavar="FILE", help="An FFT ensemble that `train` wrote.")],
    out: _Out,
    stride: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Step between windows in px; default 8.")
    ] = None,
    least_probability: Annotated[
        float | None,
        typer.Option(
            metavar="P",
            min=0,
            max=1,
            help="Below this no class is named; default 0.5.",
        ),
    ] = None,
    pixel_size: Annotated[
        float | None, typer.Option(metavar="NM", help="Pixel size in nm, instead of what the file says.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier scan.")] = False,
    quiet: _Quiet = False,
) -> None:
    """Slide an FFT ensemble over an image; writes DIR/<stem>/ with a map for each class, a class map, its regions."""
    from napari_hrstem_defects.cli.scan import run

    run(image, model, out, stride, least_probability, pixel_size, overwrite, quiet)


@app.command()
def simulate(
    out: _Out,
    count: Annotated[int, typer.Option(metavar="N", min=1, help="How many.")],
    seed: Annotated[int, typer.Option(metavar="S", min=0, help="The same seed gives the same images.")],
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="What to simulate; without it a set of all kinds, a third with defects."
        ),
    ] = None,
    quiet: _Quiet = False,
) -> None:
    """Make micrographs with known defects: <name>.tif, its mask <name>_mask.png, and simulation.json."""
    from napari_hrstem_defects.cli.simulate import run

    run(out, count, seed, preset, quiet)


@app.command()
def view(
    image: Annotated[
        Path | None, typer.Argument(metavar="[IMAGE]", help="Default: a bundled micrograph.")
    ] = None,
) -> None:
    """Open napari with a micrograph and its analysis as layers."""
    from napari_hrstem_defects.cli.view import run

    run(image)
