"""The published severity against the formula spelled out in double precision."""

import numpy as np
import pytest
from scipy.ndimage import correlate, uniform_filter
from scipy.spatial.distance import mahalanobis

from napari_hrstem_defects.core import eigenfilter_severity as module
from napari_hrstem_defects.core.eigenfilter_severity import eigenfilter_severity
from napari_hrstem_defects.core.eigenfilters import EigenfilterBank
from napari_hrstem_defects.core.errors import RecipeError
from napari_hrstem_defects.core.metrics import auroc

EVERY = [
    {"features": features, "comparison": comparison, "eigenvectors": eigenvectors}
    for features in ("responses", "energies")
    for comparison in ("distribution", "pixelwise")
    for eigenvectors in ("columns", "rows")
]
MODEL = np.s_[8:72, 30:94]


def lattice(shape: tuple[int, int], noise: float = 0.2) -> np.ndarray:
    y, x = np.indices(shape)
    image = np.cos(2 * np.pi * x / 9.3) + np.cos(2 * np.pi * (0.3 * x + y) / 11.1)
    return (100 + 40 * image + 40 * noise * np.random.default_rng(0).normal(size=shape)).astype(np.float32)


def features_of(image: np.ndarray, bank: EigenfilterBank, kind: str, outside: str) -> np.ndarray:
    responses = np.array([correlate(image, f, mode="reflect") for f in bank.filters])
    if kind == "responses":
        return responses
    return np.array([uniform_filter(r**2, 16, mode=outside) * 256 for r in responses])


@pytest.mark.parametrize("kind", ["responses", "energies"])
def test_distribution_is_scipys_mahalanobis(kind):
    image = lattice((90, 130))
    image[60:, 100:] = image[60:, 100:].T[:30, :30]
    severity, judged = eigenfilter_severity(image, MODEL, features=kind)
    patch = image[MODEL].astype(float)
    bank = EigenfilterBank.from_patch(patch)
    margin = (3, 3) if kind == "responses" else (3 + 8, 3 + 7)
    inside = slice(margin[0], -margin[1])
    model = features_of(patch, bank, kind, "reflect")[:, inside, inside].reshape(49, -1)
    inverse = np.linalg.inv(np.cov(model))
    values = features_of(image.astype(float), bank, kind, "reflect")
    expected_judged = np.zeros(image.shape, bool)
    expected_judged[inside, inside] = True
    np.testing.assert_array_equal(judged, expected_judged)
    points = [(y, x) for y in range(0, 90, 7) for x in range(0, 130, 7)]
    expected = [mahalanobis(values[:, y, x], model.mean(axis=1), inverse) for y, x in points]
    checked = [(p, e) for p, e in zip(points, expected, strict=True) if judged[p]]
    np.testing.assert_allclose([severity[p] for p, _ in checked], [e for _, e in checked], rtol=2e-3)


@pytest.mark.parametrize("kind", ["responses", "energies"])
@pytest.mark.parametrize("eigenvectors", ["columns", "rows"])
def test_pixelwise_by_patches(kind, eigenvectors):
    """Each patch on its own, as published, averaged where they overlap."""
    image = lattice((150, 131))
    image[100:, :60] = image[100:, :60][::-1]
    severity, judged = eigenfilter_severity(
        image, MODEL, features=kind, comparison="pixelwise", eigenvectors=eigenvectors
    )
    patch = image[MODEL].astype(float)
    bank = EigenfilterBank.from_patch(patch, 7, eigenvectors)
    rim = 16 if kind == "energies" else 8
    model = features_of(patch, bank, kind, "constant")
    inverse = np.linalg.inv(np.cov(model.reshape(49, -1)))
    total, count = np.zeros(image.shape), np.zeros(image.shape)
    for y in (0, 32, 64, 86):
        for x in (0, 32, 64, 67):
            values = features_of(image[y : y + 64, x : x + 64].astype(float), bank, kind, "constant")
            for i in range(rim, 64 - rim):
                for j in range(rim, 64 - rim):
                    total[y + i, x + j] += mahalanobis(values[:, i, j], model[:, i, j], inverse)
                    count[y + i, x + j] += 1
    np.testing.assert_array_equal(judged, count > 0)
    assert judged[rim:-rim, rim:-rim].all()
    expected = total[judged] / count[judged]
    # Where a patch lies on the model itself the distance is 0 but for rounding.
    np.testing.assert_allclose(severity[judged], expected, rtol=5e-3, atol=0.02)
    # The rim is mirrored from inside.
    np.testing.assert_array_equal(severity[:rim], severity[2 * rim - 1 : rim - 1 : -1])
    np.testing.assert_array_equal(severity[:, -rim:], severity[:, -rim - 1 : -2 * rim - 1 : -1])


@pytest.mark.parametrize("options", EVERY)
def test_tiles_leave_no_trace(monkeypatch, options):
    image = lattice((97, 140))
    whole, judged = eigenfilter_severity(image, MODEL, **options)
    monkeypatch.setattr(module, "_TILE", (13, 37))
    tiled, judged_tiled = eigenfilter_severity(image, MODEL, **options)
    np.testing.assert_allclose(tiled, whole, rtol=1e-3, atol=1e-2)
    np.testing.assert_array_equal(judged_tiled, judged)


@pytest.mark.parametrize("options", EVERY)
@pytest.mark.parametrize("make", [lambda s: np.full(s, 7.0), lambda s: lattice(s, 0.0), lambda s: np.eye(*s)])
def test_degenerate_images_stay_finite(options, make):
    image = make((96, 101))
    severity, judged = eigenfilter_severity(image, np.s_[16:80, 20:84], **options)
    assert severity.dtype == np.float32
    assert severity.shape == judged.shape == image.shape
    assert np.isfinite(severity).all()
    assert severity.min() >= 0


@pytest.mark.parametrize("options", EVERY)
def test_another_orientation_stands_out(options):
    image = lattice((256, 256))
    truth = np.zeros(image.shape, bool)
    truth[:, 160:] = True
    y, x = np.indices(image.shape)
    other = np.cos(2 * np.pi * (0.8 * x + 0.6 * y) / 9.3) + np.cos(2 * np.pi * (0.8 * y - 0.6 * x) / 9.3)
    image[truth] = (100 + 40 * other + 8 * np.random.default_rng(1).normal(size=image.shape))[truth]
    severity, judged = eigenfilter_severity(image, np.s_[64:192, 16:144], **options)
    assert auroc(severity, truth, ~judged) > (0.95 if options["features"] == "energies" else 0.6)


def test_small_patches():
    image = lattice((64, 64))
    for size in (40, 44, 48):
        severity, judged = eigenfilter_severity(
            image, np.s_[:size, :size], features="energies", comparison="pixelwise"
        )
        assert np.isfinite(severity).all()
        assert judged[16:-16, 16:-16].all()
    with pytest.raises(RecipeError, match="40 px"):
        eigenfilter_severity(image, np.s_[:39, :50], features="energies", comparison="pixelwise")
    with pytest.raises(RecipeError, match="model patch"):
        eigenfilter_severity(image, np.s_[:10, :10])


def test_bad_arguments_are_named():
    image = lattice((64, 64))
    with pytest.raises(ValueError, match="features"):
        eigenfilter_severity(image, MODEL, features="colours")
    with pytest.raises(ValueError, match="comparison"):
        eigenfilter_severity(image, MODEL, comparison="none")
    with pytest.raises(ValueError, match="window"):
        eigenfilter_severity(image, MODEL, window=0)
    with pytest.raises(RecipeError, match="kernel_px"):
        eigenfilter_severity(image, MODEL, kernel=6)
