"""Grey pictures that are stored as colour pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_hrstem_defects.errors import ReadError

#: Channels of grey pixels, averaged over a square of this side, differ by at most this share of the range: the noise of
#: cameras and of JPEG's chroma channels.
_CHROMA_NOISE, _SMOOTH_PX = 1 / 16, 5
#: Largest share of coloured pixels (a scale bar, marks) of a picture that still is a grey one.
_COLOURED = 0.01
#: Around coloured marks so many pixels are left out, too: their edges are blended with the picture.
_MARGIN_PX = 2
#: Correlation ratio of two planes above which one follows from the other: a colour table, not two frames.
_DEPENDENT = 0.99


def to_grey(picture: NDArray[Any], path: Path) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Grey values of a picture ``(..., channels)`` without real colours.

    Parameters
    ----------
    picture : array (..., y, x, 2, 3 or 4)
        With an alpha channel if the number is even; it is left out.
    path : Path
        For the message.

    Returns
    -------
    grey : array (..., y, x)
        The channel, where all are equal; else the luminance, float32 and NaN at coloured marks.
    notices : tuple of str

    Raises
    ------
    ReadError
        If more than 1 % of the pixels are coloured.
    """
    if picture.shape[-1] == 2:
        return picture[..., 0], ("The picture has an alpha channel; it was left out.",)
    channels = picture[..., :3]
    if bool((channels[..., :1] == channels[..., 1:]).all()):
        return picture[..., 0], ("The picture has colour channels that are all equal; one of them was used.",)
    span = float(np.iinfo(picture.dtype).max if picture.dtype.kind == "u" else np.ptp(channels))
    # Noise of the colours averages out, colours do not.
    smooth = ndimage.uniform_filter(
        channels.astype(np.float32), (1,) * (channels.ndim - 3) + (_SMOOTH_PX,) * 2 + (1,)
    )
    coloured = np.ones(channels.shape[:-1], bool)
    for values in (channels, smooth):
        coloured &= values.max(axis=-1).astype(np.float64) - values.min(axis=-1) > _CHROMA_NOISE * span
    share = float(coloured.mean())
    if share > _COLOURED:
        raise ReadError(
            f"{path}: this is a colour picture ({100 * share:.0f} % of its pixels are coloured), not a micrograph; "
            "save the original grey image without false colours or annotations."
        )
    # ITU-R BT.601, which JPEG uses, too.
    grey = (channels @ np.array([0.299, 0.587, 0.114])).astype(np.float32)
    if not coloured.any():
        return grey, ("The picture has colour channels that hardly differ; their luminance was used.",)
    steps = np.zeros((3,) * grey.ndim, bool)
    steps[(1,) * (grey.ndim - 2)] = True
    grey[ndimage.binary_dilation(coloured, steps, iterations=_MARGIN_PX)] = np.nan
    return grey, (
        f"{100 * share:.2g} % of the pixels are coloured (a scale bar or marks); they were left out, of the others the "
        "luminance was used.",
    )


def are_frames(planes: NDArray[Any]) -> bool:
    """Whether three or four planes ``(plane, y, x)`` called red, green and blue are frames of a series.

    Planes of a colour picture are equal, constant (alpha, missing colours) or follow from one another (colour tables).
    """
    first = planes[0].ravel()
    _, groups, counts = np.unique(first, return_inverse=True, return_counts=True)
    if len(counts) == 1:
        return False
    for plane in planes[1:]:
        values = plane.ravel().astype(np.float64)
        total = values.var()
        means = np.bincount(groups, values) / counts
        # Without the values that occur once, which explain themselves.
        several = counts[groups] > 1
        within = np.mean((values - means[groups])[several] ** 2) if several.any() else total
        if not total or within < (1 - _DEPENDENT) * total:
            return False
    return True
