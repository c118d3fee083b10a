"""How large the patches of an image are."""

from __future__ import annotations

from napari_hrstem_defects.core.errors import RecipeError
from napari_hrstem_defects.core.lattice import Lattice
from napari_hrstem_defects.core.micrograph import MIN_SIDE_PX

#: Usual edge of a patch in pixels ([D]); a patch must also hold this many periods, and an image two patches.
PATCH_PX = 128
PATCH_PERIODS = 5.0

#: Periods that the patches of a small image hold where half its side does not hold more.
LEAST_PERIODS = 4.0
#: Patches that a classifier was made for are taken from this many periods on: filters can still be learnt from one.
MADE_FOR_PERIODS = 2.5
#: Largest patch of a small image that would otherwise hold too few periods, as a share of its shorter side.
MOST_OF_SIDE = 0.7


def patch_size(shape: tuple[int, int], lattice: Lattice | None, wanted: int = 0, made_for: int = 0) -> int:
    """Edge of the patches of an image, in pixels.

    Parameters
    ----------
    shape : tuple of int
        Image shape ``(y, x)``.
    lattice : Lattice or None
        Lattice of the image.
    wanted : int
        What the recipe says; 0: what the classifier was made for, or `PATCH_PX`, more where fewer than `PATCH_PERIODS`
        periods would fit, less on small images, and then a whole number of periods.
    made_for : int
        What a classifier was made for, 0: any size. Too few periods are not taken, rather resampled.
    """
    shorter = min(shape)
    if wanted:
        if wanted < MIN_SIDE_PX:
            raise RecipeError(
                f"classify.patch_size must be 0 (automatic) or at least {MIN_SIDE_PX} px, not {wanted}."
            )
        return min(wanted, shorter)
    made_for = made_for and max(made_for, MIN_SIDE_PX)
    if made_for and (lattice is None or made_for >= MADE_FOR_PERIODS * lattice.period_px):
        return min(made_for, shorter)
    if lattice is None:
        return min(PATCH_PX, shorter // 2)
    size = max(PATCH_PX, round(PATCH_PERIODS * lattice.period_px))
    if size <= shorter // 2:
        return size
    most = max(shorter // 2, min(round(LEAST_PERIODS * lattice.period_px), round(MOST_OF_SIDE * shorter)))
    periods = int(most / lattice.period_px + 0.1)
    return min(most, round(periods * lattice.period_px)) if periods >= 2 else most
