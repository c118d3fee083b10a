"""Ratings from the panel, counted."""

import csv
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from napari_hrstem_defects.batch.ratings import RATINGS, tabulate_ratings
from napari_hrstem_defects.cli.commands import app
from napari_hrstem_defects.errors import ReadError

COLUMNS = ("rating", "image", "input_sha256", "best_patch_placed", "recipe")


def write(path: Path, rows: list[tuple[str, str, str]]) -> Path:
    """Rows of rating, image and who placed the best patch."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for rating, image, placed in rows:
            row = dict.fromkeys(COLUMNS, "x")
            writer.writerow(row | {"rating": rating, "input_sha256": image, "best_patch_placed": placed})
    return path


ROWS = [
    (RATINGS[2], "a", "automatic"),
    (RATINGS[0], "a", "automatic"),  # the same result, rated again
    (RATINGS[1], "a", "hand"),
    (RATINGS[0], "b", "automatic"),
    (RATINGS[2], "c", ""),
]


def test_each_result_counts_once(tmp_path):
    found = tabulate_ratings(write(tmp_path / "r.csv", ROWS))
    assert (found["count"], found["images"]) == (4, 3)
    assert found["ratings"] == {"Very helpful": 2, "Potentially helpful": 1, "Inadequate": 1}
    assert found["by_best_patch"]["automatic"]["Very helpful"] == 2
    assert found["by_best_patch"]["hand"] == {"Very helpful": 0, "Potentially helpful": 1, "Inadequate": 0}
    assert found["by_best_patch"]["none"]["Inadequate"] == 1


def test_command(tmp_path):
    path = write(tmp_path / "r.csv", ROWS)
    done = CliRunner().invoke(app, ["evaluate", "--ratings", str(path), "--json", str(tmp_path / "out.json")])
    assert done.exit_code == 0, done.output
    assert "Very helpful" in done.output
    assert "50 %" in done.output
    assert json.loads((tmp_path / "out.json").read_text()) == tabulate_ratings(path)
    empty = write(tmp_path / "empty.csv", [])
    assert CliRunner().invoke(app, ["evaluate", "--ratings", str(empty)]).exit_code == 0


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", None])
def test_other_files_are_refused(tmp_path, text):
    path = tmp_path / "other.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ReadError, match=r"other\.csv"):
        tabulate_ratings(path)
    done = CliRunner().invoke(app, ["evaluate", "--ratings", str(path)])
    assert done.exit_code == 2
    assert "Traceback" not in done.output


def test_unknown_rating_names_the_line(tmp_path):
    with pytest.raises(ReadError, match="line 3: the rating is 'good'"):
        tabulate_ratings(write(tmp_path / "r.csv", [ROWS[0], ("good", "a", "hand")]))


def test_not_together_with_masks(tmp_path):
    path = write(tmp_path / "r.csv", ROWS)
    assert CliRunner().invoke(app, ["evaluate", "--ratings", str(path), "--pred", "x"]).exit_code == 2
