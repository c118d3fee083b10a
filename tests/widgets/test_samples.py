"""The bundled micrographs, as napari offers them."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from npe2 import PluginManifest

from napari_hrstem_defects.widgets.contributions import sample_folder

from .conftest import discover

ROOT = Path(__file__).parents[2]
SAMPLES = PluginManifest.from_distribution("napari-hrstem-defects").contributions.sample_data


def test_every_bundled_micrograph_is_offered() -> None:
    files = {path.stem for path in sample_folder().glob("*.tif") if not path.stem.endswith("_truth")}
    assert {sample.key for sample in SAMPLES} == files


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.key)
def test_sample_opens_with_its_scale(sample) -> None:
    discover()
    (data, options, kind), (truth, about, truth_kind) = sample.open()
    assert kind == "image"
    assert (truth_kind, about["visible"]) == ("labels", False)
    assert about["name"] == f"True defects · {sample.key}"
    assert truth.shape == data.shape
    assert set(np.unique(np.asarray(truth))) <= {0, 1, 2}
    assert truth.any() == (sample.key != "si_perfect")
    for key in ("scale", "units", "axis_labels"):
        assert about[key] == options[key]
    assert min(data.shape[-2:]) >= 96
    assert options["units"][-2:] == ("nm", "nm")
    assert 0.001 < options["scale"][-1] < 0.1
    assert len(options["scale"]) == data.ndim


def test_samples_are_the_ones_that_were_made() -> None:
    lines = (ROOT / "sample_data" / "SHA256SUMS").read_text("utf-8").splitlines()
    sums = {name: digest for digest, name in (line.split() for line in lines)}
    files = {path.name for path in (ROOT / "sample_data").glob("*.tif")}
    assert sums.keys() == files
    for name, digest in sums.items():
        assert hashlib.sha256((ROOT / "sample_data" / name).read_bytes()).hexdigest() == digest, name


def test_samples_stay_small() -> None:
    assert sum(path.stat().st_size for path in (ROOT / "sample_data").iterdir()) <= 5e6
