"""Severity: template distances at two scales and loss of strength, on one scale.

Each map is standardised by its own null in the domain (:mod:`.calibration`) and divided by a factor that makes the
same value as rare in clean crystals for all of them; the largest counts. Nothing changes the severity afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_hrstem_defects.core.analysis import Preprocessed
from napari_hrstem_defects.core.autocorrelation import MIN_SHARE, Field
from napari_hrstem_defects.core.best_patch import BestPatch, prepared_slices
from napari_hrstem_defects.core.calibration import LEVEL_WINDOW, standardise
from napari_hrstem_defects.core.domains import DomainMap
from napari_hrstem_defects.core.eigenfilters import STRIDE, Bank, fit_bank, kernel_edge, log_distances, rim_px
from napari_hrstem_defects.core.plateaus import Plateaus, crystal_amplitude, lattice_amplitude
from napari_hrstem_defects.core.preprocessing import Prepared, Values, even_sample, sample_linear
from napari_hrstem_defects.core.recipe import CRYSTAL_SHARE, SymmetryParams
from napari_hrstem_defects.core.regions import around
from napari_hrstem_defects.errors import RecipeError

#: Scale of the templates for point defects relative to the usual one: as wide as what one column disturbs.
POINT_SCALE = 0.5
#: Standard deviation that every map has even without noise (pixel grid, scan lines): logarithms of the strength, and
#: of a template distance.
STRENGTH_FLOOR, TEMPLATE_FLOOR = 0.02, 0.16
#: Standard deviation of the logarithm of a template distance that the undisturbed part of no crystal exceeds: in
#: clean micrographs it is .1 to .3, in crystals full of boundaries or point defects their share would make it .4 to 1.
TEMPLATE_CEILING = 0.3
#: How much further into its tail the same rarity lies, relative to the templates: loss of strength, templates for
#: point defects (benchmarks/accuracy/calibration.py).
LOSS_FACTOR, POINT_FACTOR = 1.1, 1.15


@dataclass(frozen=True, eq=False)
class Model:
    """Eigenfilters of one model patch at the usual scale and at that of point defects.

    Attributes
    ----------
    prepared : Prepared
    patch : tuple of slice
        Rows and columns in the prepared image.
    params : SymmetryParams
    cancelled : callable or None

    Raises
    ------
    RecipeError
        When `wide` or `narrow` are first used, if the patch is too small to learn from.
    Cancelled
        Then, if `cancelled` returned True.
    """

    prepared: Prepared
    patch: tuple[slice, slice]
    params: SymmetryParams
    cancelled: Callable[[], bool] | None = None

    @cached_property
    def wide(self) -> tuple[Bank, NDArray[np.float32]]:
        """Filters of the usual scale; log distances of every neighbourhood, ``(y, x)``, on the grid of the severity."""
        return self._of(1.0, 0)

    @cached_property
    def narrow(self) -> tuple[Bank, NDArray[np.float32]]:
        """The same at the scale of point defects."""
        return self._of(POINT_SCALE, self.wide[0].kernel_px)

    @cached_property
    def inverse(self) -> tuple[float, float, NDArray[np.float32]] | None:
        """Log distances of its own patch to the model and to that turned by 180°, of all to the latter.

        None if the patch is as near to either.
        """
        rows, columns = self.patch
        part = replace(
            self.prepared,
            values=self.prepared.values[rows, columns],
            band=self.prepared.band[rows, columns],
            valid=self.prepared.valid[rows, columns],
            shape=(rows.stop - rows.start, columns.stop - columns.start),
        )
        turned = self.wide[0].inverted
        there, here = (
            float(np.median(log_distances(part, bank, self.params.smoothing)))
            for bank in (turned, self.wide[0])
        )
        if there - here < TEMPLATE_FLOOR:
            return None
        distances = log_distances(self.prepared, turned, self.params.smoothing, cancelled=self.cancelled)
        return here, there, distances

    def _of(self, scale: float, widest_px: int) -> tuple[Bank, NDArray[np.float32]]:
        edge, period = self.patch[0].stop - self.patch[0].start, self.prepared.period_px
        kernel = kernel_edge(period, scale * self.params.kernel_periods, edge // 2)
        if edge < kernel + 2:
            raise RecipeError(
                f"The best patch holds {edge / period:.1f} lattice periods, too few to learn the crystal from; make it "
                "larger."
            )
        bank = fit_bank(
            self.prepared.values[self.patch], kernel, self.params, widest_px=widest_px, period_px=period
        )
        smoothing = scale * self.params.smoothing
        return bank, log_distances(self.prepared, bank, smoothing, cancelled=self.cancelled)


class Models:
    """Models of the patches of one run, by place: later steps need not fit them again."""

    def __init__(self, params: SymmetryParams, cancelled: Callable[[], bool] | None = None) -> None:
        self._params, self._cancelled = params, cancelled
        self._known: dict[tuple[int, int, int], Model] = {}

    def __call__(self, prepared: Prepared, patch: BestPatch) -> Model:
        """Model of a patch."""
        place = prepared_slices(patch, prepared)
        key = (place[0].start, place[1].start, place[0].stop - place[0].start)
        if key not in self._known:
            self._known[key] = Model(prepared, place, self._params, self._cancelled)
        return self._known[key]


@dataclass(frozen=True, eq=False)
class Grid:
    """Maps of the field on the grid of the severity, every `STRIDE`-th pixel of the prepared image.

    Attributes
    ----------
    loss : float32 array (y, x)
        Negative logarithm of the field's strength.
    pairs : float32 array (y, x)
    index : uint8 array (y, x)
        Number of the domain.
    level : float32 array (y, x)
        Contrast level.
    interface : float32 array (y, x) or None
        Distance to the nearest interface of intact lattices, in periods; None if there is none.
    valid_mask : bool array (y, x)
        Where field and templates rest on pixels that hold an image.
    period : float
        Lattice period in samples.
    """

    loss: NDArray[np.float32]
    pairs: NDArray[np.float32]
    index: NDArray[np.uint8]
    level: NDArray[np.float32]
    interface: NDArray[np.float32] | None
    valid_mask: NDArray[np.bool_]
    period: float


def to_field(values: NDArray[np.float32], field: Field) -> NDArray[np.float32]:
    """A map on the grid of the severity, sampled on that of the field."""
    rows, columns = field.places
    return sample_linear(values, rows / STRIDE, columns / STRIDE)


def from_field(values: NDArray[np.floating], field: Field, prepared: Prepared) -> NDArray[np.float32]:
    """A map sampled on the grid of the field, on that of the severity."""
    rows, columns = (
        (np.arange(-(-n // STRIDE)) * STRIDE + 0.5) / field.step_px - 0.5 for n in prepared.values.shape
    )
    return sample_linear(values, rows, columns)


def field_valid(field: Field, prepared: Prepared) -> NDArray[np.bool_]:
    """Samples of a field whose own place holds an image."""
    rows, columns = (
        np.minimum(np.arange(n) * field.step_px + field.step_px // 2, m - 1)
        for n, m in zip(field.shape, prepared.valid.shape, strict=True)
    )
    return prepared.valid[np.ix_(rows, columns)]


def continued(values: NDArray[Values], valid_mask: NDArray[np.bool_]) -> NDArray[Values]:
    """A map (y, x) where `valid_mask`, of the same shape, is True; beyond, it repeats what lies nearest."""
    nearest = ndimage.distance_transform_edt(~valid_mask, return_distances=False, return_indices=True)
    return values[tuple(nearest)]


def unlikeness(
    seen: Preprocessed, plateaus: Plateaus, number: int, most: float = 20.0
) -> NDArray[np.float32]:
    """Loss of strength in standard deviations inside one plateau, `most` outside of it."""
    field, prepared = seen.field, seen.prepared
    assert prepared is not None
    assert field is not None
    assert seen.level is not None
    own = (plateaus.index == number) & field_valid(field, prepared)
    loss = -np.log(np.maximum(field.strength, np.float32(1e-4)))
    out = standardise(
        loss,
        to_field(seen.level, field),
        own,
        STRENGTH_FLOOR,
        field.period,
        weight=field.pairs,
    )
    amplitude = lattice_amplitude(field.strength)
    if own.any():
        # Vacuum is usual at its own level of contrast.
        own &= amplitude > CRYSTAL_SHARE * plateaus.amplitudes[number]
    out[~own] = most
    return np.clip(out, 0, most)


def severity_grid(
    field: Field, prepared: Prepared, found: DomainMap, level: NDArray[np.float32], kernel_px: int
) -> Grid:
    """Maps that the severity is made from.

    Parameters
    ----------
    field : Field
    prepared : Prepared
    found : DomainMap
    level : float32 array (y, x)
        Contrast level on this grid.
    kernel_px : int
        Edge of the templates.
    """
    strength, pairs = (from_field(values, field, prepared) for values in (field.strength, field.pairs))
    valid = prepared.valid[::STRIDE, ::STRIDE]
    valid_mask = valid & (pairs > MIN_SHARE)
    period = prepared.period_px / STRIDE
    index = found.index[::STRIDE, ::STRIDE]
    interface = None
    intact = np.array([domain.crystal for domain in found.domains])
    if intact.sum() > 1:
        low, high = (np.where(intact, np.arange(len(intact)), n)[index] for n in (len(intact), -1))
        alike = ndimage.minimum_filter(low, 3) >= ndimage.maximum_filter(high, 3)
        if not alike.all():
            interface = (ndimage.distance_transform_edt(alike) / period).astype(np.float32)
    rim = -(-rim_px(kernel_px, prepared.period_px, prepared.values.shape) // STRIDE)
    valid_mask[:rim] = valid_mask[-rim:] = valid_mask[:, :rim] = valid_mask[:, -rim:] = False
    if not valid.all():
        valid_mask &= ndimage.distance_transform_edt(valid) > kernel_px / 2 / STRIDE
    amplitude = lattice_amplitude(strength)
    if valid_mask.any():
        # A hole is no crystal of its own level: what is narrower than the window of the level has that around it.
        weak = valid & (amplitude <= CRYSTAL_SHARE * crystal_amplitude(amplitude[valid_mask], CRYSTAL_SHARE))
        if weak.any():
            reach, size = LEVEL_WINDOW * period / 2, round(LEVEL_WINDOW * period) | 1
            box = around(weak, int(reach) + 2 * size)
            near = ndimage.distance_transform_edt(~weak[box]) <= reach
            level = level.copy()
            level[box][near] = ndimage.grey_closing(level[box], size, mode="nearest")[near]
    return Grid(
        -np.log(np.maximum(strength, np.float32(1e-4))),
        pairs,
        index,
        level,
        interface,
        valid_mask,
        period,
    )


def domain_severity(
    grid: Grid,
    model: Model,
    own: NDArray[np.bool_],
    walls: NDArray[np.bool_],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Severity of every sample as one domain sees it, and how much worse than usual its best template fits.

    Parameters
    ----------
    grid : Grid
    model : Model
        Of the domain's best patch.
    own : bool array (y, x)
        Inside of the domain, which the nulls are taken from.
    walls : bool array (y, x)
        Where windows of the field reach into a domain that is a defect: there only the templates count.

    Returns
    -------
    severity : float32 array (y, x)
        In robust standard deviations.
    excess : float32 array (y, x)
        Squared template distance relative to the undisturbed one, less 1, sum of both scales: falls off with the
        overlap of a defect.
    """
    where = own & grid.valid_mask

    standard = partial(
        standardise, level=grid.level, clean=where, period=grid.period, interface=grid.interface
    )
    of_templates = partial(standard, floor=TEMPLATE_FLOOR, ceiling=TEMPLATE_CEILING)
    wide, narrow = model.wide[1], model.narrow[1]
    out = standard(grid.loss, floor=STRENGTH_FLOOR, weight=grid.pairs) / np.float32(LOSS_FACTOR)
    out[walls] = 0
    np.maximum(out, of_templates(wide), out=out)
    np.maximum(out, of_templates(narrow) / np.float32(POINT_FACTOR), out=out)
    # The wide templates say how far a line goes, the narrow ones where a column is.
    excess = np.zeros(out.shape, np.float32)
    for distances in (wide, narrow):
        middle = np.median(even_sample(distances[where])) if where.any() else np.float32(0)
        excess += np.expm1(np.maximum(distances - middle, 0))
    return out, excess


def inverted_areas(model: Model, own: NDArray[np.bool_], thickness: float) -> NDArray[np.bool_]:
    """Areas of one lattice that the model turned by 180° fits better: the other polarity.

    The autocorrelation cannot see them, for a crystal and its copy turned by 180° have the same.

    Parameters
    ----------
    model : Model
        Of the domain's best patch.
    own : bool array (y, x)
        Assessed inside of the domain, on the grid of the severity.
    thickness : float
        Least thickness of such an area, in periods.

    Returns
    -------
    bool array (y, x)
        None of it where the crystal is centrosymmetric as far as the image shows.
    """
    if not own.any() or model.inverse is None:
        return np.zeros(own.shape, bool)
    here, there, distances = model.inverse
    worse = there - here
    period = model.prepared.period_px / STRIDE
    weight = ndimage.gaussian_filter(own.astype(np.float32), period)
    gain = ndimage.gaussian_filter(np.where(own, model.wide[1] - distances, 0), period) / np.maximum(
        weight, 1e-4
    )
    inverted = (gain > worse / 2) & own
    rest = own & ~inverted
    # Turned, it fits as much better there as it fits the rest worse, not only a model patch with a defect; and the rest
    # is nearer to the patch than the polarities are to each other.
    alike = rest.any() and np.median(model.wide[1][rest]) <= here + worse / 2
    if not alike or np.median(gain[rest]) > -worse / 2:
        return np.zeros(own.shape, bool)
    low = np.where(own, inverted, True)
    depth = ndimage.distance_transform_edt(np.pad(low, 1, mode="edge"))[1:-1, 1:-1]
    parts, _ = ndimage.label(inverted)
    thick = np.unique(parts[2 * depth >= thickness * period])
    return np.asarray(inverted & np.isin(parts, thick[thick > 0]))
