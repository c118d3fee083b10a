"""Local variance; what has lost its order: amorphous, damaged, empty."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import distance_transform_edt, label, maximum_filter, uniform_filter

from napari_hrstem_defects.core.autocorrelation import MIN_SHARE, REACH_PERIODS, TINY, Field
from napari_hrstem_defects.core.lattice import Lattice
from napari_hrstem_defects.core.plateaus import Plateaus, crystal_amplitude, lattice_amplitude
from napari_hrstem_defects.core.preprocessing import binned, gaussian
from napari_hrstem_defects.core.recipe import CRYSTAL_SHARE, PreprocessParams
from napari_hrstem_defects.threads import side_by_side

#: Smallest thickness of an amorphous area, in periods: a single foreign column disturbs a window's width, 2.6.
LEAST_THICKNESS = 3.0
#: Contrast relative to the crystal's below which there is hardly any. Half of that is vacuum where it is most of such
#: an area: a weak film on a strong substrate has more, and in noise nothing is certain.
VACUUM_CONTRAST = 0.2
#: Edge of a window that holds a cell wherever it lies, in periods.
CELL_WINDOW = 1.5
#: Pixels per period of the binned image that vacuum is found in.
VACUUM_BINS = 5
#: Rows worked on at once: the double-precision intermediates then stay small whatever the image.
_STRIP_ROWS = 256


def local_variance(pixels: ArrayLike, window: int, *, mode: str = "reflect") -> NDArray[np.float32]:
    """Variance in a box around each pixel, ``G∗I² − (G∗I)²`` with a uniform G.

    Parameters
    ----------
    pixels : array (y, x)
        Any real type.
    window : int
        Edge of the box in pixels. An even box reaches one pixel further up and left than down and right.
    mode : {"reflect", "mirror"}
        How the image goes on beyond its border: ``d c b a | a b c d``, or ``d c b | a b c d``.

    Returns
    -------
    float32 array (y, x)
        In squared units of `pixels`; never negative.

    Notes
    -----
    The global mean is taken away first and sums run in double precision, so that a large offset does not
    drown the variance. Memory is bounded by strips.

    References
    ----------
    .. [D] Dennler et al., Micron 146 (2021) 103069 (variance filter).

    Examples
    --------
    >>> local_variance([[0.0, 2.0], [0.0, 2.0]], 2)
    array([[0., 1.],
           [0., 1.]], dtype=float32)
    """
    image = np.asarray(pixels)
    if image.ndim != 2 or image.size == 0:
        raise ValueError(f"pixels has shape {image.shape}, expected an image (y, x)")
    if window < 1:
        raise ValueError(f"window is {window}, expected at least 1 pixel")
    mean = float(image.mean(dtype=np.float64))
    rows = image.shape[0]
    reach = window // 2 + 1
    out = np.empty(image.shape, np.float32)

    def one(start: int) -> None:
        # Each strip brings the rows its boxes reach into; what it mirrors at a seam is cut off again.
        stop = min(start + _STRIP_ROWS, rows)
        low = max(start - reach, 0)
        strip = image[low : min(stop + reach, rows)].astype(np.float64)
        strip -= mean
        first = uniform_filter(strip, window, mode=mode)
        np.square(strip, out=strip)
        second = uniform_filter(strip, window, mode=mode, output=strip)
        np.square(first, out=first)
        np.subtract(second, first, out=second)
        # Running sums leave rounding errors in flat areas, of the order of the largest square in the row.
        np.maximum(second, 0.0, out=second)
        out[start:stop] = second[start - low : stop - low]

    for _ in side_by_side(one, range(0, rows, _STRIP_ROWS), pixels=_STRIP_ROWS * image.shape[1]):
        pass
    return out


def empty_areas(
    pixels: ArrayLike, valid: NDArray[np.bool_], lattice: Lattice, params: PreprocessParams
) -> NDArray[np.bool_]:
    """Vacuum: holes, and what lies beside a crystal.

    Its edges are steps that a band-pass turns into strong fringes, and all that is measured in windows across them says
    nothing about the crystal. So it is found first, by the contrast that a window of one cell has anywhere in a
    crystal, and left out of all statistics.

    Parameters
    ----------
    pixels : float array (y, x)
    valid : bool array (y, x)
        Pixels that hold an image.
    lattice : Lattice
        Of the crystal. Its contrast is taken where pixels are like those one translation away in both directions.
    params : PreprocessParams
        ``band_high`` is used.

    Returns
    -------
    bool array (y, x)
        Areas that hold a square of `CELL_WINDOW` periods.

    Examples
    --------
    >>> import numpy as np, napari_hrstem_defects as hd
    >>> y, x = np.mgrid[:200, :200]
    >>> image = np.cos(2 * np.pi * x / 10) + np.cos(2 * np.pi * y / 10)
    >>> hole = np.hypot(y - 80, x - 120) < 30
    >>> image[hole] = -3
    >>> lattice = hd.Lattice((0.0, 10.0), (10.0, 0.0), 10.0, 1.0)
    >>> empty = empty_areas(image, np.ones(image.shape, bool), lattice, hd.Recipe().preprocess)
    >>> bool(np.mean(empty[~hole]) < 0.01), bool(np.mean(empty[hole]) > 0.9)
    (True, True)
    """
    # Cells of a few binned pixels: noise counts less, and so does the time.
    bin_px = max(1, round(lattice.period_px / VACUUM_BINS))
    image, seen = binned(np.asarray(pixels, np.float32), valid, bin_px)
    window = round(CELL_WINDOW * lattice.period_px / bin_px) | 1
    nothing = np.zeros(valid.shape, bool)
    if window > min(image.shape):
        return nothing
    contrast = np.sqrt(local_variance(image, window))
    if contrast.min() >= VACUUM_CONTRAST / 2 * contrast.max():
        return nothing
    band = image - gaussian(image, params.band_high * lattice.period_px / bin_px)
    shifts = np.rint(lattice.basis / bin_px).astype(int)
    repeats = np.minimum(*(uniform_filter(band * np.roll(band, v, (0, 1)), 2 * window) for v in shifts))
    repeating = np.sqrt(np.maximum(repeats, 0))
    crystal = seen & (repeating > CRYSTAL_SHARE * crystal_amplitude(repeating, CRYSTAL_SHARE))
    if not crystal.any():
        return nothing
    level = VACUUM_CONTRAST * np.median(contrast[crystal])
    parts, count = label(contrast < level)
    core = contrast < level / 2
    share = np.bincount(parts[core], minlength=count + 1) / np.bincount(parts.ravel(), minlength=count + 1)
    core &= (share > 1 - MIN_SHARE)[parts]
    if not core.any():
        return nothing
    found = maximum_filter(core, window).repeat(bin_px, axis=0).repeat(bin_px, axis=1)
    return (
        np.pad(found, [(0, n - m) for n, m in zip(valid.shape, found.shape, strict=True)], mode="edge")
        & valid
    )


def amorphous_areas(
    field: Field,
    plateaus: Plateaus,
    valid: NDArray[np.bool_],
    fraction: float,
) -> NDArray[np.bool_]:
    """Areas that have lost the order of the crystal: amorphous or damaged.

    Parameters
    ----------
    field : Field
    plateaus : Plateaus
    valid : bool array (y'', x'')
        Samples that rest on an image.
    fraction : float
        Of the amplitude of the domain's lattice; what is weaker has lost it.

    Returns
    -------
    bool array (y'', x'')
        Without what is thinner than `LEAST_THICKNESS` periods: the core of a boundary is no amorphous area.
    """
    index, amplitude = plateaus.index, lattice_amplitude(field.strength)
    low, vague, levels = ~valid, np.zeros(index.shape, bool), np.zeros(index.shape)
    for number in np.unique(index).tolist():
        own = (index == number) & valid
        if not own.any():
            continue
        level = float(plateaus.amplitudes[number])
        levels[own] = level
        kept = own & (amplitude >= fraction * level)
        low |= own & ~kept
        # Speckles of glass may be as strong, but the direction is another in each: it is what neighbours share.
        shared = lattice_amplitude(field.strength * _coherence(field, kept))
        vague |= kept & (shared < fraction * crystal_amplitude(shared[kept], fraction))
    # A foreign column disturbs the mean direction as far as its window reaches.
    low |= _opened(low | vague, REACH_PERIODS * field.period)
    lost = _opened(low, LEAST_THICKNESS / 2 * field.period)
    if not (lost & valid).any():
        return np.zeros(low.shape, bool)
    # The window still sees the crystal beside an area without contrast: the power tells where it ends.
    beside = distance_transform_edt(~lost) <= REACH_PERIODS * field.period
    lost |= beside & (amplitude * np.minimum(field.power, 1) < fraction * levels)
    # An island is crystal only where a part of it lies beyond the reach of the windows around it.
    islands, count = label(~lost)
    depth = distance_transform_edt(np.pad(~lost, 1, mode="edge"))[1:-1, 1:-1]
    crystal = np.zeros(count + 1, bool)
    crystal[islands[depth > REACH_PERIODS * field.period]] = True
    return np.asarray(~crystal[islands] & valid)


def _opened(mask: NDArray[np.bool_], radius: float) -> NDArray[np.bool_]:
    """A mask without what is thinner than a circle of that radius in samples; it goes on beyond the rim."""
    margin = int(radius) + 1
    depth = distance_transform_edt(np.pad(mask, margin, mode="edge"))
    core = depth[margin:-margin, margin:-margin] > radius
    return mask & core.any() & (distance_transform_edt(~core) <= radius + 1)


def _coherence(field: Field, where: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Length of the mean direction of some samples in a Gaussian window of `REACH_PERIODS`, 0 to 1."""
    sigma = REACH_PERIODS * field.period
    weight = gaussian(where.astype(np.float32), sigma)
    mean = np.stack([gaussian(each * where, sigma) for each in field.components])
    mean /= np.maximum(weight, np.float32(TINY))
    square = np.einsum("nyx,nyx->yx", mean, mean) + field.mean @ field.mean
    square += 2 * np.tensordot(field.basis @ field.mean, mean, 1)
    return np.sqrt(np.clip(square, 0, 1))
