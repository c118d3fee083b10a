"""Corrections by hand: the best patch, painted patches and labels."""

from typing import Any

import numpy as np
from numpy.testing import assert_allclose, assert_array_equal
from qtpy.QtCore import Qt

from napari_hrstem_defects.core import pipeline
from napari_hrstem_defects.io import read
from napari_hrstem_defects.widgets._samples import sample_folder
from napari_hrstem_defects.widgets.outputs import PATCH_CLEAN, PATCH_DEFECTIVE
from napari_hrstem_defects.widgets.roles import KEY, Role, entry


def test_dragging_the_best_patch_with_the_mouse(desk: Any) -> None:
    made = desk("si_fault_amorphous")
    made.run_all()
    made.show()
    best = made.document.analysis.best_patch
    before = made.layer(Role.SEVERITY).data.copy()
    made.click(made.panel.best_patch.move_button)
    states: list[dict[str, str]] = []
    made.session.changed.connect(lambda: states.append({k: str(v) for k, v in made.session.states().items()}))
    target = (best.y - 260.0, best.x + 30.0)
    made.drag((best.y, best.x), target)
    # While the button was still down the later steps were said to be stale.
    assert states[0]["symmetry"] == states[0]["segment"] == "stale"
    assert states[0]["preprocess"] == states[0]["classify"] == "current"
    made.wait()
    placed = made.document.analysis.best_patch
    assert placed.placed == "hand"
    assert_allclose((placed.y, placed.x), target, atol=3)
    assert_allclose(made.layer(Role.BEST_PATCH).data[0], (placed.y, placed.x), atol=1e-6)
    expected = pipeline.analyze(
        read(sample_folder() / "si_fault_amorphous.tif"), best_patch=(placed.y, placed.x)
    )
    assert_array_equal(made.layer(Role.SEVERITY).data, expected.severity)
    assert not np.array_equal(made.layer(Role.SEVERITY).data, before)
    assert set(made.states().values()) == {"current"}
    made.run_all()
    assert_allclose(
        (made.document.analysis.best_patch.y, made.document.analysis.best_patch.x), (placed.y, placed.x)
    )


def test_undo_and_back_to_automatic(desk: Any) -> None:
    made = desk()
    made.run_all()
    automatic = made.document.analysis.best_patch
    severity = made.layer(Role.SEVERITY).data.copy()
    view = made.panel.best_patch
    assert not view.undo.isEnabled()
    assert not view.automatic.isEnabled()
    for point in ((300.0, 400.0), (200.0, 420.0)):
        made.session.edits.place(point)
        made.wait()
    assert "y 200, x 420" in view.place.text()
    made.click(view.undo)
    made.wait()
    assert "y 300, x 400" in view.place.text()
    made.click(view.automatic)
    made.wait()
    assert made.document.analysis.best_patch == automatic
    assert_array_equal(made.layer(Role.SEVERITY).data, severity)
    made.click(view.undo)
    made.wait()
    assert "y 300, x 400" in view.place.text()


def test_add_tool_places_the_best_patch_and_deleting_it_goes_back(desk: Any) -> None:
    made = desk()
    made.run_all()
    made.show()
    automatic = made.document.analysis.best_patch
    layer = made.layer(Role.BEST_PATCH)
    made.viewer.layers.selection.active = layer
    layer.mode = "add"
    native = made.viewer.window._qt_viewer.canvas.native
    position = made.canvas_position((330, 330))
    made.qtbot.mouseMove(native, position)
    made.qtbot.mouseClick(native, Qt.MouseButton.LeftButton, pos=position)
    made.wait()
    assert_allclose((made.document.point), (330, 330), atol=3)
    assert len(set(map(tuple, np.round(layer.data)))) == len(layer.data)
    assert_allclose(layer.data[0], made.document.point, atol=1e-6)
    layer.selected_data = {0}
    layer.remove_selected()
    made.wait()
    assert made.document.point is None
    assert made.document.analysis.best_patch == automatic


def test_candidates_are_dimmed_and_the_marker_has_the_size_of_a_patch(desk: Any) -> None:
    made = desk("si_fault_amorphous")
    made.run_all()
    layer = made.layer(Role.BEST_PATCH)
    assert len(layer.data) > 1
    assert set(layer.size) == {made.document.analysis.best_patch.size}
    assert layer.border_color[0, 3] == 1
    assert (layer.border_color[1:, 3] < 0.8).all()
    assert str(layer.symbol[0]) == "square"


def test_patch_dropped_outside_the_image_is_moved_onto_it(desk: Any) -> None:
    made = desk()
    made.run_all()
    made.session.edits.place((-500.0, 9000.0))
    made.wait()
    best = made.document.analysis.best_patch
    assert (best.y, best.x) == (best.size / 2 - 0.5, 512 - best.size / 2 - 0.5)


def test_painting_a_patch_moves_the_best_patch(desk: Any) -> None:
    made = desk("si_fault_amorphous")
    made.run_all()
    made.show()
    best, size = made.document.analysis.best_patch, made.document.analysis.patches.grid.size
    made.click(made.panel.patches)
    layer = made.layer(Role.PATCHES)
    assert (layer.mode, layer.visible, layer.selected_label) == ("paint", True, PATCH_DEFECTIVE)
    cell = (int(best.y // size), int(best.x // size))
    assert layer.data[cell] == PATCH_CLEAN
    made.drag((best.y, best.x), (best.y + 1, best.x + 1), steps=2)
    assert layer.data[cell] == PATCH_DEFECTIVE
    made.wait()
    after = made.document.analysis
    assert after.screened.classifier == "hand"
    assert after.screened.defective[cell]
    assert (after.best_patch.y, after.best_patch.x) != (best.y, best.x)
    assert "painted" in made.panel.patch_count.text()
    painted = layer.data.copy()
    made.run_all()
    assert made.layer(Role.PATCHES) is layer
    assert_array_equal(layer.data, painted)
    made.viewer.layers.remove(layer)
    made.run_all()
    assert made.document.analysis.screened.classifier != "hand"


def test_painted_labels_survive_and_the_table_follows(desk: Any) -> None:
    made = desk("si_fault_amorphous")
    made.run_all()
    made.show()
    layer = made.layer(Role.LABELS)
    found = len(made.document.regions())
    made.click(made.panel.paint_labels)
    layer.selected_label, layer.brush_size = 1, 40
    clean = np.argwhere(made.document.analysis.patches.defective == 0)[0]
    centre = made.document.analysis.patches.grid.centres[tuple(clean)]
    made.drag(centre, np.add(centre, 2), steps=3)
    assert layer.data[tuple(np.int_(centre))] == 1
    made.qtbot.waitUntil(lambda: made.document.correction is not None, timeout=10_000)
    regions = made.panel.results.table.value()
    assert len(regions) == found + 1
    new = min(regions, key=lambda r: np.hypot(*(np.array(r.centroid) - centre)))
    assert_allclose(new.centroid, centre, atol=4)
    assert_allclose(new.area_px, np.pi * 20**2, rtol=0.4)
    assert made.layer(Role.REGIONS).data[tuple(np.int_(centre))] == new.id
    assert "corrected by hand" in made.document.result().warnings[-1]
    assert_array_equal(made.document.result().labels, layer.data)
    painted, name = layer.data.copy(), layer.name
    made.run_all()
    assert_array_equal(layer.data, painted)
    assert layer in made.viewer.layers
    fresh = made.layer(Role.LABELS)
    assert fresh is not layer
    assert fresh.data[tuple(np.int_(centre))] == 0
    assert f"“{name}” was kept" in made.panel.messages.text()
    count = len(made.viewer.layers)
    made.run_all()
    assert len(made.viewer.layers) == count


def test_renamed_reordered_hidden_and_deleted_layers_are_found(desk: Any) -> None:
    made = desk()
    made.run_all()
    severity, labels = made.layer(Role.SEVERITY), made.layer(Role.LABELS)
    source = made.document.layer
    severity.name, labels.name, source.name = "a", "a", "b"
    assert made.panel.image._list.currentText() == "b"
    made.viewer.layers.reverse()
    severity.visible = False
    made.viewer.layers.remove(made.layer(Role.VARIANCE))
    severity.data = np.zeros_like(severity.data)
    made.run_all()
    assert made.layer(Role.SEVERITY) is severity
    assert made.layer(Role.LABELS) is labels
    assert not severity.visible
    assert (severity.name, labels.name) == ("a", "a [1]")
    assert severity.data.any()
    assert made.layer(Role.VARIANCE) is not None
    assert set(made.states().values()) == {"current"}


def test_metadata_are_merged_and_carry_the_provenance(desk: Any) -> None:
    made = desk()
    made.run_all()
    severity = made.layer(Role.SEVERITY)
    severity.metadata["mine"] = {"kept": True}
    made.session.edits.place((200.0, 400.0))
    made.wait()
    assert severity.metadata["mine"] == {"kept": True}
    provenance = entry(severity)["provenance"]
    analysis = made.document.analysis
    assert provenance["recipe"] == analysis.recipe.to_dict()
    assert provenance["input_sha256"] == read(sample_folder() / "gaas_twin.tif").sha256
    assert provenance["best_patch"]["placed"] == "hand"
    assert provenance["pixel_size_nm"] == analysis.micrograph.pixel_size_nm
    assert entry(severity)["source"] == str(made.document.layer.unique_id)
    assert KEY in made.document.layer.metadata  # the reader's notices
