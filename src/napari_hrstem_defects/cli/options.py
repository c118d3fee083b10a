"""Options of the commands, and those that several have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def option(metavar: str, help: str, *, name: str = "", **limits: float) -> Any:
    """An option with a value, by default called as its parameter; `limits` are its `min` and `max`."""
    return typer.Option(*filter(None, [name]), metavar=metavar, help=help, **limits)  # type: ignore[arg-type]


def flag(name: str, help: str) -> Any:
    """An option without a value."""
    return typer.Option(name, help=help)


Out = Annotated[Path, option("DIR", "Folder for the results; made if missing.")]
Select = Annotated[
    str | None,
    option(
        "N|TITLE", "Which data set of a file with several, as `info` lists them; default: the largest image."
    ),
]
PixelSize = Annotated[float | None, option("NM", "Pixel size in nm, instead of that in the file.")]
Quiet = Annotated[bool, flag("--quiet", "Print errors only.")]
