"""Severity of 1024² at several lattice periods, and the preview."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import napari_hrstem_defects as hd
from napari_hrstem_defects.core.geometry import prepared_slices
from napari_hrstem_defects.core.lattice import typical_lattice
from napari_hrstem_defects.core.model import fit_model
from napari_hrstem_defects.core.preprocessing import Prepared, prepare
from napari_hrstem_defects.core.preview import preview
from napari_hrstem_defects.core.recipe import PreprocessParams, SymmetryParams

Make = Callable[[float], tuple[hd.Analysis, Prepared]]
#: Lattice period in px → most seconds.
MOST_SECONDS = {8.0: 0.6, 12.0: 0.3, 16.0: 0.3, 25.0: 0.3}


@pytest.mark.parametrize("period_px", MOST_SECONDS)
def test_severity(benchmark: Any, about: Callable[..., None], prepared_image: Make, period_px: float) -> None:
    analysis, prepared = prepared_image(period_px)
    patch = prepared_slices(analysis.best_patch, prepared)

    def severity() -> Any:
        return fit_model(prepared, patch, PreprocessParams(), SymmetryParams()).severity

    about(f"severity of 1024², period {period_px:g} px", MOST_SECONDS[period_px])
    benchmark(severity)


@pytest.mark.parametrize("period_px", MOST_SECONDS)
def test_severity_from_raw_pixels(
    benchmark: Any, about: Callable[..., None], prepared_image: Make, period_px: float
) -> None:
    analysis, _ = prepared_image(period_px)
    pixels = analysis.micrograph.frame().pixels

    def severity() -> Any:
        lattice, _ = typical_lattice(pixels)
        prepared = prepare(pixels, lattice.period_px, PreprocessParams())
        patch = prepared_slices(analysis.best_patch, prepared)
        model = fit_model(prepared, patch, PreprocessParams(), SymmetryParams())
        return prepared.to_frame(model.severity)

    about(f"the same from raw pixels: period, preparation, severity, period {period_px:g} px")
    benchmark(severity)


def test_preview(benchmark: Any, about: Callable[..., None], prepared_image: Make) -> None:
    analysis, prepared = prepared_image(16.0)
    about("preview of 1024², period 16 px", 0.05)
    benchmark(preview, prepared, analysis.best_patch)
