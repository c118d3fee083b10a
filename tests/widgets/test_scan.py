"""What a scan with an ensemble leaves in napari; the networks themselves are made up here."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from qtpy.QtCore import Qt

from napari_hrstem_defects.io import load
from napari_hrstem_defects.models.scan import UNCERTAIN
from napari_hrstem_defects.widgets.roles import Role, entry, part_of, role_of

from .conftest import CLASSES, TIMEOUT, made_up


def _expected_type(region: Any, regions: Any, classes: Any) -> tuple[str, float] | None:
    """By plain counting over the whole image."""
    inside = classes[regions == region.id]
    counts = {number: np.count_nonzero(inside == number) for number in range(1, len(CLASSES))}
    best = max(counts, key=lambda number: counts[number])
    return (CLASSES[best], counts[best] / inside.size) if counts[best] else None


def test_a_layer_for_each_class_and_one_for_all(bench: Any, scan: Any) -> None:
    made = bench()
    found = made_up((512, 512))
    scan(made, found)
    for role, data in ((Role.CLASS_SCORES, found.probabilities), (Role.CLASS_VOTES, found.votes)):
        parts = made.parts(role)
        assert tuple(parts) == CLASSES
        for number, layer in enumerate(parts.values()):
            assert_array_equal(layer.data, data[number])
            assert np.shares_memory(layer.data, data)  # nothing is copied
            assert not layer.visible
            assert part_of(layer) == CLASSES[number]
            assert CLASSES[number] in layer.name
            assert_allclose(layer.scale, made.document.layer.scale)
            assert [str(unit) for unit in layer.units] == ["nanometer", "nanometer"]
            assert entry(layer)["provenance"]["classifier"] == "stripes"
    classes = made.layer(Role.CLASSES)
    assert classes.visible
    assert_array_equal(classes.data, found.labels)
    assert set(np.unique(classes.data)) == {0, 1, 2, UNCERTAIN}
    assert list(classes.features["class"]) == [*CLASSES, "uncertain"]
    colours = [classes.get_color(number) for number in (1, 2, UNCERTAIN)]
    assert not np.allclose(colours[0], colours[1])
    assert made.session.images() == [made.document.layer]
    assert set(made.states().values()) == {"not run"}


def test_table_shows_the_regions_of_a_scan_until_there_are_others(bench: Any, scan: Any) -> None:
    made = bench()
    found = made_up((512, 512))
    scan(made, found)
    table = made.panel.results.table
    assert [region.type for region in table.value()] == [region.type for region in found.regions]
    assert {region.type for region in table.value()} == set(CLASSES[1:])
    model = table.regions
    assert model.data(model.index(0, model.headings().index("Kind"))) == "class of the scan"
    assert {"Mean probability", "Max. probability"} < set(model.headings())
    # Beside the type the colour that it has in the image.
    for row, region in enumerate(table.value()):
        swatch = model.data(model.index(row, 1), Qt.ItemDataRole.DecorationRole).toImage().pixelColor(0, 0)
        colour = made.layer(Role.CLASSES).get_color(CLASSES.index(region.type))
        assert_allclose(swatch.getRgbF(), colour, atol=0.01)
        assert model.data(model.index(row, 0), Qt.ItemDataRole.DecorationRole) is None
    assert table.value()[0].mean_severity == pytest.approx(found.regions[0].mean_severity)
    # It is painted: the table follows.
    classes, before = made.layer(Role.CLASSES), table.value()
    classes.data[:, : classes.data.shape[1] // 2] = 2
    classes.data[0, 0] = 77
    classes.events.paint(value=[])
    made.qtbot.waitUntil(lambda: table.value() != before, timeout=TIMEOUT)
    assert max(table.value(), key=lambda region: region.area_px).type == CLASSES[2]
    nm = float(made.document.layer.scale[-1])
    assert table.value()[0].area_nm2 == pytest.approx(table.value()[0].area_px * nm**2)
    made.run_all()
    assert {"Mean severity", "Max. severity"} < set(model.headings())
    assert {region.label for region in table.value()} == {1}


def test_regions_carry_the_class_into_table_and_export(bench: Any, scan: Any, tmp_path: Path) -> None:
    made = bench("si_fault_amorphous")
    # So low that small regions of no type come to the two that are known.
    made.panel.groups["segment"].editors["segment.extent"].setValue(0.15)
    made.run_all()
    before = made.document.regions()
    found = made_up(made.document.frame_shape)
    scan(made, found)
    regions = made.panel.results.table.value()
    assert len(regions) == len(before)
    numbered = made.layer(Role.REGIONS)
    typed = 0
    for region, old in zip(regions, before, strict=True):
        expected = _expected_type(region, numbered.data, found.labels)
        if expected is None or (old.type != "unknown" and old.confidence >= expected[1]):
            assert region == old  # what is known with more confidence is not overwritten
        else:
            typed += 1
            assert (region.type, region.confidence) == (expected[0], pytest.approx(expected[1]))
            assert dataclasses.replace(region, type=old.type, confidence=old.confidence) == old
    assert typed
    assert list(numbered.features["type"])[1:] == [region.type for region in regions]
    # The same after another run, for it is the same image.
    made.run_all()
    assert made.panel.results.table.value() == regions
    folder = made.panel.actions_.export(tmp_path)
    made.wait()
    written = load(folder)
    assert [row["type"] for row in written.regions] == [region.type for region in regions]
    assert any("“stripes”" in text for text in written.info["warnings"])
    # Nothing of it where the pixels are others.
    made.document.layer.data = np.asarray(made.document.layer.data)[::-1].copy()
    made.run_all()
    assert not {region.type for region in made.document.regions()} & set(CLASSES)


def test_painted_regions_have_a_class_as_well(bench: Any, scan: Any) -> None:
    made = bench("si_fault_amorphous")
    made.run_all()
    made.show()
    found = made_up(made.document.frame_shape)
    scan(made, found)
    centre = (130.0, 0.5 * made.document.frame_shape[1])
    made.click(made.panel.paint_labels)
    layer = made.layer(Role.LABELS)
    layer.selected_label, layer.brush_size = 1, 30
    made.drag(centre, np.add(centre, 1), steps=2)
    made.qtbot.waitUntil(lambda: bool(made.document.labelled[0].painted), timeout=TIMEOUT)
    region = min(made.panel.results.table.value(), key=lambda r: np.hypot(*np.subtract(r.centroid, centre)))
    assert region.type == CLASSES[found.labels[tuple(np.int_(centre))]]
    # The map of the classes may be painted, too.
    classes = made.layer(Role.CLASSES)
    y0, x0, y1, x1 = region.bbox
    classes.data[y0:y1, x0:x1] = 1
    classes.events.paint(value=[])

    def type_there() -> str:
        return str(
            min(
                made.panel.results.table.value(), key=lambda r: np.hypot(*np.subtract(r.centroid, centre))
            ).type
        )

    made.qtbot.waitUntil(lambda: type_there() == CLASSES[1], timeout=TIMEOUT)


def test_scan_with_another_ensemble_replaces_the_layers(bench: Any, scan: Any) -> None:
    made = bench()
    shape = made.document.frame_shape
    scan(made, made_up(shape))
    kept = made.parts(Role.CLASS_SCORES)["twin"]
    painted = made.parts(Role.CLASS_VOTES)["SF 1"]
    painted.events.paint(value=[])
    count = len(made.viewer.layers)
    again = made_up(shape, seed=1)
    scan(made, again)
    # The layer that was painted is kept, and there is a new one for it.
    assert len(made.viewer.layers) == count + 1
    assert painted in made.viewer.layers
    assert made.parts(Role.CLASS_VOTES)["SF 1"] is not painted
    assert_array_equal(kept.data, again.probabilities[2])
    other = ("bulk", "twin")
    scan(made, made_up(shape, other), "two")
    for role in (Role.CLASS_SCORES, Role.CLASS_VOTES):
        assert tuple(made.parts(role)) == other
    roles = [role_of(layer) for layer in made.viewer.layers]
    assert roles.count(Role.CLASS_SCORES) == 2
    assert roles.count(Role.CLASS_VOTES) == 3
    assert painted in made.viewer.layers
    assert kept in made.viewer.layers


def test_scan_of_a_frame_of_a_series(bench: Any, scan: Any, tmp_path: Path) -> None:
    made = bench("si_series")
    made.session.runs.series(fixed=False)
    made.wait()
    made.viewer.dims.set_point(0, 3)
    before = made.panel.results.table.value()
    typed = {region.bbox: region.type for region in before}
    assert set(typed.values()) - {"unknown"}
    labels = made.layer(Role.LABELS)
    spot = np.s_[3, 10:50, 100:140]
    assert not labels.data[spot].any()
    labels.data[spot] = 1
    labels.events.paint(value=[])
    made.qtbot.waitUntil(lambda: len(made.document.labelled[3].painted) > 0, timeout=TIMEOUT)
    # What was not painted keeps its type, though another frame was analysed last.
    before = made.panel.results.table.value()
    assert typed.items() <= {region.bbox: region.type for region in before}.items()
    # Narrow stripes: some region lies in another one than the first.
    classes = ("bulk", "SF 1", "SF 2", "SF 3", "twin", "vacancy", "interstitial")
    found = made_up(made.document.frame_shape, classes)
    scan(made, found)
    layer = made.layer(Role.CLASSES)
    assert layer.data.shape == (1, *made.document.frame_shape)
    assert_allclose(layer.data_to_world((0, 0, 0)), made.document.layer.data_to_world((3, 0, 0)))
    regions = made.panel.results.table.value()
    assert len(regions) == len(before) > 0
    assert {region.type for region in regions} & set(classes)
    made.viewer.dims.set_point(0, 1)
    assert not {region.type for region in made.panel.results.table.value()} & set(classes)
    folder = made.panel.actions_.export(tmp_path)
    made.wait()
    rows = load(folder).regions
    assert [row["type"] for row in rows if row["frame"] == 3] == [region.type for region in regions]
    assert not {row["type"] for row in rows if row["frame"] != 3} & set(classes)
