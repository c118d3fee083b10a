"""From files, folders and patterns to image files, and from these to the names of results."""

from __future__ import annotations

import glob
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from napari_hrstem_defects.io.reading import FOLDERS, SUFFIXES

#: Endings of the names of masks: ``crystal_mask.png`` with a ``crystal.tif`` is not an image to analyse.
MASK_ENDINGS = ("_mask", "_labels", "_truth")

# In bytes: file systems take 255, and temporary names are longer.
_LONGEST_NAME = 200


@dataclass(frozen=True)
class Input:
    """A file to analyse, or a name that leads to none.

    Attributes
    ----------
    path : Path
    error : str or None
        One sentence if there is nothing to analyse.
    """

    path: Path
    error: str | None = None


def find_inputs(named: Iterable[str | os.PathLike[str]]) -> list[Input]:
    """Files behind files, folders and patterns, mixed.

    A folder stands for the images that lie directly in it (not in its subfolders), in natural order; a pattern
    (``*``, ``?``, ``[...]``, ``**``) for the images that match it. Of both, masks of an image and hidden
    files are left out. A file is taken once, however often it is named.

    Parameters
    ----------
    named : iterable of path-like

    Returns
    -------
    list of Input
    """
    found: dict[str, Input] = {}
    for item in named:
        for entry in _expand(os.fspath(item)):
            found.setdefault(os.path.abspath(entry.path), entry)
    return list(found.values())


def _expand(text: str) -> Iterator[Input]:
    path = Path(text)
    if _is_folder(path):
        files = _images(path)
        if not files:
            yield Input(path, f"{path}: there is no image in this folder; name another folder or a file.")
        yield from map(Input, files)
    elif not os.path.lexists(path) and glob.has_magic(text):
        files = []
        for match in map(Path, glob.glob(text, recursive=True)):
            files += _images(match) if _is_folder(match) and "**" not in text else _without_masks([match])
        if not files:
            yield Input(path, f"{text}: no image matches this pattern; check it, or put it in quotes.")
        yield from map(Input, sorted(files, key=_natural))
    else:
        yield Input(path)


def _images(folder: Path) -> list[Path]:
    return sorted(_without_masks(list(folder.iterdir())), key=_natural)


def _without_masks(files: list[Path]) -> list[Path]:
    kept = []
    for path in files:
        if path.suffix.lower() not in SUFFIXES or path.name.startswith(".") or _is_folder(path):
            continue
        ending = next((end for end in MASK_ENDINGS if path.stem.lower().endswith(end)), None)
        if ending and _has_image(path.parent, path.stem[: -len(ending)]):
            continue
        kept.append(path)
    return kept


def _is_folder(path: Path) -> bool:
    """Whether a path is a folder of images, not an image that is kept as a folder."""
    return os.path.isdir(path) and path.suffix.lower() not in FOLDERS


def _has_image(folder: Path, stem: str) -> bool:
    return any(path.suffix.lower() in SUFFIXES for path in folder.glob(f"{glob.escape(stem)}.*"))


def _natural(path: Path) -> tuple[tuple[str, int], ...]:
    """Sort key: frame2 before frame10."""
    parts = re.split(r"(\d+)", str(path).lower())
    return tuple(("", int(part)) if part.isdigit() else (part, 0) for part in parts)


def result_names(paths: Iterable[Path], owner: Callable[[str], str | None]) -> list[str]:
    """Name of each file's result folder: the stem, and where that is taken, stem and a hash of the path.

    The names depend on the paths and on who owns the folders there already, not on the order of the paths: a
    batch that is run again finds its results.

    Parameters
    ----------
    paths : iterable of Path
    owner : callable
        ``owner(name)`` is the absolute path of the input whose result lies in the folder `name`, if there is one.

    Returns
    -------
    list of str
        No two are equal, not even on file systems that ignore case.
    """
    paths = list(paths)
    absolute = [os.path.abspath(path) for path in paths]
    names: dict[int, str] = {}
    taken: set[str] = {"summary.csv"}
    # Who has the plain stem already keeps it; the others get it in the order of their paths.
    owned = {i: owner(_stem(path)) == absolute[i] for i, path in enumerate(paths)}
    for i in sorted(range(len(paths)), key=lambda i: (not owned[i], absolute[i])):
        name = _stem(paths[i])
        other = owner(name)
        if name.lower() in taken or (other is not None and other != absolute[i] and os.path.exists(other)):
            name = other_name(name, paths[i])
        taken.add(name.lower())
        names[i] = name
    return [names[i] for i in range(len(paths))]


def other_name(name: str, path: Path) -> str:
    """Name of the result of a file whose usual name is taken."""
    return f"{name}-{_hash(os.path.abspath(path))}"


def _stem(path: Path) -> str:
    return folder_name(path.name[: -len(path.suffix)] if path.suffix else path.name)


def folder_name(stem: str) -> str:
    """A name that is fit for a folder of every system."""
    name = re.sub(r'[<>:"|?*\\/\x00-\x1f\ud800-\udfff]', "_", stem).strip(" .") or "image"
    if len(name.encode()) > _LONGEST_NAME:
        name = f"{name.encode()[: _LONGEST_NAME - 9].decode('utf-8', 'ignore')}-{_hash(name)}"
    return name


def _hash(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:8]
