"""What is shown: a progress bar on a terminal, plain lines in a pipe, one line for an error."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import typer

from napari_hrstem_defects.errors import HrstemDefectsError, WriteError

#: Exit statuses.
FAILED, USAGE = 1, 2
# Columns of a table in a pipe, where there is no width to keep to.
_PIPE_WIDTH = 200


def complain(message: str) -> None:
    """One line on the standard error."""
    typer.echo(printable(" ".join(message.split())), err=True)


def printable(text: str) -> str:
    """Text with escapes for the bytes of a file name that are no text."""
    return text.encode("utf-8", "backslashreplace").decode()


def write_json(values: Any, path: Path | None) -> None:
    """Write `values` to a file, if there is one to be written.

    Raises
    ------
    WriteError
    """
    if path is None:
        return
    try:
        path.write_text(json.dumps(values, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise WriteError(
            f"{path}: the file cannot be written ({error.strerror}); choose another place."
        ) from error


def show_table(rows: Sequence[Sequence[str]], title: str = "", summary: int = 0) -> None:
    """A table of text; the first row is the head, whose first cell is `title`, the last `summary` rows stand apart."""
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    # Names of files and classes may hold brackets, which mean colours to rich.
    table = Table(escape(title) or " ", *map(escape, rows[0][1:]), box=box.SIMPLE_HEAD)
    for column in table.columns[1:]:
        column.justify = "right"
        column.no_wrap = True
    table.columns[0].overflow = "fold"
    for number, row in enumerate(rows[1:], start=1):
        if summary and number == len(rows) - summary:
            table.add_section()
        table.add_row(*map(escape, row))
    Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH).print(table)


@contextlib.contextmanager
def errors_as_lines(status: int) -> Iterator[None]:
    """End with `status` and one line at an error of the input."""
    try:
        yield
    except HrstemDefectsError as error:
        complain(str(error))
        raise typer.Exit(status) from None
    except KeyboardInterrupt:
        complain("Interrupted.")
        raise typer.Exit(Stop.status) from None


class Stop(threading.Event):
    """Event that a signal sets.

    Attributes
    ----------
    status : int
        Exit status of a program that the signal ended: 130 after Ctrl-C, 143 after SIGTERM.
    """

    status = 128 + signal.SIGINT


@contextlib.contextmanager
def stop_signals() -> Iterator[Stop]:
    """Event that Ctrl-C and the SIGTERM of a batch system set; a second Ctrl-C ends the program at once."""
    stop = Stop()

    def ask(number: int, frame: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.status = 128 + number
        stop.set()

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Reporter:
    """Shows how far a command is.

    Parameters
    ----------
    quiet : bool
        Show nothing.
    """

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        # Tenths of each file that lines were written for.
        self._said: Counter[str] = Counter()
        self._bar: Any = None
        if not quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            self._bar = Progress(
                BarColumn(bar_width=30),
                TextColumn("{task.percentage:>3.0f} %"),
                TimeRemainingColumn(),
                TextColumn("{task.description}", markup=False),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task("", total=1.0)

    @property
    def has_bar(self) -> bool:
        """Whether progress is shown."""
        return self._bar is not None

    def progress(self, fraction: float, text: str) -> None:
        """Move the bar; in a pipe, one line for each tenth of a series or large image."""
        if (
            self._bar is None
            and not self._quiet
            and (frame := re.search(r"(.*): (?:frame|tile) (\d+) of (\d+)$", text))
        ):
            tenth = 10 * (int(frame[2]) - 1) // int(frame[3])
            for said in range(self._said[frame[1]], tenth):
                typer.echo(printable(f"        {frame[1]}: {10 * (said + 1)} %"))
            self._said[frame[1]] = max(tenth, self._said[frame[1]])
        if self._bar is not None:
            self._bar.update(self._task, completed=fraction, description=printable(text))

    def say(self, line: str) -> None:
        """One line on the standard output, above the bar."""
        if not self._quiet:
            self._write(line, err=False)

    def complain(self, line: str) -> None:
        """One line on the standard error, above the bar, even if quiet."""
        self._write(" ".join(line.split()), err=True)

    def _write(self, line: str, err: bool) -> None:
        line = printable(line)
        if self._bar is not None and (err or sys.stdout.isatty()):
            self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            typer.echo(line, err=err)

    def __enter__(self) -> Reporter:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
