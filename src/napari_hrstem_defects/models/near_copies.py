"""Whether two images or two sets of patches have pixels in common: by position, or by what they show.

Two images of the same crystal share its lattice, but not the noise. So their spectra agree in phase at the Bragg
spots and nowhere else, while those of a crop, a shifted crop, a retouched or a rescaled-in-grey copy agree
everywhere. The peak of the phase correlation is about the share of the area that the two have in common.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from napari_hrstem_defects.models.data import LabelledImage, PatchSet
from napari_hrstem_defects.models.options import CancelCheck, stop_if
from napari_hrstem_defects.models.preparing import resize, symmetries

#: Peak above which two pieces are copies. Measured on patches of 64 px of two experimental images: at most 0.10 for
#: 8700 pairs without a common pixel (of simulated micrographs 0.16 for 90 000), at least 0.28 where half of the area is
#: common, 0.49 where three quarters are.
COPY_PEAK = 0.25
#: The same for whole images, which hold more: at most 0.02 for nine experimental and three simulated images against
#: each other, 0.39 for a crop of a quarter of the area.
IMAGE_COPY_PEAK = 0.1
#: Larger images are reduced to this many pixels along their longer side before they are compared.
MOST_PX = 384
#: More pairs of images than this (of a hundred images) are not compared turned and mirrored as well.
_MANY_PAIRS = 5000
# Patches compared at once.
_BATCH = 256
# Spectra of images that a comparison keeps: 0.6 GB, as images of as many sizes have a spectrum for each size.
_KEPT = 1024


class Comparison:
    """Compares images of a set with each other.

    Spectra are kept as long as there is room. To compare one image with all others before the next saves most.

    Parameters
    ----------
    images : sequence of float array (y, x)
    """

    def __init__(self, images: Sequence[NDArray[np.float32]]) -> None:
        self._images = images
        self._spectrum = lru_cache(_KEPT)(self._transformed)

    def peak(self, first: int, second: int, *, turned: bool = True) -> float:
        """Highest value of the phase correlation of two images over all shifts, 0...1, about their common area.

        Parameters
        ----------
        first, second : int
            Numbers of the images, which may differ in size.
        turned : bool
            Also over the eight turns by right angles and reflections.
        """
        sides = [*self._images[first].shape, *self._images[second].shape]
        factor = max(1.0, max(sides) / MOST_PX)
        side = fft.next_fast_len(max(round(n / factor) for n in sides), real=True)
        reference = self._spectrum(second, factor, side, 0).conj()
        products = (
            self._spectrum(first, factor, side, turn) * reference for turn in range(8 if turned else 1)
        )
        return max(float(fft.irfft2(product, s=(side, side)).max()) for product in products)

    def _transformed(self, number: int, factor: float, side: int, turn: int) -> NDArray[np.complex64]:
        height, width = (max(8, round(n / factor)) for n in self._images[number].shape)
        return _phases(symmetries(_periodic(resize(self._images[number], (height, width))))[turn], side)


def between_images(images: Sequence[LabelledImage], cancelled: CancelCheck | None = None) -> str:
    """What images of different groups share, in words: those of the first pair that shows the same; empty if none does.

    Raises
    ------
    Cancelled
    """
    pairs = [
        (i, j)
        for (i, a), (j, b) in combinations(enumerate(images), 2)
        # Simulated images were drawn independently, and there may be many.
        if a.group != b.group and not (a.simulated and b.simulated)
    ]
    comparison = Comparison([image.pixels for image in images])
    for i, j in pairs:
        stop_if(cancelled)
        names = f"{images[i].name} and {images[j].name}"
        if images[i].sha256 == images[j].sha256:
            return f"{names} are the same image"
        if comparison.peak(i, j, turned=len(pairs) <= _MANY_PAIRS) > IMAGE_COPY_PEAK:
            return f"{names} show the same exposure, whole or in part"
    return ""


def shared_between(train: PatchSet, test: PatchSet, cancelled: CancelCheck | None = None) -> str:
    """What two sets of patches share, in words; empty if nothing.

    Where positions in the same source are known they decide; contents are compared in any case, for the same pixels
    may be there under two names.
    """
    if train.corners is not None and test.corners is not None:
        hit = overlapping(test, train)
        if hit.any():
            return (
                f"{np.count_nonzero(hit)} of the {len(test)} test patches share pixels with training patches"
            )
    copies = np.count_nonzero(copied(test.pixels, train.pixels, cancelled))
    return f"{copies} of the {len(test)} test patches are near-copies of training patches" if copies else ""


def overlapping(some: PatchSet, others: PatchSet) -> NDArray[np.bool_]:
    """Which of `some` share a pixel of their source with any of `others`; positions must be known."""
    if some.corners is None or others.corners is None:
        raise ValueError("corners is None, expected known positions")
    first, second = some.corners + some.edge / 2, others.corners + others.edge / 2
    out = np.zeros(len(some), bool)
    for source in np.unique(some.source):
        mine, theirs = some.source == source, others.source == source
        if theirs.any():
            # Squares overlap whose centres are closer than an edge along both axes. A tree needs no table of all pairs.
            nearest, _ = KDTree(second[theirs]).query(first[mine], p=np.inf)
            out[mine] = nearest < (some.edge + others.edge) / 2
    return out


def copied(
    first: NDArray[np.float32], second: NDArray[np.float32], cancelled: CancelCheck | None = None
) -> NDArray[np.bool_]:
    """Which of the first patches share most of their pixels with one of the second, or are one of them turned.

    Turned copies are recognised if they are exact, as those that were made to have more patches; it costs little.

    Parameters
    ----------
    first, second : float32 arrays (n, edge, edge), (m, edge, edge)
    cancelled : callable, optional

    Returns
    -------
    bool array (n,)

    Raises
    ------
    Cancelled
    """
    known = {mark for mark in _turned_marks(second) if mark}
    out = np.array([mark in known for mark in _turned_marks(first)], bool)
    spectra = _spectra(second)
    for i, piece in enumerate(_spectra(first)):
        out[i] |= bool(_matches(piece, spectra, first.shape[1], cancelled).any())
    return out


def clusters(patches: NDArray[np.float32], cancelled: CancelCheck | None = None) -> NDArray[np.intp]:
    """Number of the group of each patch: copies (see :func:`copied`), directly or through others, are one group."""
    count = len(patches)
    places: dict[str, int] = {}
    pairs = np.zeros((count, count), bool)
    for i, mark in enumerate(_turned_marks(patches)):
        pairs[i, places.setdefault(mark or str(i), i)] = True
    spectra = _spectra(patches)
    for i in range(count):
        pairs[i, i + 1 :] |= _matches(spectra[i], spectra[i + 1 :], patches.shape[1], cancelled)
    groups: NDArray[np.intp] = connected_components(pairs, directed=False)[1].astype(np.intp)
    return groups


def _turned_marks(patches: NDArray[np.float32]) -> list[str]:
    """For each patch a digest that its eight turns have in common; empty for a flat one, which is like any other."""
    return [
        min(hashlib.sha256(turn.tobytes()).hexdigest() for turn in symmetries(patch)) if np.ptp(patch) else ""
        for patch in patches
    ]


def _spectra(patches: NDArray[np.float32]) -> NDArray[np.complex64]:
    count, edge = patches.shape[:2]
    out = np.empty((count, edge, edge // 2 + 1), np.complex64)
    for i, piece in enumerate(patches):
        out[i] = _phases(_periodic(piece), edge)
    return out


def _matches(
    piece: NDArray[np.complex64],
    spectra: NDArray[np.complex64],
    edge: int,
    cancelled: CancelCheck | None,
) -> NDArray[np.bool_]:
    """Which of many patches share most of their pixels with one, all given by their phases."""
    stop_if(cancelled)
    parts = [spectra[start : start + _BATCH] for start in range(0, len(spectra), _BATCH)]
    peaks = [fft.irfft2(piece * part.conj(), s=(edge, edge)).max(axis=(1, 2)) for part in parts]
    return np.concatenate(peaks) > COPY_PEAK if peaks else np.zeros(0, bool)


def _periodic(piece: NDArray[np.float32]) -> NDArray[np.float32]:
    """Periodic component of a piece, mean 0: without the jumps between opposite borders.

    Their phases are alike in all pieces with a slope of brightness, so that these would resemble each other.

    References
    ----------
    .. L. Moisan, J. Math. Imaging Vision 39 (2011) 161.
    """
    jumps = np.zeros(piece.shape, np.float32)
    for axis in (0, 1):
        border = np.moveaxis(jumps, axis, 0)
        difference = np.take(piece, -1, axis) - np.take(piece, 0, axis)
        border[0] += difference
        border[-1] -= difference
    waves = [
        2 * np.cos(2 * np.pi * find(n)) - 2
        for n, find in zip(piece.shape, (fft.fftfreq, fft.rfftfreq), strict=True)
    ]
    laplacian = waves[0][:, None] + waves[1]
    laplacian[0, 0] = 1
    smooth = fft.irfft2(fft.rfft2(jumps) / laplacian, s=piece.shape)
    out: NDArray[np.float32] = (piece - piece.mean() - smooth).astype(np.float32)
    return out


def _phases(piece: NDArray[np.float32], side: int) -> NDArray[np.complex64]:
    spectrum = fft.rfft2(piece, s=(side, side))
    size = np.abs(spectrum)
    out: NDArray[np.complex64] = (spectrum / np.maximum(size, np.finfo(np.float32).tiny)).astype(np.complex64)
    return out
