"""Frozen parameter classes, one per step, and the versioned JSON recipe that holds them all.

A :class:`Recipe` drives the widgets, the command line and the batch alike. Each parameter carries its
documentation, unit and limits in ``dataclasses.field(metadata=...)``: front ends build tooltips, spin boxes and
``--set`` from it, and construction checks values against it.
"""

from __future__ import annotations

import dataclasses
import json
import math
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from napari_hrstem_defects.core.errors import RecipeError

#: Version of the JSON layout; raised when a file of an older version no longer means the same.
RECIPE_VERSION = 1


def _param(
    default: Any,
    doc: str,
    *,
    unit: str = "",
    minimum: float | None = None,
    maximum: float | None = None,
    shown: bool = False,
    one_image: bool = False,
) -> Any:
    """Describe a parameter.

    `doc` is for tooltips; `shown` if it matters to most users (not folded away); `one_image` if it says something
    about the places of one image, so that it is no setting for others.
    """
    return field(
        default=default,
        metadata={
            "doc": doc,
            "unit": unit,
            "minimum": minimum,
            "maximum": maximum,
            "shown": shown,
            "one_image": one_image,
        },
    )


class _Checked:
    """Checks every field against its type, limits and choices when constructed."""

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for item in dataclasses.fields(self):  # type: ignore[arg-type]
            value = _checked(getattr(self, item.name), hints[item.name], item, f"{step_of(self)}.{item.name}")
            object.__setattr__(self, item.name, value)


def step_of(params: Any) -> str:
    """Step name of a parameter class or instance (``"symmetry"`` of :class:`SymmetryParams`)."""
    cls = params if isinstance(params, type) else type(params)
    return _STEP_NAMES[cls.__name__]


def _checked(value: Any, kind: Any, item: dataclasses.Field[Any], name: str) -> Any:
    choices = typing.get_args(kind) if typing.get_origin(kind) is Literal else None
    if choices is not None:
        if value not in choices:
            raise RecipeError(f"{name} must be one of {', '.join(map(str, choices))}, not {value!r}.")
        return value
    if kind is bool:
        if not isinstance(value, bool):
            raise RecipeError(f"{name} must be true or false, not {value!r}.")
        return value
    if kind is str:
        if not isinstance(value, str):
            raise RecipeError(f"{name} must be text, not {value!r}.")
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise RecipeError(f"{name} must be a number, not {value!r}.")
    if kind is int:
        if value != int(value):
            raise RecipeError(f"{name} must be a whole number, not {value!r}.")
        value = int(value)
    else:
        value = float(value)
    low, high = item.metadata["minimum"], item.metadata["maximum"]
    if (low is not None and value < low) or (high is not None and value > high):
        limits = (
            f"at least {low:g}"
            if high is None
            else f"at most {high:g}"
            if low is None
            else f"{low:g} to {high:g}"
        )
        raise RecipeError(f"{name} must be {limits}, not {value:g}.")
    return value


def points_of(text: str) -> tuple[tuple[float, float], ...]:
    """Points ``(y, x)`` of a text ``"y,x; y,x"``.

    Raises
    ------
    ValueError
        If the text is none of that kind.
    """
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


@dataclass(frozen=True)
class PreprocessParams(_Checked):
    """What is done to the pixels before anything looks at them."""

    method: Literal["lattice", "log", "dog"] = _param(
        "lattice",
        "lattice: band-pass tied to the lattice period and contrast normalisation; log: Laplacian of Gaussian, then "
        "Gaussian, fixed sizes (as published); dog: difference of Gaussians (the published code)",
        shown=True,
    )
    px_per_period: float = _param(
        8.0,
        "the image is resampled to this many pixels per lattice period, never up",
        unit="px",
        minimum=4,
        maximum=32,
    )
    band_low: float = _param(
        0.12, "standard deviation of the smoothing Gaussian", unit="periods", minimum=0.0, maximum=1.0
    )
    band_high: float = _param(
        0.8,
        "standard deviation of the Gaussian taken away as background",
        unit="periods",
        minimum=0.2,
        maximum=5.0,
    )
    contrast_window: float = _param(
        2.5,
        "standard deviation of the window in which the contrast is normalised",
        unit="periods",
        minimum=0.5,
        maximum=20,
    )
    contrast_floor: float = _param(
        0.02, "share of the median local variance added before dividing by it", minimum=0.0, maximum=10.0
    )
    log_kernel: int = _param(
        19, "edge of the Laplacian-of-Gaussian kernel (log)", unit="px", minimum=3, maximum=101
    )
    gauss_kernel: int = _param(
        5, "edge of the Gaussian kernel that follows (log)", unit="px", minimum=1, maximum=101
    )
    dog_low: float = _param(
        2.0, "standard deviation of the narrower Gaussian (dog)", unit="px", minimum=0.1, maximum=50
    )
    dog_high: float = _param(
        3.0, "standard deviation of the wider Gaussian (dog)", unit="px", minimum=0.1, maximum=50
    )


@dataclass(frozen=True)
class ClassifyParams(_Checked):
    """Which patches are defective."""

    patch_size: int = _param(
        0,
        "edge of a patch, at least 32; 0: what a trained classifier was made for, otherwise 128 px, more where the "
        "lattice is coarse, smaller on small images",
        unit="px",
        minimum=0,
        maximum=2048,
        shown=True,
    )
    classifier: str = _param(
        "screening", "screening (no training needed), or the name or file of a trained classifier", shown=True
    )
    cutoff: float = _param(
        3.0,
        "screening: a patch further from the typical one than median + cutoff × 1.48 MAD is defective",
        unit="robust standard deviations",
        minimum=0.5,
        maximum=50,
        shown=True,
    )
    min_variance: float = _param(
        0.25,
        "screening: patches with less than this share of the median contrast are defective",
        minimum=0,
        maximum=1,
    )
    probability: float = _param(
        0.5, "trained classifiers: a patch above this probability is defective", minimum=0.0, maximum=1.0
    )


@dataclass(frozen=True)
class BestPatchParams(_Checked):
    """How the model patch is chosen."""

    depth: int = _param(10, "largest graph distance k in W(node)", minimum=1, maximum=100)
    rounds: int = _param(
        3, "how often the choice is revised after looking at its own severity map", minimum=0, maximum=10
    )
    max_defect_area: float = _param(
        0.05, "a patch with more than this share marked as defect is defective", minimum=0, maximum=1
    )


@dataclass(frozen=True)
class DomainParams(_Checked):
    """Several lattices in one image."""

    most: int = _param(
        4,
        "most lattices looked for; 1: the image is compared with the best patch only",
        minimum=1,
        maximum=20,
        shown=True,
    )
    crystal: Literal["phases", "all", "reference"] = _param(
        "phases",
        "which lattices count as intact: the reference and second phases; all (only walls are defects); or the "
        "reference alone",
        shown=True,
    )
    boundary_map: bool = _param(
        False, "also map boundaries without any reference (takes about a second more per megapixel)"
    )
    grain_gain: float = _param(
        0.5,
        "a grain's own model must fit it better than the others by this",
        unit="log energy",
        minimum=0,
        maximum=10,
    )
    grain_area: float = _param(0.03, "smallest share of the image of a grain", minimum=0, maximum=1)
    same_lattice_gain: float = _param(
        0.6,
        "the same where both lattices coincide (shifted domains)",
        unit="log energy",
        minimum=0,
        maximum=10,
    )
    inverted_gain: float = _param(
        0.3,
        "the same where the reference turned by 180° fits (inversion domains)",
        unit="log energy",
        minimum=0,
        maximum=10,
    )
    phase_gain: float = _param(0.15, "the same for a second phase", unit="log energy", minimum=0, maximum=10)
    phase_area: float = _param(0.1, "smallest share of the image of a second phase", minimum=0, maximum=1)
    phase_contrast: float = _param(
        0.34,
        "a second phase differs by this in brightness or contrast, unless it is strained or has another cell",
        unit="log ratio",
        minimum=0,
        maximum=10,
    )
    given: str = _param(
        "",
        "model patches of further lattices, placed by hand: their centres “y,x; y,x”; others are looked for as well",
        unit="px",
        one_image=True,
    )
    intact_at: str = _param(
        "",
        "the lattices at these points “y,x; y,x” count as intact, whatever `crystal` says",
        unit="px",
        one_image=True,
    )
    defective_at: str = _param(
        "",
        "the lattices at these points “y,x; y,x” count as defects, whatever `crystal` says",
        unit="px",
        one_image=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("given", "intact_at", "defective_at"):
            try:
                text = points_text(points_of(getattr(self, name)))
            except ValueError:
                raise RecipeError(
                    f"domains.{name} must be points in px like “120,80; 300,95.5”, not {getattr(self, name)!r}."
                ) from None
            object.__setattr__(self, name, text)


@dataclass(frozen=True)
class SymmetryParams(_Checked):
    """Severity of symmetry breaking."""

    method: Literal["lattice", "eigenfilter"] = _param(
        "lattice",
        "lattice: kernel tied to the period, nearest-template distance plus residual; eigenfilter: 7 × 7 px "
        "eigenfilters and Mahalanobis distance (as published)",
        shown=True,
    )
    kernel_periods: float = _param(
        1.5,
        "edge of the neighbourhood that is compared with the best patch",
        unit="periods",
        minimum=0.5,
        maximum=6,
        shown=True,
    )
    variance_kept: float = _param(
        0.95, "share of the model's variance that its components hold", minimum=0.5, maximum=0.9999
    )
    min_components: int = _param(5, "fewest components of the model", minimum=1, maximum=200)
    max_components: int = _param(14, "most components of the model", minimum=1, maximum=200)
    templates: int = _param(
        128, "neighbourhoods of the best patch that others are compared with", minimum=1, maximum=4096
    )
    smoothing: float = _param(
        0.4,
        "standard deviation of the smoothing of the squared distance",
        unit="periods",
        minimum=0.0,
        maximum=3.0,
    )
    line_significance: float = _param(
        5.0,
        "a straight line of this significance is given a severity of 7 even where no single place stands out; 0: "
        "lines are not looked for",
        unit="robust standard deviations",
        minimum=0.0,
        maximum=1000,
    )
    antiphase_significance: float = _param(
        4.0,
        "opposite phases of a weak superlattice, of this amplitude on both sides, are given a severity of 7; 0: "
        "antiphase boundaries are not looked for in this way",
        unit="amplitude of the noise",
        minimum=0.0,
        maximum=1000,
    )
    point_significance: float = _param(
        10.0,
        "a place that stands out by this much to filters half as wide, which point defects suit better, is given a "
        "severity of 7; 0: it is not looked at with them",
        unit="robust standard deviations",
        minimum=0.0,
        maximum=1000,
    )
    kernel_px: int = _param(7, "edge of the eigenfilters (eigenfilter)", unit="px", minimum=3, maximum=31)
    features: Literal["responses", "energies"] = _param(
        "responses", "what is compared: filter responses, or their squares summed over a window (eigenfilter)"
    )
    eigenvectors: Literal["columns", "rows"] = _param(
        "columns",
        "filters are the columns of the eigenvector matrix; rows repeats a slip of the published code",
    )
    comparison: Literal["distribution", "pixelwise"] = _param(
        "distribution",
        "Mahalanobis distance to the model patch's distribution, or to its pixel at the same place",
    )
    energy_window: int = _param(16, "edge of the window of the energies", unit="px", minimum=1, maximum=128)


@dataclass(frozen=True)
class VarianceParams(_Checked):
    """Local variance: amorphous and beam-damaged areas."""

    method: Literal["lattice", "box"] = _param(
        "lattice",
        "lattice: window tied to the period, amorphous only where the lattice is lost as well; box: fixed window, "
        "below the best patch's minimum / ratio (as published)",
        shown=True,
    )
    window_px: int = _param(20, "edge of the window, at least", unit="px", minimum=3, maximum=512, shown=True)
    window_periods: float = _param(
        1.5, "edge of the window in periods, at least", unit="periods", minimum=0.0, maximum=20
    )
    fraction: float = _param(
        0.4,
        "amorphous: variance below this share of the best patch's median (lattice)",
        minimum=0.0,
        maximum=1.0,
        shown=True,
    )
    ratio: float = _param(
        1.2, "amorphous: variance below the best patch's minimum / ratio (box)", minimum=1.0, maximum=100
    )


@dataclass(frozen=True)
class SegmentParams(_Checked):
    """From severity and variance to labels."""

    method: Literal["hysteresis", "triangle"] = _param(
        "hysteresis",
        "hysteresis: everything above `low` that touches something above `threshold`; triangle: Gaussian, "
        "triangle threshold, median (as published)",
        shown=True,
    )
    threshold: float = _param(
        7.0,
        "a defect must exceed this severity somewhere",
        unit="robust standard deviations",
        minimum=0,
        maximum=1000,
        shown=True,
    )
    low: float = _param(
        4.0,
        "a defect extends as far as the severity exceeds this",
        unit="robust standard deviations",
        minimum=0,
        maximum=1000,
        shown=True,
    )
    overlap: float = _param(
        0.2,
        "a pixel whose squared distance is below this share of the worst nearby only overlaps a defect (hysteresis)",
        minimum=0.0,
        maximum=0.95,
    )
    min_area_periods: float = _param(
        0.5, "smaller marked areas are dropped", unit="periods²", minimum=0.0, maximum=1000, shown=True
    )
    min_maximum: float = _param(
        90.0,
        "triangle: nothing is marked unless the severity, scaled to 0…255, exceeds this after smoothing",
        minimum=0,
        maximum=255,
    )
    gauss_sigma: float = _param(
        6.0, "triangle: standard deviation of the Gaussian", unit="px", minimum=0, maximum=100
    )
    median_size: int = _param(19, "triangle: edge of the median filter", unit="px", minimum=1, maximum=101)


_STEP_NAMES = {
    "PreprocessParams": "preprocess",
    "ClassifyParams": "classify",
    "BestPatchParams": "best_patch",
    "DomainParams": "domains",
    "SymmetryParams": "symmetry",
    "VarianceParams": "variance",
    "SegmentParams": "segment",
}


@dataclass(frozen=True)
class Recipe:
    """All parameters of an analysis.

    ``Recipe()`` is the default, lattice-aware mode; :meth:`published` the pipeline of Dennler et al. (2021).
    """

    preprocess: PreprocessParams = field(default_factory=PreprocessParams)
    classify: ClassifyParams = field(default_factory=ClassifyParams)
    best_patch: BestPatchParams = field(default_factory=BestPatchParams)
    domains: DomainParams = field(default_factory=DomainParams)
    symmetry: SymmetryParams = field(default_factory=SymmetryParams)
    variance: VarianceParams = field(default_factory=VarianceParams)
    segment: SegmentParams = field(default_factory=SegmentParams)

    def __post_init__(self) -> None:
        if self.segment.low > self.segment.threshold:
            raise RecipeError(
                f"segment.low ({self.segment.low:g}) must not exceed segment.threshold ({self.segment.threshold:g})."
            )
        if self.symmetry.method == "lattice" and self.preprocess.method != "lattice":
            raise RecipeError(
                "symmetry.method lattice needs preprocess.method lattice; set symmetry.method to eigenfilter or "
                "change both."
            )
        if self.preprocess.band_low >= self.preprocess.band_high:
            raise RecipeError("preprocess.band_low must be smaller than preprocess.band_high.")
        if self.preprocess.dog_low >= self.preprocess.dog_high:
            raise RecipeError("preprocess.dog_low must be smaller than preprocess.dog_high.")
        if self.symmetry.min_components > self.symmetry.max_components:
            raise RecipeError("symmetry.min_components must not exceed symmetry.max_components.")

    @classmethod
    def published(cls) -> Recipe:
        """Pipeline of Dennler et al., Micron 146 (2021) 103069, with the training-free patch classifier."""
        return cls(
            preprocess=PreprocessParams(method="log"),
            best_patch=BestPatchParams(rounds=0),
            symmetry=SymmetryParams(
                method="eigenfilter", features="energies", eigenvectors="rows", comparison="pixelwise"
            ),
            variance=VarianceParams(method="box"),
            segment=SegmentParams(method="triangle"),
        )

    def replace(self, values: Mapping[str, Any]) -> Recipe:
        """Recipe with some parameters changed.

        Parameters
        ----------
        values : mapping of "step.key" to value
            Values may be text, as from a command line; they are converted to the parameter's type.

        Raises
        ------
        RecipeError
            If a name is unknown or a value does not fit.
        """
        changed: dict[str, dict[str, Any]] = {}
        for name, value in values.items():
            step, _, key = name.partition(".")
            params = getattr(self, step, None) if step in STEP_PARAMS else None
            if params is None:
                raise RecipeError(
                    f"There is no step {step!r}; use step.key with one of {', '.join(STEP_PARAMS)}."
                )
            hints = typing.get_type_hints(type(params))
            if key not in hints:
                keys = ", ".join(item.name for item in dataclasses.fields(params))
                raise RecipeError(f"The step {step} has no parameter {key!r}; it has {keys}.")
            changed.setdefault(step, {})[key] = _from_text(value, hints[key], name)
        steps = {step: dataclasses.replace(getattr(self, step), **keys) for step, keys in changed.items()}
        return dataclasses.replace(self, **steps)

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionary with the layout version, ready for JSON."""
        return {"version": RECIPE_VERSION, **dataclasses.asdict(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """Inverse of :meth:`to_dict`; steps and parameters left out take their defaults.

        Raises
        ------
        RecipeError
            If the version is newer, a name is unknown or a value does not fit.
        """
        if not isinstance(values, Mapping):
            raise RecipeError("A recipe is a JSON object of steps; this file holds something else.")
        version = values.get("version", RECIPE_VERSION)
        if version != RECIPE_VERSION:
            raise RecipeError(
                f"The recipe has layout version {version!r}, this program reads {RECIPE_VERSION}; update the program."
            )
        steps: dict[str, Any] = {}
        for step, keys in values.items():
            if step == "version":
                continue
            if step not in STEP_PARAMS:
                raise RecipeError(
                    f"The recipe has an unknown step {step!r}; known are {', '.join(STEP_PARAMS)}."
                )
            if not isinstance(keys, Mapping):
                raise RecipeError(f"The recipe's step {step!r} must be a JSON object of parameters.")
            known = {item.name for item in dataclasses.fields(STEP_PARAMS[step])}
            unknown = sorted(set(keys) - known)
            if unknown:
                raise RecipeError(
                    f"The step {step} has no parameter {unknown[0]!r}; it has {', '.join(sorted(known))}."
                )
            steps[step] = STEP_PARAMS[step](**keys)
        return cls(**steps)

    def to_json(self) -> str:
        """Text of the recipe file."""
        return json.dumps(self.to_dict(), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """Inverse of :meth:`to_json`.

        Raises
        ------
        RecipeError
            If the text is no JSON or no valid recipe.
        """
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise RecipeError(f"The recipe is not valid JSON (line {error.lineno}: {error.msg}).") from error
        return cls.from_dict(values)

    def parameters(self) -> Iterator[tuple[str, Any, Mapping[str, Any]]]:
        """Yield ``("step.key", value, metadata)`` of every parameter."""
        for step in STEP_PARAMS:
            params = getattr(self, step)
            for item in dataclasses.fields(params):
                yield f"{step}.{item.name}", getattr(params, item.name), item.metadata


#: Step name → its parameter class, in the order of the pipeline.
STEP_PARAMS: dict[str, Any] = {
    "preprocess": PreprocessParams,
    "classify": ClassifyParams,
    "best_patch": BestPatchParams,
    "domains": DomainParams,
    "symmetry": SymmetryParams,
    "variance": VarianceParams,
    "segment": SegmentParams,
}


def _from_text(value: Any, kind: Any, name: str) -> Any:
    if not isinstance(value, str) or kind is str or typing.get_origin(kind) is Literal:
        return value
    text = value.strip()
    if kind is bool:
        if text.lower() in ("true", "yes", "on", "1"):
            return True
        if text.lower() in ("false", "no", "off", "0"):
            return False
        raise RecipeError(f"{name} must be true or false, not {value!r}.")
    try:
        return float(text)
    except ValueError:
        raise RecipeError(f"{name} must be a number, not {value!r}.") from None
