"""Probable type of a marked region with a calibrated confidence: a multinomial logistic regression on its features.

The coefficients in ``defect_types.json`` are fitted to simulated micrographs that the whole analysis has run on
(``python -m benchmarks.accuracy.types fit``). A region unlike all of those is of unknown type, however clearly the
regression would decide.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.core.autocorrelation import Field, autocorrelation_field
from napari_hrstem_defects.core.best_patch import BestPatch
from napari_hrstem_defects.core.displacement import lattice_phases
from napari_hrstem_defects.core.domains import DomainMap
from napari_hrstem_defects.core.geometry import prepared_slices
from napari_hrstem_defects.core.lattice import Lattice
from napari_hrstem_defects.core.preprocessing import Prepared
from napari_hrstem_defects.core.region_features import Surroundings
from napari_hrstem_defects.core.regions import Region

#: Type and confidence of a region, by its mask in its bounding box.
Judge = Callable[[Region, NDArray[np.bool_]], tuple[str, float]]
#: Every type there is.
TYPES = (
    "stacking fault",
    "intrinsic stacking fault",
    "extrinsic stacking fault",
    "twin boundary",
    "twin lamella",
    "grain boundary",
    "second grain",
    "second phase",
    "inversion domain",
    "antiphase domain",
    "dislocation core",
    "vacancy-like",
    "interstitial-like",
    "amorphous",
    "interface",
    "unknown",
)
UNKNOWN = ("unknown", 0.0)
#: A type is given from this confidence on: it is then more probable than all others together.
CONFIDENT = 0.5
#: Standardised features beyond this are what a division by a small scale makes.
MOST_DEVIATION = 5.0
_FAULTS = ("stacking fault", "intrinsic stacking fault", "extrinsic stacking fault")


@dataclass(frozen=True, eq=False)
class TypeClassifier:
    """Multinomial logistic regression on standardised features, and where the regions lie that it was fitted to.

    Attributes
    ----------
    features : tuple of str
        Names of the features that are used, keys of `region_features.FEATURES`.
    types : tuple of str
        Some of `TYPES`.
    mean, scale : float array (d,)
        Of the features.
    weights : float array (d, k)
        Of each standardised feature for each type.
    bias : float array (k,)
    centres : float array (k, d)
        Mean standardised features of each type.
    whitening : float array (d, d)
        Turns standardised features into uncorrelated ones of variance 1 within a type.
    limit : float
        Distance to the centre of their own type that one in a hundred regions exceeds.
    """

    features: tuple[str, ...]
    types: tuple[str, ...]
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    weights: NDArray[np.float64]
    bias: NDArray[np.float64]
    centres: NDArray[np.float64]
    whitening: NDArray[np.float64]
    limit: float

    @classmethod
    def from_json(cls, text: str) -> TypeClassifier:
        """Read a file of coefficients."""
        known: dict[str, Any] = json.loads(text)
        mean, scale, weights, bias, centres, whitening = (
            np.array(known[key], np.float64)
            for key in ("mean", "scale", "weights", "bias", "centres", "whitening")
        )
        features, types = tuple(known["features"]), tuple(known["types"])
        return cls(
            features, types, mean, scale, weights, bias, centres, whitening, limit=float(known["limit"])
        )

    def standardised(self, features: Mapping[str, float]) -> NDArray[np.float64]:
        """Features in standard deviations from their mean."""
        values = np.array([features[name] for name in self.features])
        return np.clip((values - self.mean) / self.scale, -MOST_DEVIATION, MOST_DEVIATION)

    def probabilities(self, features: Mapping[str, float]) -> dict[str, float]:
        """Of each type, if the region is like those it was fitted to."""
        exponents = self.standardised(features) @ self.weights + self.bias
        powers = np.exp(exponents - exponents.max())
        return dict(zip(self.types, (powers / powers.sum()).tolist(), strict=True))

    def familiarity(self, features: Mapping[str, float], name: str) -> float:
        """1 within `limit` of the centre of a type (Mahalanobis distance), the inverse square of the excess beyond.

        Distances to class centres with a common covariance: Lee et al., NeurIPS 31 (2018) 7167.
        """
        gap = (self.standardised(features) - self.centres[self.types.index(name)]) @ self.whitening
        return min(1.0, self.limit**2 / max(float(gap @ gap), 1e-12))

    def classify(self, features: Mapping[str, float]) -> tuple[str, float]:
        """Type and confidence; unknown below `CONFIDENT`."""
        found = self.probabilities(features)
        best = max(found, key=lambda name: found[name])
        familiar = self.familiarity(features, best)
        confidence = found[best] * familiar
        if best in _FAULTS and confidence < CONFIDENT:
            # A fault for sure, but of which layers is not.
            best, confidence = "stacking fault", familiar * sum(found.get(name, 0.0) for name in _FAULTS)
        return UNKNOWN if best == "unknown" or confidence < CONFIDENT else (best, confidence)


@cache
def default_classifier() -> TypeClassifier:
    """The classifier of the package."""
    return TypeClassifier.from_json(files(__package__).joinpath("defect_types.json").read_text("utf-8"))


def type_judge(
    labels: NDArray[np.uint8],
    prepared: Prepared | None,
    lattice: Lattice | None,
    best_patch: BestPatch | None,
    domains: DomainMap | None,
    field: Field | None = None,
) -> Judge | None:
    """A function that gives the type of a region, or None where the lattice is not known or nothing is marked.

    Parameters
    ----------
    labels : uint8 array (y, x)
        All that is marked.
    prepared : Prepared or None
    lattice : Lattice or None
        Of the model patch, in pixels of the frame.
    best_patch : BestPatch or None
    domains : DomainMap or None
    field : Field or None
        Computed if it is not given.

    Returns
    -------
    callable or None
        Give it to :func:`~.regions.find_regions`.
    """
    surroundings = surroundings_of(labels, prepared, lattice, best_patch, domains, field)
    if surroundings is None:
        return None
    return lambda region, mask: default_classifier().classify(surroundings(region, mask))


def surroundings_of(
    labels: NDArray[np.uint8],
    prepared: Prepared | None,
    lattice: Lattice | None,
    best_patch: BestPatch | None,
    domains: DomainMap | None,
    field: Field | None = None,
) -> Surroundings | None:
    """What gives the features of the regions, from the same as :func:`type_judge`; None where that is None."""
    if prepared is None or lattice is None or best_patch is None or not labels.any():
        return None
    phases = lattice_phases(prepared, lattice, prepared_slices(best_patch, prepared))
    if phases is None:
        return None
    if field is None:
        field = autocorrelation_field(prepared, prepared.valid)
    return Surroundings(labels, prepared, field, lattice, best_patch, domains, phases)
