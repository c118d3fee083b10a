"""One property of a simulated micrograph varied at a time, and how much the choice of the best patch matters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import napari_hrstem_defects as hd
from benchmarks.accuracy.datasets import DEFECT, IGNORED, simulated
from benchmarks.accuracy.run import MODES, in_processes, measure, record
from benchmarks.accuracy.scoring import Result, score
from benchmarks.accuracy.tables import Row, mean, write_csv
from napari_hrstem_defects.simulation import SimulatedMicrograph, simulate

#: Preset and seed; everything that is not varied is drawn once and stays the same along a curve.
MICROGRAPHS = (
    ("si_stacking_fault", 7001),
    ("fcc_stacking_fault", 7002),
    ("fault_lamella", 7003),
    ("twin", 7004),
    ("grain_boundary", 7005),
    ("inversion_domain", 7006),
)
BASE: dict[str, Any] = {
    "shape": (640, 640),
    "mode": "haadf",
    "bits": 16,
    "px_per_period": 16.0,
    "dose": 300.0,
    "background": 0.3,
    "probe_nm": 0.09,
    "jitter_px": 0.2,
    "drift": (0.0, 0.0),
}
#: Property → its label and values.
CURVES: dict[str, tuple[str, tuple[float, ...]]] = {
    "dose": ("dose, electrons per pixel", (10, 30, 100, 300, 1000, 3000)),
    "px_per_period": ("pixels per lattice period", (6, 8, 11, 16, 24, 40, 60)),
    "drift": ("drift, share of the image height", (0, 0.005, 0.01, 0.02, 0.04)),
    "jitter_px": ("scan-line jitter, px (r.m.s.)", (0, 0.25, 0.5, 1, 1.5, 2)),
    "probe_nm": ("probe, nm (full width at half maximum)", (0.06, 0.08, 0.1, 0.12, 0.15, 0.18)),
    "rotation_deg": ("rotation of the crystal, degrees", (0, 15, 30, 45, 60, 75, 90)),
}
LOGARITHMIC = ("dose", "px_per_period")
#: Clean best patches placed at random, their seed, and how many places are tried.
PLACEMENTS, PLACEMENT_SEED, TRIES = 20, 7100, 5000
CURVE_TABLE, PATCH_TABLE, FIGURE = "robustness.csv", "best_patch.csv", "robustness.png"


def one(preset: str, seed: int, name: str, value: float, modes: Sequence[str]) -> list[Row]:
    """Score one micrograph with one property changed; no row where a fault fills more than half of the image."""
    sim = simulate(preset, seed, **{**BASE, name: (value, value) if name == "drift" else value})
    sample = simulated(sim)
    if (sim.labels == DEFECT).mean() > 0.5 and len(sample.frames[0][1]) == 1:
        return []
    rows = []
    for mode in modes:
        scores = measure(sample, MODES[mode]())[0]
        known = {"property": name, "value": float(value), "preset": preset, "mode": mode}
        rows.append({**known, **{key: scores[key] for key in ("dice", "auroc", "error")}})
    return rows


def placed(preset: str, seed: int, count: int) -> Row:
    """Dice of one micrograph with the automatic best patch and with clean ones placed at random."""
    sim = simulate(preset, seed, **BASE)
    sample = simulated(sim)
    automatic = hd.analyze(sim.micrograph)
    dices = []
    for centre in clean_centres(sim, automatic.patches.grid.size, count):
        analysis = hd.analyze(sim.micrograph, best_patch=centre, previous=automatic)
        dices.append(score([Result.of(analysis)], sample)["dice"])
    low, high = np.quantile(dices, (0.1, 0.9))
    return {
        "preset": preset,
        "automatic": score([Result.of(automatic)], sample)["dice"],
        "placements": len(dices),
        "least": float(np.min(dices)),
        "median": float(np.median(dices)),
        "most": float(np.max(dices)),
        "spread": float(high - low),
    }


def clean_centres(sim: SimulatedMicrograph, size: int, count: int) -> list[tuple[float, float]]:
    """Centres of random patches of `size` px that hold no defect, seen from one of the grains."""
    rng = np.random.default_rng(PLACEMENT_SEED)
    views = [(truth.labels != 0) & (truth.labels != IGNORED) for truth in simulated(sim).frames[0][1]]
    found: list[tuple[float, float]] = []
    for _ in range(TRIES):
        y, x = (int(rng.integers(0, side - size + 1)) for side in sim.labels.shape)
        if not all(view[y : y + size, x : x + size].any() for view in views):
            found.append((y + (size - 1) / 2, x + (size - 1) / 2))
        if len(found) == count:
            break
    return found


def run(
    *, modes: Sequence[str] = ("default",), limit: int | None = None, jobs: int = 1, out: Path
) -> tuple[list[Row], list[Row]]:
    """Measure the curves and the placements; write two tables and the figure.

    Parameters
    ----------
    modes : sequence of {"default", "published"}
    limit : int, optional
        Most micrographs, values of each curve, and placements.
    jobs : int
    out : Path

    Returns
    -------
    (list of dict, list of dict)
        Rows of the curves and of the placements.
    """
    chosen = MICROGRAPHS[:limit]
    tasks = [
        (preset, seed, name, value, tuple(modes))
        for name, (_, values) in CURVES.items()
        for value in values[:limit]
        for preset, seed in chosen
    ]
    rows = [row for each in in_processes(one, tasks, jobs) for row in each]
    write_csv(out / CURVE_TABLE, rows)
    draw(out / FIGURE, rows)
    places = in_processes(placed, [(*each, min(limit or PLACEMENTS, PLACEMENTS)) for each in chosen], jobs)
    write_csv(out / PATCH_TABLE, places)
    record(out, "robustness", micrographs=len(chosen))
    return rows, places


def curve(rows: Sequence[Row], name: str, mode: str, key: str) -> list[tuple[float, float]]:
    """Points ``(value, mean)`` of one curve."""
    members = [row for row in rows if row["property"] == name and row["mode"] == mode]
    values = dict.fromkeys(row["value"] for row in members)
    return [(value, mean(row[key] for row in members if row["value"] == value)) for value in values]


def draw(path: Path, rows: Sequence[Row]) -> None:
    """One panel a property: Dice (full) and AUROC (broken) of each mode."""
    figure = Figure(figsize=(10, 5.4), dpi=80)
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, 3, sharey=True).ravel()
    for axis, (name, (label, _)) in zip(panels, CURVES.items(), strict=True):
        for number, mode in enumerate(dict.fromkeys(row["mode"] for row in rows)):
            for key, style in (("dice", "o-"), ("auroc", "s--")):
                points = np.array(curve(rows, name, mode, key)).reshape(-1, 2)
                text = f"{'Dice' if key == 'dice' else 'AUROC'}, {mode}"
                axis.plot(*points.T, style, color=f"C{number}", markersize=3, linewidth=1, label=text)
        axis.set(xlabel=label, ylim=(-0.02, 1.02), xscale="log" if name in LOGARITHMIC else "linear")
        axis.grid(alpha=0.3)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="upper center", ncols=4, frameon=False)
    figure.tight_layout(rect=(0, 0, 1, 0.95))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None})
