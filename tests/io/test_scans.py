"""The folder of a scan: complete or absent, maps of the input's shape, regions with their class."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile

from napari_hrstem_defects.core.micrograph import Micrograph
from napari_hrstem_defects.errors import WriteError
from napari_hrstem_defects.io import read
from napari_hrstem_defects.io.scans import is_scan, save_scan
from napari_hrstem_defects.io.tables import read_table
from napari_hrstem_defects.models.scan import class_regions

#: Any name will do.
CLASSES = ("a/b c", "a b c", "ä")
RECORD = {"stride_px": 8}


@pytest.fixture
def found() -> SimpleNamespace:
    labels = np.zeros((40, 50), np.uint8)
    labels[10:30, 5:25] = 2
    labels[0:5] = 255
    probabilities = np.zeros((3, 40, 50), np.float32)
    probabilities[2][labels == 2] = 0.75
    return SimpleNamespace(
        probabilities=probabilities,
        votes=probabilities > 0.5,
        majority=probabilities > 0.2,
        labels=labels,
        regions=class_regions(labels, probabilities, CLASSES, 16, 0.02),
        warnings=("Do not trust it.",),
    )


def image(frames: int = 1) -> Micrograph:
    data = np.random.default_rng(0).random((frames, 40, 50))
    return Micrograph(data[0] if frames == 1 else data, 0.02, "crystal")


def test_folder(tmp_path: Path, found: SimpleNamespace) -> None:
    folder = save_scan([found], image(), tmp_path / "out" / "crystal", CLASSES, record=RECORD)
    assert is_scan(folder)
    assert sorted(path.name for path in folder.parent.iterdir()) == ["crystal"]
    written = read(folder / "class_map.tif")
    np.testing.assert_array_equal(written.data, found.labels)
    assert written.pixel_size_nm == pytest.approx(0.02)
    info = json.loads((folder / "scan.json").read_text("utf-8"))
    assert [entry["name"] for entry in info["classes"]] == list(CLASSES)
    assert info["stride_px"] == 8
    assert info["warnings"] == ["Do not trust it."]
    assert info["uncertain"]["fraction"] == pytest.approx(0.125)
    assert info["classes"][2]["fraction"] == pytest.approx(0.2)
    for number, entry in enumerate(info["classes"]):
        np.testing.assert_array_equal(
            tifffile.imread(folder / entry["probability"]), found.probabilities[number]
        )
        np.testing.assert_array_equal(tifffile.imread(folder / entry["votes"]), found.votes[number])
        np.testing.assert_array_equal(tifffile.imread(folder / entry["majority"]), found.majority[number])
    (row,) = read_table(folder / "regions.csv", text=("class",))
    assert row["class"] == "ä"
    assert row["class_number"] == 2
    assert row["area_nm2"] == pytest.approx(400 * 0.02**2)
    assert row["mean_probability"] == pytest.approx(0.75)


def test_series(tmp_path: Path, found: SimpleNamespace) -> None:
    folder = save_scan((found for _ in range(3)), image(3), tmp_path / "out", CLASSES, record=RECORD)
    assert tifffile.imread(folder / "class_map.tif").shape == (3, 40, 50)
    assert [row["frame"] for row in read_table(folder / "regions.csv", text=("class",))] == [0, 1, 2]
    with pytest.raises(ValueError, match="1 scans were given, expected one for each of 3"):
        save_scan([found], image(3), tmp_path / "short", CLASSES, record=RECORD)
    assert not (tmp_path / "short").exists()


def test_what_is_in_the_way(tmp_path: Path, found: SimpleNamespace) -> None:
    out = tmp_path / "out"

    def never() -> object:
        raise AssertionError("the place was to be looked at first")
        yield

    save_scan([found], image(), out, CLASSES, record=RECORD)
    with pytest.raises(WriteError, match="allow overwriting"):
        save_scan(never(), image(), out, CLASSES, record=RECORD)
    save_scan([found], image(), out, CLASSES, record={"stride_px": 4}, overwrite=True)
    assert json.loads((out / "scan.json").read_text("utf-8"))["stride_px"] == 4
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    (out / "scan.json").unlink()
    with pytest.raises(WriteError, match="holds other files"):
        save_scan(never(), image(), out, CLASSES, record=RECORD, overwrite=True)
