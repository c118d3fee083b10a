"""Images that the comparing network is trained on: known lattices of any elements, films on them, uneven pictures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_hrstem_defects.simulation.crystals import ATOMIC_NUMBERS, MATERIALS, Material
from napari_hrstem_defects.simulation.planar import FILM_PLANES, FILMS
from napari_hrstem_defects.simulation.presets import crystals_of
from napari_hrstem_defects.simulation.sets import SET_DEFECTS, sample
from results_tools import scoring

#: Shapes of the images, one after the other.
SHAPES = ((512, 512), (512, 512), (640, 512), (256, 1152), (768, 640), (512, 512))
#: Of every so many images: with defects, with a film, with both, perfect.
OF, DEFECTIVE, FILM, BOTH = 20, 11, 5, 1
#: Defects that a film does not change the meaning of.
BESIDE_FILM = ("amorphous", "vacuum", "beam damage", "dislocation", "vacancy")
#: Most that the lattice constants of a film and its substrate differ, as in films that grow coherently.
MOST_MISMATCH = 0.06
#: Stretch and shear of half the images: more kinds of lattices than there are structure types.
MOST_STRETCH = 0.25
#: What else is done to a picture, each with this probability.
PICTURE_CHANGES = 0.2


def training_image(
    index: int, seed: int, structures: tuple[str, ...], zones: tuple[str, ...]
) -> tuple[str, NDArray[np.float32], list[NDArray[np.uint8]]]:
    """Name, pixels and labels, as seen from each grain that may be the reference, of an image of the training set.

    Half the crystals are real materials, the others have the lattice of one and any elements; a second such crystal
    grows coherently on the first as a film, which is no defect.
    """
    rng = np.random.default_rng([seed, index])
    turn = index % OF
    film = DEFECTIVE <= turn < DEFECTIVE + FILM + BOTH
    content: list[tuple[str, ...]] = list(SET_DEFECTS)
    if film:
        content = [("film",)]
        if turn >= DEFECTIVE + FILM:
            content = [("film", BESIDE_FILM[int(rng.integers(len(BESIDE_FILM)))])]
    share = float(turn < DEFECTIVE + FILM + BOTH)
    real = tuple(
        name
        for name, zone in crystals_of(structures, zones)
        if not film or (name in FILMS and zone in FILM_PLANES)
    )
    with made_up(structures[int(rng.integers(len(structures)))], rng) as base:
        sim = sample(
            index,
            seed,
            share,
            materials=(base,) if not real or rng.random() < 0.5 else real,
            zone_axes=zones,
            defects=content,
            shape=SHAPES[int(rng.integers(len(SHAPES)))],
        )
        labels = [truth.labels for truth in scoring.truths(sim)]
    pixels = sim.micrograph.frame().pixels
    if rng.random() < 0.5:
        pixels, labels = warped(pixels, labels, rng)
    return sim.micrograph.name, changed(pixels, sim.period_px, rng), labels


@contextmanager
def made_up(structure: str, rng: np.random.Generator) -> Iterator[str]:
    """Name of a crystal of any elements, on which another one grows; the program knows both as long as it is open."""
    real = [m for m in MATERIALS.values() if m.structure == structure]
    sides = [m.a_nm for m in real]
    a_nm = float(rng.uniform(min(sides), max(sides)))
    count = len(real[0].elements)
    names = list(ATOMIC_NUMBERS)

    def elements() -> list[str]:
        return [names[int(n)] for n in rng.choice(len(names), count, replace=False)]

    base, film = elements(), elements()
    if count == 2 and rng.random() < 0.5:
        film[0] = base[0]  # a common element, as in most pairs
    heavy = [ATOMIC_NUMBERS[e[0]] > ATOMIC_NUMBERS[e[-1]] for e in (base, film)]
    if structure == "zincblende" and heavy[0] != heavy[1]:
        film.reverse()  # else it would look like a domain of opposite polarity
    strain = float(rng.uniform(-MOST_MISMATCH, MOST_MISMATCH))
    # Projections are kept by name, so the names must be new.
    base_name, film_name = (f"{part}-{int(rng.integers(2**40)):x}" for part in ("base", "film"))
    MATERIALS[base_name] = Material(structure, tuple(base), a_nm)
    MATERIALS[film_name] = Material(structure, tuple(film), a_nm * (1 + strain))
    FILMS[base_name] = (film_name,)
    try:
        yield base_name
    finally:
        del MATERIALS[base_name], MATERIALS[film_name], FILMS[base_name]


def warped(
    pixels: NDArray[np.float32], labels: list[NDArray[np.uint8]], rng: np.random.Generator
) -> tuple[NDArray[np.float32], list[NDArray[np.uint8]]]:
    """Stretched, sheared and turned; made-up pixels beyond the rims are mirror images, so the middle is kept."""
    matrix = np.eye(2) + rng.uniform(-MOST_STRETCH, MOST_STRETCH, (2, 2))
    # No point outside the image is asked for.
    half = np.array(pixels.shape) / 2
    matrix /= max(1.0, float((np.abs(matrix) @ half / half).max()))
    middle = (np.array(pixels.shape) - 1) / 2
    offset = middle - matrix @ middle
    return (
        ndimage.affine_transform(pixels, matrix, offset, order=3, mode="mirror").astype(np.float32),
        [ndimage.affine_transform(each, matrix, offset, order=0, mode="mirror") for each in labels],
    )


def changed(pixels: NDArray[np.float32], period_px: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """A picture with what the simulation leaves out or hardly varies; none of it is a defect.

    A step of thickness or brightness, a slow slope, another curve of the detector, inverted contrast, noise, blur, hot
    pixels.
    """
    does = rng.random(8) < PICTURE_CHANGES
    rows, columns = (np.linspace(-1, 1, n, dtype=np.float32) for n in pixels.shape)
    if does[0]:
        angle, place = rng.uniform(0, 2 * np.pi), rng.uniform(-0.6, 0.6)
        along = rows[:, None] * np.sin(angle) + columns[None] * np.cos(angle) - place
        width = float(rng.uniform(0.2, 4.0)) * period_px / max(pixels.shape)
        side = 1 / (1 + np.exp(-np.clip(along / width, -50, 50)))
        low = ndimage.gaussian_filter(pixels, 2 * period_px)
        gain, lift = np.exp(rng.uniform(-0.9, 0.9, 2))
        pixels = low * (1 + (gain * lift - 1) * side) + (pixels - low) * (1 + (gain - 1) * side)
    if does[1]:
        slope = rng.uniform(-0.4, 0.4, 4)
        pixels = pixels * (
            1 + slope[0] * rows[:, None] + slope[1] * columns[None] + slope[2] * rows[:, None] ** 2 / 2
        )
    scale = float(pixels.std())
    if does[2]:
        pixels = ndimage.gaussian_filter(pixels, float(rng.uniform(0.3, 0.06 * period_px + 0.3)))
    if does[3]:
        low, high = np.quantile(pixels, (0.001, 0.999))
        span = max(float(high - low), 1e-6)
        pixels = np.clip((pixels - low) / span, 0, 1) ** np.exp(rng.uniform(-0.7, 0.7)) * span
    if does[4]:
        pixels = -pixels
    if does[5]:
        pixels = pixels + rng.normal(0, float(rng.uniform(0.1, 0.8)) * scale, pixels.shape)
    if does[6]:
        hot = rng.random(pixels.shape) < 10 ** rng.uniform(-5, -3.5)
        pixels = np.where(hot, float(pixels.max()) + 2 * scale, pixels)
    if does[7]:
        # Scan lines that are displaced against each other.
        shift = rng.normal(0, float(rng.uniform(0, 0.05)) * period_px, len(pixels))
        places = np.arange(pixels.shape[1])
        pixels = np.stack([np.interp(places + s, places, row) for s, row in zip(shift, pixels, strict=True)])
    low, high = float(pixels.min()), float(pixels.max())
    return ((pixels - low) / max(high - low, 1e-6)).astype(np.float32)
