"""The commands about images and their options; modules that take long to import are imported when they run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

import napari_hrstem_defects
from napari_hrstem_defects.cli.options import Out, PixelSize, Quiet, Select, flag, option

app = typer.Typer(
    help="Find lattice defects in atomic-resolution HR(S)TEM micrographs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


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
    out: Out,
    recipe: Annotated[
        str, option("FILE", "Recipe as JSON, or one of the built-in: default, published.")
    ] = "default",
    settings: Annotated[
        list[str] | None,
        option("STEP.KEY=VALUE", "Change one parameter of the recipe; repeatable.", name="--set"),
    ] = None,
    classifier: Annotated[
        str | None, option("NAME|FILE", "Patch classifier, instead of the recipe's.")
    ] = None,
    best_patch: Annotated[
        str | None,
        option(
            "Y,X|frame:N|track:N",
            "Centre of the best patch in px, for all images; of a series also that of frame N for all frames "
            "(frame:N), moving with the drift (track:N, or track:Y,X as placed in the first frame).",
        ),
    ] = None,
    frame_time: Annotated[
        float | None, option("S", "Series: time from frame to frame, for rates per second.")
    ] = None,
    pixel_size: PixelSize = None,
    tile: Annotated[
        int | None,
        option(
            "PX",
            "Do larger images in tiles of this edge, 0: never; default: 3072 for sides of more than 8192.",
            min=0,
        ),
    ] = None,
    select: Select = None,
    memory_share: Annotated[
        float, option("SHARE", "Refuse images that take more of the machine's memory.", min=0, max=1)
    ] = 0.25,
    image_format: Annotated[
        Literal["ome-tiff", "ome-zarr"], typer.Option(help="Of the labels and maps that are written.")
    ] = "ome-tiff",
    jobs: Annotated[int, option("N", "Local processes.", min=1)] = 1,
    scheduler: Annotated[
        str | None, option("ADDRESS", "A running dask cluster that sees the same files.")
    ] = None,
    timeout: Annotated[
        float, option("S", "How long to wait while the cluster has no worker.", min=0)
    ] = 300.0,
    overwrite: Annotated[
        bool, flag("--overwrite", "Analyse again even where the result is up to date.")
    ] = False,
    quiet: Quiet = False,
    json_lines: Annotated[
        bool, flag("--json-lines", "For programs: a JSON object a line for each image, nothing else.")
    ] = False,
) -> None:
    """Find defects; writes DIR/<stem>/ for each image and DIR/summary.csv.

    A result made from the same image with the same recipe is not made again, so that an interrupted run can be
    started once more; a series continues at the frame where it stopped. Several runs may write into one folder, as a
    job array does. Exit status: 0 all done, 1 some image failed, 2 wrong usage, 130 and 143 interrupted by Ctrl-C
    and SIGTERM.
    """
    from contextlib import closing, nullcontext

    from napari_hrstem_defects.batch.workers import Processes
    from napari_hrstem_defects.cli.console import (
        FAILED,
        USAGE,
        Reporter,
        complain,
        errors_as_lines,
        stop_signals,
    )

    # Processes also for a single job: a reader that does not return to Python would keep this one from ending. They
    # begin here because they import what takes long while this one does.
    with (
        errors_as_lines(FAILED),
        stop_signals() as stop,
        nullcontext() if scheduler else closing(Processes(jobs)) as pool,
    ):
        from collections import Counter
        from dataclasses import asdict
        from json import dumps

        from napari_hrstem_defects import batch
        from napari_hrstem_defects.batch.summary import SUMMARY_FILE, Row
        from napari_hrstem_defects.cli.analyze import check_positive, line_of, placement_of, recipe_of
        from napari_hrstem_defects.io.folders import make_folder
        from napari_hrstem_defects.io.ome import check_image_format
        from napari_hrstem_defects.models import for_recipe

        with errors_as_lines(USAGE):
            chosen = recipe_of(recipe, settings or [], classifier)
            # Refused here rather than after the folder is made.
            for_recipe(chosen)
            placement = placement_of(best_patch)
            check_positive("--pixel-size", pixel_size, "length in nm")
            check_positive("--frame-time", frame_time, "time in s")
            check_image_format(image_format)
            make_folder(out)
        with Reporter(quiet or json_lines) as reporter:

            def finished(row: Row) -> None:
                if json_lines:
                    typer.echo(dumps(asdict(row)))
                    return
                (reporter.say if row.ok else reporter.complain)(line_of(row))

            rows = batch.analyze_files(
                paths,
                out,
                chosen,
                best_patch=placement,
                frame_time_s=frame_time,
                tile_px=tile,
                pixel_size_nm=pixel_size,
                select=select,
                memory_share=memory_share,
                image_format=image_format,
                pool=pool,
                scheduler=scheduler,
                overwrite=overwrite,
                progress=reporter.progress,
                timeout_s=timeout,
                finished=finished,
                notify=reporter.complain,
                cancelled=stop.is_set,
            )
    counts = Counter(row.status for row in rows)
    if not quiet and not json_lines:
        order = ("done", "skipped", "failed", "cancelled")
        parts = [f"{counts[status]} {status}" for status in order if counts[status]]
        typer.echo(f"{', '.join(parts)}; table in {out / SUMMARY_FILE}")
    if stop.is_set():
        complain("Interrupted; the same command, run again, continues from there.")
        raise typer.Exit(stop.status)
    if any(not row.ok for row in rows):
        raise typer.Exit(FAILED)


@app.command()
def info(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Image files of any known format.")],
) -> None:
    """List what files hold: number, kind, shape, type and pixel size of each data set, * what analyze takes.

    Exit status: 0 all can be analysed, 1 some cannot.
    """
    from napari_hrstem_defects.cli.console import FAILED, complain, printable
    from napari_hrstem_defects.errors import ReadError
    from napari_hrstem_defects.io.reading import choose, data_sets

    status = 0
    for path in files:
        try:
            found = data_sets(path)
        except ReadError as error:
            complain(str(error))
            status = FAILED
            continue
        try:
            taken, failure = choose(path, found), None
        except ReadError as error:
            taken, failure = -1, error
        typer.echo(printable(str(path)))
        for number, one in enumerate(found):
            shape = " × ".join(map(str, one.shape))
            size = f"{one.pixel.nm:.6g} nm/px" if one.pixel.nm else one.pixel.reciprocal or "no pixel size"
            title = f" ({one.title})" if one.title else ""
            mark = "*" if number == taken else " "
            typer.echo(f"{mark}{number + 1:3}  {one.kind}{title}: {shape} {one.dtype.name}, {size}")
            for notice in dict.fromkeys(one.pixel.notices):
                typer.echo(f"      {notice}")
        if failure is not None:
            complain(str(failure))
            status = FAILED
    raise typer.Exit(status)


@app.command()
def replay(
    record: Annotated[Path, typer.Argument(metavar="analysis.json", help="Record of the result to repeat.")],
    out: Out,
    image: Annotated[Path | None, option("FILE", "Where the image is now, if it was moved.")] = None,
    overwrite: Annotated[bool, flag("--overwrite", "Replace an earlier repetition.")] = False,
    quiet: Quiet = False,
) -> None:
    """Repeat a result from its analysis.json and check that the labels are the same, bit for bit."""
    from napari_hrstem_defects import batch
    from napari_hrstem_defects.cli.console import FAILED, USAGE, Reporter, errors_as_lines
    from napari_hrstem_defects.io.folders import make_folder

    with errors_as_lines(USAGE):
        make_folder(out)
    with errors_as_lines(FAILED), Reporter(quiet) as reporter:
        outcome = batch.replay(record, out, image=image, overwrite=overwrite, progress=reporter.progress)
        if outcome.differing:
            why = f" (other versions: {', '.join(outcome.changed)})" if outcome.changed else ""
            reporter.complain(f"{outcome.folder}: the labels are not those of the first run{why}.")
            raise typer.Exit(FAILED)
        reporter.say(f"{outcome.folder}: the labels are identical.")


@app.command()
def simulate(
    out: Out,
    count: Annotated[
        int, option("N", "How many images; of the presets …-defects patches of each class.", min=1)
    ],
    seed: Annotated[int, option("S", "The same seed gives the same images.", min=0)],
    preset: Annotated[
        str | None,
        option(
            "NAME",
            "What to simulate; without it a set of all kinds, a third with defects. cdte-defects and sto-defects: "
            "labelled patches and whole images of the classes of Marvin, Holt et al.",
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Make micrographs with known defects: <name>.tif, its mask <name>_mask.png, and simulation.json.

    The presets cdte-defects and sto-defects write patches.csv for train --patches, and a whole image of each class with
    <name>_classes.png, the numbers of the classes in the order of simulation.json.
    """
    from napari_hrstem_defects.cli.simulate import run

    run(out, count, seed, preset, quiet)


@app.command()
def view(
    image: Annotated[
        Path | None, typer.Argument(metavar="[IMAGE]", help="Default: a bundled micrograph.")
    ] = None,
    select: Select = None,
) -> None:
    """Open napari with a micrograph and its analysis as layers."""
    from napari_hrstem_defects.cli.view import run

    run(image, select)
