"""Networks of the ensemble, its training and prediction, on patches that a glance tells apart."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from napari_hrstem_defects.core.patches import PatchGrid
from napari_hrstem_defects.errors import Cancelled, ModelError
from napari_hrstem_defects.models import fft_ensemble
from napari_hrstem_defects.models.backend import keras
from napari_hrstem_defects.models.classifier import TrainedClassifier
from napari_hrstem_defects.models.contract import Contract
from napari_hrstem_defects.models.data import PatchSet
from napari_hrstem_defects.models.fft_ensemble import EnsembleSettings
from napari_hrstem_defects.models.fft_features import log_spectra
from napari_hrstem_defects.models.fitting import Job
from napari_hrstem_defects.models.kinds import kind_of
from napari_hrstem_defects.models.options import RECIPES, TrainingOptions, with_recipe
from napari_hrstem_defects.models.scan import scan
from napari_hrstem_defects.models.store import save_model

from .networks import tiny_logit

CLASSES = ("Bulk", "bright / dot", "stripes")
PUBLISHED = RECIPES["marvin2025"].options["extra"]
EDGE = 32
KIND = kind_of("fft-ensemble")
fit, predict, settings_of = KIND.fit, KIND.predict, KIND.settings_of


def make(count: int, seed: int) -> PatchSet:
    """A lattice, the same with one bright dot, another lattice."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:EDGE, :EDGE]
    labels = np.arange(count) % 3
    pixels = np.empty((count, EDGE, EDGE), np.float32)
    for patch, label in zip(pixels, labels, strict=True):
        a, b = rng.uniform(0, 6, 2)
        patch[:] = np.cos(y * 2 * np.pi / 8 + a) + np.cos(x * 2 * np.pi / 8 + b)
        if label == 1:
            i, j = rng.integers(6, 26, 2)
            patch += 4 * np.exp(-((y - i) ** 2 + (x - j) ** 2) / 8)
        if label == 2:
            patch[:] = 2 * np.cos((y + x) * 2 * np.pi / 6 + a)
        patch += rng.normal(0, 0.3, patch.shape)
    return PatchSet(pixels, labels, CLASSES, np.array(["image"] * count))


def model_of(fitted: object, edge: int = EDGE) -> SimpleNamespace:
    contract = Contract("fft-ensemble", "dots", CLASSES, edge, preprocessing=fitted.preprocessing)
    return SimpleNamespace(contract=contract, networks=fitted.networks)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    options = TrainingOptions(epochs=5, batch=32, seed=1, extra={"branches": "raw+fft"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fft_ensemble, "LEAST_PER_EPOCH", 96)
        fitted = fit(make(96, 0), make(60, 1), options, Job(tmp_path_factory.mktemp("trained")))
    return SimpleNamespace(fitted=fitted, model=model_of(fitted))


def test_published_network_has_the_published_size() -> None:
    from napari_hrstem_defects.models.ensemble_networks import build_published

    network = build_published()
    assert network.count_params() == 294_433
    shapes = [tuple(layer.output.shape[1:]) for layer in network.layers if type(layer).__name__ == "Conv2D"]
    assert shapes == [(64, 64, 64), (57, 57, 64), (57, 57, 64)]
    counts = [layer.count_params() for layer in network.layers if type(layer).__name__ in ("Conv2D", "Dense")]
    assert counts == [128, 262_208, 4160, 2080, 25_089]


@pytest.mark.parametrize("branches", ["raw+fft", "raw", "fft"])
def test_efficient_network_is_cheap(branches: str) -> None:
    from napari_hrstem_defects.models.ensemble_networks import build_efficient

    network = build_efficient(64, branches)
    assert len(network.inputs) == 1 + ("+" in branches)
    assert network.count_params() < 40_000
    products = sum(
        layer.kernel.shape[0]
        * layer.kernel.shape[1]
        * layer.kernel.shape[2]
        * int(np.prod(layer.output.shape[1:]))
        for layer in network.layers
        if type(layer).__name__ == "Conv2D"
    )
    assert products < 5e6  # the published one: 0.87e9


def test_settings() -> None:
    # On the command line the words of the documentation arrive as texts.
    words = {"architecture": "published", "augmentation": "turns", "balance": "off", "calibrate": "No"}
    by_words, published = settings_of({**words, "stride": 4}), settings_of(PUBLISHED)
    assert by_words.preprocessing() == published.preprocessing()
    assert by_words.balance is by_words.calibrate is published.balance is published.calibrate is False
    assert settings_of({"balance": "on"}) == EnsembleSettings()
    for wrong, message in (
        ({"colour": 1}, "has no setting 'colour'"),
        ({"architecture": "huge"}, "architecture must be"),
        ({"balance": "maybe"}, "balance must be on or off, not 'maybe'"),
        ({"calibrate": None}, "calibrate must be on or off, not None"),
        ({"momentum": 1.0}, "momentum must be"),
        ({"stride": 0}, "stride must be"),
        ({"class_epochs": {"Bulk": 0}}, "Bulk of class_epochs must be greater than or equal to 1, not 0"),
        ({"class_epochs": 3}, "class_epochs must be a valid dictionary, not 3"),
        *(({"threshold": value}, "threshold must be ") for value in ("high", -1, float("nan"), True)),
    ):
        with pytest.raises(ModelError, match=message):
            settings_of(wrong)


def test_learns(trained: SimpleNamespace) -> None:
    test = make(90, 2)
    probabilities = predict(trained.model, test.pixels)
    assert probabilities.shape == (90, 3)
    assert ((probabilities >= 0) & (probabilities <= 1)).all()
    assert (probabilities.argmax(axis=1) == test.labels).mean() > 0.9
    alone = predict(trained.model, test.pixels, views=1)
    assert (alone.argmax(axis=1) == test.labels).mean() > 0.9
    assert not np.allclose(alone, probabilities, atol=1e-3)
    turned = np.ascontiguousarray(np.rot90(test.pixels, 1, (1, 2)))
    np.testing.assert_allclose(predict(trained.model, turned), probabilities, atol=1e-3)
    assert trained.fitted.preprocessing["calibration"]["8"]["fitted"] == [True] * 3


def test_brightness_and_contrast_change_nothing(trained: SimpleNamespace) -> None:
    patches = make(30, 3).pixels
    np.testing.assert_allclose(
        predict(trained.model, patches * 0.1 + 0.6), predict(trained.model, patches), atol=2e-3
    )


def test_wrong_model(trained: SimpleNamespace) -> None:
    other = SimpleNamespace(contract=replace(trained.model.contract, kind="compact"), networks={})
    with pytest.raises(ModelError, match="dots is no FFT ensemble"):
        predict(other, make(1, 0).pixels)


def test_scan_finds_where_the_dot_and_the_other_lattice_are(trained: SimpleNamespace) -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:96, :130]
    pixels = np.cos(y * 2 * np.pi / 8) + np.cos(x * 2 * np.pi / 8)
    pixels = np.where(x > 90, 2 * np.cos((y + x) * 2 * np.pi / 6), pixels)
    pixels += 4 * np.exp(-((y - 50) ** 2 + (x - 40) ** 2) / 8) + rng.normal(0, 0.3, pixels.shape)
    told: list[float] = []
    found = scan(
        trained.model,
        pixels.astype(np.float32),
        stride_px=5,
        progress=lambda share, text: told.append(share),
    )
    assert found.probabilities.shape == (3, 96, 130)
    assert found.labels.shape == found.votes.shape[1:] == (96, 130)
    assert found.labels[50, 40] == 1
    assert found.labels[20, 120] == 2
    assert found.majority[1, 50, 40]
    assert not found.majority[1, 20, 120]
    assert not (found.votes & ~found.majority)[1, :80, :110].any()
    assert told[-1] == 1
    assert {"stripes", "bright / dot"} <= {region.type for region in found.regions}
    with pytest.raises(Cancelled):
        scan(trained.model, pixels.astype(np.float32), cancelled=lambda: True)


def test_ensemble_judges_patches_of_another_size(trained: SimpleNamespace, tmp_path: Path) -> None:
    path = save_model(tmp_path / "dots.hrstem", trained.model.contract, trained.model.networks)
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:144, :192]
    pixels = np.cos(y * 2 * np.pi / 8) + np.cos(x * 2 * np.pi / 8) + rng.normal(0, 0.3, y.shape)
    # In one patch a dot, in another column of patches another lattice.
    pixels += 4 * np.exp(-((y - 24) ** 2 + (x - 72) ** 2) / 8)
    pixels[:, 144:] = (2 * np.cos((y + x) * 2 * np.pi / 6) + rng.normal(0, 0.3, y.shape))[:, 144:]
    pixels = ((pixels - pixels.min()) / np.ptp(pixels)).astype(np.float32)
    table = TrainedClassifier(path).classify(pixels, PatchGrid((144, 192), 48))
    assert table.scores.shape == (3, 4)
    assert table.defective[:, 3].all()
    assert table.defective[0, 1]
    assert not table.defective[2, :2].any()


def test_cancelling_keeps_the_best_so_far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fft_ensemble, "LEAST_PER_EPOCH", 64)
    monkeypatch.setattr(fft_ensemble, "build_efficient", tiny_logit)
    asked = iter(range(1000))
    options = TrainingOptions(epochs=2, batch=64, extra={"branches": "fft"})
    # 64 patches of each class a pass: three steps of 64.
    fitted = fit(make(30, 0), make(15, 1), options, Job(tmp_path, cancelled=lambda: next(asked) > 4))
    assert fitted.stopped
    assert fitted.history["ensemble"]["best_epoch"] == 0
    assert predict(model_of(fitted), make(3, 2).pixels).shape == (3, 3)
    resumed = fit(make(30, 0), make(15, 1), options, Job(tmp_path))
    assert resumed.history["ensemble"]["loss"][0] == fitted.history["ensemble"]["loss"][0]
    assert len(resumed.history["ensemble"]["loss"]) == 2


def test_class_without_patches(tmp_path: Path) -> None:
    train = make(60, 0).take(np.arange(60) % 3 != 2)
    with pytest.raises(ModelError, match="no training patches of stripes"):
        fit(train, make(30, 1), TrainingOptions(epochs=1), Job(tmp_path))


def test_networks_learn_from_where_sigmoids_are_saturated() -> None:
    """The published last layer is there after one step; with a loss of the sigmoids nothing was ever learnt again."""
    library = keras()
    for loss in (library.losses.BinaryCrossentropy(from_logits=True), fft_ensemble.balanced_loss(2)):
        networks = {
            name: fft_ensemble.build_network(EnsembleSettings(branches="fft"), EDGE) for name in ("a", "b")
        }
        biases = [network.layers[-1].bias for network in networks.values()]
        for bias in biases:
            bias.assign([60.0])  # the sigmoid is one even in double precision
        whole = fft_ensemble.side_by_side(tuple(networks.values()))
        whole.compile(optimizer=library.optimizers.SGD(1.0), loss=loss, jit_compile=False)
        spectra = np.zeros((8, EDGE, EDGE, 1), np.float32)
        whole.train_on_batch(spectra, np.zeros((8, 2), np.float32))
        assert all(float(np.asarray(bias)[0]) < 59.9 for bias in biases)


def test_published_recipe_trains(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(fft_ensemble, "BATCH", 4)
    options = TrainingOptions(epochs=1, patience=0, extra=vars(settings_of(PUBLISHED)))
    train, validation, test = (
        replace(part, pixels=part.pixels[:, :16, :16], labels=part.labels % 2, classes=CLASSES[:2])
        for part in (make(6, 0), make(3, 1), make(3, 2))
    )
    fitted = fit(train, validation, options, Job(tmp_path))
    assert fitted.preprocessing["calibration"] == {}
    contract = Contract("fft-ensemble", "dots", CLASSES[:2], 16, preprocessing=fitted.preprocessing)
    model = SimpleNamespace(contract=contract, networks=fitted.networks)
    assert predict(model, test.pixels).shape == (3, 2)


def test_published_recipe_in_one_word(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    options = with_recipe("marvin2025", {"name": "mine", "extra": {"class_epochs": {"stripes": 9}}})
    assert (options.name, options.epochs, options.patience, options.learning_rate) == ("mine", 3, 0, 1e-3)
    told: dict[str, object] = {}

    def fit_network(
        network: object, train: object, held_out: object, options: object, job: Job, **settings: object
    ) -> None:
        told.update(settings, **vars(options), network=network, train=train)
        raise Cancelled

    monkeypatch.setattr("napari_hrstem_defects.models.fft_ensemble.fit_network", fit_network)
    with pytest.raises(Cancelled):
        fit(make(12, 0), make(6, 1), options, Job(tmp_path))
    assert (told["epochs"], told["patience"], told["learning_rate"]) == (9, 0, 1e-3)
    assert settings_of(options.extra).preprocessing()["stride_px"] == 4
    # A pass holds each of the 12 patches in its four quarter turns, and its class with each.
    pixels, targets = told["train"]
    given = make(12, 0)
    assert len(pixels) == 48
    for patch, label in zip(given.pixels, given.labels, strict=True):
        turns = {np.ascontiguousarray(np.rot90(patch, k)).tobytes() for k in range(4)}
        shown = [k for k in range(len(pixels)) if pixels[k].tobytes() in turns]
        assert {pixels[k].tobytes() for k in shown} == turns
        assert len(shown) == 4
        assert (targets[shown] == (np.arange(3) == label)).all()
    plain = told["prepare"](pixels[:1], np.random.default_rng(0))
    np.testing.assert_array_equal(plain[0, :, :, 0], log_spectra(pixels[:1])[0])
    # Three convolutions and two dense layers of two arrays, three normalisations of four: 22 for each network.
    assert sorted(told["kept_after"]) == [3] * 44 + [9] * 22
    of_stripes = told["network"].layers[-2]
    assert len(of_stripes.weights) == 22
    owned = {id(weights) for weights in of_stripes.weights}
    for weights, last in zip(told["network"].weights, told["kept_after"], strict=True):
        assert (last == 9) == (id(weights) in owned)
    norms = [layer for layer in of_stripes.layers if "BatchNorm" in type(layer).__name__]
    assert [layer.momentum for layer in norms] == [0.99] * 3
    with pytest.raises(Cancelled):
        fit(make(12, 0), make(6, 1), replace(options, learning_rate=0), Job(tmp_path))
    assert told["learning_rate"] == 1e-4
    with pytest.raises(ModelError, match="set --patience 0"):
        fit(make(12, 0), make(6, 1), with_recipe("marvin2025", {"patience": 5}), Job(tmp_path))
    with pytest.raises(ModelError, match="no published way to train 'x'"):
        with_recipe("x", {})
