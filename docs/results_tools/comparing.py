"""A small network that compares a patch with what is typical of its image: "different from this crystal".

It sees the patch and the typical patch at the same number of pixels per lattice period, the autocorrelations of both
(the Fourier transform of the power spectrum, so the same information), and a few numbers about the patch among all
patches of the image, the score of the screening included.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.core.geometry import patch_corners, patch_edge, patch_means
from napari_hrstem_defects.core.lattice import typical_lattice
from napari_hrstem_defects.core.patches import PatchGrid
from napari_hrstem_defects.core.preprocessing import Prepared, prepare, resize_linear
from napari_hrstem_defects.core.recipe import ClassifyParams, PreprocessParams
from napari_hrstem_defects.core.screening import PEER_SHARE, SIGNATURE_RADIUS, screen, signatures
from napari_hrstem_defects.core.segmentation import MAD_TO_SIGMA
from napari_hrstem_defects.models.backend import keras
from napari_hrstem_defects.models.fitting import History, fit_network
from napari_hrstem_defects.models.options import Progress

#: Edge of the pieces that the network sees, and pixels per lattice period in them.
PIECE_PX, PX_PER_PERIOD = 64, 8.0
#: Edge of the maps of the autocorrelation; they reach as far as the screening looks.
CORRELATION_PX = 33
#: Edge, step and largest lag of the tiles within a patch, in periods.
TILE_PERIODS, TILE_STEP, TILE_RADIUS = 3.0, 1.5, 1.2
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
)
NETWORK = "relative"


@dataclass(frozen=True, eq=False)
class RelativeInputs:
    """What the network sees of `n` patches.

    Attributes
    ----------
    patch, reference : float32 array (n, PIECE_PX, PIECE_PX, 1)
        Prepared patch, and the typical one of its image.
    correlation : float32 array (n, CORRELATION_PX, CORRELATION_PX, 2)
        Autocorrelation of the typical patches, and what that of the patch has more.
    statistics : float32 array (n, len(STATISTICS))
    """

    patch: NDArray[np.float32]
    reference: NDArray[np.float32]
    correlation: NDArray[np.float32]
    statistics: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.patch)

    @property
    def arrays(self) -> tuple[NDArray[np.float32], ...]:
        """In the order of the network's inputs."""
        return self.patch, self.reference, self.correlation, self.statistics

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
    return None if typical is None else _inputs(prepare(pixels, typical.period_px, PreprocessParams()), grid)


def _inputs(prepared: Prepared, grid: PatchGrid) -> tuple[RelativeInputs, int]:
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
    )
    pieces = _pieces(prepared, flat + (edge - 1) / 2)
    maps = _correlations(marks, period, edge)
    usual = maps[peers].mean(axis=0)
    return (
        RelativeInputs(
            pieces,
            np.repeat(pieces[centre : centre + 1], count, axis=0),
            np.stack([np.broadcast_to(usual, maps.shape), 3 * (maps - usual)], axis=-1).astype(np.float32),
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
    rows = full[:, low] * (1 - share)[:, None] + full[:, low + 1] * share[:, None]
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


def _scatter(values: NDArray[np.floating]) -> float:
    return max(MAD_TO_SIGMA * float(np.median(np.abs(values - np.median(values)))), MIN_SCATTER)


def _logged(sigmas: NDArray[np.floating]) -> NDArray[np.float32]:
    out: NDArray[np.float32] = np.arcsinh(np.clip(sigmas, -MOST_SIGMAS, MOST_SIGMAS)).astype(np.float32)
    return out


def _log_ratio(values: NDArray[np.floating], usual: float) -> NDArray[np.float64]:
    tiny = float(np.finfo(np.float32).tiny)
    return np.clip(np.log(np.maximum(values, tiny) / max(usual, tiny)), -4, 4)


def build_relative(channels: tuple[int, ...] = (16, 32, 48), dropout: float = 0.3) -> Any:
    """The network, not compiled.

    Parameters
    ----------
    channels : tuple of int
        Of the convolutions, all of stride 2, that patch and reference share.
    dropout : float
        Before the last two dense layers.

    Returns
    -------
    keras.Model
        Inputs as :attr:`RelativeInputs.arrays`; output ``(n, 2)``: probabilities of clean and defective.
    """
    library = keras()
    layers = library.layers
    piece = library.Input((PIECE_PX, PIECE_PX, 1))
    trunk = library.Model(piece, _convolved(piece, channels), name="trunk")
    patch = library.Input((PIECE_PX, PIECE_PX, 1), name="patch")
    reference = library.Input((PIECE_PX, PIECE_PX, 1), name="reference")
    own, usual = trunk(patch), trunk(reference)
    mean_own = layers.GlobalAveragePooling2D()(own)
    mean_usual = layers.GlobalAveragePooling2D()(usual)
    difference = layers.Subtract()([mean_own, mean_usual])
    # Place by place as well, so that a defect that is small beside the patch shows.
    local = layers.Subtract()([own, layers.Reshape((1, 1, channels[-1]))(mean_usual)])
    local = layers.Multiply()([local, local])
    seen = [
        layers.Multiply()([difference, difference]),
        layers.Multiply()([mean_own, mean_usual]),
        layers.GlobalMaxPooling2D()(local),
        layers.GlobalAveragePooling2D()(local),
    ]
    correlation = library.Input((CORRELATION_PX, CORRELATION_PX, 2), name="correlation")
    map_ = _convolved(correlation, (16, 24, 32))
    seen += [layers.GlobalAveragePooling2D()(map_), layers.GlobalMaxPooling2D()(map_)]
    statistics = library.Input((len(STATISTICS),), name="statistics")
    pictures = layers.Dense(32, activation="relu")(layers.Dropout(dropout)(layers.Concatenate()(seen)))
    numbers = layers.Dense(48, activation="relu")(layers.BatchNormalization(momentum=0.9)(statistics))
    x = layers.Dropout(dropout)(layers.Concatenate()([pictures, numbers]))
    x = layers.Dense(32, activation="relu")(x)
    out = layers.Dense(2, activation="softmax", name="classes")(x)
    return library.Model([patch, reference, correlation, statistics], out, name=NETWORK)


def _convolved(x: Any, channels: tuple[int, ...]) -> Any:
    layers = keras().layers
    for index, width in enumerate(channels):
        x = layers.Conv2D(
            width, 5 if index == 0 else 3, 2, "same", use_bias=False, kernel_initializer="he_normal"
        )(x)
        x = layers.BatchNormalization(momentum=0.9)(x)
        x = layers.ReLU()(x)
    return x


def turned_together(
    parts: tuple[NDArray[np.float32], ...], rng: np.random.Generator
) -> tuple[NDArray[np.float32], ...]:
    """A batch with each patch, its reference and its correlations turned and mirrored alike, at random."""
    *pictures, statistics = parts
    out = [np.empty_like(part) for part in pictures]
    turns, mirrors = rng.integers(4, size=len(statistics)), rng.random(len(statistics)) < 0.5
    for index, (quarter, mirrored) in enumerate(zip(turns, mirrors, strict=True)):
        for old, new in zip(pictures, out, strict=True):
            piece = old[index, :, ::-1] if mirrored else old[index]
            new[index] = np.rot90(piece, quarter)
    return (*out, statistics)


def fit_relative(
    network: Any,
    train: tuple[RelativeInputs, NDArray[np.integer]],
    validation: tuple[RelativeInputs, NDArray[np.integer]],
    *,
    epochs: int = 12,
    patience: int = 4,
    batch: int = 64,
    learning_rate: float = 1e-3,
    seed: int = 0,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> History:
    """Fit :func:`build_relative`; labels are 0 for clean and 1 for defective patches, see :func:`fit_network`."""
    identity = np.eye(2, dtype=np.float32)
    return fit_network(
        network,
        (train[0].arrays, identity[train[1]]),
        (validation[0].arrays, identity[validation[1]]),
        loss="categorical_crossentropy",
        learning_rate=learning_rate,
        batch=batch,
        epochs=epochs,
        patience=patience,
        seed=seed,
        tag=NETWORK,
        augment=turned_together,
        progress=progress,
        cancelled=cancelled,
    )


def defect_probabilities(network: Any, inputs: RelativeInputs, batch: int = 256) -> NDArray[np.float32]:
    """Probability of each patch to be defective, shape ``(n,)``."""
    parts = [
        np.asarray(network.predict_on_batch([part[start : start + batch] for part in inputs.arrays]))[:, 1]
        for start in range(0, len(inputs), batch)
    ]
    return np.concatenate(parts).astype(np.float32) if parts else np.zeros(0, np.float32)
