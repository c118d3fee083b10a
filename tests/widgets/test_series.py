"""Time series in the panel."""

from typing import Any

import dask.array as da
import numpy as np
import pytest
from napari.qt.threading import WorkerBase
from numpy.testing import assert_allclose, assert_array_equal
from qtpy.QtCore import QPoint, Qt
from qtpy.QtGui import QColor

from napari_hrstem_defects.core import pipeline
from napari_hrstem_defects.core.micrograph import Micrograph
from napari_hrstem_defects.core.regions import label_regions
from napari_hrstem_defects.io import load
from napari_hrstem_defects.io.display import SYMMETRY_COLOUR
from napari_hrstem_defects.widgets.roles import Role, entry
from napari_hrstem_defects.widgets.summary import about_series

from .conftest import TIMEOUT, lattice_image, x_of


def _go_to(made: Any, frame: int) -> None:
    made.viewer.dims.set_point(0, frame)


def _frames() -> Any:
    return np.stack([lattice_image((192, 192), period=11, seed=t) for t in range(4)])


def test_shown_frame_alone_then_all_frames(bench: Any, tmp_path: Any) -> None:
    series = Micrograph(_frames())
    made = bench(series.data)
    made.panel.results.widget.resize(700, 150)
    made.panel.results.widget.show()
    assert made.panel.info.text().startswith("4 frames of 192 × 192 px")
    _go_to(made, 3)
    made.run_all()
    expected = [pipeline.analyze(frame) for frame in series]
    labels = made.layer(Role.LABELS)
    assert labels.data.shape == (1, 192, 192)
    assert_array_equal(labels.data[0], expected[3].labels)
    assert_allclose(labels.data_to_world((0, 0, 0)), made.document.layer.data_to_world((3, 0, 0)))
    assert_allclose(made.layer(Role.BEST_PATCH).data[:, 0], 3)
    assert [str(unit) for unit in labels.units] == [str(unit) for unit in made.document.layer.units]
    # Another frame was never analysed, so nothing is said about it, and there is nothing to move or paint in it.
    tools = made.panel.patches, made.panel.best_patch.move_button, made.panel.paint_labels
    assert all(tool.isEnabled() for tool in tools)
    _go_to(made, 1)
    assert set(made.states().values()) == {"stale"}
    assert not any(tool.isEnabled() for tool in tools)

    made.session.runs.series(fixed=False)
    made.wait()
    assert len(made.session.images()) == 1  # none of its own outputs
    stack = made.layer(Role.LABELS)
    assert_array_equal(np.asarray(stack.data), np.stack([frame.labels for frame in expected]))
    assert_array_equal(
        np.asarray(made.layer(Role.SEVERITY).data), np.stack([frame.severity for frame in expected])
    )
    assert_allclose(stack.translate, made.document.layer.translate)
    plot = made.panel.results.sizes.series
    assert plot.isVisible()
    shares = [np.count_nonzero(frame.labels == 1) / frame.labels.size for frame in expected]
    assert_allclose([area["symmetry_defect"] for area in plot.value()[0]], shares)
    for frame in (0, 2):
        made.qtbot.mouseClick(plot, Qt.MouseButton.LeftButton, pos=QPoint(x_of(plot, frame), 40))
        assert made.session.shown_frame() == frame
        assert len(made.panel.results.table.value()) == len(expected[frame].regions)
        assert [tool.isEnabled() for tool in tools] == [False, True, True]

    folder = made.panel.actions_.export(tmp_path)
    made.wait()
    result = load(folder)
    assert result.info["input"]["sha256"] == series.sha256
    assert_array_equal(result.labels, stack.data)


def test_click_and_row_speak_of_the_frame_shown(bench: Any) -> None:
    """After a run on one frame and one on all, whose layer of regions was that of the first."""
    made = bench(np.stack([lattice_image((192, 192), period=11, seed=t) for t in range(3)]))
    made.run_all()
    made.session.runs.series()
    made.wait()
    table = made.panel.results.table
    for frame in (2, 0, 1):
        _go_to(made, frame)
        assert table.selected() == []
        numbers = label_regions(np.asarray(made.layer(Role.LABELS).data[frame]))
        region = max(table.value(), key=lambda r: r.area_px)
        inside = np.argwhere(numbers == region.id)
        made.viewer.layers.selection.active = made.document.layer
        made.click_at(inside[len(inside) // 2])
        assert table.selected() == [region.id]
        outlined = made.layer(Role.REGIONS)
        assert outlined.visible
        assert outlined.get_color(region.id)[3] > 0
        begin = outlined.data_to_world((0, 0, 0))
        assert_allclose(begin, made.document.layer.data_to_world((frame, 0, 0)))
        assert_array_equal(outlined.data[0], numbers)


def test_what_is_not_assessed_is_hatched_in_every_frame(bench: Any) -> None:
    frames = _frames()
    frames[1, 60:120, 60:120] = np.nan
    made = bench(frames)
    _go_to(made, 3)
    made.run_all()
    made.session.runs.series()
    made.wait()
    hatched = np.asarray(made.layer(Role.NOT_ASSESSED).data)
    assert hatched.shape == frames.shape
    assert [np.mean(frame[60:120, 60:120]) > 0.4 for frame in hatched] == [False, True, False, False]
    assert not hatched[0, 60:120, 60:120].any()


def test_best_patch_of_the_shown_frame_serves_all(bench: Any) -> None:
    frames = _frames()
    made = bench(frames)
    _go_to(made, 2)
    made.run_all()
    best = made.document.analysis.best_patch
    made.session.runs.series(fixed=True)
    made.wait()
    expected = [pipeline.analyze(Micrograph(f), best_patch=(best.y, best.x)).labels for f in frames]
    assert_array_equal(np.asarray(made.layer(Role.LABELS).data), np.stack(expected))


def test_every_frame_of_a_series_says_what_was_found_in_it(bench: Any) -> None:
    frames = np.stack([lattice_image((192, 192), period=11, fault=t != 1, seed=t) for t in range(3)])
    frames[2, :20, :20] = np.nan
    made = bench(frames)
    panel = made.panel

    def nothing_is_said(frame: int) -> None:
        _go_to(made, frame)
        for part in (panel.patch_count, panel.best_patch.place, panel.region_count):
            assert part.text() == "–"
        assert "period" not in panel.info.text()
        assert panel.best_patch.filters.count() == 0
        assert panel.threshold.histogram.value() == ()
        assert panel.messages.text() == ""

    # Nothing is said of frames beside the one that was analysed.
    _go_to(made, 2)
    made.run_all()
    assert "filled from the neighbours" in panel.messages.text()
    nothing_is_said(0)
    made.session.runs.series()
    made.wait()
    for t, frame in enumerate(frames):
        expected = pipeline.analyze(Micrograph(frame))
        best = expected.best_patch
        _go_to(made, t)
        assert f"period {expected.lattice.period_px:.1f} px" in panel.info.text()
        assert panel.best_patch.place.text() == f"y {best.y:.0f}, x {best.x:.0f} px · {best.size} px wide"
        defective = expected.patches.defective
        assert panel.patch_count.text() == f"{defective.size} patches · {defective.sum()} defective"
        assert panel.region_count.text().startswith(f"{expected.verdict} · ")
        assert panel.results.table.value() == expected.regions
        assert panel.best_patch.filters.count() > 0
        histogram, _, _ = panel.threshold.histogram.value()
        assert_allclose(histogram.area_periods, expected.area_periods)
        # Its own square is the one that is selected to be dragged.
        made.click(panel.best_patch.move_button)
        layer = made.layer(Role.BEST_PATCH)
        ((number,),) = (layer.selected_data,)
        assert_allclose(layer.data[number], (t, best.y, best.x))
    assert [expected.verdict for expected in map(pipeline.analyze, map(Micrograph, frames[:2]))] == [
        "defective",
        "non-defective",
    ]
    # The warnings are those of the frame, and it is said which frames have others.
    assert "filled from the neighbours. (frame 2)" in panel.messages.text()
    _go_to(made, 0)
    assert panel.messages.text() == "There are other warnings about frame 2; they are shown there."
    _go_to(made, 2)
    # A frame that is analysed otherwise leaves nothing known about the others.
    made.session.edits.place((60.0, 60.0))
    made.wait()
    assert_allclose(made.layer(Role.BEST_PATCH).data[0], (2, 60, 60), atol=5)
    assert set(made.states().values()) == {"current"}
    nothing_is_said(0)


def _lazy(frames: Any, loaded: list[int]) -> Any:
    """Frames of a series on disk, so to speak; which are loaded is noted."""

    def load_frame(block_info: Any = None) -> Any:
        frame = block_info[None]["chunk-location"][0]
        loaded.append(frame)
        return frames[frame : frame + 1]

    chunks = ((1,) * len(frames), *((n,) for n in frames.shape[1:]))
    return da.map_blocks(load_frame, chunks=chunks, dtype=np.float32, meta=np.empty((0, 0, 0)))


def test_only_the_shown_frame_is_loaded(bench: Any) -> None:
    frames, loaded = _frames(), list[int]()
    made = bench(_lazy(frames, loaded), contrast_limits=(0, 4))
    _go_to(made, 3)
    made.qtbot.wait(50)
    loaded.clear()
    made.run_all()
    assert set(loaded) == {3}
    assert made.document.frame == 3
    expected = pipeline.analyze(Micrograph(frames[3]))
    assert_array_equal(made.layer(Role.LABELS).data[0], expected.labels)


def test_all_frames_are_loaded_one_at_a_time(bench: Any, monkeypatch: Any) -> None:
    frames, loaded = _frames(), list[int]()
    made = bench(_lazy(frames, loaded), contrast_limits=(0, 4))
    made.qtbot.wait(50)
    loaded.clear()
    known: list[int] = []
    analyze = pipeline.analyze

    def counted(*args: Any, **options: Any) -> Any:
        known.append(len(set(loaded)))
        return analyze(*args, **options)

    monkeypatch.setattr(pipeline, "analyze", counted)
    made.session.runs.series(fixed=False)
    made.wait()
    # When a frame is analysed it is the latest that was loaded.
    assert known == [1, 2, 3, 4]
    assert len(made.panel.results.sizes.series.value()[0]) == 4


def test_plot_shows_the_areas_and_the_frame(bench: Any) -> None:
    made = bench(_frames())
    made.panel.results.widget.show()
    made.session.runs.series(fixed=False)
    made.wait()
    plot = made.panel.results.sizes.series
    made.qtbot.wait(100)

    shares = [[100 * area[key] for area in plot.value()[0]] for key in ("symmetry_defect", "amorphous")]
    symmetry, amorphous, shown = plot.axes.lines
    for line, share in zip((symmetry, amorphous), shares, strict=True):
        assert_allclose(line.get_xdata(), range(len(plot.value()[0])))
        assert_allclose(line.get_ydata(), share)
    assert plot.axes.get_ylim() == pytest.approx((0, max(1.0, 1.05 * np.max(shares))))
    assert_allclose(shown.get_xdata(), made.session.shown_frame())
    # It is drawn, in the colour of the class.
    picture, wanted = plot.grab().toImage(), QColor(SYMMETRY_COLOUR)
    pixels = (QColor(picture.pixel(x, y)) for x in range(picture.width()) for y in range(picture.height()))
    assert any(
        max(abs(c.red() - wanted.red()), abs(c.green() - wanted.green()), abs(c.blue() - wanted.blue())) < 20
        for c in pixels
    )
    _go_to(made, 3)
    assert_allclose(plot.axes.lines[-1].get_xdata(), 3)


def test_frame_analysed_again_is_not_taken_for_painted(bench: Any) -> None:
    made = bench("si_series")
    _go_to(made, 2)
    made.session.runs.series(fixed=False)
    made.wait()
    layer = made.layer(Role.LABELS)
    shares = []
    for false_marks in (10.0, 1.0, 5.0):
        made.panel.threshold.number.setValue(false_marks)
        made.wait()
        shares.append(np.mean(np.asarray(layer.data[2]) == 1))
    assert len(set(shares)) == 3
    assert made.layer(Role.LABELS) is layer
    assert_array_equal(layer.data[2], made.document.analysis.labels)
    made.qtbot.wait(400)
    assert made.document.by_hand.painted == {}
    assert not entry(layer).get("edited")


def test_stroke_in_a_frame_taken_back(bench: Any) -> None:
    made = bench(_frames())
    made.session.runs.series(fixed=False)
    made.wait()
    _go_to(made, 1)
    made.show()
    before, areas = made.panel.results.table.value(), made.panel.results.sizes.series.value()[0][1]
    made.click(made.panel.paint_labels)
    layer = made.layer(Role.LABELS)
    layer.selected_label, layer.brush_size = 2, 30
    made.drag((40.0, 60.0), (41.0, 61.0), steps=2)
    made.qtbot.waitUntil(lambda: bool(made.document.known(1).painted), timeout=TIMEOUT)
    layer.undo()
    made.qtbot.waitUntil(lambda: not made.document.known(1).painted, timeout=TIMEOUT)
    assert made.panel.results.table.value() == before
    assert made.panel.results.sizes.series.value()[0][1] == pytest.approx(areas)


def test_series_can_be_cancelled(bench: Any) -> None:
    made = bench(_frames())
    before = len(made.viewer.layers)
    made.session.runs.series(fixed=False)
    assert made.session.running
    made.click(made.panel.run_row.cancel)
    made.qtbot.waitUntil(lambda: not WorkerBase._worker_set, timeout=TIMEOUT)
    assert not made.session.running
    assert len(made.viewer.layers) == before


def test_painted_frame_is_exported(bench: Any, tmp_path: Any) -> None:
    made = bench(_frames())
    _go_to(made, 2)
    made.run_all()
    best = made.document.analysis.best_patch
    made.session.runs.series(fixed=True)
    made.wait()
    layer = made.layer(Role.LABELS)
    found = np.array(layer.data)
    _go_to(made, 1)
    made.show()
    centre = (40.0, 60.0)
    made.click(made.panel.paint_labels)
    layer.selected_label, layer.brush_size = 2, 30
    made.drag(centre, np.add(centre, 1), steps=2)
    made.qtbot.waitUntil(lambda: bool(made.document.known(1).painted), timeout=TIMEOUT)
    (region,) = [r for r in made.panel.results.table.value() if r.label == 2 and r.centroid[0] < 80]
    assert_allclose(region.centroid, centre, atol=4)
    share = np.mean(np.asarray(layer.data[1]) == 2)
    assert made.panel.results.sizes.series.value()[0][1]["amorphous"] == share > np.mean(found[1] == 2)
    folder = made.panel.actions_.export(tmp_path)
    made.wait()
    result = load(folder)
    assert_array_equal(result.labels[1], layer.data[1])
    assert_array_equal(np.delete(result.labels, 1, 0), np.delete(found, 1, 0))
    # The patch of the frame shown served all, in the files, too.
    assert {(b.y, b.x) for b in result.best_patches} == {(best.y, best.x)}
    frames = result.info["frames"]
    corrected = [any("corrected by hand" in text for text in frame["warnings"]) for frame in frames]
    assert corrected == [False, True, False, False]


def test_warnings_that_differ_in_a_number_do_not_fill_the_panel() -> None:
    """Of a series whose hole grows each frame has its own sentence."""
    warnings = {"no crystal.": list(range(40)), **{f"{t} % is left out.": [t] for t in range(20, 40)}}
    assert about_series(warnings, 40, 0) == [
        "no crystal. (40 of 40 frames)",
        "There are other warnings about frames 20, 21, 22 and 17 more; they are shown there.",
    ]
    assert about_series(warnings, 40, 39)[:2] == [
        "no crystal. (40 of 40 frames)",
        "39 % is left out. (frame 39)",
    ]
    assert about_series({"hole.": [1, 2]}, 40, 1) == ["hole. (frames 1, 2)"]
