"""Sentences of the panel about an image and its analysis."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from napari_hrstem_defects.core.recipe import Recipe
from napari_hrstem_defects.widgets.model import Document
from napari_hrstem_defects.widgets.outputs import Findings
from napari_hrstem_defects.widgets.parameters import changed_names, in_words
from napari_hrstem_defects.widgets.roles import entry
from napari_hrstem_defects.widgets.source import pixel_size_nm, pixels_of

#: A pixel size of the file farther from that of an entered lattice constant gives a warning: magnifications are
#: calibrated to some percent, and other lattice vectors differ by more.
SPACING_TOLERANCE = 0.05
#: Parameters and frames listed in a message; the panel shows all.
_LISTED = 3
_BACK = "Recipe → Reset to defaults restores them."


def about_image(document: Document, found: Findings | None) -> str:
    """Shape, pixel size and lattice period."""
    if document.layer is None:
        return "No image is open."
    height, width = document.frame_shape
    parts = [f"{height} × {width} px"]
    if document.is_stack:
        parts[0] = f"{len(pixels_of(document.layer))} frames of {parts[0]}"
    size = pixel_size_nm(document.layer)
    parts.append("no pixel size" if size is None else f"{size:.4g} nm/px")
    if found is not None:
        parts.append("no lattice" if found.period_px is None else f"period {found.period_px:.1f} px")
    return " · ".join(parts)


def about_recipe(recipe: Recipe) -> str | None:
    """Which parameters differ from the defaults: they may be kept from another image or session."""
    if recipe == Recipe.published():
        return f"The parameters are those of Dennler et al. {_BACK}"
    names = changed_names(recipe)
    if not names:
        return None
    listed = ", ".join(in_words(recipe, name) for name in names[:_LISTED])
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"Parameters differ from the defaults: {listed}{more}. {_BACK}"


def about_pixel_size(document: Document) -> list[str]:
    """Warnings if the pixel size makes the lattice period implausible for a crystal, or is not that of the file."""
    if document.layer is None or (size := pixel_size_nm(document.layer)) is None:
        return []
    from napari_hrstem_defects.io.calibration import implausible

    found = []
    lattice = None if document.analysis is None else document.analysis.lattice
    if lattice is not None and (warning := implausible(lattice.period_px, size)) is not None:
        found.append(f"{warning.partition(';')[0]}; correct it with Pixel size…")
    known = entry(document.layer)
    spacing, stated = known.get("spacing_nm"), known.get("stated_nm")
    if spacing is not None and stated is not None and (off := abs(stated / size - 1)) > SPACING_TOLERANCE:
        found.append(
            f"The pixel size of the file, {stated:.4g} nm, disagrees by {100 * off:.1f} % (more than "
            f"{100 * SPACING_TOLERANCE:.0f} %) with the lattice constant a = {spacing:.4g} nm; correct it with "
            "Pixel size…"
        )
    return found


def about_patches(document: Document, found: Findings | None) -> str:
    """How many patches there are, and how many defective."""
    if found is None or found.patches is None:
        return "–"
    number, defective = found.patches
    by_hand = ", painted" if document.done is not None and document.done.patches is not None else ""
    return f"{number} patches · {defective} defective{by_hand}"


def about_best_patch(document: Document, found: Findings | None) -> str:
    """Where the best patch is."""
    if found is None or document.analysis is None or "best_patch" not in document.shown:
        return "–"
    if document.done is not None and document.point not in (None, document.done.point):
        y, x = document.point
        return f"y {y:.0f}, x {x:.0f} px · not run yet"
    if "best_patch" not in document.analysis.steps:
        return "–"
    best = found.best_patch
    if best is None:
        return "none: no lattice was found"
    return f"y {best.y:.0f}, x {best.x:.0f} px · {best.size} px wide"


def about_regions(document: Document, frame: int) -> str:
    """How many regions there are and how much of the image they cover."""
    if document.analysis is None or "segment" not in document.shown:
        return "–"
    if frame not in document.labelled:
        return "–"
    regions, found = document.regions(frame), document.found(frame)
    area = sum(region.area_px for region in regions)
    share = 100 * area / max(math.prod(document.frame_shape), 1)
    count = "no regions" if not regions else f"{len(regions)} region{'s' if len(regions) > 1 else ''}"
    if frame in document.by_hand.painted:
        painted = document.by_hand.painted[frame].pixels.size
        return f"{count} · {share:.1f} % of the image · {painted} px painted"
    verdict = f"{found.verdict} · " if found is not None and found.verdict else ""
    return f"{verdict}{count} · {share:.1f} % of the image"


def about_series(warnings: Mapping[str, Sequence[int]], frames: int, frame: int) -> list[str]:
    """Warnings about a frame of a series of so many, each with how many it is about, and which frames have others."""
    here = [text for text, numbers in warnings.items() if frame in numbers]
    others = sorted({number for text, numbers in warnings.items() if text not in here for number in numbers})
    about = [
        f"{text} ({_named(warnings[text], f'{len(warnings[text])} of {frames} frames')})" for text in here
    ]
    if others:
        listed = f"frames {', '.join(map(str, others[:_LISTED]))} and {len(others) - _LISTED} more"
        about.append(f"There are other warnings about {_named(others, listed)}; they are shown there.")
    return about


def _named(numbers: Sequence[int], many: str) -> str:
    """Frames by their numbers, if they are not too many."""
    few = f"frame{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"
    return many if len(numbers) > _LISTED else few


def messages(document: Document, frame: int) -> tuple[str | None, list[str]]:
    """Error and warnings, those of a series or of the frame that is shown."""
    error = None if document.failed is None else document.failed[1]
    found: list[str] = []
    if document.series is not None:
        found = about_series(document.series.warnings, len(document.findings), frame)
    elif document.analysis is not None and frame == document.frame:
        found = list(document.analysis.warnings)
    return error, list(dict.fromkeys([*found, *about_pixel_size(document), *document.notes]))
