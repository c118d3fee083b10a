"""Type of a region from its features, with a calibrated confidence: a multinomial logistic regression.

Its coefficients in ``defect_types.json`` are fitted to simulated micrographs that the whole analysis has run on
(``python -m benchmarks.accuracy.types fit``). A region unlike all of those is of unknown type, however clearly the
regression would decide.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: Every type there is.
# fmt: off
TYPES = (
    "stacking fault", "intrinsic stacking fault", "extrinsic stacking fault", "twin boundary", "twin lamella",
    "grain boundary", "second grain", "second phase", "inversion domain", "antiphase domain", "dislocation core",
    "vacancy-like", "interstitial-like", "amorphous", "interface", "unknown",
)
# fmt: on
UNKNOWN = ("unknown", 0.0)
#: A type is given from this confidence on: it is then more probable than all others together.
CONFIDENT = 0.5
_FAULTS = ("stacking fault", "intrinsic stacking fault", "extrinsic stacking fault")


@dataclass(frozen=True, eq=False)
class TypeClassifier:
    """Multinomial logistic regression on standardised features, and where the regions lie that it was fitted to.

    Attributes
    ----------
    features : tuple of str
        Names of the features that are used, keys of :data:`.defect_types.FEATURES`.
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
    most : float
        Standardised features beyond this are what a division by a small scale makes.
    limit : float
        Distance to the centre of their own type that one in two hundred regions exceeds.
    """

    features: tuple[str, ...]
    types: tuple[str, ...]
    mean: Floats
    scale: Floats
    weights: Floats
    bias: Floats
    centres: Floats
    whitening: Floats
    most: float
    limit: float

    @classmethod
    def from_json(cls, text: str) -> TypeClassifier:
        """Read a file of coefficients."""
        known: dict[str, Any] = json.loads(text)
        for key, value in known.items():
            known[key] = tuple(value) if key in ("features", "types") else np.array(value, np.float64)[()]
        return cls(**known)

    def standardised(self, features: Mapping[str, float]) -> Floats:
        """Features in standard deviations from their mean."""
        values = np.array([features[name] for name in self.features])
        return np.clip((values - self.mean) / self.scale, -self.most, self.most)

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
        return self.limit**2 / max(float(gap @ gap), self.limit**2)

    def classify(self, features: Mapping[str, float]) -> tuple[str, float]:
        """Type and confidence; unknown below `CONFIDENT`."""
        found = self.probabilities(features)
        best = max(found, key=lambda name: found[name])
        familiar = self.familiarity(features, best)
        confidence = found[best] * familiar
        if best in _FAULTS and confidence < CONFIDENT:
            # A fault, but not certain of which layers.
            best, confidence = "stacking fault", familiar * sum(found.get(name, 0.0) for name in _FAULTS)
        return UNKNOWN if best == "unknown" or confidence < CONFIDENT else (best, float(confidence))


@cache
def default_classifier() -> TypeClassifier:
    """The classifier of the package."""
    return TypeClassifier.from_json(files(__package__).joinpath("defect_types.json").read_text("utf-8"))
