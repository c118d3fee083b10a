"""Severity of an image of several lattices, each intact one judged by its own model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.core.domains import Domain, DomainMap, walls
from napari_hrstem_defects.core.interfaces import REACH_PERIODS, Band, phase_bands, step_bands
from napari_hrstem_defects.core.preprocessing import Prepared
from napari_hrstem_defects.core.segmentation import SEVERE, calibrate, dilate


def domain_severity(
    found: DomainMap, prepared: Prepared, apart: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], list[Band]]:
    """Severity of the whole image: each crystal domain judged by its own model.

    In a domain that counts as a defect the severity is at least `SEVERE`, and to it is added how much worse
    the reference fits it than its own model does: it grows from the wall inwards. Along interfaces of coherent
    phases, where neighbourhoods hold both, and along steps of contrast severity is standardised among pixels at
    the same distance: what all of the interface shows is the interface; a misfit dislocation stands out of it.
    In an undecided domain the reference judges; in one that is turned a little, whichever of both fits better.
    The walls of grains that count as intact are defects: the severity is at least `SEVERE` there.

    Parameters
    ----------
    found : DomainMap
    prepared : Prepared
    apart : bool array (y', x')
        Areas whose edges are not looked at for steps of contrast.

    Returns
    -------
    severity : float32 array (y', x')
    interfaces : list of Band
        Where it was standardised.
    """
    reference = found.domains[0].model
    severity = reference.severity.copy()
    for i, domain in enumerate(found.domains[1:], start=1):
        inside = found.index == i
        if domain.slightly_turned:
            severity[inside] = np.minimum(severity[inside], _by_its_own(domain, inside))
        elif domain.decided and domain.crystal:
            severity[inside] = _by_its_own(domain, inside)
        elif domain.decided:
            evidence = (reference.energies - domain.model.energies)[inside] / np.float32(reference.null.sigma)
            severity[inside] = np.maximum(severity[inside], SEVERE) + np.maximum(evidence, 0)
    # What is undecided belongs to the reference here.
    index = np.where(np.array([domain.decided for domain in found.domains])[found.index], found.index, 0)
    coherent = [
        i
        for i, domain in enumerate(found.domains)
        if domain.crystal and (i == 0 or domain.relation == "second phase")
    ]
    kernel, period = reference.bank.kernel_px, prepared.period_px
    intact = np.isin(index, coherent)
    # At the wall of a grain the contrast may well change: it is a defect.
    alone = ~dilate(~intact | apart, kernel / 2 + REACH_PERIODS * period)
    interfaces = step_bands(severity, prepared, kernel, alone)
    if len(coherent) > 1:
        interfaces += phase_bands(index, intact, kernel, period)
    for band in interfaces:
        band.level(severity)
    for i, domain in enumerate(found.domains):
        if domain.crystal and domain.decided and i not in coherent:
            wall = walls(found, prepared.period_px, of=i) > 0
            severity[wall] = np.maximum(severity[wall], SEVERE + 1)
    return severity, interfaces


def _by_its_own(domain: Domain, inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Severity in a domain by its own model, as a list of its pixels."""
    distances = domain.model.distances
    null = calibrate(distances[inside], distances[domain.model.patch])
    out: NDArray[np.float32] = (distances[inside] - np.float32(null.mode)) / np.float32(null.sigma)
    return out
