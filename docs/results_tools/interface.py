"""Section "interface": how long the window of napari stands still, and how fast a moved best patch is answered."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from results_tools import page
from results_tools.workers import THREAD_VARIABLES

_TESTS = "tests/widgets/test_lifecycle.py"
_BARE = "docs/results_tools/interface_bare.py"
#: Fresh processes; of each figure the least is told, for other programs may take time from any one of them.
_STARTS = 3
#: Property of a test → what it is, unit, largest value allowed (None: no claim).
_MEASURED = {
    "gap_ms": ("longest standstill while all steps run on 2048² px, layers there already", "ms", 100.0),
    "first_run_gap_ms": ("the same in the first run, while napari makes its layers", "ms", 100.0),
    "first_run_work_ms": ("work of the window's thread in it between two ticks, at most", "ms", 100.0),
    "bare_gap_ms": ("standstill when bare napari adds the same layers, no panel", "ms", None),
    "bare_work_ms": ("work of the window's thread in that", "ms", None),
    "idle_gap_ms": ("longest standstill of the idle window, for comparison", "ms", None),
    "override_s": ("from a moved best patch to the new severity on 1024² px", "s", 1.0),
}
_INTRODUCTION = """\
## Interface

A real window under Xvfb, drawn by the processor: no graphics card. {cpus} processors at a load of {load:.1f} before it
began. The standstill is the longest time between two ticks of a timer of 10 ms in the thread of the window; the time
that this thread itself worked in between depends less on what else the machine does. The least of {starts} fresh
processes each.

"""


def section(root: Path, folder: Path, *, cpus: int, load: float) -> str:
    """Run the tests that measure, and return the text."""
    found: dict[str, float] = {}
    for _ in range(_STARTS):
        for name, value in _measured(root).items():
            found[name] = min(value, found.get(name, value))
    rows = [
        {"what": what, "value": found[name], "unit": unit, "most": "" if most is None else most}
        for name, (what, unit, most) in _MEASURED.items()
        if name in found
    ]
    if not rows:
        raise SystemExit("Nothing was measured; is there a window system?")
    page.write_csv(folder / "interface.csv", rows)
    lines = [
        (what, f"{found[name]:.3g} {unit}", page.verdict(found[name], most, below=True))
        for name, (what, unit, most) in _MEASURED.items()
        if name in found
    ]
    head = _INTRODUCTION.format(cpus=cpus, load=load, starts=_STARTS)
    return head + page.table(("what", "measured", "target"), lines)


def _measured(root: Path) -> dict[str, float]:
    """Properties that the tests record, each file in a process of its own."""
    found: dict[str, float] = {}
    environment = {key: value for key, value in os.environ.items() if key not in THREAD_VARIABLES}
    # Measured on a busy machine as well; the load is said.
    environment["HRSTEM_DEFECTS_MEASURE"] = "1"
    for chosen in ([_TESTS, "-k", "stands_still or within_a_second"], [_BARE]):
        with tempfile.TemporaryDirectory() as aside:
            report = Path(aside) / "report.xml"
            command = [sys.executable, "-m", "pytest", "-q", *chosen, f"--junitxml={report}"]
            subprocess.run([*command, "-o", "junit_family=xunit1"], cwd=root, env=environment, check=False)
            text = report.read_text("utf-8")
        tree = ElementTree.fromstring(re.sub(r"[^\x09\x0a\x20-\ufffd]", "", text))
        for item in tree.iter("property"):
            found[item.get("name", "")] = float(item.get("value", "nan"))
    return found
