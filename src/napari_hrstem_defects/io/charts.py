"""Charts of a series and of a classifier as PNG files, and what all figures have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from napari_hrstem_defects.io.histories import History

#: Dots per inch.
DPI = 150
#: How figures are saved. Without "Software" the file would change with matplotlib's patch version for no reason; a
#: higher level of compression takes twice as long for files of the same size.
PNG: dict[str, Any] = {
    "format": "png",
    "dpi": DPI,
    "metadata": {"Software": None},
    "pil_kwargs": {"compress_level": 3},
}
#: Comes with matplotlib: the same figure everywhere.
FONT = "DejaVu Sans"
CENTRED: dict[str, Any] = {"ha": "center", "va": "center", "family": FONT}
_WIDTH = 13.33  # of a widescreen slide, inches
# Okabe & Ito's palette without yellow: of the largest defects of a series.
_HISTORY_COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")


def name_axes(axes: Axes, x: str, y: str, size: float) -> None:
    """Labels of the axes, of which only the left and the lower one are drawn."""
    axes.set_xlabel(x, fontsize=size, family=FONT, labelpad=1)
    axes.set_ylabel(y, fontsize=size, family=FONT)
    axes.spines[["top", "right"]].set_visible(False)


def save_histories(
    path: Path, histories: Sequence[History], *, frames: int, frame_time_s: float | None = None
) -> None:
    """Draw length and area of the largest defects of a series over the frames, with their growth, as a PNG file.

    Parameters
    ----------
    path : Path
    histories : sequence of History
    frames : int
        Length of the series.
    frame_time_s : float, optional
        Time from frame to frame; the axis then is in s.
    """
    step, unit = (1.0, "frame") if frame_time_s is None else (frame_time_s, "s")
    largest = sorted(histories, key=lambda history: -max(region.area_px for region in history.regions))
    shown = largest[: len(_HISTORY_COLOURS)]
    known = all(region.length_nm is not None for history in shown for region in history.regions)
    figure = Figure((_WIDTH, 0.42 * _WIDTH), layout="constrained", dpi=DPI)
    for number, (title, size, of) in enumerate(
        (("length", "length_nm", "nm"), ("area", "area_nm2", "nm²"))
        if known
        else (("length", "length_px", "px"), ("area", "area_px", "px"))
    ):
        axes = figure.add_subplot(1, 2, number + 1)
        for history, colour in zip(shown, _HISTORY_COLOURS, strict=False):
            sizes = np.array([getattr(region, size) for region in history.regions])
            rim = np.array([region.at_rim for region in history.regions])
            times = step * np.array(history.frames)
            label = f"{history.id}: {history.regions[-1].type}"
            growth = history.growth(size)
            if growth is not None:
                label += f", {growth.rate / step:+.3g} {of} per {unit}"
                level = np.median(sizes[~rim] - growth.rate / step * times[~rim])
                axes.plot(times, level + growth.rate / step * times, color=colour, linewidth=1)
            axes.plot(times[~rim], sizes[~rim], ".", color=colour, label=label)
            axes.plot(times[rim], sizes[rim], "x", color=colour, markersize=4)
        axes.set_xlim(-0.5 * step, (frames - 0.5) * step)
        axes.set_ylim(bottom=0)
        name_axes(axes, "frame" if frame_time_s is None else "time (s)", f"{title} ({of})", 10)
        if shown:
            axes.legend(frameon=False, prop={"family": FONT, "size": 9}, loc="best")
    if not shown:
        figure.suptitle("no defects", family=FONT)
    elif any(region.at_rim for history in shown for region in history.regions):
        figure.suptitle("×: reaches the rim, a lower limit", fontsize=9, color="0.35", family=FONT)
    figure.savefig(path, **PNG)


def save_confusions(path: Path, confusions: Mapping[str, Any]) -> None:
    """Draw confusion matrices, shaded by the share of each true class, as a PNG file.

    Parameters
    ----------
    path : Path
    confusions : mapping
        Heading → ``classes`` (names) and ``counts`` (rows: truth, columns: found).
    """
    columns = min(len(confusions), 3)
    rows = -(-len(confusions) // columns)
    most = max(len(confusion["classes"]) for confusion in confusions.values())
    edge = max(3.2, 0.75 * most + 1.6)
    figure = Figure((edge * columns, edge * rows), layout="constrained", dpi=DPI)
    for number, (heading, confusion) in enumerate(confusions.items(), start=1):
        axes = figure.add_subplot(rows, columns, number)
        counts, names = np.asarray(confusion["counts"], float), confusion["classes"]
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (row, column), share in np.ndenumerate(shares):
            colour = "white" if share > 0.5 else "black"
            axes.text(column, row, f"{counts[row, column]:.0f}", color=colour, **CENTRED)
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right", family=FONT)
        axes.set_yticks(range(len(names)), names, family=FONT)
        name_axes(axes, "found", "truth", 10)
        axes.set_title(heading, fontsize=10, family=FONT)
    figure.savefig(path, **PNG)
