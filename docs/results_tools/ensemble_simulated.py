"""An FFT ensemble trained on simulations alone: what it finds in other simulated micrographs, and in measured ones."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.models.contract import Contract
from napari_hrstem_defects.models.data import PatchSet
from napari_hrstem_defects.models.fft_ensemble import fit, predict
from napari_hrstem_defects.models.options import TrainingOptions
from napari_hrstem_defects.models.store import save_model
from napari_hrstem_defects.simulation.class_patches import SCHEMES, class_patches
from results_tools import ensemble, page

#: Patches of each class, and the seeds of the simulations; no two parts share a micrograph.
TRAIN, VALIDATION, TEST = (300, 11), (60, 12), (100, 13)
#: Bins of the probabilities for the calibration error.
BINS = 10


def simulated(material: str, part: tuple[int, int]) -> PatchSet:
    """Patches of one part."""
    made = class_patches(SCHEMES[material], *part)
    return PatchSet(made.pixels, made.labels, made.classes, made.source, made.corners)


def measure(
    folder: Path, material: str, branches: str, scale: float = 1.0, keep: Path | None = None
) -> list[dict[str, Any]]:
    """Train on simulations and score on other simulations and on all labelled patches; one row a class and set."""
    parts = {
        name: simulated(material, (max(2, round(count * scale)), seed))
        for name, (count, seed) in (("train", TRAIN), ("validation", VALIDATION), ("test", TEST))
    }
    start = time.process_time()
    options = TrainingOptions(seed=0, extra={"branches": branches})
    fitted = fit(parts["train"], parts["validation"], options)
    seconds = time.process_time() - start
    classes = parts["train"].classes
    contract = Contract(
        "fft-ensemble", f"{material} simulated", classes, 64, preprocessing=fitted.preprocessing
    )
    model = SimpleNamespace(contract=contract, networks=fitted.networks)
    if keep is not None:
        save_model(keep / f"{material}-{branches}.hrstem", contract, fitted.networks)
    sets = {"simulated": parts["test"]}
    if (folder / "patches.csv").is_file():
        sets["measured"] = ensemble.read_patches(folder, material)
    rows: list[dict[str, Any]] = []
    for name, patches in sets.items():
        if patches.classes != classes:
            raise ValueError(f"the measured patches have the classes {patches.classes}, expected {classes}")
        probabilities = predict(model, patches.pixels)
        said = probabilities.argmax(axis=1)
        for k, label in enumerate(classes):
            own, found = patches.labels == k, said == k
            hits = np.count_nonzero(own & found)
            rows.append(
                {
                    "material": material,
                    "branches": branches,
                    "test": name,
                    "class": label,
                    "patches": int(own.sum()),
                    "recall": hits / own.sum(),
                    "precision": hits / found.sum() if found.any() else float("nan"),
                    "calibration_error": calibration_error(probabilities[:, k], own),
                    "training_cpu_s": round(seconds),
                    **{f"said_{other}": int((own & (said == j)).sum()) for j, other in enumerate(classes)},
                }
            )
    return rows


def calibration_error(probabilities: NDArray[np.float32], own: NDArray[np.bool_]) -> float:
    """Expected calibration error, the class and the rest weighing the same as in the calibration."""
    weights = np.where(own, 0.5 / own.sum(), 0.5 / (~own).sum())
    bins = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    gap = [abs((weights * (own - probabilities))[bins == b].sum()) for b in range(BINS) if (bins == b).any()]
    return float(np.sum(gap))


def summary(rows: list[dict[str, Any]]) -> str:
    """One table: recall and precision of each class in simulated and in measured patches."""
    head = (
        "material",
        "branches",
        "class",
        "recall, simulated",
        "precision",
        "recall, measured",
        "precision",
    )
    lines = []
    keys = list(dict.fromkeys((row["material"], row["branches"], row["class"]) for row in rows))
    for key in keys:
        cells: list[Any] = list(key)
        for test in ("simulated", "measured"):
            found = [
                row
                for row in rows
                if (row["material"], row["branches"], row["class"], row["test"]) == (*key, test)
            ]
            cells += [float(found[0][name]) if found else None for name in ("recall", "precision")]
        lines.append(cells)
    for material, branches in dict.fromkeys(key[:2] for key in keys):
        cells = [material, branches, "mean"]
        for test in ("simulated", "measured"):
            own = [
                row
                for row in rows
                if (row["material"], row["branches"], row["test"]) == (material, branches, test)
            ]
            cells += [page.mean(float(row[name]) for row in own) for name in ("recall", "precision")]
        lines.append(cells)
    return page.table(head, lines)
