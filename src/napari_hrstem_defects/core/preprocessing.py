"""Band-pass, resampling and contrast normalisation tied to the lattice period."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from napari_hrstem_defects.core.recipe import PreprocessParams
from napari_hrstem_defects.threads import side_by_side, threads_for

#: Rows that are resampled at once.
STRIP_ROWS = 128
#: Share of the pixels whose deviation counts in full for the local contrast.
CLIP_SHARE = 0.97
#: How far the band-pass carries what is filled in, in periods; holes half as wide are filled without harm.
BAND_REACH = 0.6
#: Size of a sample of pixels. Neighbours in a smoothed map are redundant; the standard error of a median of this many
#: independent values is half a percent of their standard deviation.
ENOUGH = 1 << 16
#: Change of scale that is accepted for a size that transforms fast.
MAX_STRETCH = 0.01

Values = TypeVar("Values", bound=np.generic)


@dataclass(frozen=True, eq=False)
class Prepared:
    """A frame as the lattice-aware filters see it.

    Attributes
    ----------
    values : float32 array (y', x')
        Band-passed, contrast-normalised image of about unit variance, resampled to `period_px` pixels a period.
    band : float32 array (y', x')
        The same before the contrast normalisation, in grey values of the frame.
    valid : bool array (y', x')
        False where no image is within reach of the band-pass.
    shape : tuple of int
        Shape ``(y, x)`` of the frame it was made from.
    period_px : float
        Lattice period in pixels of `values`.

    Examples
    --------
    Pixel centres lie at whole numbers: those of two pixels that became one lie a quarter of a pixel beside its own.

    >>> import numpy as np, napari_hrstem_defects as hd
    >>> image = np.zeros((64, 64), np.float32)
    >>> prepared = hd.Prepared(image[::2, ::2], image[::2, ::2], image[::2, ::2] == 0, (64, 64), 8.0)
    >>> prepared.scale, prepared.from_frame(np.array([0, 1]))
    (array([0.5, 0.5]), array([-0.25,  0.25]))
    """

    values: NDArray[np.float32]
    band: NDArray[np.float32]
    valid: NDArray[np.bool_]
    shape: tuple[int, int]
    period_px: float

    @property
    def scale(self) -> NDArray[np.float64]:
        """Pixels of `values` per pixel of the frame, ``(y, x)``; at most 1."""
        return np.array(self.values.shape) / np.array(self.shape)

    def from_frame(self, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """Points ``(..., 2)`` of the frame in pixels of `values` (pixel centres at whole numbers)."""
        return (np.asarray(points, dtype=np.float64) + 0.5) * self.scale - 0.5

    def to_frame_points(self, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """Inverse of :meth:`from_frame`."""
        return (np.asarray(points, dtype=np.float64) + 0.5) / self.scale - 0.5

    def to_frame(self, image: NDArray[np.floating]) -> NDArray[np.float32]:
        """Resample a map of the shape of `values` to the frame by linear interpolation."""
        return resize_linear(image, self.shape)


def filled(values: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[Any]:
    """An image (y, x) with its invalid pixels like the nearest valid one, further out more and more like the mean."""
    if valid.all():
        return values
    # Edge pixels repeated far outward would look like fringes.
    distance, index = ndimage.distance_transform_edt(~valid, return_indices=True)
    weight = 1 / distance[~valid]
    known = values[valid]
    # Of parts of the largest value: a sum of extremes may overflow.
    scale = max(float(np.abs(known).max()), np.finfo(values.dtype).tiny)
    mean = float(np.mean(known / scale)) * scale
    out = values.copy()
    out[~valid] = weight * values[tuple(i[~valid] for i in index)] + (1 - weight) * mean
    return out


def without_spikes(pixels: NDArray[np.float32], valid: NDArray[np.bool_]) -> tuple[NDArray[np.float32], int]:
    """An image (y, x) without hot and dead pixels, alone or up to three together, and how many there were.

    They differ from their neighbours by more than the contrast of the image, and by twice as much as those from what
    lies around: no column is so sharp. They take the median of what lies around.
    """
    sample = even_sample(pixels)
    middle = np.median(sample)
    most = 4 * np.quantile(np.abs(sample - middle), CLIP_SHARE)
    low, high = middle - most, middle + most
    if most <= 0 or (pixels.min() >= low and pixels.max() <= high):
        return pixels, 0
    places = np.nonzero(((pixels > high) | (pixels < low)) & valid)
    # Boxes of 5 × 5 pixels, mirrored at the rims.
    rows, columns = (
        (m - 1) - np.abs((m - 1) - np.abs(at[:, None] + np.arange(-2, 2 + 1)))
        for at, m in zip(places, pixels.shape, strict=True)
    )
    boxes = pixels[rows[:, :, None], columns[:, None, :]]
    inner = np.pad(np.ones((3, 3), bool), 1)
    around = np.median(boxes[:, ~inner], axis=1)
    heights = boxes[:, inner] - around[:, None]
    # In the sense of the pixel itself.
    heights *= np.sign(heights[:, 4:5])
    height, neighbour = heights[:, 4], np.sort(heights, axis=1)[:, 5]
    spikes = height - neighbour > np.maximum(most, 2 * neighbour)
    if spikes.any():
        pixels = pixels.copy()
        pixels[tuple(at[spikes] for at in places)] = around[spikes]
    return pixels, int(np.count_nonzero(spikes))


def prepare(
    pixels: NDArray[np.float32],
    period_px: float,
    params: PreprocessParams,
    valid: NDArray[np.bool_] | None = None,
) -> Prepared:
    """Resample to a fixed number of pixels per lattice period, band-pass and normalise the contrast.

    ``h = (G_low − G_high) ∗ I`` and ``values = h / sqrt(v)`` with ``v = G_window ∗ h²``,
    where ``|h|`` is limited to its `CLIP_SHARE` quantile; the standard deviations of the Gaussians are multiples of the
    period. The image is mirrored at its rims.

    Parameters
    ----------
    pixels : float32 array (y, x)
        Finite.
    period_px : float
        Lattice period in pixels of the frame.
    params : PreprocessParams
        ``px_per_period``, ``band_low``, ``band_high`` and ``contrast_window`` are used.
    valid : bool array (y, x), optional
        Pixels that hold an image; the others are filled in `pixels`. All, if left out.

    Returns
    -------
    Prepared
        With ``period_px`` of about ``params.px_per_period``, or the image's own if that is smaller.

    Examples
    --------
    >>> import numpy as np, napari_hrstem_defects as hd
    >>> y, x = np.mgrid[:256, :256]
    >>> image = np.cos(2 * np.pi * x / 16) + np.cos(2 * np.pi * y / 16)
    >>> prepared = hd.prepare(image.astype(np.float32), 16.0, hd.Recipe().preprocess)
    >>> prepared.values.shape, prepared.period_px, prepared.values.std().round(1)
    ((128, 128), 8.0, np.float32(1.0))
    """
    factor = min(1.0, params.px_per_period / period_px)
    rows, columns = (min(n, _fast_size(n * factor)) for n in pixels.shape)
    shape = (rows, columns)
    band = _band_pass(pixels, shape, params.band_low * period_px, params.band_high * period_px)
    period = period_px * shape[0] / pixels.shape[0]
    seen = np.ones(shape, bool)
    if valid is not None and not valid.all():
        seen = _valid_on(_wide(~valid, BAND_REACH / 2 * period_px), shape, BAND_REACH * period_px)
    # A single foreign column must not set the contrast of all around it.
    most = np.float32(np.quantile(even_sample(np.abs(band)), CLIP_SHARE))
    power, window = np.minimum(np.abs(band), most) ** 2, params.contrast_window * period
    if seen.any() and not seen.all():
        # What holds no image does not count, as beyond the rim.
        share = np.maximum(gaussian(seen.astype(np.float32), window), np.float32(1e-4))
        power = gaussian(power * seen, window) / share
    else:
        power = gaussian(power, window)
    power = np.maximum(power, 0)
    level = float(np.median(even_sample(power)))
    if level <= 0:
        level = max(float(power.mean()), float(np.finfo(np.float32).tiny))
    power += np.float32(1e-6 * level)
    values = (band / np.sqrt(power)).astype(np.float32, copy=False)
    return Prepared(values, band, seen, (pixels.shape[0], pixels.shape[1]), period)


def _wide(holes: NDArray[np.bool_], width_px: float) -> NDArray[np.bool_]:
    """Holes that are as wide as that somewhere: single dead pixels are filled well enough."""
    parts, _ = ndimage.label(holes, np.ones((3, 3)))
    wide = np.unique(
        parts[ndimage.distance_transform_edt(np.pad(holes, 1, mode="edge"))[1:-1, 1:-1] > width_px / 2]
    )
    return np.isin(parts, wide[wide > 0])


def _valid_on(holes: NDArray[np.bool_], shape: tuple[int, int], reach_px: float) -> NDArray[np.bool_]:
    """Pixels of a grid of `shape` that are further than `reach_px` from holes."""
    valid = ~holes
    if valid.all():
        return np.ones(shape, bool)
    distance = ndimage.distance_transform_edt(valid)
    rows, columns = (
        np.minimum(((np.arange(m) + 0.5) * n / m).astype(np.intp), n - 1)
        for n, m in zip(valid.shape, shape, strict=True)
    )
    return np.asarray(distance[np.ix_(rows, columns)] > reach_px)


def _fast_size(length: float) -> int:
    """Whole number near `length` that transforms fast, where that changes the scale by next to nothing."""
    size = max(1, round(length))
    fast = int(fft.next_fast_len(size, real=True))
    return fast if fast <= (1 + MAX_STRETCH) * length else size


def _band_pass(
    pixels: NDArray[np.float32], shape: tuple[int, int], low: float, high: float
) -> NDArray[np.float32]:
    """Difference of two Gaussians (sigmas in px of the input), sampled on a grid of `shape`.

    With mirrored rims a Gaussian is a product in the cosine transform, and leaving out its high frequencies is
    resampling to fewer pixels.
    """
    spectrum = fft.dctn(pixels, norm="ortho", overwrite_x=False, workers=threads_for(pixels.size))
    spectrum = spectrum[: shape[0], : shape[1]]
    (low_y, low_x), (high_y, high_x) = (
        tuple(_transfer(m, n, sigma) for m, n in zip(shape, pixels.shape, strict=True))
        for sigma in (low, high)
    )
    spectrum = (
        spectrum
        * (np.outer(low_y, low_x) - np.outer(high_y, high_x))
        * np.float32(np.sqrt(np.prod(shape) / np.prod(pixels.shape)))
    )
    out: NDArray[np.float32] = fft.idctn(
        spectrum, norm="ortho", overwrite_x=True, workers=threads_for(spectrum.size)
    )
    return out


def gaussian(image: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Gaussian filter with mirrored rims by cosine transform: the time does not depend on `sigma` (in px)."""
    if sigma <= 0:
        return image
    spectrum = fft.dctn(image, norm="ortho", workers=threads_for(image.size))
    spectrum *= _transfer(image.shape[0], image.shape[0], sigma)[:, None]
    spectrum *= _transfer(image.shape[1], image.shape[1], sigma)[None, :]
    out: NDArray[np.float32] = fft.idctn(
        spectrum, norm="ortho", overwrite_x=True, workers=threads_for(spectrum.size)
    )
    return out


def _transfer(count: int, length: int, sigma: float) -> NDArray[np.float32]:
    """Factors of a Gaussian for the first `count` cosine coefficients of a signal of `length` px."""
    return np.exp(-0.5 * (np.pi * sigma * np.arange(count) / length) ** 2).astype(np.float32)


def binned(
    pixels: NDArray[np.floating], valid: NDArray[np.bool_], bin_px: int
) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
    """Means of blocks of an image (y, x), and which blocks are valid throughout, in arrays (y // n, x // n).

    Parameters
    ----------
    pixels : float array (y, x)
    valid : bool array (y, x)
    bin_px : int
        Side n of a block; with 1 both come back as they are.
    """
    if bin_px == 1:
        return pixels, valid
    rows, columns = (n // bin_px * bin_px for n in pixels.shape)
    parts = [np.s_[i:rows:bin_px, j:columns:bin_px] for i, j in np.ndindex(bin_px, bin_px)]
    mean = np.add.reduce([pixels[part] for part in parts], dtype=np.float32) / np.float32(len(parts))
    return mean, np.logical_and.reduce([valid[part] for part in parts])


def resize_linear(image: NDArray[np.floating], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Resample a map to `shape` by linear interpolation, pixel areas aligned, rims held."""
    source = image.astype(np.float32, copy=False)
    if source.shape == tuple(shape):
        return source
    (above, down), (left, right) = (_places(n, m) for n, m in zip(source.shape, shape, strict=True))
    out = np.empty(shape, np.float32)

    def strip(start: int) -> None:
        rows = slice(start, start + STRIP_ROWS)
        if source.shape[0] == shape[0]:
            part = source[rows]
        else:
            part = _mixed(source[above[rows]], source[above[rows] + 1], down[rows, None])
        if source.shape[1] != shape[1]:
            part = _mixed(
                part.take(left, 1, mode="clip"), part.take(left + 1, 1, mode="clip"), right[None, :]
            )
        out[rows] = part

    for _ in side_by_side(strip, range(0, shape[0], STRIP_ROWS), pixels=STRIP_ROWS * shape[1]):
        pass
    return out


def sample_linear(
    image: NDArray[np.floating], rows: NDArray[np.floating], columns: NDArray[np.floating]
) -> NDArray[np.float32]:
    """Values of a map at all pairs of the given rows and columns, linear between samples, rims held."""
    source = image.astype(np.float32, copy=False)
    for axis, places in ((0, rows), (1, columns)):
        length = source.shape[axis]
        position = np.clip(places, 0, length - 1)
        below = np.minimum(position.astype(np.intp), max(length - 2, 0))
        share = (position - below).astype(np.float32)
        low, high = source.take(below, axis), source.take(np.minimum(below + 1, length - 1), axis)
        source = _mixed(low, high, share[:, None] if axis == 0 else share[None, :])
    return source


def _places(length: int, count: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Which of `length` samples comes before each of `count` new ones, and how far beyond it that lies."""
    position = np.clip((np.arange(count) + 0.5) * (length / count) - 0.5, 0, length - 1)
    below = np.minimum(position.astype(np.intp), length - 2)
    return below, (position - below).astype(np.float32)


def _mixed(
    low: NDArray[np.float32], high: NDArray[np.float32], share: NDArray[np.float32]
) -> NDArray[np.float32]:
    """``low + share · (high − low)``, in the memory of `high`."""
    high -= low
    high *= share
    high += low
    return high


def even_sample(values: NDArray[Values]) -> NDArray[Values]:
    """About `ENOUGH` values spread evenly over an array, flat; all of them if there are not many more.

    In maps whole rows and columns are left out, so that the sample lies on a grid.
    """
    if values.size <= 2 * ENOUGH:
        return values.ravel()
    if values.ndim != 2:
        return values.ravel()[:: values.size // ENOUGH]
    step = max(1, int(np.sqrt(values.size / ENOUGH)))
    return values[step // 2 :: step, step // 2 :: step].ravel()
