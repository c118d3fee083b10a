"""What the comparing network is given: a patch, what is typical of its image, and how the two differ.

It sees the patch and the typical patch at the same number of pixels per lattice period, the autocorrelations of both
(the Fourier transform of the power spectrum, so the same information), the severity that the typical patch as a model
gives the patch, and numbers about the patch among all patches of the image, the score of the screening included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_hrstem_defects.core.errors import RecipeError
from napari_hrstem_defects.core.geometry import patch_corners, patch_edge, patch_means
from napari_hrstem_defects.core.lattice import typical_lattice
from napari_hrstem_defects.core.model import fit_model
from napari_hrstem_defects.core.patches import PatchGrid
from napari_hrstem_defects.core.preprocessing import Prepared, prepare, resize_linear
from napari_hrstem_defects.core.recipe import ClassifyParams, PreprocessParams, SymmetryParams
from napari_hrstem_defects.core.ridges import line_severity
from napari_hrstem_defects.core.screening import PEER_SHARE, SIGNATURE_RADIUS, screen, signatures
from napari_hrstem_defects.core.segmentation import MAD_TO_SIGMA, NOTABLE, hysteresis

#: Edge of the pieces that the network sees, and pixels per lattice period in them.
PIECE_PX, PX_PER_PERIOD = 64, 8.0
#: Edge of the maps of the autocorrelation; they reach as far as the screening looks.
CORRELATION_PX = 33
#: Edge, step and largest lag of the tiles within a patch, in periods.
TILE_PERIODS, TILE_STEP, TILE_RADIUS = 3.0, 1.5, 1.2
#: Edge of the maps of the severity over a patch, whatever its size; quantiles of it that are told as numbers.
SEVERITY_PX, SEVERITY_QUANTILES = 16, (0.05, 0.5, 0.9, 0.99)
#: Scatters of correlations are taken to be at least this, robust standard deviations at most that.
MIN_SCATTER, MOST_SIGMAS = 0.01, 50.0
#: What is told about a patch in numbers, in this order.
STATISTICS = (
    "screening score",
    "screening score, median of the image",
    "distance in sigmas",
    "distance",
    "scatter of the distances",
    "distance over the typical correlation",
    "share of the patches that are closer",
    "worst tile in sigmas",
    "worst tenth of the tiles in sigmas",
    "middle tile in sigmas",
    "scatter of the tiles",
    "contrast over the median",
    "contrast over that of the typical patch",
    "noise over the median",
    "edge in periods",
    "typical correlation",
    "mean severity",
    *(f"{quantile:.0%} quantile of the severity" for quantile in SEVERITY_QUANTILES),
    "share that is marked",
    "share that is notable",
    "worst line",
    "share on lines",
    "share of the image that is marked",
    "severity, median of the image",
    "impurity of the typical patch",
    "clean population over the typical patch",
    "brightness over the median",
)


@dataclass(frozen=True, eq=False)
class RelativeInputs:
    """What the network sees of `n` patches.

    Attributes
    ----------
    patch, reference : float32 array (n, PIECE_PX, PIECE_PX, 1)
        Prepared patch, and the typical one of its image.
    correlation : float32 array (n, CORRELATION_PX, CORRELATION_PX, 2)
        Autocorrelation of the typical patches, and what that of the patch has more.
    severity : float32 array (n, SEVERITY_PX, SEVERITY_PX, 2)
        Severity and significance of lines over the whole patch, as the typical patch sees them; the worst of each cell.
    statistics : float32 array (n, len(STATISTICS))
    """

    patch: NDArray[np.float32]
    reference: NDArray[np.float32]
    correlation: NDArray[np.float32]
    severity: NDArray[np.float32]
    statistics: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.patch)

    @property
    def arrays(self) -> tuple[NDArray[np.float32], ...]:
        """In the order of the network's inputs."""
        return self.patch, self.reference, self.correlation, self.severity, self.statistics

    def take(self, chosen: NDArray[np.intp] | NDArray[np.bool_]) -> RelativeInputs:
        """Some of the patches."""
        return RelativeInputs(*(part[chosen] for part in self.arrays))


def join_inputs(parts: Sequence[RelativeInputs]) -> RelativeInputs:
    """The patches of several images."""
    return RelativeInputs(*(np.concatenate(each) for each in zip(*(p.arrays for p in parts), strict=True)))


def relative_inputs(pixels: NDArray[np.float32], grid: PatchGrid) -> tuple[RelativeInputs, int] | None:
    """Inputs for all patches of a frame.

    Parameters
    ----------
    pixels : float32 array (y, x)
        The frame, 0...1.
    grid : PatchGrid

    Returns
    -------
    tuple of (RelativeInputs, int) or None
        Row by row, and the number of the typical patch; None where the frame shows no lattice.
    """
    typical, _ = typical_lattice(pixels)
    if typical is None:
        return None
    return _inputs(pixels, prepare(pixels, typical.period_px, PreprocessParams()), grid)


def _inputs(pixels: NDArray[np.float32], prepared: Prepared, grid: PatchGrid) -> tuple[RelativeInputs, int]:
    edge = patch_edge(prepared, grid.size)
    corners = patch_corners(prepared, grid)
    flat = corners.reshape(-1, 2)
    period = prepared.period_px
    marks = signatures(prepared, flat, edge, SIGNATURE_RADIUS * period)
    count = len(marks)
    squares = (marks**2).sum(axis=1)
    between = np.sqrt(np.maximum(squares[:, None] + squares[None] - 2 * marks @ marks.T, 0) / marks.shape[1])
    company = min(max(1, round(PEER_SHARE * count)), count - 1)
    contrast = patch_means(np.square(prepared.band), corners, edge).ravel()
    params = ClassifyParams()
    faint = contrast < params.min_variance * np.median(contrast)
    lonely = np.sort(between, axis=1)[:, company]
    centre = int(np.argmin(np.where(faint & ~faint.all(), np.inf, lonely)))
    distance = between[centre]
    peers = np.argsort(distance, kind="stable")[: company + 1]
    scores = screen(prepared, grid, params).scores.ravel()
    strength = float(np.sqrt((marks[peers].mean(axis=0) ** 2).mean()))
    worst, tenth, middle, tile_scatter = _tiles(prepared, flat, edge, peers)
    noise = patch_means(prepared.noise_share, corners, edge).ravel()
    scatter = _scatter(distance)
    ones = np.ones(count)
    bright = grid.extract(pixels).mean(axis=(2, 3)).ravel()
    severity, numbers = _severity(prepared, corners, edge, flat[centre])
    columns = (
        _logged(scores),
        _logged(np.median(scores) * ones),
        _logged((distance - np.median(distance)) / scatter),
        10 * distance,
        10 * scatter * ones,
        distance / max(strength, MIN_SCATTER),
        distance.argsort(kind="stable").argsort(kind="stable") / max(1, count - 1),
        worst,
        tenth,
        middle,
        10 * tile_scatter * ones,
        _log_ratio(contrast, np.median(contrast)),
        _log_ratio(contrast, contrast[centre]),
        _log_ratio(noise, np.median(noise)),
        edge / period / 10 * ones,
        5 * strength * ones,
        *numbers,
        _log_ratio(bright, np.median(bright)),
    )
    pieces = _pieces(prepared, flat + (edge - 1) / 2)
    maps = _correlations(marks, period, edge)
    usual = maps[peers].mean(axis=0)
    return (
        RelativeInputs(
            pieces,
            np.repeat(pieces[centre : centre + 1], count, axis=0),
            np.stack([np.broadcast_to(usual, maps.shape), 3 * (maps - usual)], axis=-1).astype(np.float32),
            severity,
            np.stack(columns, axis=1).astype(np.float32),
        ),
        centre,
    )


def _pieces(prepared: Prepared, centres: NDArray[np.floating]) -> NDArray[np.float32]:
    """Square pieces about points, shape ``(n, PIECE_PX, PIECE_PX, 1)``; moved in where they would stick out."""
    values = prepared.values
    shape = np.array(values.shape)
    wanted = np.maximum(np.rint(shape * PX_PER_PERIOD / prepared.period_px).astype(int), PIECE_PX)
    values = resize_linear(values, (int(wanted[0]), int(wanted[1])))
    corners = np.rint((centres + 0.5) * (wanted / shape) - PIECE_PX / 2).astype(np.intp)
    corners = np.clip(corners, 0, wanted - PIECE_PX)
    windows = np.lib.stride_tricks.sliding_window_view(values, (PIECE_PX, PIECE_PX))
    return np.clip(windows[corners[:, 0], corners[:, 1]], -5, 5)[..., None].astype(np.float32)


def _correlations(marks: NDArray[np.float32], period: float, edge: int) -> NDArray[np.float32]:
    """Signatures as maps of all lags at the same number of pixels per period, ``(n, CORRELATION_PX, ...)``."""
    reach = SIGNATURE_RADIUS * period
    radius = min(int(np.ceil(reach)), edge // 2)
    lag_y, lag_x = np.mgrid[0 : radius + 1, -radius : radius + 1]
    chosen = (np.hypot(lag_y, lag_x) <= radius) & ((lag_y > 0) | (lag_x > 0))
    full = np.zeros((len(marks), 2 * radius + 2, 2 * radius + 2), np.float32)
    full[:, radius, radius] = 1
    full[:, radius + lag_y[chosen], radius + lag_x[chosen]] = marks
    full[:, radius - lag_y[chosen], radius - lag_x[chosen]] = marks
    place = radius + np.clip(np.linspace(-reach, reach, CORRELATION_PX), -radius, radius)
    low = place.astype(np.intp)
    share = (place - low).astype(np.float32)
    rows: NDArray[np.float32] = full[:, low] * (1 - share)[:, None] + full[:, low + 1] * share[:, None]
    out: NDArray[np.float32] = rows[:, :, low] * (1 - share) + rows[:, :, low + 1] * share
    return out


def _tiles(
    prepared: Prepared, corners: NDArray[np.intp], edge: int, peers: NDArray[np.intp]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], float]:
    """How far tiles within each patch lie from those of the typical patches: worst, worst tenth, middle; scatter.

    A defect that is small beside its patch hardly changes the correlation of the whole of it.
    """
    period = prepared.period_px
    size = min(edge, round(TILE_PERIODS * period))
    steps = max(1, round((edge - size) / (TILE_STEP * period))) + 1
    starts = np.rint(np.linspace(0, edge - size, steps)).astype(np.intp)
    offsets = np.stack(np.meshgrid(starts, starts, indexing="ij"), axis=-1).reshape(-1, 2)
    marks = signatures(
        prepared, (corners[:, None] + offsets).reshape(-1, 2), size, TILE_RADIUS * period
    ).reshape(len(corners), len(offsets), -1)
    usual = marks[peers].mean(axis=(0, 1))
    distance = np.sqrt(((marks - usual) ** 2).mean(axis=2))
    among = distance[peers]
    scatter = _scatter(among)
    sigmas = (distance - np.median(among)) / scatter
    worst, tenth, middle = (_logged(np.quantile(sigmas, q, axis=1)) for q in (1.0, 0.9, 0.5))
    return worst, tenth, middle, scatter


def _severity(
    prepared: Prepared, corners: NDArray[np.intp], edge: int, typical: NDArray[np.intp]
) -> tuple[NDArray[np.float32], list[NDArray[np.floating]]]:
    """What the severity map says that rests on the typical patch: pieces of it, and numbers about each."""
    y, x = (int(v) for v in typical)
    flat = corners.reshape(-1, 2)
    count = len(flat)
    try:
        model = fit_model(
            prepared, (slice(y, y + edge), slice(x, x + edge)), PreprocessParams(), SymmetryParams()
        )
    except RecipeError:  # the patches are too small
        nothing = np.zeros((count, SEVERITY_PX, SEVERITY_PX, 2), np.float32)
        return nothing, [np.zeros(count)] * (len(SEVERITY_QUANTILES) + 9)
    severity = model.severity
    lines = line_severity(severity, prepared.period_px, model.judged(prepared))
    marked = hysteresis(severity)
    windows = np.lib.stride_tricks.sliding_window_view(severity, (edge, edge))
    pieces = windows[flat[:, 0], flat[:, 1]].reshape(count, -1)
    quantiles = np.quantile(pieces, SEVERITY_QUANTILES, axis=1)
    line_windows = np.lib.stride_tricks.sliding_window_view(lines, (edge, edge))
    worst_line = line_windows[flat[:, 0], flat[:, 1]].max(axis=(1, 2))
    ones = np.ones(count)
    numbers = [
        _logged(patch_means(np.clip(severity, -5, MOST_SIGMAS), corners, edge).ravel()),
        *(_logged(each) for each in quantiles),
        _share(patch_means(marked, corners, edge)),
        _share(patch_means(severity > NOTABLE, corners, edge)),
        _logged(worst_line),
        _share(patch_means(lines > NOTABLE, corners, edge)),
        _share(marked.mean() * ones),
        _logged(np.median(severity) * ones),
        model.null.impurity * ones,
        np.clip(model.null.mode - model.null.patch_median, -3, 3) * ones,
    ]
    # The worst within each cell of a coarse raster over the patch.
    reach = max(1, edge // SEVERITY_PX)
    offsets = np.rint((np.arange(SEVERITY_PX) + 0.5) * edge / SEVERITY_PX - 0.5).astype(np.intp)
    rows, columns = flat[:, 0, None] + offsets, flat[:, 1, None] + offsets
    maps = [
        ndimage.maximum_filter(each, size=reach)[rows[:, :, None], columns[:, None, :]]
        for each in (severity, lines)
    ]
    return np.stack([_logged(each) for each in maps], axis=-1), numbers


def _share(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Shares on a scale that tells a few percent from none."""
    return 3 * np.sqrt(np.ravel(values))


def _scatter(values: NDArray[np.floating]) -> float:
    return max(MAD_TO_SIGMA * float(np.median(np.abs(values - np.median(values)))), MIN_SCATTER)


def _logged(sigmas: NDArray[np.floating]) -> NDArray[np.float32]:
    out: NDArray[np.float32] = np.arcsinh(np.clip(sigmas, -MOST_SIGMAS, MOST_SIGMAS)).astype(np.float32)
    return out


def _log_ratio(values: NDArray[np.floating], usual: float) -> NDArray[np.float64]:
    tiny = float(np.finfo(np.float32).tiny)
    return np.clip(np.log(np.maximum(values, tiny) / max(usual, tiny)), -4, 4)
