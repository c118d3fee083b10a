"""Stacking sequences of hand-made close-packed layers."""

import numpy as np
import pytest

from napari_hrstem_defects.core.displacement import SEQUENCES, read_stacking
from napari_hrstem_defects.core.preprocessing import prepare
from napari_hrstem_defects.core.recipe import PreprocessParams

from .helpers import noisy

SHAPE = (260, 260)
#: Face-centred cubic along [110]: layers a/√3 apart, period √6/4·a within, each a third of it further.
EDGE = 13.5
SPACING, REPEAT = EDGE / 3**0.5, EDGE * 6**0.5 / 4
PERIOD = (SPACING * REPEAT) ** 0.5


def stacked(turned: list[bool], degrees: float, sense: int) -> tuple[np.ndarray, np.ndarray]:
    """Layers seen edge-on; `turned[i]` says whether the step above layer i of the middle ones is turned round."""
    t = np.radians(degrees)
    along, normal = np.array([np.sin(t), np.cos(t)]), np.array([np.cos(t), -np.sin(t)])
    count = 2 * int(200 / SPACING)
    steps = np.ones(count)
    first = (count - len(turned)) // 2
    steps[first : first + len(turned)] = np.where(turned, -1, 1)
    offsets = np.concatenate([[0.0], np.cumsum(steps)]) * sense * REPEAT / 3
    heights = (np.arange(count + 1) - count / 2) * SPACING
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]] - 130.0
    h, s = normal[0] * y + normal[1] * x, along[0] * y + along[1] * x
    image = np.zeros(SHAPE)
    for height, offset in zip(heights, offsets, strict=True):
        near = np.abs(h - height) < 2 * SPACING
        lateral = (s[near] - offset + REPEAT / 2) % REPEAT - REPEAT / 2
        image[near] += np.exp(-0.5 * (lateral**2 + (h[near] - height) ** 2) / (0.16 * PERIOD) ** 2)
    v1 = REPEAT * along
    v2 = SPACING * normal + sense * REPEAT / 3 * along
    return image, np.array([v1, v2])


def read(
    turned: list[bool], degrees: float = 17.0, sense: int = 1, noise: float = 0.3
) -> dict[str, float] | None:
    image, basis = stacked(turned, degrees, sense)
    prepared = prepare(noisy(image, noise), PERIOD, PreprocessParams())
    t = np.radians(degrees)
    # The band that would be marked: the turned steps and a period to either side.
    step = 4.0
    y, x = np.meshgrid(*(np.arange(1.5, n, step) for n in prepared.values.shape), indexing="ij")
    frame = prepared.to_frame_points(np.stack([y, x], axis=-1)) - 130.0
    h = np.cos(t) * frame[..., 0] - np.sin(t) * frame[..., 1]
    s = np.sin(t) * frame[..., 0] + np.cos(t) * frame[..., 1]
    inside = (np.abs(h) < (len(turned) / 2 + 1) * SPACING) & (np.abs(s) < 95)
    points = np.stack([y, x], axis=-1)[inside]
    return read_stacking(prepared, basis * prepared.scale, points, np.zeros(inside.shape, bool), step)


@pytest.mark.parametrize(("degrees", "sense"), [(0.0, 1), (17.0, -1), (-70.0, 1)])
@pytest.mark.parametrize(
    ("turned", "kind"),
    [
        ([True], "intrinsic"),
        ([True, True], "extrinsic"),
        ([True] * 3, "lamella"),
        ([True] * 6, "lamella"),
        ([True, False, True], "several"),
        ([True, False, True, False, True], "several"),
        ([False, False], "perfect"),
    ],
)
def test_sequences(turned, kind, degrees, sense):
    leads = read(turned, degrees, sense)
    assert leads is not None
    assert set(leads) == set(SEQUENCES)
    # In layers: what one step more or less explains.
    assert leads[kind] > 0.3
    assert [name for name, lead in leads.items() if lead > 0] == [kind]


def test_noise_costs_the_lead():
    clear, noisy_ = read([True], noise=0.05), read([True], noise=3.0)
    assert clear is not None
    assert clear["intrinsic"] > 0.9
    assert noisy_ is None or noisy_["intrinsic"] < clear["intrinsic"]


def test_a_twin_has_no_end():
    # Everything above the middle is turned.
    image, basis = stacked([False] * 24 + [True] * 24, 0.0, 1)
    prepared = prepare(noisy(image, 0.2), PERIOD, PreprocessParams())
    step = 4.0
    y, x = np.meshgrid(*(np.arange(1.5, n, step) for n in prepared.values.shape), indexing="ij")
    frame = prepared.to_frame_points(np.stack([y, x], axis=-1)) - 130.0
    band = np.abs(frame[..., 0]) < SPACING
    points = np.stack([y, x], axis=-1)[band]
    leads = read_stacking(prepared, basis * prepared.scale, points, np.zeros(band.shape, bool), step)
    assert leads is not None
    assert max(leads, key=leads.get) == "twin"


def test_other_lattices_are_not_read():
    image, _ = stacked([True], 0.0, 1)
    prepared = prepare(noisy(image, 0.1), PERIOD, PreprocessParams())
    band = np.stack(np.meshgrid(np.arange(100, 120, 4.0), np.arange(20, 200, 4.0), indexing="ij"), axis=-1)
    points, free = band.reshape(-1, 2), np.zeros((65, 65), bool)
    square = np.array([(0.0, PERIOD), (PERIOD, 0.0)]) * prepared.scale
    assert read_stacking(prepared, square, points, free, 4.0) is None
    # The right lattice, but the band runs along no vector of it.
    _, basis = stacked([True], 21.0, 1)
    basis = basis * prepared.scale
    assert read_stacking(prepared, basis, points, free, 4.0) is None
    assert read_stacking(prepared, basis, points[:3], free, 4.0) is None
