"""Messages of the panel: states, stages, warnings, hints; and those of the docks when something is wrong."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtWidgets import QInputDialog

from napari_hrstem_defects.core.recipe import Recipe
from napari_hrstem_defects.widgets import settings
from napari_hrstem_defects.widgets.actions import HelpDialog
from napari_hrstem_defects.widgets.docks import PreprocessWidget, VarianceWidget
from napari_hrstem_defects.widgets.model import STEPS
from napari_hrstem_defects.widgets.roles import Role

from .conftest import TIMEOUT, Desk, lattice_image


@pytest.fixture
def popups(monkeypatch: Any) -> dict[str, list[str]]:
    """What napari is asked to show in its corner."""
    shown: dict[str, list[str]] = {"error": [], "info": []}
    for kind, texts in shown.items():
        monkeypatch.setattr(f"napari.utils.notifications.show_{kind}", texts.append)
    return shown


def _said(made: Any, step: str) -> str:
    """Sign and word beside a step, as they are drawn."""
    group = made.panel.groups[step]
    return f"{re.sub('<[^>]*>', '', group.sign.text())} {group.word.text()}"


def test_states_are_told_by_sign_and_word(bench: Any) -> None:
    made = bench(lattice_image((256, 256)))
    assert {_said(made, step.name) for step in STEPS} == {"○ not run"}
    seen: set[str] = set()

    def look(stage: str, fraction: float) -> None:
        if fraction:  # else it is just beginning
            seen.update(_said(made, step.name) for step in STEPS)

    made.session.progressed.connect(look)
    made.run_all()
    assert seen == {"◌ running"}
    assert {_said(made, step.name) for step in STEPS} == {"● current"}
    made.click(made.panel.auto)
    made.session.edits.place((120.0, 80.0))
    assert [_said(made, name) for name in ("classify", "best_patch", "symmetry", "segment")] == [
        "● current",
        "◐ stale",
        "◐ stale",
        "◐ stale",
    ]
    made.click(made.panel.groups["segment"].button)
    made.wait()
    assert _said(made, "best_patch") == "● placed by hand"
    made.add(np.zeros((64, 64), np.float32), contrast_limits=(0, 1))
    made.run_all()
    assert _said(made, "preprocess") == "✕ failed"


def test_progress_is_told_by_stage(bench: Any) -> None:
    made = bench(lattice_image((256, 256)))
    bar = made.panel.run_row.bar
    told: list[tuple[str, int]] = []
    made.session.progressed.connect(lambda *args: told.append((bar.text(), bar.value())))
    assert not bar.isVisible()
    made.run_all()
    assert not bar.isVisible()
    stages = list(dict.fromkeys(text.partition("  ")[0] for text, _ in told))
    assert stages == [
        "lattice and contrast",
        "lattices",
        "patches",
        "best patch",
        "variance",
        "severity",
        "labels",
        "regions",
    ]
    values = [value for _, value in told]
    assert values == sorted(values)
    assert values[-1] >= 1000 * 7 / 8  # the last of eight
    assert re.search(r"\d %$", told[-1][0])


def test_parameters_of_another_image_are_pointed_out(bench: Any, popups: dict[str, list[str]]) -> None:
    made = bench("gaas_twin")
    assert made.panel.messages.text() == ""
    made.panel.threshold.number.setValue(0.25)
    made.panel.groups["symmetry"].editors["symmetry.smoothing"].setValue(0.9)
    assert made.panel.messages.text() == ""  # the person has just done that
    assert made.panel.threshold.label.font().bold()
    labels = made.panel.groups["segment"].labels
    assert not labels["segment.min_area_periods"].font().bold()
    assert made.panel.groups["symmetry"].labels["symmetry.smoothing"].font().bold()
    assert made.panel.more.text() == "More parameters… (1 changed)"
    made.add(lattice_image((256, 256)))
    said = made.panel.messages.text()
    assert "differ from the defaults" in said
    assert "false marks 0.25 / image (default 0.05)" in said
    assert "smoothing 0.9 periods" in said
    assert not popups["info"]
    made.run_all()
    assert "differ from the defaults" not in made.panel.messages.text()
    # Another session.
    other = bench("gaas_twin")
    assert "false marks 0.25 / image" in other.panel.messages.text()
    other.panel.actions_.reset.trigger()
    assert not other.panel.threshold.label.font().bold()
    assert other.panel.more.text() == "More parameters…"
    other.add(lattice_image((256, 256)))
    assert other.panel.messages.text() == ""
    other.session.recipe = Recipe.published()
    other.add(lattice_image((288, 288)))
    assert "Dennler et al." in other.panel.messages.text()


def test_parameters_that_no_longer_fit_are_left_out_with_a_sentence(
    bench: Any, popups: dict[str, list[str]]
) -> None:
    settings.remember("parameters", '{"symmetry.gone": 3}')
    made = bench()
    assert made.session.recipe == Recipe()
    assert "last session were left out" in made.panel.messages.text()
    assert "gone" in popups["info"][-1]


def test_notice_goes_with_the_next_result_and_with_its_image(bench: Any) -> None:
    made = bench(lattice_image((256, 256)))
    made.run_all()
    made.session.noticed.emit("about this result")
    made.panel.threshold.number.setValue(0.1)
    assert "about this result" in made.panel.messages.text()
    made.wait()
    assert "about this result" not in made.panel.messages.text()
    made.panel.actions_.reset.trigger()
    made.wait()
    made.session.noticed.emit("about this image")
    made.document.layer.name = "renamed"
    assert "about this image" in made.panel.messages.text()
    made.add(lattice_image((256, 256)))
    assert made.panel.messages.text() == ""


def test_single_docks_say_what_is_wrong(qtbot: Any, popups: dict[str, list[str]]) -> None:
    """Alone, without the panel: in the dock, and once in the corner of napari."""
    viewer = ViewerModel()
    dock, other = PreprocessWidget(viewer), VarianceWidget(viewer)
    for each in (dock, other):
        qtbot.addWidget(each)
        each.show()
    made: Any = Desk(viewer, dock, qtbot)  # type: ignore[arg-type]
    made.add(np.full((128, 128), 3.0, np.float32), name="flat")
    made.click(dock.group.button)
    made.wait()
    for each in (dock, other):
        assert "same value" in each.messages.text()
    assert len(popups["error"]) == 1
    assert "same value" in popups["error"][0]
    # While something runs nothing else can be started; what is set is kept for the next session.
    made.add(lattice_image((192, 192), period=11))
    made.click(dock.group.button)
    assert not other.group.button.isEnabled()
    made.wait()
    assert other.group.button.isEnabled()
    other.group.editors["variance.window_periods"].setValue(2.0)
    made.wait()
    assert settings.recall_recipe().variance.window_periods == 2.0
    for each in (dock, other):
        each.disconnect_all()


def test_help_says_how_everything_is_done(bench: Any) -> None:
    made = bench(None)
    for _ in range(2):
        made.panel.help.click()
    (dialog,) = made.panel.findChildren(HelpDialog)
    assert dialog.isVisible()
    words = dialog.page.toPlainText()
    for part in ("Open Sample", "yellow square", "Export", "Dennler", *(step.title for step in STEPS)):
        assert part in words, part
    for sign in "○◌●◐✕":
        assert sign in words
    dialog.close()


def test_failed_measuring_of_painted_labels_is_said(bench: Any, monkeypatch: Any) -> None:
    made = bench(lattice_image((192, 192), period=11))
    made.run_all()

    def broken(*args: Any, **options: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("napari_hrstem_defects.core.defect_types.find_regions", broken)
    layer = made.layer(Role.LABELS)
    layer.data[10:30, 10:30] = 1
    layer.events.paint(value=[])
    made.qtbot.waitUntil(lambda: "not enough memory" in made.panel.messages.text(), timeout=TIMEOUT)


def test_file_without_a_pixel_size_leads_to_the_question(
    bench: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    import tifffile

    asked: list[str] = []
    monkeypatch.setattr(
        QInputDialog, "getDouble", lambda parent, title, text, *args: (asked.append(text), (0, False))[1]
    )
    tifffile.imwrite(tmp_path / "plain.tif", lattice_image((256, 256)))
    made = bench(None)
    made.viewer.open(tmp_path / "plain.tif", plugin="napari")
    made.click(made.panel.calibrate)
    (text,) = asked
    assert "states no pixel size" in text
    assert "no pixel size" in made.panel.info.text()
