"""The command `scan`, with a tiny ensemble that was not trained."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile

from .helpers import run
from .models.networks import tiny_logit

# TensorFlow and a window do not go together in one process.
pytestmark = pytest.mark.keras
CLASSES = ("Bulk", "SF1", "in between")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    from napari_hrstem_defects.models import fft_ensemble
    from napari_hrstem_defects.models.contract import Contract
    from napari_hrstem_defects.models.store import save_model

    contract = Contract(
        "fft-ensemble",
        "untrained",
        CLASSES,
        32,
        preprocessing=fft_ensemble.EnsembleSettings(branches="fft").preprocessing(),
    )
    networks = {f"class-{k}": tiny_logit(32, "fft") for k in range(3)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fft_ensemble, "build_efficient", tiny_logit)
        yield save_model(tmp_path_factory.mktemp("model") / "untrained.hrstem", contract, networks)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "crystal.tif"
    tifffile.imwrite(path, np.random.default_rng(0).integers(0, 255, (48, 70), np.uint8))
    return path


def test_scan(model: Path, image: Path, tmp_path: Path) -> None:
    said = run(
        "scan", image, "--model", model, "--out", tmp_path / "out", "--stride", 16, "--pixel-size", 0.02
    ).output
    folder = tmp_path / "out" / "crystal"
    assert str(folder) in said
    info = json.loads((folder / "scan.json").read_text("utf-8"))
    assert info["stride_px"] == 16
    assert info["window_px"] == 32
    assert info["model"]["name"] == "untrained"
    assert len(info["model"]["sha256"]) == 64
    assert info["input"]["pixel_size_nm"] == 0.02
    assert tifffile.imread(folder / "probability_2_in_between.tif").shape == (48, 70)
    again = run("scan", image, "--model", model, "--out", tmp_path / "out", status=2).output
    assert "allow overwriting" in again
    again = ("--overwrite", "--least-probability", 1, "--quiet")
    said = run("scan", image, "--model", model, "--out", tmp_path / "out", *again).output
    assert said == ""
    assert json.loads((folder / "scan.json").read_text("utf-8"))["uncertain"]["fraction"] == 1
    assert (folder / "regions.csv").read_text("utf-8").count("\n") == 1


def test_bad_input(model: Path, image: Path, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "out")
    small = tmp_path / "small.tif"
    tifffile.imwrite(small, np.random.default_rng(0).integers(0, 255, (32, 40), np.uint8)[:, :40])
    assert (
        "stride must be 1 to 32 px"
        in run("scan", image, "--model", model, *out, "--stride", 33, status=2).output
    )
    assert "positive length" in run("scan", image, "--model", model, *out, "--pixel-size", 0, status=2).output
    for wrong in (tmp_path / "none.hrstem", image):
        assert str(wrong) in run("scan", image, "--model", wrong, *out, status=2).output
    assert "missing.tif" in run("scan", tmp_path / "missing.tif", "--model", model, *out, status=2).output
    assert not (tmp_path / "out" / "crystal").exists()
