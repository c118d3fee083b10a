"""The panel, clicked through in a real window."""

import functools
import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.testing import assert_array_equal
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QShortcut, QWheelEvent
from qtpy.QtWidgets import (
    QAbstractScrollArea,
    QAbstractSpinBox,
    QApplication,
    QLabel,
    QPushButton,
    QWidget,
)

from napari_hrstem_defects.batch import analyze_files
from napari_hrstem_defects.core import pipeline
from napari_hrstem_defects.core.recipe import Recipe
from napari_hrstem_defects.io import load, read
from napari_hrstem_defects.widgets.contributions import sample_folder
from napari_hrstem_defects.widgets.folders import FolderDialog, FolderJob
from napari_hrstem_defects.widgets.layout import Column
from napari_hrstem_defects.widgets.model import STEPS
from napari_hrstem_defects.widgets.roles import Role, role_of

from .conftest import TIMEOUT, analysed, lattice_image, record_steps


def test_first_result_takes_two_clicks(bench: Any, monkeypatch: Any) -> None:
    """Open Sample is the first, Run all the second; nothing is asked of a network."""

    def refused(*args: Any) -> None:
        raise AssertionError("a connection was asked for")

    monkeypatch.setattr(socket.socket, "connect", refused)
    made = bench(None)
    assert made.panel.info.text() == "No image is open."
    made.viewer.open_sample("napari-hrstem-defects", "gaas_twin")
    image, truth = made.viewer.layers
    assert made.document.layer is image
    true = truth.data.copy()
    made.run_all()
    assert set(made.states().values()) == {"current"}
    expected = analysed("gaas_twin")
    assert expected.labels.any()
    assert_array_equal(made.layer(Role.LABELS).data, expected.labels)
    assert_array_equal(made.layer(Role.SEVERITY).data, expected.severity)
    assert f"period {expected.lattice.period_px:.1f} px" in made.panel.info.text()
    assert made.panel.results.table.regions.rowCount() == len(expected.regions)
    assert len(made.session.images()) == 1  # our own outputs are not offered as images
    # The layer of true defects is neither an image nor one of ours, hidden, and left alone.
    assert [layer for layer in made.viewer.layers if role_of(layer) is None] == [image, truth]
    assert not truth.visible
    assert_array_equal(truth.data, true)
    assert not any(name.split(".")[0] in ("tensorflow", "keras") for name in sys.modules)
    made.viewer.layers.remove(truth)
    assert set(made.states().values()) == {"current"}


def test_steps_can_be_run_one_after_the_other(bench: Any) -> None:
    made = bench(lattice_image((256, 256)))
    seen = []
    for step in STEPS:
        made.click(made.panel.groups[step.name].button)
        made.wait()
        states = made.states()
        seen.append(sum(state == "current" for state in states.values()))
        assert states[step.name] == "current"
    assert seen == list(range(1, len(STEPS) + 1))
    expected = pipeline.analyze(made.document.analysis.micrograph)
    assert_array_equal(made.layer(Role.LABELS).data, expected.labels)


def test_the_next_thing_to_press_is_accented(bench: Any) -> None:
    made = bench(lattice_image((256, 256)))

    def accented() -> list[str]:
        return [b.text() for b in made.panel.findChildren(QPushButton) if "background" in b.styleSheet()]

    assert accented() == ["▶  Run all"]
    made.run_all()
    assert accented() == []
    made.panel.groups["symmetry"].editors["symmetry.kernel_periods"].setValue(2.0)
    made.wait()
    made.panel.auto.click()
    made.panel.groups["segment"].editors["segment.min_area_periods"].setValue(3)
    assert made.states() == {**dict.fromkeys(made.states(), "current"), "segment": "stale"}
    (button,) = (b for b in made.panel.findChildren(QPushButton) if "background" in b.styleSheet())
    assert button is made.panel.groups["segment"].button
    made.panel.groups["classify"].editors["classify.max_defect_area"].setValue(0.04)
    current = dict.fromkeys(("preprocess", "domains", "variance"), "current")
    assert made.states() == {**dict.fromkeys(made.states(), "stale"), **current}


def test_threshold_slider_changes_the_labels_live(bench: Any) -> None:
    made = bench("si_fault_amorphous")
    # As far as the severity exceeds a share of the threshold.
    made.panel.groups["segment"].editors["segment.overlap"].setValue(0.0)
    made.run_all()
    before, started = made.layer(Role.LABELS).data.copy(), made.session.recipe
    made.panel.threshold.slider.setValue(made.panel.threshold.slider.maximum())
    fewest = made.session.recipe.segment.false_marks
    assert fewest == pytest.approx(1e-4)
    made.wait()
    after = made.layer(Role.LABELS).data
    expected = analysed("si_fault_amorphous", segment__false_marks=fewest, segment__overlap=0.0)
    assert_array_equal(after, expected.labels)
    assert np.count_nonzero(after) < np.count_nonzero(before)
    assert set(made.states().values()) == {"current"}
    # While the slider is held the labels follow, and the severity is not computed anew.
    severity = made.layer(Role.SEVERITY).data
    slider = made.panel.threshold.slider
    slider.setSliderDown(True)
    slider.setValue(0)
    made.wait()
    assert made.layer(Role.LABELS).data.sum() > after.sum()
    slider.setSliderDown(False)
    assert set(made.states().values()) == {"current"}
    assert made.layer(Role.SEVERITY).data is severity
    exact = started.replace({"segment.false_marks": made.session.recipe.segment.false_marks})
    assert exact.segment.false_marks > fewest
    assert made.session.recipe == exact  # one slider moves one parameter
    expected = analysed(
        "si_fault_amorphous", segment__false_marks=exact.segment.false_marks, segment__overlap=0.0
    )
    assert_array_equal(made.layer(Role.LABELS).data, expected.labels)


def test_slider_of_the_variance_changes_the_mask_live(bench: Any) -> None:
    made = bench("srtio3_amorphous")
    made.run_all()
    before = np.count_nonzero(made.layer(Role.AMORPHOUS).data)
    editor = made.panel.groups["variance"].editors["variance.fraction"]
    assert editor.value() == 0.5
    editor.setValue(0.0512)
    assert made.session.recipe.variance.fraction == 0.05  # to two digits, as a hand means it
    made.wait()
    expected = analysed("srtio3_amorphous", variance__fraction=0.05)
    mask = made.layer(Role.AMORPHOUS).data
    assert_array_equal(mask, expected.amorphous)
    assert np.count_nonzero(mask) < before
    assert set(made.states().values()) == {"current"}
    made.panel.actions_.reset.trigger()
    assert editor.value() == 0.5


def test_every_warning_is_a_sentence_in_the_panel(bench: Any) -> None:
    made = bench("si_fault_amorphous")
    made.run_all()
    assert made.panel.messages.text() == ""
    # On the fault, as the severity of the automatic best patch tells where it is.
    fault = max(made.document.regions(), key=lambda region: region.length_px / region.width_px)
    made.session.edits.place(fault.centroid)
    made.wait()
    assert "contain a defect" in made.panel.messages.text()
    made.click(made.panel.best_patch.undo)
    made.wait()
    assert made.panel.messages.text() == ""
    # No patch is left that could be the best.
    layer = made.layer(Role.PATCHES)
    layer.data[:] = 2
    layer.events.paint(value=[])
    made.wait()
    assert made.document.analysis.screened.defective.all()
    assert made.panel.messages.text() == "\n".join(made.document.analysis.warnings)
    assert "No patch was found clean" in made.panel.messages.text()
    made.add(np.random.default_rng(0).random((256, 256)).astype(np.float32))
    made.run_all()
    assert "No lattice was found" in made.panel.messages.text()
    assert not made.layer(Role.LABELS).data.any()


def test_parameters_that_do_not_fit_together_are_refused_with_a_sentence(bench: Any) -> None:
    made = bench(None)
    editor = made.panel.groups["preprocess"].editors["preprocess.band_high"]
    made.panel.groups["preprocess"].editors["preprocess.band_low"].setValue(0.9)
    assert "band_low must be smaller than preprocess.band_high" in made.panel.messages.text()
    assert made.session.recipe == Recipe()
    assert made.panel.groups["preprocess"].editors["preprocess.band_low"].value() == 0.12
    assert editor.value() == 0.8


@pytest.mark.parametrize("clicks", [1, 2])
def test_number_that_is_typed_replaces_the_one_clicked_into(bench: Any, clicks: int) -> None:
    """Wherever it was clicked: 0.7 typed over a part of 0.57 became 0.07, and a digit behind a unit nothing."""
    made = bench(None)
    made.panel.activateWindow()
    made.panel.run_row.run.setFocus()
    made.qtbot.wait(50)
    click = made.qtbot.mouseClick if clicks == 1 else made.qtbot.mouseDClick
    for name, typed in (
        ("segment.extent", "0.7"),
        ("symmetry.kernel_periods", "2.5"),
        ("classify.patch_size", "64"),
    ):
        editor = made.panel.groups[name.partition(".")[0]].editors[name]
        line = editor.lineEdit()
        click(line, Qt.MouseButton.LeftButton, pos=QPoint(line.width() - 8, line.height() // 2))
        made.qtbot.wait(20)
        made.qtbot.keyClicks(line, typed)
        made.qtbot.keyClick(line, Qt.Key.Key_Return)
        assert editor.value() == float(typed), name
    assert (made.session.recipe.segment.extent, made.session.recipe.classify.patch_size) == (0.7, 64)


def test_mode_says_which_parameters_there_are(bench: Any) -> None:
    made = bench("si_perfect")
    editors = {n: editor for group in made.panel.groups.values() for n, editor in group.editors.items()}

    def seen() -> set[str]:
        return {name for name, editor in editors.items() if not editor.isHidden()}

    mode = made.panel.groups["preprocess"].editors["mode"]
    lattice = seen()
    assert not any(name.startswith("as_published.") for name in lattice)
    assert {"symmetry.kernel_periods", "segment.extent", "variance.fraction"} <= lattice
    mode.setValue("published")
    published = seen()
    assert made.session.recipe == Recipe.published()
    assert {"as_published.filter", "as_published.ratio", "as_published.always_filter"} <= published
    assert not any(name.startswith(("symmetry.", "variance.", "segment.")) for name in published)
    assert "classify.patch_size" not in published
    QApplication.processEvents()
    fields = [editors[name] for name in published if isinstance(editors[name], QAbstractSpinBox)]
    for field in (field for field in fields if field.isVisible()):
        assert field.fontMetrics().horizontalAdvance(field.text()) <= field.lineEdit().width()
    for part in (made.panel.threshold, made.panel.lattices):
        assert part.isHidden()
    made.run_all()
    expected = pipeline.analyze(read(sample_folder() / "si_perfect.tif"), Recipe.published())
    assert_array_equal(made.layer(Role.PREPROCESSED).data, expected.filtered)
    # The image has no defective patch, with which the analysis ends; a tick runs the filters all the same.
    assert "no defective patch: the image is non-defective" in made.document.analysis.warnings
    assert made.panel.region_count.text().startswith("non-defective · no regions")
    assert not made.layer(Role.SEVERITY).data.any()
    made.panel.groups["variance"].editors["as_published.always_filter"].click()
    made.run_all()
    assert made.layer(Role.SEVERITY).data.any()
    made.panel.groups["variance"].editors["as_published.always_filter"].click()
    mode.setValue("lattice")
    assert seen() == lattice
    for part in (made.panel.threshold, made.panel.lattices):
        assert not part.isHidden()


def test_run_of_one_step_computes_no_more(bench: Any, monkeypatch: Any) -> None:
    made = bench()
    ran = record_steps(monkeypatch)
    made.click(made.panel.groups["best_patch"].button)
    made.wait()
    assert ran == ["preprocess", "domains", "classify", "best_patch"]
    assert made.panel.actions_.export(Path("nowhere")) is None
    made.click(made.panel.groups["symmetry"].button)
    made.wait()
    assert ran[4:] == ["variance", "symmetry"]
    states = made.states()
    assert [states[name] for name in ("domains", "classify", "best_patch", "symmetry")] == ["current"] * 4
    assert states["segment"] == "not run"
    assert made.layer(Role.SEVERITY) is not None
    assert made.layer(Role.LABELS) is None
    made.run_all()
    assert ran[6:] == list(pipeline.STEPS)
    ran.clear()
    # What still holds is kept when a step before it is run again.
    made.click(made.panel.groups["preprocess"].button)
    made.wait()
    assert ran == ["preprocess"]
    assert set(made.states().values()) == {"current"}
    assert made.document.analysis.is_complete
    # A stale step stays stale, with its layer and table, until it is run.
    made.panel.auto.click()
    made.panel.groups["classify"].editors["classify.max_defect_area"].setValue(0.04)
    ran.clear()
    made.click(made.panel.groups["classify"].button)
    made.wait()
    assert ran == ["classify"]
    states = made.states()
    assert [states[name] for name in ("classify", "best_patch", "segment")] == ["current", "stale", "stale"]
    assert made.panel.results.table.value()
    made.panel.auto.click()
    made.session.runs.update()
    made.wait()
    assert set(made.states().values()) == {"current"}
    expected = analysed("gaas_twin", classify__max_defect_area=0.04)
    assert_array_equal(made.layer(Role.LABELS).data, expected.labels)


def test_histogram_marks_the_threshold(bench: Any) -> None:
    made = bench(lattice_image((256, 256)))
    made.run_all()
    view = made.panel.threshold.histogram
    histogram = made.document.found().histogram
    assessed = made.document.analysis.severity[made.document.analysis.valid_mask]
    low, high = histogram.edges[[0, -1]]
    assert histogram.counts.sum() == np.count_nonzero((assessed >= low) & (assessed <= high))
    assert view.value()[1] == pytest.approx(made.document.analysis.threshold)
    low, high = view.axes.get_xlim()
    pointed = made.document.analysis.threshold + 1
    x = round((pointed - low) / (high - low) * (view.width() - 1))
    made.qtbot.mouseClick(view, Qt.MouseButton.LeftButton, pos=QPoint(x, 10))
    assert made.session.recipe.segment.false_marks < 0.05
    made.wait()
    assert made.document.analysis.threshold == pytest.approx(pointed, abs=(high - low) / 50)
    assert view.value()[1] == pytest.approx(made.document.analysis.threshold)


def test_every_parameter_has_a_tooltip_with_its_unit(bench: Any) -> None:
    made = bench(None)
    editors = {}
    for group in made.panel.groups.values():
        editors |= group.editors
    editors["segment.false_marks"] = made.panel.threshold.number
    recipe = Recipe()
    parameters = {name: about for name, _, about in recipe.parameters() if not about["one_image"]}
    assert editors.keys() == parameters.keys()
    for name, about in parameters.items():
        tip = editors[name].toolTip()
        assert about["doc"][1:30] in tip
        assert f"Unit: {about['unit'] or 'none'}" in tip
    folded = {name for group in made.panel.groups.values() for name in group.folded.editors}
    assert folded == {name for name, about in parameters.items() if not about["shown"]}


def test_empty_panel_says_what_to_do(bench: Any, tmp_path: Any) -> None:
    made = bench(None)
    made.click(made.panel.run_row.run)
    assert not made.session.running
    assert "Open an image first" in made.panel.messages.text()
    (tmp_path / "broken.json").write_text("{", "utf-8")
    made.panel.actions_.load_recipe(tmp_path / "broken.json")
    assert "not valid JSON" in made.panel.messages.text()
    assert made.session.recipe == Recipe()
    assert made.panel.actions_.export(tmp_path) is None
    assert "no complete result to export" in made.panel.messages.text()
    assert "10.1016/j.micron.2021.103069" in made.panel.citation.text()


def test_values_persist_and_reset_restores_the_defaults(bench: Any) -> None:
    first = bench(None)
    first.panel.groups["symmetry"].editors["symmetry.kernel_periods"].setValue(2.5)
    second = bench(None)
    assert second.session is not first.session
    editor = second.panel.groups["symmetry"].editors["symmetry.kernel_periods"]
    assert editor.value() == 2.5
    second.panel.actions_.reset.trigger()
    assert editor.value() == 1.5
    assert second.session.recipe == Recipe()
    assert bench(None).session.recipe == Recipe()


def test_recipe_saved_in_the_panel_gives_the_same_labels_elsewhere(bench: Any, tmp_path: Any) -> None:
    made = bench(lattice_image((256, 256)))
    made.panel.groups["segment"].editors["segment.extent"].setValue(0.8)
    made.panel.groups["symmetry"].editors["symmetry.kernel_periods"].setValue(1.8)
    made.run_all()
    made.panel.actions_.save_recipe(tmp_path / "recipe.json")
    loaded = Recipe.from_json((tmp_path / "recipe.json").read_text("utf-8"))
    assert loaded.symmetry.kernel_periods == 1.8
    expected = pipeline.analyze(made.document.analysis.micrograph, loaded)
    assert_array_equal(made.layer(Role.LABELS).data, expected.labels)
    made.panel.actions_.reset.trigger()
    made.panel.actions_.load_recipe(tmp_path / "recipe.json")
    made.wait()
    assert made.session.recipe == loaded
    assert made.panel.groups["segment"].editors["segment.extent"].value() == 0.8
    assert_array_equal(expected.labels, made.layer(Role.LABELS).data)


def test_exported_files_are_those_of_the_command_line(bench: Any, tmp_path: Path) -> None:
    """Pixel by pixel and row by row; only times differ."""
    made = bench(None)
    path = sample_folder() / "gaas_twin.tif"
    made.viewer.open(path, plugin="napari")
    made.qtbot.waitUntil(lambda: not made.panel.calibrate.isVisible(), timeout=TIMEOUT)
    made.run_all()
    ours = made.panel.actions_.export(tmp_path)
    made.wait()
    code = "from napari_hrstem_defects.cli import main; main()"
    arguments = ["analyze", path, "--out", tmp_path / "command", "--quiet"]
    subprocess.run([sys.executable, "-c", code, *map(str, arguments)], check=True)
    theirs = tmp_path / "command" / path.stem
    assert {file.name for file in ours.iterdir()} == {file.name for file in theirs.iterdir()}
    compared = 0
    for file in ours.iterdir():
        other = theirs / file.name
        if file.suffix == ".tif":
            assert_array_equal(tifffile.imread(file), tifffile.imread(other))
        elif file.suffix == ".csv":
            assert file.read_text("utf-8") == other.read_text("utf-8")
        elif file.suffix == ".json":
            mine, other_info = (json.loads(each.read_text("utf-8")) for each in (file, other))
            for info in (mine, other_info):
                for key in ("created", "timings"):
                    info.pop(key)
            assert mine == other_info
        else:
            continue
        compared += 1
    assert compared >= 6
    made.panel.actions_.export(tmp_path)
    made.wait()
    assert "result already" in made.panel.messages.text()


def test_ratings_given_in_the_menu_are_tabulated_by_evaluate(
    bench: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    """The file is asked for once; a result that is rated again counts once."""
    asked: list[str] = []

    def ask(*args: Any, **options: Any) -> tuple[str, str]:
        asked.append("file")
        return str(tmp_path / "ratings.csv"), ""

    monkeypatch.setattr("qtpy.QtWidgets.QFileDialog.getSaveFileName", ask)
    made = bench(lattice_image((192, 192), period=11))
    entries = {action.text(): action for action in made.panel.actions_.buttons["Rate"].menu().actions()}
    entries["Inadequate"].trigger()
    assert "no complete result to rate" in made.panel.messages.text()
    assert not asked
    made.run_all()
    for rating in ("Inadequate", "Very helpful"):
        entries[rating].trigger()
    made.add(lattice_image((192, 192), period=13))
    made.run_all()
    entries["Potentially helpful"].trigger()
    assert asked == ["file"]
    assert "Rated “Potentially helpful”" in made.panel.messages.text()
    code = "from napari_hrstem_defects.cli import main; main()"
    arguments = ["evaluate", "--ratings", tmp_path / "ratings.csv", "--json", tmp_path / "out.json"]
    subprocess.run([sys.executable, "-c", code, *map(str, arguments)], check=True, capture_output=True)
    counted = json.loads((tmp_path / "out.json").read_text("utf-8"))
    assert counted["ratings"] == {"Very helpful": 1, "Potentially helpful": 1, "Inadequate": 0}
    assert counted["images"] == 2
    entries["Another file…"].trigger()
    assert asked == ["file", "file"]


BAD = {
    "colour": (
        np.random.default_rng(0).integers(0, 255, (128, 128, 3), dtype=np.uint8),
        {"rgb": True},
        "colour picture",
    ),
    "constant": (np.full((128, 128), 3.0, np.float32), {}, "same value"),
    "all NaN": (np.full((128, 128), np.nan, np.float32), {"contrast_limits": (0, 1)}, "finite"),
    "boolean": (np.eye(128, dtype=bool), {}, "boolean"),
    "tiny": (np.eye(16, dtype=np.float32), {}, "at least 32"),
    "four axes": (np.random.default_rng(0).random((2, 3, 64, 64)), {}, "time series"),
}


@pytest.mark.filterwarnings("ignore:.*NaN.*:RuntimeWarning")
def test_bad_images_get_a_sentence_and_a_notification(bench: Any, monkeypatch: Any) -> None:
    shown: list[str] = []
    monkeypatch.setattr("napari.utils.notifications.show_error", shown.append)
    made = bench(None)
    for number, (kind, (data, options, words)) in enumerate(BAD.items(), start=1):
        made.add(data, name=kind, **options)
        made.run_all()
        message = made.panel.messages.text()
        assert words in message, kind
        assert message.startswith(kind)
        assert "Traceback" not in message
        assert shown[-1] == made.document.failed[1] == message
        assert len(shown) == number
        assert made.states()["preprocess"] == "failed"
        assert len(made.viewer.layers) == number


@pytest.mark.parametrize("data", [np.eye(64, dtype=np.complex64), np.arange(64.0), np.full((64, 64), "a")])
def test_what_napari_cannot_show_is_a_sentence_too(data: Any) -> None:
    """Complex, 1-D and text arrays never become a layer, but the session would say why."""
    from napari_hrstem_defects.errors import MicrographError
    from napari_hrstem_defects.widgets.source import Source

    with pytest.raises(MicrographError, match=r"complex|time series|real numbers"):
        Source(data, 0, "x", None, ()).micrograph()


def _assert_fits(made: Any) -> None:
    made.qtbot.wait(100)
    # Once the dock has found its width.
    made.qtbot.waitUntil(functools.partial(_nothing_is_cut, made), timeout=10_000)


def _nothing_is_cut(made: Any) -> None:
    assert made.panel.width() >= made.panel.minimumSizeHint().width()
    column = made.panel.findChild(Column)
    assert made.viewer.window._qt_window.height() <= 800
    assert column.verticalScrollBar().maximum() == 0, "the panel must be scrolled at 1280 × 800"
    for button in made.panel.findChildren(QPushButton):
        if button.isVisible():
            right = button.mapTo(made.panel, QPoint(button.width(), 0)).x()
            assert right <= made.panel.width(), f"{button.text()} is cut off"
            assert button.width() >= button.minimumSizeHint().width() - 2, (
                f"the text of {button.text()} is cut"
            )
    for label in made.panel.findChildren(QLabel):
        if label.isVisible() and label.text():
            needed = label.heightForWidth(label.width()) if label.wordWrap() else label.sizeHint().height()
            assert label.height() >= needed, f"“{label.text()}” is cut"
            if not label.wordWrap():
                assert label.width() >= label.sizeHint().width(), f"“{label.text()}” is cut"


LONG = (
    "This is a sentence of a length that is not unusual for what the panel has to say, so it takes two lines."
)


def test_panel_fits_a_laptop_and_keeps_its_width(desk: Any) -> None:
    """With a long message and a second lattice, corrections or frames; else the image would move under the mouse."""
    made = desk("gaas_twin")
    _assert_fits(made)
    width = made.panel.width()
    image = lattice_image((192, 192), period=11)
    for data in (None, image, np.stack([image, image])):
        if data is not None:
            made.add(data)
        made.run_all()
        _assert_fits(made)
        if data is image:
            layer = made.layer(Role.LABELS)
            layer.data[10:80, 10:80] = 1
            layer.events.paint(value=[])
            assert made.panel.discard.isVisible()
        made.session.noticed.emit(LONG)
        assert LONG in made.panel.messages.text()
        _assert_fits(made)
        assert made.panel.width() == width
    assert made.panel.frames.isVisible()


def test_nothing_scrolls_inside_the_panel(bench: Any) -> None:
    """However much there is to show, only the panel itself is scrolled, and only up and down."""
    made = bench(lattice_image((192, 192), period=11), size=(1280, 600))
    made.run_all()
    made.click(made.panel.more)
    made.qtbot.wait(100)
    column = made.panel.findChild(Column)
    assert column.verticalScrollBar().maximum() > 0
    inside = [area for area in column.findChildren(QAbstractScrollArea) if area.isVisible()]
    for area in inside:
        for bar in (area.verticalScrollBar(), area.horizontalScrollBar()):
            assert not (bar.isVisible() and bar.maximum() > bar.minimum()), area
    assert column.widget().width() <= column.viewport().width()


def test_folder_is_analysed_like_on_the_command_line(bench: Any, tmp_path: Any) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for number, name in enumerate(("one", "two")):
        tifffile.imwrite(images / f"{name}.tif", lattice_image((192, 192), period=11, seed=number))
    (images / "broken.tif").write_bytes(b"no TIFF")
    made = bench(None)
    made.panel.groups["segment"].editors["segment.min_area_periods"].setValue(2)
    made.click(made.panel.actions_.buttons["Folder…"])
    (dialog,) = made.panel.actions_.findChildren(FolderDialog)
    assert not dialog.start.isEnabled()
    dialog.setValue(FolderJob(images, tmp_path / "out"))
    assert dialog.start.isEnabled()
    made.click(dialog.start)
    assert made.session.running
    made.wait()
    message = made.panel.messages.text()
    assert "2 done, 1 failed" in message
    assert "broken.tif" in message
    recipe = Recipe().replace({"segment.min_area_periods": 2})
    analyze_files([images / "one.tif"], tmp_path / "library", recipe)
    assert_array_equal(load(tmp_path / "out" / "one").labels, load(tmp_path / "library" / "one").labels)
    # Again: nothing is left to do; the folders are remembered.
    made.click(made.panel.actions_.buttons["Folder…"])
    again = made.panel.actions_.findChildren(FolderDialog)[-1]
    assert again.value() == FolderJob(images, tmp_path / "out")
    made.click(again.start)
    made.click(made.panel.run_row.cancel)
    made.qtbot.wait(300)
    assert not made.session.running
    assert len(made.viewer.layers) == 0
    # It is about no image that is open: those may come and go.
    made.add(lattice_image((192, 192), period=11))
    made.panel.actions_.run_folder(FolderJob(images, tmp_path / "again"))
    made.viewer.layers.clear()
    assert made.session.running
    made.wait()
    assert "2 done, 1 failed" in made.panel.messages.text()


def test_cancelled_export_leaves_nothing_behind(bench: Any, tmp_path: Path) -> None:
    from napari.qt.threading import WorkerBase

    made = bench(lattice_image((192, 192), period=11), name="image")
    made.run_all()
    before = [(layer, layer.visible) for layer in made.viewer.layers]
    made.panel.actions_.export(tmp_path)
    assert made.session.running
    made.click(made.panel.run_row.cancel)
    assert not made.session.running
    made.qtbot.waitUntil(lambda: not WorkerBase._worker_set, timeout=TIMEOUT)
    assert list(tmp_path.glob("*")) == []
    assert [(layer, layer.visible) for layer in made.viewer.layers] == before
    made.panel.actions_.export(tmp_path)
    made.wait()
    assert (tmp_path / "image" / "overview.png").is_file()


def test_accept_writes_where_the_last_result_was_written(bench: Any, tmp_path: Any, monkeypatch: Any) -> None:
    asked: list[str] = []

    def ask(*args: Any) -> str:
        asked.append("folder")
        return str(tmp_path)

    monkeypatch.setattr("qtpy.QtWidgets.QFileDialog.getExistingDirectory", ask)
    made = bench(lattice_image((192, 192), period=11), name="image")
    made.run_all()
    keys = {shortcut.key().toString(): shortcut for shortcut in made.panel.findChildren(QShortcut)}
    keys["Ctrl+Shift+E"].activated.emit()
    made.wait()
    assert asked == ["folder"]
    assert (tmp_path / "image" / "labels.tif").is_file()
    shutil.rmtree(tmp_path / "image")
    keys["Ctrl+Shift+E"].activated.emit()
    made.wait()
    assert asked == ["folder"]
    assert (tmp_path / "image" / "labels.tif").is_file()


def test_from_a_sample_to_a_corrected_mask_in_under_ten_clicks(
    desk: Any, tmp_path: Any, monkeypatch: Any
) -> None:
    """As the README says it; a menu and its entry are two clicks, and so are a button and the folder it asks for."""
    monkeypatch.setattr("qtpy.QtWidgets.QFileDialog.getExistingDirectory", lambda *args: str(tmp_path))
    made = desk(None)
    made.viewer.open_sample("napari-hrstem-defects", "si_fault_amorphous")
    clicks = 2 + 2  # File, the sample; Plugins, the panel
    made.run_all()
    clicks += 1
    made.show()
    made.click(made.panel.paint_labels)
    clicks += 1
    labels = made.layer(Role.LABELS)
    found = labels.data.copy()
    made.drag((120.0, 600.0), (150.0, 650.0))
    clicks += 1
    made.qtbot.waitUntil(lambda: bool(made.document.labelled[0].painted), timeout=TIMEOUT)
    made.click(made.panel.actions_.buttons["Export…"])
    clicks += 2
    made.wait()
    written = load(tmp_path / "si_fault_amorphous").labels
    assert_array_equal(written, labels.data)
    assert np.count_nonzero(written) > np.count_nonzero(found)
    assert clicks < 10


def test_boundary_map_on_demand(bench: Any) -> None:
    made = bench(lattice_image((256, 256)))
    made.run_all()
    assert made.layer(Role.BOUNDARIES) is None
    made.panel.groups["domains"].editors["domains.boundary_map"].setChecked(True)
    made.wait()
    layer = made.layer(Role.BOUNDARIES)
    assert not layer.visible
    assert_array_equal(layer.data, made.document.analysis.boundaries)
    assert len(made.session.images()) == 1


def _turn_wheel(editor: QWidget) -> None:
    middle = editor.rect().center()
    none, phase = Qt.MouseButton.NoButton, Qt.ScrollPhase.NoScrollPhase
    turned = QWheelEvent(
        QPointF(middle),
        QPointF(editor.mapToGlobal(middle)),
        QPoint(0, 0),
        QPoint(0, -120),
        none,
        Qt.KeyboardModifier.NoModifier,
        phase,
        False,
    )
    QApplication.sendEvent(editor, turned)


def test_wheel_over_the_panel_changes_no_value(bench: Any) -> None:
    """It scrolls, unless a person has clicked into an editor."""
    made = bench(lattice_image((192, 192), period=11))
    made.add(lattice_image((192, 192), period=11))
    made.panel.activateWindow()
    image, recipe = made.document.layer, made.session.recipe
    made.panel.run_row.run.setFocus()
    made.qtbot.wait(50)
    slider = made.panel.threshold.slider
    editors = [slider, made.panel.threshold.number, made.panel.image]
    editors += made.panel.groups["classify"].editors.values()
    fraction = made.panel.groups["variance"].editors["variance.fraction"]
    editors += fraction.findChildren(QWidget)
    for editor in editors:
        _turn_wheel(editor)
    assert made.session.recipe == recipe
    assert made.document.layer is image
    slider.setFocus()
    _turn_wheel(slider)
    assert made.session.recipe.segment.false_marks != recipe.segment.false_marks
