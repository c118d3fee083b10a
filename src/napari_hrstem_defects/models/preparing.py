"""What is done to frames and patches before a network sees them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.core import published
from napari_hrstem_defects.core.patches import PatchGrid

#: Grey value of white after the published filter.
_WHITE = 254.0


def filter_frame(pixels: NDArray[np.float32], kind: str) -> NDArray[np.float32]:
    """Filter a frame (or a single patch) as a classifier wants it.

    Parameters
    ----------
    pixels : float32 array (y, x)
        0...1.
    kind : {"none", "log"}
        ``"log"``: Laplacian of Gaussian 19 × 19, then Gaussian 5 × 5, scaled to the whole range ([D]).

    Returns
    -------
    float32 array (y, x)
        0...1.

    References
    ----------
    .. [D] Dennler et al., Micron 146 (2021) 103069, preprocessing.
    """
    if kind == "none":
        return pixels
    if kind == "log":
        out: NDArray[np.float32] = published.log_gaussian(pixels) / np.float32(_WHITE)
        return out
    raise ValueError(f"kind is {kind!r}, expected 'none' or 'log'")


def filter_patches(patches: NDArray[np.float32], kind: str) -> NDArray[np.float32]:
    """The same for patches that were cut before: each is filtered by itself."""
    return patches if kind == "none" else np.stack([filter_frame(patch, kind) for patch in patches])


def resize(pixels: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Other number of pixels, smoothed first where it becomes smaller; leading axes must stay."""
    if pixels.shape == shape:
        return pixels
    from skimage.transform import resize as resized

    smaller = any(new < old for new, old in zip(shape, pixels.shape, strict=True))
    out: NDArray[np.float32] = resized(pixels, shape, order=1, mode="reflect", anti_aliasing=smaller)
    return out.astype(np.float32, copy=False)


def cut_patches(
    pixels: NDArray[np.float32], grid: PatchGrid, patch_px: int, preprocessing: Mapping[str, Any]
) -> NDArray[np.float32]:
    """Patches of a frame as a classifier wants them.

    Parameters
    ----------
    pixels : float32 array (y, x)
        The frame, 0...1.
    grid : PatchGrid
        Where the patches lie. If they have another size than the classifier's, the frame is resampled first.
    patch_px : int
        Edge of the classifier's patches.
    preprocessing : mapping
        Of the contract: ``filter``, and ``scope`` (``"frame"`` or ``"patch"``, what the filter is applied to).

    Returns
    -------
    float32 array (n, patch_px, patch_px)
        Row by row.
    """
    factor = patch_px / grid.size
    corners = grid.corners.reshape(-1, 2)
    if grid.size != patch_px:
        shape = tuple(max(patch_px, round(side * factor)) for side in grid.shape)
        pixels = resize(pixels, shape)
        most = np.array(shape) - patch_px
        corners = np.clip(np.rint(corners * factor).astype(np.intp), 0, most)
    kind, whole = preprocessing.get("filter", "none"), preprocessing.get("scope", "frame") == "frame"
    windows = np.lib.stride_tricks.sliding_window_view(
        filter_frame(pixels, kind) if whole else pixels, (patch_px, patch_px)
    )
    patches = np.ascontiguousarray(windows[corners[:, 0], corners[:, 1]])
    return patches if whole else filter_patches(patches, kind)


def symmetries(pixels: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Views of images ``(..., y, x)`` in the eight ways of a square: four quarter turns, then mirrored and turned."""
    return [np.rot90(side, k, (-2, -1)) for side in (pixels, pixels[..., ::-1]) for k in range(4)]


def symmetric(patches: NDArray[np.float32], kinds: NDArray[np.integer]) -> NDArray[np.float32]:
    """Each of the patches ``(n, edge, edge)`` in one way, the number of it in :func:`symmetries`."""
    out = np.empty_like(patches)
    for kind in np.unique(kinds).tolist():
        out[kinds == kind] = symmetries(patches[kinds == kind])[kind]
    return out
