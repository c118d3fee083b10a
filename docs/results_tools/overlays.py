"""Pictures to look at: image, severity, what is true and what was found. Never part of the repository."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from napari_hrstem_defects import Analysis

_COLOURS = {1: "#e8413c", 2: "#2f7de1"}
_TRUE, _IGNORED = "#ffd400", "#8a8a8a"


def save_overlay(
    path: Path,
    analysis: Analysis,
    truth: NDArray[np.uint8],
    ignore: NDArray[np.bool_],
    title: str,
) -> None:
    """Write image with truth, severity with truth, labels; the best patch is drawn in."""
    pixels = analysis.micrograph.frame().pixels
    aspect = pixels.shape[1] / pixels.shape[0]
    wide = aspect > 2
    figure = Figure(figsize=(6 * min(aspect, 2.2), 3 * 2.9) if wide else (18 * min(aspect, 1.1), 6.4), dpi=80)
    FigureCanvasAgg(figure)
    axes = figure.subplots(3, 1) if wide else figure.subplots(1, 3)
    low, high = np.percentile(pixels, (0.5, 99.5))
    axes[0].imshow(pixels, cmap="gray", vmin=low, vmax=high)
    axes[1].imshow(analysis.severity, cmap="magma", vmin=0, vmax=_top(analysis))
    axes[2].imshow(pixels, cmap="gray", vmin=low, vmax=high)
    for axis in axes[:2]:
        _outline(axis, truth > 0, _TRUE)
    _outline(axes[0], ignore, _IGNORED)
    for label, colour in _COLOURS.items():
        mask = analysis.labels == label
        if mask.any():
            shade = np.zeros((*mask.shape, 4), np.float32)
            shade[mask] = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)] + [0.35]
            axes[2].imshow(shade)
            _outline(axes[2], mask, colour)
    patch = analysis.best_patch
    for axis in axes if patch is not None else ():
        corner = (patch.x - patch.size / 2, patch.y - patch.size / 2)
        axis.add_patch(Rectangle(corner, patch.size, patch.size, fill=False, color="#27c93f", lw=1.5))
    for axis, name in zip(axes, ("image, truth", f"severity, 0…{_top(analysis):.3g}", "found"), strict=True):
        axis.set_axis_off()
        axis.set_title(name, fontsize=9)
    figure.suptitle(title, fontsize=10)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _top(analysis: Analysis) -> float:
    if analysis.recipe.symmetry.method == "lattice":
        return 20.0
    return float(max(np.percentile(analysis.severity, 99.5), 1e-6))


def _outline(axis: object, mask: NDArray[np.bool_], colour: str) -> None:
    if mask.any() and not mask.all():
        axis.contour(mask, levels=[0.5], colors=[colour], linewidths=0.8)  # type: ignore[attr-defined]
