"""Helpers of a session that do not keep it alive."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_hrstem_defects.widgets.session import Session


class OfSession:
    """Part of a session's work, made by it.

    Parameters
    ----------
    session : Session
        Only weakly referred to.
    """

    def __init__(self, session: Session) -> None:
        self._known = weakref.ref(session)

    def _session(self) -> Session | None:
        """The session; None when its viewer is gone."""
        return self._known()
