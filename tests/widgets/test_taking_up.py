"""A result that was exported is opened again and gone on with; files bring their pixel size along."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.testing import assert_allclose, assert_array_equal
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QApplication, QInputDialog

from napari_hrstem_defects.core import pipeline
from napari_hrstem_defects.io import load, read, save
from napari_hrstem_defects.io.ome import OmeTiffWriter
from napari_hrstem_defects.widgets.roles import Role

from .conftest import PLUGIN, TIMEOUT, analysed, lattice_image


def _paint(made: Any, where: tuple[Any, ...], label: int) -> None:
    layer = made.layer(Role.LABELS)
    layer.data[where] = label
    layer.events.paint(value=[])
    ((frame, painted),) = made.document.by_hand.painted.items()
    made.qtbot.waitUntil(lambda: made.document.labelled[frame].correction is painted, timeout=TIMEOUT)


def _reviewed(folder: Path) -> dict[tuple[int, int], str | None]:
    """Frame and number of each region of an export → its verdict."""
    return {(row.get("frame", 0), row["id"]): row["reviewed"] for row in load(folder).regions}


@pytest.mark.parametrize("frames", [None, 3], ids=["image", "series"])
def test_exported_result_is_taken_up_again(bench: Any, tmp_path: Path, frames: int | None) -> None:
    image, shape = tmp_path / "image.tif", (288, 288)
    pixels = lattice_image(shape) if frames is None else [lattice_image(shape, seed=t) for t in range(frames)]
    _ours(image, np.asarray(pixels))
    made = bench(None)
    made.viewer.open(image, plugin="napari")
    # Another pixel size would leave one frame of the series.
    made.qtbot.waitUntil(lambda: made.document.layer.scale[-1] != 1, timeout=TIMEOUT)
    frame: tuple[Any, ...] = ()
    if made.document.is_stack:
        made.session.runs.series()
        frame = (1,)
        made.viewer.dims.set_point(0, 1)
    else:
        made.run_all()
        made.session.edits.place((200.0, 70.0))
    made.wait()
    _paint(made, (*frame, slice(30, 60), slice(30, 60)), 1)
    numbers = [region.id for region in made.panel.results.table.value()]
    made.session.edits.review(numbers[:1], False)
    made.session.edits.review(numbers[-1:], True)
    verdicts = made.document.reviewed(*frame)
    assert verdicts == {numbers[0]: "rejected", numbers[-1]: "accepted"}
    folder = made.panel.actions_.export(tmp_path / "out")
    made.wait()
    labels, point = np.array(made.layer(Role.LABELS).data), made.document.point
    rows = made.panel.results.table.value()

    other = bench(None)
    other.viewer.open(folder, plugin=PLUGIN)
    other.qtbot.waitUntil(lambda: other.session.running, timeout=TIMEOUT)
    other.wait()
    if frame:
        other.viewer.dims.set_point(0, 1)
    assert set(other.states().values()) == {"current"}
    assert_array_equal(other.layer(Role.LABELS).data, labels)
    assert other.document.point == point
    assert other.panel.results.table.value() == rows  # at once, not after those of the automatic labels
    ((_, correction),) = other.document.by_hand.painted.items()
    assert correction.pixels.size == np.count_nonzero(
        labels[frame] != other.document.labelled[frame[0] if frame else 0].automatic
    )
    # So are the verdicts, and they go on being exported.
    assert other.document.reviewed(*frame) == verdicts
    again = other.panel.actions_.export(tmp_path / "again")
    other.wait()
    assert _reviewed(again) == _reviewed(folder)
    assert sorted(filter(None, _reviewed(again).values())) == ["accepted", "rejected"]
    # Nothing lies there twice, and it looks as it did.
    assert len({(layer.name, type(layer)) for layer in other.viewer.layers}) == len(other.viewer.layers)
    for role in (Role.LABELS, Role.SEVERITY):
        assert other.layer(role).name == made.layer(role).name
    assert other.layer(Role.LABELS).contour == made.layer(Role.LABELS).contour > 0
    assert other.layer(Role.SEVERITY).colorbar.visible
    # What was exported from a result that was taken up can be taken up as well.
    assert load(again).info["input"]["path"] == load(folder).info["input"]["path"] == str(image)
    third = bench(None)
    third.viewer.open(again, plugin=PLUGIN)
    third.qtbot.waitUntil(lambda: bool(third.document.by_hand.painted), timeout=TIMEOUT)
    third.wait()
    assert_array_equal(third.layer(Role.LABELS).data, labels)


@pytest.fixture
def asked(qtbot: Any) -> Iterator[list[str]]:
    """napari reads folders itself, too, and asks which reader to take; Return takes the one that is chosen already."""
    questions: list[str] = []

    def answer() -> None:
        if (question := QApplication.activeModalWidget()) is not None:
            questions.append(question.reader_btn_group.checkedButton().text())
            qtbot.keyClick(question, Qt.Key.Key_Return)

    timer = QTimer(interval=100)
    timer.timeout.connect(answer)
    timer.start()
    yield questions
    timer.stop()


def test_result_folder_dropped_on_the_window_is_taken_up(desk: Any, tmp_path: Path, asked: list[str]) -> None:
    image = tmp_path / "image.tif"
    _ours(image, lattice_image((256, 256)))
    analysis = pipeline.analyze(read(image))
    folder = save(analysis, tmp_path / "image")
    made = desk(None)
    made.drop(folder)
    made.qtbot.waitUntil(lambda: made.session.running, timeout=TIMEOUT)
    made.wait()
    assert asked == ["HRSTEM defects"]
    assert set(made.states().values()) == {"current"}
    assert_array_equal(made.layer(Role.LABELS).data, analysis.labels)


def test_other_and_damaged_folders_dropped_on_the_window_are_a_sentence(
    desk: Any, tmp_path: Path, asked: list[str], monkeypatch: Any
) -> None:
    shown: list[str] = []
    monkeypatch.setattr("napari.utils.notifications.show_error", shown.append)
    damaged = save(analysed("si_perfect"), tmp_path / "damaged")
    (damaged / "severity.tif").write_bytes(b"")
    made = desk(None)
    made.drop(tmp_path)
    made.drop(damaged)
    assert asked == ["HRSTEM defects"] * 2
    assert f"{tmp_path} is not a result folder" in shown[0]
    assert f"{damaged}: the result is incomplete or damaged" in shown[1]
    assert len(made.viewer.layers) == 0


def test_result_of_a_sample_is_taken_up_and_corrected_again(bench: Any, tmp_path: Path) -> None:
    made = bench(None)
    made.viewer.open_sample(PLUGIN, "si_perfect")
    for number in range(2):
        if number:
            made = bench(None)
            made.viewer.open(tmp_path / str(number - 1) / "si_perfect", plugin=PLUGIN)
            made.qtbot.waitUntil(lambda made=made: made.session.running, timeout=TIMEOUT)
            made.wait()
        else:
            made.run_all()
        _paint(made, (slice(100 * (number + 1), 100 * (number + 1) + 30), slice(200, 230)), number + 1)
        made.panel.actions_.export(tmp_path / str(number))
        made.wait()
    labels = load(tmp_path / "1" / "si_perfect").labels
    assert (labels[100:130, 200:230] == 1).all()
    assert (labels[200:230, 200:230] == 2).all()
    assert np.count_nonzero(labels) == 2 * 30**2
    assert f"{2 * 30**2} px painted" in made.panel.region_count.text()


def test_selected_data_set_and_typed_pixel_size_come_back(bench: Any, tmp_path: Path) -> None:
    """Of a file with several images alike in shape, the command line was told which one to take."""
    image = tmp_path / "two.npz"
    first, second = (lattice_image((192, 192), period=period) for period in (11, 14))
    np.savez(image, first=first, second=second)
    micrograph = read(image, select="second", pixel_size_nm=0.03)
    folder = tmp_path / "out"
    save(pipeline.analyze(micrograph), folder)
    made = bench(None)
    made.viewer.open(folder, plugin=PLUGIN)
    made.qtbot.waitUntil(lambda: made.session.running, timeout=TIMEOUT)
    made.wait()
    assert_array_equal(made.document.layer.data, second)
    made.panel.actions_.export(tmp_path / "again")
    made.wait()
    (again,) = (tmp_path / "again").iterdir()
    known, before = load(again).info["input"], load(folder).info["input"]
    keys = ("path", "select", "pixel_size_nm", "pixel_size_from")
    assert (
        [known[key] for key in keys] == [before[key] for key in keys] == [str(image), "second", 0.03, "hand"]
    )


def test_result_whose_image_is_gone_says_so(bench: Any, tmp_path: Path) -> None:
    image = tmp_path / "image.tif"
    _ours(image, lattice_image((192, 192), period=11))
    made = bench(None)
    made.viewer.open(image, plugin="napari")
    made.run_all()
    folder = made.panel.actions_.export(tmp_path / "out")
    made.wait()
    image.unlink()
    other = bench(None)
    other.viewer.open(folder, plugin=PLUGIN)
    other.qtbot.waitUntil(lambda: "was not found" in other.panel.messages.text(), timeout=TIMEOUT)


def _ours(path: Path, pixels: Any) -> None:
    with OmeTiffWriter(path, pixels.shape, pixels.dtype, 0.02, "test") as writer:
        for frame in pixels.reshape(-1, *pixels.shape[-2:]):
            writer.write(frame)


def _imagej(path: Path, pixels: Any) -> None:
    tifffile.imwrite(path, pixels, imagej=True, resolution=(50, 50), metadata={"unit": "nm"})


@pytest.mark.parametrize("write", [_ours, _imagej])
def test_pixel_size_of_a_tiff_is_known(bench: Any, tmp_path: Path, write: Any) -> None:
    """napari's own reader leaves it out; the panel looks it up, even while a run is under way."""
    path = tmp_path / "image.tif"
    write(path, lattice_image((256, 256)))
    made = bench(None)
    # The headings are those of the image before there is a region.
    results = made.panel.results
    made.viewer.open(path, plugin="napari")
    made.qtbot.waitUntil(lambda: "0.02 nm/px" in made.panel.info.text(), timeout=TIMEOUT)
    assert_allclose(made.document.layer.scale, 0.02)
    assert not made.panel.calibrate.isVisible()
    assert (results.table.value(), results.table.regions.headings()[3]) == ((), "Area (nm²)")
    assert results.sizes.choice.itemText(1) == "Length (nm)"
    # The image is still in the middle of the view, and fills it.
    camera, height = made.viewer.scene.camera, made.viewer.canvas.size[0]
    assert_allclose(camera.center[-2:], np.full(2, 255 / 2 * 0.02))
    assert 0.5 * height < camera.zoom * 256 * 0.02 < height
    made.viewer.open(path, plugin="napari")
    made.run_all()
    made.qtbot.waitUntil(lambda: "0.02 nm/px" in made.panel.info.text(), timeout=TIMEOUT)
    made.wait()
    assert set(made.states().values()) == {"current"}
    region = made.document.regions()[0]
    assert region.area_nm2 == pytest.approx(region.area_px * 0.02**2)
    assert_allclose(made.layer(Role.LABELS).scale, 0.02)


def test_typed_pixel_size_keeps_the_view_and_reaches_the_table(bench: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(QInputDialog, "getDouble", lambda *args: (0.025, True))
    made = bench(lattice_image((256, 256)))
    made.run_all()
    assert "no pixel size" in made.panel.info.text()
    made.click(made.panel.auto)  # even where nothing is updated by itself
    table = made.panel.results.table
    assert table.regions.headings()[3] == "Area (px²)"
    areas = [region.area_px for region in table.value()]
    camera = made.viewer.scene.camera
    camera.center, camera.zoom = (0.0, 100.0, 120.0), 4.0
    made.click(made.panel.calibrate)
    made.qtbot.waitUntil(lambda: table.regions.headings()[3] == "Area (nm²)", timeout=TIMEOUT)
    assert_allclose([region.area_nm2 for region in table.value()], np.array(areas) * 0.025**2)
    assert "0.025 nm/px" in made.panel.info.text()
    assert [str(unit) for unit in made.document.layer.units] == ["nanometer", "nanometer"]
    assert not made.panel.calibrate.isVisible()
    assert_allclose(camera.center[-2:], (2.5, 3.0))
    assert_allclose(camera.zoom, 4.0 / 0.025)
    assert set(made.states().values()) == {"current"}
