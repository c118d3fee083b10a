"""Data sets behind one interface: images of a group, each with its truth in one convention.

Groups: ``own`` (this project's simulator), ``sim_b`` (simulations of an independent forward model), ``real`` and
``real2`` (experimental micrographs with masks drawn by hand). The last three are read from a folder that is not part
of the repository and are left out where it is absent.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image as Picture
from scipy import ndimage

import napari_hrstem_defects as hd
from napari_hrstem_defects.simulation import SimulatedMicrograph
from napari_hrstem_defects.simulation.sets import sample
from napari_hrstem_defects.simulation.truth import BORDER_PERIODS

Mask = NDArray[np.bool_]

GROUPS = ("own", "sim_b", "real", "real2")
PARTS = ("tuning", "test")
#: Values of a truth.
CRYSTAL, DEFECT, AMORPHOUS, INTERFACE, IGNORED = 0, 1, 2, 3, 255
#: Where the experimental images usually are: beside the checkout.
DEFAULT_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"

#: Part → seed and number of the simulated micrographs. Parameters may be chosen by looking at the tuning part only.
OWN_SETS = {"tuning": (1, 60), "test": (2027202, 120)}
#: Goes into the hash that divides the sets of files: the first number that divides the intact and the defective images
#: of every group about evenly.
SPLIT = "6"
#: A second grain may be called the reference where it and the rest both have at least this share of the image.
LARGE_SHARE = 0.25
#: The same of the masks of ``real2`` (its own rule).
LARGE_SHARE_REAL2 = 0.15
#: Lattice constants in nm of the materials of ``sim_b``.
LATTICE_NM = {
    "Si": 0.5431,
    "Ge": 0.56579,
    "GaAs": 0.56533,
    "InP": 0.58687,
    "InAs": 0.60583,
    "GaP": 0.54505,
    "GaSb": 0.60959,
    "InGaAs": 0.58687,
}
#: Tolerance around every border of a symmetry defect and margin of false area, in lattice constants (``sim_b``).
TOLERANCE, MARGIN = 0.6, 1.5

_LAMELLAE = ("stacking fault lamella", "twin lamella")
_GRAINS = ("second grain", "inversion domain", *_LAMELLAE)
_POINTS = ("vacancy", "interstitial", "substitution")


@dataclass(frozen=True, eq=False)
class Target:
    """One defect that should be found: its kind, bounding box and mask inside it."""

    kind: str
    box: tuple[slice, slice]
    mask: Mask


@dataclass(frozen=True, eq=False)
class Truth:
    """What is true about one frame, seen from one reference grain.

    Attributes
    ----------
    labels : uint8 array (y, x)
        0 crystal, 1 symmetry defect (with it any other grain), 2 amorphous or vacuum, 3 interface that is no defect,
        255 not scored.
    other : bool array (y, x)
        The part of label 1 that is another grain or phase: found as well by a domain of its own.
    targets : tuple of Target
    tolerance_px : float
        Pixels of labels 0 and 1 within this distance of a border of label 1 are not scored.
    margin_px : float
        False area is counted further than this from labels 1 and 2.
    reach_px : float
        A target is found if something is marked within this distance of it.
    either_label : bool
        Whether a mark of label 2 counts as found as well (masks drawn by hand).
    """

    labels: NDArray[np.uint8]
    other: Mask
    targets: tuple[Target, ...] = ()
    tolerance_px: float = 0.0
    margin_px: float = 0.0
    reach_px: float = 0.0
    either_label: bool = False

    @cached_property
    def scored(self) -> Mask:
        """Where Dice and AUROC of label 1 are computed."""
        defect = self.labels == DEFECT
        scored = (self.labels != IGNORED) & (self.labels != INTERFACE)
        if self.tolerance_px and defect.any():
            outside, inside = distance_to(defect), ndimage.distance_transform_edt(defect)
            scored &= ~((outside > 0) & (outside <= self.tolerance_px))
            scored &= ~((inside > 0) & (inside <= self.tolerance_px))
        return scored

    @cached_property
    def clear(self) -> Mask:
        """Crystal further than `margin_px` from any defect."""
        away = distance_to((self.labels == DEFECT) | (self.labels == AMORPHOUS)) > self.margin_px
        return (self.labels == CRYSTAL) & away


@dataclass(frozen=True, eq=False)
class Sample:
    """A loaded image.

    Attributes
    ----------
    frames : tuple of (Micrograph, tuple of Truth)
        One entry a frame of a series; several truths where either of two grains may be the reference.
    content : str
        What the image holds; ``"perfect"`` if nothing.
    extent : str
        ``"core"`` or ``"point"`` if there are dislocation cores or point defects only, whose mask is nearly all
        border so that Dice says little; otherwise empty.
    """

    frames: tuple[tuple[hd.Micrograph, tuple[Truth, ...]], ...]
    content: str = ""
    extent: str = ""


@dataclass(frozen=True)
class Image:
    """One entry of a data set.

    Attributes
    ----------
    name, group, part : str
    source : str
        Images of the same source (copies, crops, views of one specimen) are one image as evidence and share a part.
    load : callable
        Reads or simulates it; returns a Sample.
    """

    name: str
    group: str
    part: str
    source: str
    load: Callable[[], Sample]


def images(
    groups: tuple[str, ...] = GROUPS,
    part: str = "all",
    *,
    data: Path = DEFAULT_DATA,
    limit: int | None = None,
) -> list[Image]:
    """List the images of some groups.

    Parameters
    ----------
    groups : tuple of str
        Some of `GROUPS`; those whose folder is absent contribute nothing.
    part : {"tuning", "test", "all"}
    data : Path
        Folder with ``sim_b``, ``real`` and ``real2``.
    limit : int, optional
        Most images of each group and part.

    Returns
    -------
    list of Image
        Those of sets of files in the order of a hash, so that the first few are a fair selection.
    """
    listing: dict[str, Callable[[], list[Image]]] = {
        "own": _own,
        "sim_b": partial(_sim_b, data / "sim_b"),
        "real": partial(_real, data / "real"),
        "real2": partial(_real2, data / "real2"),
    }
    found = []
    for group in groups:
        members = listing[group]()
        for wanted in PARTS if part == "all" else (part,):
            found += [image for image in members if image.part == wanted][:limit]
    return found


def part_of(source: str) -> str:
    """Part of a source of the sets of files: half of them are for tuning.

    It follows from the name alone, so that adding images moves none.
    """
    return PARTS[_hash(source)[0] % 2]


def _hash(name: str) -> bytes:
    return hashlib.sha256(f"{SPLIT} {name}".encode()).digest()


def _listed(
    group: str, loads: Mapping[str, Callable[[], Sample]], source: Callable[[str], str]
) -> list[Image]:
    names = sorted(loads, key=lambda name: _hash(name)[::-1])
    return [Image(name, group, part_of(source(name)), source(name), loads[name]) for name in names]


def distance_to(mask: Mask) -> NDArray[np.float64]:
    """Distance in px of every pixel to a mask; infinite if the mask is empty."""
    if not mask.any():
        return np.full(mask.shape, np.inf)
    return np.asarray(ndimage.distance_transform_edt(~mask))


# -- own simulations --------------------------------------------------------------------------------------------


def _own() -> list[Image]:
    found = []
    for part, (seed, count) in OWN_SETS.items():
        for index in range(count):
            name = f"{seed}-{index:04d}"
            found.append(Image(name, "own", part, name, partial(_load_own, index, seed)))
    return found


def _load_own(index: int, seed: int) -> Sample:
    return simulated(sample(index, seed, films=True))


def simulated(sim: SimulatedMicrograph) -> Sample:
    """Sample of a simulated micrograph; borders that the simulator does not want scored are 255."""
    kinds = {defect.kind for defect in sim.defects if defect.label == DEFECT}
    extent = ""
    if kinds:
        extent = "point" if kinds <= {*_POINTS} else "core" if kinds <= {*_POINTS, "dislocation"} else ""
    content = " + ".join(sim.description["parameters"]["defects"]) or "perfect"
    return Sample(((sim.micrograph, _own_truths(sim)),), content, extent)


def _own_truths(sim: SimulatedMicrograph) -> tuple[Truth, ...]:
    """The truth as simulated and, of two large grains, the same seen from the other one."""
    period = float(sim.period_px)

    def truth(labels: NDArray[np.uint8], ignore: Mask, targets: tuple[Target, ...]) -> Truth:
        scored = np.where(ignore, np.uint8(IGNORED), labels)
        return Truth(scored, nowhere, targets, margin_px=period, reach_px=period)

    nowhere = np.zeros(sim.labels.shape, bool)
    targets = tuple(
        _target(defect.kind, defect.mask) for defect in sim.defects if defect.label in (DEFECT, AMORPHOUS)
    )
    first = truth(sim.labels, sim.ignore, targets)
    grains = [defect for defect in sim.defects if defect.kind in _GRAINS]
    if len(grains) != 1:
        return (first,)
    # A lamella has no domain of its own in the truth; its mask says where it is.
    inside = grains[0].mask if grains[0].kind in _LAMELLAE else sim.domains > 0
    if not LARGE_SHARE <= inside.mean() <= 1 - LARGE_SHARE:
        return (first,)
    walls = nowhere.copy()
    for defect in sim.defects:
        if defect.label == DEFECT and defect not in grains:
            walls |= defect.mask
    labels = (~inside | walls).astype(np.uint8)
    labels[sim.labels == AMORPHOUS] = AMORPHOUS
    # The second view has borders where the first has none: its own are left out as the simulator leaves out those
    # of the first.
    border = distance_to(labels > 0) + ndimage.distance_transform_edt(labels > 0) <= BORDER_PERIODS * period
    swapped = tuple(_target(target.kind, ~inside) if target.kind in _GRAINS else target for target in targets)
    return first, truth(labels, sim.ignore | border, swapped)


def _target(kind: str, mask: Mask) -> Target:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    return Target(kind, box, mask[box].copy())


def _components(mask: Mask) -> tuple[Target, ...]:
    numbered, _ = ndimage.label(mask)
    boxes = ndimage.find_objects(numbered)
    return tuple(Target("defect", box, numbered[box] == k + 1) for k, box in enumerate(boxes))


# -- independent simulations ------------------------------------------------------------------------------------


def _sim_b(folder: Path) -> list[Image]:
    loads = {path.stem: partial(_load_sim_b, path) for path in folder.glob("*.json")}
    return _listed("sim_b", loads, lambda name: name)


def _load_sim_b(description: Path) -> Sample:
    about = json.loads(description.read_text("utf-8"))
    folder = description.parent
    path = next(
        p for p in (folder / f"{description.stem}{end}" for end in (".tif", ".ome.tif")) if p.is_file()
    )
    constant_px = LATTICE_NM[about["material"].split(" + ")[-1]] / about["pixel_size_nm"]
    files = about["label_files"]
    views = [_read_mask(folder / files[key]) for key in ("main", "swap") if key in files]
    micrograph = hd.read(path)
    frames = list(micrograph) if micrograph.is_stack else [micrograph]
    stacks = [view if view.ndim == 3 else view[np.newaxis] for view in views]
    truths = [tuple(tolerant(view[k], constant_px) for view in stacks) for k in range(len(frames))]
    content = "perfect" if about["defect_free"] else "; ".join(about["defects"] or about["notes"])
    return Sample(tuple(zip(frames, truths, strict=True)), content)


def tolerant(labels: NDArray[np.uint8], constant_px: float) -> Truth:
    """Truth that is not scored within a tolerance of its borders, a share of the lattice constant."""
    tolerance = TOLERANCE * constant_px
    return Truth(
        labels,
        np.zeros(labels.shape, bool),
        _components(labels == DEFECT),
        tolerance_px=tolerance,
        margin_px=MARGIN / TOLERANCE * tolerance,
        reach_px=tolerance,
    )


def _read_mask(path: Path) -> NDArray[np.uint8]:
    if path.suffix == ".tif":
        return np.asarray(tifffile.imread(path))
    with Picture.open(path) as picture:
        return np.asarray(picture)


# -- experimental images ----------------------------------------------------------------------------------------


def _real(folder: Path) -> list[Image]:
    loads = {}
    for mask in folder.glob("*_mask.png"):
        name = mask.name.removesuffix("_mask.png")
        loads[name] = partial(_load_real, folder / f"{name}.tif", mask)
    return _listed("real", loads, lambda name: name)


def _load_real(path: Path, mask: Path) -> Sample:
    drawn = _read_mask(mask)
    return _drawn(path, drawn, [0, 2] if (drawn == 2).any() else [0], 0.0)


def _real2(folder: Path) -> list[Image]:
    loads = {}
    for mask in (folder / "masks").glob("*.png"):
        path = next(path for path in sorted(folder.glob(f"{mask.stem}.*")) if path.is_file())
        loads[mask.stem] = partial(_load_real2, path, mask)
    # Files with the same first word are views of one specimen or of one series.
    return _listed("real2", loads, lambda name: name.split("_")[0])


def _load_real2(path: Path, mask: Path) -> Sample:
    drawn = _read_mask(mask)
    two = (drawn == 2).mean() > LARGE_SHARE_REAL2 and (drawn == 0).any()
    return _drawn(path, drawn, [0, 2] if two else [0], min(drawn.shape) / 16)


def _drawn(path: Path, drawn: NDArray[np.uint8], references: list[int], margin_px: float) -> Sample:
    """Sample of a mask with 0 and 2 two grains, 1 defect, 3 amorphous or vacuum, 255 not scored."""
    micrograph = hd.read(path)
    frame = next(iter(micrograph)) if micrograph.is_stack else micrograph
    truths = tuple(seen_from(drawn, reference, margin_px) for reference in references)
    present: dict[Any, str] = {1: "defect", 2: "other grain or phase", 3: "amorphous or vacuum"}
    content = " + ".join(word for value, word in present.items() if (drawn == value).any())
    return Sample(((frame, truths),), content or "perfect")


def seen_from(drawn: NDArray[np.uint8], reference: int, margin_px: float = 0.0) -> Truth:
    """Truth of a drawn mask with one of its grains, 0 or 2, as the reference."""
    labels = np.full(drawn.shape, DEFECT, np.uint8)
    for value, label in ((reference, CRYSTAL), (3, AMORPHOUS), (IGNORED, IGNORED)):
        labels[drawn == value] = label
    other = drawn == (2 if reference == 0 else 0)
    return Truth(labels, other, _components(drawn == 1), margin_px=margin_px, either_label=True)
