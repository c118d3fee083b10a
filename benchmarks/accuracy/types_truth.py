"""What a marked region of a simulated micrograph is in truth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_hrstem_defects.core.best_patch import BestPatch, frame_slices
from napari_hrstem_defects.simulation.truth import Defect

Mask = NDArray[np.bool_]

#: What a simulated defect is called where its own name is no type.
_NAMES = {
    "stacking fault lamella": "stacking fault",
    "dislocation": "dislocation core",
    "vacancy": "vacancy-like",
    "interstitial": "interstitial-like",
    "vacuum": "amorphous",
    "beam damage": "amorphous",
}
_WALLS = ("twin boundary", "grain boundary", "interface")
_GRAINS = ("second grain", "inversion domain", "second phase")
_LAMELLAE = ("twin lamella", "stacking fault lamella")
#: Share of a defect that lies in a region which holds it.
HELD = 0.5


def true_name(defect: Defect) -> str:
    """Type of a simulated defect."""
    if defect.kind == "antiphase boundary":
        return "inversion domain" if defect.details.get("relation") == "inversion" else "antiphase domain"
    if defect.kind == "substitution":
        return "interstitial-like" if defect.details["relative_signal"] > 1 else "vacancy-like"
    return _NAMES.get(defect.kind, defect.kind)


def true_masks(
    defects: Sequence[Defect], patch: BestPatch | None, shape: tuple[int, int], *, grains: bool = True
) -> list[tuple[str, str, Mask]]:
    """Type, kind and mask of every simulated defect, seen from the grain that the best patch lies in.

    Parameters
    ----------
    defects : sequence of Defect
    patch : BestPatch or None
    shape : (int, int)
    grains : bool
        Whether a second grain or phase is a defect as a whole; otherwise only its walls are.
    """
    lost = np.zeros(shape, bool)
    for defect in defects:
        if defect.label == 2:
            lost |= defect.mask
    out = []
    for defect in defects:
        if not grains and defect.kind in ("second grain", "second phase"):
            continue
        if defect.kind == "dislocation" and defect.details.get("partial"):
            # The end of a fault, which is there as well.
            continue
        name, mask = true_name(defect), defect.mask
        swapped = defect.kind in (*_GRAINS, *_LAMELLAE) and patch is not None
        if swapped and patch is not None and mask[frame_slices(patch, shape)].mean() > HELD:
            mask = ~mask & ~lost
            name = "second grain" if defect.kind in _LAMELLAE else name
        out.append((name, defect.kind, mask))
    return out


def region_truth(
    masks: list[tuple[str, str, Mask]], window: tuple[slice, slice], inside: Mask, reach: int
) -> tuple[str, bool]:
    """What a region is in truth and whether it holds several defects; ``""`` if there is none within a period.

    Parameters
    ----------
    masks : list
        From :func:`true_masks`.
    window, inside
        Bounding box and mask of the region.
    reach : int
        A period in pixels.
    """
    overlaps = [int(np.count_nonzero(mask[window] & inside)) for _, _, mask in masks]
    held = [
        kind
        for (_, kind, mask), overlap in zip(masks, overlaps, strict=True)
        if overlap > HELD * np.count_nonzero(mask) and kind not in _WALLS
    ]
    if any(kind in _GRAINS for kind in held):
        # The wall of an inversion domain is a part of it.
        held = [kind for kind in held if kind != "antiphase boundary"]
    if not any(overlaps):
        wide = tuple(slice(max(0, s.start - reach), s.stop + reach) for s in window)
        if masks:
            grown = np.ones(masks[0][2][wide].shape, bool)
            top, left = (s.start - w.start for s, w in zip(window, wide, strict=True))
            grown[top : top + inside.shape[0], left : left + inside.shape[1]] = ~inside
            grown = ndimage.distance_transform_edt(grown) <= reach
            overlaps = [int(np.count_nonzero(mask[wide] & grown)) for _, _, mask in masks]
        if not any(overlaps):
            return "", False
    return masks[int(np.argmax(overlaps))][0], len(held) > 1
