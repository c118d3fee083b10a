"""What is done with images, beside the recipe."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FromFrame:
    """The best patch of one frame serves all frames of a series.

    Attributes
    ----------
    frame : int
        In which it is chosen.
    tracked : bool
        Whether it moves with the drift of the specimen.
    point : tuple of float or None
        Its centre ``(y, x)`` in px there, placed by hand; chosen automatically by default.
    """

    frame: int = 0
    tracked: bool = False
    point: tuple[float, float] | None = None


#: Where the best patch is: ``(y, x)`` in px in all frames, as one of them shows, or chosen in each.
Placement = tuple[float, float] | FromFrame | None


@dataclass(frozen=True)
class Options:
    """What is done with each image, beside the recipe.

    Attributes
    ----------
    best_patch : tuple of float, FromFrame or None
        ``(y, x)`` in px, for every image and frame; or the one of one frame of a series for all of them; default:
        chosen for each.
    frame_time_s : float or None
        Time from frame to frame of a series, for growth rates per second.
    tile_px : int or None
        Edge of the tiles that larger images are done in, 0 for none; default: 3072 for sides of more than 8192.
    pixel_size_nm : float or None
        Instead of that in the file.
    select : str or None
        Number (from 1) or title of the data set to analyse, in files that hold several; default: the largest image.
    memory_share : float
        Largest share of the machine's memory that an image may take.
    image_format : {"ome-tiff", "ome-zarr"}
        Of the labels and maps; the latter needs the extra ``formats``.
    overwrite : bool
        Analyse again what is there already.
    """

    best_patch: Placement = None
    frame_time_s: float | None = None
    tile_px: int | None = None
    pixel_size_nm: float | None = None
    select: str | None = None
    memory_share: float = 0.25
    image_format: str = "ome-tiff"
    overwrite: bool = False

    @property
    def point(self) -> tuple[float, float] | None:
        """Where a hand placed the best patch."""
        return self.best_patch.point if isinstance(self.best_patch, FromFrame) else self.best_patch
