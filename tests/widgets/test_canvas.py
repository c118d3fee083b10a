"""Canvas, panel and table speak of the same image, and to each other."""

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication

from napari_hrstem_defects.widgets.roles import Role, entry, role_of

from .conftest import TIMEOUT, lattice_image


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
    assert not any(layer.visible for layer in layers if _owner(layer) == ids[0] and layer is not first)
    seen = {layer for layer in layers if layer.visible}

    made.session.choose(first)
    assert {_owner(layer) for layer in layers if layer.visible} == {ids[0]}
    assert first.visible
    assert made.layer(Role.LABELS).visible
    assert made.panel.results.table.value() == made.document.regions()
    made.session.choose(second)
    assert {layer for layer in layers if layer.visible} == seen


def test_keys_are_tools_of_the_viewer_after_a_button_was_pressed(desk: Any) -> None:
    made = desk(lattice_image((192, 192), period=11))
    window = made.viewer.window._qt_window
    window.activateWindow()
    made.qtbot.waitUntil(lambda: QApplication.focusWidget() is not None or window.isActiveWindow())
    made.run_all()
    recipe = made.session.recipe
    kernel = made.panel.groups["symmetry"].parameters.editors["symmetry.kernel_periods"]
    for button in (made.panel.groups["symmetry"].button, made.panel.run_row.run):
        kernel.setFocus()
        button.setFocus()
        made.click(button)
        made.wait()
        made.viewer.layers.selection.active = made.layer(Role.LABELS)
        focused = QApplication.focusWidget()
        assert focused is None or not made.panel.isAncestorOf(focused)
        for key in (Qt.Key.Key_3, Qt.Key.Key_5):
            made.qtbot.keyClick(focused or window, key)
        made.wait()
        assert made.session.recipe == recipe


def test_click_into_a_region_selects_its_row_and_a_row_outlines_its_region(desk: Any) -> None:
    made = desk(lattice_image((256, 256)))
    made.run_all()
    made.show()
    table = made.panel.results.table
    region = max(table.value(), key=lambda r: r.area_px)
    layer = made.layer(Role.REGIONS)
    inside = np.argwhere(layer.data == region.id)
    point = inside[np.argmin(np.hypot(*(inside - inside.mean(0)).T))]
    made.viewer.layers.selection.active = made.document.layer
    native = made.viewer.window._qt_viewer.canvas.native
    position = made.canvas_position(point)
    made.qtbot.mouseMove(native, position)
    made.qtbot.mouseClick(native, Qt.MouseButton.LeftButton, pos=position)
    assert table.selected() == region.id
    assert layer.visible
    assert (layer.selected_label, layer.show_selected_label, layer.contour > 0) == (region.id, True, True)
    corner = np.argwhere(made.layer(Role.LABELS).data == 0)[0]
    position = made.canvas_position(corner)
    made.qtbot.mouseMove(native, position)
    made.qtbot.mouseClick(native, Qt.MouseButton.LeftButton, pos=position)
    assert table.selected() == 0
    assert not layer.visible
    # A region as long as the image does not take the view beyond the image.
    table.regionChosen.emit(region)
    assert layer.visible
    world = np.array(made.document.layer.data.shape) * made.document.layer.scale
    assert made.viewer.scene.camera.zoom >= 0.99 * min(made.viewer.canvas.size) / world.max()


def test_copy_takes_the_whole_table_with_its_headings(bench: Any) -> None:
    made = bench(lattice_image((192, 192), period=11))
    made.run_all()
    table = made.panel.results.table
    table.view.setFocus()
    made.qtbot.keyClick(table.view, Qt.Key.Key_C, Qt.KeyboardModifier.ControlModifier)
    lines = [line.split("\t") for line in QApplication.clipboard().text().split("\n")]
    assert lines[0] == list(table.model.headings())
    assert [line[0] for line in lines[1:]] == [str(region.id) for region in table.value()]
    assert {len(line) for line in lines} == {len(table.model.headings())}


def _whole_image_is_seen(made: Any) -> bool:
    height, width = made.viewer.canvas.size
    zoom = made.viewer.scene.camera.zoom
    extent = np.ptp(made.viewer.layers.extent.world[:, -2:], axis=0)
    return bool((extent * zoom <= np.array([height, width]) + 1).all())


def test_view_is_fitted_again_when_docks_take_room(desk: Any) -> None:
    made = desk(None, size=(1280, 800))
    made.panel.parent().destroyOnClose()
    made.add(lattice_image((256, 256)))
    made.qtbot.wait(100)
    made.viewer.reset_view()
    _, made.panel = made.viewer.window.add_plugin_dock_widget("napari-hrstem-defects", "HRSTEM defects")
    made.qtbot.waitUntil(lambda: _whole_image_is_seen(made), timeout=5000)
    made.run_all()
    assert made.panel.results.table.isVisible()
    made.qtbot.waitUntil(lambda: _whole_image_is_seen(made), timeout=5000)
    # One that a person has chosen stays.
    camera = made.viewer.scene.camera
    camera.center, camera.zoom = (0.0, 100.0, 120.0), 6.0
    size = made.viewer.canvas.size
    made.viewer.window.remove_dock_widget(made.panel.results.widget)
    made.qtbot.waitUntil(lambda: made.viewer.canvas.size != size, timeout=TIMEOUT)
    assert_allclose(camera.center[-2:], (100, 120))
    assert camera.zoom == 6.0


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
    assert labels.contour > 0
    assert made.layer(Role.SEVERITY).colorbar.visible
    made.panel.disconnect_all()
    assert not overlays["hrstem_defects_amorphous"].visible


def test_a_frame_shows_its_own_numbers(bench: Any) -> None:
    frames = np.stack([lattice_image((192, 192), period=11, seed=seed) for seed in range(3)])
    made = bench(frames)
    made.viewer.dims.set_point(0, 1)
    made.run_all()
    said = (made.panel.patch_count, made.panel.best_patch.place, made.panel.region_count)
    assert all(label.text() != "–" for label in said)
    assert made.panel.best_patch.filters.count() > 0
    made.viewer.dims.set_point(0, 2)
    assert [label.text() for label in said] == ["–"] * 3
    assert made.panel.best_patch.filters.count() == 0
    assert "period" not in made.panel.info.text()
    made.viewer.dims.set_point(0, 1)
    assert all(label.text() != "–" for label in said)


def test_every_parameter_and_reset_update_at_once(bench: Any) -> None:
    made = bench(lattice_image((256, 256)))
    made.run_all()
    made.panel.groups["classify"].parameters.editors["classify.patch_size"].setValue(40)
    assert made.session.running
    made.wait()
    assert made.document.analysis.recipe.classify.patch_size == 40
    made.panel.footer.reset.trigger()
    assert made.session.running
    made.wait()
    assert made.document.analysis.recipe.classify.patch_size == 0
    assert set(made.states().values()) == {"current"}


@pytest.mark.parametrize("mode", ["lattice", "published"])
def test_fields_that_the_method_does_not_use_are_not_there(bench: Any, mode: str) -> None:
    made = bench(lattice_image((192, 192), period=11))
    made.session.recipe = made.session.recipe.replace({"mode": mode})
    for widget in (made.panel.threshold, made.panel.lattices):
        assert widget.isVisible() is (mode == "lattice")
