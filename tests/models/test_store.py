"""Model files: what comes back, what is refused, that nothing in them is run."""

import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from napari_hrstem_defects.core.errors import ModelError, WriteError
from napari_hrstem_defects.models import store
from napari_hrstem_defects.models.backend import keras
from napari_hrstem_defects.models.compact import build_compact
from napari_hrstem_defects.models.contract import Contract
from napari_hrstem_defects.models.ensemble_networks import build_efficient
from napari_hrstem_defects.models.fft_ensemble import EnsembleSettings
from napari_hrstem_defects.models.store import file_sha256, load_model, read_contract, save_model

CONTRACT = Contract(
    "compact",
    "mine",
    ("non-defective", "defective"),
    32,
    {"scaling": "standard"},
    pixel_size_nm=(0.01, 0.02),
    metrics={"test": {"recall": {"mean": 0.5, "std": None}}},
    seed=3,
)

SHAPES = {"compact": {"inputs": [[32, 32, 1]], "outputs": [[2]]}}


@pytest.fixture
def network():
    return build_compact(32, channels=(4, 4))


@pytest.fixture
def path(tmp_path, network):
    return save_model(tmp_path / "mine.hrstem", CONTRACT, {"compact": network})


def rewritten(path, change):
    """The file with other members."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def with_contract(path, **values):
    def change(members):
        contract = {**json.loads(members["contract.json"]), **values}
        members["contract.json"] = json.dumps(contract).encode()

    return rewritten(path, change)


def with_network(path, folder, network):
    network.save(folder / "other.keras")

    def change(members):
        members["compact.keras"] = (folder / "other.keras").read_bytes()

    return rewritten(path, change)


# -- contract: without Keras


def test_contract_round_trip():
    assert Contract.from_json(CONTRACT.to_json()) == CONTRACT


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("kind", "random forest", "the kind is 'random forest'"),
        ("name", " ", "it has no name"),
        ("classes", ["one"], "does not name two or more classes"),
        ("classes", ["a", "a"], "does not name two or more classes"),
        ("classes", "ab", "no texts"),
        ("patch_px", 4, "the patch size is 4"),
        ("patch_px", 64.0, "the patch size is 64.0"),
        ("pixel_size_nm", [0.2, 0.1], "pixel_size_nm is"),
        ("pixel_size_nm", [1, 10**400], "pixel_size_nm is no range of lengths"),
        ("period_px", [float("inf")] * 2, "period_px is no range of lengths"),
        ("name", "\x1b[2J", "its name holds control characters"),
        ("classes", ["Bulk", "\x1b[31mVacancy"], "no texts"),
        ("created", "\x1b[2J", "created is no text"),
        ("training", {"images": [{"name": "a"}]}, "list of what it was trained on is damaged"),
        ("training", {"patches": 3}, "list of what it was trained on is damaged"),
        ("metrics", [], "metrics is no table"),
        ("seed", "1", "the seed is '1'"),
        ("format", 99, "it has format version 99, this program reads 1"),
        ("surprise", 1, "holds the unknown surprise"),
    ],
)
def test_contracts_that_are_refused(field, value, message):
    values = {**json.loads(CONTRACT.to_json()), field: value}
    with pytest.raises(ModelError, match=message):
        Contract.from_json(json.dumps(values))


def test_a_contract_nested_without_end():
    with pytest.raises(ModelError, match="no JSON"):
        Contract.from_json('{"metrics": ' + "[" * 100_000)


def test_many_training_patches_fit_into_a_file(tmp_path):
    marks = [f"{number:016x}" for number in range(200_000)]
    contract = replace(CONTRACT, training={"patches": marks}, networks=SHAPES)
    with zipfile.ZipFile(tmp_path / "x.hrstem", "w") as archive:
        archive.writestr("contract.json", contract.to_json())
        archive.writestr("compact.keras", b"network")
    assert read_contract(tmp_path / "x.hrstem").training["patches"] == marks


def test_a_contract_must_be_complete():
    values = json.loads(CONTRACT.to_json())
    del values["classes"]
    with pytest.raises(ModelError, match="lacks classes"):
        Contract.from_json(json.dumps(values))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 broken", b"II*\x00 a picture"])
def test_foreign_files(tmp_path, content):
    path = tmp_path / "x.hrstem"
    path.write_bytes(content)
    with pytest.raises(
        ModelError, match=r"x\.hrstem: this is not a model file .*; name a file that `train` wrote\.$"
    ):
        load_model(path)


def test_missing_file(tmp_path):
    with pytest.raises(ModelError, match="cannot be read"):
        read_contract(tmp_path / "none.hrstem")


def test_an_archive_of_something_else(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.hrstem", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(ModelError, match=r"it has no contract\.json"):
        read_contract(tmp_path / "x.hrstem")


# -- with networks


@pytest.mark.keras
def test_round_trip(path, network):
    model = load_model(path)
    assert replace(model.contract, networks={}) == CONTRACT
    assert model.contract.networks == {"compact": {"inputs": [[32, 32, 1]], "outputs": [[2]]}}
    assert model.sha256 == file_sha256(path)
    patches = np.random.default_rng(0).random((4, 32, 32, 1)).astype(np.float32)
    np.testing.assert_array_equal(
        model.networks["compact"].predict_on_batch(patches), network.predict_on_batch(patches)
    )
    assert [item.name for item in path.parent.iterdir()] == [path.name]  # nothing is left beside it


@pytest.mark.keras
def test_a_trained_network_is_stored_without_its_optimizer(tmp_path, path, network):
    network.compile("adam", "categorical_crossentropy")
    network.train_on_batch(np.zeros((2, 32, 32, 1)), np.eye(2))
    again = save_model(tmp_path / "again.hrstem", CONTRACT, {"compact": network})
    assert again.stat().st_size < 1.1 * path.stat().st_size
    assert not load_model(again).networks["compact"].compiled


@pytest.mark.keras
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch_px": 64}, "does not take the patches of 64 px that it says it is for"),
        ({"networks": {}}, "does not hold the networks that it names"),
        ({"networks": {"../x": {}}}, "does not hold the networks that it names"),
        (
            {"networks": {"compact": {"inputs": [[32, 32, 1]], "outputs": [[3]]}}},
            "its network compact does not tell the 2 classes apart",
        ),
        (
            {
                "networks": {"compact": {"inputs": [[32, 32, 1]], "outputs": [[3]]}},
                "classes": ["a", "b", "c"],
            },
            "other inputs or outputs than it says",
        ),
        ({"kind": "vgg16"}, "its networks are not those of the kind vgg16"),
        ({"kind": "fft-ensemble"}, "its preprocessing is not that of an FFT ensemble"),
        ({"preprocessing": {"filter": 5}}, "the filter of its preprocessing is 5"),
        ({"preprocessing": {"scope": "all"}}, "the scope of its preprocessing is 'all'"),
    ],
)
def test_files_that_break_their_contract(path, changes, message):
    with pytest.raises(ModelError, match=message):
        load_model(with_contract(path, **changes))


@pytest.mark.keras
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch_px": 64}, "network class-0 does not take the patches of 64 px that it says it is for"),
        ({"classes": ["Bulk", "SF1", "SF2"]}, "its networks are not those of the kind fft-ensemble"),
        ({"preprocessing": {}}, "its preprocessing is not that of an FFT ensemble"),
        ({"views": 3}, "its preprocessing is not that of an FFT ensemble"),
        ({"blur_px": "much"}, "its preprocessing is not that of an FFT ensemble"),
        ({"branches": "raw+fft"}, "does not take the patches of 32 px"),
        ({"calibration": {"1": {"slope": [1], "offset": [0]}}}, "not that of an FFT ensemble"),
        ({"calibration": [1]}, "not that of an FFT ensemble"),
    ],
)
def test_ensembles_that_break_their_contract(tmp_path, changes, message):
    preprocessing = EnsembleSettings(branches="fft").preprocessing()
    contract = Contract("fft-ensemble", "mine", ("Bulk", "SF1"), 32, preprocessing)
    networks = {f"class-{k}": build_efficient(32, "fft") for k in range(2)}
    path = save_model(tmp_path / "mine.hrstem", contract, networks)
    assert read_contract(path).classes == ("Bulk", "SF1")
    if changes.keys() <= {"views", "blur_px", "branches", "calibration"}:
        changes = {"preprocessing": {**preprocessing, **changes}}
    with pytest.raises(ModelError, match=message):
        read_contract(with_contract(path, **changes))


@pytest.mark.keras
def test_other_members_are_refused(path):
    with pytest.raises(ModelError, match="and nothing else"):
        load_model(rewritten(path, lambda members: members.update({"run.py": b"print()"})))


@pytest.mark.keras
def test_a_network_of_code_is_refused(path, tmp_path):
    layers = keras().layers
    network = keras().Sequential([keras().Input((32, 32, 1)), layers.Lambda(lambda x: x), layers.Flatten()])
    with pytest.raises(ModelError, match="holds the part 'Lambda', which this program does not run"):
        load_model(with_network(path, tmp_path, network))


@pytest.mark.keras
@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        ("module", "os", "a part of 'os'"),
        ("class_name", "system", "the part 'system'"),
        ("registered_name", "builtins>eval", "the part 'builtins>eval'"),
        (
            "activation",
            {"class_name": "function", "module": "os", "config": "system"},
            "the activation|the part",
        ),
    ],
)
def test_configurations_that_name_something_else(path, tmp_path, where, value, message):
    """Keras would import what a configuration names; the file is refused before it is asked."""

    def change(members):
        inner = tmp_path / "inner.keras"
        inner.write_bytes(members["compact.keras"])

        def spoil(parts):
            config = json.loads(parts["config.json"])
            layer = config["config"]["layers"][-1]
            (layer["config"] if where == "activation" else layer)[where] = value
            parts["config.json"] = json.dumps(config).encode()

        members["compact.keras"] = rewritten(inner, spoil).read_bytes()

    with pytest.raises(ModelError, match=message):
        load_model(rewritten(path, change))


@pytest.mark.keras
def test_damaged_networks(path):
    def cut(members):
        members["compact.keras"] = members["compact.keras"][:-2000]

    with pytest.raises(ModelError, match="its network compact is damaged"):
        load_model(rewritten(path, cut))


@pytest.mark.keras
def test_a_file_that_is_cut_off(path):
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(ModelError, match="not a model file"):
        load_model(path)


@pytest.mark.keras
def test_what_cannot_be_written(tmp_path, network, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(WriteError, match="the model cannot be written there"):
        save_model(tmp_path / "file" / "x.hrstem", CONTRACT, {"compact": network})
    with pytest.raises(ValueError, match="expected letters"):
        save_model(tmp_path / "x.hrstem", CONTRACT, {"../x": network})
    with pytest.raises(ValueError, match="at least one"):
        save_model(tmp_path / "x.hrstem", CONTRACT, {})

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store.os, "replace", full)
    with pytest.raises(WriteError, match="No space left on device"):
        save_model(tmp_path / "x.hrstem", CONTRACT, {"compact": network})
    assert sorted(item.name for item in tmp_path.iterdir()) == ["file"]
