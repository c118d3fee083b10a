"""The command `models`: what is installed, adding, removing; no network is looked at."""

import functools
import json

import pytest

from napari_hrstem_defects.models import registry

from . import helpers
from .helpers import model_file

pytestmark = pytest.mark.usefixtures("models_folder")
DATE = "2025-06-01T10:00:00+00:00"
run = functools.partial(helpers.run, "models")


def test_nothing_installed(models_folder):
    output = run().output
    assert "No classifier is installed; train one with --install" in output
    assert str(models_folder) in output


def test_the_list(tmp_path, models_folder):
    test = {"accuracy": {"mean": 0.912, "std": 0.0314}, "recall": {"mean": 0.5, "std": None}}
    first = model_file(
        tmp_path / "a.hrstem",
        metrics={"test": test},
        pixel_size_nm=(0.02, 0.03),
        period_px=(14, 14),
        created=DATE,
    )
    registry.add(first)
    # What a file says about itself may be anything.
    registry.add(
        model_file(tmp_path / "b.hrstem", name="odd", metrics={"test": {"accuracy": "good"}}, created=DATE)
    )
    assert run().stdout.splitlines() == [
        "mine",
        "  compact, patches of 32 px: non-defective, defective",
        "  trained 2025-06-01 on 0.02 to 0.03 nm a pixel and 14.0 px a lattice period",
        "  held out, %: accuracy 91.2 ± 3.1, precision –, specificity –, recall 50.0",
        "odd",
        "  compact, patches of 32 px: non-defective, defective",
        "  trained 2025-06-01 on images of unknown scale",
        "  held out, %: accuracy –, precision –, specificity –, recall –",
        f"Folder: {models_folder}",
    ]


def test_add_and_remove(tmp_path, models_folder):
    path = model_file(tmp_path / "a.hrstem")
    assert "use it with --classifier other" in run("--add", path, "--name", "other").output
    assert [entry.name for entry in registry.entries()] == ["other"]
    assert "There is a classifier 'other' already" in run("--add", path, "--name", "other", status=2).output
    run("--add", path, "--name", "other", "--overwrite")
    said = run("--remove", "other").output
    assert said == f"{models_folder / 'other.hrstem'} was deleted; no command finds other any more.\n"
    assert registry.entries() == []
    assert path.exists()  # the file it was added from stays


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--remove", "none"),
            "There is no classifier 'none'; choose one of screening, or name a model file.",
        ),
        (("--remove", "screening"), "screening is no file but part of the program"),
        (("--remove", "../x"), "A classifier cannot be called '../x'"),
        (("--add", "none.hrstem"), "none.hrstem: the model cannot be read"),
        (("--add", "none.hrstem", "--remove", "mine"), "cannot be done at once"),
        (("--name", "mine"), "go with --add"),
        (("--overwrite",), "go with --add"),
    ],
)
def test_wrong_usage(arguments, message):
    result = run(*arguments, status=2)
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


def test_a_file_that_cannot_be_used(tmp_path, models_folder):
    registry.add(model_file(tmp_path / "a.hrstem"))
    (models_folder / "old.hrstem").write_text(json.dumps({}))
    result = run(status=1)
    assert "mine" in result.stdout
    assert result.stderr.splitlines() == [
        f"{models_folder / 'old.hrstem'}: this is not a model file of this program, or it is damaged; name a file that "
        "`train` wrote."
    ]
    run("--remove", "old")
    run()
