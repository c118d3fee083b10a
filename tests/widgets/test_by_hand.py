"""Corrections by hand: the best patch, painted patches and labels."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QShortcut

from napari_hrstem_defects.core import pipeline, steps
from napari_hrstem_defects.core.recipe import Recipe
from napari_hrstem_defects.io import load, read
from napari_hrstem_defects.io.domains import domain_image
from napari_hrstem_defects.widgets.contributions import sample_folder
from napari_hrstem_defects.widgets.outputs import PATCH_CLEAN, PATCH_DEFECTIVE
from napari_hrstem_defects.widgets.roles import KEY, Role, entry

from .conftest import TIMEOUT, analysed, lattice_image, record_steps


def _inwards(made: Any, patch: Any) -> int:
    """Sign of the way along y from a patch to the middle of the image."""
    return 1 if patch.y < made.document.frame_shape[0] / 2 else -1


def test_dragging_the_best_patch_with_the_mouse(desk: Any) -> None:
    made = desk("si_fault_amorphous")
    made.run_all()
    made.show()
    best = made.document.analysis.best_patch
    before = made.layer(Role.SEVERITY).data.copy()
    made.click(made.panel.best_patch.move_button)
    states: list[dict[str, str]] = []
    made.session.changed.connect(lambda: states.append({k: str(v) for k, v in made.session.states().items()}))
    target = (best.y + 260.0 * _inwards(made, best), best.x + 30.0)
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


def test_undo_and_back_to_automatic(bench: Any) -> None:
    made = bench(lattice_image((256, 256)))
    made.run_all()
    automatic = made.document.analysis.best_patch
    severity = made.layer(Role.SEVERITY).data.copy()
    view = made.panel.best_patch
    assert not view.undo.isEnabled()
    assert not view.automatic.isEnabled()
    for point in ((100.0, 80.0), (120.0, 70.0)):
        made.session.edits.place(point)
        made.wait()
    assert "y 120, x 70" in view.place.text()
    made.click(view.undo)
    made.wait()
    assert "y 100, x 80" in view.place.text()
    made.click(view.automatic)
    made.wait()
    assert made.document.analysis.best_patch == automatic
    assert_array_equal(made.layer(Role.SEVERITY).data, severity)
    made.click(view.undo)
    made.wait()
    assert "y 100, x 80" in view.place.text()


def test_add_tool_places_the_best_patch_and_deleting_it_goes_back(bench: Any) -> None:
    made = bench(lattice_image((256, 256)))
    made.run_all()
    made.show()
    automatic = made.document.analysis.best_patch
    layer = made.layer(Role.BEST_PATCH)
    made.viewer.layers.selection.active = layer
    layer.mode = "add"
    made.click_at((100, 100))
    made.wait()
    assert_allclose(made.document.point, (100, 100), atol=3)
    assert len(set(map(tuple, np.round(layer.data)))) == len(layer.data)
    assert_allclose(layer.data[0], made.document.point, atol=1e-6)
    layer.selected_data = {0}
    layer.remove_selected()
    made.wait()
    assert made.document.point is None
    assert made.document.analysis.best_patch == automatic


def test_candidates_are_dimmed_and_the_marker_has_the_size_of_a_patch(bench: Any) -> None:
    made = bench("si_fault_amorphous")
    made.run_all()
    layer = made.layer(Role.BEST_PATCH)
    assert len(layer.data) > 1
    assert set(layer.size) == {made.document.analysis.best_patch.size}
    assert layer.border_color[0, 3] == 1
    assert (layer.border_color[1:, 3] < 0.8).all()
    assert str(layer.symbol[0]) == "square"
    # The eigenfilters of the patch are shown, and others when it is another.
    strip = made.panel.best_patch.filters
    assert strip.isVisible()
    assert strip.count() == min(len(made.document.analysis.banks[0].filters), 14) > 3
    before = strip.grab().toImage()
    made.session.edits.place((150.0, 600.0))
    made.wait()
    assert strip.grab().toImage() != before


def test_patch_dropped_outside_the_image_is_moved_onto_it(bench: Any) -> None:
    made = bench(lattice_image((256, 256)))
    made.run_all()
    made.session.edits.place((-500.0, 9000.0))
    made.wait()
    best = made.document.analysis.best_patch
    assert (best.y, best.x) == (best.size / 2 - 0.5, 256 - best.size / 2 - 0.5)


def test_painting_a_patch_moves_the_best_patch(bench: Any) -> None:
    made = bench("si_fault_amorphous")
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


def test_painted_labels_survive_and_the_table_follows(bench: Any) -> None:
    made = bench("si_fault_amorphous")
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
    made.qtbot.waitUntil(lambda: len(made.document.regions()) == found + 1, timeout=TIMEOUT)
    regions = made.panel.results.table.value()
    assert len(regions) == found + 1
    new = min(regions, key=lambda r: np.hypot(*(np.array(r.centroid) - centre)))
    assert_allclose(new.centroid, centre, atol=4)
    assert_allclose(new.area_px, np.pi * 20**2, rtol=0.4)
    assert made.layer(Role.REGIONS).data[tuple(np.int_(centre))] == new.id
    assert "corrected by hand" in made.document.result().warnings[-1]
    assert_array_equal(made.document.result().labels, layer.data)
    painted, count = layer.data.copy(), len(made.viewer.layers)
    made.run_all()
    assert_array_equal(layer.data, painted)
    assert made.layer(Role.LABELS) is layer
    assert len(made.viewer.layers) == count
    model = made.panel.results.table.regions
    kind = model.headings().index("Kind")
    kinds = {region.id: model.row(region)[kind] for region in model.regions}
    assert [number for number, kind in kinds.items() if "painted" in kind] == [new.id]
    # The twin goes on beyond the rim, so its size is a lower limit.
    areas = {region.id: model.data(model.index(row, 3)) for row, region in enumerate(model.regions)}
    assert not areas[new.id].startswith("≥")
    assert all(areas[region.id].startswith("≥") for region in regions if region.at_rim)
    assert any(region.at_rim for region in regions)


def test_renamed_reordered_hidden_and_deleted_layers_are_found(bench: Any) -> None:
    made = bench(lattice_image((192, 192), period=11))
    made.run_all()
    severity, labels = made.layer(Role.SEVERITY), made.layer(Role.LABELS)
    source = made.document.layer
    severity.name, labels.name, source.name = "a", "a", "b"
    assert made.panel.image.currentText() == "b"
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


def test_buttons_of_deleted_layers_are_off(bench: Any) -> None:
    made = bench(lattice_image((192, 192), period=11))
    buttons = {
        Role.LABELS: made.panel.paint_labels,
        Role.PATCHES: made.panel.patches,
        Role.BEST_PATCH: made.panel.best_patch.move_button,
    }
    assert not any(button.isEnabled() for button in buttons.values())
    made.run_all()
    for role, button in buttons.items():
        assert button.isEnabled()
        made.viewer.layers.remove(made.layer(role))
        assert not button.isEnabled()
    made.run_all()
    assert all(button.isEnabled() for button in buttons.values())


def test_metadata_are_merged_and_carry_the_provenance(bench: Any) -> None:
    made = bench()
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


def test_lattices_have_their_patches_a_map_and_tick_boxes(bench: Any, tmp_path: Path) -> None:
    made = bench()  # a twin in GaAs: two lattices
    made.run_all()
    view = made.panel.lattices
    second = made.document.analysis.domains.domains[1]
    texts = [view.table.item(1, column).text() for column in range(1, 6)]
    assert view.about.text() == "2 lattices"
    share = np.mean(made.document.analysis.domains.index == 1)
    assert (texts[0], texts[1]) == ("twin (Σ3)", f"{second.misorientation_deg:.1f}°")
    assert texts[-1] == f"{100 * share:.1f} %"
    assert view.table.item(1, 0).checkState() == Qt.CheckState.Unchecked
    lattices = made.layer(Role.LATTICES)
    assert not lattices.visible
    assert_array_equal(lattices.data, domain_image(made.document.analysis))
    made.click(view.map)
    assert lattices.visible
    patches = made.layer(Role.LATTICE_PATCHES)
    assert_allclose(patches.data, [[second.patch.y, second.patch.x]])
    assert set(patches.size) == {second.patch.size}
    assert str(patches.symbol[0]) == "square"

    # Ticked, it counts as intact: only its wall and what departs from it is marked.
    before = made.layer(Role.LABELS).data.copy()
    box = view.table.item(1, 0)
    box.setCheckState(Qt.CheckState.Checked)
    assert made.session.running
    made.wait()
    intact = made.document.analysis
    assert [d.crystal for d in intact.domains.domains] == [True, True]
    assert (made.layer(Role.LABELS).data == 1).sum() < (before == 1).sum() / 2
    assert view.table.item(1, 0).checkState() == Qt.CheckState.Checked
    made.panel.actions_.save_recipe(tmp_path / "recipe.json")
    recipe = Recipe.from_json((tmp_path / "recipe.json").read_text("utf-8"))
    repeated = pipeline.analyze(read(sample_folder() / "gaas_twin.tif"), recipe)
    assert_array_equal(repeated.labels, intact.labels)
    # It was said about this image; the parameters for the next one know nothing of it.
    assert made.session.recipe == Recipe()

    made.click(made.panel.best_patch.undo)
    made.wait()
    assert view.table.item(1, 0).checkState() == Qt.CheckState.Unchecked
    assert_array_equal(made.layer(Role.LABELS).data, before)
    made.panel.actions_.load_recipe(tmp_path / "recipe.json")
    made.session.runs.update()
    made.wait()
    assert_array_equal(made.layer(Role.LABELS).data, intact.labels)


def test_tick_needs_no_new_search_for_lattices(bench: Any, monkeypatch: Any) -> None:
    made = bench()
    made.run_all()
    ran = record_steps(monkeypatch)
    made.panel.lattices.table.item(1, 0).setCheckState(Qt.CheckState.Checked)
    made.wait()
    assert ran == ["symmetry", "segment", "regions"]
    assert set(made.states().values()) == {"current"}


def test_dragging_the_patch_of_a_lattice_gives_it_by_hand(bench: Any) -> None:
    made = bench()
    made.run_all()
    made.show()
    patch = made.document.analysis.domains.domains[1].patch
    made.click(made.panel.lattices.move_button)
    layer = made.layer(Role.LATTICE_PATCHES)
    assert layer.mode == "select"
    target = (patch.y, patch.x - 30.0)
    made.drag((patch.y, patch.x), target)
    assert_allclose(made.document.by_hand.lattices, [target], atol=10)
    made.wait()
    moved = made.document.analysis.domains.domains[1].patch
    assert moved.placed == "hand"
    assert_allclose((moved.y, moved.x), made.document.by_hand.lattices[0], atol=2)
    name = made.panel.lattices.table.item(1, 1)
    assert name.text().endswith(" ✎")
    assert name.toolTip().endswith(", patch placed by hand")
    expected = pipeline.analyze(
        read(sample_folder() / "gaas_twin.tif"), made.session.inputs(made.document).recipe
    )
    assert_array_equal(made.layer(Role.LABELS).data, expected.labels)
    # The best patch is none of its business.
    assert made.document.point is None
    layer.selected_data = {0}
    layer.remove_selected()
    made.wait()
    assert made.document.by_hand.lattices == ()
    assert made.document.analysis.domains.domains[1].patch == patch


def test_lattice_that_was_not_found_is_pointed_out(bench: Any) -> None:
    made = bench()
    made.panel.groups["domains"].editors["domains.max_domains"].setValue(1)
    made.run_all()
    made.show()
    view = made.panel.lattices
    assert view.about.text().startswith("a ")
    assert made.layer(Role.LATTICE_PATCHES) is None
    assert not view.table.isVisible()
    other = analysed("gaas_twin").domains.domains[1].patch
    made.click(view.add)
    layer = made.layer(Role.LATTICE_PATCHES)
    assert (layer.mode, len(layer.data)) == ("add", 0)
    made.click_at((other.y, other.x))
    made.wait()
    assert view.table.item(1, 1).text().endswith("✎")
    assert_allclose(layer.data[0], (other.y, other.x), atol=4)
    assert layer.size[0] == other.size


def test_stroke_taken_back_is_out_of_table_and_export(bench: Any, tmp_path: Path) -> None:
    """Ctrl+Z on the labels, as napari offers it."""
    made = bench("si_fault_amorphous")
    made.run_all()
    made.show()
    found, regions = made.layer(Role.LABELS).data.copy(), made.document.regions()
    made.click(made.panel.paint_labels)
    layer = made.layer(Role.LABELS)
    layer.brush_size = 40
    clean = made.document.analysis.patches.grid.centres[
        tuple(np.argwhere(~made.document.analysis.patches.defective)[0])
    ]
    strokes = [clean, np.add(clean, (0.0, 60.0))]
    for count, centre in enumerate(strokes, start=1):
        made.drag(centre, np.add(centre, 2), steps=3)
        made.qtbot.waitUntil(
            lambda count=count: len(made.document.regions()) == len(regions) + count, timeout=TIMEOUT
        )
    assert "painted" in made.panel.region_count.text()
    layer.undo()
    made.qtbot.waitUntil(lambda: len(made.document.regions()) == len(regions) + 1, timeout=TIMEOUT)
    assert_array_equal(made.document.result().labels, layer.data)
    layer.redo()
    made.qtbot.waitUntil(lambda: len(made.document.regions()) == len(regions) + 2, timeout=TIMEOUT)
    layer.undo()
    layer.undo()
    made.qtbot.waitUntil(lambda: made.panel.results.table.value() == regions, timeout=TIMEOUT)
    assert_array_equal(layer.data, found)
    assert "painted" not in made.panel.region_count.text()
    assert made.layer(Role.REGIONS).data.max() == len(regions)
    folder = made.panel.actions_.export(tmp_path)
    made.wait()
    written = load(folder)
    assert_array_equal(written.labels, found)
    assert not any("corrected by hand" in text for text in written.info["warnings"])
    assert made.document.by_hand.painted == {}


def test_painted_patch_taken_back_is_judged_by_the_program(bench: Any) -> None:
    made = bench("si_fault_amorphous")
    made.run_all()
    made.show()
    before = made.document.analysis.best_patch
    made.click(made.panel.patches)
    layer = made.layer(Role.PATCHES)
    made.drag((before.y, before.x), (before.y + 1, before.x + 1), steps=2)
    made.wait()
    assert made.document.analysis.screened.classifier == "hand"
    layer.undo()
    made.qtbot.waitUntil(lambda: made.document.analysis.screened.classifier != "hand", timeout=TIMEOUT)
    made.wait()
    assert made.document.analysis.best_patch == before
    assert "painted" not in made.panel.patch_count.text()
    assert set(made.states().values()) == {"current"}


def test_square_held_while_a_result_arrives_stays_under_the_mouse(desk: Any, monkeypatch: Any) -> None:
    """The next place is already being chosen while the layers of the last one are written."""
    made = desk("si_fault_amorphous")
    made.run_all()
    made.show()
    made.click(made.panel.best_patch.move_button)
    best, layer = made.document.analysis.best_patch, made.layer(Role.BEST_PATCH)
    held, compare = threading.Event(), steps.compare
    monkeypatch.setattr(
        steps, "compare", lambda *args, **options: (held.wait(60), compare(*args, **options))[1]
    )
    # Near enough that no candidate lies above it.
    step = _inwards(made, best)
    first, last = (best.y + 15.0 * step, best.x), (best.y + 260.0 * step, best.x)
    made.session.edits.place(first)
    assert made.session.running
    native = made.viewer.window._qt_viewer.canvas.native
    path = [made.canvas_position(point) for point in (first, np.add(first, (30 * step, 0)), last)]
    made.qtbot.mouseMove(native, path[0])
    made.qtbot.mousePress(native, Qt.MouseButton.LeftButton, pos=path[0])
    made.move(path[1])
    assert made.document.moving is Role.BEST_PATCH
    held.set()
    made.wait()
    assert_allclose(made.document.analysis.best_patch.y, first[0])
    assert_allclose(layer.data[0], np.add(first, (30 * step, 0)), atol=3)
    assert made.states()["symmetry"] == "stale"
    made.move(path[2])
    made.qtbot.mouseRelease(native, Qt.MouseButton.LeftButton, pos=path[2])
    assert_allclose(made.document.point, last, atol=3)
    made.wait()
    assert made.document.moving is None
    assert set(made.states().values()) == {"current"}
    assert_allclose(layer.data[0], made.document.point, atol=1e-6)


def test_patches_follow_the_verdict_on_their_lattice(bench: Any, tmp_path: Path) -> None:
    """A second phase that is called a defect takes its patches with it, without another classification."""
    made = bench(_two_phases())
    made.run_all()
    table = made.panel.lattices.table
    assert table.item(1, 1).text() == "second phase"
    assert table.item(1, 0).checkState() == Qt.CheckState.Checked
    grid = made.document.analysis.patches.grid
    left = grid.centres[..., 1] + grid.size / 2 < 256
    reference_left = made.document.analysis.best_patch.x < 256
    there = ~left if reference_left else left
    patches = made.layer(Role.PATCHES)
    assert (patches.data[there] == PATCH_CLEAN).all()
    made.panel.lattices.table.item(1, 0).setCheckState(Qt.CheckState.Unchecked)
    made.wait()
    assert set(made.states().values()) == {"current"}
    assert (patches.data[there] == PATCH_DEFECTIVE).all()
    expected = pipeline.analyze(made.document.analysis.micrograph, made.session.inputs(made.document).recipe)
    assert_array_equal(made.document.analysis.patches.defective, expected.patches.defective)
    assert_array_equal(patches.data == PATCH_DEFECTIVE, expected.patches.defective)
    made.click(made.panel.best_patch.undo)
    made.wait()
    assert (patches.data[there] == PATCH_CLEAN).all()


def _two_phases() -> Any:
    """The left half of a lattice continued by brighter columns and others between them."""
    y, x = np.indices((512, 512))
    one, other = np.cos(2 * np.pi * x / 14), np.cos(2 * np.pi * y / 14)
    film = 4 + one + other + 1.2 * np.cos(2 * np.pi * (x + y) / 14)
    image = np.where(x < 256, 2 + one + other, film)
    return (image + np.random.default_rng(0).normal(0, 0.25, image.shape)).astype(np.float32)


def test_result_that_is_out_of_date_says_so_when_it_is_exported(bench: Any, tmp_path: Path) -> None:
    made = bench(lattice_image((192, 192), period=11))
    made.run_all()
    made.panel.actions_.export(tmp_path)
    made.wait()
    assert "was written to" in made.panel.messages.text()
    assert "out of date" not in made.panel.messages.text()
    made.click(made.panel.auto)
    made.session.edits.place((100.0, 60.0))
    made.panel.actions_.export(tmp_path, overwrite=True)
    made.wait()
    assert "out of date" in made.panel.messages.text()


def _clean_centres(made: Any) -> Any:
    """Centres of patches far from the rim in which nothing was found."""
    grid = made.document.analysis.patches.grid
    inside = ~made.document.analysis.patches.defective
    inside[[0, -1]] = inside[:, [0, -1]] = False
    return grid.centres[inside]


def _stroke(made: Any, centre: Any, label: int = 1, size: int = 40) -> Any:
    """Paint a spot over the labels with the mouse; returns its pixels."""
    made.click(made.panel.paint_labels)
    layer = made.layer(Role.LABELS)
    layer.selected_label, layer.brush_size = label, size
    before = layer.data.copy()
    made.drag(centre, np.add(centre, 2), steps=3)
    spot = np.asarray(layer.data) != before
    assert spot.any()
    return spot


def test_stroke_survives_threshold_best_patch_and_steps(bench: Any, tmp_path: Path) -> None:
    """Whatever is run again: the stroke is on the canvas, in the table, counted, and in the export."""
    made = bench("si_fault_amorphous")
    # As far as the severity exceeds a share of the threshold.
    made.panel.groups["segment"].editors["segment.overlap"].setValue(0.0)
    made.run_all()
    made.show()
    layer = made.layer(Role.LABELS)
    spot = _stroke(made, _clean_centres(made)[0])
    y, x = np.argwhere(spot).mean(0)
    erased = made.document.analysis.labels == 1
    erased &= np.hypot(*(np.indices(erased.shape) - np.argwhere(erased)[0][:, None, None])) < 30
    layer.data[erased] = 0
    layer.events.paint(value=[])
    count = np.count_nonzero(spot | erased)

    def check() -> None:
        made.wait()
        (painted,) = made.document.by_hand.painted.values()
        made.qtbot.waitUntil(lambda: made.document.labelled[0].correction is painted, timeout=TIMEOUT)
        assert f"{count} px painted" in made.panel.region_count.text()
        automatic = made.document.analysis.labels
        assert made.layer(Role.LABELS) is layer
        assert layer.visible
        assert (layer.data[spot] == 1).all()
        assert (layer.data[erased] == 0).all()
        assert_array_equal(layer.data[~(spot | erased)], automatic[~(spot | erased)])
        assert_array_equal(made.document.result().labels, layer.data)
        model = made.panel.results.table.regions
        near = [r for r in model.regions if np.hypot(r.centroid[0] - y, r.centroid[1] - x) < 40]
        rows = [model.regions.index(region) for region in near]
        assert ["✎" in model.index(row, 0).data() for row in rows] == [True]

    check()
    before = made.document.analysis.labels.copy()
    made.panel.threshold.slider.setValue(made.panel.threshold.slider.maximum())
    check()
    assert not np.array_equal(made.document.analysis.labels, before)
    made.session.edits.place((150.0, 600.0))
    check()
    for step in ("preprocess", "symmetry", "segment"):
        made.click(made.panel.groups[step].button)
        check()
    made.click(made.panel.best_patch.undo)  # the patch goes back, the strokes stay
    check()
    folder = made.panel.actions_.export(tmp_path)
    made.wait()
    assert_array_equal(load(folder).labels, layer.data)
    made.viewer.layers.remove(layer)
    made.run_all()
    assert (made.layer(Role.LABELS).data[spot] == 1).all()


def test_undo_and_discard_of_strokes(bench: Any) -> None:
    made = bench("si_fault_amorphous")
    made.run_all()
    made.show()
    found = made.layer(Role.LABELS).data.copy()
    centres = _clean_centres(made)
    first = _stroke(made, centres[0])
    second = _stroke(made, centres[-1], label=2)
    layer = made.layer(Role.LABELS)
    assert made.panel.discard.isVisible()
    made.click(made.panel.best_patch.undo)
    assert (layer.data[first] == 1).all()
    assert (layer.data[second] == 0).all()
    made.click(made.panel.discard)
    assert_array_equal(layer.data, found)
    assert not made.panel.discard.isVisible()
    made.click(made.panel.best_patch.undo)
    assert (layer.data[first] == 1).all()
    # A stroke that is older than the labels can be taken back on the canvas as well.
    made.panel.threshold.number.setValue(0.001)
    made.wait()
    for _ in range(2):
        layer.undo()
        made.qtbot.wait(300)
    made.qtbot.waitUntil(lambda: not made.document.by_hand.painted, timeout=TIMEOUT)
    assert_array_equal(layer.data, made.document.analysis.labels)


def test_stroke_painted_during_a_run_is_kept(bench: Any, monkeypatch: Any) -> None:
    made = bench("si_fault_amorphous")
    made.run_all()
    made.show()
    held, compare = threading.Event(), steps.compare
    monkeypatch.setattr(
        steps, "compare", lambda *args, **options: (held.wait(60), compare(*args, **options))[1]
    )
    made.session.edits.place((150.0, 600.0))
    assert made.session.running
    spot = _stroke(made, _clean_centres(made)[0])
    held.set()
    made.wait()
    layer = made.layer(Role.LABELS)
    assert (layer.data[spot] == 1).all()
    assert_array_equal(layer.data[~spot], made.document.analysis.labels[~spot])
    made.qtbot.waitUntil(lambda: bool(made.document.labelled[0].painted), timeout=TIMEOUT)
    assert_array_equal(made.document.result().labels, layer.data)


@pytest.mark.parametrize("role", [Role.LABELS, Role.PATCHES])
def test_numbers_that_mean_nothing_are_refused(bench: Any, role: Role) -> None:
    made = bench(lattice_image((192, 192), period=11))
    made.run_all()
    layer = made.layer(role)
    before = layer.data.copy()
    layer.selected_label = 3
    assert layer.selected_label == 2
    assert "nothing else" in made.panel.messages.text()
    if role is Role.LABELS:
        made.session.noticed.emit("")
        layer.data[10:20, 10:20] = 7
        layer.events.paint(value=[])
        assert_array_equal(layer.data, before)
        assert "nothing else" in made.panel.messages.text()
        assert made.document.by_hand.painted == {}


def test_labels_before_corrections_are_shown_and_nothing_is_changed(bench: Any, tmp_path: Path) -> None:
    made = bench("si_fault_amorphous")
    panel, viewer = made.panel, made.viewer
    # As far as the severity exceeds a share of the threshold.
    made.panel.groups["segment"].editors["segment.overlap"].setValue(0.0)
    made.run_all()
    made.show()
    toggle = next(s for s in panel.findChildren(QShortcut) if s.key().toString() == "U").activated.emit
    toggle()
    assert "no corrections" in panel.messages.text()
    assert made.layer(Role.LABELS_BEFORE) is None
    spot = _stroke(made, _clean_centres(made)[0])
    made.qtbot.waitUntil(lambda: bool(made.document.known().painted), timeout=TIMEOUT)
    layer, painted, rows = made.layer(Role.LABELS), made.document.by_hand, panel.results.table.value()
    corrected_labels, found = layer.data.copy(), made.document.analysis.labels

    made.click(panel.before)
    before = made.layer(Role.LABELS_BEFORE)
    assert (before.visible, layer.visible, panel.before.isChecked()) == (True, False, True)
    assert panel.before.text() == "Back to corrected"
    assert_array_equal(before.data, found)
    assert not before.data[spot].any()
    before.mode = "paint"
    assert before.mode == "pan_zoom"  # a stroke would be in no record
    overlays = viewer.canvas.overlays
    assert overlays["hrstem_defects_before"].visible
    assert "before corrections" in overlays["hrstem_defects_before"].text
    assert f"{100 * np.mean(found == 1):.1f} %" in overlays["hrstem_defects_symmetry_defect"].text
    assert (made.document.by_hand, panel.results.table.value()) == (painted, rows)
    folder = panel.actions_.export(tmp_path)
    made.wait()
    assert_array_equal(load(folder).labels, corrected_labels)

    # It follows a run, and the corrected labels come back with what was painted.
    panel.threshold.slider.setValue(panel.threshold.slider.maximum())
    made.wait()
    assert not np.array_equal(made.document.analysis.labels, found)
    assert_array_equal(before.data, made.document.analysis.labels)
    toggle()
    assert made.layer(Role.LABELS_BEFORE) is None
    assert (layer.visible, panel.before.isChecked(), panel.before.text()) == (True, False, "Show before")
    assert not overlays["hrstem_defects_before"].visible
    assert (layer.data[spot] == 1).all()
    assert made.document.by_hand.painted is painted.painted
    # To paint, and when there is nothing to compare with, the corrected ones are shown.
    for end in (panel.paint_labels, panel.discard):
        toggle()
        assert not layer.visible
        made.click(end)
        assert (made.layer(Role.LABELS_BEFORE), layer.visible) == (None, True)
    assert not panel.before.isVisible()
