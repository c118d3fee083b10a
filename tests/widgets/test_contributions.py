"""What the manifest offers: docks of single steps, menus, writers and readers."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari._app_model import get_app_model
from napari.components import ViewerModel
from napari.settings import get_plugin_settings
from npe2 import PluginManifest
from numpy.testing import assert_allclose, assert_array_equal

from napari_hrstem_defects.core import pipeline
from napari_hrstem_defects.core.micrograph import Micrograph
from napari_hrstem_defects.core.recipe import Recipe
from napari_hrstem_defects.errors import RecipeError, WriteError
from napari_hrstem_defects.io import load, read, save
from napari_hrstem_defects.io.domains import domain_image
from napari_hrstem_defects.widgets.contributions import (
    get_result_reader,
    read_layers,
    sample_folder,
    write_layer,
)
from napari_hrstem_defects.widgets.model import STEPS
from napari_hrstem_defects.widgets.opening import open_panel
from napari_hrstem_defects.widgets.panel import DefectsPanel
from napari_hrstem_defects.widgets.roles import Role, role_of

from .conftest import PLUGIN, TIMEOUT, analysed, discover, lattice_image

MANIFEST = PluginManifest.from_distribution(PLUGIN)


def test_manifest_is_valid() -> None:
    done = subprocess.run([sys.executable, "-m", "npe2", "validate", PLUGIN], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_preferences_are_those_of_napari(desk: Any, monkeypatch: Any) -> None:
    made = desk(lattice_image((192, 192), period=11))
    dialog = made.viewer.window._open_preferences_dialog()
    pages = [dialog._list.item(row).text() for row in range(dialog._list.count())]
    assert "HRSTEM defects" in pages
    dialog.close()
    preferences = get_plugin_settings(PLUGIN).panel
    assert made.panel.auto.isChecked()
    monkeypatch.setattr(preferences, "update_at_once_px", 191)
    made.run_all()
    assert not made.panel.auto.isChecked()
    monkeypatch.setattr(preferences, "update_at_once_px", 192)
    made.session.changed.emit()
    assert made.panel.auto.isChecked()
    monkeypatch.setattr(preferences, "outline_hovered", False)
    made.show()
    made.viewer.layers.selection.active = made.document.layer
    inside = np.argwhere(made.layer(Role.LABELS).data)
    made.hover(inside[len(inside) // 2])
    assert made.layer(Role.HOVERED) is None
    monkeypatch.setattr(preferences, "outline_hovered", True)
    made.hover(inside[len(inside) // 3])
    assert made.layer(Role.HOVERED).visible
    # Kept in a file of their own beside napari's.
    text = Path(get_plugin_settings(PLUGIN).config_path).read_text("utf-8")
    assert "update_at_once_px: 192" in text


def test_docks_of_single_steps_and_export_share_the_work_of_the_panel(desk: Any, tmp_path: Path) -> None:
    made = desk(lattice_image((192, 192), period=11))
    docks = {}
    for name, title in [*((step.name, step.title) for step in STEPS), ("export", "Export")]:
        _, docks[name] = made.viewer.window.add_plugin_dock_widget(PLUGIN, title)
    export = docks["export"]
    assert {dock.session for dock in docks.values()} == {made.session}
    assert not export.actions_.buttons["Export…"].isEnabled()
    made.click(docks["symmetry"].group.button)
    made.wait()
    assert docks["preprocess"].group.word.text() == "current"
    assert docks["segment"].group.word.text() == "not run"
    assert made.states()["symmetry"] == "current"
    assert made.layer(Role.SEVERITY) is not None
    docks["symmetry"].group.editors["symmetry.kernel_periods"].setValue(2.0)
    assert made.panel.groups["symmetry"].editors["symmetry.kernel_periods"].value() == 2.0
    assert docks["symmetry"].group.word.text() == "running"  # at once, from whatever dock
    made.wait()
    made.run_all()
    assert export.actions_.buttons["Export…"].isEnabled()
    folder = export.actions_.export(tmp_path)
    made.wait()
    assert (folder / "labels.tif").is_file()
    # The same commands are in the menus of the layers.
    menus = get_app_model().menus
    for menu, entries in MANIFEST.contributions.menus.items():
        offered = {item.command.id for item in menus.get_menu(menu) if hasattr(item, "command")}
        assert {entry.command for entry in entries} <= offered, menu


@pytest.mark.parametrize(
    "data",
    [
        np.arange(64 * 48, dtype=np.uint16).reshape(64, 48),
        np.random.default_rng(0).random((3, 40, 32), dtype=np.float32),
        np.eye(48, dtype=np.int64),
    ],
    ids=["image", "series", "labels"],
)
def test_saved_layer_keeps_its_pixel_size(data: Any, tmp_path: Path) -> None:
    discover()
    viewer = ViewerModel()
    add = viewer.add_labels if data.dtype.kind == "i" else viewer.add_image
    frames = (1,) * (data.ndim - 2)
    layer = add(data, scale=(*frames, 0.0123, 0.0123), units=("pixel",) * (data.ndim - 2) + ("nm", "nm"))
    path = tmp_path / "saved.ome.tif"
    assert layer.save(str(path), plugin=PLUGIN) == [str(path)]
    back = read(path)
    assert_array_equal(np.asarray(back.data), data)
    assert back.pixel_size_nm == pytest.approx(0.0123)


def test_units_are_converted_and_pixels_have_no_size(tmp_path: Path) -> None:
    data = np.eye(40, dtype=np.uint8)
    write_layer(str(tmp_path / "um.ome.tif"), data, {"scale": (2e-5, 2e-5), "units": ("um", "um")})
    assert read(tmp_path / "um.ome.tif").pixel_size_nm == pytest.approx(0.02)
    write_layer(str(tmp_path / "px.ome.tif"), data, {"scale": (2.0, 2.0), "units": ("pixel", "pixel")})
    assert read(tmp_path / "px.ome.tif").pixel_size_nm is None


def test_layer_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match="only images"):
        write_layer(str(tmp_path / "x.ome.tif"), np.zeros((2, 2, 4, 4)), {})
    with pytest.raises(WriteError, match="cannot be written"):
        write_layer(str(tmp_path / "missing" / "x.ome.tif"), np.zeros((8, 8), np.uint8), {})


@pytest.mark.parametrize("by", ["folder", "analysis.json"])
def test_exported_folder_opens_as_layers(by: str, tmp_path: Path) -> None:
    path = sample_folder() / "gaas_twin.tif"
    analysis = analysed("gaas_twin")
    folder = save(analysis, tmp_path / "result")
    discover()
    viewer = ViewerModel()
    viewer.open(folder if by == "folder" else folder / by, plugin=PLUGIN)
    found = {role_of(layer): layer for layer in viewer.layers}
    assert_array_equal(found[None].data, read(path).data)
    assert_array_equal(found[Role.LABELS].data, analysis.labels)
    assert_array_equal(found[Role.SEVERITY].data, analysis.severity)
    assert_allclose(found[Role.BEST_PATCH].data, [[analysis.best_patch.y, analysis.best_patch.x]])
    for layer in viewer.layers:
        assert_allclose(layer.scale, [analysis.micrograph.pixel_size_nm] * 2)
        assert [str(unit) for unit in layer.units] == ["nanometer", "nanometer"]


def test_folder_of_several_lattices_and_of_the_published_pipeline(tmp_path: Path) -> None:
    path = sample_folder() / "gaas_twin.tif"
    discover()
    analysis = analysed("gaas_twin")
    viewer = ViewerModel()
    viewer.open(save(analysis, tmp_path / "twin"), plugin=PLUGIN)
    found = {role_of(layer): layer for layer in viewer.layers}
    assert_array_equal(found[Role.LATTICES].data, domain_image(analysis))
    assert found[Role.LATTICES].data.any()
    assert not found[Role.LATTICES].visible
    # Its severity is no number of standard deviations, so its colours begin and end elsewhere.
    published = pipeline.analyze(read(path), Recipe.published())
    viewer.layers.clear()
    viewer.open(save(published, tmp_path / "published"), plugin=PLUGIN)
    (severity,) = (layer for layer in viewer.layers if role_of(layer) is Role.SEVERITY)
    low, high = severity.contrast_limits
    compared = published.severity[published.valid_mask]
    share = np.mean((compared > low) & (compared < high))
    assert share > 0.9


def test_folder_of_an_older_recipe_still_opens(tmp_path: Path) -> None:
    analysis = analysed("gaas_twin")
    folder = save(analysis, tmp_path / "result")
    info = json.loads((folder / "analysis.json").read_text("utf-8"))
    del info["threshold"]
    info["recipe"] = {"version": 1, "segment": {"threshold": 8.0}}
    (folder / "analysis.json").write_text(json.dumps(info), "utf-8")
    with pytest.raises(RecipeError):
        _ = load(folder).recipe
    discover()
    viewer = ViewerModel()
    viewer.open(folder, plugin=PLUGIN)
    found = {role_of(layer): layer for layer in viewer.layers}
    assert_array_equal(found[Role.LABELS].data, analysis.labels)
    assert_array_equal(found[Role.SEVERITY].data, analysis.severity)


def test_other_folders_are_left_to_other_readers(tmp_path: Path) -> None:
    (tmp_path / "analysis.json").write_text("{}", "utf-8")
    assert get_result_reader(str(tmp_path)) is None
    assert get_result_reader([str(tmp_path), str(tmp_path)]) is None


def test_view_opens_the_panel_and_runs(make_napari_viewer: Any, qtbot: Any, monkeypatch: Any) -> None:
    discover()
    made = make_napari_viewer(show=True)
    monkeypatch.setattr("napari.Viewer", lambda **options: made)
    viewer = open_panel(Micrograph(lattice_image((192, 192), period=11), 0.02, "made up"))
    (panel,) = (widget for name, widget in viewer.window.dock_widgets.items() if "HRSTEM" in name)
    session = panel.session
    qtbot.waitUntil(lambda: session.document.analysis is not None and not session.running, timeout=TIMEOUT)
    assert viewer.layers[0].name == "made up"
    assert {str(state) for state in session.states().values()} == {"current"}


def test_first_panel_and_first_sample_answer_at_once(make_napari_viewer: Any, monkeypatch: Any) -> None:
    """A busy cursor and a word before anything slow is imported or read."""
    from qtpy.QtWidgets import QApplication

    discover()
    viewer = make_napari_viewer(show=True)
    monkeypatch.setattr("napari.current_viewer", lambda: viewer)
    seen: list[tuple[bool, str]] = []
    build = DefectsPanel._build

    def note(*args: Any, **options: Any) -> Any:
        seen.append((QApplication.overrideCursor() is not None, str(viewer.help)))

    monkeypatch.setattr(
        "napari_hrstem_defects.widgets.contributions.read_layers", lambda *a: (note(), read_layers(*a))[1]
    )
    viewer.open_sample(PLUGIN, "gaas_twin")
    monkeypatch.setattr(DefectsPanel, "_build", lambda self: (note(), build(self))[1])
    _, panel = viewer.window.add_plugin_dock_widget(PLUGIN, "HRSTEM defects")
    assert isinstance(panel, DefectsPanel)
    assert seen[0] == (True, "Opening the sample…")
    assert seen[-1] == (True, "Opening HRSTEM defects…")
    assert QApplication.overrideCursor() is None
