"""Runs that are cancelled or overtaken, windows that come and go."""

import gc
import time
import weakref
from typing import Any

import numpy as np
import pytest
from napari.qt.threading import WorkerBase
from numpy.testing import assert_array_equal
from qtpy.QtWidgets import QApplication

from napari_hrstem_defects.widgets.roles import Role, role_of
from napari_hrstem_defects.widgets.session import REPLACED, Session

from .conftest import TIMEOUT, lattice_image


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
def test_cancel_stops_within_a_second_and_leaves_the_layers(bench: Any) -> None:
    made = bench(lattice_image((1024, 1024)))
    made.run_all()
    before = _snapshot(made)
    made.click(made.panel.auto)
    made.panel.groups["classify"].editors["classify.max_defect_area"].setValue(0.04)
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
    one.panel.groups["symmetry"].editors["symmetry.kernel_periods"].setValue(2.0)
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


def test_large_images_are_not_updated_by_themselves(bench: Any) -> None:
    made = bench(np.zeros((2049, 2049), np.uint8), contrast_limits=(0, 1))
    assert not made.panel.auto.isChecked()
    made.add(np.zeros((2048, 2048), np.uint8), contrast_limits=(0, 1))
    assert made.panel.auto.isChecked()
    made.click(made.panel.auto)
    assert not made.session.auto_update
