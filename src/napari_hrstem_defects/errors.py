"""Errors whose message is meant for the person at the microscope.

Every message is one sentence that says what is wrong and what to do. Front ends show it as it stands and never a
traceback; anything that is not an :class:`HrstemDefectsError` is a bug.
"""


class HrstemDefectsError(ValueError):
    """Base of all errors that a user can mend.

    Examples
    --------
    >>> import numpy as np, napari_hrstem_defects as hd
    >>> try:
    ...     hd.Micrograph(np.zeros((4, 4)))
    ... except hd.HrstemDefectsError as error:
    ...     print(type(error).__name__)
    MicrographError
    """


class MicrographError(HrstemDefectsError):
    """The pixels cannot be analysed (wrong shape, type or contents)."""


class RecipeError(HrstemDefectsError):
    """A parameter is unknown, of the wrong type or out of range."""


class ReadError(HrstemDefectsError):
    """A file cannot be read."""


class WriteError(HrstemDefectsError):
    """A result cannot be written."""


class ModelError(HrstemDefectsError):
    """A trained classifier cannot be made, read or used, or what it needs is not installed."""


class Cancelled(Exception):  # noqa: N818 - not an error: the caller asked for it
    """The caller asked to stop; nothing was changed."""
