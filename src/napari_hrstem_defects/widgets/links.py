"""Connections that end together."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any


class Links:
    """Signal connections of a widget to things that outlive it.

    Closing a dock neither deletes the widget at once nor sends it a close event, so what it is connected to must be
    let go explicitly.
    """

    def __init__(self) -> None:
        self._links: list[tuple[Any, Callable[..., Any]]] = []

    def connect(self, signal: Any, slot: Callable[..., Any]) -> None:
        """Connect and remember."""
        signal.connect(slot)
        self._links.append((signal, slot))

    def clear(self) -> None:
        """End all connections."""
        for signal, slot in self._links:
            # What is gone already needs no disconnecting.
            with contextlib.suppress(ValueError, RuntimeError, TypeError):
                signal.disconnect(slot)
        self._links.clear()

    def __len__(self) -> int:
        return len(self._links)
