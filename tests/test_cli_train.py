"""train, evaluate --model, analyze --classifier and replay, by the command line."""

import contextlib
import csv
import json
import shlex
import sys
import threading
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_hrstem_defects.cli import console
from napari_hrstem_defects.cli import train as cli_train
from napari_hrstem_defects.errors import ReadError
from napari_hrstem_defects.models import backend, registry
from napari_hrstem_defects.models.options import RECIPES, TrainingProgress
from napari_hrstem_defects.models.store import file_sha256, load_model

from .helpers import run
from .models.networks import tiny_logit, tiny_softmax

pytestmark = pytest.mark.usefixtures("quick_figures", "models_folder", "one_process")

EDGE = 32
QUICK = ("--model", "compact", "--patch-size", EDGE, "--per-class", 16, "--epochs", 1)


@pytest.fixture(autouse=True)
def tiny_networks(monkeypatch):
    from napari_hrstem_defects.models import compact, fft_ensemble, scale

    monkeypatch.setattr(compact, "build_compact", tiny_softmax)
    monkeypatch.setattr(scale, "image_periods", lambda images: None)  # half a second an image
    monkeypatch.setattr(fft_ensemble, "build_efficient", tiny_logit)
    monkeypatch.setattr(fft_ensemble, "LEAST_PER_EPOCH", 32)


def micrograph(seed, shape=(128, 160)):
    """A lattice that turns coarse in a band, its noise its own."""
    rng = np.random.default_rng(seed)
    y, x = np.indices(shape)
    mask = np.zeros(shape, np.uint8)
    mask[:, 60:110] = 1
    period = np.where(mask, 14, 8)
    a, b = rng.uniform(0, 6, 2)
    pixels = np.cos(2 * np.pi * x / period + a) + np.cos(2 * np.pi * y / period + b)
    return (8000 + 1500 * (pixels + 0.3 * rng.normal(size=shape))).astype(np.uint16), mask


@pytest.fixture
def folder(tmp_path):
    """Three painted images; one has no labels."""
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
    for k in range(4):
        pixels, mask = micrograph(k)
        tifffile.imwrite(tmp_path / "images" / f"i{k}.tif", pixels)
        if k == 0:
            tifffile.imwrite(tmp_path / "labels" / "i0.tif", mask.astype(np.int32))
        if k == 1:
            Image.fromarray(mask * 255).save(tmp_path / "labels" / "i1_mask.png")
        if k == 2:
            points = [[60, 0], [109, 0], [109, 127], [60, 127]]
            drawn = {"imageHeight": 128, "imageWidth": 160, "shapes": [{"label": "S", "points": points}]}
            (tmp_path / "labels" / "i2.json").write_text(json.dumps(drawn))
    return tmp_path


def patch_table(folder):
    """Patches of two classes cut from one image, overlapping."""
    pixels, mask = micrograph(5, (220, 400))
    pixels = (pixels / 65535 * 255).astype(np.uint8)
    rows = []
    for y in range(0, 188, 24):
        for x in range(0, 368, 24):
            share = mask[y : y + EDGE, x : x + EDGE].mean()
            if 0 < share < 0.5:
                continue
            name = f"{y}_{x}.png"
            Image.fromarray(pixels[y : y + EDGE, x : x + EDGE]).save(folder / name)
            rows.append(
                {"file": name, "label": "Fault" if share else "Bulk", "source": "one", "y": y, "x": x}
            )
    with (folder / "patches.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder / "patches.csv"


# -- without Keras: wrong usage


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("--model compact", "by one of --images, --patches and --simulated, not none"),
        ("--model svm --simulated 3", "no kind of classifier 'svm'"),
        ("--model compact --out x.keras --simulated 3", "the name of a model file ends with .hrstem"),
        ("--model compact --images none", "none: there is no such file"),
        ("--model compact --patches none.csv", "none.csv: the table of patches"),
        ("--model compact --simulated 3 --labels a", "--labels goes with"),
        ("--model compact --simulated 3 --patch-size 8", "The patch size must be 16 to 512 px"),
        ("--model compact --simulated 3 --set dense", "write it as key=value"),
        (
            "--model compact --simulated 3 --set branches=raw",
            "The kind compact has no setting 'branches'; it has none of its own",
        ),
        (
            "--model vgg16 --simulated 3 --set dense=big",
            "dense must be a valid tuple, not 'big'",
        ),
        (
            "--model fft-ensemble --patches t.csv --set balance=maybe",
            "balance must be on or off, not 'maybe'",
        ),
        ("--model compact --simulated 3 --only a=b", "--only goes with --patches; leave it out"),
        ("--model compact --simulated 3 --clean Bulk", "--clean goes with --patches"),
        ("--model compact --simulated 3 --split random", "--split goes with --patches"),
        (
            "--model compact --patches t.csv --test-images 2",
            "--test-images goes with --images or --simulated",
        ),
        ("--model compact --simulated 3 --weights none", "--weights goes with --model vgg16"),
        ("--model compact --simulated 3 --train-base", "--train-base goes with --model vgg16"),
        ('--model compact --simulated 3 --name " "', "needs a name"),
        (
            '--model compact --out "a (2).hrstem" --simulated 3 --install',
            "A classifier cannot be called 'a (2)'",
        ),
        (
            "--model compact --preset marvin2025 --simulated 3",
            "Name one of --model, --protocol and --preset.",
        ),
        ("--simulated 3", "Name one of --model, --protocol and --preset."),
        ("--preset dennler2021 --simulated 3", "--preset must be marvin2025, not dennler2021."),
        ("--protocol x --simulated 3", "--protocol must be dennler2021, not x."),
    ],
)
def test_wrong_usage(tmp_path, monkeypatch, command, message):
    monkeypatch.chdir(tmp_path)
    out = () if "--out" in command else ("--out", "x.hrstem")
    error = run("train", *shlex.split(command), *out, status=2).stderr
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "x.hrstem").exists()


@pytest.mark.parametrize(
    "command",
    [
        "",
        "--pred a",
        "--truth a",
        "--model a --pred b",
        "--pred a --truth b --images c",
        "--model a",
        "--model a --images b --patches c",
    ],
)
def test_evaluate_wants_one_of_two(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run("evaluate", *command.split(), status=2)


def test_a_list_of_classifiers_that_cannot_be_written(tmp_path, monkeypatch):
    """Said before anything is computed."""
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv(registry.FOLDER_VARIABLE, str(tmp_path / "file" / "models"))
    refused = run("train", "--simulated", 300, "--out", tmp_path / "x.hrstem", *QUICK, "--install", status=2)
    assert refused.stdout == ""
    assert refused.stderr.count("\n") == 1
    assert f"cannot be written there ({tmp_path / 'file'} is no folder); set HRSTEM" in refused.stderr


def test_without_tensorflow(tmp_path, folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    backend.keras.cache_clear()
    error = run("train", "--images", folder / "images", "--labels", folder / "labels", "--out",
                tmp_path / "x.hrstem", *QUICK, status=2).stderr  # fmt: skip
    assert "need TensorFlow, which is not installed; install it with" in error
    # Nobody waits for 300 simulated images to hear it.
    simulated = run("train", "--simulated", 300, "--out", tmp_path / "x.hrstem", *QUICK, status=2)
    assert simulated.stdout == ""
    # The rest goes on.
    run("analyze", folder / "images" / "i0.tif", "--out", tmp_path / "o", "--quiet")


def test_labels_of_every_sort(folder):
    from napari_hrstem_defects.batch.labelled import read_labelled

    images, left_out = read_labelled(folder / "images", folder / "labels")
    assert [image.name for image in images] == ["i0", "i1", "i2"]
    for image in images:
        np.testing.assert_array_equal(image.mask > 0, micrograph(0)[1] > 0)
    assert len(left_out) == 1
    assert "i3.tif: it has no labels" in left_out[0]


def test_polygons_and_masks_beside_the_images(folder, tmp_path):
    from napari_hrstem_defects.batch.labelled import read_labelled

    for name in ("drawn", "masked", "bare"):
        tifffile.imwrite(tmp_path / f"{name}.tif", micrograph(0)[0])
    shape = {"label": "A", "points": [[0, 0], [20, 0], [20, 20]]}
    (tmp_path / "drawn.json").write_text(json.dumps({"shapes": [shape]}))
    Image.fromarray(micrograph(0)[1]).save(tmp_path / "masked_mask.png")
    images, left_out = read_labelled(tmp_path)
    assert [image.name for image in images] == ["drawn", "masked"]
    assert set(np.unique(images[0].mask)) == {0, 2}
    assert [line.partition(":")[0] for line in left_out] == [str(tmp_path / "bare.tif")]


def test_the_published_folders(tmp_path):
    from napari_hrstem_defects.batch.labelled import read_labelled

    for name in ("defective/images", "defective/json", "non_defective/images", "non_defective/labels"):
        (tmp_path / name).mkdir(parents=True)
    tifffile.imwrite(tmp_path / "defective/images/1.tif", micrograph(0)[0])
    tifffile.imwrite(tmp_path / "non_defective/images/1.tif", micrograph(1)[0])
    shape = {"label": "A", "points": [[0, 0], [20, 0], [20, 20]]}
    (tmp_path / "defective/json/1.json").write_text(json.dumps({"shapes": [shape]}))
    images, left_out = read_labelled(tmp_path)
    assert [(image.name, image.has_defects) for image in images] == [("1", True), ("1 (2)", False)]
    assert set(np.unique(images[0].mask)) == {0, 2}
    assert left_out == []
    # Label images are 0 crystal, 127 another symmetry, 255 blurred; polygons are taken first.
    (tmp_path / "defective/labels").mkdir()
    drawn = np.zeros((128, 160), np.uint8)
    drawn[:40], drawn[80:] = 127, 255
    tifffile.imwrite(tmp_path / "defective/images/2.tif", micrograph(2)[0])
    for stem in "12":
        tifffile.imwrite(tmp_path / f"defective/labels/{stem}.tif", drawn)
    images, _ = read_labelled(tmp_path)
    assert [set(np.unique(image.mask).tolist()) for image in images] == [{0, 2}, {0, 1, 2}, {0}]
    np.testing.assert_array_equal(
        images[1].mask, np.repeat([1, 0, 2], [40, 40, 48])[:, None] * np.ones(160, int)
    )
    with pytest.raises(ReadError, match="which holds its labels; leave out --labels"):
        read_labelled(tmp_path, tmp_path)


def test_two_series_of_one_name_are_two_groups(tmp_path):
    """Else some frames of the second are split from the rest."""
    from napari_hrstem_defects.batch.labelled import read_labelled

    for name, numbers in (("defective", (0, 1)), ("non_defective", (2, 3, 4))):
        (tmp_path / name / "images").mkdir(parents=True)
        (tmp_path / name / "labels").mkdir()
        frames, masks = zip(*(micrograph(k) for k in numbers), strict=True)
        tifffile.imwrite(
            tmp_path / name / "images" / "s.tif", np.stack(frames), imagej=True, metadata={"axes": "TYX"}
        )
        tifffile.imwrite(
            tmp_path / name / "labels" / "s.tif", np.stack(masks), imagej=True, metadata={"axes": "TYX"}
        )
    images, _ = read_labelled(tmp_path)
    assert [(image.name, image.group) for image in images] == [
        *((f"s[{k}]", "s") for k in range(2)),
        *((f"s (2)[{k}]", "s (2)") for k in range(3)),
    ]


def test_tables_that_are_wrong(tmp_path):
    from napari_hrstem_defects.batch.labelled import read_patches
    from napari_hrstem_defects.errors import HrstemDefectsError

    table = tmp_path / "t.csv"
    np.save(tmp_path / "nan.npy", np.where(np.eye(32), np.nan, np.arange(32.0)))
    Image.fromarray(np.arange(1024, dtype=np.uint8).reshape(32, 32)).save(tmp_path / "a.png")
    Image.fromarray(np.arange(40 * 40, dtype=np.uint8).reshape(40, 40)).save(tmp_path / "b.png")
    for text, message in (
        ("name\na.png\n", "the column file is missing"),
        ("file,label\n", "the table of patches has no rows"),
        ("file,label\na.png,\n", "line 2 has no file or no label"),
        ("file,label\nnone.png,Bulk\n", "there is no such file"),
        ("file,label\na.png,Bulk\nb.png,Fault\n", "all patches must have one size"),
        ("file,label\na.png,Bulk\na.png,Bulk\n", "There is only one class"),
        ("file,label\na.png,x\na.png,y\n", "name it with --clean"),
        ("file,label\na.png,Bulk\na.png,Bulk \n", "There is only one class"),
        ("file,label\na.png,Bulk\na.png,\x1b[31mF\n", "holds control characters"),
        ("file,label,source,y,x\na.png,Bulk,s,top,0\na.png,F,s,0,0\n", "y of a.png is 'top', not a number"),
        ("file,label,source,y,x\na.png,Bulk,s,nan,0\na.png,F,s,0,0\n", "y of a.png is 'nan', not a number"),
        ("file,label,source,y,x\na.png,Bulk,s,0,0\na.png,F,s,,\n", "a.png has no position .* others have"),
        ("file,label\na.png,Bulk\nnan.npy,F\n", "nan.npy: the patch has missing pixels"),
        ("file,label\na.png,Bulk,more,and more\na.png,F\n", "no column 'material'; there are file, label"),
    ):
        table.write_text(text)
        with pytest.raises(HrstemDefectsError, match=message):
            read_patches(table, only=("material", "Si") if "material" in message else None)
    table.write_text("file,label,material\na.png,x,Si\na.png,y,Si\na.png,z,Ge\n")
    patches = read_patches(table, clean="y", only=("material", "Si"))
    assert patches.classes == ("y", "x")
    assert patches.labels.tolist() == [1, 0]
    assert patches.pixels.max() <= 1


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", "uint32", "float32", "float64"])
def test_patches_of_all_types_are_seen(tmp_path, dtype):
    """Of the range of 32 bits nobody uses anything: rounding would leave a flat patch."""
    from napari_hrstem_defects.batch.labelled import read_patches

    made = np.random.default_rng(0).integers(0, 200, (2, EDGE, EDGE))
    for name, pixels in zip("ab", made, strict=True):
        tifffile.imwrite(tmp_path / f"{name}.tif", pixels.astype(dtype))
    (tmp_path / "t.csv").write_text("file,label\na.tif,Bulk\nb.tif,Fault\n")
    for pixels, original in zip(read_patches(tmp_path / "t.csv").pixels, made, strict=True):
        assert 0 <= pixels.min() <= pixels.max() <= 1
        assert np.corrcoef(pixels.ravel(), original.ravel())[0, 1] > 0.999


# -- with Keras


@pytest.mark.keras
def test_paint_train_analyze_replay(folder, tmp_path):
    """Three painted images, a classifier, its verdict on a fourth, and the same again from the record."""
    model = tmp_path / "mine.hrstem"
    trained = run("train", "--images", folder / "images", "--labels", folder / "labels", "--out", model, *QUICK,
                  "--install")  # fmt: skip
    assert "3 images, 3 with defects" in trained.stdout
    assert "epoch 1 of 1, loss" in trained.stdout
    assert "accuracy   precision   specificity" in trained.stdout
    assert "i3.tif: it has no labels" in trained.stderr
    assert file_sha256(model) in trained.stdout
    assert [entry.name for entry in registry.entries()] == ["mine"]

    fourth = folder / "images" / "i3.tif"
    out = tmp_path / "out"
    run("analyze", fourth, "--out", out, "--classifier", "mine", "--set", "classify.patch_size=32", "--quiet")
    info = json.loads((out / "i3" / "analysis.json").read_text())
    assert info["classifier"] == {"name": "mine", "sha256": file_sha256(model)}
    again = ("analyze", fourth, "--out", out, "--set", "classify.patch_size=32", "--classifier")
    assert "skipped" in run(*again, "mine").stdout

    record = out / "i3" / "analysis.json"
    assert "identical" in run("replay", record, "--out", tmp_path / "again").stdout
    # Another model under the same name is another classifier; the first is found by its hash or missed.
    run("train", "--images", folder / "images", "--labels", folder / "labels", "--out", model, *QUICK, "--seed", 5,
        "--overwrite", "--install", "--quiet")  # fmt: skip
    assert "done" in run(*again, "mine").stdout
    info["classifier"]["sha256"] = "0" * 64
    record.write_text(json.dumps(info))
    missed = run("replay", record, "--out", tmp_path / "third", status=1).stderr
    assert "is neither where it was nor in the list of classifiers" in missed


@pytest.mark.keras
def test_what_an_interrupted_training_installed_is_replaced_by_the_rest(folder, tmp_path, monkeypatch):
    model = tmp_path / "mine.hrstem"
    command = ("train", "--images", folder / "images", "--labels", folder / "labels", "--out", model, *QUICK[:-1], 2,
               "--install")  # fmt: skip
    stop = threading.Event()
    tell = cli_train._Teller.tell

    def told(self, report):
        tell(self, report)
        if report.validation_loss is not None:
            stop.set()

    with monkeypatch.context() as patch:
        patch.setattr(cli_train, "stop_signals", lambda: contextlib.nullcontext(stop))
        patch.setattr(cli_train._Teller, "tell", told)
        said = run(*command, status=1)
    assert "the best network so far is in" in said.stderr
    assert [entry.contract.metrics["stopped"] for entry in registry.entries()] == [True]
    run(*command, "--resume")
    assert [entry.contract.metrics["stopped"] for entry in registry.entries()] == [False]
    # Another classifier of that name is not replaced, and this is said before anything is computed.
    model.unlink()
    refused = run(*command, status=2)
    assert "There is a classifier 'mine' already" in refused.stderr
    assert refused.stdout == ""


@pytest.mark.keras
def test_evaluate_a_model(folder, tmp_path):
    model, report = tmp_path / "m.hrstem", tmp_path / "report.json"
    labelled = ("--images", folder / "images", "--labels", folder / "labels")
    run("train", *labelled, "--out", model, *QUICK, "--quiet")
    pixels, mask = micrograph(9)
    tifffile.imwrite(folder / "images" / "new.tif", pixels)
    tifffile.imwrite(folder / "labels" / "new.tif", mask)
    result = run("evaluate", "--model", model, *labelled, "--json", report)
    assert "while training: test" in result.stdout
    assert "Used in training, and scored apart: " in result.stderr
    scores = json.loads(report.read_text())
    assert {
        "accuracy",
        "precision",
        "specificity",
        "recall",
        "balanced_accuracy",
        "confusion",
    } <= scores.keys()
    assert scores["confusion"]["classes"] == ["non-defective", "defective"]
    assert scores["unseen"] == 2  # the new one and the one held out
    assert scores["model"]["sha256"] == file_sha256(model)
    assert "unseen with defects" in result.stdout
    for wrong in ("--only", "--clean"):
        refused = run("evaluate", "--model", model, *labelled, wrong, "a=b", status=2).stderr
        assert refused == f"{wrong} goes with --patches; leave it out.\n"
    # What was computed is shown even if it cannot be written.
    lost = run("evaluate", "--model", model, *labelled, "--json", tmp_path / "none" / "r.json", status=2)
    assert "unseen with defects" in lost.stdout
    assert lost.stderr.splitlines()[-1].endswith("No such file or directory); choose another place.")


@pytest.mark.parametrize("has_bar", [True, False])
def test_what_is_told_while_it_trains(has_bar):
    """A bar shows where it is now, with what was last known; lines are one a pass."""
    shown, said = [], []
    reporter = SimpleNamespace(
        has_bar=has_bar, progress=lambda fraction, text: shown.append((fraction, text)), say=said.append
    )
    teller = cli_train._Teller(reporter)
    step = {"network": "compact", "epoch": 1, "epochs": 5, "repeat": 2, "repeats": 6}
    teller.tell(TrainingProgress(0.0, "cutting patches"))
    teller.tell(TrainingProgress(0.0, "cutting patches"))
    teller.tell(TrainingProgress(0.2, "epoch 1 of 5", loss=0.5, accuracy=0.75, validation_loss=0.4,
                                 validation_accuracy=0.8, **step))  # fmt: skip
    teller.tell(TrainingProgress(0.3, "epoch 2 of 5", loss=0.25, accuracy=0.9, **step))
    first = "compact, split 2 of 6, epoch 1 of 5, loss 0.500, accuracy 0.750, validation 0.400 / 0.800"
    if has_bar:
        now = "compact, split 2 of 6, epoch 2 of 5, loss 0.250, accuracy 0.900, validation 0.400 / 0.800"
        assert [text for _, text in shown] == ["cutting patches", "cutting patches", first, now]
        fractions = [fraction for fraction, _ in shown]
        assert fractions == sorted(fractions)
        assert said == []
    else:
        assert said == ["cutting patches", first]
        assert shown == []


@pytest.mark.keras
def test_published_protocol_from_the_command_line(folder, tmp_path, monkeypatch):
    """Images with defects are divided 3 : 10, repeated six times, and table 1 comes out; with a small network here."""
    monkeypatch.setitem(RECIPES, "dennler2021", replace(RECIPES["dennler2021"], kind="compact"))
    pixels, _ = micrograph(3)
    tifffile.imwrite(folder / "labels" / "i3.tif", np.zeros(pixels.shape, np.uint8))
    model, report = tmp_path / "m.hrstem", tmp_path / "report"
    options = ("--patch-size", EDGE, "--per-class", 16, "--epochs", 1, "--repeats", 2, "--report", report)
    labelled = ("--images", folder / "images", "--labels", folder / "labels")
    shown = run("train", "--protocol", "dennler2021", *labelled, "--out", model, *options).stdout
    assert "2 of 3 images with defects to train on and 1 to test, all 1 without defects only tested" in shown
    assert "Patches wholly inside a domain of another symmetry counted as defective." in shown
    contract = load_model(model).contract
    training = contract.training
    assert (training["protocol"], training["patience"], training["train_base"]) == ("dennler2021", 0, True)
    assert Counter(item["part"] for item in training["images"]) == {"train": 2, "test": 2}
    assert contract.metrics["repeats"] == 2
    with (report / "table_1.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["set"] for row in rows] == ["train", "test", "defect-free"]
    assert rows[2]["precision_mean"] == ""
    assert "defect-free" in (report / "report.txt").read_text("utf-8")
    scored = run("evaluate", "--model", model, *labelled, "--report", tmp_path / "again").stdout
    assert "as in table 1 of Dennler et al." in scored
    assert "weighted average" in scored
    assert (tmp_path / "again" / "confusion.png").is_file()


def test_names_with_brackets_are_shown(capsys):
    """Brackets mean colours to what draws the tables."""
    console.show_table([["", "[red]"], ["SF [/intrinsic]", "3"]], "truth [x]")
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("[red]", "SF [/intrinsic]", "truth [x]"))


@pytest.mark.keras
def test_tables_of_patches(tmp_path):
    table, model = patch_table(tmp_path), tmp_path / "p.hrstem"
    options = ("--patches", table, "--model", "compact", "--epochs", 1)
    refused = run("train", *options, "--out", model, "--split", "random", status=2)
    assert "test patches share pixels with training patches" in refused.stderr
    shown = run("train", *options, "--out", model, "--overwrite").stdout
    assert "split by position, no pixel shared" in shown
    assert "overlap, the split was forced" not in shown
    forced = run("train", *options, "--out", model, "--split", "random", "--force", "--overwrite").stdout
    assert "Train/test overlap, the split was forced" in forced
    assert "share pixels with training patches" in load_model(model).contract.metrics["shared"]
    scored = run("evaluate", "--model", model, "--patches", table)
    assert "were left out" in scored.stderr or "scores are too high" in scored.stderr
    # Nothing in its file says which images these patches are from.
    pixels, mask = micrograph(5, (220, 400))
    tifffile.imwrite(tmp_path / "whole.tif", pixels)
    tifffile.imwrite(tmp_path / "whole_mask.tif", mask)
    whole = run("evaluate", "--model", model, "--images", tmp_path / "whole.tif").stderr
    assert "does not list the images that it was trained on" in whole


@pytest.mark.keras
def test_an_ensemble_from_the_table_to_the_pipeline(tmp_path, folder):
    table, model = patch_table(tmp_path), tmp_path / "e.hrstem"
    trained = run("train", "--patches", table, "--model", "fft-ensemble", "--epochs", 1, "--out", model,
                  "--set", "branches=fft", "--set", "calibrate=off", "--install")  # fmt: skip
    assert "ensemble, epoch 1 of 1, loss" in trained.stdout
    contract = load_model(model).contract
    assert (contract.kind, contract.classes, contract.patch_px) == ("fft-ensemble", ("Bulk", "Fault"), EDGE)
    assert contract.preprocessing["branches"] == "fft"
    assert contract.preprocessing["calibration"] == {}
    assert set(load_model(model).networks) == {"class-0", "class-1"}
    scored = run("evaluate", "--model", "e", "--patches", table).stdout
    assert all(name in scored for name in ("Bulk", "Fault", "accuracy"))

    image = folder / "images" / "i3.tif"
    run("scan", image, "--model", "e", "--out", tmp_path / "scanned", "--stride", 16)
    shown = json.loads((tmp_path / "scanned" / "i3" / "scan.json").read_text())
    assert [item["name"] for item in shown["classes"]] == ["Bulk", "Fault"]
    run(
        "analyze",
        image,
        "--out",
        tmp_path / "out",
        "--classifier",
        "e",
        "--set",
        "classify.patch_size=48",
        "--quiet",
    )
    info = json.loads((tmp_path / "out" / "i3" / "analysis.json").read_text())
    assert info["classifier"] == {"name": "e", "sha256": file_sha256(model)}


@pytest.mark.keras
def test_simulated_images(tmp_path, monkeypatch):
    from napari_hrstem_defects.batch import labelled

    monkeypatch.setattr(labelled, "SIMULATED_PX", 256)
    model = tmp_path / "s.hrstem"
    out = run("train", "--simulated", 10, "--seed", 3, "--out", model, *QUICK).stdout
    assert "10 images, " in out
    assert load_model(model).contract.training["images"]
