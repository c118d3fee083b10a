"""The scale that a trained classifier knows: what its training data had, and whether an image has it too."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.core.image_lattice import typical_lattice
from napari_hrstem_defects.core.lattice import find_lattice
from napari_hrstem_defects.models.contract import Contract
from napari_hrstem_defects.models.data import LabelledImage, PatchSet

#: Factor by which an image may differ from the training data: the ensembles are trained with zooms up to it; a smaller
#: difference gives no warning.
TOLERANCE = 1.3
#: Clean patches of one source that are measured at most, and the share that must show a lattice.
MOST_PATCHES, LEAST_SHARE = 64, 0.5
#: Where the image of a patch is not known: quantiles of the periods, for single ones are measured wrongly.
QUANTILES = (0.1, 0.9)


def pixel_sizes(images: Sequence[LabelledImage]) -> tuple[float, float] | None:
    """Smallest and largest pixel size in nm; None unless it is known of every image."""
    sizes = [image.pixel_size_nm for image in images if image.pixel_size_nm is not None]
    return (min(sizes), max(sizes)) if sizes and len(sizes) == len(images) else None


def image_periods(images: Sequence[LabelledImage]) -> tuple[float, float] | None:
    """Smallest and largest lattice period in px; None unless every image shows a lattice."""
    periods = []
    for image in images:
        lattice = typical_lattice(image.pixels).lattice
        if lattice is None:
            return None
        periods.append(float(lattice.period_px))
    return (min(periods), max(periods)) if periods else None


def patch_periods(patches: PatchSet, edge: int) -> tuple[float, float] | None:
    """Smallest and largest lattice period in px of the images that clean patches were cut from.

    A patch has few periods, and some show a multiple of the cell. So of each image the median of its patches counts,
    and where it is not known which image they are from the range of most of them.

    Parameters
    ----------
    patches : PatchSet
    edge : int
        To how many pixels the patches are resampled.

    Returns
    -------
    (float, float) or None
        None unless `LEAST_SHARE` of the clean patches of every image show a lattice: in patches of less than about
        three periods nothing can be measured.
    """
    clean = patches.take(patches.labels == 0)
    sources = np.unique(clean.source)
    each = [_periods(clean.pixels[clean.source == source]) for source in sources]
    known = [periods for periods in each if periods is not None]
    if not known or len(known) < len(each):
        return None
    one_unknown = len(sources) == 1 and not sources[0]
    ends = np.quantile(known[0], QUANTILES) if one_unknown else [np.median(periods) for periods in known]
    return edge / patches.edge * float(min(ends)), edge / patches.edge * float(max(ends))


def warnings(
    contract: Contract, pixel_size_nm: float | None, period_px: float | None, factor: float = 1.0
) -> tuple[str, ...]:
    """Whether an image has another scale than what a classifier was trained on.

    Parameters
    ----------
    contract : Contract
    pixel_size_nm, period_px : float or None
        Of the image, where known.
    factor : float
        By which the classifier enlarges the image.

    Returns
    -------
    tuple of str
        One sentence, or none.
    """
    parts = []
    for value, known, form, unit in (
        (pixel_size_nm and pixel_size_nm / factor, contract.pixel_size_nm, ".3g", "nm a pixel"),
        (period_px and period_px * factor, contract.period_px, ".1f", "px a lattice period"),
    ):
        if not value or known is None or known[0] / TOLERANCE <= value <= known[1] * TOLERANCE:
            continue
        low, high = (format(end, form) for end in known)
        parts.append(f"{value:{form}} {unit} instead of {low if low == high else f'{low} to {high}'}")
    if not parts:
        return ()
    seen = "" if factor == 1 else ", as its patches are resampled"
    return (
        f"The classifier {contract.name} was trained at another scale than this image has{seen} "
        f"({', '.join(parts)}); do not trust its classes, or resample the image.",
    )


def _periods(patches: NDArray[np.float32]) -> NDArray[np.float64] | None:
    chosen = patches[np.linspace(0, len(patches) - 1, min(len(patches), MOST_PATCHES)).astype(np.intp)]
    found = [lattice for lattice in map(find_lattice, chosen) if lattice is not None]
    if len(found) < LEAST_SHARE * len(chosen):
        return None
    return np.array([lattice.period_px for lattice in found], np.float64)
