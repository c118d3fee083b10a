"""Open a micrograph file of any known format."""

from __future__ import annotations

import math
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from napari_hrstem_defects.core.micrograph import Micrograph
from napari_hrstem_defects.errors import HrstemDefectsError, ReadError
from napari_hrstem_defects.io import arrays, hdf5, mrc, pictures, tiff, vendor, zarrs
from napari_hrstem_defects.io.calibration import beside
from napari_hrstem_defects.io.colour import to_grey
from napari_hrstem_defects.io.source import IMAGE, DataSet, LazyFrames


class _Format(NamedTuple):
    """How files of some suffixes are read.

    `begins` are the first bytes of such files, none where any will do; `by_text`: whether a sidecar text file
    may hold its pixel size.
    """

    suffixes: tuple[str, ...]
    read: Callable[[Path], list[DataSet]]
    begins: tuple[bytes, ...] = ()
    by_text: bool = False


_ZIP, _HDF5 = (b"PK\x03\x04",), (b"\x89HDF\r\n\x1a\n",)
_FORMATS = (
    _Format((".tif", ".tiff"), tiff.read, (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), by_text=True),
    _Format((".png",), pictures.read, (b"\x89PNG\r\n\x1a\n",), by_text=True),
    _Format((".jpg", ".jpeg"), pictures.read, (b"\xff\xd8\xff",), by_text=True),
    _Format((".bmp",), pictures.read, (b"BM",), by_text=True),
    _Format((".npy",), arrays.read_npy, (b"\x93NUMPY",)),
    _Format((".npz",), arrays.read_npz, _ZIP),
    _Format((".ndata",), arrays.read_ndata, _ZIP),
    _Format((".mrc", ".mrcs", ".st", ".rec", ".map"), mrc.read),
    _Format((".zarr", ".zspy"), zarrs.read, _ZIP),
    _Format((".emd", ".hspy"), hdf5.read, _HDF5),
    _Format((".dm3",), vendor.read, (b"\0\0\0\3",)),
    _Format((".dm4",), vendor.read, (b"\0\0\0\4",)),
    _Format((".ser",), vendor.read, (b"II\x97\1",)),
    _Format((".emi",), vendor.read, (b"JJ\0B",)),
)
_BY_SUFFIX = {suffix: form for form in _FORMATS for suffix in form.suffixes}

#: Suffixes of the files that :func:`read` opens, lower case.
SUFFIXES = tuple(_BY_SUFFIX)
#: Suffixes of what may be a folder.
FOLDERS = (".zarr", ".zspy")
# Errors of parsers at the end of a file or at wrong bytes; others, or their messages, mean an unknown variant.
_UNKNOWN = re.compile("requires|required|supported|registered|implemented|available|compression|plugin", re.I)
# At bytes that are missing or wrong, whatever their message says.
_CUT = (struct.error, zlib.error, zipfile.BadZipFile)
_DAMAGE = (OSError, EOFError, ValueError, IndexError, ArithmeticError, RuntimeError)


def read(
    path: str | os.PathLike[str],
    *,
    pixel_size_nm: float | None = None,
    select: str | int | None = None,
    memory_share: float = 0.25,
    as_dask: bool = True,
) -> Micrograph:
    """Open a micrograph ``(y, x)`` or a time series ``(t, y, x)``.

    TIFF (OME, ImageJ, Thermo Fisher, Zeiss, Gatan, Olympus, TVIPS, JEOL, Tescan), PNG, JPEG, BMP, numpy, MRC and Nion
    files; with the extra ``formats`` also dm3, dm4, emd (Velox and Berkeley), ser, emi, hspy, Zarr, zspy. Series stay
    on disk until a frame is asked for. Of several images the largest in real space is taken, the first of equal ones.

    Parameters
    ----------
    path : path-like
        The suffix gives the format, upper or lower case.
    pixel_size_nm : float, optional
        Edge of a pixel in nm, instead of that in the file.
    select : int or str, optional
        Another image of the file: its number (from 1) or title, see :func:`data_sets`.
    memory_share : float
        Largest share of the machine's memory that an image may take, 0...1; larger ones are refused before they are
        loaded.
    as_dask : bool
        Whether a series that stays on disk is a dask array; otherwise it is array-like only and reads frame by frame in
        the thread that asks, which is quicker and never a matter of dask's current scheduler.

    Returns
    -------
    Micrograph
        ``metadata`` has the absolute ``path``, what `select` was, and ``pixel_size_from``: "hand", "file" or None;
        ``notices`` lists what was chosen or left out. Its pixel size is None where the file has none that is plausible.

    Raises
    ------
    ReadError
        If the file is missing, unreadable, of an unknown format or holds no image, or a diffraction pattern only.
    MicrographError
        If its pixels cannot be analysed.

    Examples
    --------
    >>> import tempfile, numpy, tifffile
    >>> path = Path(tempfile.mkdtemp()) / "image.tif"
    >>> tifffile.imwrite(path, numpy.eye(64, dtype="uint8"), imagej=True, metadata={"unit": "nm"}, resolution=(50, 50))
    >>> read(path).pixel_size_nm
    0.02
    """
    path = Path(path)
    found = data_sets(path)
    number = choose(path, found, select)
    chosen = found[number]
    notices = list(chosen.notices)
    if len(found) > 1:
        title = f" ({chosen.title})" if chosen.title else ""
        notices.append(
            f"The file holds {len(found)} data sets; number {number + 1}{title} was used, another can be selected."
        )
    _check_memory(path, chosen, memory_share)
    data = _guarded(path, lambda _: chosen.pixels())
    if isinstance(data, LazyFrames) and as_dask:
        data = data.as_dask()
    if chosen.colour and data.ndim > 2:
        if data.shape[-1] in (2, 3, 4):
            data, remarks = to_grey(data, path)
            notices += remarks
        else:
            notices.append(
                f"The file calls its {len(data)} planes colours; they were taken for frames of a series."
            )
    if pixel_size_nm is None:
        notices += chosen.pixel.notices
    by_hand = pixel_size_nm is not None
    size = pixel_size_nm if by_hand else chosen.pixel.nm
    metadata: dict[str, Any] = {
        **chosen.metadata,
        "path": os.path.abspath(path),
        "select": select,
        "pixel_size_from": None if size is None else "hand" if by_hand else "file",
        "pixel_size_stated_nm": size,
    }
    name = path.name.encode("utf-8", "backslashreplace").decode()
    return Micrograph(data, size, name, metadata, tuple(notices))


def data_sets(path: str | os.PathLike[str]) -> list[DataSet]:
    """What a file holds, described without its pixels, in the order in which :func:`read` counts.

    Raises
    ------
    ReadError
        If the file is missing, unreadable, of an unknown format or holds nothing.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    _check_file(path)
    form = _BY_SUFFIX.get(suffix)
    if form is None:
        known = ", ".join(suffix[1:] for suffix in SUFFIXES)
        what = f"the format {path.suffix!r} is not known" if path.suffix else "the file name has no suffix"
        raise ReadError(f"{path}: {what}; convert the image to TIFF (known are {known}).")
    found = _guarded(path, form.read)
    if not found:
        raise ReadError(f"{path}: there is no image in the file; export it again.")
    return [_with_text(path, one) for one in found] if form.by_text else found


def _with_text(path: Path, found: DataSet) -> DataSet:
    """A data set without a pixel size, with that of a sidecar text file if there is one."""
    if found.pixel.nm is not None or found.pixel.reciprocal or len(found.frame_shape) < 2:
        return found
    pixel = beside(path, found.frame_shape[-1])
    return replace(found, pixel=pixel._replace(notices=found.pixel.notices + pixel.notices))


def choose(path: Path, found: Sequence[DataSet], select: str | int | None = None) -> int:
    """Index of the data set to analyse: the largest image, grey ones first, or the selected one.

    Raises
    ------
    ReadError
        If there is none, or the selected one is no image of a lattice.
    """
    if select is None:
        images = [k for k, one in enumerate(found) if one.kind == IMAGE]
        if images:
            return max(images, key=lambda k: (not found[k].colour, np.prod(found[k].frame_shape)))
    else:
        titles = [one.title for one in found]
        number = (
            int(select)
            if str(select).isdecimal()
            else titles.index(str(select)) + 1
            if select in titles
            else 0
        )
        if not 1 <= number <= len(found):
            raise ReadError(
                f"{path}: there is no data set {str(select)!r} in the file; select a number from 1 to {len(found)} or "
                "a title that `hrstem-defects info` shows."
            )
        if found[number - 1].kind == IMAGE:
            return number - 1
        found = found[number - 1 : number]
    patterns = [one for one in found if one.kind == "a diffraction pattern"]
    if patterns:
        unit = patterns[0].pixel.reciprocal or "reciprocal units"
        raise ReadError(
            f"{path}: this is a diffraction pattern (pixels in {unit}), not an image of a lattice; open the image "
            "itself."
        )
    kinds = ", ".join(dict.fromkeys(one.kind for one in found))
    raise ReadError(
        f"{path}: there is no image in the file, only {kinds}; open the file of the image itself."
    )


def _check_memory(path: Path, chosen: DataSet, share: float) -> None:
    """Refuse what declares more pixels than may be loaded: small files can do that."""
    if not hasattr(os, "sysconf"):  # Windows
        return
    size = (
        math.prod(chosen.shape if chosen.whole or chosen.colour else chosen.frame_shape)
        * chosen.dtype.itemsize
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if size > share * memory:
        raise ReadError(
            f"{path}: the image takes {size / 2**30:.3g} GiB, more than {100 * share:g} % of this machine's memory; "
            "crop or bin it, or allow more (--memory-share)."
        )


def _guarded(path: Path, work: Callable[[Path], Any]) -> Any:
    """Result of a parser, whose errors become one sentence."""
    try:
        return work(path)
    except (HrstemDefectsError, MemoryError):
        raise
    except PermissionError as error:
        raise ReadError(
            f"{path}: no permission to read the file; change its access rights or copy it."
        ) from error
    except Exception as error:  # parsers raise any error at a damaged byte
        suffix = path.suffix[1:].lower()
        begins = _BY_SUFFIX[path.suffix.lower()].begins
        if path.is_dir() or _begin(path).startswith(begins or b""):
            begins = ()
        unknown = isinstance(error, NotImplementedError) or _UNKNOWN.search(str(error))
        if begins or isinstance(error, _CUT) or (isinstance(error, _DAMAGE) and not unknown):
            raise ReadError(
                f"{path}: the file is damaged or not really a {suffix} file ({_short(error)}); export or copy it again."
            ) from error
        raise ReadError(
            f"{path}: this variant of {suffix} files cannot be read ({_short(error)}); convert the image to TIFF."
        ) from error


def _begin(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(16)


def _check_file(path: Path) -> None:
    if os.path.isdir(path):  # raises nothing, whatever the name
        if path.suffix.lower() in FOLDERS:
            return
        raise ReadError(f"{path}: this is a folder, not an image; name a file in it.")
    try:
        size = path.stat().st_size
    except (FileNotFoundError, ValueError):  # a name with a NUL
        raise ReadError(f"{path}: there is no such file; check the name and the folder.") from None
    except OSError as error:
        raise ReadError(
            f"{path}: the file cannot be reached ({error.strerror}); check the name and its folder."
        ) from error
    if size == 0:
        raise ReadError(f"{path}: the file is empty (0 bytes); copy or export it again.")


def _short(error: BaseException) -> str:
    """First line of a parser's message, short enough for one line of ours."""
    lines = str(error).strip().splitlines()
    text = lines[0] if lines else type(error).__name__
    return text if len(text) <= 80 else text[:77] + "..."
