"""Domains of an analysis as files want them: an image in pixels of the frame and one table row a domain."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.core.pipeline import Analysis
from napari_hrstem_defects.io.tables import Row

DOMAIN_COLUMNS = (
    "domain",
    "relation",
    "crystal",
    "fraction",
    "misorientation_deg",
    "gain",
    "period_px",
    "patch_y_px",
    "patch_x_px",
    "patch_size_px",
)


def domain_image(analysis: Analysis) -> NDArray[np.uint8]:
    """Number of each pixel's domain, 0 the reference, uint8 ``(y, x)``."""
    shape = analysis.labels.shape
    found = analysis.domains
    if found is None:
        return np.zeros(shape, np.uint8)
    # Numbers cannot be interpolated: the pixel of the reduced image that this one lies in.
    rows, columns = (
        np.minimum(((np.arange(n) + 0.5) * m / n).astype(np.intp), m - 1)
        for n, m in zip(shape, found.index.shape, strict=True)
    )
    return np.asarray(found.index[np.ix_(rows, columns)], np.uint8)


def domain_rows(analysis: Analysis) -> list[Row]:
    """One row a domain: number in the image, relation to the first, whether it counts as crystal, model patch."""
    if analysis.domains is None:
        return []
    index = analysis.domains.index
    return [
        {
            "domain": number,
            "relation": domain.relation,
            "crystal": "yes" if domain.crystal else "no",
            "fraction": float(np.count_nonzero(index == number) / index.size),
            "misorientation_deg": domain.misorientation_deg,
            # The reference competes with nobody.
            "gain": domain.gain if math.isfinite(domain.gain) else None,
            "period_px": None if domain.lattice is None else domain.lattice.period_px,
            "patch_y_px": domain.patch.y,
            "patch_x_px": domain.patch.x,
            "patch_size_px": domain.patch.size,
        }
        for number, domain in enumerate(analysis.domains.domains)
    ]
