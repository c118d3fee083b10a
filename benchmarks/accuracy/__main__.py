"""Command line: ``python -m benchmarks.accuracy score|ablation|robustness|stability|report``."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import napari_hrstem_defects as hd
from benchmarks.accuracy import ablation, report, robustness, run, sheets, stability
from benchmarks.accuracy.datasets import DEFAULT_DATA, GROUPS, PARTS, Image, images

DOCS = Path(__file__).resolve().parents[2] / "docs"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 1 if an image could not be analysed, 2 for wrong usage."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        hd.Recipe().replace(dict(getattr(options, "set", ())))
    except hd.HrstemDefectsError as error:
        parser.error(str(error))
    return int(options.command(options))


def _score(options: argparse.Namespace) -> int:
    means = run.score(
        _images(options),
        modes=options.mode,
        settings=dict(options.set),
        jobs=options.jobs,
        out=options.out,
        sheets=options.sheets,
    )
    for line in means:
        print(json.dumps({key: _rounded(value) for key, value in line.items()}))
    if options.sheets:
        for page in sheets.join(options.sheets, options.group):
            print(page, file=sys.stderr)
    return int(any(line["failed"] for line in means))


def _ablation(options: argparse.Namespace) -> int:
    rows = ablation.run(
        _images(options),
        settings=dict(options.set),
        parameters=options.parameter,
        jobs=options.jobs,
        out=options.out,
    )
    print(ablation.table(rows))
    return 0


def _robustness(options: argparse.Namespace) -> int:
    rows, places = robustness.run(modes=options.mode, limit=options.limit, jobs=options.jobs, out=options.out)
    print(report.curves_table(rows) + "\n" + report.placements_table(places))
    return int(any(row["error"] for row in rows))


def _stability(options: argparse.Namespace) -> int:
    rows = stability.run(_images(options), jobs=options.jobs, out=options.out)
    print(stability.table(rows))
    return int(any(row["error"] for row in rows))


def _report(options: argparse.Namespace) -> int:
    if options.speed:
        report.write_speed(options.speed, options.out)
    options.page.write_text(report.page(options.out), "utf-8")
    return 0


def _images(options: argparse.Namespace) -> list[Image]:
    found = images(tuple(options.group), options.part, data=options.data, limit=options.limit)
    for group in set(options.group) - {image.group for image in found}:
        print(f"{group}: skipped, {options.data / group} is not there", file=sys.stderr)
    return found


def _rounded(value: Any) -> Any:
    """Numbers as JSON can hold them."""
    if not isinstance(value, float):
        return value
    return None if math.isnan(value) else round(value, 4)


def _setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not step.key=value")
    return name, value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description=__doc__)
    commands = parser.add_subparsers(required=True)

    def command(name: str, function: Any, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(command=function)
        added.add_argument("--out", type=Path, default=DOCS / "results", help="folder of the tables")
        if name != "report":
            added.add_argument("--jobs", type=int, default=1, help="processes")
            added.add_argument("--limit", type=int, help="most images of each group and part, to try things")
        if name in ("score", "ablation", "stability"):
            added.add_argument("--group", nargs="+", choices=GROUPS, default=list(GROUPS))
            added.add_argument("--part", choices=(*PARTS, "all"), default="test")
            added.add_argument(
                "--data", type=Path, default=DEFAULT_DATA, help="folder of sim_b, real and real2"
            )
        if name in ("score", "ablation"):
            added.add_argument("--set", action="append", type=_setting, default=[], metavar="STEP.KEY=VALUE")
        if name in ("score", "robustness"):
            added.add_argument("--mode", nargs="+", choices=tuple(run.MODES), default=["default"])
        return added

    scored = command(
        "score", _score, "score images: a row an image, one JSON line of means a group, part and mode"
    )
    scored.add_argument("--sheets", type=Path, help="folder of pictures to look at, never to be committed")
    ablated = command("ablation", _ablation, "change every parameter of the default recipe, one at a time")
    ablated.add_argument(
        "--parameter", nargs="+", default=[], metavar="PREFIX", help="only these, e.g. segment."
    )
    command("robustness", _robustness, "vary one property of simulated micrographs at a time")
    command("stability", _stability, "score images after changes that change nothing that matters")
    page = command("report", _report, "write docs/results.md from the tables")
    page.add_argument("--page", type=Path, default=DOCS / "results.md")
    page.add_argument("--speed", type=Path, help="JSON of pytest-benchmark that becomes speed.csv")
    return parser


if __name__ == "__main__":
    sys.exit(main())
