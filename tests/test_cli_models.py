"""The command `models`: what is installed, adding, removing; no network is looked at."""

import json
import zipfile

import pytest
from typer.testing import CliRunner

from napari_hrstem_defects.cli import app
from napari_hrstem_defects.models import registry
from napari_hrstem_defects.models.contract import Contract


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(registry.FOLDER_VARIABLE, str(tmp_path / "models"))
    return tmp_path / "models"


def model_file(path, **contract):
    values = {
        "kind": "compact",
        "name": "mine",
        "classes": ("non-defective", "defective"),
        "patch_px": 32,
        "created": "2025-06-01T10:00:00+00:00",
    }
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("contract.json", Contract(**{**values, **contract}).to_json())
        archive.writestr("compact/000-kernel.npy", b"weights")
    return path


def run(*arguments, status=0):
    result = CliRunner().invoke(app, ["models", *map(str, arguments)])
    assert result.exit_code == status, result.output
    assert "Traceback" not in result.output
    return result


def test_nothing_installed(folder):
    output = run().output
    assert "No classifier is installed; train one with --install" in output
    assert str(folder) in output


def test_the_list(tmp_path, folder):
    test = {"accuracy": {"mean": 0.912, "std": 0.0314}, "recall": {"mean": 0.5, "std": None}}
    first = model_file(
        tmp_path / "a.hrstem", metrics={"test": test}, pixel_size_nm=(0.02, 0.03), period_px=(14, 14)
    )
    registry.add(first)
    # What a file says about itself may be anything.
    registry.add(model_file(tmp_path / "b.hrstem", name="odd", metrics={"test": {"accuracy": "good"}}))
    assert run().stdout.splitlines() == [
        "mine",
        "  compact, patches of 32 px: non-defective, defective",
        "  trained 2025-06-01 on 0.02 to 0.03 nm a pixel and 14.0 px a lattice period",
        "  held out, %: accuracy 91.2 ± 3.1, precision –, specificity –, recall 50.0",
        "odd",
        "  compact, patches of 32 px: non-defective, defective",
        "  trained 2025-06-01 on images of unknown scale",
        "  held out, %: accuracy –, precision –, specificity –, recall –",
        f"Folder: {folder}",
    ]


def test_add_and_remove(tmp_path, folder):
    path = model_file(tmp_path / "a.hrstem")
    assert "use it with --classifier other" in run("--add", path, "--name", "other").output
    assert [entry.name for entry in registry.entries()] == ["other"]
    assert "There is a classifier 'other' already" in run("--add", path, "--name", "other", status=2).output
    run("--add", path, "--name", "other", "--overwrite")
    said = run("--remove", "other").output
    assert said == f"{folder / 'other.hrstem'} was deleted; no command finds other any more.\n"
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


def test_a_file_that_cannot_be_used(tmp_path, folder):
    registry.add(model_file(tmp_path / "a.hrstem"))
    (folder / "old.hrstem").write_text(json.dumps({}))
    result = run(status=1)
    assert "mine" in result.stdout
    assert result.stderr.splitlines() == [
        f"{folder / 'old.hrstem'}: this is not a model file of this program, or it is damaged; name a file that "
        "`train` wrote."
    ]
    run("--remove", "old")
    run()
