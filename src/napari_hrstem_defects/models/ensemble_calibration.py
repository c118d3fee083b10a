"""Make probabilities of what binary networks say: a line through the logits, fitted on patches held out."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Fewer held-out patches of a class, or of the rest, than this say nothing about its calibration.
FEWEST = 5


def calibrate(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> dict[str, list[Any]]:
    """Platt scaling of each class on held-out patches, positives and the rest with equal weight.

    Parameters
    ----------
    logits : float array (n, classes)
        What the networks say before their sigmoids.
    labels : int array (n,)
        Number of the class.

    Returns
    -------
    dict
        ``slope`` and ``offset`` of the line through the logits, for each class, and ``fitted``: whether there were
        enough patches. A class without them gets the mean slope of the others and no offset.

    References
    ----------
    .. Platt, Advances in Large Margin Classifiers (1999) 61; Guo et al., ICML 2017.
    """
    values: NDArray[np.float64] = np.asarray(logits, np.float64)
    count = values.shape[1]
    slopes, offsets, fitted = np.ones(count), np.zeros(count), np.zeros(count, bool)
    for k in range(count):
        positive = labels == k
        if min(np.count_nonzero(positive), np.count_nonzero(~positive)) >= FEWEST:
            slopes[k], offsets[k] = _fit(values[:, k], positive)
            fitted[k] = True
    if fitted.any():
        slopes[~fitted] = slopes[fitted].mean()
    return {"slope": slopes.tolist(), "offset": offsets.tolist(), "fitted": fitted.tolist()}


def calibrated_logits(logits: NDArray[np.floating], calibration: Any) -> NDArray[np.float64]:
    """Logits of the calibrated probabilities (n, classes); an empty calibration leaves those of the networks.

    They still differ where the probabilities round to one.
    """
    values: NDArray[np.float64] = np.asarray(logits, np.float64)
    if not calibration:
        return values
    slope, offset = (np.asarray(calibration[key], np.float64) for key in ("slope", "offset"))
    return slope * values + offset


def _fit(logits: NDArray[np.float64], positive: NDArray[np.bool_]) -> tuple[float, float]:
    from sklearn.linear_model import LogisticRegression

    line = LogisticRegression(class_weight="balanced").fit(logits[:, None], positive)
    return float(line.coef_[0, 0]), float(line.intercept_[0])
