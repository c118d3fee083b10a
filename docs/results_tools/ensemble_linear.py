"""How much a linear model reads from the log spectra of patches: what networks on spectra are to be compared with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from napari_hrstem_defects.models.data import PatchSet
from napari_hrstem_defects.models.fft_features import log_spectra

#: Weight of the squared coefficients, and what is added to the standard deviations that the spectra are divided by: the
#: best of six ways on the splits for tuning (STO 200 to 203, CdTe 201 to 203).
PENALTY, LEAST_SPREAD = 0.01, 0.1
_PASSES = 300


@dataclass(frozen=True)
class Linear:
    """A trained model: scores are ``((spectrum - mean) / spread) @ weights + offset``."""

    mean: NDArray[np.float64]
    spread: NDArray[np.float64]
    weights: NDArray[np.float64]
    offset: NDArray[np.float64]


def train(patches: PatchSet) -> Linear:
    """Logistic regression (softmax) on the log spectra as published, all classes weighing the same."""
    values = _spectra(patches.pixels)
    mean, spread = values.mean(axis=0), values.std(axis=0) + LEAST_SPREAD
    values = (values - mean) / spread
    # There are fewer patches than pixels: in the space that the patches span nothing is lost.
    size, turn = np.linalg.eigh(values @ values.T)
    size = np.maximum(size, 1e-9 * size.max())
    within = turn * np.sqrt(size)
    identity = np.eye(len(patches.classes))[patches.labels]
    importance = (1 / np.maximum(identity.sum(axis=0), 1))[patches.labels] / len(patches.classes)

    def cost(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights = flat.reshape(within.shape[1] + 1, -1)
        scores = within @ weights[:-1] + weights[-1]
        scores -= scores.max(axis=1, keepdims=True)
        shares = np.exp(scores)
        shares /= shares.sum(axis=1, keepdims=True)
        own = np.maximum((shares * identity).sum(axis=1), 1e-300)
        slope = importance[:, None] * (shares - identity)
        total = -(importance * np.log(own)).sum() + PENALTY / 2 * (weights[:-1] ** 2).sum()
        gradient = np.vstack([within.T @ slope + PENALTY * weights[:-1], slope.sum(axis=0)])
        return float(total), gradient.ravel()

    start = np.zeros((within.shape[1] + 1) * identity.shape[1])
    found = minimize(cost, start, jac=True, method="L-BFGS-B", options={"maxiter": _PASSES})
    weights = found.x.reshape(within.shape[1] + 1, -1)
    return Linear(mean, spread, values.T @ (turn / np.sqrt(size)) @ weights[:-1], weights[-1])


def said(model: Linear, pixels: NDArray[np.float32]) -> NDArray[np.float64]:
    """Scores (n, classes) of patches."""
    out: NDArray[np.float64] = (_spectra(pixels) - model.mean) / model.spread @ model.weights + model.offset
    return out


def _spectra(pixels: NDArray[np.float32]) -> NDArray[np.float64]:
    return log_spectra(pixels).reshape(len(pixels), -1).astype(np.float64)
