"""Severity of 1024² at several lattice periods, alone and from raw pixels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import napari_hrstem_defects as hd
from napari_hrstem_defects.core.best_patch import prepared_slices
from napari_hrstem_defects.core.image_lattice import typical_lattice
from napari_hrstem_defects.core.preprocessing import Prepared, prepare
from napari_hrstem_defects.core.recipe import PreprocessParams, SymmetryParams
from napari_hrstem_defects.core.severity import Model

Make = Callable[[float], tuple[hd.Analysis, Prepared]]
#: Lattice period in px → most seconds.
MOST_SECONDS = {8.0: 0.6, 12.0: 0.3, 16.0: 0.3, 25.0: 0.3}


@pytest.mark.parametrize("period_px", MOST_SECONDS)
def test_severity(benchmark: Any, about: Callable[..., None], prepared_image: Make, period_px: float) -> None:
    analysis, prepared = prepared_image(period_px)
    patch = prepared_slices(analysis.best_patch, prepared)

    def severity() -> Any:
        model = Model(prepared, patch, SymmetryParams())
        return model.wide, model.narrow

    about(f"severity of 1024², period {period_px:g} px", MOST_SECONDS[period_px])
    benchmark(severity)


@pytest.mark.parametrize("period_px", MOST_SECONDS)
def test_severity_from_raw_pixels(
    benchmark: Any, about: Callable[..., None], prepared_image: Make, period_px: float
) -> None:
    analysis, _ = prepared_image(period_px)
    pixels = analysis.micrograph.frame().pixels

    def severity() -> Any:
        lattice = typical_lattice(pixels).lattice
        prepared = prepare(pixels, lattice.period_px, PreprocessParams())
        patch = prepared_slices(analysis.best_patch, prepared)
        model = Model(prepared, patch, SymmetryParams())
        return model.wide, model.narrow

    about(f"the same from raw pixels: period, preparation, severity, period {period_px:g} px")
    benchmark(severity)
