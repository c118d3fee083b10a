"""A simulated in-situ series with known truth: a stacking fault in silicon that grows at one of its ends."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.simulation.building import build
from napari_hrstem_defects.simulation.exposure import expose
from napari_hrstem_defects.simulation.fields import edge_field
from napari_hrstem_defects.simulation.planar import FAULT_PLANES
from napari_hrstem_defects.simulation.presets import PRESETS, draw


def growing_fault(
    frames: int,
    *,
    rate_nm: float,
    length_nm: float = 2.0,
    drift_nm: tuple[float, float] = (0.0, 0.0),
    edge_px: int = 256,
    pixel_size_nm: float = 0.03,
    dose: float = 400.0,
    seed: int = 0,
) -> Iterator[NDArray[np.uint16]]:
    """Frames of silicon along [110] with an intrinsic stacking fault between two partial dislocations.

    Parameters
    ----------
    frames : int
    rate_nm : float
        Growth of the fault from frame to frame.
    length_nm : float
        Distance of the dislocations in the first frame.
    drift_nm : tuple of float
        Movement ``(y, x)`` of the specimen from frame to frame.
    edge_px, pixel_size_nm, dose, seed
        Of the images: side, pixel size, electrons a pixel, noise.

    Yields
    ------
    uint16 array (y, x)
    """
    parameters = draw(
        "si_perfect",
        dataclasses.replace(PRESETS["si_perfect"], nuisance=0.0),
        seed,
        {
            "shape": (edge_px, edge_px),
            "pixel_size_nm": pixel_size_nm,
            "dose": dose,
            "mode": "haadf",
            "bits": 16,
            "rotation_deg": 20.0,
        },
    )
    for index in range(frames):
        specimen = build(parameters, seed)
        normal = specimen.base.direction(FAULT_PLANES["diamond", "110"][0])
        along = np.array([normal[1], -normal[0]])
        _, _, step = specimen.base.stacking(normal)
        height = specimen.base.cut(normal, 0.0, "narrow")[0]
        # The end that stays is so far from the middle that the whole way of the other one is centred.
        start = -(length_nm + rate_nm * (frames - 1)) / 2
        for sign, end in ((1.0, start), (-1.0, start + length_nm + rate_nm * index)):
            specimen.fields.append(edge_field(height * normal + end * along, sign * step * along, normal))
        offset = (drift_nm[0] * index, drift_nm[1] * index)
        yield expose(specimen, dataclasses.replace(parameters, offset_nm=offset), seed, index)
