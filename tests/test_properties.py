"""Whatever the pixels are: no crash, no warning, labels of the input's shape."""

import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

import napari_hrstem_defects as hd
from napari_hrstem_defects.core.best_patch import BestPatch

from .core.helpers import CELLS, crystal, glass, vectors

DTYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "f2", "f4", "f8", ">f4"]

QUICK = settings(
    max_examples=25,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

SHAPES = st.tuples(st.integers(64, 230), st.integers(64, 230))
SEEDS = st.integers(0, 2**31)


def lattice(shape, kind, period, angle, noise, seed):
    return crystal(shape, vectors(kind, period, angle)) + noise * glass(shape, 0.0, seed)


OTHERS = {
    "glass": lambda shape, kind, period, angle, seed: 0.1 * glass(shape, 2.0, seed),
    "vacuum": lambda shape, *_: np.zeros(shape),
    "grain": lambda shape, kind, period, angle, seed: crystal(shape, vectors(kind, period, angle + 20)),
    "bright": lambda shape, kind, period, angle, seed: 1e4 * crystal(shape, vectors(kind, period, angle)),
}


def lattice_beside(shape, kind, period, angle, other, seed):
    """A lattice whose right part is something else."""
    out = lattice(shape, kind, period, angle, 0.1, seed)
    edge = shape[1] // 2
    out[:, edge:] = OTHERS[other](shape, kind, period, angle, seed)[:, edge:]
    return out


def checkerboard(shape, edge):
    y, x = np.indices(shape) // edge
    return ((y + x) % 2).astype(float)


def blocks(shape, edge, seed):
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 4, [-(-n // edge) for n in shape])
    return np.kron(values, np.ones((edge, edge)))[: shape[0], : shape[1]].astype(float)


def gradient(shape, y, x):
    rows, columns = np.indices(shape)
    return y * rows / shape[0] + x * columns / shape[1]


def stripes(shape, period, along):
    return np.cos(2 * np.pi * np.indices(shape)[along] / period)


def spike(shape, y, x):
    out = np.zeros(shape)
    out[int(y * (shape[0] - 1)), int(x * (shape[1] - 1))] = 1
    return out


UNIT = st.floats(0, 1)
PERIODS = st.floats(2, 45)


@st.composite
def contents(draw):
    """A float64 image."""
    shape = draw(SHAPES)
    kind, angle, seed = st.sampled_from(sorted(CELLS)), st.floats(0, 90), SEEDS
    make = draw(
        st.one_of(
            st.builds(glass, st.just(shape), st.floats(0, 4), seed),
            st.builds(lattice, st.just(shape), kind, PERIODS, angle, st.floats(0, 1), seed),
            st.builds(
                lattice_beside, st.just(shape), kind, PERIODS, angle, st.sampled_from(sorted(OTHERS)), seed
            ),
            st.builds(checkerboard, st.just(shape), st.integers(1, 40)),
            st.builds(blocks, st.just(shape), st.integers(1, 80), seed),
            st.builds(gradient, st.just(shape), st.floats(-3, 3), st.floats(-3, 3)),
            st.builds(stripes, st.just(shape), PERIODS, st.integers(0, 1)),
            st.builds(spike, st.just(shape), UNIT, UNIT),
        )
    )
    return make


@st.composite
def images(draw):
    """An image of any type, with holes in it or not."""
    image, dtype = draw(contents()), np.dtype(draw(st.sampled_from(DTYPES)))
    assume(np.ptp(image) > 0)
    unit = (image - image.min()) / np.ptp(image)
    if dtype.kind == "f":
        # The largest range that the type can hold, the usual one, and a tiny one.
        largest = float(np.finfo(dtype).max) * 0.4
        low, high = draw(st.sampled_from([(0.0, 1.0), (-largest, largest), (1000.0, 1001.0), (0.0, 1e-6)]))
        out = (low + unit * (high - low)).astype(dtype)
        holes = draw(st.sampled_from([0.0, 0.0, 0.001, 0.1, 0.45]))
        rng = np.random.default_rng(draw(SEEDS))
        missing = rng.random(out.shape) < holes
        out[missing] = rng.choice([np.nan, np.inf, -np.inf], np.count_nonzero(missing))
        return out
    # Few or many levels over the whole range of the type.
    least, top = np.iinfo(dtype).min, min(np.iinfo(dtype).max - np.iinfo(dtype).min, 2**62)
    levels = min(top, draw(st.sampled_from([2, 7, 255, 2**31])))
    return (np.rint(unit * levels).astype(np.int64) * (top // levels) + least).astype(dtype)


def assert_sound(image, analysis):
    shape = image.shape
    assert analysis.labels.shape == shape
    assert analysis.labels.dtype == np.uint8
    assert analysis.labels.max() <= 2
    assert analysis.severity.shape == analysis.variance.shape == analysis.valid_mask.shape == shape
    assert np.isfinite(analysis.severity).all()
    assert np.isfinite(analysis.variance).all()
    assert analysis.variance.min() >= 0
    assert analysis.valid_mask.dtype == bool
    assert not (analysis.valid_mask & ~np.isfinite(image.astype(float))).any()
    if analysis.best_patch is None:
        assert not analysis.labels.any()
        assert analysis.warnings
    else:
        half = analysis.best_patch.size / 2 - 0.5
        for place, side in zip((analysis.best_patch.y, analysis.best_patch.x), shape, strict=True):
            assert half <= place <= side - 1 - half
    marked = sum(region.area_px for region in analysis.regions)
    assert marked == pytest.approx(np.count_nonzero(analysis.labels))


def attempt(image, recipe, **kwargs):
    """Analyse; the only thing that may go wrong is the input, and then it says so in one sentence."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            analysis = hd.analyze(hd.Micrograph(image), recipe, **kwargs)
        except hd.HrstemDefectsError as error:
            message = str(error)
        else:
            assert_sound(image, analysis)
            return
    assert message.endswith(".")
    assert "\n" not in message


@QUICK
@given(images())
@example(checkerboard((64, 64), 1))
@example(spike((64, 200), 0.0, 0.5))
@example(lattice((70, 64), "square", 2.0, 0.0, 0.0, 0))
@example(lattice((97, 64), "hexagonal", 3.0, 10.0, 0.1, 0))
def test_default_recipe(image):
    attempt(image, hd.Recipe())


@QUICK
@given(images())
@example(checkerboard((64, 64), 1))
@example(spike((64, 200), 0.0, 0.5))
@example(lattice((70, 64), "square", 2.0, 0.0, 0.0, 0))
def test_published_recipe(image):
    # At least two patches.
    image = np.pad(
        image, [(0, max(0, least - n)) for n, least in zip(image.shape, (128, 256), strict=True)], "wrap"
    )
    attempt(image, hd.Recipe.published().replace({"published.always_filter": True}))


@settings(QUICK, max_examples=12)
@given(images(), UNIT, UNIT, st.integers(1, 80))
def test_best_patch_anywhere(image, y, x, size):
    attempt(image, hd.Recipe(), best_patch=(y * (image.shape[0] - 1), x * (image.shape[1] - 1)))
    patch = BestPatch(y * (image.shape[0] - 1), x * (image.shape[1] - 1), size, "hand")
    attempt(image, hd.Recipe(), best_patch=patch)


def values_of(metadata, value):
    """Values within the limits of a parameter."""
    if isinstance(value, int) and not isinstance(value, bool):
        return st.integers(int(metadata["minimum"]), int(min(metadata["maximum"], 4 * value + 16)))
    # Nobody types 1e-108.
    return st.floats(metadata["minimum"], min(metadata["maximum"], 4 * value + 4)).map(lambda v: round(v, 6))


NUMBERS = {
    name: values_of(metadata, value)
    for name, value, metadata in hd.Recipe().parameters()
    if isinstance(value, int | float) and not isinstance(value, bool)
}
# Smaller ones are a case of their own, above.
NUMBERS["classify.patch_size"] = st.integers(32, 200)


@QUICK
@given(
    st.sampled_from(["perfect", "glass", "vacuum", "grain"]),
    st.dictionaries(st.sampled_from(sorted(NUMBERS)), st.floats(0, 1), min_size=1, max_size=4).flatmap(
        lambda names: st.fixed_dictionaries({name: NUMBERS[name] for name in names})
    ),
    st.booleans(),
)
def test_any_parameters_within_their_limits(other, changes, published):
    shape = (150, 260)
    image = (
        lattice(shape, "oblique", 11.0, 8.0, 0.1, 1)
        if other == "perfect"
        else lattice_beside(shape, "oblique", 11.0, 8.0, other, 1)
    )
    try:
        recipe = (hd.Recipe.published() if published else hd.Recipe()).replace(changes)
    except hd.HrstemDefectsError:
        assume(False)
    attempt(image, recipe)
