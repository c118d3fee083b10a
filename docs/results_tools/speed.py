"""Section "speed": the benchmarks of the repository, run once, against their targets."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from results_tools import page
from results_tools.workers import THREAD_VARIABLES

_INTRODUCTION = """\
## Speed and memory

One run of `pytest benchmarks --benchmark-only` on {cpus} processors ({machine}, Python {python}) at a load of
{load:.1f} before it began. What is loaded on first use is paid for before. The least of some rounds is held against the
target, as the machine, a virtual one, runs at half its speed at times; the median shows by how much. Peak memory is the
largest resident set of a fresh process minus what it had after the imports.

"""


def section(root: Path, *, cpus: int, load: float, quick: bool = False) -> str:
    """Run the benchmarks and return the text."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "benchmarks.json"
        command = [
            sys.executable,
            *("-m", "pytest", str(root / "benchmarks"), "--benchmark-only", "-q", "-p", "no:cacheprovider"),
            f"--benchmark-json={report}",
            *(("-k", "preview or import or help") if quick else ()),
        ]
        environment = {key: value for key, value in os.environ.items() if key not in THREAD_VARIABLES}
        done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"The benchmarks failed:\n{done.stdout}\n{done.stderr}")
        found = json.loads(report.read_text("utf-8"))["benchmarks"]
    text = _INTRODUCTION.format(
        cpus=cpus, machine=platform.machine(), python=platform.python_version(), load=load
    )
    return text + page.table(("what", "least", "median", "target"), (_line(each) for each in found))


def _line(benchmark: dict[str, Any]) -> tuple[str, str, str, str]:
    about, stats = benchmark["extra_info"], benchmark["stats"]
    if "value" in about:
        least, median = float(about["value"]), "–"
    else:
        least, median = float(stats["min"]), _shown(float(stats["median"]), about["unit"])
    verdict = page.verdict(least, about["most"], below=True)
    return about["name"], _shown(least, about["unit"]), median, verdict


def _shown(value: float, unit: str) -> str:
    digits = 1 if unit == "×" else 3 if value < 1 else 2
    return f"{value:.{digits}f} {unit}"
