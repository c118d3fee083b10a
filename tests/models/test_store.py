"""Model files: what comes back, what is refused, that nothing in them is run."""

import io
import json
import shutil
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from napari_hrstem_defects.errors import ModelError, WriteError
from napari_hrstem_defects.models import store
from napari_hrstem_defects.models.compact import build_compact
from napari_hrstem_defects.models.contract import Contract
from napari_hrstem_defects.models.ensemble_networks import build_efficient
from napari_hrstem_defects.models.fft_ensemble import EnsembleSettings
from napari_hrstem_defects.models.kinds import kind_of
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

PREPROCESSING = EnsembleSettings(branches="fft").preprocessing()
KERNEL = "compact/000-kernel.npy"


def array(values):
    file = io.BytesIO()
    np.save(file, values, allow_pickle=True)
    return file.getvalue()


@pytest.fixture(scope="module")
def network():
    return build_compact(32)


@pytest.fixture(scope="module")
def stored(tmp_path_factory, network):
    return save_model(tmp_path_factory.mktemp("model") / "mine.hrstem", CONTRACT, {"compact": network})


@pytest.fixture
def path(tmp_path, stored):
    (tmp_path / "copy").mkdir()
    return shutil.copy(stored, tmp_path / "copy" / "mine.hrstem")


@pytest.fixture(scope="module")
def stored_ensemble(tmp_path_factory):
    contract = Contract("fft-ensemble", "mine", ("Bulk", "SF1"), 32, PREPROCESSING)
    networks = {f"class-{k}": build_efficient(32, "fft") for k in range(2)}
    return save_model(tmp_path_factory.mktemp("ensemble") / "mine.hrstem", contract, networks)


@pytest.fixture
def ensemble(tmp_path, stored_ensemble):
    return shutil.copy(stored_ensemble, tmp_path / "mine.hrstem")


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


# -- contract: without Keras


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (
            "kind",
            "random forest",
            "its kind must be one of vgg16, compact, fft-ensemble, not 'random forest'",
        ),
        ("name", " ", "its name must be a name, not ' '"),
        ("classes", ["one"], "its classes must be two or more different names"),
        ("classes", ["a", "a"], "its classes must be two or more different names"),
        ("classes", "ab", "its classes must be a valid array"),
        ("patch_px", 4, "its patch_px must be greater than or equal to 16, not 4"),
        ("patch_px", 64.0, "its patch_px must be a valid integer, not 64.0"),
        ("pixel_size_nm", [0.2, 0.1], "its pixel_size_nm must be a smallest and a largest value"),
        ("pixel_size_nm", [1, 10**400], "item 2 of pixel_size_nm must be less than 1000000"),
        ("period_px", [float("inf")] * 2, "item 1 of period_px must be less than 1000000"),
        ("name", "\x1b[2J", "its name must be text without control characters"),
        ("classes", ["Bulk", "\x1b[31mVacancy"], "item 2 of classes must be text without control"),
        ("created", "\x1b[2J", "its created must be text without control characters"),
        (
            "training",
            {"images": [{"name": "a", "part": "test"}]},
            "its sha256 of item 1 of images of training is",
        ),
        ("training", {"patches": 3}, "its patches of training must be a valid list, not 3"),
        ("metrics", [], "its metrics must be an object"),
        ("seed", "1", "its seed must be a valid integer"),
        ("format", 1, "it has format version 1, this program reads 2"),
        ("surprise", 1, "its surprise is unknown"),
    ],
)
def test_contracts_that_are_refused(field, value, message):
    values = {**json.loads(CONTRACT.to_json()), field: value}
    with pytest.raises(ModelError, match=message):
        Contract.from_json(json.dumps(values))


def test_a_contract_must_be_complete_and_end():
    values = json.loads(CONTRACT.to_json())
    del values["classes"]
    for text, message in (
        (json.dumps(values), "its classes is missing"),
        ('{"metrics": ' + "[" * 100_000, "no JSON"),
    ):
        with pytest.raises(ModelError, match=message):
            Contract.from_json(text)


def test_many_training_patches_fit_into_a_file(tmp_path):
    marks = [f"{number:016x}" for number in range(200_000)]
    contract = replace(CONTRACT, training={"patches": marks})
    with zipfile.ZipFile(tmp_path / "x.hrstem", "w") as archive:
        archive.writestr("contract.json", contract.to_json())
        archive.writestr(KERNEL, b"weights")
    assert read_contract(tmp_path / "x.hrstem").training["patches"] == marks


def test_foreign_files(tmp_path):
    path = tmp_path / "x.hrstem"
    with pytest.raises(ModelError, match="cannot be read"):
        read_contract(path)
    for content in (b"", b"PK\x03\x04 broken", b"II*\x00 a picture"):
        path.write_bytes(content)
        with pytest.raises(ModelError, match=r"x\.hrstem: this is not a model file .* that `train` wrote\.$"):
            load_model(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(ModelError, match=r"it has no contract\.json"):
        read_contract(path)


# -- with networks


def test_round_trip(path, network):
    network.compile("adam", "categorical_crossentropy")  # what training adds is left out
    model = load_model(path)
    assert model.contract == CONTRACT
    assert model.sha256 == file_sha256(path)
    patches = np.random.default_rng(0).random((4, 32, 32, 1)).astype(np.float32)
    np.testing.assert_array_equal(
        model.networks["compact"].predict_on_batch(patches), network.predict_on_batch(patches)
    )
    assert [item.name for item in path.parent.iterdir()] == [path.name]  # nothing is left beside it


def test_dense_layers_come_back(tmp_path):
    contract = replace(CONTRACT, kind="vgg16", training={"extra": {"dense": [3, 5]}})
    stored = save_model(tmp_path / "v.hrstem", contract, kind_of("vgg16").build(contract))
    units = [layer.units for layer in load_model(stored).networks["vgg16"].layers if hasattr(layer, "units")]
    assert units == [3, 5, 2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": ["a", "b", "c"]}, r"its member compact/\d\d\d-kernel.npy does not fit into the network"),
        ({"kind": "vgg16"}, "it does not hold the networks of the kind vgg16, and nothing else"),
        ({"kind": "fft-ensemble"}, "its preprocessing is not that of an FFT ensemble"),
        ({"preprocessing": {"filter": 5}}, "its filter of preprocessing must be 'none' or 'log', not 5"),
        ({"preprocessing": {"scope": "all"}}, "its scope of preprocessing must be 'frame' or 'patch'"),
        ({"training": {"extra": {"dense": [3]}}}, "The kind compact has no setting 'dense'"),
        ({"training": {"extra": 3}}, "its extra of training must be a valid dictionary, not 3"),
        (
            {"kind": "vgg16", "training": {"extra": {"dense": [10**9]}}},
            "of dense must be less than or equal to 4096",
        ),
    ],
)
def test_files_that_break_their_contract(path, changes, message):
    with pytest.raises(ModelError, match=message) as caught:
        load_model(with_contract(path, **changes))
    assert str(caught.value).count("\n") == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch_px": 64}, "does not fit into the network"),
        ({"classes": ["Bulk", "SF1", "SF2"]}, "does not hold the networks of the kind fft-ensemble"),
        ({"preprocessing": {}}, "its preprocessing is not that of an FFT ensemble"),
        ({"views": 3}, "its preprocessing is not that of an FFT ensemble"),
        ({"blur_px": "much"}, "its preprocessing is not that of an FFT ensemble"),
        ({"architecture": "huge"}, "its preprocessing is not that of an FFT ensemble"),
        ({"branches": "raw+fft"}, "does not hold the weights of its networks"),
        ({"calibration": {"1": {"slope": [1], "offset": [0]}}}, "not that of an FFT ensemble"),
        ({"calibration": [1]}, "not that of an FFT ensemble"),
    ],
)
def test_ensembles_that_break_their_contract(ensemble, changes, message):
    path = ensemble
    assert load_model(path).contract.classes == ("Bulk", "SF1")
    if changes.keys() <= {"views", "blur_px", "branches", "calibration", "architecture"}:
        changes = {"preprocessing": {**PREPROCESSING, **changes}}
    with pytest.raises(ModelError, match=message):
        load_model(with_contract(path, **changes))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("run.py", b"print()", "and nothing else"),
        ("compact/../../x.npy", b"", "and nothing else"),
        ("other/000-kernel.npy", b"", "and nothing else"),
        ("compact/999-kernel.npy", b"", "and nothing else"),
        (KERNEL, b"no array", "is damaged"),
        (KERNEL, bytes(10**6), "is larger than any that this program writes"),
        (KERNEL, array(np.zeros((5, 5, 1, 15), np.float32)), "does not fit into the network"),
        (KERNEL, array(np.zeros((5, 5, 1, 16), np.int32)), "does not fit into the network"),
        (KERNEL, array(np.array([print], object)), "is damaged"),
        (
            KERNEL,
            array(np.zeros(1, np.float32)).replace(b"(1,), }        ", b"(99999999999,), }"),
            "is damaged",
        ),
    ],
)
def test_other_members_are_refused(path, name, content, message):
    """Nothing is unpickled or run, and nothing fills the memory."""
    with pytest.raises(ModelError, match=message):
        load_model(rewritten(path, lambda members: members.update({name: content})))


def test_an_archive_of_an_unknown_version(path):
    raw = path.read_bytes()
    at = raw.index(b"PK\1\2") + 6  # version needed to extract, of the first entry
    path.write_bytes(raw[:at] + b"\xbb" + raw[at + 1 :])
    with pytest.raises(ModelError, match="not a model file of this program, or it is damaged"):
        load_model(path)


def test_what_cannot_be_written(tmp_path, network, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(WriteError, match="the model cannot be written there"):
        save_model(tmp_path / "file" / "x.hrstem", CONTRACT, {"compact": network})
    for networks in ({"../x": network}, {}):
        with pytest.raises(ValueError, match="expected compact"):
            save_model(tmp_path / "x.hrstem", CONTRACT, networks)

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store.os, "replace", full)
    with pytest.raises(WriteError, match="No space left on device"):
        save_model(tmp_path / "x.hrstem", CONTRACT, {"compact": network})
    assert sorted(item.name for item in tmp_path.iterdir()) == ["file"]
