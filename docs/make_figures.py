"""Make the figures of method.md and limits.md in docs/images, from simulated micrographs.

python docs/make_figures.py [NAME ...]
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

import napari_hrstem_defects as hd

IMAGES = Path(__file__).parent / "images"
MARKS = {"cmap": "autumn_r", "vmin": 1, "vmax": 2}


def main(names: list[str]) -> None:
    """Make all figures, or those named."""
    for name, make in FIGURES.items():
        if not names or name in names:
            path = IMAGES / f"{name}.png"
            make().savefig(path, dpi=80)
            plt.close("all")
            Image.open(path).convert("RGB").quantize(256, method=Image.Quantize.MAXCOVERAGE).save(
                path, optimize=True
            )
            print(name, flush=True)


def _steps() -> Figure:
    """What each step finds, in one micrograph."""
    made = hd.simulate("si_demo", seed=10, shape=(512, 512), px_per_period=16.0, dose=600.0, mode="haadf")
    analysis = hd.analyze(made.micrograph, hd.Recipe().replace({"classify.patch_size": 64}))
    grid, patch = analysis.screened.grid, analysis.best_patch
    fig, axes = plt.subplots(2, 3, figsize=(10, 7), layout="constrained")
    (image, field, graph), (variance, severity, labels) = axes
    image.imshow(made.micrograph.data, cmap="gray")
    image.set_title("1  micrograph")
    shown = field.imshow(analysis.field.to_frame(analysis.field.strength, analysis.prepared), vmin=0)
    fig.colorbar(shown, ax=field)
    field.set_title("2  strength of the autocorrelation")
    weights = np.ma.masked_equal(hd.patch_weights(~analysis.screened.defective), 0)
    shown = graph.imshow(grid.paint(weights.filled(np.nan)), cmap="Greens")
    fig.colorbar(shown, ax=graph)
    graph.set_title("3  W(node) of the clean patches")
    corner = patch.x - patch.size / 2, patch.y - patch.size / 2
    graph.add_patch(Rectangle(corner, patch.size, patch.size, fill=False, color="gold", linewidth=3))
    variance.imshow(analysis.variance)
    variance.contour(analysis.amorphous, levels=[0.5], colors="white", linewidths=1)
    variance.set_title("4  variance, amorphous outlined")
    shown = severity.imshow(analysis.severity, cmap="magma", vmin=0, vmax=3 * analysis.threshold)
    fig.colorbar(shown, ax=severity)
    severity.set_title(f"5  severity; threshold {analysis.threshold:.1f}")
    _overlay(labels, made.micrograph.data, analysis.labels)
    labels.set_title("6  labels")
    for ax in axes.flat:
        ax.set_axis_off()
    return fig


def _threshold() -> Figure:
    """Severity that chance exceeds, by the area and the accepted number of false marks."""
    fig, ax = plt.subplots(figsize=(6, 3.5), layout="constrained")
    areas = np.geomspace(100, 1e6, 50)
    for false_marks in (0.01, 0.05, 1.0, 10.0):
        ax.semilogx(areas, [hd.severity_of(false_marks, area) for area in areas], label=f"{false_marks:g}")
    ax.set(xlabel="area / squared lattice periods", ylabel="threshold of the severity")
    ax.legend(title="segment.false_marks")
    return fig


def _limit(title: str, *preset: str, **settings: Any) -> Callable[[], Figure]:
    """A failure: micrograph, truth, what was found."""

    def make() -> Figure:
        made = hd.simulate(*preset, **settings)
        analysis = hd.analyze(made.micrograph)
        fig, axes = plt.subplots(1, 3, figsize=(10, 3.7), layout="constrained")
        axes[0].imshow(made.micrograph.data, cmap="gray")
        _overlay(axes[1], made.micrograph.data, made.labels)
        _overlay(axes[2], made.micrograph.data, analysis.labels)
        fig.suptitle(title)
        for ax, text in zip(axes, ("micrograph", "true labels", "found"), strict=True):
            ax.set_title(text)
            ax.set_axis_off()
        print(title, "Dice", hd.dice(analysis.labels, made.labels, 1, ignore=made.ignore), analysis.warnings)
        return fig

    return make


def _overlay(ax: Any, image: np.ndarray, labels: np.ndarray) -> None:
    ax.imshow(image, cmap="gray")
    ax.imshow(labels, alpha=0.6 * (labels > 0), **MARKS)


HAADF = {"mode": "haadf", "shape": (512, 512)}
FIGURES = {
    "method-steps": _steps,
    "method-threshold": _threshold,
    "limits-dose": _limit(
        "Silicon vacancies in bright field, 10 electrons per pixel",
        "vacancy",
        seed=7,
        material="si",
        zone_axis="110",
        px_per_period=12.0,
        dose=10.0,
        mode="bf",
        shape=(512, 512),
    ),
    "limits-jitter": _limit(
        "Scan lines displaced by 2.5 px",
        "si_stacking_fault",
        seed=4,
        px_per_period=16.0,
        dose=300.0,
        jitter_px=2.5,
        **HAADF,
    ),
    "limits-field": _limit(
        "Nine periods to a side",
        "si_stacking_fault",
        seed=4,
        px_per_period=57.0,
        dose=300.0,
        **HAADF,
    ),
    "limits-reference": _limit(
        "Two grains of nearly equal size",
        "metal_grain_boundary",
        seed=3,
        px_per_period=14.0,
        dose=400.0,
        **HAADF,
    ),
}

if __name__ == "__main__":
    main(sys.argv[1:])
