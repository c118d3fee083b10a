"""Classifiers that a person has installed: model files in a folder of theirs, found by name."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from napari_hrstem_defects.errors import ModelError
from napari_hrstem_defects.models.contract import Contract
from napari_hrstem_defects.models.files import replacing, writing
from napari_hrstem_defects.models.store import SUFFIX, file_sha256, read_contract

#: Names that mean something else.
RESERVED = ("screening", "hand")
#: Folder to use instead of the usual one, for tests and for shared installations.
FOLDER_VARIABLE = "HRSTEM_DEFECTS_MODELS"
_ADVICE = f"set {FOLDER_VARIABLE} to a folder with space and write access"


@dataclass(frozen=True)
class Entry:
    """A classifier in the registry.

    Attributes
    ----------
    name : str
    path : Path
    contract : Contract or None
        None if the file cannot be used.
    problem : str
        Why it cannot be used.
    """

    name: str
    path: Path
    contract: Contract | None
    problem: str = ""


def folder() -> Path:
    """Where the model files are; it need not exist."""
    chosen = os.environ.get(FOLDER_VARIABLE)
    if chosen:
        return Path(chosen)
    return platformdirs.user_data_path("napari-hrstem-defects", appauthor=False) / "models"


def entries() -> list[Entry]:
    """All classifiers in the registry, by name."""
    found = []
    where = folder()
    for path in sorted(where.glob(f"*{SUFFIX}")) if where.is_dir() else ():
        try:
            found.append(Entry(path.stem, path, read_contract(path)))
        except ModelError as error:
            found.append(Entry(path.stem, path, None, str(error)))
    return found


def check_free(name: str, *, overwrite: bool = False) -> Path:
    """Where a classifier of this name would go; what stands in the way of it is said before it is made.

    Raises
    ------
    ModelError
        If the name cannot be that of a file, or is taken and not to be replaced.
    WriteError
        If the registry cannot be written.
    """
    name = _checked_name(name)
    target = folder() / f"{name}{SUFFIX}"
    if target.exists() and not overwrite:
        raise ModelError(f"There is a classifier {name!r} already; choose another name or replace it.")
    existing = next(path for path in target.parents if path.exists())
    with writing(target, "classifier", _ADVICE):
        if not existing.is_dir():
            raise OSError(f"{existing} is no folder")
        if not os.access(existing, os.W_OK):
            raise OSError("no write access")
    return target


def add(path: str | os.PathLike[str], name: str | None = None, *, overwrite: bool = False) -> Entry:
    """Copy a model file into the registry.

    Parameters
    ----------
    path : path-like
    name : str, optional
        Default: that of the contract.
    overwrite : bool
        Replace one of the same name.

    Raises
    ------
    ModelError
        If it is no usable model file, or the name is taken or cannot be that of a file.
    WriteError
        If the registry cannot be written.
    """
    contract = read_contract(path)
    target = check_free(contract.name if name is None else name, overwrite=overwrite)
    name = target.stem
    with writing(target, "classifier", _ADVICE):
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as partial:
            shutil.copyfile(path, partial)
    return Entry(name, target, contract)


def remove(name: str) -> Path:
    """Delete a classifier from the registry and return its file; a ModelError if that is impossible."""
    if name.strip().lower() in RESERVED:
        raise ModelError(
            f"{name.strip()} is no file but part of the program; only trained classifiers can be removed."
        )
    path = folder() / f"{_checked_name(name)}{SUFFIX}"
    try:
        path.unlink()
    except FileNotFoundError:
        raise _unknown(name) from None
    except OSError as error:
        raise ModelError(
            f"{path}: the classifier cannot be deleted ({error.strerror}); check the rights of the folder."
        ) from error
    return path


def find(name_or_file: str | os.PathLike[str]) -> Path:
    """Model file of a name in the registry, or a file itself; a ModelError if there is neither."""
    text = os.fspath(name_or_file)
    path = Path(text)
    if path.is_file():
        return path
    if text.strip().lower() in RESERVED:
        raise ModelError(f"{text.strip()} is no file but part of the program; name a trained classifier.")
    if path.suffix == SUFFIX or len(path.parts) > 1:
        raise ModelError(f"{text}: there is no such model file; check the name and the folder.")
    registered = folder() / f"{text}{SUFFIX}"
    if registered.is_file():
        return registered
    raise _unknown(text)


def find_by_hash(sha256: str, name_or_file: str | os.PathLike[str] = "") -> Path:
    """Model file of a hash: the named one if it is the same still, else one in the registry; or a ModelError."""
    for candidate in (name_or_file, *(entry.path for entry in entries())):
        with contextlib.suppress(ModelError):  # another one that cannot be read does not matter here
            path = find(candidate)
            if file_sha256(path) == sha256:
                return path
    raise ModelError(
        f"The classifier {os.fspath(name_or_file) or '(no name)'} that was used (SHA-256 {sha256[:12]}...) is neither "
        "where it was nor in the list of classifiers; put the same file back."
    )


def _checked_name(name: str) -> str:
    name = name.strip()
    if not re.fullmatch(r"[\w][\w .+-]{0,79}", name) or name.endswith(".") or name.lower() in RESERVED:
        raise ModelError(
            f"A classifier cannot be called {name!r}; use letters, digits, blanks, hyphens and underscores, and "
            f"not {' or '.join(RESERVED)}."
        )
    return name


def _unknown(name: str) -> ModelError:
    known = ", ".join(("screening", *(entry.name for entry in entries())))
    return ModelError(f"There is no classifier {name!r}; choose one of {known}, or name a model file.")
