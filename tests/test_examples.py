"""The scripts in examples, and the commands and Python of the documentation."""

import json
import re
import runpy
import shlex
import textwrap
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from typer.main import get_command
from typer.testing import CliRunner

from napari_hrstem_defects.cli import app

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))


def test_scan_overlay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grey = np.full((300, 300), 100, np.uint8)
    grey[::2] = 140
    truth = np.zeros((300, 300), np.uint8)
    truth[20:30, 20:30], truth[20:30, 60:70], truth[60:70, 20:30] = 1, 2, 2
    found = np.zeros((300, 300), np.uint8)
    found[10:40, 10:40], found[10:40, 50:80], found[50:80, 10:40] = 1, 1, 255
    found[200:300, 200:300] = 2  # far from any defect
    tifffile.imwrite(tmp_path / "image.tif", grey)
    Image.fromarray(truth).save(tmp_path / "classes.png")
    (tmp_path / "scan").mkdir()
    tifffile.imwrite(tmp_path / "scan" / "class_map.tif", found)
    text = json.dumps({"classes": [{"name": name} for name in ("Bulk", "a", "b")]})
    (tmp_path / "scan" / "scan.json").write_text(text)
    script = runpy.run_path(str(EXAMPLES / "scan_overlay.py"))
    paths = [str(tmp_path / name) for name in ("image.tif", "scan", "overlay.png", "classes.png")]
    script["main"](*paths)
    said = capsys.readouterr().out
    assert "1 of 3 defects have their class (a, a, uncertain)" in said
    # The corner of 100² px is nearly all of what is further than 64 px from the three defects and marked.
    y, x = np.mgrid[:300, :300]
    away = np.ones((300, 300), bool)
    for top, left in ((20, 20), (20, 60), (60, 20)):
        dy = np.maximum(np.maximum(top - y, y - top - 9), 0)
        dx = np.maximum(np.maximum(left - x, x - left - 9), 0)
        away &= np.hypot(dy, dx) > 64
    assert f"{100 * 100**2 / away.sum():.1f} % of the area" in said
    overlay = np.asarray(Image.open(tmp_path / "overlay.png"))
    assert overlay.shape == (300, 300, 3)
    clean = (found == 0) & (grey == 140)
    assert np.ptp(overlay[clean], axis=0).max() == 0
    assert len({tuple(overlay[20, 20]), tuple(overlay[20, 60]), tuple(overlay[60, 20])}) == 2


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("plot_*.py")), ids=lambda path: path.stem)
def test_notebook_script_runs_and_draws(path: Path) -> None:
    from matplotlib import pyplot

    try:
        runpy.run_path(str(path))
        assert pyplot.get_fignums()
    finally:
        pyplot.close("all")


def _blocks(page: Path, language: str) -> list[str]:
    """Fenced blocks of a page in one language, "" for those without."""
    fences = re.findall(r"^( *)```([^\n]*)\n(.*?)^\1```$", page.read_text("utf-8"), re.M | re.S)
    return [textwrap.dedent(text) for _, said, text in fences if said == language]


def _commands() -> Iterator[tuple[Path, list[str]]]:
    """Every call of the program in the documentation."""
    for page in PAGES:
        for block in _blocks(page, ""):
            for line in block.replace("\\\n", " ").splitlines():
                if line.startswith("hrstem-defects "):
                    yield page, shlex.split(line, comments=True)[1:]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the documentation names, some under another suffix, and an empty registry."""
    frames = tifffile.imread(ROOT / "sample_data" / "si_series.tif")[:2, :256, :256]
    for name in ("micrograph.tif", "image.tif", "session/a.tif", "series/b.tif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        tifffile.imwrite(tmp_path / name, frames if name.startswith("series") else frames[0])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HRSTEM_DEFECTS_MODELS", str(tmp_path / "models"))
    return tmp_path


def test_documented_commands_have_these_options() -> None:
    found = list(_commands())
    assert len(found) > 15
    program = get_command(app)
    for page, (name, *arguments) in found:
        command = program.commands[name]  # type: ignore[attr-defined]
        try:
            command.make_context(name, arguments)
        except Exception as error:
            pytest.fail(f"{page.name}: hrstem-defects {shlex.join([name, *arguments])}: {error}")


def test_python_and_commands_of_the_readme_run(desk: Path) -> None:
    """In the order of the page; the recipe that Python writes is the one that the command line reads."""
    known: dict[str, object] = {}
    for block in _blocks(ROOT / "README.md", "python"):
        exec(compile(block.replace(".dm4", ".tif"), "README.md", "exec"), known)
    assert {path.name for path in (desk / "results" / "micrograph").iterdir()} > {
        "labels.tif",
        "analysis.json",
    }
    (desk / "recipe.json").write_text(known["recipe"].to_json())  # type: ignore[attr-defined]
    run = 0
    for page, arguments in _commands():
        if page.name == "README.md" and arguments[0] == "analyze" and "--classifier" not in arguments:
            done = CliRunner().invoke(app, [argument.replace(".dm4", ".tif") for argument in arguments])
            assert done.exit_code == 0, done.output
            run += 1
    assert run == 2
    recorded = json.loads((desk / "results" / "image" / "analysis.json").read_text())
    assert recorded["recipe"]["segment"]["false_marks"] == 0.01


@pytest.mark.parametrize("name", ["calibrate.md", "recipes.md"])
def test_python_of_a_page_runs(name: str, desk: Path) -> None:
    known: dict[str, object] = {}
    for block in _blocks(ROOT / "docs" / name, "python"):
        exec(compile(block, name, "exec"), known)
    if name == "calibrate.md":
        made = known["made"]
        assert known["pixel_size_nm"] == pytest.approx(made.micrograph.pixel_size_nm, rel=0.01)  # type: ignore[attr-defined]
