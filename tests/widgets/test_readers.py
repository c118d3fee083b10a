"""Files dropped on napari keep their pixel size and unit."""

from pathlib import Path

import numpy as np
import pytest
from napari.components import ViewerModel
from npe2 import PluginManager
from numpy.testing import assert_allclose, assert_array_equal

from napari_hrstem_defects import Micrograph
from napari_hrstem_defects.core.errors import ReadError
from napari_hrstem_defects.widgets._readers import get_reader, image_layer


def test_known_pixel_size_becomes_scale_in_nanometres() -> None:
    pixels = np.arange(64 * 96.0).reshape(64, 96)
    data, options, kind = image_layer(Micrograph(pixels, pixel_size_nm=0.0125, name="twin"))
    assert kind == "image"
    assert_array_equal(data, pixels)
    assert options["name"] == "twin"
    assert options["scale"] == (0.0125, 0.0125)
    assert options["units"] == ("nm", "nm")
    assert options["axis_labels"] == ("y", "x")


def test_unknown_pixel_size_stays_in_pixels() -> None:
    _, options, _ = image_layer(Micrograph(np.eye(64)))
    assert options["scale"] == (1.0, 1.0)
    assert options["units"] == ("pixel", "pixel")


def test_time_axis_of_a_stack_is_not_scaled() -> None:
    _, options, _ = image_layer(Micrograph(np.random.default_rng(0).random((5, 64, 64)), pixel_size_nm=0.02))
    assert options["scale"] == (1.0, 0.02, 0.02)
    assert options["units"] == ("pixel", "nm", "nm")
    assert options["axis_labels"] == ("t", "y", "x")


def test_notices_travel_with_the_layer() -> None:
    grey = np.repeat(np.eye(64, dtype=np.uint8)[..., None], 3, axis=2)
    _, options, _ = image_layer(Micrograph(grey))
    (notice,) = options["metadata"]["hrstem_defects"]["notices"]
    assert "colour" in notice


def test_vendor_file_opened_in_napari_keeps_pixel_size_and_unit(tmp_path: Path) -> None:
    hspy = pytest.importorskip("rsciio.hspy")
    pixels = np.random.default_rng(1).random((64, 80), dtype=np.float32)
    axes = [
        {"size": size, "name": name, "scale": 0.02, "offset": 0.0, "units": "nm", "navigate": False}
        for name, size in (("y", 64), ("x", 80))
    ]
    path = tmp_path / "a twin.hspy"
    groups = ("original_metadata", "tmp_parameters", "learning_results", "package_info", "models")
    signal = {"data": pixels, "axes": axes, "metadata": {"General": {"title": "twin"}}}
    hspy.file_writer(str(path), signal | {"attributes": {"_lazy": False}} | {name: {} for name in groups})

    PluginManager.instance().discover()  # what napari does when it starts
    viewer = ViewerModel()
    (layer,) = viewer.open(path, plugin=None)

    assert_array_equal(layer.data, pixels)
    assert_allclose(layer.scale, (0.02, 0.02))
    assert [str(unit) for unit in layer.units] == ["nanometer", "nanometer"]
    assert layer.source.reader_plugin == "napari-hrstem-defects"


def test_broken_file_is_one_sentence_in_napari(tmp_path: Path) -> None:
    path = tmp_path / "broken.hspy"
    path.write_bytes(b"not HDF5")
    with pytest.raises(ReadError, match=r"broken\.hspy"):
        get_reader(str(path))(str(path))
