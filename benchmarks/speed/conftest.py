"""Micrographs that the benchmarks share, and how a benchmark says what it measures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import napari_hrstem_defects as hd
from benchmarks.speed import baseline
from napari_hrstem_defects.core.preprocessing import Prepared, prepare
from napari_hrstem_defects.core.recipe import PreprocessParams
from napari_hrstem_defects.simulation import simulate

_MEASURED = pytest.StashKey[list[baseline.Measured]]()
#: Edge of the large image, px.
LARGE_PX = 4096


@lru_cache(maxsize=4)
def _micrograph(period_px: float, edge: int) -> hd.Micrograph:
    return simulate("si_demo", seed=11, px_per_period=period_px, shape=(edge, edge)).micrograph


@pytest.fixture(scope="session")
def micrograph() -> Callable[..., hd.Micrograph]:
    """``micrograph(period_px, edge=1024)``: silicon with a stacking fault and an amorphous area."""

    def make(period_px: float, edge: int = 1024) -> hd.Micrograph:
        return _micrograph(period_px, edge)

    return make


@pytest.fixture(scope="session")
def prepared_image(
    micrograph: Callable[..., hd.Micrograph],
) -> Callable[[float], tuple[hd.Analysis, Prepared]]:
    """``prepared_image(period_px)``: the analysis of a 1024² image and the image prepared for the filters."""

    def make(period_px: float) -> tuple[hd.Analysis, Prepared]:
        analysis = hd.analyze(micrograph(period_px))
        assert analysis.typical is not None
        pixels = analysis.micrograph.frame().pixels
        return analysis, prepare(pixels, analysis.typical.period_px, PreprocessParams())

    return make


@pytest.fixture(scope="session")
def large_file(micrograph: Callable[..., hd.Micrograph], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A 4096² image of 8 bit, as npy."""
    path = tmp_path_factory.mktemp("large") / "image.npy"
    np.save(path, np.asarray(micrograph(16.0, LARGE_PX).data))
    return path


@pytest.fixture
def about(benchmark: Any, request: pytest.FixtureRequest) -> Iterator[Callable[..., None]]:
    """``about(name, most=None, unit="s", value=None)``: what a benchmark measures.

    `most` is the largest value wanted; `value`: what was measured, where it is not the benchmark's own time.
    """
    before = baseline.arithmetic_s()

    def note(name: str, most: float | None = None, unit: str = "s", value: float | None = None) -> None:
        benchmark.extra_info.update(name=name, most=most, unit=unit)
        if value is not None:
            benchmark.extra_info["value"] = value

    yield note
    info = benchmark.extra_info
    if "name" in info and benchmark.stats is not None:
        value = info.get("value", benchmark.stats.stats.min)
        one = baseline.Measured(info["name"], value, info["unit"], min(before, baseline.arithmetic_s()))
        request.config.stash.setdefault(_MEASURED, []).append(one)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that stores a baseline."""
    parser.addoption(
        "--store-baseline", action="store_true", help="keep the least of the speed measured and the baseline"
    )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the table over sizes, periods and modes; what became slower is flagged."""
    measured = config.stash.get(_MEASURED, [])
    if measured:
        terminalreporter.section("speed")
        for line in baseline.table(measured, baseline.read() if baseline.BASELINE.exists() else {}):
            terminalreporter.write_line(line)
        if config.getoption("--store-baseline"):
            baseline.write(measured)
