"""Patch grid: where the patches lie, and what was found out about each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.core.lattice import Lattice
from napari_hrstem_defects.core.micrograph import MIN_SIDE_PX
from napari_hrstem_defects.errors import RecipeError

#: Usual edge of a patch in pixels ([D]).
PATCH_PX = 128
#: Periods that a patch also holds.
PATCH_PERIODS = 5.0
#: Patches that a classifier was made for are taken from this many periods on: filters can still be learnt from one.
MADE_FOR_PERIODS = 2.5
#: Largest patch of an image whose halves hold fewer periods, as a share of its shorter side.
MOST_OF_SIDE = 0.7


@dataclass(frozen=True)
class PatchGrid:
    """Square patches that cover an image of any shape evenly.

    Neighbouring patches touch where the image is a multiple of the patch size and overlap a little where it is
    not, so that rims are classified too. Each patch stands for one cell of an ``n_y × n_x`` raster laid over the image.

    Attributes
    ----------
    shape : tuple of int
        Image shape ``(y, x)`` in pixels.
    size : int
        Edge of a patch in pixels.

    Examples
    --------
    >>> import napari_hrstem_defects as hd
    >>> grid = hd.PatchGrid((100, 130), 50)
    >>> grid.counts, grid.corners[0].tolist()
    ((2, 3), [[0, 0], [0, 40], [0, 80]])
    """

    shape: tuple[int, int]
    size: int

    @property
    def counts(self) -> tuple[int, int]:
        """Number of patches ``(n_y, n_x)``."""
        return _count(self.shape[0], self.size), _count(self.shape[1], self.size)

    @property
    def starts(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """First rows ``(n_y,)`` and columns ``(n_x,)`` of the patches."""
        rows, columns = (
            np.rint(np.linspace(0, length - self.size, count)).astype(np.intp)
            for length, count in zip(self.shape, self.counts, strict=True)
        )
        return rows, columns

    @property
    def corners(self) -> NDArray[np.intp]:
        """Top-left corners, shape ``(n_y, n_x, 2)``, ``(y, x)`` in pixels."""
        return np.stack(np.meshgrid(*self.starts, indexing="ij"), axis=-1)

    @property
    def centres(self) -> NDArray[np.float64]:
        """Centres, shape ``(n_y, n_x, 2)``, ``(y, x)`` in pixels (pixel centres at whole numbers)."""
        centres: NDArray[np.float64] = self.corners.astype(np.float64) + (self.size - 1) / 2
        return centres

    def extract(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Copy of all patches, shape ``(n_y, n_x, size, size)``."""
        if image.shape != self.shape:
            raise ValueError(f"image has shape {image.shape}, expected the grid's {self.shape}")
        windows = np.lib.stride_tricks.sliding_window_view(image, (self.size, self.size))
        return np.ascontiguousarray(windows[np.ix_(*self.starts)])

    def paint(self, values: NDArray[np.generic]) -> NDArray[np.generic]:
        """Lay one value per patch, shape ``(n_y, n_x)``, over the image: each cell gets its patch's value."""
        if values.shape != self.counts:
            raise ValueError(f"values has shape {values.shape}, expected one per patch, {self.counts}")
        rows, columns = (np.arange(n) * count // n for n, count in zip(self.shape, self.counts, strict=True))
        return values[np.ix_(rows, columns)]


@dataclass(frozen=True)
class TouchingGrid(PatchGrid):
    """Patches of 128 px from the upper left corner on, without overlap ([D], patch classification).

    What remains at the right and lower border belongs to none.

    Raises
    ------
    RecipeError
        If fewer than two patches fit into the image.
    """

    size: int = PATCH_PX

    def __post_init__(self) -> None:
        if self.counts[0] * self.counts[1] < 2:
            raise RecipeError(
                f"The image of {self.shape[0]} × {self.shape[1]} px is smaller than two patches of {self.size} px, "
                "which the published mode needs; use the mode lattice."
            )

    @property
    def counts(self) -> tuple[int, int]:
        """Number of patches ``(n_y, n_x)``."""
        return self.shape[0] // self.size, self.shape[1] // self.size

    @property
    def starts(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """First rows ``(n_y,)`` and columns ``(n_x,)`` of the patches."""
        rows, columns = (np.arange(count) * self.size for count in self.counts)
        return rows, columns

    def paint(self, values: NDArray[np.generic]) -> NDArray[np.generic]:
        """Lay one value per patch, shape ``(n_y, n_x)``, over the image; a remainder gets its neighbour's."""
        rows, columns = (
            np.minimum(np.arange(n) // self.size, count - 1)
            for n, count in zip(self.shape, self.counts, strict=True)
        )
        return values[np.ix_(rows, columns)]


def _count(length: int, size: int) -> int:
    if not 0 < size <= length:
        raise ValueError(f"size is {size}, expected 1...{length}, the image's side")
    return -(-length // size)


@dataclass(frozen=True, eq=False)
class PatchTable:
    """Result of a patch classification.

    Attributes
    ----------
    grid : PatchGrid
    scores : float32 array (n_y, n_x)
        Larger means more likely defective.
    threshold : float
        Scores above it are defective.
    defective : bool array (n_y, n_x)
        The verdict: usually ``scores > threshold``, revised by the severity map or by hand.
    classifier : str
        Name of the classifier, ``"hand"`` for patches painted by hand.
    classifier_sha256 : str or None
        SHA-256 of the model file, of a trained one.

    Examples
    --------
    >>> import numpy as np, napari_hrstem_defects as hd
    >>> grid = hd.PatchGrid((100, 100), 50)
    >>> scores = np.array([[0.1, 0.9], [0.2, 0.3]], np.float32)
    >>> table = hd.PatchTable(grid, scores, 0.5, scores > 0.5, "example")
    >>> int(grid.paint(table.defective).sum())
    2500
    """

    grid: PatchGrid
    scores: NDArray[np.float32]
    threshold: float
    defective: NDArray[np.bool_]
    classifier: str = "screening"
    classifier_sha256: str | None = None


class PatchClassifier(Protocol):
    """Anything that classifies patches: a trained network or a user's own function.

    The classifier sees the frame itself, so that it can compare a patch with the image and do its own
    preprocessing.
    """

    name: str

    def classify(self, pixels: NDArray[np.float32], grid: PatchGrid) -> PatchTable:
        """Classify every patch of `grid` on the frame `pixels` (float32, ``(y, x)``, 0...1)."""
        ...


@runtime_checkable
class KnowsSize(Protocol):
    """A classifier that was made for patches of one size."""

    @property
    def patch_px(self) -> int:
        """Edge in pixels; 0: of any size."""
        ...


@runtime_checkable
class KnowsScale(Protocol):
    """A classifier that knows the scale of image that it was made for."""

    def warnings(
        self, grid: PatchGrid, pixel_size_nm: float | None, period_px: float | None
    ) -> tuple[str, ...]:
        """Warnings about an image with this pixel size and lattice period, where known, cut by `grid`."""
        ...


def shares(mask: NDArray[np.bool_] | NDArray[np.floating], grid: PatchGrid) -> NDArray[np.float64]:
    """Mean of a map, of any resolution, over each patch of a grid, shape ``(n_y, n_x)``."""
    sides = []
    for length, whole, starts in zip(mask.shape, grid.shape, grid.starts, strict=True):
        scale = length / whole
        low = np.floor(starts * scale + 0.5).astype(np.intp)
        high = np.minimum(
            np.maximum(np.floor((starts + grid.size) * scale + 0.5).astype(np.intp), low + 1), length
        )
        low = np.minimum(low, high - 1)
        places = np.arange(length)
        inside = (places >= low[:, None]) & (places < high[:, None])
        sides.append(inside / (high - low)[:, None])
    return np.asarray(sides[0] @ mask @ sides[1].T)


def patch_size(shape: tuple[int, int], lattice: Lattice | None, wanted: int = 0, made_for: int = 0) -> int:
    """Edge of the patches of an image, in pixels.

    Parameters
    ----------
    shape : tuple of int
        Image shape ``(y, x)``.
    lattice : Lattice or None
        Lattice of the image.
    wanted : int
        What the recipe says; 0: what the classifier was made for, or `PATCH_PX`, more where fewer than `PATCH_PERIODS`
        periods would fit, less on small images, and then a whole number of periods.
    made_for : int
        What a classifier was made for, 0: any size. Too few periods are not taken, rather resampled.
    """
    shorter = min(shape)
    if wanted:
        if wanted < MIN_SIDE_PX:
            raise RecipeError(
                f"classify.patch_size must be 0 (automatic) or at least {MIN_SIDE_PX} px, not {wanted}."
            )
        return min(wanted, shorter)
    made_for = made_for and max(made_for, MIN_SIDE_PX)
    if made_for and (lattice is None or made_for >= MADE_FOR_PERIODS * lattice.period_px):
        return min(made_for, shorter)
    if lattice is None:
        return min(PATCH_PX, shorter // 2)
    size = max(PATCH_PX, round(PATCH_PERIODS * lattice.period_px))
    if size <= shorter // 2:
        return size
    most = max(shorter // 2, min(round(PATCH_PERIODS * lattice.period_px), round(MOST_OF_SIDE * shorter)))
    periods = int(most / lattice.period_px)
    return min(most, round(periods * lattice.period_px)) if periods >= 2 else most
