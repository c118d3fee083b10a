"""The samples in the repository: readable, described, as the script makes them."""

import hashlib
import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
import tifffile

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "sample_data"
NAMES = sorted(path.stem for path in FOLDER.glob("*.tif") if not path.stem.endswith("_truth"))


def load_script():
    spec = importlib.util.spec_from_file_location(
        "make_sample_data", ROOT / "examples" / "make_sample_data.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_sums_and_size():
    lines = (FOLDER / "SHA256SUMS").read_text(encoding="utf-8").split("\n")[:-1]
    sums = dict(reversed(line.split("  ")) for line in lines)
    files = {path.name: path.read_bytes() for path in FOLDER.glob("*.tif")}
    assert sums == {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    assert sum(len(data) for data in files.values()) <= 5e6


@pytest.mark.parametrize("name", NAMES)
def test_sample(name):
    with tifffile.TiffFile(FOLDER / f"{name}.tif") as file:
        image = file.asarray()
        assert file.is_ome
        size = float(re.search(r'PhysicalSizeX="([0-9.]+)"', file.ome_metadata)[1])
        assert 'PhysicalSizeXUnit="nm"' in file.ome_metadata
    truth = tifffile.imread(FOLDER / f"{name}_truth.tif")
    assert image.shape == truth.shape
    assert image.dtype == truth.dtype == np.uint8
    assert set(np.unique(truth)) <= {0, 1, 2}
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    row = next(line for line in text.splitlines() if line.startswith(f"| `{name}.tif`"))
    assert f"{size:.4f} nm" in row
    assert f"{image.shape[-2]} × {image.shape[-1]}" in row


def test_default_sample_shows_a_fault_and_an_amorphous_area():
    truth = tifffile.imread(FOLDER / "si_fault_amorphous_truth.tif")
    assert np.mean(truth == 1) > 0.02
    assert np.mean(truth == 2) > 0.05
    assert not tifffile.imread(FOLDER / "si_perfect_truth.tif").any()


def test_script_repeats_a_sample(tmp_path):
    from napari_hrstem_defects.simulation import simulate

    script = load_script()
    name = "si_fault_low_dose"
    script.write_sample(tmp_path, name, [simulate(**script.SAMPLES[name], bits=8)])
    made, kept = tmp_path / f"{name}.tif", FOLDER / f"{name}.tif"
    # a rounding that differs between processors moves single Poisson counts
    assert np.mean(tifffile.imread(made) != tifffile.imread(kept)) < 1e-4
    with tifffile.TiffFile(made) as one, tifffile.TiffFile(kept) as other:
        assert one.ome_metadata == other.ome_metadata
    truth = f"{name}_truth.tif"
    assert (tmp_path / truth).read_bytes() == (FOLDER / truth).read_bytes()
