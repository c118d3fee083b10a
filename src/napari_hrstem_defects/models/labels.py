"""Masks of training images from what people mark with: label images and polygons."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_hrstem_defects.core.errors import ModelError
from napari_hrstem_defects.core.metrics import IGNORE

#: Labels of polygons, lower case, and what they mean in a mask. B, S and A are those of Dennler et al. (2021).
POLYGON_LABELS: Mapping[str, int] = {
    **dict.fromkeys(("b", "crystal", "bulk", "clean", "background", "non-defective", "non_defective"), 0),
    **dict.fromkeys(("a", "amorphous", "blurred", "vacuum"), 2),
    **dict.fromkeys(("ignore", "unlabelled", "unlabeled"), IGNORE),
}
#: What any other label means.
_DEFECT = 1
# So many grey values between black and white are the edges of a smoothed picture.
_FADING = 8


def mask_of_labels(labels: ArrayLike, shape: tuple[int, int], name: str) -> NDArray[np.uint8]:
    """Mask of a label image, as napari's Labels layers hold it.

    Parameters
    ----------
    labels : int or bool array
        0 is crystal, 255 is not judged, everything else a defect; of black and white alone, white is the defect. Empty
        axes, and a last axis of equal colour channels, are dropped.
    shape : tuple of int
        Shape of the image ``(y, x)``.
    name : str
        What to call it in messages.

    Returns
    -------
    uint8 array (y, x)
        0, 1, 2 or 255; labels above 2 become 1.

    Raises
    ------
    ModelError
        If it is no label image or does not fit the image.
    """
    array = np.asarray(labels)
    if array.ndim == 3 and array.shape[-1] in (3, 4) and array.shape[:2] == shape:
        if (array[..., :3] != array[..., :1]).any():
            raise ModelError(
                f"{name}: the labels are a coloured picture; save them as a label image of whole numbers or in black "
                "and white."
            )
        array = array[..., 0]
    array = array.reshape([n for n in array.shape if n != 1] or [1])
    if array.shape != shape:
        raise ModelError(
            f"{name}: the labels have shape {array.shape}, the image has {shape}; label the same field of view."
        )
    if array.dtype.kind not in "biu":
        if not (array.dtype.kind == "f" and np.array_equal(array, np.rint(array))):
            raise ModelError(
                f"{name}: a label image holds whole numbers, not {array.dtype}; check that it is the mask."
            )
        array = array.astype(np.int64)
    if array.size and array.min() < 0:
        raise ModelError(f"{name}: a label image holds no negative numbers; check that it is the mask.")
    out = np.full(shape, _DEFECT, np.uint8)
    for value in (0, 2, IGNORE):
        out[array == value] = value
    values = np.unique(array).tolist()
    if _is_smoothed(array, values):
        raise ModelError(
            f"{name}: the labels look like a picture with soft edges ({len(values)} grey values), of which the white "
            f"inside ({IGNORE}) would mean not judged; save them in black and white, without smoothing."
        )
    # A picture of a mask: black and white, where white is no "not judged".
    if values == [0, IGNORE]:
        out[array == IGNORE] = _DEFECT
    return out


def _is_smoothed(array: NDArray[Any], values: list[int]) -> bool:
    """Whether it is a white mask whose edges fade; labels of many defects are numbered without gaps."""
    between = [value for value in values if 0 < value < IGNORE]
    return (
        values[-1:] == [IGNORE]
        and len(between) >= _FADING
        and between != list(range(1, len(between) + 1))
        and bool(np.count_nonzero(array == IGNORE) > np.count_nonzero(array) / 2)
    )


def mask_of_polygons(description: Any, shape: tuple[int, int], name: str) -> NDArray[np.uint8]:
    """Mask drawn as polygons, as labelme writes them.

    Parameters
    ----------
    description : dict
        ``shapes``: a list of ``{"label", "points": [[x, y], ...], "shape_type"}``; the type is ``polygon`` (the
        default), ``rectangle`` (two corners) or ``circle`` (centre and a point on it). ``imageHeight`` and
        ``imageWidth``, where given, must be those of the image.
    shape : tuple of int
        Shape of the image ``(y, x)``.
    name : str
        What to call it in messages.

    Returns
    -------
    uint8 array (y, x)
        0 where nothing or crystal is drawn, see `POLYGON_LABELS`; a defect inside a crystal stays one, whatever was
        drawn first.

    Raises
    ------
    ModelError
        If the description is not of this form or of another image.
    """
    from skimage.draw import disk, polygon

    if not isinstance(description, dict) or not isinstance(description.get("shapes"), list):
        raise ModelError(
            f"{name}: these are no labelme polygons (there is no list `shapes`); export them again."
        )
    size = description.get("imageHeight"), description.get("imageWidth")
    if None not in size and size != shape:
        raise ModelError(
            f"{name}: the polygons were drawn on an image of {size[0]} × {size[1]} px, this one has {shape[0]} × "
            f"{shape[1]}; label the same field of view."
        )
    drawn: list[tuple[int, NDArray[np.intp], NDArray[np.intp]]] = []
    for item in description["shapes"]:
        try:
            label, kind = str(item["label"]), item.get("shape_type") or "polygon"
            points = np.asarray(item["points"], np.float64)
            if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
                raise ValueError
            x, y = points.T
            if kind == "polygon" and len(points) >= 3:
                rows, columns = polygon(y, x, shape)
            elif kind == "rectangle" and len(points) == 2:
                rows, columns = polygon(y[[0, 0, 1, 1]], x[[0, 1, 1, 0]], shape)
            elif kind == "circle" and len(points) == 2:
                rows, columns = disk((y[0], x[0]), float(np.hypot(*(points[1] - points[0]))), shape=shape)
            else:
                raise ValueError
        except (AttributeError, KeyError, TypeError, ValueError):
            raise ModelError(
                f"{name}: one of its shapes is no polygon, rectangle or circle with a label; draw areas."
            ) from None
        drawn.append((POLYGON_LABELS.get(label.strip().lower(), _DEFECT), rows, columns))
    mask = np.zeros(shape, np.uint8)
    # Crystal below, defects above it, what is not judged on top.
    for value, rows, columns in sorted(drawn, key=lambda item: item[0]):
        mask[rows, columns] = value
    return mask
