"""A scan with an FFT ensemble of seven classes."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import napari_hrstem_defects as hd
from napari_hrstem_defects.models.contract import Contract
from napari_hrstem_defects.models.fft_ensemble import EnsembleSettings
from napari_hrstem_defects.models.fft_features import log_spectra
from napari_hrstem_defects.models.scan import scan

EDGE, STRIDE, CLASSES = 768, 8, 7
#: Windows of 64 px at stride 8 on 768².
WINDOWS = 89**2


@pytest.fixture(scope="module")
def ensemble() -> SimpleNamespace:
    """Untrained: what it costs does not depend on the weights."""
    from napari_hrstem_defects.models.ensemble_networks import build_efficient

    classes = tuple(f"class {k}" for k in range(CLASSES))
    contract = Contract(
        "fft-ensemble", "speed", classes, 64, preprocessing=EnsembleSettings().preprocessing()
    )
    return SimpleNamespace(
        contract=contract, networks={f"class-{k}": build_efficient() for k in range(CLASSES)}
    )


@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="needs TensorFlow")
def test_scan(
    benchmark: Any,
    about: Callable[..., None],
    micrograph: Callable[..., hd.Micrograph],
    ensemble: SimpleNamespace,
) -> None:
    pixels = micrograph(16.0, EDGE).frame().pixels
    scan(ensemble, pixels[:128, :128])  # compiles the networks
    about("scan of 768² with 7 classes at stride 8", 20.0)
    found = benchmark.pedantic(scan, (ensemble, pixels), {"stride_px": STRIDE}, rounds=2)
    assert found.probabilities.shape == (CLASSES, EDGE, EDGE)


def test_log_spectra(benchmark: Any, about: Callable[..., None]) -> None:
    windows = np.random.default_rng(0).random((WINDOWS, 64, 64), np.float32)
    about("log spectra of the 7921 windows of such a scan")
    benchmark.pedantic(log_spectra, (windows,), rounds=3)
