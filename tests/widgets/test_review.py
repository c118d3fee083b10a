"""Defects reviewed one by one, pixels not assessed, pixel sizes that cannot be, and the panel without an image."""

import csv
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose
from qtpy.QtCore import QPoint, Qt
from qtpy.QtGui import QGuiApplication
from qtpy.QtWidgets import QApplication, QFileDialog, QInputDialog, QPushButton

from napari_hrstem_defects.core.regions import find_regions
from napari_hrstem_defects.io.figure import overview_figure
from napari_hrstem_defects.widgets.contributions import sample_folder
from napari_hrstem_defects.widgets.corrections import ByHand
from napari_hrstem_defects.widgets.region_plots import profile_across
from napari_hrstem_defects.widgets.roles import Role, entry

from .conftest import TIMEOUT, lattice_image, x_of


def _press(made: Any, *keys: tuple[Any, Any]) -> None:
    canvas = made.viewer.window._qt_viewer.canvas.native
    canvas.setFocus()
    for key, modifier in keys:
        made.qtbot.keyClick(canvas, key, modifier)


NEXT, BACK = (Qt.Key.Key_N, Qt.KeyboardModifier.NoModifier), (Qt.Key.Key_N, Qt.KeyboardModifier.ShiftModifier)
KEEP, NOT = (Qt.Key.Key_K, Qt.KeyboardModifier.NoModifier), (Qt.Key.Key_K, Qt.KeyboardModifier.ShiftModifier)


def test_defects_are_reviewed_by_key_and_the_verdicts_exported(desk: Any, tmp_path: Path) -> None:
    made = desk("si_fault_amorphous")
    made.run_all()
    made.show()
    made.viewer.window._qt_window.activateWindow()
    made.qtbot.wait(50)
    table, regions = made.panel.results.table, made.document.regions()
    assert len(regions) > 1
    last = regions[-1].id
    chosen = []
    for keys in (NEXT, NEXT, BACK, BACK):
        _press(made, keys)
        chosen += table.selected()
    assert chosen == [1, 2, 1, last]  # past the first it goes on with the last
    layer = made.layer(Role.REGIONS)
    assert (layer.selected_label, layer.visible) == (last, True)
    _press(made, NEXT, NOT, KEEP)
    reviewed = made.document.reviewed()
    assert reviewed == {1: "rejected", 2: "accepted"}
    assert table.regions.headings()[-1] == "Reviewed"
    assert [table.regions.row(region)[-1] for region in regions[:2]] == ["rejected", "accepted"]
    assert table.regions.index(0, 0).data() == "1 ✕"
    # They stay with the region when another threshold changes sizes and numbers.
    made.panel.threshold.slider.setValue(made.panel.threshold.slider.value() + 20)
    made.wait()
    known, verdicts = made.document.labelled[0], made.document.by_hand.reviewed
    expected = {
        int(known.numbered[y, x]): "accepted" if kept else "rejected"
        for (_, y, x), kept in verdicts.items()
        if known.shown[y, x]
    }
    assert len(verdicts) == 2
    assert made.document.reviewed() == expected
    folder = made.panel.actions_.export(tmp_path)
    made.wait()
    with (folder / "regions.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {int(row["id"]): row["reviewed"] for row in rows if row["reviewed"]} == expected
    assert len(rows) == len(made.document.regions())
    made.click(made.panel.best_patch.undo)
    assert list(made.document.by_hand.reviewed.values()) == [False]


def test_buttons_beside_the_table_do_the_same(bench: Any) -> None:
    made = bench(lattice_image((192, 192), period=11))
    made.run_all()
    buttons = {b.text(): b for b in made.panel.results.widget.findChildren(QPushButton)}
    made.click(buttons["▼"])
    assert made.panel.results.table.selected() == [1]
    made.click(buttons["✓"])
    assert made.document.reviewed() == {1: "accepted"}
    made.document.layer.data = made.document.layer.data.copy()  # other pixels: nothing of it holds
    assert made.document.by_hand == ByHand()


@pytest.mark.parametrize("size", ["Area", "Length"])
def test_bar_of_the_sizes_selects_its_regions(bench: Any, size: str) -> None:
    made = bench("si_fault_amorphous")
    made.run_all()
    results = made.panel.results
    results.widget.resize(700, 150)
    results.widget.show()
    layer = made.layer(Role.LABELS)
    for y, x in ((20, 20), (20, 80), (20, 140), (80, 20)):
        layer.data[y : y + 10, x : x + 12] = 1
    layer.events.paint(value=[])
    made.qtbot.waitUntil(lambda: len(made.document.known().painted) == 4, timeout=TIMEOUT)
    view, regions = results.sizes, results.table.value()
    names = [view.choice.itemText(i) for i in range(2)]
    assert names == ["Area (nm²)", "Length (nm)"]
    view.choice.setCurrentIndex([name.split()[0] for name in names].index(size))
    sizes = {r.id: r.area_nm2 if size == "Area" else r.length_nm for r in regions}
    logs = np.log(list(sizes.values()))
    counts, edges = np.histogram(logs, 10, (logs.min() - np.log(1.01), logs.max() + np.log(1.01)))
    assert [bar.get_height() for bar in view.plot.axes.patches] == counts.tolist()
    bar = int(counts.argmax())
    assert counts[bar] >= 4
    inside = {number for number, value in sizes.items() if edges[bar] <= np.log(value) < edges[bar + 1]}
    x = x_of(view.plot, np.exp(edges[bar : bar + 2].mean()))
    made.qtbot.mouseClick(view.plot, Qt.MouseButton.LeftButton, pos=QPoint(x, 40))
    assert set(results.table.selected()) == inside
    numbered = made.layer(Role.REGIONS)
    assert numbered.visible
    assert {number for number in sizes if numbered.get_color(number)[3] > 0} == inside
    assert [bool(patch.get_hatch()) for patch in view.plot.axes.patches] == [i == bar for i in range(10)]
    # They are accepted together, and taken back together.
    buttons = {b.text(): b for b in results.widget.findChildren(QPushButton)}
    made.click(buttons["✓"])
    assert made.document.reviewed() == dict.fromkeys(inside, "accepted")
    made.click(made.panel.best_patch.undo)
    assert made.document.reviewed() == {}
    # A row marks its bar, and is outlined alone.
    largest = max(sizes, key=lambda number: sizes[number])
    results.table.select(largest)
    made.panel.navigator.outline(largest)
    assert [bool(patch.get_hatch()) for patch in view.plot.axes.patches] == [False] * 9 + [True]
    assert numbered.selected_label == largest
    assert numbered.get_color(largest)[3] > 0
    # Beside the bars nothing is chosen.
    made.qtbot.mouseClick(view.plot, Qt.MouseButton.LeftButton, pos=QPoint(1, 40))
    assert (results.table.selected(), numbered.visible) == ([], False)


def test_overview_figure_is_copied(bench: Any) -> None:
    made = bench(lattice_image((192, 192), period=11))
    made.click(made.panel.actions_.buttons["Copy"])
    assert "no complete result to copy" in made.panel.messages.text()
    made.run_all()
    made.click(made.panel.actions_.buttons["Copy"])
    made.wait()
    assert "on the clipboard" in made.panel.messages.text()
    image = QGuiApplication.clipboard().image()
    figure = overview_figure(made.document.result())
    assert (image.width(), image.height()) == pytest.approx(150 * figure.get_size_inches(), abs=1)


def test_pixels_without_a_value_are_no_defect_and_hatched(bench: Any) -> None:
    image = lattice_image((384, 384), fault=False)
    image[140:220, 150:240] = np.nan
    made = bench(image, contrast_limits=(0, 4))
    made.run_all()
    assert not made.layer(Role.LABELS).data[140:220, 150:240].any()
    assert not any(
        y0 < 220 and y1 > 140 and x0 < 240 and x1 > 150
        for y0, x0, y1, x1 in (region.bbox for region in made.document.regions())
    )
    hatched = made.layer(Role.NOT_ASSESSED)
    valid_mask = made.document.analysis.valid_mask
    assert not valid_mask[140:220, 150:240].any()
    assert not hatched.data[valid_mask].any()
    # Stripes and gaps of one width.
    assert np.mean(hatched.data[140:220, 150:240]) == pytest.approx(0.5, abs=0.05)
    severity = made.layer(Role.SEVERITY)
    assert hatched.visible
    severity.visible = False
    assert not hatched.visible
    severity.visible = True
    assert hatched.visible
    for shown in (False, True):
        made.panel.navigator.toggle_results()
        assert (severity.visible, hatched.visible) == (shown, shown)
    assert made.document.found().histogram.counts.sum() <= valid_mask.sum()


def test_a_pixel_size_that_no_crystal_has_is_pointed_out(bench: Any, monkeypatch: Any) -> None:
    """A period of 14 px of 1 nm would be 14 nm."""
    made = bench(lattice_image((320, 320)), scale=(1.0, 1.0), units=("nm", "nm"))
    assert "no crystal" not in made.panel.messages.text()
    made.run_all()
    assert "makes the lattice period 14 nm, which no crystal shows" in made.panel.messages.text()
    assert made.panel.calibrate.isVisible()
    monkeypatch.setattr(QInputDialog, "getDouble", lambda *args: (0.02, True))
    made.click(made.panel.calibrate)
    made.wait()
    assert "no crystal" not in made.panel.messages.text()
    assert not made.panel.calibrate.isVisible()
    assert made.document.layer.scale[-1] == pytest.approx(0.02)


def test_without_an_image_the_panel_opens_one(bench: Any, monkeypatch: Any) -> None:
    made = bench(None)
    files, samples = made.panel.open.findChildren(QPushButton)
    assert files.isVisible()
    path = sample_folder() / "si_perfect.tif"
    monkeypatch.setattr(QFileDialog, "getOpenFileNames", lambda *args: ([str(path)], ""))
    made.click(files)
    assert made.document.layer.source.path == str(path)
    assert not files.isVisible()
    made.viewer.layers.clear()
    assert samples.isVisible()
    names = [action.text() for action in samples.menu().actions()]
    assert "GaAs, twin" in names
    samples.menu().actions()[names.index("GaAs, twin")].trigger()
    assert made.document.layer.name == "gaas_twin.tif"


def _numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"\d+\.\d+", text)]


def test_cell_of_each_lattice(bench: Any) -> None:
    """GaAs along [110]: a centred rectangle of 0.5653 nm × 0.5653/√2 nm, its shortest vectors to the centre."""
    made = bench()
    made.run_all()
    view, side = made.panel.lattices, 0.5653 * np.sqrt(3 / 8)
    gamma = np.degrees(np.arccos(-1 / 3))
    assert view.table.horizontalHeaderItem(3).text() == "a, b (nm)"
    for row in range(2):
        sides, angle = (view.table.item(row, column).text() for column in (3, 4))
        assert_allclose([*_numbers(sides), *_numbers(angle)], [side, side, gamma], rtol=0.02)
    # The best patch's lattice is always intact.
    assert not view.table.item(0, 0).flags() & Qt.ItemFlag.ItemIsEnabled
    # Without a pixel size in px.
    size = made.document.layer.scale[-1]
    made.document.layer.scale, made.document.layer.units = (1, 1), ("pixel", "pixel")
    made.wait()
    assert_allclose(_numbers(view.table.item(0, 3).text()), [side / size, side / size], rtol=0.02)
    assert view.table.horizontalHeaderItem(3).text() == "a, b (px)"


def test_calibration_from_a_known_spacing(bench: Any, monkeypatch: Any) -> None:
    """A square lattice of 14 px; the file says 0.02 nm, that is 0.28 nm for a vector of the lattice."""
    made = bench(lattice_image((256, 256)), scale=(0.02, 0.02), units=("nm", "nm"))
    assert not made.panel.lattices.calibrate.isVisible()
    made.run_all()
    view, asked = made.panel.lattices, []

    def answer(parent: Any, title: str, text: str, *limits: Any) -> tuple[float, bool]:
        asked.append(text)
        return answers.pop(0)

    monkeypatch.setattr(QInputDialog, "getDouble", answer)
    answers = [(0.3, False), (0.287, True), (0.35, True), (0.02, True)]
    made.click(view.calibrate)
    assert made.document.layer.scale[-1] == 0.02
    assert "shortest lattice vector" in asked[0]
    assert_allclose(_numbers(asked[0]), [14, 0.28], rtol=0.01)
    # 2.5 % more: as usual.
    made.click(view.calibrate)
    made.wait()
    assert_allclose(made.document.layer.scale, 0.287 / 14, rtol=0.005)
    assert view.about.text().startswith("a 0.287, b 0.28")
    provenance = entry(made.layer(Role.LABELS))["provenance"]
    assert provenance["pixel_size_nm"] == pytest.approx(made.document.layer.scale[-1])
    assert entry(made.document.layer)["calibrated_by_hand"]
    assert "disagrees" not in made.panel.messages.text()
    # A quarter more, and a fifth less than that is what the file says.
    made.click(view.calibrate)
    made.wait()
    assert_allclose(made.document.layer.scale, 0.025, rtol=0.005)
    (share,) = re.findall(r"0\.02 nm, disagrees by (\S+) %", made.panel.messages.text())
    assert float(share) == pytest.approx(20, abs=0.5)
    made.click(made.panel.calibrate)
    made.wait()
    assert made.document.layer.scale[-1] == 0.02
    assert "disagrees" not in made.panel.messages.text()
    assert not made.panel.calibrate.isVisible()


def test_profile_across_a_region_is_the_mean_along_it() -> None:
    """Of a wave whose wave vector is perpendicular to the region; along it it changes linearly, about the centre."""
    y, x = np.indices((200, 220), dtype=float)
    centre, angle, period = (90.0, 120.0), np.radians(30), 10.0
    # 30° counter-clockwise on screen: along it x grows and y falls.
    across = (y - centre[0]) * np.cos(angle) + (x - centre[1]) * np.sin(angle)
    along = (x - centre[1]) * np.cos(angle) - (y - centre[0]) * np.sin(angle)
    labels = ((np.abs(across) < 4) & (np.abs(along) < 60)).astype(np.uint8)
    (region,) = find_regions(labels, np.exp(-(across**2) / 200))
    profile = profile_across(region, np.cos(across / 8) + along, np.exp(-(across**2) / 200), period, 0.02)
    position = np.array(profile.positions) / 0.02
    assert profile.unit == "nm"
    assert profile.width == pytest.approx(0.02 * region.length_px / 2, rel=0.02)
    assert_allclose(np.diff(position), 1, rtol=1e-6)
    assert position[-1] == pytest.approx(region.width_px / 2 + 5 * period, abs=0.51)
    assert_allclose(profile.severity, np.exp(-(position**2) / 200), atol=0.02)
    assert_allclose(profile.image, np.cos(position / 8), atol=0.3)
    # Beyond the image there is nothing.
    cut = profile_across(region, y[:110], y[:110], period, None)
    assert np.isnan(cut.severity[-1])
    assert cut.severity[len(position) // 2] == pytest.approx(90, abs=0.5)


@pytest.mark.parametrize("series", [False, True])
def test_profile_of_the_selected_region_is_shown(bench: Any, series: bool) -> None:
    image = lattice_image((256, 256))
    made = bench(np.stack([image] * 2) if series else image)
    made.run_all()
    results = made.panel.results
    view, table = results.sizes, results.table
    results.widget.resize(900, 220)
    results.widget.show()
    view.choice.setCurrentIndex(view.choice.findText("Profile across"))
    assert view.profile.isVisible()
    assert not view.plot.isVisible()
    assert view.profile.value() == ()
    region = max(table.value(), key=lambda r: r.area_px)
    table.select(region.id)
    shown = view.profile.value()
    # The fault is vertical: the profile is a mean of rows, through the centroid.
    rows = made.document.analysis.severity[round(region.centroid[0]) - 30 : round(region.centroid[0]) + 30]
    middle = round(region.centroid[1])
    assert abs(abs(region.orientation_deg) - 90) < 5
    where = np.array(shown.positions)
    assert np.abs(where).max() > region.width_px / 2 + 60
    assert np.nanmax(np.array(shown.severity)[np.abs(where) > region.width_px]) < np.nanmax(shown.severity)
    assert shown.severity[len(where) // 2] == pytest.approx(rows[:, middle].mean(), rel=0.2)
    made.qtbot.waitUntil(lambda: len(view.profile.axes.lines) == 2, timeout=TIMEOUT)
    assert view.profile.axes.get_xlabel().startswith("distance (px)")
    assert_allclose(view.profile.axes.lines[1].get_ydata(), shown.severity)
    # No text is cut off where the plot is narrow.
    view.profile.setValue(replace(shown, width=112.2, unit="nm"))
    view.setFixedWidth(view.minimumSizeHint().width())
    QApplication.processEvents()
    figure = view.profile.axes.figure
    figure.canvas.draw()
    written = view.profile.axes.xaxis.label.get_window_extent()
    assert 0 <= written.x0 < written.x1 <= figure.bbox.width
    # Another frame was not analysed; without a selection there is none.
    if series:
        made.viewer.dims.set_current_step(0, 1)
        assert view.profile.value() == ()
        made.viewer.dims.set_current_step(0, 0)
        table.select(region.id)
        assert_allclose(view.profile.value().severity, shown.severity)
    table.select()
    assert view.profile.value() == ()
