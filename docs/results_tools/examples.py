"""Patches that the comparing network is trained on or its threshold is chosen by, kept on disk once they are made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.core import metrics
from napari_hrstem_defects.core.lattice import typical_lattice
from napari_hrstem_defects.core.patch_size import patch_size
from napari_hrstem_defects.core.patches import PatchGrid
from results_tools import workers
from results_tools.classifier_data import TRAINING_STRUCTURES, TRAINING_ZONES, VALIDATION_STRUCTURES
from results_tools.comparing_inputs import RelativeInputs, relative_inputs
from results_tools.training_set import training_image

#: Seed, structure types and zone axes of each set; all are made as `training_set` says, films included.
SETS = {
    "training": (5026001, TRAINING_STRUCTURES, TRAINING_ZONES),
    # What the number of passes and the threshold are chosen by: another structure type, and other images.
    "validation": (5026002, VALIDATION_STRUCTURES, ("110", "100", "111")),
    "tuning": (5026003, TRAINING_STRUCTURES, TRAINING_ZONES),
}
#: Images whose patches lie in one file.
IN_FILE = 50


@dataclass(frozen=True, eq=False)
class Examples:
    """Clear patches of many images; pictures are kept at half precision.

    Attributes
    ----------
    patch, correlation, severity : float16 array (n, ...)
        As in :class:`RelativeInputs`.
    reference : float16 array (images, PIECE_PX, PIECE_PX, 1)
        Typical patch of each image.
    statistics : float32 array (n, len(STATISTICS))
    labels : int8 array (n,)
        0 clean, 1 defective.
    images : int array (n,)
        Which of the images each is from.
    """

    patch: NDArray[np.float16]
    reference: NDArray[np.float16]
    correlation: NDArray[np.float16]
    severity: NDArray[np.float16]
    statistics: NDArray[np.float32]
    labels: NDArray[np.int8]
    images: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.labels)

    def inputs(self, chosen: NDArray[np.intp]) -> RelativeInputs:
        """Some of the patches as the network wants them."""
        return RelativeInputs(
            self.patch[chosen].astype(np.float32),
            self.reference[self.images[chosen]].astype(np.float32),
            self.correlation[chosen].astype(np.float32),
            self.severity[chosen].astype(np.float32),
            self.statistics[chosen],
        )


def join(parts: Sequence[Examples]) -> Examples:
    """All patches of several sets."""
    before = np.cumsum([0, *(len(part.reference) for part in parts)])
    return Examples(
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("patch", "reference", "correlation", "severity", "statistics", "labels")
        ),
        np.concatenate([part.images + begin for part, begin in zip(parts, before, strict=False)]),
    )


def of_image(name: str, index: int) -> Examples | None:
    """Clear patches of image number `index` of a set.

    None where it shows no lattice, or where the typical patch is no clean one: comparison teaches nothing there.
    """
    seed, structures, zones = SETS[name]
    _, pixels, labels = training_image(index, seed, structures, zones)
    lattice, _ = typical_lattice(pixels)
    grid = PatchGrid((pixels.shape[0], pixels.shape[1]), patch_size(pixels.shape, lattice))
    found = relative_inputs(pixels, grid)
    if found is None:
        return None
    inputs, centre = found
    truths = [metrics.patch_truth(each, grid, ignore=None).ravel() for each in labels]
    # Seen from the grain of the typical patch.
    truth = min(truths, key=lambda each: abs(int(each[centre])))
    if truth[centre] != 0:
        return None
    clear = np.flatnonzero(truth != metrics.AMBIVALENT)
    return Examples(
        inputs.patch[clear].astype(np.float16),
        inputs.reference[:1].astype(np.float16),
        inputs.correlation[clear].astype(np.float16),
        inputs.severity[clear].astype(np.float16),
        inputs.statistics[clear],
        truth[clear].astype(np.int8),
        np.zeros(len(clear), np.intp),
    )


def of_file(name: str, start: int, stop: int, folder: Path) -> Path:
    """Patches of some images of a set in a file, made unless it is there."""
    path = folder / f"{name}-{start}-{stop}.npz"
    if not path.exists():
        found = [each for each in (of_image(name, index) for index in range(start, stop)) if each is not None]
        _write(path, join(found))
    return path


def _write(path: Path, examples: Examples) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with open(partial, "wb") as file:
        np.savez(file, allow_pickle=False, **vars(examples))
    partial.replace(path)


def gather(name: str, count: int, folder: Path, processes: int) -> Examples:
    """The first `count` images of a set; what is in `folder` already is not made again."""
    tasks = [(name, start, min(start + IN_FILE, count), folder) for start in range(0, count, IN_FILE)]
    parts = []
    for path in workers.run(of_file, tasks, processes):
        with np.load(path, allow_pickle=False) as stored:
            parts.append(Examples(**{key: stored[key] for key in stored.files}))
    return join(parts)
