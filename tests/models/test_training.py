"""Training: the loop, going on after a kill, stopping, what is reported; on data that are told apart in seconds."""

import json
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from napari_hrstem_defects.core.patches import PatchGrid
from napari_hrstem_defects.errors import Cancelled, ModelError, WriteError
from napari_hrstem_defects.models import base, compact, evaluation, fitting, scale, training, vgg16
from napari_hrstem_defects.models.backend import keras
from napari_hrstem_defects.models.classifier import TrainedClassifier
from napari_hrstem_defects.models.data import LabelledImage, PatchSet
from napari_hrstem_defects.models.fitting import Job, fit_network
from napari_hrstem_defects.models.kinds import kind_of
from napari_hrstem_defects.models.options import TrainingOptions
from napari_hrstem_defects.models.store import load_model
from napari_hrstem_defects.models.training import train, unfinished
from napari_hrstem_defects.models.workspace import WORKSPACE_SUFFIX

from .networks import tiny_softmax

pytestmark = pytest.mark.keras

EDGE = 32
QUICK = TrainingOptions(name="quick", patch_px=EDGE, per_class=24, epochs=3, batch=16, seed=1)
BUILD_COMPACT, IMAGE_PERIODS = compact.build_compact, scale.image_periods


def slim_vgg16(include_top, weights, input_tensor):
    """The layers that the tests name, of four channels: the real base has fifteen million parameters."""
    layers = keras().layers
    x = input_tensor
    for block in range(1, 6):
        x = layers.Conv2D(4, 3, padding="same", activation="relu", name=f"block{block}_conv1")(x)
        x = layers.MaxPooling2D(name=f"block{block}_pool")(x)
    return keras().Model(input_tensor, x)


@pytest.fixture(autouse=True, scope="module")
def tiny_networks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compact, "build_compact", tiny_softmax)
        patch.setattr(scale, "image_periods", lambda images: None)  # half a second an image
        yield


def image(name, seed, *, defects=True):
    """A fine lattice; where it is defective a coarse one."""
    rng = np.random.default_rng(seed)
    y, x = np.indices((96, 160))
    mask = np.zeros((96, 160), np.uint8)
    if defects:
        mask[:, 64:112] = 1
    period = np.where(mask, 16, 6)
    angle, a, b = rng.uniform(0, 2 * np.pi, 3)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    pixels = 0.5 + 0.2 * np.cos(2 * np.pi * along / period + a) * np.cos(2 * np.pi * across / period + b)
    pixels = (pixels + 0.05 * rng.normal(size=pixels.shape)).clip(0, 1).astype(np.float32)
    return LabelledImage(name, pixels, mask, 0.02 + 0.001 * seed)


IMAGES = [image(f"d{k}", k) for k in range(4)] + [image(f"c{k}", 10 + k, defects=False) for k in range(4)]


def table(classes=("Bulk", "Fault", "Twin"), count=20):
    """Patches of four sources, each class with stripes of its own, crossed ones where nothing is wrong."""
    rng = np.random.default_rng(0)
    y, x = np.indices((EDGE, EDGE))
    pixels, labels, sources = [], [], []
    for source in "abcd":
        for k in range(len(classes)):
            for _ in range(count // 4):
                stripes = np.cos(2 * np.pi * (x if k % 2 else y) / (6 + 5 * k) + rng.uniform(0, 6))
                if k == 0:
                    stripes += np.cos(2 * np.pi * x / 6 + rng.uniform(0, 6))
                pixels.append(0.5 + 0.2 * stripes + 0.05 * rng.normal(size=stripes.shape))
                labels.append(k)
                sources.append(source)
    return PatchSet(np.array(pixels, np.float32), np.array(labels), classes, np.array(sources))


class After:
    """Asks to stop after some questions."""

    def __init__(self, count):
        self.left = count

    def __call__(self):
        self.left -= 1
        return self.left < 0


# -- the loop


def small_problem(count=120):
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(count, 8, 8, 1)).astype(np.float32)
    targets = (inputs.mean(axis=(1, 2, 3)) > 0).astype(np.float32)
    half = count // 2
    return (inputs[:half], targets[:half, None]), (inputs[half:], targets[half:, None])


def small_network(library):
    library.utils.set_random_seed(3)
    layers = library.layers
    return library.Sequential(
        [
            library.Input((8, 8, 1)),
            layers.Flatten(),
            layers.BatchNormalization(),
            layers.Dropout(0.5),
            layers.Dense(1, activation="sigmoid"),
        ]
    )


def noisy(inputs, rng):
    return inputs if rng is None else inputs + rng.normal(0, 0.01, inputs.shape).astype(np.float32)


def run_small(
    folder=None, epochs=5, progress=None, cancelled=None, rate=0.01, patience=10, kept_after=None, data=None
):
    network = small_network(keras())
    data = small_problem() if data is None else data
    with tempfile.TemporaryDirectory() as aside:
        history = fit_network(
            network,
            *data,
            TrainingOptions(learning_rate=rate, batch=8, epochs=epochs, patience=patience, seed=7),
            Job(folder or Path(aside), progress, cancelled),
            loss="binary_crossentropy",
            prepare=noisy,
            kept_after=kept_after,
        )
    return network, history, data


@pytest.fixture(scope="module")
def learnt(tiny_networks):
    told = []
    return *run_small(progress=told.append, epochs=8), told


def test_it_learns_keeps_the_best_and_reports(learnt):
    network, history, (_, (inputs, targets)), told = learnt
    assert type(network.optimizer).__name__ == "Adam"
    assert float(network.optimizer.learning_rate) == pytest.approx(0.01)
    assert history.loss[-1] < 0.7 * history.loss[0]
    assert history.best_epoch == int(np.argmin(history.validation_loss))
    found = np.asarray(network.predict_on_batch(inputs)).clip(1e-7, 1 - 1e-7)
    cross_entropy = -np.mean(targets * np.log(found) + (1 - targets) * np.log(1 - found))
    assert cross_entropy == pytest.approx(min(history.validation_loss), rel=1e-3)
    ends = [report for report in told if report.validation_loss is not None]
    assert [report.epoch for report in ends] == list(range(1, 9))
    assert [report.validation_loss for report in ends] == history.validation_loss
    assert [report.fraction for report in told] == sorted(report.fraction for report in told)
    assert any(report.validation_loss is None and report.loss is not None for report in told)


def test_going_on_ends_where_it_would_have_ended(learnt, tmp_path):
    whole, history = learnt[:2]
    _, first, _ = run_small(tmp_path, epochs=8, cancelled=After(20))
    assert first.stopped
    assert 0 < first.epochs < 5
    again, second, _ = run_small(tmp_path, epochs=8)
    assert second.validation_loss == history.validation_loss
    for a, b in zip(whole.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_fixed_number_of_passes(tmp_path):
    """Without early stopping the last weights are kept, and each array of weights after its own passes."""
    two, history, _ = run_small(epochs=2, rate=0.1, patience=0)
    assert (history.epochs, history.best_epoch) == (2, 1)
    ends = [1 + number % 2 for number in range(len(two.get_weights()))]
    # What is there when it is stopped in its second pass.
    one, first, _ = run_small(tmp_path, epochs=2, rate=0.1, patience=0, kept_after=ends, cancelled=After(12))
    assert first.epochs == 1
    resumed, _, _ = run_small(tmp_path, epochs=2, rate=0.1, patience=0, kept_after=ends)
    for number, weights in enumerate(resumed.get_weights()):
        expected = (one, two)[number % 2].get_weights()[number]
        np.testing.assert_allclose(weights, expected, rtol=1e-5, atol=1e-6)
        assert not np.array_equal(one.get_weights()[number], two.get_weights()[number])


def test_stopping_early():
    _, history, _ = run_small(epochs=200, rate=0.1, patience=3)
    assert history.epochs < 200
    assert history.epochs - 1 - history.best_epoch == 3


def test_a_loss_that_is_no_number():
    """Of the training or of the validation part, which else would look as if the caller had stopped it."""
    with pytest.raises(ModelError, match="use a smaller learning rate"):
        run_small(rate=1e30)
    train, validation = small_problem()
    with pytest.raises(ModelError, match="use a smaller learning rate"):
        run_small(epochs=1, data=(train, (validation[0] * np.nan, validation[1])))


def test_damaged_checkpoints(tmp_path):
    run_small(tmp_path, epochs=1)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ModelError, match="the checkpoint is damaged; train anew"):
        run_small(tmp_path)


# -- the whole way


def two_blocks(patch_px, classes):
    return BUILD_COMPACT(patch_px, classes, channels=(4, 8))


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory):
    """A classifier of the two lattices that is worth something."""
    told = []
    path = tmp_path_factory.mktemp("trained") / "two.hrstem"
    options = replace(QUICK, epochs=12, per_class=60, repeats=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compact, "build_compact", two_blocks)
        patch.setattr(scale, "image_periods", IMAGE_PERIODS)
        report = train("compact", IMAGES, path, options, progress=told.append)
    return report, told


@pytest.fixture
def trained(trained_once, monkeypatch):
    monkeypatch.setattr(compact, "build_compact", two_blocks)
    return trained_once


def test_model_file_and_report(trained):
    report, told = trained
    model = load_model(report.path)
    contract = model.contract
    assert (contract.kind, contract.name, contract.patch_px, contract.seed) == ("compact", "quick", EDGE, 1)
    assert contract.classes == ("non-defective", "defective")
    assert contract.preprocessing == {"filter": "none", "scope": "frame", "scaling": "standard"}
    assert contract.pixel_size_nm == pytest.approx((0.02, 0.033))
    # Halfway along both axes the product of two waves of 6 px repeats; those of 16 px are the defects.
    low, high = contract.period_px
    assert low == pytest.approx(6 / 2**0.5, rel=0.03)
    # The tile that it is read from holds some of the others as well.
    assert low <= high < 1.1 * 16 / 2**0.5
    assert len(contract.data_sha256) == 64
    assert contract.software["keras"]
    assert {item["part"] for item in contract.training["images"]} == {"train", "validation", "test"}
    assert not unfinished(report.path)
    assert [item.name for item in report.path.parent.iterdir()] == ["two.hrstem"]
    assert told[-1].fraction == 1.0
    assert [t.fraction for t in told] == sorted(t.fraction for t in told)
    assert {t.repeat for t in told} == {1, 2}


def test_metrics_are_those_of_held_out_images(trained):
    metrics = trained[0].metrics
    assert metrics["repeats"] == 2
    assert metrics["shared"] == ""
    for part in ("train", "test", "test_with_ambivalent"):
        assert set(metrics[part]) >= set(evaluation.METRICS)
    # The two lattices can be told apart, on images that were held out too.
    assert metrics["test"]["balanced_accuracy"]["mean"] > 0.9
    assert metrics["defect_free"]["specificity"]["mean"] > 0.9
    assert metrics["confusion"]["classes"] == ["non-defective", "defective"]
    counts = np.array(metrics["confusion"]["counts"])
    assert counts.sum() == sum(metrics["test_patches"])
    assert metrics["counts"][0]["train"] == {"non-defective": 60, "defective": 60}


def test_evaluating_tells_seen_from_unseen(trained):
    model = load_model(trained[0].path)
    fresh = [image(f"n{k}", 50 + k, defects=k < 5) for k in range(7)]
    scores = evaluation.evaluate_images(model, [*IMAGES, *fresh])
    used = {item["sha256"] for item in model.contract.training["images"] if item["part"] != "test"}
    assert scores["seen"] == [i.name for i in IMAGES if i.sha256 in used]
    assert scores["unseen"] == len(IMAGES) + len(fresh) - len(scores["seen"])
    assert scores["repeated"]["draws"] == evaluation.DRAWS
    assert scores["repeated"]["accuracy"]["mean"] == pytest.approx(scores["accuracy"], abs=0.05)
    assert scores["defect_free"]["images"] >= 2
    assert 0 <= scores["trained_on"]["recall"] <= 1
    json.dumps(evaluation.plain(scores), allow_nan=False)
    only_seen = evaluation.evaluate_images(model, [i for i in IMAGES if i.sha256 in used])
    assert only_seen["unseen"] == 0
    # Without unseen defects the numbers are those of the unseen images, not of all.
    clean = [i for i in fresh if not i.has_defects]
    mixed = evaluation.evaluate_images(model, [*(i for i in IMAGES if i.sha256 in used), *clean])
    assert (mixed["unseen"], mixed["with_defects"]) == (2, 0)
    assert mixed["confusion"]["counts"][1] == [0, 0]
    assert mixed["count"] == sum(mixed["images"][i.name]["count"] for i in clean)


def test_judging_patches_of_a_frame(trained):
    classifier = TrainedClassifier(trained[0].path, name="two", threshold=0.6)
    new = image("new", 77)
    found = classifier.classify(new.pixels, PatchGrid((96, 160), EDGE))
    assert found.scores.shape == (3, 5)
    assert (found.classifier, found.classifier_sha256, found.threshold) == ("two", classifier.sha256, 0.6)
    np.testing.assert_array_equal(found.defective, found.scores > 0.6)
    # Columns 2 and half of 3 are the other lattice.
    assert found.defective.any(axis=0).tolist()[2]
    assert not found.defective[:, [0, 4]].any()


@pytest.fixture(scope="module")
def straight(tiny_networks, tmp_path_factory):
    """A training that nothing interrupted."""
    return train("compact", IMAGES, tmp_path_factory.mktemp("straight") / "y.hrstem", QUICK)


def test_unfinished_trainings(tmp_path, monkeypatch, straight):
    path = tmp_path / "x.hrstem"
    with pytest.raises(ModelError, match="no unfinished training"):
        train("compact", IMAGES, path, QUICK, resume=True)
    fit = base.SoftmaxKind.fit

    def killed(*args):
        fit(*args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(base.SoftmaxKind, "fit", killed)
        with pytest.raises(KeyboardInterrupt):
            train("compact", IMAGES, path, QUICK)
    assert unfinished(path)
    assert not path.exists()
    with pytest.raises(ModelError, match="an unfinished training lies beside it; go on with --resume"):
        train("compact", IMAGES, path, QUICK)
    with pytest.raises(ModelError, match="has other options; repeat the command as it was"):
        train("compact", IMAGES, path, replace(QUICK, epochs=4), resume=True)
    with pytest.raises(ModelError, match="has other data; repeat the command as it was"):
        train("compact", IMAGES[1:], path, QUICK, resume=True)
    told = []
    resumed = train("compact", IMAGES, path, QUICK, resume=True, progress=told.append)
    # All passes were made before; none is made again.
    assert not [report for report in told if report.network]
    assert resumed.metrics == straight.metrics
    with pytest.raises(ModelError, match="there is a model already"):
        train("compact", IMAGES, path, QUICK)


def test_stopping_keeps_the_best_so_far(tmp_path, straight):
    begun = []

    def asks():
        return len(begun) >= 1

    def told(report):
        if report.validation_loss is not None:
            begun.append(report)

    report = train("compact", IMAGES, tmp_path / "x.hrstem", QUICK, progress=told, cancelled=asks)
    assert report.stopped
    assert report.metrics["stopped"]
    assert len(report.metrics["history"]["compact"]["loss"]) == 1
    assert "test" in report.metrics
    assert load_model(report.path).contract.metrics["stopped"]
    assert unfinished(report.path)
    # It goes on from there, and ends as if it had never been stopped.
    rest = train("compact", IMAGES, tmp_path / "x.hrstem", QUICK, resume=True)
    assert not rest.stopped
    assert not unfinished(rest.path)
    assert rest.metrics == straight.metrics


def test_stopping_before_there_is_anything(tmp_path):
    with pytest.raises(Cancelled):
        train("compact", IMAGES, tmp_path / "x.hrstem", QUICK, cancelled=lambda: True)
    assert not (tmp_path / "x.hrstem").exists()


def test_tables_of_patches(tmp_path):
    patches = table()
    options = replace(QUICK, patch_px=0, epochs=6)
    report = train("compact", patches, tmp_path / "x.hrstem", options)
    assert report.contract.classes == patches.classes
    assert report.contract.patch_px == EDGE
    assert report.contract.preprocessing["scope"] == "patch"
    assert report.contract.period_px == pytest.approx((6, 6), rel=0.03)
    assert report.contract.pixel_size_nm is None
    assert report.metrics["split"] == "patches split by 4 sources"
    model = load_model(report.path)
    scores = evaluation.evaluate_patches(model, patches)
    assert scores["seen"] + scores["unseen"] == len(patches)
    assert 0 < scores["unseen"] < len(patches)
    assert set(scores["confusion"]["classes"]) == set(patches.classes)
    forced = train(
        "compact",
        replace(patches, pixels=patches.pixels[[0] * len(patches)]),
        tmp_path / "y.hrstem",
        replace(options, split="random", force=True, epochs=1),
    )
    assert "near-copies of training patches" in forced.metrics["shared"]


@pytest.mark.parametrize("train_base", [False, True])
def test_vgg16_with_and_without_its_base(tmp_path, monkeypatch, train_base):
    monkeypatch.setattr(keras().applications, "VGG16", slim_vgg16)
    settings, before, calls = {}, [], []
    build, features = vgg16.build_vgg16, fitting.predict_in_batches

    def built(*args, **kwargs):
        network = build(*args, **kwargs)
        before.append(network.get_layer("block1_conv1").get_weights()[0])
        return network

    def fitted(network, train, validation, options, job, **given):
        settings.update(vars(options), **given, targets=train[1])
        return fit_network(network, train, validation, options, job, **given)

    def featured(network, patches, *args, **settings):
        calls.append(len(patches))
        return features(network, patches, *args, **settings)

    monkeypatch.setattr(vgg16, "build_vgg16", built)
    monkeypatch.setattr(base, "fit_network", fitted)
    monkeypatch.setattr(vgg16, "predict_in_batches", featured)
    patches = table(("a", "b"), 16)
    options = TrainingOptions(epochs=1, weights="none", train_base=train_base, extra={"dense": [4]})
    for _ in range(2):
        fitted_ = kind_of("vgg16").fit(patches, patches.take(range(8)), options, Job(tmp_path))
        network = fitted_.networks["vgg16"]
    same = np.array_equal(network.get_layer("block1_conv1").get_weights()[0], before[0])
    assert same != train_base
    # Features of a frozen base are computed once.
    assert sum(calls) == (0 if train_base else len(patches) + 8)
    # As published.
    expected = {"loss": "categorical_crossentropy", "learning_rate": 1e-5, "batch": 8}
    assert {name: settings[name] for name in expected} == expected
    assert kind_of("vgg16").epochs == 60
    assert kind_of("vgg16").filter == "log"
    np.testing.assert_array_equal(settings["targets"], np.eye(2)[patches.labels])


def test_what_cannot_begin_leaves_nothing_in_the_way(tmp_path, monkeypatch):
    def offline(*args, **kwargs):
        raise Exception("URL fetch failure on https://...: None -- [Errno -2] Name or service not known")

    with pytest.raises(ModelError, match="No defect is marked"):
        train("compact", IMAGES[4:], tmp_path / "x.hrstem", QUICK)
    # Weights that cannot be had are missed at once.
    monkeypatch.setattr(keras().applications, "VGG16", offline)
    monkeypatch.setattr(training, "split_images", lambda *args, **kwargs: pytest.fail("too late"))
    with pytest.raises(ModelError, match=r"cannot be downloaded; connect to the internet once, .* --weights"):
        train("vgg16", IMAGES, tmp_path / "x.hrstem", QUICK)
    with pytest.raises(ModelError, match="no such file of weights"):
        train("vgg16", IMAGES, tmp_path / "x.hrstem", replace(QUICK, weights="nowhere.h5"))
    assert list(tmp_path.iterdir()) == []


def test_options_are_checked():
    for values, message in (
        ({"per_class": 0}, "per_class must be at least 1"),
        ({"patch_px": 8}, "16 to 512 px"),
        ({"learning_rate": -1.0}, "learning_rate must be at least 0, not -1"),
        ({"test_share": 1.0}, "test_share must be between 0 and 0.9"),
        ({"test_share": 0.6, "validation_share": 0.4}, "leave nothing to train on"),
        ({"name": " "}, "needs a name"),
        ({"split": "both"}, "split must be auto or random"),
    ):
        with pytest.raises(ModelError, match=message):
            TrainingOptions(**values)


def test_what_an_earlier_training_left_is_not_taken_for_a_new_one(tmp_path):
    """Killed while it cleared up: nothing says any more what the rest is of."""
    rest = tmp_path / f"x.hrstem{WORKSPACE_SUFFIX}" / "split1"
    rest.mkdir(parents=True)
    options = replace(QUICK, epochs=1)
    (rest / "result.json").write_text('{"stopped": false, "validation": {"balanced_accuracy": 1.0}}')
    report = train("compact", IMAGES, tmp_path / "x.hrstem", options)
    assert len(report.metrics["history"]["compact"]["loss"]) == 1


def test_disks_that_are_too_small(tmp_path, monkeypatch):
    replace_file, made = os.replace, []

    def fails(*paths):
        replace_file(*paths)
        made.append(paths)
        if len(made) == 2:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(WriteError, match=r"No space left on device.; make room and go on"):
        train("compact", IMAGES, tmp_path / "x.hrstem", QUICK)
    # Nothing is lost.
    told = []
    train("compact", IMAGES, tmp_path / "x.hrstem", QUICK, resume=True, progress=told.append)
    assert len([report for report in told if report.validation_loss is not None]) == 1


def test_memories_that_are_too_small(tmp_path, monkeypatch):
    for error in (MemoryError(), type("ResourceExhaustedError", (Exception,), {})("OOM")):
        monkeypatch.setattr(base.SoftmaxKind, "fit", Mock(side_effect=error))
        with pytest.raises(ModelError, match="does not fit into the memory"):
            train("compact", IMAGES, tmp_path / "x.hrstem", QUICK)
        assert list(tmp_path.iterdir()) == []


def test_places_that_cannot_be_used(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(WriteError, match="cannot be written there"):
        train("compact", IMAGES, tmp_path / "file" / "x.hrstem", QUICK)
    (tmp_path / "other.hrstem").mkdir()
    with pytest.raises(ModelError, match=r"other\.hrstem: this is a folder, not a model file"):
        train("compact", IMAGES, tmp_path / "other.hrstem", QUICK, overwrite=True)
    folder = tmp_path / f"x.hrstem{WORKSPACE_SUFFIX}"
    folder.mkdir()
    for text in ("{", "[1]", "3"):
        (folder / "plan.json").write_text(text)
        with pytest.raises(ModelError, match="is damaged; start anew with --overwrite"):
            train("compact", IMAGES, tmp_path / "x.hrstem", QUICK, resume=True)
