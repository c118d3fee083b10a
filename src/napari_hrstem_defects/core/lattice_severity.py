"""Severity of the lattice-aware mode: the distances of all domains, faint lines and antiphase boundaries in one map."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.core.domain_severity import domain_severity
from napari_hrstem_defects.core.domains import DomainMap
from napari_hrstem_defects.core.model import fit_model
from napari_hrstem_defects.core.preprocessing import Prepared
from napari_hrstem_defects.core.recipe import PreprocessParams, SymmetryParams
from napari_hrstem_defects.core.ridges import FLANK_PERIODS, line_severity
from napari_hrstem_defects.core.segmentation import NOTABLE, SEVERE, dilate, hysteresis
from napari_hrstem_defects.core.superlattice import antiphase_significance

#: Kernel and smoothing of the filters for point defects, in periods: as wide as what one column disturbs.
POINT_KERNEL_PERIODS = 0.75
POINT_SMOOTHING = 0.25
#: Severity that even a faint point defect has; where there is none, nothing is to be found more closely.
POINT_HINT = 3.5
#: A severity beyond this says no more.
_MOST = 1e6


def lattice_severity(
    found: DomainMap,
    prepared: Prepared,
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
    if params.point_significance > 0 and _hints(severity, kernel)[judged].any():
        fine = replace(params, kernel_periods=POINT_KERNEL_PERIODS, smoothing=POINT_SMOOTHING)
        model = fit_model(prepared, reference.model.patch, preprocess, fine, cancelled=cancelled)
        points = np.where(found.index == 0, model.severity, 0)
        # At an interface columns of two kinds alternate: point by point it is full of them.
        for band in interfaces:
            points[band.rows, band.columns] = 0
        np.maximum(faint, _scaled(points, params.point_significance), out=faint)
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


def _hints(severity: NDArray[np.float32], kernel_px: int) -> NDArray[np.bool_]:
    """Places away from what is found anyway at which the wide filters see something of a point defect."""
    return (severity > POINT_HINT) & ~dilate(hysteresis(severity), kernel_px)


def _scaled(significance: NDArray[np.float32], needed: float) -> NDArray[np.float32]:
    out: NDArray[np.float32] = significance * np.float32(min(SEVERE / needed, _MOST))
    return out
