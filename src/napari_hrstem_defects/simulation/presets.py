"""Presets: what to simulate, in ranges, and the parameters drawn from them."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_hrstem_defects.simulation.crystals import (
    MATERIALS,
    STRUCTURES,
    SimulationError,
    material_of,
    project,
)
from napari_hrstem_defects.simulation.optics import (
    EXPONENTS,
    domain_contrast,
    modulation,
    polarity,
    sharpest_spacing_nm,
)
from napari_hrstem_defects.simulation.parameters import Parameters
from napari_hrstem_defects.simulation.planar import FAULT_PLANES, FILM_PLANES, FILMS, TWIN_PLANES
from napari_hrstem_defects.simulation.regions import pair, pick


@dataclass(frozen=True)
class Preset:
    """Ranges from which a micrograph's parameters are drawn.

    Attributes
    ----------
    crystals : tuple of (str, str)
        Materials with their zone axes.
    defects : tuple of tuple of str
        One of these sets of defects is built in.
    px_per_period : (float, float)
        Pixels per lattice period, log-uniform.
    dose : (float, float)
        Detected electrons per pixel, log-uniform.
    modes : tuple of str
        Contrasts, one of them.
    nuisance : float
        Factor on wedge, haze, bending, jitter, drift and background; 0: a perfect instrument.
    shape : (int, int) or None
        Pixels; None: around 1024².
    """

    crystals: tuple[tuple[str, str], ...]
    defects: tuple[tuple[str, ...], ...] = ((),)
    px_per_period: tuple[float, float] = (8.0, 40.0)
    dose: tuple[float, float] = (30.0, 3000.0)
    modes: tuple[str, ...] = ("haadf", "haadf", "haadf", "bf", "hrtem")
    nuisance: float = 1.0
    shape: tuple[int, int] | None = (1024, 1024)


def crystals_of(
    structures: Sequence[str] | None = None, zone_axes: Sequence[str] | None = None
) -> tuple[tuple[str, str], ...]:
    """All (material, zone axis) of the structure types and zone axes given; None: any."""
    return tuple(
        (name, zone)
        for name, material in MATERIALS.items()
        if structures is None or material.structure in structures
        for zone in STRUCTURES[material.structure].zone_axes
        if zone_axes is None or zone in zone_axes
    )


def can_have(defect: str, material: str, zone_axis: str) -> bool:
    """Whether a defect can be built into a crystal and seen along the zone axis."""
    structure = MATERIALS[material].structure
    if defect in _FAULTS:
        return (structure, zone_axis) in FAULT_PLANES
    if defect == "twin":
        return (structure, zone_axis) in TWIN_PLANES
    if defect in _DOMAINS:
        return _shows_domains(defect, material, zone_axis, "haadf")
    if defect == "film":
        return material in FILMS and zone_axis in FILM_PLANES
    return True


#: A domain whose image differs less than this (see `optics.domain_contrast`) is not seen in its surroundings:
#: GaAs and CdTe have no visible polarity, SrTiO3 in bright field no visible antiphase domains.
_LEAST_DOMAIN_CONTRAST = 0.3
_LEAST_POLARITY = 0.03
_INVERTIBLE = ("zincblende", "honeycomb")
_ANTIPHASE_VIEWS = {("perovskite", "100"), ("cscl", "100"), ("cscl", "110")}


def _shows_domains(defect: str, material: str, zone_axis: str, mode: str) -> bool:
    """Whether a domain of opposite polarity or antiphase looks different from the reference."""
    structure = MATERIALS[material].structure
    crystal = project(material, zone_axis)
    shift = None
    if defect == "inversion domain":
        if structure not in _INVERTIBLE or len(crystal.sites) != 2 or crystal.atoms[0] == crystal.atoms[1]:
            return False
        if polarity(crystal, EXPONENTS[mode]) < _LEAST_POLARITY:
            return False
    else:
        if (structure, zone_axis) not in _ANTIPHASE_VIEWS:
            return False
        shift = crystal.vector((0.5, 0.5, 0.5))
    return domain_contrast(crystal, EXPONENTS[mode], shift) > _LEAST_DOMAIN_CONTRAST


_DOMAINS = ("inversion domain", "antiphase boundary")
_FAULTS = (
    "intrinsic stacking fault",
    "extrinsic stacking fault",
    "finite stacking fault",
    "twin lamella",
    "stacking fault lamella",
)
_EVERYTHING = crystals_of()
_CUBIC_110 = crystals_of(("diamond", "zincblende"), ("110",))

#: Presets by name.
PRESETS: dict[str, Preset] = {
    "perfect": Preset(_EVERYTHING),
    "si_perfect": Preset((("si", "110"),)),
    "si_stacking_fault": Preset((("si", "110"),), (("intrinsic stacking fault",),)),
    "si_extrinsic_fault": Preset((("si", "110"),), (("extrinsic stacking fault",),)),
    "finite_stacking_fault": Preset(_CUBIC_110, (("finite stacking fault",),)),
    "fault_lamella": Preset(_CUBIC_110, (("stacking fault lamella",),)),
    "gaas_stacking_fault": Preset(
        (("gaas", "110"),), (("intrinsic stacking fault",), ("extrinsic stacking fault",))
    ),
    "fcc_stacking_fault": Preset(
        crystals_of(("fcc",), ("110",)), (("intrinsic stacking fault",), ("extrinsic stacking fault",))
    ),
    "cdte_twin": Preset((("cdte", "110"),), (("twin",),)),
    "twin": Preset(crystals_of(("diamond", "zincblende", "fcc", "bcc"), ("110",)), (("twin",),)),
    "twin_lamella": Preset(crystals_of(("diamond", "zincblende", "fcc"), ("110",)), (("twin lamella",),)),
    "grain_boundary": Preset(_EVERYTHING, (("grain boundary",),)),
    "metal_grain_boundary": Preset(crystals_of(("fcc", "bcc")), (("grain boundary",),)),
    "graphene_grain_boundary": Preset(
        (("graphene", "001"),), (("grain boundary",),), dose=(30.0, 300.0), modes=("haadf", "hrtem")
    ),
    "inversion_domain": Preset(
        tuple(c for c in _EVERYTHING if can_have("inversion domain", *c)),
        (("inversion domain",),),
        (12.0, 40.0),
    ),
    "antiphase_boundary": Preset(
        tuple(c for c in _EVERYTHING if can_have("antiphase boundary", *c)), (("antiphase boundary",),)
    ),
    "film": Preset(tuple(c for c in _EVERYTHING if can_have("film", *c)), (("film",),)),
    "dislocation": Preset(_EVERYTHING, (("dislocation",),)),
    "vacancy": Preset(_EVERYTHING, (("vacancy",),), (12.0, 40.0)),
    "interstitial": Preset(_EVERYTHING, (("interstitial",),), (12.0, 40.0)),
    "substitution": Preset(_EVERYTHING, (("substitution",),), (12.0, 40.0)),
    "perovskite_point_defects": Preset(
        crystals_of(("perovskite",), ("100",)), (("vacancy", "substitution"), ("interstitial",)), (14.0, 40.0)
    ),
    "amorphous": Preset(_EVERYTHING, (("amorphous",),)),
    "beam_damage": Preset(_EVERYTHING, (("beam damage",),)),
    "vacuum": Preset(_EVERYTHING, (("vacuum",),)),
    "fault_and_amorphous": Preset(
        _CUBIC_110, (("intrinsic stacking fault", "amorphous"), ("twin", "amorphous"))
    ),
    "set": Preset(_EVERYTHING, shape=None),
    "set_fine": Preset(_EVERYTHING, px_per_period=(12.0, 40.0), shape=None),
    "si_demo": Preset(
        (("si", "110"),),
        (("intrinsic stacking fault", "amorphous"),),
        (20.0, 24.0),
        (400.0, 800.0),
        ("haadf",),
        0.3,
    ),
}


#: Sizes of images of presets that fix none, each as often as it stands here.
_SIZES = ((1024, 1024),) * 6 + ((512, 512), (512, 512), (1024, 768), (900, 1100), (1152, 960))
#: What a trained eye needs to find the lattice: its modulation over the counting noise of one period.
_LATTICE_SNR = 8.0


def stream(seed: int, *names: str | int) -> np.random.Generator:
    """Random generator of its own for each purpose, so that one draw more in one place shifts no other."""
    keys = [zlib.crc32(name.encode()) if isinstance(name, str) else name for name in names]
    return np.random.default_rng([seed, *keys])


def draw(name: str, preset: Preset, seed: int, overrides: dict[str, Any]) -> Parameters:
    """Parameters of one micrograph, drawn from a preset's ranges; `overrides` replace draws.

    Raises
    ------
    SimulationError
        If an override has an unknown name or an impossible value.
    """
    known = {item.name for item in dataclasses.fields(Parameters)} | {"px_per_period"}
    unknown = sorted(set(overrides) - known)
    for key in ("dose", "px_per_period", "pixel_size_nm", "probe_nm"):
        if key in overrides and not float(overrides[key]) > 0:
            raise SimulationError(f"{key} must be larger than 0, not {overrides[key]!r}.")
    if unknown:
        raise SimulationError(
            f"A simulation has no parameter {unknown[0]!r}; it has {', '.join(sorted(known))}."
        )

    def rng(key: str) -> np.random.Generator:
        return stream(seed, "parameters", name, key)

    def chosen(key: str, options: Sequence[Any]) -> Any:
        return overrides[key] if key in overrides else pick(rng(key), options)

    def uniform(key: str, low: float, high: float) -> float:
        return float(overrides.get(key, rng(key).uniform(low, high)))

    def log_uniform(key: str, low: float, high: float) -> float:
        value = float(np.exp(rng(key).uniform(np.log(low), np.log(high))))
        return float(overrides.get(key, value))

    defects = chosen("defects", preset.defects)
    defects = (defects,) if isinstance(defects, str) else tuple(defects)
    material, zone_axis = _crystal(preset, rng("crystal"), overrides, defects)
    mode = str(chosen("mode", preset.modes))
    if mode not in EXPONENTS:
        raise SimulationError(f"The mode must be {', '.join(EXPONENTS)}, not {mode!r}.")
    if "mode" not in overrides and not all(
        _shows_domains(defect, material, zone_axis, mode) for defect in defects if defect in _DOMAINS
    ):
        mode = "haadf"
    shape = tuple(int(n) for n in overrides.get("shape") or preset.shape or pick(rng("shape"), _SIZES))
    dose = log_uniform("dose", *preset.dose)
    crystal = project(material, zone_axis)
    px = log_uniform("px_per_period", *preset.px_per_period)
    if "pixel_size_nm" in overrides:
        px = crystal.period_nm / float(overrides["pixel_size_nm"])
    pixel = crystal.period_nm / px
    scale = preset.nuisance
    # A probe wider than this share of the widest lattice planes shows no lattice.
    widest = 0.62 * sharpest_spacing_nm(crystal)
    probe = float(overrides.get("probe_nm", min(float(rng("probe_nm").uniform(0.06, 0.12)), widest)))
    background = uniform("background", 0.05, 0.05 + 0.65 * scale)
    contrast = uniform("contrast", 0.08, 0.35)
    needed = _LATTICE_SNR / np.sqrt(dose * px**2)
    if mode == "haadf" and "background" not in overrides:
        lattice = modulation(crystal, probe)
        background = float(np.clip(min(background, 1 - needed / max(lattice, 1e-6)), 0.02, 1.0))
    if mode != "haadf" and "contrast" not in overrides:
        contrast = float(min(max(contrast, needed), 0.45))
    scan = mode != "hrtem"
    drift = rng("drift").normal(0.0, 0.006 * scale, 2) if scan else np.zeros(2)
    return Parameters(
        material=material,
        zone_axis=zone_axis,
        defects=defects,
        shape=(shape[0], shape[1]),
        pixel_size_nm=float(pixel),
        rotation_deg=uniform("rotation_deg", 0.0, 360.0),
        mode=mode,
        dose=dose,
        probe_nm=probe,
        astigmatism=uniform("astigmatism", 0.0, 0.12 * scale),
        defocus_nm=float(overrides.get("defocus_nm", _focus(rng("defocus_nm")))),
        cs_mm=uniform("cs_mm", -0.01, 0.01),
        voltage_kv=float(chosen("voltage_kv", (80.0, 200.0, 300.0))),
        contrast=contrast,
        background=background,
        wedge=uniform("wedge", 0.0, 0.3 * scale),
        haze=uniform("haze", 0.0, 0.15 * scale),
        bending=uniform("bending", 0.0, 0.35 * scale),
        jitter_px=float(overrides.get("jitter_px", rng("jitter_px").uniform(0.0, 0.04) * px * scale * scan)),
        drift=pair(overrides.get("drift", drift)),
        readout=uniform("readout", 0.0, 1.5 * scale),
        bits=int(chosen("bits", (8, 8, 16))),
        offset_nm=pair(overrides.get("offset_nm", (0.0, 0.0))),
    )


def _focus(rng: np.random.Generator) -> float:
    """Small defocus of either sign: bright or dark atoms."""
    return float(rng.uniform(4.0, 10.0) * (1 if rng.random() < 0.5 else -1))


def _crystal(
    preset: Preset, rng: np.random.Generator, overrides: dict[str, Any], defects: tuple[str, ...]
) -> tuple[str, str]:
    options = preset.crystals
    material, zone = overrides.get("material"), overrides.get("zone_axis")
    if material is not None or zone is not None:
        cubic = material is not None and not STRUCTURES[material_of(material).structure].hexagonal
        zone = "100" if cubic and zone == "001" else zone
        fits = [c for c in crystals_of() if material in (None, c[0]) and zone in (None, c[1])]
        inside = [c for c in fits if c in options]
        options = tuple(inside or fits)
    options = tuple(c for c in options if all(can_have(defect, *c) for defect in defects))
    if not options:
        raise SimulationError(
            f"{' and '.join(defects) or 'a crystal'} cannot be simulated in {material or 'any material'} along "
            f"{zone or 'any zone axis'}; choose another material or zone axis."
        )
    found: tuple[str, str] = pick(rng, options)
    return found
