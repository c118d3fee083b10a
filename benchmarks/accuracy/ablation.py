"""What each step and parameter of the default mode is worth: moved by 30 %, turned, replaced or switched off."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

import napari_hrstem_defects as hd
from benchmarks.accuracy.datasets import Image
from benchmarks.accuracy.run import about, in_processes, measure, record
from benchmarks.accuracy.tables import Row, column, markdown, mean, read_csv, write_csv

FACTORS = (0.7, 1.3)
#: An image is worse or better if one of its scores changes by more than this.
NOTICEABLE = 0.02
#: Scores that are compared; of the last one less is better.
SCORES = ("dice", "dice_amorphous", "auroc", "false")
TABLE = "ablation.csv"


def _nothing_of(position: int) -> Callable[..., Any]:
    """Stands for a function that finds no area, given an array of the shape asked for at `position`."""
    return lambda *arguments, **_: np.zeros(np.shape(arguments[position]), bool)


#: Steps that are no parameter of the recipe: what is put in the place of which name in all modules of the core.
STEPS_OFF: Mapping[str, Mapping[str, Any]] = {
    "blank parts": {"find_blanks": _nothing_of(0)},
    "clipped contrast": {"CLIP_SHARE": 1.0},
    "phases": {"second_phase": lambda *_: None},
    "inverted areas": {"inverted_areas": _nothing_of(1)},
    "loss of strength": {"LOSS_FACTOR": math.inf},
    "templates of point defects": {"POINT_FACTOR": math.inf},
    "templates between pixels": {"MAX_SHIFT_PX": 0.0},
    "null by contrast": {"NULL_WIDTH": 1e6},
    "null along interfaces": {"INTERFACE_REACH": -1.0},
    "floors of nulls": dict.fromkeys(("STRENGTH_FLOOR", "TEMPLATE_FLOOR"), 1e-3),
    "vacuum by contrast": {"empty_areas": _nothing_of(0)},
    "scale of small images": {"FEWEST_PERIODS": 1},
    "reach of windows": {"REACH_PERIODS": 0.0},
}


#: Section of the recipe → first step that its parameters change; others change the whole analysis.
_FIRST: Mapping[str, str] = {
    "domains": "domains",
    "classify": "classify",
    "best_patch": "best_patch",
    "symmetry": "best_patch",
    "variance": "variance",
    "segment": "segment",
}


@dataclass(frozen=True)
class Change:
    """One parameter set to another value.

    Attributes
    ----------
    parameter : str
        ``"step.key"``, or one of `STEPS_OFF`.
    kind : {"-30 %", "+30 %", "off", "switch", "choice"}
    value : number, bool or str
    """

    parameter: str
    kind: str
    value: Any


def changes(recipe: hd.Recipe, parameters: Sequence[str] = ()) -> list[Change]:
    """Changes of a recipe that are worth a try, from what the recipe says about itself.

    Numbers are moved by ±30 %, within their limits, and set to a documented value that switches something off;
    switches are turned and choices replaced by each alternative. Free text and places in one image are left alone, and
    so is what does not fit the rest of the recipe.

    Parameters
    ----------
    recipe : Recipe
    parameters : sequence of str, optional
        Only those whose name begins with one of these.
    """
    found = []
    for name, value, metadata in recipe.parameters():
        if metadata.get("one_image") or (parameters and not name.startswith(tuple(parameters))):
            continue
        for kind, other in _alternatives(value, metadata):
            try:
                recipe.replace({name: other})
            except hd.HrstemDefectsError:
                continue
            found.append(Change(name, kind, other))
    steps = (name for name in STEPS_OFF if not parameters or name.startswith(tuple(parameters)))
    return found + [Change(name, "off", "") for name in steps]


@contextmanager
def made(change: Change | None, recipe: hd.Recipe) -> Iterator[hd.Recipe]:
    """The recipe with a change, or the recipe as it is while one of `STEPS_OFF` is off."""
    if change is None:
        yield recipe
    elif change.parameter not in STEPS_OFF:
        yield recipe.replace({change.parameter: change.value})
    else:
        core = f"{hd.__name__}.core."
        modules = [module for name, module in sorted(sys.modules.items()) if name.startswith(core)]
        with ExitStack() as stack:
            for name, value in STEPS_OFF[change.parameter].items():
                holders = [module for module in modules if hasattr(module, name)]
                if not holders:
                    raise LookupError(f"{change.parameter}: the core has no {name} any more")
                for module in holders:
                    stack.enter_context(patch.object(module, name, value))
            yield recipe


def _alternatives(value: Any, metadata: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    if isinstance(value, bool):
        yield "switch", not value
    elif isinstance(value, str):
        yield from (("choice", other) for other in metadata.get("choices", ()) if other != value)
    elif isinstance(value, int | float):
        low, high = metadata.get("minimum"), metadata.get("maximum")
        low, high = -math.inf if low is None else low, math.inf if high is None else high
        moved = []
        for factor in FACTORS:
            other = min(max(value * factor, low), high)
            if isinstance(value, int):
                # At least by one, so that small whole numbers move at all.
                other = math.floor(other) if factor < 1 else math.ceil(other)
            if low <= other <= high and other != value:
                moved.append((f"{factor - 1:+.0%}".replace("%", " %"), other))
        yield from moved
        documented = " ".join(text for text in metadata.values() if isinstance(text, str))
        off = _off(value, low, documented)
        if off is not None and off not in (value, *(other for _, other in moved)):
            yield "off", off


def _off(value: float, low: float, doc: str) -> float | None:
    """The least value, if it is a special one: the documentation says "0: ..." or it is 0 of a whole number."""
    if not math.isfinite(low):
        return None
    special = re.search(rf"(?<![\w.]){low:g}: ", doc) is not None
    return type(value)(low) if special or (isinstance(value, int) and low == 0) else None


def score_changes(image: Image, tried: Sequence[Change], settings: Mapping[str, str]) -> list[Row]:
    """Scores of one image with the recipe as it is, then with each change."""
    sample = image.load()
    recipe = hd.Recipe().replace(settings)
    row, analyses = measure(sample, recipe)
    rows = [row]
    for change in tried:
        with made(change, recipe) as changed:
            start = _FIRST.get(change.parameter.partition(".")[0])
            rows.append(measure(sample, changed, analyses if start else (), start)[0])
    kept = ("dice", "dice_amorphous", "auroc", "false", "called", "defective", "error")
    return [{**about(image, sample), **{key: row[key] for key in kept}} for row in rows]


def run(
    images: Sequence[Image],
    *,
    settings: Mapping[str, str] | None = None,
    parameters: Sequence[str] = (),
    jobs: int = 1,
    out: Path,
) -> list[Row]:
    """Try all changes on all images and write ``ablation.csv``; rows of other parameters and groups stay.

    Returns
    -------
    list of dict
        One row a change and group, see :func:`compare`.
    """
    settings = dict(settings or {})
    tried = changes(hd.Recipe().replace(settings), parameters)
    tasks = [(image, tried, settings) for image in images]
    scored = in_processes(score_changes, tasks, jobs)
    rows = []
    for group in dict.fromkeys(image.group for image in images):
        members = [each for each in scored if each[0]["group"] == group]
        reference = [each[0] for each in members]
        for k, change in enumerate(tried, start=1):
            known = {
                "parameter": change.parameter,
                "change": change.kind,
                "value": change.value,
                "group": group,
            }
            rows.append({**known, **compare(reference, [each[k] for each in members])})
    fresh = {(row["parameter"], row["group"]) for row in rows}
    kept = [row for row in read_csv(out / TABLE) if (row["parameter"], row["group"]) not in fresh]
    write_csv(out / TABLE, rows + kept)
    parts = sorted({image.part for image in images})
    record(out, "ablation", settings=settings, parts=parts, images=len(images))
    return rows


def compare(reference: Sequence[Row], changed: Sequence[Row]) -> Row:
    """How the scores of a group change.

    Returns
    -------
    dict
        ``images``; ``dice``, ``dice_amorphous``, ``auroc``, ``false``: mean changes; ``worse``, ``better``: how many
        sources have an image with a score that changes by more than `NOTICEABLE` (those with scores of both kinds count
        as worse); ``worse_images``: their names.
    """
    out: Row = {"images": len(reference)}
    for key in SCORES:
        out[key] = mean(column(changed, key)) - mean(column(reference, key))
    worse: dict[str, str] = {}
    better = set()
    for before, after in zip(reference, changed, strict=True):
        gains = [after[key] - before[key] for key in SCORES if not math.isnan(before[key] - after[key])]
        gains[-1] = -gains[-1]  # `false` is always defined
        if after["called"] != before["called"]:
            gains.append(1.0 if after["called"] == after["defective"] else -1.0)
        if min(gains) < -NOTICEABLE:
            worse[before["source"]] = before["name"]
        elif max(gains) > NOTICEABLE:
            better.add(before["source"])
    return {
        **out,
        "worse": len(worse),
        "better": len(better - set(worse)),
        "worse_images": "; ".join(worse.values()),
    }


def table(rows: Sequence[Row]) -> str:
    """Markdown table: one line a change, one block of columns a group; changes without any effect in one line."""
    groups = list(dict.fromkeys(row["group"] for row in rows))
    by_change: dict[tuple[Any, ...], dict[str, Row]] = {}
    for row in rows:
        key = (row["parameter"], row["change"], row["value"])
        by_change.setdefault(key, {})[row["group"]] = row
    head = ["parameter", "change", "value"]
    for group in groups:
        head += [f"{group}: Dice", "AUROC", "false", "worse", "better"]
    lines, inert = [], []
    for (parameter, change, value), members in by_change.items():
        if all(_is_inert(row) for row in members.values()):
            inert.append(f"`{parameter}` {change}")
            continue
        line: list[Any] = [f"`{parameter}`", change, f"{value:g}" if isinstance(value, float) else value]
        for group in groups:
            row = members.get(group, {})
            line += [_signed(row.get(key)) for key in ("dice", "auroc", "false")]
            line += [_count(row.get(key)) for key in ("worse", "better")]
        lines.append(line)
    text = markdown(head, lines)
    return text + (f"\nWithout any effect here: {', '.join(inert)}.\n" if inert else "")


def _is_inert(row: Row) -> bool:
    moved = [row[key] for key in (*SCORES, "worse", "better")]
    return not any(isinstance(value, int | float) and abs(value) > 5e-4 for value in moved)


def _signed(value: Any) -> str:
    return f"{value:+.3f}" if isinstance(value, int | float) and not math.isnan(value) else "–"


def _count(value: Any) -> str:
    return f"{value:.0f}" if isinstance(value, int | float) else "–"
