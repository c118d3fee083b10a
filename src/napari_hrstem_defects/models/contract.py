"""What a trained classifier expects and what is known about it: the part of a model file that needs no Keras."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from napari_hrstem_defects.core.errors import ModelError
from napari_hrstem_defects.models.options import LEAST_PATCH_PX, MOST_PATCH_PX

#: Version of the model file; raised when a file of an older version no longer means the same.
FORMAT_VERSION = 2
#: Kinds of classifiers.
KINDS = ("vgg16", "compact", "fft-ensemble")
# No pixel size in nm and no period in px is as large.
_MOST_SCALE = 1e6


@dataclass(frozen=True)
class Contract:
    """Input contract and history of a trained classifier.

    Attributes
    ----------
    kind : {"vgg16", "compact", "fft-ensemble"}
    name : str
        What people call it.
    classes : tuple of str
        Names of the classes in the order of the outputs; of two, the second is the positive one.
    patch_px : int
        Edge of a patch in pixels.
    preprocessing : mapping
        How a patch is made ready; what the keys mean is the kind's business.
    pixel_size_nm : tuple of float or None
        Smallest and largest pixel size of the training images, where all were known.
    period_px : tuple of float or None
        Smallest and largest lattice period of the training patches in px, where known.
    data_sha256 : str
        SHA-256 of the training data.
    metrics : mapping
        What it scored on data that it was not trained on.
    training : mapping
        Settings of the training.
    seed : int
    software : mapping of str to str
        Versions that it was trained with.
    created : str
        ISO date and time, UTC.
    """

    kind: str
    name: str
    classes: tuple[str, ...]
    patch_px: int
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    pixel_size_nm: tuple[float, float] | None = None
    period_px: tuple[float, float] | None = None
    data_sha256: str = ""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    software: Mapping[str, str] = field(default_factory=dict)
    created: str = ""

    def __post_init__(self) -> None:
        _need(isinstance(self.kind, str) and self.kind in KINDS, f"the kind is {self.kind!r}")
        _need(isinstance(self.name, str) and self.name.strip() != "", "it has no name")
        _need(self.name.isprintable(), "its name holds control characters")
        object.__setattr__(self, "classes", _strings(self.classes))
        _need(len(set(self.classes)) == len(self.classes) >= 2, "it does not name two or more classes")
        _need(
            type(self.patch_px) is int and LEAST_PATCH_PX <= self.patch_px <= MOST_PATCH_PX,
            f"the patch size is {self.patch_px!r}",
        )
        for name in ("pixel_size_nm", "period_px"):
            object.__setattr__(self, name, _range(getattr(self, name), name))
        for name in ("preprocessing", "metrics", "training", "software"):
            _need(isinstance(getattr(self, name), Mapping), f"{name} is no table")
        for name in ("data_sha256", "created"):
            text = getattr(self, name)
            _need(isinstance(text, str) and text.isprintable(), f"{name} is no text")
        _need(type(self.seed) is int, f"the seed is {self.seed!r}")
        _need(_listings(self.training), "its list of what it was trained on is damaged")

    def to_json(self) -> str:
        """Text for the model file."""
        return (
            json.dumps(
                {"format": FORMAT_VERSION, **dataclasses.asdict(self)},
                indent=2,
                ensure_ascii=False,
                allow_nan=False,
            )
            + "\n"
        )

    @classmethod
    def from_json(cls, text: str) -> Contract:
        """Read what :meth:`to_json` wrote.

        Raises
        ------
        ModelError
            If the text is damaged, of another version or does not fit together. The message goes into a sentence.
        """
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ModelError("its description is no JSON") from error
        _need(isinstance(values, dict), "its description is no table")
        version = values.pop("format", None)
        _need(
            version == FORMAT_VERSION,
            f"it has format version {version!r}, this program reads {FORMAT_VERSION}",
        )
        known = {item.name for item in dataclasses.fields(cls)}
        unknown, missing = sorted(values.keys() - known), sorted(known - values.keys())
        _need(not unknown, f"its description holds the unknown {', '.join(unknown)}")
        _need(not missing, f"its description lacks {', '.join(missing)}")
        return cls(**values)


def _need(condition: bool, problem: str) -> None:
    if not condition:
        raise ModelError(problem)


def _strings(values: Any) -> tuple[str, ...]:
    _need(
        isinstance(values, list | tuple)
        and all(isinstance(v, str) and v and v.isprintable() for v in values),
        "the names of its classes are no texts",
    )
    return tuple(values)


def _listings(training: Mapping[str, Any]) -> bool:
    """Whether the images and patches that a training names, if it does, are what evaluations look for."""
    images, patches = training.get("images", []), training.get("patches", [])
    return (
        isinstance(images, list)
        and all(
            isinstance(item, Mapping) and all(isinstance(item.get(key), str) for key in ("sha256", "part"))
            for item in images
        )
        and isinstance(patches, list)
        and all(isinstance(mark, str) for mark in patches)
    )


def _range(values: Any, name: str) -> tuple[float, float] | None:
    if values is None:
        return None
    _need(
        isinstance(values, list | tuple)
        and len(values) == 2
        and all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
        and 0 < values[0] <= values[1] < _MOST_SCALE,
        f"{name} is no range of lengths",
    )
    return float(values[0]), float(values[1])
