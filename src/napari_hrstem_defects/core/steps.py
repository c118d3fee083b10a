"""The steps of an analysis, each from what earlier ones found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_hrstem_defects.core import amorphous, published, segmentation
from napari_hrstem_defects.core.best_patch import BestPatch
from napari_hrstem_defects.core.boundaries import boundary_map
from napari_hrstem_defects.core.defect_types import type_judge
from napari_hrstem_defects.core.domain_search import find_domains
from napari_hrstem_defects.core.domains import WALL_PERIODS, Domain, DomainMap, domain_at, with_verdicts
from napari_hrstem_defects.core.eigenfilter_severity import eigenfilter_severity
from napari_hrstem_defects.core.errors import RecipeError
from napari_hrstem_defects.core.geometry import (
    frame_slices,
    prepared_slices,
)
from napari_hrstem_defects.core.lattice import Lattice, find_lattice, typical_lattice
from napari_hrstem_defects.core.lattice_severity import lattice_severity
from napari_hrstem_defects.core.model import Model, fit_model
from napari_hrstem_defects.core.patch_lattices import PatchLattices
from napari_hrstem_defects.core.patch_size import patch_size
from napari_hrstem_defects.core.patches import KnowsScale, KnowsSize, PatchGrid, PatchTable
from napari_hrstem_defects.core.preprocessing import Prepared, prepare
from napari_hrstem_defects.core.recipe import PreprocessParams, points_of
from napari_hrstem_defects.core.regions import find_regions, remove_small
from napari_hrstem_defects.core.revision import IMPURE, Chooser, revised_choice, second_look
from napari_hrstem_defects.core.run import Run
from napari_hrstem_defects.core.screening import screen
from napari_hrstem_defects.core.variance import amorphous_box, local_variance

#: How far a drawn-in mask spreads beyond what is no crystal, and the widest strip along an amorphous area that is
#: taken for part of it, in periods.
SPREAD_PERIODS = 0.75
STRIP_PERIODS = 2.0
#: Amorphous areas smaller than this must show at their edge, in squared periods.
SPLINTER_PERIODS = 40.0
#: Limits of the doubts about the best patch, on the scale of the log distance.
LOW_STRENGTH = 0.6
UNTYPICAL = 0.7

NO_LATTICE = (
    "No lattice was found, so nothing is marked; check that the image is atomically resolved, or crop it to a "
    "crystalline part."
)

NO_OTHER_LATTICE = (
    "At a place where a lattice was given by hand another one explains the image as well; what was given there is "
    "left out."
)

UNSURE_LATTICE = (
    "Part of the image may be another lattice, but the difference is small; it is judged by the best patch unless you "
    "say whether it counts as crystal."
)

TURNED_LATTICE = (
    "Part of the image is the same lattice turned a little; only what neither of both shows is marked, unless you say "
    "whether it counts as crystal."
)


class Steps(Run):
    """An analysis under way that knows how each step is done."""

    def _preprocess(self) -> None:
        params = self.recipe.preprocess
        typical, _ = typical_lattice(self.frame.pixels)
        self.report("preprocess", 0.5)
        prepared = filtered = None
        if typical is None:
            self.doubt("preprocess", NO_LATTICE)
        else:
            # The screening needs the lattice-aware view in any mode.
            view = params if params.method == "lattice" else PreprocessParams()
            prepared = prepare(self.frame.pixels, typical.period_px, view)
        if params.method == "log":
            filtered = published.log_gaussian(
                self.frame.pixels, kernel=params.log_kernel, gauss_kernel=params.gauss_kernel
            )
        elif params.method == "dog":
            filtered = published.difference_of_gaussians(self.frame.pixels, params.dog_low, params.dog_high)
        self.found.update(typical=typical, prepared=prepared, filtered=filtered)

    def _classify(self) -> None:
        params = self.recipe.classify
        prepared, typical = self.found["prepared"], self.found["typical"]
        made_for = self.classifier.patch_px if isinstance(self.classifier, KnowsSize) else 0
        grid = PatchGrid(self.shape, patch_size(self.shape, typical, params.patch_size, made_for))
        if self.patch_labels is not None:
            defective = np.asarray(self.patch_labels)
            if defective.shape != grid.counts:
                raise RecipeError(
                    f"patch_labels has shape {defective.shape}, expected one value per patch, {grid.counts}."
                )
            defective = defective.astype(bool)
            table = PatchTable(grid, defective.astype(np.float32), 0.5, defective, "hand")
        elif self.classifier is not None:
            table = self.classifier.classify(self.frame.pixels, grid)
            if isinstance(self.classifier, KnowsScale):
                period = None if typical is None else typical.period_px
                for sentence in self.classifier.doubts(grid, self.micrograph.pixel_size_nm, period):
                    self.doubt("classify", sentence)
        elif params.classifier != "screening":
            raise RecipeError(
                f"The recipe asks for the classifier {params.classifier!r}, which was not loaded; load it, or set "
                "classify.classifier to screening."
            )
        elif prepared is None:
            # Nothing to judge by: nothing is marked.
            nothing = np.zeros(grid.counts, bool)
            table = PatchTable(grid, nothing.astype(np.float32), 0.5, nothing)
        else:
            table = screen(prepared, grid, params)
        self.found["screened"] = table

    def _best_patch(self) -> None:
        screened: PatchTable = self.found["screened"]
        prepared: Prepared | None = self.found["prepared"]
        patches, chosen, lattice = screened, None, None
        if self.wanted_patch is not None:
            chosen = self._placed(screened.grid.size)
        elif prepared is not None:
            patches, chosen = self._choose(screened, prepared)
        if chosen is not None:
            lattice = self._lattice_of(chosen)
        self.found.update(revised=patches, patches=patches, best_patch=chosen, lattice=lattice)

    def _domains(self) -> None:
        params = self.recipe.domains
        chosen: BestPatch | None = self.found["best_patch"]
        prepared: Prepared | None = self.found["prepared"]
        found = None
        if chosen is not None and prepared is not None and self.recipe.symmetry.method == "lattice":
            model = self._model(prepared, prepared_slices(chosen, prepared))
            reference = Domain(chosen, model, self.found["lattice"], "reference", True, np.inf)
            found = find_domains(
                self.frame.pixels,
                prepared,
                reference,
                self._unlike(prepared),
                lambda: self._lost(prepared, chosen),
                lambda patch: self._model(prepared, patch),
                params,
                self.recipe.symmetry,
            )
            by_hand = sum(domain.patch.placed == "hand" for domain in found.domains[1:])
            if by_hand < len(points_of(params.given)):
                self.doubt("domains", NO_OTHER_LATTICE)
            # Measured in all of its domain, not in the patch alone.
            self.found["lattice"] = found.domains[0].lattice
            if any(domain.slightly_turned for domain in found.domains):
                self.doubt("domains", TURNED_LATTICE)
            if any(domain.by_reference for domain in found.domains):
                self.doubt("domains", UNSURE_LATTICE)
        boundaries = None
        if params.boundary_map and prepared is not None:
            boundaries = prepared.to_frame(boundary_map(prepared, cancelled=self.cancelled))
        self.found.update(domains=found, boundaries=boundaries)

    def _symmetry(self) -> None:
        self.found.update(patches=self.found["revised"], banks=(), null=None)
        chosen: BestPatch | None = self.found["best_patch"]
        found: DomainMap | None = self.found["domains"]
        if found is not None:
            # Found earlier, maybe when others counted as intact.
            found = with_verdicts(found, self.found["prepared"], self.recipe.domains)
            self.found.update(domains=found, patches=self._second_look(found, self.found["prepared"]))
        if chosen is None:
            severity, judged = np.zeros(self.shape, np.float32), np.zeros(self.shape, bool)
        elif self.recipe.symmetry.method == "eigenfilter":
            severity, judged = self._published_severity(chosen)
        elif found is None:
            severity, judged = np.zeros(self.shape, np.float32), np.zeros(self.shape, bool)
        else:
            severity, judged = self._lattice_severity(found)
        self.found.update(severity=severity, judged=judged & self.frame.valid)

    def _variance(self) -> None:
        params = self.recipe.variance
        chosen: BestPatch | None = self.found["best_patch"]
        prepared: Prepared | None = self.found["prepared"]
        if chosen is None or prepared is None or params.method == "box":
            filtered = self.found["filtered"]
            pixels = self.frame.pixels if filtered is None else filtered
            variance = local_variance(pixels, min(params.window_px, *self.shape))
            lost = np.zeros(self.shape, bool)
            if chosen is not None:
                lost = amorphous_box(variance, frame_slices(chosen, self.shape), params.ratio)
        else:
            found = self._variance_map(prepared, chosen)
            variance, lost = found.in_frame(prepared)
        self.found.update(variance=variance, amorphous=lost)

    def _segment(self) -> None:
        params = self.recipe.segment
        typical: Lattice | None = self.found["typical"]
        severity: NDArray[np.float32] = self.found["severity"]
        if self.found["best_patch"] is None:
            labels = np.zeros(self.shape, np.uint8)
        elif params.method == "triangle":
            mask = published.triangle_binarise(
                severity,
                sigma=params.gauss_sigma,
                median_size=params.median_size,
                min_maximum=params.min_maximum,
            )
            labels = published.fuse(mask, self.found["amorphous"])
        else:
            mask = segmentation.hysteresis(severity, params.low, params.threshold)
            if self.found["null"] is not None:
                mask = segmentation.localise(
                    mask, severity, self.found["null"], self._reach_px() * 2, params.overlap
                )
            amorphous_area, grains = self.found["amorphous"], self._defective_domains()
            if typical is not None:
                amorphous_area = segmentation.without_splinters(
                    amorphous_area, severity, SPLINTER_PERIODS * typical.period_px**2, self._reach_px()
                )
                amorphous_area = segmentation.complete_amorphous(
                    amorphous_area,
                    mask & ~grains,
                    SPREAD_PERIODS * typical.period_px,
                    STRIP_PERIODS * typical.period_px,
                )
            mask |= grains
            labels = segmentation.fuse(mask, amorphous_area, self._reach_px())
        if typical is not None:
            labels = remove_small(labels, params.min_area_periods * typical.period_px**2)
        self.found["labels"] = labels

    def _regions(self) -> None:
        self.found["regions"] = find_regions(
            self.found["labels"],
            self.found["severity"],
            pixel_size_nm=self.micrograph.pixel_size_nm,
            lattice=self.found["lattice"],
            judge=type_judge(
                *(self.found[name] for name in ("labels", "prepared", "lattice", "best_patch", "domains"))
            ),
        )

    def _placed(self, size: int) -> BestPatch:
        """The best patch that the caller asked for, checked."""
        wanted = self.wanted_patch
        if not isinstance(wanted, BestPatch):
            y, x = wanted  # type: ignore[misc]
            wanted = BestPatch(float(y), float(x), size, "hand")
        if wanted.size > min(self.shape):
            raise RecipeError(
                f"The best patch is {wanted.size} px wide, more than the image; make it smaller."
            )
        low, high = wanted.size / 2 - 0.5, np.array(self.shape) - wanted.size / 2 - 0.5
        point = np.array([wanted.y, wanted.x])
        if not (
            np.isfinite(point).all() and (point >= -0.5).all() and (point <= np.array(self.shape) - 0.5).all()
        ):
            raise RecipeError(
                f"The best patch at y = {wanted.y:g}, x = {wanted.x:g} lies outside the image; place it on it."
            )
        y, x = np.clip(point, low, high)
        return replace(wanted, y=float(y), x=float(x))

    def _choose(self, screened: PatchTable, prepared: Prepared) -> tuple[PatchTable, BestPatch]:
        """Best patch by W, and the verdicts on the patches that go with it."""
        params, grid = self.recipe.best_patch, screened.grid
        # Without the lattice-aware distance there is nothing to revise the choice by, and what a person judged stays.
        revised = self.recipe.symmetry.method == "lattice" and screened.classifier != "hand"
        if not revised:
            params = replace(params, rounds=0)
        patches, choice = revised_choice(
            Chooser(screened, params, self._patch_lattices(grid) if revised else None),
            prepared,
            lambda patch: self._model(prepared, patch),
            lambda share: self.report("best_patch", share),
        )
        if choice.warning:
            self.doubt("best_patch", choice.warning)
        y, x = grid.centres[choice.index]
        return patches, BestPatch(float(y), float(x), grid.size)

    def _second_look(self, found: DomainMap, prepared: Prepared) -> PatchTable:
        """The patches once the domains are known."""
        patches: PatchTable = self.found["revised"]
        if patches.classifier == "hand":
            return patches
        said = [domain_at(found, prepared, point) for point in points_of(self.recipe.domains.defective_at)]
        return second_look(
            patches,
            found,
            prepared,
            self._lost(prepared, found.domains[0].patch),
            found.defective & np.isin(found.index, said),
            self._patch_lattices(patches.grid),
            self.recipe.best_patch.max_defect_area,
        )

    def _patch_lattices(self, grid: PatchGrid) -> PatchLattices:
        if self.patch_lattices is None:
            self.patch_lattices = PatchLattices(self.frame.pixels, grid, self.found["typical"])
        return self.patch_lattices

    def _lattice_of(self, chosen: BestPatch) -> Lattice | None:
        lattice = find_lattice(self.frame.pixels[frame_slices(chosen, self.shape)])
        if lattice is None and chosen.placed == "automatic":
            # Too few electrons in one patch; the image as a whole has shown its lattice.
            lattice = self.found["typical"]
        if lattice is None or lattice.strength < LOW_STRENGTH:
            self.doubt(
                "best_patch",
                "The best patch is hardly periodic; place it by hand on a clean crystalline area.",
            )
        return lattice

    def _model(self, prepared: Prepared, patch: tuple[slice, slice]) -> Model:
        """Model of a patch of the prepared image and the image's distances to it, computed once."""
        key = (patch[0].start, patch[1].start, patch[0].stop - patch[0].start)
        if key not in self.models:
            self.models[key] = fit_model(
                prepared, patch, self.recipe.preprocess, self.recipe.symmetry, cancelled=self.cancelled
            )
        return self.models[key]

    def _variance_map(self, prepared: Prepared, chosen: BestPatch) -> amorphous.VarianceMap:
        if self.variance_found is None:
            self.variance_found = amorphous.variance_map(
                prepared, prepared_slices(chosen, prepared), self.recipe.variance
            )
        return self.variance_found

    def _unlike(self, prepared: Prepared) -> NDArray[np.bool_]:
        """Patches that were classified as defective, in pixels of the prepared image."""
        screened: PatchTable = self.found["screened"]
        rows, columns = (
            np.arange(n) * count // n
            for n, count in zip(prepared.values.shape, screened.grid.counts, strict=True)
        )
        return screened.defective[np.ix_(rows, columns)]

    def _lost(self, prepared: Prepared, chosen: BestPatch) -> NDArray[np.bool_]:
        """Amorphous areas in pixels of the prepared image; none in the published variance mode."""
        if self.recipe.variance.method != "lattice":
            return np.zeros(prepared.values.shape, bool)
        return self._variance_map(prepared, chosen).amorphous

    def _specks(self, prepared: Prepared, chosen: BestPatch) -> NDArray[np.bool_]:
        """Amorphous areas so small that they must show at their edge."""
        labels, count = ndimage.label(self._lost(prepared, chosen))
        areas = np.bincount(labels.ravel(), minlength=count + 1)
        small = areas < SPLINTER_PERIODS * prepared.period_px**2
        small[0] = False
        out: NDArray[np.bool_] = small[labels]
        return out

    def _lattice_severity(self, found: DomainMap) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        prepared: Prepared = self.found["prepared"]
        model = found.domains[0].model
        null = model.null
        if null.mode - null.patch_median > UNTYPICAL:
            self.doubt(
                "symmetry",
                "The best patch is unlike most of the image (a minority grain, or cleaner than the rest); compare "
                "with another place.",
            )
        if null.impurity > IMPURE:
            self.doubt(
                "symmetry", "The best patch seems to contain a defect itself; move it to a cleaner place."
            )
        severity = lattice_severity(
            found,
            prepared,
            self._lost(prepared, found.domains[0].patch),
            self._specks(prepared, found.domains[0].patch),
            self.recipe.preprocess,
            self.recipe.symmetry,
            cancelled=self.cancelled,
        )
        severity = prepared.to_frame(severity)
        inside = np.zeros(prepared.values.shape, np.float32)
        inside[model.judged(prepared)] = 1
        self.found.update(banks=tuple(domain.model.bank for domain in found.domains), null=null)
        return severity, prepared.to_frame(inside) > 0.5

    def _published_severity(self, chosen: BestPatch) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        params = self.recipe.symmetry
        filtered = self.found["filtered"]
        return eigenfilter_severity(
            self.frame.pixels if filtered is None else filtered,
            frame_slices(chosen, self.shape),
            kernel=params.kernel_px,
            features=params.features,
            eigenvectors=params.eigenvectors,
            comparison=params.comparison,
            window=params.energy_window,
        )

    def _defective_domains(self) -> NDArray[np.bool_]:
        """Grains that count as defects, with their walls."""
        found: DomainMap | None = self.found["domains"]
        prepared: Prepared | None = self.found["prepared"]
        if found is None or prepared is None or not found.defective.any():
            return np.zeros(self.shape, bool)
        inside = prepared.to_frame(found.defective.astype(np.float32)) > 0.5
        return segmentation.dilate(inside, WALL_PERIODS * self.found["typical"].period_px)

    def _reach_px(self) -> float:
        """How far from an amorphous area the severity feels it, in pixels of the image."""
        typical: Lattice | None = self.found["typical"]
        period = typical.period_px if typical is not None else 0.0
        return (self.recipe.symmetry.kernel_periods / 2 + 1.5 * self.recipe.symmetry.smoothing) * period
