"""Parameters of the recipe as the panel calls them: names, units, texts, which belong to a step and to a mode."""

from __future__ import annotations

import operator
from typing import Any

from napari_hrstem_defects.core.recipe import PARAMETERS, Recipe

#: Units as they stand behind a number.
SUFFIXES = {"per image": "/ image", "cosine distance": "", "Mahalanobis distance": ""}
#: Names of parameters in plain words, where the name itself is not.
_LABELS = {
    "classify.patch_size": "patch",
    "segment.min_area_periods": "smallest",
    "segment.extent": "grow to",
    "segment.false_marks": "false marks",
    "variance.fraction": "amorphous below",
    "variance.window_periods": "in periods",
    "domains.max_domains": "max. lattices",
    "domains.crystal": "intact",
}
#: Texts of numbers with a meaning of their own.
SPECIAL = {"classify.patch_size": "automatic"}
#: Where the panel shows the parameters that only the published mode reads.
_PUBLISHED = {
    "preprocess": ("filter", "log_kernel", "gauss_kernel", "dog_low", "dog_high"),
    "variance": ("window_px", "variance_sigma", "ratio", "always_filter"),
    "symmetry": ("kernel_px", "features", "eigenvectors", "comparison", "energy_window"),
    "segment": ("min_maximum", "gauss_sigma", "median_size"),
}
#: What the published mode does not read.
_LATTICE_ONLY = ("domains.crystal", "classify.patch_size", "variance.", "symmetry.", "segment.")


def tooltip_of(name: str) -> str:
    """What a parameter does, its unit, its limits and its default."""
    about = PARAMETERS[name]
    doc = about["doc"][:1].upper() + about["doc"][1:]
    facts = [f"Unit: {about['unit'] or 'none'}"]
    low, high = about["minimum"], about["maximum"]
    if low is not None or high is not None:
        facts.append(f"{'' if low is None else f'{low:g}'} … {'' if high is None else f'{high:g}'}".strip())
    facts.append(f"default {_text(name, about['default'])}")
    return f"<qt>{doc}.<br><i>{', '.join(facts)}</i> &nbsp; <code>{name}</code></qt>"


def label_of(name: str) -> str:
    """Name of a parameter in plain words; the unit stands behind the number."""
    key = name.rpartition(".")[2].removesuffix("_px").removesuffix("_periods")
    return _LABELS.get(name, key.replace("_", " "))


def value_of(recipe: Recipe, name: str) -> Any:
    """Value of the parameter ``step.key``."""
    return operator.attrgetter(name)(recipe)


def changed_names(recipe: Recipe) -> list[str]:
    """Parameters that are not as they are by default, those that matter to most users first."""
    found = [
        (not about["shown"], name)
        for name, value, about in recipe.parameters()
        if value != about["default"] and not about["one_image"]
    ]
    return [name for _, name in sorted(found, key=lambda item: item[0])]


def in_words(recipe: Recipe, name: str) -> str:
    """A parameter as the panel calls it, its value and its default."""
    default = PARAMETERS[name]["default"]
    # The unit is that of the value.
    plain = f"{default:g}" if type(default) is float else _text(name, default)
    return f"{label_of(name)} {_text(name, value_of(recipe, name))} (default {plain})"


def _text(name: str, value: Any) -> str:
    """A value with its unit."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if not isinstance(value, int | float):
        return str(value)
    if not value and name in SPECIAL:
        return SPECIAL[name]
    unit = PARAMETERS[name]["unit"]
    return f"{value:g} {SUFFIXES.get(unit, unit)}".strip()


def step_parameters(step: str, *, shown: bool) -> list[str]:
    """Parameters of a step of the panel, in either mode, that matter to most users, or the others.

    Those about one image's places are left out, and those of the published mode stand where their successors do.
    """
    own = [name for name in PARAMETERS if name.startswith(f"{step}.")]
    names = own + [f"as_published.{key}" for key in _PUBLISHED.get(step, ())]
    return [
        name for name in names if PARAMETERS[name]["shown"] is shown and not PARAMETERS[name]["one_image"]
    ]


def is_read(name: str, mode: str) -> bool:
    """Whether a mode reads a parameter."""
    if name.startswith("as_published."):
        return mode == "published"
    return mode == "lattice" or not name.startswith(_LATTICE_ONLY)
