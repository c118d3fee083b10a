"""Labelled data for training: images with masks, and sets of patches."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.core.errors import ModelError
from napari_hrstem_defects.core.metrics import IGNORE, PATCH_CLASSES

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
    names : tuple of str
        What to call each patch in messages; empty: by number.
    shares : float array (n,) or None
        Share of the labelled area that is marked as defect, where known.
    """

    pixels: NDArray[np.float32]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    source: NDArray[np.str_]
    corners: NDArray[np.float64] | None = None
    names: tuple[str, ...] = ()
    shares: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        count = len(self.pixels)
        if self.pixels.ndim != 3 or self.pixels.shape[1] != self.pixels.shape[2]:
            raise ValueError(f"pixels has shape {self.pixels.shape}, expected (n, edge, edge)")
        if self.labels.shape != (count,) or self.source.shape != (count,):
            raise ValueError(f"labels and source must hold {count} values, one a patch")
        if self.corners is not None and self.corners.shape != (count, 2):
            raise ValueError(f"corners has shape {self.corners.shape}, expected {(count, 2)}")

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
        index = np.asarray(chosen)
        index = np.flatnonzero(index) if index.dtype == bool else index.astype(np.intp)
        return replace(
            self,
            pixels=self.pixels[index],
            labels=self.labels[index],
            source=self.source[index],
            corners=None if self.corners is None else self.corners[index],
            names=tuple(self.names[i] for i in index) if self.names else (),
            shares=None if self.shares is None else self.shares[index],
        )

    @cached_property
    def sha256(self) -> str:
        """Of pixels, labels and classes."""
        return _digest(self.pixels, self.labels, np.array(self.classes))


def images_sha256(images: Sequence[LabelledImage]) -> str:
    """SHA-256 of a set of labelled images."""
    return _digest(*(array for image in images for array in (image.pixels, image.mask)))


def join(sets: Sequence[PatchSet]) -> PatchSet:
    """One after the other; they must have the same classes and edge."""
    first = sets[0]
    if any(part.classes != first.classes or part.edge != first.edge for part in sets):
        raise ValueError("sets have different classes or edges")
    corners = [part.corners for part in sets if part.corners is not None]
    shares = [part.shares for part in sets if part.shares is not None]
    return PatchSet(
        np.concatenate([part.pixels for part in sets]),
        np.concatenate([part.labels for part in sets]),
        first.classes,
        np.concatenate([part.source for part in sets]),
        np.concatenate(corners) if len(corners) == len(sets) else None,
        tuple(name for part in sets for name in part.names) if all(part.names for part in sets) else (),
        np.concatenate(shares) if len(shares) == len(sets) else None,
    )


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
                f"Which of the classes {', '.join(found)} is the clean one cannot be told from their names; name it "
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
