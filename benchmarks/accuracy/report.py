"""Write docs/results.md: the tables in docs/results, put into results_template.md.

What was measured by tools that are no longer part of the repository (other methods, classifiers, interface) is quoted
from its table; its date stands in the template.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.accuracy import ablation, datasets, numbers, robustness, run, scoring, stability, types
from benchmarks.accuracy.tables import Row, column, markdown, mean, read_csv, write_csv

TEMPLATE = Path(__file__).with_name("results_template.md")
#: What stands in place of a table that is not there.
NOT_MEASURED = "*Not measured yet.*"
#: Method in peers.csv → its heading.
PEERS = {
    "default": "this program",
    "published": "Dennler et al.",
    "atomai": "local FFT + NMF",
    "motif_learn": "Zernike moments",
    "gpa": "GPA amplitude",
}
_SUMMARY = {
    "images": "images",
    "dice": "Dice",
    "dice_cores": "Dice, with dislocation cores",
    "dice_amorphous": "Dice, amorphous",
    "auroc": "AUROC",
    "false": "false area",
    "recall": "image recall",
    "specificity": "image specificity",
    "films_clean": "coherent films without a mark",
    "passed": "images that pass",
    "patch_accuracy": "patch accuracy",
    "patch_precision": "patch precision",
    "patch_specificity": "patch specificity",
    "patch_recall": "patch recall",
    "failed": "could not be analysed",
}


def page(folder: Path) -> str:
    """Text of docs/results.md.

    Parameters
    ----------
    folder : Path
        ``docs/results``; a table that is missing is said to be not measured.
    """
    record = run.recorded(folder)
    rows = {path.stem: read_csv(path) for path in folder.glob("*.csv")}
    tables = {group: (f"score_{group}", _group) for group in datasets.GROUPS} | {
        "ablation": ("ablation", ablation.table),
        "curves": ("robustness", curves_table),
        "stability": (stability.TABLE, stability.table),
        "placements": ("best_patch", placements_table),
        "speed": ("speed", _quantities),
        "throughput": ("throughput", _throughput),
        "large": ("large", _large),
        "interface": ("interface", _quantities),
        "types": ("types", _types),
        "peers": ("peers", _peers),
        "classifiers": ("classifiers", _classifiers),
    }
    texts = {
        key: make(rows[name]) if rows.get(name) else NOT_MEASURED for key, (name, make) in tables.items()
    }
    measured = {f"{group}_measured": _measured(record, f"score_{group}") for group in datasets.GROUPS}
    return TEMPLATE.read_text("utf-8").format(
        **{key: text.rstrip("\n") for key, text in texts.items()},
        **measured,
        **{
            f"{table}_measured": _measured(record, table)
            for table in ("ablation", "robustness", "stability", "speed", "throughput", "large", "types")
        },
        own_sets=", ".join(f"{part} seed {seed}" for part, (seed, _) in datasets.OWN_SETS.items()),
        border=datasets.BORDER_PERIODS,
        tolerance=datasets.TOLERANCE,
        margin=datasets.MARGIN,
        most_false=scoring.MOST_FALSE,
        least_found=scoring.LEAST_FOUND,
        noticeable=ablation.NOTICEABLE,
        numbers=len(numbers.count()),
        types_count=types.TEST.count,
        types_seed=types.TEST.seed,
    )


def _measured(record: dict[str, Any], table: str) -> str:
    """When a table was measured, with which version, on what."""
    about = record.get(table)
    if about is None:
        return ""
    text = f"Measured {about['date']}, version {about['version']}"
    commits = about.get("commits", {"": about["commit"]})
    if len(set(commits.values())) > 1:
        text += ", commits " + ", ".join(f"{name} ({mode})" for mode, name in sorted(commits.items()))
    elif about["commit"]:
        text += f", commit {about['commit']}"
    if "parts" in about:
        text += f", on {about['images']} images ({', '.join(about['parts'])} part)"
    changed = ", ".join(f"`{key}={value}`" for key, value in about.get("settings", {}).items())
    return text + (f", with {changed}." if changed else ".")


def _group(rows: Sequence[Row]) -> str:
    """Means of the parts and modes; the test part by content and kind of defect (own) or by image."""
    group = rows[0]["group"]
    summaries = sorted(run.means(rows), key=lambda each: (each["mode"], -datasets.PARTS.index(each["part"])))
    lines = [
        [label, *column(summaries, key)]
        for key, label in _SUMMARY.items()
        if any(value != 0 and not math.isnan(value) for value in column(summaries, key)) or key == "false"
    ]
    text = markdown(["", *(f"{each['mode']}, {each['part']}" for each in summaries)], lines)
    text += f"\nPer image: [score_{group}.csv](results/score_{group}.csv). "
    shown = [row for row in rows if row["part"] == "test"] or list(rows)
    if group != "own":
        return text + "The test part:\n\n" + _by_image(shown)
    text += "The test part by content (*false*: regions further than a period from any defect):\n\n"
    return text + _by_content(shown) + "\nDefects with a mark within a period:\n\n" + _by_kind(shown)


def _throughput(rows: Sequence[Row]) -> str:
    head = ["frames", "jobs", "seconds", "frames/s", "efficiency"]
    lines = [
        [
            f"{row['frames']:.0f} of {row['side_px']:.0f}² px",
            f"{row['jobs']:.0f}",
            f"{row['seconds']:.0f}",
            f"{row['frames_per_s']:.2f}",
            f"{row['efficiency']:.0%}",
        ]
        for row in rows
    ]
    return markdown(head, lines)


def _large(rows: Sequence[Row]) -> str:
    head = ("image", "processor time", "per pixel", "ratio to the smallest", "peak memory", "of it the image")
    lines = [
        (
            f"{row['side_px']:.0f}² {row['dtype']}",
            f"{row['cpu_s']:.0f} s",
            f"{row['us_per_px']:.2f} µs",
            f"{row['ratio']:.2f}",
            f"{row['peak_gb']:.2f} GB",
            f"{row['input_gb']:.2f} GB",
        )
        for row in rows
    ]
    return markdown(head, lines)


def _modes(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(column(rows, "mode")))


def _by_content(rows: Sequence[Row]) -> str:
    modes = _modes(rows)
    head = ["content", "images"]
    for mode in modes:
        head += [f"{mode}: called", "Dice", "Dice amorphous", "AUROC", "regions", "false"]
    lines = []
    for content in sorted(
        {row["content"] for row in rows}, key=lambda text: (text in ("perfect", "film"), text)
    ):
        line: list[Any] = [content]
        for mode in modes:
            members = [row for row in rows if row["content"] == content and row["mode"] == mode]
            line += [] if len(line) > 1 else [len(members)]
            line += [
                _total(members, "called"),
                mean(row["dice"] for row in members if row["extent"] != "point"),
            ]
            line += [mean(column(members, key)) for key in ("dice_amorphous", "auroc")]
            line += [_total(members, key) for key in ("regions", "regions_false")]
        lines.append(line)
    return markdown(head, lines)


def _by_kind(rows: Sequence[Row]) -> str:
    modes = _modes(rows)
    counts: dict[str, dict[str, tuple[int, int]]] = {}
    for row in rows:
        for kind, (hits, total) in scoring.read_targets(row["targets"]).items():
            known = counts.setdefault(kind, dict.fromkeys(modes, (0, 0)))
            known[row["mode"]] = (known[row["mode"]][0] + hits, known[row["mode"]][1] + total)
    lines = [
        [kind, *(f"{hits} of {total}" for hits, total in counts[kind].values())] for kind in sorted(counts)
    ]
    return markdown(["kind", *modes], lines)


def _by_image(rows: Sequence[Row]) -> str:
    modes = _modes(rows)
    head = ["image", "content"]
    for mode in modes:
        head += [f"{mode}: Dice", "Dice amorphous", "AUROC", "false", "passes"]
    lines = []
    for name in sorted(set(column(rows, "name"))):
        members = {row["mode"]: row for row in rows if row["name"] == name}
        line = [name, next(iter(members.values()))["content"]]
        for row in (members[mode] for mode in modes):
            line += [mean([row[key]]) for key in ("dice", "dice_amorphous", "auroc", "false")]
            line.append("yes" if row["passed"] else "no")
        lines.append(line)
    return markdown(head, lines)


def _total(rows: Sequence[Row], key: str) -> int:
    return int(sum(row[key] or 0 for row in rows))


def curves_table(rows: Sequence[Row]) -> str:
    """Means of every property and value."""
    modes = _modes(rows)
    head = ["property", "value", *(f"{key}, {mode}" for mode in modes for key in ("Dice", "AUROC"))]
    lines = []
    for name, (label, _) in robustness.CURVES.items():
        curves = [robustness.curve(rows, name, mode, key) for mode in modes for key in ("dice", "auroc")]
        lines += [
            [label, f"{points[0][0]:g}", *(y for _, y in points)] for points in zip(*curves, strict=True)
        ]
    return markdown(head, lines)


def placements_table(places: Sequence[Row]) -> str:
    """Dice with other best patches."""
    keys = ("automatic", "least", "median", "most", "spread")
    lines = [(row["preset"].replace("_", " "), *(row[key] for key in keys)) for row in places]
    return markdown(("micrograph", *keys), lines)


def write_speed(report: Path, folder: Path) -> None:
    """Take a report of pytest-benchmark (``make bench ARGS=--benchmark-json=FILE``) into speed.csv."""
    rows = []
    for each in json.loads(report.read_text("utf-8"))["benchmarks"]:
        about, stats = each["extra_info"], each["stats"]
        value = float(about.get("value", stats["min"]))
        rows.append({"what": about["name"], "value": value, "unit": about["unit"], "most": about["most"]})
    write_csv(folder / "speed.csv", rows)
    run.record(folder, "speed")


def _quantities(rows: Sequence[Row]) -> str:
    """Table of columns what, value, unit, most (the largest value wanted)."""
    lines = []
    for row in rows:
        shown = [f"{row[key]:.3g} {row['unit']}" if row[key] != "" else "–" for key in ("value", "most")]
        lines.append((row["what"], *shown))
    return markdown(("what", "measured", "at most"), lines)


def _types(rows: Sequence[Row]) -> str:
    real = [row for row in rows if row["truth"]]
    lines: list[tuple[Any, ...]] = []
    for name in [*sorted(set(column(real, "truth"))), "all"]:
        members = [row for row in real if name in ("all", row["truth"])]
        lines.append((name, len(members), mean(float(row["type"] == row["truth"]) for row in members)))
    return markdown(("true type", "regions", "right"), lines)


def _peers(rows: Sequence[Row]) -> str:
    lines: list[list[Any]] = []
    for kind in ("real", "simulated"):
        for label, key, perfect in (
            ("mean AUROC", "auroc", False),
            ("mean Dice", "dice", False),
            ("marked on perfect ones", "marked", True),
        ):
            lines.append([f"{kind}, {label}"])
            for method in PEERS:
                members = [row for row in rows if row["method"] == method and row["kind"] == kind]
                lines[-1].append(
                    mean(row[key] for row in members if (row["content"] == "perfect") == perfect)
                )
    seconds = [mean(row["seconds"] for row in rows if row["method"] == method) for method in PEERS]
    return markdown(["", *PEERS.values()], [*lines, ["seconds per image", *seconds]])


def _classifiers(rows: Sequence[Row]) -> str:
    places = {"training": "training images", "test": "known lattices", "left out": "lattices left out"}
    keys = ("accuracy", "precision", "specificity", "recall", "defect-free_specificity")
    lines = []
    for row in rows:
        pairs = [(row[f"{key}_mean"], row[f"{key}_std"]) for key in keys]
        shown = [
            "–" if average == "" else f"{100 * average:.1f} ± {100 * spread:.1f}" for average, spread in pairs
        ]
        lines.append([row["classifier"], places[row["set"]], *shown])
    return markdown(("classifier", "evaluated on", *keys[:-1], "defect-free"), lines)
