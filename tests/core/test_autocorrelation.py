"""The field of local autocorrelations against the definition and what is known of perfect lattices."""

from dataclasses import replace

import numpy as np
import pytest

from napari_hrstem_defects.core import autocorrelation as module
from napari_hrstem_defects.core.autocorrelation import WINDOW_PERIODS, autocorrelation_field, shifts_of
from napari_hrstem_defects.core.preprocessing import prepare
from napari_hrstem_defects.core.recipe import PreprocessParams

from .helpers import crystal, noisy, prepared_of, vectors

PERIOD = 8.0
#: Vectors of whole, even pixels: lattice vectors are among the shifts.
BASIS = ((0.0, 8.0), (8.0, 4.0))


def directions(field):
    """Directions that the components stand for, ``(n, y, x)``."""
    return field.mean[:, None, None] + np.einsum("kn,kyx->nyx", field.basis, field.components)


def centred(shape, **kwargs):
    image = crystal(shape, BASIS, **kwargs)
    return image - image.mean()


def test_shifts_are_a_half_disc():
    shifts = shifts_of(PERIOD)
    length = np.hypot(*shifts.T)
    assert (shifts % 2 == 0).all()
    assert length.min() >= 0.4 * PERIOD
    assert length.max() <= 2.2 * PERIOD
    both = {tuple(s) for s in shifts.tolist()} | {tuple(s) for s in (-shifts).tolist()}
    assert len(both) == 2 * len(shifts)
    full = [(y, x) for y in range(-18, 19, 2) for x in range(-18, 19, 2) if 3.2 <= np.hypot(y, x) <= 17.6]
    assert both == set(full)


def test_perfect_lattice():
    """In the mean over a cell the field is the lattice's own normalised autocorrelation, 1 at lattice vectors."""
    image = centred((160, 160), width=0.2)
    field = autocorrelation_field(prepared_of(image))
    # A cell is 8 rows high; every second row is shifted by half a period: 16 px repeat both ways.
    cell = image[:16, :16]
    power = np.mean(cell**2)
    wanted = np.array([np.mean(cell * np.roll(cell, tuple(s), (0, 1))) / power for s in field.shifts])
    inner = np.s_[8:-8, 8:-8]
    strength = field.strength[inner].mean()
    assert strength == pytest.approx(np.sqrt(np.mean(wanted**2)), rel=0.03)
    measured = directions(field)[:, *inner].mean(axis=(1, 2)) * strength * np.sqrt(len(wanted))
    np.testing.assert_allclose(measured, wanted, atol=0.06)
    lattice = [
        i for i, s in enumerate(field.shifts.tolist()) if tuple(s) in {(0, 8), (8, 4), (8, -4), (0, 16)}
    ]
    assert len(lattice) == 4
    np.testing.assert_allclose(measured[lattice], 1, atol=0.06)


def test_definition_by_loop():
    """Products of pixels around one sample, weighed by the window; where one of two pixels is missing, without it."""
    rng = np.random.default_rng(0)
    image = rng.normal(size=(72, 84)).astype(np.float32)
    valid = np.ones(image.shape, bool)
    valid[20:31, 40:60] = False
    prepared = prepared_of(np.clip(image, -2, 2))
    field = autocorrelation_field(prepared, valid)
    values = np.where(valid, prepared.values, 0).astype(float)
    most = np.quantile(np.abs(prepared.values), 0.97)
    values = np.clip(values, -most, most)
    sigma, step = WINDOW_PERIODS * PERIOD / field.step_px, field.step_px
    for place in ((4, 6), (0, 20), (7, 12), (17, 0)):
        # Pixels of a block count at its place.
        weights = []
        for n, at in zip(image.shape, place, strict=True):
            distance = (np.arange(n) // step - at) / sigma
            weights.append(np.where(np.abs(distance) <= 3, np.exp(-0.5 * distance**2), 0))
        weight = np.outer(*weights)
        power = (weight * values**2).sum() / (weight * valid).sum()
        expected = []
        for y, x in (field.shifts // 2).tolist():

            def moved(a, dy, dx):
                out = np.zeros(a.shape)
                inside = np.s_[max(-dy, 0) : a.shape[0] - max(dy, 0), max(-dx, 0) : a.shape[1] - max(dx, 0)]
                source = np.s_[max(dy, 0) : a.shape[0] + min(dy, 0), max(dx, 0) : a.shape[1] + min(dx, 0)]
                out[inside] = a[source]
                return out

            pairs = (weight * moved(valid, y, x) * moved(valid, -y, -x)).sum()
            expected.append((weight * moved(values, y, x) * moved(values, -y, -x)).sum() / pairs / power)
        assert field.power[place] == pytest.approx(power, rel=1e-3)
        assert field.strength[place] == pytest.approx(np.sqrt(np.mean(np.square(expected))), rel=1e-3)


@pytest.mark.parametrize(
    "change",
    [lambda v: 3.5 * v, lambda v: -v, lambda v: v * np.linspace(0.5, 2, v.shape[1])],
    ids=["contrast", "inverted", "slowly varying contrast"],
)
def test_contrast_does_not_matter(change):
    image = noisy(centred((160, 160)), 0.05)
    field, other = (
        autocorrelation_field(prepared_of(image)),
        autocorrelation_field(prepared_of(change(image))),
    )
    same = np.einsum("nyx,nyx->yx", directions(field), directions(other))
    assert same.min() > 0.99
    np.testing.assert_allclose(other.strength, field.strength, rtol=0.1)


def test_tiles_leave_no_seam(monkeypatch):
    image = prepared_of(noisy(centred((200, 260)), 0.1))
    whole = autocorrelation_field(image)
    monkeypatch.setattr(module, "TILE", 17)
    monkeypatch.setattr(module, "BASIS_TILES", 10**6)
    tiled = autocorrelation_field(image)
    for name in ("strength", "pairs", "power"):
        np.testing.assert_allclose(getattr(tiled, name), getattr(whole, name), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(directions(tiled), directions(whole), atol=2e-3)


def test_distance_is_that_of_the_directions():
    field = autocorrelation_field(prepared_of(noisy(centred((120, 120)), 0.1)))
    wanted = np.random.default_rng(0).normal(size=len(field.shifts))
    wanted /= np.linalg.norm(wanted)
    expected = np.maximum(1 - np.einsum("n,nyx->yx", wanted, directions(field)), 0)
    np.testing.assert_allclose(field.distance(wanted), expected, atol=1e-5)


def test_map_of_the_grid_in_the_frame():
    image = noisy(crystal((200, 240), vectors("square", 20.0)), 0.05)
    prepared = prepare(image, 20.0, PreprocessParams())
    field = autocorrelation_field(prepared)
    y, x = np.indices(field.shape)
    for ramp, axis in ((y, 0), (x, 1)):
        out = field.to_frame(ramp, prepared)
        places = np.indices(out.shape)[axis]
        # Sample i is the middle of the pixels i·step … i·step + step − 1 of the prepared image.
        wanted = (places + 0.5) * prepared.scale[axis] / field.step_px - 0.5
        np.testing.assert_allclose(out[40:-40, 40:-40], wanted[40:-40, 40:-40], atol=1e-3)


def test_an_image_without_anything():
    field = autocorrelation_field(prepared_of(np.zeros((64, 64))))
    assert np.isfinite(field.components).all()
    assert not field.strength.any()
    nothing = autocorrelation_field(replace(prepared_of(np.ones((64, 64)))), np.zeros((64, 64), bool))
    assert np.isfinite(nothing.strength).all()
    assert not nothing.pairs.any()
