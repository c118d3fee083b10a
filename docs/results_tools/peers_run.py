"""Runs AtomAI or motif-learn on images, in an interpreter of their own; the project itself needs neither.

``PYTHON -P peers_run.py METHOD FOLDER`` (``-P``: a neighbour is called like a standard module) reads
``FOLDER/job.json`` (``images``: names of ``FOLDER/NAME.npy``, float32
arrays (y, x); ``settings``: names of outputs), and writes each map as float32 array of the image's shape to
``FOLDER/METHOD-NUMBER-NAME.npy``, number that of the setting, and ``FOLDER/METHOD.json``: ``versions`` and ``times``,
one record a map with ``name``, ``setting``, ``seconds`` and ``cpu_seconds``, neither with the import.

To have such an interpreter: a virtual environment with ``pip install atomai motif-learn six`` (AtomAI 0.8.1 imports
six without naming it as a dependency).
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

#: Zernike moments up to this radial order (the documentation's example).
ORDER = 10
FOLDS = (2, 3, 4, 6)
#: Distance of the points of a dense map and smoothing of the search for columns, both in patch sizes.
STEP, SMOOTHING = 1 / 6, 0.08

Map = Callable[[np.ndarray, str], np.ndarray]


def main(method: str, folder: Path) -> None:
    """Do the job."""
    job = json.loads((folder / "job.json").read_text("utf-8"))
    make = _atomai if method == "atomai" else _motif_learn
    function, versions = make()
    function(np.random.default_rng(0).random((128, 128)), job["settings"][0])  # compiles, loads, is not timed
    times = []
    for name in job["images"]:
        image = np.load(folder / f"{name}.npy").astype(float)
        for number, setting in enumerate(job["settings"]):
            begin, cpu = time.perf_counter(), time.process_time()
            with contextlib.redirect_stdout(io.StringIO()):
                found = function(image, setting)
            record = {"seconds": time.perf_counter() - begin, "cpu_seconds": time.process_time() - cpu}
            np.save(folder / f"{method}-{number}-{name}.npy", found.astype(np.float32))
            times.append({"name": name, "setting": setting, **record})
    (folder / f"{method}.json").write_text(json.dumps({"versions": versions, "times": times}), "utf-8")


def _atomai() -> tuple[Map, str]:
    """Abundances of ``SlidingFFTNMF``; a setting is ``"COMPONENTS RULE"``."""
    from atomai.stat import SlidingFFTNMF as sliding  # noqa: N813

    last: dict[str, Any] = {}

    def run(image: np.ndarray, setting: str) -> np.ndarray:
        count, rule = setting.split(" ")
        if last.get("key") != (id(image), count):
            last.update(key=(id(image), count), image=image, parts=_abundances(sliding, image, int(count)))
        shares, window, step = last["parts"]
        if rule == "dominant":
            # What is not the component that most of the image is made of.
            values = 1 - shares[np.argmax(shares.sum((1, 2)))]
        elif rule == "rarest":
            values = shares[np.argmin(shares.sum((1, 2)))]
        else:
            values = np.linalg.norm(shares - np.median(shares, axis=(1, 2), keepdims=True), axis=0)
        return _spread(values, (window - 1) / 2, step, image.shape)

    return run, f"AtomAI {version('atomai')}"


def _abundances(sliding: Any, image: np.ndarray, count: int) -> tuple[np.ndarray, int, int]:
    # Its own choice of window; of a long image it would choose oblong ones, at which its Hamming filter fails.
    window = 2 ** int(np.log2(max(32, min(128, min(image.shape) // 8))))
    step = window // 4
    # Spectra as they are: finer by interpolation, as is its default, they take four times the time and say no more.
    engine = sliding(window, window, step, step, interpolation_factor=1, components=count)
    with tempfile.TemporaryDirectory() as place:
        _, abundances = engine.analyze_image(image, str(Path(place) / "it"))
    return abundances / np.maximum(abundances.sum(0), 1e-12), window, step


def _motif_learn() -> tuple[Map, str]:
    """Zernike moments; a setting is ``"POINTS RULE PATCHES"``, the last the patch in estimated patch sizes."""
    from mtflearn import ZPs, features
    from mtflearn.clustering import gmm_lbs

    def run(image: np.ndarray, setting: str) -> np.ndarray:
        where, rule, factor = setting.split(" ")
        image = (image - image.mean()) / image.std()
        np.random.seed(0)  # noqa: NPY002 - the estimate draws windows at random
        window = min(image.shape) // 2
        estimate = features.estimate_patch_size(image, window_size=window) or min(image.shape) // 16
        size = (
            int(min(max(estimate * float(factor), 2 * ORDER), min(image.shape) // 2 - 1)) | 1
        )  # no smaller than the library advises
        zernike = ZPs(n_max=ORDER, size=size)
        if where == "dense":
            step = max(1, round(estimate * STEP))
            rows, columns = (np.arange(size // 2, length - size // 2, step) for length in image.shape)
            points = np.stack(np.meshgrid(rows, columns, indexing="ij"), -1).reshape(-1, 2)
        else:
            smooth = ndimage.gaussian_filter(image, estimate * SMOOTHING)
            points = features.local_max(smooth, min_distance=max(2, round(estimate / 4)))[:, ::-1].astype(int)
            # The library calls moments invalid where the patch is not all in the image.
            points = points[((points >= size // 2) & (points < np.array(image.shape) - size // 2)).all(1)]
        moments = _moments(zernike, image, points - size // 2, size)
        if rule == "rotation":
            values = moments.rot_maps(FOLDS)
        elif rule == "mirror":
            values = moments.mirror_map(theta=np.linspace(0, 2 * np.pi, 72, endpoint=False))[:, None]
        else:
            values = features.pca(moments.normalize(order=2).data, 2 if rule.startswith("gmm2") else 5)
        if where == "dense":
            grid = values.reshape(rows.size, columns.size, -1)
            # Symmetric about some points of every cell only: what the best of a patch reaches.
            best = ndimage.maximum_filter(grid, (round(1 / STEP), round(1 / STEP), 1))
            return _spread(
                _deviation(best.reshape(-1, best.shape[-1])).reshape(grid.shape[:2]),
                size // 2,
                step,
                image.shape,
            )
        if rule.startswith("gmm"):
            labels = gmm_lbs(values, int(rule[3:]))
            counts = np.bincount(labels, minlength=labels.max() + 1) / labels.size
            severity = 1 - counts[labels]
        else:
            severity = _deviation(values)
        return _nearest(severity, points, image.shape, estimate)

    return run, f"motif-learn {version('motif-learn')}"


def _moments(zernike: Any, image: np.ndarray, corners: np.ndarray, size: int, block: int = 4096) -> Any:
    """Moments of the patches of these corners, in the documented way for many patches, some at a time."""
    patches = np.lib.stride_tricks.sliding_window_view(image, (size, size))
    parts = [
        zernike.fit_transform(patches[tuple(corners[i : i + block].T)]) for i in range(0, len(corners), block)
    ]
    whole = parts[0]
    whole.data = np.concatenate([part.data for part in parts])
    return whole


def _deviation(values: np.ndarray) -> np.ndarray:
    """Distance from the median, in median distances, of (points, features)."""
    away = np.abs(values - np.median(values, 0))
    return np.sqrt(np.mean((away / np.maximum(np.median(away, 0), 1e-9)) ** 2, axis=1))


def _spread(values: np.ndarray, offset: float, step: int, shape: tuple[int, ...]) -> np.ndarray:
    """Values at ``offset + step * index`` of each axis, linear between, constant beyond."""
    where = [(np.arange(length) - offset) / step for length in shape]
    return ndimage.map_coordinates(values, np.meshgrid(*where, indexing="ij"), order=1, mode="nearest")


def _nearest(values: np.ndarray, points: np.ndarray, shape: tuple[int, ...], reach: float) -> np.ndarray:
    """Value of the nearest point at each pixel, smoothed over half a patch."""
    empty = np.ones(shape, bool)
    empty[tuple(points.T)] = False
    at = np.zeros(shape)
    at[tuple(points.T)] = values
    rows, columns = ndimage.distance_transform_edt(empty, return_distances=False, return_indices=True)
    return ndimage.gaussian_filter(at[rows, columns], reach / 4)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
