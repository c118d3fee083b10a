"""What a trained classifier expects and what is known about it: the part of a model file that needs no Keras."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from napari_hrstem_defects.errors import ModelError
from napari_hrstem_defects.models.kinds import KINDS
from napari_hrstem_defects.models.options import LEAST_PATCH_PX, MOST_PATCH_PX, first_problem

#: Version of the model file; raised when a file of an older version no longer means the same.
FORMAT_VERSION = 2


def _must_be(allowed: str, test: Callable[[Any], Any]) -> AfterValidator:
    """Refuse values that fail a test."""

    def check(value: Any) -> Any:
        if not test(value):
            raise ValueError(allowed)
        return value

    return AfterValidator(check)


class _Preprocessing(BaseModel):
    filter: Literal["none", "log"] = "none"
    scope: Literal["frame", "patch"] = "frame"


class _Image(BaseModel):
    sha256: str
    part: str


class _Training(BaseModel):
    images: list[_Image] = []
    patches: list[str] = []
    extra: dict[str, Any] = {}


class _Tables(BaseModel):
    """What this program relies on in the tables of a contract, which may hold anything else."""

    preprocessing: _Preprocessing = _Preprocessing()
    training: _Training = _Training()


_Text = Annotated[str, _must_be("text without control characters", str.isprintable)]
_Name = Annotated[_Text, _must_be("a name", str.strip)]
# No pixel size in nm and no period in px is as large.
_Length = Annotated[float, Field(gt=0, lt=1e6)]
_Range = Annotated[
    tuple[_Length, _Length],
    _must_be("a smallest and a largest value", lambda ends: ends[0] <= ends[1]),
]
_Classes = Annotated[
    tuple[_Name, ...],
    _must_be("two or more different names", lambda names: len(set(names)) == len(names) >= 2),
]


@dataclass(frozen=True, config=ConfigDict(strict=True, extra="forbid"))
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
        Settings of the training, and ``images`` or ``patches`` that evaluations recognise its data by.
    seed : int
    software : mapping of str to str
        Versions that it was trained with.
    created : str
        ISO date and time, UTC.
    """

    kind: Annotated[str, _must_be(f"one of {', '.join(KINDS)}", KINDS.__contains__)]
    name: _Name
    classes: _Classes
    patch_px: Annotated[int, Field(ge=LEAST_PATCH_PX, le=MOST_PATCH_PX)]
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    pixel_size_nm: _Range | None = None
    period_px: _Range | None = None
    data_sha256: _Text = ""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    software: Mapping[str, str] = field(default_factory=dict)
    created: _Text = ""

    def to_json(self) -> str:
        """Text for the model file."""
        values = {"format": FORMAT_VERSION, **dataclasses.asdict(self)}
        return json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

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
        if not isinstance(values, dict):
            raise ModelError("its description is no table")
        version = values.pop("format", None)
        if version != FORMAT_VERSION:
            raise ModelError(f"it has format version {version!r}, this program reads {FORMAT_VERSION}")
        try:
            _Tables.model_validate(values)
            return TypeAdapter(cls).validate_json(json.dumps(values))
        except ValidationError as error:
            raise ModelError(f"its {first_problem(error)}") from error
