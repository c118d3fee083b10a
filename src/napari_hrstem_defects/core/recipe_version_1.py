"""Conversion of recipes of version 1."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from napari_hrstem_defects.core.errors import RecipeError

#: Parameters with another name now.
_MOVED = {
    "domains.most": "domains.max_domains",
    "best_patch.max_defect_area": "classify.max_defect_area",
}
#: Those that only the published mode reads now.
_MOVED_PUBLISHED = {
    "preprocess.method": "as_published.filter",
    "preprocess.log_kernel": "as_published.log_kernel",
    "preprocess.gauss_kernel": "as_published.gauss_kernel",
    "preprocess.dog_low": "as_published.dog_low",
    "preprocess.dog_high": "as_published.dog_high",
    "symmetry.kernel_px": "as_published.kernel_px",
    "symmetry.features": "as_published.features",
    "symmetry.eigenvectors": "as_published.eigenvectors",
    "symmetry.comparison": "as_published.comparison",
    "symmetry.energy_window": "as_published.energy_window",
    "variance.window_px": "as_published.window_px",
    "variance.ratio": "as_published.ratio",
    "segment.min_maximum": "as_published.min_maximum",
    "segment.gauss_sigma": "as_published.gauss_sigma",
    "segment.median_size": "as_published.median_size",
}
#: Defaults of version 1 that the present published mode does not have.
_DEFAULTS_PUBLISHED = {
    "preprocess.method": "lattice",
    "symmetry.features": "responses",
    "symmetry.eigenvectors": "columns",
    "symmetry.comparison": "distribution",
}
#: Methods: that of the lattice mode (the default), and that of the published mode.
_METHODS = {
    "symmetry.method": ("lattice", "eigenfilter"),
    "variance.method": ("lattice", "box"),
    "segment.method": ("hysteresis", "triangle"),
}
#: Parameters that no longer exist, or mean something else: their default, what replaces them.
_REMOVED: dict[str, tuple[float, str]] = {
    "classify.cutoff": (3.0, "classify.max_defect_area"),
    "classify.min_variance": (0.25, "classify.max_defect_area"),
    "best_patch.rounds": (3, "classify.max_defect_area"),
    "domains.grain_gain": (0.5, "domains.merge"),
    "domains.grain_area": (0.03, "domains.area"),
    "domains.same_lattice_gain": (0.6, "domains.merge"),
    "domains.inverted_gain": (0.3, "domains.merge"),
    "domains.phase_gain": (0.15, "domains.merge"),
    "domains.phase_area": (0.1, "domains.area"),
    "domains.phase_contrast": (0.34, "domains.merge"),
    "symmetry.min_components": (5, "symmetry.max_components"),
    "symmetry.line_significance": (5.0, "segment.false_marks"),
    "symmetry.antiphase_significance": (4.0, "segment.false_marks"),
    "symmetry.point_significance": (10.0, "segment.false_marks"),
    "variance.fraction": (0.4, "variance.fraction, now a share of the lattice's strength"),
    "segment.threshold": (7.0, "segment.false_marks"),
    "segment.low": (4.0, "segment.extent"),
    "segment.overlap": (0.2, "segment.extent"),
}
#: Name in version 1 → what to use now.
REPLACED = {
    **{name: replacement for name, (_, replacement) in _REMOVED.items()},
    **dict.fromkeys(_METHODS, "mode"),
    **_MOVED,
    **_MOVED_PUBLISHED,
}


def from_version_1(steps: Mapping[str, Any]) -> dict[str, Any]:
    """Steps of a recipe of version 1 in the layout of version 2.

    Values that keep their meaning are taken over. Parameters that the mode did not read are left out, as are those
    that no longer exist and are at their default.

    Raises
    ------
    RecipeError
        If methods of both modes are combined, or another parameter that no longer exists is not at its default.
    """
    # Names that were never known, and steps that are no objects, are refused when the recipe is made.
    new: dict[str, Any] = {step: {} if isinstance(keys, Mapping) else keys for step, keys in steps.items()}
    old = {
        f"{step}.{key}": value
        for step, keys in steps.items()
        if isinstance(keys, Mapping)
        for key, value in keys.items()
    }
    published = old.get("symmetry.method") == "eigenfilter"
    expected = {name: methods[published] for name, methods in _METHODS.items()}
    if not published:
        expected["preprocess.method"] = "lattice"
    for name, method in expected.items():
        found = old.pop(name, _METHODS.get(name, ("lattice",))[0])
        if found != method:
            raise RecipeError(
                f"This recipe of version 1 has {name} {found!r} where {method!r} is needed: steps of the modes lattice "
                "and published can no longer be combined; choose a mode."
            )
    # In the published mode only the screening was read beside what has moved.
    read = {name for name in _REMOVED if not published or name.startswith("classify.")}
    refused = {name for name in read & old.keys() if old[name] != _REMOVED[name][0]}
    if refused:
        names = [name for name in _REMOVED if name in refused]
        instead = dict.fromkeys(_REMOVED[name][1] for name in names)
        raise RecipeError(
            f"This recipe of version 1 sets {', '.join(names)}, which this program no longer has; set "
            f"{', '.join(instead)} instead."
        )
    moved = _MOVED | _MOVED_PUBLISHED if published else _MOVED
    dropped = _REMOVED.keys() if published else {*_REMOVED, *_MOVED_PUBLISHED} - {"variance.window_px"}
    for name, value in {**(_DEFAULTS_PUBLISHED if published else {}), **old}.items():
        if name not in dropped:
            step, _, key = moved.get(name, name).partition(".")
            new.setdefault(step, {})[key] = value
    if published and new["as_published"]["filter"] == "lattice":
        new["as_published"]["filter"] = "none"
    return {**new, "mode": "published" if published else "lattice"}
