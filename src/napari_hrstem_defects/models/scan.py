"""Slide an FFT ensemble over an image: a probability map for each class, vote masks, a class map, its regions."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.core.image_lattice import typical_lattice
from napari_hrstem_defects.core.patches import PatchGrid
from napari_hrstem_defects.core.regions import Region, find_regions
from napari_hrstem_defects.errors import ModelError
from napari_hrstem_defects.models import scale
from napari_hrstem_defects.models.contract import Contract
from napari_hrstem_defects.models.fft_ensemble import BATCH, STRIDE_PX, FFTEnsemble
from napari_hrstem_defects.models.options import CancelCheck
from napari_hrstem_defects.models.store import StoredModel, file_sha256, loaded
from napari_hrstem_defects.threads import own_threads

#: A window votes for a class above this probability; a pixel is of a class from this share of its most votes, and more
#: than this number of them ([M]).
VOTE_ABOVE, VOTE_SHARE, VOTES_ABOVE = 0.5, 0.5, 16
#: Value of the class map where no class is likely.
UNCERTAIN = 255
#: Below this mean probability no class is likely.
LEAST_PROBABILITY = 0.5
#: Regions below this share of a window's area are accidents of the threshold.
LEAST_REGION = 0.05


@dataclass(frozen=True, eq=False)
class Scan:
    """What a scan found.

    Attributes
    ----------
    classes : tuple of str
        The first is the clean one.
    stride_px : int
    probabilities : float32 array (classes, y, x)
        Mean calibrated probability of the windows over each pixel, each class against the rest.
    votes : bool array (classes, y, x)
        The published masks, see :func:`published_votes`.
    majority : bool array (classes, y, x)
        More than half of the class's most votes, all windows counted.
    labels : uint8 array (y, x)
        Number of the most probable class, 0 the clean one; 255 where none reaches `LEAST_PROBABILITY`.
    regions : tuple of Region
        Of all classes but the clean one, see :func:`class_regions`.
    warnings : tuple of str
        What speaks against believing it, one sentence each.
    """

    classes: tuple[str, ...]
    stride_px: int
    probabilities: NDArray[np.float32]
    votes: NDArray[np.bool_]
    majority: NDArray[np.bool_]
    labels: NDArray[np.uint8]
    regions: tuple[Region, ...]
    warnings: tuple[str, ...] = ()


def scan(
    model: StoredModel,
    pixels: NDArray[np.float32],
    *,
    stride_px: int | None = None,
    pixel_size_nm: float | None = None,
    least_probability: float = LEAST_PROBABILITY,
    progress: Callable[[float, str], None] | None = None,
    cancelled: CancelCheck | None = None,
) -> Scan:
    """Slide an ensemble over a frame.

    Parameters
    ----------
    model : StoredModel
        E.g. what :func:`~.store.load_model` gives.
    pixels : float32 array (y, x)
        0...1; any shape from one window on.
    stride_px : int, optional
        Step between windows; the last ones touch the rim, so that every pixel is covered. Default: what the model was
        made for.
    pixel_size_nm : float, optional
        For the sizes of the regions.
    least_probability : float
        Where no class has more, the class map says 255, uncertain.
    progress : callable, optional
        Called as ``progress(fraction, text)``.
    cancelled : callable, optional

    Returns
    -------
    Scan

    Raises
    ------
    ModelError
        If the model is no ensemble, the frame is smaller than a window, or the stride leaves gaps.
    Cancelled
        If `cancelled` returned True.

    Notes
    -----
    The rule across classes: every pixel takes the class whose calibrated probability, averaged over all windows
    that cover it, is largest, unless that is below `least_probability`. A window above 0.5 votes on its whole area;
    masks of votes are made for each class by itself and may overlap.
    """
    contract = model.contract
    edge = contract.patch_px
    stride_px = usual_stride(contract) if stride_px is None else stride_px
    _check(pixels, edge, stride_px, least_probability)
    warnings = _scale_warnings(contract, pixels, pixel_size_nm)
    windows = _Windows.over(pixels, edge, stride_px)
    found = windows.predictions(model, pixels, progress, cancelled)
    probabilities = windows.mean(found)
    ballots = found > VOTE_ABOVE
    votes = published_votes(ballots, stride_px, edge, (pixels.shape[0], pixels.shape[1]))
    counts = windows.sums(ballots)
    majority = counts > VOTE_SHARE * counts.max(axis=(1, 2), keepdims=True)
    labels = class_map(probabilities, least_probability)
    regions = class_regions(labels, probabilities, contract.classes, edge, pixel_size_nm)
    return Scan(contract.classes, stride_px, probabilities, votes, majority, labels, regions, warnings)


def scan_file(path: str | os.PathLike[str], pixels: NDArray[np.float32], **settings: Any) -> Scan:
    """:func:`scan` with the model of a file, read once; all that goes in and comes out travels between processes."""
    return scan(loaded(Path(path), file_sha256(path)), pixels, **settings)


def usual_stride(contract: Contract) -> int:
    """Step between windows in px that an ensemble was made for."""
    known = contract.preprocessing.get("stride_px")
    return known if type(known) is int and 1 <= known <= contract.patch_px else STRIDE_PX


def patch_scores(
    model: StoredModel,
    pixels: NDArray[np.float32],
    grid: PatchGrid,
    *,
    cancelled: CancelCheck | None = None,
) -> NDArray[np.float32]:
    """Largest probability inside each patch that the crystal is not clean there.

    The windows keep the scale that the networks were trained at, whatever the size of the patches: a missing column
    is seen in a large patch as well as in a small one.

    Parameters
    ----------
    model : StoredModel
    pixels : float32 array (y, x)
        The frame, 0...1.
    grid : PatchGrid
    cancelled : callable, optional

    Returns
    -------
    float32 array (n_y, n_x)

    Raises
    ------
    ModelError
        If the frame is smaller than a window.
    Cancelled
    """
    edge = model.contract.patch_px
    # Windows overlap by half: every place but the rim is covered by four, and one that errs is outvoted.
    stride_px = edge // 2
    _check(pixels, edge, stride_px, LEAST_PROBABILITY)
    windows = _Windows.over(pixels, edge, stride_px)
    clean = windows.mean(windows.predictions(model, pixels, None, cancelled)[:1])[0]
    scores: NDArray[np.float32] = (1 - grid.extract(clean)).max(axis=(2, 3))
    return scores


def class_map(
    probabilities: NDArray[np.float32], least_probability: float = LEAST_PROBABILITY
) -> NDArray[np.uint8]:
    """Number of the most probable class of each pixel, uint8 (y, x); 255 where none has `least_probability`."""
    labels = probabilities.argmax(axis=0).astype(np.uint8)
    labels[probabilities.max(axis=0) < least_probability] = UNCERTAIN
    return labels


def class_regions(
    labels: NDArray[np.uint8],
    probabilities: NDArray[np.float32],
    classes: tuple[str, ...],
    window_px: int,
    pixel_size_nm: float | None = None,
) -> tuple[Region, ...]:
    """Connected areas of all classes but the clean one, by decreasing area.

    The label of a region is the number of its class, the type the name; severities and confidence are probabilities.
    """
    known = np.where(labels == UNCERTAIN, 0, labels)
    # Of each pixel the probability of its own class.
    own = np.take_along_axis(probabilities, known[None].astype(np.intp), axis=0)[0]
    found = find_regions(known, own, pixel_size_nm=pixel_size_nm, min_area_px=LEAST_REGION * window_px**2)
    return tuple(
        replace(region, type=classes[region.label], confidence=region.mean_severity) for region in found
    )


def _check(pixels: NDArray[np.float32], edge: int, stride_px: int, least_probability: float) -> None:
    if pixels.ndim != 2:
        raise ValueError(f"pixels has shape {pixels.shape}, expected (y, x)")
    if min(pixels.shape) < edge:
        raise ModelError(
            f"The image has {pixels.shape[0]} × {pixels.shape[1]} px, the classifier needs windows of {edge} px; "
            "take a larger image."
        )
    if not 1 <= stride_px <= edge:
        raise ModelError(f"The stride must be 1 to {edge} px, the size of a window, not {stride_px}.")
    if not 0 <= least_probability <= 1:
        raise ModelError(f"The least probability must be 0 to 1, not {least_probability:g}.")


def _scale_warnings(
    contract: Contract, pixels: NDArray[np.float32], pixel_size_nm: float | None
) -> tuple[str, ...]:
    """Whether the image is of the scale that the networks know."""
    period_px = None
    if contract.period_px is not None:
        lattice = typical_lattice(pixels).lattice
        if lattice is None:
            return ("No lattice was found in the image; do not trust the classes.",)
        period_px = lattice.period_px
    return scale.warnings(contract, pixel_size_nm, period_px)


@dataclass(frozen=True)
class _Windows:
    """Windows that slide over an image, by the rows and the columns where they start."""

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    edge: int

    @classmethod
    def over(cls, pixels: NDArray[np.float32], edge: int, stride: int) -> _Windows:
        """All of an image; the last ones touch its rim."""
        rows, columns = (
            np.unique([*range(0, side - edge, stride), side - edge]).astype(np.intp) for side in pixels.shape
        )
        return cls(rows, columns, edge)

    def predictions(
        self,
        model: StoredModel,
        pixels: NDArray[np.float32],
        progress: Callable[[float, str], None] | None,
        cancelled: CancelCheck | None,
    ) -> NDArray[np.float32]:
        """Probabilities (classes, n_y, n_x)."""
        windows = np.lib.stride_tricks.sliding_window_view(pixels, (self.edge, self.edge))
        predict = partial(FFTEnsemble().predict, model, views=1, cancelled=cancelled)
        y, x = (at.ravel() for at in np.meshgrid(self.rows, self.columns, indexing="ij"))
        out = np.empty((len(y), len(model.contract.classes)), np.float32)
        with own_threads():
            for start in range(0, len(y), 2 * BATCH):
                part = slice(start, start + 2 * BATCH)
                out[part] = predict(windows[y[part], x[part]])
                if progress is not None:
                    done = min(part.stop, len(y))
                    progress(done / len(y), f"{done} of {len(y)} windows")
        return np.moveaxis(out, 1, 0).reshape(-1, len(self.rows), len(self.columns))

    def sums(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Sum over the windows that cover each pixel, (..., y, x) of values (..., n_y, n_x)."""
        covered = []
        for starts in (self.rows, self.columns):
            pixel = np.arange(starts[-1] + self.edge)[:, None]
            covered.append(((pixel >= starts) & (pixel < starts + self.edge)).astype(np.float32))
        out: NDArray[np.float32] = covered[0] @ values.astype(np.float32) @ covered[1].T
        return out

    def mean(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Mean over the windows that cover each pixel."""
        return self.sums(values) / self.sums(np.ones_like(values[:1]))


def published_votes(
    ballots: NDArray[np.bool_], stride_px: int, edge: int, shape: tuple[int, int]
) -> NDArray[np.bool_]:
    """Masks of [M]: where a class has more than half of its most votes, and more than 16.

    Parameters
    ----------
    ballots : bool array (classes, n_y, n_x)
        Which windows vote for a class.
    stride_px, edge : int
        Step between windows and their edge.
    shape : tuple of int
        Of the image ``(y, x)``.

    Returns
    -------
    bool array (classes, y, x)

    Notes
    -----
    As in the authors' code the last window of each row and the last row of windows do not vote, nor do those that only
    touch the rim of an image whose sides are no multiples of the step. A pixel lies in ``(edge / stride)²`` windows at
    most: with steps of a quarter of a window or more no mask holds anything.

    References
    ----------
    .. [M] Marvin, Holt et al., automated defect detection in STEM images: windows that vote; the floor of 16 and the
       windows left out are those of the code, github.com/NoHolt/ML-Hackathon-2025.
    """
    n_y, n_x = ((side - edge) // stride_px for side in shape)
    out = np.zeros((len(ballots), *shape), np.float32)
    if n_y and n_x:
        counts = _Windows(np.arange(n_y) * stride_px, np.arange(n_x) * stride_px, edge).sums(
            ballots[:, :n_y, :n_x]
        )
        out[:, : counts.shape[1], : counts.shape[2]] = counts
    return np.asarray((out > VOTE_SHARE * out.max(axis=(1, 2), keepdims=True)) & (out > VOTES_ABOVE))
