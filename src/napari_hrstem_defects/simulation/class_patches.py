"""Patches of simulated micrographs with the class of the defect that each shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.simulation.presets import stream
from napari_hrstem_defects.simulation.simulate import SimulatedMicrograph, simulate
from napari_hrstem_defects.simulation.truth import Defect

#: Edge of the simulated images in px, and patches cut from each.
IMAGE_PX, PER_IMAGE = 320, 6
#: Edge of a whole image of a class.
WHOLE_PX = 512
#: Pixels per lattice period, log-uniform; with 64 px windows the published images have 14 (CdTe) and 17 (SrTiO3).
PX_PER_PERIOD = (12.0, 20.0)
#: Full width at half maximum of the probe in nm, log-uniform: from columns apart to dumbbells run together.
PROBE_NM = (0.08, 0.2)
#: Point defects lie at least this share of the patch's edge inside the patch, others so many periods, or in its middle
#: where it is smaller: half a period beside a twin boundary an intrinsic or an extrinsic fault looks the same.
INSIDE, INSIDE_PERIODS = 0.15, 1.5
#: Clean patches keep this many periods away from every defect.
CLEAR_PERIODS = 1.0
_TRIES = 200


@dataclass(frozen=True)
class Scheme:
    """A crystal and how its defects are called.

    Attributes
    ----------
    material, zone_axis : str
    defects : mapping of str to str
        Class → what is built in (key of ``BUILDERS``); the clean class is not listed.
    shown : mapping of str to str
        Class → kind of the truth's defect that a patch must show.
    clean : str
        Name of the clean class.
    """

    material: str
    zone_axis: str
    defects: Mapping[str, str]
    shown: Mapping[str, str]
    clean: str = "Bulk"

    @property
    def classes(self) -> tuple[str, ...]:
        """The clean class first, the others in alphabetical order."""
        return (self.clean, *sorted(self.defects))


_POINTS = {"Vacancy": "vacancy", "Interstitial": "interstitial", "Substitution": "substitution"}
_CDTE = {
    "SF1": "intrinsic stacking fault",
    "SF2": "extrinsic stacking fault",
    "LC": "dislocation",
    "Vacancy": "vacancy",
    "Interstitial": "interstitial",
}

#: The classes of the published ensembles. LC, a Lomer-Cottrell dislocation, is stood for by a perfect edge
#: dislocation: the same Burgers vector, its core not split.
SCHEMES: dict[str, Scheme] = {
    "CdTe": Scheme(
        "cdte",
        "110",
        {**_CDTE, "TB": "twin"},
        {**_CDTE, "TB": "twin boundary"},
    ),
    "STO": Scheme("srtio3", "100", _POINTS, _POINTS),
}


@dataclass(frozen=True, eq=False)
class ClassPatches:
    """Labelled patches.

    Attributes
    ----------
    pixels : float32 array (n, edge, edge)
        0...1, in the grey values of their image.
    labels : int64 array (n,)
    classes : tuple of str
    source : array of str (n,)
        The simulated micrograph.
    corners : float64 array (n, 2)
        Top-left corner in it, ``(y, x)`` in px.
    """

    pixels: NDArray[np.float32]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    source: NDArray[np.str_]
    corners: NDArray[np.float64]


def class_patches(
    scheme: Scheme,
    per_class: int,
    seed: int,
    *,
    patch_px: int = 64,
    per_image: int = PER_IMAGE,
    progress: Callable[[float, str], None] | None = None,
    **overrides: object,
) -> ClassPatches:
    """Simulate micrographs with one kind of defect each and cut patches that show it.

    Parameters
    ----------
    scheme : Scheme
        E.g. ``SCHEMES["CdTe"]``.
    per_class : int
        Patches of each class. Half of the clean ones come from images with defects, away from them.
    seed : int
    patch_px : int
    per_image : int
        Patches of a class cut from one micrograph, at most.
    progress : callable, optional
    **overrides
        Parameters of :func:`~.simulate.simulate`, the same for all.

    Returns
    -------
    ClassPatches
        Sorted by class.
    """
    patches: list[tuple[NDArray[np.float32], int, str, tuple[int, int]]] = []
    for k, wanted in enumerate(scheme.classes):
        count, number = 0, 0
        while count < per_class:
            image = _image(scheme, wanted, k, number, seed, overrides)
            number += 1
            grey = image.micrograph.frame().pixels
            rng = stream(seed, "patches", k, number)
            places = _places(image, scheme, wanted, patch_px, rng)
            for y, x in islice(places, min(per_image, per_class - count)):
                patch = grey[y : y + patch_px, x : x + patch_px]
                patches.append((patch, k, image.micrograph.name, (y, x)))
                count += 1
            if progress is not None:
                progress((k + count / per_class) / len(scheme.classes), image.micrograph.name)
    pixels, labels, names, corners = zip(*patches, strict=True)
    return ClassPatches(
        np.stack(pixels).astype(np.float32),
        np.array(labels, np.int64),
        scheme.classes,
        np.array(names),
        np.array(corners, np.float64),
    )


def class_images(
    scheme: Scheme, seed: int, **overrides: object
) -> Iterator[tuple[SimulatedMicrograph, NDArray[np.uint8]]]:
    """Simulate a whole micrograph of each class, none of which patches are cut from.

    Parameters
    ----------
    scheme : Scheme
    seed : int
    **overrides
        Parameters of :func:`~.simulate.simulate`, the same for all.

    Yields
    ------
    SimulatedMicrograph, uint8 array (y, x)
        The micrograph, and the number of the class that each pixel shows, 0 the clean one.
    """
    arguments = {"shape": (WHOLE_PX, WHOLE_PX), **overrides}
    for k, wanted in enumerate(scheme.classes):
        image = _image(scheme, wanted, k, 0, seed, arguments, "whole")
        classes = np.zeros(image.labels.shape, np.uint8)
        for defect in image.defects:
            for number, name in enumerate(scheme.classes):
                if scheme.shown.get(name) == defect.kind:
                    classes[defect.mask] = number
        yield image, classes


def _image(
    scheme: Scheme,
    wanted: str,
    k: int,
    number: int,
    seed: int,
    overrides: dict[str, object],
    purpose: str = "image",
) -> SimulatedMicrograph:
    rng = stream(seed, purpose, k, number)
    if wanted != scheme.clean:
        defects: tuple[str, ...] = (scheme.defects[wanted],)
    elif number % 2:
        defects = (list(scheme.defects.values())[number // 2 % len(scheme.defects)],)
    else:
        defects = ()
    arguments = {
        "material": scheme.material,
        "zone_axis": scheme.zone_axis,
        "defects": defects,
        "shape": (IMAGE_PX, IMAGE_PX),
        "mode": "haadf",
        "px_per_period": float(np.exp(rng.uniform(*np.log(PX_PER_PERIOD)))),
        "probe_nm": float(np.exp(rng.uniform(*np.log(PROBE_NM)))),
        **overrides,
    }
    draw = int(rng.integers(2**31))
    name = f"{scheme.material}-{wanted}-{seed}-{number if purpose == 'image' else purpose}"
    return simulate("set", draw, name=name, **arguments)


def _places(
    image: SimulatedMicrograph,
    scheme: Scheme,
    wanted: str,
    patch_px: int,
    rng: np.random.Generator,
) -> Iterator[tuple[int, int]]:
    """Top-left corners of patches that show what is wanted, and for the clean class nothing; not without end."""
    room = np.array(image.labels.shape) - patch_px
    kinds = set(scheme.shown.values())
    shown = [defect for defect in image.defects if defect.kind in kinds]
    if wanted == scheme.clean:
        near = np.zeros(image.labels.shape, bool)
        for defect in shown:
            near |= defect.mask
        margin = round(CLEAR_PERIODS * image.period_px)
        for _ in range(_TRIES):
            y, x = (int(rng.integers(0, side + 1)) for side in room)
            top, left = max(0, y - margin), max(0, x - margin)
            if not near[top : y + patch_px + margin, left : x + patch_px + margin].any():
                yield y, x
        return
    own = [defect for defect in shown if defect.kind == scheme.shown[wanted]]
    centres = _centres(own)
    inner = round(INSIDE * patch_px)
    if wanted not in _POINTS:
        inner = min(max(inner, round(INSIDE_PERIODS * image.period_px)), patch_px // 2 - 1)
    for _ in range(_TRIES if len(centres) else 0):
        point = centres[int(rng.integers(len(centres)))]
        offset = rng.integers(inner, patch_px - inner, 2)
        y, x = (int(n) for n in point - offset)
        if 0 <= y <= room[0] and 0 <= x <= room[1]:
            yield y, x


def _centres(defects: list[Defect]) -> NDArray[np.intp]:
    """Points in the middle of what each defect's mask shows: of a point its centre, of a band its middle line."""
    from scipy.ndimage import distance_transform_edt

    out = []
    for defect in defects:
        # Cut off by the rim of the image a band goes on: the rim is no border of it.
        depth = distance_transform_edt(np.pad(defect.mask, 1, mode="edge"))[1:-1, 1:-1]
        out.append(np.argwhere(depth >= 0.9 * depth.max()))
    return np.concatenate(out) if out else np.empty((0, 2), np.intp)
