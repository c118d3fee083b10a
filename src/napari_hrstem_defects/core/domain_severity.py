"""Severity of an image of several lattices, each intact one judged by its own model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_hrstem_defects.core.domains import DomainMap, walls
from napari_hrstem_defects.core.preprocessing import Prepared
from napari_hrstem_defects.core.segmentation import MAD_TO_SIGMA, SEVERE, calibrate

#: Reach of an interface beyond half a kernel, in periods.
INTERFACE_PERIODS = 1.8


def domain_severity(found: DomainMap, prepared: Prepared) -> NDArray[np.float32]:
    """Severity of the whole image: each crystal domain judged by its own model.

    In a domain that counts as a defect the severity is at least `SEVERE`, and to it is added how much worse
    the reference fits it than its own model does: it grows from the wall inwards. Along interfaces of coherent
    phases, where neighbourhoods hold both, severity is standardised among pixels at the same distance: what all
    of the interface shows is the interface; a misfit dislocation stands out of it. The walls of grains that count as
    intact are defects: the severity is at least `SEVERE` there.

    Parameters
    ----------
    found : DomainMap
    prepared : Prepared

    Returns
    -------
    float32 array (y', x')
    """
    reference = found.domains[0].model
    severity = reference.severity
    if len(found.domains) == 1:
        return severity
    severity = severity.copy()
    for i, domain in enumerate(found.domains[1:], start=1):
        inside = found.index == i
        if not domain.decided:
            continue
        if domain.crystal:
            own = domain.model
            null = calibrate(own.distances[inside], own.distances[own.patch])
            severity[inside] = (own.distances[inside] - null.mode) / null.sigma
        else:
            evidence = (reference.energies - domain.model.energies)[inside] / np.float32(reference.null.sigma)
            severity[inside] = np.maximum(severity[inside], SEVERE) + np.maximum(evidence, 0)
    # What is undecided belongs to the reference here.
    index = np.where(np.array([domain.decided for domain in found.domains])[found.index], found.index, 0)
    coherent = [
        i
        for i, domain in enumerate(found.domains)
        if domain.crystal and (i == 0 or domain.relation == "second phase")
    ]
    if len(coherent) > 1:
        _level_interfaces(
            severity, index, np.isin(index, coherent), reference.bank.kernel_px, prepared.period_px
        )
    for i, domain in enumerate(found.domains):
        if domain.crystal and domain.decided and i not in coherent:
            wall = walls(found, prepared.period_px, of=i) > 0
            severity[wall] = np.maximum(severity[wall], SEVERE + 1)
    return severity


def _level_interfaces(
    severity: NDArray[np.float32],
    index: NDArray[np.uint8],
    intact: NDArray[np.bool_],
    kernel_px: int,
    period_px: float,
) -> None:
    """Standardise severity among pixels at the same distance from an interface of intact domains, in place."""
    reach = kernel_px / 2 + INTERFACE_PERIODS * period_px
    for i in np.unique(index[intact]):
        others = intact & (index != i)
        distance = ndimage.distance_transform_edt(~others)
        band = (index == i) & (distance <= reach)
        bins = np.minimum(distance[band].astype(np.intp), int(reach))
        values = severity[band]
        for number in np.unique(bins):
            here = bins == number
            median = float(np.median(values[here]))
            if median > 0:
                scatter = max(MAD_TO_SIGMA * float(np.median(np.abs(values[here] - median))), 1.0)
                values[here] = (values[here] - median) / scatter
        severity[band] = values
