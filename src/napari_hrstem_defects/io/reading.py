"""Open a micrograph file of any known format."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from napari_hrstem_defects.core.errors import HrstemDefectsError, ReadError
from napari_hrstem_defects.core.micrograph import Micrograph
from napari_hrstem_defects.io import pictures, tiff, vendor
from napari_hrstem_defects.io.source import Source

_READERS: dict[str, Callable[[Path], Source]] = {
    ".tif": tiff.read,
    ".tiff": tiff.read,
    ".png": pictures.read_picture,
    ".jpg": pictures.read_picture,
    ".jpeg": pictures.read_picture,
    ".bmp": pictures.read_picture,
    ".npy": pictures.read_npy,
    ".npz": pictures.read_npz,
    **dict.fromkeys(vendor.PLUGINS, vendor.read),
}

#: Suffixes of the files that :func:`read` opens, lower case.
SUFFIXES = tuple(_READERS)


def read(path: str | os.PathLike[str], *, pixel_size_nm: float | None = None) -> Micrograph:
    """Open a micrograph ``(y, x)`` or a time series ``(t, y, x)``.

    TIFF (OME, ImageJ, FEI, Zeiss, Gatan, Olympus, TVIPS), PNG, JPEG, BMP and numpy files; with the extra ``formats``
    also dm3, dm4, emd (Velox and Berkeley), ser, mrc and hspy. Series of a TIFF, dm3, dm4, emd, ser, mrc, hspy or
    npy file stay on disk until a frame is asked for.

    Parameters
    ----------
    path : path-like
        The suffix tells the format, upper or lower case.
    pixel_size_nm : float, optional
        Edge of a pixel in nm, instead of what the file says.

    Returns
    -------
    Micrograph
        ``metadata["path"]`` is the absolute path; ``notices`` says what was chosen or left out.

    Raises
    ------
    ReadError
        If the file is missing, unreadable, of an unknown format or holds no image.
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
    _check_file(path)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        known = ", ".join(suffix[1:] for suffix in SUFFIXES)
        what = f"the format {path.suffix!r} is not known" if path.suffix else "the file name has no suffix"
        raise ReadError(f"{path}: {what}; convert the image to TIFF (known are {known}).")
    try:
        source = reader(path)
    except HrstemDefectsError:
        raise
    except PermissionError as error:
        raise ReadError(
            f"{path}: no permission to read the file; change its access rights or copy it."
        ) from error
    except Exception as error:  # parsers raise whatever a damaged byte makes them stumble over
        raise ReadError(
            f"{path}: the file is damaged or not really a {path.suffix[1:].lower()} file ({_short(error)}); "
            "export or copy it again."
        ) from error
    size = source.pixel_size_nm if pixel_size_nm is None else pixel_size_nm
    metadata: dict[str, Any] = {"path": os.path.abspath(path), **source.metadata}
    return Micrograph(source.data, size, path.name, metadata, source.notices)


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise ReadError(f"{path}: this is a folder, not an image; name a file in it.")
    try:
        size = path.stat().st_size
    except FileNotFoundError:
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
