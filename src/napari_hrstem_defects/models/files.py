"""Files that are complete or absent."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Path of a file to write, which takes the place of `path` at the end unless an error is raised before."""
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", suffix=".partial", dir=path.parent) as aside:
        partial = Path(aside) / path.name
        yield partial
        os.replace(partial, path)
