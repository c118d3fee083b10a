"""The image layer that is analysed: its pixels as a micrograph, its place in the world for the outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_hrstem_defects.errors import HrstemDefectsError
from napari_hrstem_defects.widgets.roles import entry

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Layer

    from napari_hrstem_defects.core.micrograph import Micrograph

#: Pixels whose sides differ by more than this have no one edge length.
SQUARE_TOLERANCE = 0.01
#: Message for areas and lengths in pixels.
NOT_SQUARE = "The pixels are not square, so lengths are given in px only."


def pixel_size_nm(layer: Layer) -> float | None:
    """Edge of a pixel of a layer in nm; None where the unit is no length or the pixels are not square."""
    return size_in_nm(layer.scale, layer.units)


def size_in_nm(scale: Sequence[float], units: Sequence[Any]) -> float | None:
    """The same of the scale and the units of a layer, names or as napari keeps them."""
    from napari_hrstem_defects.io.calibration import nm_per_unit

    factors = (nm_per_unit(str(unit)) or 0.0 for unit in units[-2:])
    sides = [abs(float(step)) * factor for step, factor in zip(scale[-2:], factors, strict=True)]
    if min(sides) <= 0 or max(sides) > (1 + SQUARE_TOLERANCE) * min(sides):
        return None
    return sides[1]


def calibrate(viewer: ViewerModel, layer: Layer, size_nm: float) -> None:
    """Give a layer its pixel size; what was in the middle of the view stays there, as large as it was."""
    camera, before = viewer.scene.camera, float(layer.scale[-1])
    middle = np.zeros(layer.ndim)
    middle[-2:] = camera.center[-2:]
    point = layer.world_to_data(middle)
    # In this order: in between it must not look calibrated otherwise.
    layer.scale = (*layer.scale[:-2], size_nm, size_nm)
    layer.units = (*layer.units[:-2], "nm", "nm")
    camera.center = (0.0, *np.asarray(layer.data_to_world(point))[-2:])
    camera.zoom *= abs(before) / size_nm


def is_calibrated(layer: Layer) -> bool:
    """Whether a pixel size is set, even in a unit that is no length."""
    return any(str(unit) != "pixel" for unit in layer.units[-2:]) or not np.allclose(layer.scale[-2:], 1)


def path_of(layer: Layer) -> str | None:
    """File of an image: of a sample napari knows none, and of the image of a result folder only the folder."""
    path: str | None = entry(layer).get("path") or layer.source.path
    return path


def size_in_file(path: str) -> float | None:
    """Pixel size in nm that a file states; None where it does not, or cannot be read any more."""
    from napari_hrstem_defects.io import read

    try:
        return read(path).pixel_size_nm
    except HrstemDefectsError:
        return None  # moved, or of a kind that only another reader knows


def pixels_of(layer: Image) -> Any:
    """Array of an image layer, the finest level of a pyramid."""
    return layer.data[0] if layer.multiscale else layer.data


def is_stack(layer: Image) -> bool:
    """Whether a layer is a time series ``(t, y, x)`` of more than one frame."""
    shape = pixels_of(layer).shape
    return not layer.rgb and len(shape) == 3 and shape[0] > 1


@dataclass(frozen=True, eq=False)
class Source:
    """What a run needs of an image layer, taken in the GUI's thread without reading the pixels.

    Attributes
    ----------
    data : array
        The layer's own array, numpy or dask.
    frame : int
        Frame of a series that is to be analysed; 0 for a single image.
    name : str
        File name where the layer came from a file, as in results of the command line.
    pixel_size : float or None
        In nm.
    notices : tuple of str
        What was changed on reading, and warnings about the scale.
    metadata : mapping
        Of a file, as a reader states it: the command line writes the same.
    """

    data: Any
    frame: int
    name: str
    pixel_size: float | None
    notices: tuple[str, ...]
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, layer: Image, frame: int = 0) -> Source:
        """Describe a layer; `frame` is used for time series only."""
        path, size, known = path_of(layer), pixel_size_nm(layer), entry(layer)
        sides = np.abs(np.asarray(layer.scale[-2:], dtype=float))
        square = sides.max() <= (1 + SQUARE_TOLERANCE) * sides.min()
        notices = (*known.get("notices", ()), *(() if square else (NOT_SQUARE,)))
        if path is None:
            return cls(pixels_of(layer), frame, layer.name, size, notices)
        metadata = {
            "path": str(Path(path).absolute()),
            "pixel_size_from": None
            if size is None
            else "hand"
            if known.get("calibrated_by_hand")
            else "file",
            "pixel_size_stated_nm": size,
            "select": known.get("select"),
        }
        return cls(pixels_of(layer), frame, Path(path).name, size, notices, metadata)

    def micrograph(self, frame: int | None = None) -> Micrograph:
        """The pixels to analyse, loaded and checked, so not for the GUI's thread.

        Parameters
        ----------
        frame : int, optional
            Another frame than the source's own.

        Raises
        ------
        MicrographError
            If they cannot be analysed.
        """
        from napari_hrstem_defects.core.micrograph import Micrograph

        whole = self.series()
        data, name = whole.data, whole.name
        if whole.is_stack:
            index = self.frame if frame is None else frame
            data, name = data[index], f"{name}[{index}]"
        return Micrograph(np.asarray(data), whole.pixel_size_nm, name, whole.metadata, whole.notices)

    def series(self) -> Micrograph:
        """All frames, still lazy where the layer is.

        Raises
        ------
        MicrographError
            If it is no image or time series.
        """
        from napari_hrstem_defects.core.micrograph import Micrograph

        return Micrograph(self.data, self.pixel_size, self.name, dict(self.metadata), self.notices)


def placed_like(
    layer: Image,
    ndim: int,
    *,
    zoom: tuple[float, float] = (1.0, 1.0),
    offset: tuple[float, float] = (0.0, 0.0),
    frame: int = 0,
) -> dict[str, Any]:
    """Layer options that lay an output over its source.

    Parameters
    ----------
    layer : Image
        The source.
    ndim : int
        Dimensions of the output: those of the source, or only its last two.
    zoom : tuple of float
        Pixels of the source per pixel of the output, ``(y, x)``.
    offset : tuple of float
        Where the centre of the output's first pixel lies, in pixels of the source.
    frame : int
        Frame of the source that the output's first one lies on.
    """
    from napari.utils.transforms import Affine

    scale = np.array(layer.scale, dtype=float)
    shift = np.zeros(layer.ndim)
    shift[-2:] = offset
    if is_stack(layer):
        shift[-3] = frame
    # world = affine(translate + rotate · shear · scale · p): the offset goes through the linear part once.
    translate = Affine(
        scale=scale, rotate=layer.rotate, shear=layer.shear, translate=layer.translate, ndim=layer.ndim
    )(shift)
    scale[-2:] *= zoom
    whole = layer.ndim == ndim
    return {
        "scale": scale[-ndim:],
        "translate": np.asarray(translate)[-ndim:],
        "rotate": layer.rotate if whole else layer.rotate[-ndim:, -ndim:],
        "shear": layer.shear if whole else None,
        "affine": layer.affine if whole else None,
        "units": layer.units[-ndim:],
        "axis_labels": layer.axis_labels[-ndim:],
    }
