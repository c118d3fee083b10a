"""The list of classifiers."""

import json
import zipfile

import pytest

from napari_hrstem_defects.errors import ModelError
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


def test_a_name_or_a_file_is_found(tmp_path, folder):
    """What is added, listed and removed is tested with the command ``models``."""
    path = model_file(tmp_path / "a.hrstem")
    registry.add(path, "second")
    assert registry.find("second") == folder / "second.hrstem"
    assert file_sha256(registry.find("second")) == file_sha256(path)
    assert registry.find(path) == path
    with pytest.raises(
        ModelError, match=r"no classifier 'mine'; choose one of screening, second, or name a model"
    ):
        registry.find("mine")
    with pytest.raises(ModelError, match="there is no such model file"):
        registry.find(tmp_path / "none.hrstem")
    with pytest.raises(ModelError, match="screening is no file but part of the program; name a trained"):
        registry.find("screening")


@pytest.mark.parametrize("name", ["screening", "Hand", "../x", "a/b", "", "x.", ".hidden"])
def test_names_that_are_refused(tmp_path, name):
    with pytest.raises(ModelError, match="A classifier cannot be called"):
        registry.add(model_file(tmp_path / "a.hrstem"), name)


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


def test_the_usual_folder(monkeypatch):
    monkeypatch.delenv(registry.FOLDER_VARIABLE)
    assert registry.folder().name == "models"
    assert "napari-hrstem-defects" in str(registry.folder())
