"""The comparing network in plain numpy: quick to start in many processes, and what a bundled one would run on.

Batch normalisations are folded into the layer before or behind them when the weights are written, so what is left are
convolutions of stride 2, dense layers and rectifiers. The architecture is that of :mod:`.comparing`, where it is built
and trained with Keras.
"""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.core.errors import ModelError, WriteError
from results_tools.comparing_inputs import STATISTICS, RelativeInputs

Array = NDArray[np.float32]
Weights = Mapping[str, Array]

#: Number of convolutions of each branch.
BRANCHES = {"trunk": 3, "correlation": 3, "severity": 2}
#: Dense layers.
DENSE = ("pictures", "numbers", "both", "classes")
#: Patches that go through the network at once.
BATCH = 64
_ABOUT = "about"
# Probabilities are kept this far from 0 and 1 where their logarithms are taken.
_TINY = 1e-6


@dataclass(frozen=True, eq=False)
class ComparingNetwork:
    """Several networks of the same kind whose probabilities are averaged.

    Attributes
    ----------
    members : sequence of mapping of str to float32 array
        Weights by ``<branch>/<number>/kernel`` and ``.../bias``, ``<dense layer>/kernel`` and ``.../bias``.
    threshold : float
        Mean probability that was chosen as the limit; what :meth:`probabilities` returns is shifted so that it
        becomes 0.5.
    about : mapping
        How it was trained.
    """

    members: Sequence[Weights]
    threshold: float
    about: Mapping[str, Any]

    def probabilities(self, inputs: RelativeInputs) -> Array:
        """Probability of each patch to be defective, shape ``(n,)``; 0.5 where it is as likely as not."""
        parts = []
        for start in range(0, len(inputs), BATCH):
            part = inputs.take(np.arange(start, min(start + BATCH, len(inputs))))
            parts.append(np.mean([forward(weights, part) for weights in self.members], axis=0))
        mean = np.concatenate(parts) if parts else np.zeros(0)
        return shifted(mean, self.threshold)


def shifted(probabilities: NDArray[np.floating], threshold: float) -> Array:
    """Probabilities with as much taken off their logits that `threshold` becomes 0.5."""
    inside = np.clip(np.asarray(probabilities, np.float64), _TINY, 1 - _TINY)
    logits = np.log(inside / (1 - inside)) - np.log(threshold / (1 - threshold))
    return (1 / (1 + np.exp(-logits))).astype(np.float32)


def forward(weights: Weights, inputs: RelativeInputs) -> Array:
    """Probability of each patch to be defective as one network says, shape ``(n,)``."""
    own = _branch(weights, "trunk", inputs.patch)
    usual = _branch(weights, "trunk", inputs.reference).mean(axis=(1, 2))
    mean = own.mean(axis=(1, 2))
    # Place by place as well, so that a defect that is small beside the patch shows.
    local = np.square(own - usual[:, None, None])
    correlation = _branch(weights, "correlation", inputs.correlation)
    severity = _branch(weights, "severity", inputs.severity)
    seen = [np.square(mean - usual), mean * usual, local.max(axis=(1, 2)), local.mean(axis=(1, 2))]
    for maps in (correlation, severity):
        seen += [maps.mean(axis=(1, 2)), maps.max(axis=(1, 2))]
    pictures = _rectified(_dense(weights, "pictures", np.concatenate(seen, axis=1)))
    numbers = _rectified(_dense(weights, "numbers", inputs.statistics))
    both = _rectified(_dense(weights, "both", np.concatenate([pictures, numbers], axis=1)))
    clean, defective = _dense(weights, "classes", both).T
    out: Array = 1 / (1 + np.exp(np.clip(clean - defective, -80, 80)))
    return out


def _branch(weights: Weights, name: str, maps: Array) -> Array:
    for number in range(BRANCHES[name]):
        maps = _rectified(
            convolved(maps, weights[f"{name}/{number}/kernel"]) + weights[f"{name}/{number}/bias"]
        )
    return maps


def convolved(maps: Array, kernel: Array) -> Array:
    """Convolution of stride 2 as Keras does it with ``padding="same"``.

    Parameters
    ----------
    maps : float32 array (n, y, x, channels)
    kernel : float32 array (k, k, channels, filters)

    Returns
    -------
    float32 array (n, ceil(y / 2), ceil(x / 2), filters)
    """
    edge = kernel.shape[0]
    rims = []
    for length in maps.shape[1:3]:
        missing = max((-(-length // 2) - 1) * 2 + edge - length, 0)
        rims.append((missing // 2, missing - missing // 2))
    padded = np.pad(maps, [(0, 0), *rims, (0, 0)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, (edge, edge), axis=(1, 2))[:, ::2, ::2]
    count, rows, columns = windows.shape[:3]
    flat = windows.reshape(count * rows * columns, -1)
    out: Array = (flat @ kernel.transpose(2, 0, 1, 3).reshape(flat.shape[1], -1)).reshape(
        count, rows, columns, -1
    )
    return out


def _dense(weights: Weights, name: str, values: Array) -> Array:
    out: Array = values @ weights[f"{name}/kernel"] + weights[f"{name}/bias"]
    return out


def _rectified(values: Array) -> Array:
    return np.maximum(values, 0)


def expected_names() -> set[str]:
    """Names of the weights of one network."""
    layers = [f"{name}/{number}" for name, count in BRANCHES.items() for number in range(count)]
    return {f"{layer}/{part}" for layer in (*layers, *DENSE) for part in ("kernel", "bias")}


def write_network(path: str | os.PathLike[str], network: ComparingNetwork) -> None:
    """Write a network as a numpy archive; it is complete or absent.

    Raises
    ------
    WriteError
        If the file cannot be written.
    """
    arrays = {
        f"{index}/{name}": np.asarray(value, np.float32)
        for index, weights in enumerate(network.members)
        for name, value in sorted(weights.items())
    }
    about = json.dumps(
        {"members": len(network.members), "threshold": network.threshold, **network.about}, sort_keys=True
    )
    path = Path(path)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with open(partial, "wb") as file:
            np.savez(file, allow_pickle=False, **{_ABOUT: np.array(about)}, **arrays)
        os.replace(partial, path)
    except OSError as error:
        raise WriteError(f"{path}: the network cannot be written there ({error.strerror}).") from error


def read_network(path: str | os.PathLike[str]) -> ComparingNetwork:
    """Read what :func:`write_network` wrote; nothing in the file is run.

    Raises
    ------
    ModelError
        If it cannot be read, or is no such file.
    """
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        about = json.loads(str(arrays.pop(_ABOUT)))
        count, threshold = int(about.pop("members")), float(about.pop("threshold"))
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ModelError(
            f"{os.fspath(path)}: the network is missing or damaged; train it with docs/train_comparing.py."
        ) from error
    members = [
        {name: arrays.get(f"{index}/{name}", np.zeros(0, np.float32)) for name in expected_names()}
        for index in range(count)
    ]
    whole = all(value.size and np.isfinite(value).all() for weights in members for value in weights.values())
    if not (members and whole and 0 < threshold < 1 and _fits(members)):
        raise ModelError(
            f"{os.fspath(path)}: this is no network of this kind; train it with docs/train_comparing.py."
        )
    return ComparingNetwork(members, threshold, about)


def _fits(members: Sequence[Weights]) -> bool:
    return all(
        len(weights["numbers/kernel"]) == len(STATISTICS) and weights["classes/kernel"].shape[1] == 2
        for weights in members
    )
