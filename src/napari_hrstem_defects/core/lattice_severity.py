"""Severity of the lattice-aware mode: the distances of all domains, faint lines and antiphase boundaries in one map."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_hrstem_defects.core.domain_severity import domain_severity
from napari_hrstem_defects.core.domains import DomainMap
from napari_hrstem_defects.core.model import fit_model
from napari_hrstem_defects.core.preprocessing import Prepared
from napari_hrstem_defects.core.recipe import PreprocessParams, SymmetryParams
from napari_hrstem_defects.core.ridges import FLANK_PERIODS, line_severity
from napari_hrstem_defects.core.sampling import even_sample
from napari_hrstem_defects.core.segmentation import MAD_TO_SIGMA, NOTABLE, SEVERE, dilate, hysteresis
from napari_hrstem_defects.core.superlattice import antiphase_significance

#: Kernel and smoothing of the filters for point defects, in periods: as wide as what one column disturbs.
POINT_KERNEL_PERIODS = 0.75
POINT_SMOOTHING = 0.25
#: Severity that even a faint point defect has; where there is none, nothing is to be found more closely.
POINT_HINT = 3.5
#: In even surroundings less will do, if it stands out of them by so many of their own standard deviations.
EVEN_HINT, EVEN_HINT_SIGMAS = 2.0, 5.0
#: Likewise what the filters for point defects see, such as a light column missing beside heavy ones: shares of what is
#: asked for elsewhere, of the severity and of the standard deviations.
EVEN_POINT, EVEN_POINT_SIGMAS = 0.4, 0.8
#: Nor is anything even this near to an amorphous area, in periods: the severity falls off slowly beside it.
BESIDE_LOST_PERIODS = 4.0
#: They become at most this many times as severe as `SEVERE`: how clear a place is does not say how bad it is.
MOST_FOR_EVEN = 1.25
#: Window of the surroundings in periods, what is clipped in it lest a defect widens it, in robust standard deviations,
#: samples a period, and the least standard deviation.
SURROUNDINGS_PERIODS = 8.0
SURROUNDINGS_CLIP = 3.0
SURROUNDINGS_SAMPLES = 2
LEAST_SCATTER = 0.1
#: A severity beyond this says no more.
_MOST = 1e6


def lattice_severity(
    found: DomainMap,
    prepared: Prepared,
    lost: NDArray[np.bool_],
    apart: NDArray[np.bool_],
    preprocess: PreprocessParams,
    params: SymmetryParams,
    *,
    cancelled: Callable[[], bool] | None = None,
) -> NDArray[np.float32]:
    """Severity of every pixel of the prepared image.

    What stands out along a line, in a point or as a change of phase only is raised to where the usual threshold finds
    it: a significance of ``line_significance``, ``point_significance`` or ``antiphase_significance`` becomes a
    severity of `SEVERE`.

    Parameters
    ----------
    found : DomainMap
    prepared : Prepared
    lost : bool array (y', x')
        Amorphous areas: beside them nothing stands out of even surroundings.
    apart : bool array (y', x')
        Areas whose edges are not looked at for steps of contrast.
    preprocess : PreprocessParams
        As `prepared` was made.
    params : SymmetryParams
    cancelled : callable, optional
        Asked often; as soon as it returns True the work stops.

    Returns
    -------
    float32 array (y', x')
        In robust standard deviations of the defect-free population; near the rim it repeats what lies inside.

    Raises
    ------
    Cancelled
        If `cancelled` returned True.
    """
    reference = found.domains[0]
    kernel = reference.model.bank.kernel_px
    severity, interfaces = domain_severity(found, prepared, apart)
    judged = reference.model.judged(prepared)
    faint = np.zeros(severity.shape, np.float32)
    if params.line_significance > 0:
        lines = line_severity(severity, prepared.period_px, judged)
        # The edge of a grain is no fault beside it, nor is the interface of two phases.
        lines[dilate(found.defective, FLANK_PERIODS * prepared.period_px)] = 0
        for band in interfaces:
            band.level(lines)
        np.maximum(faint, _scaled(lines, params.line_significance), out=faint)
    own = np.array([i == 0 or domain.by_reference for i, domain in enumerate(found.domains)])
    home = np.zeros(severity.shape, bool)
    home[judged] = own[found.index[judged]]
    # At an interface columns of two kinds alternate: point by point it is full of them.
    for band in interfaces:
        home[band.rows, band.columns] = False
    even = home & ~dilate(lost, BESIDE_LOST_PERIODS * prepared.period_px)
    if params.point_significance > 0 and _hints(severity, prepared.period_px, kernel, home, even).any():
        fine = replace(params, kernel_periods=POINT_KERNEL_PERIODS, smoothing=POINT_SMOOTHING)
        model = fit_model(prepared, reference.model.patch, preprocess, fine, cancelled=cancelled)
        clear = standing_out(model.severity, prepared.period_px, even)
        clear = np.minimum(clear / EVEN_POINT_SIGMAS, model.severity / EVEN_POINT)
        points = _scaled(model.severity, params.point_significance)
        weak = np.minimum(_scaled(clear, params.point_significance), np.float32(MOST_FOR_EVEN * SEVERE))
        np.maximum(faint, np.where(home, np.maximum(points, weak), 0), out=faint)
    if params.antiphase_significance > 0 and reference.lattice is not None:
        intact = (severity < NOTABLE) & (found.index == 0)
        lattice = reference.lattice.scaled(float(prepared.scale.mean()))
        phases = antiphase_significance(prepared, lattice, intact)
        for band in interfaces:
            band.level(phases)
        np.maximum(faint, _scaled(phases, params.antiphase_significance), out=faint)
    severity = np.where(faint > NOTABLE, np.maximum(severity, faint), severity)
    # What is repeated at the rim is no line.
    rows, columns = judged
    rims = [(s.start, n - s.stop) for s, n in zip(judged, severity.shape, strict=True)]
    return np.pad(severity[rows, columns], rims, mode="edge")


def standing_out(
    severity: NDArray[np.float32], period_px: float, where: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Severity in standard deviations of its surroundings, beyond their mean.

    The usual scale of the severity is no finer than what uneven images need: in an even one much less is clear.

    Parameters
    ----------
    severity : float32 array (y, x)
    period_px : float
    where : bool array (y, x)
        What belongs to the surroundings, and where there is a result; elsewhere it is 0.

    Returns
    -------
    float32 array (y, x)
    """
    out = np.zeros(severity.shape, np.float32)
    if not where.any():
        return out
    # A few pixels of each period tell what the surroundings are like.
    step = max(1, int(period_px / SURROUNDINGS_SAMPLES))
    some, inside = severity[::step, ::step], where[::step, ::step]
    seen = even_sample(some[inside])
    if not len(seen):
        return out
    middle = np.float32(np.median(seen))
    scatter = max(MAD_TO_SIGMA * float(np.median(np.abs(seen - middle))), LEAST_SCATTER)
    clipped = np.clip(some - middle, -SURROUNDINGS_CLIP * scatter, SURROUNDINGS_CLIP * scatter)
    clipped[~inside] = 0
    window = max(3, round(SURROUNDINGS_PERIODS * period_px / step))
    mean = ndimage.uniform_filter(clipped, window)
    spread = np.sqrt(np.maximum(ndimage.uniform_filter(clipped * clipped, window) - mean**2, 0))
    np.maximum(spread, np.float32(scatter), out=spread)
    mean += middle
    rows, columns = (np.arange(n) // step for n in severity.shape)
    np.subtract(severity, mean[np.ix_(rows, columns)], out=out, where=where)
    np.divide(out, spread[np.ix_(rows, columns)], out=out, where=where)
    return out


def _hints(
    severity: NDArray[np.float32],
    period_px: float,
    kernel_px: int,
    home: NDArray[np.bool_],
    even: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """Places away from what is found anyway at which the wide filters see something of a point defect."""
    away = home & ~dilate(hysteresis(severity), kernel_px)
    clear = standing_out(severity, period_px, even) > EVEN_HINT_SIGMAS
    return away & ((severity > POINT_HINT) | ((severity > EVEN_HINT) & clear))


def _scaled(significance: NDArray[np.float32], needed: float) -> NDArray[np.float32]:
    out: NDArray[np.float32] = significance * np.float32(min(SEVERE / needed, _MOST))
    return out
