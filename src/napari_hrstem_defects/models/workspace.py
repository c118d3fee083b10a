"""The folder beside a model file in which an unfinished training lies: its plan, checkpoints and results."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import napari_hrstem_defects
from napari_hrstem_defects.errors import ModelError
from napari_hrstem_defects.models.files import replacing, writing
from napari_hrstem_defects.models.fitting import CHECKPOINT

#: Ending of the folder.
WORKSPACE_SUFFIX = ".training"
_PLAN, _RESULT, _SPLIT = "plan.json", "result.json", "split"


def unfinished(path: str | os.PathLike[str]) -> bool:
    """Whether an unfinished training lies beside a model file."""
    return (_folder(Path(path)) / _PLAN).is_file()


def open_workspace(path: Path, plan: Mapping[str, Any], *, resume: bool, overwrite: bool) -> Path:
    """Folder of the unfinished training of a model file, found or made.

    Parameters
    ----------
    path : Path
        The model file.
    plan : mapping
        What is trained, on what and how; an unfinished training must have the same.
    resume, overwrite : bool
        Whether an unfinished training must be there; whether it, or a model, may be there.

    Raises
    ------
    ModelError
        If what is there is not what is wanted.
    WriteError
    """
    if path.is_dir():
        raise ModelError(f"{path}: this is a folder, not a model file; choose another name.")
    folder = _folder(path)
    begun = folder / _PLAN
    # As it is read from a file.
    plan = json.loads(json.dumps({**plan, "version": napari_hrstem_defects.__version__}))
    if resume:
        if not begun.exists():
            raise ModelError(f"{path}: there is no unfinished training to go on with; leave out --resume.")
        try:
            was = _read(begun)
        except (OSError, TypeError, ValueError) as error:
            raise ModelError(
                f"{folder}: the unfinished training is damaged; start anew with --overwrite."
            ) from error
        changed = [key.replace("_sha256", "") for key in plan if was.get(key) != plan[key]]
        if changed:
            raise ModelError(
                f"{path}: the unfinished training has other {' and '.join(changed)}; repeat the command as it was, or "
                "start anew with --overwrite."
            )
        return folder
    if not overwrite:
        if begun.exists():
            raise ModelError(
                f"{path}: an unfinished training lies beside it; go on with --resume or start anew with --overwrite."
            )
        if path.exists():
            raise ModelError(f"{path}: there is a model already; choose another name or allow --overwrite.")
    with writing(folder, "training"):
        folder.mkdir(parents=True, exist_ok=True)
        # What an earlier training left, also if it was killed while it cleared up and nothing says what it was.
        for left in folder.glob(f"{_SPLIT}*"):
            shutil.rmtree(left)
        begun.write_text(json.dumps(plan), encoding="utf-8")
    return folder


@contextlib.contextmanager
def explained(workspace: Path) -> Iterator[None]:
    """Leave nothing behind after data or options that cannot be used; say when disk or memory is too small."""
    try:
        with writing(workspace, "training", "make room and go on with --resume"):
            yield
    except Exception as error:
        # TensorFlow has an error of its own for want of memory, which cannot be named without importing it.
        memory = isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError"
        kept = any(workspace.rglob(f"*{CHECKPOINT}")) or any(workspace.rglob(_RESULT))
        if (memory or isinstance(error, ModelError)) and not kept:
            shutil.rmtree(workspace, ignore_errors=True)
        if memory:
            raise ModelError(
                "The training does not fit into the memory; use fewer or smaller patches, or fewer of them in a step."
            ) from error
        raise


def split_folder(workspace: Path, number: int) -> Path:
    """Where the training on one split lies, counted from 0."""
    return workspace / f"{_SPLIT}{number + 1}"


def write_result(folder: Path, result: Mapping[str, Any]) -> None:
    """Write the outcome of a split."""
    with replacing(folder / _RESULT) as partial:
        partial.write_text(json.dumps(result), encoding="utf-8")


def finished_result(folder: Path) -> dict[str, Any] | None:
    """What :func:`write_result` wrote of a training on a split that came to its end; one that was stopped goes on."""
    if not (folder / _RESULT).exists():
        return None
    result = _read(folder / _RESULT)
    return None if result["stopped"] else result


def _folder(path: Path) -> Path:
    return path.with_name(path.name + WORKSPACE_SUFFIX)


def _read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))
