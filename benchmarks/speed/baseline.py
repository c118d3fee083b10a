"""Speed against a stored baseline, whatever the machine: times are counted in a fixed piece of arithmetic.

The arithmetic is timed right before and after each benchmark, so that what else the machine does slows both down.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import fft
from scipy.ndimage import gaussian_filter

BASELINE = Path(__file__).with_name("baseline.csv")
#: What takes this factor more than in the baseline is flagged; less is scatter of a machine that others use as well.
TOLERANCE = 1.5


class Measured(NamedTuple):
    """One benchmark: what was measured, its value and unit, and the seconds of the arithmetic beside it."""

    what: str
    value: float
    unit: str
    arithmetic_s: float

    @property
    def relative(self) -> float:
        """A time in units of the arithmetic; memory and ratios as they are."""
        return self.value / self.arithmetic_s if self.unit == "s" else self.value


def arithmetic_s(runs: int = 7) -> float:
    """Seconds of a fixed piece of arithmetic: a transform, a filter and a sort, of which analyses are made."""
    values = np.random.default_rng(0).random((512, 512), np.float32)

    def once() -> float:
        start = time.perf_counter()
        gaussian_filter(fft.irfft2(fft.rfft2(values)), 4)
        np.sort(values, axis=None)
        return time.perf_counter() - start

    return min(once() for _ in range(runs))


def read(path: Path = BASELINE) -> dict[str, float]:
    """Relative value of each benchmark in the baseline."""
    with path.open(newline="", encoding="utf-8") as file:
        return {row["what"]: float(row["relative"]) for row in csv.DictReader(file)}


def write(measured: Sequence[Measured], path: Path = BASELINE) -> None:
    """Keep the least of these and of the baseline that is there: what else runs only ever adds to a time."""
    kept = read(path) if path.exists() else {}
    for each in measured:
        kept[each.what] = min(each.relative, kept.get(each.what, each.relative))
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerows([("what", "relative"), *((what, f"{value:.4g}") for what, value in kept.items())])


def table(measured: Sequence[Measured], baseline: Mapping[str, float]) -> list[str]:
    """A line a benchmark: value, the same in units of the arithmetic, its ratio to the baseline; high ones flagged."""
    width = max(len(each.what) for each in measured)
    lines = [f"{'':{width}}  {'measured':>12}  {'arithmetic':>10}  {'to baseline':>11}"]
    for each in measured:
        ratio = each.relative / baseline[each.what] if each.what in baseline else None
        shown = f"{'new':>11}" if ratio is None else f"{ratio:>11.2f}"
        flag = "  SLOWER" if ratio is not None and ratio > TOLERANCE else ""
        times = f"{each.relative:>10.1f}" if each.unit == "s" else " " * 10
        lines.append(f"{each.what:{width}}  {each.value:>9.3g} {each.unit:2}  {times}  {shown}{flag}")
    return lines
