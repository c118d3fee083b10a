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
{load:.1f} before it began. Times are medians; what is loaded on first use is paid for before. Peak memory is the
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
    return text + page.table(("what", "measured", "target"), (_line(each) for each in found))


def _line(benchmark: dict[str, Any]) -> tuple[str, str, str]:
    about = benchmark["extra_info"]
    value = float(about.get("value", benchmark["stats"]["median"]))
    shown = f"{value:.1f}" if about["unit"] == "×" else f"{value:.3f}" if value < 1 else f"{value:.2f}"
    verdict = page.verdict(value, about["most"], below=True)
    return about["name"], f"{shown} {about['unit']}", verdict
