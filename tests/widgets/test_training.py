"""Training and scanning from the panel; Keras runs in a process of its own."""

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication

from napari_hrstem_defects.models import registry
from napari_hrstem_defects.simulation import simulate
from napari_hrstem_defects.widgets import classifiers
from napari_hrstem_defects.widgets.roles import Role

TIMEOUT = 300_000


@pytest.fixture(autouse=True)
def _own_models(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv(registry.FOLDER_VARIABLE, str(tmp_path / "models"))


@pytest.fixture
def open_images(desk: Any) -> Any:
    """Three small images with their true defects as label layers."""
    made = desk(None)
    for number in range(3):
        made_up = simulate("si_stacking_fault", seed=number, shape=(256, 256))
        image = made.add(np.asarray(made_up.micrograph.data), name=f"image {number}")
        truth = made.viewer.add_labels((made_up.labels == 1).astype(np.uint8), name=f"truth {number}")
        image.metadata["truth"] = truth
    return made


def _fill(made: Any, kind: str, **settings: Any) -> Any:
    made.click(made.panel.train)
    dialog = made.panel._training
    assert dialog.isVisible()
    for image in made.session.images():
        dialog.choose(image, image.metadata["truth"])
    dialog.kind.value = kind
    for name, value in settings.items():
        getattr(dialog, name).value = value
    return dialog


def _finish(made: Any, dialog: Any) -> None:
    made.qtbot.waitUntil(lambda: not dialog.training, timeout=TIMEOUT)


@pytest.mark.slow
def test_train_a_classifier_and_use_it(open_images: Any) -> None:
    made = open_images
    dialog = _fill(made, "compact", name="faults", patches=24, patch=64, epochs=2)
    assert len(dialog.value()) == 3
    made.qtbot.waitUntil(lambda: "Patches of the grid" in dialog.counts.text(), timeout=20_000)
    counts = classifiers.count_patches(None, dialog.value(), "compact", 64)
    assert sum(counts.values()) == 3 * 16
    assert f"defective {counts['defective']}" in dialog.counts.text()
    made.click(dialog.start)
    assert dialog.training
    _finish(made, dialog)
    assert len(dialog.plot.value()) == 2
    assert all(np.isfinite(pair).all() for pair in dialog.plot.value())
    said = dialog.said.text()
    assert "“faults” is in the list of classifiers" in said
    assert "held out" in said
    (entry,) = registry.entries()
    assert entry.contract.name == "faults"
    assert made.session.recipe.classify.classifier == "faults"
    editor = made.panel.groups["classify"].method.editors["classify.classifier"]
    assert [editor.itemData(i) for i in range(editor.count())] == ["screening", "faults"]
    made.session.choose(made.session.images()[0])
    made.click(made.panel.groups["classify"].button)
    made.qtbot.waitUntil(lambda: not made.session.running, timeout=TIMEOUT)
    assert made.states()["classify"] == "current", made.panel.messages.text()
    assert made.document.analysis.screened.classifier == "faults"
    made.session.keras.close()
    assert not any(name.split(".")[0] in ("tensorflow", "keras") for name in sys.modules)


#: Longest time (s) until a training that was cancelled is over; on a busy machine processes end late.
CANCELLED_S = 3.0


def _cancel(made: Any, dialog: Any) -> float:
    """Press Cancel, and wait until another training can be started; seconds."""
    begin = time.perf_counter()
    made.click(dialog.stop)
    made.qtbot.waitUntil(lambda: not dialog.training and dialog.start.isEnabled(), timeout=TIMEOUT)
    return time.perf_counter() - begin


@pytest.mark.slow
def test_training_can_be_cancelled(open_images: Any) -> None:
    made = open_images
    dialog = _fill(made, "compact", name="endless", patches=400, patch=64, epochs=500)
    made.click(dialog.start)
    made.qtbot.waitUntil(lambda: dialog.bar.value() > 0, timeout=TIMEOUT)
    assert not dialog.plot.value()
    assert _cancel(made, dialog) < CANCELLED_S
    assert "Stopped before" in dialog.said.text()
    assert registry.entries() == []
    # Again; this time there is something to keep.
    dialog.patches.value = 24
    made.click(dialog.start)
    made.qtbot.waitUntil(lambda: len(dialog.plot.value()) > 1, timeout=TIMEOUT)
    assert _cancel(made, dialog) < CANCELLED_S
    assert "is being tested" in dialog.said.text()
    made.qtbot.waitUntil(lambda: "is in the list of classifiers" in dialog.said.text(), timeout=TIMEOUT)
    assert "stopped early" in dialog.said.text()
    assert "held out" in dialog.said.text()
    assert [entry.contract.name for entry in registry.entries()] == ["endless"]
    assert made.session.recipe.classify.classifier == "endless"
    assert len(made.viewer.layers) == 6


@pytest.mark.slow
def test_scan_with_an_ensemble(open_images: Any) -> None:
    made = open_images
    made.click(made.panel.scan)
    assert "takes an FFT ensemble" in made.panel.messages.text()
    dialog = _fill(made, "fft-ensemble", name="classes", patches=16, epochs=1)
    made.click(dialog.start)
    _finish(made, dialog)
    assert [entry.name for entry in classifiers.ensembles()] == ["classes"], dialog.said.text()
    dialog.close()
    made.session.choose(made.session.images()[0])
    made.panel._edit("classify.classifier", "screening")
    made.run_all()
    made.click(made.panel.scan)
    assert made.session.running
    made.qtbot.waitUntil(lambda: not made.session.running, timeout=TIMEOUT)
    classes = made.layer(Role.CLASSES)
    assert classes is not None, made.panel.messages.text()
    assert classes.data.shape == (256, 256)
    assert list(classes.features["class"]) == ["non-defective", "defective", "uncertain"]
    scores = made.document.parts(made.viewer.layers, Role.CLASS_SCORES)
    assert list(scores) == ["non-defective", "defective"]
    most = np.argmax([layer.data for layer in scores.values()], axis=0)
    assert_array_equal(most[classes.data != 255], classes.data[classes.data != 255])
    assert made.session.images()[0] is made.document.layer
    for region in made.document.regions():
        numbered = made.layer(Role.REGIONS).data == region.id
        share = np.mean(classes.data[numbered] == 1)
        assert (region.type == "defective") == (share > 0)
    made.session.keras.close()


def test_images_opened_meanwhile_are_offered(desk: Any) -> None:
    made = desk()
    made.click(made.panel.train)
    dialog = made.panel._training
    assert [dialog.images.item(row, 0).text() for row in range(dialog.images.rowCount())] == ["gaas_twin.tif"]
    made.click(dialog.paint)
    (example,) = dialog.value()
    made.viewer.open_sample("napari-hrstem-defects", "si_perfect")
    names = [dialog.images.item(row, 0).text() for row in range(dialog.images.rowCount())]
    assert len(names) == 2
    # What was chosen stays chosen.
    assert [known.source.name for known in dialog.value()] == [example.source.name]
    made.viewer.layers[-1].name = "another name"
    assert len(dialog.value()) == 1
    made.viewer.layers.remove(made.session.images()[-1])
    assert dialog.images.rowCount() == 1
    dialog.close()
    before = len(made.viewer.layers.events.inserted.callbacks)
    made.click(made.panel.train)
    assert len(made.viewer.layers.events.inserted.callbacks) == before + 1
    dialog.reject()
    assert len(made.viewer.layers.events.inserted.callbacks) == before


def test_dialog_goes_with_the_panel(desk: Any, monkeypatch: Any) -> None:
    """A brush that was taken from it goes on; a training it began ends."""
    made = desk()
    made.click(made.panel.train)
    dialog = made.panel._training
    made.click(dialog.paint)
    (layer,) = [layer for layer in made.viewer.layers if layer.name.startswith("Defects to learn")]
    asked: list[Any] = []

    def endless(*args: Any, stopped: Any, **options: Any) -> None:
        asked.append(stopped)
        while not stopped():
            time.sleep(0.01)

    monkeypatch.setattr(classifiers, "train_and_add", endless)
    made.click(dialog.start)
    made.qtbot.waitUntil(lambda: bool(asked), timeout=TIMEOUT)
    del dialog
    made.panel.parent().destroyOnClose()
    QApplication.processEvents()
    assert asked[0]()
    layer.paint((100, 100), 1)
    layer.events.paint(value=[])
    made.qtbot.wait(300)  # an exception in a slot would fail the test


def test_kinds_of_classifiers(desk: Any) -> None:
    made = desk()
    made.click(made.panel.train)
    dialog = made.panel._training
    assert {"vgg16", "fft-ensemble"} <= set(dialog.kind.choices)
    assert not dialog.weights.visible
    dialog.kind.value = "fft-ensemble"
    assert (dialog.patch.value, dialog.epochs.value) == (64, 16)
    dialog.kind.value = "vgg16"
    assert (dialog.patch.value, dialog.epochs.value) == (128, 60)
    assert dialog.weights.visible
    assert "nothing that is trained here leaves" in dialog.said.text().lower()


def test_painting_what_to_learn(desk: Any) -> None:
    made = desk()
    made.click(made.panel.train)
    dialog = made.panel._training
    assert not dialog.start.isEnabled()
    assert "Choose an image" in dialog.counts.text()
    made.click(dialog.paint)
    (layer,) = [layer for layer in made.viewer.layers if layer.name.startswith("Defects to learn")]
    assert layer.mode == "paint"
    np.testing.assert_allclose(layer.scale, made.document.layer.scale)
    (example,) = dialog.value()
    assert not example.labels.any()
    layer.data[100:200, 100:200] = 1
    (example,) = dialog.value()
    (image,) = example.images()
    assert_array_equal(image.mask, layer.data)
    assert_array_equal(image.pixels, dialog.value()[0].source.micrograph().frame().pixels)
    assert image.has_defects
    dialog.name.value = "hand"
    item = dialog.images.item(0, 0)
    item.setCheckState(Qt.CheckState.Unchecked)
    assert dialog.value() == []
    assert not dialog.start.isEnabled()
