"""Medians and quantiles of large maps from an even sample of their pixels."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

#: Pixels that are looked at. Neighbours in a smoothed map say the same; the standard error of a median of this many
#: independent values is half a percent of their standard deviation.
ENOUGH = 1 << 16

Values = TypeVar("Values", bound=np.generic)


def even_sample(values: NDArray[Values]) -> NDArray[Values]:
    """About `ENOUGH` values spread evenly over an array, flat; all of them if there are not many more.

    In maps whole rows and columns are left out, so that what is looked at lies on a grid.
    """
    if values.size <= 2 * ENOUGH:
        return values.ravel()
    if values.ndim != 2:
        return values.ravel()[:: values.size // ENOUGH]
    step = max(1, int(np.sqrt(values.size / ENOUGH)))
    return values[step // 2 :: step, step // 2 :: step].ravel()
