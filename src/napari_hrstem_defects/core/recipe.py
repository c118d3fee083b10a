"""The versioned recipe: all parameters of an analysis, one frozen model per step.

A :class:`Recipe` drives the widgets, the command line and the batch alike. Each parameter carries its documentation,
unit and limits (:data:`PARAMETERS`): front ends build tooltips, spin boxes and ``--set`` from them, and construction
checks values against them. Whatever does not fit raises a RecipeError of one sentence.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from napari_hrstem_defects.errors import RecipeError

#: Version of the JSON layout; raised when a file of an older version no longer means the same.
RECIPE_VERSION = 2

Eigenvectors = Literal["rows", "columns"]

#: Share of the crystal's lattice amplitude below which there is no crystal.
CRYSTAL_SHARE = 0.5


def _param(default: Any, doc: str, unit: str = "", *limits: float, **flags: bool) -> Any:
    """Describe a parameter.

    `limits` are minimum and maximum. `flags`: ``shown`` if it matters to most users (not folded away); ``advanced`` if
    choosing it needs knowledge of the method; ``one_image`` if it refers to places of one image only.
    """
    about: dict[str, Any] = {"unit": unit, "shown": False, "advanced": False, "one_image": False, **flags}
    minimum, maximum = limits or (None, None)
    return Field(default, description=doc, ge=minimum, le=maximum, json_schema_extra=about)


class _Params(BaseModel):
    """Parameters that are checked when constructed; text is converted to the type of the parameter."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def __init__(self, /, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise _refusal(type(self), error) from None

    @field_validator("*", mode="before")
    @classmethod
    def _bool_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation in (int, float):
            raise ValueError
        return value


class PreprocessParams(_Params):
    """Band-pass and contrast normalisation, tied to the lattice period."""

    px_per_period: float = _param(
        8.0, "the image is resampled to this many pixels per lattice period, never up", "px", 4, 32
    )
    band_low: float = _param(0.12, "standard deviation of the smoothing Gaussian", "periods", 0, 1)
    band_high: float = _param(
        0.8, "standard deviation of the Gaussian subtracted as background", "periods", 0.2, 5
    )
    contrast_window: float = _param(
        2.5, "standard deviation of the window in which the contrast is normalised", "periods", 0.5, 20
    )


class DomainParams(_Params):
    """Several lattices in one image."""

    max_domains: int = _param(
        8, "largest number of lattices; 1: the whole image is one lattice", "", 1, 100, shown=True
    )
    crystal: Literal["phases", "all", "reference"] = _param(
        "phases",
        "which lattices count as intact: the reference and second phases; all (only walls are defects); or the "
        "reference alone",
        shown=True,
    )
    merge: float = _param(
        0.12, "lattices whose autocorrelations differ by less are one domain", "cosine distance", 0, 2
    )
    thickness: float = _param(
        4.4, "a domain is thicker than this somewhere: twice as far as a window reaches", "periods", 0, 100
    )
    boundary_map: bool = _param(False, "also write the map of boundaries, which needs no reference")
    given: str = _param(
        "",
        "centres “y,x; y,x” of the model patches of further lattices, placed by hand",
        "px",
        one_image=True,
    )
    intact_at: str = _param(
        "", "lattices at these points “y,x; y,x” are intact, whatever `crystal` says", "px", one_image=True
    )
    defective_at: str = _param(
        "", "lattices at these points “y,x; y,x” are defects, whatever `crystal` says", "px", one_image=True
    )

    @field_validator("given", "intact_at", "defective_at")
    @classmethod
    def _points(cls, text: str, info: ValidationInfo) -> str:
        try:
            return points_text(points_of(text))
        except ValueError:
            raise RecipeError(
                f"domains.{info.field_name} must be points in px like “120,80; 300,95.5”, not {text!r}."
            ) from None


class ClassifyParams(_Params):
    """Which patches are defective."""

    patch_size: int = _param(
        0,
        "edge of a patch, at least 32; 0: what a trained classifier was made for, otherwise 128 px, more where the "
        "lattice is coarse, smaller on small images",
        "px",
        0,
        2048,
        shown=True,
    )
    classifier: str = _param(
        "screening", "screening (no training needed), or the name or file of a trained classifier", shown=True
    )
    probability: float = _param(0.5, "trained classifiers: a patch above this is defective", "", 0, 1)
    max_defect_area: float = _param(0.05, "a patch with more than this share marked is defective", "", 0, 1)


class BestPatchParams(_Params):
    """How the model patch is chosen."""

    depth: int = _param(10, "largest graph distance k in W(node)", "", 1, 100, advanced=True)


class VarianceParams(_Params):
    """Local variance; amorphous and beam-damaged areas."""

    window_px: int = _param(20, "edge of the window, at least", "px", 3, 512, shown=True)
    window_periods: float = _param(1.5, "edge of the window in periods, at least", "periods", 0, 20)
    fraction: float = _param(
        CRYSTAL_SHARE, "amorphous: lattice weaker than this share of the crystal's", "", 0, 1, shown=True
    )


class SymmetryParams(_Params):
    """Distance to the templates of the model patch."""

    kernel_periods: float = _param(
        1.5, "edge of the neighbourhood that is compared with the best patch", "periods", 0.5, 6, shown=True
    )
    variance_kept: float = _param(
        0.95, "share of the model's variance in its components", "", 0.5, 0.9999, advanced=True
    )
    max_components: int = _param(14, "largest number of components of the model", "", 1, 200, advanced=True)
    templates: int = _param(
        128, "neighbourhoods of the best patch that others are compared with", "", 1, 4096, advanced=True
    )
    smoothing: float = _param(
        0.4, "standard deviation of the smoothing of the squared distance", "periods", 0, 3
    )


class SegmentParams(_Params):
    """From severity and variance to labels."""

    false_marks: float = _param(
        0.05, "false marks expected in a clean image: smaller marks less", "per image", 1e-6, 10, shown=True
    )
    extent: float = _param(
        0.57, "a defect extends as far as severity exceeds this share of the threshold", "", 0, 1, shown=True
    )
    overlap: float = _param(
        0.075, "pixels below this share of the worst nearby only overlap a defect", "", 0, 0.95, advanced=True
    )
    min_area_periods: float = _param(0.5, "smaller marked areas are dropped", "periods²", 0, 1000, shown=True)


class PublishedParams(_Params):
    """Steps of Dennler et al. (2021), which the mode published takes in place of those from domains to segment."""

    filter: Literal["log", "dog", "none"] = _param(
        "log",
        "log: LoG and Gaussian (as published); dog: difference of Gaussians (their code); none",
        shown=True,
    )
    log_kernel: int = _param(19, "log: edge of the Laplacian-of-Gaussian kernel, odd", "px", 3, 101)
    gauss_kernel: int = _param(5, "log: edge of the Gaussian kernel that follows, odd", "px", 1, 101)
    dog_low: float = _param(2.0, "dog: standard deviation of the narrower Gaussian", "px", 0.1, 50)
    dog_high: float = _param(3.0, "dog: standard deviation of the wider Gaussian", "px", 0.1, 50)
    kernel_px: int = _param(7, "edge of the eigenfilters, odd", "px", 3, 31)
    features: Literal["energies", "responses"] = _param(
        "energies", "what is compared: filter responses, or their squares summed over a window", advanced=True
    )
    eigenvectors: Eigenvectors = _param(
        "rows", "of the matrix of eigenvectors; rows repeats an error of the published code", advanced=True
    )
    comparison: Literal["pixelwise", "distribution"] = _param(
        "pixelwise", "distance to the pixel at the same place in the model patch, or to all", advanced=True
    )
    energy_window: int = _param(16, "edge of the window of the energies", "px", 1, 128)
    window_px: int = _param(20, "edge of the window of the local variance", "px", 3, 512, shown=True)
    variance_sigma: float = _param(
        10.0, "standard deviation of the Gaussian over the local variance", "px", 0, 100
    )
    ratio: float = _param(1.2, "amorphous: variance below the least in the best patch / ratio", "", 1, 100)
    min_maximum: float = _param(
        90.0, "symmetry defects only if the severity exceeds this", "Mahalanobis distance", 0, 1e6, shown=True
    )
    always_filter: bool = _param(
        False, "severity and variance even where no patch is defective and the analysis ends", shown=True
    )
    gauss_sigma: float = _param(6.0, "standard deviation of the Gaussian before the threshold", "px", 0, 100)
    median_size: int = _param(19, "edge of the median filter after it", "px", 1, 101)


class Recipe(_Params):
    """All parameters of an analysis.

    ``Recipe()`` is the default, lattice-aware mode; :meth:`published` the pipeline of Dennler et al. (2021).

    Attributes
    ----------
    mode : {"lattice", "published"}
    preprocess, domains, classify, best_patch, variance, symmetry, segment
        Parameters of one step each; the names and limits are those of :meth:`parameters`.
    as_published
        Parameters of the published mode.

    Raises
    ------
    RecipeError
        If a parameter is unknown, of the wrong type or out of range.

    Examples
    --------
    >>> import napari_hrstem_defects as hd
    >>> recipe = hd.Recipe().replace({"segment.false_marks": 0.01})
    >>> recipe.segment.false_marks
    0.01
    >>> hd.Recipe.from_json(recipe.to_json()) == recipe
    True
    """

    mode: Literal["lattice", "published"] = _param(
        "lattice",
        "lattice: the default, tied to the lattice period; published: Dennler et al. 2021",
        shown=True,
    )
    preprocess: PreprocessParams = PreprocessParams()
    domains: DomainParams = DomainParams()
    classify: ClassifyParams = ClassifyParams()
    best_patch: BestPatchParams = BestPatchParams()
    variance: VarianceParams = VarianceParams()
    symmetry: SymmetryParams = SymmetryParams()
    segment: SegmentParams = SegmentParams()
    as_published: PublishedParams = PublishedParams()

    @model_validator(mode="after")
    def _in_order(self) -> Recipe:
        if self.preprocess.band_low >= self.preprocess.band_high:
            raise RecipeError("preprocess.band_low must be smaller than preprocess.band_high.")
        if self.as_published.dog_low >= self.as_published.dog_high:
            raise RecipeError("as_published.dog_low must be smaller than as_published.dog_high.")
        return self

    @classmethod
    def published(cls) -> Recipe:
        """Pipeline of Dennler et al., Micron 146 (2021) 103069, with the training-free patch classifier."""
        return cls(mode="published")

    def replace(self, values: Mapping[str, Any]) -> Recipe:
        """Recipe with some parameters changed.

        Parameters
        ----------
        values : mapping of "step.key" (or "mode") to value
            Values may be text, as from a command line; they are converted to the parameter's type. The step
            ``as_published`` may be written ``published``.

        Raises
        ------
        RecipeError
            If a name is unknown or a value does not fit.
        """
        changed = self.model_dump()
        for name, value in values.items():
            step, _, key = name.partition(".")
            step = "as_published" if step == "published" else step
            if name == "mode":
                changed[name] = value
            elif step in STEP_PARAMS:
                changed[step][key] = value
            else:
                raise _unknown("", step)
        return type(self)(**changed)

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionary with the layout version, ready for JSON."""
        return {"version": RECIPE_VERSION, **self.model_dump()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """Inverse of :meth:`to_dict`; steps and parameters left out take their defaults.

        RecipeError if the version is another, a name is unknown or a value does not fit.
        """
        if not isinstance(values, Mapping):
            raise RecipeError("A recipe is a JSON object of steps; this file holds something else.")
        steps = dict(values)
        version = steps.pop("version", RECIPE_VERSION)
        if version == RECIPE_VERSION - 1:
            raise RecipeError(
                "The recipe has layout version 1, whose thresholds had another meaning; start from the present "
                "defaults and save it anew."
            )
        if version != RECIPE_VERSION:
            raise RecipeError(
                f"The recipe has layout version {version!r}, this program reads {RECIPE_VERSION}; update the program."
            )
        return cls(**steps)

    def to_json(self) -> str:
        """Text of the recipe file."""
        return json.dumps(self.to_dict(), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """Inverse of :meth:`to_json`; a text that is no valid recipe raises RecipeError."""
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise RecipeError(f"The recipe is not valid JSON (line {error.lineno}: {error.msg}).") from error
        except (ValueError, RecursionError) as error:  # a number or nesting beyond all bounds
            raise RecipeError("The recipe is not valid JSON of a recipe; export it again.") from error
        return cls.from_dict(values)

    def parameters(self) -> Iterator[tuple[str, Any, Mapping[str, Any]]]:
        """Yield ``("step.key", value, metadata)`` of every parameter, `metadata` as in :data:`PARAMETERS`."""
        values = self.model_dump()
        for name, about in PARAMETERS.items():
            step, _, key = name.partition(".")
            yield name, values[step][key] if key else values[step], about


def _described(model: type[BaseModel], prefix: str = "") -> dict[str, Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = {}
    for key, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found |= _described(field.annotation, f"{key}.")
            continue
        low, high = (
            next((getattr(m, k) for m in field.metadata if hasattr(m, k)), None) for k in ("ge", "le")
        )
        found[prefix + key] = {
            "kind": field.annotation,
            "choices": get_args(field.annotation) if get_origin(field.annotation) is Literal else (),
            "default": field.default,
            "doc": field.description,
            "minimum": low,
            "maximum": high,
            **(field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}),
        }
    return found


#: Step name → its parameter model, in the order of the pipeline.
STEP_PARAMS: dict[str, Any] = {
    name: field.annotation for name, field in Recipe.model_fields.items() if name != "mode"
}
#: "step.key" → kind (a type), choices, default, doc, unit, minimum, maximum, shown, advanced, one_image.
PARAMETERS: Mapping[str, Mapping[str, Any]] = _described(Recipe)


def step_of(params: Any) -> str:
    """Step name of a parameter model or instance (``"symmetry"`` of :class:`SymmetryParams`)."""
    return next((step for step, known in STEP_PARAMS.items() if known in (params, type(params))), "")


def points_of(text: str) -> tuple[tuple[float, float], ...]:
    """Points ``(y, x)`` of a text ``"y,x; y,x"``; ValueError if it is none of that kind."""
    points = []
    for part in text.split(";") if text.strip() else ():
        y, x = (float(number) for number in part.split(","))
        if not (math.isfinite(y) and math.isfinite(x)):
            raise ValueError(text)
        points.append((y, x))
    return tuple(points)


def points_text(points: Iterable[tuple[float, float]]) -> str:
    """Inverse of :func:`points_of`, rounded to hundredths."""
    return "; ".join(f"{y:.10g},{x:.10g}" for y, x in ((round(y, 2), round(x, 2)) for y, x in points))


def _refusal(model: type[BaseModel], error: ValidationError) -> RecipeError:
    """What a validation found first, as a sentence for the user."""
    first = error.errors()[0]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, RecipeError):
        return cause
    step, key, value = step_of(model), str(first["loc"][0]), first["input"]
    if first["type"] == "extra_forbidden":
        return _unknown(step, key)
    if not step and key in STEP_PARAMS:
        return RecipeError(f"The recipe's step {key!r} must be a JSON object of parameters.")
    name = f"{step}.{key}" if step else key
    came = f"{value:g}" if isinstance(value, float) else repr(value)
    return RecipeError(f"{name} must be {_allowed(PARAMETERS[name], value)}, not {came}.")


def _unknown(step: str, key: str) -> RecipeError:
    if step:
        keys = ", ".join(STEP_PARAMS[step].model_fields)
        return RecipeError(f"The step {step} has no parameter {key!r}; it has {keys}.")
    return RecipeError(
        f"There is no step {key!r}; use mode, or step.key with one of {', '.join(STEP_PARAMS)}."
    )


def _allowed(about: Mapping[str, Any], value: Any) -> str:
    kind, low, high = about["kind"], about["minimum"], about["maximum"]
    if about["choices"]:
        return f"one of {', '.join(about['choices'])}"
    if kind in (bool, str):
        return "true or false" if kind is bool else "text"
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        return "a number"
    # Within the limits, it is the notation of an integer that does not fit.
    whole = kind is int and (number % 1 or low <= number <= high)
    return "a whole number" if whole else f"{low:g} to {high:g}"
