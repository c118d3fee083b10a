"""Fixtures and settings of all tests."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

# Qt takes the virtual screen that pytest-xvfb starts; its offscreen platform has no OpenGL.
os.environ.pop("QT_QPA_PLATFORM", None)
os.environ["MPLBACKEND"] = "Agg"

_WINDOW_FIXTURES = {"make_napari_viewer", "qapp", "qtbot"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs TensorFlow where there is none, and windows where there is no screen (Qt ends the process)."""
    # Those of Keras first, and together: nothing is set up for them here, and pytest would miss its teardown.
    items.sort(key=lambda item: not _uses_keras(item))
    if importlib.util.find_spec("tensorflow") is None:
        for item in items:
            if item.get_closest_marker("keras") is not None:
                item.add_marker(pytest.mark.skip(reason="needs TensorFlow (extra: tensorflow)"))
    if not sys.platform.startswith("linux") or os.environ.get("DISPLAY") or shutil.which("Xvfb"):
        return
    for item in items:
        if _WINDOW_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.skip(reason="needs a display or Xvfb"))


# -- tests that use Keras -------------------------------------------------------------------------------------
#
# TensorFlow and the software OpenGL of the virtual screen crash in one process. So tests in tests/models, and others
# with the mark `keras`, run all together in a second pytest; what it reports is shown as if they had run here. To
# debug one in this process set HRSTEM_DEFECTS_KERAS_TESTS to "here".

_KERAS_VARIABLE = "HRSTEM_DEFECTS_KERAS_TESTS"
_MODELS = Path(__file__).parent / "models"
_keras_reports: dict[str, list[pytest.TestReport]] = {}


def _uses_keras(item: pytest.Item) -> bool:
    return item.get_closest_marker("keras") is not None or _MODELS in item.path.parents


def _run_keras_tests(session: pytest.Session) -> None:
    chosen = [item.nodeid for item in session.items if _uses_keras(item)]
    _keras_reports.update({name: [] for name in chosen})
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "reports"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--no-header", *chosen]
        child = subprocess.run(
            command,
            cwd=session.config.rootpath,
            env={**os.environ, _KERAS_VARIABLE: str(out)},
            capture_output=True,
            text=True,
        )
        for line in out.read_text().splitlines() if out.exists() else ():
            report = session.config.hook.pytest_report_from_serializable(
                config=session.config, data=json.loads(line)
            )
            _keras_reports[report.nodeid].append(report)
    for item in session.items:
        if item.nodeid in _keras_reports and not any(
            r.when == "teardown" for r in _keras_reports[item.nodeid]
        ):
            text = f"The process of the Keras tests ended with {child.returncode} before this test did.\n"
            text += child.stdout[-4000:] + child.stderr[-4000:]
            _keras_reports[item.nodeid].append(
                pytest.TestReport(item.nodeid, item.location, {}, "failed", text, "call")
            )


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> bool | None:
    if os.environ.get(_KERAS_VARIABLE) or not _uses_keras(item):
        return None
    if item.nodeid not in _keras_reports:
        _run_keras_tests(item.session)
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in _keras_reports[item.nodeid]:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


class _Reporting:
    """In the second pytest: hands every report to the first."""

    def __init__(self, config: pytest.Config, out: Path) -> None:
        self._config = config
        self._out = out

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        with self._out.open("a") as file:
            file.write(json.dumps(data) + "\n")


def pytest_configure(config: pytest.Config) -> None:
    out = os.environ.get(_KERAS_VARIABLE)
    if out and out != "here":
        config.pluginmanager.register(_Reporting(config, Path(out)))
