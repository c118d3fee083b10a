"""What an analysis becomes in napari: layers described outside the GUI's thread, where all arrays are computed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.core.best_patch import BestPatch, weights
from napari_hrstem_defects.core.pipeline import Analysis
from napari_hrstem_defects.core.regions import Region, label_regions
from napari_hrstem_defects.io.display import (
    AMORPHOUS_COLOUR,
    BEST_PATCH_COLOUR,
    SYMMETRY_COLOUR,
    severity_range,
)
from napari_hrstem_defects.io.domains import domain_image, domain_rows
from napari_hrstem_defects.io.tables import region_rows
from napari_hrstem_defects.models.scan import UNCERTAIN, Scan
from napari_hrstem_defects.widgets.roles import NAMES, Role

#: Names of the classes of the label image, in the order of their values.
LABEL_CLASSES = ("crystal", "symmetry defect", "amorphous or blurred")
#: Values of the patch layer; 0, what the eraser leaves, means "as judged automatically".
PATCH_CLEAN, PATCH_DEFECTIVE = 1, 2
PATCH_CLASSES = ("as judged", "clean", "defective")
#: Okabe & Ito's bluish green and vermillion: told apart in any colour vision.
CLEAN_COLOUR = "#009E73"
#: Other good places for the best patch that are offered, dimmed.
CANDIDATES = 4
#: Grey of their frames.
CANDIDATE_COLOUR = "#BBBBBB80"
#: Okabe & Ito's colours that are not taken yet: reddish purple, blue, orange, bluish green, grey.
LATTICE_COLOURS = ("#CC79A7", "#0072B2", "#E69F00", "#009E73", "#BBBBBB")
#: Colours of the classes of a scan: theirs and the rest of the palette, but for the clean class's green.
CLASS_COLOURS = ("#CC79A7", "#0072B2", "#E69F00", "#56B4E9", "#D55E00", "#F0E442", "#BBBBBB")
#: Bins of the severity histogram.
HISTOGRAM_BINS = 120
#: Pixels that contrast limits are taken from.
_SAMPLED = 200_000


@dataclass(frozen=True, eq=False)
class Output:
    """One layer to be written.

    Attributes
    ----------
    role : Role
    kind : {"image", "labels", "points"}
    data : array
        Of the frame, ``(y, x)``; points ``(n, 2)``.
    options : dict
        Of the layer when it is made.
    kept_up : tuple of str
        Those options that follow a rerun as well; the others are the user's once the layer is there.
    if_there : bool
        Only keeps up a layer that is there already.
    zoom, offset : tuple of float
        Pixels of the image per pixel of the layer, and the centre of its first pixel in the image.
    features : dict or None
        Columns of the layer's table.
    part : str
        Which of several layers of the role; empty where there is one.
    frame : int or None
        Frame of a series that it shows; None: that of the latest analysis.
    """

    role: Role
    kind: str
    data: NDArray[Any]
    options: dict[str, Any] = field(default_factory=dict)
    kept_up: tuple[str, ...] = ()
    if_there: bool = False
    zoom: tuple[float, float] = (1.0, 1.0)
    offset: tuple[float, float] = (0.0, 0.0)
    features: dict[str, Any] | None = None
    part: str = ""
    frame: int | None = None

    @property
    def name(self) -> str:
        """What its layer is called when it is made, without the image's name."""
        return NAMES[self.role].format(part=self.part)


@runtime_checkable
class Layered(Protocol):
    """What comes back from a thread with layers to be written."""

    @property
    def outputs(self) -> list[Output]:
        """The layers."""
        ...

    @property
    def provenance(self) -> dict[str, Any]:
        """For their metadata."""
        ...


@dataclass(frozen=True, eq=False)
class Histogram:
    """Distribution of the severity of the judged pixels.

    Attributes
    ----------
    counts : int array (n,)
    edges : float array (n + 1,)
    area_periods : float
        Area judged, in squared lattice periods: tells the threshold from the expected false marks. 0: published mode.
    """

    counts: NDArray[np.int64]
    edges: NDArray[np.float64]
    area_periods: float


def describe(analysis: Analysis, steps: Collection[str]) -> list[Output]:
    """Layers of some steps of an analysis, from the bottom up."""
    makers = {
        "preprocess": _preprocessed,
        "domains": _boundaries,
        "classify": _patches,
        "variance": _variance,
        "symmetry": _severity,
        "segment": _labels,
        "best_patch": _best_patch,
    }
    outputs = [output for step, make in makers.items() if step in steps for output in make(analysis)]
    # In the published mode the filtered image is made together with the other maps.
    if "variance" in steps and "preprocess" not in steps and analysis.filtered is not None:
        outputs.extend(_preprocessed(analysis))
    # The final verdict on the patches is the share of labels in them.
    if "segment" in steps and "classify" not in steps:
        outputs.append(replace(_verdicts(analysis), if_there=True))
    order = list(Role)
    return sorted(outputs, key=lambda output: order.index(output.role))


def histogram(analysis: Analysis) -> Histogram | None:
    """Histogram of the severity, None where nothing was judged."""
    values = analysis.severity[analysis.judged]
    if values.size == 0:
        return None
    low, high = severity_range(analysis.severity, analysis.threshold)
    low = min(low, float(np.quantile(values[:: max(1, values.size // _SAMPLED)], 0.001)))
    counts, edges = np.histogram(values, bins=HISTOGRAM_BINS, range=(low, high))
    return Histogram(counts, edges, 0.0 if analysis.threshold is None else analysis.area_periods)


def region_outputs(labels: NDArray[np.integer[Any]], regions: tuple[Region, ...]) -> Output:
    """Layer of the numbered regions; its table is the table of regions."""
    rows = region_rows(regions)
    features: dict[str, Any] = {"index": [0, *(row["id"] for row in rows)]}
    if rows:
        features |= {
            key: [None, *(row[key] for row in rows)]
            for key in (
                "kind",
                "type",
                "confidence",
                "area_px",
                "area_nm2",
                "length_nm",
                "width_nm",
                "max_severity",
            )
        }
    numbered = label_regions(labels)
    return Output(Role.REGIONS, "labels", numbered, {"visible": False, "opacity": 0.5}, features=features)


def _preprocessed(analysis: Analysis) -> list[Output]:
    shape = analysis.micrograph.frame_shape
    if analysis.filtered is not None:
        values = analysis.filtered
    elif analysis.prepared is not None:
        values = analysis.prepared.values
    else:
        return []
    return [_image(Role.PREPROCESSED, values, shape, {"visible": False, "colormap": "gray"})]


def _patches(analysis: Analysis) -> list[Output]:
    table, shape = analysis.patches, analysis.micrograph.frame_shape
    scores = _image(
        Role.SCORES,
        table.scores.astype(np.float32),
        shape,
        {"visible": False, "colormap": "viridis", "opacity": 0.5, "blending": "translucent"},
    )
    return [scores, _verdicts(analysis)]


def _verdicts(analysis: Analysis) -> Output:
    verdict = np.where(analysis.patches.defective, PATCH_DEFECTIVE, PATCH_CLEAN).astype(np.uint8)
    zoom, offset = _cells(verdict.shape, analysis.micrograph.frame_shape)
    return Output(
        Role.PATCHES,
        "labels",
        verdict,
        {
            "visible": False,
            "opacity": 0.3,
            "colormap": {PATCH_CLEAN: CLEAN_COLOUR, PATCH_DEFECTIVE: SYMMETRY_COLOUR},
        },
        zoom=zoom,
        offset=offset,
        features={"index": [0, 1, 2], "class": list(PATCH_CLASSES)},
    )


def _best_patch(analysis: Analysis) -> list[Output]:
    best = analysis.best_patch
    if best is None:
        return []
    points = [(best.y, best.x), *_candidates(analysis, best)]
    colours = [BEST_PATCH_COLOUR] + [CANDIDATE_COLOUR] * (len(points) - 1)
    return [
        Output(
            Role.BEST_PATCH,
            "points",
            np.array(points, dtype=float),
            {**frame_options(best.size), "border_color": colours},
            features={"kind": ["best patch"] + ["candidate"] * (len(points) - 1)},
        )
    ]


def frame_options(size: float) -> dict[str, Any]:
    """Options of points that are drawn as frames of the size of a patch."""
    return {
        "symbol": "square",
        "size": size,
        "face_color": "transparent",
        "border_width": 0.03,
        "border_width_is_relative": True,
        "canvas_size_limits": (2, 10000),
    }


def _candidates(analysis: Analysis, best: BestPatch) -> list[tuple[float, float]]:
    """The next best patches by W that do not overlap the chosen one."""
    clean = ~analysis.patches.defective
    if not clean.any():
        return []
    weight = weights(clean, depth=analysis.recipe.best_patch.depth)
    centres = analysis.patches.grid.centres
    found: list[tuple[float, float]] = []
    for index in np.argsort(-weight, axis=None, kind="stable"):
        row, column = np.unravel_index(index, weight.shape)
        if not clean[row, column] or len(found) == CANDIDATES:
            break
        y, x = centres[row, column]
        if max(abs(y - best.y), abs(x - best.x)) >= best.size:
            found.append((float(y), float(x)))
    return found


def _severity(analysis: Analysis) -> list[Output]:
    low, high = severity_range(analysis.severity, analysis.threshold)
    options = {
        "colormap": "inferno",
        "blending": "additive",
        "opacity": 0.5,
        "contrast_limits": (low, high),
    }
    severity = Output(Role.SEVERITY, "image", analysis.severity, options, ("contrast_limits",))
    return [severity, *_lattices(analysis)]


def _boundaries(analysis: Analysis) -> list[Output]:
    """The map of boundaries without a reference, where the recipe asked for it."""
    if analysis.boundaries is None or not analysis.recipe.domains.boundary_map:
        return []
    options = {"visible": False, "colormap": "inferno", "blending": "additive"}
    return [_image(Role.BOUNDARIES, analysis.boundaries, analysis.micrograph.frame_shape, options)]


def _lattices(analysis: Analysis) -> list[Output]:
    """Which lattice each pixel belongs to, and the model patches of all but the first."""
    others = () if analysis.domains is None else analysis.domains.domains[1:]
    rows = domain_rows(analysis)
    features: dict[str, Any] = {"index": [row["domain"] for row in rows]}
    if rows:
        features |= {key: [row[key] for row in rows] for key in ("relation", "crystal", "fraction")}
    lattices = Output(
        Role.LATTICES,
        "labels",
        domain_image(analysis),
        {
            "visible": False,
            "opacity": 0.4,
            "colormap": lattice_colours(),
        },
        if_there=not others,
        features=features,
    )
    return [lattices, lattice_patches(analysis, [(d.patch.y, d.patch.x) for d in others])]


def lattice_patches(
    analysis: Analysis, points: Sequence[tuple[float, float]], *, make: bool = False
) -> Output:
    """Frames of the model patches of further lattices; no layer is made for none unless `make`."""
    others = () if analysis.domains is None else analysis.domains.domains[1:]
    by_hand = [domain.patch.placed == "hand" for domain in others]
    by_hand += [True] * (len(points) - len(by_hand))
    return Output(
        Role.LATTICE_PATCHES,
        "points",
        np.array(points, dtype=float).reshape(-1, 2),
        {
            **frame_options(
                analysis.patches.grid.size if analysis.best_patch is None else analysis.best_patch.size
            ),
            "border_color": [lattice_colour(number + 1) for number in range(len(points))]
            or LATTICE_COLOURS[0],
        },
        if_there=not points and not make,
        features={
            "lattice": [str(number + 1) for number in range(len(points))],
            "by_hand": by_hand[: len(points)],
        },
    )


def scan_outputs(scan: Scan, frame: int | None) -> list[Output]:
    """Of each class of a scan how likely it is and the published vote mask, and the map of all classes.

    Only the map is shown at first. No pixels are copied.
    """
    outputs = []
    for number, name in enumerate(scan.classes):
        probability = {
            "visible": False,
            "colormap": "inferno",
            "blending": "additive",
            "contrast_limits": (0.0, 1.0),
        }
        outputs.append(
            Output(
                Role.CLASS_SCORES,
                "image",
                scan.probabilities[number],
                probability,
                part=name,
                frame=frame,
            )
        )
    for number, name in enumerate(scan.classes):
        outputs.append(
            Output(
                Role.CLASS_VOTES,
                "labels",
                scan.votes[number].view(np.uint8),
                {"visible": False, "opacity": 0.5, "colormap": {1: class_colour(number)}},
                features={"index": [0, 1], "class": [f"not {name}", name]},
                part=name,
                frame=frame,
            )
        )
    known = [*range(len(scan.classes)), UNCERTAIN]
    colours = {number: class_colour(number) for number in known[1:-1]} | {UNCERTAIN: "#80808080"}
    classes = Output(
        Role.CLASSES,
        "labels",
        scan.labels,
        {"opacity": 0.5, "colormap": colours},
        features={"index": known, "class": [*scan.classes, "uncertain"]},
        frame=frame,
    )
    return [*outputs, classes]


def class_colour(number: int) -> str:
    """Colour of a class of a scan; the clean one's is seen in its votes only."""
    return CLASS_COLOURS[(number - 1) % len(CLASS_COLOURS)] if number else CLEAN_COLOUR


def lattice_colour(number: int) -> str:
    """Colour of a lattice; number 0, the best patch's, has none."""
    return LATTICE_COLOURS[(number - 1) % len(LATTICE_COLOURS)]


def lattice_colours() -> dict[int, str]:
    """Colours of all numbers that a map of lattices may hold."""
    return {number: lattice_colour(number) for number in range(1, 256)}


def _variance(analysis: Analysis) -> list[Output]:
    shape = analysis.micrograph.frame_shape
    mask = Output(
        Role.AMORPHOUS,
        "labels",
        analysis.amorphous.astype(np.uint8),
        {"visible": False, "opacity": 0.5, "colormap": {1: AMORPHOUS_COLOUR}},
        features={"index": [0, 1], "class": ["crystal", "amorphous or blurred"]},
    )
    options = {"visible": False, "colormap": "viridis"}
    return [_image(Role.VARIANCE, analysis.variance, shape, options), mask]


def _labels(analysis: Analysis) -> list[Output]:
    labels = Output(
        Role.LABELS,
        "labels",
        analysis.labels.astype(np.uint8),
        {"opacity": 0.9, "colormap": {1: SYMMETRY_COLOUR, 2: AMORPHOUS_COLOUR}},
        features={"index": [0, 1, 2], "class": list(LABEL_CLASSES)},
    )
    return [region_outputs(analysis.labels, analysis.regions), labels]


def _image(role: Role, values: NDArray[Any], shape: tuple[int, ...], options: dict[str, Any]) -> Output:
    step = max(1, values.size // _SAMPLED)
    low, high = (float(v) for v in np.quantile(values.ravel()[::step], (0.002, 0.998)))
    limits = (low, high if high > low else low + 1.0)
    zoom, offset = _cells(values.shape, shape)
    return Output(
        role,
        "image",
        values,
        {"contrast_limits": limits, **options},
        ("contrast_limits",),
        zoom=zoom,
        offset=offset,
    )


def _cells(
    counts: tuple[int, ...], shape: tuple[int, ...]
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Zoom and offset of a coarser raster that covers an image."""
    zoom = (shape[0] / counts[0], shape[1] / counts[1])
    return zoom, ((zoom[0] - 1) / 2, (zoom[1] - 1) / 2)
