"""The best patch and the verdicts on patches, revised by what the severity maps say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.core.best_patch import PatchChoice, choose
from napari_hrstem_defects.core.domains import DomainMap
from napari_hrstem_defects.core.geometry import patch_corners, patch_edge, patch_means
from napari_hrstem_defects.core.interfaces import phase_bands
from napari_hrstem_defects.core.lattice import agreement
from napari_hrstem_defects.core.model import Model
from napari_hrstem_defects.core.patch_lattices import PatchLattices
from napari_hrstem_defects.core.patches import PatchTable
from napari_hrstem_defects.core.preprocessing import Prepared
from napari_hrstem_defects.core.recipe import BestPatchParams
from napari_hrstem_defects.core.segmentation import Null, hysteresis

#: Limit of the spread of the severity inside a patch, on the scale of the log distance, beyond which it seems to
#: contain a defect.
IMPURE = 0.8
#: So many patches that seem to contain one are passed over.
MOST_IMPURE = 3
#: Strength of its lattice compared with the image's below which another patch is not taken instead of one of these.
WEAK_SHARE = 0.75
#: Share of the classifier's threshold above which a clean patch is not taken for the best one.
DOUBTFUL_SHARE = 2 / 3
#: So many patches with another cell are passed over.
MOST_PASSED_OVER = 12
#: Mean severity and relative contrast of a patch that the screening may have called defective by chance.
QUIET = 1.0
CHANCE_CONTRAST = 0.5
#: A patch lies in the reference's domain from this share of it; what the screening took for a defect there is none if
#: it shows the lattice, this strong compared with the reference's.
HOME_SHARE = 0.99
LATTICE_SHARE = 0.7


class Chooser:
    """Chooses the best patch among the clean ones by W.

    Parameters
    ----------
    screened : PatchTable
        As the classifier judges them.
    params : BestPatchParams
    lattices : PatchLattices or None
        Given, patches whose cell is not that of the image are passed over.
    """

    def __init__(
        self, screened: PatchTable, params: BestPatchParams, lattices: PatchLattices | None = None
    ) -> None:
        self.screened = screened
        self.params = params
        self.lattices = lattices
        self.defective = screened.defective
        # A patch that is hardly clean may stand in the graph of clean ones, but is no model for them.
        self.impure = screened.scores > DOUBTFUL_SHARE * screened.threshold
        if (self.defective | self.impure).all():
            self.impure = np.zeros(screened.grid.counts, bool)

    @property
    def has_others(self) -> bool:
        """Whether a patch can be passed over."""
        return bool((~self.screened.defective & ~self.impure).sum() > 1)

    @property
    def has_candidates(self) -> bool:
        """Whether any patch is left that is clean and was not passed over."""
        return bool((~self.defective & ~self.impure).any())

    def is_weak(self, choice: PatchChoice) -> bool:
        """Whether a patch shows its lattice more weakly than the image does."""
        if self.lattices is None or self.lattices.typical is None:
            return False
        own = self.lattices.seen_in(choice.index)
        return own is None or own.strength < WEAK_SHARE * self.lattices.typical.strength

    def pass_over(self, choice: PatchChoice) -> None:
        """Not this one again."""
        self.impure[choice.index] = True

    def pick(self, severity: NDArray[np.floating]) -> PatchChoice:
        """The patch of greatest W; of several the one of least `severity`, one value a patch."""
        passed = 0
        while True:
            choice = choose(~(self.defective | self.impure), depth=self.params.depth, severity=severity)
            if self.lattices is None or passed == MOST_PASSED_OVER or not self.has_others:
                return choice
            if not self.lattices.has_another_cell(choice.index):
                return choice
            self.pass_over(choice)
            passed += 1


def revised_choice(
    chooser: Chooser,
    prepared: Prepared,
    model_of: Callable[[tuple[slice, slice]], Model],
    progress: Callable[[float], None],
) -> tuple[PatchTable, PatchChoice]:
    """Best patch by W, revised by its own severity map: a patch that is marked cannot be the model.

    Parameters
    ----------
    chooser : Chooser
    prepared : Prepared
    model_of : callable
        Model of a square of the prepared image, given as slices.
    progress : callable
        Told the share that is done; may raise to stop.

    Returns
    -------
    tuple of (PatchTable, PatchChoice)
        The patches with the verdicts revised, and the chosen one.
    """
    screened, params = chooser.screened, chooser.params
    edge = patch_edge(prepared, screened.grid.size)
    corners = patch_corners(prepared, screened.grid)

    def square(choice: PatchChoice) -> tuple[slice, slice]:
        y, x = (int(v) for v in corners[choice.index])
        return slice(y, y + edge), slice(x, x + edge)

    choice, severity = chooser.pick(screened.scores), None
    tried: list[PatchChoice] = []
    passed: list[tuple[float, PatchChoice]] = []
    while len(tried) < params.rounds:
        model = model_of(square(choice))
        looked_at = len(tried) + len(passed) + 1
        progress(looked_at / (params.rounds + MOST_IMPURE + 1))
        impure = model.null.impurity > IMPURE or bool(passed and chooser.is_weak(choice))
        if impure and len(passed) < MOST_IMPURE and chooser.has_others:
            passed.append((mixture(model.null), choice))
            chooser.pass_over(choice)
        else:
            none_is_pure = impure and bool(passed)
            if none_is_pure:
                choice = min([*passed, (mixture(model.null), choice)], key=itemgetter(0))[1]
                model = model_of(square(choice))
            tried.append(choice)
            severity = model.severity
            share = patch_means(hysteresis(severity), corners, edge)
            chooser.defective = screened.defective | (share > params.max_defect_area)
            if none_is_pure or not chooser.has_candidates:
                break
        choice = chooser.pick(screened.scores if severity is None else patch_means(severity, corners, edge))
        if any(choice.index == earlier.index for earlier in tried):
            break
    else:
        # The rounds ran out: rather a patch whose map was looked at than one more guess.
        choice = tried[-1] if tried else choice
    defective = chooser.defective
    if severity is not None:
        # Unlike the others, but neither marked nor faint nor anywhere near it: chance, not a defect.
        contrast = patch_means(np.square(prepared.band), corners, edge)
        quiet = patch_means(severity, corners, edge) < QUIET
        chance = screened.defective & quiet & (contrast > CHANCE_CONTRAST * np.median(contrast))
        defective = defective & ~(chance & (share <= params.max_defect_area))
    return replace(screened, defective=defective), choice


def mixture(null: Null) -> float:
    """How much of something else a model patch holds, to tell the least bad of several patches.

    The more, the further it lies from itself, and what agrees with it in the rest of the image from it.
    """
    return max(null.patch_median, null.mode)


def second_look(
    patches: PatchTable,
    found: DomainMap,
    prepared: Prepared,
    lost: NDArray[np.bool_],
    defects: NDArray[np.bool_],
    lattices: PatchLattices,
    max_defect_area: float,
) -> PatchTable:
    """The patches, less what the screening called defective for being another intact crystal or a fainter one.

    Parameters
    ----------
    patches : PatchTable
    found : DomainMap
    prepared : Prepared
    lost : bool array (y, x)
        Amorphous areas, in pixels of the prepared image.
    defects : bool array (y, x)
        Lattices that a person called a defect; patches that mostly lie in one are defective.
    lattices : PatchLattices
    max_defect_area : float
        Share of a clean patch that may be marked.

    Returns
    -------
    PatchTable
    """
    edge = patch_edge(prepared, patches.grid.size)
    corners = patch_corners(prepared, patches.grid)
    patches = replace(patches, defective=patches.defective | (patch_means(defects, corners, edge) > 0.5))
    if not patches.defective.any():
        return patches
    marked = _marked_in_own(found, prepared) | lost
    clean = patches.defective & (patch_means(marked, corners, edge) <= max_defect_area)
    # In another domain its own model has judged. The reference's own crystal must show its lattice.
    at_home = patch_means(found.index == 0, corners, edge) > HOME_SHARE
    at_home &= patch_means(found.domains[0].model.severity, corners, edge) < QUIET
    known = found.domains[0].lattice
    for row, column in np.argwhere(clean & at_home).tolist():
        lattice = lattices.seen_in((row, column))
        clean[row, column] = (
            lattice is not None
            and known is not None
            and agreement(lattice, known) is not None
            and lattice.strength > LATTICE_SHARE * known.strength
        )
    elsewhere = patch_means(found.index > 0, corners, edge) > 0
    return replace(patches, defective=patches.defective & ~(clean & (at_home | elsewhere)))


def _marked_in_own(found: DomainMap, prepared: Prepared) -> NDArray[np.bool_]:
    """What each intact domain's own model marks in it, and all that is not intact; less the interfaces of phases."""
    intact = np.array([domain.crystal and domain.decided for domain in found.domains])[found.index]
    marked: NDArray[np.bool_] = ~intact
    for i, domain in enumerate(found.domains):
        if domain.crystal and domain.decided:
            marked |= (found.index == i) & hysteresis(domain.model.severity)
    kernel_px = found.domains[0].model.bank.kernel_px
    for band in phase_bands(found.index, intact, kernel_px, prepared.period_px):
        marked[band.rows, band.columns] = False
    return marked
