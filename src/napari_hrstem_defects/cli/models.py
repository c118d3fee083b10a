"""The command ``models``."""

from __future__ import annotations

from pathlib import Path

import typer

from napari_hrstem_defects.cli.console import FAILED, USAGE, complain, errors_as_lines
from napari_hrstem_defects.errors import ModelError
from napari_hrstem_defects.models import evaluation, registry
from napari_hrstem_defects.models.contract import Contract


def run(add: Path | None, name: str | None, remove: str | None, overwrite: bool) -> None:
    """List the installed classifiers, add one or remove one; see :mod:`napari_hrstem_defects.models.registry`."""
    with errors_as_lines(USAGE):
        if add is not None and remove is not None:
            raise ModelError("--add and --remove cannot be done at once; leave one out.")
        if add is None and (name is not None or overwrite):
            raise ModelError("--name and --overwrite go with --add; leave them out.")
        if add is not None:
            entry = registry.add(add, name, overwrite=overwrite)
            typer.echo(f"{entry.name} was added; use it with --classifier {entry.name}.")
        elif remove is not None:
            typer.echo(f"{registry.remove(remove)} was deleted; no command finds {remove} any more.")
        else:
            _list()


def _list() -> None:
    found = registry.entries()
    usable = [(entry.name, entry.contract) for entry in found if entry.contract is not None]
    for name, contract in usable:
        for line in _lines(name, contract):
            typer.echo(line)
    if not found:
        typer.echo("No classifier is installed; train one with --install, or add a model file with --add.")
    typer.echo(f"Folder: {registry.folder()}")
    broken = [entry for entry in found if entry.contract is None]
    for entry in broken:
        complain(entry.problem)
    if broken:
        raise typer.Exit(FAILED)


def _lines(name: str, contract: Contract) -> list[str]:
    """What one classifier is, in lines that need no wide window."""
    scale = [
        f"{_range(values, form)} {unit}"
        for values, form, unit in (
            (contract.pixel_size_nm, ".3g", "nm a pixel"),
            (contract.period_px, ".1f", "px a lattice period"),
        )
        if values is not None
    ]
    head, cells = evaluation.table({"": evaluation.stated(contract.metrics, "test")})
    metrics = ", ".join(f"{metric} {value}" for metric, value in zip(head[1:], cells[1:], strict=True))
    forced = " (train/test overlap: the split was forced)" if contract.metrics.get("shared") else ""
    return [
        name,
        f"  {contract.kind}, patches of {contract.patch_px} px: {', '.join(contract.classes)}",
        f"  trained {contract.created[:10] or '(no date)'} on {' and '.join(scale) or 'images of unknown scale'}",
        f"  held out, %: {metrics}{forced}",
    ]


def _range(values: tuple[float, float], form: str) -> str:
    low, high = (format(value, form) for value in values)
    return low if low == high else f"{low} to {high}"
