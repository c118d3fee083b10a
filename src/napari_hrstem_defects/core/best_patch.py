"""Choice of the best patch: neighbourhood graph of the clean patches and W(node)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BestPatch:
    """The model patch that the filters are built from.

    Attributes
    ----------
    y, x : float
        Centre in pixels.
    size : int
        Edge in pixels.
    placed : {"automatic", "hand"}
        Who placed it.
    """

    y: float
    x: float
    size: int
    placed: str = "automatic"
