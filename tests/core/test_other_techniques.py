"""STM, AFM and SEM images, simulated here: what is found and what to mind (docs/techniques.md)."""

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

import napari_hrstem_defects as hd

SIDE = 512
#: Lattice constant in px of the scanned-probe images.
CONSTANT = 16.0
#: Where a row of points is near, in px.
NEAR = 3 * CONSTANT
Y, X = (axis.astype(float) for axis in np.mgrid[:SIDE, :SIDE])
Image = NDArray[np.float64]
Place = tuple[int, int]


def hexagonal(y: Image, x: Image) -> Image:
    """Close-packed surface atoms, −0.5...1."""
    angles = 0.2 + np.arange(3) * np.pi / 3
    spacing = CONSTANT * np.sqrt(3) / 2
    waves = [np.cos(2 * np.pi / spacing * (np.cos(t) * y + np.sin(t) * x)) for t in angles]
    return np.asarray(sum(waves) / 3)


def square(y: Image, x: Image, constant: float = CONSTANT) -> Image:
    """A square lattice, −1...1."""
    cosine, sine = np.cos(0.2), np.sin(0.2)
    along, across = (2 * np.pi / constant * part for part in (cosine * y + sine * x, cosine * x - sine * y))
    return np.asarray((np.cos(along) + np.cos(across)) / 2)


def without_atoms(lattice: Image, near: Sequence[Place]) -> tuple[Image, list[Place]]:
    """The lattice without the atoms next to some places, and where these were."""
    places = []
    for y, x in near:
        window = np.where((Y - y) ** 2 + (X - x) ** 2 < CONSTANT**2, lattice, -np.inf)
        i, j = (int(n) for n in np.unravel_index(window.argmax(), window.shape))
        lattice = lattice - 1.2 * np.exp(-((Y - i) ** 2 + (X - j) ** 2) / (2 * (0.3 * CONSTANT) ** 2))
        places.append((i, j))
    return lattice, places


VACANCIES = ((100, 120), (300, 90), (420, 200), (200, 250))


def stm(
    seed: int, vacancies: Sequence[Place] = (), *, step: float = 0.0, lines: float = 0.15, jump: int = 0
) -> tuple[Image, list[Place], NDArray[np.bool_]]:
    """Topograph in units of the corrugation on a tilted sample, noise 0.15; rows are offset by `lines`.

    A terrace of height `step` begins at a slanting edge, whose upper lattice is shifted; in the second half the tip
    sees everything `jump` px aside.
    """
    rng = np.random.default_rng(seed)
    upper = X - 0.62 * SIDE + 0.25 * (Y - SIDE / 2) > 0 if step else np.zeros((SIDE, SIDE), bool)
    lattice = np.where(
        upper, hexagonal(Y + 0.29 * CONSTANT, X + 0.5 * CONSTANT), hexagonal(Y, X + jump * (Y > 282))
    )
    lattice, places = without_atoms(lattice, vacancies)
    height = lattice + step * gaussian_filter(upper.astype(float), 0.35 * CONSTANT)
    height += 6 * Y / SIDE + 8 * X / SIDE
    height += 0.1 * np.cumsum(rng.normal(0, lines, SIDE))[:, None] + rng.normal(0, lines, SIDE)[:, None]
    return height + rng.normal(0, 0.15, height.shape), places, upper


def afm(
    seed: int, vacancies: Sequence[Place] = (), *, creep: float = 0.1
) -> tuple[Image, list[Place], NDArray[np.bool_]]:
    """Lattice with drift (2 % of the side), line jitter and offsets, and creep that stretches the first rows."""
    rng = np.random.default_rng(seed)
    time = (np.arange(SIDE) / SIDE)[:, None]
    y = Y + creep * 0.15 * SIDE * np.exp(-time / 0.15)
    x = X + 0.02 * SIDE * time + rng.normal(0, 0.3, SIDE)[:, None]
    lattice, places = without_atoms(square(y, x), vacancies)
    lattice += rng.normal(0, 0.1, SIDE)[:, None] + rng.normal(0, 0.2, lattice.shape)
    return lattice, places, np.zeros(lattice.shape, bool)


def sem(seed: int, contrast: float, *, boundary: bool = False, fringes: bool = False) -> Image:
    """Lattice of 8 px of amplitude `contrast` in units of the noise; at column 307 perhaps an antiphase boundary."""
    rng = np.random.default_rng(seed)
    y = Y + 4.0 * boundary * (X > 307)
    lattice = np.cos(2 * np.pi / 8 * (0.98 * y + 0.2 * X)) if fringes else square(y, X, 8)
    background = gaussian_filter(rng.normal(0, 40, lattice.shape), 60)
    return np.asarray(gaussian_filter(contrast * lattice + background + rng.normal(0, 1, y.shape), 0.7))


def analysed(image: Image) -> hd.Analysis:
    return hd.analyze(hd.Micrograph(image.astype(np.float32)))


def found(labels: NDArray[np.uint8], places: Sequence[Place]) -> int:
    return sum(bool((labels[i - 8 : i + 9, j - 8 : j + 9] > 0).any()) for i, j in places)


def away(places: Sequence[Place]) -> NDArray[np.bool_]:
    """Further than `NEAR` from the places."""
    out = np.ones((SIDE, SIDE), bool)
    for i, j in places:
        out &= (Y - i) ** 2 + (X - j) ** 2 > NEAR**2
    return out


def test_stm() -> None:
    perfect, _, _ = stm(0)
    assert not analysed(perfect).labels.any()
    image, places, _ = stm(0, VACANCIES)
    labels = analysed(image).labels
    assert found(labels, places) == 4
    assert (labels[away(places)] > 0).mean() < 0.01


def test_stm_steps_want_to_be_levelled_first() -> None:
    image, places, upper = stm(3, VACANCIES, step=6.0)
    # The marked band is many lattice constants wide and grows with the height; levelled it is the edge alone.
    raw = analysed(image)
    level = analysed(image - 6 * upper)
    assert found(raw.labels, places) == found(level.labels, places) == 4
    assert (raw.labels > 0).mean() > 0.15
    assert (level.labels > 0).mean() < 0.1


def test_stm_jump_of_the_tip_is_marked_as_a_fault() -> None:
    image, places, _ = stm(4, VACANCIES, jump=5)
    labels = analysed(image).labels
    assert found(labels, places) == 4
    assert (labels[270:295] > 0).any(axis=0).mean() > 0.85
    far = away(places) & (np.abs(Y - 282) > NEAR)
    assert (labels[far] > 0).mean() < 0.005


def test_afm() -> None:
    perfect, _, _ = afm(0)
    assert not analysed(perfect).labels.any()
    image, places, _ = afm(0, ((150, 150), (380, 330)))
    labels = analysed(image).labels
    assert found(labels, places) == 2
    assert not labels[away(places)].any()


def test_afm_first_rows_of_a_creeping_scanner_are_marked() -> None:
    labels = analysed(afm(1, creep=0.3)[0]).labels
    assert (labels[30:90] > 0).mean() > 0.5
    assert not labels[150:].any()


def test_sem_fainter_than_half_its_noise_shows_nothing() -> None:
    assert not analysed(sem(0, 0.5, boundary=True)).labels.any()


@pytest.mark.parametrize("fringes", [False, True], ids=["lattice", "fringes in one direction"])
def test_sem(fringes: bool) -> None:
    assert not analysed(sem(int(fringes), 1.0 + fringes, fringes=fringes)).labels.any()
    labels = analysed(sem(int(fringes), 2.0, fringes=fringes, boundary=True)).labels
    assert (labels[:, 291:324] > 0).any(axis=1).mean() > 0.8
    assert not labels[:, np.abs(np.arange(SIDE) - 307) > 40].any()
