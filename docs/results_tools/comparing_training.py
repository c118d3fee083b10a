"""How the comparing network is trained: several members, and the limit for their mean."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.models.backend import keras
from results_tools import examples, workers
from results_tools.classifier_data import TRAINING_STRUCTURES, TRAINING_ZONES, VALIDATION_STRUCTURES
from results_tools.comparing import build_comparing, defect_probabilities, fit_comparing, plain_weights
from results_tools.comparing_network import ComparingNetwork, write_network

#: Images of each set, passes, and the seed of each member.
IMAGES: Mapping[str, int] = {"training": 1600, "validation": 200, "tuning": 200}
EPOCHS = 7
SEEDS = (1, 2)
#: Limits of the mean probability that are tried.
THRESHOLDS = tuple(float(v) for v in np.round(np.arange(0.3, 0.91, 0.05), 2))


def train(
    out: Path,
    cache: Path,
    *,
    processes: int,
    images: Mapping[str, int] = IMAGES,
    epochs: int = EPOCHS,
    seeds: tuple[int, ...] = SEEDS,
) -> ComparingNetwork:
    """Make the images, train the members, choose the limit and write the weights.

    Parameters
    ----------
    out : Path
        File for the weights.
    cache : Path
        Folder for the patches; those that are there already are not made again.
    processes : int
        That make images and train members; 0: this one.
    images : mapping
        How many images of each set.
    epochs : int
    seeds : tuple of int

    Returns
    -------
    ComparingNetwork
        As it was written.
    """
    sets = {name: examples.gather(name, count, cache, processes) for name, count in images.items()}
    labels = {name: each.labels for name, each in sets.items()}
    count, share = len(labels["training"]), float(labels["training"].mean())
    print(f"{count} patches, {share:.0%} defective", flush=True)
    patches = {name: len(each) for name, each in labels.items()}
    del sets
    trained = workers.run(member, [(seed, cache, dict(images), epochs) for seed in seeds], processes)
    members = [each.weights for each in trained]
    mean = {name: np.mean([each.said[name] for each in trained], axis=0) for name in trained[0].said}
    threshold = choose_threshold(
        np.concatenate(list(mean.values())), np.concatenate([labels[name] for name in mean])
    )
    about: dict[str, Any] = {
        "images": dict(images),
        "patches": patches,
        "passes": epochs,
        "seeds": list(seeds),
        "cpu_s": round(sum(each.cpu_s for each in trained)),
        "parameters": sum(value.size for member in members for value in member.values()),
        "known": f"{', '.join(TRAINING_STRUCTURES)} along {', '.join(TRAINING_ZONES)}",
        "chosen_on": ", ".join(VALIDATION_STRUCTURES),
        "scores": {name: _scores(each, labels[name], threshold) for name, each in mean.items()},
        "software": {name: version(name) for name in ("keras", "numpy")},
    }
    network = ComparingNetwork(members, threshold, about)
    write_network(out, network)
    for name, scores in about["scores"].items():
        print(f"all members, {name}, limit {threshold:g}: {scores}", flush=True)
    return network


@dataclass(frozen=True, eq=False)
class Member:
    """A trained network.

    Attributes
    ----------
    weights : mapping of str to float32 array
        For numpy.
    said : mapping of str to float32 array
        Probabilities for the sets that it was not trained on.
    cpu_s : float
        Processor time of the training.
    """

    weights: Mapping[str, NDArray[np.float32]]
    said: Mapping[str, NDArray[np.float32]]
    cpu_s: float


def member(seed: int, cache: Path, images: Mapping[str, int], epochs: int) -> Member:
    """Train one network on what is in `cache`."""
    sets = {name: examples.gather(name, count, cache, 0) for name, count in images.items()}
    keras().utils.set_random_seed(seed)
    network = build_comparing()
    begin = time.process_time()

    def tell(text: str) -> None:
        print(f"member {seed}, {text}, {time.process_time() - begin:.0f} s", flush=True)

    fit_comparing(network, sets.pop("training"), epochs=epochs, seed=seed, tell=tell)
    seconds = time.process_time() - begin
    said = {name: defect_probabilities(network, each) for name, each in sets.items()}
    for name, each in said.items():
        print(f"member {seed}, {name}: {_scores(each, sets[name].labels, 0.5)}", flush=True)
    return Member(plain_weights(network), said, seconds)


def choose_threshold(probabilities: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """Limit of the best accuracy; of several that are as good the middle one."""
    right = np.array([np.mean((probabilities > limit) == labels) for limit in THRESHOLDS])
    best = np.flatnonzero(right == right.max())
    return THRESHOLDS[int(best[len(best) // 2])]


def _scores(
    probabilities: NDArray[np.floating], labels: NDArray[np.integer], threshold: float
) -> dict[str, float]:
    said = probabilities > threshold
    return {
        "accuracy": round(float(np.mean(said == labels)), 4),
        "specificity": round(float(np.mean(~said[labels == 0])), 4),
        "recall": round(float(np.mean(said[labels == 1])), 4),
    }
