"""Fixtures and settings of all tests."""

import os
import shutil
import sys

import pytest

# Qt takes the virtual screen that pytest-xvfb starts; its offscreen platform has no OpenGL.
os.environ.pop("QT_QPA_PLATFORM", None)
os.environ["MPLBACKEND"] = "Agg"

_WINDOW_FIXTURES = {"make_napari_viewer", "qapp", "qtbot"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without any screen Qt ends the process: skip what needs a window."""
    if not sys.platform.startswith("linux") or os.environ.get("DISPLAY") or shutil.which("Xvfb"):
        return
    for item in items:
        if _WINDOW_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.skip(reason="needs a display or Xvfb"))
