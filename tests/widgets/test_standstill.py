"""How long the window stands still on a large image, and how fast it answers."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import Qt, QTimer

from napari_hrstem_defects.widgets.roles import Role

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
SIDE = 2048


def _two_lattices() -> Any:
    left, right = (
        lattice_image((SIDE, SIDE), period=p, fault=False, seed=s) for p, s in ((14.0, 0), (18.0, 1))
    )
    left[:, SIDE // 2 :] = right[:, SIDE // 2 :]
    return left


def _slide(made: Any, folder: Path) -> None:
    slider = made.panel.threshold.slider
    for position in range(100, 220, 20):
        slider.setValue(position)
        made.qtbot.wait(30)


def _tick(made: Any, folder: Path) -> None:
    box = made.panel.lattices.table.item(1, 0)
    ticked = box.checkState() == Qt.CheckState.Checked
    box.setCheckState(Qt.CheckState.Unchecked if ticked else Qt.CheckState.Checked)
    assert made.session.running


def _move(made: Any, folder: Path) -> None:
    made.click(made.panel.best_patch.move_button)
    best = made.document.analysis.best_patch
    made.drag((best.y, best.x), (300.0, 300.0), steps=12)
    assert made.document.point is not None


def _paint(made: Any, folder: Path) -> None:
    layer = made.layer(Role.LABELS)
    layer.brush_size, layer.selected_label = 40, 2
    made.viewer.layers.selection.active, layer.mode = layer, "paint"
    made.drag((500.0, 300.0), (560.0, 380.0), steps=12)
    made.qtbot.waitUntil(lambda: bool(made.document.labelled[0].painted), timeout=TIMEOUT)


def _export(made: Any, folder: Path) -> None:
    made.panel.actions_.export(folder)


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
    """In the first run all layers are made, and whatever napari does once for each kind of them."""
    made = desk(lattice_image((SIDE, SIDE)))
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


@pytest.mark.alone
@pytest.mark.slow
def test_corrections_never_hold_up_the_window(desk: Any, tmp_path: Path, record_property: Any) -> None:
    made = desk(_two_lattices())
    made.run_all()
    made.show()
    frozen = max(FROZEN_MS, 2 * napari_ms(made))
    assert made.panel.lattices.table.rowCount() > 1
    assert made.panel.auto.isChecked()
    actions: tuple[Callable[[Any, Path], None], ...] = (_slide, _tick, _move, _export, _paint)
    worst = {}
    for action in actions:
        made.qtbot.wait(300)
        clock = Clock()
        action(made, tmp_path)
        made.wait()
        made.qtbot.wait(300)
        clock.timer.stop()
        worst[action.__name__] = (round(clock.longest), round(clock.busiest))
    print("standstill and work in ms:", worst)
    record_property("standstill_ms", worst)
    # What other programs take is left out here as well.
    assert max(busy for _, busy in worst.values()) < frozen
    assert any(tmp_path.glob("*/labels.tif"))
    assert np.any(made.layer(Role.LABELS).data)


@pytest.mark.alone
@pytest.mark.slow
def test_another_frame_never_holds_up_the_window(desk: Any, record_property: Any) -> None:
    """With results of the series and without: its numbers, plot, histogram and best patch are those of the frame."""
    made = desk(np.stack([lattice_image((SIDE, SIDE), seed=seed) for seed in range(3)]))
    made.show()
    worst = {}
    for name, run in (("one frame", made.run_all), ("series", made.session.runs.series)):
        run()
        made.wait()
        frozen = max(FROZEN_MS, 2 * napari_ms(made))
        for frame in (1, 2):  # the first time napari loads and draws it
            made.viewer.dims.set_current_step(0, frame)
            made.qtbot.wait(300)
        clock = Clock()
        for frame in (0, 1, 2):
            made.viewer.dims.set_current_step(0, frame)
            made.qtbot.wait(300)
        clock.timer.stop()
        worst[name] = (round(clock.longest), round(clock.busiest))
    print("standstill and work in ms:", worst)
    record_property("frame_ms", worst)
    assert max(busy for _, busy in worst.values()) < frozen
    assert made.session.shown_frame() == 2


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
        if times[-1] < 1:
            break
    print(f"override: {[round(t, 2) for t in times]} s")
    record_property("override_s", min(times))
    if min(times) >= 1:
        _skip_if_busy(made)
    assert min(times) < 1
