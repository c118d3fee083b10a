"""Training and scanning from the panel; Keras runs in a process of its own."""

import re
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QMessageBox

from napari_hrstem_defects.models import registry
from napari_hrstem_defects.models.kinds import KINDS
from napari_hrstem_defects.models.options import RECIPES, TrainingProgress
from napari_hrstem_defects.simulation import simulate
from napari_hrstem_defects.widgets import classifiers
from napari_hrstem_defects.widgets.roles import Role

from .conftest import lattice_image

TIMEOUT = 300_000


@pytest.fixture(autouse=True)
def _own_models(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv(registry.FOLDER_VARIABLE, str(tmp_path / "models"))


@pytest.fixture
def open_images(bench: Any) -> Any:
    """Three small images with their true defects as label layers."""
    made = bench(None)
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
        dialog.images.choose(image, image.metadata["truth"])
    dialog.kind.value = kind
    for name, value in settings.items():
        getattr(dialog, name).value = value
    made.qtbot.waitUntil(dialog.start.isEnabled, timeout=TIMEOUT)
    return dialog


def _mark(made: Any, dialog: Any) -> None:
    """Mark a corner of the chosen image."""
    made.click(dialog.paint)
    layer = made.viewer.layers.selection.active
    layer.data[:100, :100] = 1
    layer.events.paint(value=[])
    made.qtbot.waitUntil(dialog.start.isEnabled, timeout=TIMEOUT)


def _finish(made: Any, dialog: Any) -> None:
    made.qtbot.waitUntil(lambda: not dialog.training, timeout=TIMEOUT)


def _stroke_over(made: Any, marked: Any) -> None:
    """Paint what is marked with the mouse, line by line."""
    layer = made.viewer.layers.selection.active
    layer.brush_size = 16
    for y in range(4, len(marked), 12):
        columns = np.flatnonzero(marked[y])
        if len(columns):
            made.drag((y, columns[0]), (y, columns[-1]), steps=3)


@pytest.mark.slow
def test_paint_three_images_train_and_see_the_labels_of_a_fourth(bench: Any) -> None:
    """As recorded in docs/training.md."""
    made = bench(None)
    truths = []
    for number in range(4):
        made_up = simulate("si_stacking_fault", seed=number, shape=(256, 256))
        made.add(np.asarray(made_up.micrograph.data), name=f"image {number}")
        truths.append(made_up.labels == 1)
    made.show()
    made.click(made.panel.train)
    dialog = made.panel._training
    for row, truth in enumerate(truths[:3]):
        dialog.images.setCurrentCell(row, 0)
        made.click(dialog.paint)
        _stroke_over(made, truth)
    examples = dialog.images.value()
    assert [example.source.name for example in examples] == ["image 0", "image 1", "image 2"]
    for example, truth in zip(examples, truths, strict=False):
        painted = np.asarray(example.labels) > 0
        assert 2 * np.sum(painted & truth) / (painted.sum() + truth.sum()) > 0.7
    dialog.name.value, dialog.patches.value = "faults", 24
    dialog.patch.value, dialog.epochs.value = 64, 2
    made.qtbot.waitUntil(lambda: "Patches of 64 px" in dialog.counts.text(), timeout=20_000)
    # Each image has 4 × 4.
    counts = re.findall(r"(\d+) (?:non-defective|defective|ambivalent)", dialog.counts.text())
    assert len(counts) == 3
    assert sum(map(int, counts)) == 3 * 16
    made.qtbot.waitUntil(dialog.start.isEnabled, timeout=20_000)
    made.click(dialog.start)
    assert dialog.training
    assert dialog.stop.isEnabled()
    _finish(made, dialog)
    assert len(dialog.plot.value()) == 2
    assert all(np.isfinite(pair).all() for pair in dialog.plot.value())
    text = dialog.status.text()
    assert "“faults” is in the list of classifiers" in text
    assert "held out" in text
    (entry,) = registry.entries()
    assert entry.contract.name == "faults"
    assert made.session.recipe.classify.classifier == "faults"
    editor = made.panel.groups["classify"].editors["classify.classifier"]
    assert [editor.itemText(i) for i in range(editor.count())] == ["screening", "faults"]
    made.click(dialog.leave)
    assert not dialog.isVisible()
    # Nothing lies on the next image.
    assert [layer.name for layer in made.viewer.layers if layer.visible] == [f"image {k}" for k in range(4)]
    fourth = made.session.images()[3]
    made.session.choose(fourth)
    made.click(made.panel.run_row.run)
    made.qtbot.waitUntil(lambda: not made.session.running, timeout=TIMEOUT)
    assert set(made.states().values()) == {"current"}, made.panel.messages.text()
    assert made.document.layer is fourth
    assert not any("are resampled" in text for text in made.document.analysis.warnings)
    assert made.document.analysis.screened.classifier == "faults"
    labels = made.layer(Role.LABELS)
    assert labels.visible
    assert labels.data.shape == (256, 256)
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


@pytest.mark.alone
@pytest.mark.slow
def test_training_can_be_cancelled(open_images: Any) -> None:
    made = open_images
    dialog = _fill(made, "compact", name="endless", patches=400, patch=64, epochs=500)
    made.click(dialog.start)
    made.qtbot.waitUntil(lambda: dialog.bar.value() > 0, timeout=TIMEOUT)
    assert not dialog.plot.value()
    assert _cancel(made, dialog) < CANCELLED_S
    assert "Stopped before" in dialog.status.text()
    assert registry.entries() == []
    # Again; this time there is something to keep.
    dialog.patches.value = 24
    made.click(dialog.start)
    made.qtbot.waitUntil(lambda: len(dialog.plot.value()) > 1, timeout=TIMEOUT)
    assert _cancel(made, dialog) < CANCELLED_S
    assert "is being tested" in dialog.status.text()
    made.qtbot.waitUntil(lambda: "is in the list of classifiers" in dialog.status.text(), timeout=TIMEOUT)
    assert "stopped early" in dialog.status.text()
    assert "held out" in dialog.status.text()
    assert [entry.contract.name for entry in registry.entries()] == ["endless"]
    assert made.session.recipe.classify.classifier == "endless"
    assert len(made.viewer.layers) == 6


@pytest.mark.slow
def test_scan_with_an_ensemble(open_images: Any) -> None:
    made = open_images
    made.click(made.panel.scan)
    assert "needs an FFT ensemble" in made.panel.messages.text()
    dialog = _fill(made, "fft-ensemble", name="classes", patches=16, epochs=1)
    made.click(dialog.start)
    _finish(made, dialog)
    assert [entry.name for entry in classifiers.ensembles()] == ["classes"], dialog.status.text()
    dialog.close()
    made.session.choose(made.session.images()[0])
    made.panel._edit("classify.classifier", "screening")
    made.run_all()
    # Cancelled while it goes over the windows, and begun again.
    before = list(made.viewer.layers)
    made.click(made.panel.scan)
    made.qtbot.waitUntil(lambda: "windows" in made.panel.run_row.bar.format(), timeout=TIMEOUT)
    made.click(made.panel.run_row.cancel)
    assert not made.session.running
    assert list(made.viewer.layers) == before
    typed = {region.id: region for region in made.document.regions()}
    made.click(made.panel.scan)
    assert made.session.running
    made.qtbot.waitUntil(lambda: not made.session.running, timeout=TIMEOUT)
    classes = made.layer(Role.CLASSES)
    assert classes is not None, made.panel.messages.text()
    assert classes.data.shape == (256, 256)
    assert list(classes.features["class"]) == ["non-defective", "defective", "uncertain"]
    scores = made.parts(Role.CLASS_SCORES)
    assert list(scores) == ["non-defective", "defective"]
    most = np.argmax([layer.data for layer in scores.values()], axis=0)
    assert_array_equal(most[classes.data != 255], classes.data[classes.data != 255])
    assert made.session.images()[0] is made.document.layer
    for region in made.document.regions():
        numbered = made.layer(Role.REGIONS).data == region.id
        share = np.mean(classes.data[numbered] == 1)
        if region.type == "defective":
            assert share > 0
        else:
            # What is known with more confidence is kept.
            assert region.type == typed[region.id].type
            assert share == 0 or typed[region.id].confidence > 0
    made.session.keras.close()


def test_images_opened_meanwhile_are_offered(bench: Any) -> None:
    made = bench()
    made.click(made.panel.train)
    dialog = made.panel._training
    assert [dialog.images.item(row, 0).text() for row in range(dialog.images.rowCount())] == ["gaas_twin.tif"]
    made.click(dialog.paint)
    (example,) = dialog.images.value()
    made.viewer.open_sample("napari-hrstem-defects", "si_perfect")
    names = [dialog.images.item(row, 0).text() for row in range(dialog.images.rowCount())]
    assert len(names) == 2
    # What was chosen stays chosen.
    assert [known.source.name for known in dialog.images.value()] == [example.source.name]
    made.viewer.layers[-1].name = "another name"
    assert len(dialog.images.value()) == 1
    made.viewer.layers.remove(made.session.images()[-1])
    assert dialog.images.rowCount() == 1
    dialog.close()
    before = len(made.viewer.layers.events.inserted.callbacks)
    made.click(made.panel.train)
    assert len(made.viewer.layers.events.inserted.callbacks) == before + 1
    dialog.reject()
    assert len(made.viewer.layers.events.inserted.callbacks) == before


@pytest.fixture
def endless(monkeypatch: Any) -> list[Any]:
    """A training that goes on until it is stopped; what it asks whether it is."""
    asked: list[Any] = []

    def train(*args: Any, stopped: Any, **options: Any) -> None:
        asked.append(stopped)
        while not stopped():
            time.sleep(0.01)

    monkeypatch.setattr(classifiers, "train_and_add", train)
    return asked


@pytest.fixture
def asks(monkeypatch: Any) -> Any:
    """Answer questions; what was asked."""
    heard: list[str] = []

    def answer(with_what: Any) -> list[str]:
        def question(parent: Any, title: str, text: str) -> Any:
            heard.append(text)
            return with_what

        monkeypatch.setattr(QMessageBox, "question", question)
        return heard

    return answer


def _begin(made: Any, asked: list[Any]) -> Any:
    """Train on what is marked in the only image."""
    made.click(made.panel.train)
    dialog = made.panel._training
    _mark(made, dialog)
    count = len(asked)
    made.click(dialog.start)
    made.qtbot.waitUntil(lambda: len(asked) > count, timeout=TIMEOUT)
    return dialog


def test_dialog_goes_with_the_panel(desk: Any, endless: Any) -> None:
    """It covers nothing else. A brush that was taken from it goes on; a training it began ends."""
    made, asked = desk(), endless
    dialog = _begin(made, asked)
    assert dialog.width() <= made.panel.width()
    (layer,) = [layer for layer in made.viewer.layers if layer.name.startswith("Defects · ")]
    made.panel.parent().destroyOnClose()
    QApplication.processEvents()
    assert asked[0]()
    layer.paint((100, 100), 1)
    layer.events.paint(value=[])
    made.qtbot.wait(300)  # an exception in a slot would fail the test


def test_kinds_of_classifiers(bench: Any) -> None:
    made = bench()
    made.click(made.panel.train)
    dialog = made.panel._training
    assert {"vgg16", "fft-ensemble"} <= set(dialog.kind.choices)
    assert not dialog.weights.visible
    dialog.kind.value = "fft-ensemble"
    assert (dialog.patch.value, dialog.epochs.value) == (64, 16)
    dialog.kind.value = "vgg16"
    assert (dialog.patch.value, dialog.epochs.value) == (128, 60)
    assert dialog.weights.visible
    assert "no data are uploaded" in dialog.status.text().lower()


@pytest.mark.parametrize("name", ["dennler2021", "marvin2025"])
def test_published_ways_to_train(bench: Any, name: str) -> None:
    made = bench()
    made.click(made.panel.train)
    dialog = made.panel._training
    dialog.kind.value = name
    recipe = RECIPES[name]
    assert dialog.patch.value == KINDS[recipe.kind].patch_px
    options = dialog.options()
    for key, value in recipe.options.items():
        assert getattr(options, key) == value, key
    assert options.per_class == 2500
    dialog.epochs.value = 7
    assert dialog.options().epochs == 7


def test_patches_inside_another_symmetry_are_a_choice(bench: Any) -> None:
    made = bench(None)
    image = made.add(simulate("si_stacking_fault", seed=0, shape=(256, 256)).micrograph.data, name="image")
    half = np.zeros((256, 256), np.uint8)
    half[:, :128] = 1
    labels = made.viewer.add_labels(half, name="half")
    made.click(made.panel.train)
    dialog = made.panel._training
    dialog.images.choose(image, labels)
    dialog.patch.value = 64
    # Eight of the sixteen patches lie wholly inside.
    made.qtbot.waitUntil(lambda: "8 non-defective, 8 defective" in dialog.counts.text(), timeout=TIMEOUT)
    assert dialog.options().secondary == "defective"
    dialog.secondary.value = "clean"
    made.qtbot.waitUntil(lambda: "16 non-defective, 0 defective" in dialog.counts.text(), timeout=TIMEOUT)
    assert dialog.options().secondary == "clean"
    dialog.kind.value = "dennler2021"
    assert dialog.options().secondary == "clean"


def test_painting_what_to_learn(bench: Any) -> None:
    made = bench()
    made.click(made.panel.train)
    dialog = made.panel._training
    assert not dialog.start.isEnabled()
    assert "Choose beside an image" in dialog.counts.text()
    made.click(dialog.paint)
    (layer,) = [layer for layer in made.viewer.layers if layer.name.startswith("Defects · ")]
    assert layer.mode == "paint"
    np.testing.assert_allclose(layer.scale, made.document.layer.scale)
    (example,) = dialog.images.value()
    assert not example.labels.any()
    layer.data[100:200, 100:200] = 1
    (example,) = dialog.images.value()
    (image,) = example.images()
    assert_array_equal(image.mask, layer.data)
    assert_array_equal(image.pixels, dialog.images.value()[0].source.micrograph().frame().pixels)
    assert image.has_defects
    dialog.name.value = "hand"
    item = dialog.images.item(0, 0)
    item.setCheckState(Qt.CheckState.Unchecked)
    assert dialog.images.value() == []
    assert not dialog.start.isEnabled()


def test_dialog_goes_with_the_window(desk: Any, endless: Any) -> None:
    """Else the program would go on training, without a window, until it is done."""
    made = desk()
    made.panel.parent().setFloating(True)
    dialog = _begin(made, endless)
    made.panel.parent().setFloating(False)
    made.panel.parent().hide()
    made.panel.parent().show()
    QApplication.processEvents()
    assert not endless[0]()
    assert dialog.isVisible()
    made.viewer.window._qt_window.hide()  # what closing it comes to
    assert endless[0]()
    assert not dialog.isVisible()


def test_a_slip_does_not_stop_a_training(bench: Any, endless: Any, asks: Any) -> None:
    made = bench(lattice_image((256, 256)))
    dialog = _begin(made, endless)
    heard = asks(QMessageBox.StandardButton.No)
    made.qtbot.keyClick(dialog, Qt.Key.Key_Escape)
    dialog.close()
    assert len(heard) == 2
    assert "nothing will be kept" in heard[0]
    assert dialog.isVisible()
    assert dialog.training
    assert not endless[0]()
    dialog._reported(
        dialog._worker, TrainingProgress(0.5, "epoch 2 of 3", "compact", 2, 3, 0.5, 0.9, 0.5, 0.9)
    )
    assert dialog.bar.format().startswith("compact, epoch 2 of 3")
    assert dialog.plot.value() == [(0.5, 0.5)]
    asks(QMessageBox.StandardButton.Yes)
    dialog.close()
    assert "will be tested and kept" in heard[-1]
    assert not dialog.isVisible()
    assert endless[0]()
    made.qtbot.waitUntil(lambda: not dialog.training, timeout=TIMEOUT)
    # Nothing runs: no question.
    made.click(made.panel.train)
    assert not dialog.stop.isEnabled()
    made.click(dialog.leave)
    assert not dialog.isVisible()
    assert len(heard) == 3


def test_names_are_looked_at_before_anything_is_learned(
    bench: Any, endless: Any, asks: Any, tmp_path: Path
) -> None:
    made = bench(lattice_image((256, 256)))
    made.click(made.panel.train)
    dialog = made.panel._training
    assert dialog.name.value == "my classifier"
    _mark(made, dialog)
    for name in ("../elsewhere/x", "screening", "", "a:b"):
        dialog.name.value = name
        made.click(dialog.start)
        assert not dialog.training
        assert "classifier" in dialog.status.text()
        assert "name" in dialog.status.text() or "called" in dialog.status.text()
    # A name that is taken is not lost by a slip.
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mine.hrstem").write_bytes(b"made in three days")
    dialog.name.value = "mine"
    heard = asks(QMessageBox.StandardButton.No)
    made.click(dialog.start)
    assert not dialog.training
    assert "“mine” already" in heard[0]
    asks(QMessageBox.StandardButton.Yes)
    made.click(dialog.start)
    assert dialog.training
    made.qtbot.waitUntil(lambda: bool(endless), timeout=TIMEOUT)
    # So is that of a network which is still being tested.
    dialog.plot.setValue([(0.5, 0.5)])
    made.click(dialog.stop)
    (tmp_path / "models" / "mine.hrstem").unlink()
    asks(QMessageBox.StandardButton.No)
    if dialog._testing:
        made.click(dialog.start)
        assert len(heard) == 3
    assert not dialog.training


def test_painting_shows_its_image_alone(bench: Any) -> None:
    """Of images that lie on each other only the topmost is seen."""
    made = bench(None)
    images = [
        made.add(simulate("si_stacking_fault", seed=k, shape=(256, 256)).micrograph.data) for k in (0, 1)
    ]
    made.click(made.panel.train)
    dialog = made.panel._training
    dialog.images.setCurrentCell(0, 0)
    made.click(dialog.paint)
    layer = made.viewer.layers.selection.active
    assert [image.visible for image in images] == [True, False]
    assert layer.visible
    assert layer.mode == "paint"
    # Whatever number is painted with, it is seen.
    assert layer.get_color(1)[3] > 0
    np.testing.assert_allclose(layer.get_color(1), layer.get_color(7))
    made.show()
    made.session.choose(images[0])
    layer.selected_label, layer.brush_size = 3, 40
    made.drag((100.0, 100.0), (140.0, 140.0))
    assert set(np.unique(layer.data)) == {0, 3}
    dialog.patch.value = 64
    made.qtbot.waitUntil(lambda: "Patches of 64 px" in dialog.counts.text(), timeout=TIMEOUT)
    before = dialog.counts.text()
    # Painting goes on where it was, and what is taken back is counted, too.
    count = len(made.viewer.layers)
    made.click(dialog.paint)
    assert len(made.viewer.layers) == count
    layer.undo()
    made.qtbot.waitUntil(lambda: dialog.counts.text() != before, timeout=TIMEOUT)
    assert "No labelled image has a place" in dialog.counts.text()
    dialog.images.setCurrentCell(1, 0)
    made.click(dialog.paint)
    assert [image.visible for image in images] == [False, True]
    marks = [layer for layer in made.viewer.layers if layer.name.startswith("Defects · ")]
    assert len(marks) == 2
    dialog.close()
    # What is marked in one image would lie on the others.
    assert [layer.visible for layer in made.viewer.layers] == [
        layer not in marks for layer in made.viewer.layers
    ]


def test_what_can_be_learned_from(bench: Any) -> None:
    made = bench(None)
    made.click(made.panel.train)
    dialog = made.panel._training
    assert "Open an image first" in dialog.counts.text()
    assert not dialog.paint.isEnabled()
    colour = made.add(np.zeros((64, 64, 3), np.uint8), rgb=True)
    assert "Colour images" in dialog.counts.text()
    made.viewer.layers.remove(colour)
    lattice = simulate("si_stacking_fault", seed=0, shape=(256, 256)).micrograph.data
    image = made.add(lattice, name="image")
    other = made.viewer.add_labels(np.zeros((256, 200), np.uint8), name="cropped")
    fits = made.viewer.add_labels(np.zeros((256, 256), np.int32), name="fits")
    choice = dialog.images.cellWidget(0, 1)
    names = [choice.itemText(index) for index in range(choice.count())]
    assert names == ["– choose –", "no defects in it", "fits", "cropped (256 × 200 px, does not fit)"]
    assert [choice.model().item(k).isEnabled() for k in range(4)] == [True, True, True, False]
    dialog.images.choose(image, other)
    assert dialog.images.value() == []
    dialog.images.item(0, 0).setCheckState(Qt.CheckState.Checked)
    assert "the ticked image" in dialog.counts.text()
    choice = dialog.images.cellWidget(0, 1)
    choice.setCurrentIndex(1)
    (clean,) = dialog.images.value()
    assert not clean.labels.any()
    # The same numbers mean the same as in a file: 255 is not assessed.
    fits.data[:, :100], fits.data[:, 200:] = 3, 255
    dialog.images.choose(image, fits)
    (known,) = dialog.images.value()[0].images()
    assert_array_equal(known.mask, np.where(fits.data == 3, 1, fits.data))
    # Of a series the marked frames; before there are any that is said.
    series = made.add(np.stack([lattice] * 3), name="series")
    dialog.images.choose(image, None)
    dialog.images.setCurrentCell(1, 0)
    made.click(dialog.paint)
    made.qtbot.waitUntil(
        lambda: "no defects are marked in any frame" in dialog.counts.text(), timeout=TIMEOUT
    )
    marks = made.viewer.layers.selection.active
    assert marks.data.shape == series.data.shape
    marks.data[1, :100, :100] = 1
    marks.refresh()
    made.qtbot.waitUntil(lambda: "Patches of" in dialog.counts.text(), timeout=TIMEOUT)
    assert [image.name for image in dialog.images.value()[0].images()] == ["series[1]"]


def test_a_classifier_trained_again_makes_its_results_stale(bench: Any) -> None:
    made = bench(lattice_image((192, 192), period=11))
    made.run_all()
    assert set(made.states().values()) == {"current"}
    made.session.invalidate("small")
    assert set(made.states().values()) == {"current"}
    made.session.invalidate("screening")
    assert set(made.states().values()) == {"stale"}


def test_layers_may_go_while_it_learns(bench: Any, endless: Any) -> None:
    made = bench(lattice_image((256, 256)))
    dialog = _begin(made, endless)
    made.viewer.layers.clear()
    assert dialog.training
    assert dialog.images.rowCount() == 0
    assert "Open an image first" in dialog.counts.text()
    dialog.plot.setValue([(0.5, 0.5)])
    made.click(dialog.stop)
    assert not dialog.training
    assert not dialog.start.isEnabled()
    made.qtbot.waitUntil(lambda: not dialog._testing, timeout=TIMEOUT)


def test_without_tensorflow_it_is_said_what_to_install(bench: Any, tmp_path: Path, monkeypatch: Any) -> None:
    package = tmp_path / "broken" / "tensorflow"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ModuleNotFoundError('no tensorflow', name='tensorflow')\n")
    # The process of Keras looks for its modules where this one does.
    monkeypatch.syspath_prepend(str(tmp_path / "broken"))
    made = bench(lattice_image((256, 256)))
    made.click(made.panel.train)
    dialog = made.panel._training
    _mark(made, dialog)
    made.click(dialog.start)
    assert dialog.training
    _finish(made, dialog)
    assert "not installed" in dialog.status.text()
    assert 'pip install "napari-hrstem-defects[tensorflow]"' in dialog.status.text()
    assert dialog.start.isEnabled()
    assert registry.entries() == []
    # Everything else works.
    dialog.close()
    made.run_all()
    assert set(made.states().values()) == {"current"}


def test_number_fields_take_what_is_typed(bench: Any) -> None:
    """Digit by digit, as a hand types it; a value out of range is set right when the field is left."""
    made = bench()
    made.click(made.panel.train)
    dialog = made.panel._training
    for field, typed, value in (
        (dialog.patch, "64", 64),
        (dialog.patches, "100", 100),
        (dialog.epochs, "12", 12),
        (dialog.patch, "7", 32),
    ):
        editor = field.native.lineEdit()
        editor.setFocus()
        editor.selectAll()
        made.qtbot.keyClicks(editor, typed)
        assert editor.text() == typed
        made.qtbot.keyClick(field.native, Qt.Key.Key_Return)
        assert field.value == value
    # Return has pressed no button.
    assert len(made.viewer.layers) == 1


def test_train_needs_defective_patches_and_cancel_stays_where_it_is(bench: Any, endless: Any) -> None:
    made = bench(lattice_image((256, 256)))
    made.click(made.panel.train)
    dialog = made.panel._training
    made.click(dialog.paint)
    made.qtbot.waitUntil(lambda: "Patches of" in dialog.counts.text(), timeout=TIMEOUT)
    assert not dialog.start.isEnabled()
    assert not dialog.stop.isEnabled()
    _mark(made, dialog)
    made.click(dialog.start)
    made.qtbot.waitUntil(lambda: bool(endless), timeout=TIMEOUT)
    made.click(dialog.stop)
    made.qtbot.waitUntil(lambda: not dialog.training, timeout=TIMEOUT)
    made.click(dialog.stop)  # a second click under the same mouse does nothing
    assert dialog.isVisible()
