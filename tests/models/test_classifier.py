"""A trained classifier in the pipeline, in this process and in one of its own."""

import pickle
from types import SimpleNamespace

import numpy as np
import pytest

from napari_hrstem_defects import Micrograph, Recipe, analyze
from napari_hrstem_defects.core.patches import PatchGrid
from napari_hrstem_defects.models import evaluation, for_recipe, vgg16
from napari_hrstem_defects.models.classifier import TrainedClassifier
from napari_hrstem_defects.models.compact import build_compact
from napari_hrstem_defects.models.contract import Contract
from napari_hrstem_defects.models.data import LabelledImage
from napari_hrstem_defects.models.preparing import cut_patches, filter_frame
from napari_hrstem_defects.models.process import KerasProcess
from napari_hrstem_defects.models.store import save_model

EDGE = 32


def pixels(shape=(96, 160)):
    y, x = np.indices(shape)
    noise = np.random.default_rng(0).normal(0, 0.05, shape)
    return (
        (0.5 + 0.2 * np.cos(2 * np.pi * x / 8) * np.cos(2 * np.pi * y / 8) + noise)
        .clip(0, 1)
        .astype(np.float32)
    )


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    contract = Contract(
        "compact", "mine", ("non-defective", "defective"), EDGE, {"filter": "log", "scope": "frame"}
    )
    network = build_compact(EDGE)
    return save_model(tmp_path_factory.mktemp("model") / "mine.hrstem", contract, {"compact": network})


# -- what the network is given, without Keras


def test_patches_are_cut_from_the_filtered_frame():
    frame, grid = pixels(), PatchGrid((96, 160), EDGE)
    whole = cut_patches(frame, grid, EDGE, {"filter": "log", "scope": "frame"})
    np.testing.assert_array_equal(whole, grid.extract(filter_frame(frame, "log")).reshape(-1, EDGE, EDGE))
    single = cut_patches(frame, grid, EDGE, {"filter": "log", "scope": "patch"})
    np.testing.assert_array_equal(
        single[3], filter_frame(grid.extract(frame).reshape(-1, EDGE, EDGE)[3], "log")
    )
    assert not np.array_equal(whole, single)
    np.testing.assert_array_equal(
        cut_patches(frame, grid, EDGE, {}), grid.extract(frame).reshape(-1, EDGE, EDGE)
    )


@pytest.mark.parametrize("scope", ["frame", "patch"])
def test_an_evaluation_gives_the_network_what_an_analysis_gives_it(monkeypatch, scope):
    given = []

    def predict(kind, model, patches, **settings):
        given.append(patches)
        return np.ones((len(patches), 2), np.float32)

    monkeypatch.setattr(vgg16.VGG16, "predict", predict)
    preprocessing = {"filter": "log", "scope": scope}
    model = SimpleNamespace(contract=Contract("vgg16", "a", ("clean", "defective"), EDGE, preprocessing))
    image = LabelledImage("a", pixels(), np.zeros((96, 160), np.uint8))
    evaluation.classify_images(model, [image])
    expected = cut_patches(image.pixels, PatchGrid((96, 160), EDGE), EDGE, preprocessing)
    np.testing.assert_array_equal(given[0], expected)


@pytest.mark.parametrize("size", [16, 48, 50])
def test_other_sizes_are_resampled(size):
    y, x = np.indices((100, 160))
    frame = ((y + 2 * x) / 420).astype(np.float32)
    grid = PatchGrid((100, 160), size)
    patches = cut_patches(frame, grid, EDGE, {})
    assert patches.shape == (grid.corners.reshape(-1, 2).shape[0], EDGE, EDGE)
    # A plane keeps its mean and its steps become those of the other size.
    expected = grid.extract(frame).mean(axis=(2, 3)).ravel()
    np.testing.assert_allclose(patches.mean(axis=(1, 2)), expected, atol=2 / 420)
    steps = np.diff(patches[len(patches) // 2], axis=1).mean()
    assert steps == pytest.approx(2 / 420 * size / EDGE, rel=0.05)


# -- with Keras


@pytest.mark.keras
def test_in_the_pipeline(path):
    recipe = Recipe().replace(
        {"classify.classifier": str(path), "classify.probability": 0.4, "classify.patch_size": 32}
    )
    classifier = for_recipe(recipe)
    analysis = analyze(Micrograph(pixels()), recipe, classifier=classifier)
    assert analysis.screened.classifier == str(path)
    assert analysis.screened.classifier_sha256 == classifier.sha256
    assert analysis.screened.threshold == 0.4
    assert ((analysis.screened.scores >= 0) & (analysis.screened.scores <= 1)).all()


def test_the_screening_needs_no_file():
    assert for_recipe(Recipe()) is None


@pytest.mark.keras
def test_in_a_process_of_its_own(path):
    grid = PatchGrid((96, 160), EDGE)
    here = TrainedClassifier(path).classify(pixels(), grid)
    with KerasProcess() as process:
        classifier = TrainedClassifier(path, process=process)
        there = classifier.classify(pixels(), grid)
        # As in a batch: the classifier itself travels, and loads its file where it arrives.
        sent = process.call(TrainedClassifier(path).classify, pixels(), grid)
    np.testing.assert_allclose(there.scores, here.scores, atol=1e-6)
    np.testing.assert_allclose(sent.scores, here.scores, atol=1e-6)
    assert there.classifier_sha256 == here.classifier_sha256


@pytest.mark.keras
def test_only_the_name_travels(path):
    classifier = TrainedClassifier(path, name="mine", threshold=0.7)
    data = pickle.dumps(classifier)
    assert len(data) < 1000
    copy = pickle.loads(data)
    assert (copy.path, copy.name, copy.threshold, copy.sha256) == (path, "mine", 0.7, classifier.sha256)
