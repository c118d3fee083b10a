"""Files that are complete or absent, and a sentence where they cannot be written."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from napari_hrstem_defects.errors import WriteError


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Path of a file to write, which takes the place of `path` at the end unless an error is raised before."""
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", suffix=".partial", dir=path.parent) as aside:
        partial = Path(aside) / path.name
        yield partial
        os.replace(partial, path)


@contextlib.contextmanager
def writing(
    path: Path, what: str, advice: str = "choose a folder with space and write access"
) -> Iterator[None]:
    """Make a WriteError of what the system says while something is written to a path."""
    try:
        yield
    except OSError as error:
        raise WriteError(
            f"{path}: the {what} cannot be written there ({error.strerror or error}); {advice}."
        ) from error
