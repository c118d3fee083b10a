"""Make one micrograph, or a time series: draw parameters, build the specimen, image it, write down the truth."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.core.micrograph import Micrograph
from napari_hrstem_defects.simulation.building import build
from napari_hrstem_defects.simulation.crystals import SimulationError
from napari_hrstem_defects.simulation.exposure import expose
from napari_hrstem_defects.simulation.parameters import Parameters
from napari_hrstem_defects.simulation.presets import PRESETS, draw
from napari_hrstem_defects.simulation.regions import pair
from napari_hrstem_defects.simulation.specimen import Specimen
from napari_hrstem_defects.simulation.truth import Defect, Mask, truth


@dataclass(frozen=True, eq=False)
class SimulatedMicrograph:
    """A simulated micrograph and all that is true about it.

    Attributes
    ----------
    micrograph : Micrograph
        The image.
    labels : uint8 array (y, x)
        0 crystal, 1 symmetry defect, 2 amorphous, blurred, damaged or vacuum.
    domains : uint8 array (y, x)
        Which grain or phase each pixel belongs to; 0 is the reference. Where two grains are about equally large either
        may be called the reference: score both ways.
    ignore : bool array (y, x)
        Pixels that are not scored: borders of the truth, the interface of a coherent film.
    defects : tuple of Defect
        Every defect with its own mask.
    period_px : float
        Lattice period of the reference crystal (square root of the projected cell's area) in pixels.
    description : dict
        Everything needed to make it again, JSON-able: ``simulate(**description["call"])``.
    """

    micrograph: Micrograph
    labels: NDArray[np.uint8]
    domains: NDArray[np.uint8]
    ignore: Mask
    defects: tuple[Defect, ...]
    period_px: float
    description: dict[str, Any]


def simulate(
    preset: str = "si_demo", seed: int = 0, *, name: str | None = None, **overrides: Any
) -> SimulatedMicrograph:
    """Simulate one micrograph.

    Parameters
    ----------
    preset : str
        Key of ``PRESETS``.
    seed : int
        Everything that the preset leaves open is drawn from it; the same seed gives the same micrograph.
    name : str, optional
        Name of the micrograph.
    **overrides
        Any field of ``Parameters`` (shape, dose, pixel_size_nm, material, zone_axis, defects, mode, bits, ...), or
        px_per_period; replaces the draw.

    Returns
    -------
    SimulatedMicrograph
        ``micrograph``; ``labels`` and ``domains``, uint8 arrays ``(y, x)`` of the truth; ``ignore``, a bool array where
        the truth is open; ``defects``; ``period_px``; ``description``.

    Raises
    ------
    SimulationError
        If the preset or a parameter is unknown, or the defect cannot be in that crystal.

    Examples
    --------
    >>> import napari_hrstem_defects as hd
    >>> made = hd.simulate("si_stacking_fault", seed=3, shape=(128, 160), px_per_period=12.0, dose=200.0, bits=32)
    >>> made.micrograph.shape, made.period_px, [defect.kind for defect in made.defects]
    ((128, 160), 12.0, ['intrinsic stacking fault'])
    """
    parameters = _parameters(preset, seed, overrides)
    specimen = build(parameters, seed)
    name = name or f"{preset}-{seed}"
    call = {"preset": preset, "seed": seed, "name": name, **_plain(overrides)}
    return _record(specimen, parameters, seed, 0, name, call)


def simulate_series(
    preset: str = "si_demo",
    seed: int = 0,
    frames: int = 6,
    *,
    growth: float = 1.15,
    drift_periods: tuple[float, float] = (0.3, 0.2),
    name: str | None = None,
    **overrides: Any,
) -> list[SimulatedMicrograph]:
    """Simulate a time series of one place: it drifts, and its amorphous areas grow.

    Parameters
    ----------
    preset, seed, name, **overrides
        As for :func:`simulate`.
    frames : int
        How many.
    growth : float
        Closed amorphous and damaged areas have this factor larger a radius from frame to frame.
    drift_periods : (float, float)
        Movement ``(y, x)`` of the field of view from frame to frame, in lattice periods.

    Returns
    -------
    list of SimulatedMicrograph
        One of each frame, of equal shape.
    """
    first = _parameters(preset, seed, overrides)
    name = name or f"{preset}-{seed}"
    series = []
    for index in range(frames):
        specimen = build(first, seed)
        offset = pair([index * step * specimen.period for step in drift_periods])
        parameters = dataclasses.replace(first, offset_nm=offset)
        specimen.grow(growth**index)
        call = {
            **{"preset": preset, "seed": seed, "name": name, "frames": frames, "growth": growth},
            **_plain({"drift_periods": drift_periods, **overrides}),
        }
        series.append(_record(specimen, parameters, seed, index, f"{name}[{index}]", call))
    return series


def _parameters(preset: str, seed: int, overrides: dict[str, Any]) -> Parameters:
    if preset not in PRESETS:
        raise SimulationError(f"There is no preset {preset!r}; there are {', '.join(PRESETS)}.")
    if seed < 0:
        raise SimulationError(f"The seed must be 0 or larger, not {seed}.")
    return draw(preset, PRESETS[preset], seed, overrides)


def _record(
    specimen: Specimen, parameters: Parameters, seed: int, index: int, name: str, call: dict[str, Any]
) -> SimulatedMicrograph:
    image = expose(specimen, parameters, seed, index)
    labels, domains, ignore, defects = truth(specimen, parameters)
    description = {
        "call": call,
        "parameters": _plain(dataclasses.asdict(parameters)),
        "defects": [
            {"kind": d.kind, "label": d.label, "geometry": _plain(d.geometry), "details": _plain(d.details)}
            for d in defects
        ],
    }
    micrograph = Micrograph(image, parameters.pixel_size_nm, name, {"simulation": description})
    period = specimen.period / parameters.pixel_size_nm
    return SimulatedMicrograph(micrograph, labels, domains, ignore, defects, period, description)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list | np.ndarray):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value
