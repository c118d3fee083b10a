"""Labelled data for training: images with masks from label images or polygons, and sets of patches."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_hrstem_defects.core.metrics import IGNORE, PATCH_CLASSES
from napari_hrstem_defects.errors import ModelError

#: Names of classes that mean "nothing wrong here", lower case.
CLEAN_NAMES = (
    "non-defective",
    "non_defective",
    "bulk",
    "clean",
    "crystal",
    "perfect",
    "pristine",
    "background",
)
#: Labels of polygons, lower case, and what they mean in a mask. B, S and A are those of Dennler et al. (2021).
POLYGON_LABELS: Mapping[str, int] = {
    **dict.fromkeys(("b", "crystal", "bulk", "clean", "background", "non-defective", "non_defective"), 0),
    **dict.fromkeys(("a", "amorphous", "blurred", "vacuum"), 2),
    **dict.fromkeys(("ignore", "unlabelled", "unlabeled"), IGNORE),
}
#: What any other label means.
_DEFECT = 1
# So many grey values between black and white are the edges of a smoothed picture.
_FADING = 8


@dataclass(frozen=True, eq=False)
class LabelledImage:
    """One image and what a person or a simulation marked in it.

    Attributes
    ----------
    name : str
    pixels : float32 array (y, x)
        0...1.
    mask : uint8 array (y, x)
        0 crystal, 255 not labelled, anything else a defect.
    pixel_size_nm : float or None
    group : str
        Images of the same group (frames of a series, parts of an image) show the same specimen; empty: `name`.
    origin : str
        SHA-256 of the whole image that this is a part of; empty: it is whole.
    simulated : bool
        Made by a simulation, and so certainly no copy of another.
    secondary : {"defective", "clean"}
        What a patch wholly inside a domain of another symmetry (label 1) counts as.
    """

    name: str
    pixels: NDArray[np.float32]
    mask: NDArray[np.uint8]
    pixel_size_nm: float | None = None
    group: str = ""
    origin: str = ""
    simulated: bool = False
    secondary: str = "defective"

    def __post_init__(self) -> None:
        if self.pixels.ndim != 2 or self.pixels.shape != self.mask.shape:
            raise ModelError(
                f"{self.name}: the labels have shape {self.mask.shape}, the image has {self.pixels.shape}; "
                "label the same field of view."
            )

        if not self.group:
            object.__setattr__(self, "group", self.name)

    @property
    def has_defects(self) -> bool:
        """Whether anything is marked."""
        return bool(((self.mask > 0) & (self.mask != IGNORE)).any())

    @cached_property
    def sha256(self) -> str:
        """Of the pixels of the whole image, to recognise it again."""
        return self.origin or _digest(self.pixels)


@dataclass(frozen=True, eq=False)
class PatchSet:
    """Square patches with their classes.

    Attributes
    ----------
    pixels : float32 array (n, edge, edge)
        0...1.
    labels : int64 array (n,)
        Number of the class; -1 for ambivalent patches, which only evaluations hold.
    classes : tuple of str
        The first is the clean one.
    source : array of str (n,)
        Image that each patch was cut from.
    corners : float64 array (n, 2) or None
        Top-left corner ``(y, x)`` in px of the source; None where unknown, or where patches were rotated.
    shares : float array (n,) or None
        Share of the labelled area that is marked as defect, where known.
    """

    pixels: NDArray[np.float32]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    source: NDArray[np.str_]
    corners: NDArray[np.float64] | None = None
    shares: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        if self.pixels.ndim != 3 or self.pixels.shape[1] != self.pixels.shape[2]:
            raise ValueError(f"pixels has shape {self.pixels.shape}, expected (n, edge, edge)")
        if {len(column) for column in self._columns().values()} != {len(self.pixels)}:
            raise ValueError("all columns must hold one value a patch")

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def edge(self) -> int:
        """Edge of a patch in px."""
        return int(self.pixels.shape[1])

    @property
    def counts(self) -> dict[str, int]:
        """Patches of each class."""
        return {name: int(np.count_nonzero(self.labels == k)) for k, name in enumerate(self.classes)}

    @property
    def marks(self) -> list[str]:
        """For each patch a short digest of its pixels, to recognise it again."""
        return [_digest(patch)[:16] for patch in self.pixels]

    def take(self, chosen: Sequence[int] | NDArray[np.intp] | NDArray[np.bool_]) -> PatchSet:
        """Only some patches."""
        index = np.asarray(chosen, None if len(chosen) else np.intp)
        columns: dict[str, Any] = {name: column[index] for name, column in self._columns().items()}
        return replace(self, **columns)

    def _columns(self) -> dict[str, NDArray[Any]]:
        """What is known of each patch."""
        names = ("pixels", "labels", "source", "corners", "shares")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    @cached_property
    def sha256(self) -> str:
        """Of pixels, labels and classes."""
        return _digest(self.pixels, self.labels, np.array(self.classes))


def mask_of_labels(labels: ArrayLike, shape: tuple[int, int], name: str) -> NDArray[np.uint8]:
    """Mask of a label image, as napari's Labels layers hold it.

    Parameters
    ----------
    labels : int or bool array
        0 is crystal, 255 is left out, everything else a defect; of black and white alone, white is the defect. Empty
        axes, and a last axis of equal colour channels, are dropped.
    shape : tuple of int
        Shape of the image ``(y, x)``.
    name : str
        What to call it in messages.

    Returns
    -------
    uint8 array (y, x)
        0, 1, 2 or 255; labels above 2 become 1.

    Raises
    ------
    ModelError
        If it is no label image or does not fit the image.
    """
    array = np.asarray(labels)
    if array.ndim == 3 and array.shape[-1] in (3, 4) and array.shape[:2] == shape:
        if (array[..., :3] != array[..., :1]).any():
            raise ModelError(
                f"{name}: the labels are a coloured picture; save them as a label image of whole numbers or in black "
                "and white."
            )
        array = array[..., 0]
    array = array.reshape([n for n in array.shape if n != 1] or [1])
    if array.shape != shape:
        raise ModelError(
            f"{name}: the labels have shape {array.shape}, the image has {shape}; label the same field of view."
        )
    if array.dtype.kind not in "biu":
        if not (array.dtype.kind == "f" and np.array_equal(array, np.rint(array))):
            raise ModelError(
                f"{name}: a label image holds whole numbers, not {array.dtype}; check that it is the mask."
            )
        array = array.astype(np.int64)
    if array.size and array.min() < 0:
        raise ModelError(f"{name}: a label image holds no negative numbers; check that it is the mask.")
    out = np.full(shape, _DEFECT, np.uint8)
    for value in (0, 2, IGNORE):
        out[array == value] = value
    values = np.unique(array).tolist()
    if _is_smoothed(array, values):
        raise ModelError(
            f"{name}: the labels look like a picture with soft edges ({len(values)} grey values), of which the white "
            f"inside ({IGNORE}) would mean left out; save them in black and white, without smoothing."
        )
    # A picture of a mask: black and white, where white does not mean left out.
    if values == [0, IGNORE]:
        out[array == IGNORE] = _DEFECT
    return out


def _is_smoothed(array: NDArray[Any], values: list[int]) -> bool:
    """Whether it is a white mask whose edges fade; labels of many defects are numbered without gaps."""
    between = [value for value in values if 0 < value < IGNORE]
    return (
        values[-1:] == [IGNORE]
        and len(between) >= _FADING
        and between != list(range(1, len(between) + 1))
        and bool(np.count_nonzero(array == IGNORE) > np.count_nonzero(array) / 2)
    )


def mask_of_polygons(description: Any, shape: tuple[int, int], name: str) -> NDArray[np.uint8]:
    """Mask drawn as polygons, as labelme writes them.

    Parameters
    ----------
    description : dict
        ``shapes``: a list of ``{"label", "points": [[x, y], ...], "shape_type"}``; the type is ``polygon`` (the
        default), ``rectangle`` (two corners) or ``circle`` (centre and a point on it). ``imageHeight`` and
        ``imageWidth``, where given, must be those of the image.
    shape : tuple of int
        Shape of the image ``(y, x)``.
    name : str
        What to call it in messages.

    Returns
    -------
    uint8 array (y, x)
        0 where nothing or crystal is drawn, see `POLYGON_LABELS`; a defect inside a crystal stays one, whatever was
        drawn first.

    Raises
    ------
    ModelError
        If the description is not of this form or of another image.
    """
    from skimage.draw import disk, polygon

    if not isinstance(description, dict) or not isinstance(description.get("shapes"), list):
        raise ModelError(
            f"{name}: these are no labelme polygons (there is no list `shapes`); export them again."
        )
    size = description.get("imageHeight"), description.get("imageWidth")
    if None not in size and size != shape:
        raise ModelError(
            f"{name}: the polygons were drawn on an image of {size[0]} × {size[1]} px, this one has {shape[0]} × "
            f"{shape[1]}; label the same field of view."
        )
    drawn: list[tuple[int, NDArray[np.intp], NDArray[np.intp]]] = []
    for item in description["shapes"]:
        try:
            label, kind = str(item["label"]), item.get("shape_type") or "polygon"
            points = np.asarray(item["points"], np.float64)
            if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
                raise ValueError
            x, y = points.T
            if kind == "polygon" and len(points) >= 3:
                rows, columns = polygon(y, x, shape)
            elif kind == "rectangle" and len(points) == 2:
                rows, columns = polygon(y[[0, 0, 1, 1]], x[[0, 1, 1, 0]], shape)
            elif kind == "circle" and len(points) == 2:
                rows, columns = disk((y[0], x[0]), float(np.hypot(*(points[1] - points[0]))), shape=shape)
            else:
                raise ValueError
        except (AttributeError, KeyError, TypeError, ValueError):
            raise ModelError(
                f"{name}: one of its shapes is no polygon, rectangle or circle with a label; draw areas."
            ) from None
        drawn.append((POLYGON_LABELS.get(label.strip().lower(), _DEFECT), rows, columns))
    mask = np.zeros(shape, np.uint8)
    # Crystal below, defects above it, what is left out on top.
    for value, rows, columns in sorted(drawn, key=lambda item: item[0]):
        mask[rows, columns] = value
    return mask


def images_sha256(images: Sequence[LabelledImage]) -> str:
    """SHA-256 of a set of labelled images."""
    return _digest(*(array for image in images for array in (image.pixels, image.mask)))


def join(sets: Sequence[PatchSet]) -> PatchSet:
    """One after the other; of all of them the same must be known, and they must have the same classes and edge."""
    first = sets[0]
    if any(part.classes != first.classes or part.edge != first.edge for part in sets):
        raise ValueError("sets have different classes or edges")
    columns: Any = {name: np.concatenate([getattr(part, name) for part in sets]) for name in first._columns()}
    return replace(first, **columns)


def ordered_classes(names: Sequence[str], clean: str | None = None) -> tuple[str, ...]:
    """Names of classes, the clean one first, the others in alphabetical order.

    Parameters
    ----------
    names : sequence of str
        As they occur.
    clean : str, optional
        Which is the clean one; default: the one whose name says so ("Bulk", "non-defective", ...).

    Raises
    ------
    ModelError
        If there is only one class, or none is clean.
    """
    found = sorted(set(names))
    hidden = [name for name in found if not name.isprintable()]
    if hidden:
        raise ModelError(f"The name of the class {hidden[0]!r} holds control characters; rename it.")
    if len(found) < 2:
        raise ModelError(
            f"There is only one class ({', '.join(found) or 'none'}) in the labels; two or more are needed, clean "
            "patches among them."
        )
    if set(found) == set(PATCH_CLASSES) and clean is None:
        return PATCH_CLASSES
    if clean is None:
        likely = [name for name in found if name.lower() in CLEAN_NAMES]
        if len(likely) != 1:
            raise ModelError(
                f"Which of the classes {', '.join(found)} is the clean one does not follow from their names; name it "
                "with --clean."
            )
        clean = likely[0]
    if clean not in found:
        raise ModelError(
            f"There is no class {clean!r} in the labels; name one of {', '.join(found)} with --clean."
        )
    return (clean, *(name for name in found if name != clean))


def _digest(*arrays: NDArray[np.generic]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data if array.dtype.kind != "U" else array.tobytes())
    return digest.hexdigest()
