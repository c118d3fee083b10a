"""Files dropped on napari keep their pixel size and unit."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from numpy.testing import assert_allclose, assert_array_equal
from qtpy.QtCore import QMimeData, QPointF, Qt, QUrl
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import QApplication

from napari_hrstem_defects import Micrograph
from napari_hrstem_defects.errors import ReadError
from napari_hrstem_defects.io import read
from napari_hrstem_defects.widgets.contributions import get_reader, image_layer

from ..io import writers
from .conftest import PLUGIN, discover


@pytest.mark.parametrize(
    ("shape", "size_nm", "scale", "units", "axes"),
    [
        ((64, 96), 0.0125, (0.0125, 0.0125), ("nm", "nm"), ("y", "x")),
        ((64, 96), None, (1.0, 1.0), ("pixel", "pixel"), ("y", "x")),
        ((5, 64, 96), 0.02, (1.0, 0.02, 0.02), ("pixel", "nm", "nm"), ("t", "y", "x")),
    ],
    ids=["known", "unknown", "series"],
)
def test_pixel_size_becomes_scale_in_nanometres(
    shape: Any, size_nm: float | None, scale: Any, units: Any, axes: Any
) -> None:
    pixels = np.arange(np.prod(shape), dtype=float).reshape(shape)
    data, options, kind = image_layer(Micrograph(pixels, pixel_size_nm=size_nm, name="twin"))
    assert (kind, options["name"]) == ("image", "twin")
    assert_array_equal(data, pixels)
    assert (options["scale"], options["units"], options["axis_labels"]) == (scale, units, axes)


def test_notices_travel_with_the_layer() -> None:
    grey = np.repeat(np.eye(64, dtype=np.uint8)[..., None], 3, axis=2)
    _, options, _ = image_layer(Micrograph(grey))
    (notice,) = options["metadata"]["hrstem_defects"]["notices"]
    assert "colour" in notice


def test_broken_file_is_one_sentence_in_napari(tmp_path: Path) -> None:
    path = tmp_path / "broken.hspy"
    path.write_bytes(b"not HDF5")
    with pytest.raises(ReadError, match=r"broken\.hspy"):
        get_reader(str(path))(str(path))


def test_broken_file_dropped_on_the_window_is_one_sentence(
    desk: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    path = tmp_path / "cut.mrc"
    writers.mrc(path, np.zeros((40, 56), np.float32), mode=2, cell=(11.2, 8, 1))
    path.write_bytes(path.read_bytes()[:-100])
    made = desk(None)
    window = made.viewer.window._qt_viewer
    files = QMimeData()
    files.setUrls([QUrl.fromLocalFile(str(path))])
    centre, options = window.rect().center(), (Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier)
    enter = QDragEnterEvent(centre, Qt.DropAction.CopyAction, files, *options)
    drop = QDropEvent(QPointF(centre), Qt.DropAction.CopyAction, files, *options)
    shown: list[str] = []
    monkeypatch.setattr("napari.utils.notifications.show_error", shown.append)
    for event in (enter, drop):
        QApplication.sendEvent(window, event)
    (text,) = shown
    assert text.startswith(f"{path}: the file is cut off")
    assert len(made.viewer.layers) == 0


DM3 = Path(__file__).parents[3] / "shared/data/formats/cdte_twin_haadf26.dm3"


@pytest.mark.skipif(not DM3.is_file(), reason="the micrograph is not at hand")
def test_real_dm3_dropped_on_napari() -> None:
    pytest.importorskip("rsciio.digitalmicrograph")
    discover()
    viewer = ViewerModel()
    (layer,) = viewer.open(DM3, plugin=None)
    expected = read(DM3)
    assert layer.source.reader_plugin == PLUGIN
    assert_array_equal(layer.data, expected.data)
    assert expected.pixel_size_nm == pytest.approx(0.0202, abs=1e-3)
    assert_allclose(layer.scale, [expected.pixel_size_nm] * 2)
    assert [str(unit) for unit in layer.units] == ["nanometer", "nanometer"]


def dm4(path: Path, pixels: np.ndarray, size_nm: float) -> None:
    """A file of DigitalMicrograph, version 4: tags in tags, one image of 32-bit numbers."""

    def number(value: int) -> bytes:
        return value.to_bytes(8, "big")

    def entry(kind: int, name: str, content: bytes) -> bytes:
        return bytes([kind]) + len(name).to_bytes(2, "big") + name.encode() + number(len(content)) + content

    def data(code: int, value: np.ndarray) -> bytes:
        return b"%%%%" + number(1) + number(code) + value.tobytes()

    def array(code: int, values: np.ndarray) -> bytes:
        return b"%%%%" + b"".join(map(number, (3, 20, code, values.size))) + values.tobytes()

    def group(**tags: bytes | tuple[bytes, ...]) -> bytes:
        """Groups are bytes that begin with their own flags, data with percent signs; lists have no names."""
        return listed(*((name, content) for name, content in tags.items()))

    def listed(*tags: tuple[str, bytes]) -> bytes:
        entries = (entry(21 if c.startswith(b"%%%%") else 20, name, c) for name, c in tags)
        return b"\1\0" + number(len(tags)) + b"".join(entries)

    def text(value: str) -> bytes:
        return array(4, np.frombuffer(value.encode("utf-16-le"), "<u2"))

    def whole(value: int) -> bytes:
        return data(5, np.array([value], "<u4"))

    def real(value: float) -> bytes:
        return data(6, np.array([value], "<f4"))

    axis = group(Origin=real(0), Scale=real(size_nm), Units=text("nm"))
    image_data = group(
        Calibrations=group(
            Brightness=group(Origin=real(0), Scale=real(1), Units=text("")),
            Dimension=listed(("", axis), ("", axis)),
        ),
        Data=array(6, pixels.astype("<f4")),
        DataType=whole(2),
        Dimensions=listed(*(("", whole(n)) for n in pixels.shape[::-1])),
        PixelDepth=whole(4),
    )
    image = group(ImageData=image_data, ImageTags=group(), Name=text("image"))
    root = group(ImageList=listed(("", image)))
    path.write_bytes((4).to_bytes(4, "big") + number(len(root)) + (1).to_bytes(4, "big") + root + bytes(8))


#: Suffix → writes such a file of an image with pixels of 0.02 nm.
WRITERS = {
    "dm4": lambda path, pixels: dm4(path, pixels, 0.02),
    "emd": writers.ncem_emd,
    "hspy": lambda path, pixels: writers.hspy(path, pixels, [(axis, 0.02, "nm", False) for axis in "yx"]),
    "mrc": lambda path, pixels: writers.mrc(path, pixels, mode=2, cell=(11.2, 8, 1)),  # in Å
    "ser": lambda path, pixels: writers.ser(path, pixels[np.newaxis], 2e-11),
}


@pytest.mark.parametrize("suffix", WRITERS)
def test_files_of_microscopes_dropped_on_napari(suffix: str, tmp_path: Path) -> None:
    pytest.importorskip("rsciio")
    pixels = np.random.default_rng(2).random((40, 56), dtype=np.float32)
    path = tmp_path / f"a twin.{suffix}"
    WRITERS[suffix](path, pixels)
    discover()
    (layer,) = ViewerModel().open(path, plugin=None)
    assert layer.source.reader_plugin == PLUGIN
    # Some formats have their first line at the bottom.
    assert sorted(np.ravel(layer.data)) == sorted(pixels.ravel())
    assert layer.data.shape == pixels.shape
    assert_allclose(layer.scale, (0.02, 0.02), rtol=1e-6)
    assert [str(unit) for unit in layer.units] == ["nanometer", "nanometer"]
