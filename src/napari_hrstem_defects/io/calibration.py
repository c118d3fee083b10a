"""Pixel sizes: units as files spell them, and what is plausible for a micrograph."""

from __future__ import annotations

import math
import re
from typing import Any

#: Nanometres per unit, by the unit's name in lower case ("Å" and "A" are both "a").
_NM_PER_UNIT = {
    "m": 1e9,
    "meter": 1e9,
    "metre": 1e9,
    "dm": 1e8,
    "cm": 1e7,
    "centimeter": 1e7,
    "centimetre": 1e7,
    "inch": 2.54e7,
    "in": 2.54e7,
    '"': 2.54e7,
    "mm": 1e6,
    "millimeter": 1e6,
    "millimetre": 1e6,
    "um": 1e3,
    "micron": 1e3,
    "micrometer": 1e3,
    "micrometre": 1e3,
    "nm": 1.0,
    "nanometer": 1.0,
    "nanometre": 1.0,
    "a": 0.1,
    "å": 0.1,
    "ang": 0.1,
    "angstrom": 0.1,
    "ångström": 0.1,
    "ångstrom": 0.1,
    "pm": 1e-3,
    "picometer": 1e-3,
    "picometre": 1e-3,
}

#: Largest pixel (nm) taken for a measured one. Atomic columns need less than 0.2 nm; overview images are allowed
#: for, but a printer's or screen's resolution is not: 9600 dpi is 2646 nm, 72 dpi 0.35 mm.
MAX_PIXEL_NM = 1000.0
#: Smallest one: a hundredth of the sharpest probe ever made.
MIN_PIXEL_NM = 1e-4
#: Sides of a pixel that differ by more than this are worth a word.
_ANISOTROPY = 0.01


def nm_per_unit(unit: Any) -> float | None:
    """Nanometres in one `unit`; None if it is no length (pixels, 1/nm, nothing at all)."""
    if isinstance(unit, bytes):
        unit = unit.decode("utf-8", "replace")
    if not isinstance(unit, str):
        return None
    text = unit.strip("\x00 \t")
    if "\\u" in text:  # ImageJ writes non-ASCII letters as escapes: "\u00B5m"
        text = re.sub(r"\\u([0-9a-fA-F]{4})", lambda match: chr(int(match.group(1), 16)), text)
    text = text.replace("µ", "u").replace("μ", "u").replace("\u212b", "å").lower()
    factor = _NM_PER_UNIT.get(text)
    if factor is None and text.endswith("s"):
        factor = _NM_PER_UNIT.get(text[:-1])
    return factor


def pixel_size(y: Any, x: Any, unit: Any, unit_x: Any = None) -> tuple[float | None, tuple[str, ...]]:
    """Edge of a pixel in nm from its two sides as a file states them.

    Parameters
    ----------
    y, x : float
        Height and width of a pixel; one of them may be None.
    unit, unit_x : str
        Unit of `y` and, where it differs, of `x`.

    Returns
    -------
    size : float or None
        Geometric mean of the sides (it keeps areas right); None if unknown or not plausible.
    notices : tuple of str
        What the user should know about it, one sentence each.
    """
    sides = []
    for value, factor in ((y, nm_per_unit(unit)), (x, nm_per_unit(unit if unit_x is None else unit_x))):
        try:
            side = abs(float(value)) * factor if factor is not None else math.nan
        except (TypeError, ValueError):
            continue
        if math.isfinite(side) and side > 0:
            sides.append(side)
    if not sides:
        return None, ()
    size = math.sqrt(sides[0] * sides[-1])
    if not MIN_PIXEL_NM <= size <= MAX_PIXEL_NM:
        return None, (f"The file states a pixel of {size:.3g} nm, which no micrograph has; it was ignored.",)
    # Files keep decimal numbers and their reciprocals, both rounded; digits beyond those of a float32 are noise.
    size = float(f"{size:.9g}")
    if abs(math.log(sides[0] / sides[-1])) > _ANISOTROPY:
        notice = (
            f"The pixels are not square ({sides[0]:.4g} × {sides[-1]:.4g} nm, y × x); "
            f"their geometric mean, {size:.4g} nm, was used."
        )
        return size, (notice,)
    return size, ()
