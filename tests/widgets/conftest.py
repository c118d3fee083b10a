"""A real window with the panel docked, and hands to use it with."""

import functools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from napari import Viewer
from napari.components import ViewerModel
from napari.layers import Image
from napari.settings import get_plugin_settings
from napari.utils import interactions
from npe2 import PluginManager
from qtpy.QtCore import QEvent, QMimeData, QPoint, QPointF, QSettings, Qt, QUrl
from qtpy.QtGui import QDragEnterEvent, QDropEvent, QMouseEvent
from qtpy.QtWidgets import QApplication, QFileDialog, QInputDialog, QMessageBox

from napari_hrstem_defects.core import pipeline
from napari_hrstem_defects.core.analysis import Analysis
from napari_hrstem_defects.core.pipeline import _Run
from napari_hrstem_defects.core.recipe import Recipe
from napari_hrstem_defects.io import read
from napari_hrstem_defects.models import store
from napari_hrstem_defects.models.scan import Scan, class_map, class_regions
from napari_hrstem_defects.widgets import classifiers
from napari_hrstem_defects.widgets.contributions import image_layer, sample_folder
from napari_hrstem_defects.widgets.panel import DefectsPanel
from napari_hrstem_defects.widgets.roles import Role

#: Name of the plugin in napari.
PLUGIN = "napari-hrstem-defects"
#: Longest wait in ms for what takes seconds; on a busy machine it takes many more.
TIMEOUT = 120_000


@pytest.fixture(autouse=True)
def _own_settings(tmp_path: Path) -> None:
    """What the panel remembers belongs to the test, not to the person who runs it."""
    QSettings.setPath(QSettings.Format.IniFormat, QSettings.Scope.UserScope, str(tmp_path / "settings"))


@pytest.fixture(autouse=True, scope="session")
def _own_preferences(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nor are napari's preferences of this plugin that person's."""
    discover()
    get_plugin_settings(path_dir=tmp_path_factory.mktemp("preferences"))


@pytest.fixture(autouse=True)
def _nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A question that a test did not foresee fails it; shown, it would wait for good."""
    questions = {
        QFileDialog: ("getOpenFileName", "getOpenFileNames", "getSaveFileName", "getExistingDirectory"),
        QInputDialog: ("getDouble",),
        QMessageBox: ("question",),
    }
    for dialog, names in questions.items():
        for name in names:
            monkeypatch.setattr(dialog, name, functools.partial(_unforeseen, f"{dialog.__name__}.{name}"))


def _unforeseen(name: str, *args: Any, **options: Any) -> None:
    pytest.fail(f"{name} was asked: {args[1:]}")


def discover() -> None:
    """Let napari know the plugin, as it does when it starts; looking through all packages takes a while."""
    manager = PluginManager.instance()
    if PLUGIN not in manager:
        manager.discover()


class Desk:
    """A viewer with the panel, driven by clicks."""

    def __init__(self, viewer: Any, panel: DefectsPanel, qtbot: Any) -> None:
        self.viewer, self.panel, self.qtbot = viewer, panel, qtbot

    @property
    def session(self) -> Any:
        return self.panel.session

    @property
    def document(self) -> Any:
        return self.session.document

    def wait(self) -> None:
        """Until nothing runs any more."""
        self.qtbot.waitUntil(lambda: not self.session.running, timeout=TIMEOUT)

    def click(self, button: Any) -> None:
        self.qtbot.mouseClick(button, Qt.MouseButton.LeftButton)

    def run_all(self) -> None:
        self.click(self.panel.run_row.run)
        assert self.session.running
        self.wait()

    def states(self) -> dict[str, str]:
        """As a screen reader says them."""
        return {
            name: group.word.accessibleName().rpartition(": ")[2] for name, group in self.panel.groups.items()
        }

    def layer(self, role: Role) -> Any:
        return self.document.output(self.viewer.layers, role)

    def parts(self, role: Role) -> dict[str, Any]:
        """All layers of a role by their part."""
        found = {
            part: self.document.output(self.viewer.layers, role, part)
            for known, part in self.document.outputs
            if known is role
        }
        return {part: layer for part, layer in found.items() if layer is not None}

    def add(self, data: Any, **options: Any) -> Image:
        return self.viewer.add_image(data, **options)

    def show(self) -> None:
        """Put the image in the middle of the canvas, once the docks have taken their places."""
        self.qtbot.wait(100)
        self.viewer.reset_view()
        QApplication.processEvents()

    def drag(self, start: tuple[float, float], end: tuple[float, float], steps: int = 5) -> None:
        """Press at a point of the image (y, x in px), move and release."""
        if not isinstance(self.viewer, Viewer):
            self._drag_on_layers(start, end, steps)
            return
        native = self.viewer.window._qt_viewer.canvas.native
        path = [
            self.canvas_position(np.array(start) + (np.array(end) - start) * t)
            for t in np.linspace(0, 1, steps)
        ]
        self.qtbot.mouseMove(native, path[0])
        self.qtbot.mousePress(native, Qt.MouseButton.LeftButton, pos=path[0])
        for point in path[1:]:
            self.move(point)
        self.qtbot.mouseRelease(native, Qt.MouseButton.LeftButton, pos=path[-1])

    def click_at(self, point: Any) -> None:
        """Click at a point of the image (y, x in px)."""
        if not isinstance(self.viewer, Viewer):
            self._drag_on_layers(point, point, 1)
            return
        native, position = self.viewer.window._qt_viewer.canvas.native, self.canvas_position(point)
        self.qtbot.mouseMove(native, position)
        self.qtbot.mouseClick(native, Qt.MouseButton.LeftButton, pos=position)

    def _drag_on_layers(self, start: tuple[float, float], end: tuple[float, float], steps: int) -> None:
        """What napari's canvas makes of a drag: the tools of the viewer and of the chosen layer are called."""
        receivers = [self.viewer, self.viewer.layers.selection.active]
        event = SimpleNamespace(
            button=1,
            modifiers=(),
            handled=False,
            view_direction=None,
            up_direction=None,
            dims_displayed=list(self.viewer.dims.displayed),
            dims_point=list(self.viewer.dims.point),
        )
        calls = [("mouse_press", interactions.mouse_press_callbacks)]
        calls += [("mouse_move", interactions.mouse_move_callbacks)] * (steps - 1)
        calls += [("mouse_release", interactions.mouse_release_callbacks)]
        path = [start, *np.linspace(start, end, steps)[1:], end]
        for (event.type, call), point in zip(calls, path, strict=True):
            event.is_dragging = event.type == "mouse_move"
            event.position = self._world(point)
            event.pos = np.asarray(event.position)
            self.viewer.cursor.position = event.position
            for receiver in receivers:
                call(receiver, event)
            QApplication.processEvents()

    def _world(self, point: Any) -> Any:
        layer = self.document.layer
        world = list(self.viewer.dims.point)
        world[-2:] = np.asarray(layer.data_to_world((0,) * (layer.ndim - 2) + tuple(point)))[-2:]
        return tuple(world)

    def hover(self, point: Any) -> None:
        """Move the mouse to a point of the image (y, x in px) with no button down."""
        self.qtbot.wait(50)  # napari drops moves in close succession
        self.move(self.canvas_position(point), Qt.MouseButton.NoButton)

    def move(self, point: QPoint, held: Qt.MouseButton = Qt.MouseButton.LeftButton) -> None:
        """Move the mouse to a place on the canvas with its left button down."""
        native = self.viewer.window._qt_viewer.canvas.native
        # QTest's own move says that no button is down, and comes late.
        none = Qt.MouseButton.NoButton
        whole = QPointF(native.mapToGlobal(point))
        move = QMouseEvent(
            QEvent.Type.MouseMove, QPointF(point), whole, none, held, Qt.KeyboardModifier.NoModifier
        )
        QApplication.sendEvent(native, move)
        QApplication.processEvents()

    def drop(self, path: Path) -> None:
        """Drop a file or folder on the middle of the window."""
        window, dropped = self.viewer.window._qt_viewer, QMimeData()
        dropped.setUrls([QUrl.fromLocalFile(str(path))])
        centre, options = window.rect().center(), (Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier)
        for event in (
            QDragEnterEvent(centre, Qt.DropAction.CopyAction, dropped, *options),
            QDropEvent(QPointF(centre), Qt.DropAction.CopyAction, dropped, *options),
        ):
            QApplication.sendEvent(window, event)

    def canvas_position(self, point: Any) -> QPoint:
        """Where a point of the image lies on the canvas."""
        world = np.asarray(self._world(point)[-2:])
        canvas = self.viewer.window._qt_viewer.canvas
        # The camera maps linearly: two points tell how.
        origin, other = (
            np.asarray(canvas._map_canvas2world(p, canvas.view))[-2:] for p in ((0, 0), (100, 100))
        )
        y, x = 100 * (world - origin) / (other - origin)
        return QPoint(round(x), round(y))


@pytest.fixture
def desk(make_napari_viewer: Any, qtbot: Any) -> Iterator[Callable[..., Desk]]:
    """Make a viewer with an image and the docked panel."""
    discover()
    desks: list[Desk] = []

    def make(data: Any = "gaas_twin", size: tuple[int, int] = (1280, 800), **options: Any) -> Desk:
        viewer = make_napari_viewer(show=True)
        viewer.window.resize(*size)
        _add(viewer, data, options)
        _, panel = viewer.window.add_plugin_dock_widget(PLUGIN, "HRSTEM defects")
        desks.append(Desk(viewer, panel, qtbot))
        QApplication.processEvents()
        return desks[-1]

    yield make
    _leave(desks)


@pytest.fixture
def bench(qtbot: Any) -> Iterator[Callable[..., Desk]]:
    """Like `desk`, but of the viewer there are only its layers: the panel is a window of its own.

    Three times as fast, for what needs neither the canvas nor napari's own docks and controls.
    """
    discover()
    desks: list[Desk] = []

    def make(data: Any = "gaas_twin", size: tuple[int, int] = (380, 800), **options: Any) -> Desk:
        viewer = ViewerModel()
        _add(viewer, data, options)
        panel = DefectsPanel(viewer)
        panel.resize(*size)
        panel.show()
        desks.append(Desk(viewer, panel, qtbot))
        QApplication.processEvents()
        return desks[-1]

    yield make
    _leave(desks)
    for made in desks:
        made.panel.disconnect_all()
        for widget in (made.panel, made.panel.results.widget):
            widget.close()
            widget.deleteLater()
    QApplication.processEvents()


def _add(viewer: ViewerModel, data: Any, options: dict[str, Any]) -> None:
    if isinstance(data, str):
        pixels, about, _ = image_layer(read(sample_folder() / f"{data}.tif"))
        viewer.add_image(pixels, **{**about, **options})
    elif data is not None:
        viewer.add_image(data, **options)


def _leave(desks: list[Desk]) -> None:
    """Wait for what still runs."""
    for made in desks:
        made.session.runs.cancel()
    deadline = time.monotonic() + 20
    from napari.qt.threading import WorkerBase

    while WorkerBase._worker_set and time.monotonic() < deadline:
        QApplication.processEvents()
        time.sleep(0.005)


@functools.cache
def analysed(sample: str, **parameters: Any) -> Analysis:
    """What the library finds in a bundled micrograph; once for all tests of a process, which only read it.

    Parameters are given as ``segment__extent=0.8``.
    """
    changes = {name.replace("__", "."): value for name, value in parameters.items()}
    return pipeline.analyze(read(sample_folder() / f"{sample}.tif"), Recipe().replace(changes))


def lattice_image(shape: tuple[int, int], period: float = 14.0, fault: bool = True, seed: int = 0) -> Any:
    """Square lattice with noise; its right third is shifted by half a period."""
    y, x = np.indices(shape, dtype=np.float32)
    if fault:
        y = y + np.where(x > 2 * shape[1] / 3, np.float32(period / 2), np.float32(0))
    k = np.float32(2 * np.pi / period)
    image = 2 + np.cos(k * x) + np.cos(k * y)
    noise = np.random.default_rng(seed).normal(0, 0.25, shape).astype(np.float32)
    return (image + noise).astype(np.float32)


def record_steps(monkeypatch: Any) -> list[str]:
    """Steps of the pipeline as they are run from now on."""
    ran: list[str] = []
    original = _Run.step

    def step(self: Any, name: str) -> None:
        ran.append(name)
        original(self, name)

    monkeypatch.setattr(_Run, "step", step)
    return ran


def contrast(one: Any, other: Any) -> float:
    """Contrast of two colours (red, green, blue, 0...1), 1...21, by the Web Content Accessibility Guidelines 2.1."""
    rgb = np.array([one[:3], other[:3]])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    dark, bright = sorted(linear @ (0.2126, 0.7152, 0.0722) + 0.05)
    return float(bright / dark)


def x_of(plot: Any, value: float) -> int:
    """Where a value lies from left to right in a plot, in px of the screen."""
    return round(plot.axes.transData.transform((value, 1))[0] / plot.devicePixelRatioF())


#: Classes of a made-up ensemble.
CLASSES = ("bulk", "SF 1", "twin")


def made_up(shape: tuple[int, int], classes: tuple[str, ...] = CLASSES, seed: int = 0) -> Scan:
    """Broad stripes of the classes, and a stripe of none."""
    x = np.linspace(0, len(classes) + 0.5, shape[1], endpoint=False)
    noise = np.random.default_rng(seed).random((len(classes), *shape), np.float32)
    probabilities = 0.3 * noise
    for number in range(len(classes)):
        probabilities[number, :, (x >= number) & (x < number + 1)] += 0.6
    # Votes may overlap, other than the classes of the map.
    votes = probabilities > 0.25
    labels = class_map(probabilities)
    return Scan(
        classes,
        8,
        probabilities,
        votes,
        votes,
        labels,
        class_regions(labels, probabilities, classes, 64, 0.02),
    )


@pytest.fixture
def scan(monkeypatch: Any) -> Any:
    """Press Scan… with what the ensemble is to answer."""

    def press(made: Any, answer: Scan, name: str = "stripes") -> None:
        contract = SimpleNamespace(name=name, patch_px=64)
        monkeypatch.setattr(store, "read_contract", lambda path: contract)
        monkeypatch.setattr(store, "file_sha256", lambda path: "0" * 64)
        known = [SimpleNamespace(name=name, path=Path("model.hrstem"))]
        monkeypatch.setattr(classifiers, "ensembles", lambda: known)
        monkeypatch.setattr(made.session.keras, "call", lambda *args, **options: answer)
        made.click(made.panel.scan)
        assert made.session.running
        made.wait()

    return press
