"""How long the window of napari stands still by itself; run by :mod:`.interface`, in a process of its own.

The layers of a first run, made by napari alone: of the same kinds and size, one after another with time between them,
no panel and nothing computed. Each call is whole, so this is what a plugin gets that inserts a layer as everybody does.
"""

import time
from typing import Any

import numpy as np
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication

#: Edge of the image in px, time between two layers in s.
_EDGE, _PAUSE = 2048, 0.3


def test_bare_napari(make_napari_viewer: Any, record_property: Any) -> None:
    import pandas  # noqa: F401  # the panel imports it beforehand as well, in a thread

    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1280, 800)
    image = np.random.default_rng(0).random((_EDGE, _EDGE), np.float32)
    marks = np.zeros((_EDGE, _EDGE), np.uint8)
    viewer.add_image(image)
    _pump(1.5)
    ticks, work = [time.perf_counter()], [time.thread_time()]
    timer = QTimer()
    timer.setInterval(10)

    def tick() -> None:
        ticks.append(time.perf_counter())
        work.append(time.thread_time())

    timer.timeout.connect(tick)
    timer.start()
    _pump(0.3)
    for make in (
        *(lambda: viewer.add_image(image, colormap="inferno", blending="additive"),) * 4,
        *(lambda: viewer.add_labels(marks),) * 4,
        lambda: viewer.add_points([[500.0, 500.0], [900.0, 900.0]], symbol="square", size=50),
    ):
        make()
        _pump(_PAUSE)
    record_property("bare_gap_ms", 1000 * float(np.diff(ticks).max()))
    record_property("bare_work_ms", 1000 * float(np.diff(work).max()))


def _pump(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.001)
