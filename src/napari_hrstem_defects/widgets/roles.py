"""Role of a layer: kept in its metadata, so that it is found whatever its name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari.layers import Layer

#: Our entry in ``layer.metadata``; what others keep there is left alone.
KEY = "hrstem_defects"


class Role(StrEnum):
    """Use of a layer, from the bottom of the layer list to the top."""

    PREPROCESSED = "preprocessed"
    SCORES = "scores"
    VARIANCE = "variance"
    BOUNDARIES = "boundaries"
    SEVERITY = "severity"
    NOT_ASSESSED = "not_assessed"
    AMORPHOUS = "amorphous"
    CLASS_SCORES = "class_scores"
    CLASS_VOTES = "class_votes"
    CLASSES = "classes"
    PATCHES = "patches"
    LATTICES = "lattices"
    LABELS_BEFORE = "labels_before"
    LABELS = "labels"
    REGIONS = "regions"
    HOVERED = "hovered"
    LATTICE_PATCHES = "lattice_patches"
    BEST_PATCH = "best_patch"


#: Layers whose contents a person may paint.
PAINTABLE = (Role.PATCHES, Role.LABELS, Role.CLASSES)
#: Outputs that are points, in pixels of the image.
POINTS = (Role.BEST_PATCH, Role.LATTICE_PATCHES)
#: Outputs with one layer for each class of a scan.
PARTED = (Role.CLASS_SCORES, Role.CLASS_VOTES)


def entry(layer: Layer) -> Mapping[str, Any]:
    """Our entry in a layer's metadata, empty if there is none."""
    found = layer.metadata.get(KEY)
    return found if isinstance(found, dict) else {}


def tag(layer: Layer, **values: Any) -> None:
    """Merge values into our entry, in place: assigning ``layer.metadata`` would drop what others stored."""
    layer.metadata[KEY] = {**entry(layer), **values}


def role_of(layer: Layer) -> Role | None:
    """Role of a layer; None if it is not one of our outputs."""
    value = entry(layer).get("role")
    return Role(value) if value in set(Role) else None


def part_of(layer: Layer) -> str:
    """Which of several layers of a role it is; empty where there is one."""
    return str(entry(layer).get("part", ""))


def outputs_of(layers: Iterable[Layer], source: str) -> list[Layer]:
    """Our outputs that belong to the image with the id `source`, bottom first."""
    return [layer for layer in layers if role_of(layer) is not None and entry(layer).get("source") == source]


def by_id(layers: Iterable[Layer], unique_id: object) -> Any:
    """The layer with a ``unique_id``, None if it was deleted."""
    return next((layer for layer in layers if layer.unique_id == unique_id), None)
