"""The list of classifiers."""

import pytest

from napari_hrstem_defects.errors import ModelError
from napari_hrstem_defects.models import registry
from napari_hrstem_defects.models.store import file_sha256

from ..helpers import model_file

pytestmark = pytest.mark.usefixtures("models_folder")


def test_a_name_or_a_file_is_found(tmp_path, models_folder):
    """What is added, listed and removed is tested with the command ``models``."""
    path = model_file(tmp_path / "a.hrstem")
    registry.add(path, "second")
    assert registry.find("second") == models_folder / "second.hrstem"
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


def test_one_that_cannot_be_read_hides_no_other(tmp_path, models_folder):
    entry = registry.add(model_file(tmp_path / "a.hrstem"))
    (models_folder / "a folder.hrstem").mkdir()
    assert registry.find_by_hash(file_sha256(entry.path)) == entry.path


def test_the_usual_folder(monkeypatch):
    monkeypatch.delenv(registry.FOLDER_VARIABLE)
    assert registry.folder().name == "models"
    assert "napari-hrstem-defects" in str(registry.folder())
