"""Analyse the images of the data sets in processes of their own: a row an image, means a group."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import napari_hrstem_defects as hd
from benchmarks.accuracy import scoring
from benchmarks.accuracy.datasets import Image, Sample
from benchmarks.accuracy.sheets import save_sheet
from benchmarks.accuracy.tables import Row, read_csv, write_csv

MODES: dict[str, Callable[[], hd.Recipe]] = {"default": hd.Recipe, "published": hd.Recipe.published}
#: What was measured when: one entry a table.
RECORD = "measured.json"
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

Answer = TypeVar("Answer")


def in_processes(
    task: Callable[..., Answer], arguments: Iterable[tuple[Any, ...]], jobs: int
) -> list[Answer]:
    """``[task(*each) for each in arguments]`` in several processes with one thread each (`jobs` 1: in this one)."""
    todo = list(arguments)
    if jobs <= 1:
        return [_counted(k, len(todo), task(*each)) for k, each in enumerate(todo)]
    os.environ.update(dict.fromkeys(_THREADS, "1"))  # the new processes inherit it
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(task, *each) for each in todo]
        return [_counted(k, len(todo), future.result()) for k, future in enumerate(futures)]


def _counted(index: int, count: int, answer: Answer) -> Answer:
    if sys.stderr.isatty():
        print(
            f"\r{index + 1} of {count}", end="\n" if index + 1 == count else "", file=sys.stderr, flush=True
        )
    return answer


def about(image: Image, sample: Sample) -> Row:
    """What identifies an image in every table."""
    return {
        "name": image.name,
        "group": image.group,
        "part": image.part,
        "source": image.source,
        "content": sample.content,
        "extent": sample.extent,
    }


def measure(
    sample: Sample, recipe: hd.Recipe, previous: Sequence[hd.Analysis] = (), start: str | None = None
) -> tuple[Row, list[hd.Analysis]]:
    """Scores of one sample with one recipe, and the analyses of its frames.

    An analysis that raises is scored as a miss with the message in ``error``: one image must not end a measurement
    that takes an hour. With `previous` analyses the steps before `start` are taken over from them.
    """
    begin = time.perf_counter()
    earlier: Sequence[hd.Analysis | None] = previous or [None] * len(sample.frames)
    try:
        analyses = [
            hd.analyze(micrograph, recipe, previous=known, start=start if known else None)
            for (micrograph, _), known in zip(sample.frames, earlier, strict=True)
        ]
    except Exception as error:
        return scoring.missed(sample, f"{type(error).__name__}: {error}"), []
    seconds = time.perf_counter() - begin
    row = scoring.score([scoring.Result.of(each) for each in analyses], sample)
    warnings = sum(len(each.warnings) for each in analyses)
    return {**row, "warnings": warnings, "seconds": seconds, "error": ""}, analyses


def score_image(
    image: Image, modes: Sequence[str], settings: Mapping[str, str], sheets: Path | None
) -> list[Row]:
    """One row a mode."""
    sample = image.load()
    rows = []
    for mode in modes:
        row, analyses = measure(sample, MODES[mode]().replace(settings))
        rows.append({**about(image, sample), "mode": mode, **row})
        if sheets is not None and analyses:
            title = f"{image.name} ({sample.content})  Dice {row['dice']:.3f}  AUROC {row['auroc']:.3f}"
            title += f"  false {row['false']:.2%}"
            save_sheet(sheets / f"{image.group}-{mode}-{image.name}.png", analyses[0], title)
    return rows


def score(
    images: Sequence[Image],
    *,
    modes: Sequence[str] = ("default",),
    settings: Mapping[str, str] | None = None,
    jobs: int = 1,
    out: Path,
    sheets: Path | None = None,
) -> list[dict[str, Any]]:
    """Score images and write ``score_<group>.csv``; rows of other modes that are there stay.

    Parameters
    ----------
    images : sequence of Image
    modes : sequence of {"default", "published"}
    settings : mapping of "step.key" to value
        Changes of the recipe.
    jobs : int
        Processes.
    out : Path
        Folder of the tables.
    sheets : Path, optional
        Folder of pictures to look at.

    Returns
    -------
    list of dict
        Means, one entry a group, part and mode.
    """
    settings = dict(settings or {})
    tasks = [(image, tuple(modes), settings, sheets) for image in images]
    rows = [row for each in in_processes(score_image, tasks, jobs) for row in each]
    for group in dict.fromkeys(row["group"] for row in rows):
        table = f"score_{group}"
        kept = [row for row in read_csv(out / f"{table}.csv") if row["mode"] not in modes]
        write_csv(out / f"{table}.csv", [row for row in rows if row["group"] == group] + kept)
        earlier = recorded(out).get(table, {}).get("commits", {})
        commits = {mode: earlier.get(mode, "") for mode in dict.fromkeys(row["mode"] for row in kept)}
        record(out, table, settings=settings, commits={**commits, **dict.fromkeys(modes, commit())})
    return means(rows)


def means(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Summary of each group, part and mode among the rows."""
    keys = dict.fromkeys((row["group"], row["part"], row["mode"]) for row in rows)
    return [
        {
            **dict(zip(("group", "part", "mode"), key, strict=True)),
            **scoring.summarise([r for r in rows if (r["group"], r["part"], r["mode"]) == key]),
        }
        for key in keys
    ]


def recorded(out: Path) -> dict[str, dict[str, Any]]:
    """What is noted about each table."""
    path = out / RECORD
    known: dict[str, dict[str, Any]] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    return known


def record(out: Path, table: str, **details: Any) -> None:
    """Note when and with which version a table was measured."""
    known = recorded(out)
    known[table] = {
        "date": datetime.date.today().isoformat(),
        "version": hd.__version__,
        "commit": commit(),
        "python": platform.python_version(),
        **details,
    }
    (out / RECORD).write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", "utf-8")


def commit() -> str:
    """Last commit that changed the package, with a plus where files differ from it; empty outside a checkout."""
    root = Path(__file__).parents[2]
    try:
        name, changes = (
            subprocess.run(
                ("git", *command), cwd=root, capture_output=True, text=True, check=True
            ).stdout.strip()
            for command in (("log", "-1", "--format=%h", "--", "src"), ("status", "--porcelain", "--", "src"))
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return name + ("+" if changes else "")
