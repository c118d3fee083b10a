"""Fixtures and settings of all tests."""

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import hypothesis
import pytest

# How long a test takes depends on what else the machine does.
hypothesis.settings.register_profile("tests", deadline=None)
hypothesis.settings.load_profile("tests")
# Qt takes the virtual screen that pytest-xvfb starts; its offscreen platform has no OpenGL.
os.environ.pop("QT_QPA_PLATFORM", None)
os.environ["MPLBACKEND"] = "Agg"

_HERE = Path(__file__).parent
_WINDOW_FIXTURES = {"make_napari_viewer", "qapp", "qtbot"}
_left_out = pytest.StashKey[int]()


@pytest.fixture
def models_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the installed classifiers of this test are; it need not exist."""
    monkeypatch.setenv("HRSTEM_DEFECTS_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture
def quick_figures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """No figures, unless the test is about the overview: they take longer than all else and have tests of their own."""
    if "overview" not in request.node.name:
        from napari_hrstem_defects.io import charts, figure

        for module, name in ((figure, "save_overview"), (charts, "save_histories")):
            monkeypatch.setattr(module, name, lambda path, *args, **kwargs: path.write_bytes(b"png"))


@pytest.fixture
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command analyze works here unless it is told several jobs: a process takes seconds to begin.

    What is patched is not patched in other processes either.
    """
    from napari_hrstem_defects.batch import run, workers

    begin, analyze, here = workers.Processes, run.analyze_files, SimpleNamespace(close=lambda: None)
    monkeypatch.setattr(workers, "Processes", lambda jobs: here if jobs == 1 else begin(jobs))
    monkeypatch.setattr(
        run,
        "analyze_files",
        lambda *args, pool=None, **options: analyze(*args, pool=None if pool is here else pool, **options),
    )


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Iterator[None]:
    """Mark what opens windows and what uses TensorFlow; they crash in one process, so the latter needs its own."""
    screen = not sys.platform.startswith("linux") or os.environ.get("DISPLAY") or shutil.which("Xvfb")
    for item in items:
        if _HERE / "models" in item.path.parents:
            item.add_marker("keras")
        if item.get_closest_marker("keras") and importlib.util.find_spec("tensorflow") is None:
            item.add_marker(pytest.mark.skip(reason="needs TensorFlow (extra: tensorflow)"))
        if (
            _WINDOW_FIXTURES & set(getattr(item, "fixturenames", ()))
            or _HERE / "widgets" in item.path.parents
        ):
            item.add_marker("window")
            if not screen:  # Qt would end the process.
                item.add_marker(pytest.mark.skip(reason="needs a display or Xvfb"))
    yield
    keras = [item for item in items if item.get_closest_marker("keras")]
    if keras and any(item.get_closest_marker("window") for item in items):
        items[:] = [item for item in items if item not in keras]
        config.hook.pytest_deselected(items=keras)
        config.stash[_left_out] = len(keras)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if left_out := config.stash.get(_left_out, 0):
        terminalreporter.write_line(
            f"{left_out} tests with TensorFlow were left out, as they can't run beside windows: pytest -m keras",
            yellow=True,
        )


def pytest_runtest_teardown(item: pytest.Item) -> None:
    """TensorFlow, once there, ends the process at the first window, in a test far away."""
    if not item.get_closest_marker("keras") and sys.modules.get("tensorflow") is not None:
        pytest.fail("This test or one before it imported TensorFlow; mark it with pytest.mark.keras.")
