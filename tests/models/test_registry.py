"""The list of classifiers."""

import json
import zipfile

import pytest

from napari_hrstem_defects.core.errors import ModelError
from napari_hrstem_defects.models import registry
from napari_hrstem_defects.models.contract import Contract
from napari_hrstem_defects.models.store import file_sha256


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(registry.FOLDER_VARIABLE, str(tmp_path / "models"))
    return tmp_path / "models"


def model_file(path, name="mine"):
    """A model file whose network is not looked at here."""
    contract = json.loads(Contract("compact", name, ("clean", "defective"), 32).to_json())
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("contract.json", json.dumps(contract))
        archive.writestr("compact/000-kernel.npy", b"weights")
    return path


def test_add_list_find_remove(tmp_path, folder):
    assert registry.entries() == []
    path = model_file(tmp_path / "a.hrstem")
    entry = registry.add(path)
    assert (entry.name, entry.path) == ("mine", folder / "mine.hrstem")
    assert file_sha256(entry.path) == file_sha256(path)
    registry.add(path, "second")
    assert [item.name for item in registry.entries()] == ["mine", "second"]
    assert registry.find("second") == folder / "second.hrstem"
    assert registry.find(path) == path
    registry.remove("mine")
    assert [item.name for item in registry.entries()] == ["second"]
    with pytest.raises(
        ModelError, match=r"no classifier 'mine'; choose one of screening, second, or name a model"
    ):
        registry.find("mine")
    with pytest.raises(ModelError, match="no classifier 'mine'"):
        registry.remove("mine")


def test_names_are_not_taken_twice(tmp_path):
    path = model_file(tmp_path / "a.hrstem")
    registry.add(path)
    with pytest.raises(ModelError, match="There is a classifier 'mine' already"):
        registry.add(path)
    registry.add(path, overwrite=True)


@pytest.mark.parametrize("name", ["screening", "Hand", "../x", "a/b", "", "x.", ".hidden"])
def test_names_that_are_refused(tmp_path, name):
    with pytest.raises(ModelError, match="A classifier cannot be called"):
        registry.add(model_file(tmp_path / "a.hrstem"), name)


def test_files_that_are_none(tmp_path):
    (tmp_path / "x.hrstem").write_text("no model")
    with pytest.raises(ModelError, match="not a model file"):
        registry.add(tmp_path / "x.hrstem")
    with pytest.raises(ModelError, match="there is no such model file"):
        registry.find(tmp_path / "none.hrstem")


def test_broken_entries_are_listed_with_their_problem(folder):
    folder.mkdir()
    (folder / "old.hrstem").write_text("no model")
    (entry,) = registry.entries()
    assert entry.contract is None
    assert "not a model file" in entry.problem


def test_find_by_hash(tmp_path):
    path = model_file(tmp_path / "a.hrstem")
    mark = file_sha256(path)
    assert registry.find_by_hash(mark, path) == path
    entry = registry.add(path, "kept")
    path.write_bytes(b"another model under the same name")
    assert registry.find_by_hash(mark, path) == entry.path
    registry.remove("kept")
    with pytest.raises(
        ModelError, match=r"that was used \(SHA-256 .*\) is neither where it was nor in the list"
    ):
        registry.find_by_hash(mark, path)


def test_one_that_cannot_be_read_hides_no_other(tmp_path, folder):
    entry = registry.add(model_file(tmp_path / "a.hrstem"))
    (folder / "a folder.hrstem").mkdir()
    assert registry.find_by_hash(file_sha256(entry.path)) == entry.path


def test_the_screening_is_no_file():
    with pytest.raises(ModelError, match="screening is no file but part of the program; name a trained"):
        registry.find("screening")


def test_the_usual_folder(monkeypatch):
    monkeypatch.delenv(registry.FOLDER_VARIABLE)
    assert registry.folder().name == "models"
    assert "napari-hrstem-defects" in str(registry.folder())
