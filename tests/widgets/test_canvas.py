"""Canvas, panel and table speak of the same image, and to each other."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose
from qtpy.QtCore import Qt
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QApplication, QDockWidget, QSplitter

from napari_hrstem_defects.core import regions
from napari_hrstem_defects.io.display import BEST_PATCH_COLOUR
from napari_hrstem_defects.widgets.roles import Role, entry, role_of
from napari_hrstem_defects.widgets.tables import RegionRows, RegionTable

from .conftest import PLUGIN, TIMEOUT, analysed, contrast, lattice_image


def _owner(layer: Any) -> str:
    return str(layer.unique_id) if role_of(layer) is None else str(entry(layer)["source"])


def test_results_lie_directly_above_their_own_image(bench: Any) -> None:
    """Of a second image that was opened later, too; one image and its results are seen at a time."""
    made = bench(lattice_image((256, 256)), name="first")
    first = made.document.layer
    made.run_all()
    second = made.add(lattice_image((256, 256), period=11, seed=1), name="second")
    made.run_all()
    layers = list(made.viewer.layers)
    ids = [str(first.unique_id), str(second.unique_id)]
    # From the bottom: an image, its results in their order, the next image and its results.
    assert [ids.index(_owner(layer)) for layer in layers] == sorted(ids.index(_owner(x)) for x in layers)
    roles = [role_of(layer) for layer in layers if _owner(layer) == ids[1]]
    order = list(Role)
    assert roles[0] is None
    places = [order.index(role) for role in roles[1:]]
    assert places == sorted(places)
    assert layers.index(second) < layers.index(made.layer(Role.LABELS))
    assert made.layer(Role.LABELS).visible
    assert {_owner(layer) for layer in layers if layer.visible} == {ids[1]}
    seen = {layer for layer in layers if layer.visible}

    made.viewer.layers.selection.active = made.layer(Role.LABELS)
    made.session.choose(first)
    # Nothing is painted in what is not seen.
    assert made.viewer.layers.selection.active is first
    assert {_owner(layer) for layer in layers if layer.visible} == {ids[0]}
    assert first.visible
    assert made.layer(Role.LABELS).visible
    assert made.panel.results.table.value() == made.document.regions()
    made.session.choose(second)
    assert {layer for layer in layers if layer.visible} == seen


def test_an_image_of_another_size_is_seen_alone_and_whole(bench: Any) -> None:
    """In px after one in nm, it would be a thousand times as large."""
    made = bench(lattice_image((256, 256)), name="in nm", scale=(0.02, 0.02), units=("nm", "nm"))
    made.viewer.canvas.size = (600, 500)
    first, camera = made.document.layer, made.viewer.scene.camera

    def check(image: Any) -> None:
        size = np.ptp(image.extent.world, axis=0)
        shown = size * camera.zoom / made.viewer.canvas.size
        assert 0.85 < shown.max() <= 1
        assert_allclose(camera.center[-2:], image.extent.world.mean(axis=0), atol=0.01 * size.max())
        assert [layer for layer in made.session.images() if layer.visible] == [image]

    large = made.add(lattice_image((512, 512), period=12), name="in px")
    check(large)
    made.panel.image.setValue(str(first.unique_id))
    check(first)
    # Where another image lies in the same place, the detail that is looked at stays in view.
    camera.center, camera.zoom = (0.0, 1.0, 1.5), 400.0
    alike = made.add(lattice_image((256, 256), seed=1), scale=(0.02, 0.02), units=("nm", "nm"))
    assert (tuple(camera.center[-2:]), camera.zoom) == ((1.0, 1.5), 400.0)
    made.viewer.layers.remove(alike)
    check(large)
    made.viewer.layers.remove(large)
    check(first)
    # One that is laid over another is seen with it.
    made.add(lattice_image((256, 256)), scale=(0.02, 0.02), units=("nm", "nm"), blending="additive")
    assert all(image.visible for image in made.session.images())


_CONTROL_SHIFT = Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.ShiftModifier


def _press(made: Any, key: Any, modifiers: Any = _CONTROL_SHIFT) -> None:
    made.viewer.window._qt_window.activateWindow()
    made.panel.run_row.run.setFocus()
    made.qtbot.wait(50)
    made.qtbot.keyClick(made.panel.run_row.run, key, modifiers)


def test_keys_of_the_panel_and_of_the_viewer(desk: Any) -> None:
    made = desk("gaas_twin")
    for number in range(1, 3):
        _press(made, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
        made.wait()
        assert list(made.states().values()).count("current") == number
    _press(made, Qt.Key.Key_Return)
    made.wait()
    assert set(made.states().values()) == {"current"}
    # Bare image: all that lies over it goes, and what was visible before comes back.
    made.click(made.panel.lattices.map)
    made.layer(Role.SEVERITY).visible = False
    before = [layer.visible for layer in made.viewer.layers]
    _press(made, Qt.Key.Key_L)
    assert [layer for layer in made.viewer.layers if layer.visible] == [made.document.layer]
    _press(made, Qt.Key.Key_L)
    assert [layer.visible for layer in made.viewer.layers] == before
    # After a button was pressed they are tools of the viewer.
    window, recipe = made.viewer.window._qt_window, made.session.recipe
    kernel = made.panel.groups["symmetry"].editors["symmetry.kernel_periods"]
    button = made.panel.groups["segment"].button
    kernel.setFocus()
    button.setFocus()
    made.click(button)
    made.wait()
    made.viewer.layers.selection.active = made.layer(Role.LABELS)
    focused = QApplication.focusWidget()
    assert focused is None or not made.panel.isAncestorOf(focused)
    labels = made.layer(Role.LABELS)
    for key, mode in ((Qt.Key.Key_3, "polygon"), (Qt.Key.Key_5, "pick"), (Qt.Key.Key_2, "paint")):
        made.qtbot.keyClick(focused or window, key)
        assert labels.mode == mode
    made.wait()
    assert made.session.recipe == recipe


def test_click_into_a_region_selects_its_row_and_a_row_outlines_its_region(bench: Any) -> None:
    made = bench(lattice_image((256, 256)))
    made.run_all()
    made.show()
    table = made.panel.results.table
    region = max(table.value(), key=lambda r: r.area_px)
    layer = made.layer(Role.REGIONS)
    inside = np.argwhere(layer.data == region.id)
    point = inside[np.argmin(np.hypot(*(inside - inside.mean(0)).T))]
    made.viewer.layers.selection.active = made.document.layer
    made.click_at(point)
    assert table.selected() == [region.id]
    assert layer.visible
    assert (layer.selected_label, layer.contour > 0) == (region.id, True)
    # Bright on any micrograph, whatever its number; the others are not outlined.
    assert_allclose(layer.get_color(region.id)[:3], QColor(BEST_PATCH_COLOUR).getRgbF()[:3], atol=0.01)
    assert all(layer.get_color(other.id)[3] == 0 for other in table.value() if other is not region)
    made.click_at(np.argwhere(made.layer(Role.LABELS).data == 0)[0])
    assert table.selected() == []
    assert not layer.visible
    # A region as long as the image does not take the view beyond the image.
    rows = table.model()
    row = next(row for row in range(rows.rowCount()) if rows.index(row, 0).data() == str(region.id))
    made.panel.results.widget.show()
    place = table.visualRect(rows.index(row, 1)).center()
    made.qtbot.mouseClick(table.viewport(), Qt.MouseButton.LeftButton, pos=place)
    assert (layer.selected_label, layer.visible) == (region.id, True)
    camera, canvas = made.viewer.scene.camera, np.array(made.viewer.canvas.size)
    # It is long: along it all of the image is seen, across it what is nearest to its centre within the image.
    begin, end = camera.center[-2:] - canvas / camera.zoom / 2, camera.center[-2:] + canvas / camera.zoom / 2
    assert_allclose((begin + end)[0] / 2, 127.5, atol=1)
    assert begin[1] < region.centroid[1] < end[1]
    assert end[1] <= 256 or begin[1] <= 0
    assert list(layer.features["area_px"])[1:] == [region.area_px for region in table.value()]
    world = np.array(made.document.layer.data.shape) * made.document.layer.scale
    assert made.viewer.scene.camera.zoom >= 0.99 * min(made.viewer.canvas.size) / world.max()
    # The label chosen in the layer is the row that is marked.
    layer.selected_label = table.value()[-1].id
    assert table.selected() == [table.value()[-1].id]


def test_selected_region_stays_selected_when_the_labels_change(bench: Any) -> None:
    made = bench("si_fault_amorphous")
    made.run_all()
    table, regions = made.panel.results.table, made.layer(Role.REGIONS)

    def select(region: Any) -> None:
        table.select(region.id)
        table.regionChosen.emit(region)

    def outlined() -> list[int]:
        return [r.id for r in table.value() if regions.visible and regions.get_color(r.id)[3] > 0]

    first, fault = table.value()
    select(fault)
    # What is painted above it is another region with its number.
    labels = made.layer(Role.LABELS)
    labels.data[20:40, 300:340] = 1
    labels.events.paint(value=[])
    made.qtbot.waitUntil(lambda: len(table.value()) == 3, timeout=TIMEOUT)
    (chosen,) = table.selected()
    assert outlined() == [chosen]
    assert next(r for r in table.value() if r.id == chosen).centroid == fault.centroid
    # With another best patch it has another size and is the same all the same.
    made.session.edits.place((300.0, 400.0))
    made.wait()
    (chosen,) = table.selected()
    again = next(r for r in table.value() if r.id == chosen)
    assert (again.type, outlined()) == (fault.type, [chosen])
    assert again.area_px != fault.area_px
    # One that is gone is neither selected nor outlined.
    select(next(region for region in table.value() if region.id in made.document.known().painted))
    assert len(table.selected()) == 1
    made.click(made.panel.discard)
    made.qtbot.waitUntil(lambda: not made.document.known().painted, timeout=TIMEOUT)
    assert (table.selected(), outlined(), regions.visible) == ([], [], False)
    assert first.type == "amorphous"


def _marked_rows(table: Any) -> list[str]:
    """Numbers of the regions whose rows are yellow, as drawn on the screen."""
    rows, picture = table.model(), table.viewport().grab().toImage()
    found = []
    for row in range(rows.rowCount()):
        corner = table.visualRect(rows.index(row, 0)).bottomLeft()
        ground = picture.pixelColor(corner.x() + 2, corner.y() - 2)
        if min(ground.red(), ground.green()) > ground.blue() + 20:
            found.append(rows.index(row, 0).data())
    return found


@pytest.mark.parametrize("frames", [1, 2])
def test_mouse_over_a_region_outlines_it_and_says_what_it_is(
    desk: Any, frames: int, monkeypatch: Any
) -> None:
    image = lattice_image((192, 192), period=11)
    made = desk(image if frames == 1 else np.stack([image[::-1], image]), scale=(0.5,) * (frames + 1))
    made.viewer.dims.set_current_step(0, frames - 1)
    made.run_all()
    made.show()
    made.viewer.layers.selection.active = made.document.layer
    labels, table = made.layer(Role.LABELS), made.panel.results.table
    region = max(table.value(), key=lambda r: r.area_px)
    numbers = made.layer(Role.REGIONS).data.reshape(-1, 192, 192)[-1]
    points = np.argwhere(numbers == region.id)
    drawn: list[Any] = []
    for layer in (labels, made.layer(Role.REGIONS), made.document.layer):
        layer.events.set_data.connect(drawn.append)
    # Of a large image either would be seen.
    monkeypatch.setattr(regions, "label_regions", lambda _: pytest.fail("the labels were connected anew"))
    crystal = np.argwhere(labels.data.reshape(-1, 192, 192)[-1] == 0)[0]
    made.hover(crystal)
    assert made.layer(Role.HOVERED) is None
    for point in (points[len(points) // 2], points[len(points) // 3]):
        made.hover(point)
        hovered = made.layer(Role.HOVERED)
        assert hovered.visible
    assert hovered.contour
    assert hovered.data.size <= (1 + np.ptp(points, axis=0) + 2).prod()
    # In the place of the region, in the world.
    ours = np.argwhere(hovered.data)
    world = np.array([hovered.data_to_world(p)[-2:] for p in (ours[0], ours[-1])])
    assert_allclose(world, 0.5 * points[[0, -1]])
    assert len(ours) == region.area_px
    said = made.viewer.canvas.overlays["hrstem_defects_hovered"]
    assert said.visible
    assert region.type in said.text
    assert f"{100 * region.confidence:.0f} %" in said.text
    assert f"{region.area_px:.0f} px²" in said.text
    assert table.selected() == []
    # So is its row, and no other; nothing is selected or scrolled to meanwhile.
    assert _marked_rows(table) == [str(region.id)]
    scrolled = table.verticalScrollBar().value()
    made.hover(crystal)
    assert not hovered.visible
    assert not said.visible
    assert _marked_rows(table) == []
    assert table.verticalScrollBar().value() == scrolled
    assert not drawn  # no large layer was drawn anew
    # Not with a tool in hand, and not after the mouse has left.
    made.hover(points[len(points) // 2])
    assert hovered.visible
    made.viewer.mouse_over_canvas = False
    assert not hovered.visible
    assert _marked_rows(table) == []
    made.click(made.panel.paint_labels)
    made.hover(points[len(points) // 3])
    assert not hovered.visible


def _columns(table: Any) -> list[str]:
    """Titles of the columns that are seen as a whole."""
    header, room = table.horizontalHeader(), table.viewport().width()
    numbers = [i for i in range(header.count()) if not header.isSectionHidden(i)]
    ends = [header.sectionViewportPosition(i) + header.sectionSize(i) for i in numbers]
    return [table.regions.headings()[i] for i, end in zip(numbers, ends, strict=True) if end <= room]


def test_small_negative_numbers_are_not_cut_off(qtbot: Any) -> None:
    """Of a painted region the mean may be less than that of the crystal."""
    table = RegionTable()
    qtbot.addWidget(table)
    table.resize(1600, 200)
    table.show()
    region = analysed("si_fault_amorphous").regions[0]
    small = {"max_severity": -0.000123, "mean_severity": -0.0456, "orientation_deg": -0.0321}
    table.setValue(RegionRows((replace(region, **small),), in_nm=True))
    assert [table.model().index(0, column).data() for column in (8, 9, 10)] == ["0.00", "-0.05", "-0.03"]
    assert not any(map(table.isColumnHidden, range(table.model().columnCount())))
    assert _cut_off(table) == []


def _cut_off(table: Any) -> list[str]:
    """Texts that are wider than their cell, beside a swatch in the column of the type."""
    model, metrics = table.model(), table.fontMetrics()
    cells = [model.index(row, column) for row, column in np.ndindex(model.rowCount(), model.columnCount())]
    return [
        index.data()
        for index in cells
        if not table.isColumnHidden(index.column())
        and metrics.horizontalAdvance(index.data()) + 16 * (index.column() == 1)
        >= table.visualRect(index).width()
    ]


def test_columns_that_matter_are_seen_in_a_small_window_and_all_in_a_large_one(desk: Any) -> None:
    made = desk("si_fault_amorphous", size=(1280, 800))
    made.run_all()
    made.qtbot.wait(300)
    results = made.panel.results
    table, titles = results.table, list(results.table.regions.headings())
    first = [
        "Number",
        "Probable type",
        "Confidence of the type (%)",
        "Area (nm²)",
        "Length (nm)",
    ]
    assert _columns(table) == first == titles[: len(first)]
    # No value is cut off.
    model = table.model()
    assert "intrinsic stacking fault" in {model.index(row, 1).data() for row in (0, 1)}
    assert _cut_off(table) == []
    # Nor beside a scroll bar.
    labels = made.layer(Role.LABELS)
    for y in range(300, 700, 50):
        labels.data[y : y + 10, 20:32] = 1
    labels.events.paint(value=[])
    made.qtbot.waitUntil(table.verticalScrollBar().isVisible, timeout=TIMEOUT)
    assert _columns(table) == first
    # Where there is less room, as beside the plot of a series, sizes matter more than the whole of the type.
    splitter = results.widget.findChild(QSplitter)
    sizes = splitter.sizes()
    splitter.setSizes([280, sum(sizes) - 280])
    assert table.width() < sizes[0] - 50
    assert _columns(table) == first
    splitter.setSizes(sizes)
    # The verdict is beside the number.
    table.step(1)
    results.review(True)
    assert model.index(0, 0).data() == "1 ✓"
    # What is chosen in the menu of the headings is seen, in the place of others.
    actions = {action.text(): action for action in table.horizontalHeader().actions()}
    assert not actions["Kind"].isChecked()
    actions["Length"].trigger()
    actions["Kind"].trigger()
    seen = _columns(table)
    assert "Kind" in seen
    assert "Length (nm)" not in seen
    assert len(seen) == sum(action.isChecked() for action in actions.values())
    actions["Length"].trigger()
    made.viewer.window.resize(1920, 1080)
    made.qtbot.waitUntil(lambda: _columns(table) == titles, timeout=TIMEOUT)
    assert _cut_off(table) == []


def test_copy_takes_the_whole_table_with_its_headings(bench: Any) -> None:
    made = bench(lattice_image((192, 192), period=11))
    made.run_all()
    table = made.panel.results.table
    table.setFocus()
    made.qtbot.keyClick(table, Qt.Key.Key_C, Qt.KeyboardModifier.ControlModifier)
    lines = [line.split("\t") for line in QApplication.clipboard().text().split("\n")]
    assert lines[0] == list(table.regions.headings())
    assert {"Probable type", "Area (px²)", "Length (px)", "Centre y, x (px)", "Reviewed"} < set(lines[0])
    assert [line[0] for line in lines[1:]] == [str(region.id) for region in table.value()]
    assert {len(line) for line in lines} == {len(table.regions.headings())}


def _whole_image_is_seen(made: Any) -> bool:
    height, width = made.viewer.canvas.size
    zoom = made.viewer.scene.camera.zoom
    extent = np.ptp(made.viewer.layers.extent.world[:, -2:], axis=0)
    return bool((extent * zoom <= np.array([height, width]) + 1).all())


def test_table_and_view_when_docks_come_and_go(desk: Any) -> None:
    made = desk(None, size=(1280, 800))
    window, main = made.viewer.window, made.viewer.window._qt_window
    made.panel.parent().destroyOnClose()
    made.add(lattice_image((192, 192), period=11))
    made.qtbot.wait(100)
    made.viewer.reset_view()
    _, made.panel = window.add_plugin_dock_widget(PLUGIN, "HRSTEM defects")
    made.qtbot.waitUntil(lambda: _whole_image_is_seen(made), timeout=5000)
    made.run_all()
    # The table is docked below the image, which is fitted again.
    results = made.panel.results
    (dock,) = (d for d in main.findChildren(QDockWidget) if d.isAncestorOf(results.table))
    assert results.table.isVisible()
    assert main.dockWidgetArea(dock) == Qt.DockWidgetArea.BottomDockWidgetArea
    canvas = window._qt_viewer.canvas.native
    assert dock.mapTo(main, dock.rect().topLeft()).y() >= canvas.mapTo(main, canvas.rect().bottomLeft()).y()
    made.qtbot.waitUntil(lambda: _whole_image_is_seen(made), timeout=5000)
    # A view that a person has chosen stays.
    camera, size = made.viewer.scene.camera, made.viewer.canvas.size
    camera.center, camera.zoom = (0.0, 100.0, 120.0), 6.0
    window.remove_dock_widget(results.widget)
    made.qtbot.waitUntil(lambda: made.viewer.canvas.size != size, timeout=TIMEOUT)
    assert_allclose(camera.center[-2:], (100, 120))
    assert camera.zoom == 6.0
    # A table that was closed comes back with a run asked for, not of itself.
    made.panel.threshold.number.setValue(0.1)
    made.wait()
    assert "Defect regions" not in window.dock_widgets
    made.run_all()
    assert results.table.isVisible()
    assert "Defect regions" in window.dock_widgets
    assert len(results.table.value()) == len(made.document.regions()) > 0


def test_legend_scale_bar_and_colour_bar(bench: Any) -> None:
    made = bench("si_fault_amorphous")
    made.run_all()
    overlays = made.viewer.canvas.overlays
    made.qtbot.waitUntil(lambda: "hrstem_defects_amorphous" in overlays, timeout=TIMEOUT)
    assert overlays.scale_bar.visible
    labels = made.layer(Role.LABELS)
    for key, value in (("symmetry_defect", 1), ("amorphous", 2)):
        line = overlays["hrstem_defects_" + key]
        assert line.visible
        assert f"{100 * np.mean(labels.data == value):.1f} %" in line.text
        assert_allclose(line.color, labels.get_color(value), atol=0.01)
        assert contrast(line.color, line.box_color) >= 4.5  # in a light theme as well
    assert labels.contour > 0
    assert made.layer(Role.SEVERITY).colorbar.visible
    # It goes and comes with the labels, hidden by the eye in napari's list as well.
    for shown in (False, True):
        labels.visible = shown
        assert overlays["hrstem_defects_amorphous"].visible is shown
    made.panel.disconnect_all()
    assert not overlays["hrstem_defects_amorphous"].visible


def test_every_parameter_and_reset_update_at_once(bench: Any) -> None:
    made = bench(lattice_image((256, 256)))
    made.run_all()
    made.panel.groups["classify"].editors["classify.patch_size"].setValue(40)
    assert made.session.running
    made.wait()
    assert made.document.analysis.recipe.classify.patch_size == 40
    made.panel.actions_.reset.trigger()
    assert made.session.running
    made.wait()
    assert made.document.analysis.recipe.classify.patch_size == 0
    assert set(made.states().values()) == {"current"}
