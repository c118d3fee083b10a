"""Eigenfilters of a model patch, and how far each neighbourhood of an image is from those of the patch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from napari_hrstem_defects.core.preprocessing import BAND_REACH, Prepared, gaussian
from napari_hrstem_defects.core.recipe import SymmetryParams
from napari_hrstem_defects.errors import Cancelled
from napari_hrstem_defects.threads import own_threads, side_by_side

#: Least edge of the tiles that are filtered at once, in px: large enough that the overlap costs little, small enough
#: that a dozen filter responses stay in the cache and a large image does not fill the memory.
TILE_PX = 192
#: Distances are taken at every second pixel of the prepared image, a quarter of a period apart where it has 8 px to
#: a period: neighbouring neighbourhoods share most of their pixels.
STRIDE = 2
#: Pixels compared with all templates in one matrix product.
CHUNK_PX = 4096
#: Share of the lattice's variance that no model knows, for templates are few and their shifts known to first order:
#: without noise (simulated, averaged images) distances would be nothing else.
MODEL_ERROR = 0.01
#: A template stands for shifts of up to this; beyond, another is nearer.
MAX_SHIFT_PX = 0.75
#: A template that is so many times less like its repeats than usual is a defect of the patch.
UNLIKE = 2.0


@dataclass(frozen=True, eq=False)
class Bank:
    """Model of the neighbourhoods of one patch: mean, eigenfilters, templates and noise.

    Attributes
    ----------
    kernel_px : int
        Edge k of a neighbourhood in px of the prepared image; a neighbourhood has D = k² pixels.
    mean : float32 array (D,)
    components : float32 array (r, D)
        Leading eigenvectors of the covariance of the neighbourhoods: the eigenfilters.
    eigenvalues : float64 array (r,)
        Variances along them.
    templates : float32 array (n, r)
        Components of n neighbourhoods of the patch.
    tangents : float32 array (n, 2, r)
        How those change when the neighbourhood moves by one px in y and in x.
    noise : float
        s², mean of the other eigenvalues and what the model does not know.

    Examples
    --------
    >>> import numpy as np, napari_hrstem_defects as hd
    >>> patch = np.random.default_rng(0).normal(size=(40, 40)).astype(np.float32)
    >>> bank = hd.fit_bank(patch, 5, hd.Recipe().symmetry)
    >>> np.allclose(bank.components @ bank.components.T, np.eye(len(bank.components)), atol=1e-5)
    True
    """

    kernel_px: int
    mean: NDArray[np.float32]
    components: NDArray[np.float32]
    eigenvalues: NDArray[np.float64]
    templates: NDArray[np.float32]
    tangents: NDArray[np.float32]
    noise: float

    @property
    def inverted(self) -> Bank:
        """Model of the same patch turned by 180°."""
        return Bank(
            self.kernel_px,
            self.mean[::-1].copy(),
            np.ascontiguousarray(self.components[:, ::-1]),
            self.eigenvalues,
            self.templates,
            -self.tangents,
            self.noise,
        )

    @property
    def filters(self) -> NDArray[np.float32]:
        """The eigenfilters as pictures, shape ``(r, k, k)``."""
        return self.components.reshape(-1, self.kernel_px, self.kernel_px)


def kernel_edge(period_px: float, periods: float, limit: int) -> int:
    """Odd kernel edge in px nearest to so many `periods`, at most `limit` and at least 3."""
    # 1.5 periods of 8 px are 12: rounded so that the usual case lies in the middle of its interval, not at its end.
    edge = 2 * int((periods * period_px + 1) // 2) + 1
    return max(3, min(edge, limit - 1 + limit % 2))


def rim_px(kernel_px: int, period_px: float, shape: tuple[int, ...]) -> int:
    """Width of the rim in which distances rest on mirrored pixels, in px; at most a quarter of the shorter side.

    Half a kernel and `BAND_REACH` periods, as far as the band-pass feels the mirrored lattice beyond the rim.
    """
    return min(kernel_px // 2 + round(BAND_REACH * period_px), min(shape) // 4)


def fit_bank(
    patch: NDArray[np.float32],
    kernel_px: int,
    params: SymmetryParams,
    *,
    widest_px: int = 0,
    period_px: float | None = None,
) -> Bank:
    """Model of all ``k × k`` neighbourhoods of a patch.

    Parameters
    ----------
    patch : float32 array (y, x)
        Model patch of the prepared image, larger than the kernel.
    kernel_px : int
        Odd edge k.
    params : SymmetryParams
        ``variance_kept``, ``max_components`` and ``templates`` are used.
    widest_px : int
        Edge of the widest kernel of the same model: templates of all its kernels stand in the same places, as long as
        there are enough.
    period_px : float, optional
        Lattice period. If given, neighbourhoods that do not repeat in half of the cells are no templates: a defect in
        the patch is not taken for crystal.

    Returns
    -------
    Bank

    Raises
    ------
    ValueError
        If the patch is smaller than the kernel and two pixels.

    Notes
    -----
    Ade (1983) takes all k² eigenvectors of the covariance as filters. Here the few that carry the lattice span the
    model; the rest measures its noise.

    References
    ----------
    Ade, Signal Processing 5 (1983) 451.

    Examples
    --------
    A wave in any phase is a sum of a cosine and a sine; two crossed waves take four filters:

    >>> import numpy as np, napari_hrstem_defects as hd
    >>> y, x = np.mgrid[:64, :64]
    >>> patch = (np.cos(2 * np.pi * x / 8) + np.cos(2 * np.pi * y / 8)).astype(np.float32)
    >>> params = hd.Recipe().replace({"symmetry.variance_kept": 0.999}).symmetry
    >>> hd.fit_bank(patch, 9, params).filters.shape
    (4, 9, 9)
    """
    if min(patch.shape) <= kernel_px:
        raise ValueError(f"patch has shape {patch.shape}, expected more than the kernel's {kernel_px} px")
    windows = np.lib.stride_tricks.sliding_window_view(patch, (kernel_px, kernel_px))
    samples = windows.reshape(-1, kernel_px * kernel_px)
    mean = samples.mean(axis=0)
    centred = samples - mean
    covariance = (centred.T @ centred).astype(np.float64) / len(centred)
    eigenvalues, vectors = np.linalg.eigh(covariance)
    eigenvalues, vectors = np.maximum(eigenvalues[::-1], 0), vectors[:, ::-1]
    total = float(eigenvalues.sum())
    kept = int(np.searchsorted(np.cumsum(eigenvalues), params.variance_kept * total)) + 1
    rank = min(kept, params.max_components, len(eigenvalues) - 1)
    components = np.ascontiguousarray(vectors[:, :rank].T, dtype=np.float32)
    noise = max(float(eigenvalues[rank:].mean()), 1e-12) + _model_error(eigenvalues[:rank], kernel_px)
    # Evenly spread through the patch by a multiplicative step coprime to their number: neither rows nor columns
    # of the lattice are favoured, and the choice is the same every time. The outermost have no neighbours to take
    # differences with.
    margin = 1 + max(widest_px - kernel_px, 0) // 2
    if (windows.shape[0] - 2 * margin) * (windows.shape[1] - 2 * margin) < params.templates:
        margin = 1
    n_y, n_x = windows.shape[0] - 2 * margin, windows.shape[1] - 2 * margin
    if n_y < 1 or n_x < 1:
        raise ValueError(f"patch has shape {patch.shape}, expected at least {kernel_px + 2} px to a side")
    count = min(params.templates, n_y * n_x)
    index = np.sort((np.arange(count) * _coprime_step(n_y * n_x)) % (n_y * n_x))
    y, x = index // n_x + margin, index % n_x + margin
    turn = components.T

    def project(rows: NDArray[np.intp], columns: NDArray[np.intp]) -> NDArray[np.float32]:
        taken: NDArray[np.float32] = windows[rows, columns].reshape(count, -1) @ turn
        return taken

    templates = project(y, x) - mean @ turn
    tangents = np.stack(
        [project(y + 1, x) - project(y - 1, x), project(y, x + 1) - project(y, x - 1)], axis=1
    )
    tangents *= np.float32(0.5)
    if period_px is not None:
        # As many as the grid of the severity has, but at all phases of the lattice.
        some = (np.arange(max(len(samples) // STRIDE**2, 1)) * _coprime_step(len(samples))) % len(samples)
        cells = len(some) / period_px**2
        repeated = _repeated(templates, tangents, samples[some] @ turn - mean @ turn, cells, noise)
        templates, tangents = templates[repeated], tangents[repeated]
    return Bank(kernel_px, mean, components, eigenvalues[:rank], templates, tangents, noise)


def _repeated(
    templates: NDArray[np.float32],
    tangents: NDArray[np.float32],
    some: NDArray[np.float32],
    cells: float,
    noise: float,
) -> NDArray[np.bool_]:
    """Which templates ``(n, r)`` occur in half of the cells of a patch.

    Parameters
    ----------
    some : float32 array (m, r)
        Components of neighbourhoods all over the patch.
    cells : float
        Of them at each place in the cell.
    noise : float
        Variance of each component.
    """
    squares = (some**2).sum(axis=1) - 2 * templates @ some.T + (templates**2).sum(axis=1)[:, None]
    half = min(int(cells / 2), len(some) - 1)
    distance = np.partition(squares, half, axis=1)[:, half]
    # Noise of both, and a shift that a template stands for.
    usual = 2 * noise * templates.shape[1] + (tangents**2).sum(axis=(1, 2)) * (MAX_SHIFT_PX / 2) ** 2
    unlike = distance / usual
    return np.asarray(unlike <= UNLIKE * max(1.0, float(np.median(unlike))))


def _coprime_step(n: int) -> int:
    step = max(1, round(n * 0.6180339887))
    while np.gcd(step, n) != 1:
        step += 1
    return step


def log_distances(
    prepared: Prepared,
    bank: Bank,
    smoothing: float,
    *,
    cancelled: Callable[[], bool] | None = None,
) -> NDArray[np.float32]:
    """Logarithm of the smoothed squared distance of every neighbourhood to a model.

    With the components ``y = U(x − μ)`` and the residual ``Q = |x − μ|² − |y|²``::

        d² = (min_t |y − y_t|² + Q) / (s² D),   L = log(G ∗ d² + e²/s²)

    The nearest template sees what the covariance cannot (a crystal and its copy turned by 180° share it); Q sees
    everything outside the model's span. ``s²`` is the variance of the noise and of what the model does not know,
    ``e²``.

    Parameters
    ----------
    prepared : Prepared
    bank : Bank
    smoothing : float
        Standard deviation of G in periods.

    cancelled : callable, optional
        Asked for every tile; as soon as it returns True the work stops.

    Returns
    -------
    float32 array (y'/2, x'/2)
        At every `STRIDE`-th pixel of ``prepared.values``. Within :func:`rim_px` of the rim it repeats what lies
        inside: pixels are mirrored there, and a mirrored lattice is a twin.

    Raises
    ------
    Cancelled
        If `cancelled` returned True.

    Examples
    --------
    The distance is largest where a column is missing:

    >>> import numpy as np, napari_hrstem_defects as hd
    >>> y, x = np.mgrid[:128, :128]
    >>> image = (np.cos(2 * np.pi * x / 8) + np.cos(2 * np.pi * y / 8)).astype(np.float32)
    >>> image[68:76, 84:92] = 0
    >>> prepared = hd.Prepared(image, image, np.ones(image.shape, bool), image.shape, 8.0)
    >>> distances = hd.log_distances(prepared, hd.fit_bank(image[:48, :48], 9, hd.Recipe().symmetry), smoothing=0.4)
    >>> row, column = np.unravel_index(distances.argmax(), distances.shape)
    >>> abs(2 * row - 72) < 8 and abs(2 * column - 88) < 8
    np.True_
    """
    values = prepared.values
    kernel = bank.kernel_px
    padded = np.pad(values, kernel // 2, mode="symmetric")
    coarse = (-(-values.shape[0] // STRIDE), -(-values.shape[1] // STRIDE))
    out = np.empty(coarse, dtype=np.float32)
    edge = _tile_edge(kernel, values.shape)
    # Both are even: tiles fit the stride, and so does the first place where a kernel lies inside one.
    step = (edge - kernel + 1) // STRIDE * STRIDE
    spectra, search = _kernel_spectra(bank, edge), _Nearest(bank)

    def tile(corner: tuple[int, ...]) -> None:
        if cancelled is not None and cancelled():
            raise Cancelled
        rows, columns = (slice(start, start + edge) for start in corner)
        inside = tuple(slice(start // STRIDE, (start + step) // STRIDE) for start in corner)
        out[inside] = _squared_distance(padded[rows, columns], out[inside].shape, spectra, bank, search)

    with own_threads():
        corners = product(*(range(0, n, step) for n in values.shape))
        for _ in side_by_side(tile, corners, pixels=edge**2):
            pass
    rim = -(-rim_px(kernel, prepared.period_px, values.shape) // STRIDE)
    inner = out[rim : coarse[0] - rim, rim : coarse[1] - rim]
    sigma = smoothing * prepared.period_px / STRIDE
    error = np.float32(_model_error(bank.eigenvalues, kernel) / bank.noise)
    smooth = np.log(np.maximum(gaussian(np.ascontiguousarray(inner), sigma) + error, np.float32(1e-6)))
    return np.pad(smooth, rim, mode="edge")


def _model_error(eigenvalues: NDArray[np.float64], kernel_px: int) -> float:
    """Variance of a pixel that a model of these eigenvalues does not know, e²."""
    return MODEL_ERROR * float(eigenvalues.sum()) / kernel_px**2


def _tile_edge(kernel: int, shape: tuple[int, ...]) -> int:
    """Edge of square tiles in px that cover an image at the least cost: a fast size, a multiple of twice the stride."""
    unit = 2 * STRIDE
    least = max(TILE_PX, 4 * kernel) // unit
    edges = sorted({unit * int(fft.next_fast_len(n, real=True)) for n in range(least, 3 * least // 2)})

    def cost(edge: int) -> int:
        return edge**2 * math.prod(-(-n // (edge - kernel + 1)) for n in shape)

    return min(edges, key=cost)


def _kernel_spectra(bank: Bank, edge: int) -> NDArray[np.complex64]:
    """Spectra of the eigenfilters and the mean, turned for correlation."""
    k = bank.kernel_px
    kernels = np.concatenate([bank.components, bank.mean[None]]).reshape(-1, k, k)[:, ::-1, ::-1]
    out: NDArray[np.complex64] = fft.rfft2(kernels, s=(edge, edge))
    return out


def _decimate(spectrum: NDArray[np.complex64], edge: int) -> NDArray[np.float32]:
    """Every second pixel of the real image that has this half spectrum: in the spectrum, four quarters add up."""
    quarter = edge // 4
    mirrored = np.concatenate([spectrum[:1], spectrum[:0:-1]])[:, edge // 2 - quarter :][:, ::-1]
    folded = spectrum[:, : quarter + 1] + np.conj(mirrored)
    folded = folded[: edge // 2] + folded[edge // 2 :]
    folded *= np.float32(0.25)
    out: NDArray[np.float32] = fft.irfft2(folded, s=(edge // 2, edge // 2), overwrite_x=True)
    return out


def _squared_distance(
    piece: NDArray[np.float32],
    shape: tuple[int, ...],
    kernels: NDArray[np.complex64],
    bank: Bank,
    search: _Nearest,
) -> NDArray[np.float32]:
    """Squared distance to the nearest template, residual included, over s² D, for one tile of the padded image."""
    k = bank.kernel_px
    rank = len(bank.components)
    edge, first = kernels.shape[1], (k - 1) // STRIDE
    squares = _box_sum(piece, k)
    spectrum = fft.rfft2(piece, s=(edge, edge))
    planes = np.empty((rank + 1, *shape), dtype=np.float32)
    for i, kernel in enumerate(kernels):
        plane = _decimate(spectrum * kernel, edge)
        planes[i] = plane[first : first + shape[0], first : first + shape[1]]
    flat = planes.reshape(rank + 1, -1)
    residual = squares[: shape[0], : shape[1]].ravel() - 2 * flat[rank] + bank.mean @ bank.mean
    responses = flat[:rank] - (bank.components @ bank.mean)[:, None]
    # |y − y_t|² + Q = |x − μ|² − 2 y·y_t + |y_t|²: the squared responses cancel.
    distance = np.empty(flat.shape[1], dtype=np.float32)
    for start in range(0, flat.shape[1], CHUNK_PX):
        part = slice(start, start + CHUNK_PX)
        distance[part] = search(responses[:, part])
    distance += residual
    np.maximum(distance, 0, out=distance)
    distance /= np.float32(bank.noise * k * k)
    return distance.reshape(shape)


class _Nearest:
    """Squared distance to the nearest template, any shift of it by a fraction of a pixel included.

    A lattice that is strained, drifts or is turned a little meets the pixels at phases that the model patch has not
    got. To first order a shifted template lies on the plane through the template along its tangents.
    """

    def __init__(self, bank: Bank) -> None:
        # |y_t|² − 2 y·y_t is one product with (y, 1).
        lengths = (bank.templates**2).sum(axis=1)
        self.search = np.ascontiguousarray(np.concatenate([-2 * bank.templates.T, lengths[None]]))
        self.tangents = [np.ascontiguousarray(bank.tangents[:, axis]) for axis in (0, 1)]
        self.offsets = np.einsum("nir,nr->in", bank.tangents, bank.templates)
        grams = np.einsum("nir,njr->nij", bank.tangents, bank.tangents).astype(np.float64)
        ridge = np.maximum(1e-6 * np.trace(grams, axis1=1, axis2=2), 1e-9)
        grams += ridge[:, None, None] * np.eye(2)
        # Rows yy, yx, xy, xx.
        self.grams, self.inverses = (
            np.ascontiguousarray(each.reshape(-1, 4).T, np.float32) for each in (grams, np.linalg.inv(grams))
        )

    def __call__(self, responses: NDArray[np.float32]) -> NDArray[np.float32]:
        """Distances less ``|y|²``, shape ``(n,)``, of components of shape ``(r, n)``."""
        rank, count = responses.shape
        y = np.ones((count, rank + 1), np.float32)
        y[:, :rank] = responses.T
        product = y @ self.search
        index = product.argmin(axis=1)
        distance: NDArray[np.float32] = product[np.arange(count), index]
        along = [np.einsum("nr,nr->n", each.take(index, 0), y[:, :rank]) for each in self.tangents]
        along = [each - offsets.take(index) for each, offsets in zip(along, self.offsets, strict=True)]
        # Products of matrices of 2 × 2 element by element: for einsum they are too small.
        turns, grams = self.inverses.take(index, 1), self.grams.take(index, 1)
        shifts = [
            np.clip(turn[0] * along[0] + turn[1] * along[1], -MAX_SHIFT_PX, MAX_SHIFT_PX)
            for turn in (turns[:2], turns[2:])
        ]
        for i, shift in enumerate(shifts):
            distance += shift * (grams[2 * i] * shifts[0] + grams[2 * i + 1] * shifts[1] - 2 * along[i])
        return distance


def _box_sum(tile: NDArray[np.float32], k: int) -> NDArray[np.float32]:
    """Sums of squares over the ``k × k`` windows that lie inside a tile, at every `STRIDE`-th place."""
    places = [slice(k // 2, n - k // 2, STRIDE) for n in tile.shape]
    rows = ndimage.uniform_filter1d(np.square(tile), k, axis=1)[:, places[1]]
    return np.asarray(ndimage.uniform_filter1d(rows, k, axis=0)[places[0]] * np.float32(k * k))
