"""Files dropped on napari keep their pixel size and unit."""

import numpy as np
from numpy.testing import assert_array_equal

from napari_hrstem_defects import Micrograph
from napari_hrstem_defects.widgets._readers import image_layer


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
