"""Make the screenshots of the panel in docs/images, in a real window.

Run it as it is where there is a display; without one it starts itself again under Xvfb::

    python docs/make_screenshots.py [NAME ...]
"""

from __future__ import annotations

import itertools
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from qtpy.QtCore import Qt

from napari_hrstem_defects.widgets.roles import Role

IMAGES = Path(__file__).parent / "images"
SIZES = {"small": (1280, 800), "large": (1920, 1080)}


def main(names: list[str]) -> None:
    """Make all pictures, or those whose file name contains one of `names`."""
    from qtpy.QtCore import QSettings

    # Neither reads nor changes what the panel remembers of the person who runs this.
    fresh = tempfile.mkdtemp()
    QSettings.setPath(QSettings.Format.IniFormat, QSettings.Scope.UserScope, fresh)
    IMAGES.mkdir(exist_ok=True)
    for theme in ("dark", "light"):
        for size in SIZES:
            _picture(names, f"panel-result-{theme}-{size}", theme, size, "si_fault_amorphous", _result)
    _picture(names, "panel-start", "dark", "small", "gaas_twin", _start)
    # The clicks of the README.
    _picture(names, "panel-clicks-1", "dark", "small", "si_fault_amorphous", _start)
    _picture(names, "panel-clicks-2", "dark", "small", "si_fault_amorphous", _paint_tool)
    _picture(names, "panel-clicks-3", "dark", "small", "si_fault_amorphous", _exported)
    for theme, size in (("light", "small"), ("dark", "large")):
        _picture(names, f"panel-lattices-{theme}-{size}", theme, size, "gaas_twin", _lattices)
    _picture(names, "panel-corrected", "dark", "small", "si_fault_amorphous", _corrected)
    _picture(names, "panel-before", "dark", "small", "si_fault_amorphous", _before)
    _picture(names, "panel-sizes", "light", "small", "si_fault_amorphous", _sizes)
    _picture(names, "panel-stale", "light", "small", "gaas_twin", _stale)
    _picture(names, "panel-running", "dark", "small", "si_fault_amorphous", _running)
    _picture(names, "panel-parameters", "light", "large", "si_fault_amorphous", _parameters)
    _picture(names, "panel-series", "dark", "small", "si_series", _series)
    _picture(names, "panel-warning", "light", "small", None, _warning)
    _dialog(names)
    _by_mouse(names)


def _by_mouse(names: list[str]) -> None:
    """Paint three images, train, let the classifier judge a fourth: the record of training.md, which takes minutes."""
    if names and not any(part in "train-by-mouse" for part in names):
        return
    import napari
    import numpy as np

    from napari_hrstem_defects.core.metrics import dice
    from napari_hrstem_defects.simulation import simulate

    os.environ["HRSTEM_DEFECTS_MODELS"] = tempfile.mkdtemp()
    viewer = napari.Viewer(show=True)
    viewer.window.resize(*SIZES["small"])
    truths = []
    for seed in range(5, 9):
        made = simulate("si_demo", seed=seed)
        size = made.micrograph.pixel_size_nm
        pixels = np.asarray(made.micrograph.data)
        viewer.add_image(pixels, name=f"si_demo-{seed}", scale=(size, size), units=("nm", "nm"))
        truths.append(made.labels)
    _, panel = viewer.window.add_plugin_dock_widget("napari-hrstem-defects", "HRSTEM defects")
    _pump(0.5)
    viewer.reset_view()
    panel.train.click()
    dialog = panel.show_training()
    for row, truth in enumerate(truths[:3]):
        dialog.images.setCurrentCell(row, 0)
        dialog.paint.click()
        layer = viewer.layers.selection.active
        layer.brush_size = 24
        for y in range(8, len(truth), 16):
            columns = np.flatnonzero(truth[y])
            for line in np.split(columns, np.flatnonzero(np.diff(columns) > 1) + 1):
                if len(line):
                    for x in line[:: layer.brush_size // 3]:
                        layer.paint((y, int(x)), 1)
        _pump(0.3)
        if row == 0:
            _screen(viewer, "train-paint")
    dialog.name.value, dialog.patches.value = "mine", 300
    dialog.patch.value, dialog.epochs.value = 64, 12
    while not dialog.start.isEnabled():
        _pump(0.1)
    dialog.start.click()
    while dialog.training:
        _pump(0.1)
    _screen(viewer, "train-done")
    print(dialog.status.text(), flush=True)
    dialog.leave.click()
    panel.session.choose(panel.session.images()[3])
    panel.run_row.run.click()
    _wait(panel)
    _pump(3.0)
    _screen(viewer, "train-labels")
    labels = np.asarray(panel.session.layer(Role.LABELS).data)
    for value in (1, 2):
        # Without the rims that are neither, as in the masks that `hrstem-defects simulate` writes.
        print("Dice", value, dice(labels, truths[3], value, ignore=made.ignore), flush=True)
    panel.session.keras.close()
    viewer.close()
    _pump(0.1)


def _screen(viewer, name: str) -> None:
    """What is on the screen where the window is, with the dialog over it."""
    from PIL import Image
    from qtpy.QtWidgets import QApplication

    _pump(0.5)
    frame = viewer.window._qt_window.frameGeometry()
    picture = QApplication.primaryScreen().grabWindow(0, frame.x(), frame.y(), frame.width(), frame.height())
    path = IMAGES / f"{name}.png"
    picture.save(str(path))
    image = Image.open(path).convert("RGB")
    image.quantize(256, method=Image.Quantize.MAXCOVERAGE).save(path, optimize=True)
    print(name, flush=True)


def _dialog(names: list[str]) -> None:
    """The dialog that trains a classifier, filled in."""
    name = "panel-train"
    if names and not any(part in name for part in names):
        return
    import napari

    viewer = napari.Viewer(show=True)
    for sample in ("gaas_twin", "si_fault_amorphous", "si_perfect"):
        viewer.open_sample("napari-hrstem-defects", sample)
    _, panel = viewer.window.add_plugin_dock_widget("napari-hrstem-defects", "HRSTEM defects")
    dialog = panel.show_training()
    for image in panel.session.images()[:2]:
        stem = Path(image.name).stem
        dialog.images.choose(
            image, next(layer for layer in viewer.layers if layer.name == f"True defects · {stem}")
        )
    _pump(2.0)
    dialog.grab().save(str(IMAGES / f"{name}.png"))
    print(name, dialog.size(), flush=True)
    viewer.close()
    _pump(0.1)


def _picture(
    names: list[str], name: str, theme: str, size: str, sample: str | None, act: Callable[..., None]
) -> None:
    if names and not any(part in name for part in names):
        return
    import napari
    from PIL import Image

    viewer = napari.Viewer(show=True)
    viewer.theme = theme
    viewer.window.resize(*SIZES[size])
    if sample is not None:
        viewer.open_sample("napari-hrstem-defects", sample)
    _, panel = viewer.window.add_plugin_dock_widget("napari-hrstem-defects", "HRSTEM defects")
    _pump(0.5)
    act(viewer, panel)
    if not panel.session.running:
        _pump(0.7)
    picture = viewer.screenshot(canvas_only=False, flash=False)[..., :3]
    image = Image.fromarray(picture)
    if size == "large":
        # Only to be looked at when the panel is changed: 256 colours take a third of the space.
        image = image.quantize(256, method=Image.Quantize.MAXCOVERAGE)
    image.save(IMAGES / f"{name}.png", optimize=True)
    print(name, panel.size(), flush=True)
    panel.session.runs.cancel()
    viewer.close()
    _pump(0.1)


def _start(viewer, panel) -> None:
    viewer.reset_view()


def _result(viewer, panel) -> None:
    panel.run_row.run.click()
    _wait(panel)
    _pump(0.3)
    viewer.reset_view()


def _corrected(viewer, panel) -> None:
    _result(viewer, panel)
    panel.best_patch.move_button.click()
    panel.session.edits.place((260.0, 130.0))
    _wait(panel)


def _paint_tool(viewer, panel) -> None:
    _result(viewer, panel)
    panel.paint_labels.click()


def _painted(viewer, panel) -> None:
    _paint_tool(viewer, panel)
    layer = panel.session.layer(Role.LABELS)
    layer.selected_label, layer.brush_size = 1, 40
    _stroke(viewer, layer, [(120.0, 130.0), (140.0, 180.0), (150.0, 230.0)])


def _before(viewer, panel) -> None:
    _painted(viewer, panel)
    panel.before.click()


def _sizes(viewer, panel) -> None:
    """The bar of the smallest regions is chosen."""
    _painted(viewer, panel)
    layer = panel.session.layer(Role.LABELS)
    layer.brush_size = 12
    for y in (300.0, 340.0, 380.0):
        _stroke(viewer, layer, [(y, 120.0), (y, 126.0)])
    layer.mode = "pan_zoom"
    panel.results.sizes.barChosen.emit(panel.results.sizes.plot.value()[0].numbers)


def _exported(viewer, panel) -> None:
    _painted(viewer, panel)
    panel.actions_.export(Path(tempfile.mkdtemp()))
    _wait(panel)
    # Where it was written differs from machine to machine.
    panel.session.noticed.emit("The result was written to results/si_fault_amorphous.")


def _stroke(viewer, layer, points) -> None:
    """Draw with the brush, as the mouse does."""
    with layer.block_history():
        for start, end in itertools.pairwise(points):
            for share in range(20):
                y, x = (a + (b - a) * share / 20 for a, b in zip(start, end, strict=True))
                layer.paint((round(y), round(x)), layer.selected_label)
    _pump(0.8)


def _lattices(viewer, panel) -> None:
    _result(viewer, panel)
    panel.lattices.table.item(1, 0).setCheckState(Qt.CheckState.Checked)
    _wait(panel)
    panel.lattices.map.click()


def _stale(viewer, panel) -> None:
    _result(viewer, panel)
    if panel.auto.isChecked():
        panel.auto.click()
    panel.session.edits.place((300.0, 400.0))


def _running(viewer, panel) -> None:
    import numpy as np

    # Large enough that the run is still under way when the picture is taken.
    layer = viewer.layers[0]
    layer.data = np.tile(layer.data, (4, 4))
    viewer.reset_view()
    _pump(0.5)
    panel.run_row.run.click()
    end = time.monotonic() + 20
    while panel.run_row.bar.value() < 300 and panel.session.running and time.monotonic() < end:
        _pump(0.01)


def _parameters(viewer, panel) -> None:
    _result(viewer, panel)
    panel.more.click()


def _series(viewer, panel) -> None:
    panel.session.runs.series(fixed=False)
    _wait(panel)
    _pump(0.3)
    viewer.reset_view()


def _warning(viewer, panel) -> None:
    import numpy as np

    noise = np.random.default_rng(0).random((512, 512)).astype("float32")
    viewer.add_image(noise, name="no lattice at all.tif", scale=(0.02, 0.02), units=("nm", "nm"))
    _result(viewer, panel)


def _wait(panel) -> None:
    deadline = time.monotonic() + 60
    while panel.session.running and time.monotonic() < deadline:
        _pump(0.01)


def _pump(seconds: float) -> None:
    from qtpy.QtWidgets import QApplication

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.002)


if __name__ == "__main__":
    headless = sys.platform.startswith("linux") and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )
    if headless:
        xvfb = shutil.which("xvfb-run")
        if xvfb is None:
            sys.exit("There is no display; install Xvfb.")
        os.environ.pop("QT_QPA_PLATFORM", None)
        os.execv(xvfb, [xvfb, "-a", "-s", "-screen 0 1920x1200x24", sys.executable, __file__, *sys.argv[1:]])
    main(sys.argv[1:])
