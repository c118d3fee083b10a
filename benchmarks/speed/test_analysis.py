"""Whole analyses in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import napari_hrstem_defects as hd

Make = Callable[..., hd.Micrograph]


@pytest.mark.parametrize("period_px", [8.0, 16.0, 25.0])
def test_default(benchmark: Any, about: Callable[..., None], micrograph: Make, period_px: float) -> None:
    image = micrograph(period_px)
    about(f"whole default analysis of 1024², period {period_px:g} px", 1.0)
    benchmark(hd.analyze, image)


def test_default_of_two_grains(benchmark: Any, about: Callable[..., None]) -> None:
    image = hd.simulate("cdte_twin", seed=5, shape=(1024, 1024), px_per_period=16.0).micrograph
    about("whole default analysis of 1024² with two grains", 1.5)
    benchmark(hd.analyze, image)


def test_published(benchmark: Any, about: Callable[..., None], micrograph: Make) -> None:
    image = micrograph(16.0)
    about("whole published mode of 1024²", 1.5)
    benchmark(hd.analyze, image, hd.Recipe.published())
