"""What an analysis becomes in napari: layers described outside the GUI's thread, where all arrays are computed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.io.display import (
    AMORPHOUS_COLOUR,
    BEST_PATCH_COLOUR,
    SYMMETRY_COLOUR,
    domain_colour,
    severity_range,
)
from napari_hrstem_defects.widgets.roles import Role

if TYPE_CHECKING:
    from napari_hrstem_defects.core.analysis import Analysis
    from napari_hrstem_defects.core.best_patch import BestPatch
    from napari_hrstem_defects.core.regions import Region
    from napari_hrstem_defects.models.scan import Scan

#: Names of the classes of the label image, in the order of their values.
LABEL_CLASSES = ("crystal", "symmetry defect", "amorphous or blurred")
#: Colours of the label image, but of crystal, which has none.
LABEL_COLOURS = {1: SYMMETRY_COLOUR, 2: AMORPHOUS_COLOUR}
#: Values of the patch layer; 0, erased, stands for the automatic class.
PATCH_CLEAN, PATCH_DEFECTIVE = 1, 2
#: Okabe & Ito's bluish green and vermillion: distinct in any colour vision.
CLEAN_COLOUR = "#009E73"
PATCH_COLOURS = {PATCH_CLEAN: CLEAN_COLOUR, PATCH_DEFECTIVE: SYMMETRY_COLOUR}
#: Other good places for the best patch that are offered, and the grey of their frames.
CANDIDATES, CANDIDATE_COLOUR = 4, "#BBBBBB80"
#: Colours of the classes of a scan: theirs and the rest of the palette, but for the clean class's green.
CLASS_COLOURS = ("#CC79A7", "#0072B2", "#E69F00", "#56B4E9", "#D55E00", "#F0E442", "#BBBBBB")
#: Grey of pixels not assessed.
NOT_ASSESSED_COLOUR = "#80808080"
#: Bins of the severity histogram; pixels that contrast limits are taken from.
_BINS, _SAMPLED = 120, 200_000
#: Stripes, and gaps as wide, along the shorter side in the hatching of pixels not assessed.
_STRIPES = 128
#: Columns of the table of the numbered regions.
_REGION_KEYS = ("kind", "type", "confidence", "area_px", "area_nm2", "length_nm", "width_nm", "max_severity")


@dataclass(frozen=True, eq=False)
class Output:
    """One layer to be written.

    Attributes
    ----------
    role : Role
    data : array
        Of the frame, ``(y, x)``, or of a series ``(t, y, x)``; points ``(n, 2)`` or ``(n, 3)``.
    options : dict
        Of the layer, beside those that all layers of the role have.
    if_there : bool
        Only keeps up a layer that is there already.
    features : dict or None
        Columns of the layer's table; None: that of the role, if it has one.
    part : str
        Which of several layers of the role; empty where there is one.
    frame : int or None
        Frame of a series that it shows; None: that of the latest analysis.
    """

    role: Role
    data: NDArray[Any]
    options: dict[str, Any] = field(default_factory=dict)
    if_there: bool = False
    features: dict[str, Any] | None = None
    part: str = ""
    frame: int | None = None


@dataclass(frozen=True, eq=False)
class Layered:
    """What comes back from a thread with layers to be written, and their provenance."""

    outputs: list[Output]
    provenance: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Histogram:
    """Distribution of the severity of the assessed pixels.

    Attributes
    ----------
    counts : int array (n,)
    edges : float array (n + 1,)
    area_periods : float
        Assessed area in squared lattice periods; relates the threshold to the expected false marks. 0: published mode.
    """

    counts: NDArray[np.int64]
    edges: NDArray[np.float64]
    area_periods: float


@dataclass(frozen=True, eq=False)
class Findings:
    """What the panel says about the analysis of a frame: small, so that it is kept for every frame of a series.

    Attributes
    ----------
    period_px : float or None
        Lattice period; None without a lattice.
    patches : tuple of int or None
        How many there are, and how many of them are defective.
    best_patch : BestPatch or None
    filters : float32 array (n, k, k) or None
        Eigenfilters of the best patch.
    lattices : tuple of dict
        Rows of the table of domains, the best patch's first; with ``by_hand``, whether the model patch was placed.
    count : int
        How many lattices were found; 0: none, or they were not looked for.
    histogram : Histogram or None
        Of the severity.
    verdict : str
        On the image: defective or not; empty where nothing could be assessed.
    """

    period_px: float | None
    patches: tuple[int, int] | None
    best_patch: BestPatch | None
    filters: NDArray[np.float32] | None
    lattices: tuple[dict[str, Any], ...]
    count: int
    histogram: Histogram | None
    verdict: str

    @classmethod
    def of(cls, analysis: Analysis) -> Findings:
        """Look through an analysis; takes a while."""
        from napari_hrstem_defects.io.domains import domain_rows

        lattice = analysis.lattice or analysis.typical
        defective = analysis.patches.defective
        domains = () if analysis.domains is None else analysis.domains.domains
        directions = 0 if analysis.plateaus is None else len(analysis.plateaus.directions)
        rows = zip(domain_rows(analysis), domains, strict=True)
        return cls(
            period_px=None if lattice is None else lattice.period_px,
            patches=(defective.size, int(defective.sum())) if "classify" in analysis.steps else None,
            best_patch=analysis.best_patch,
            filters=analysis.banks[0].filters if analysis.banks else None,
            lattices=tuple({**row, "by_hand": domain.patch.placed == "hand"} for row, domain in rows),
            count=len(domains) or directions,
            histogram=_histogram(analysis),
            verdict=analysis.verdict,
        )


def describe(analysis: Analysis, steps: Collection[str]) -> list[Output]:
    """Layers of some steps of an analysis: those that are looked at first, then the others from the bottom up."""
    outputs: list[Output] = []
    filtered, prepared = analysis.filtered, analysis.prepared
    # In the published mode the filtered image is made together with the other maps.
    if filtered is not None and {"preprocess", "variance"}.intersection(steps):
        outputs.append(_image(Role.PREPROCESSED, filtered))
    elif filtered is None and prepared is not None and "preprocess" in steps:
        outputs.append(_image(Role.PREPROCESSED, prepared.values))
    if "domains" in steps and analysis.boundaries is not None and analysis.recipe.domains.boundary_map:
        outputs.append(_image(Role.BOUNDARIES, analysis.boundaries))
    verdicts = np.where(analysis.patches.defective, PATCH_DEFECTIVE, PATCH_CLEAN).astype(np.uint8)
    if "classify" in steps:
        outputs.append(_image(Role.SCORES, analysis.patches.scores.astype(np.float32)))
    # The final verdict on the patches is the share of labels in them.
    if "classify" in steps or "segment" in steps:
        outputs.append(Output(Role.PATCHES, verdicts, if_there="classify" not in steps))
    if "best_patch" in steps and (best := analysis.best_patch) is not None:
        points = np.array([(best.y, best.x), *_candidates(analysis, best)], dtype=float)
        outputs.append(_best_patches(points, best.size, candidates=len(points) - 1))
    if "variance" in steps:
        outputs.append(_image(Role.VARIANCE, analysis.variance))
        outputs.append(Output(Role.AMORPHOUS, analysis.amorphous.astype(np.uint8)))
    if "symmetry" in steps:
        limits = severity_range(analysis.severity, analysis.threshold)
        outputs.append(Output(Role.SEVERITY, analysis.severity, {"contrast_limits": limits}))
        rest = hatched(analysis)
        outputs.append(Output(Role.NOT_ASSESSED, rest, if_there=bool(analysis.valid_mask.all())))
        outputs += _lattices(analysis)
    if "segment" in steps:
        outputs.append(Output(Role.LABELS, analysis.labels.astype(np.uint8)))
    order = [Role.SEVERITY, Role.LABELS, *Role]
    return sorted(outputs, key=lambda output: order.index(output.role))


def _histogram(analysis: Analysis) -> Histogram | None:
    """Histogram of the severity, None where no pixel was assessed."""
    values = analysis.severity[analysis.valid_mask]
    if values.size == 0:
        return None
    low, high = severity_range(analysis.severity, analysis.threshold)
    low = min(low, float(np.quantile(values[:: max(1, values.size // _SAMPLED)], 0.001)))
    counts, edges = np.histogram(values, bins=_BINS, range=(low, high))
    return Histogram(counts, edges, 0.0 if analysis.threshold is None else analysis.area_periods)


def region_output(numbered: NDArray[np.integer[Any]], regions: tuple[Region, ...], frame: int) -> Output:
    """Layer of the numbered regions of a frame; its table is the table of regions."""
    from napari_hrstem_defects.io.tables import region_rows

    rows = region_rows(regions)
    features: dict[str, Any] = {"index": [0, *(row["id"] for row in rows)]}
    if rows:
        features |= {key: [None, *(row[key] for row in rows)] for key in _REGION_KEYS}
    return Output(Role.REGIONS, numbered, features=features, frame=frame)


def class_colour(number: int) -> str:
    """Colour of a class of a scan; the clean one's is seen in its votes only."""
    return CLASS_COLOURS[(number - 1) % len(CLASS_COLOURS)] if number else CLEAN_COLOUR


def lattice_patches(analysis: Analysis, *, make: bool = False) -> Output:
    """Frames of the model patches of further lattices; no layer is made for none unless `make`."""
    patches = [] if analysis.domains is None else [domain.patch for domain in analysis.domains.domains[1:]]
    size = analysis.patches.grid.size if analysis.best_patch is None else analysis.best_patch.size
    colours = [domain_colour(number) for number in range(1, len(patches) + 1)] or domain_colour(1)
    return Output(
        Role.LATTICE_PATCHES,
        np.array([(patch.y, patch.x) for patch in patches], dtype=float).reshape(-1, 2),
        {"size": size, "border_color": colours},
        if_there=not patches and not make,
    )


def scan_outputs(scan: Scan, frame: int) -> list[Output]:
    """Of each class of a scan how likely it is and the published vote mask, and the map of all classes.

    Only the map is shown at first. No pixels are copied.
    """
    from napari_hrstem_defects.models.scan import UNCERTAIN

    outputs = [
        Output(Role.CLASS_SCORES, scan.probabilities[number], part=name)
        for number, name in enumerate(scan.classes)
    ]
    for number, name in enumerate(scan.classes):
        table = {"index": [0, 1], "class": [f"not {name}", name]}
        colours = {"colormap": {1: class_colour(number)}}
        votes = scan.votes[number].view(np.uint8)
        outputs.append(Output(Role.CLASS_VOTES, votes, colours, features=table, part=name))
    known = [*range(len(scan.classes)), UNCERTAIN]
    shown = {number: class_colour(number) for number in known[1:-1]} | {UNCERTAIN: NOT_ASSESSED_COLOUR}
    table = {"index": known, "class": [*scan.classes, "uncertain"]}
    outputs.append(Output(Role.CLASSES, scan.labels, {"colormap": shown}, features=table))
    return [replace(output, frame=frame) for output in outputs]


def best_patches_of_series(patches: Mapping[int, BestPatch | None]) -> list[Output]:
    """Layer of the best patches of the frames of a series."""
    found = {frame: best for frame, best in patches.items() if best is not None}
    points = np.array([(frame, best.y, best.x) for frame, best in found.items()], dtype=float)
    sizes = [best.size for best in found.values()]
    return [_best_patches(points, sizes[0])] if found else []


def _best_patches(points: NDArray[np.float64], size: float, candidates: int = 0) -> Output:
    """Layer of the best patch, or those of several frames, and last of other places that are offered, dimmed."""
    colours = [BEST_PATCH_COLOUR] * (len(points) - candidates) + [CANDIDATE_COLOUR] * candidates
    return Output(Role.BEST_PATCH, points, {"size": size, "border_color": colours})


def _candidates(analysis: Analysis, best: BestPatch) -> list[tuple[float, float]]:
    """The next best patches by W that do not overlap the chosen one."""
    from napari_hrstem_defects.core.best_patch import weights

    clean = ~analysis.patches.defective
    weight = weights(clean, depth=analysis.recipe.best_patch.depth) if clean.any() else np.zeros(clean.shape)
    found: list[tuple[float, float]] = []
    for index in np.argsort(-weight, axis=None, kind="stable"):
        row, column = np.unravel_index(index, weight.shape)
        if not clean[row, column] or len(found) == CANDIDATES:
            break
        y, x = analysis.patches.grid.centres[row, column]
        if max(abs(y - best.y), abs(x - best.x)) >= best.size:
            found.append((float(y), float(x)))
    return found


def hatched(analysis: Analysis) -> NDArray[np.uint8]:
    """Oblique stripes, 1, of the pixels that no defect can be found in."""
    height, width = analysis.valid_mask.shape
    y, x = np.ogrid[:height, :width]
    stripe = max(2, min(height, width) // _STRIPES)
    return (~analysis.valid_mask & ((y + x) // stripe % 2 == 0)).astype(np.uint8)


def _lattices(analysis: Analysis) -> list[Output]:
    """Which lattice each pixel belongs to, and the model patches of all but the first."""
    from napari_hrstem_defects.io.domains import domain_image, domain_rows

    others = () if analysis.domains is None else analysis.domains.domains[1:]
    rows = domain_rows(analysis)
    table: dict[str, Any] = {"index": [row["domain"] for row in rows]}
    if rows:
        table |= {key: [row[key] for row in rows] for key in ("relation", "crystal", "fraction")}
    numbers = Output(Role.LATTICES, domain_image(analysis), features=table, if_there=not others)
    return [numbers, lattice_patches(analysis)]


def _image(role: Role, values: NDArray[Any]) -> Output:
    step = max(1, values.size // _SAMPLED)
    low, high = (float(v) for v in np.quantile(values.ravel()[::step], (0.002, 0.998)))
    return Output(role, values, {"contrast_limits": (low, high if high > low else low + 1.0)})
