"""Command line: ``hrstem-defects``.

Only typer is imported before a command runs, so that ``--help`` is quick.
"""

from __future__ import annotations

import os
import sys

from napari_hrstem_defects.cli import trained
from napari_hrstem_defects.cli.commands import app

__all__ = ["app", "main", "trained"]


def main() -> None:
    """Run the command line; ends the process with the exit status."""
    try:
        app(prog_name="hrstem-defects")
    except Exception as error:
        # The last resort for what is a bug. A person at the microscope gets one line, a developer the traceback.
        from napari_hrstem_defects.batch.task import DEBUG_VARIABLE, internal_error

        if os.environ.get(DEBUG_VARIABLE):
            raise
        print(internal_error(error, "hrstem-defects"), file=sys.stderr)
        sys.exit(1)
