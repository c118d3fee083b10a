"""Runs that are cancelled or overtaken, windows that come and go, and how long the window stands still."""

import gc
import os
import time
import weakref
from typing import Any

import numpy as np
import pytest
from napari.qt.threading import WorkerBase
from numpy.testing import assert_array_equal
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication

from napari_hrstem_defects.widgets.roles import Role, role_of
from napari_hrstem_defects.widgets.session import REPLACED, Session

from .conftest import TIMEOUT, lattice_image

#: Longest standstill allowed, in ms (UX.md).
GAP_MS = 100
#: A window that stands still for longer is frozen, unless napari's own work takes as long (`napari_ms`).
FROZEN_MS = 500.0
#: The same in the first run: vispy renders each letter of the legend once, about 13 ms each with software OpenGL.
FIRST_RUN_MS = 1000.0
#: Longest standstill of an idle window on a machine that has time for it, in ms.
BUSY_MS = 30
#: Largest load per processor of such a machine; this test alone makes up to one.
BUSY_LOAD = 1.5


def _begin(made: Any) -> None:
    """Press Run all and wait until the pipeline is at work."""
    stages: list[str] = []
    slot = lambda stage, fraction: stages.append(stage)  # noqa: E731
    made.session.progressed.connect(slot)
    made.click(made.panel.run_row.run)
    made.qtbot.waitUntil(lambda: len(stages) > 1, timeout=TIMEOUT)
    made.session.progressed.disconnect(slot)


def _until_threads_end(made: Any) -> None:
    """Nothing runs any more, and what came of it was received."""
    made.qtbot.waitUntil(lambda: not WorkerBase._worker_set, timeout=TIMEOUT)
    QApplication.processEvents()


def _snapshot(made: Any) -> list[tuple[Any, ...]]:
    return [(layer, layer.name, layer.visible, np.array(layer.data)) for layer in made.viewer.layers]


@pytest.mark.alone
def test_cancel_stops_within_a_second_and_leaves_the_layers(desk: Any) -> None:
    made = desk(lattice_image((2048, 2048)))
    made.run_all()
    before = _snapshot(made)
    made.click(made.panel.auto)
    made.panel.grids["classify"].editors["classify.max_defect_area"].setValue(0.04)
    _begin(made)
    assert made.panel.run_row.bar.isVisible()
    assert made.panel.run_row.cancel.isVisible()

    begin = time.perf_counter()
    made.click(made.panel.run_row.cancel)
    assert not made.session.running
    made.qtbot.waitUntil(lambda: not WorkerBase._worker_set, timeout=TIMEOUT)
    seconds = time.perf_counter() - begin
    assert seconds < 1, f"cancelling took {seconds:.2f} s"
    for (layer, name, visible, data), (layer2, name2, visible2, data2) in zip(
        before, _snapshot(made), strict=True
    ):
        assert layer is layer2
        assert (name, visible) == (name2, visible2)
        assert_array_equal(data, data2)
    assert made.states()["preprocess"] == "current"
    assert made.states()["classify"] == "stale"
    made.click(made.panel.groups["classify"].button)
    made.wait()
    assert made.states()["classify"] == "current"


def test_result_of_a_replaced_image_is_dropped(bench: Any) -> None:
    made = bench(lattice_image((512, 512)))
    _begin(made)
    made.document.layer.data = lattice_image((512, 512), period=17, seed=1)
    _until_threads_end(made)
    assert not made.session.running
    assert len(made.viewer.layers) == 1
    assert REPLACED in made.panel.messages.text()
    assert set(made.states().values()) == {"not run"}
    made.run_all()
    assert made.document.analysis.lattice.period_px == pytest.approx(17, abs=0.1)


def test_result_of_a_removed_image_is_dropped(bench: Any) -> None:
    made = bench(lattice_image((512, 512)))
    _begin(made)
    made.viewer.layers.clear()
    _until_threads_end(made)
    assert not made.session.running
    assert len(made.viewer.layers) == 0
    assert made.panel.info.text() == "No image is open."


def test_result_lands_on_its_own_image(bench: Any) -> None:
    made = bench(lattice_image((512, 512)), name="first")
    first = made.document.layer
    _begin(made)
    second = made.add(lattice_image((256, 256), period=11), name="second")
    made.session.choose(second)
    made.wait()
    outputs = [layer for layer in made.viewer.layers if role_of(layer) is not None]
    assert outputs
    assert {layer.metadata["hrstem_defects"]["source"] for layer in outputs} == {str(first.unique_id)}
    assert set(made.states().values()) == {"not run"}
    assert made.panel.info.text().startswith("256 × 256")


def test_pixels_changed_after_a_run_make_it_void(bench: Any) -> None:
    made = bench(lattice_image((192, 192), period=11))
    made.run_all()
    made.document.layer.data = lattice_image((192, 192))
    assert "current" not in made.states().values()


def test_two_viewers_do_not_meet(bench: Any) -> None:
    one, two = bench(lattice_image((192, 192), period=11)), bench(lattice_image((256, 256), period=15))
    assert one.session is not two.session
    one.click(one.panel.run_row.run)
    two.click(two.panel.run_row.run)
    one.wait()
    two.wait()
    assert one.document.analysis.lattice.period_px == pytest.approx(11, abs=0.1)
    assert two.document.analysis.lattice.period_px == pytest.approx(15, abs=0.1)
    one.panel.groups["symmetry"].parameters.editors["symmetry.kernel_periods"].setValue(2.0)
    one.wait()
    assert two.session.recipe.symmetry.kernel_periods == 1.5
    assert set(two.states().values()) == {"current"}


def _callbacks(made: Any) -> dict[str, int]:
    session = made.session
    signals = (
        "changed",
        "image_changed",
        "recipe_changed",
        "progressed",
        "arriving",
        "finished",
        "failed",
        "noticed",
    )
    counts = {name: len(getattr(session, name)) for name in signals}
    emitters = {
        "inserted": made.viewer.layers.events.inserted,
        "removed": made.viewer.layers.events.removed,
        "theme": made.viewer.events.theme,
        "data": made.document.layer.events.data,
        "regions": made.layer(Role.REGIONS).events.selected_label,
    }
    return counts | {name: len(emitter.callbacks) for name, emitter in emitters.items()}


def test_closing_and_reopening_the_dock_leaves_nothing_behind(desk: Any) -> None:
    made = desk(lattice_image((192, 192), period=11))
    made.run_all()
    window = made.viewer.window
    counts = []
    gone = weakref.ref(made.panel)
    for _ in range(10):
        counts.append(_callbacks(made))
        made.panel.parent().destroyOnClose()
        QApplication.processEvents()
        assert "Defect regions" not in window.dock_widgets
        _, made.panel = window.add_plugin_dock_widget("napari-hrstem-defects", "HRSTEM defects")
        QApplication.processEvents()
        assert set(made.states().values()) == {"current"}  # the work is the viewer's, not the dock's
        made.qtbot.waitUntil(lambda: "Defect regions" in window.dock_widgets, timeout=TIMEOUT)
    counts.append(_callbacks(made))
    assert counts[-1] == counts[1]
    gc.collect()
    assert gone() is None
    made.run_all()
    assert set(made.states().values()) == {"current"}


def test_closing_the_viewer_during_a_run(desk: Any, caplog: Any) -> None:
    made = desk(lattice_image((512, 512)))
    _begin(made)
    session = weakref.ref(made.session)
    made.viewer.close()
    _until_threads_end(made)
    assert not session().running
    assert not caplog.records


def test_session_ends_with_its_viewer() -> None:
    from napari.components import ViewerModel

    viewer = ViewerModel()
    session = Session.of(viewer)
    assert Session.of(viewer) is session
    known = weakref.ref(session)
    del viewer, session
    gc.collect()
    assert known() is None


class Clock:
    """Measures the longest time between two ticks of a 10 ms timer, and the most work of this thread between two."""

    def __init__(self) -> None:
        self.longest, self._last = 0.0, time.perf_counter()
        self.busiest, self._worked = 0.0, time.thread_time()
        self.timer = QTimer()
        self.timer.setInterval(10)
        self.timer.timeout.connect(self._tick)
        self.timer.start()

    def _tick(self) -> None:
        now = time.perf_counter()
        self.longest, self._last = max(self.longest, 1000 * (now - self._last)), now
        worked = time.thread_time()
        self.busiest, self._worked = max(self.busiest, 1000 * (worked - self._worked)), worked


def napari_ms(made: Any) -> float:
    """Longest work of the window's thread, ms, while napari makes, draws, paints and hides a layer of its own.

    The first time this takes several times as long: shaders are compiled. The layer stays: where OpenGL is software,
    drawing after a painted layer was removed ends the process.
    """
    selected = made.viewer.layers.selection.active
    clock = Clock()
    layer = made.viewer.add_labels(np.zeros(made.document.frame_shape, np.uint8))
    made.qtbot.wait(300)
    layer.brush_size, layer.mode = 40, "paint"
    centre = np.array(layer.data.shape) / 2
    made.drag(tuple(centre), tuple(centre + 50), steps=4)
    made.qtbot.wait(300)
    layer.visible = False
    made.qtbot.wait(300)
    clock.timer.stop()
    made.viewer.layers.selection.active = selected
    return clock.busiest


def _skip_if_busy(made: Any) -> float:
    """Where an idle window already stands still for long, other programs hold the processor: nothing can be told.

    Returns that time in ms; the results page wants the figures all the same, with the load beside them.
    """
    clock = Clock()
    made.qtbot.wait(1000)
    clock.timer.stop()
    load = os.getloadavg()[0] / (os.cpu_count() or 1) if hasattr(os, "getloadavg") else 0.0
    if not os.environ.get("HRSTEM_DEFECTS_MEASURE") and (clock.longest > BUSY_MS or load > BUSY_LOAD):
        pytest.skip(
            f"the machine is busy: an idle window stands still for {clock.longest:.0f} ms, load {load:.1f}"
        )
    return clock.longest


@pytest.mark.alone
def test_window_never_stands_still(desk: Any, record_property: Any) -> None:
    """On 2048² px. In the first run all layers are made, and whatever napari does once for each kind of them."""
    made = desk(lattice_image((2048, 2048)))
    made.show()
    made.qtbot.wait(300)
    napari = napari_ms(made)
    frozen = max(FROZEN_MS, 2 * napari)
    first = Clock()
    made.run_all()
    # The legend comes line by line after the result.
    made.qtbot.wait(1000)
    first.timer.stop()
    record_property("first_run_gap_ms", first.longest)
    record_property("first_run_work_ms", first.busiest)
    record_property("idle_gap_ms", _skip_if_busy(made))
    # There is only one first run, so what other programs take from it is left out. The figures themselves are in
    # docs/results.md: how long napari takes for a layer is the machine's.
    assert first.busiest < max(FIRST_RUN_MS, 4 * napari)
    gaps = []
    for _ in range(5):
        clock = Clock()
        made.run_all()
        made.qtbot.wait(300)
        clock.timer.stop()
        gaps.append(clock.longest)
        if clock.longest < GAP_MS:
            break
    work = f"{first.busiest:.0f} ms of work, napari alone {napari:.0f} ms"
    print(f"longest gap: first run {first.longest:.0f} ms ({work}), later runs {gaps} ms")
    record_property("gap_ms", min(gaps))
    if min(gaps) >= frozen:
        _skip_if_busy(made)
    assert min(gaps) < frozen


def test_image_removed_while_its_layers_are_written(bench: Any) -> None:
    made = bench(lattice_image((192, 192), period=11))
    source = made.document.layer
    made.click(made.panel.run_row.run)
    made.qtbot.waitUntil(
        lambda: any(role_of(layer) is Role.LABELS for layer in made.viewer.layers), timeout=TIMEOUT
    )
    assert made.session.running
    made.viewer.layers.remove(source)
    assert not made.session.running
    # What is there is whole, and nothing of a result comes later.
    there = list(made.viewer.layers)
    made.qtbot.wait(200)
    assert list(made.viewer.layers) == there


@pytest.mark.alone
def test_dragged_patch_is_answered_within_a_second(desk: Any, record_property: Any) -> None:
    """On 1024² px, from the release of the mouse to the new severity."""
    made = desk(lattice_image((1024, 1024)))
    made.run_all()
    assert made.panel.auto.isChecked()
    times = []
    for shift in range(3):
        before = made.layer(Role.SEVERITY).data
        begin = time.perf_counter()
        made.session.edits.place((300.0 + 10 * shift, 300.0))
        made.qtbot.waitUntil(lambda old=before: made.layer(Role.SEVERITY).data is not old, timeout=TIMEOUT)
        times.append(time.perf_counter() - begin)
        made.wait()
    print(f"override: {[round(t, 2) for t in times]} s")
    record_property("override_s", min(times))
    if min(times) >= 1:
        _skip_if_busy(made)
    assert min(times) < 1


def test_large_images_are_not_updated_by_themselves(bench: Any) -> None:
    made = bench(np.zeros((2049, 2049), np.uint8), contrast_limits=(0, 1))
    assert not made.panel.auto.isChecked()
    made.add(np.zeros((2048, 2048), np.uint8), contrast_limits=(0, 1))
    assert made.panel.auto.isChecked()
    made.click(made.panel.auto)
    assert not made.session.auto_update
