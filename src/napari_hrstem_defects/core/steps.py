"""The steps of an analysis: plain functions, each from the results of earlier ones and its part of the recipe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_hrstem_defects.core.analysis import (
    Chosen,
    Classified,
    Compared,
    Divided,
    Inputs,
    Listed,
    Preprocessed,
    Segmented,
    Varied,
)
from napari_hrstem_defects.core.autocorrelation import REACH_PERIODS, Field, autocorrelation_field
from napari_hrstem_defects.core.best_patch import (
    NO_CLEAN_PATCH,
    BestPatch,
    choose,
    clean_patch,
    frame_slices,
    patch_graph,
    placed_by_hand,
    prepared_slices,
)
from napari_hrstem_defects.core.calibration import contrast_level, local_median, severity_of, standardise
from napari_hrstem_defects.core.defect_types import typed_regions
from napari_hrstem_defects.core.domains import WALL_PERIODS, DomainMap, describe, lattices_of, with_inverted
from napari_hrstem_defects.core.eigenfilters import STRIDE, Bank
from napari_hrstem_defects.core.image_lattice import lattice_of_image
from napari_hrstem_defects.core.lattice import SAME_ANGLE_DEG, agreement, find_lattice
from napari_hrstem_defects.core.patches import (
    KnowsScale,
    KnowsSize,
    PatchGrid,
    PatchTable,
    TouchingGrid,
    patch_size,
    shares,
)
from napari_hrstem_defects.core.plateaus import CRYSTAL_STRENGTH, Plateaus, find_plateaus, second_phase
from napari_hrstem_defects.core.preprocessing import Prepared, prepare, resize_linear, sample_linear
from napari_hrstem_defects.core.published import PublishedMaps
from napari_hrstem_defects.core.recipe import points_of
from napari_hrstem_defects.core.segmentation import dilate
from napari_hrstem_defects.core.severity import (
    TEMPLATE_CEILING,
    TEMPLATE_FLOOR,
    Model,
    Models,
    continued,
    domain_severity,
    field_valid,
    from_field,
    inverted_areas,
    severity_grid,
    to_field,
    unlikeness,
)
from napari_hrstem_defects.core.variance import CELL_WINDOW, amorphous_areas, local_variance
from napari_hrstem_defects.errors import RecipeError

#: An image of fewer periods along its shorter side is analysed at the scale that this many would have: parts of it
#: could not be distinguished by windows of several periods. The smallest windows still hold a cell.
FEWEST_PERIODS = 15

NO_OTHER_LATTICE = (
    "At a place where a lattice was given by hand the image shows that of the best patch or one given already; what "
    "was given there is left out."
)
NOT_PERIODIC = "The best patch is hardly periodic; place it by hand on a clean crystalline area."
IMPURE = "The best patch seems to contain a defect itself; move it to a cleaner place."

Warn = Callable[[str], None]


def preprocess(inputs: Inputs, warn: Warn) -> Preprocessed:
    """Period, band-pass, field of local autocorrelations."""
    frame = inputs.frame
    estimate, pixels, empty = lattice_of_image(
        frame.pixels, frame.valid, inputs.recipe.preprocess, cancelled=inputs.cancelled
    )
    for sentence in estimate.warnings:
        warn(sentence)
    typical = estimate.lattice
    if typical is None:
        return Preprocessed()
    scale = np.clip(min(inputs.shape) / FEWEST_PERIODS, typical.period_px / CELL_WINDOW, typical.period_px)
    prepared = prepare(pixels, float(scale), inputs.recipe.preprocess, frame.valid)
    if empty.any():
        seen = resize_linear(empty.astype(np.float32), prepared.values.shape) < 0.5
        prepared = replace(prepared, valid=prepared.valid & seen)
    field = autocorrelation_field(prepared, prepared.valid, cancelled=inputs.cancelled)
    return Preprocessed(typical, prepared, field, contrast_level(prepared, STRIDE), empty)


def divide(inputs: Inputs, seen: Preprocessed, warn: Warn) -> Divided:
    """Areas of one lattice each."""
    prepared, field = seen.prepared, seen.field
    if prepared is None or field is None:
        return Divided()
    params = inputs.recipe.domains
    valid = field_valid(field, prepared)
    reach = 2.0 * field.period
    given = []
    y, x = np.indices(field.shape)
    for point in points_of(params.given):
        row, column = (prepared.from_frame(np.array(point)) + 0.5) / field.step_px - 0.5
        given.append((np.hypot(y - row, x - column) <= reach) & valid)
    if any(not place.any() for place in given):
        raise RecipeError("domains.given names a point outside the image; place it on the image.")
    assert seen.level is not None
    level = to_field(seen.level, field)
    plateaus = find_plateaus(field, valid, level, params, tuple(given))
    return Divided(plateaus)


def classify(inputs: Inputs, seen: Preprocessed, divided: Divided, warn: Warn) -> Classified:
    """Which patches are defective, before any best patch is known."""
    params, typical = inputs.recipe.classify, seen.typical
    made_for = inputs.classifier.patch_px if isinstance(inputs.classifier, KnowsSize) else 0
    if inputs.recipe.mode == "published":
        grid: PatchGrid = TouchingGrid(inputs.shape)
    else:
        grid = PatchGrid(inputs.shape, patch_size(inputs.shape, typical, params.patch_size, made_for))
    if inputs.patch_labels is not None:
        defective = np.asarray(inputs.patch_labels)
        if defective.shape != grid.counts:
            raise RecipeError(
                f"patch_labels has shape {defective.shape}, expected one value per patch, {grid.counts}."
            )
        defective = defective.astype(bool)
        return Classified(PatchTable(grid, defective.astype(np.float32), 0.5, defective, "hand"))
    if inputs.classifier is not None:
        table = inputs.classifier.classify(inputs.frame.pixels, grid)
        if isinstance(inputs.classifier, KnowsScale):
            period = None if typical is None else typical.period_px
            for sentence in inputs.classifier.warnings(grid, inputs.micrograph.pixel_size_nm, period):
                warn(sentence)
        return Classified(table)
    if params.classifier != "screening":
        raise RecipeError(
            f"The recipe asks for the classifier {params.classifier!r}, which was not loaded; load it, or set "
            "classify.classifier to screening."
        )
    if seen.field is None or seen.prepared is None or divided.plateaus is None:
        # No field to screen by: nothing is marked.
        nothing = np.zeros(grid.counts, bool)
        return Classified(PatchTable(grid, nothing.astype(np.float32), params.max_defect_area, nothing))
    unlike = unlikeness(seen, divided.plateaus, 0)
    area = unlike.size / seen.field.period**2
    score = shares(unlike > severity_of(1.0, area), grid)
    defective = score > params.max_defect_area
    return Classified(PatchTable(grid, score.astype(np.float32), params.max_defect_area, defective))


def choose_best_patch(
    inputs: Inputs, seen: Preprocessed, divided: Divided, classified: Classified, models: Models, warn: Warn
) -> Chosen:
    """Best patch by W(node), revised once by the distances to its own model."""
    table = classified.screened
    prepared, field, plateaus, level = seen.prepared, seen.field, divided.plateaus, seen.level
    chosen, result = None, Chosen()
    if inputs.wanted_patch is not None:
        chosen = placed_by_hand(inputs.wanted_patch, table.grid.size, inputs.shape)
        result = Chosen(chosen)
    elif inputs.recipe.mode == "published":
        if seen.typical is None and table.classifier == "screening":
            return result
        # [D], choice of the model patch: the maximum of W and nothing else.
        choice = choose(~table.defective, depth=inputs.recipe.best_patch.depth)
        if choice.warning:
            warn(choice.warning)
        return Chosen(_patch(table.grid, choice.index), choice.graph)
    elif prepared is not None and field is not None and plateaus is not None and level is not None:
        unlike = unlikeness(seen, plateaus, 0)
        if table.defective.all():
            # Where most of the crystal is: W knows nothing of that.
            warn(NO_CLEAN_PATCH)
            chosen = clean_patch(unlike, table.grid.size, field, prepared)
            result = Chosen(chosen, patch_graph(~table.defective))
        else:
            result = _deepest_patch(inputs, seen, plateaus, table, shares(unlike, table.grid), models)
            chosen = result.best_patch
    if chosen is not None and prepared is not None and field is not None:
        strength = np.median(field.strength[_on_field(field, prepared, chosen)])
        if strength < CRYSTAL_STRENGTH:
            warn(NOT_PERIODIC)
    return result


def _deepest_patch(
    inputs: Inputs,
    seen: Preprocessed,
    plateaus: Plateaus,
    table: PatchTable,
    mean: NDArray[np.float64],
    models: Models,
) -> Chosen:
    """Patch of greatest W(node), revised once by the distances to its own model.

    Of the first choice ties go to the least `mean`. In the revision W counts direct neighbours only, and distances,
    which by then are known, order what is equal in that: where every patch holds some defect, the depth in the image
    says less about which holds the fewest.
    """
    prepared, field, level = seen.prepared, seen.field, seen.level
    assert prepared is not None
    assert field is not None
    assert level is not None
    choice = choose(~table.defective, depth=inputs.recipe.best_patch.depth, severity=mean)
    chosen = _patch(table.grid, choice.index)
    if table.classifier != "hand":
        distances = models(prepared, chosen).wide[1]
        own = np.ones(distances.shape, bool)
        period = prepared.period_px / STRIDE
        z = standardise(distances, level, own, TEMPLATE_FLOOR, period, ceiling=TEMPLATE_CEILING)
        limit = severity_of(1.0, z.size / period**2)
        severity, most = shares(z, table.grid), inputs.recipe.classify.max_defect_area
        defective = table.defective | (shares(z > limit, table.grid) > most)
        if not defective.all():
            choice = choose(~defective, depth=1, severity=severity)
            chosen = _patch(table.grid, choice.index)
            # Of two polarities the one that most of the lattice has is the reference.
            lattice = plateaus.index == _plateau_at(chosen, plateaus, field, prepared)
            own = (from_field(lattice.astype(np.float32), field, prepared) > 0.5) & prepared.valid[
                ::STRIDE, ::STRIDE
            ]
            inverted = inverted_areas(models(prepared, chosen), own, inputs.recipe.domains.thickness)
            if 2 * np.count_nonzero(inverted) > np.count_nonzero(own):
                defective |= shares(own & ~inverted, table.grid) > most
                if not defective.all():
                    choice = choose(~defective, depth=1, severity=severity)
                    chosen = _patch(table.grid, choice.index)
    return Chosen(chosen, choice.graph)


def _on_field(field: Field, prepared: Prepared, patch: BestPatch) -> tuple[slice, slice]:
    """Rows and columns of a patch on the grid of the field."""
    rows, columns = (
        slice(s.start // field.step_px, max(s.stop // field.step_px, s.start // field.step_px + 1))
        for s in prepared_slices(patch, prepared)
    )
    return rows, columns


def _plateau_at(patch: BestPatch, plateaus: Plateaus, field: Field, prepared: Prepared) -> int:
    """Number of the plateau that most of a patch lies on."""
    return int(np.bincount(plateaus.index[_on_field(field, prepared, patch)].ravel()).argmax())


def _patch(grid: PatchGrid, index: tuple[int, int]) -> BestPatch:
    y, x = grid.centres[index]
    return BestPatch(float(y), float(x), grid.size)


def vary(inputs: Inputs, seen: Preprocessed, divided: Divided, maps: PublishedMaps | None) -> Varied:
    """Local variance, and what has lost its order."""
    if maps is not None:
        return Varied(maps.variance, maps.amorphous)
    params = inputs.recipe.variance
    prepared, field, plateaus = seen.prepared, seen.field, divided.plateaus
    if prepared is None or field is None or plateaus is None or seen.empty is None:
        variance = local_variance(inputs.frame.pixels, min(params.window_px, *inputs.shape))
        return Varied(variance, np.zeros(inputs.shape, bool))
    scale = float(prepared.scale.mean())
    window = round(max(params.window_px * scale, params.window_periods * prepared.period_px))
    variance = np.maximum(prepared.to_frame(local_variance(prepared.band, window)), 0)
    lost = amorphous_areas(field, plateaus, field_valid(field, prepared), params.fraction)
    return Varied(variance, seen.empty | (field.to_frame(lost.astype(np.float32), prepared) > 0.5))


def compare(
    inputs: Inputs,
    seen: Preprocessed,
    divided: Divided,
    chosen: Chosen,
    varied: Varied,
    *,
    models: Models,
    maps: PublishedMaps | None,
    warn: Warn,
) -> Compared:
    """Severity of every pixel: that of its own domain if it counts as crystal, else of the reference."""
    shape, patch = inputs.shape, chosen.best_patch
    prepared, field, plateaus, level = seen.prepared, seen.field, divided.plateaus, seen.level
    if maps is not None:
        return Compared(maps.severity, maps.valid_mask & inputs.frame.valid, lattice=seen.typical)
    if patch is None or prepared is None or field is None or plateaus is None or level is None:
        return Compared(np.zeros(shape, np.float32), np.zeros(shape, bool))
    found = _domain_map(inputs, seen, plateaus, patch)
    if sum(d.patch.placed == "hand" for d in found.domains[1:]) < len(plateaus.given):
        warn(NO_OTHER_LATTICE)
    model = models(prepared, patch)
    lost = resize_linear(varied.amorphous.astype(np.float32), prepared.values.shape) > 0.5
    grid = severity_grid(field, prepared, found, level, model.wide[0].kernel_px)
    edge = dilate(lost[::STRIDE, ::STRIDE], REACH_PERIODS * grid.period)
    inverted = inverted_areas(
        model, (grid.index == 0) & grid.valid_mask & ~edge, inputs.recipe.domains.thickness
    )
    if inverted.any() and len(found.domains) < inputs.recipe.domains.max_domains:
        # Beyond what is assessed it goes on as far as it came.
        places = [np.arange(n) / STRIDE for n in prepared.values.shape]
        share = sample_linear(continued(inverted, grid.valid_mask).astype(np.float32), *places)
        found = with_inverted(found, share > 0.5, prepared, inputs.recipe.domains)
        grid = severity_grid(field, prepared, found, level, model.wide[0].kernel_px)
    elif not inverted.any():
        other = dilate(grid.index > 0, REACH_PERIODS * grid.period)
        phases = _with_phase(inputs, seen, plateaus, found, model, ~(edge | other))
        if phases is not None:
            found = phases
            grid = severity_grid(field, prepared, found, level, model.wide[0].kernel_px)
    severity, excess = np.zeros(grid.loss.shape, np.float32), np.zeros(grid.loss.shape, np.float32)
    banks: list[Bank] = []
    defective = np.array([d.defective and d.relation != "inverted" for d in found.domains])[grid.index]
    walls = dilate(defective, REACH_PERIODS * grid.period)
    for number, domain in reversed(list(enumerate(found.domains))):
        if domain.defective:
            continue
        inside = (grid.index == number) if number else ~_crystals(found, grid.index)
        own = (grid.index == number) & ~edge
        model = models(prepared, domain.patch)
        banks += [model.wide[0], model.narrow[0]]
        maps_of_domain = domain_severity(grid, model, own, walls)
        severity[inside], excess[inside] = (values[inside] for values in maps_of_domain)
    for number, domain in enumerate(found.domains):
        if domain.defective:
            # All of it is as severe as where it begins.
            inside = grid.index == number
            wall = (
                inside
                & (ndimage.distance_transform_edt(inside) <= WALL_PERIODS * grid.period)
                & grid.valid_mask
            )
            if wall.any():
                np.maximum(severity, np.median(severity[wall]), out=severity, where=inside)
    rows, columns = model.patch
    in_patch = severity[
        rows.start // STRIDE : rows.stop // STRIDE, columns.start // STRIDE : columns.stop // STRIDE
    ]
    area = float(np.count_nonzero(grid.valid_mask & ~edge)) / grid.period**2
    if np.mean(in_patch > severity_of(1.0, area)) > inputs.recipe.classify.max_defect_area:
        warn(IMPURE)
    valid_mask = prepared.to_frame(grid.valid_mask.astype(np.float32)) > 0.5
    if not grid.valid_mask.all():
        # Defined everywhere: what is not assessed repeats what lies nearest.
        severity = continued(severity, grid.valid_mask)
    severity = prepared.to_frame(severity)
    if seen.empty is not None and seen.empty.any():
        # Of vacuum all is known, and it has no lattice; the neighbourhoods that reach into it are not at a rim.
        severity[~dilate(~seen.empty, prepared.period_px / float(prepared.scale.min()))] = 0
        beside = dilate(seen.empty, (model.wide[0].kernel_px / 2 + 2 * STRIDE) / float(prepared.scale.min()))
        valid_mask |= beside & np.outer(valid_mask.any(axis=1), valid_mask.any(axis=0))
    return Compared(
        severity,
        valid_mask & inputs.frame.valid,
        prepared.to_frame(excess),
        found,
        tuple(banks),
        found.domains[0].lattice,
        area,
    )


def _crystals(found: DomainMap, index: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where another domain than the reference counts as crystal."""
    return np.array([i > 0 and d.crystal for i, d in enumerate(found.domains)])[index]


def _domain_map(inputs: Inputs, seen: Preprocessed, plateaus: Plateaus, patch: BestPatch) -> DomainMap:
    """Every domain with a model patch and its lattice, the best patch's first."""
    typical, prepared, field = seen.typical, seen.prepared, seen.field
    assert prepared is not None
    assert field is not None
    count = len(plateaus.directions)
    reference = _plateau_at(patch, plateaus, field, prepared)
    given = dict(zip(plateaus.given, points_of(inputs.recipe.domains.given), strict=True))
    patches = []
    for number in range(count):
        if number == reference:
            patches.append(patch)
        elif number in given:
            patches.append(placed_by_hand(given[number], patch.size, inputs.shape))
        else:
            patches.append(clean_patch(unlikeness(seen, plateaus, number), patch.size, field, prepared))
    lattices = lattices_of(plateaus, reference, patches, inputs.frame.pixels, typical, field, prepared)
    return describe(plateaus, reference, tuple(patches), lattices, field, prepared, inputs.recipe.domains)


def _with_phase(
    inputs: Inputs,
    seen: Preprocessed,
    plateaus: Plateaus,
    found: DomainMap,
    model: Model,
    own: NDArray[np.bool_],
) -> DomainMap | None:
    """Domains with a phase of the reference's own contrast, which its distance to the model shows; None if none."""
    field, prepared = seen.field, seen.prepared
    assert field is not None
    assert prepared is not None
    if len(found.domains) >= inputs.recipe.domains.max_domains:
        return None
    distance = local_median(model.wide[1], field.period * field.step_px / STRIDE)
    inside = to_field(own.astype(np.float32), field) > 0.5
    second = second_phase(field, to_field(distance, field), inside)
    if second is None:
        return None
    index = plateaus.index.copy()
    number = int(index[second][0])
    # Where windows reach into another lattice it goes on as far as it came.
    index[continued(second, inside) & (index == number)] = added = len(plateaus.directions)
    directions = np.vstack([plateaus.directions, plateaus.directions[number]])
    amplitudes = np.append(plateaus.amplitudes, plateaus.amplitudes[number])
    plateaus = replace(plateaus, index=index, directions=directions, amplitudes=amplitudes)
    patch = found.domains[0].patch
    out = _domain_map(inputs, seen, plateaus, patch)
    # The part that the best patch does not lie in; domains are in the order of the plateaus but for the first.
    other = out.domains[number + 1 if _plateau_at(patch, plateaus, field, prepared) == added else -1]
    shown = find_lattice(inputs.frame.pixels[frame_slices(other.patch, inputs.shape)])
    # A model notices a smaller turn than the field does.
    cells = agreement(out.domains[0].lattice, shown, SAME_ANGLE_DEG / 2)
    return None if cells is None else out


def list_regions(
    inputs: Inputs, seen: Preprocessed, chosen: Chosen, compared: Compared, segmented: Segmented
) -> Listed:
    """Geometry and probable type of each connected defect."""
    regions = typed_regions(
        segmented.labels,
        compared.severity,
        prepared=seen.prepared,
        lattice=compared.lattice,
        best_patch=chosen.best_patch,
        domains=compared.domains,
        field=seen.field,
        pixel_size_nm=inputs.micrograph.pixel_size_nm,
        valid_mask=compared.valid_mask,
    )
    return Listed(regions)
