"""What an analysis of one frame found: a typed, frozen result of each step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import networkx as nx
import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_hrstem_defects.core.autocorrelation import Field
from napari_hrstem_defects.core.best_patch import BestPatch
from napari_hrstem_defects.core.calibration import severity_of
from napari_hrstem_defects.core.domains import DomainMap
from napari_hrstem_defects.core.eigenfilters import Bank
from napari_hrstem_defects.core.lattice import Lattice
from napari_hrstem_defects.core.micrograph import Frame, Micrograph
from napari_hrstem_defects.core.patches import PatchClassifier, PatchGrid, PatchTable
from napari_hrstem_defects.core.plateaus import Plateaus
from napari_hrstem_defects.core.preprocessing import Prepared
from napari_hrstem_defects.core.published import PublishedMaps
from napari_hrstem_defects.core.recipe import Recipe
from napari_hrstem_defects.core.regions import Region

#: The steps in the order in which data flow.
STEPS = ("preprocess", "domains", "classify", "best_patch", "variance", "symmetry", "segment", "regions")


@dataclass(frozen=True, eq=False)
class Inputs:
    """What an analysis is asked for.

    Attributes
    ----------
    micrograph : Micrograph
    frame : Frame
        Its pixels, checked.
    recipe : Recipe
    classifier : PatchClassifier or None
    patch_labels : array or None
        Patches classified by hand.
    wanted_patch : BestPatch, (y, x) or None
        Placed by hand.
    cancelled : callable or None
    """

    micrograph: Micrograph
    frame: Frame
    recipe: Recipe
    classifier: PatchClassifier | None = None
    patch_labels: ArrayLike | None = None
    wanted_patch: BestPatch | tuple[float, float] | None = None
    cancelled: Callable[[], bool] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Shape ``(y, x)`` of the frame."""
        return self.micrograph.frame_shape


@dataclass(frozen=True, eq=False)
class Preprocessed:
    """The image as later steps see it; None where no lattice was found.

    Attributes
    ----------
    typical : Lattice or None
        Lattice of the image as a whole, which sets the scales, in pixels of the frame.
    prepared : Prepared or None
    field : Field or None
    level : float32 array (y, x) or None
        Contrast level on the grid of the severity.
    empty : bool array (y, x) or None
        Vacuum, in pixels of the frame.
    """

    typical: Lattice | None = None
    prepared: Prepared | None = None
    field: Field | None = None
    level: NDArray[np.float32] | None = None
    empty: NDArray[np.bool_] | None = None


@dataclass(frozen=True, eq=False)
class Divided:
    """Areas of one lattice each; None where no lattice was found."""

    plateaus: Plateaus | None = None


@dataclass(frozen=True, eq=False)
class Classified:
    """The patches as classified by the screening, a trained classifier or by hand."""

    screened: PatchTable


@dataclass(frozen=True, eq=False)
class Chosen:
    """The model patch and the graph that it was chosen from.

    Attributes
    ----------
    best_patch : BestPatch or None
        None where no lattice was found.
    graph : networkx.Graph
        Neighbourhood graph of the clean patches, nodes ``(row, column)``; empty for a patch placed by hand.
    """

    best_patch: BestPatch | None = None
    graph: nx.Graph = field(default_factory=nx.Graph)


@dataclass(frozen=True, eq=False)
class Varied:
    """Local variance of the image and what has lost its order, both ``(y, x)``."""

    variance: NDArray[np.float32]
    amorphous: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Compared:
    """Severity of symmetry breaking.

    Attributes
    ----------
    severity : float32 array (y, x)
    valid_mask : bool array (y, x)
    domains : DomainMap or None
    banks : tuple of Bank
        The models that distances were taken to: usual scale and that of point defects, of each intact domain.
    excess : float32 array (y, x) or None
        Squared template distance relative to the undisturbed one, less 1.
    lattice : Lattice or None
        Of the reference crystal, in pixels of the frame.
    area_periods : float
        Area assessed, in squared lattice periods.
    """

    severity: NDArray[np.float32]
    valid_mask: NDArray[np.bool_]
    excess: NDArray[np.float32] | None = None
    domains: DomainMap | None = None
    banks: tuple[Bank, ...] = ()
    lattice: Lattice | None = None
    area_periods: float = 0.0


@dataclass(frozen=True, eq=False)
class Segmented:
    """Labels, and the final verdict on each patch: the share of marked pixels in it."""

    labels: NDArray[np.uint8]
    patches: PatchTable


@dataclass(frozen=True, eq=False)
class Listed:
    """The connected defects."""

    regions: tuple[Region, ...]


Result = Preprocessed | Divided | Classified | Chosen | Varied | Compared | Segmented | Listed


@dataclass(frozen=True, eq=False)
class Analysis:
    """Everything found out about one frame.

    What belongs to steps that were not run is empty: None, no rows, arrays of shape ``(0, 0)``.

    Attributes
    ----------
    micrograph : Micrograph
        The input, one frame ``(y, x)``.
    recipe : Recipe
    results : mapping of str to Result
        What each step found, by its name in `STEPS`.
    timings : mapping of str to float
        Seconds per step.
    warnings_by_step : mapping of str to tuple of str
    maps : PublishedMaps or None
        All maps of the published mode.

    Examples
    --------
    Nothing is marked in a perfect lattice, here of columns 10 px apart:

    >>> import numpy as np, napari_hrstem_defects as hd
    >>> y, x = np.mgrid[:160, :160]
    >>> image = np.exp(-((x % 10 - 5) ** 2 + (y % 10 - 5) ** 2) / 4)
    >>> image += np.random.default_rng(0).normal(0, 0.1, image.shape)
    >>> analysis = hd.analyze(hd.Micrograph(image))
    >>> analysis.verdict, analysis.labels.shape, round(analysis.lattice.period_px)
    ('non-defective', (160, 160), 10)
    """

    micrograph: Micrograph
    recipe: Recipe
    results: Mapping[str, Result] = field(default_factory=dict)
    timings: Mapping[str, float] = field(default_factory=dict)
    warnings_by_step: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    maps: PublishedMaps | None = None

    def _of(self, step: str) -> object:
        return self.results.get(step)

    @property
    def steps(self) -> tuple[str, ...]:
        """The steps that were run; all of `STEPS` unless the analysis was stopped early."""
        return tuple(step for step in STEPS if step in self.results)

    @property
    def is_complete(self) -> bool:
        """Whether every step was run."""
        return len(self.steps) == len(STEPS)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings about the result, and what was changed in the input."""
        return (
            *self.micrograph.notices,
            *(text for step in STEPS for text in self.warnings_by_step.get(step, ())),
        )

    @property
    def typical(self) -> Lattice | None:
        """Lattice of the image as a whole, in pixels of the frame."""
        found = self._of("preprocess")
        return found.typical if isinstance(found, Preprocessed) else None

    @property
    def prepared(self) -> Prepared | None:
        """The image resampled, band-passed and with normalised contrast."""
        found = self._of("preprocess")
        return found.prepared if isinstance(found, Preprocessed) else None

    @property
    def field(self) -> Field | None:
        """Field of local autocorrelations."""
        found = self._of("preprocess")
        return found.field if isinstance(found, Preprocessed) else None

    @property
    def filtered(self) -> NDArray[np.float32] | None:
        """The image as the published filters see it (published mode)."""
        return None if self.maps is None else self.maps.filtered

    @property
    def plateaus(self) -> Plateaus | None:
        """Areas of one lattice each, on the grid of the field."""
        found = self._of("domains")
        return found.plateaus if isinstance(found, Divided) else None

    @property
    def boundaries(self) -> NDArray[np.float32] | None:
        """How differently the lattice repeats on the two sides of each pixel, ``(y, x)``, without a reference."""
        if self.plateaus is None or self.field is None or self.prepared is None:
            return None
        return self.field.to_frame(self.plateaus.step, self.prepared)

    @property
    def screened(self) -> PatchTable:
        """The patches as first classified or painted."""
        found = self._of("classify")
        return found.screened if isinstance(found, Classified) else _no_patches(self.micrograph.frame_shape)

    @property
    def patches(self) -> PatchTable:
        """Final verdict on each patch; before the segmentation as first classified."""
        found = self._of("segment")
        return found.patches if isinstance(found, Segmented) else self.screened

    @property
    def best_patch(self) -> BestPatch | None:
        """The model patch; None where no lattice was found."""
        found = self._of("best_patch")
        return found.best_patch if isinstance(found, Chosen) else None

    @property
    def patch_graph(self) -> nx.Graph:
        """Neighbourhood graph of the clean patches that the best patch was chosen from."""
        found = self._of("best_patch")
        return found.graph if isinstance(found, Chosen) else nx.Graph()

    @property
    def severity(self) -> NDArray[np.float32]:
        """Symmetry breaking in robust standard deviations (default mode), or the Mahalanobis distance (published)."""
        found = self._of("symmetry")
        return found.severity if isinstance(found, Compared) else np.zeros((0, 0), np.float32)

    @property
    def valid_mask(self) -> NDArray[np.bool_]:
        """False where a pixel is too near the rim or holds no image."""
        found = self._of("symmetry")
        return found.valid_mask if isinstance(found, Compared) else np.zeros((0, 0), np.bool_)

    @property
    def domains(self) -> DomainMap | None:
        """The lattices found and which pixel belongs to which (default mode)."""
        found = self._of("symmetry")
        return found.domains if isinstance(found, Compared) else None

    @property
    def lattice(self) -> Lattice | None:
        """Lattice of the reference crystal, in pixels of the frame."""
        found = self._of("symmetry")
        return found.lattice if isinstance(found, Compared) else None

    @property
    def banks(self) -> tuple[Bank, ...]:
        """The models that distances were taken to (default mode)."""
        found = self._of("symmetry")
        return found.banks if isinstance(found, Compared) else ()

    @property
    def area_periods(self) -> float:
        """Area that was assessed, in squared lattice periods: the number of trials."""
        found = self._of("symmetry")
        return found.area_periods if isinstance(found, Compared) else 0.0

    @property
    def threshold(self) -> float | None:
        """Severity that a defect must exceed somewhere (default mode)."""
        if self.recipe.mode != "lattice" or not self.area_periods:
            return None
        return severity_of(self.recipe.segment.false_marks, self.area_periods)

    @property
    def variance(self) -> NDArray[np.float32]:
        """Local variance."""
        found = self._of("variance")
        return found.variance if isinstance(found, Varied) else np.zeros((0, 0), np.float32)

    @property
    def amorphous(self) -> NDArray[np.bool_]:
        """Areas that have lost their order: amorphous, blurred, damaged or empty."""
        found = self._of("variance")
        return found.amorphous if isinstance(found, Varied) else np.zeros((0, 0), np.bool_)

    @property
    def labels(self) -> NDArray[np.uint8]:
        """0 crystal, 1 symmetry defect, 2 amorphous or blurred."""
        found = self._of("segment")
        return found.labels if isinstance(found, Segmented) else np.zeros((0, 0), np.uint8)

    @property
    def verdict(self) -> str:
        """``"defective"`` or ``"non-defective"``, empty where nothing could be assessed.

        Defective is an image with marked pixels; in the published mode one with a defective patch ([D], figure 2d).
        """
        if not self.is_complete or (self.typical is None and self.patches.classifier == "screening"):
            return ""
        found = self.patches.defective if self.recipe.mode == "published" else self.labels
        return "defective" if found.any() else "non-defective"

    @property
    def regions(self) -> tuple[Region, ...]:
        """The connected defects."""
        found = self._of("regions")
        return found.regions if isinstance(found, Listed) else ()

    def with_labels(
        self, labels: NDArray[np.uint8], regions: tuple[Region, ...], warning: str | None = None
    ) -> Analysis:
        """Copy with other labels and regions, as painted by hand, and a warning that says so."""
        warnings = dict(self.warnings_by_step)
        if warning is not None:
            warnings["regions"] = (*warnings.get("regions", ()), warning)
        results = {**self.results, "segment": Segmented(labels, self.patches), "regions": Listed(regions)}
        return replace(self, results=results, warnings_by_step=warnings)

    def taking_over(self, other: Analysis, steps: tuple[str, ...]) -> Analysis:
        """Add what another analysis of the same frame found in those of `steps` that were not run here."""
        missing = [step for step in other.steps if step in steps and step not in self.results]
        return replace(
            self,
            results={**self.results, **{step: other.results[step] for step in missing}},
            timings={**self.timings, **{step: other.timings[step] for step in missing}},
            warnings_by_step={
                **self.warnings_by_step,
                **{step: other.warnings_by_step.get(step, ()) for step in missing},
            },
        )


def _no_patches(shape: tuple[int, int]) -> PatchTable:
    nothing = np.zeros((0, 0))
    return PatchTable(
        PatchGrid(shape, min(shape)), nothing.astype(np.float32), 0.5, nothing.astype(bool), "none"
    )
