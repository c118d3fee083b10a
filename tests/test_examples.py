"""The scripts in examples, and the commands and Python of the documentation."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

EXAMPLES = Path(__file__).parents[1] / "examples"


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
